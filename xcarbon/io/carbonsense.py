"""CarbonSense (arXiv 2406.04940), in both of its forms, to a Dataset in physical units.

Found in the code that makes the dataset, https://github.com/mjfortier/CarbonSense:

- v1 (``pipeline/5_normalize_and_organize.ipynb``, ``normalization_config.yml``): a folder per site and
  contiguous period. ``meta.json`` has ``SITE_ID``, ``LOCATION_LAT``, ``LOCATION_LON``, ``LOCATION_ELEV``,
  ``IGBP`` (null where unknown), ``SOURCES`` and ``TIME``, the first and last date. The tables have
  ``timestamp`` (``TIMESTAMP_START`` of FLUXNET: start of the hour, local standard time) and FLUXNET columns,
  empty cells where missing. Predictors are scaled with the bounds of the paper, targets are not. Quality
  codes have been applied and are gone. ``modis.pkl`` maps a pandas Timestamp, noon of the day, to a float32
  array ``(9, 10, 10)``: reflectance [1] of MCD43A4 bands 1 to 7, cut off at 1, snow and water; -1 is fill.
- v2 (``stage_2.py``, ``stage_3.py``, ``stage_4.py``): an SQLite file ``carbonsense_v2.sql``. ``ec_data`` has
  ``id``, ``site``, ``timestamp`` (an integer YYYYMMDDHHMM) and a REAL column per FLUXNET base code,
  predictors scaled with bounds of its own, targets not. ``modis_data`` has ``row_id`` (an ``id`` of
  ``ec_data``) and ``data``, the bytes of a float32 array ``(9, 8, 8)``; ``site_data`` has ``site``, ``lat``,
  ``lon``, ``elev``, ``igbp``. Bounds of soil water content and water table depth are the wrong way round,
  which leaves these columns empty. Half-hours are averaged in pairs from the first row on: towers whose
  record starts at half past (as CN-Hgu in ``pipeline/carbonsense_site_summary.csv``) have all hours there.
- Patches are on the grid of the tower's UTM zone (``pipeline/old/4_download_modis.ipynb``). The inner 8 by 8
  of 10 by 10 pixels count (``ecoperceiver/dataset.py`` of https://github.com/mjfortier/EcoPerceiver). The
  dataset is licensed CC BY 4.0 (``README.md``).

Inferred, for the files themselves have not been seen: that they were made by that code as it stands (v2
hourly, as in ``run_pipeline.ipynb``, and precipitation scaled from 0 to 100 mm: the code that writes
``site_data`` says so, an older one 50); the units, which are those of the FLUXNET products; that rows of
patches run from north to south, as in any GeoTIFF; and that v2 has the licence of v1.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from xcarbon.core import conventions
from xcarbon.core.conventions import MISSING_FLAG
from xcarbon.core.errors import FileFormatError, MetadataError, TimestampError
from xcarbon.core.variables import PATCH_BANDS, REFLECTANCE_BANDS, VARIABLES, Bounds
from xcarbon.io import badm, unpickle
from xcarbon.io.badm import Metadata
from xcarbon.io.columns import Source
from xcarbon.io.modis.grid import PATCH_PIXELS
from xcarbon.prep.limits import apply_limits_to_column

Array = NDArray[Any]

_FILES = _META, _PREDICTORS, _TARGETS, _PATCHES = "meta.json", "predictors.csv", "targets.csv", "modis.pkl"
#: Variables that the tables of v1 can hold; day of year and time of day follow from the time stamp.
_CODES = {
    _PREDICTORS: [code for code, of in VARIABLES.items() if of.bounds and not of.is_time_feature],
    _TARGETS: [code for code, of in VARIABLES.items() if of.is_target],
}
_DATABASE = "carbonsense_v2.sql"
#: Bounds that v2 was scaled with, in the units of the vocabulary, where they are not those of the paper.
_BOUNDS_V2 = {
    "P": Bounds(0, 100), "PA": Bounds(0, 110), "CO2": Bounds(0, 750), "SW_IN": Bounds(-1500, 1500),
    "SW_IN_POT": Bounds(-1500, 1500), "SW_OUT": Bounds(-500, 500), "LW_IN": Bounds(-1000, 1000),
    "LW_OUT": Bounds(-1000, 1000), "NETRAD": Bounds(-1000, 1000), "PPFD_IN": Bounds(-2500, 2500),
    "PPFD_OUT": Bounds(-1000, 1000), "WS": Bounds(-100, 100), "USTAR": Bounds(-4, 4),
    "G": Bounds(-700, 700), "H": Bounds(-700, 700), "LE": Bounds(-700, 700),
}  # fmt: skip
#: Rows of a database in memory at a time, as Python objects.
_BATCH = 20_000
#: How far rounding may carry a scaled value beyond its range.
_SLACK = 1e-6
_REFERENCE = "Fortier et al. 2024, CarbonSense, arXiv:2406.04940, https://zenodo.org/records/11403428"
_COMMENT = "what the dataset's own quality tolerance excludes is missing; it has no quality codes"
_PATCH_COMMENT = "grid of the tower's UTM zone, rows from north to south; reflectance is cut off at 1"


def open_carbonsense(path: str | os.PathLike[str], *, metadata: Metadata | None = None) -> xr.Dataset:
    r"""Open the CarbonSense dataset as one lazy, hourly, CF-compliant Dataset in physical units.

    Metadata and the names of columns are read and checked at once; values and patches are read when they
    are computed, those of a site in one task each.

    Parameters
    ----------
    path : path-like
        The folder of v1, with ``<site>/<start>_<end>/``; or the SQLite file of v2, or its folder.
    metadata : path-like, SiteMetadata or mapping, optional
        What is known of the towers beyond the dataset, such as their UTC offsets and names; see
        :func:`xcarbon.io.badm.read_metadata`. A given field wins.

    Returns
    -------
    xarray.Dataset
        Float32 variables by code on ``(site, time)`` in the units of the vocabulary, with the column they
        come from in ``source_column``; missing where no period has a record. Infinite targets are missing.
        Time labels are the start of the hour in local standard time, from the first hour of any tower to
        the last of any; a record of v2 that starts at half past stands under the hour it starts in.
        ``reflectance (site, day, band, y, x)`` [1], int8 flags ``snow`` and ``water (site, day, y, x)``,
        8 by 8 pixels. There are no quality codes: the dataset has none. One chunk is one site.

    Raises
    ------
    FileNotFoundError
        If there is nothing at ``path``.
    FileFormatError
        If it is no form of CarbonSense; if a period lacks a file, a table lacks a column, or ``meta.json``
        cannot be read. When values are computed: if a number is not one or not scaled, two records or
        patches are of the same time, a patch has another shape, or a pickle holds anything but patches.
    TimestampError
        If a time stamp cannot be read or, when values are computed, lies outside the dates of all towers.
    MetadataError
        If a tower lacks coordinates or a class, its metadata cannot be true, or ``metadata`` knows none.

    Examples
    --------
    >>> import json, pickle, tempfile
    >>> meta = {"SITE_ID": "DE-Tha", "LOCATION_LAT": 50.96, "LOCATION_LON": 13.57, "IGBP": "ENF"}
    >>> files = {
    ...     "meta.json": json.dumps(meta | {"TIME": ["2010-01-01", "2010-12-31"]}).encode(),
    ...     "predictors.csv": b"timestamp,TA_F\n2010-01-01 12:00:00,0.125",
    ...     "targets.csv": b"timestamp,NEE_VUT_REF\n2010-01-01 12:00:00,-1.5",
    ...     "modis.pkl": pickle.dumps({}),
    ... }
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     period = Path(folder, "DE-Tha", "2010-01-01_2010-12-31")
    ...     period.mkdir(parents=True)
    ...     sizes = [(period / name).write_bytes(content) for name, content in files.items()]
    ...     towers = open_carbonsense(folder)
    ...     float(towers["TA"].sel(site="DE-Tha", time="2010-01-01T12:00"))
    20.0
    """
    place = Path(path).absolute()  # a worker may run in another folder
    if (place / _DATABASE).is_file():
        place = place / _DATABASE
    if not place.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    towers = _survey_database(place) if place.is_file() else _survey_folder(place)
    given, told = badm.given_fields(metadata), {tower.site: tower.fields for tower in towers}
    if given and given.keys().isdisjoint(told):
        raise MetadataError(f"metadata tells of {list(given)[:5]}, but {path} has {list(told)[:5]}")
    sites = [badm.build(site, badm.merge_fields([given, told], site), str(place)) for site in told]
    return conventions.apply(
        _label(towers).assign_coords(badm.site_coordinates(sites)),
        history="xcarbon.open_carbonsense",
        source=f"CarbonSense {'v2' if place.is_file() else 'v1'}, {place.name}",
        license="CC-BY-4.0",
        references=_REFERENCE,
        comment=_COMMENT,
    )


# Towers of both forms give records and patches, with the place they are from for messages

#: Place, time stamps ``(rows,)``, scaled values ``(columns, rows)``.
_Record = tuple[str, Array, Array]
#: Place, day, bands ``(band, y, x)``.
_Patch = tuple[str, np.datetime64, Array]


@dataclass(frozen=True, slots=True)
class _Tower(ABC):
    """What is known of a tower before its values are read.

    Attributes
    ----------
    columns : dict
        The column of each variable.
    fields : dict
        What is told of the tower, by the names of :class:`xcarbon.io.badm.SiteMetadata`.
    first, last : numpy.datetime64
        First and last hour.
    bounds : dict
        Bounds that predictors are scaled with, where they are not those of the vocabulary.
    """

    site: str
    columns: dict[str, str]
    fields: dict[str, Any]
    first: np.datetime64
    last: np.datetime64
    bounds: ClassVar[dict[str, Bounds]] = {}

    @abstractmethod
    def records(self) -> Iterator[_Record]:
        """Read the values, some rows at a time."""

    @abstractmethod
    def patches(self) -> Iterator[_Patch]:
        """Read the patches."""


# v1: folders


@dataclass(frozen=True, slots=True)
class _Folder(_Tower):
    """A tower of v1, with the folders of its periods."""

    periods: tuple[Path, ...]

    def records(self) -> Iterator[_Record]:
        for period in self.periods:
            predictors, targets = (
                _read_table(period / name, [self.columns[code] for code in codes if code in self.columns])
                for name, codes in _CODES.items()
            )
            if not np.array_equal(predictors[0], targets[0]):
                raise FileFormatError(f"{period}: {_PREDICTORS} and {_TARGETS} have different time stamps")
            yield str(period), predictors[0], np.concatenate([predictors[1], targets[1]])

    def patches(self) -> Iterator[_Patch]:
        for period in self.periods:
            file = period / _PATCHES
            patches = unpickle.load(file)
            if not isinstance(patches, dict):
                raise FileFormatError(f"{file}: holds a {type(patches).__name__}, not a dict of patches")
            for time, patch in patches.items():
                if not (isinstance(time, dt.datetime) and isinstance(patch, np.ndarray)):
                    raise FileFormatError(f"{file}: {time!r} is no time, or does not stand for an array")
                yield str(file), np.datetime64(time.date(), "D"), patch


def _survey_folder(path: Path) -> list[_Tower]:
    """Find the towers and periods in the folder of v1, and read what is told of them."""
    periods: dict[str, list[Path]] = {}
    for period in sorted({file.parent for file in path.glob("*/*/*") if file.name in _FILES}):
        absent = [name for name in _FILES if not (period / name).is_file()]
        if absent:
            raise FileFormatError(f"{period}: a period of CarbonSense v1 has {_FILES}, lacks {absent}")
        periods.setdefault(period.parent.name, []).append(period)
    if not periods:
        forms = f"v1, a folder with {_FILES} in <site>/<start>_<end>/, nor v2, the SQLite file {_DATABASE}"
        raise FileFormatError(f"{path}: neither CarbonSense {forms}")
    return [_survey_site(site, tuple(found)) for site, found in periods.items()]


def _survey_site(site: str, periods: tuple[Path, ...]) -> _Folder:
    """Read the metadata and the headers of a tower's periods."""
    told = [_read_meta(period / _META, site) for period in periods]
    columns = [_choose_columns(period) for period in periods]
    for period, found in zip(periods, columns, strict=True):
        if found != columns[0]:
            differing = sorted({*found.values()} ^ {*columns[0].values()})
            raise FileFormatError(f"{period} and {periods[0]}: only one of them has columns {differing}")
    dates = np.array([meta["TIME"] for meta in told], "M8[D]")
    first, end = dates.min().astype("M8[h]"), (dates.max() + 1).astype("M8[h]")
    names = {"lat": "LOCATION_LAT", "lon": "LOCATION_LON", "elevation": "LOCATION_ELEV", "igbp": "IGBP"}
    fields = {field: told[0].get(name) for field, name in names.items()}
    return _Folder(site, columns[0], fields, first, end - 1, periods)


