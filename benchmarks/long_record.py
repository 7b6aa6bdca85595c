"""What it costs to fill and partition a record of twenty years of one tower.

The record is that of the real tower DE-Tha (1996 to 2014), repeated to twenty years. Each hour is divided
into two half-hours for sampling and partitioning. The unit is the processor time of all threads, which
depends less on other processes than the time that passes; filling by a model uses all cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import xarray as xr

import xcarbon
from benchmarks.common import STORE, has_store, report, size
from xcarbon.budget import gapfill, partition
from xcarbon.testing import synthetic_towers

YEARS = size(20, 0.2)


def record(per_hour: int) -> xr.Dataset:
    """Load the record, with as many time steps per hour, each of them a copy of the hour."""
    if has_store():
        ds = xcarbon.open_store(STORE).sel(site="DE-Tha", time=slice("1996", "2014")).load()
    else:
        ds = synthetic_towers(1, patches=False).isel(site=0).load()
    steps = int(YEARS * 8766) * per_hour
    hours = np.arange(steps) // per_hour % ds.sizes["time"]
    step = np.timedelta64(3600 // per_hour, "s")
    stamps = ds["time"].values[0] + step * np.arange(steps)
    return ds.isel(time=hours).assign_coords(time=stamps)


def used(job: Callable[[], object]) -> float:
    """Return the processor time [s] that a job uses."""
    start = time.process_time()
    job()
    return time.process_time() - start


class LongRecord:
    """Twenty years of one tower."""

    timeout = 3600

    def setup(self) -> None:
        """Load the records."""
        self.hours, self.half_hours = record(1), record(2)

    def track_filling_by_the_model(self) -> float:
        """Adapt the model of the package and fill the hours."""
        return used(lambda: gapfill(self.hours).load())

    def track_sampling(self) -> float:
        """Fill half-hours by marginal distribution sampling."""
        return used(lambda: gapfill(self.half_hours, model="mds").load())

    def track_nighttime(self) -> float:
        """Partition half-hours by the night method."""
        return used(lambda: partition(self.half_hours, method="nighttime").load())

    def track_daytime(self) -> float:
        """Partition half-hours by the day method."""
        return used(lambda: partition(self.half_hours, method="daytime").load())

    track_filling_by_the_model.unit = track_sampling.unit = "s of processor time"  # type: ignore[attr-defined]
    track_nighttime.unit = track_daytime.unit = "s of processor time"  # type: ignore[attr-defined]


if __name__ == "__main__":
    report(globals())
