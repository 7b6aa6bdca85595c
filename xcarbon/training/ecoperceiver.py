"""Train EcoPerceiver with the paper's schedule, on one process or on all processes that ``torchrun`` started.

The paper (arXiv 2406.04940) predicts the last hour of a window. The default loss here, ``loss="window"``,
is over all hours of the window.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
import xarray as xr
from lightning_fabric import Fabric
from torch import Tensor

from xcarbon.core.variables import state_groups
from xcarbon.models.bundle import CarbonModel
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.models.networks import EcoPerceiverPredictor
from xcarbon.models.streaming import Prediction
from xcarbon.training.arrays import Arrays
from xcarbon.training.checkpoints import RunFolder
from xcarbon.training.distributed import Shard, join_processes
from xcarbon.training.objective import drop_state
from xcarbon.training.run import TrainingRun
from xcarbon.training.schedule import TrainingConfig
from xcarbon.training.task import Task, configure
from xcarbon.training.windows import Batch, Windows, load_windows


class EcoPerceiverRun(TrainingRun):
    """Training of EcoPerceiver on the windows of a :class:`~xcarbon.training.distributed.Shard`."""

    scored = "last"

    def _micro_batch(self, device: str) -> int:
        # The arrays fit into the caches of a processor, or fill a GPU.
        return 64 if device == "cpu" else 512

    def _predictor(self, config: EcoPerceiverConfig) -> EcoPerceiverPredictor:
        return EcoPerceiverPredictor(EcoPerceiver(config))

    def _dropout_shape(self) -> tuple[int, ...]:
        config: EcoPerceiverConfig = self.model.network.config
        groups = len(state_groups(config.state))
        return config.context, len(config.variables) + groups

    def _mask(self, batch: Batch, chance: Tensor) -> Batch:
        config, inputs = self.model.network.config, batch.inputs
        variables = len(config.variables)
        hourly = self.model.network.embed.drop(inputs.hourly, chance[..., :variables])
        state = inputs.state
        if state is not None:
            state = drop_state(config, state, chance[:, 0, variables:])
        return batch._replace(inputs=dataclasses.replace(inputs, hourly=hourly, state=state))

    def _output(self, batch: Batch) -> Prediction:
        output = self.network(batch.inputs)  # (B, T)
        return Prediction(output[..., None], None)


def fit(task: Task, *, network: dict[str, Any] | None = None, **settings: Any) -> CarbonModel:
    """Train EcoPerceiver; see :func:`xcarbon.training.fit`."""
    training = configure(TrainingConfig, settings, also=["network"], seed=task.seed)
    inputs = {"variables": task.variables, "bands": task.bands, "state": task.state or ()}
    config = configure(EcoPerceiverConfig, network or {}, **inputs)
    fabric = join_processes(training.precision)
    folder = RunFolder(fabric.broadcast(task.run_dir))
    towers = _load(fabric, task, task.train, config, Arrays(folder.path, "training data"))
    val = None
    if task.val is not None:
        val = _load(fabric, task, task.val, config, Arrays(folder.path, "validation data"))
    provenance = task.provenance(training, "torch")
    run = EcoPerceiverRun(fabric, folder, config, training, task.scaler(towers.target_moments()), provenance)
    if run.model.network.embed.state is not None:
        run.model.network.embed.state.standardise(*towers.input_moments("state"))
    run.start(task.resume)
    return run.train(towers, val)


def _load(
    fabric: Fabric, task: Task, ds: xr.Dataset, config: EcoPerceiverConfig, arrays: Arrays
) -> Shard[Windows]:
    """Load the windows of all towers, and raise a clear error if there are none."""
    inputs = task.inputs(ds, task.target, config.state)

    def load(sites: Sequence[int]) -> Windows | None:
        windows = load_windows(inputs, config.context, sites, arrays)
        if windows is not None and _has_memory(fabric.device, windows.nbytes):
            return windows.to(fabric.device)
        return windows

    towers = Shard(fabric, inputs, config.context, load)
    task.check_hours(len(towers), inputs.sizes["site"], config.context)
    return towers


def _has_memory(device: torch.device, size: int) -> bool:
    """Whether a device is a GPU with twice as much free memory as ``size`` [bytes]."""
    return device.type == "cuda" and 2 * size < torch.cuda.mem_get_info(device)[0]
