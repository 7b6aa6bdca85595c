"""What is read from a tower file before its values: its columns, units and time axis."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from xcarbon.core.conventions import HALF_HOUR, HOUR
from xcarbon.core.errors import FileFormatError
from xcarbon.core.variables import is_gap_filled, quality_column
from xcarbon.io.networks import READABLE, Release
from xcarbon.io.records.column_choice import choose_columns, without_empty
from xcarbon.io.records.header import read_header
from xcarbon.io.records.timestamps import OPEN_HOURLY_FILE, check_all_stamps, check_ends
from xcarbon.io.records.units import read_conversions
from xcarbon.io.records.unread import warn_of_unread
from xcarbon.prep import clock


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
    def output_step(self) -> np.timedelta64:
        """Length of the time steps that :func:`xcarbon.io.records.read_hours` returns."""
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
    def output_step(self) -> np.timedelta64:
        """Length of the time steps that :func:`xcarbon.io.records.read_hours` returns."""
        return HALF_HOUR


def survey(
    release: Release, *, whole: bool = True, uncertainty: bool = False, halves: bool = False
) -> Record:
    """Read and check the header and the time stamps of a file, of which ``halves`` keeps the half-hours.

    Unless ``whole``, only the first two stamps and the last one are checked; :func:`read_hours` checks all.
    """
    source = release.source
    if release.resolution not in READABLE:
        raise FileFormatError(
            f"{source}: the file is daily or coarser ({release.resolution}); {OPEN_HOURLY_FILE}"
        )
    header = read_header(source)
    columns = choose_columns(without_empty(header, source), uncertainty=uncertainty)
    flags = {column: quality_column(column) for names in columns.values() for column in names}
    flags = {column: name for column, name in flags.items() if name in header}
    warn_of_unread(release, header, columns)
    first, rows, step = check_all_stamps(source) if whole else check_ends(source, header)
    if halves and step == 60:
        raise FileFormatError(
            f"{source}: the file is hourly and has no half-hours; open it without resolution='HH'"
        )
    kind = HalfHourRecord if halves else Record
    conversions = read_conversions(source, columns, step)
    return kind(release, columns, flags, np.datetime64(first, "m"), rows, step, conversions)
