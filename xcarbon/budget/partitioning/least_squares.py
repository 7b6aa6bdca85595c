"""Non-linear least squares for many windows at once: an array kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]
#: Prediction ``(rows, samples)`` and its derivatives ``(rows, parameters, samples)`` for parameters
#: ``(rows, parameters)`` of the windows in these rows.
Model = Callable[[Array, Index], tuple[Array, Array]]

_STEPS = 60
#: Relative decrease of the cost at which a window has converged [1].
_TOLERANCE = 1e-7
_DAMPING = (1e-3, 1e-12, 1e8)  # at the start, smallest, and largest, at which a window is given up


class Fit(NamedTuple):
    """Parameters of W windows.

    Attributes
    ----------
    parameters : numpy.ndarray
        ``(windows, parameters)``.
    covariance : numpy.ndarray
        Covariance of the parameters, ``(windows, parameters, parameters)``: 0 for fixed parameters, infinite
        for windows with as many parameters as samples.
    rmse : numpy.ndarray
        Root mean square residual, ``(windows,)``.
    residual : numpy.ndarray
        Observed minus predicted values, 0 where there is no sample, ``(windows, samples)``.
    """

    parameters: Array
    covariance: Array
    rmse: Array
    residual: Array


class Prior(NamedTuple):
    """Expected parameters ``(windows, parameters)`` and their standard deviations ``(parameters,)``."""

    mean: Array
    std: Array


def least_squares(
    model: Model,
    start: Array,
    observed: Array,
    weight: Array,
    prior: Prior,
    is_free: Mask | None = None,
    trim: float = 0.0,
) -> Fit:
    """Minimise the weighted squares of residuals and of departures from the prior, by Levenberg-Marquardt.

    ``start`` is ``(windows, parameters)``; ``observed`` and ``weight`` are ``(windows, samples)``, with
    weights of 0 where there is no sample. Parameters that are not free ``(windows, parameters)`` keep their
    start. The share ``trim`` [1] of the samples of each window, those with the largest residuals, is left out
    of the sum, and selected anew in each step.
    """
    value = start.astype(float)
    is_free = np.ones(value.shape, bool) if is_free is None else is_free
    precision = 1 / prior.std**2
    damping, left = np.full(len(value), _DAMPING[0]), np.arange(len(value))

    def cost(parameters: Array, rows: Index) -> tuple[Array, Array, Array]:
        """Return the cost, the normal matrix and the gradient of windows."""
        predicted, slope = model(parameters, rows)
        slope = slope * is_free[rows, :, np.newaxis]
        residual = observed[rows] - predicted
        own = _trimmed(weight[rows], residual, trim)
        departure = prior.mean[rows] - parameters
        weighted = slope * own[:, np.newaxis]
        matrix = weighted @ slope.transpose(0, 2, 1)
        diagonal = np.einsum("npp->np", matrix)
        diagonal += np.where(is_free[rows], precision, 1)
        downhill = (weighted @ residual[..., np.newaxis])[..., 0] + departure * precision * is_free[rows]
        return (own * residual**2).sum(1) + (departure**2 * precision).sum(1), matrix, downhill

    with np.errstate(over="ignore", invalid="ignore"):
        lowest, matrix, downhill = cost(value, left)
        for _ in range(_STEPS):
            if not left.size:
                break
            damped = matrix[left]
            diagonal = np.einsum("npp->np", damped)
            diagonal *= 1 + damping[left, np.newaxis]
            step = np.linalg.solve(damped, downhill[left, :, np.newaxis])[..., 0]
            found, new_matrix, new_downhill = cost(value[left] + step, left)
            better = found < lowest[left]
            improved = left[better]
            gain = (lowest[left] - found) / np.maximum(lowest[left], np.finfo(float).tiny)
            value[improved] += step[better]
            lowest[improved] = found[better]
            matrix[improved], downhill[improved] = new_matrix[better], new_downhill[better]
            damping[left] = np.maximum(damping[left] * np.where(better, 0.1, 10), _DAMPING[1])
            done = (better & (gain < _TOLERANCE)) | (damping[left] > _DAMPING[2])
            left = left[~done]
    residual = observed - model(value, np.arange(len(value)))[0]
    return _summary(value, matrix, residual, weight, _trimmed(weight, residual, trim), is_free)


def _trimmed(weight: Array, residual: Array, trim: float) -> Array:
    """Return weights of 0 for the largest residuals, a share of the samples of each window."""
    if not trim:
        return weight
    there = weight > 0
    size = np.where(there, np.abs(residual), np.inf)
    kept = np.ceil((1 - trim) * there.sum(1)).astype(int)
    limit = np.take_along_axis(np.sort(size, axis=1), np.maximum(kept - 1, 0)[:, np.newaxis], axis=1)
    return np.where(size <= limit, weight, 0)


def _summary(
    value: Array, matrix: Array, residual: Array, weight: Array, trimmed: Array, is_free: Mask
) -> Fit:
    """Compute residuals and the covariance of fitted parameters, for which all samples are counted."""
    residual = np.where(weight > 0, residual, 0)
    count, free = (weight > 0).sum(1), is_free.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(count > free, (trimmed * residual**2).sum(1) / (count - free), np.inf)
        rmse = np.sqrt((residual**2).sum(1) / count)
        both = is_free[:, :, np.newaxis] & is_free[:, np.newaxis]
        covariance = np.where(both, np.linalg.inv(matrix) * variance[:, np.newaxis, np.newaxis], 0)
    return Fit(value, covariance, rmse, residual)
