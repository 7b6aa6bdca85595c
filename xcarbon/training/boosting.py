"""Training of boosted trees, in one process or on the workers of a Dask cluster."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import xgboost
from numpy.typing import NDArray
from tqdm.auto import tqdm

from xcarbon.core.errors import ModelError
from xcarbon.core.options import OPTIONS
from xcarbon.core.workers import connected_client, resumable
from xcarbon.models.boosting import BoostedTrees, BoostedTreesConfig
from xcarbon.models.bundle import CarbonModel
from xcarbon.training.arrays import scratch_folder
from xcarbon.training.boosting_config import STATE_SETTINGS, BoostingConfig
from xcarbon.training.checkpoints import RunFolder
from xcarbon.training.rows import ClusterRows, Draw, LocalRows, Rows, TowerRows, memory_of, tower_rows
from xcarbon.training.search import SEARCH, SPACE, assign_folds, search
from xcarbon.training.task import Task, configure

#: Folder in that of the run for data that does not fit in memory.
SCRATCH = "scratch"


def fit(task: Task, **settings: Any) -> CarbonModel:
    """Train boosted trees in this process, or on the workers of the connected Dask cluster."""
    with_state = settings.get("features") == "state"
    defaults = STATE_SETTINGS if with_state else {}
    training = configure(BoostingConfig, defaults | settings, seed=task.seed)
    if training.early_stopping_rounds is not None and task.val is None:
        raise ModelError("early_stopping_rounds needs validation towers: pass val")
    config = BoostedTreesConfig(task.variables, task.bands, targets=task.targets, context=training.context)
    if with_state:
        config = dataclasses.replace(config, statics=("igbp", "lat"), state=task.available_state())
    drawn = [name for name in SPACE if name not in settings] if training.tune else []
    run = {
        "model": BoostedTrees.kind,
        "reads": dataclasses.asdict(config),
        "training": dataclasses.asdict(training),
        "drawn": drawn,
        "max_qc": task.max_qc,
        **task.towers(),
    }
    folder = RunFolder(task.run_dir)
    folder.check(run, task.resume)
    if task.resume and folder.model.exists():
        return CarbonModel.load(folder.model)
    client = connected_client()
    draw = Draw(training.share, training.dropout, task.seed)
    with resumable("counting hours", "start the training again"):
        lazy = [_find_rows(task, ds, config, draw) for ds in (task.train, task.val) if ds is not None]
    groups = task.groups()[[tower.site for tower in lazy[0]]]
    fold = assign_folds(groups, training.folds, task.seed) if training.tune else None
    if not task.resume:
        (folder.path / SEARCH).unlink(missing_ok=True)
        folder.begin(run)
    with resumable("training", f"resume=True continues the run in {folder.path}"):
        trained = functools.partial(
            _search_and_train, lazy, config, training, drawn, fold, folder.path / SEARCH
        )
        if client is None:
            size = sum(map(memory_of, lazy))
            with scratch_folder(folder.path / SCRATCH, "data with its bins", size) as scratch:
                training, best, booster, curve = trained(functools.partial(LocalRows.read, folder=scratch))
        else:
            training, best, booster, curve = trained(functools.partial(ClusterRows, client))
    provenance = task.provenance(training, "xgboost") | {"curve": curve, "search": best}
    scaler = task.scaler([(0.0, 1.0)] * len(task.targets))
    model = CarbonModel(BoostedTrees(config, booster), scaler, provenance)
    model.save(folder.model)
    return CarbonModel.load(folder.model)


def _find_rows(task: Task, ds: xr.Dataset, config: BoostedTreesConfig, draw: Draw) -> list[TowerRows]:
    """Find the hours of the training or validation towers; raise a ModelError if there are none."""
    inputs = task.inputs(ds, task.targets, config.state)
    rows = tower_rows(inputs, config, draw)
    task.check_hours(len(rows), inputs.sizes["site"], config.min_context)
    return rows


def _search_and_train(
    lazy: Sequence[list[TowerRows]],
    config: BoostedTreesConfig,
    training: BoostingConfig,
    drawn: list[str],
    fold: NDArray[np.int64] | None,
    path: Path,
    hold: Callable[..., Rows],
) -> tuple[BoostingConfig, dict[str, Any] | None, xgboost.Booster, list[dict[str, float]]]:
    """Choose settings if ``fold`` is set, and train; return settings, best point, trees and curve."""
    train, *val = (hold(rows, config.features) for rows in lazy)
    best = None
    if fold is not None:
        best = search(train, training, drawn, fold, path)
        training = dataclasses.replace(training, **best["settings"])
    return training, best, *_train(train, val[0] if val else None, training)


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
