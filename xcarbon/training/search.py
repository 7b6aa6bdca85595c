"""Choose the settings of boosted trees: random search with cross validation by site, resumable."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from xcarbon.core.atomic import replacing
from xcarbon.core.errors import ModelError
from xcarbon.core.options import OPTIONS

if TYPE_CHECKING:
    from xcarbon.training.boosting_config import BoostingConfig
    from xcarbon.training.rows import Rows

SEARCH = "search.json"
#: What settings are drawn from, each value as likely as the others; the paper's are among them.
SPACE: dict[str, Sequence[float]] = {
    "n_estimators": (50, 100, 150, 200, 300),
    "max_depth": (3, 4, 5, 6, 7, 8, 9, 10, 11, 12),
    "learning_rate": (0.02, 0.05, 0.1, 0.2, 0.3),
    "min_child_weight": (1, 3, 5, 7, 9, 11),
    "subsample": (0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    "colsample_bytree": (0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    "colsample_bylevel": (0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    "gamma": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
    "reg_alpha": (0.0, 0.01, 0.1, 1.0, 10.0),
    "reg_lambda": (0.0, 0.01, 0.1, 1.0, 10.0),
}


def search(
    rows: Rows, training: BoostingConfig, drawn: Sequence[str], fold: NDArray[np.int64], path: Path
) -> dict[str, Any]:
    """Find the best of some random settings by cross validation.

    A point of the search is scored by training as often as there are folds, each time without the towers of
    one, and predicting those.

    Parameters
    ----------
    rows : Rows
        What to learn from.
    training : BoostingConfig
        Number of points and folds, the seed, and what is not drawn.
    drawn : sequence of str
        The settings to draw, out of :data:`SPACE`.
    fold : numpy.ndarray
        Number of each tower's fold, shape ``(towers,)``, as :func:`assign_folds` gives it.
    path : pathlib.Path
        File that is written after each point; what is in it already is not done again.

    Returns
    -------
    dict
        ``settings`` and ``mse`` of the best point: the mean squared error over all hours, in units of the
        variance of the target.
    """
    scale = sum(rows.sizes) * (rows.variance() or 1.0)
    points: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    progress = tqdm(
        total=training.points, initial=len(points), desc="searching", unit="point",
        disable=not OPTIONS["progress"],
    )  # fmt: skip
    with progress:
        while len(points) < training.points:
            settings = draw_point(training.seed, len(points), drawn)
            trial = dataclasses.replace(training, **settings)
            error = sum(_held_out_error(rows, trial, fold == number) for number in range(training.folds))
            points.append({"settings": settings, "mse": error / scale})
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(points, indent=2) + "\n")
            progress.update()
            progress.set_postfix(best=f"{min(point['mse'] for point in points):.3f}")
    return min(points, key=lambda point: point["mse"])


def draw_point(seed: int, number: int, drawn: Sequence[str]) -> dict[str, Any]:
    """Draw the settings of a point of the search; they depend on seed and number alone.

    Examples
    --------
    >>> draw_point(0, 3, ["max_depth"]) == draw_point(0, 3, ["max_depth"])
    True
    """
    generator = np.random.default_rng([seed, number])
    point = {name: values[int(generator.integers(len(values)))] for name, values in SPACE.items()}
    return {name: point[name] for name in drawn}


def assign_folds(groups: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Share out groups of towers among folds, at random and evenly.

    Parameters
    ----------
    groups : numpy.ndarray
        Number of each tower's group, shape ``(towers,)``.
    folds : int
        How many.
    seed : int
        Of the order.

    Returns
    -------
    numpy.ndarray
        Number of each tower's fold, shape ``(towers,)``.

    Raises
    ------
    ModelError
        If there are fewer groups than folds.

    Examples
    --------
    >>> np.bincount(assign_folds(np.arange(12), folds=5, seed=0)).tolist()
    [3, 3, 2, 2, 2]
    """
    names, number = np.unique(groups, return_inverse=True)
    if len(names) < folds:
        raise ModelError(f"{len(names)} groups of towers are too few for {folds} folds: set folds to less")
    return np.random.default_rng(seed).permutation(len(names))[number] % folds


def _held_out_error(rows: Rows, training: BoostingConfig, held_out: NDArray[np.bool_]) -> float:
    """Sum of squared errors at towers that were not learnt from."""
    booster, _ = rows.train(training, held_out=held_out)
    return rows.squared_error(booster, held_out)
