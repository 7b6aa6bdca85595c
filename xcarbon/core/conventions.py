"""CF attributes, time bounds and encodings of the data model.

The functions change attributes, encodings and coordinates only. They compute no values of Dask-backed
Datasets.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from xcarbon.core.validation import check_units, is_half_hourly
from xcarbon.core.variables import (
    IGBP_CLASSES,
    MDS,
    REFLECTANCE_BANDS,
    SATELLITE,
    SATELLITE_QUALITY,
    TIME_FEATURES,
    VARIABLES,
    QualityScheme,
)

CONVENTIONS = "CF-1.11"
QC = "_QC"
#: Suffix of the length of each composite [days], where composites of several lengths make one series.
LENGTH = "_DAYS"
HOUR, HALF_HOUR = np.timedelta64(1, "h"), np.timedelta64(30, "m")
#: Value of a missing integer, in quality flags and in snow and water flags.
MISSING_FLAG = np.int8(-1)
TIME_UNITS = "hours since 1970-01-01 00:00:00"
HALF_HOUR_UNITS = "minutes since 1970-01-01 00:00:00"
DAY_UNITS = "days since 1970-01-01"
#: Packing of surface reflectance: int16 times 0.0001, as in the MODIS products. The factor has single
#: precision so that unpacked values have single precision.
REFLECTANCE_ENCODING = {
    "dtype": "int16",
    "scale_factor": np.float32(1e-4),
    "_FillValue": np.int16(-32768),
}

#: Comment of the quality flags of hours.
_WORSE_HALF = "the larger (worse) flag of the two half-hours if the source is half-hourly"

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
        "comment": "values near 1 indicate that hourly data was submitted as half-hourly data",
    },
    "site_name": {"standard_name": "platform_name", "long_name": "name of the tower"},
    "citation": {"long_name": "citation that the tower's team requests"},
    "doi": {"long_name": "digital object identifier of the tower's data"},
    "time": {
        "standard_name": "time",
        "long_name": "start of the averaging hour in the local standard time of each tower",
        "axis": "T",
        "bounds": "time_bnds",
        "comment": "without daylight saving time; UTC is this time minus utc_offset",
        "units_metadata": "leap_seconds: none",
    },
    "day": {
        "standard_name": "time",
        "long_name": "day of the satellite patch, or day at the centre of the composite of a series",
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

_PLACE = ("lat", "lon")
#: Attributes of coordinates where values belong to cells of a grid instead of towers.
_GRID_COORDINATES: dict[str, dict[str, str]] = {
    "lat": {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north", "axis": "Y"},
    "lon": {"standard_name": "longitude", "long_name": "longitude", "units": "degrees_east", "axis": "X"},
    "utc_offset": {
        "long_name": "mean solar time minus UTC",
        "units": "hours",
        "comment": "longitude divided by 15, without the equation of time",
    },
    "time": {
        "standard_name": "time",
        "long_name": "start of the averaging hour in UTC",
        "axis": "T",
        "bounds": "time_bnds",
        "units_metadata": "leap_seconds: none",
    },
}
#: Attributes of the time features on a grid, where they are computed from mean solar time.
_SOLAR = {
    "cell_methods": "time: point",
    "comment": "value at the start of the hour in mean solar time, which is UTC plus lon / 15 hours",
}

#: Axes that the patches of all towers share. They are distances from the centre of a patch; the coordinates
#: of the centre in the projection are ``patch_x`` and ``patch_y``.
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
    """Return the CF attributes of a variable.

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
    """Return the CF attributes of a variable's quality flags."""
    return {
        "long_name": f"quality of {VARIABLES[code].long_name}",
        "standard_name": "quality_flag",
        "flag_values": np.array([MISSING_FLAG, *scheme.flag_values], "int8"),
        "flag_meanings": " ".join(["missing", *scheme.flag_meanings]),
        "comment": _WORSE_HALF,
    }


def satellite_attrs(code: str) -> dict[str, str]:
    """Return the CF attributes of a satellite series.

    Parameters
    ----------
    code : str
        A code of :data:`xcarbon.core.variables.SATELLITE`.

    Returns
    -------
    dict
        ``long_name``, ``units`` and, where they exist, ``standard_name`` and ``units_metadata``.

    Examples
    --------
    >>> satellite_attrs("LST_DAY")["units"]
    'degC'
    """
    variable = SATELLITE[code]
    attrs = {"long_name": variable.long_name, "units": variable.units}
    if variable.standard_name:
        attrs["standard_name"] = variable.standard_name
    if variable.units == "degC":
        attrs["units_metadata"] = "temperature: on_scale"
    return attrs


def satellite_quality_attrs(code: str) -> dict[str, Any]:
    """Return the CF attributes of the quality flags of a satellite series."""
    return {
        "long_name": f"quality of {SATELLITE[code].long_name}",
        "standard_name": "quality_flag",
        "flag_values": np.array([MISSING_FLAG, *SATELLITE_QUALITY.flag_values], "int8"),
        "flag_meanings": " ".join(["missing", *SATELLITE_QUALITY.flag_meanings]),
    }


