"""CF conventions of the data model: write the attributes, and check the structure they describe.

Nothing here computes or changes a value: all functions act on attributes, encodings and coordinates,
so they are free on Dask-backed Datasets.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xcarbon.errors import MetadataError, TimestampError, VariableError
from xcarbon.variables import (
    IGBP_CLASSES,
    MDS,
    REFLECTANCE_BANDS,
    VARIABLES,
    QualityScheme,
)

CONVENTIONS = "CF-1.11"
QC = "_QC"
HOUR = np.timedelta64(1, "h")
#: Value of a missing integer: quality codes, snow and water flags.
MISSING_FLAG = np.int8(-1)
TIME_UNITS = "hours since 1970-01-01 00:00:00"
DAY_UNITS = "days since 1970-01-01"
#: Packing of surface reflectance: int16 times 0.0001, as in the MODIS products. A factor of single
#: precision unpacks to single precision.
REFLECTANCE_ENCODING = {
    "dtype": "int16",
    "scale_factor": np.float32(1e-4),
    "_FillValue": np.int16(-32768),
}

_COORDINATES: dict[str, dict[str, str]] = {
    "site": {"cf_role": "timeseries_id", "long_name": "tower identifier"},
    "lat": {"standard_name": "latitude", "long_name": "latitude of the tower", "units": "degrees_north"},
    "lon": {"standard_name": "longitude", "long_name": "longitude of the tower", "units": "degrees_east"},
    "elevation": {
        "standard_name": "altitude",
        "long_name": "elevation of the tower above sea level",
        "units": "m",
        "positive": "up",
    },
    "igbp": {
        "long_name": "IGBP land cover class",
        "comment": "; ".join(f"{code}: {name}" for code, name in IGBP_CLASSES.items()),
    },
    "utc_offset": {"long_name": "local standard time minus UTC", "units": "hours"},
    "site_name": {"standard_name": "platform_name", "long_name": "name of the tower"},
    "citation": {"long_name": "how the tower's team asks to be cited"},
    "doi": {"long_name": "digital object identifier of the tower's data"},
    "time": {
        "standard_name": "time",
        "long_name": "start of the averaging hour in the local standard time of each tower",
        "axis": "T",
        "bounds": "time_bnds",
        "comment": "no daylight saving; subtract utc_offset hours for UTC",
        "units_metadata": "leap_seconds: none",
    },
    "day": {
        "standard_name": "time",
        "long_name": "day of the satellite patch",
        "units_metadata": "leap_seconds: none",
    },
    "band": {
        "long_name": "MODIS band",
        "comment": "; ".join(f"{band}: {low}-{high} nm" for band, (low, high) in REFLECTANCE_BANDS.items()),
    },
    "x": {
        "standard_name": "projection_x_coordinate",
        "long_name": "distance of the pixel centre east of the tower on the grid",
        "units": "m",
        "axis": "X",
    },
    "y": {
        "standard_name": "projection_y_coordinate",
        "long_name": "distance of the pixel centre north of the tower on the grid",
        "units": "m",
        "axis": "Y",
    },
    "spatial_ref": {"long_name": "grid of the satellite product"},
}

_PATCHES: dict[str, dict[str, Any]] = {
    "reflectance": {
        "standard_name": "surface_bidirectional_reflectance",
        "long_name": "nadir BRDF-adjusted surface reflectance around the tower",
        "units": "1",
    },
    "snow": {
        "long_name": "snow on the pixel",
        "flag_values": np.array([-1, 0, 1], "int8"),
        "flag_meanings": "missing no_snow snow",
    },
    "water": {
        "long_name": "water on the pixel",
        "flag_values": np.array([-1, 0, 1], "int8"),
        "flag_meanings": "missing land water",
    },
}


def variable_attrs(code: str) -> dict[str, str]:
    """Give the CF attributes of a variable.

    Parameters
    ----------
    code : str
        A code of :data:`xcarbon.variables.VARIABLES`.

    Returns
    -------
    dict
        ``long_name``, ``units``, ``cell_methods`` and, where they exist, ``standard_name`` and
        ``units_metadata``.

    Examples
    --------
    >>> variable_attrs("TA")["standard_name"]
    'air_temperature'
    """
    variable = VARIABLES[code]
    attrs = {
        "long_name": variable.long_name,
        "units": variable.units,
        "cell_methods": f"time: {variable.cell_method}",
    }
    if variable.standard_name:
        attrs["standard_name"] = variable.standard_name
    if variable.units == "degC":
        attrs["units_metadata"] = "temperature: on_scale"
    return attrs


def quality_attrs(code: str, scheme: QualityScheme = MDS) -> dict[str, Any]:
    """Give the CF attributes of a variable's quality codes."""
    return {
        "long_name": f"quality of {VARIABLES[code].long_name}",
        "standard_name": "quality_flag",
        "flag_values": np.array([MISSING_FLAG, *scheme.flag_values], "int8"),
        "flag_meanings": " ".join(["missing", *scheme.flag_meanings]),
        "comment": "the worse code of the two half-hours where the source is half-hourly",
    }


