"""Reading of one tower file: the columns of each variable, the time stamps, and hourly values."""

from __future__ import annotations

import datetime as dt
import itertools
import re
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xcarbon.core.conventions import HALF_HOUR, HOUR
from xcarbon.core.errors import FileFormatError, MetadataError, TimestampError
from xcarbon.core.notices import warn
from xcarbon.core.variables import (
    MDS,
    VARIABLES,
    Variable,
    is_gap_filled,
    quality_column,
    quality_scheme,
)
from xcarbon.io.columns import (
    MISSING_CELLS,
    NO_STAMP,
    PLUS,
    TIMESTAMP,
    Source,
    find_line,
    parse_stamp,
    read_columns,
    read_last_line,
    read_layout,
)
from xcarbon.io.networks import READABLE, UNNAMED, Release
from xcarbon.prep import clock
from xcarbon.prep.fuse import Option, fuse, replace_flags
from xcarbon.prep.hours import combining
from xcarbon.prep.limits import (
    CODES,
    Counts,
    apply_limits_to_column,
    count_beyond,
    is_code,
    is_repeated_code,
)
from xcarbon.prep.other_units import find_units
from xcarbon.prep.units import conversion

#: Number that marks a missing value.
MISSING = -9999
#: Fluxes filtered by a variable, and by a constant threshold of friction velocity.
_VUT, _CUT = "_VUT_", "_CUT_"
_WANTED = "open the half-hourly (HH) or hourly (HR) file"
#: What to do with tables of other software.
_OTHER_TABLES = (
    "read a table of other software with pandas, give it the columns of FLUXNET and save it as CSV, or use "
    "table.to_xarray() with stamps as index and ds.carbon.standardize()"
)
#: Variables without which towers are of little use.
_MAIN = ("TA", "SW_IN", "VPD", "NEE")
#: Cells of a row of units that state no units.
_NO_UNITS = ("-", *MISSING_CELLS)
#: Position that AmeriFlux BASE appends to a code: horizontal, vertical and replicate, or the layer.
_POSITION = r"_(?P<horizontal>\d+)_(?P<vertical>\d+)_(?P<replicate>\d+|A)|_(?P<layer>\d+)"


@dataclass(frozen=True, slots=True)
class Record:
    """Header and time axis of a file, read before its values.

    Attributes
    ----------
    release : Release
        The file.
    columns : dict
        Columns of each variable, best first.
    flags : dict
        Column of quality flags for each value column that has one.
    first : numpy.datetime64
        Start of the first row, in units of minutes.
    rows : int
        Number of time steps.
    step : {30, 60}
        Length of a time step [minutes].
    conversions : dict
        Factor and offset that convert a column to the units of its variable, where a row of units under the
        header states others.
    """

    release: Release
    columns: dict[str, tuple[str, ...]]
    flags: dict[str, str]
    first: np.datetime64
    rows: int
    step: int
    conversions: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def start(self) -> np.datetime64:
        """First clock hour."""
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
    def end(self) -> np.datetime64:
        """Clock hour after the last one."""
        return self.start + self.hours

    @property
    def unit(self) -> np.timedelta64:
        """Length of the time steps that are read from the file."""
        return HOUR

    @property
    def flagged(self) -> list[str]:
        """Variables that can be gap-filled and therefore have quality flags."""
        return [
            code
            for code, columns in self.columns.items()
            if any(column in self.flags or is_gap_filled(column) for column in columns)
        ]


class HalfHourRecord(Record):
    """Header and time axis of a half-hourly file whose half-hours are kept; each counts as a step."""

    @property
    def start(self) -> np.datetime64:
        """Start of the first half-hour."""
        return self.first

    @property
    def hours(self) -> int:
        """Number of half-hours."""
        return self.rows

    @property
    def end(self) -> np.datetime64:
        """End of the last half-hour."""
        return self.first + self.rows * HALF_HOUR

    @property
    def unit(self) -> np.timedelta64:
        """Length of the time steps that are read from the file."""
        return HALF_HOUR


