"""Towers and scores of the CarbonSense paper (arXiv:2406.04940), for comparison with results."""

from __future__ import annotations

import functools
import importlib.resources
import tomllib
from typing import Any

#: Citation of the paper.
REFERENCE = "Fortier et al. 2025, CarbonSense, arXiv:2406.04940"
#: Random seeds of the paper.
SEEDS = tuple(range(0, 100, 10))
SETS = ("train", "val", "test")


def sites(name: str) -> tuple[str, ...]:
    """Return the sorted towers of one of the paper's sets: train, val or test."""
    return tuple(_facts()[name])


def scores() -> dict[str, dict[str, dict[str, float]]]:
    """Return the paper's NSE [1] and RMSE [umol m-2 s-1] by model and class, means over its seeds."""
    table: dict[str, dict[str, dict[str, float]]] = _facts()["scores"]
    return table


@functools.cache
def _facts() -> dict[str, Any]:
    """Read the file with the towers and scores."""
    file = importlib.resources.files("xcarbon") / "experiments" / "data" / "paper.toml"
    return tomllib.loads(file.read_text())
