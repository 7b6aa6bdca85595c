"""Half-hours to clock hours: kernels on arrays, with no labels and no graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xcarbon.core.conventions import MISSING_FLAG

Array = NDArray[Any]
Method = Literal["mean", "sum", "direction", "error", "worst"]

#: Two directions this close to opposite [degree] have no mean.
_OPPOSITE = 1e-3


def hours_touched(halves: int, *, half_past: bool = False) -> int:
    """Count the clock hours that a run of half-hours touches.

    Parameters
    ----------
    halves : int
        Number of consecutive half-hours.
    half_past : bool
        Whether the first one starts at half past.

    Returns
    -------
    int

    Examples
    --------
    >>> hours_touched(4), hours_touched(4, half_past=True)
    (2, 3)
    """
    return (halves + half_past + 1) // 2


def to_hours(values: Array, how: Method, *, half_past: bool = False) -> Array:
    """Combine consecutive half-hours to clock hours.

    Parameters
    ----------
    values : ndarray, shape (..., halves)
        Half-hourly values without gaps in time; missing ones are NaN, missing codes -1.
    how : {"mean", "sum", "direction", "error", "worst"}
        Average, add, average directions [degree] on the circle, give the standard error of the average
        of two values with independent errors, or keep the larger quality code.
    half_past : bool
        Whether the first half-hour starts at half past.

    Returns
    -------
    ndarray, shape (..., hours)
        In the type of ``values``; hours as :func:`hours_touched` counts them. An hour is missing
        unless both its halves exist, and if its halves are opposite directions. Directions lie
        in [0, 360).

    Examples
    --------
    >>> import numpy as np
    >>> to_hours(np.array([1.0, 3.0, 5.0, np.nan]), "mean")
    array([ 2., nan])
    >>> to_hours(np.array([350.0, 30.0]), "direction")
    array([10.])
    >>> to_hours(np.array([0, 1, 2, 0], "int8"), "worst", half_past=True)
    array([-1,  2, -1], dtype=int8)
    """
    missing = MISSING_FLAG if how == "worst" else np.nan
    return _KERNELS[how](*_halves(values, half_past, missing))


def equal_halves(values: Array, *, half_past: bool = False) -> float:
    """Tell how many hours have two equal halves, as data does that was hourly once.

    Parameters
    ----------
    values : ndarray, shape (halves,)
        Half-hourly measurements, NaN where missing.
    half_past : bool
        Whether the first half-hour starts at half past.

    Returns
    -------
    float
        Share [1] of the hours that have both halves, neither of them 0; NaN if there is none.

    Examples
    --------
    >>> equal_halves(np.array([1.0, 1.0, 2.0, 3.0, 0.0, 0.0]))
    0.5
    """
    first, second = _halves(values, half_past, np.nan)
    both = ~(np.isnan(first) | np.isnan(second)) & (first != 0) & (second != 0)
    return float((first[both] == second[both]).mean()) if both.any() else float("nan")


def _halves(values: Array, half_past: bool, missing: float | np.int8) -> tuple[Array, Array]:
    """Split (..., halves) into the first and the second half of each hour, both (..., hours)."""
    halves = values.shape[-1]
    before = int(half_past)
    after = 2 * hours_touched(halves, half_past=half_past) - before - halves
    if before or after:
        padding = [(0, 0)] * (values.ndim - 1) + [(before, after)]
        values = np.pad(values, padding, constant_values=missing)
    return values[..., 0::2], values[..., 1::2]


def _mean(first: Array, second: Array) -> Array:
    return (first + second) / 2


def _sum(first: Array, second: Array) -> Array:
    return first + second


def _direction(first: Array, second: Array) -> Array:
    """Bisect the smaller angle, which is where the sum of the two unit vectors points."""
    turn = (second - first + 180) % 360 - 180
    middle = (first + turn / 2) % 360
    middle = np.where(middle == 360, 0, middle)  # the remainder of a tiny negative angle
    return np.where(np.abs(turn) > 180 - _OPPOSITE, np.nan, middle).astype(first.dtype, copy=False)


def _worst(first: Array, second: Array) -> Array:
    either_missing = (first < 0) | (second < 0)
    return np.where(either_missing, MISSING_FLAG, np.maximum(first, second))


def _error(first: Array, second: Array) -> Array:
    return np.hypot(first, second) / 2


_KERNELS: dict[Method, Callable[[Array, Array], Array]] = {
    "mean": _mean,
    "sum": _sum,
    "direction": _direction,
    "error": _error,
    "worst": _worst,
}
