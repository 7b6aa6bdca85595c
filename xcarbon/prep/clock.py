"""Array kernels that combine half-hours to clock hours, and divide hours into halves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xcarbon.core.conventions import MISSING_FLAG

Array = NDArray[Any]
Method = Literal["mean", "sum", "direction", "error", "worst"]

#: Two directions have no mean if they are opposite to within this angle [degree].
_OPPOSITE = 1e-3


def hours_touched(halves: int, *, half_past: bool = False) -> int:
    """Count the clock hours to which consecutive half-hours belong, incomplete hours included.

    Examples
    --------
    >>> hours_touched(4), hours_touched(4, half_past=True)
    (2, 3)
    """
    return (halves + half_past + 1) // 2


def to_hours(values: Array, how: Method, *, half_past: bool = False) -> Array:
    """Combine consecutive half-hours ``(..., halves)`` to clock hours ``(..., hours)`` of the same data type.

    Missing values are NaN, and missing quality flags -1. ``half_past`` states whether the first half-hour
    starts at half past. The methods are the mean, the sum, the circular mean of directions [degree] in
    [0, 360), the standard error of the mean of two independent errors, and the larger quality flag. An
    hour is missing if one of its halves is missing, or if its halves are opposite directions.

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


def to_halves(values: Array, halves: int, *, half_past: bool = False, sloping: bool = True) -> Array:
    """Divide clock hours ``(hours,)`` into consecutive half-hours ``(halves,)`` with the same means.

    ``half_past`` states whether the first half-hour starts at half past. With ``sloping``, the two halves of
    an hour differ by a quarter of the difference between the hours before and after it, if there are both.

    Examples
    --------
    >>> to_halves(np.array([0.0, 4.0, 8.0, 8.0]), 7, half_past=True)
    array([0. , 3. , 5. , 7.5, 8.5, 8. , 8. ])
    """
    quarter = np.zeros_like(values)
    if sloping and values.size > 2:
        quarter[1:-1] = np.nan_to_num((values[2:] - values[:-2]) / 8)
    return np.stack([values - quarter, values + quarter], axis=-1).ravel()[half_past : half_past + halves]


def equal_halves(values: Array, *, half_past: bool = False) -> float:
    """Compute the share [1] of hours with two equal halves, which is near 1 if the source is hourly.

    ``values (halves,)`` are measurements, NaN where missing. Hours with a half that is missing or 0 do
    not count; the share is NaN if no hour is left.

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


def _direction(first: Array, second: Array) -> Array:
    """Bisect the smaller angle, which gives the direction of the sum of the two unit vectors."""
    turn = (second - first + 180) % 360 - 180
    middle = (first + turn / 2) % 360
    middle = np.where(middle == 360, 0, middle)  # a tiny negative angle has the remainder 360
    return np.where(np.abs(turn) > 180 - _OPPOSITE, np.nan, middle).astype(first.dtype, copy=False)


def _worst(first: Array, second: Array) -> Array:
    either_missing = (first < 0) | (second < 0)
    return np.where(either_missing, MISSING_FLAG, np.maximum(first, second))


_KERNELS: dict[Method, Callable[[Array, Array], Array]] = {
    "mean": lambda first, second: (first + second) / 2,
    "sum": lambda first, second: first + second,
    "direction": _direction,
    "error": lambda first, second: np.hypot(first, second) / 2,
    "worst": _worst,
}