@dataclass(frozen=True, slots=True)
class Hours:
    """Values of a file in hours, or in half-hours where the record keeps these.

    Attributes
    ----------
    options : dict
        Values and quality flags of each variable, ``(hours,)`` each.
    taken : dict
        Number of hours that come from each column of each variable.
    equal_halves : float
        Share of hours whose two measured half-hours are exactly equal; NaN for hourly data.
    beyond_limits : dict
        Numbers of rows that are codes for missing values, beyond the limits or clipped to a limit, by
        variable and column, where there are any; see :class:`xcarbon.prep.limits.Counts`.
    """

    options: dict[str, Option]
    taken: dict[str, dict[str, int]] = field(default_factory=dict)
    equal_halves: float = np.nan
    beyond_limits: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)


# Headers


def survey(
    release: Release, *, whole: bool = True, uncertainty: bool = False, halves: bool = False
) -> Record:
    """Read and check the header and the time stamps of a file, of which ``halves`` keeps the half-hours.

    Unless ``whole``, only the first two stamps and the last one are checked; :func:`read_hours` checks all.
    """
    source = release.source
    if release.resolution not in READABLE:
        raise FileFormatError(f"{source}: the file is daily or coarser ({release.resolution}); {_WANTED}")
    header = read_header(source)
    columns = choose_columns(without_empty(header, source), uncertainty=uncertainty)
    flags = {column: quality_column(column) for names in columns.values() for column in names}
    flags = {column: name for column, name in flags.items() if name in header}
    _warn_of_unread(release, header, columns)
    first, rows, step = _survey_stamps(source) if whole else _survey_ends(source, header)
    if halves and step == 60:
        raise FileFormatError(
            f"{source}: the file is hourly and has no half-hours; open it without resolution='HH'"
        )
    kind = HalfHourRecord if halves else Record
    conversions = _conversions(source, columns, step)
    return kind(release, columns, flags, np.datetime64(first, "m"), rows, step, conversions)


