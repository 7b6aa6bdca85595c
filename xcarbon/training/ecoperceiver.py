"""Train EcoPerceiver: the paper's schedule, on one process or on all that ``torchrun`` started."""

from __future__ import annotations

from typing import Any

import xarray as xr
from lightning_fabric import Fabric

from xcarbon.models.bundle import CarbonModel
from xcarbon.models.ecoperceiver import EcoPerceiverConfig
from xcarbon.training.checkpoints import RunFolder
from xcarbon.training.distributed import Shard, join_processes
from xcarbon.training.run import Run
from xcarbon.training.schedule import TrainingConfig
from xcarbon.training.task import Task, configure


def fit(task: Task, *, network: dict[str, Any] | None = None, **settings: Any) -> CarbonModel:
    """Train EcoPerceiver; see :func:`xcarbon.training.fit`.

    Parameters
    ----------
    task : Task
        What to learn.
    network : dict, optional
        Settings of the network that differ from the paper's.
    **settings
        Those of :class:`TrainingConfig`.

    Returns
    -------
    CarbonModel
        The weights with the best validation score.
    """
    training = configure(TrainingConfig, settings, also=["network"], seed=task.seed)
    config = configure(EcoPerceiverConfig, network or {}, variables=task.variables, bands=task.bands)
    fabric = join_processes(training.precision)
    towers = _load(fabric, task, task.train, config.context)
    val = None if task.val is None else _load(fabric, task, task.val, config.context)
    folder = RunFolder(fabric.broadcast(task.run_dir))
    provenance = task.provenance(training, "torch")
    run = Run(fabric, folder, config, training, task.scaler([towers.moments()]), provenance)
    run.start(task.resume)
    return run.train(towers, val)


def _load(fabric: Fabric, task: Task, ds: xr.Dataset, context: int) -> Shard:
    """Windows of all towers, with a clear error where there are none."""
    inputs = task.inputs(ds, task.target)
    towers = Shard(fabric, inputs, context)
    task.check_hours(len(towers), inputs.sizes["site"], context)
    return towers
