"""FLUXNET2015 files, half-hourly and hourly, to a Dataset of clock hours.

From the file upwards: a source of bytes, the columns read from it, the survey of a file when it is
opened, the values when they are computed, and the labels.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pyarrow as pa
import pyarrow.csv
import xarray as xr
from numpy.typing import NDArray

from xcarbon import conventions
from xcarbon.conventions import HOUR, MISSING_FLAG, QC
from xcarbon.errors import FileFormatError, MetadataError, TimestampError
from xcarbon.io import badm
from xcarbon.io.badm import SiteMetadata
from xcarbon.io.columns import Source, find_line, read_columns
from xcarbon.prep import clock
from xcarbon.variables import MDS, VARIABLES, QualityScheme, quality_scheme

PathLike = str | os.PathLike[str]
Metadata = PathLike | SiteMetadata | Mapping[str, Any]

TIMESTAMP = "TIMESTAMP_START"
#: Number that stands for a missing one, and how a missing cell can be written.
MISSING = -9999
_MISSING_CELLS = ("-9999", "-9999.0", "", "NA", "NaN")

_NAME = re.compile(
    r"FLX_(?P<site>[A-Z]{2}-\w{3})_FLUXNET2015_(SUBSET|FULLSET)_(?P<resolution>HH|HR|DD|WW|MM|YY)"
    r"_\d{4}-\d{4}(_[\w-]+)?\.csv(\.gz)?"
)
_READABLE = ("HH", "HR")
_WANTED = "open the half-hourly (HH) or hourly (HR) file"
_REFERENCE = "Pastorello et al. 2020, Scientific Data 7, 225, doi:10.1038/s41597-020-0534-3"
#: The towers of FLUXNET2015 that are not under CC-BY-4.0 but under its Tier Two policy.
_TIER_TWO = {"RU-Sam", "RU-SkP", "RU-Tks", "RU-Vrk", "SE-St1", "ZA-Kru"}


def open_fluxnet(
    path_or_paths: PathLike | Iterable[PathLike], *, metadata: Metadata | None = None
) -> xr.Dataset:
    r"""Open FLUXNET2015 files as one lazy, hourly, CF-compliant Dataset.

    The header and the time stamps of each file are read and checked at once; the values are read
    when they are computed, all variables of a file in one task. Every computation therefore reads
    the file anew: ``.load()`` keeps a tower in memory.

    Parameters
    ----------
    path_or_paths : path-like or iterable of path-like
        Half-hourly (HH) or hourly (HR) files of the SUBSET or FULLSET product, as ``.csv``,
        ``.csv.gz``, or the ``.zip`` they are distributed in; one file per tower.
    metadata : path-like, SiteMetadata or mapping, optional
        What is known of the towers: a table or BADM file (see
        :func:`xcarbon.io.badm.read_metadata`), the fields of one tower such as
        ``dict(site="DE-Tha", lat=50.96, lon=13.57, igbp="ENF")``, or such fields by site. Fields
        that are not given are taken from ``site_data.csv``, and then from ``*BIF*.csv``, beside
        each file. ``site`` is required for a file whose name does not tell the tower.

    Returns
    -------
    xarray.Dataset
        Float32 variables by code on ``(site, time)``, in the units that their attributes state,
        with the column they come from in ``source_column``, and int8 ``<code>_QC`` where that
        column has quality codes. Missing values are NaN, their codes -1. Half-hours are averaged
        (precipitation is added, wind directions are averaged on the circle) on clock hours where
        both exist, with the worse of their codes. Time labels are the start of the hour in local
        standard time, from the first hour of any tower to the last of any; sites are sorted.
        Coordinates of a site are ``lat`` [degrees_north], ``lon`` [degrees_east], ``elevation``
        [m], ``utc_offset`` [hours], ``igbp`` and, where known, ``site_name``, ``citation``,
        ``doi``. One chunk is one variable of one site.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    FileFormatError
        If a file is empty, truncated, daily or coarser, or not a FLUXNET file; if two files are
        of the same tower; when values are computed, if a cell is not a number or the file has
        been replaced by a longer or shorter one.
    TimestampError
        If time stamps are absent, repeated, unsorted or irregular.
    MetadataError
        If the tower is unknown, lacks coordinates, or its metadata cannot be true.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> folder = TemporaryDirectory()
    >>> path = Path(folder.name, "FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-1996_1-4.csv")
    >>> _ = path.write_text(
    ...     "TIMESTAMP_START,TIMESTAMP_END,TA_F,TA_F_QC\n"
    ...     "199601010000,199601010030,2.5,0\n"
    ...     "199601010030,199601010100,3.5,1\n"
    ... )
    >>> tower = open_fluxnet(path, metadata=dict(lat=50.96, lon=13.57, igbp="ENF", utc_offset=1))
    >>> tower["TA"].dims, tower["TA"].attrs["source_column"]
    (('site', 'time'), 'TA_F')
    >>> tower["TA"].values, tower["TA_QC"].values
    (array([[3.]], dtype=float32), array([[1]], dtype=int8))
    >>> folder.cleanup()
    """
    paths = [path_or_paths] if isinstance(path_or_paths, str | os.PathLike) else list(path_or_paths)
    if not paths:
        raise FileNotFoundError("there is no file to open: the list of paths is empty")
    given = _given_metadata(metadata)
    only = next(iter(given)) if len(given) == len(paths) == 1 else ""
    towers = sorted((_survey(Path(path), only) for path in paths), key=lambda tower: tower.site)
    _check_sites(towers)
    ds = _label(towers, _complete_metadata(towers, given))
    names = ", ".join(tower.source.name for tower in towers)
    return conventions.apply(
        ds, history="xcarbon.open_fluxnet", source=f"FLUXNET files {names}", **_terms(towers)
    )


# Files and headers


def _locate(path: Path) -> Source:
    """Find the half-hourly or hourly file of a tower, in a zip if it is one."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    absolute = str(path.absolute())  # a worker may run in another folder
    if path.suffix != ".zip":
        return Source(absolute)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except zipfile.BadZipFile as error:
        raise FileFormatError(f"{path}: truncated, or not a zip ({error})") from error
    names = {member: _NAME.fullmatch(Path(member).name) for member in members}
    found = [member for member, name in names.items() if name and name["resolution"] in _READABLE]
    if len(found) != 1:
        raise FileFormatError(
            f"{path}: must hold exactly one half-hourly (HH) or hourly (HR) file of the SUBSET or "
            f"FULLSET, but has {found or 'none'} among {members}"
        )
    return Source(absolute, found[0])


