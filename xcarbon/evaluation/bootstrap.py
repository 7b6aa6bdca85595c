"""Bootstrap over towers: the uncertainty of scores that results from the choice of towers.

Hours of one tower are correlated, whereas towers are nearly independent. Therefore whole towers are drawn
with replacement, as many as there are, and the efficiency is computed from the moments of the drawn towers
(Efron 1979).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Number of draws.
DRAWS = 2000
#: Share of the draws within an interval.
LEVEL = 0.95


def draw(towers: int, draws: int = DRAWS, seed: int = 0) -> NDArray[np.int64]:
    """Draw towers with replacement and return the number of times that each is drawn, ``(draws, towers)``."""
    return np.random.default_rng(seed).multinomial(towers, np.full(towers, 1 / towers), size=draws)


def pooled_nse(n: Floats, mean: Floats, sst: Floats, sse: Floats, weights: NDArray[np.int64]) -> Floats:
    r"""Compute the pooled Nash-Sutcliffe efficiency of each draw of towers.

    With tower i drawn :math:`w_i` times, :math:`N = \sum w_i n_i` and :math:`M = \sum w_i n_i m_i / N`,

    .. math:: NSE = 1 - \frac{\sum w_i\, sse_i}{\sum w_i (sst_i + n_i (m_i - M)^2)}

    Parameters
    ----------
    n, mean, sst, sse : numpy.ndarray
        Number :math:`n_i`, mean :math:`m_i` and sum of squares about the mean of each tower's observations,
        and sum of squared errors, ``(..., towers)``. See :func:`xcarbon.evaluation.scores.moments`.
    weights : numpy.ndarray
        Number of times that each tower is drawn, ``(draws, towers)``, as returned by :func:`draw`.

    Returns
    -------
    numpy.ndarray
        Efficiency [1] with shape ``(..., draws)``; NaN where the observations of a draw do not vary.

    Examples
    --------
    >>> one = np.ones((1, 2), int)
    >>> pooled_nse(np.array([2, 2]), np.zeros(2), np.array([4.0, 4]), np.array([1.0, 3]), one)
    array([0.5])
    """
    count = n @ weights.T
    # Deviations from the mean of all towers: a difference of two large sums would lose digits.
    total = n.sum(-1, keepdims=True)
    centre = (n * mean).sum(-1, keepdims=True) / np.maximum(total, 1)
    shifted = mean - centre
    first, second = (n * shifted) @ weights.T, (n * shifted**2) @ weights.T
    varied = sst @ weights.T + second - first**2 / np.maximum(count, 1)
    varies = varied > 1e-12 * np.maximum(count, 1) * centre**2
    errors = sse @ weights.T
    return np.where(varies, 1 - errors / np.where(varies, varied, 1), np.nan)


def interval(draws: Floats) -> Floats:
    """Return the central 95 % interval of draws, ``(..., draws)`` to ``(..., 2)``; NaN is ignored."""
    if not draws.size:
        return np.empty((*draws.shape[:-1], 2))
    tail = (1 - LEVEL) / 2
    nothing = np.isnan(draws).all(axis=-1, keepdims=True)  # numpy warns of empty slices
    bounds = np.nanquantile(np.where(nothing, 0, draws), [tail, 1 - tail], axis=-1)
    return np.where(nothing, np.nan, np.moveaxis(bounds, 0, -1))
