"""Settings of the training of boosted trees."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from xcarbon.core.errors import ModelError
from xcarbon.core.validation import check_range

#: Settings that are not parameters of XGBoost.
_OWN = (
    "features", "n_estimators", "early_stopping_rounds", "context", "tune", "points", "folds", "share",
    "dropout",
)  # fmt: skip


@dataclass(frozen=True)
class BoostingConfig:
    """Settings of the training; the defaults are the paper's (appendix B.3), the names those of XGBoost.

    Trees are trained on CPUs with ``tree_method="hist"`` and the loss ``reg:squarederror``, in the units of
    the target.

    Attributes
    ----------
    features : {"paper", "state"}
        ``"paper"``: the hourly variables and the band means of the latest patch. ``"state"``: the hourly
        variables, the class of the site, the season, the memory of the variables and the satellite series.
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
    share : float
        Share of the hours of each tower that is drawn for the training [1].
    dropout : float
        Probability with which the features of the place, the memory, the satellite series, and the parts of
        these that belong to one variable are masked in an hour, so that trees predict without them.
    seed : int
        Random seed for the draws of hours, features, folds and points.

    Raises
    ------
    ModelError
        If the value of a setting is not allowed.
    """

    features: str = "paper"
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
    share: float = 1.0
    dropout: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_range(self, "n_estimators", "max_depth", "context", "points", ge=1)
        check_range(self, "early_stopping_rounds", ge=1, optional=True)
        check_range(self, "folds", ge=2)
        check_range(self, "min_child_weight", "gamma", "reg_alpha", "reg_lambda", ge=0)
        check_range(self, "dropout", ge=0, lt=1)
        if self.features not in ("paper", "state"):
            raise ModelError(f"features must be 'paper' or 'state', found {self.features!r}")
        shares = ("share", "subsample", "colsample_bytree", "colsample_bylevel")
        check_range(self, "learning_rate", *shares, gt=0, le=1)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters for ``xgboost.train``."""
        settings = {name: value for name, value in dataclasses.asdict(self).items() if name not in _OWN}
        return {"objective": "reg:squarederror", "tree_method": "hist", **settings}


#: Settings with ``features="state"`` that differ from the paper's: they generalise better to other towers. An
#: eighth of the hours is enough to train on.
STATE_SETTINGS: dict[str, Any] = {
    "n_estimators": 400, "max_depth": 6, "learning_rate": 0.05, "min_child_weight": 100, "subsample": 0.5,
    "colsample_bytree": 0.4, "colsample_bylevel": 1.0, "gamma": 0.0, "reg_alpha": 0.0, "reg_lambda": 10.0,
    "share": 0.125, "dropout": 0.1,
}  # fmt: skip