def _read_header(source: Source) -> list[str]:
    """Read the names of the columns, and make sure that these are of a file for open_fluxnet."""
    with source.lines() as lines:
        _, header = next(lines, (0, []))
    start = repr(",".join(header)[:80])
    if not header:
        raise FileFormatError(f"{source}: the file is empty")
    if not _choose_columns(header):
        raise FileFormatError(f"{source}: not a FLUXNET file, for its header starts with {start}")
    if TIMESTAMP not in header and "TIMESTAMP" in header:
        raise FileFormatError(f"{source}: daily or coarser (TIMESTAMP); {_WANTED}")
    if TIMESTAMP not in header:
        raise TimestampError(f"{source}: no column {TIMESTAMP} in the header, which starts with {start}")
    if len(set(header)) < len(header):
        repeated = sorted({column for column in header if header.count(column) > 1})
        raise FileFormatError(f"{source}: columns {repeated} stand in the header more than once")
    return header


def _choose_columns(header: list[str]) -> dict[str, str]:
    """Choose, for each variable, the best of its columns that are there."""
    return {
        code: next(column for column in variable.columns if column in header)
        for code, variable in VARIABLES.items()
        if not set(variable.columns).isdisjoint(header)
    }


# Time stamps


def _check_stamps(stamps: NDArray[np.int64], source: Source) -> tuple[dt.datetime, int]:
    """Make sure that stamps YYYYMMDDHHMM are regular; return the first and the step [minutes]."""
    if stamps.size < 2:
        raise FileFormatError(f"{source}: {stamps.size} rows under the header; at least two are needed")
    first, second = _parse(stamps[0]), _parse(stamps[1])
    if first is None or second is None:
        raise _stamp_error(stamps, 0 if first is None else 1, 30, source)
    step = int((second - first).total_seconds()) // 60
    if step not in (30, 60):
        raise _stamp_error(stamps, 1, 30, source)
    if first.minute % step:
        unit = "hour" if step == 60 else "half-hour"
        raise TimestampError(f"{source}: the first stamp {stamps[0]} is not the start of a clock {unit}")
    wrong = np.flatnonzero(stamps != _regular_stamps(first, step, stamps.size))
    if wrong.size:
        raise _stamp_error(stamps, int(wrong[0]), step, source)
    return first, step


