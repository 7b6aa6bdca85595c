"""Errors of filled hours: their size by the length of the gap, their correlation, and the variance of sums.

The functions are kernels of one tower.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

#: Decay times [hours] of the parts of an error that last for hours and for weeks, and of the part that has
#: the same sign at the same time of the day.
DECAYS, DIURNAL_DECAY = (6, 240), 72
#: Shares of the variance of an error in gaps of a month: of a single hour, of the parts with these decay
#: times, and of the diurnal part.
SHARES = (0.28, 0.04, 0.34, 0.34)
#: Length of such a gap [hours], and the power of the length of a shorter gap to which the variance of the two
#: lasting parts is proportional, because an adapted model has read the measured hours around the gap.
MONTH, POWER = 720, 0.7
# These constants are from gaps that were hidden at 35 towers and filled by adapted models of other towers;
# see ``benchmarks.intervals``.


class ErrorPart(NamedTuple):
    """A part of the errors of hours that is independent of the other parts.

    Attributes
    ----------
    spread : numpy.ndarray
        Standard deviation in each step, ``(steps,)``; 0 in steps without the error.
    correlation : numpy.ndarray
        Correlation by lag [steps], from 0, ``(lags,)``; it is 0 at lags beyond its end.
    """

    spread: Array
    correlation: Array

    def during(self, steps: slice) -> ErrorPart:
        """Select consecutive steps."""
        return self._replace(spread=self.spread[steps])


def lasting(length: Array) -> Array:
    """Variance of the lasting parts in gaps of some length [hours], relative to that in gaps of a month."""
    return (np.clip(length, 1, MONTH) / MONTH) ** POWER


def relative_variance(length: Array) -> Array:
    """Variance of the error in gaps of some length [hours], relative to that in gaps of a month."""
    return sum(SHARES[:2]) + sum(SHARES[2:]) * lasting(length)


def variance_ratio(error: Array, spread: Array) -> float:
    """Variance of errors relative to the spread, ``(steps,)``, where both are known; NaN if nowhere."""
    known = np.isfinite(error) & (spread > 0)
    if not known.any():
        return np.nan
    return float((error[known] ** 2).sum() / (spread[known] ** 2).sum())


def error_parts(spread: Array, length: Array, ratio: float, per_hour: int = 1) -> tuple[ErrorPart, ErrorPart]:
    """Divide the errors of hours into a part that lasts for hours and one that lasts for days.

    The arguments are the spread, 0 or NaN in steps without the error, the length [hours] of the gap of each
    step, both ``(steps,)``, the variance of errors relative to the spread, and 2 for half-hours.
    """
    spread = np.nan_to_num(spread.astype(float))
    variance = np.where(spread > 0, ratio * spread**2 / relative_variance(length), 0)  # the ratio may be NaN
    correlation = part_correlations(np.arange(spread.size) / per_hour)
    share_short, share_lasting = sum(SHARES[:2]), sum(SHARES[2:])
    return (
        ErrorPart(np.sqrt(share_short * variance), SHARES[:2] @ correlation[:2] / share_short),
        ErrorPart(
            np.sqrt(share_lasting * lasting(length) * variance), SHARES[2:] @ correlation[2:] / share_lasting
        ),
    )


def lagged_products(series: Array, longest: int) -> Array:
    """Compute ``sum_i x_i x_(i + k)`` of a finite series for lags k from 0: ``(longest + 1,)``."""
    size = series.size + longest  # padding with zeros, because the transform is periodic
    spectrum = np.abs(np.fft.rfft(series, size)) ** 2
    return np.fft.irfft(spectrum, size)[: longest + 1]


def part_correlations(lag: Array) -> Array:
    """Compute the correlation of each part of an error at lags [hours]: ``(lags,)`` to ``(4, lags)``."""
    diurnal = np.cos(2 * np.pi * lag / 24) * np.exp(-lag / DIURNAL_DECAY)
    return np.stack([lag == 0, *(np.exp(-lag / decay) for decay in DECAYS), diurnal])


def variance_of_sum(parts: Sequence[ErrorPart]) -> float:
    """Compute the variance of the sum of all steps."""
    return sum(_variance(part.spread, part.correlation) for part in parts)


def _variance(spread: Array, correlation: Array) -> float:
    """Compute the variance of the sum of correlated errors: ``(steps,), (lags,)``."""
    if not spread.any():
        return 0.0
    longest = min(correlation.size, spread.size) - 1
    terms = correlation[: longest + 1] * lagged_products(spread, longest)
    return float(np.maximum(terms[0] + 2 * terms[1:].sum(), 0))  # not less, by rounding
