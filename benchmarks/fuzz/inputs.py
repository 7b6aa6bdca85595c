"""The kinds of inputs: how a small input is written, and which public function reads it."""

from __future__ import annotations

import gzip
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import xcarbon
from tests.io.carbonsense.samples import V1, V2, write_v1, write_v2
from tests.io.landcover.samples import MCD12C1, write_cci, write_hdf4
from tests.io.modis import samples
from tests.models.test_authors import theirs
from xcarbon.core.variables import TARGETS
from xcarbon.io.badm import read_metadata
from xcarbon.io.fetch.snapshots import read_snapshot, select_entries
from xcarbon.io.grid import open_grid, write_grid
from xcarbon.io.modis.files import find_rasters
from xcarbon.io.modis.patches import read_patches
from xcarbon.io.netcdf import write_netcdf, write_sites
from xcarbon.models.bundle import CarbonModel
from xcarbon.models.live import LiveState
from xcarbon.testing import synthetic_grid, synthetic_towers, write_release

#: Fields of the tower in tables without metadata.
PLACE = {"lat": 50.96, "lon": 13.57, "igbp": "ENF", "utc_offset": 1}


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Attributes
    ----------
    write : callable
        Writes an input to a folder; the second argument is the folder of real data, or None if it is absent.
    read : callable
        Reads the input in a folder.
    share : float
        Relative number of inputs: small for slow kinds.
    weights : bool
        Whether the input is a model, which must be refused if its damage changes the result of ``read``.
    """

    write: Callable[[Path, Path | None], object]
    read: Callable[[Path], object]
    share: float = 10
    weights: bool = False


# Towers


@cache
def _towers(data: Path | None) -> xr.Dataset:
    """Return a week of two towers."""
    if data is None:
        ds = synthetic_towers(2, variables=["TA", "SW_IN", "VPD", "NEE", "GPP_NT"], patches=False)
        return ds.isel(time=slice(3600, 3768)).load()
    ds = xcarbon.open_store(data / "fluxnet2015_hourly.zarr")
    return ds.sel(site=["DE-Tha", "US-Ha1"], time=slice("2010-06-01", "2010-06-07")).load()


def _write_tower(folder: Path, data: Path | None, name: str, product: str = "FLUXNET2015_SUBSET") -> Path:
    """Write the first rows of a real tower file, or a tower of the store in the layout of a product."""
    real = data / "raw" / f"{name}.csv.gz" if data else None
    if real is None or not real.exists():
        path = write_release(_towers(data), str(_towers(data)["site"].values[0]), folder, product)
        return path.rename(folder / f"{name}.csv")
    with gzip.open(real, "rt") as file:
        lines = [next(file) for _ in range(300)]
    (folder / f"{name}.csv").write_text("".join(lines))
    return folder / f"{name}.csv"


_HH, _HR = "FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-2014", "FLX_US-Ha1_FLUXNET2015_SUBSET_HR_1991-2012"
_BASE = "AMF_US-Ha1_BASE_HR_1-5"


def _write_daily(folder: Path, data: Path | None) -> None:
    table = pd.read_csv(_write_tower(folder, data, _HH))
    (folder / f"{_HH}.csv").unlink()
    values = table.drop(columns=["TIMESTAMP_START", "TIMESTAMP_END"])
    daily = values.groupby(table["TIMESTAMP_START"] // 10_000).mean().round(3).rename_axis("TIMESTAMP")
    daily = daily.clip(upper=pd.Series({name: 1.0 for name in daily if name.endswith("_QC")}), axis=1)
    daily.to_csv(folder / f"{_HH.replace('_HH_', '_DD_')}.csv")


def _write_gzip(folder: Path, data: Path | None) -> None:
    path = _write_tower(folder, data, _HH)
    Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    path.unlink()


def _write_zip(folder: Path, data: Path | None) -> None:
    path = _write_tower(folder, data, _HH)
    with zipfile.ZipFile(folder / "inner.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, path.name)
    with zipfile.ZipFile(
        folder / "FLX_DE-Tha_FLUXNET2015_SUBSET_1996-2014.zip", "w", zipfile.ZIP_DEFLATED
    ) as archive:
        archive.write(folder / "inner.zip", "inner.zip")
        archive.writestr("site_data.csv", _table())
    path.unlink()
    (folder / "inner.zip").unlink()


def _table() -> str:
    return (
        "SITE_ID,LOCATION_LAT,LOCATION_LON,LOCATION_ELEV,IGBP,UTC_OFFSET\n"
        "DE-Tha,50.96,13.57,385,ENF,1\nUS-Ha1,42.54,-72.17,340,DBF,-5\n"
    )


def _write_table(folder: Path, data: Path | None) -> None:
    (folder / "site_data.csv").write_text(
        _table() if data is None else (data / "raw" / "site_data.csv").read_text()
    )


def _write_badm(folder: Path, data: Path | None) -> None:
    rows = ["SITE_ID;GROUP_ID;VARIABLE_GROUP;VARIABLE;DATAVALUE"]
    for number, (name, value) in enumerate((("LAT", 50.96), ("LONG", 13.57), ("ELEV", 385))):
        rows.append(f"DE-Tha;{number};GRP_LOCATION;LOCATION_{name};{value}")
    text = "\n".join([*rows, "DE-Tha;9;GRP_IGBP;IGBP;ENF"])
    if data is not None:
        text = (data / "raw" / "FLX_AA-Flx_BIF_LATEST_sample.csv").read_text()
    (folder / "BIF.csv").write_text(text)


def _write_sheet(folder: Path, data: Path | None) -> None:
    _write_table(folder, data)
    pd.read_csv(folder / "site_data.csv").to_excel(folder / "site_data.xlsx", index=False)
    (folder / "site_data.csv").unlink()


def _only(folder: Path) -> Path:
    """Return the only file of an input."""
    (path,) = folder.iterdir()
    return path


def _read_fluxnet(folder: Path, **how: Any) -> None:
    xcarbon.open_fluxnet(_only(folder), metadata=PLACE, **how).load()


# Satellite series and patches


def _write_appeears(folder: Path, data: Path | None) -> None:
    days = pd.date_range("2010-01-01", periods=40, freq="8D").strftime("%Y-%m-%d")
    phase = np.linspace(0, 6, 40)
    table = pd.DataFrame(
        {"ID": "DE-Tha", "Latitude": 50.96, "Longitude": 13.57, "Date": days}
        | {"MCD15A2H_061_Fpar_500m": 0.5 + 0.3 * np.sin(phase), "MCD15A2H_061_Lai_500m": 2 + np.sin(phase)}
        | {"MCD15A2H_061_FparLai_QC": 0, "MCD15A2H_061_FparLai_QC_MODLAND": "0b0"}
    )
    pd.concat([table, table.assign(ID="US-Ha1")]).round(2).to_csv(folder / "point.csv", index=False)


def _write_series(folder: Path, data: Path | None) -> None:
    table = pd.DataFrame({"tower": "DE-Tha", "day": pd.date_range("2010-01-01", periods=60, freq="8D")})
    table = table.assign(fpar=np.linspace(0.1, 0.9, 60).round(3), quality=0)
    table.to_csv(folder / "series.csv", index=False)


_COLUMNS = {"site": "tower", "date": "day", "FAPAR": "fpar", "FAPAR_QC": "quality"}


def _write_satellite(folder: Path, data: Path | None) -> None:
    if data is None:
        ds = synthetic_towers(2, variables=["TA"], patches=False, satellite=True)
        ds[["FAPAR", "LAI"]].drop_vars(["time", "time_bnds"], errors="ignore").load().to_netcdf(
            folder / "series.nc"
        )
        return
    with xr.open_dataset(data / "satellite" / "monthly.nc", decode_times=False) as ds:
        ds.isel(site=slice(3)).load().to_netcdf(folder / "monthly.nc")


def _write_geotiffs(folder: Path, data: Path | None) -> None:
    for band in (1, 2):
        values: Any = samples.counts(samples.AROUND, band)
        if data is not None:
            values = _real_pixels(data, band)
        samples.write_geotiff(folder / samples.name(f"B0{band}"), samples.AROUND, values)


def _real_pixels(data: Path, band: int) -> np.ndarray:
    import rasterio
    from rasterio.windows import Window

    (path,) = (data / "rasters").glob(f"MCD43A4*_B0{band}.TIF")
    with rasterio.open(path) as file:
        return file.read(1, window=Window(1200, 1200, samples.AROUND.width, samples.AROUND.height))


_MODIS = "MCD43A4.A2018185.h10v07.061.2018194033728"
_LAYERS = {f"Nadir_Reflectance_Band{band}": samples.counts(samples.AROUND, band) for band in (1, 2)}


def _read_patches(folder: Path) -> None:
    read_patches(find_rasters(list(folder.iterdir())), samples.LAT, samples.LON)


# Grids


def _write_era5(folder: Path, data: Path | None) -> None:
    if data is not None:
        with xr.open_dataset(
            data / "era5" / "era5_2022_07_alps.nc", mask_and_scale=False, decode_times=False
        ) as ds:
            cut = ds.isel(
                {dim: slice(3 if dim not in ("time", "valid_time") else 72) for dim in ds.dims}
            ).load()
        for array in cut.variables.values():
            array.encoding = {"zlib": bool(array.ndim > 1)}
        cut.to_netcdf(folder / "era5.nc")
        return
    time = np.arange("2022-07-01", "2022-07-04", dtype="datetime64[h]").astype("M8[ns]")
    grid = {"time": time, "latitude": [48.0, 47.75], "longitude": [8.0, 8.25]}
    wave = np.sin(np.arange(72) * np.pi / 12).clip(0)[:, None, None] + np.zeros((1, 2, 2))
    fields = {"t2m": 283 + 10 * wave, "ssrd": 2e6 * wave}
    xr.Dataset({name: (list(grid), values) for name, values in fields.items()}, grid).to_netcdf(
        folder / "era5.nc"
    )


def _write_era5_zip(folder: Path, data: Path | None) -> None:
    _write_era5(folder, data)
    with zipfile.ZipFile(folder / "era5.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "era5.nc", "data_stream-oper.nc")
    (folder / "era5.nc").unlink()


_AXES = {"lat": 85 - 10.0 * np.arange(18), "lon": -175 + 10.0 * np.arange(36)}
_CLASSES = np.arange(18 * 36, dtype="uint8").reshape(18, 36) % 17


def _write_cci(folder: Path, data: Path | None) -> None:
    write_cci(folder / "cci.nc", np.full_like(_CLASSES, 70), _AXES["lat"], _AXES["lon"], time=True)


def _write_landcover_tif(folder: Path, data: Path | None) -> None:
    import rasterio
    from rasterio.transform import from_bounds

    size = {"height": 18, "width": 36, "count": 1, "dtype": "uint8", "nodata": 255, "compress": "deflate"}
    grid = {"crs": "EPSG:4326", "transform": from_bounds(-180, -90, 180, 90, 36, 18)}
    with rasterio.open(folder / "MCD12C1.A2019001.tif", "w", driver="GTiff", **size, **grid) as file:
        file.write(_CLASSES, 1)


def _read_landcover(folder: Path) -> None:
    xcarbon.open_landcover(_only(folder)).load()


def _grid() -> xr.Dataset:
    return synthetic_grid(2, 3)[["TA", "VPD"]].isel(time=slice(48)).drop_dims("day", errors="ignore").load()


# Models


@cache
def _model(kind: str) -> CarbonModel:
    """Train a small model for one step."""
    if kind == "ensemble":
        return xcarbon.ensemble([_model("hourly"), _model("xgboost")])
    towers = synthetic_towers(2, variables=["TA", "SW_IN", "NEE"], patches=kind == "ecoperceiver")
    towers = towers.isel(time=slice(2880), **({"day": slice(120)} if "day" in towers.dims else {}))
    small = {
        "streaming": {"network": {"width": 16, "layers": 2}, "batch_size": 2, "max_steps": 1},
        "ecoperceiver": {
            "network": {"width": 16, "cross_blocks": 1, "self_layers": 1},
            "batch_size": 8,
            "max_steps": 1,
        },
        "hourly": {"network": {"width": 16}, "batch_size": 64, "max_steps": 1},
        "xgboost": {"n_estimators": 3, "max_depth": 3},
    }
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as run:
        return towers.carbon.fit(kind, run_dir=run, **small[kind])


def _copy_shipped(folder: Path, data: Path | None) -> None:
    from xcarbon.models.pretrained import WEIGHTS, names

    shutil.copytree(WEIGHTS / names()[0], folder / "model")


def _read_model(folder: Path) -> object:
    """Return the content of a model: its weights, its area and its provenance."""
    model = xcarbon.load(folder / "model")
    area = None if model.area is None else {k: v.tobytes() for k, v in model.area.to_arrays().items()}
    return model.fingerprint(), area, model.provenance


def _write_checkpoint(folder: Path, data: Path | None) -> None:
    import torch

    from xcarbon.models.ecoperceiver import EcoPerceiver

    torch.manual_seed(0)
    torch.save({"model": theirs(EcoPerceiver())}, folder / "checkpoint.pth")


def _write_state(folder: Path, data: Path | None) -> None:
    model = xcarbon.load("nee-fluxnet2015")
    hours = {"time": np.arange("2014-07-01T00", "2014-07-03T00", dtype="M8[h]"), "TA": np.full(48, 20.0)}
    model.step(model.begin(igbp="ENF", lat=51.0, lon=13.6), hours)[1].save(folder / "state.npz")


# Other files


def _write_snapshot(folder: Path, data: Path | None) -> None:
    header = (
        "data_hub,site_id,first_year,last_year,download_link,fluxnet_product_name,product_citation,sha256\n"
    )
    rows = [
        f"AmeriFlux,US-{n:03},2010,2012,https://example.org/{n}.zip,AMF_US-{n:03}_FLUXNET.zip,"
        f'"A, B ({n})",{n:064x}\n'
        for n in range(100)
    ]
    (folder / "snapshot.csv").write_text(header + "".join(rows))


def _read_snapshot(folder: Path) -> None:
    # xcarbon.fetch would download the files next.
    select_entries(read_snapshot(folder / "snapshot.csv"), None, folder / "snapshot.csv")


@cache
def _carbonsense() -> xr.Dataset:
    ds = synthetic_towers(2, seed=5, variables=sorted({*V1, *V2, *TARGETS}))
    return ds.sel(time=slice("2010-01", "2010-02"), day=slice("2010-01", "2010-02")).compute()


KINDS: dict[str, Kind] = {
    "fluxnet-hh": Kind(lambda f, d: _write_tower(f, d, _HH), _read_fluxnet, 8),
    "fluxnet-hr": Kind(lambda f, d: _write_tower(f, d, _HR), _read_fluxnet, 8),
    "fluxnet-dd": Kind(_write_daily, lambda f: _read_fluxnet(f, resolution="DD"), 8),
    "fluxnet-gz": Kind(_write_gzip, _read_fluxnet, 20),
    "fluxnet-zip": Kind(_write_zip, lambda f: xcarbon.open_fluxnet(_only(f)).load(), 20),
    "ameriflux-base": Kind(lambda f, d: _write_tower(f, d, _BASE, "AmeriFlux-BASE"), _read_fluxnet, 8),
    "table": Kind(_write_table, lambda f: read_metadata(_only(f)), 60),
    "badm": Kind(_write_badm, lambda f: read_metadata(_only(f)), 60),
    "xlsx": Kind(_write_sheet, lambda f: read_metadata(_only(f)), 40),
    "appeears": Kind(_write_appeears, lambda f: xcarbon.open_satellite(_only(f)), 8),
    "satellite-csv": Kind(_write_series, lambda f: xcarbon.open_satellite(_only(f), columns=_COLUMNS), 8),
    "satellite-nc": Kind(_write_satellite, lambda f: xcarbon.open_satellite(_only(f)), 3),
    "netcdf": Kind(
        lambda f, d: write_netcdf(_towers(d), f / "towers.nc"),
        lambda f: xcarbon.open_netcdf(_only(f)).load(),
        3,
    ),
    "netcdf-utc": Kind(
        lambda f, d: write_sites(_towers(d), f), lambda f: xcarbon.open_netcdf(sorted(f.iterdir())).load(), 2
    ),
    "grid-nc": Kind(lambda f, d: write_grid(_grid(), f / "grid.nc"), lambda f: open_grid(_only(f)).load(), 3),
    "era5": Kind(_write_era5, lambda f: xcarbon.open_era5(_only(f)).load(), 3),
    "era5-zip": Kind(_write_era5_zip, lambda f: xcarbon.open_era5(_only(f)).load(), 3),
    "landcover-nc": Kind(_write_cci, _read_landcover, 3),
    "landcover-tif": Kind(_write_landcover_tif, _read_landcover, 4),
    "landcover-hdf": Kind(
        lambda f, d: write_hdf4(f / "MCD12C1.A2019001.061.2022170020638.hdf", _CLASSES), _read_landcover, 4
    ),
    "landcover-zarr": Kind(
        lambda f, d: xr.Dataset({MCD12C1: (("lat", "lon"), _CLASSES)}, _AXES).to_zarr(f / "map.zarr"),
        _read_landcover,
        4,
    ),
    "modis-tif": Kind(_write_geotiffs, _read_patches, 5),
    "modis-nc": Kind(lambda f, d: samples.write_netcdf(f / f"{_MODIS}.nc", _LAYERS), _read_patches, 4),
    "modis-hdf": Kind(lambda f, d: samples.write_hdf4(f / f"{_MODIS}.hdf", _LAYERS), _read_patches, 5),
    "store": Kind(
        lambda f, d: _towers(d).carbon.to_store(f / "towers.zarr"),
        lambda f: xcarbon.open_store(_only(f)).load(),
        3,
    ),
    "grid-zarr": Kind(
        lambda f, d: write_grid(_grid(), f / "grid.zarr"), lambda f: open_grid(_only(f)).load(), 4
    ),
    "model-streaming": Kind(
        lambda f, d: _model("streaming").save(f / "model"), _read_model, 40, weights=True
    ),
    "model-ecoperceiver": Kind(
        lambda f, d: _model("ecoperceiver").save(f / "model"), _read_model, 40, weights=True
    ),
    "model-hourly": Kind(lambda f, d: _model("hourly").save(f / "model"), _read_model, 60, weights=True),
    "model-xgboost": Kind(lambda f, d: _model("xgboost").save(f / "model"), _read_model, 60, weights=True),
    "model-ensemble": Kind(lambda f, d: _model("ensemble").save(f / "model"), _read_model, 40, weights=True),
    "model-shipped": Kind(_copy_shipped, _read_model, 3, weights=True),
    "checkpoint": Kind(_write_checkpoint, lambda f: xcarbon.load(_only(f)).fingerprint(), 5, weights=True),
    "state": Kind(_write_state, lambda f: str(vars(LiveState.load(_only(f)))), 60, weights=True),
    "snapshot": Kind(_write_snapshot, _read_snapshot, 60),
    "carbonsense-v1": Kind(
        lambda f, d: write_v1(_carbonsense(), f / "v1"),
        lambda f: xcarbon.open_carbonsense(_only(f)).load(),
        4,
    ),
    "carbonsense-v2": Kind(
        lambda f, d: write_v2(_carbonsense(), f / "v2"),
        lambda f: xcarbon.open_carbonsense(_only(f)).load(),
        4,
    ),
}
