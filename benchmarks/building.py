"""How fast raw files become a store, beside a plain loop with pandas, and how that grows with towers.

The files are as large as real ones: 267 columns of ten years of half-hours, and ten years of daily patches.
A few are generated, the others are hard links to them under other names. Each
tower has images of its own.
"""

import argparse
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import xarray as xr
from dask.distributed import Client, LocalCluster

import xcarbon
from benchmarks.memory import peak_memory
from benchmarks.reading import DATA, write_fullset
from xcarbon.core.variables import CONSOLIDATED, is_gap_filled, quality_column, quality_scheme
from xcarbon.io.modis.grid import PIXEL_SIZE, patch_centre
from xcarbon.io.records import choose_columns

HEADER = DATA / "headers" / "fluxnet_fullset_hh.txt"
LAT, LON = 50.96, 13.57


def site_name(index: int) -> str:
    """Identifier of a tower: XX-A00, XX-A01, ..."""
    return f"XX-{chr(65 + index // 100)}{index % 100:02}"


def write_raw(folder: Path, towers: int, years: int, kinds: int = 3) -> None:
    """Write files of as many towers, ``kinds`` of them different."""
    columns = HEADER.read_text().split()
    for index in range(towers):
        site = folder / site_name(index)
        site.mkdir(parents=True)
        csv = f"FLX_{site.name}_FLUXNET2015_FULLSET_HH_1996-{1995 + years}_1-4.csv"
        if index < kinds:
            write_fullset(site / csv, columns, years)
        else:
            model = site_name(index % kinds)
            os.link(folder / model / csv.replace(site.name, model), site / csv)
        # Images have a place, and are those of all towers there: each tower stands elsewhere.
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


