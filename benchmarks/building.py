"""How fast raw files become a store, compared with a plain loop with pandas; and how that scales with towers.

python -m benchmarks.building FOLDER [--towers 24 96 385] [--processes 2] [--years 10]

The files have the size of real ones: 267 columns of ten years of half-hours, and ten years of daily patches.
A few of them are generated, the others are hard links to these under other names. Each tower has its own
images. The command prints how time and memory grow with the number of towers.
"""

import argparse
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import xarray as xr
from dask.distributed import Client, LocalCluster

import xcarbon
from benchmarks.common import peak_memory, size
from benchmarks.reading import write_fullset
from xcarbon.core.variables import CONSOLIDATED, is_gap_filled, quality_column, quality_scheme
from xcarbon.io.modis.grid import PIXEL_SIZE, patch_centre
from xcarbon.io.records import choose_columns

LAT, LON = 50.96, 13.57
TOWERS, YEARS = size(4, 2), size(10, 1)


def site_name(index: int) -> str:
    """Return the identifier of a tower: XX-A00, XX-A01, ..."""
    return f"XX-{chr(65 + index // 100)}{index % 100:02}"


def write_raw(folder: Path, towers: int, years: int, different: int = 3) -> None:
    """Write the files of some towers, of which the first few are different."""
    for index in range(towers):
        site = folder / site_name(index)
        site.mkdir(parents=True)
        csv = f"FLX_{site.name}_FLUXNET2015_FULLSET_HH_1996-{1995 + years}_1-4.csv"
        if index < different:
            write_fullset(site / csv, years)
        else:
            original = site_name(index % different)
            os.link(folder / original / csv.replace(site.name, original), site / csv)
        # An image belongs to every tower inside it, so that the towers must stand apart.
        write_patches(site / "MCD43A4.061_500m_aid0001.nc", years, LON + index / 5)
    rows = [f"{site_name(index)},{LAT},{LON + index / 5},100,ENF,1" for index in range(towers)]
    header = "SITE_ID,LOCATION_LAT,LOCATION_LON,LOCATION_ELEV,IGBP,UTC_OFFSET"
    (folder / "site_data.csv").write_text("\n".join([header, *rows]))


def write_patches(path: Path, years: int, lon: float, pixels: int = 10) -> None:
    """Write a daily series around a tower as AppEEARS exports it."""
    rng = np.random.default_rng(0)
    day = np.arange("1996-01-01", f"{1996 + years}-01-01", dtype="M8[D]").astype("M8[ns]")
    x, y = patch_centre(LAT, lon)
    offset = (np.arange(pixels) - (pixels - 1) / 2) * PIXEL_SIZE
    shape = (day.size, pixels, pixels)
    layers = {
        f"Nadir_Reflectance_Band{band}": (
            ("time", "ydim", "xdim"),
            rng.integers(100, 5000, shape, "int16"),
            {"grid_mapping": "crs"},
        )
        for band in range(1, 8)
    }
    grid = {
        "grid_mapping_name": "sinusoidal",
        "earth_radius": 6371007.181,
        "longitude_of_central_meridian": 0.0,
    }
    ds = xr.Dataset(layers, {"time": day, "ydim": y - offset, "xdim": x + offset, "crs": ((), 0, grid)})
    fill = {name: {"_FillValue": np.int16(32767), "zlib": True, "complevel": 1} for name in layers}
    ds.to_netcdf(path, encoding=fill)


# The alternative


def build_with_pandas(folder: Path, out: Path) -> None:
    """Read each tower, average its hours, choose columns by quality, and save it, as a plain script does."""
    out.mkdir()
    for csv in sorted(folder.glob("*/*.csv")):
        hours_with_pandas(pd.read_csv(csv, na_values=-9999)).to_parquet(out / f"{csv.parent.name}.parquet")
        with xr.open_dataset(csv.parent / "MCD43A4.061_500m_aid0001.nc") as patches:
            square = patches.drop_vars("crs").isel(ydim=slice(1, 9), xdim=slice(1, 9)) * 1e-4
        pixels = square.to_dataframe().unstack(["ydim", "xdim"])
        pixels.to_parquet(out / f"{csv.parent.name}-patches.parquet")


