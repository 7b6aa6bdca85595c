"""Reading of the daily, weekly, monthly and yearly tower files of the flux networks."""

from __future__ import annotations

import datetime as dt

import dask
import dask.array as da
import numpy as np
import pyarrow as pa
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core.conventions import QC
from xcarbon.core.errors import FileFormatError, TimestampError
from xcarbon.core.variables import VARIABLES, quality_column
from xcarbon.io import badm
from xcarbon.io.badm import SiteMetadata
from xcarbon.io.columns import MISSING_CELLS, TIMESTAMP, Source, find_line, read_columns
from xcarbon.io.networks import Release
from xcarbon.io.records import Record, choose_columns
from xcarbon.io.records.column_choice import without_empty
from xcarbon.io.records.missing import without_missing
from xcarbon.io.towers import Tower
from xcarbon.prep.aggregate import RESOLUTIONS, has_hourly_units, period_attrs, period_edges, share_attrs
from xcarbon.prep.limits import apply_limits_to_column
from xcarbon.prep.periods import Stamps

#: Products whose coarser files have other units than those of FLUXNET2015, or units that are not documented.
_OTHER_UNITS = ("FLUXNET-CH4", "AmeriFlux-BASE")
#: Number in ``G_F_MDS_QC`` of towers that never measured G: the flag of poor gap-filling instead of a share.
_NEVER_MEASURED = 3
#: Digits of a time stamp, and length of the longest period [days], by resolution.
_DIGITS = {"DD": 8, "WW": 8, "MM": 6, "YY": 4}
_MAX_DAYS = {"DD": 1, "WW": 9, "MM": 31, "YY": 366}


class PeriodRecord(Record):
    """Header and time axis of a daily, weekly, monthly or yearly file; ``step`` is 0."""

    @property
    def edges(self) -> Stamps:
        """First day of each period, and the day after the last one: ``(rows + 1,)``."""
        return _edges(self.first.astype("M8[D]"), self.rows, self.release.resolution)

    @property
    def end(self) -> np.datetime64:
        """Day after the last period."""
        return self.edges[-1]


def _edges(first: np.datetime64, rows: int, resolution: str) -> Stamps:
    """Return the edges ``(rows + 1,)`` of the periods from the one that contains the day ``first``."""
    return period_edges(first, first + rows * _MAX_DAYS[resolution], resolution)[: rows + 1]


def survey_periods(release: Release, resolution: str, *, uncertainty: bool = False) -> PeriodRecord:
    """Read and check the header and the time stamps of a file."""
    source = release.source
    if release.resolution != resolution:
        raise FileFormatError(
            f"{source}: the name of the file states the resolution {release.resolution}, not {resolution}"
        )
    if release.product.name in _OTHER_UNITS:
        raise FileFormatError(
            f"{source}: only hourly and half-hourly files of {release.product.name} are read, because the "
            "units of the others are not those of FLUXNET2015"
        )
    with source.lines() as lines:
        _, header = next(lines, (0, []))
    columns = choose_columns(without_empty(header, source), uncertainty=uncertainty)
    stamp = _stamp_column(resolution)
    if not columns or stamp not in header:
        raise FileFormatError(
            f"{source}: this is not a FLUXNET file of the resolution {resolution}: its header, which starts "
            f"with {','.join(header)[:80]!r}, lacks the column {stamp} or any known variable"
        )
    best = {code: names[:1] for code, names in columns.items()}
    flags = {column: quality_column(column) for (column,) in best.values()}
    flags = {column: name for column, name in flags.items() if name in header}
    stamps = read_columns(source, {stamp: pa.int64()})[stamp].fill_null(0).to_numpy()
    first = _check_stamps(stamps, source, resolution)
    return PeriodRecord(release, best, flags, first.astype("M8[m]"), stamps.size, 0)


def _stamp_column(resolution: str) -> str:
    return TIMESTAMP if resolution == "WW" else "TIMESTAMP"


def _check_stamps(stamps: NDArray[np.int64], source: Source, resolution: str) -> np.datetime64:
    """Check that periods follow each other without gaps; return the first day."""
    if not stamps.size:
        raise FileFormatError(f"{source}: the file has no rows")
    text, form = str(stamps[0]), "%Y%m%d"[: _DIGITS[resolution] - 2]
    try:
        first = np.datetime64(dt.datetime.strptime(text, form), "D")
        expected = _numbers(_edges(first, stamps.size, resolution)[:-1], resolution)
    except ValueError:
        expected = stamps - 1  # the first one is no date
    wrong = np.flatnonzero(stamps != expected)
    if wrong.size:
        row = int(wrong[0])
        needed = f", where {expected[row]} should follow" if row else ""
        weeks = "; weeks begin on the first of January of each year" if resolution == "WW" else ""
        raise TimestampError(
            f"{source}, line {find_line(source, row)}: the time stamp of a {RESOLUTIONS[resolution]} is "
            f"{stamps[row]}{needed}; time stamps have {_DIGITS[resolution]} digits and no gaps{weeks}"
        )
    return first