def _parse(stamp: np.int64) -> dt.datetime | None:
    """Read YYYYMMDDHHMM; None if it is not one."""
    try:
        found = dt.datetime.strptime(str(stamp), "%Y%m%d%H%M")
    except ValueError:
        return None
    return found if stamp >= 1900_00_00_00_00 else None  # fewer digits can pass for a time, too


def _regular_stamps(first: dt.datetime, step: int, count: int) -> NDArray[np.int64]:
    """Write the stamps YYYYMMDDHHMM of ``count`` steps [minutes] from the first."""
    minutes = first.hour * 60 + first.minute + step * np.arange(count)
    days = np.datetime64(first, "D") + np.arange(minutes[-1] // 1440 + 1)
    years, months = days.astype("M8[Y]"), days.astype("M8[M]")
    year, month = years.astype("int64") + 1970, (months - years).astype("int64") + 1
    dates = (year * 100 + month) * 100 + (days - months).astype("int64") + 1
    of_day = np.arange(1440)
    day, minute = np.divmod(minutes, 1440)
    return dates[day] * 10_000 + (of_day // 60 * 100 + of_day % 60)[minute]


def _stamp_error(stamps: NDArray[np.int64], row: int, step: int, source: Source) -> TimestampError:
    """Describe the stamp of a row, which does not follow from the one before it."""
    place = f"{source}, line {find_line(source, row)}"
    stamp, found = stamps[row], _parse(stamps[row])
    if found is None:
        kind = f"daily or coarser; {_WANTED}" if len(str(stamp)) in (4, 6, 8) else "not YYYYMMDDHHMM"
        return TimestampError(f"{place}: {TIMESTAMP} {stamp} is {kind}")
    before = _parse(stamps[row - 1])
    assert before is not None  # the rows before are regular
    jump = int((found - before).total_seconds()) // 60
    fault = "repeats" if jump == 0 else "goes back after" if jump < 0 else "leaves a gap after"
    message = f"{place}: {TIMESTAMP} {stamp} {fault} {stamps[row - 1]}, where steps are {step} minutes"
    if abs(jump - step) == 60 and found.month in (3, 4, 9, 10, 11) and found.hour <= 4:
        message += (
            "; this looks like a change to or from daylight saving time, but FLUXNET files are in "
            "local standard time all year round"
        )
    return TimestampError(message)


# The survey of a file when it is opened, and its values when they are computed


@dataclass(frozen=True, slots=True)
class _Tower:
    """What is known of a file before its values are read.

    Attributes
    ----------
    columns : dict
        The column of each variable.
    coded : tuple of str
        Variables with a column of quality codes.
    first : numpy.datetime64
        Start of the first row [minutes].
    rows : int
        Number of time steps.
    step : {30, 60}
        Their length [minutes].
    """

    source: Source
    site: str
    columns: dict[str, str]
    coded: tuple[str, ...]
    first: np.datetime64
    rows: int
    step: int

    @property
    def start(self) -> np.datetime64:
        """First hour."""
        return self.first.astype("M8[h]")

    @property
    def half_past(self) -> bool:
        """Whether the first row starts at half past."""
        return bool(self.first != self.start)

    @property
    def hours(self) -> int:
        """Number of clock hours."""
        return self.rows if self.step == 60 else clock.hours_touched(self.rows, half_past=self.half_past)

    @property
    def names(self) -> list[str]:
        """Names of variables and codes in the Dataset."""
        return [*self.columns, *(f"{code}{QC}" for code in self.coded)]


def _survey(path: Path, site: str) -> _Tower:
    """Read and check the header and the time stamps of a file."""
    source = _locate(path)
    name = _NAME.fullmatch(source.name)
    if name and name["resolution"] not in _READABLE:
        raise FileFormatError(f"{source}: daily or coarser ({name['resolution']}); {_WANTED}")
    site = name["site"] if name else site
    if not site:
        raise MetadataError(
            f"{source}: the tower is not in the name, which is not like "
            "FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-2014_1-4.csv; pass metadata=dict(site=..., ...)"
        )
    header = _read_header(source)
    columns = _choose_columns(header)
    stamps = read_columns(source, {TIMESTAMP: pa.int64()})[TIMESTAMP].to_numpy()
    first, step = _check_stamps(stamps, source)
    return _Tower(
        source,
        site,
        columns,
        tuple(code for code, column in columns.items() if f"{column}{QC}" in header),
        np.datetime64(first, "m"),
        stamps.size,
        step,
    )


def _read_hours(tower: _Tower) -> dict[str, NDArray[Any]]:
    """Read all values of a file as clock hours, each array (hours,)."""
    codes = {code: f"{tower.columns[code]}{QC}" for code in tower.coded}
    types = dict.fromkeys([*tower.columns.values(), *codes.values()], pa.float32())
    table = read_columns(tower.source, types, _MISSING_CELLS)
    if table.num_rows != tower.rows:
        raise FileFormatError(
            f"{tower.source}: had {tower.rows} rows when it was opened, now has {table.num_rows}"
        )
    hours: dict[str, NDArray[Any]] = {}
    for code, column in tower.columns.items():
        variable = VARIABLES[code]
        how: clock.Method = "direction" if variable.cyclic else variable.cell_method
        hours[code] = _combine(_values(table[column]), how, tower)
    for code, column in codes.items():
        worst = _combine(_codes(_values(table[column]), column, tower.source), "worst", tower)
        hours[f"{code}{QC}"] = np.where(np.isnan(hours[code]), MISSING_FLAG, worst)
    return hours


def _values(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """Give numbers with NaN for what is missing, however -9999 was written."""
    values = column.to_numpy()
    return np.where(values == MISSING, np.float32(np.nan), values)


def _codes(values: NDArray[np.float32], column: str, source: Source) -> NDArray[np.int8]:
    """Turn numbers to quality codes, -1 where missing."""
    missing = np.isnan(values)
    wrong = np.flatnonzero(~(missing | np.isin(values, MDS.flag_values)))
    if wrong.size:
        row = int(wrong[0])
        raise FileFormatError(
            f"{source}, line {find_line(source, row)}, column {column}: {values[row]:g} is not a "
            "quality code (fractions are those of daily or coarser files)"
        )
    return np.where(missing, MISSING_FLAG, values).astype("int8")


def _combine(values: NDArray[Any], how: clock.Method, tower: _Tower) -> NDArray[Any]:
    return values if tower.step == 60 else clock.to_hours(values, how, half_past=tower.half_past)


# The graph


def _missing(name: str) -> np.float32 | np.int8:
    """Give the missing value of a variable or of its codes, which also tells its type."""
    return MISSING_FLAG if name.endswith(QC) else np.float32(np.nan)


def _read_lazily(tower: _Tower, start: np.datetime64, total: int) -> dict[str, da.Array]:
    """Map one task over the file and one over each of its arrays, all (1, total) from ``start``."""
    hours = dask.delayed(_read_hours)(tower)
    before = int((tower.start - start) / HOUR)
    return {
        name: da.from_delayed(
            dask.delayed(_place)(hours, name, before, total), (1, total), _missing(name).dtype
        )
        for name in tower.names
    }


def _place(hours: dict[str, NDArray[Any]], name: str, before: int, total: int) -> NDArray[Any]:
    """Set one array (hours,) into the time axis of all towers, (1, total)."""
    placed = np.full((1, total), _missing(name))
    placed[0, before : before + hours[name].size] = hours[name]
    return placed


# Labels

_DIMS = ("site", "time")


def _label(towers: list[_Tower], sites: list[SiteMetadata]) -> xr.Dataset:
    """Put the towers' arrays under ``(site, time)``, on the hours from the first to the last."""
    start = min(tower.start for tower in towers)
    end = max(tower.start + tower.hours for tower in towers)
    time = np.arange(start, end).astype("M8[ns]")
    arrays = [_read_lazily(tower, start, time.size) for tower in towers]
    variables: dict[str, Any] = {}
    for code in VARIABLES:
        having = [tower for tower in towers if code in tower.columns]
        if having:
            columns = sorted({tower.columns[code] for tower in having})
            attrs: dict[str, Any] = {"source_column": ", ".join(columns)}
            variables[code] = (_DIMS, _stack(arrays, code, time.size), attrs)
        coded = [tower for tower in having if code in tower.coded]
        if coded:
            attrs = conventions.quality_attrs(code, _one_scheme(code, coded))
            variables[f"{code}{QC}"] = (_DIMS, _stack(arrays, f"{code}{QC}", time.size), attrs)
    return xr.Dataset(variables, _site_coordinates(sites) | {"time": time})


def _stack(arrays: list[dict[str, da.Array]], name: str, total: int) -> da.Array:
    """Stack an array of each tower to (site, time), missing where a tower lacks it."""
    shape = (1, total)
    return da.concatenate(
        [of[name] if name in of else da.full(shape, _missing(name), chunks=shape) for of in arrays]
    )


def _one_scheme(code: str, towers: list[_Tower]) -> QualityScheme:
    """Make sure that a code means the same for all towers."""
    schemes = {quality_scheme(tower.columns[code]).name: tower for tower in towers}
    if len(schemes) > 1:
        columns = " and ".join(f"{tower.columns[code]} in {tower.source}" for tower in schemes.values())
        raise FileFormatError(f"quality codes of {columns} differ in meaning; open the files one by one")
    return quality_scheme(towers[0].columns[code])


def _site_coordinates(sites: list[SiteMetadata]) -> dict[str, Any]:
    """Give the coordinates along ``site``, without texts that no tower has."""
    columns: dict[str, Any] = {
        "site": np.array([site.site for site in sites]),
        "lat": np.array([site.lat for site in sites], "float64"),
        "lon": np.array([site.lon for site in sites], "float64"),
        "elevation": np.array([site.elevation for site in sites], "float32"),
        "igbp": np.array([site.igbp for site in sites]),
        "utc_offset": np.array([site.utc_offset for site in sites], "float32"),
    }
    for name in ("site_name", "citation", "doi"):
        texts = [getattr(site, name) for site in sites]
        if any(texts):
            columns[name] = np.array(texts)
    return {name: ("site", values) for name, values in columns.items()}


def _terms(towers: list[_Tower]) -> dict[str, str]:
    """Give licence and reference, if all files are of FLUXNET2015."""
    if not all(_NAME.fullmatch(tower.source.name) for tower in towers):
        return {}
    tier_two = ", ".join(tower.site for tower in towers if tower.site in _TIER_TWO)
    licence = f"CC-BY-4.0, but FLUXNET2015 Tier Two policy for {tier_two}" if tier_two else "CC-BY-4.0"
    return {"license": licence, "references": _REFERENCE}


# Metadata


def _given_metadata(metadata: Metadata | None) -> Mapping[str, Mapping[str, Any]]:
    """Bring what the caller knows to fields by site; the site is "" if it is not told."""
    if metadata is None:
        return {}
    if isinstance(metadata, str | os.PathLike):
        return badm.read_fields(metadata)
    if isinstance(metadata, SiteMetadata):
        return {metadata.site: asdict(metadata)}
    if any(isinstance(known, Mapping | SiteMetadata) for known in metadata.values()):
        return {
            site: asdict(known) if isinstance(known, SiteMetadata) else known
            for site, known in metadata.items()
        }
    return {metadata.get("site", ""): metadata}


def _check_sites(towers: list[_Tower]) -> None:
    """Make sure that no tower has two files; the towers are sorted."""
    for one, other in itertools.pairwise(towers):
        if one.site == other.site:
            raise FileFormatError(
                f"{one.source} and {other.source} are both of {one.site}; open one file per tower"
            )


def _complete_metadata(towers: list[_Tower], given: Mapping[str, Mapping[str, Any]]) -> list[SiteMetadata]:
    """Complete what is given from the tables beside each file; a given field wins."""
    known = [tower.site for tower in towers]
    if len(towers) == 1 and "" in given:
        given = {known[0]: given[""]}
    if given and given.keys().isdisjoint(known):
        raise MetadataError(f"metadata tells of {list(given)[:5]}, but the files are of {known[:5]}")
    folders = {Path(tower.source.path).parent for tower in towers}
    beside = {folder: _tables_in(folder) for folder in folders}
    sites = []
    for tower in towers:
        fields: dict[str, Any] = {}
        for table in (given, *beside[Path(tower.source.path).parent]):
            found = table.get(tower.site, {})
            fields = {key: value for key, value in found.items() if not badm.is_missing(value)} | fields
        sites.append(badm.build(tower.site, fields, str(tower.source)))
    return sites


def _tables_in(folder: Path) -> list[dict[str, dict[str, Any]]]:
    """Read the tables of metadata in a folder, best first."""
    paths = [*folder.glob("site_data.csv"), *sorted(folder.glob("*BIF*.csv"))]
    return [badm.read_fields(path) for path in paths]
