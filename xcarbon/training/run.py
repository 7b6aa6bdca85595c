"""One training run: optimiser steps, validation, checkpoints and Ctrl-C."""

from __future__ import annotations

import dataclasses
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from tqdm.auto import tqdm

from xcarbon.core.errors import ModelError
from xcarbon.core.interrupts import interruptible
from xcarbon.core.options import OPTIONS
from xcarbon.models.bundle import CarbonModel, ModelConfig, Predictor, Scaler
from xcarbon.models.streaming import Prediction
from xcarbon.training.checkpoints import RunFolder
from xcarbon.training.distributed import Shard, total
from xcarbon.training.ema import EMA
from xcarbon.training.objective import loss
from xcarbon.training.schedule import BETAS, TrainingConfig
from xcarbon.training.windows import Batch

#: Longest time between two checkpoints, even if an epoch takes longer.
CHECKPOINT_SECONDS = 600
#: Attributes of a run that are part of a checkpoint, in addition to weights and optimiser.
PROGRESS = ("step", "stale", "best", "curve")
Item = TypeVar("Item")


class Step(NamedTuple):
    """What a process computes in an optimiser step.

    Attributes
    ----------
    parts : list of Batch
        Micro batches.
    chance : sequence of Tensor
        Random numbers for dropout of each part.
    weight : int
        1, or 0 if none of the samples of the step belongs to the process.
    """

    parts: list[Batch]
    chance: Sequence[Tensor]
    weight: int


