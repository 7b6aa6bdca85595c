"""CF conventions of the data model: write the attributes, and check the structure they describe.

Nothing here computes or changes a value: all functions act on attributes, encodings and coordinates,
so they are free on Dask-backed Datasets.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from xcarbon.core.validation import check_units
from xcarbon.core.variables import (
    IGBP_CLASSES,
    MDS,
    REFLECTANCE_BANDS,
    TIME_FEATURES,
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
    "equal_halves": {
        "long_name": "share of hours whose two measured half-hours are exactly equal",
        "units": "1",
        "comment": "near 1 where hourly data was handed in as half-hourly",
    },
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
    "code": {"long_name": "FLUXNET base code of the variable"},
    "x": {
        "standard_name": "projection_x_coordinate",
        "long_name": "easting of the pixel centre on the grid",
        "units": "m",
        "axis": "X",
    },
    "y": {
        "standard_name": "projection_y_coordinate",
        "long_name": "northing of the pixel centre on the grid",
        "units": "m",
        "axis": "Y",
    },
    "patch_x": {
        "standard_name": "projection_x_coordinate",
        "long_name": "easting of the patch's centre, the grid corner nearest the tower",
        "units": "m",
    },
    "patch_y": {
        "standard_name": "projection_y_coordinate",
        "long_name": "northing of the patch's centre, the grid corner nearest the tower",
        "units": "m",
    },
    "spatial_ref": {"long_name": "grid of the satellite product"},
}

#: Coordinates that tell where a value belongs.
_PLACE = ("lat", "lon")
#: What differs where values are on the cells of a grid instead of at towers.
_GRID_COORDINATES: dict[str, dict[str, str]] = {
    "lat": {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north", "axis": "Y"},
    "lon": {"standard_name": "longitude", "long_name": "longitude", "units": "degrees_east", "axis": "X"},
    "utc_offset": {
        "long_name": "mean solar time minus UTC",
        "units": "hours",
        "comment": "lon / 15, without the equation of time",
    },
    "time": {
        "standard_name": "time",
        "long_name": "start of the averaging hour in UTC",
        "axis": "T",
        "bounds": "time_bnds",
        "units_metadata": "leap_seconds: none",
    },
}
_SOLAR = {
    "cell_methods": "time: point",
    "comment": "at the start of the hour in mean solar time, UTC plus lon / 15 hours",
}

#: Axes that the patches of all towers share. They are no coordinates of the projection, those of the
#: patch's centre are.
_SHARED_AXES: dict[str, dict[str, str]] = {
    "x": {
        "long_name": "distance east of the patch's centre, the grid corner nearest the tower",
        "units": "m",
    },
    "y": {
        "long_name": "distance north of the patch's centre, the grid corner nearest the tower",
        "units": "m",
    },
}

_PATCHES: dict[str, dict[str, Any]] = {
    "reflectance": {
        "standard_name": "surface_bidirectional_reflectance",
        "long_name": "surface reflectance around the tower",
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
        A code of :data:`xcarbon.core.variables.VARIABLES`.

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


def release_attrs(releases: Sequence[str]) -> dict[str, Any]:
    """Give the CF attributes of the flags that tell which release an hour of a variable is from."""
    return {
        "long_name": "release that the value comes from",
        "flag_values": np.arange(-1, len(releases), dtype="int8"),
        "flag_meanings": " ".join(["missing", *releases]),
        "comment": "of several releases the lower quality code counts, of equals the newer release",
    }


def is_grid(ds: xr.Dataset | xr.DataArray) -> bool:
    """Tell whether values are on the cells of a grid of ``lat`` and ``lon``."""
    return {"lat", "lon"} <= set(ds.dims) and "site" not in ds.dims


def is_utc(ds: xr.Dataset | xr.DataArray) -> bool:
    """Tell whether ``time`` is in UTC, as on grids and where it says so; else it is local standard time."""
    place = {dim for name in _PLACE if name in ds.coords for dim in ds[name].dims}
    place |= set(_PLACE) & set(ds.dims)
    return bool(place - {"site", "time"}) or "UTC" in str(ds["time"].attrs.get("long_name", ""))


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
        Variables named by code on ``(site, time)`` or on a grid of ``time``, ``lat`` and ``lon``, codes of
        quality as ``<code>_QC``, patches on ``(site, day, band, y, x)``; any subset.
    history : str, optional
        One line for the ``history`` attribute; the time is put before it.
    **root : str
        Root attributes to set where the Dataset has none, for example ``license`` or ``references``.

    Returns
    -------
    xarray.Dataset
        A new Dataset with the same (lazy) values. Attributes of variables that say more than the
        vocabulary (such as a source column, or the flag meanings of a quality scheme) are kept. Of towers
        ``time`` is local standard time, of grids UTC.

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
    kind = {} if is_grid(ds) else {"featureType": "timeSeries"}
    ds.attrs = {"Conventions": CONVENTIONS, **kind, **root, **ds.attrs}
    ds.attrs["Conventions"] = CONVENTIONS
    return log(ds, history) if history else ds


def _describe(ds: xr.Dataset, name: Hashable) -> None:
    """Set the attributes and encoding of one variable of ``ds`` in place."""
    array, key = ds[name], str(name)
    base, on_grid = key.removesuffix(QC), is_grid(ds)
    if key in VARIABLES:
        check_units(ds, (key,))
        solar = _SOLAR if on_grid and key in TIME_FEATURES else {}
        array.attrs = variable_attrs(key) | array.attrs | solar
        _link_ancillary(ds, array)
    elif key.endswith(QC) and base in VARIABLES:
        array.attrs = quality_attrs(base) | array.attrs
        _complete_flags(array)
    elif key == "release" and "flag_values" in array.attrs:
        _complete_flags(array)
    elif key in _SHARED_AXES and "patch_x" in ds.coords:
        array.attrs = dict(_SHARED_AXES[key])
    elif on_grid and key in _GRID_COORDINATES:
        array.attrs |= _GRID_COORDINATES[key]
    elif key in _COORDINATES:
        array.attrs |= _COORDINATES[key]
    elif key in _PATCHES:
        array.attrs |= _PATCHES[key]
    array.encoding.pop("coordinates", None)  # of the file it comes from; xarray finds those of the next
    if key in ("time", "time_bnds"):
        array.encoding = {"units": TIME_UNITS, "calendar": "standard", "dtype": "int64"}
    elif key == "day":
        array.encoding = {"units": DAY_UNITS, "calendar": "standard", "dtype": "int32"}
    elif key in ("x", "y", "patch_x", "patch_y") or (on_grid and key in _PLACE):
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
