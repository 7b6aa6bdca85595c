"""Version 1 of CarbonSense: one folder per site and contiguous period.

``meta.json`` contains ``SITE_ID``, ``LOCATION_LAT``, ``LOCATION_LON``, ``LOCATION_ELEV``, ``IGBP`` (null if
unknown), ``SOURCES`` and ``TIME``, the first and last date. The tables contain ``timestamp``
(``TIMESTAMP_START`` of FLUXNET: start of the hour in local standard time) and FLUXNET columns with empty
cells for missing values. Predictors are scaled with the bounds of the paper, targets are not scaled. Quality
flags have been applied and are not included. ``modis.pkl`` maps a pandas Timestamp, noon of the day, to a
float32 array ``(9, 10, 10)``: reflectance [1] of MCD43A4 bands 1 to 7, limited to 1, then snow and water;
fill pixels are -1. The code that generates the files is ``pipeline/5_normalize_and_organize.ipynb`` with
``normalization_config.yml``.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from xcarbon.core.errors import FileFormatError, TimestampError
from xcarbon.core.variables import VARIABLES
from xcarbon.io import unpickle
from xcarbon.io.carbonsense.sites import DATABASE, PREDICTORS, TARGETS, Array, Patch, Record, Site
from xcarbon.io.columns import Source

_FILES = _META, _PREDICTORS, _TARGETS, _PATCHES = "meta.json", "predictors.csv", "targets.csv", "modis.pkl"
#: Variables in the two tables.
_CODES = {_PREDICTORS: PREDICTORS, _TARGETS: TARGETS}


def survey_folder(path: Path) -> list[Site]:
    """Find the towers and periods in the folder of v1, and read their metadata and headers."""
    periods: dict[str, list[Path]] = {}
    for period in sorted({file.parent for file in path.glob("*/*/*") if file.name in _FILES}):
        absent = [name for name in _FILES if not (period / name).is_file()]
        if absent:
            raise FileFormatError(f"{period}: a period of CarbonSense v1 needs {_FILES}, but lacks {absent}")
        periods.setdefault(period.parent.name, []).append(period)
    if not periods:
        raise FileFormatError(
            f"{path}: the path contains neither CarbonSense v1, a folder with {_FILES} in "
            f"<site>/<start>_<end>/, nor v2, the SQLite file {DATABASE}"
        )
    return [_survey_site(site, tuple(found)) for site, found in periods.items()]


def _survey_site(site: str, periods: tuple[Path, ...]) -> _Folder:
    """Read the metadata and the headers of the periods of a tower."""
    metas = [_read_meta(period / _META, site) for period in periods]
    columns = [_choose_columns(period) for period in periods]
    for period, found in zip(periods, columns, strict=True):
        if found != columns[0]:
            differing = sorted({*found.values()} ^ {*columns[0].values()})
            raise FileFormatError(
                f"{period} and {periods[0]}: only one of them has the columns {differing}; all periods of a "
                "site must have the same columns"
            )
    dates = np.array([meta["TIME"] for meta in metas], "M8[D]")
    first, end = dates.min().astype("M8[h]"), (dates.max() + 1).astype("M8[h]")
    names = {"lat": "LOCATION_LAT", "lon": "LOCATION_LON", "elevation": "LOCATION_ELEV", "igbp": "IGBP"}
    fields = {field: metas[0].get(name) for field, name in names.items()}
    return _Folder(site, columns[0], fields, first, end - 1, periods)


def _read_meta(path: Path, site: str) -> dict[str, Any]:
    """Read the metadata of a period; ``TIME`` becomes two dates."""
    try:
        meta = json.loads(path.read_bytes())
        start, end = (dt.date.fromisoformat(date) for date in meta["TIME"])
        found = meta["SITE_ID"]
    except (ValueError, KeyError, TypeError) as error:
        raise FileFormatError(
            f"{path}: the file is not JSON with SITE_ID and two dates in TIME ({error!r})"
        ) from error
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
            raise FileFormatError(f"{period / name}: the table must have {wanted}, but has {header[:8]}")
        columns |= found
    return columns


@dataclass(frozen=True, slots=True)
class _Folder(Site):
    """A tower of v1 and the folders of its periods."""

    periods: tuple[Path, ...]

    def records(self) -> Iterator[Record]:
        for period in self.periods:
            predictors, targets = (
                _read_table(period / name, [self.columns[code] for code in codes if code in self.columns])
                for name, codes in _CODES.items()
            )
            if not np.array_equal(predictors[0], targets[0]):
                raise FileFormatError(f"{period}: {_PREDICTORS} and {_TARGETS} have different time stamps")
            yield str(period), predictors[0], np.concatenate([predictors[1], targets[1]])

    def patches(self) -> Iterator[Patch]:
        for period in self.periods:
            file = period / _PATCHES
            patches = unpickle.load(file)
            if not isinstance(patches, dict):
                raise FileFormatError(f"{file}: found a {type(patches).__name__}, not a dict of patches")
            for time, patch in patches.items():
                if not (isinstance(time, dt.datetime) and isinstance(patch, np.ndarray)):
                    raise FileFormatError(f"{file}: {time!r} is not a time or its value is not an array")
                yield str(file), np.datetime64(time.date(), "D"), patch


def _read_table(path: Path, columns: list[str]) -> tuple[Array, Array]:
    """Read the time stamps ``(rows,)`` and columns ``(columns, rows)`` of a table."""
    types = {"timestamp": pa.timestamp("s"), **dict.fromkeys(columns, pa.float64())}
    try:
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(use_threads=False),  # errors then include the row
            convert_options=pyarrow.csv.ConvertOptions(include_columns=list(types), column_types=types),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise FileFormatError(f"{path}: {error}") from error
    stamps = table["timestamp"]
    if stamps.null_count:
        raise TimestampError(f"{path}: {stamps.null_count} rows have no timestamp; remove them")
    return stamps.to_numpy(), np.stack([table[column].to_numpy() for column in columns])
