"""Version 2 of CarbonSense: the SQLite file ``carbonsense_v2.sql``.

The table ``ec_data`` has ``id``, ``site``, ``timestamp`` (an integer YYYYMMDDHHMM) and one REAL column per
FLUXNET base code; predictors are scaled with other bounds than in v1, targets are not scaled. ``modis_data``
has ``row_id`` (an ``id`` of ``ec_data``) and ``data``, the bytes of a float32 array ``(9, 8, 8)``.
``site_data`` has ``site``, ``lat``, ``lon``, ``elev`` and ``igbp``. The bounds of soil water content and
water table depth are reversed, so these columns are empty. Half-hours are averaged in pairs from the first
row on, so all time stamps of a tower whose record starts at half past are at half past (for example CN-Hgu in
``pipeline/carbonsense_site_summary.csv``). The code that generates the file is ``stage_2.py``, ``stage_3.py``
and ``stage_4.py``.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from xcarbon.core.errors import FileFormatError, TimestampError
from xcarbon.core.variables import PATCH_BANDS, Bounds
from xcarbon.io.carbonsense.sites import PREDICTORS, TARGETS, Array, Patch, Record, Site
from xcarbon.io.modis.grid import PATCH_PIXELS

#: Scaling bounds of v2 that differ from those of the paper, in the units of the vocabulary.
_BOUNDS_V2 = {
    "P": Bounds(0, 100), "PA": Bounds(0, 110), "CO2": Bounds(0, 750), "SW_IN": Bounds(-1500, 1500),
    "SW_IN_POT": Bounds(-1500, 1500), "SW_OUT": Bounds(-500, 500), "LW_IN": Bounds(-1000, 1000),
    "LW_OUT": Bounds(-1000, 1000), "NETRAD": Bounds(-1000, 1000), "PPFD_IN": Bounds(-2500, 2500),
    "PPFD_OUT": Bounds(-1000, 1000), "WS": Bounds(-100, 100), "USTAR": Bounds(-4, 4),
    "G": Bounds(-700, 700), "H": Bounds(-700, 700), "LE": Bounds(-700, 700),
}  # fmt: skip
#: Number of database rows that are held in memory as Python objects.
_BATCH = 20_000


def survey_database(path: Path) -> list[Site]:
    """Find the towers in a database, using its indexes instead of reading whole tables."""
    following = "SELECT site, timestamp FROM ec_data WHERE site > ? ORDER BY site, id LIMIT 1"
    latest = "SELECT timestamp FROM ec_data WHERE site = ? ORDER BY id DESC LIMIT 1"
    names = ("lat", "lon", "elevation", "igbp")
    towers: list[Site] = []
    with _connect(path) as connection:
        present = {name for name, *_ in connection.execute("SELECT * FROM ec_data LIMIT 0").description}
        connection.execute("SELECT row_id, data FROM modis_data LIMIT 0")  # an error if the table is absent
        columns = {code: code for code in (*PREDICTORS, *TARGETS) if code in present}
        rows = connection.execute("SELECT site, lat, lon, elev, igbp FROM site_data")
        fields = {site: dict(zip(names, known, strict=True)) for site, *known in rows}
        site = ""
        while row := connection.execute(following, [site]).fetchone():
            site, stamp = row
            (end,) = connection.execute(latest, [site]).fetchone()
            first, last = _parse_stamps([stamp, end], f"{path}, {site}").astype("M8[h]")
            towers.append(_Rows(site, columns, fields.get(site, {}), first, last, path))
    if not towers or not columns:
        raise FileFormatError(f"{path}: the table ec_data has no rows, or no column of a known variable")
    return towers


@dataclass(frozen=True, slots=True)
class _Rows(Site):
    """A tower of v2 and the database with its rows."""

    database: Path
    bounds: ClassVar[dict[str, Bounds]] = _BOUNDS_V2

    def records(self) -> Iterator[Record]:
        # The names are those of the vocabulary, so no text of the file becomes part of the query.
        names = "".join(f', "{column}"' for column in self.columns.values())
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

    def patches(self) -> Iterator[Patch]:
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
                        found = f"{len(blob)} bytes" if isinstance(blob, bytes) else repr(blob)
                        raise FileFormatError(
                            f"{place} of row_id {row}: found {found}, but a patch has {size} bytes"
                        )
                    patch = np.frombuffer(blob, "<f4").reshape(-1, PATCH_PIXELS, PATCH_PIXELS)
                    yield f"{place} of row_id {row}", day, patch


@contextlib.contextmanager
def _connect(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading; its errors are raised as FileFormatError."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise FileFormatError(
            f"{path}: the file cannot be read as SQLite file of CarbonSense v2 ({error})"
        ) from error


def _parse_stamps(stamps: ArrayLike, place: str) -> Array:
    """Parse numbers YYYYMMDDHHMM, ``(rows,)``."""
    try:
        text = np.asarray(stamps, "float64").astype("int64").astype(str)
        return pd.to_datetime(text, format="%Y%m%d%H%M").to_numpy()
    except (TypeError, ValueError) as error:
        raise TimestampError(f"{place}: a timestamp is not YYYYMMDDHHMM ({error})") from error
