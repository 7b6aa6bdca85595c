"""Satellite series in point samples of AppEEARS and in other tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from xcarbon.core.conventions import QC
from xcarbon.core.errors import FileFormatError, reading
from xcarbon.core.variables import SATELLITE
from xcarbon.io import appeears
from xcarbon.io.appeears import group, parse_dates, to_numbers
from xcarbon.io.composites import Composites, centres_from_dates, checked_flags, compose

#: Value of tables for what is missing.
_TABLE_FILL = -9999


def header_of(path: str) -> list[str]:
    """Return the names of the columns of a table."""
    with reading(f"{path}: cannot be read as CSV"):
        return [str(column) for column in pd.read_csv(path, nrows=0).columns]


def read_table(
    path: str, columns: Mapping[str, str] | None, composite_days: float | None
) -> Iterator[Composites]:
    """Read a point sample, or a table with the columns that the user names."""
    header = header_of(path)
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
    days, length = centres_from_dates(start, composite_days, path)
    for code in codes:
        values = to_numbers(frame[columns[code]], path, columns[code], sites)
        values = np.where(values == _TABLE_FILL, np.nan, values)
        flags = np.zeros(values.shape, np.int8)
        if name := columns.get(f"{code}{QC}"):
            flags = checked_flags(to_numbers(frame[name], path, name, sites), path, name)
        for site, rows in group(sites, days, path, np.isfinite(values)):
            source = f"{path}: {columns[code]}"
            yield compose(code, site, days[rows], values[rows], flags[rows], length, source)
