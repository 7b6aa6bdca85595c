"""Correlation of the errors of filled hours, and the variance of sums of such hours: kernels of one tower."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

#: Decay times [hours] of the parts of an error that last for hours and for weeks, and of the part that has
#: the same sign at the same time of the day.
DECAYS, DIURNAL_DECAY = (6, 240), 72
#: Shares of the variance of an error: of a single hour, of the parts with these decay times, and of the
#: diurnal part. Means over gaps of 12 and 30 days that were hidden at 71 towers and filled by adapted models
#: of other towers; see ``benchmarks.intervals``.
SHARES = (0.39, 0.11, 0.26, 0.24)


def lagged_products(series: Array, longest: int) -> Array:
    """Compute ``sum_i x_i x_(i + k)`` of a finite series for lags k from 0: ``(longest + 1,)``."""
    size = series.size + longest  # padding with zeros, because the transform is periodic
    spectrum = np.abs(np.fft.rfft(series, size)) ** 2
    return np.fft.irfft(spectrum, size)[: longest + 1]


def error_correlation(error: Array, spread: Array, per_hour: int = 1) -> Array:
    """Compute gamma of :func:`~xcarbon.budget.carbon_sums` at all lags: ``(hours,)`` to ``(hours,)``.

    It is NaN if no error is known. ``per_hour`` is 2 for half-hours in place of hours.
    """
    known = np.isfinite(error) & (spread > 0)
    if not known.any():
        return np.full(error.size, np.nan)
    usual = np.array(SHARES) @ parts(np.arange(error.size) / per_hour)
    return (error[known] ** 2).sum() / (spread[known] ** 2).sum() * usual


def parts(lag: Array) -> Array:
    """Compute the correlation of each part of an error at lags [hours]: ``(lags,)`` to ``(4, lags)``."""
    diurnal = np.cos(2 * np.pi * lag / 24) * np.exp(-lag / DIURNAL_DECAY)
    return np.stack([lag == 0, *(np.exp(-lag / decay) for decay in DECAYS), diurnal])


def variance_of_sum(spread: Array, correlation: Array) -> float:
    """Compute the variance of a sum of hours with a spread ``(hours,)``, 0 outside the sum.

    ``correlation`` is by lag from 0, and 0 at lags beyond its end.
    """
    if not spread.any():
        return 0.0
    longest = min(correlation.size, spread.size) - 1
    terms = correlation[: longest + 1] * lagged_products(spread, longest)
    return float(np.maximum(terms[0] + 2 * terms[1:].sum(), 0))  # not less, by rounding
