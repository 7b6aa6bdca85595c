"""Checks of Datasets and settings that raise an error of the package."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from numbers import Real

import numpy as np
import pandas as pd
import xarray as xr

from xcarbon.core.errors import MetadataError, ModelError, TimestampError, VariableError, XCarbonError
from xcarbon.core.variables import IGBP_CLASSES, VARIABLES

_LIMITS = {
    "at least": operator.ge,
    "greater than": operator.gt,
    "at most": operator.le,
    "less than": operator.lt,
}


def check_range(
    owner: object,
    *names: str,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    optional: bool = False,
    error: type[XCarbonError] = ModelError,
) -> None:
    """Check that attributes are numbers within limits.

    Parameters
    ----------
    owner : object
        Object with the attributes, usually a dataclass of settings.
    *names : str
        Names of the attributes.
    ge, gt, le, lt : float, optional
        Limits: greater than or equal to, greater than, less than or equal to, less than.
    optional : bool
        Whether None is allowed, too.
    error : type
        Class of the error.

    Raises
    ------
    XCarbonError
        If a value is not a number or beyond a limit; the message names the attribute and the limits.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> check_range(SimpleNamespace(dropout=1.5), "dropout", ge=0, lt=1)
    Traceback (most recent call last):
    ...
    xcarbon.core.errors.ModelError: dropout must be at least 0 and less than 1, found 1.5
    """
    limits = {what: limit for what, limit in zip(_LIMITS, (ge, gt, le, lt), strict=True) if limit is not None}
    for name in names:
        value = getattr(owner, name)
        if optional and value is None:
            continue
        if not isinstance(value, Real) or not all(_LIMITS[what](value, limits[what]) for what in limits):
            allowed = " and ".join(f"{what} {limit}" for what, limit in limits.items())
            none = " or None" if optional else ""
            raise error(f"{name} must be {allowed}{none}, found {value!r}")


def check_hourly(time: xr.DataArray, where: str) -> None:
    """Check that a time axis is hourly, sorted and without gaps.

    Parameters
    ----------
    time : xarray.DataArray
        Time stamps, dims ``(time,)``.
    where : str
        Name of the data for the error.

    Raises
    ------
    TimestampError
        If a time stamp is not one hour after the one before it; the message names the first of them.
    """
    steps = np.diff(time.values)
    wrong = np.flatnonzero(steps != np.timedelta64(1, "h"))
    if wrong.size:
        first = wrong[0]
        raise TimestampError(
            f"{where}: the time axis must be hourly without gaps, but {pd.Timestamp(time.values[first])} is "
            f"followed by {pd.Timestamp(time.values[first + 1])}; ds.resample(time='1h').asfreq() fills gaps"
        )


def check_igbp(igbp: str, site: str) -> str:
    """Return an IGBP class; raise a MetadataError if it is not one of the seventeen."""
    if igbp not in IGBP_CLASSES:
        raise MetadataError(f"{site}: unknown IGBP class {igbp!r}; the classes are {', '.join(IGBP_CLASSES)}")
    return igbp


def check_variables(ds: xr.Dataset, codes: tuple[str, ...], purpose: str) -> None:
    """Raise a VariableError if variables are absent from a Dataset; the purpose begins the message."""
    absent = [code for code in codes if code not in ds]
    if absent:
        have = [str(name) for name in ds.data_vars if name in VARIABLES]
        raise VariableError(f"{purpose} needs {absent}, but the Dataset only has {have}")


def check_units(ds: xr.Dataset, codes: Iterable[str]) -> None:
    """Raise a MetadataError if the attribute ``units`` of a variable is not that of the vocabulary.

    With wrong units, all values would be out of bounds and count as missing. Variables without units pass.
    """
    for code in codes:
        units = ds[code].attrs.get("units", VARIABLES[code].units)
        if units != VARIABLES[code].units:
            raise MetadataError(
                f"{code} has units {units!r}, but xcarbon needs {VARIABLES[code].units!r}: convert the "
                f"values if they differ, and set ds[{code!r}].attrs['units']"
            )