def release_attrs(releases: Sequence[str]) -> dict[str, Any]:
    """Return the CF attributes of the flags that mark the release of each value."""
    return {
        "long_name": "release that the value comes from",
        "flag_values": np.arange(-1, len(releases), dtype="int8"),
        "flag_meanings": " ".join(["missing", *releases]),
        "comment": "the release with the lowest quality flag, or the newest of those with equal flags",
    }


def is_grid(ds: xr.Dataset | xr.DataArray) -> bool:
    """Return whether values belong to the cells of a grid with the dimensions ``lat`` and ``lon``."""
    return {"lat", "lon"} <= set(ds.dims) and "site" not in ds.dims


def is_utc(ds: xr.Dataset | xr.DataArray) -> bool:
    """Return whether ``time`` is in UTC, as on grids and if its ``long_name`` states it; else it is local."""
    place = {dim for name in _PLACE if name in ds.coords for dim in ds[name].dims}
    place |= set(_PLACE) & set(ds.dims)
    return bool(place - {"site", "time"}) or "UTC" in str(ds["time"].attrs.get("long_name", ""))


def time_step(ds: xr.Dataset) -> np.timedelta64:
    """Return half an hour if the stamps or else the bounds of a Dataset are so far apart; else an hour."""
    if is_half_hourly(ds["time"]):
        return HALF_HOUR
    bounds = ds.coords.get("time_bnds")
    if bounds is None or bounds.dims != ("time", "bnds") or bounds.chunks or bounds.dtype.kind != "M":
        return HOUR
    return HALF_HOUR if (np.diff(bounds.values) == HALF_HOUR).any() else HOUR


def time_bounds(time: xr.DataArray, step: np.timedelta64 = HOUR) -> xr.DataArray:
    """Compute the start and the end of each time step.

    Parameters
    ----------
    time : xarray.DataArray
        Labels at the start of the time step, dims ``(time,)``.
    step : numpy.timedelta64
        Length of the time step, an hour by default.

    Returns
    -------
    xarray.DataArray
        Start and end, dims ``(time, bnds)``.

    Examples
    --------
    >>> time = xr.DataArray(np.array(["2010-01-01T05"], "datetime64[h]"), dims="time")
    >>> time_bounds(time).values.astype("datetime64[h]").astype(str).tolist()
    [['2010-01-01T05', '2010-01-01T06']]
    """
    start = time.values
    return xr.DataArray(np.stack([start, start + step], axis=1), dims=("time", "bnds"))


def apply(ds: xr.Dataset, *, history: str | None = None, **root: str) -> xr.Dataset:
    """Attach CF attributes, time bounds and encodings to a Dataset of the data model.

    Parameters
    ----------
    ds : xarray.Dataset
        Any of: variables named by code on ``(site, time)`` or on a grid of ``time``, ``lat`` and ``lon``;
        quality flags named ``<code>_QC``; satellite series and their flags on ``(site, day)``; patches on
        ``(site, day, band, y, x)``. ``time`` is the local standard time of towers, and UTC on grids.
    history : str, optional
        Line for the ``history`` attribute; the current time in UTC is written before it.
    **root : str
        Global attributes for a Dataset that does not have them, for example ``license`` or ``references``.

    Returns
    -------
    xarray.Dataset
        A new Dataset with the same (lazy) values. Existing attributes of variables are kept, for example a
        source column, a more detailed ``long_name`` or the flag meanings of a quality scheme.

    Raises
    ------
    MetadataError
        If the ``units`` of a variable differ from those of the vocabulary.

    Examples
    --------
    >>> ds = xr.Dataset({"TA": ("time", [20.0])}, {"time": np.array(["2010-06-01T12"], "datetime64[ns]")})
    >>> described = apply(ds)
    >>> described["TA"].attrs["units"], described["time"].attrs["bounds"]
    ('degC', 'time_bnds')
    """
    ds = ds.set_coords([name for name in ("time_bnds", "spatial_ref") if name in ds])
    step = time_step(ds) if "time" in ds.indexes else HOUR
    if "time" in ds.indexes:
        ds = ds.assign_coords(time_bnds=time_bounds(ds["time"], step))
    in_utc = "time" in ds.coords and is_utc(ds)  # once for all variables, because it takes some time
    for name in [*ds.data_vars, *ds.coords]:
        _describe(ds, name, in_utc)
    if step == HALF_HOUR:
        _describe_half_hours(ds)
    kind = {} if is_grid(ds) else {"featureType": "timeSeries"}
    ds.attrs = {"Conventions": CONVENTIONS, **kind, **root, **ds.attrs}
    ds.attrs["Conventions"] = CONVENTIONS
    return log(ds, history) if history else ds