def time_bounds(time: xr.DataArray) -> xr.DataArray:
    """Return the start and end of each hour.

    Parameters
    ----------
    time : xarray.DataArray
        Hourly labels at the start of the hour, dims ``(time,)``.

    Returns
    -------
    xarray.DataArray
        Dims ``(time, bnds)``, with two bounds per hour.
    """
    start = time.values
    return xr.DataArray(np.stack([start, start + HOUR], axis=1), dims=("time", "bnds"))


def apply(ds: xr.Dataset, *, history: str | None = None, **root: str) -> xr.Dataset:
    """Attach CF attributes, time bounds and encodings to a Dataset of the data model.

    Parameters
    ----------
    ds : xarray.Dataset
        Variables named by code on ``(site, time)``, codes of quality as ``<code>_QC``, patches on
        ``(site, day, band, y, x)``; any subset.
    history : str, optional
        One line for the ``history`` attribute; the time is put before it.
    **root : str
        Root attributes to set where the Dataset has none, for example ``license`` or ``references``.

    Returns
    -------
    xarray.Dataset
        A new Dataset with the same (lazy) values. Attributes of variables that say more than the
        vocabulary (such as a source column, or the flag meanings of a quality scheme) are kept.

    Raises
    ------
    MetadataError
        If a variable says that it has other units than the vocabulary.
    """
    ds = ds.set_coords([name for name in ("time_bnds", "spatial_ref") if name in ds])
    if "time" in ds.indexes:
        ds = ds.assign_coords(time_bnds=time_bounds(ds["time"]))
    for name in [*ds.data_vars, *ds.coords]:
        _describe(ds, name)
    ds.attrs = {"Conventions": CONVENTIONS, "featureType": "timeSeries", **root, **ds.attrs}
    ds.attrs["Conventions"] = CONVENTIONS
    return log(ds, history) if history else ds


def _describe(ds: xr.Dataset, name: Hashable) -> None:
    """Set the attributes and encoding of one variable of ``ds`` in place."""
    array, key = ds[name], str(name)
    base = key.removesuffix(QC)
    if key in VARIABLES:
        check_units(ds, (key,))
        array.attrs = variable_attrs(key) | array.attrs
        _link_ancillary(ds, array)
    elif key.endswith(QC) and base in VARIABLES:
        array.attrs = quality_attrs(base) | array.attrs
        _complete_flags(array)
    elif key in _COORDINATES:
        array.attrs |= _COORDINATES[key]
    elif key in _PATCHES:
        array.attrs |= _PATCHES[key]
    array.encoding.pop("coordinates", None)  # of the file it comes from; xarray finds those of the next
    if key in ("time", "time_bnds"):
        array.encoding = {"units": TIME_UNITS, "calendar": "standard", "dtype": "int64"}
    elif key == "day":
        array.encoding = {"units": DAY_UNITS, "calendar": "standard", "dtype": "int32"}
    elif key in ("x", "y"):
        array.encoding = {"_FillValue": None}
    elif key == "reflectance":
        array.encoding = dict(REFLECTANCE_ENCODING)
    if key in _PATCHES and "spatial_ref" in ds.coords:
        # In the encoding, as rioxarray has it: xarray then keeps it out of "coordinates".
        array.attrs.pop("grid_mapping", None)
        array.encoding["grid_mapping"] = "spatial_ref"


def _link_ancillary(ds: xr.Dataset, array: xr.DataArray) -> None:
    """Name the variables that say more about ``array`` and are there, in place."""
    names = [*str(array.attrs.pop("ancillary_variables", "")).split(), f"{array.name}{QC}"]
    there = [name for name in dict.fromkeys(names) if name in ds]
    if there:
        array.attrs["ancillary_variables"] = " ".join(there)


def _complete_flags(array: xr.DataArray) -> None:
    """Give flags the type of ``array``, as CF asks, and the missing one its meaning, in place."""
    values = np.atleast_1d(array.attrs["flag_values"])
    if MISSING_FLAG not in values:
        values = np.array([MISSING_FLAG, *values])
        array.attrs["flag_meanings"] = f"missing {array.attrs['flag_meanings']}"
    array.attrs["flag_values"] = values.astype(array.dtype)


def log(ds: xr.Dataset, line: str) -> xr.Dataset:
    """Return ``ds`` with one more line, stamped with the time in UTC, in its ``history``."""
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return ds.assign_attrs(history="\n".join(filter(None, [ds.attrs.get("history"), f"{now} {line}"])))


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
    wrong = np.flatnonzero(steps != HOUR)
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
        units = ds[code].attrs.get("units", VARIABLES[code].units)
        if units != VARIABLES[code].units:
            raise MetadataError(
                f"{code} has units {units!r}, but xcarbon needs {VARIABLES[code].units!r}: convert the "
                f"values if they differ, and set ds[{code!r}].attrs['units']"
            )
