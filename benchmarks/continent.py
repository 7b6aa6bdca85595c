"""Upscale a part of a continent: from bucket to bucket, killed once and continued, and its products.

python -m benchmarks.continent [--side 40] [--days 92] [--workers 2]

Synthetic hourly drivers, land cover and satellite fields are written to the bucket of moto, a server of S3 on
the loopback address (to folders of Icechunk, if moto is not installed). A process with a cluster of its own
predicts from them into the bucket, and is killed with its workers when its first regions are complete. The
same call in this process continues. The result must be that of a prediction of some cells without a cluster.
A quarter of the cells is sea. The script prints the rate, the peak memory of each worker, the cost of cells
of the sea, the times of the products, and the cost of a year of land that follows from them.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from dask.distributed import Client, LocalCluster

import xcarbon
from benchmarks.buckets import bucket
from benchmarks.common import peak_memory, size
from xcarbon.io import drafts
from xcarbon.io.grid import open_grid, write_grid
from xcarbon.io.location import Location
from xcarbon.testing import synthetic_grid

MODEL = "nee-fluxnet2015"
#: Length of the chunks of the drivers [h].
CHUNK = size(744, 48)
#: Limits of Europe: degrees north and degrees east.
EUROPE = ((35.0, 72.0), (-11.0, 45.0))
WORLD = ((-60.0, 85.0), (-180.0, 180.0))
HOURS_PER_YEAR = 8760


@contextlib.contextmanager
def places(folder: str) -> Iterator[tuple[Callable[[str], str], dict[str, Any]]]:
    """Yield a function from names to places of stores, and their storage options."""
    if importlib.util.find_spec("moto") is None:
        yield lambda name: f"{folder}/{name}.icechunk", {}
        return
    with bucket() as url:
        options = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"], "region": os.environ["AWS_REGION"]}
        keys = {"access_key_id": "test", "secret_access_key": "test"}
        yield lambda name: f"{url}/{name}", options | keys


def make_inputs(side: int, days: int) -> xr.Dataset:
    """Simulate the inputs of a summer; the western quarter of the cells is sea."""
    grid = synthetic_grid(side, side).drop_vars("land_fraction")
    hours = slice(24 * 151, 24 * (151 + days))
    is_land = xr.DataArray(np.arange(side) >= side // 4, dims="lon") & (grid["igbp"] != "")
    grid = grid.isel(time=hours).where(is_land)
    return grid.assign_coords(igbp=grid["igbp"].where(is_land, "")).chunk(time=CHUNK)


def open_inputs(place: str, options: dict[str, Any]) -> xr.Dataset:
    """Open the inputs in blocks that keep several workers busy."""
    ds = open_grid(place, storage_options=options)
    return ds.chunk(lat=ds.sizes["lat"] // 2, lon=ds.sizes["lon"] // 2)


@contextlib.contextmanager
def cluster(workers: int) -> Iterator[Client]:
    """Start processes of one thread each."""
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as running,
        Client(running) as client,
    ):
        yield client


def predict(source: str, target: str, options: dict[str, Any]) -> float:
    """Predict from place to place on the connected cluster; return the time [s]."""
    start = time.perf_counter()
    open_inputs(source, options).carbon.predict_to("NEE", MODEL, target, storage_options=options)
    return time.perf_counter() - start


def predict_on_own_cluster(source: str, target: str, options: dict[str, Any], workers: int) -> None:
    """Predict in a process that will be killed."""
    drafts.COMMIT_EVERY = size(10.0, 0.0)
    with cluster(workers):
        predict(source, target, options)


def complete_regions(place: str, options: dict[str, Any]) -> set[str]:
    """Return the marks of the regions that are committed to the branch of a prediction."""
    repository = Location.of(place, options).repository()
    if repository is None or "predicting" not in repository.list_branches():
        return set()
    found = (info.metadata.get("marks", []) for info in repository.ancestry(branch="predicting"))
    return {mark for marks in found for mark in marks}


def killed(source: str, target: str, options: dict[str, Any], workers: int) -> tuple[float, set[str]]:
    """Predict in a process that is killed when regions are complete; return the time and the regions."""
    code = (
        "from benchmarks.continent import predict_on_own_cluster\n"
        f"if __name__ == '__main__': predict_on_own_cluster({source!r}, {target!r}, {options!r}, {workers})"
    )
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "script.py")
        script.write_text(code)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, script], env=environment, start_new_session=True)
        while process.poll() is None and not complete_regions(target, options):
            time.sleep(size(1.0, 0.02))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its workers, too
        process.wait()
    return time.perf_counter() - start, complete_regions(target, options)


def check(inputs: xr.Dataset, nee: xr.Dataset) -> None:
    """Compare some cells with a prediction in this process; the sea must be missing."""
    few = {"lat": slice(0, 2), "lon": slice(-2, None)}
    expected = inputs.isel(few).compute().carbon.predict_nee(MODEL).compute()
    np.testing.assert_allclose(nee["NEE"].isel(few), expected, rtol=1e-5, atol=1e-5)
    assert nee["NEE"].isel(lon=0).isnull().all()


def timed(name: str, job: Callable[[], Any]) -> Any:
    """Run a job and print its time."""
    start = time.perf_counter()
    result = job()
    print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)
    return result


def make_products(nee: xr.Dataset, folder: Path) -> None:
    """Write files of hours, days and months, sum over the region, and draw a map."""
    hourly = timed("hourly NetCDF files", lambda: nee.carbon.to_years(folder / "hourly" / "NEE.nc"))
    hours = int(nee["NEE"].count())
    written = sum(file.stat().st_size for file in hourly)
    print(f"  {written / hours:.2f} bytes per hour of land, compressed; {written / 1e6:.0f} MB")
    for name, resolution in (("daily", "DD"), ("monthly", "MM")):
        means = nee.carbon.aggregate(resolution)
        path = folder / name / "NEE.nc"
        timed(f"{name} NetCDF files", lambda means=means, path=path: means.carbon.to_years(path))
    sums = timed("sums over the region", lambda: nee.carbon.regional_sums("NEE", "MM").load())
    print(sums["NEE"].to_series().to_string(), f"[{sums['NEE'].attrs['units']}]")
    if importlib.util.find_spec("matplotlib"):
        import matplotlib

        matplotlib.use("agg")
        timed("map", lambda: nee.carbon.plot.map().figure.savefig(folder / "NEE.png"))


def land_cells(box: tuple[tuple[float, float], tuple[float, float]]) -> int:
    """Count the cells of half a degree whose centre is on land at 1:110 million."""
    from matplotlib.path import Path as Outline

    from xcarbon.plotting.sites import outlines

    (south, north), (west, east) = box
    lat, lon = np.arange(south + 0.25, north, 0.5), np.arange(west + 0.25, east, 0.5)
    points = np.stack(np.meshgrid(lon, lat), axis=-1).reshape(-1, 2)
    is_land = np.zeros(len(points), bool)
    for ring in outlines():
        is_land ^= Outline(ring).contains_points(points)  # a lake is a ring within a ring
    return int(is_land.sum())


def extrapolate(rate: float, workers: int) -> None:
    """Print the cost of a year: cells x 8760 hours / rate, proportional to the number of cores."""
    print(f"\nextrapolated from {rate:,.0f} hours/s on {workers} cores, proportionally to cores:")
    print("region, step, land cells, hours, 2 cores [d], 64 cores [h], hourly values of one variable [GB]")
    for name, box in (("Europe", EUROPE), ("world", WORLD)):
        coarse = land_cells(box)
        for step in (0.25, 0.1):
            cells = coarse * (0.5 / step) ** 2
            hours = cells * HOURS_PER_YEAR
            per_core = hours / (rate / workers)
            cost = f"{per_core / 2 / 86400:.2f}, {per_core / 64 / 3600:.1f}, {4 * hours / 1e9:.1f}"
            print(f"{name}, {step}, {cells:,.0f}, {hours:.3g}, {cost}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--side", type=int, default=size(40, 4), help="cells along each axis")
    parser.add_argument("--days", type=int, default=size(92, 6), help="days from 1 June on")
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    parser.add_argument("--keep", type=Path, help="folder for the products, which are else removed")
    given = parser.parse_args(argv)
    xcarbon.set_options(progress=False)
    with tempfile.TemporaryDirectory() as temporary, places(temporary) as (place, options):
        inputs = make_inputs(given.side, given.days)
        source, target = place("drivers"), place("nee")
        timed("inputs written", lambda: write_grid(inputs, source, storage_options=options))
        inputs = open_inputs(source, options)
        size_mb = sum(inputs[code].nbytes for code in ("TA", "SW_IN", "VPD")) / 1e6
        print(f"{given.side} x {given.side} cells, {inputs.sizes['time']} h, {size_mb:.0f} MB of drivers")
        seconds, done = killed(source, target, options, given.workers)
        print(f"killed after {seconds:.0f} s, with start; complete regions: {sorted(done)}", flush=True)
        with cluster(given.workers) as client:
            seconds = predict(source, target, options)
            peaks = sorted(round(peak, 2) for peak in client.run(peak_memory).values())
            nee = open_grid(target, storage_options=options)
            edges = np.cumsum([0, *inputs["TA"].chunks[0]])
            parts = [slice(*edges[n : n + 2]) for n in range(len(edges) - 1) if f"{n}-0-0" not in done]
            hours = sum(int(nee["NEE"].isel(time=part).count()) for part in parts)
            rate = hours / seconds
            print(f"continued: {len(parts)} of {len(edges) - 1} regions, {hours:,} hours of land in")
            print(
                f"  {seconds:.0f} s, {rate:,.0f} hours/s, peak memory of the workers {peaks} GB", flush=True
            )
            sea = place("sea")
            write_grid(inputs.where(False), sea, storage_options=options)
            seconds = predict(sea, place("nothing"), options)
            cells = inputs["TA"].size
            print(f"only sea: {cells:,} hours in {seconds:.1f} s, {cells / seconds:,.0f} hours/s", flush=True)
        check(inputs, nee)
        make_products(nee, given.keep or Path(temporary, "products"))
        if importlib.util.find_spec("matplotlib"):
            extrapolate(rate, given.workers)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main()
