"""Training of boosted trees, in one process or on the workers of a Dask cluster."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import xarray as xr
import xgboost
from tqdm.auto import tqdm

from xcarbon.core.errors import ModelError
from xcarbon.core.options import OPTIONS
from xcarbon.core.workers import connected_client
from xcarbon.models.boosting import BoostedTrees, BoostedTreesConfig
from xcarbon.models.bundle import CarbonModel
from xcarbon.training.boosting_config import BoostingConfig
from xcarbon.training.checkpoints import RunFolder
from xcarbon.training.rows import ClusterRows, LocalRows, Rows, TowerRows, tower_rows
from xcarbon.training.search import SEARCH, SPACE, assign_folds, search
from xcarbon.training.task import Task, configure


def fit(task: Task, **settings: Any) -> CarbonModel:
    """Train boosted trees in this process, or on the workers of the connected Dask cluster."""
    training = configure(BoostingConfig, settings, seed=task.seed)
    if training.early_stopping_rounds is not None and task.val is None:
        raise ModelError("early_stopping_rounds needs validation towers: pass val")
    config = BoostedTreesConfig(task.variables, task.bands, training.context)
    drawn = [name for name in SPACE if name not in settings] if training.tune else []
    run = {
        "model": BoostedTrees.kind,
        "reads": dataclasses.asdict(config),
        "training": dataclasses.asdict(training),
        "drawn": drawn,
        "target": task.target,
        "max_qc": task.max_qc,
        **task.towers(),
    }
    folder = RunFolder(task.run_dir)
    folder.check(run, task.resume)
    if task.resume and folder.model.exists():
        return CarbonModel.load(folder.model)
    client = connected_client()
    lazy = [_find_rows(task, ds, config) for ds in (task.train, task.val) if ds is not None]
    groups = task.groups()[[tower.site for tower in lazy[0]]]
    fold = assign_folds(groups, training.folds, task.seed) if training.tune else None
    if not task.resume:
        (folder.path / SEARCH).unlink(missing_ok=True)
        folder.begin(run)
    try:
        train, val = _hold(client, config, *lazy)
        best = None
        if fold is not None:
            best = search(train, training, drawn, fold, folder.path / SEARCH)
            training = dataclasses.replace(training, **best["settings"])
        booster, curve = _train(train, val, training)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"training was stopped; resume=True continues the run in {folder.path}"
        ) from None
    provenance = task.provenance(training, "xgboost") | {"curve": curve, "search": best}
    model = CarbonModel(BoostedTrees(config, booster), task.scaler([(0.0, 1.0)]), provenance)
    model.save(folder.model)
    return CarbonModel.load(folder.model)


def _find_rows(task: Task, ds: xr.Dataset, config: BoostedTreesConfig) -> list[TowerRows]:
    """Find the hours of the training or validation towers; raise a ModelError if there are none."""
    inputs = task.inputs(ds, task.target)
    rows = tower_rows(inputs, config)
    task.check_hours(len(rows), inputs.sizes["site"], config.context)
    return rows


def _hold(
    client: Any, config: BoostedTreesConfig, train: list[TowerRows], val: list[TowerRows] | None = None
) -> tuple[Rows, Rows | None]:
    """Read the rows into this process, or into the workers of a cluster."""
    if client is None:
        local = LocalRows(train, config.features)
        return local, None if val is None else LocalRows(val, config.features, like=local)
    hold = functools.partial(ClusterRows, client, features=config.features)
    return hold(train), None if val is None else hold(val)


def _train(
    train: Rows, val: Rows | None, training: BoostingConfig
) -> tuple[xgboost.Booster, list[dict[str, float]]]:
    """Train with a progress bar; return trees and, after each tree, MSE over variance of the target [1]."""
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
