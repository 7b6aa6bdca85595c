"""Train EcoPerceiver with the paper's schedule, on one process or on all processes that ``torchrun`` started.

The paper (arXiv 2406.04940) predicts the last hour of a window. The default loss here, ``loss="window"``,
is over all hours of the window.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import xarray as xr
from lightning_fabric import Fabric
from torch import Tensor

from xcarbon.models.bundle import CarbonModel
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.models.networks import EcoPerceiverPredictor
from xcarbon.models.streaming import Prediction
from xcarbon.training.checkpoints import RunFolder
from xcarbon.training.distributed import Shard, join_processes
from xcarbon.training.run import TrainingRun
from xcarbon.training.schedule import TrainingConfig
from xcarbon.training.task import Task, configure
from xcarbon.training.windows import Batch

#: Windows that are computed at once: the arrays fit into the caches of a processor, or fill a GPU.
MICRO_BATCH = {"cpu": 64, "other": 512}


class EcoPerceiverRun(TrainingRun):
    """Training of EcoPerceiver on the windows of a :class:`~xcarbon.training.distributed.Shard`."""

    micro_batches = MICRO_BATCH
    scored = "last"

    def _predictor(self, config: EcoPerceiverConfig) -> EcoPerceiverPredictor:
        return EcoPerceiverPredictor(EcoPerceiver(config))

    def _chances(self) -> tuple[int, ...]:
        return self.model.config.context, len(self.model.config.variables)

    def _mask(self, batch: Batch, chance: Tensor) -> Batch:
        hourly = self.model.network.embed.drop(batch.inputs.hourly, chance)
        return batch._replace(inputs=dataclasses.replace(batch.inputs, hourly=hourly))

    def _output(self, batch: Batch) -> Prediction:
        output = self.network(batch.inputs)  # (B, T)
        return Prediction(output[..., None], None)


def fit(task: Task, *, network: dict[str, Any] | None = None, **settings: Any) -> CarbonModel:
    """Train EcoPerceiver; see :func:`xcarbon.training.fit`."""
    training = configure(TrainingConfig, settings, also=["network"], seed=task.seed)
    config = configure(EcoPerceiverConfig, network or {}, variables=task.variables, bands=task.bands)
    fabric = join_processes(training.precision)
    towers = _load(fabric, task, task.train, config.context)
    val = None if task.val is None else _load(fabric, task, task.val, config.context)
    folder = RunFolder(fabric.broadcast(task.run_dir))
    provenance = task.provenance(training, "torch")
    run = EcoPerceiverRun(fabric, folder, config, training, task.scaler([towers.moments()]), provenance)
    run.start(task.resume)
    return run.train(towers, val)


def _load(fabric: Fabric, task: Task, ds: xr.Dataset, context: int) -> Shard:
    """Load the windows of all towers, and raise a clear error if there are none."""
    inputs = task.inputs(ds, task.target)
    towers = Shard(fabric, inputs, context)
    task.check_hours(len(towers), inputs.sizes["site"], context)
    return towers
