"""Time, place and identifiers of the towers or cells of a Dataset."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import cf_xarray  # noqa: F401 (registers ds.cf)
import numpy as np
import xarray as xr

from xcarbon.core import conventions
from xcarbon.core.errors import MetadataError, OptionError, TimestampError
from xcarbon.core.validation import check_hourly, check_igbp, check_stamps
from xcarbon.prep.standardize.names import ERA5_NAMES
from xcarbon.prep.statics import UNKNOWN
from xcarbon.prep.units import conversion

#: Coordinates of towers other than those that ``ds.cf`` finds, and the names that they have elsewhere.
TOWER_NAMES: dict[str, tuple[str, ...]] = {
    "elevation": ("elevation", "altitude"),
    "igbp": ("igbp", "IGBP", "IGBP_veg_short"),
    "site_name": ("site_name", "station_name"),
    "citation": ("citation",),
    "doi": ("doi",),
    "equal_halves": ("equal_halves",),
    "utc_offset": ("utc_offset",),
}
#: Global attributes that contain the identifier of the only tower of a file.
_SITE_ATTRS = ("site_code", "site_id", "station_id", "fluxnet_id")

#: Statement in the long name or the units of a time that it is in UTC.
_UTC = re.compile(r"UTC|GMT|\dZ$|[+-]0?0:?00$")
#: Names of coordinates of place in lower case, and what they are.
PLACES = {"lat": "latitude", "latitude": "latitude", "lon": "longitude", "longitude": "longitude"}


@dataclass(frozen=True, slots=True)
class Axes:
    """Names of the dims and coordinates of a Dataset; ``place`` is a site dim, (lat, lon), or nothing."""

    time: str
    place: tuple[str, ...]
    lat: str | None
    lon: str | None

    @property
    def is_grid(self) -> bool:
        """Whether the place is a cell of a grid."""
        return len(self.place) == 2


def unpack(ds: xr.Dataset) -> xr.Dataset:
    """Decode variables that are packed or have undecoded fill values."""
    keys = {"scale_factor", "add_offset", "_FillValue", "missing_value"}
    packed = [name for name, array in ds.data_vars.items() if keys & array.attrs.keys()]
    return ds.assign(xr.decode_cf(ds[packed], decode_times=False, decode_coords=False)) if packed else ds


def find_axes(ds: xr.Dataset) -> tuple[xr.Dataset, Axes]:
    """Find time and place, and remove all other dims of size 1."""
    ds = ds.set_coords([name for name, array in ds.data_vars.items() if _is_place(str(name), array)])
    time = _time_name(ds)
    ds = _as_dim(ds, time)
    lat, lon = (_place_name(ds, what) for what in ("latitude", "longitude"))
    site = _site_dim(ds, [ds[name].dims for name in (lat, lon) if name])
    cells = [name for name in (lat, lon) if name and not site and ds[name].ndim == 1]
    hourly = {dim for array in ds.data_vars.values() if time in array.dims for dim in array.dims}
    needed = {time, site, *(dim for name in cells for dim in ds[name].dims)}
    ds = ds.squeeze([dim for dim in hourly - needed if ds.sizes[dim] == 1])
    if cells:
        if not (lat and lon):
            raise MetadataError(f"a grid needs latitude and longitude, found {sorted(map(str, ds.coords))}")
        for axis in (lat, lon):
            ds = _as_dim(ds, axis) if axis in cells else ds.expand_dims(axis)
        return ds, Axes(time, (lat, lon), lat, lon)
    for name in (lat, lon):
        if name and ds[name].dims not in ((), (site,)):
            raise MetadataError(
                f"{name} has dims {ds[name].dims}, but xcarbon uses towers, whose coordinates have the dim "
                "of the towers, and regular grids, whose coordinates have one dim each; regrid the Dataset"
            )
    return ds, Axes(time, (site,) if site else (), lat, lon)


def _is_place(name: str, array: xr.DataArray) -> bool:
    """Return whether a variable is a coordinate of place or an identifier, also if it is a data variable."""
    kind = array.attrs.get("standard_name")
    return kind in ("latitude", "longitude") or "cf_role" in array.attrs or name.lower() in PLACES


def _time_name(ds: xr.Dataset) -> str:
    """Return the name of the only coordinate of time with one dim."""
    names = {*ds.cf.coordinates.get("time", ()), *ds.cf.axes.get("T", ()), *ds.coords}
    times = [str(name) for name in names if ds[name].dtype.kind == "M" and ds[name].ndim == 1]
    main = [name for name in times if name in ds.dims and name != "day"] or times
    if len(main) != 1:
        raise TimestampError(
            f"the Dataset needs one coordinate of decoded time stamps (datetime64), found {sorted(main)} "
            f"among {sorted(map(str, ds.coords))}; open files with decode_times=True, and convert other "
            'calendars with ds.convert_calendar("standard")'
        )
    return main[0]


def _place_name(ds: xr.Dataset, what: str) -> str | None:
    """Return the name of the coordinate of latitude or longitude."""
    names = [str(name) for name in ds.cf.coordinates.get(what, ())]
    names = names or [str(name) for name in ds.coords if PLACES.get(str(name).lower()) == what]
    names = [name for name in names if name in ds.dims] or names
    if len(names) > 1:
        raise MetadataError(f"there are several coordinates of {what}: {names}; drop all but one")
    return names[0] if names else None


def _site_dim(ds: xr.Dataset, place: list[tuple[Hashable, ...]]) -> str | None:
    """Return the dim along which towers lie; ``place`` are the dims of latitude and longitude."""
    roles = [ds[name].dims for name in ds.cf.cf_roles.get("timeseries_id", ())]
    shared = place[:1] if len(place) == 2 and place[0] == place[1] else []
    named = [(dim,) for dim in ("site", "station") if dim in ds.dims]
    return next((str(dims[0]) for dims in (*roles, *named, *shared) if len(dims) == 1), None)


def _as_dim(ds: xr.Dataset, name: str) -> xr.Dataset:
    """Return a Dataset in which a coordinate with one dim is the coordinate of that dim."""
    (dim,) = ds[name].dims
    return ds if dim == name else ds.swap_dims({dim: name})


def read_coordinates(
    ds: xr.Dataset, axes: Axes, found: dict[str, str], utc_offset: float | None
) -> tuple[dict[str, tuple[Any, Any]], str]:
    """Return the coordinates of the data model as pairs of dims and values, and how the time is read."""
    time = _hours(ds, axes.time)
    if axes.is_grid:
        if utc_offset is not None:
            raise OptionError("utc_offset is for towers; the time of grids is UTC, so leave it out")
        place = {
            name: ((name,), ds[axis].values) for name, axis in zip(("lat", "lon"), axes.place, strict=True)
        }
        place["lon"] = (("lon",), _wrap(place["lon"][1]))
        _check_clock(time)
        return {"time": (("time",), time), **place}, "UTC"
    coords = {"site": (("site",), _site_ids(ds, axes))}
    for name, known in TOWER_NAMES.items():
        if (values := _tower_values(ds, axes, name, known)) is not None:
            coords[name] = (("site",), values)
    for name, axis in (("lat", axes.lat), ("lon", axes.lon)):
        if axis:
            values = np.atleast_1d(ds[axis].values)
            coords[name] = (("site",), values if name == "lat" else _wrap(values))
    shift = _utc_shift(ds, axes, found, utc_offset, coords)
    if shift is not None:
        time = time + np.timedelta64(round(shift * 3600), "s")
    _check_clock(time)
    if utc_offset is not None:
        coords["utc_offset"] = (("site",), np.full(coords["site"][1].size, utc_offset, np.float32))
    clock = "taken as local standard time" if shift is None else f"UTC, shifted by {shift:g} hours"
    return {"time": (("time",), time), **coords}, clock


def _hours(ds: xr.Dataset, name: str) -> Any:
    """Return the start of each hour, from the bounds of the time if it has some."""
    where, time = str(ds.encoding.get("source", "the Dataset")), ds[name]
    check_stamps(time, where)
    start, bounds = time.values, bounds_name(ds, name)
    end = start + conventions.HOUR
    if bounds:
        start, end = ds[bounds].values.astype("M8[ns]").T
    steps = np.diff(start)
    if steps.size and (steps > np.timedelta64(0)).all() and np.median(steps) < conventions.HOUR:
        raise TimestampError(
            f"{where}: the time axis has steps of {np.median(steps).astype('m8[m]')}, but xcarbon uses "
            "hours; combine steps first, as in ds.resample(time='1h').mean() for means and rates, and with "
            ".sum() for amounts"
        )
    if (end - start != conventions.HOUR).any():
        raise TimestampError(f"{where}: the bounds {bounds!r} of time must enclose one hour each")
    check_hourly(time.copy(data=start), where)
    return start


def bounds_name(ds: xr.Dataset, time: str) -> str | None:
    """Return the name of the CF bounds of the time, if they exist."""
    name = ds[time].attrs.get("bounds", ds[time].encoding.get("bounds"))  # xarray may move it to the encoding
    return name if name in ds.variables else None


def _check_clock(time: Any) -> None:
    """Check that hours start at the full hour."""
    wrong = time[time != time.astype("M8[h]")]
    if wrong.size:
        raise TimestampError(
            f"the label {wrong[0].astype('M8[m]')} is not the start of a clock hour; labels in the middle of "
            "hours need CF bounds, or to be moved, as in "
            "ds.assign_coords(time=ds.time - np.timedelta64(30, 'm'))"
        )


def _utc_shift(
    ds: xr.Dataset, axes: Axes, found: dict[str, str], utc_offset: float | None, coords: Mapping[str, Any]
) -> float | None:
    """Return local standard time minus UTC [hours] if the time of towers is in UTC, else None."""
    if utc_offset is not None:
        return utc_offset
    time = ds[axes.time]
    texts = str(time.attrs.get("long_name", "")), str(time.encoding.get("units", ""))
    if not any(map(_UTC.search, texts)) and not ERA5_NAMES & set(found.values()):
        return None
    known = np.unique(coords["utc_offset"][1]) if "utc_offset" in coords else np.array([])
    if known.size == 1:
        return float(known[0])
    raise MetadataError(
        "the time of the towers is in UTC; pass local standard time minus UTC [hours], as in "
        f"ds.carbon.standardize(utc_offset=1), for one tower at a time if it differs (found {known.tolist()})"
    )


def _wrap(lon: Any) -> Any:
    """Convert longitudes [degrees_east] from 0..360 to -180..180."""
    return np.where(lon > 180, lon - 360, lon)


def _site_ids(ds: xr.Dataset, axes: Axes) -> Any:
    """Return the identifiers of the towers."""
    for name in (*ds.cf.cf_roles.get("timeseries_id", ()), *axes.place, "site", "station"):
        if name in ds.variables:
            return _text(ds[name].values)
    if axes.place:
        return np.arange(ds.sizes[axes.place[0]]).astype(str)
    return np.array([next((str(ds.attrs[key]) for key in _SITE_ATTRS if key in ds.attrs), "tower")])


def _text(values: Any) -> Any:
    """Return values as an array of text with one dim."""
    values = np.atleast_1d(values)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    return np.array([str(value).strip(" \0") for value in values])


def _tower_values(ds: xr.Dataset, axes: Axes, code: str, known: tuple[str, ...]) -> Any:
    """Return the values of a coordinate of towers, or None."""
    standard = {"elevation": ("surface_altitude", "altitude"), "site_name": ("platform_name",)}.get(code, ())
    by_name = ds.cf.standard_names
    names = [*known, *(name for wanted in standard for name in by_name.get(wanted, ()))]
    names = [name for name in names if name in ds.variables and ds[name].dims in ((), axes.place)]
    size = ds.sizes[axes.place[0]] if axes.place else 1
    if not names:
        text = ds.attrs.get(code) if code == "site_name" and size == 1 else None
        return np.array([str(text)]) if text else None
    array = ds[names[0]]
    if array.dtype.kind in "SUOT":
        values = np.broadcast_to(_text(array.values), size)
        return _classes(values, names[0]) if code == "igbp" else values
    if code == "igbp":
        return np.broadcast_to(_classes(_text(array.values), names[0]), size)
    if code == "elevation":
        factor, offset = conversion(str(array.attrs.get("units", "m")), code)
        return np.broadcast_to((factor * array.values + offset).astype("float32"), size)
    return np.broadcast_to(array.values, size)


def _classes(texts: Any, name: str) -> Any:
    """Return IGBP classes in capitals, "" where unknown; other texts and numbers are an error."""
    known = [str(text) for text in texts]
    return np.array(["" if text.upper() in UNKNOWN else check_igbp(text, name) for text in known])


def other_variables(ds: xr.Dataset, axes: Axes) -> xr.Dataset:
    """Return the variables of the data model that are not hourly series: patches and others by day."""
    names = [name for name in ds.data_vars if name == "release" or "day" in ds[name].dims]
    if not names or axes.is_grid:
        return xr.Dataset()
    kept = ds[names].drop_vars([name for name in ds[names].coords if {axes.time} & set(ds[name].dims)])
    site = [name for name in kept.coords if name in (*TOWER_NAMES, axes.lat, axes.lon, "site")]
    kept = kept.drop_vars(site)
    if axes.place:
        return kept.rename({axes.place[0]: "site"})
    centre = [name for name in ("patch_x", "patch_y") if name in kept.coords]
    return kept.reset_coords(centre).expand_dims("site").set_coords(centre)


def attribute_name(name: Hashable) -> str:
    """Return a name of an attribute that CF recommends: letters, digits and underscores."""
    return "".join(letter if letter.isalnum() else "_" for letter in str(name))
