"""Settings of the training of boosted trees."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from xcarbon.core.errors import ModelError

#: Settings that are not XGBoost's parameters of a tree.
_OWN = ("n_estimators", "early_stopping_rounds", "context", "tune", "points", "folds")


@dataclass(frozen=True)
class BoostingConfig:
    """How to grow trees; the defaults are the paper's (appendix B.3), the names are XGBoost's.

    Trees are grown on processors, with ``tree_method="hist"`` and the loss ``reg:squarederror``, in units of
    the target.

    Attributes
    ----------
    n_estimators : int
        Trees.
    max_depth : int
        Levels of a tree.
    learning_rate : float
        Share of a tree's correction that is applied.
    min_child_weight : float
        Fewest hours in a leaf.
    subsample, colsample_bytree, colsample_bylevel : float
        Share of the hours, and of the features, drawn for a tree, and of these for a level.
    gamma : float
        Least reduction of the loss for which a leaf is split.
    reg_alpha, reg_lambda : float
        Penalties on the absolute and squared values of leaves.
    early_stopping_rounds : int or None
        End after this many trees without a better validation score, and keep the best ones.
    context : int
        Hours, the predicted one included, in which the latest patch counts: those of EcoPerceiver's window.
        The hours to learn from are its hours, too: those with a target and a full window.
    tune : bool
        Choose the settings that are not given by the random search of :func:`xcarbon.training.search.search`.
    points, folds : int
        Of the search: settings to try, and parts of the towers that take turns to be left out.
    seed : int
        Of the draws of hours, features, folds and points.
    """

    n_estimators: int = 150
    max_depth: int = 9
    learning_rate: float = 0.1
    min_child_weight: float = 9
    subsample: float = 0.7
    colsample_bytree: float = 0.7
    colsample_bylevel: float = 0.8
    gamma: float = 0.4
    reg_alpha: float = 0.1
    reg_lambda: float = 0
    early_stopping_rounds: int | None = None
    context: int = 32
    tune: bool = False
    points: int = 50
    folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        at_least = dict.fromkeys(("n_estimators", "max_depth", "context", "points"), 1) | {"folds": 2}
        at_least |= dict.fromkeys(("min_child_weight", "gamma", "reg_alpha", "reg_lambda"), 0)
        for name, least in at_least.items():
            if getattr(self, name) < least:
                raise ModelError(f"{name} must be at least {least}, found {getattr(self, name)}")
        for name in ("learning_rate", "subsample", "colsample_bytree", "colsample_bylevel"):
            if not 0 < getattr(self, name) <= 1:
                raise ModelError(f"{name} must be in (0, 1], found {getattr(self, name)}")
        if self.early_stopping_rounds is not None and self.early_stopping_rounds < 1:
            found = self.early_stopping_rounds
            raise ModelError(f"early_stopping_rounds must be at least 1 or None, found {found}")

    def parameters(self) -> dict[str, Any]:
        """Parameters for ``xgboost.train``."""
        settings = {name: value for name, value in dataclasses.asdict(self).items() if name not in _OWN}
        return {"objective": "reg:squarederror", "tree_method": "hist", **settings}