def _numbers(days: Stamps, resolution: str) -> NDArray[np.int64]:
    """Convert first days of periods to time stamps YYYYMMDD, YYYYMM or YYYY, ``(periods,)``."""
    digits = _DIGITS[resolution]
    return np.array([int(str(day).replace("-", "")[:digits]) for day in days], "int64")


def label_periods(
    towers: list[Tower], sites: list[SiteMetadata], resolution: str
) -> tuple[xr.Dataset, Stamps]:
    """Build the lazy Dataset ``(site, time)`` of all towers, with one task per tower, and its edges."""
    records = [record for tower in towers for record in tower.records]
    first = min(record.first for record in records).astype("M8[D]")
    edges = period_edges(first, max(record.end for record in records) - 1, resolution)
    sources = {
        code: list(dict.fromkeys(column for tower in towers for column in tower.columns(code)))
        for code in VARIABLES
    }
    codes = [code for code, columns in sources.items() if columns]
    shape = (1, 2 * len(codes), edges.size - 1)
    stacked = da.concatenate(
        [
            da.from_delayed(dask.delayed(_read_tower)(tower, codes, edges), shape, np.float32)
            for tower in towers
        ]
    )
    flagged = {
        code
        for record in records
        for code, columns in record.columns.items()
        if any(column in record.flags for column in columns)
    }
    variables = {}
    for row, code in enumerate(codes):
        attrs = period_attrs(code, resolution) | {"source_column": ", ".join(sources[code])}
        variables[code] = (("site", "time"), stacked[:, 2 * row], attrs)
        if code in flagged:
            variables[f"{code}{QC}"] = (("site", "time"), stacked[:, 2 * row + 1], share_attrs(code))
    return xr.Dataset(variables, badm.site_coordinates(sites)), edges


def _read_tower(tower: Tower, codes: list[str], edges: Stamps) -> NDArray[np.float32]:
    """Read values and shares of each code, ``(1, 2 * codes, periods)``; newer releases replace older ones."""
    series = np.full((1, 2 * len(codes), edges.size - 1), np.nan, np.float32)
    for record in reversed(tower.records):
        begin = int(np.searchsorted(edges, record.first.astype("M8[D]")))
        rows = slice(begin, begin + record.rows)
        for code, parts in _read_record(record).items():
            place = slice(2 * codes.index(code), 2 * codes.index(code) + 2)
            older = series[0, place, rows]
            series[0, place, rows] = np.where(np.isnan(parts[0]), older, parts)
    return series


def _read_record(record: Record) -> dict[str, NDArray[np.float32]]:
    """Read values and shares of each variable of a file, ``(2, rows)``."""
    source, resolution = record.release.source, record.release.resolution
    stamp = _stamp_column(resolution)
    wanted = {column for (column,) in record.columns.values()} | set(record.flags.values())
    types = {stamp: pa.int64(), **dict.fromkeys(sorted(wanted), pa.float32())}
    table = read_columns(source, types, MISSING_CELLS)
    stamps = table[stamp].fill_null(0).to_numpy()
    if _check_stamps(stamps, source, resolution) != record.first or stamps.size != record.rows:
        raise FileFormatError(f"{source}: the file has changed since it was opened; open it again")
    found = {}
    for code, (column,) in record.columns.items():
        values = without_missing(table[column])
        if has_hourly_units(code):
            values = apply_limits_to_column(values, VARIABLES[code].limits)
        share = np.full_like(values, np.nan)
        if column in record.flags:
            share = without_missing(table[record.flags[column]])
            share = np.where(share == _NEVER_MEASURED, 0, share)
            _check_share(share, record.flags[column], source)
        found[code] = np.stack([values, share]).astype("float32")
    return found


def _check_share(share: NDArray[np.float32], column: str, source: Source) -> None:
    wrong = np.flatnonzero((share < 0) | (share > 1.001))
    if wrong.size:
        row = int(wrong[0])
        raise FileFormatError(
            f"{source}, line {find_line(source, row)}, column {column}: {share[row]:g} is not a share from 0 "
            "to 1 (only half-hourly and hourly files have quality flags)"
        )
