"""Satellite series of towers from point samples, tables and NetCDF files."""

from __future__ import annotations

import functools
import glob
import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core import conventions
from xcarbon.core.conventions import LENGTH, MISSING_FLAG, QC
from xcarbon.core.errors import FileFormatError, MetadataError, reading
from xcarbon.core.variables import SATELLITE
from xcarbon.io import appeears
from xcarbon.io.appeears import group, parse_dates, to_numbers
from xcarbon.io.composites import GOOD, MONTH, SEASONAL, Composites, centre, compose, merge, month_centre
from xcarbon.io.handles import LOCK, open_netcdf_file

PathLike = str | os.PathLike[str]

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
#: Value of tables for what is missing.
_TABLE_FILL = -9999
_ROOT = ("title", "license", "references")


class _Cycle(NamedTuple):
    """A mean seasonal cycle of one variable at one site: ``months (12,)``, NaN where missing."""

    code: str
    site: str
    months: NDArray[np.float32]
    source: str


def open_satellite(
    paths: PathLike | Iterable[PathLike],
    *,
    columns: Mapping[str, str] | None = None,
    composite_days: float | None = None,
    years: tuple[int, int] | None = None,
) -> xr.Dataset:
    r"""Read satellite series of towers from files, at once.

    Parameters
    ----------
    paths : path-like or iterable of path-like
        Files; patterns such as ``"satellite/*.csv"`` stand for all files that they match. Each file is one of

        - a point sample of AppEEARS (``.csv``) of MCD15A2H, MCD15A3H, MOD13Q1, MOD11A2 or MCD43A4, whose
          column ``ID`` contains the site;
        - any other ``.csv`` or ``.csv.gz`` with ``columns``;
        - a NetCDF file of variables that have the names of :data:`xcarbon.core.variables.SATELLITE`, on
          ``site`` and ``time`` (first days of composites), ``site`` and ``day`` (centres of composites, as in
          the result of this function), or ``site`` and ``month`` (a mean seasonal cycle).
    columns : mapping of str to str, optional
        Columns of tables that are not point samples: ``site``, ``date`` (first day of the composite), codes
        of variables in the units of the vocabulary, and where there are any their quality flags, for example
        ``{"site": "tower", "date": "day", "FAPAR": "fpar", "FAPAR_QC": "quality"}``.
    composite_days : float, optional
        Length of the composites [days] of tables and NetCDF files that do not state it in an attribute
        ``composite_days``. Default: a month if all dates are the first of a month, else the median of the
        steps between dates.
    years : tuple of int, optional
        First and last year for which a mean seasonal cycle is used. Default: those of the other series.

    Returns
    -------
    xarray.Dataset
        Each variable on ``(site, day)``, float32, in the units of the vocabulary, with its quality flags
        ``<VAR>_QC`` (int8): 0 is a good composite, 1 a usable one (backup algorithm or lower quality), 2 a
        mean seasonal cycle, -1 missing. ``day`` is the day at the centre of the composite, rounded down to
        whole days: the first day plus half the length, the 16th of a month (15th in February). The attribute
        ``composite_days`` is the length [days]; if the series is made of composites of several lengths, it is
        the longest, and ``<VAR>_DAYS (site, day)`` has the length of each. A month counts as 31 days.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If a file is none of these, lacks a column, or contains text where a number or date is needed.
    MetadataError
        If a variable has units that cannot be converted, or the length of composites is unknown.

    Warns
    -----
    UserWarning
        If values are beyond the plausibility limits; they become missing.

    Notes
    -----
    - Several files may have the same variable at the same site. Of two composites the shorter is used, and a
      longer one where no shorter one with a value has its centre within it; of composites of equal length and
      day that of the first file is used.
    - A mean seasonal cycle is used only before the first and after the last satellite value of the variable
      at the site. Besides variables on ``month``, these values are a mean seasonal cycle: those that the
      ``comment`` of a NetCDF variable describes as such ("before July 2002 a mean seasonal cycle"), those of
      products that use MODIS (by their ``long_name``) before 18 February 2000, and months that repeat the
      same months of another year for a year or longer.
    - The quality bits of point samples are decoded as :mod:`xcarbon.io.appeears` describes. Values without
      any information on quality have the flag 0, and those of point samples without their quality layer 1.
    - NIRV, NDWI and EVI are computed from the bands of MCD43A4: see :mod:`xcarbon.prep.satellite`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder, "fapar.csv")
    ...     _ = table.write_text("tower,day,fpar\nDE-Tha,2010-01-01,0.6\nDE-Tha,2010-01-09,0.7\n")
    ...     ds = open_satellite(table, columns={"site": "tower", "date": "day", "FAPAR": "fpar"})
    >>> ds["day"].values.astype("datetime64[D]").astype(str).tolist(), ds["FAPAR"].attrs["composite_days"]
    (['2010-01-05', '2010-01-13'], 8.0)
    """
    files = _files(paths)
    parts: list[Composites] = []
    cycles: list[_Cycle] = []
    roots: list[dict[str, Any]] = []
    for path in files:
        if path.endswith((".csv", ".csv.gz")):
            parts += _read_table(path, columns, composite_days)
        else:
            series, seasons, root = _read_netcdf(path, composite_days)
            parts, cycles, roots = parts + series, cycles + seasons, [*roots, root]
    implausible: list[str] = []
    parts = [_mask_implausible(part, implausible) for part in parts]
    parts += _expand(cycles, parts, years, implausible)
    if implausible:
        counts = pd.Series(implausible).value_counts(sort=False)
        text = "; ".join(f"{what}: {count}" for what, count in counts.items())
        warnings.warn(f"values beyond the plausibility limits became missing: {text}", stacklevel=2)
    if not any(np.isfinite(part.values).any() for part in parts):
        raise FileFormatError(f"{', '.join(files)}: there is no value of a satellite series")
    ds = _label(parts)
    ds.attrs = {
        name: "; ".join(texts)
        for name in _ROOT
        if (texts := dict.fromkeys(str(root[name]) for root in roots if name in root))
    }
    names = ", ".join(Path(path).name for path in files)
    return conventions.apply(ds, history=f"read by xcarbon.open_satellite from {names}")


