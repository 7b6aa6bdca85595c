"""The time stamps of a tower file, which must be regular half-hours or hours."""

from __future__ import annotations

import datetime as dt
import itertools

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xcarbon.core.errors import FileFormatError, TimestampError
from xcarbon.io.columns import (
    NO_STAMP,
    TIMESTAMP,
    Source,
    find_line,
    parse_stamp,
    read_columns,
    read_last_line,
    read_layout,
)

#: Advice in the errors of files that are daily or coarser.
OPEN_HOURLY_FILE = "open the half-hourly (HH) or hourly (HR) file"


def check_all_stamps(source: Source) -> tuple[dt.datetime, int, int]:
    """Check all stamps; return the first stamp, the number of rows and the step [minutes]."""
    stamps = read_columns(source, {TIMESTAMP: pa.int64()})[TIMESTAMP].to_numpy()
    first, step = check_stamps(stamps, source)
    return first, stamps.size, step


def check_ends(source: Source, header: list[str]) -> tuple[dt.datetime, int, int]:
    """Check the first two stamps and the last one; return what :func:`check_all_stamps` returns."""
    with source.lines() as lines:
        rows = [cells for _, cells in itertools.islice(lines, 1, 3)]
    if len(rows) < 2:
        raise TimestampError(f"{source}: the file has {len(rows)} rows; at least two are needed")
    last = read_last_line(source, read_layout(source).separator)
    stamps = np.array([_stamp_of(cells, header, source) for cells in [*rows, last]])
    first, step = check_stamps(stamps[:2], source)
    end = _parse(stamps[2])
    steps, rest = divmod(end - first, dt.timedelta(minutes=step)) if end else (0, dt.timedelta())
    if steps < 1 or rest:
        raise TimestampError(
            f"{source}: the last {TIMESTAMP} {stamps[2]} does not follow from {stamps[0]} in steps of "
            f"{step} minutes"
        )
    return first, steps + 1, step


def _stamp_of(cells: list[str], header: list[str], source: Source) -> np.int64:
    """Return the stamp of a row, which must be complete."""
    if len(cells) != len(header):
        start = repr(",".join(cells)[:40])
        raise TimestampError(
            f"{source}: the line that starts with {start} has {len(cells)} cells, but the header has "
            f"{len(header)} columns; is the file truncated?"
        )
    text = cells[header.index(TIMESTAMP)].strip()
    stamp = parse_stamp(text)
    if stamp is None:
        raise TimestampError(f"{source}: {TIMESTAMP} {text!r} is {NO_STAMP}")
    return np.int64(stamp)


def check_stamps(stamps: NDArray[np.int64], source: Source) -> tuple[dt.datetime, int]:
    """Check that stamps YYYYMMDDHHMM are regular; return the first one and the step [minutes]."""
    if stamps.size < 2:
        raise FileFormatError(f"{source}: the file has {stamps.size} rows; at least two are needed")
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
    """Parse YYYYMMDDHHMM; return None if the number is not a valid time."""
    try:
        found = dt.datetime.strptime(str(stamp), "%Y%m%d%H%M")
    except ValueError:
        return None
    return found if stamp >= 1900_00_00_00_00 else None  # strptime accepts fewer digits, too


def _regular_stamps(first: dt.datetime, step: int, count: int) -> NDArray[np.int64]:
    """Compute ``count`` regular stamps YYYYMMDDHHMM from the first stamp and the step [minutes]."""
    minutes = first.hour * 60 + first.minute + step * np.arange(count)
    days = np.datetime64(first, "D") + np.arange(minutes[-1] // 1440 + 1)
    years, months = days.astype("M8[Y]"), days.astype("M8[M]")
    year, month = years.astype("int64") + 1970, (months - years).astype("int64") + 1
    dates = (year * 100 + month) * 100 + (days - months).astype("int64") + 1
    of_day = np.arange(1440)
    day, minute = np.divmod(minutes, 1440)
    return dates[day] * 10_000 + (of_day // 60 * 100 + of_day % 60)[minute]


def _stamp_error(stamps: NDArray[np.int64], row: int, step: int, source: Source) -> TimestampError:
    """Build the error for the first row whose stamp is invalid or irregular."""
    place = f"{source}, line {find_line(source, row)}"
    stamp, found = stamps[row], _parse(stamps[row])
    if found is None:
        kind = f"daily or coarser; {OPEN_HOURLY_FILE}" if len(str(stamp)) in (4, 6, 8) else NO_STAMP
        return TimestampError(f"{place}: {TIMESTAMP} {stamp} is {kind}")
    before = _parse(stamps[row - 1])
    assert before is not None  # the rows before are regular
    jump = int((found - before).total_seconds()) // 60
    if jump == 0:
        fault, advice = "repeats", "leave out one of the rows"
    elif jump < 0:
        fault, advice = "is earlier than", "sort the rows by time"
    else:
        fault, advice = "leaves a gap after", f"add the missing rows, as asfreq('{step}min') of pandas does"
        if row == 1:
            advice = f"{advice}; only half-hours and hours are read"
    message = f"{place}: {TIMESTAMP} {stamp} {fault} {stamps[row - 1]}, but the time step is {step} minutes"
    if abs(jump - step) == 60 and found.month in (3, 4, 9, 10, 11) and found.hour <= 4:
        message += (
            "; this looks like a change to or from daylight saving time, but FLUXNET files must be in "
            "local standard time all year round"
        )
    else:
        message += f"; {advice}"
    return TimestampError(message)
