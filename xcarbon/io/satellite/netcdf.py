"""Satellite series and mean seasonal cycles in NetCDF files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core.conventions import LENGTH, QC
from xcarbon.core.errors import FileFormatError, MetadataError, reading
from xcarbon.core.variables import SATELLITE
from xcarbon.io.composites import (
    GOOD,
    SEASONAL,
    Composites,
    SeasonalCycle,
    centres_from_dates,
    checked_flags,
    compose,
)
from xcarbon.io.handles import LOCK, open_netcdf_file

#: Code by every name of a satellite series in files, in capitals.
_CODES = {name: code for code, series in SATELLITE.items() for name in (code, *series.names)}
#: Factor and offset from units in files to those of the vocabulary.
_CONVERSIONS = {
    ("K", "degC"): (1.0, -273.15),
    ("kelvin", "degC"): (1.0, -273.15),
    ("celsius", "degC"): (1.0, 0.0),
    ("percent", "1"): (0.01, 0.0),
    ("%", "1"): (0.01, 0.0),
    ("m2 m-2", "1"): (1.0, 0.0),
    ("1", "m3 m-3"): (1.0, 0.0),
}
#: Dimensions along which files have composites, best first; labels on ``day`` are centres already.
_AXES = ("day", "time", "month")
#: First day of MODIS composites. Earlier values of products that use MODIS are a mean seasonal cycle.
MODIS_START = np.datetime64("2000-02-18")
_USES_MODIS = re.compile(r"MODIS|MCD\d|MOD\d|MYD\d|CSIF")
#: Months that repeat those of another year from which a run of months is a mean seasonal cycle.
_REPEATED = 12


def names_of_series(ds: xr.Dataset) -> dict[str, str]:
    """Return the names of the satellite series in a file by code."""
    found: dict[str, str] = {}
    for name, array in ds.data_vars.items():
        code = _CODES.get(str(name).upper())
        axes = set(array.dims) - {"site"}
        is_series = len(axes) == 1 and axes <= set(_AXES) and {"site", *axes} <= set(ds.variables)
        if code and is_series:
            found.setdefault(code, str(name))
    return found


def read_netcdf(
    path: str, composite_days: float | None
) -> tuple[list[Composites], list[SeasonalCycle], dict[str, Any]]:
    """Read the composites and mean seasonal cycles of a NetCDF file, and its global attributes."""
    with reading(f"{path}: cannot be opened as NetCDF"), LOCK, open_netcdf_file(path) as opened:
        names = names_of_series(opened)
        companions = [f"{name}{suffix}" for name in names.values() for suffix in (QC, LENGTH)]
        ds = opened[[*names.values(), *(name for name in companions if name in opened)]].load()
    if not names:
        raise FileFormatError(
            f"{path}: no variable is a satellite series on 'site' and one of {list(_AXES)}; the names are "
            f"{sorted(_CODES)}"
        )
    ds = ds if "site" in ds.dims else ds.expand_dims("site")
    parts: list[Composites] = []
    cycles: list[SeasonalCycle] = []
    sites = [str(site) for site in ds["site"].values]
    for code, name in names.items():
        array = ds[name]
        (axis,) = (str(dim) for dim in array.dims if dim != "site")
        values = _convert(array.transpose("site", axis), code, path)
        source = f"{path}: {name}"
        if axis == "month":
            order = _months(ds["month"].values, path)
            cycles += [
                SeasonalCycle(code, site, row[order], source) for site, row in zip(sites, values, strict=True)
            ]
            continue
        day, length = _axis(array, axis, composite_days, path)
        flags = _flags(ds, name, array, axis, values, path)
        if f"{name}{LENGTH}" in ds:
            lengths = ds[f"{name}{LENGTH}"].transpose("site", axis).values
        else:
            lengths = np.full(values.shape, length, np.float32)
        for row, site in enumerate(sites):
            there = np.isfinite(values[row])
            if there.any():
                columns = (values[row, there], flags[row, there], lengths[row, there])
                parts.append(compose(code, site, day[there], *columns, source))
    return parts, cycles, dict(opened.attrs)


def _convert(array: xr.DataArray, code: str, path: str) -> NDArray[np.float32]:
    """Return values in the units of the vocabulary; a variable without units is taken to have them."""
    expected = SATELLITE[code].units
    units = str(array.attrs.get("units", expected))
    if units == expected:
        return array.values.astype(np.float32)
    if (units, expected) not in _CONVERSIONS:
        raise MetadataError(
            f"{path}: {array.name} has units {units!r}, which are not converted to {expected!r}; convert the "
            "values and set the attribute units"
        )
    factor, offset = _CONVERSIONS[units, expected]
    return (array.values.astype(np.float64) * factor + offset).astype(np.float32)


def _months(month: NDArray[Any], path: str) -> NDArray[np.intp]:
    """Return the positions of January to December."""
    if sorted(np.asarray(month).tolist()) != list(range(1, 13)):
        raise FileFormatError(f"{path}: 'month' must be 1 to 12, found {np.asarray(month).tolist()}")
    return np.argsort(month)


def _axis(
    array: xr.DataArray, axis: str, composite_days: float | None, path: str
) -> tuple[NDArray[np.datetime64], float]:
    """Return the days at the centres of the composites of a variable, and their length [days]."""
    stamps = array[axis].values
    if stamps.dtype.kind != "M":
        raise FileFormatError(f"{path}: {axis!r} must be dates, found {stamps.dtype}; set its CF units")
    start = stamps.astype("datetime64[D]")
    if np.unique(start).size != start.size:
        raise FileFormatError(f"{path}: {axis!r} has several labels on one day; daily values are needed")
    stated = array.attrs.get("composite_days", composite_days)
    if axis == "day":
        if stated is None:
            raise MetadataError(
                f"{path}: {array.name} does not state the length of composites; pass composite_days"
            )
        return start, float(stated)
    return centres_from_dates(start, None if stated is None else float(stated), path)


def _flags(
    ds: xr.Dataset, name: str, array: xr.DataArray, axis: str, values: NDArray[np.float32], path: str
) -> NDArray[np.int8]:
    """Return quality flags ``(site, axis)``: those of the file, or 0 and 2 for a mean seasonal cycle."""
    if f"{name}{QC}" in ds:
        flags = ds[f"{name}{QC}"].transpose("site", axis).values.astype(np.float64)
        return checked_flags(flags, path, f"{name}{QC}")
    day = array[axis].values.astype("datetime64[D]")
    is_seasonal = np.broadcast_to(_is_described_as_seasonal(array.attrs, day), values.shape)
    if axis == "time" and (day == day.astype("datetime64[M]")).all():
        is_seasonal = is_seasonal | _repeats(values, day)
    return np.where(is_seasonal, SEASONAL, GOOD).astype(np.int8)


def _is_described_as_seasonal(attrs: Mapping[str, Any], day: NDArray[np.datetime64]) -> NDArray[np.bool_]:
    """Return on which days a variable has a mean seasonal cycle by its attributes, ``(day,)``."""
    text = str(attrs.get("comment", ""))
    found = np.zeros(day.shape, bool)
    if "mean seasonal cycle" in text:
        for word, month in re.findall(r"\b(before|after) ([A-Z][a-z]+ \d{4})\b", text):
            first = np.datetime64(pd.to_datetime(month, format="%B %Y"), "M")
            found |= day < first if word == "before" else day >= first + 1
    if _USES_MODIS.search(f"{attrs.get('long_name', '')} {text}"):
        found |= day < MODIS_START
    return found


def _repeats(values: NDArray[np.float32], day: NDArray[np.datetime64]) -> NDArray[np.bool_]:
    """Return which of monthly values repeat another year for a year or longer, ``(site, time)``."""
    month = day.astype("datetime64[M]").astype(np.int64)
    first = month.min() - month.min() % 12
    grid = np.full((values.shape[0], (month.max() - first) // 12 * 12 + 36), np.nan, np.float32)
    position = month - first + 12  # an empty year before, and one after
    grid[:, position] = values
    equal = grid[:, 12:] == grid[:, :-12]
    pad = np.zeros((values.shape[0], 12), bool)
    is_equal = np.hstack([equal, pad]) | np.hstack([pad, equal])
    for row, flags in enumerate(is_equal):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
        for start, stop in edges.reshape(-1, 2):
            # A series that is constant, such as snow in the tropics, is no repetition.
            if stop - start < _REPEATED or np.unique(grid[row, start:stop]).size < 3:
                flags[start:stop] = False
    return is_equal[:, position]