def _describe(ds: xr.Dataset, name: Hashable, in_utc: bool) -> None:
    """Set the attributes and the encoding of one variable of ``ds`` in place."""
    array, key, on_grid = ds[name], str(name), is_grid(ds)
    _set_attrs(ds, array, on_grid=on_grid, in_utc=in_utc)
    _set_encoding(array, on_grid=on_grid)
    if key in _PATCHES and "spatial_ref" in ds.coords:
        # rioxarray reads it from the encoding, too, and xarray then leaves it out of "coordinates".
        array.attrs.pop("grid_mapping", None)
        array.encoding["grid_mapping"] = "spatial_ref"


def _set_attrs(ds: xr.Dataset, array: xr.DataArray, *, on_grid: bool, in_utc: bool) -> None:
    """Set the CF attributes of a variable of ``ds``, which depend on its name."""
    key = str(array.name)
    base = key.removesuffix(QC)
    if key in VARIABLES:
        check_units(ds, (key,))
        solar = _SOLAR if on_grid and key in TIME_FEATURES else {}
        array.attrs = variable_attrs(key) | array.attrs | solar
        _link_ancillary(ds, array)
    elif key.endswith(QC) and base in VARIABLES:
        array.attrs = quality_attrs(base) | array.attrs
        _complete_flags(array)
    elif key in SATELLITE:
        check_units(ds, (key,))
        array.attrs = satellite_attrs(key) | array.attrs
        _link_ancillary(ds, array)
    elif key.endswith(QC) and base in SATELLITE:
        array.attrs = satellite_quality_attrs(base) | array.attrs
        _complete_flags(array)
    elif key.removesuffix(LENGTH) in SATELLITE:
        series = SATELLITE[key.removesuffix(LENGTH)].long_name
        array.attrs = {"long_name": f"length of the composite of {series}", "units": "days"} | array.attrs
    elif key in _SHARED_AXES and "patch_x" in ds.coords:
        array.attrs = dict(_SHARED_AXES[key])
    elif (on_grid or in_utc) and key in _GRID_COORDINATES:
        array.attrs |= _GRID_COORDINATES[key]
        if key in _PLACE and key not in ds.dims:
            del array.attrs["axis"]
    elif key in _COORDINATES:
        array.attrs |= _COORDINATES[key]
    elif key in _PATCHES:
        array.attrs |= _PATCHES[key]
    elif "flag_values" in array.attrs:
        _complete_flags(array)


def _set_encoding(array: xr.DataArray, *, on_grid: bool) -> None:
    """Set the encoding of a variable with which it is written to a file, which depends on its name."""
    key = str(array.name)
    array.encoding.pop("coordinates", None)  # xarray lists the coordinates anew in each file that it writes
    if key in ("time", "time_bnds"):
        array.encoding = {"units": TIME_UNITS, "calendar": "standard", "dtype": "int64"}
    elif key == "day":
        array.encoding = {"units": DAY_UNITS, "calendar": "standard", "dtype": "int32"}
    elif key in ("x", "y", "patch_x", "patch_y") or (on_grid and key in _PLACE):
        array.encoding = {"_FillValue": None}
    elif key == "reflectance":
        array.encoding = dict(REFLECTANCE_ENCODING)


def _describe_half_hours(ds: xr.Dataset) -> None:
    """Change the attributes and encodings that state hours, in place."""
    name = str(ds["time"].attrs.get("long_name", ""))
    ds["time"].attrs["long_name"] = name.replace("averaging hour", "averaging half-hour")
    for axis in ("time", "time_bnds"):
        ds[axis].encoding["units"] = HALF_HOUR_UNITS
    for key in [f"{code}{QC}" for code in VARIABLES if f"{code}{QC}" in ds]:
        if ds[key].attrs.get("comment") == _WORSE_HALF:
            del ds[key].attrs["comment"]


def _link_ancillary(ds: xr.Dataset, array: xr.DataArray) -> None:
    """Set ``ancillary_variables`` of ``array`` to those that are in ``ds``, flags included, in place."""
    names = str(array.attrs.pop("ancillary_variables", "")).split()
    names += [f"{array.name}{suffix}" for suffix in (QC, LENGTH)]
    there = [name for name in dict.fromkeys(names) if name in ds]
    if there:
        array.attrs["ancillary_variables"] = " ".join(there)


def _complete_flags(array: xr.DataArray) -> None:
    """Set the data type of ``flag_values``, and add the missing flag if it is not there, in place."""
    values = np.atleast_1d(array.attrs["flag_values"])
    if MISSING_FLAG not in values:
        values = np.array([MISSING_FLAG, *values])
        array.attrs["flag_meanings"] = f"missing {array.attrs['flag_meanings']}"
    array.attrs["flag_values"] = values.astype(array.dtype)


def log(ds: xr.Dataset, line: str) -> xr.Dataset:
    """Return ``ds`` with one more line in its ``history``, which begins with the current time in UTC."""
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return ds.assign_attrs(history="\n".join(filter(None, [ds.attrs.get("history"), f"{now} {line}"])))