def hours_with_pandas(table: pd.DataFrame) -> pd.DataFrame:
    """Average half-hours to hours; of several columns of a variable, keep the one of best quality.

    Only the columns that are kept are grouped, as a careful script does.
    """
    choices = choose_columns(list(table))
    columns = [column for options in choices.values() for column in options]
    flags = {column: half_hourly_flags(table, column).rename(f"{column} flag") for column in columns}
    east = np.sin(np.radians(table["WD"])).rename("EAST")
    north = np.cos(np.radians(table["WD"])).rename("NORTH")
    hour = pd.to_datetime(table["TIMESTAMP_START"], format="%Y%m%d%H%M").dt.floor("h").rename("hour")
    groups = pd.concat([table[columns], east, north, hour, *flags.values()], axis=1).groupby("hour")
    mean, count, worst = groups.mean(), groups.count(), groups.max()
    mean["WD"] = np.degrees(np.arctan2(mean["EAST"], mean["NORTH"])) % 360
    mean[list(choices["P"])] *= 2  # a sum; hours with a single half-hour are left out below
    mean = mean[columns].where(count[columns] == 2)
    chosen = {}
    for code, options in choices.items():
        value = quality = None
        for column in options:
            flag = worst[f"{column} flag"].where(mean[column].notna())
            better = flag.notna() if value is None else flag < quality.fillna(9)
            value = mean[column] if value is None else value.where(~better, mean[column])
            quality = flag if quality is None else quality.where(~better, flag)
        chosen[code], chosen[f"{code}_QC"] = value, quality
    values = pd.DataFrame({code: chosen[code] for code in choices}).astype("float32")
    qualities = pd.DataFrame({f"{code}_QC": chosen[f"{code}_QC"] for code in choices})
    return values.merge(qualities.fillna(-1).astype("int8"), on="hour")


def half_hourly_flags(table: pd.DataFrame, column: str) -> pd.Series:
    """Quality flags of a column; gap-filled values without a flag have the worst one."""
    filled = 2 if quality_scheme(column) is CONSOLIDATED else 3
    unknown = pd.Series(filled if is_gap_filled(column) else 0, table.index)
    return table.get(quality_column(column), unknown).fillna(unknown).where(table[column].notna())


def check(store: Path, tables: Path) -> None:
    """Check that both ways give the same hours, for a variable with several columns and for one with one."""
    site = site_name(0)
    ours, theirs = xcarbon.open_store(store).sel(site=site), pd.read_parquet(tables / f"{site}.parquet")
    for code in ("TA", "NEE"):
        np.testing.assert_allclose(ours[code], theirs[code], rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(ours[f"{code}_QC"], theirs[f"{code}_QC"])


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keep this process and all threads that it starts on one core."""
    cores, threads = os.sched_getaffinity(0), pa.cpu_count()
    os.sched_setaffinity(0, {min(cores)})
    pa.set_cpu_count(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        pa.set_cpu_count(threads)


class Building:
    """Four towers of ten years, on one core."""

    timeout = 900

    def setup_cache(self) -> Path:
        """Write the files to the current folder, which asv removes afterwards."""
        raw = Path("raw").absolute()
        write_raw(raw, TOWERS, YEARS)
        return raw

    def track_build(self, raw: Path) -> float:
        """Processor time of a loop over towers with read_csv, groupby and merge against ``xcarbon.build``."""
        with tempfile.TemporaryDirectory() as folder, one_core():
            store, tables = Path(folder, "store.zarr"), Path(folder, "pandas")
            start = time.process_time()
            xcarbon.build(raw, store)
            middle = time.process_time()
            build_with_pandas(raw, tables)
            end = time.process_time()
            check(store, tables)
        return (end - middle) / (middle - start)

    track_build.unit = "x faster than a careful loop with pandas"  # type: ignore[attr-defined]


# The scale of a real build, which takes too long for asv


def build_on_processes(raw: Path, store: Path, processes: int) -> tuple[float, float, float]:
    """Build on a cluster: seconds, and peak memory [GB] of the largest worker and of this process."""
    shutil.rmtree(store, ignore_errors=True)
    with (
        LocalCluster(n_workers=processes, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.run(pa.set_cpu_count, 1)
        start = time.perf_counter()
        xcarbon.build(raw, store)
        seconds = time.perf_counter() - start
        workers = client.run(peak_memory)
    return seconds, max(workers.values()), peak_memory()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder to which raw files and stores are written")
    parser.add_argument("--towers", type=int, nargs="+", default=[24, 96, 385], help="numbers of towers")
    parser.add_argument("--processes", type=int, nargs="+", default=[2], help="numbers of processes")
    parser.add_argument("--years", type=int, default=10, help="years of each tower (default: 10)")
    arguments = parser.parse_args(argv)
    print(f"{'towers':>8}{'processes':>10}{'seconds':>9}{'s/tower':>9}{'worker [GB]':>13}{'client [GB]':>13}")
    for towers in arguments.towers:
        raw = arguments.folder / f"raw-{towers}"
        if not raw.exists():
            write_raw(raw, towers, arguments.years)
        for processes in arguments.processes:
            # In a new process, whose peak memory is that of this build alone.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                build = pool.submit(build_on_processes, raw, arguments.folder / "store.zarr", processes)
            seconds, worker, client = build.result()
            row = f"{towers:8}{processes:10}{seconds:9.0f}{seconds / towers:9.2f}{worker:13.2f}{client:13.2f}"
            print(row, flush=True)


if __name__ == "__main__":
    main()
