"""Train an hourly network on single hours of all towers, on one process or several."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch

from xcarbon.models.bundle import CarbonModel, Predictor
from xcarbon.models.hourly import HourlyConfig, HourlyNetwork
from xcarbon.models.networks import HourlyPredictor
from xcarbon.training.distributed import Shard, join_processes
from xcarbon.training.sequences import TowerSequences
from xcarbon.training.streaming import StreamingRun, StreamingTraining, train
from xcarbon.training.task import Task, configure


@dataclass(frozen=True)
class HourlyTraining(StreamingTraining):
    """Settings to train an hourly network: those of a streaming EcoPerceiver, for sequences of one hour.

    Attributes
    ----------
    max_epochs, warmup_epochs
        One pass over the hours, and its share in which the learning rate rises. With several passes, or more
        than some million hours, networks adapt to the training towers: set ``max_steps``.
    batch_size, val_windows : int
        Numbers of hours.
    length : int
        Number of consecutive hours in a sample: one, so that a batch contains as many towers as possible.
    """

    max_epochs: int = 1
    warmup_epochs: float = 0.05
    batch_size: int = 4096
    val_windows: int = 200_000
    length: int = 1


class HourlyRun(StreamingRun):
    """Training on single hours."""

    def _predictor(self, config: HourlyConfig) -> Predictor:
        return HourlyPredictor(HourlyNetwork(config))

    def standardise(self, towers: Shard[TowerSequences]) -> None:
        """Standardise the inputs with their moments at the training towers."""
        moments = zip(towers.input_moments("hourly"), towers.input_moments("state"), strict=True)
        self.model.network.standardise(*(torch.cat(pair) for pair in moments))


def fit(task: Task, *, network: dict[str, Any] | None = None, **settings: Any) -> CarbonModel:
    """Train an hourly network; see :func:`xcarbon.training.fit`."""
    task = dataclasses.replace(task, bands=())  # an hourly network reads no patches
    training = configure(HourlyTraining, settings, also=["network"], seed=task.seed)
    inputs = {"variables": task.variables, "state": task.available_state()}
    config = configure(HourlyConfig, network or {}, **inputs, targets=task.targets)
    fabric = join_processes(training.precision)
    return train(fabric, task, HourlyRun, config, training, [None] * training.members)