def _read_meta(path: Path, site: str) -> dict[str, Any]:
    """Read the metadata of a period, with its two dates."""
    try:
        meta = json.loads(path.read_bytes())
        start, end = (dt.date.fromisoformat(date) for date in meta["TIME"])
        found = meta["SITE_ID"]
    except (ValueError, KeyError, TypeError) as error:
        raise FileFormatError(f"{path}: not JSON with SITE_ID and two dates TIME ({error!r})") from error
    if found != site or end < start:
        raise FileFormatError(f"{path}: {found} from {start} to {end} cannot be a period of {site}")
    return meta | {"TIME": [start, end]}


def _choose_columns(period: Path) -> dict[str, str]:
    """Choose the column of each variable in the two tables of a period."""
    columns: dict[str, str] = {}
    for name, codes in _CODES.items():
        with Source(str(period / name)).lines() as lines:
            _, header = next(lines, (0, []))
        found = {
            code: next(column for column in VARIABLES[code].columns if column in header)
            for code in codes
            if not set(VARIABLES[code].columns).isdisjoint(header)
        }
        if "timestamp" not in header or not found:
            wanted = f"timestamp and columns such as {VARIABLES[codes[0]].columns[0]}"
            raise FileFormatError(f"{period / name}: must have {wanted}, has {header[:8]}")
        columns |= found
    return columns


