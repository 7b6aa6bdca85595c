"""Train a streaming EcoPerceiver on sequences of hours, on one process or several.

The loss is over all hours of a sequence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from lightning_fabric import Fabric
from torch import Tensor

from xcarbon.core.errors import ModelError
from xcarbon.core.validation import check_range
from xcarbon.core.variables import state_groups
from xcarbon.models.bundle import CarbonModel, Predictor
from xcarbon.models.ensemble import ensemble
from xcarbon.models.networks import StreamingPredictor
from xcarbon.models.streaming import Prediction, StreamingConfig, StreamingEcoPerceiver
from xcarbon.models.towers import coordinates
from xcarbon.training.arrays import Arrays
from xcarbon.training.checkpoints import RunFolder
from xcarbon.training.distributed import Shard, join_processes
from xcarbon.training.objective import drop
from xcarbon.training.run import TrainingRun
from xcarbon.training.schedule import TrainingConfig
from xcarbon.training.sequences import MIN_TARGETS, TowerSequences
from xcarbon.training.task import Task, configure
from xcarbon.training.windows import Batch


@dataclass(frozen=True)
class StreamingTraining(TrainingConfig):
    """Settings to train a streaming EcoPerceiver, in addition to :class:`~xcarbon.training.TrainingConfig`.

    Attributes
    ----------
    length : int
        Number of hours in a sequence. The first hours have less context than the others, as at the start of
        a record. Batches of many short sequences contain more towers and seasons than batches of few long
        ones, and the networks generalise better to other towers.
    members : int
        Number of networks to train, one after another, each with its own seed; several form an ensemble.
    batch_size, micro_batch, val_windows : int
        Numbers of sequences, instead of windows. ``micro_batch=None`` is that of about 2,000 hours on a CPU,
        and of 8,000 on other devices.
    """

    clip: float | None = 1.0
    averaging: float = 0.99
    batch_size: int = 96
    learning_rate: float = 2e-3
    val_windows: int = 5000
    length: int = 48
    members: int = 1
    # Every hour of a sequence counts in the loss, and rotations need single precision.
    loss: str = field(default="window", init=False)
    precision: Any = field(default="32-true", init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "members", ge=1)


def fit(task: Task, *, network: dict[str, Any] | None = None, **settings: Any) -> CarbonModel:
    """Train a streaming EcoPerceiver; see :func:`xcarbon.training.fit`."""
    training = configure(StreamingTraining, settings, also=["network"], seed=task.seed)
    inputs = {"variables": task.variables, "bands": task.bands, "state": task.available_state()}
    config = configure(StreamingConfig, network or {}, **inputs, targets=task.targets)
    fabric = join_processes(training.precision)
    return train(fabric, task, StreamingRun, config, training, [None] * training.members)


def train(
    fabric: Fabric,
    task: Task,
    run_class: type[StreamingRun],
    config: Any,
    training: StreamingTraining,
    starts: Sequence[CarbonModel | None],
) -> CarbonModel:
    """Train a network for each of ``starts``, from this model or from random weights."""
    folder, alone, trained = RunFolder(fabric.broadcast(task.run_dir)), len(starts) == 1, []
    towers = _load(fabric, task, config, training, task.train, Arrays(folder.path, "training data"))
    val = None
    if task.val is not None:
        val = _load(fabric, task, config, training, task.val, Arrays(folder.path, "validation data"))
    own_scaler = task.scaler(towers.target_moments())
    if not alone:
        settings = {"training": dataclasses.asdict(training), **task.towers()}
        folder.check(settings, task.resume)
        fabric.barrier()
        if not task.resume and fabric.is_global_zero:
            folder.begin(settings)
    for number, start in enumerate(starts):
        member = folder if alone else RunFolder(folder.path / f"member-{number}")
        own = dataclasses.replace(training, seed=training.seed * len(starts) + number)
        scaler, provenance = own_scaler, task.provenance(own, "torch")
        if start is not None:
            scaler = dataclasses.replace(start.scaler, max_qc=task.max_qc)
            site, lat, lon, igbp = start.training_towers
            provenance |= {
                "pretrained": start.fingerprint(),
                "pretrained_sites": site.tolist(),
                "pretrained_coordinates": coordinates(lat, lon, igbp),
            }
        run = run_class(fabric, member, config, own, scaler, provenance)
        if start is None:
            run.standardise(towers)
        else:
            run.model.network.load_state_dict(start.network.state_dict())
        run.start(task.resume if alone else member.exists)
        trained.append(run.train(towers, val))
    if alone:
        return trained[0]
    together = ensemble(trained)
    if fabric.is_global_zero:
        together.save(folder.model)
    return together


def _load(
    fabric: Fabric, task: Task, config: Any, training: StreamingTraining, ds: xr.Dataset, arrays: Arrays
) -> Shard[TowerSequences]:
    """Load the sequences of all towers, and raise a clear error if there are none."""
    inputs = task.inputs(ds, task.targets, config.state)

    def load(sites: Sequence[int]) -> TowerSequences:
        return TowerSequences(inputs, sites, config.statics, training.length, arrays)

    towers = Shard(fabric, inputs, 1, load)
    if not len(towers):
        raise ModelError(
            f"none of {inputs.sizes['site']} towers has {min(MIN_TARGETS, training.length)} hours with "
            f"{', '.join(task.targets)} and a quality flag <= {task.max_qc} in a sequence of "
            f"{training.length} hours: check the data, or increase max_qc or length"
        )
    return towers


class StreamingRun(TrainingRun):
    """Training on sequences, which begin at other hours in each epoch."""

    training: StreamingTraining
    micro_hours: ClassVar = {"cpu": 2048, "other": 8192}  # on a processor, larger batches are not faster
    scored = "window"

    def _micro_batch(self, device: str) -> int:
        return max(1, self.micro_hours[device] // self.training.length)

    def _predictor(self, config: Any) -> Predictor:
        if self.training.length < config.window:
            raise ModelError(
                f"length must be at least the window of {config.window} hours, found {self.training.length}"
            )
        return StreamingPredictor(StreamingEcoPerceiver(config))

    def standardise(self, towers: Shard[TowerSequences]) -> None:
        """Standardise the inputs with their moments at the training towers."""
        if self.model.network.state is not None:
            self.model.network.state.standardise(*towers.input_moments("state"))

    def _dropout_shape(self) -> tuple[int, ...]:
        config = self.model.network.config
        groups = len(state_groups(config.state))
        return self.training.length + 1, len(config.variables) + len(config.statics) + 4 + groups

    def _mask(self, batch: Batch, chance: Tensor) -> Batch:
        return batch._replace(inputs=drop(self.model.network.config, batch.inputs, chance))

    def _output(self, batch: Batch) -> Prediction:
        output: Prediction = self.network(batch.inputs)
        return output

    def _indices(self, samples: TowerSequences, numbers: Tensor, epoch: int | None) -> Tensor:
        starts = samples.starts[numbers]
        if epoch is None:
            return starts
        half = samples.length // 2
        offset = np.random.default_rng([self.training.seed, epoch]).integers(-half, half + 1)
        return samples.moved(starts, int(offset))
