"""Clock hours of half-hourly towers, half-hours of hourly series, and the hours of a record."""

from __future__ import annotations

from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core import conventions
from xcarbon.core.conventions import HALF_HOUR, HOUR, QC
from xcarbon.core.variables import VARIABLES, Variable
from xcarbon.prep.clock import Method, hours_touched, to_halves, to_hours
from xcarbon.prep.limits import plausible
from xcarbon.prep.periods import map_towers


def combining(variable: Variable) -> Method:
    """Return the method that combines two half-hours of a variable."""
    if variable.standard_name and variable.standard_name.endswith("standard_error"):
        return "error"
    return "direction" if variable.cyclic else variable.cell_method


def clock_hours(ds: xr.Dataset) -> xr.Dataset:
    """Combine the half-hours of each clock hour, lazily.

    The result has the variables of the vocabulary and their quality flags, and all that has no time. An hour
    is missing if one of its halves is missing, and has the worse flag of its halves.
    """
    first, half_past = ds["time"].values[0], _is_half_past(ds["time"])
    count = hours_touched(ds.sizes["time"], half_past=half_past)
    stamps = (first.astype("M8[h]") + np.arange(count) * HOUR).astype("M8[ns]")
    timeless = ds.drop_dims("time")
    found = {}
    for name, array in ds.data_vars.items():
        code = str(name).removesuffix(QC)
        if "time" not in array.dims or code not in VARIABLES:
            continue
        is_flag = str(name) != code
        how = "worst" if is_flag else combining(VARIABLES[code])
        bare = array.reset_coords(drop=True)
        hourly = map_towers(
            partial(to_hours, how=how, half_past=half_past),
            bare if is_flag else plausible(bare, code),
            sizes={"hour": count},
            dtype=array.dtype.type,
        ).rename(hour="time")
        if how == "sum":  # two plausible half-hours can be too much for an hour
            hourly = plausible(hourly, code)
        found[name] = hourly.assign_attrs(array.attrs)
    hours = xr.Dataset(found, {"time": stamps}).assign_coords(timeless.coords).assign(timeless.data_vars)
    return conventions.apply(hours.assign_attrs(ds.attrs), history="half-hours combined to clock hours")


def half_hours(series: xr.DataArray, time: xr.DataArray, *, sloping: bool = True) -> xr.DataArray:
    """Divide an hourly series ``(..., time)`` into the half-hours ``time``, lazily, with the same means."""
    kernel = partial(to_halves, halves=time.size, half_past=_is_half_past(time), sloping=sloping)
    divided = map_towers(kernel, series, sizes={"half": time.size}, dtype=series.dtype.type)
    divided = divided.rename(half="time").transpose(*series.dims)
    return divided.assign_coords(time=time).assign_attrs(series.attrs)


def in_record(has_value: xr.DataArray) -> xr.DataArray:
    """Return lazily which hours ``(..., time)`` are between the first and the last with a value."""
    return map_towers(_is_in_record, has_value, sizes={"time": has_value.sizes["time"]}, dtype=np.bool_)


def _is_in_record(has_value: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return whether hours ``(hours,)`` are between the first and the last with a value.

    Examples
    --------
    >>> _is_in_record(np.array([False, True, False, True, False]))
    array([False,  True,  True,  True, False])
    """
    return np.logical_or.accumulate(has_value) & np.logical_or.accumulate(has_value[::-1])[::-1]


def _is_half_past(time: xr.DataArray) -> bool:
    """Return whether the first half-hour starts at half past."""
    first = time.values[0]
    return bool(first - first.astype("M8[h]") >= HALF_HOUR)
