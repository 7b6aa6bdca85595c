"""Predict NEE on a map, from drivers, land cover and satellite fields, on a Dask cluster of two processes.

To use real data, pass a map of land cover (MCD12C1, ESA CCI or C3S) and files of ERA5 that contain the month:

    python 06_upscale_to_a_map.py 2022-07 MCD12C1.A2022001.061.hdf era5_*.nc

Without arguments, the script predicts on a synthetic grid. The model was trained on real towers, so the
values of the synthetic map have no meaning.
"""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import xarray as xr
from dask.distributed import Client, LocalCluster

import xcarbon
from xcarbon.core.variables import IGBP_CLASSES
from xcarbon.testing import synthetic_grid


def write_landcover(grid: xr.Dataset, path: Path) -> None:
    """Write the land cover of a grid as a map of 0.05 degrees with the values of MCD12C1."""
    classes = ["", *list(IGBP_CLASSES)[:16]]
    values = np.vectorize(classes.index)(grid["igbp"].values).astype("uint8").repeat(5, 0).repeat(5, 1)
    axes = {
        name: grid[name].values[0] + np.sign(step) * (0.05 * np.arange(size) - 0.1)
        for name, size, step in zip(("lat", "lon"), values.shape, (-1, 1), strict=True)
    }
    xr.Dataset({"Majority_Land_Cover_Type_1": (tuple(axes), values)}, axes).to_netcdf(path)


def main(month: str, drivers: xr.Dataset, landcover: Path, folder: Path) -> None:
    """Predict one month on the cells that are mostly land, and write it to a Zarr store."""
    cover = xcarbon.open_landcover(landcover, like=drivers).load()
    is_land = cover["land_fraction"] > 0.5
    print(pd.Series(cover["igbp"].values[is_land.values]).value_counts().rename("cells by class"))

    # Cells without drivers are not predicted. The satellite fields are variables of the same Dataset.
    drivers = drivers.where(is_land).assign_coords(igbp=cover["igbp"])
    present = drivers.sel(time=month)
    end = pd.Timestamp(month) - pd.Timedelta(hours=1)
    year_before = drivers.sel(time=slice(end - pd.DateOffset(years=1), end))

    start = time.monotonic()
    path = present.carbon.predict_to(
        "NEE",
        "nee-fluxnet2015",
        folder / "nee.zarr",
        history=year_before if year_before["time"].size else None,  # for the memory of the model
        spread=True,
        applicability=True,
    )
    hours = int(is_land.sum()) * present.sizes["time"]
    print(f"predicted {hours} hours in {time.monotonic() - start:.0f} s, written to {path.name}")

    nee = xr.open_zarr(path)
    print(nee)
    share = float((nee["applicable"] == 1).sum() / nee["NEE"].notnull().sum())
    print(f"{share:.0%} of the hours are in the area of applicability of the model")
    carbon = nee["NEE"].mean("time") * 1.0378  # 1 umol m-2 s-1 is 1.0378 g C m-2 per day
    print(carbon.round(1).rename("NEE, g C m-2 per day").to_pandas())


if __name__ == "__main__":  # the processes of a cluster import this file
    xcarbon.set_options(progress=sys.stderr.isatty())
    with (
        TemporaryDirectory() as temporary,
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),  # predict_to uses this cluster
    ):
        if len(sys.argv) > 3:
            _, wanted, landcover_file, *files = sys.argv
            main(wanted, xcarbon.open_era5(files), Path(landcover_file), Path.cwd())
        else:
            grid = synthetic_grid(4, 6, years=2)
            write_landcover(grid, Path(temporary, "landcover.nc"))
            main("2011-07", grid.drop_vars("igbp"), Path(temporary, "landcover.nc"), Path(temporary))