def _read_table(path: Path, columns: list[str]) -> tuple[Array, Array]:
    """Read the time stamps of a table, and columns as ``(columns, rows)``."""
    types = {"timestamp": pa.timestamp("s"), **dict.fromkeys(columns, pa.float64())}
    try:
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(use_threads=False),  # errors then tell the row
            convert_options=pyarrow.csv.ConvertOptions(include_columns=list(types), column_types=types),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise FileFormatError(f"{path}: {error}") from error
    stamps = table["timestamp"]
    if stamps.null_count:
        raise TimestampError(f"{path}: {stamps.null_count} rows have no timestamp")
    return stamps.to_numpy(), np.stack([table[column].to_numpy() for column in columns])


# v2: a database


@dataclass(frozen=True, slots=True)
class _Rows(_Tower):
    """A tower of v2, with the database that its rows are in."""

    database: Path
    bounds: ClassVar[dict[str, Bounds]] = _BOUNDS_V2

    def records(self) -> Iterator[_Record]:
        names = "".join(f', "{column}"' for column in self.columns.values())  # ours, not the file's
        query = f"SELECT id, timestamp{names} FROM ec_data WHERE site = ? ORDER BY id"
        with _connect(self.database) as connection:
            cursor = connection.execute(query, [self.site])
            while rows := cursor.fetchmany(_BATCH):
                place = f"{self.database}, {self.site}, ids {rows[0][0]} to {rows[-1][0]} of ec_data"
                try:
                    numbers = np.array(rows, "float64").T  # NULL is NaN
                except (TypeError, ValueError) as error:
                    raise FileFormatError(f"{place}: {error}") from error
                yield place, _parse_stamps(numbers[1], place), numbers[2:]

    def patches(self) -> Iterator[_Patch]:
        query = (
            "SELECT ec.id, ec.timestamp, modis.data FROM ec_data AS ec JOIN modis_data AS modis "
            "ON modis.row_id = ec.id WHERE ec.site = ? ORDER BY ec.id"
        )
        size = len(PATCH_BANDS) * PATCH_PIXELS**2 * np.dtype("float32").itemsize
        with _connect(self.database) as connection:
            cursor = connection.execute(query, [self.site])
            while rows := cursor.fetchmany(_BATCH // 20):
                place = f"{self.database}, {self.site}, modis_data"
                days = _parse_stamps([row[1] for row in rows], place).astype("M8[D]")
                for (row, _, blob), day in zip(rows, days, strict=True):
                    if not isinstance(blob, bytes) or len(blob) != size:
                        found = len(blob) if isinstance(blob, bytes) else repr(blob)
                        raise FileFormatError(f"{place} of row_id {row}: found {found} bytes, not {size}")
                    patch = np.frombuffer(blob, "<f4").reshape(-1, PATCH_PIXELS, PATCH_PIXELS)
                    yield f"{place} of row_id {row}", day, patch


@contextlib.contextmanager
def _connect(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database to read; whatever it trips over is a FileFormatError."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise FileFormatError(f"{path}: cannot be read as SQLite file of CarbonSense v2 ({error})") from error


def _survey_database(path: Path) -> list[_Tower]:
    """Find the towers in a database, by its indexes and without reading its tables."""
    following = "SELECT site, timestamp FROM ec_data WHERE site > ? ORDER BY site, id LIMIT 1"
    latest = "SELECT timestamp FROM ec_data WHERE site = ? ORDER BY id DESC LIMIT 1"
    names = ("lat", "lon", "elevation", "igbp")
    towers: list[_Tower] = []
    with _connect(path) as connection:
        present = {name for name, *_ in connection.execute("SELECT * FROM ec_data LIMIT 0").description}
        connection.execute("SELECT row_id, data FROM modis_data LIMIT 0")  # an error if it is not there
        columns = {code: code for codes in _CODES.values() for code in codes if code in present}
        rows = connection.execute("SELECT site, lat, lon, elev, igbp FROM site_data")
        fields = {site: dict(zip(names, known, strict=True)) for site, *known in rows}
        site = ""
        while row := connection.execute(following, [site]).fetchone():
            site, stamp = row
            (end,) = connection.execute(latest, [site]).fetchone()
            first, last = _parse_stamps([stamp, end], f"{path}, {site}").astype("M8[h]")
            towers.append(_Rows(site, columns, fields.get(site, {}), first, last, path))
    if not towers or not columns:
        raise FileFormatError(f"{path}: ec_data has no rows, or no column of a known variable")
    return towers


def _parse_stamps(stamps: ArrayLike, place: str) -> Array:
    """Read numbers YYYYMMDDHHMM."""
    try:
        text = np.asarray(stamps, "float64").astype("int64").astype(str)
        return pd.to_datetime(text, format="%Y%m%d%H%M").to_numpy()
    except (TypeError, ValueError) as error:
        raise TimestampError(f"{place}: a timestamp is not YYYYMMDDHHMM ({error})") from error


# The values of a site on the axes of all sites


def _read_series(tower: _Tower, codes: Sequence[str], start: np.datetime64, total: int) -> Array:
    """Read all variables of a tower in physical units, ``(1, codes, total)`` from ``start``."""
    series = np.full((1, len(codes), total), np.nan, "float32")
    taken = np.zeros(total, bool)
    for place, stamps, values in tower.records():
        hours = _positions(stamps, start, total, place)
        if taken[hours].any() or np.unique(hours).size < hours.size:
            raise FileFormatError(f"{place}: two records are of the same hour; are they half-hours?")
        taken[hours] = True
        for (code, column), scaled in zip(tower.columns.items(), values, strict=True):
            bounds = tower.bounds.get(code, VARIABLES[code].bounds)
            physical = _unscale(scaled, bounds, VARIABLES[code].cyclic, f"{place}, {column}")
            series[0, codes.index(code), hours] = physical
    for row, code in enumerate(codes):
        series[0, row] = apply_limits_to_column(series[0, row], VARIABLES[code].limits)
    return series


def _positions(stamps: Array, start: np.datetime64, total: int, place: str) -> Array:
    """Find the places of time stamps on the axis of hours."""
    hours = stamps.astype("M8[h]")
    positions = (hours - start).astype("int64")
    past = (stamps - hours).astype("m8[s]").astype("int64")
    wrong = np.flatnonzero((positions < 0) | (positions >= total) | ~np.isin(past, (0, 1800)))
    if wrong.size:
        raise TimestampError(
            f"{place}: {stamps[wrong[0]]} is no full or half hour from {start} to {start + total - 1}, "
            "between which all records lie"
        )
    return positions


def _unscale(scaled: Array, bounds: Bounds | None, cyclic: bool, place: str) -> Array:
    """Turn scaled values to physical ones, as the inverse of :func:`xcarbon.prep.scale.scale`."""
    if bounds is None:
        return np.where(np.isfinite(scaled), scaled, np.nan)
    limit = 1.0 if cyclic else 0.5
    wrong = scaled[np.abs(scaled) > limit + _SLACK]
    if wrong.size:
        raise FileFormatError(
            f"{place}: {wrong[0]:g} is no scaled value, for these lie between {-limit:g} and {limit:g}"
        )
    middle = (bounds.lower + bounds.upper) / 2
    return middle + scaled * (bounds.upper - bounds.lower) / (2 * limit)


def _read_patches(tower: _Tower, start: np.datetime64, total: int) -> Array:
    """Read all patches of a tower, ``(1, total, band, y, x)`` from the day ``start``."""
    bands = len(REFLECTANCE_BANDS)
    patches = np.full((1, total, len(PATCH_BANDS), PATCH_PIXELS, PATCH_PIXELS), np.nan, "float32")
    patches[:, :, bands:] = MISSING_FLAG
    taken = np.zeros(total, bool)
    for place, day, patch in tower.patches():
        position = int((day - start).astype("int64"))
        if not 0 <= position < total or taken[position]:
            raise TimestampError(f"{place}: the patch of {day} is the second one, or outside of all records")
        taken[position] = True
        patch = _centre(patch, f"{place}, {day}")
        patches[0, position, :bands] = np.where(patch[:bands] >= 0, patch[:bands], np.nan)
        patches[0, position, bands:] = np.where(np.isin(patch[bands:], (0, 1)), patch[bands:], MISSING_FLAG)
    return patches


def _centre(patch: Array, place: str) -> Array:
    """Cut a patch of 10 by 10 pixels to the inner 8 by 8, which other patches are."""
    small, large = ((len(PATCH_BANDS), size, size) for size in (PATCH_PIXELS, PATCH_PIXELS + 2))
    if patch.shape not in (small, large) or patch.dtype.kind not in "fiu":
        raise FileFormatError(
            f"{place}: a patch has numbers of shape {small} or {large}, found {patch.dtype} of {patch.shape}"
        )
    return patch if patch.shape == small else patch[:, 1:-1, 1:-1]


# The graph and the labels


def _label(towers: Sequence[_Tower]) -> xr.Dataset:
    """Put the values of all towers under ``(site, time)`` and ``(site, day, band, y, x)``."""
    start, last = min(tower.first for tower in towers), max(tower.last for tower in towers)
    time, day = np.arange(start, last + 1), np.arange(start.astype("M8[D]"), last.astype("M8[D]") + 1)
    codes = [code for code in VARIABLES if any(code in tower.columns for tower in towers)]
    series = _lazily(_read_series, towers, (len(codes), time.size), codes, start, time.size)
    shape = (day.size, len(PATCH_BANDS), PATCH_PIXELS, PATCH_PIXELS)
    patches = _lazily(_read_patches, towers, shape, day[0], day.size)
    variables: dict[str, Any] = {}
    for row, code in enumerate(codes):
        columns = sorted({tower.columns[code] for tower in towers if code in tower.columns})
        variables[code] = (("site", "time"), series[:, row], {"source_column": ", ".join(columns)})
    attrs, bands = {"comment": _PATCH_COMMENT}, list(REFLECTANCE_BANDS)
    variables["reflectance"] = (("site", "day", "band", "y", "x"), patches[:, :, : len(bands)], attrs)
    for flag in ("snow", "water"):
        layer = patches[:, :, PATCH_BANDS.index(flag)].astype("int8")
        variables[flag] = (("site", "day", "y", "x"), layer, attrs)
    return xr.Dataset(variables, {"time": time.astype("M8[ns]"), "day": day.astype("M8[ns]"), "band": bands})


def _lazily(
    read: Callable[..., Array], towers: Sequence[_Tower], shape: tuple[int, ...], *settings: Any
) -> da.Array:
    """Map one task over each tower to an array ``(site, *shape)``."""
    arrays = [dask.delayed(read)(tower, *settings) for tower in towers]
    return da.concatenate([da.from_delayed(array, (1, *shape), "float32") for array in arrays])
