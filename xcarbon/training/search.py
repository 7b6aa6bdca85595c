"""Random search for the settings of boosted trees, with cross-validation by site."""

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

#: File of the points of the search that have been scored.
SEARCH = "search.json"
#: Values of each setting, drawn with equal probability; they include the defaults of BoostingConfig.
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
    """Find the best of several random settings by cross-validation.

    For each point of the search, trees are trained once for each fold, without the towers of the fold, and
    scored at these towers.

    Parameters
    ----------
    rows : Rows
        Training data.
    training : BoostingConfig
        Number of points and folds, seed, and the settings that are not drawn.
    drawn : sequence of str
        Names of the settings to draw, out of :data:`SPACE`.
    fold : numpy.ndarray
        Number of the fold of each tower, shape ``(towers,)``.
    path : pathlib.Path
        File to which each point is written; points in an existing file are not computed again.

    Returns
    -------
    dict
        ``settings`` of the best point, and ``mse``: its mean squared error over all hours, divided by the
        variance of the target [1].
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
    """Draw the settings of a point of the search; they depend only on its number and on the seed."""
    generator = np.random.default_rng([seed, number])
    point = {name: values[int(generator.integers(len(values)))] for name, values in SPACE.items()}
    return {name: point[name] for name in drawn}


def assign_folds(groups: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Assign groups of towers to folds, at random and evenly: ``(towers,) -> (towers,)``."""
    names, number = np.unique(groups, return_inverse=True)
    if len(names) < folds:
        raise ModelError(f"{len(names)} groups of towers are too few for {folds} folds: choose fewer folds")
    return np.random.default_rng(seed).permutation(len(names))[number] % folds


def _held_out_error(rows: Rows, training: BoostingConfig, held_out: NDArray[np.bool_]) -> float:
    """Sum of squared errors at towers that are left out of the training."""
    booster, _ = rows.train(training, held_out=held_out)
    return rows.squared_error(booster, held_out)
