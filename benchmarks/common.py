"""Sizes, towers and timing that the benchmarks share."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from xcarbon import open_store, set_options
from xcarbon.testing import synthetic_towers

Size = TypeVar("Size")

#: Whether all benchmarks run at a size of seconds and on synthetic towers; ``python -m benchmarks`` sets it.
SMALL = "XCARBON_SMALL_BENCHMARKS" in os.environ
DATA = Path(os.environ.get("XCARBON_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")).absolute()
STORE = DATA / "fluxnet2015_hourly.zarr"
#: Variables that the store of real towers has.
SHARED_INPUTS = ("DOY", "TOD", "TA", "SW_IN", "VPD")

set_options(progress=False)


def size(full: Size, small: Size) -> Size:
    """Return the first value, or the second one at small size."""
    return small if SMALL else full


def has_store() -> bool:
    """Whether the store of real towers is used."""
    return STORE.exists() and not SMALL


def open_towers(count: int) -> xr.Dataset:
    """Open some real towers, spread over the store, or simulate as many where the store is absent."""
    if not has_store():
        return synthetic_towers(count, patches=False)
    ds = open_store(STORE)
    return ds.isel(site=slice(None, None, ds.sizes["site"] // count)).isel(site=slice(count))


def open_tower_year() -> xr.Dataset:
    """Open a year of the real tower DE-Tha, or simulate one where the store is absent."""
    if not has_store():
        return synthetic_towers(1, patches=False)
    return open_store(STORE).sel(site=["DE-Tha"], time="2010")


def fastest(jobs: Mapping[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Return the shortest time [s] of each job; the jobs take turns, since other processes come and go."""
    seconds = dict.fromkeys(jobs, np.inf)
    for _ in range(size(repeat, 1)):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def peak_memory() -> float:
    """Return the largest memory [GB] that this process has had so far, on Linux."""
    # resource.getrusage is no alternative: its value starts with the peak of the parent process.
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
    return int(status.split()[0]) * 1024 / 1e9


def report(module: Mapping[str, Any]) -> None:
    """Run the benchmarks of a module as asv does, in the current folder, and print each result."""
    for name, item in list(module.items()):
        if name.startswith("track_"):
            _show(name, item)
        elif inspect.isclass(item) and item.__module__ == module["__name__"]:
            _report_class(item)


def _report_class(benchmark_class: type) -> None:
    tracks = [name for name in dir(benchmark_class) if name.startswith("track_")]
    if not tracks:
        return
    benchmark = benchmark_class()
    cache = (benchmark.setup_cache(),) if hasattr(benchmark, "setup_cache") else ()
    parameters = [(parameter,) for parameter in getattr(benchmark, "params", ())] or [()]
    for parameter in parameters:
        if hasattr(benchmark, "setup"):
            benchmark.setup(*cache, *parameter)
        for name in tracks:
            _show(f"{benchmark_class.__name__}.{name}", getattr(benchmark, name), *cache, *parameter)


def _show(name: str, track: Callable[..., float], *arguments: Any) -> None:
    print(f"{name}: {track(*arguments):,.3g} {track.unit}", flush=True)  # type: ignore[attr-defined]
