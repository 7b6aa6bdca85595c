"""Recognition of the accumulation period of reanalysis sums from their values.

ERA5 contains sums over the hour that ends at a stamp. ERA5-Land contains sums since 00 UTC, where the stamp
00 UTC contains the sum of the previous day. Such sums never fall within a day, and fall after 00 UTC.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Accumulated = Literal["hour", "day"]
#: Shares of falls in all changes within days. Above the first, sums are over the hour, of which about half of
#: the changes are falls; below the second, they may be since 00 UTC, and falls result from rounding.
_MANY, _FEW = 0.25, 0.05
#: Changes that are smaller than this share of the largest value are rounding.
_ROUNDING = 1e-4
#: Share of unchanged positive values that sums since 00 UTC have at night or between showers.
_UNCHANGED = 0.2
#: Stamps with positive sums before them that must be in a sample; over a few hours, rain can rise by chance.
_LEAST_STAMPS = 5


def find_period(
    stamps: NDArray[np.datetime64], sums: NDArray[np.floating[Any]], upper: float, rounding: float = 0.0
) -> Accumulated | Literal["either"] | None:
    """Find the accumulation period of sums ``(time, cell)`` at hourly stamps.

    ``upper`` is the largest plausible sum over an hour, and ``rounding`` the precision of packed values. The
    result is "either" if both periods give the same amounts, and None if the values do not decide.

    Examples
    --------
    >>> stamps = np.arange("2022-07-01T01", "2022-07-02T03", dtype="datetime64[h]")
    >>> rain = np.tile([1.0, 2.0], 13)[:, None]
    >>> find_period(stamps, rain, 300)
    'hour'
    >>> find_period(stamps, np.concatenate([rain[:24].cumsum(axis=0), rain[24:].cumsum(axis=0)]), 300)
    'day'
    >>> find_period(stamps, 0 * rain, 300), find_period(stamps[:3], rain[:3].cumsum(axis=0), 300)
    ('either', None)
    """
    follows = np.diff(stamps) == np.timedelta64(1, "h")
    is_midnight = stamps[:-1] == stamps[:-1].astype("M8[D]")
    sums = sums.astype("float64")
    before, change = sums[:-1], np.diff(sums, axis=0)
    within, after_midnight = follows & ~is_midnight, follows & is_midnight
    if not (before[within] > 0).any():
        return "either"  # the sum before, which would be subtracted, is zero or missing
    largest = float(np.nanmax(sums))
    noise = max(2 * rounding, _ROUNDING * largest)
    inside, positive = change[within], before[within] > 5 * noise
    rises, falls = inside[inside > noise].sum(), -inside[inside < -noise].sum()
    if falls > _MANY * (rises + falls):
        return "hour"
    if falls > _FEW * (rises + falls):
        return None
    of_day, fall = before[after_midnight], -change[after_midnight]
    of_day = np.where(np.isfinite(fall), of_day, 0)
    falls_at_midnight = of_day.sum() > 10 * noise and np.nansum(fall) > 0.5 * of_day.sum()
    is_unchanged = (abs(inside) <= noise) & positive
    many_unchanged = rises > 0 and is_unchanged.sum() > _UNCHANGED * positive.sum()
    too_large = largest > upper
    enough = positive.any(axis=1).sum() >= _LEAST_STAMPS  # neighbouring cells have the same weather
    if too_large or (enough and (falls_at_midnight or many_unchanged)):
        return "day"
    return None
