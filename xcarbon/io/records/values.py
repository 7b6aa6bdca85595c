"""The values and quality flags of a tower file, converted to clock hours."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xcarbon.core.conventions import HALF_HOUR
from xcarbon.core.errors import FileFormatError
from xcarbon.core.notices import warn
from xcarbon.core.variables import MDS, VARIABLES, is_gap_filled, quality_scheme
from xcarbon.io.columns import MISSING_CELLS, TIMESTAMP, Source, find_line, read_columns
from xcarbon.io.records.missing import MISSING, without_missing
from xcarbon.io.records.record import Record
from xcarbon.io.records.timestamps import check_stamps
from xcarbon.prep import clock
from xcarbon.prep.fuse import Option, fuse, replace_flags
from xcarbon.prep.hours import combining
from xcarbon.prep.limits import Counts, apply_limits_to_column, count_beyond, is_code
from xcarbon.prep.other_units import find_units


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
    first, step = check_stamps(stamps, source)
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
    if record.step == 60 or record.output_step == HALF_HOUR:
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
