"""Adjust reanalysis to the measurements of one tower: array kernels."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xcarbon.core.notices import warn
from xcarbon.core.variables import VARIABLES

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Rule = Literal["line", "proportional", "total"]
#: How reanalysis is adjusted to the measurements of a tower, by variable.
RULES: dict[str, Rule] = {
    "TA": "line",
    "P": "total",
    "RH": "line",
    "VPD": "line",
    "PA": "line",
    "SW_IN": "proportional",
    "LW_IN": "line",
    "WS": "proportional",
}
#: Parameters of the adjustment, which are variables of the result on ``(site, driver)``.
PARAMETERS = ("era5_slope", "era5_intercept", "era5_rmse", "era5_hours")


class Adjustment(NamedTuple):
    """Adjusted reanalysis is ``slope`` times reanalysis plus ``intercept`` [units of the variable]."""

    slope: float
    intercept: float


def adjust_tower(
    measured: Array,
    is_gap: Mask,
    cells: Array,
    order: NDArray[np.int_],
    start: int,
    site: str,
    *,
    code: str,
    min_hours: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Adjust the reanalysis of one variable to one tower; warn if its gaps cannot be filled.

    ``measured`` and ``is_gap`` are ``(time,)``, ``cells (hour, row, column)`` is reanalysis around the tower,
    ``order (cell,)`` contains the flat positions of the cells from the nearest to the farthest, and ``start``
    is the first hour of the tower in reanalysis [s]. The results are adjusted values ``(time,)``, NaN if
    there are none, and slope, intercept, RMSE and number of hours, ``(4,)``.
    """
    columns = cells.reshape(cells.shape[0], -1)
    with_values = [cell for cell in order if np.isfinite(columns[:, cell]).any()]
    nearest = columns[:, with_values[0] if with_values else order[0]]
    reanalysis = shift_hours(nearest, start, measured.size)
    both = np.isfinite(measured) & np.isfinite(reanalysis)
    hours = np.count_nonzero(both)
    slope, intercept = (
        fit_adjustment(measured[both], reanalysis[both], RULES[code]) if hours else (np.nan,) * 2
    )
    reason = ""
    if hours < min_hours:
        reason = f"{hours} hours have a measurement and reanalysis, but {min_hours} are needed (min_hours)"
    elif not slope > 0:
        reason = f"the measurements do not increase with reanalysis (slope {slope:.3g})"
    if reason:
        if is_gap.any():
            warn(f"{site}: {np.count_nonzero(is_gap)} missing hours of {code} are not filled: {reason}")
        unknown = np.full(measured.shape, np.nan, np.float32)
        return unknown, np.array([np.nan, np.nan, np.nan, hours], np.float32)
    limits = VARIABLES[code].limits
    adjusted = np.clip(slope * reanalysis + intercept, limits.lower, limits.upper)
    rmse = np.sqrt(np.mean((adjusted[both] - measured[both]) ** 2))
    return adjusted.astype(np.float32), np.array([slope, intercept, rmse, hours], np.float32)


def fit_adjustment(measured: Array, reanalysis: Array, rule: Rule) -> Adjustment:
    """Fit measurements ``(hours,)`` to reanalysis; the slope is NaN if reanalysis has no variation.

    Examples
    --------
    >>> fit_adjustment(np.array([5.0, 7.0]), np.array([2.0, 3.0]), "line")
    Adjustment(slope=2.0, intercept=1.0)
    >>> fit_adjustment(np.array([0.0, 6.0]), np.array([3.0, 1.0]), "total")
    Adjustment(slope=1.5, intercept=0.0)
    """
    y, x = measured.astype(float), reanalysis.astype(float)
    if rule == "total":
        return Adjustment(_ratio(y.sum(), x.sum()), 0.0)
    if rule == "proportional":
        return Adjustment(_ratio(x @ y, x @ x), 0.0)
    deviation = x - x.mean()
    slope = _ratio(deviation @ y, deviation @ deviation if np.ptp(x) else 0.0)
    return Adjustment(slope, float(y.mean() - slope * x.mean()))


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else np.nan


def shift_hours(series: Array, start: int, size: int) -> Array:
    """Average an hourly series ``(hours,)`` over ``size`` hours, the first of which begins at ``start``.

    ``start`` [s] counts from the beginning of the series. The two hours that an hour overlaps are
    weighted by the overlap. Hours that the series does not cover are NaN.

    Examples
    --------
    >>> shift_hours(np.array([1.0, 2.0, 4.0]), 2700, 3)
    array([1.75, 3.5 ,  nan])
    """
    first, seconds = divmod(int(start), 3600)
    padded = np.full(size + 1, np.nan)
    begin, end = max(first, 0), min(first + size + 1, series.size)
    if begin < end:
        padded[begin - first : end - first] = series[begin:end]
    share = seconds / 3600
    return (1 - share) * padded[:-1] + share * padded[1:] if share else padded[:-1]
