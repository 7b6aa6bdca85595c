"""Settings of the training of boosted trees."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from xcarbon.core.validation import check_range

#: Settings that are not parameters of XGBoost.
_OWN = ("n_estimators", "early_stopping_rounds", "context", "tune", "points", "folds")


@dataclass(frozen=True)
class BoostingConfig:
    """Settings of the training; the defaults are the paper's (appendix B.3), the names those of XGBoost.

    Trees are trained on CPUs with ``tree_method="hist"`` and the loss ``reg:squarederror``, in the units of
    the target.

    Attributes
    ----------
    n_estimators : int
        Number of trees.
    max_depth : int
        Largest depth of a tree.
    learning_rate : float
        Factor of the contribution of each tree.
    min_child_weight : float
        Smallest number of hours in a leaf.
    subsample : float
        Share of the hours that is drawn for each tree.
    colsample_bytree, colsample_bylevel : float
        Share of the features that is drawn for each tree, and share of these for each level.
    gamma : float
        Smallest reduction of the loss for which a leaf is split.
    reg_alpha, reg_lambda : float
        L1 and L2 penalty on the values of leaves.
    early_stopping_rounds : int or None
        Number of trees without a better validation score after which training stops; the trees up to the best
        score are kept. None to train all trees.
    context : int
        Length [h] of the window in which the latest patch is used: that of EcoPerceiver. Trees are trained on
        the same hours as EcoPerceiver, those with a target and a full window.
    tune : bool
        Whether to choose the settings that are not given with the random search
        :func:`xcarbon.training.search.search`.
    points, folds : int
        Number of random settings and number of cross-validation folds of the search.
    seed : int
        Random seed for the draws of hours, features, folds and points.

    Raises
    ------
    ModelError
        If the value of a setting is not allowed.
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
        check_range(self, "n_estimators", "max_depth", "context", "points", ge=1)
        check_range(self, "early_stopping_rounds", ge=1, optional=True)
        check_range(self, "folds", ge=2)
        check_range(self, "min_child_weight", "gamma", "reg_alpha", "reg_lambda", ge=0)
        check_range(self, "learning_rate", "subsample", "colsample_bytree", "colsample_bylevel", gt=0, le=1)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters for ``xgboost.train``."""
        settings = {name: value for name, value in dataclasses.asdict(self).items() if name not in _OWN}
        return {"objective": "reg:squarederror", "tree_method": "hist", **settings}
