"""Several records of one variable to one: a kernel on arrays, with no labels and no graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xcarbon.core.conventions import MISSING_FLAG


class Option(NamedTuple):
    """One record of a variable: values, NaN where missing, and their quality codes, both ``(hours,)``."""

    values: NDArray[np.float32]
    codes: NDArray[np.int8]


class Fused(NamedTuple):
    """What was chosen, and the position of the option that each hour comes from, -1 where missing."""

    values: NDArray[np.float32]
    codes: NDArray[np.int8]
    origin: NDArray[np.int8]


def fuse(options: Sequence[Option]) -> Fused:
    """Choose, hour by hour, the value with the lowest quality code, and of equals the first.

    Parameters
    ----------
    options : sequence of Option
        At least one; a preferred one comes first. Each value has a code of 0 or more.

    Returns
    -------
    Fused
        Three arrays of shape ``(hours,)``; an hour is missing where all options are.

    Examples
    --------
    >>> measured = Option(np.array([1, np.nan, np.nan]), np.array([0, -1, -1], "int8"))
    >>> filled = Option(np.array([9, 2, np.nan]), np.array([0, 1, -1], "int8"))
    >>> fused = fuse([measured, filled])
    >>> fused.values, fused.origin
    (array([ 1.,  2., nan]), array([ 0,  1, -1], dtype=int8))
    """
    values, codes = options[0].values.copy(), options[0].codes.copy()
    origin = np.where(np.isnan(values), MISSING_FLAG, np.int8(0))
    for position, option in enumerate(options[1:], start=1):
        better = ~np.isnan(option.values) & (np.isnan(values) | (option.codes < codes))
        values[better] = option.values[better]
        codes[better] = option.codes[better]
        origin[better] = position
    return Fused(values, codes, origin)


def place(values: NDArray[Any], before: int, total: int, missing: np.float32 | np.int8) -> NDArray[Any]:
    """Set a record into a longer time axis.

    Parameters
    ----------
    values : ndarray, shape (hours,)
        The record.
    before, total : int
        Hours of the axis before the record, and in all.
    missing : float32 or int8
        Value of the hours that it does not cover.

    Returns
    -------
    ndarray, shape (total,)

    Examples
    --------
    >>> place(np.array([5], np.int8), 1, 3, MISSING_FLAG)
    array([-1,  5, -1], dtype=int8)
    """
    placed = np.full(total, missing, values.dtype)
    placed[before : before + values.size] = values
    return placed
