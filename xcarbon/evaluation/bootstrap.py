"""How far scores depend on which towers there happen to be: the bootstrap over towers.

Hours of a tower resemble each other, towers do not: so towers are drawn, with replacement, as many as there
are, and the efficiency is pooled again from the moments of those drawn (Efron 1979).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DRAWS = 2000
#: An interval holds this share of the draws.
LEVEL = 0.95


def draw(towers: int, draws: int = DRAWS, seed: int = 0) -> NDArray[np.int64]:
    """Draw towers with replacement.

    Parameters
    ----------
    towers : int
        How many there are.
    draws : int
        How often as many are drawn.
    seed : int
        Of the draws.

    Returns
    -------
    numpy.ndarray
        How often each tower is in each draw, ``(draws, towers)``.

    Examples
    --------
    >>> draw(5, draws=3).sum(axis=1)
    array([5, 5, 5])
    """
    return np.random.default_rng(seed).multinomial(towers, np.full(towers, 1 / towers), size=draws)


def pooled_nse(
    n: Floats, mean: Floats, spread: Floats, squared: Floats, weights: NDArray[np.int64]
) -> Floats:
    r"""Pool the Nash-Sutcliffe efficiency of towers that are drawn.

    With tower i drawn :math:`w_i` times, :math:`N = \sum w_i n_i` and :math:`M = \sum w_i n_i m_i / N`,

    .. math:: 1 - \frac{\sum w_i e_i}{\sum w_i (s_i + n_i (m_i - M)^2)}

    Parameters
    ----------
    n, mean, spread, squared : numpy.ndarray
        Number and mean of each tower's observations, sums of squares about the mean and of the squared
        errors, ``(..., towers)``.
    weights : numpy.ndarray
        How often each tower is drawn, ``(draws, towers)``.

    Returns
    -------
    numpy.ndarray
        ``(..., draws)``; NaN where the observations of a draw do not vary.

    Examples
    --------
    >>> one = np.ones((1, 2), int)
    >>> pooled_nse(np.array([2, 2]), np.zeros(2), np.array([4.0, 4]), np.array([1.0, 3]), one)
    array([0.5])
    """
    count = n @ weights.T
    # About the mean of all: a difference of two large sums would lose digits.
    total = n.sum(-1, keepdims=True)
    centre = (n * mean).sum(-1, keepdims=True) / np.maximum(total, 1)
    shifted = mean - centre
    first, second = (n * shifted) @ weights.T, (n * shifted**2) @ weights.T
    varied = spread @ weights.T + second - first**2 / np.maximum(count, 1)
    varies = varied > 1e-12 * np.maximum(count, 1) * centre**2
    errors = squared @ weights.T
    return np.where(varies, 1 - errors / np.where(varies, varied, 1), np.nan)


def interval(draws: Floats, level: float = LEVEL) -> Floats:
    """Give the central interval that holds a share of the draws.

    Parameters
    ----------
    draws : numpy.ndarray
        ``(..., draws)``; NaN does not count.
    level : float
        The share.

    Returns
    -------
    numpy.ndarray
        Lower and upper bound, ``(..., 2)``; NaN where there is no draw.

    Examples
    --------
    >>> interval(np.arange(101.0), level=0.9)
    array([ 5., 95.])
    """
    if not draws.size:
        return np.empty((*draws.shape[:-1], 2))
    tail = (1 - level) / 2
    nothing = np.isnan(draws).all(axis=-1, keepdims=True)  # of which numpy would warn
    bounds = np.nanquantile(np.where(nothing, 0, draws), [tail, 1 - tail], axis=-1)
    return np.where(nothing, np.nan, np.moveaxis(bounds, 0, -1))