def is_satellite(path: PathLike) -> bool:
    """Return whether a file contains satellite series that :func:`open_satellite` reads without ``columns``.

    Examples
    --------
    >>> is_satellite("site_data.xlsx")
    False
    """
    path = os.fspath(path)
    with suppress(FileFormatError, OSError), reading(path):
        if path.endswith((".csv", ".csv.gz")):
            return bool(appeears.columns_of(_header(path)))
        if path.endswith((".nc", ".nc4")):
            with LOCK, open_netcdf_file(path, decode_times=False) as ds:
                return bool(_names(ds))
    return False


def _files(paths: PathLike | Iterable[PathLike]) -> list[str]:
    """Return the files that paths and patterns stand for."""
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not given:
        raise FileNotFoundError("there is no file to open: the list of paths is empty")
    found = [match for path in given for match in sorted(glob.glob(os.fspath(path))) or [os.fspath(path)]]
    for path in found:
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{path}: no such file")
    return list(dict.fromkeys(found))


# --- Tables -----------------------------------------------------------------------


def _header(path: str) -> list[str]:
    with reading(f"{path}: cannot be read as CSV"):
        return [str(column) for column in pd.read_csv(path, nrows=0).columns]


def _read_table(
    path: str, columns: Mapping[str, str] | None, composite_days: float | None
) -> Iterator[Composites]:
    """Read a point sample, or a table with the columns that the user names."""
    header = _header(path)
    if products := appeears.columns_of(header):
        yield from appeears.read(path, products)
        return
    if columns is None:
        raise FileFormatError(
            f"{path}: not a point sample of AppEEARS of {list(appeears.PRODUCTS)}; name the columns as in "
            f"columns={{'site': ..., 'date': ..., 'FAPAR': ...}}; the file has {header}"
        )
    wanted = [*SATELLITE, *(f"{code}{QC}" for code in SATELLITE)]
    unknown = [name for name in columns if name not in ("site", "date", *wanted)]
    codes = [code for code in SATELLITE if code in columns]
    if unknown or not codes or not {"site", "date"} <= columns.keys():
        raise FileFormatError(
            f"{path}: columns needs 'site', 'date' and some of {list(SATELLITE)}, with '_QC' for their "
            f"quality flags, found {list(columns)}"
        )
    absent = [column for column in columns.values() if column not in header]
    if absent:
        raise FileFormatError(f"{path}: there are no columns {absent}; the file has {header}")
    with reading(f"{path}: cannot be read as CSV"):
        frame = pd.read_csv(path, dtype={columns["site"]: str})
    if frame[columns["site"]].isna().any():
        row = int(np.flatnonzero(frame[columns["site"]].isna())[0])
        raise FileFormatError(f"{path}: column {columns['site']!r}, row {row + 1}: the site is missing")
    sites = frame[columns["site"]].to_numpy(str)
    start = parse_dates(frame[columns["date"]], path, columns["date"])
    days, length = _centres(start, composite_days, path)
    for code in codes:
        values = to_numbers(frame[columns[code]], path, columns[code], sites)
        values = np.where(values == _TABLE_FILL, np.nan, values)
        flags = np.zeros(values.shape, np.int8)
        if name := columns.get(f"{code}{QC}"):
            flags = _checked_flags(to_numbers(frame[name], path, name, sites), path, name)
        for site, rows in group(sites, days, path, np.isfinite(values)):
            source = f"{path}: {columns[code]}"
            yield compose(code, site, days[rows], values[rows], flags[rows], length, source)


