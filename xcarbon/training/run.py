"""One training run: steps, checks, checkpoints, and what happens on Ctrl-C."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from tqdm.auto import tqdm

from xcarbon.errors import ModelError
from xcarbon.interrupts import interruptible
from xcarbon.models.bundle import CarbonModel, Scaler
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.models.networks import NetworkPredictor
from xcarbon.options import OPTIONS
from xcarbon.training.checkpoints import RunFolder
from xcarbon.training.distributed import Shard, total
from xcarbon.training.schedule import TrainingConfig
from xcarbon.windows import Batch

#: A checkpoint is no older than this, however long an epoch takes.
CHECKPOINT_SECONDS = 600
#: What a run knows of its progress, beside weights and optimiser.
PROGRESS = ("step", "stale", "best", "curve")
#: Windows that are computed at once: as many as suit the caches of a processor, or fill a graphics card.
MICRO_BATCH = {"cpu": 64, "other": 512}


class Run:
    """One training run: all processes do the same, each with its windows, and the first one writes.

    Parameters
    ----------
    fabric : lightning_fabric.Fabric
        The processes, launched.
    folder : RunFolder
        Where to write.
    config : EcoPerceiverConfig
        The network.
    training : TrainingConfig
        How to train it.
    target : str
        Code of the variable to predict.
    scaler : Scaler
        How target and predictors were scaled.
    provenance : dict
        What the model remembers of its data; at least ``sites`` and ``val_sites``.
    """

    def __init__(
        self,
        fabric: Fabric,
        folder: RunFolder,
        config: EcoPerceiverConfig,
        training: TrainingConfig,
        target: str,
        scaler: Scaler,
        provenance: dict[str, Any],
    ) -> None:
        self.fabric, self.folder, self.training = fabric, folder, training
        kind = fabric.device.type if fabric.device.type in MICRO_BATCH else "other"
        self.micro_batch = training.micro_batch or MICRO_BATCH[kind]
        with torch.random.fork_rng():
            torch.manual_seed(training.seed)
            network = EcoPerceiver(config)
        self.model = CarbonModel(NetworkPredictor(network), target, scaler, provenance)
        self.network: Any = None
        self.optimizer: Any = None
        self.step, self.stale, self.best = 0, 0, math.inf
        self.curve: list[dict[str, float]] = []

    def start(self, resume: bool) -> None:
        """Set up network and optimiser, and the folder: a new one, or one to resume from."""
        self.network, self.optimizer = self.fabric.setup(
            self.model.network,
            torch.optim.AdamW(
                self.model.network.parameters(),
                lr=self.training.learning_rate,
                betas=self.training.betas,
                weight_decay=self.training.weight_decay,
            ),
        )
        # Nothing is random in the network itself: the observations to drop are drawn for a whole batch.
        self.network.eval()
        self.folder.check(self._settings(), resume)
        self.fabric.barrier()
        if resume:
            self._restore(self.folder.load(self.fabric.device))
        elif self.fabric.is_global_zero:
            self.folder.begin(self._settings())

    def train(self, towers: Shard, val: Shard | None) -> CarbonModel:
        """Train to the end, to early stopping or to Ctrl-C."""
        per_epoch = math.ceil(len(towers) / self.training.batch_size)
        total_steps = self.training.total_steps(per_epoch)
        eval_every = self.training.eval_every or per_epoch
        val_index = None if val is None else _draw(len(val), self.training.val_windows, self.training.seed)
        progress = tqdm(
            total=total_steps,
            initial=self.step,
            desc="training",
            unit="step",
            disable=not OPTIONS["progress"],
        )
        batches: tuple[Tensor, ...] = ()
        saved = time.monotonic()
        with progress, interruptible() as interrupted:
            while self.step < total_steps and not self._is_stale():
                epoch, number = divmod(self.step, per_epoch)
                if number == 0 or not batches:
                    order = _order(len(towers), self.training.seed, epoch)
                    batches = order.split(self.training.batch_size)
                loss = self._step(towers, batches[number], self.training.rate(self.step, total_steps))
                self.step += 1
                progress.update()
                progress.set_postfix(loss=f"{loss:.3f}", best=f"{self.best:.3f}")
                if self.step % eval_every == 0 or self.step == total_steps:
                    self._evaluate(loss, val, val_index)
                    saved = -math.inf
                stop = total(self.fabric, torch.tensor(int(interrupted()))).item() > 0
                if stop or time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._checkpoint()
                    saved = time.monotonic()
                if stop:
                    self.fabric.barrier()  # a process that ends takes the others with it
                    where = f"stopped after step {self.step} of {total_steps}"
                    raise KeyboardInterrupt(f"{where}; resume=True continues {self.folder.path}")
        self.fabric.barrier()
        return CarbonModel.load(self.folder.model)

    def _step(self, towers: Shard, index: Tensor, rate: float) -> float:
        """One optimiser step; returns the mean squared error in standardised units."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        own, chance, share = self._own(towers, index)
        known = total(self.fabric, share * self._known(towers, own)).item()
        parts = list(zip(own.split(self.micro_batch), chance.split(self.micro_batch), strict=True))
        loss = torch.zeros((), device=self.fabric.device)
        for number, (part, dropped) in enumerate(parts, start=1):
            with self.fabric.no_backward_sync(self.network, enabled=number < len(parts)):
                batch = towers.batch(part)
                hourly = self.model.network.embed.drop(batch.hourly, dropped)
                error = self._squared_error(batch._replace(hourly=hourly), self.training.loss)
                error = error * (share / known)
                self.fabric.backward(error * self.fabric.world_size)  # gradients are averaged over processes
            loss += error.detach()
        mean = total(self.fabric, loss).item()
        if not math.isfinite(mean):
            raise ModelError(
                f"the loss is {mean} at step {self.step}: lower learning_rate, now "
                f"{self.training.learning_rate}; what was saved before is in {self.folder.path}"
            )
        self.optimizer.step()
        return mean

    def _own(self, towers: Shard, index: Tensor) -> tuple[Tensor, Tensor, int]:
        """Own windows of a batch, the chances to drop their observations, and whether they count.

        The chances are drawn for the whole batch from seed and step alone: a resumed run draws the same,
        and so does any number of processes.
        """
        config = self.model.config
        generator = torch.Generator(self.fabric.device).manual_seed(_mix(self.training.seed, self.step))
        chance = torch.rand(
            (len(index), config.context, len(config.variables)),
            generator=generator,
            device=self.fabric.device,
        )
        own, rows = towers.find(index)
        if len(own):
            return own, chance[rows.to(chance.device)], 1
        # All processes have to take part in a step: one window that does not count.
        return torch.zeros(1, dtype=torch.int64), chance[:1], 0

    def _known(self, towers: Shard, own: Tensor) -> Tensor:
        """How many targets some windows have to learn from."""
        if self.training.loss == "last":
            return torch.tensor(len(own))
        return torch.isfinite(towers.targets(own)).sum()

    def _squared_error(self, batch: Batch, hours: str) -> Tensor:
        """Sum over the last hours or all hours that have a target, in its standardised units."""
        output = self.network(batch.hourly, batch.patches, batch.patch_index).float()  # (B, T)
        wanted = (batch.target - self.model.scaler.mean) / self.model.scaler.std  # (B, T)
        if hours == "last":
            output, wanted = output[:, -1], wanted[:, -1]
        known = torch.isfinite(wanted)
        return (output[known] - wanted[known]).square().sum()

    def _evaluate(self, loss: float, val: Shard | None, index: Tensor | None) -> None:
        """Score the validation windows, keep the weights if they are the best so far."""
        score = loss if val is None or index is None else self._score(val, index)
        checked = {} if val is None else {"val_mse": score}
        self.curve.append({"step": self.step, "train_mse": loss, **checked})
        if val is None or score < self.best:
            self.best, self.stale = score, 0
            self.model.provenance["curve"] = self.curve
            self._save_model()
        else:
            self.stale += 1

    def _score(self, val: Shard, index: Tensor) -> float:
        """Mean squared error of the last hours of windows, each process its own."""
        error = torch.zeros((), device=self.fabric.device)
        own, _ = val.find(index)
        with torch.no_grad():
            for part in own.split(self.micro_batch) if len(own) else ():
                error += self._squared_error(val.batch(part), "last")
        return total(self.fabric, error).item() / len(index)

    def _save_model(self) -> None:
        if self.fabric.is_global_zero:
            self.model.save(self.folder.model)

    def _is_stale(self) -> bool:
        return self.training.patience is not None and self.stale >= self.training.patience

    def _settings(self) -> dict[str, Any]:
        """What has to be the same when a run is resumed."""
        return {
            "network": dataclasses.asdict(self.model.config),
            "training": dataclasses.asdict(self.training),
            "target": self.model.target,
            "scaler": dataclasses.asdict(self.model.scaler),
            "sites": self.model.provenance["sites"],
            "val_sites": self.model.provenance["val_sites"],
        }

    def _checkpoint(self) -> None:
        """Write what it takes to continue, and a model if there is none yet."""
        if not self.fabric.is_global_zero:
            return
        progress = {name: getattr(self, name) for name in PROGRESS}
        network, optimizer = self.model.network.state_dict(), self.optimizer.state_dict()
        self.folder.save({"network": network, "optimizer": optimizer, **progress})
        if not self.folder.model.exists():
            self._save_model()

    def _restore(self, state: dict[str, Any] | None) -> None:
        """Continue from a checkpoint, if there was one before the run stopped."""
        if state is None:
            return
        self.model.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name in PROGRESS:
            setattr(self, name, state[name])


def _order(count: int, seed: int, epoch: int) -> Tensor:
    """Order of the windows in an epoch."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(_mix(seed, epoch + 2**31)))


def _draw(count: int, wanted: int, seed: int) -> Tensor:
    """Positions of at most ``wanted`` windows, drawn without replacement, sorted."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(count, generator=generator)[:wanted].sort().values


def _mix(seed: int, number: int) -> int:
    """Give each step of each seed a seed of its own."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> np.uint64(1))