def _warn_of_unread(release: Release, header: list[str], columns: dict[str, tuple[str, ...]]) -> None:
    """Warn of columns that are not read although their names are nearly those of the networks.

    In files of others, all columns that are not read are named if one of the main variables is absent.
    """
    read = {part for names in columns.values() for name in names for part in name.split(PLUS)}
    unread = [name for name in header if name not in read and not re.match("TIMESTAMP|SC|.*_QC", name)]
    spelled = {name: re.sub(r"\W+", "_", re.sub(r"[\[(].*", "", name).strip()).upper() for name in unread}
    nearly = {
        name: known
        for name, known in spelled.items()
        if known not in (name, *header) and choose_columns([known])
    }
    absent = [code for code in _MAIN if code not in columns]
    if nearly:
        new = ", ".join(f"{name!r} to {known}" for name, known in nearly.items())
        warn(f"{release.source}: some columns are not read; rename {new} to read them")
    elif release.product is UNNAMED and absent and (others := [n for n in unread if not choose_columns([n])]):
        warn(
            f"{release.source}: there is no column of {', '.join(absent)}, and the columns {others[:8]} are "
            f"not read; if they contain these variables, rename them as the networks do, for example to "
            f"{absent[0]}"
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
        raise FileFormatError(f"{source}: the file is daily or coarser (TIMESTAMP); {_WANTED}")
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


def choose_columns(header: list[str], *, uncertainty: bool = False) -> dict[str, tuple[str, ...]]:
    """Find the columns of each variable, best first; ``uncertainty`` includes the uncertainties of fluxes.

    The order is: columns listed in the vocabulary, the column submitted by the site team (``_PI``), and
    sensors by their position, the highest (in the soil: the shallowest) first. In the soil the vertical
    position is the depth. Means over a layer (``_1``) follow the sensors.

    Some columns replace others that a file lacks (or that are empty, see :func:`without_empty`): fluxes
    filtered by a constant threshold of friction velocity (``_CUT_REF``) those with a variable one
    (``_VUT_REF``), also their percentiles, and the flux at the sensor plus the storage below it (FC + SC), or
    FC where storage is missing, the NEE of the site team. NEE that the team has filled (``NEE_PI_F``) is the
    last choice.

    Examples
    --------
    >>> choose_columns(["TA_F", "TA", "NEE_PI", "TS_1_1_1", "TS_2_1_1", "TS_1_2_1"])
    {'TA': ('TA_F', 'TA'), 'TS_1': ('TS_1_1_1', 'TS_2_1_1'), 'TS_2': ('TS_1_2_1',), 'NEE': ('NEE_PI',)}
    >>> choose_columns(["FC", "SC"]), choose_columns(["NEE_CUT_REF", "FC"])
    ({'NEE': ('FC + SC', 'FC')}, {'NEE': ('NEE_CUT_REF',)})
    """
    found = {
        code: tuple(dict.fromkeys(_columns_of(variable, header)))
        for code, variable in VARIABLES.items()
        if uncertainty or not variable.is_uncertainty
    }
    return {code: columns for code, columns in found.items() if columns}


def without_empty(header: list[str], source: Source) -> list[str]:
    """Leave out columns with a variable threshold (``_VUT_``) that are empty and can be replaced.

    A file can have these columns without a value where only a constant threshold (``_CUT_``) was found.
    """
    known = {column for variable in VARIABLES.values() for column in variable.columns if _VUT in column}
    places = {
        column: place
        for place, column in enumerate(header)
        if column in known and column.replace(_VUT, _CUT) in header
    }
    with source.lines() as lines:  # few files are read to the end, because most have values from the start
        rows = [cells for _, cells in itertools.islice(lines, 1, 49) if len(cells) == len(header)]
    doubtful = [column for column, place in places.items() if all(_marks_missing(row[place]) for row in rows)]
    empty = _empty(doubtful, source)
    also_empty = _empty([column.replace(_VUT, _CUT) for column in empty], source)
    replaced = {column for column in empty if column.replace(_VUT, _CUT) not in also_empty}
    return [column for column in header if column not in replaced]


def _marks_missing(cell: str) -> bool:
    """Check whether a cell stands for a missing value."""
    try:
        return cell.strip() in MISSING_CELLS or float(cell.replace(",", ".")) in CODES
    except ValueError:
        return False


def _empty(columns: list[str], source: Source) -> list[str]:
    """Select the columns in which every value is missing."""
    if not columns:
        return []
    table = read_columns(source, dict.fromkeys(columns, pa.float32()), MISSING_CELLS)
    values = {column: without_missing(table[column]) for column in columns}
    return [column for column in columns if np.all(np.isnan(values[column]) | is_code(values[column]))]


def _columns_of(variable: Variable, header: list[str]) -> list[str]:
    """Columns of a variable in a header, best first; see :func:`choose_columns`."""
    code, depth = _split_depth(variable.code)
    own = [*variable.columns, f"{variable.code}_PI", *([code] if depth == 1 else [])]
    columns = [column for column in own if column in header]
    columns += _positioned(f"{code}(_PI)?", depth, header)
    if not columns:
        constant = [column.replace(_VUT, _CUT) for column in variable.columns if _VUT in column]
        columns = [column for column in constant if column in header]
    if variable.code == "NEE" and not columns:
        columns = _fluxes_at_sensor(header)
    if variable.is_target:
        filled = f"{code}_PI_F"
        columns += [*([filled] if filled in header else []), *_positioned(filled, depth, header)]
    return columns


def _positioned(code: str, depth: int, header: list[str]) -> list[str]:
    """Columns whose names are ``code``, a pattern, and a position; in the soil those at one depth."""
    sensors = []
    for match in filter(None, (re.fullmatch(f"{code}(?:{_POSITION})", column) for column in header)):
        if match["layer"]:
            key = (True, int(match["layer"]), 0, "")
        else:
            key = (False, int(match["vertical"]), int(match["horizontal"]), match["replicate"])
        if depth in (0, key[1]):
            sensors.append((key, match.string))
    return [column for _, column in sorted(sensors)]


def _fluxes_at_sensor(header: list[str]) -> list[str]:
    """Columns FC, each preceded by its sum with the storage SC at the same position or without one."""
    columns = []
    storages = [column for column in ("SC", *_positioned("SC", 0, header)) if column in header]
    for flux in [column for column in ("FC", *_positioned("FC", 0, header)) if column in header]:
        same = [storage for storage in storages if storage[2:] == flux[2:]]
        near = same or [storage for storage in storages if storage == "SC" or flux == "FC"]
        columns += [f"{flux}{PLUS}{storage}" for storage in near[:1]]
        columns.append(flux)
    return columns


def _split_depth(code: str) -> tuple[str, int]:
    """Split the code of a soil variable such as TS_1 into base and depth; other codes have depth 0."""
    match = re.fullmatch(r"(SWC|TS)_(\d)", code)
    return (match[1], int(match[2])) if match else (code, 0)


# Units


def _conversions(
    source: Source, columns: dict[str, tuple[str, ...]], step: int
) -> dict[str, tuple[float, float]]:
    """Read the row of units under the header, if there is one; see :class:`Record`."""
    layout = read_layout(source)
    if not layout.units:
        return {}
    stated = dict(zip(layout.header, layout.units, strict=True))
    found = {}
    for code, names in columns.items():
        for name in names:
            parts = {_conversion(source, part, stated[part], code, step) for part in name.split(PLUS)}
            if len(parts) > 1:
                units = " and ".join(repr(stated[part]) for part in name.split(PLUS))
                raise FileFormatError(
                    f"{source}, line {layout.line}: the units {units} of {name} differ; convert one of the "
                    "columns"
                )
            found[name] = parts.pop()
    return {name: numbers for name, numbers in found.items() if numbers != (1.0, 0.0)}


def _conversion(source: Source, column: str, units: str, code: str, step: int) -> tuple[float, float]:
    """Return the factor and the offset of a column whose units the row of units states."""
    if units.strip("[]") in _NO_UNITS or units == VARIABLES[code].units:
        return 1.0, 0.0
    try:
        return conversion(units, code, hours=step / 60)
    except MetadataError as error:
        raise FileFormatError(
            f"{source}, line {read_layout(source).line}, column {column}: {error}; correct the row of units, "
            "or leave a cell empty if the values are in the units of xcarbon"
        ) from None


# Time stamps


def _survey_stamps(source: Source) -> tuple[dt.datetime, int, int]:
    """Check all stamps; return the first stamp, the number of rows and the step [minutes]."""
    stamps = read_columns(source, {TIMESTAMP: pa.int64()})[TIMESTAMP].to_numpy()
    first, step = _check_stamps(stamps, source)
    return first, stamps.size, step


def _survey_ends(source: Source, header: list[str]) -> tuple[dt.datetime, int, int]:
    """Check the first two stamps and the last one; return what :func:`_survey_stamps` returns."""
    with source.lines() as lines:
        rows = [cells for _, cells in itertools.islice(lines, 1, 3)]
    if len(rows) < 2:
        raise TimestampError(f"{source}: the file has {len(rows)} rows; at least two are needed")
    last = read_last_line(source, read_layout(source).separator)
    stamps = np.array([_stamp_of(cells, header, source) for cells in [*rows, last]])
    first, step = _check_stamps(stamps[:2], source)
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


def _check_stamps(stamps: NDArray[np.int64], source: Source) -> tuple[dt.datetime, int]:
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
        kind = f"daily or coarser; {_WANTED}" if len(str(stamp)) in (4, 6, 8) else NO_STAMP
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


# Values


def read_hours(record: Record) -> Hours:
    """Read all values of a file and convert them to clock hours, unless the record keeps half-hours.

    Where a variable has several columns, the lowest quality flag wins in each hour, and ties go to the
    first column. Measured values have flag 0; gap-filled values without a flag get the worst flag of
    their scheme.
    """
    source, choices = record.release.source, record.columns
    numbers = {column for columns in choices.values() for column in columns} | set(record.flags.values())
    types = {TIMESTAMP: pa.int64(), **dict.fromkeys(sorted(numbers), pa.float32())}
    table = read_columns(source, types, MISSING_CELLS)
    stamps = table[TIMESTAMP].fill_null(0).to_numpy()
    first, step = _check_stamps(stamps, source)
    if (first, step, stamps.size) != (record.first.item(), record.step, record.rows):
        raise FileFormatError(
            f"{source}: the file had {record.rows} rows from {record.first} when it was opened, but it now "
            f"has {stamps.size} from {np.datetime64(first, 'm')}; open it again"
        )
    options: dict[str, Option] = {}
    taken: dict[str, dict[str, int]] = {}
    beyond: dict[str, dict[str, dict[str, int]]] = {}
    for code, columns in choices.items():
        read = [_read_option(table, code, column, record) for column in columns]
        fused = fuse([option for option, _ in read])
        options[code] = Option(fused.values, fused.flags)
        taken[code] = {
            column: int(np.count_nonzero(fused.origin == place)) for place, column in enumerate(columns)
        }
        counts = {column: of for column, (_, of) in zip(columns, read, strict=True) if any(of)}
        if counts:
            beyond[code] = {c: {k: n for k, n in of._asdict().items() if n} for c, of in counts.items()}
    _warn_of_units(options, source)
    return Hours(options, taken, _equal_halves(table, record), beyond)


def _warn_of_units(options: dict[str, Option], source: Source) -> None:
    """Warn of variables whose values show that they are in another unit than that of the vocabulary."""
    values = {code: option.values for code, option in options.items()}
    for code, unit in find_units(values).items():
        if unit.is_certain:
            warn(
                f"{source}: the values of {code} show that it is in {unit.name}. {unit.advice} to get "
                f"{VARIABLES[code].units}, or state the units of all columns in a row under the header"
            )


def _read_option(table: pa.Table, code: str, column: str, record: Record) -> tuple[Option, Counts]:
    """Convert one column and its quality flags to clock hours, and count the values beyond the limits."""
    limits = VARIABLES[code].limits
    values = _values(table, column, record)
    counts = count_beyond(values, limits)
    if any(counts):
        values = apply_limits_to_column(values, limits, counts)
    default = quality_scheme(column).flag_values[-1] if is_gap_filled(column) else 0
    flags = np.full(values.shape, default, np.int8)
    if column in record.flags:
        name = record.flags[column]
        flags = _flags(table[name].to_numpy(), name, np.int8(default), record.release.source)
    flags = replace_flags(flags, np.isnan(values))
    if record.step == 60 or record.unit == HALF_HOUR:
        return Option(values, flags), counts
    hours = clock.to_hours(values, combining(VARIABLES[code]), half_past=record.half_past)
    if VARIABLES[code].cell_method == "sum":  # two plausible half-hours can be too much for an hour
        hours = apply_limits_to_column(hours, limits)
    flags = clock.to_hours(flags, "worst", half_past=record.half_past)
    return Option(hours, replace_flags(flags, np.isnan(hours))), counts


def _equal_halves(table: pa.Table, record: Record) -> float:
    """Share of hours with equal halves in NEE or TA, which are measured anew in each half-hour."""
    code = next((code for code in ("NEE", "TA") if code in record.columns), None)
    if record.step == 60 or code is None:
        return np.nan
    column = record.columns[code][0]
    values = apply_limits_to_column(_values(table, column, record), VARIABLES[code].limits)
    if column in record.flags:
        values = np.where(without_missing(table[record.flags[column]]) == 0, values, np.nan)
    return clock.equal_halves(values, half_past=record.half_past)


def _values(table: pa.Table, column: str, record: Record) -> NDArray[np.float32]:
    """Return one column in the units of its variable, NaN where missing."""
    values = without_missing(table[column])
    if column not in record.conversions:
        return values
    factor, offset = record.conversions[column]
    known = np.where(is_code(values), np.nan, values.astype(np.float64))
    return (factor * known + offset).astype(np.float32)


def without_missing(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """Replace missing values by NaN: -9999 in spellings that :data:`MISSING_CELLS` lacks, and -99."""
    values = column.to_numpy()
    missing = (values == MISSING) | is_repeated_code(values)
    return np.where(missing, np.float32(np.nan), values) if missing.any() else values


def _flags(values: NDArray[np.float32], column: str, default: np.int8, source: Source) -> NDArray[np.int8]:
    """Convert numbers to quality flags; those that are missing are ``default``."""
    # Comparisons with numbers of another type would convert all values.
    missing = np.isnan(values) | (values == MISSING)
    valid = np.isin(values, np.array(MDS.flag_values, np.float32))
    if not (missing | valid).all():
        missing |= is_code(values)
    wrong = np.flatnonzero(~(missing | valid))
    if wrong.size:
        row = int(wrong[0])
        raise FileFormatError(
            f"{source}, line {find_line(source, row)}, column {column}: {values[row]:g} is not a "
            "quality flag from 0 to 3 (only daily or coarser files have fractions)"
        )
    with np.errstate(invalid="ignore"):  # numbers that are missing are replaced
        return replace_flags(values.astype("int8"), missing, default)