def _checked_flags(flags: NDArray[np.float64], path: str, name: str) -> NDArray[np.int8]:
    """Return quality flags as int8; missing ones are -1."""
    flags = np.where(np.isfinite(flags), flags, MISSING_FLAG)
    if not np.isin(flags, (-1, 0, 1, 2)).all():
        found = sorted({float(flag) for flag in flags} - {-1.0, 0.0, 1.0, 2.0})
        raise FileFormatError(f"{path}: {name!r} has flags {found[:5]}; quality flags are -1, 0, 1 and 2")
    return flags.astype(np.int8)


def _centres(
    start: NDArray[np.datetime64], composite_days: float | None, path: str
) -> tuple[NDArray[np.datetime64], float]:
    """Return the days at the centres of composites, and the length of a composite [days]."""
    if composite_days is not None:
        return centre(start, composite_days), float(composite_days)
    dates = np.unique(start)
    if (dates == dates.astype("datetime64[M]").astype("datetime64[D]")).all():
        is_month = dates.size > 1 and np.diff(dates.astype("datetime64[M]")).min() == np.timedelta64(1)
        if is_month:
            return month_centre(start), MONTH
    if dates.size < 2:
        raise MetadataError(f"{path}: one date does not state the length of composites; pass composite_days")
    length = float(np.median(np.diff(dates).astype(np.float64)))
    return centre(start, length), length


# --- NetCDF -----------------------------------------------------------------------


def _names(ds: xr.Dataset) -> dict[str, str]:
    """Return the names of the satellite series in a file by code."""
    found: dict[str, str] = {}
    for name, array in ds.data_vars.items():
        code = _CODES.get(str(name).upper())
        axes = [dim for dim in array.dims if dim != "site"]
        if (
            code
            and "site" in ds.variables
            and len(axes) == 1
            and axes[0] in _AXES
            and axes[0] in ds.variables
        ):
            found.setdefault(code, str(name))
    return found


