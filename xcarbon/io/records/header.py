"""The names of the columns of a tower file, and the errors of files that are no hourly tower files."""

from __future__ import annotations

from xcarbon.core.errors import FileFormatError, TimestampError
from xcarbon.io.columns import TIMESTAMP, Source
from xcarbon.io.records.column_choice import choose_columns
from xcarbon.io.records.timestamps import OPEN_HOURLY_FILE


def has_records(source: Source) -> bool:
    """Check whether a file has time stamps and columns as a half-hourly or hourly tower file."""
    try:
        return bool(read_header(source))
    except (FileFormatError, OSError):
        return False


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
            "column of a known variable"
        )
    if TIMESTAMP not in header and "TIMESTAMP" in header:
        raise FileFormatError(f"{source}: the file is daily or coarser (TIMESTAMP); {OPEN_HOURLY_FILE}")
    if TIMESTAMP not in header:
        end = "; it is TIMESTAMP_END minus the time step" if "TIMESTAMP_END" in header else ""
        raise TimestampError(
            f"{source}: the header, which starts with {start}, has no column {TIMESTAMP}{end}"
        )
    repeated = sorted({column for column in header if column and header.count(column) > 1})
    if repeated:
        raise FileFormatError(f"{source}: the header contains the columns {repeated} more than once")
    return header
