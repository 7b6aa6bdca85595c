"""Size and cost of Dask graphs: all towers of the networks for 25 years, and a year of a global grid.

python -m benchmarks.graphs [towers | grid] [--towers 767] [--years 25] [--degrees 0.1] [--names NAME ...]

The stores contain metadata and coordinates but no values, so building, sending and scheduling cost what they
cost with values. Each row of the table is measured in a process of its own, with a scheduler in another
process and without workers.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.distributed import Client
from dask.utils import parse_bytes

import xcarbon
from benchmarks.common import peak_memory, size
from xcarbon.core import conventions
from xcarbon.core.variables import IGBP_CLASSES
from xcarbon.io.grid import open_grid
from xcarbon.io.regions import write_template
from xcarbon.io.store import by_site

TOWERS, YEARS, DEGREES = size(767, 3), size(25, 2), size(0.1, 30.0)
#: Variables of the towers that the model of the package and the partitioning read, and satellite series.
DRIVERS, SERIES = ("TA", "SW_IN", "VPD"), ("FAPAR", "LAI", "NIRV", "NDWI", "EVI", "LST_DAY", "LST_NIGHT")
#: Hours and cells of a chunk of the grid, along time, lat and lon, as ``write_grid`` chunks months.
GRID_CHUNK = (744, 75, 75)
#: Hours and cells of a chunk of reanalysis with a spacing of 0.25 degrees.
REANALYSIS_CHUNK = (744, 90, 90)
#: A row that is not complete after this time [s] is given up.
LIMIT = 1500.0
HEADER = f"{'':<16}      tasks       MB  build s   send s arrive s   client   sched."


# Stores without values


def write_towers(path: Path, towers: int, years: int) -> None:
    """Write the template of a store of towers with satellite series."""
    time_ = pd.date_range("1996-01-01", periods=years * 8766, freq="h")
    day = pd.date_range(time_[0], time_[-1], freq="8D")
    lon = np.linspace(-170, 170, towers)
    coords = {
        "site": [f"SY-{number:03d}" for number in range(towers)],
        "lat": ("site", np.linspace(-50, 70, towers)),
        "lon": ("site", lon),
        "igbp": ("site", np.resize(np.array(list(IGBP_CLASSES), object), towers)),
        "utc_offset": ("site", np.round(lon / 15)),
        "elevation": ("site", np.full(towers, 100.0)),
    }
    variables = {}
    for code in (*DRIVERS, "NEE", *SERIES):
        axis, stamps = ("day", day) if code in SERIES else ("time", time_)
        attrs = {"composite_days": 8.0} if code in SERIES else {}
        for name, value in ((code, np.float32(np.nan)), (f"{code}_QC", np.int8(-1))):
            values = da.full((towers, stamps.size), value, chunks=(1, -1))
            variables[name] = (("site", axis), values, attrs if name == code else {})
    ds = conventions.apply(xr.Dataset(variables, coords | {"time": time_, "day": day}))
    write_template(by_site(ds), path)


def write_grid(
    path: Path, degrees: float, start: str, hours: int, chunks: Sequence[int], series: Sequence[str]
) -> None:
    """Write the template of a global grid of drivers, and with ``series`` of those and a map of classes."""
    time_ = pd.date_range(start, periods=hours, freq="h")
    lat = np.arange(90 - degrees / 2, -90, -degrees)
    lon = np.arange(degrees / 2 - 180, 180, degrees)
    coords: dict[str, Any] = {"time": time_, "lat": lat, "lon": lon}
    if series:
        coords["day"] = pd.date_range(start, time_[-1], freq="8D")
        coords["igbp"] = (("lat", "lon"), np.full((lat.size, lon.size), "GRA", object))
    variables: dict[str, Any] = {}
    for code in (*DRIVERS, *series):
        axis = "day" if code in series else "time"
        shape = (len(coords[axis]), lat.size, lon.size)
        cut = (shape[0] if code in series else chunks[0], *chunks[1:])
        values = da.full(shape, np.float32(np.nan), chunks=tuple(map(min, cut, shape)))
        variables[code] = ((axis, "lat", "lon"), values, {"composite_days": 8.0} if code in series else {})
    write_template(conventions.apply(xr.Dataset(variables, coords)), path)


# What is measured


def _join_satellite(ds: xr.Dataset, folder: Path) -> xr.Dataset:
    series = ds[[name for name in ds.data_vars if "day" in ds[name].dims]]
    return ds.drop_dims("day").carbon.join_satellite(series.isel(site=slice(None, None, -1)))


Case = Callable[[xr.Dataset, Path], Any]
#: Functions that return a lazy result, or write one, from the Dataset that is opened.
CASES: dict[str, dict[str, Case]] = {
    "towers": {
        "open_store": lambda ds, folder: ds,
        "predict_nee": lambda ds, folder: ds.carbon.predict_nee(),
        "aggregate": lambda ds, folder: ds.carbon.aggregate("DD"),
        "fill_drivers": lambda ds, folder: ds.carbon.fill_drivers(open_grid(folder / "reanalysis")),
        "join_satellite": _join_satellite,
        "partition": lambda ds, folder: ds.carbon.partition(),
        "predict_to": lambda ds, folder: ds.carbon.predict_to("NEE", "nee-fluxnet2015", folder / "nee.zarr"),
    },
    "grid": {
        "open_grid": lambda ds, folder: ds,
        "predict_nee": lambda ds, folder: ds.carbon.predict_nee(),
        "aggregate": lambda ds, folder: ds.carbon.aggregate("DD"),
        "predict_to": lambda ds, folder: ds.carbon.predict_to("NEE", "nee-fluxnet2015", folder / "nee.zarr"),
    },
}


# How it is measured


class Sent(Exception):
    """A graph has been sent and measured, so that the rest of the function is not needed."""


class MeasuringClient(Client):
    """A client that measures the first graph that it sends, and then stops what sent it."""

    row: str
    start: float

    def compute(self, collections: Any, **settings: Any) -> Any:
        """Send a graph, wait until the scheduler has it, and print a row."""
        built = time.perf_counter()
        with warnings.catch_warnings(record=True) as notices:
            warnings.simplefilter("always")
            futures = super().compute(collections, **settings)
        sent = time.perf_counter()
        # The message of Dask, which is shown for each graph because of the threshold of 0 bytes.
        (text,) = [str(notice.message) for notice in notices if "Sending large graph" in str(notice.message)]
        megabytes = parse_bytes(text.split("size ")[1].split(".\n")[0]) / 1e6
        while not (tasks := self.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))):
            if any(each.status == "cancelled" for each in np.ravel(futures)):
                raise RuntimeError(f"the scheduler refused the graph of {self.row}")
            time.sleep(0.1)
        arrived = time.perf_counter()
        times = built - self.start, sent - built, arrived - sent
        print(
            f"{self.row:<16}{tasks:>11,}{megabytes:>9.1f}"
            + "".join(f"{seconds:>9.1f}" for seconds in times)
            + f"{peak_memory():>9.2f}{self.run_on_scheduler(peak_memory):>9.2f}",
            flush=True,
        )
        del futures
        raise Sent


@contextmanager
def scheduler(folder: Path) -> Iterator[str]:
    """Start a scheduler in a process of its own, and return the file with its address."""
    file = str(folder / "scheduler.json")
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard"]
    root = Path(__file__).parents[1]  # the process imports this package
    process = subprocess.Popen([*command, "--scheduler-file", file], cwd=root, stderr=subprocess.DEVNULL)
    try:
        yield file
    finally:
        process.kill()
        process.wait()


def measure(kind: str, name: str, folder: Path, file: str) -> None:
    """Print the row of one case; runs in a process of its own."""
    open_ = {"towers": xcarbon.open_store, "grid": open_grid}[kind]
    xcarbon.load("nee-fluxnet2015")  # imports are not measured
    client = MeasuringClient(scheduler_file=file)
    # There are no workers: threads load the coordinates when a store is opened.
    settings = {"distributed.admin.large-graph-warning-threshold": "0 B", "scheduler": "threads"}
    with dask.config.set(settings), suppress(Sent):
        client.row, client.start = name, time.perf_counter()
        lazy = CASES[kind][name](open_(folder / kind), folder)
        # As in ``lazy.compute()``: ``Client.compute`` alone loses tasks of some Datasets when it optimises.
        client.compute(dask.optimize(lazy)[0])
    client.close()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=list(CASES), help="towers or grid; by default both")
    parser.add_argument("--towers", type=int, default=TOWERS)
    parser.add_argument("--years", type=int, default=YEARS)
    parser.add_argument("--degrees", type=float, default=DEGREES)
    parser.add_argument("--names", nargs="+", help="rows to measure; by default all")
    arguments = parser.parse_args(argv)
    hours = arguments.years * 8766
    for kind in arguments.kinds:
        names = arguments.names or list(CASES[kind])
        with TemporaryDirectory() as temporary:
            folder = Path(temporary)
            if kind == "grid":
                write_grid(folder / kind, arguments.degrees, "2020-01-01", 8784, GRID_CHUNK, SERIES)
            else:
                write_towers(folder / kind, arguments.towers, arguments.years)
                if "fill_drivers" in names:
                    write_grid(folder / "reanalysis", 0.25, "1996-01-01", hours, REANALYSIS_CHUNK, ())
            print(f"\n{kind}\n{HEADER}", flush=True)
            for name in names:
                with scheduler(folder) as file:
                    process = get_context("spawn").Process(target=measure, args=(kind, name, folder, file))
                    process.start()
                    process.join(LIMIT)
                if process.exitcode is None:
                    process.kill()
                    print(f"{name:<16} is not complete after {LIMIT:g} s", flush=True)
                elif process.exitcode:
                    raise SystemExit(f"{name} failed")


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main()
