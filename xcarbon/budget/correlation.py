"""Correlation of the errors of filled hours, and the variance of sums of such hours: kernels of one tower."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

#: Decay times [hours] of the parts of an error that last for hours, days and weeks, and of the part that has
#: the same sign at the same time of the day.
DECAYS, DIURNAL_DECAY = (6, 72, 240), 72
#: Shares of the variance of an error: of a single hour, of the parts with these decay times, and of the
#: diurnal part. Means over 13 towers of the ``val`` split in the predictions of ``benchmarks.gaps``.
USUAL_SHARES = (0.28, 0.0, 0.12, 0.20, 0.40)
#: Number of measured hours of a tower that have the same weight as the usual shares.
USUAL_WEIGHT = 5000
#: Longest lag [hours] at which the correlation of a tower is estimated.
LONGEST_LAG = 90 * 24


def lagged_products(series: Array, longest: int) -> Array:
    """Compute ``sum_i x_i x_(i + k)`` of a finite series for lags k from 0: ``(longest + 1,)``."""
    size = series.size + longest  # padding with zeros, because the transform is periodic
    spectrum = np.abs(np.fft.rfft(series, size)) ** 2
    return np.fft.irfft(spectrum, size)[: longest + 1]


def empirical_correlation(error: Array, spread: Array, longest: int) -> tuple[Array, Array]:
    """Correlation of errors by lag, and its weight relative to lag 0: ``(longest + 1,)`` each.

    Both are 0 at lags without a pair of hours with an error and a positive spread.
    """
    known = np.isfinite(error) & (spread > 0)
    products = lagged_products(np.where(known, error, 0), longest)
    expected = lagged_products(np.where(known, spread, 0), longest)
    there = expected > 1e-9 * expected[0]  # less is rounding error
    correlation = np.divide(products, expected, out=np.zeros_like(products), where=there)
    return correlation, np.where(there, expected, 0) / max(expected[0], np.finfo(float).tiny)


def error_correlation(error: Array, spread: Array, per_hour: int = 1) -> Array:
    """Estimate gamma of :func:`~xcarbon.budget.carbon_sums` at all lags: ``(hours,)`` to ``(hours,)``.

    It is NaN if no error is known. ``per_hour`` is 2 for half-hours in place of hours.
    """
    known = np.count_nonzero(np.isfinite(error) & (spread > 0)) / per_hour
    if not known:
        return np.full(error.size, np.nan)
    longest = min(LONGEST_LAG * per_hour, error.size - 1)
    own, weight = empirical_correlation(error, spread, longest)
    shapes = _shapes(np.arange(error.size) / per_hour)
    usual = own[0] * (np.array(USUAL_SHARES) @ shapes[:, : longest + 1])
    share = known / (known + USUAL_WEIGHT)
    root = np.sqrt(weight)
    wanted = share * own + (1 - share) * usual
    variances, _ = scipy.optimize.nnls((shapes[:, : longest + 1] * root).T, wanted * root)
    return variances @ shapes


def _shapes(lag: Array) -> Array:
    """Correlation functions of the parts of an error, 1 at lag 0 [hours]: ``(lags,)`` to ``(5, lags)``."""
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