def _read_netcdf(
    path: str, composite_days: float | None
) -> tuple[list[Composites], list[_Cycle], dict[str, Any]]:
    """Read the composites and mean seasonal cycles of a NetCDF file, and its global attributes."""
    with reading(f"{path}: cannot be opened as NetCDF"), LOCK, open_netcdf_file(path) as opened:
        names = _names(opened)
        companions = [f"{name}{suffix}" for name in names.values() for suffix in (QC, LENGTH)]
        ds = opened[[*names.values(), *(name for name in companions if name in opened)]].load()
    if not names:
        raise FileFormatError(
            f"{path}: no variable is a satellite series on 'site' and one of {list(_AXES)}; the names are "
            f"{sorted(_CODES)}"
        )
    ds = ds if "site" in ds.dims else ds.expand_dims("site")
    parts: list[Composites] = []
    cycles: list[_Cycle] = []
    sites = [str(site) for site in ds["site"].values]
    for code, name in names.items():
        array = ds[name]
        (axis,) = (str(dim) for dim in array.dims if dim != "site")
        values = _convert(array.transpose("site", axis), code, path)
        source = f"{path}: {name}"
        if axis == "month":
            order = _months(ds["month"].values, path)
            cycles += [
                _Cycle(code, site, row[order], source) for site, row in zip(sites, values, strict=True)
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
    return _centres(start, None if stated is None else float(stated), path)


def _flags(
    ds: xr.Dataset, name: str, array: xr.DataArray, axis: str, values: NDArray[np.float32], path: str
) -> NDArray[np.int8]:
    """Return quality flags ``(site, axis)``: those of the file, or 0 and 2 for a mean seasonal cycle."""
    if f"{name}{QC}" in ds:
        flags = ds[f"{name}{QC}"].transpose("site", axis).values.astype(np.float64)
        return _checked_flags(flags, path, f"{name}{QC}")
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


# --- One Dataset ------------------------------------------------------------------


def _mask_implausible(part: Composites, implausible: list[str]) -> Composites:
    """Set values beyond the plausibility limits to missing; add a line to ``implausible`` for each."""
    bounds = SATELLITE[part.code].bounds
    is_beyond = (part.values < bounds.lower) | (part.values > bounds.upper)
    if not is_beyond.any():
        return part
    limits = f"{bounds.lower} to {bounds.upper} [{SATELLITE[part.code].units}]"
    what = f"{part.code} beyond {limits} in {part.source}"
    implausible += [what] * int(is_beyond.sum())
    return replace(
        part,
        values=np.where(is_beyond, np.float32(np.nan), part.values),
        flags=np.where(is_beyond, MISSING_FLAG, part.flags),
    )


def _expand(
    cycles: list[_Cycle],
    parts: list[Composites],
    years: tuple[int, int] | None,
    implausible: list[str],
) -> list[Composites]:
    """Repeat mean seasonal cycles in all years."""
    if not cycles:
        return []
    if years is None:
        if not parts:
            raise MetadataError(
                f"{cycles[0].source} is a mean seasonal cycle, and no other series states the years; pass "
                "years=(first, last)"
            )
        found = [part.day.astype("datetime64[Y]").astype(int) + 1970 for part in parts if part.day.size]
        years = min(int(of.min()) for of in found), max(int(of.max()) for of in found)
    first, last = years
    months = np.arange(f"{first}-01", f"{last + 1}-01", dtype="datetime64[M]")
    day, flags = month_centre(months), np.full(months.size, SEASONAL)
    expanded = []
    for cycle in cycles:
        plain = compose(cycle.code, cycle.site, day[:12], cycle.months, flags[:12], MONTH, cycle.source)
        values = np.tile(_mask_implausible(plain, implausible).values, last - first + 1)
        expanded.append(compose(cycle.code, cycle.site, day, values, flags, MONTH, cycle.source))
    return expanded


def _label(parts: list[Composites]) -> xr.Dataset:
    """Merge composites, and label them on the sites and days of all."""
    groups: defaultdict[tuple[str, str], list[Composites]] = defaultdict(list)
    for part in parts:
        groups[part.code, part.site].append(part)
    merged = [series for series in map(merge, groups.values()) if series.day.size]
    sites = sorted({series.site for series in merged})
    day = functools.reduce(np.union1d, {series.day.tobytes(): series.day for series in merged}.values())
    shape = len(sites), day.size
    variables: dict[str, Any] = {}
    for code in SATELLITE:
        these = [series for series in merged if series.code == code]
        if not these:
            continue
        values, lengths = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
        flags = np.full(shape, MISSING_FLAG, np.int8)
        for series in these:
            place = sites.index(series.site), np.searchsorted(day, series.day)
            values[place], flags[place], lengths[place] = series.values, series.flags, series.length
        sources = dict.fromkeys(text for series in these for text in series.source.split("; "))
        names = [
            f"{Path(path).name}: {name}" for path, _, name in (text.rpartition(": ") for text in sources)
        ]
        attrs = {"composite_days": float(np.nanmax(lengths)), "source": "; ".join(names)}
        variables[code] = (("site", "day"), values, attrs)
        variables[f"{code}{QC}"] = (("site", "day"), flags)
        if np.unique(lengths[np.isfinite(lengths)]).size > 1:
            variables[f"{code}{LENGTH}"] = (("site", "day"), lengths)
    return xr.Dataset(variables, {"site": sites, "day": day.astype("datetime64[ns]")})
