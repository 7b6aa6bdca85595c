"""Composites of satellite products at one tower: their days, their flags, and one series out of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xcarbon.core.conventions import MISSING_FLAG
from xcarbon.core.errors import FileFormatError, MetadataError

#: Length of the composite of a month [days]: that of the longest, so that no composite ends too early.
MONTH = 31.0
#: Quality flags of satellite series.
GOOD, USABLE, SEASONAL = np.int8(0), np.int8(1), np.int8(2)


@dataclass(frozen=True, slots=True, eq=False)
class Composites:
    """Composites of one variable at one site.

    Attributes
    ----------
    code, site : str
        Code of the variable and site.
    day : numpy.ndarray
        Days at the centres [datetime64[D]], shape ``(n,)``.
    values : numpy.ndarray
        Values in the units of the vocabulary, float32, ``(n,)``; NaN where missing.
    flags : numpy.ndarray
        Quality flags, int8, ``(n,)``; -1 where missing.
    length : numpy.ndarray
        Lengths of the composites [days], float32, ``(n,)``.
    source : str
        File and column or variable.
    """

    code: str
    site: str
    day: NDArray[np.datetime64]
    values: NDArray[np.float32]
    flags: NDArray[np.int8]
    length: NDArray[np.float32]
    source: str


class SeasonalCycle(NamedTuple):
    """A mean seasonal cycle of one variable at one site: ``months (12,)``, NaN where missing."""

    code: str
    site: str
    months: NDArray[np.float32]
    source: str


def compose(
    code: str,
    site: str,
    day: NDArray[np.datetime64],
    values: NDArray[np.floating],
    flags: NDArray[np.integer],
    length: NDArray[np.floating] | float,
    source: str,
) -> Composites:
    """Make composites: values without a flag and flags without a value become missing."""
    there = np.isfinite(values) & (flags >= 0)
    lengths = np.broadcast_to(np.asarray(length, np.float32), there.shape)
    return Composites(
        code,
        site,
        day,
        np.where(there, values, np.nan).astype(np.float32),
        np.where(there, flags, MISSING_FLAG).astype(np.int8),
        lengths,
        source,
    )


def centre(start: NDArray[np.datetime64], length: float) -> NDArray[np.datetime64]:
    """Return the days at the centres of composites that begin at ``start`` and are ``length`` days long.

    Examples
    --------
    >>> centre(np.array(["2010-01-01"], "datetime64[D]"), 8).astype(str).tolist()
    ['2010-01-05']
    """
    number = start.astype("datetime64[D]").astype(np.int64)
    return np.asarray(number + int(length // 2), "datetime64[D]")


def month_centre(start: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    """Return the days at the centres of months.

    Examples
    --------
    >>> month_centre(np.array(["2010-01-01", "2010-02-01"], "datetime64[D]")).astype(str).tolist()
    ['2010-01-16', '2010-02-15']
    """
    month = start.astype("datetime64[M]")
    first, following = (of.astype("datetime64[D]").astype(np.int64) for of in (month, month + 1))
    return np.asarray((first + following) // 2, "datetime64[D]")


def centres_from_dates(
    start: NDArray[np.datetime64], composite_days: float | None, path: str
) -> tuple[NDArray[np.datetime64], float]:
    """Return the days at the centres of composites, and their length [days], from their first days.

    By default it is a month if all first days are the first of a month, else the median step between them.
    """
    if composite_days is not None:
        return centre(start, composite_days), float(composite_days)
    dates = np.unique(start)
    if (dates == dates.astype("datetime64[M]").astype("datetime64[D]")).all():
        is_month = dates.size > 1 and np.diff(dates.astype("datetime64[M]")).min() == np.timedelta64(1)
        if is_month:
            return month_centre(start), MONTH
    if dates.size < 2:
        raise MetadataError(f"{path}: one date does not state the length of composites; pass composite_days")
    length = float(np.median(np.diff(dates).astype(np.float64)))
    return centre(start, length), length


def checked_flags(flags: NDArray[np.float64], path: str, name: str) -> NDArray[np.int8]:
    """Return quality flags as int8; missing ones are -1."""
    flags = np.where(np.isfinite(flags), flags, MISSING_FLAG)
    if not np.isin(flags, (-1, 0, 1, 2)).all():
        found = sorted({float(flag) for flag in flags} - {-1.0, 0.0, 1.0, 2.0})
        raise FileFormatError(f"{path}: {name!r} has flags {found[:5]}; quality flags are -1, 0, 1 and 2")
    return flags.astype(np.int8)


def merge(parts: Sequence[Composites]) -> Composites:
    """Merge composites of one variable at one site: shorter ones first, mean seasonal cycles last.

    A composite is used where no shorter one has its centre within it; of several on one day the first of
    ``parts`` is used. A mean seasonal cycle is used before the first and after the last satellite value.
    """
    parts = sorted(parts, key=lambda part: float(part.length.max(initial=0)))
    day = np.concatenate([part.day.astype("datetime64[D]") for part in parts])
    values, flags, length = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("values", "flags", "length")
    )
    observed = np.flatnonzero((flags == GOOD) | (flags == USABLE))
    kept = _finest(day, length, observed, np.array([], int))
    cycle = np.flatnonzero(flags == SEASONAL)
    if kept.size:
        cycle = cycle[(day[cycle] < day[kept].min()) | (day[cycle] > day[kept].max())]
    kept = _finest(day, length, cycle, kept)
    kept = kept[np.argsort(day[kept], kind="stable")]
    source = "; ".join(dict.fromkeys(part.source for part in parts))
    return Composites(
        parts[0].code, parts[0].site, day[kept], values[kept], flags[kept], length[kept], source
    )


def _finest(
    day: NDArray[np.datetime64],
    length: NDArray[np.float32],
    candidates: NDArray[np.intp],
    kept: NDArray[np.intp],
) -> NDArray[np.intp]:
    """Return ``kept`` and those candidates whose days no kept or shorter composite has; all are positions."""
    number = day.astype(np.int64).astype(np.float64)
    for size in np.unique(length[candidates]):
        these = candidates[length[candidates] == size]
        these = these[np.unique(day[these], return_index=True)[1]]
        taken = np.sort(number[kept])
        # Open interval: composites that touch do not overlap.
        first = np.searchsorted(taken, number[these] - size / 2, side="right")
        last = np.searchsorted(taken, number[these] + size / 2, side="left")
        kept = np.concatenate([kept, these[first >= last]])
    return kept
