"""Small synthetic observations and predictions over several years."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr


def make(
    sites: int = 2,
    start: str = "2011-11-03T05",
    hours: int = 22_000,
    gaps: float = 0.3,
    seed: int = 0,
) -> tuple[xr.Dataset, xr.DataArray]:
    """Return seasonal noise with quality flags, and a prediction; both have gaps of hours and weeks."""
    rng = np.random.default_rng(seed)
    time = pd.date_range(start, periods=hours, freq="h", unit="ns")
    season = np.cos(2 * np.pi * np.arange(hours) / 8766)
    coords = {
        "site": [f"XX-{number:03d}" for number in range(sites)],
        "time": time,
        "igbp": ("site", [("ENF", "GRA")[number % 2] for number in range(sites)]),
    }
    arrays = []
    for _ in range(2):
        values = rng.normal(3 * season, 5, (sites, hours))
        weeks = rng.random((sites, hours // 168 + 1)) < gaps / 2
        missing = np.repeat(weeks, 168, axis=1)[:, :hours] | (rng.random((sites, hours)) < gaps / 2)
        arrays.append(np.where(missing, np.nan, values))
    codes = rng.choice([-1, 0, 1, 2], p=[0.1, 0.6, 0.2, 0.1], size=(sites, hours)).astype("int8")
    dims = ("site", "time")
    ds = xr.Dataset({"NEE": (dims, arrays[0]), "NEE_QC": (dims, codes)}, coords)
    return ds, xr.DataArray(arrays[1], coords, dims, name="NEE")


def chunked(ds: xr.Dataset, **chunks: int) -> xr.Dataset:
    """Return the Dataset in chunks with coordinates in memory, as readers return it."""
    return ds.chunk(chunks).assign_coords(ds.coords)


def frame(ds: xr.Dataset, prediction: xr.DataArray, site: int, max_qc: int = 1) -> pd.DataFrame:
    """Return observations ``y`` and predictions ``x`` of one tower in the scored hours, by time."""
    y = ds["NEE"].where(ds["NEE_QC"] <= max_qc).isel(site=site).values
    table = pd.DataFrame({"y": y, "x": prediction.isel(site=site).values}, ds.indexes["time"])
    return table.dropna()


def means(table: pd.DataFrame, key: object, least: object) -> pd.DataFrame:
    """Return the means of groups that have enough rows."""
    groups = table.groupby(key)
    enough = groups.size() >= least if np.isscalar(least) else groups.size() >= least(groups.size().index)
    return groups.mean()[enough]
