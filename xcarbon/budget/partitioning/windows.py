"""Windows of days along a record, the samples in them, and values between them: array kernels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xcarbon.prep.periods import Array, Stamps

Index = NDArray[np.intp]
Mask = NDArray[np.bool_]

DAY, HALF_DAY = np.timedelta64(1, "D"), np.timedelta64(12, "h")


def window_starts(time: Stamps, step: int) -> Stamps:
    """Return the first days of windows, every ``step`` days from the first of January of each year.

    Examples
    --------
    >>> window_starts(np.array(["2010-12-24T05", "2011-01-02T23"], "datetime64[h]"), 5)
    array(['2010-12-22', '2010-12-27', '2011-01-01'], dtype='datetime64[D]')
    """
    first, last = time[[0, -1]].astype("datetime64[D]")
    years = np.arange(first.astype("datetime64[Y]"), last.astype("datetime64[Y]") + 1).astype("datetime64[D]")
    ends = (years.astype("datetime64[Y]") + 1).astype("datetime64[D]")
    starts = np.concatenate([np.arange(*year, step) for year in zip(years, ends, strict=True)])
    return starts[(starts > first - np.timedelta64(step, "D")) & (starts <= last)]


def within_year(start: Stamps, begin: Stamps, stop: Stamps) -> tuple[Stamps, Stamps]:
    """Cut windows from ``begin`` to before ``stop`` at the bounds of the year of their ``start``."""
    year = start.astype("datetime64[Y]")
    return np.maximum(begin, year), np.minimum(stop, year + 1)


class Samples(NamedTuple):
    """Time steps of a record in each window, for fancy indexing.

    Attributes
    ----------
    position : numpy.ndarray
        Positions in the record, ``(windows, samples)``.
    there : numpy.ndarray
        Whether it is a sample; the others fill up the array, ``(windows, samples)``.
    number : numpy.ndarray
        Number of samples, ``(windows,)``.
    """

    position: Index
    there: Mask
    number: Index


def samples(chosen: Mask, time: Stamps, start: Stamps, stop: Stamps) -> Samples:
    """Collect the chosen time steps ``(time,)`` of windows that begin and stop on days, ``(windows,)``."""
    positions = np.flatnonzero(chosen)
    first = np.searchsorted(time[positions], start)
    count = np.searchsorted(time[positions], stop) - first
    place = first[:, np.newaxis] + np.arange(max(1, count.max(initial=0)))
    there = place < (first + count)[:, np.newaxis]
    index = np.append(positions, 0)[np.minimum(place, positions.size)]
    return Samples(index, there, count)


class Neighbours(NamedTuple):
    """The windows before and after each time step, all arrays ``(time,)``.

    Attributes
    ----------
    before, after : numpy.ndarray
        Positions of the windows; the same one before the first and after the last window.
    weight : numpy.ndarray
        Weight of the window after the time step, in 0 to 1; the other one has the rest.
    distance : numpy.ndarray
        Distance from the nearer of the two that have a weight [days].
    """

    before: Index
    after: Index
    weight: Array
    distance: Array


def neighbours(position: Array, start: Stamps, time: Stamps) -> Neighbours | None:
    """Find the windows around each of the stamps ``time (time,)``; None if no ``position`` is finite.

    ``position`` [days after the first stamp] and ``start``, which determines the year of a window, are
    ``(windows,)``. If only one of the two windows is of the year of a time step, it has all of the weight.
    """
    order = np.argsort(position)
    order = order[np.isfinite(position[order])]
    if not order.size:
        return None
    middle, days = position[order], (time - time[0]) / DAY
    place = np.searchsorted(middle, days)
    first, last = np.clip(place - 1, 0, order.size - 1), np.clip(place, 0, order.size - 1)
    gap, year = middle[last] - middle[first], start[order].astype("datetime64[Y]")
    weight = np.divide(days - middle[first], gap, out=np.zeros(days.shape), where=gap > 0)
    is_own = [year[window] == time.astype("datetime64[Y]") for window in (first, last)]
    weight = np.where(is_own[0] == is_own[1], weight, is_own[1])
    before, after = np.abs(days - middle[first]), np.abs(days - middle[last])
    distance = np.where(weight == 0, before, np.where(weight == 1, after, np.minimum(before, after)))
    return Neighbours(order[first], order[last], weight, distance)
