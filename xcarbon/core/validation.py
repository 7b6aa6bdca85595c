"""Checks of Datasets and settings that raise an error of the package."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import xarray as xr

from xcarbon.core.errors import MetadataError, TimestampError, VariableError
from xcarbon.core.variables import IGBP_CLASSES, SATELLITE, VARIABLES


def check_hourly(time: xr.DataArray, where: str) -> None:
    """Make sure that a time axis is hourly, sorted and without gaps.

    Parameters
    ----------
    time : xarray.DataArray
        Time stamps, dims ``(time,)``.
    where : str
        What to call the data in the error.

    Raises
    ------
    TimestampError
        Naming the first stamp that is not one hour after the one before it.
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
    """Return the IGBP class if it is one.

    Raises
    ------
    MetadataError
        If ``igbp`` is not among the seventeen classes.
    """
    if igbp not in IGBP_CLASSES:
        raise MetadataError(f"{site}: unknown IGBP class {igbp!r}; the classes are {', '.join(IGBP_CLASSES)}")
    return igbp


def check_variables(ds: xr.Dataset, codes: tuple[str, ...], purpose: str) -> None:
    """Make sure that a Dataset holds some variables.

    Raises
    ------
    VariableError
        Naming what is absent, what is there and what it is needed for.
    """
    absent = [code for code in codes if code not in ds]
    if absent:
        have = [str(name) for name in ds.data_vars if name in VARIABLES]
        raise VariableError(f"{purpose} needs {absent}, but the Dataset only has {have}")


def check_units(ds: xr.Dataset, codes: Iterable[str]) -> None:
    """Make sure that variables do not say that they have other units than the vocabulary.

    Raises
    ------
    MetadataError
        Naming the variable and both units. A wrong unit would otherwise put every value out of
        bounds and silently erase the variable. No units at all pass.
    """
    for code in codes:
        expected = (SATELLITE[code] if code in SATELLITE else VARIABLES[code]).units
        units = ds[code].attrs.get("units", expected)
        if units != expected:
            raise MetadataError(
                f"{code} has units {units!r}, but xcarbon needs {expected!r}: convert the "
                f"values if they differ, and set ds[{code!r}].attrs['units']"
            )
