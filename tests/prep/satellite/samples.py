"""Satellite series of towers."""

from __future__ import annotations

import numpy as np
import xarray as xr


def make(sites=("A", "B"), count=40, step=8, seed=0, start="2010-01-05", **attrs) -> xr.Dataset:
    """Make a series of LAI with gaps and flags."""
    generator = np.random.default_rng(seed)
    day = np.datetime64(start) + np.arange(count) * step
    values = generator.uniform(0, 6, (len(sites), count)).astype(np.float32)
    flags = generator.integers(-1, 3, values.shape).astype(np.int8)
    values = np.where(flags < 0, np.float32(np.nan), values)
    dims = ("site", "day")
    return xr.Dataset(
        {
            "LAI": (dims, values, {"composite_days": float(step), "units": "1"} | attrs),
            "LAI_QC": (dims, flags),
        },
        {"site": list(sites), "day": day.astype("datetime64[ns]")},
    )
