"""Train boosted trees: on one process, or on the workers of a Dask cluster."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import xarray as xr
import xgboost
from tqdm.auto import tqdm

from xcarbon.core.errors import ModelError
from xcarbon.core.options import OPTIONS
from xcarbon.core.workers import cluster
from xcarbon.models.boosting import BoostedTrees, BoostedTreesConfig
from xcarbon.models.bundle import CarbonModel
from xcarbon.training.boosting_config import BoostingConfig
from xcarbon.training.checkpoints import RunFolder
from xcarbon.training.rows import ClusterRows, LocalRows, Rows, TowerRows, tower_rows
from xcarbon.training.search import SEARCH, SPACE, assign_folds, search
from xcarbon.training.task import Task, configure


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