def build_with_pandas(folder: Path, out: Path, *, select: bool) -> None:
    """Do for each tower what people write first: read, group by the hour, choose by quality, merge, save."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    for csv in sorted(folder.glob("*/*.csv")):
        table = pd.read_csv(csv, na_values=-9999)
        hours = hours_with_pandas(table, select=select)
        hours.to_parquet(out / f"{csv.parent.name}.parquet")
        with xr.open_dataset(csv.parent / "MCD43A4.061_500m_aid0001.nc") as patches:
            square = patches.drop_vars("crs").isel(ydim=slice(1, 9), xdim=slice(1, 9)) * 1e-4
        pixels = square.to_dataframe().unstack(["ydim", "xdim"])
        pixels.to_parquet(out / f"{csv.parent.name}-patches.parquet")


def hours_with_pandas(table: pd.DataFrame, *, select: bool) -> pd.DataFrame:
    """Bring half-hours to hours, and of several columns of a variable keep the one of best quality.

    ``select`` is what a second look gives: to group no columns but those that are kept.
    """
    choices = choose_columns(list(table))
    columns = [column for of in choices.values() for column in of]
    flags = {column: half_hourly_codes(table, column).rename(f"{column} code") for column in columns}
    east = np.sin(np.radians(table["WD"])).rename("EAST")
    north = np.cos(np.radians(table["WD"])).rename("NORTH")
    hour = pd.to_datetime(table["TIMESTAMP_START"], format="%Y%m%d%H%M").dt.floor("h").rename("hour")
    kept = table[columns] if select else table
    groups = pd.concat([kept, east, north, hour, *flags.values()], axis=1).groupby("hour")
    mean, count, worst = groups.mean(), groups.count(), groups.max()
    mean["WD"] = np.degrees(np.arctan2(mean["EAST"], mean["NORTH"])) % 360
    mean[["P", "P_F"]] *= 2  # a sum; hours with one half-hour are left out
    mean = mean[columns].where(count[columns] == 2)
    chosen = {}
    for code, options in choices.items():
        value = quality = None
        for column in options:
            given = worst[f"{column} code"].where(mean[column].notna())
            better = given.notna() if value is None else given < quality.fillna(9)
            value = mean[column] if value is None else value.where(~better, mean[column])
            quality = given if quality is None else quality.where(~better, given)
        chosen[code], chosen[f"{code}_QC"] = value, quality
    values = pd.DataFrame({code: chosen[code] for code in choices}).astype("float32")
    codes = pd.DataFrame({f"{code}_QC": chosen[f"{code}_QC"] for code in choices}).fillna(-1).astype("int8")
    return values.merge(codes, on="hour")


def half_hourly_codes(table: pd.DataFrame, column: str) -> pd.Series:
    """Quality codes of a column; what is filled without a code has the worst one."""
    filled = 2 if quality_scheme(column) is CONSOLIDATED else 3
    unknown = pd.Series(filled if is_gap_filled(column) else 0, table.index)
    return table.get(quality_column(column), unknown).fillna(unknown).where(table[column].notna())


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


def rows_per_second(raw: Path, years: int, towers: int, *, select: bool) -> tuple[float, float]:
    """Half-hours a second on one core: with xcarbon, and with pandas."""
    rows = towers * years * 365.25 * 48
    with tempfile.TemporaryDirectory() as folder, one_core(), xcarbon.set_options(progress=False):
        start = time.perf_counter()
        xcarbon.build(raw, Path(folder, "store.zarr"))
        ours = time.perf_counter() - start
        start = time.perf_counter()
        build_with_pandas(raw, Path(folder, "pandas"), select=select)
        theirs = time.perf_counter() - start
        check(Path(folder))
    return rows / ours, rows / theirs


def check(folder: Path) -> None:
    """Make sure that both give the same."""
    ds = xcarbon.open_store(folder / "store.zarr").sel(site=site_name(0)).load()
    hours = pd.read_parquet(folder / "pandas" / f"{site_name(0)}.parquet")
    for name in hours:
        if name in ds:
            np.testing.assert_allclose(ds[name], hours[name], rtol=1e-4, atol=1e-3, err_msg=name)
    patches = pd.read_parquet(folder / "pandas" / f"{site_name(0)}-patches.parquet")
    band = patches["Nadir_Reflectance_Band3"].to_numpy().reshape(-1, 8, 8)
    np.testing.assert_allclose(ds["reflectance"].sel(band="B3"), band, rtol=1e-5, atol=1e-5)


class Building:
    """Four towers of ten years, on one core."""

    timeout = 900
    years, towers = 10, 4

    def setup_cache(self) -> Path | None:
        """Write the files into the folder that asv throws away afterwards."""
        if not HEADER.exists():
            return None
        raw = Path("raw").absolute()
        write_raw(raw, self.towers, self.years)
        return raw

    def setup(self, raw: Path | None) -> None:
        """Skip where the names of the columns are absent."""
        if raw is None:
            raise NotImplementedError(f"no header of a FULLSET file in {DATA}")

    def track_build(self, raw: Path) -> float:
        """Time a loop over towers with read_csv, groupby and merge against ``xcarbon.build``."""
        ours, theirs = rows_per_second(raw, self.years, self.towers, select=False)
        return ours / theirs

    track_build.unit = "x faster than a loop with pandas"  # type: ignore[attr-defined]

    def track_build_of_selected_columns(self, raw: Path) -> float:
        """Time the same loop, when it groups no columns but those it keeps."""
        ours, theirs = rows_per_second(raw, self.years, self.towers, select=True)
        return ours / theirs

    track_build_of_selected_columns.unit = "x faster than a careful loop with pandas"  # type: ignore[attr-defined]


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


def main() -> None:
    """Print rows a second beside pandas, and how time and memory grow with towers and processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where raw files and stores are written")
    parser.add_argument("--towers", type=int, nargs="+", default=[24, 96, 385])
    parser.add_argument("--years", type=int, default=10)
    arguments = parser.parse_args()
    raw = arguments.folder / "raw-10"
    if not raw.exists():
        write_raw(raw, 10, arguments.years)
    for select in (False, True):
        ours, theirs = rows_per_second(raw, arguments.years, 10, select=select)
        loop = "careful loop" if select else "loop"
        speeds = f"{ours:,.0f} rows/s, {loop} with pandas {theirs:,.0f} rows/s"
        print(f"10 towers on one core: {speeds}, {ours / theirs:.1f} times", flush=True)
    print(f"{'towers':>8}{'processes':>10}{'seconds':>9}{'s/tower':>9}{'worker [GB]':>13}{'client [GB]':>13}")
    for towers in arguments.towers:
        raw = arguments.folder / f"raw-{towers}"
        if not raw.exists():
            write_raw(raw, towers, arguments.years)
        for processes in (2, 1) if towers == min(arguments.towers) else (2,):
            # In a process of its own, whose peak memory is that of this build.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                build = pool.submit(build_on_processes, raw, arguments.folder / "store.zarr", processes)
            seconds, worker, client = build.result()
            row = f"{towers:8}{processes:10}{seconds:9.0f}{seconds / towers:9.2f}{worker:13.2f}{client:13.2f}"
            print(row, flush=True)


if __name__ == "__main__":
    main()
