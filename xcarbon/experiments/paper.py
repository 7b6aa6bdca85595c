"""What arXiv:2406.04940 trains on, tests on and finds, to lay results beside."""

from __future__ import annotations

import functools
import importlib.resources
import tomllib
from typing import Any

#: How to cite it.
REFERENCE = "Fortier et al. 2025, CarbonSense, arXiv:2406.04940"
#: Its seeds.
SEEDS = tuple(range(0, 100, 10))
SETS = ("train", "val", "test")


def sites(name: str) -> tuple[str, ...]:
    """List the towers of one of the paper's sets.

    Parameters
    ----------
    name : {"train", "val", "test"}
        Which set.

    Returns
    -------
    tuple of str
        Sorted.

    Examples
    --------
    >>> [len(sites(name)) for name in ("train", "val", "test")]
    [274, 64, 47]
    """
    return tuple(_facts()[name])


def scores() -> dict[str, dict[str, dict[str, float]]]:
    """Give the paper's scores of its test towers, means over its ten seeds.

    Returns
    -------
    dict
        From the paper's model to IGBP class to ``"nse"`` [1] and ``"rmse"`` [umol m-2 s-1].

    Examples
    --------
    >>> scores()["EcoPerceiver"]["CRO"]
    {'nse': 0.8482, 'rmse': 2.8677}
    """
    table: dict[str, dict[str, dict[str, float]]] = _facts()["scores"]
    return table


@functools.cache
def _facts() -> dict[str, Any]:
    file = importlib.resources.files("xcarbon") / "experiments" / "data" / "paper.toml"
    return tomllib.loads(file.read_text())
