"""Synthetic files of ERA5."""

from __future__ import annotations

import numpy as np
import xarray as xr


def make(start="2022-07-01T00", hours=30, lat=(48.5, 48.25, 48.0), lon=(8.0, 8.25), **fields) -> xr.Dataset:
    """Create a source on the axes of the old Climate Data Store; fields are (time,) or on all axes."""
    time = np.datetime64(start, "h") + np.arange(hours)
    shape = (hours, len(lat), len(lon))
    arrays = {}
    for name, values in fields.items():
        values = np.asarray(values, "float64")
        values = values.reshape(*values.shape, *[1] * (3 - values.ndim))
        arrays[name] = (("time", "latitude", "longitude"), np.broadcast_to(values, shape).copy())
    coords = {"time": time.astype("M8[ns]"), "latitude": np.array(lat), "longitude": np.array(lon)}
    return xr.Dataset(arrays, coords)


def everything(hours=30, **axes) -> xr.Dataset:
    """Create a source with all fields, with plausible values that differ between cells."""
    rng = np.random.default_rng(3)
    shape = (hours, len(axes.get("lat", "abc")), len(axes.get("lon", "ab")))
    t2m = rng.uniform(275, 300, shape)
    return make(
        hours=hours,
        t2m=t2m,
        d2m=t2m - rng.uniform(0, 10, shape),
        sp=rng.uniform(9e4, 1e5, shape),
        tp=rng.uniform(0, 2e-3, shape),
        ssrd=rng.uniform(0, 3e6, shape),
        strd=rng.uniform(8e5, 1.4e6, shape),
        u10=rng.normal(0, 4, shape),
        v10=rng.normal(0, 4, shape),
        **axes,
    )


def assert_same(found: xr.Dataset, expected: xr.Dataset) -> None:
    xr.testing.assert_equal(found.drop_attrs().compute(), expected.drop_attrs().compute())


def weather(days=4, start="2022-12-01T00", seed=3, **axes) -> xr.Dataset:
    """Create sums over the hour: showers, sun and infrared radiation."""
    rng = np.random.default_rng(seed)
    hours = 24 * days + 1
    shape = (hours, len(axes.get("lat", "abc")), len(axes.get("lon", "ab")))
    clock = (np.datetime64(start, "h") + np.arange(hours)).astype("int64") % 24
    sun = np.maximum(np.sin((clock - 6.5) / 24 * 2 * np.pi), 0)[:, None, None] * rng.uniform(0.3, 1, shape)
    rain = rng.gamma(0.5, 4e-4, shape) * (rng.random(shape) < 0.5)
    strd = rng.uniform(0.9e6, 1.1e6, shape)
    return make(start, hours, tp=rain, ssrd=2.4e6 * sun, strd=strd, **axes)
