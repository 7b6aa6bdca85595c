"""Turn CF Datasets from elsewhere into Datasets of the data model, lazily.

The module contains, in this order, the tables of names, the function, the search for variables, the
coordinates, the values, and humidity.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import cf_xarray  # noqa: F401 (registers ds.cf)
import numpy as np
import xarray as xr

from xcarbon.core import conventions
from xcarbon.core.conventions import MISSING_FLAG, QC
from xcarbon.core.errors import MetadataError, OptionError, TimestampError, VariableError
from xcarbon.core.validation import check_hourly
from xcarbon.core.variables import (
    HARMONISED,
    IGBP_CLASSES,
    TIME_FEATURES,
    VARIABLES,
    quality_column,
    quality_scheme,
    variable,
)
from xcarbon.prep.humidity import (
    relative_humidity,
    saturation_vapour_pressure,
    vapour_pressure,
    vapour_pressure_deficit,
)
from xcarbon.prep.units import conversion

# Names of variables

#: Quantities from which humidity is computed, and which are not in the result.
_AUXILIARY = ("dew_point", "specific_humidity")
#: Standard names that are accepted beside the one of the vocabulary.
_STANDARD_NAMES: dict[str, tuple[str, ...]] = {
    "PA": ("air_pressure",),
    "P": ("precipitation_flux", "precipitation_amount", "lwe_precipitation_rate"),
    "G": ("downward_heat_flux_at_ground_level_in_soil",),
    "dew_point": ("dew_point_temperature",),
    "specific_humidity": ("specific_humidity",),
}
#: Names of PLUMBER2 (Ukkola et al. 2022, doi:10.5194/essd-14-449-2022) and of its tool FluxnetLSM.
_PLUMBER2: dict[str, tuple[str, ...]] = {
    "TA": ("Tair",),
    "P": ("Precip", "Rainf"),
    "PA": ("Psurf", "PSurf"),
    "CO2": ("CO2air",),
    "SW_IN": ("SWdown",),
    "SW_OUT": ("SWup",),
    "LW_IN": ("LWdown",),
    "LW_OUT": ("LWup",),
    "NETRAD": ("Rnet",),
    "WS": ("Wind",),
    "USTAR": ("Ustar",),
    "H": ("Qh",),
    "LE": ("Qle",),
    "G": ("Qg",),
    "GPP_NT": ("GPP",),
    "specific_humidity": ("Qair",),
}
#: PLUMBER2 names that other Datasets use for something else; the attribute Fluxnet_name must confirm them.
_CONFIRMED = ("GPP", "Qg")
_ERA5: dict[str, tuple[str, ...]] = {
    "TA": ("t2m", "2m_temperature"),
    "P": ("tp", "total_precipitation", "mtpr", "avg_tprate"),
    "PA": ("sp", "surface_pressure"),
    "SW_IN": ("ssrd", "surface_solar_radiation_downwards", "msdwswrf", "avg_sdswrf"),
    "LW_IN": ("strd", "surface_thermal_radiation_downwards", "msdwlwrf", "avg_sdlwrf"),
    "WS": ("si10", "10m_wind_speed"),
    **{f"SWC_{depth}": (f"swvl{depth}", f"volumetric_soil_water_layer_{depth}") for depth in range(1, 5)},
    **{f"TS_{depth}": (f"stl{depth}", f"soil_temperature_level_{depth}") for depth in range(1, 5)},
    "dew_point": ("d2m", "2m_dewpoint_temperature"),
}
_ERA5_NAMES = {name for names in _ERA5.values() for name in names}
#: ERA5 variables that are sums or means of the hour that ends at the stamp.
_ENDING = {name for code in ("P", "SW_IN", "LW_IN") for name in _ERA5[code]}
#: Those that are sums, which begin at 00 UTC in ERA5-Land.
_SUMS = {name for code in ("P", "SW_IN", "LW_IN") for name in _ERA5[code][:2]}

#: Coordinates of towers other than those that ``ds.cf`` finds, and the names that they have elsewhere.
_TOWER_NAMES: dict[str, tuple[str, ...]] = {
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


@dataclass(frozen=True, slots=True)
class _Axes:
    """Names of the dims and coordinates of a Dataset; ``place`` is a site dim, (lat, lon), or nothing."""

    time: str
    place: tuple[str, ...]
    lat: str | None
    lon: str | None

    @property
    def is_grid(self) -> bool:
        return len(self.place) == 2


def standardize(
    ds: xr.Dataset, *, derive: bool = False, utc_offset: float | None = None, **choices: str | None
) -> xr.Dataset:
    """Find the variables of the vocabulary in a CF Dataset, rename them and convert their units, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Hourly towers on time and a dim with ``cf_role = "timeseries_id"`` or the name ``site`` or
        ``station``; one tower on time, also with further dims of size 1 (``x``, ``y``, ``z``); or cells of a
        regular grid on time, latitude and longitude. The time is decoded. A label is the start of its hour;
        if the time has CF bounds, they define the hour.
    derive : bool
        Whether to compute ``RH`` and ``VPD`` where they are absent, from the air temperature and the first
        that exists of: the dew point; the specific humidity and the pressure; the other one of the two.
    utc_offset : float, optional
        Local standard time minus UTC [hours] of towers whose time is in UTC; their labels are shifted to
        local standard time. Default: the time of towers is local standard time unless it states that it is
        UTC. The time of grids is UTC.
    **choices : str or None
        Name of the variable to use for a code, for ``dew_point`` or for ``specific_humidity``, as in
        ``TA="t2m"``; None leaves the code out.

    Returns
    -------
    xarray.Dataset
        Float32 variables on ``(site, time)``, or on ``(time, lat, lon)`` with longitudes from -180 to 180
        [degrees_east] in ascending order. The attribute ``source`` of each variable states what it was made
        of, and so do the global attributes ``history`` and ``standardization``. Quality flags named
        ``<name>_QC`` or ``<name>_qc`` with the meaning of FLUXNET (0 measured) are taken, too.
        Variables on ``day``, such as patches, are kept; other variables are left out. The values of
        coordinates are read; those of variables are not.

    Raises
    ------
    VariableError
        If no variable is found, if several variables have the same standard name, or if a choice does not
        exist.
    MetadataError
        If units are absent or cannot be converted, if the coordinates are not those of towers or of a
        regular grid, or if towers are in UTC and ``utc_offset`` is not given.
    TimestampError
        If the time axis is not decoded, not hourly, or not of clock hours in local standard time.
    OptionError
        If ``utc_offset`` is given for a grid.

    Notes
    -----
    The search for a code has four steps, and the first that finds a variable ends it: ``choices``; the code
    itself or a FLUXNET column such as ``TA_F``; the CF standard name; the names in PLUMBER2 and ERA5, if the
    units can be converted and the standard name does not contradict. A name that is a code is not used if the
    standard name belongs to another code. Variables without units are accepted under FLUXNET names only, in
    the units of FLUXNET. Soil moisture and soil temperature with a CF standard name are taken for
    the shallowest depth.

    Conversions are described in :func:`xcarbon.prep.units.conversion`. Sums and mean rates of ERA5 belong to
    the hour that ends at the stamp and are therefore moved to the label one hour earlier, so that the last
    label has none. Sums of ERA5-Land begin at 00 UTC and are an error here; :func:`xcarbon.open_era5` reads
    them, and computes wind speed and hourly means from values at both ends of an hour.

    Examples
    --------
    >>> time = np.arange("2020-06-01", "2020-06-02", dtype="datetime64[h]").astype("M8[ns]")
    >>> kelvin = {"standard_name": "air_temperature", "units": "K"}
    >>> ds = xr.Dataset({"temp": ("time", np.full(24, 293.15), kelvin)}, {"time": time})
    >>> tower = standardize(ds)
    >>> tower["TA"].dims, tower["TA"].values[0, 0], tower["TA"].attrs["source"]
    (('site', 'time'), np.float32(20.0), 'temp [K]')
    """
    ds, axes = _find_axes(_unpack(ds))
    found = _find_variables(ds, axes, choices)
    if not found.keys() & VARIABLES.keys():
        raise VariableError(
            f"no variable of xcarbon is in {sorted(map(str, ds.data_vars))}: standard names are absent or "
            'others; choose variables by code, as in ds.carbon.standardize(TA="temperature")'
        )
    coords, clock = _coords(ds, axes, found, utc_offset)
    made, auxiliary = _convert_all(ds, axes, found)
    if derive:
        made |= _derive({**made, **auxiliary})
    kept = _kept(ds, axes)
    used = {*found.values(), *kept.variables, *(name for names in _TOWER_NAMES.values() for name in names)}
    used |= {_bounds_name(ds, axes.time)} | {
        flags for name in found.values() if (flags := _flags_name(ds, name))
    }
    left_out = sorted(str(name) for name in ds.data_vars if name not in used)
    order = ("time", "lat", "lon") if axes.is_grid else ("site", "time")
    attrs = {_attribute(name): value for name, value in ds.attrs.items()}
    result = xr.Dataset(made, coords, attrs).assign(kept.data_vars).transpose(*order, ...)
    if axes.is_grid and not result.indexes["lon"].is_monotonic_increasing:
        result = result.sortby("lon")
    lines = [f"time: {clock}"]
    lines += [
        f"{code} {'from ' if code in found else ''}{made[code].attrs['source']}"
        for code in VARIABLES
        if code in made
    ]
    lines += [f"left out: {', '.join(left_out)}"] if left_out else []
    result.attrs["standardization"] = "\n".join(lines)
    history = f"xcarbon.prep.standardize.standardize: {'; '.join(lines)}"
    return conventions.apply(result, history=history, title="Hourly data from elsewhere as used by xcarbon")


# Search for variables


def _find_variables(ds: xr.Dataset, axes: _Axes, choices: Mapping[str, str | None]) -> dict[str, str]:
    """Return the name of the variable to use for each code and auxiliary quantity that is found."""
    for code in choices:
        if code not in _AUXILIARY:
            variable(code)  # raises an error if there is no such code
    dims = {axes.time, *axes.place}
    usable = [
        str(name)
        for name, array in ds.data_vars.items()
        if set(array.dims) <= dims and axes.time in array.dims and array.dtype.kind in "fiu"
    ]
    found = {code: _chosen(ds, usable, code, name) for code, name in choices.items() if name is not None}
    wanted = [code for code in (*VARIABLES, *_AUXILIARY) if code not in {*choices, *TIME_FEATURES}]
    for search in (_by_fluxnet_name, _by_standard_name, _by_documented_name):
        free = [name for name in usable if name not in found.values()]
        for code in [code for code in wanted if code not in found]:
            names = search(ds, free, code)
            if len(names) > 1:
                raise VariableError(
                    f"{code} is ambiguous: {', '.join(map(repr, names))} could all be it; choose one, as in "
                    f'ds.carbon.standardize({code}="{names[0]}"), or leave it out with {code}=None'
                )
            if names:
                found[code] = names[0]
    return {code: found[code] for code in (*VARIABLES, *_AUXILIARY) if code in found}


def _chosen(ds: xr.Dataset, usable: list[str], code: str, name: str) -> str:
    """Return the name of a chosen variable if it is in the Dataset, on its dims."""
    if name not in usable:
        where = f"it has dims {ds[name].dims}" if name in ds else "the Dataset does not contain it"
        raise VariableError(f"{code}={name!r} cannot be used: {where}; the variables are {usable}")
    return name


def _by_fluxnet_name(ds: xr.Dataset, names: list[str], code: str) -> list[str]:
    """Return the first variable that has the code or a FLUXNET column of it as its name."""
    known = (code, *(VARIABLES[code].columns if code in VARIABLES else ()))
    return [name for name in known if name in names and not _contradicts(ds[name], code)][:1]


def _by_standard_name(ds: xr.Dataset, names: list[str], code: str) -> list[str]:
    """Return all variables with a standard name of the code."""
    if code in VARIABLES and (VARIABLES[code].is_uncertainty or code in _deeper()):
        return []
    matching = {name for known in _standard_names(code) for name in ds.cf.standard_names.get(known, ())}
    return [name for name in names if name in matching]


def _by_documented_name(ds: xr.Dataset, names: list[str], code: str) -> list[str]:
    """Return all variables with a name of the code in PLUMBER2 or ERA5 and matching units."""
    known = (*_PLUMBER2.get(code, ()), *_ERA5.get(code, ()))
    return [name for name in known if name in names and _agrees(ds[name], code)]


def _agrees(array: xr.DataArray, code: str) -> bool:
    """Return whether units, standard name and FLUXNET name of a variable are those of a code."""
    if _contradicts(array, code):
        return False
    if array.name in _CONFIRMED and array.attrs.get("Fluxnet_name") not in VARIABLES[code].columns:
        return False
    if not array.attrs.get("units"):
        return True  # reported as an error when the values are converted
    try:
        conversion(array.attrs["units"], code)
    except MetadataError:
        return False
    return True


def _deeper() -> set[str]:
    """Codes of soil variables below the shallowest depth, which share the standard name with it."""
    return {code for code in VARIABLES if code[:-1] in ("SWC_", "TS_") and code[-1] != "1"}


def _standard_names(code: str) -> tuple[str, ...]:
    own = VARIABLES[code].standard_name if code in VARIABLES else None
    return (*((own,) if own else ()), *_STANDARD_NAMES.get(code, ()))


def _contradicts(array: xr.DataArray, code: str) -> bool:
    """Return whether the standard name of a variable belongs to other codes than this one."""
    name = array.attrs.get("standard_name")
    owners = {other for other in (*VARIABLES, *_AUXILIARY) if name in _standard_names(other)}
    return bool(owners) and code not in owners


# Coordinates


def _unpack(ds: xr.Dataset) -> xr.Dataset:
    """Decode variables that are packed or have undecoded fill values."""
    keys = {"scale_factor", "add_offset", "_FillValue", "missing_value"}
    packed = [name for name, array in ds.data_vars.items() if keys & array.attrs.keys()]
    return ds.assign(xr.decode_cf(ds[packed], decode_times=False, decode_coords=False)) if packed else ds


def _find_axes(ds: xr.Dataset) -> tuple[xr.Dataset, _Axes]:
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
        return ds, _Axes(time, (lat, lon), lat, lon)
    for name in (lat, lon):
        if name and ds[name].dims not in ((), (site,)):
            raise MetadataError(
                f"{name} has dims {ds[name].dims}, but xcarbon uses towers, whose coordinates have the dim "
                "of the towers, and regular grids, whose coordinates have one dim each; regrid the Dataset"
            )
    return ds, _Axes(time, (site,) if site else (), lat, lon)


def _is_place(name: str, array: xr.DataArray) -> bool:
    """Return whether a variable is a coordinate of place or an identifier, also if it is a data variable."""
    kind = array.attrs.get("standard_name")
    return kind in ("latitude", "longitude") or "cf_role" in array.attrs or name.lower() in _PLACES


_PLACES = {"lat": "latitude", "latitude": "latitude", "lon": "longitude", "longitude": "longitude"}


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
    names = names or [str(name) for name in ds.coords if _PLACES.get(str(name).lower()) == what]
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


def _coords(
    ds: xr.Dataset, axes: _Axes, found: dict[str, str], utc_offset: float | None
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
    for name, known in _TOWER_NAMES.items():
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
    start = time.values
    if bounds := _bounds_name(ds, name):
        start, end = ds[bounds].values.astype("M8[ns]").T
        if start.size and (end - start != conventions.HOUR).any():
            raise TimestampError(f"{where}: the bounds {bounds!r} of time must enclose one hour each")
    steps = np.diff(start)
    if steps.size and (steps > np.timedelta64(0)).all() and np.median(steps) < conventions.HOUR:
        raise TimestampError(
            f"{where}: the time axis has steps of {np.median(steps).astype('m8[m]')}, but xcarbon uses "
            "hours; combine steps first, as in ds.resample(time='1h').mean() for means and rates, and with "
            ".sum() for amounts"
        )
    check_hourly(time.copy(data=start), where)
    return start


def _bounds_name(ds: xr.Dataset, time: str) -> str | None:
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
    ds: xr.Dataset, axes: _Axes, found: dict[str, str], utc_offset: float | None, coords: Mapping[str, Any]
) -> float | None:
    """Return local standard time minus UTC [hours] if the time of towers is in UTC, else None."""
    if utc_offset is not None:
        return utc_offset
    time = ds[axes.time]
    texts = str(time.attrs.get("long_name", "")), str(time.encoding.get("units", ""))
    if not any(map(_UTC.search, texts)) and not _ERA5_NAMES & set(found.values()):
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


def _site_ids(ds: xr.Dataset, axes: _Axes) -> Any:
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


def _tower_values(ds: xr.Dataset, axes: _Axes, code: str, known: tuple[str, ...]) -> Any:
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
        return None if code == "igbp" and not set(values) <= {*IGBP_CLASSES, ""} else values
    if code == "elevation":
        factor, offset = conversion(str(array.attrs.get("units", "m")), code)
        return np.broadcast_to((factor * array.values + offset).astype("float32"), size)
    return np.broadcast_to(array.values, size)


def _kept(ds: xr.Dataset, axes: _Axes) -> xr.Dataset:
    """Return the variables of the data model that are not hourly series: patches and others by day."""
    names = [name for name in ds.data_vars if name == "release" or "day" in ds[name].dims]
    if not names or axes.is_grid:
        return xr.Dataset()
    kept = ds[names].drop_vars([name for name in ds[names].coords if {axes.time} & set(ds[name].dims)])
    site = [name for name in kept.coords if name in (*_TOWER_NAMES, axes.lat, axes.lon, "site")]
    kept = kept.drop_vars(site)
    if axes.place:
        return kept.rename({axes.place[0]: "site"})
    centre = [name for name in ("patch_x", "patch_y") if name in kept.coords]
    return kept.reset_coords(centre).expand_dims("site").set_coords(centre)


def _attribute(name: Hashable) -> str:
    """Return a name of an attribute that CF recommends: letters, digits and underscores."""
    return "".join(letter if letter.isalnum() else "_" for letter in str(name))


# Values


def _convert_all(
    ds: xr.Dataset, axes: _Axes, found: dict[str, str]
) -> tuple[dict[str, xr.DataArray], dict[str, xr.DataArray]]:
    """Return the variables and flags of the data model, and the auxiliary quantities."""
    made: dict[str, xr.DataArray] = {}
    auxiliary: dict[str, xr.DataArray] = {}
    for code, name in found.items():
        array = _place(_convert(ds, axes, name, code), axes)
        (made if code in VARIABLES else auxiliary)[code] = array
        flags = _flags_name(ds, name)
        if flags and code in VARIABLES:
            made[f"{code}{QC}"] = _place(_flags(ds[flags], name, code), axes)
    return made, auxiliary


def _convert(ds: xr.Dataset, axes: _Axes, name: str, code: str) -> xr.DataArray:
    """Return a variable in the units of the vocabulary, on its own dims, with its source."""
    array = ds[name]
    units = str(array.attrs.get("units", ""))
    factor, offset = 1.0, 0.0
    if units:
        kind = str(array.attrs.get("standard_name", ""))
        try:
            factor, offset = conversion(units, code, as_carbon="expressed_as_carbon" in kind)
        except MetadataError as error:
            raise MetadataError(
                f"{name}: {error}; correct ds[{name!r}].attrs['units'], choose another variable, as in "
                f'ds.carbon.standardize({code}="..."), or leave it out with {code}=None'
            ) from error
    elif code not in VARIABLES or name not in (code, *VARIABLES[code].columns):
        raise MetadataError(
            f"{name}, which would be {code}, has no units; set ds[{name!r}].attrs['units'], or leave it out "
            f"with {code}=None"
        )
    source = f"{name} [{units}]" if units else name
    if name in _ENDING:
        if name in _SUMS:
            _check_era5(ds, name)
        array = array.shift({axes.time: -1})
        source += ", of the hour that ends at the stamp"
    if (factor, offset) != (1.0, 0.0) or array.dtype != np.float32:
        array = _apply(lambda values: _linear(values, factor, offset), array)
    return array.assign_attrs(source=source)


def _linear(values: Any, factor: float, offset: float) -> Any:
    """Compute ``factor * values + offset`` in double precision, and return it in single precision."""
    return (values.astype(np.float64) * factor + offset).astype(np.float32)


def _apply(kernel: Callable[..., Any], *arrays: xr.DataArray, dtype: Any = np.float32) -> xr.DataArray:
    """Apply a kernel of arrays of the same shape, lazily, without attributes."""
    return xr.apply_ufunc(kernel, *arrays, dask="parallelized", output_dtypes=[dtype], keep_attrs=False)


def _place(array: xr.DataArray, axes: _Axes) -> xr.DataArray:
    """Return an array on the dims of the data model, without coordinates."""
    names = {axes.time: "time"}
    if axes.is_grid:
        names |= dict(zip(axes.place, ("lat", "lon"), strict=True))
    elif axes.place:
        names[axes.place[0]] = "site"
    attrs = {"source": array.attrs["source"]} if "source" in array.attrs else array.attrs
    variable = array.variable.copy(deep=False)
    variable.attrs, variable.encoding = attrs, {}
    moved = xr.DataArray(variable).rename({old: new for old, new in names.items() if old in variable.dims})
    return moved if axes.is_grid or "site" in moved.dims else moved.expand_dims("site")


def _check_era5(ds: xr.Dataset, name: str) -> None:
    """Check that sums of ERA5 are sums over the hour."""
    text = " ".join(map(str, ds.attrs.values())).lower().replace("_", "-").replace(" ", "-")
    steps = [np.abs(np.diff(ds[dim].values)) for dim in ds[name].dims if _PLACES.get(str(dim).lower())]
    steps = [step for step in steps if step.size]
    if "era5-land" in text or not steps or min(np.median(step) for step in steps) < 0.15:
        raise MetadataError(
            f"{name} may be a sum since 00 UTC, as in ERA5-Land, because the attributes or the grid spacing "
            "do not show that the Dataset is ERA5; open the files with xcarbon.open_era5"
        )


def _flags_name(ds: xr.Dataset, name: str) -> str | None:
    """Return the name of the quality flags of a variable if 0 means measured in them, as in FLUXNET."""
    for flags in (f"{name}{QC}", f"{name}_qc", quality_column(name)):
        if flags in ds.data_vars and ds[flags].dims == ds[name].dims:
            values = np.atleast_1d(ds[flags].attrs.get("flag_values", [])).tolist()
            meanings = str(ds[flags].attrs.get("flag_meanings", "")).split()
            zero = dict(zip(values, meanings, strict=False)).get(0, "measured")
            return flags if zero in ("measured", "observed", "original") else None
    return None


def _flags(flags: xr.DataArray, name: str, code: str) -> xr.DataArray:
    """Return int8 quality flags; -1 is missing, and all above the worst flag of FLUXNET become that flag."""
    if flags.dtype == np.int8 and "flag_values" in flags.attrs:
        return flags
    is_column = name in VARIABLES[code].columns and name != code
    scheme = quality_scheme(name) if is_column else HARMONISED
    attrs, worst = conventions.quality_attrs(code, scheme), scheme.flag_values[-1]
    return _apply(lambda values: _whole(values, worst), flags, dtype=np.int8).assign_attrs(attrs)


def _whole(values: Any, worst: int) -> Any:
    """Return flags as int8; negative numbers and NaN are missing."""
    known = values >= 0
    return np.where(known, np.minimum(np.where(known, values, 0), worst), MISSING_FLAG).astype(np.int8)


# Humidity


def _derive(arrays: Mapping[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """Compute the humidity variables that are absent, with the worse flags of what they are computed from."""
    made = {}
    for code, kernels in _HUMIDITY.items():
        for needs, kernel in () if code in arrays else kernels.items():
            if all(need in arrays for need in needs):
                parts = [arrays[need] for need in needs]
                made[code] = _apply(kernel, *parts)
                text = " and ".join(f"{need} ({arrays[need].attrs['source']})" for need in needs)
                made[code].attrs = {"source": f"computed from {text}"}
                flags = [arrays[f"{need}{QC}"] for need in needs if f"{need}{QC}" in arrays]
                if flags:
                    made[f"{code}{QC}"] = _worst(flags, code)
                break
    return made


def _worst(flags: Iterable[xr.DataArray], code: str) -> xr.DataArray:
    """Return the largest of several flags."""
    first, *others = flags
    for other in others:
        first = _apply(np.maximum, first, other, dtype=np.int8)
    return first.copy(deep=False).assign_attrs(conventions.quality_attrs(code, HARMONISED))


def _from_dew_point(temperature: Any, dew_point: Any) -> tuple[Any, Any]:
    """Return the actual and the saturation vapour pressure [hPa] of temperatures [degC]."""
    return saturation_vapour_pressure(dew_point), saturation_vapour_pressure(temperature)


def _from_specific_humidity(temperature: Any, humidity: Any, pressure: Any) -> tuple[Any, Any]:
    """Return the same for a specific humidity [1] and a pressure [kPa]."""
    return vapour_pressure(humidity, 10 * pressure), saturation_vapour_pressure(temperature)


def _deficit_of_humidity(temperature: Any, humidity: Any) -> Any:
    saturated = saturation_vapour_pressure(temperature)
    return vapour_pressure_deficit(saturated * humidity / 100, saturated)


def _humidity_of_deficit(temperature: Any, deficit: Any) -> Any:
    saturated = saturation_vapour_pressure(temperature)
    return relative_humidity(saturated - deficit, saturated)


#: Kernels of the humidity variables by what they need, in order of preference.
_HUMIDITY: dict[str, dict[tuple[str, ...], Callable[..., Any]]] = {
    "RH": {
        ("TA", "dew_point"): lambda *parts: relative_humidity(*_from_dew_point(*parts)),
        ("TA", "specific_humidity", "PA"): lambda *parts: relative_humidity(*_from_specific_humidity(*parts)),
        ("TA", "VPD"): _humidity_of_deficit,
    },
    "VPD": {
        ("TA", "dew_point"): lambda *parts: vapour_pressure_deficit(*_from_dew_point(*parts)),
        ("TA", "specific_humidity", "PA"): lambda *parts: vapour_pressure_deficit(
            *_from_specific_humidity(*parts)
        ),
        ("TA", "RH"): _deficit_of_humidity,
    },
}
