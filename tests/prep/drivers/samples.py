"""Towers and reanalysis with a known bias."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xcarbon.prep.drivers.adjustment import RULES

GAP = slice(3000, 4000)

IN_GAP = (np.arange(8760) >= GAP.start) & (np.arange(8760) < GAP.stop)


def in_utc(towers: xr.Dataset, **fields: xr.DataArray) -> xr.Dataset:
    """Make series of reanalysis on (time, site) in UTC from arrays on the clocks of towers."""
    series = []
    for site in towers["site"].values:
        one = towers.sel(site=site)
        time = one["time"].values - np.timedelta64(round(float(one["utc_offset"]) * 60), "m")
        arrays = {code: ("time", field.sel(site=site).values) for code, field in fields.items()}
        series.append(xr.Dataset(arrays, {"time": time}).expand_dims(site=[site]))
    return xr.concat(series, "site", join="outer")


def biased(truth: xr.Dataset) -> xr.Dataset:
    """Make reanalysis that has another bias for each rule."""
    lines = {"TA": 3.0, "PA": 5.0, "LW_IN": -20.0, "VPD": -1.0, "RH": 4.0}
    return in_utc(truth, **{code: truth[code] / 1.25 + lines.get(code, 0) for code in RULES})
