"""Read the labels of a user's Dataset: time stamps, classes and places."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import xarray as xr

from xcarbon.core.errors import MetadataError, TimestampError
from xcarbon.core.validation import OPENERS, check_dataset, check_stamps
from xcarbon.core.variables import IGBP_CLASSES, VARIABLES

#: Largest absolute values of coordinates, and what to do with larger ones.
_RANGES = {
    "utc_offset": (14, "it is local standard time minus UTC in hours"),
    "lat": (90, "latitudes are in degrees north"),
    "lon": (180, "longitudes are in degrees east from -180 to 180: use (ds['lon'] + 180) % 360 - 180"),
}
#: Coordinates of towers and cells that models read.
_PLACE = ("lat", "lon", "elevation", "igbp", "utc_offset")
#: Other names of coordinates, and of the dim of towers, in lower case.
_OTHER_NAMES = {"latitude": "lat", "longitude": "lon"}
_TOWERS = ("sites", "site_id", "site_code", "station", "stations", "tower", "towers")
#: Calendars whose days are those of datetime64 since 1582.
_SAME_DAYS = ("standard", "gregorian", "proleptic_gregorian")


def read_labels(ds: xr.Dataset) -> xr.Dataset:
    """Return a Dataset with ``time`` as datetime64 and IGBP classes in capitals, and check its places.

    Latitude, longitude, elevation, class and UTC offset become coordinates if they are data variables.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers or a grid of the data model. ``time`` may be datetime64; Python, pandas or cftime stamps of the
        standard calendar; or stamps with a time zone whose offset from UTC is ``utc_offset`` at all towers.

    Returns
    -------
    xarray.Dataset
        ``ds`` itself if nothing has to be changed. Values are not computed, nor are lazy coordinates.

    Raises
    ------
    TimestampError
        If ``time`` is absent or not made of such stamps.
    MetadataError
        If ``lat``, ``lon`` or ``utc_offset`` is out of range or text, or if ``time``, ``lat``, ``lon`` or the
        dim of the towers has another name.

    Examples
    --------
    >>> stamps = pd.date_range("2010-06-01", periods=3, freq="h", tz="Etc/GMT-1")
    >>> ds = xr.Dataset({"TA": ("time", [1.0, 2.0, 3.0])}, {"time": stamps, "utc_offset": 1.0})
    >>> str(read_labels(ds)["time"].values[0].astype("M8[h]"))
    '2010-06-01T00'
    """
    check_dataset(ds, "the data", OPENERS)
    _check_names(ds)
    if places := [name for name in _PLACE if name in ds.data_vars and "time" not in ds[name].dims]:
        ds = ds.set_coords(places)
    for name in (*_RANGES, "elevation"):
        if name in ds.coords and ds[name].chunks is None and _is_text(ds[name].values):
            raise MetadataError(
                f"{_where(ds)}: {name} has values of the type {ds[name].dtype}, but xcarbon needs numbers: "
                f"ds.assign_coords({name}=ds[{name!r}].astype(float))"
            )
    for name, (largest, advice) in _RANGES.items():
        if name in ds.coords and ds[name].chunks is None and ds[name].dtype.kind in "fiu":
            values = np.atleast_1d(ds[name].values)
            wrong = values[np.abs(values) > largest]
            if wrong.size:
                raise MetadataError(
                    f"{_where(ds)}: {name} is {wrong[0]:g}, beyond -{largest} to {largest}; {advice}"
                )
    if "igbp" in ds.coords and ds["igbp"].chunks is None and ds["igbp"].dtype.kind in "OUT":
        ds = _capitalise(ds)
    if ("time" in ds.indexes and ds["time"].dtype.kind != "M") or _zone(ds) is not None:
        time = _read_stamps(ds)
        ds = ds.assign_coords(time=("time", time, ds["time"].attrs))
    return ds


def _check_names(ds: xr.Dataset) -> None:
    """Raise an error if time, place or the dim of the towers has another name than in the data model."""
    # A place with another name would be unknown, and towers along another dim would be cells in UTC.
    renamed = {
        str(name): known
        for name in ds.variables
        if (known := _OTHER_NAMES.get(str(name).lower())) and known not in ds.variables
    }
    if "time" not in ds.variables:
        stamps = [
            str(name) for name, index in ds.indexes.items() if index.dtype.kind == "M" and name != "day"
        ]
        renamed |= dict.fromkeys(stamps[:1], "time")
        is_hourly = any(name in VARIABLES for name in ds.data_vars)
        if is_hourly and not stamps and "time" not in ds.dims:
            raise TimestampError(
                f"{_where(ds)}: there is no time, only the dimensions {tuple(ds.sizes)}; name the dimension "
                "of the hours 'time' and give it stamps by ds.assign_coords(time=...)"
            )
    dim = _dim_of_towers(ds)
    if dim is not None and "site" in ds.variables:
        raise MetadataError(
            f"{_where(ds)}: the towers lie along {dim!r}, but xcarbon needs the dimension 'site'; use "
            f"ds.swap_dims({dim}='site')"
        )
    renamed |= {} if dim is None else {dim: "site"}
    if renamed:
        names = " and ".join(f"{known!r} is named {name!r}" for name, known in renamed.items())
        new = ", ".join(f"{name}={known!r}" for name, known in renamed.items())
        raise MetadataError(f"{_where(ds)}: {names}; use ds.rename({new})")


def _dim_of_towers(ds: xr.Dataset) -> str | None:
    """Return the dim along which towers lie, if it is not ``site``."""
    if "site" in ds.dims:
        return None
    named = [str(dim) for dim in ds.dims if str(dim).lower() in _TOWERS]
    lat, lon = (ds[name].dims if name in ds.variables else () for name in ("lat", "lon"))
    if not named and "utc_offset" in ds.variables and len(lat) == 1 and lat == lon != ("time",):
        named = [str(lat[0])]
    return named[0] if named else None


def _is_text(values: np.ndarray) -> bool:
    kind = values.dtype.kind
    return kind in "SUT" or (kind == "O" and any(isinstance(value, str) for value in values.flat))


def _where(ds: xr.Dataset) -> str:
    return str(ds.encoding.get("source", "the Dataset"))


def _capitalise(ds: xr.Dataset) -> xr.Dataset:
    """Return a Dataset with the classes that are valid in another letter case in capitals."""
    classes = ds["igbp"].values
    texts = [str(name).strip().upper() for name in classes.flat]
    changed = [text in IGBP_CLASSES and text != name for text, name in zip(texts, classes.flat, strict=True)]
    if not any(changed):
        return ds
    capitals = np.where(np.reshape(changed, classes.shape), np.reshape(texts, classes.shape), classes)
    return ds.assign_coords(igbp=ds["igbp"].copy(data=capitals))


def _zone(ds: xr.Dataset) -> dt.tzinfo | None:
    """Return the time zone of the index of time; None if it has none."""
    return getattr(ds.indexes.get("time"), "tz", None)


def _read_stamps(ds: xr.Dataset) -> np.ndarray:
    """Return the stamps of a Dataset as datetime64 in the clock of its towers."""
    index, where = ds.indexes["time"], _where(ds)
    if isinstance(index, xr.CFTimeIndex):
        if index.calendar not in _SAME_DAYS:
            raise TimestampError(
                f"{where}: time is in the calendar {index.calendar!r}, in which towers do not measure; use "
                "ds.convert_calendar('standard', align_on='date'), and fill the days that are missing"
            )
        return np.asarray(index.to_datetimeindex(time_unit="ns"))
    if not all(isinstance(stamp, dt.datetime) for stamp in index):
        check_stamps(ds["time"], where)
    offsets = {stamp.utcoffset() for stamp in index}
    if offsets == {None}:
        return np.asarray(pd.DatetimeIndex(index), "M8[ns]")
    stated = np.unique(ds["utc_offset"].values) if "utc_offset" in ds.coords else np.array([])
    hours = {None if offset is None else offset / dt.timedelta(hours=1) for offset in offsets}
    if len(hours) > 1 or stated.size != 1 or {float(stated[0])} != hours:
        found = ", ".join(sorted(f"{offset:+g} h" if offset is not None else "none" for offset in hours))
        raise TimestampError(
            f"{where}: stamps have a time zone with the offsets {found} from UTC, but utc_offset is "
            f"{stated.tolist() or 'absent'}. Time must be local standard time without daylight saving and "
            "without a zone: use pd.DatetimeIndex(time).tz_convert('UTC').tz_localize(None) plus utc_offset "
            "hours"
        )
    return np.array([stamp.replace(tzinfo=None) for stamp in index], "M8[ns]")
