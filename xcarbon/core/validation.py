"""Checks of Datasets and settings that raise an error of the package."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable
from numbers import Real

import numpy as np
import pandas as pd
import xarray as xr

from xcarbon.core.errors import (
    MetadataError,
    ModelError,
    OptionError,
    TimestampError,
    VariableError,
    XCarbonError,
)
from xcarbon.core.spelling import did_you_mean
from xcarbon.core.variables import IGBP_CLASSES, SATELLITE, VARIABLES

_HOUR, _QC = np.timedelta64(60, "m"), "_QC"
#: What opens the data of most functions.
OPENERS = "xcarbon.open_fluxnet for tower files, xcarbon.open_store for a store, or xcarbon.open_netcdf"
_LIMITS = {
    "ge": ("at least", operator.ge),
    "gt": ("greater than", operator.gt),
    "le": ("at most", operator.le),
    "lt": ("less than", operator.lt),
}


def check_range(
    owner: object,
    *names: str,
    optional: bool = False,
    error: type[XCarbonError] = ModelError,
    **limits: float,
) -> None:
    """Check that attributes are numbers within the limits ge, gt, le and lt, or None if ``optional``."""
    for name in names:
        value = getattr(owner, name)
        if optional and value is None:
            continue
        if not isinstance(value, Real) or not all(_LIMITS[key][1](value, limits[key]) for key in limits):
            allowed = " and ".join(f"{_LIMITS[key][0]} {limit}" for key, limit in limits.items())
            none = " or None" if optional else ""
            raise error(f"{name} must be {allowed}{none}, found {value!r}")


def check_dataset(value: object, name: str, opener: str) -> None:
    """Raise an OptionError unless an argument is a Dataset, for example if it is the path of a file."""
    if not isinstance(value, xr.Dataset):
        found = f"the path {str(value)!r}" if isinstance(value, str | os.PathLike) else type(value).__name__
        raise OptionError(f"{name} must be an xarray.Dataset, but it is {found}: use {opener}")


def check_hourly(time: xr.DataArray, where: str, *, in_file: bool = False) -> None:
    """Raise an error unless a time axis is hourly without gaps.

    Parameters
    ----------
    time : xarray.DataArray
        Time stamps, shape ``(time,)``.
    where : str
        Name of the data, for the message.
    in_file : bool
        Whether the axis is that of files, so that the advice is to correct these.

    Raises
    ------
    TimestampError
        If two time stamps are not an hour apart; the message names the data and the first such stamp.
    """
    check_stamps(time, where, in_file=in_file)
    check_no_half_hours(time, where)
    _check_steps(time, where, _HOUR, "hourly", in_file=in_file)


def check_no_half_hours(time: xr.DataArray, where: str) -> None:
    """Raise a TimestampError that names the data (``where``) if its time axis is half-hourly."""
    if is_half_hourly(time):
        first = int(np.flatnonzero(np.diff(time.values) == _HOUR / 2)[0])
        before, after = map(pd.Timestamp, time.values[first : first + 2])
        raise TimestampError(
            f"{where}: the values are half-hourly ({before} is followed by {after}), but hours are needed; "
            "ds.carbon.aggregate('HR') combines half-hours to clock hours"
        )


def steps_per_day(time: xr.DataArray, where: str, *, in_file: bool = False) -> int:
    """Return the number of time steps per day, 24 or 48; raise a TimestampError if the axis is another."""
    check_stamps(time, where, in_file=in_file)
    step = _HOUR / 2 if is_half_hourly(time) else _HOUR
    _check_steps(time, where, step, "hourly or half-hourly", in_file=in_file)
    return int(np.timedelta64(1, "D") / step)


def is_half_hourly(time: xr.DataArray) -> bool:
    """Return whether most time stamps (datetime64) are half an hour after the one before."""
    steps = np.diff(time.values) if time.dtype.kind == "M" else np.array([])
    return bool(steps.size and np.mean(steps == _HOUR / 2) > 0.5)


def _check_steps(time: xr.DataArray, where: str, step: np.timedelta64, kind: str, *, in_file: bool) -> None:
    """Raise a TimestampError at the first step of a time axis that has another length."""
    wrong = np.flatnonzero(np.diff(time.values) != step)
    if wrong.size:
        before, after = map(pd.Timestamp, time.values[wrong[0] : wrong[0] + 2])
        raise TimestampError(
            f"{where}: the time axis must be {kind} without gaps, but {before} is followed by {after}; "
            f"{_placed(_advice(np.diff(time.values), wrong[0], step), in_file)}"
        )


def _placed(advice: str, in_file: bool) -> str:
    """Add to advice on a Dataset how to apply it to files."""
    how = (
        "the hours of several files must neither overlap nor leave a gap; to correct a file, open it as "
        "ds = xarray.open_dataset(file) and write the result with ds.to_netcdf to a new one: "
    )
    return how + advice if in_file else advice


def _advice(steps: np.ndarray, wrong: int, step: np.timedelta64) -> str:
    """Return what to do about a time axis with these steps, of which the one at ``wrong`` is another."""
    usual = np.median(steps.astype("m8[s]").astype(np.int64)) / 3600
    if steps[wrong] == np.timedelta64(0):
        return "ds.drop_duplicates('time') keeps the first of equal stamps"
    if (steps < np.timedelta64(0)).any():
        return "ds.sortby('time') sorts the stamps"
    if usual > 1:
        return f"most steps are {usual:g} hours long, and hourly values cannot be made from them"
    if usual < step / _HOUR:
        return "ds.resample(time='1h').mean() combines means and rates, and .sum() combines amounts"
    return f"ds.resample(time='{'1h' if step == _HOUR else '30min'}').asfreq() fills gaps"


def check_stamps(time: xr.DataArray, where: str, *, in_file: bool = False) -> None:
    """Raise a TimestampError that names the data (``where``) unless its stamps are datetime64."""
    if time.dtype.kind != "M" or getattr(time.dtype, "tz", None) is not None:
        first = repr(time.to_index()[0]) if time.size else "nothing"
        advice = "ds.assign_coords(time=pd.to_datetime(...))"
        if getattr(time.dtype, "tz", None) is not None:
            advice = (
                "ds.assign_coords(time=ds.indexes['time'].tz_convert('Etc/GMT-1').tz_localize(None)), where "
                "Etc/GMT-1 is local standard time of UTC+1, without daylight saving"
            )
        raise TimestampError(
            f"{where}: time must be datetime64 without a time zone, but it is {time.dtype}, such as "
            f"{first}; {_placed(f'use {advice}', in_file)}"
        )


def check_igbp(igbp: object, site: str) -> str:
    """Return an IGBP class in capitals; raise a MetadataError if it is not one of the seventeen."""
    found = str(igbp).strip().upper()
    if found not in IGBP_CLASSES:
        raise MetadataError(f"{site}: unknown IGBP class {igbp!r}; the classes are {', '.join(IGBP_CLASSES)}")
    return found


def check_variables(ds: xr.Dataset, codes: tuple[str, ...], purpose: str) -> None:
    """Raise a VariableError if variables are absent from a Dataset; the purpose begins the message."""
    check_dataset(ds, f"the data for {purpose}", OPENERS)
    absent = [code for code in codes if code not in ds]
    if absent:
        have = [str(name) for name in ds.data_vars if name in VARIABLES]
        hint = suggestion(ds) or did_you_mean(absent, [str(name) for name in ds.data_vars])
        raise VariableError(f"{purpose} needs {absent}, but the Dataset only has {have}{hint}")


def suggestion(ds: xr.Dataset) -> str:
    """Return advice for an error if variables have CF attributes or names of FLUXNET, but none is a code."""
    has_codes = any(name in VARIABLES for name in ds.data_vars)
    is_cf = any({"standard_name", "units"} & array.attrs.keys() for array in ds.data_vars.values())
    is_fluxnet = any(name in known.columns for known in VARIABLES.values() for name in ds.data_vars)
    advice = "; ds.carbon.standardize() finds such variables, renames them by FLUXNET code and converts units"
    return advice if (is_cf or is_fluxnet) and not has_codes else ""


def check_numbers(array: xr.DataArray) -> None:
    """Raise a VariableError if the values of a variable are not numbers of NumPy, such as text."""
    if not isinstance(array.dtype, np.dtype) or array.dtype.kind not in "fiub":
        flags = "; quality flags are 0 for measured values" if str(array.name).endswith(_QC) else ""
        raise VariableError(
            f"{array.name} has values of the type {array.dtype}, but xcarbon needs numbers: use "
            f"ds[{array.name!r}].astype('float32'), or pd.to_numeric for a column with text{flags}"
        )


def check_units(ds: xr.Dataset, codes: Iterable[str]) -> None:
    """Raise an error if a variable or its quality flags have no numbers, or if ``units`` are others."""
    # With wrong units, all values would be out of bounds and count as missing.
    for code in codes:
        check_numbers(ds[code])
        if f"{code}{_QC}" in ds:
            check_numbers(ds[f"{code}{_QC}"])
        expected = (SATELLITE[code] if code in SATELLITE else VARIABLES[code]).units
        units = ds[code].attrs.get("units", expected)
        if units != expected:
            raise MetadataError(
                f"{code} has units {units!r}, but xcarbon needs {expected!r}: convert the values if they "
                f"differ, and set ds[{code!r}].attrs['units']; ds.carbon.standardize() converts hourly values"
            )
