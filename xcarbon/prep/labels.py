"""Read the labels of a user's Dataset: time stamps, classes and places."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import xarray as xr

from xcarbon.core.errors import MetadataError, TimestampError
from xcarbon.core.validation import check_stamps
from xcarbon.core.variables import IGBP_CLASSES

#: Largest absolute values of coordinates, and what to do with larger ones.
_RANGES = {
    "utc_offset": (14, "it is local standard time minus UTC in hours"),
    "lat": (90, "latitudes are in degrees north"),
    "lon": (180, "longitudes are in degrees east from -180 to 180: use (ds['lon'] + 180) % 360 - 180"),
}
#: Calendars whose days are those of datetime64 since 1582.
_SAME_DAYS = ("standard", "gregorian", "proleptic_gregorian")


def read_labels(ds: xr.Dataset) -> xr.Dataset:
    """Return a Dataset with ``time`` as datetime64 and IGBP classes in capitals, and check its places.

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
        If ``time`` is not made of such stamps.
    MetadataError
        If ``lat``, ``lon`` or ``utc_offset`` is out of range.

    Examples
    --------
    >>> stamps = pd.date_range("2010-06-01", periods=3, freq="h", tz="Etc/GMT-1")
    >>> ds = xr.Dataset({"TA": ("time", [1.0, 2.0, 3.0])}, {"time": stamps, "utc_offset": 1.0})
    >>> str(read_labels(ds)["time"].values[0].astype("M8[h]"))
    '2010-06-01T00'
    """
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
