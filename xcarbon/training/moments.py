"""Means and standard deviations over towers that are read one by one, possibly by several processes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class TowerMoments:
    """Number, mean and sum of squared deviations of the columns of arrays at each tower."""

    def __init__(self) -> None:
        self._towers: dict[str, dict[int, NDArray[np.float64]]] = {}

    def add(self, site: int, **arrays: NDArray[np.float32] | None) -> None:
        """Add all values of a tower, ``(..., n)``, NaN where missing; None is left out."""
        for name, array in arrays.items():
            if array is not None:
                values = array.reshape(-1, array.shape[-1]).astype(np.float64)
                count = np.isfinite(values).sum(0)
                mean = np.nansum(values, 0) / np.maximum(count, 1)
                squares = np.nansum((values - mean) ** 2, 0)
                self._towers.setdefault(name, {})[site] = np.stack([count, mean, squares])

    def by_tower(self, name: str, sites: int, columns: int) -> NDArray[np.float64]:
        """Return number, mean and squares of an array at each tower, ``(sites, 3, n)``; zero at others."""
        found = np.zeros((sites, 3, columns))
        for site, values in self._towers.get(name, {}).items():
            found[site] = values
        return found


def pooled(towers: NDArray[np.float64], ddof: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation over all towers, ``(sites, 3, n) -> (n,), (n,)``; NaN without values."""
    count, mean, squares = towers.transpose(1, 0, 2)  # (sites, n)
    known = count.sum(0)
    with np.errstate(invalid="ignore"):
        middle = (count * mean).sum(0) / known
        variance = (squares + count * (mean - middle) ** 2).sum(0) / np.where(
            known, np.maximum(known - ddof, 1), 0
        )
    return middle, variance**0.5
