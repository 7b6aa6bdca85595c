"""Train boosted trees: on one process, or on the workers of a Dask cluster."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import xarray as xr
import xgboost
from tqdm.auto import tqdm

from xcarbon.errors import ModelError
from xcarbon.models.boosting import BoostedTrees, BoostedTreesConfig
from xcarbon.models.bundle import CarbonModel
from xcarbon.options import OPTIONS
from xcarbon.training.checkpoints import RunFolder
from xcarbon.training.rows import ClusterRows, LocalRows, Rows, TowerRows, tower_rows
from xcarbon.training.search import SEARCH, SPACE, assign_folds, search
from xcarbon.training.task import Task, configure
from xcarbon.workers import cluster

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


def fit(task: Task, *, scheduler: str | None = None, **settings: Any) -> CarbonModel:
    """Train boosted trees; see :func:`xcarbon.training.fit`.

    Parameters
    ----------
    task : Task
        What to learn.
    scheduler : str, optional
        Address of a Dask cluster; by default the one that is connected, if any.
    **settings
        Those of :class:`BoostingConfig`.

    Returns
    -------
    CarbonModel
        As it is saved in the run's folder.
    """
    training = configure(BoostingConfig, settings, also=["scheduler"], seed=task.seed)
    if training.early_stopping_rounds is not None and task.val is None:
        raise ModelError("early_stopping_rounds needs towers to stop by: pass val")
    config = BoostedTreesConfig(task.variables, task.bands, training.context)
    drawn = [name for name in SPACE if name not in settings] if training.tune else []
    asked = {
        "model": BoostedTrees.kind,
        "reads": dataclasses.asdict(config),
        "training": dataclasses.asdict(training),
        "drawn": drawn,
        "target": task.target,
        "max_qc": task.max_qc,
        **task.towers(),
    }
    folder = RunFolder(task.run_dir)
    folder.check(asked, task.resume)
    if task.resume and folder.model.exists():
        return CarbonModel.load(folder.model)
    with cluster(scheduler) as client:
        lazy = [_find_rows(task, ds, config) for ds in (task.train, task.val) if ds is not None]
        groups = task.groups()[[tower.site for tower in lazy[0]]]
        fold = assign_folds(groups, training.folds, task.seed) if training.tune else None
        if not task.resume:
            (folder.path / SEARCH).unlink(missing_ok=True)
            folder.begin(asked)
        try:
            train, val = _hold(client, config, *lazy)
            best = None
            if fold is not None:
                best = search(train, training, drawn, fold, folder.path / SEARCH)
                training = dataclasses.replace(training, **best["settings"])
            booster, curve = _grow(train, val, training)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"stopped while training; resume=True continues {folder.path}") from None
    provenance = task.provenance(training, "xgboost") | {"curve": curve, "search": best}
    model = CarbonModel(BoostedTrees(config, booster), task.scaler([(0.0, 1.0)]), provenance)
    model.save(folder.model)
    return CarbonModel.load(folder.model)


def _find_rows(task: Task, ds: xr.Dataset, config: BoostedTreesConfig) -> list[TowerRows]:
    """Find the hours to learn from or to score, with a clear error where there are none."""
    inputs = task.inputs(ds, task.target)
    rows = tower_rows(inputs, config)
    task.check_hours(len(rows), inputs.sizes["site"], config.context)
    return rows


def _hold(
    client: Any, config: BoostedTreesConfig, train: list[TowerRows], val: list[TowerRows] | None = None
) -> tuple[Rows, Rows | None]:
    """Read rows, on a cluster if there is one."""
    if client is None:
        local = LocalRows(train, config.features)
        return local, None if val is None else LocalRows(val, config.features, like=local)
    hold = functools.partial(ClusterRows, client, features=config.features)
    return hold(train), None if val is None else hold(val)


def _grow(
    train: Rows, val: Rows | None, training: BoostingConfig
) -> tuple[xgboost.Booster, list[dict[str, float]]]:
    """Grow trees with progress; of each tree the mean squared errors, in units of the variance."""
    progress = tqdm(
        total=training.n_estimators, desc="training", unit="tree", disable=not OPTIONS["progress"]
    )
    with progress:
        booster, history = train.train(training, val=val, progress=progress)
    variance = train.variance() or 1.0
    curve: list[dict[str, float]] = [{"step": tree + 1} for tree in range(len(history["train"]["rmse"]))]
    for name, scores in history.items():
        for point, error in zip(curve, scores["rmse"], strict=True):
            point[f"{name}_mse"] = error**2 / variance
    return booster, curve