class TrainingRun(ABC):
    """One training run: all processes run the same steps on their own samples; the first one writes files."""

    #: Hours of a sample that are scored: "last", or all hours of the "window".
    scored: ClassVar[str]

    def __init__(
        self,
        fabric: Fabric,
        folder: RunFolder,
        config: ModelConfig,
        training: TrainingConfig,
        scaler: Scaler,
        provenance: dict[str, Any],
    ) -> None:
        self.fabric, self.folder, self.training = fabric, folder, training
        device = "cpu" if fabric.device.type == "cpu" else "other"
        self.micro_batch = training.micro_batch or self._micro_batch(device)
        with torch.random.fork_rng():
            torch.manual_seed(training.seed)
            predictor = self._predictor(config)
        self.model = CarbonModel(predictor, scaler, provenance)
        self.network: Any = None
        self.optimizer: Any = None
        self.ema: EMA | None = None
        self.step, self.stale, self.best = 0, 0, math.inf
        self.curve: list[dict[str, float]] = []

    @abstractmethod
    def _micro_batch(self, device: str) -> int:
        """Number of samples that are computed at once on a device, "cpu" or "other"."""

    @abstractmethod
    def _predictor(self, config: Any) -> Predictor:
        """Create a network with random weights."""

    @abstractmethod
    def _dropout_shape(self) -> tuple[int, ...]:
        """Shape of the random numbers that mask the inputs of a sample."""

    @abstractmethod
    def _mask(self, batch: Batch, chance: Tensor) -> Batch:
        """Mask some of the inputs of a batch."""

    @abstractmethod
    def _output(self, batch: Batch) -> Prediction:
        """Run the network on a batch."""

    def _indices(self, samples: Any, numbers: Tensor, epoch: int | None) -> Tensor:
        """Index of each of the samples with these numbers in an epoch; in validation if ``epoch`` is None."""
        return numbers

    def start(self, resume: bool) -> None:
        """Set up network, optimiser and folder; restore the last checkpoint if the run is resumed."""
        if self.training.averaging:
            self.ema = EMA(self.model.network, self.training.averaging, self.fabric.device)
        self.network, self.optimizer = self.fabric.setup(
            self.model.network,
            torch.optim.AdamW(
                self.model.network.parameters(),
                lr=self.training.learning_rate,
                betas=BETAS,
                weight_decay=self.training.weight_decay,
            ),
        )
        # The network itself draws no random numbers: dropout is drawn for a whole batch, in _own.
        self.network.eval()
        self.folder.check(self._settings(), resume)
        self.fabric.barrier()
        if resume:
            self._restore(self.folder.load(self.fabric.device))
        elif self.fabric.is_global_zero:
            self.folder.begin(self._settings())

    def train(self, towers: Shard[Any], val: Shard[Any] | None) -> CarbonModel:
        """Train until the last step, early stopping or Ctrl-C."""
        per_epoch = math.ceil(len(towers) / self.training.batch_size)
        total_steps = self.training.total_steps(per_epoch)
        eval_every = self.training.eval_every or per_epoch
        val_index = None
        if val is not None:
            val_index = _draw(len(val), self.training.val_windows, self.training.seed)
        progress = tqdm(
            total=total_steps,
            initial=self.step,
            desc="training",
            unit="step",
            disable=not OPTIONS["progress"],
        )
        steps = prefetch(self._steps(towers, per_epoch, total_steps))
        saved = time.monotonic()
        with progress, interruptible() as interrupted, closing(steps):
            while self.step < total_steps and not self._is_stale():
                error = self._step(next(steps), self.training.rate(self.step, total_steps))
                self.step += 1
                progress.update()
                progress.set_postfix(loss=f"{error:.3f}", best=f"{self.best:.3f}")
                if self.step % eval_every == 0 or self.step == total_steps:
                    with self._averaged():
                        self._evaluate(error, val, val_index)
                    saved = -math.inf
                stop = total(self.fabric, torch.tensor(int(interrupted()))).item() > 0
                if stop or time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._checkpoint()
                    saved = time.monotonic()
                if stop:
                    self.fabric.barrier()  # torchrun stops all processes when the first one ends
                    where = f"stopped after step {self.step} of {total_steps}"
                    raise KeyboardInterrupt(f"{where}; resume=True continues {self.folder.path}")
        self.fabric.barrier()
        return CarbonModel.load(self.folder.model)

    def _steps(self, towers: Shard[Any], per_epoch: int, total_steps: int) -> Iterator[Step]:
        """Gather what this process computes in each step that is left."""
        batches: tuple[Tensor, ...] = ()
        for step in range(self.step, total_steps):
            epoch, number = divmod(step, per_epoch)
            if number == 0 or not batches:
                order = _order(len(towers), self.training.seed, epoch)
                batches = order.split(self.training.batch_size)
            own, chance, weight = self._own(towers, batches[number], step)
            index = self._indices(towers.samples, own, epoch)
            parts = [towers.samples.batch(part) for part in index.split(self.micro_batch)]
            yield Step(parts, chance.split(self.micro_batch), weight)

    def _step(self, step: Step, rate: float) -> float:
        """Run one optimiser step and return the mean loss in standardised units."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        targets = torch.stack([_count_targets(part, self.training.loss) for part in step.parts]).sum()
        known = max(1, total(self.fabric, step.weight * targets).item())
        summed = torch.zeros((), device=self.fabric.device)
        for number, (part, dropped) in enumerate(zip(step.parts, step.chance, strict=True), start=1):
            with self.fabric.no_backward_sync(self.network, enabled=number < len(step.parts)):
                batch = self._mask(part.to(self.fabric.device), dropped)
                error = loss(*self._compared(batch, self.training.loss)) * (step.weight / known)
                # DDP averages the gradients over the processes; the loss is a sum.
                self.fabric.backward(error * self.fabric.world_size)
            summed += error.detach()
        mean = total(self.fabric, summed).item()
        if not math.isfinite(mean):
            raise ModelError(
                f"the loss is {mean} at step {self.step}: lower learning_rate (it is "
                f"{self.training.learning_rate}); checkpoints are in {self.folder.path}"
            )
        if self.training.clip is not None:
            self.fabric.clip_gradients(self.network, self.optimizer, max_norm=self.training.clip)
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update_parameters(self.model.network)
        return mean

    def _own(self, towers: Shard[Any], index: Tensor, step: int) -> tuple[Tensor, Tensor, int]:
        """Samples of a batch that this process holds, their random numbers for dropout, and their weight.

        The random numbers are drawn for the whole batch and depend only on seed and step, so that they are
        the same in a resumed run and for any number of processes.
        """
        generator = torch.Generator(self.fabric.device).manual_seed(_derive_seed(self.training.seed, step))
        chance = torch.rand(
            (len(index), *self._dropout_shape()), generator=generator, device=self.fabric.device
        )
        own, rows = towers.find(index)
        if len(own):
            return own, chance[rows.to(chance.device)], 1
        # All processes must take part in a step: this one computes a sample with the weight zero.
        return torch.zeros(1, dtype=torch.int64), chance[:1], 0

    def _compared(self, batch: Batch, hours: str) -> tuple[Prediction, Tensor]:
        """Predictions and targets of the last hour or of all hours, in standardised units."""
        mean, std = torch.tensor(list(self.model.scaler.targets.values())).to(batch.target).T
        first = -1 if hours == "last" else 0
        wanted = batch.target.unflatten(1, (-1, 1)) if batch.target.ndim == 2 else batch.target
        output = Prediction._make(
            None if part is None else part[:, first:].float() for part in self._output(batch)
        )
        return output, ((wanted - mean) / std)[:, first:]

    def _evaluate(self, train_loss: float, val: Shard[Any] | None, index: Tensor | None) -> None:
        """Score the validation samples, and save the model if its score is the best so far."""
        score = train_loss if val is None or index is None else self._score(val, index)
        checked = {} if val is None else {"val_mse": score}
        self.curve.append({"step": self.step, "train_loss": train_loss, **checked})
        if val is None or score < self.best:
            self.best, self.stale = score, 0
            self.model.provenance["curve"] = self.curve
            self._save_model()
        else:
            self.stale += 1

    def _score(self, val: Shard[Any], index: Tensor) -> float:
        """Mean squared error of the scored hours over all processes."""
        error, known = torch.zeros(2, device=self.fabric.device)
        own, _ = val.find(index)
        parts = self._indices(val.samples, own, None).split(self.micro_batch) if len(own) else ()
        with torch.no_grad(), closing(prefetch(val.samples.batch(part) for part in parts)) as batches:
            for batch in batches:
                output, wanted = self._compared(batch.to(self.fabric.device), self.scored)
                error += loss(output._replace(log_scale=None), wanted)
                known += _count_targets(batch, self.scored)
        return total(self.fabric, error).item() / total(self.fabric, known).item()

    def _save_model(self) -> None:
        if self.fabric.is_global_zero:
            self.model.save(self.folder.model)

    def _averaged(self) -> AbstractContextManager[None]:
        """Use the averaged weights within a ``with`` block, if the run averages them."""
        return nullcontext() if self.ema is None else self.ema.applied_to(self.model.network)

    def _is_stale(self) -> bool:
        return self.training.patience is not None and self.stale >= self.training.patience

    def _settings(self) -> dict[str, Any]:
        """Settings that must not change when a run is resumed."""
        return {
            "network": dataclasses.asdict(self.model.config),
            "training": dataclasses.asdict(self.training),
            "scaler": dataclasses.asdict(self.model.scaler),
            "sites": self.model.provenance["sites"],
            "val_sites": self.model.provenance["val_sites"],
        }

    def _checkpoint(self) -> None:
        """Write a checkpoint, and a model if there is none yet."""
        if not self.fabric.is_global_zero:
            return
        progress = {name: getattr(self, name) for name in PROGRESS}
        network, optimizer = self.model.network.state_dict(), self.optimizer.state_dict()
        average = {} if self.ema is None else self.ema.state_dict()
        self.folder.save({"network": network, "optimizer": optimizer, "average": average, **progress})
        if not self.folder.model.exists():
            with self._averaged():
                self._save_model()

    def _restore(self, state: dict[str, Any] | None) -> None:
        """Restore the state of a checkpoint, if there is one."""
        if state is None:
            return
        self.model.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None:
            self.ema.load_state_dict(state["average"])
        for name in PROGRESS:
            setattr(self, name, state[name])


def prefetch(items: Iterator[Item]) -> Generator[Item]:
    """Yield items; a thread makes the next one while the current one is used."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, items, None)
        while (item := following.result()) is not None:
            following = thread.submit(next, items, None)
            yield item


def _count_targets(batch: Batch, hours: str) -> Tensor:
    """Number of targets in the last hour, or in all hours, of samples."""
    return torch.isfinite(batch.target[:, -1:] if hours == "last" else batch.target).sum()


def _order(count: int, seed: int, epoch: int) -> Tensor:
    """Random order of the samples in an epoch."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(_derive_seed(seed, epoch + 2**31)))


def _draw(count: int, wanted: int, seed: int) -> Tensor:
    """Positions of at most ``wanted`` samples, drawn without replacement, sorted."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(count, generator=generator)[:wanted].sort().values


def _derive_seed(seed: int, number: int) -> int:
    """Derive a separate seed for each step of each seed."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> np.uint64(1))
