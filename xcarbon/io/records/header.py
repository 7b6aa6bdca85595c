"""The names of the columns of a tower file, and the errors of files that are no hourly tower files."""

from __future__ import annotations

from xcarbon.core.errors import FileFormatError, TimestampError
from xcarbon.io.columns import TIMESTAMP, Source
from xcarbon.io.records.column_choice import choose_columns
from xcarbon.io.records.timestamps import OPEN_HOURLY_FILE

#: What to do with tables of other software.
_OTHER_TABLES = (
    "read a table of other software with pandas, give it the columns of FLUXNET and save it as CSV, or use "
    "table.to_xarray() with stamps as index and ds.carbon.standardize()"
)


def read_header(source: Source) -> list[str]:
    """Read the column names and check that they belong to a half-hourly or hourly file."""
    with source.lines() as lines:
        _, header = next(lines, (0, []))
    start = repr(",".join(header)[:80])
    if not header:
        raise FileFormatError(f"{source}: the file is empty")
    if any("\0" in column for column in header):
        raise FileFormatError(f"{source}: the file is not UTF-8 text; save it as CSV in UTF-8")
    if not choose_columns(header):
        raise FileFormatError(
            f"{source}: this is not a FLUXNET file: its header, which starts with {start}, contains no "
            f"column of a known variable; {_OTHER_TABLES}"
        )
    if TIMESTAMP not in header and "TIMESTAMP" in header:
        raise FileFormatError(f"{source}: the file is daily or coarser (TIMESTAMP); {OPEN_HOURLY_FILE}")
    if TIMESTAMP not in header:
        known = "it is TIMESTAMP_END minus the time step"
        advice = known if "TIMESTAMP_END" in header else _OTHER_TABLES
        raise TimestampError(
            f"{source}: the header, which starts with {start}, has no column {TIMESTAMP}; {advice}"
        )
    repeated = sorted({column for column in header if column and header.count(column) > 1})
    if repeated:
        raise FileFormatError(f"{source}: the header contains the columns {repeated} more than once")
    return header
