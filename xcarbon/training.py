"""Train a model on the towers of a Dataset: the paper's schedule, interrupted and resumed at will."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning_fabric
import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor
from tqdm.auto import tqdm

import xcarbon
from xcarbon.atomic import replacing
from xcarbon.errors import ModelError
from xcarbon.interrupts import interruptible
from xcarbon.models.bundle import CarbonModel, Scaler
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.options import OPTIONS
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.quality import MAX_QC
from xcarbon.prep.split import check_leakage
from xcarbon.variables import PAPER_INPUTS, PATCH_BANDS, VARIABLES, present
from xcarbon.windows import Batch, Windows, load_windows

MODEL, CHECKPOINT, RUN = "model", "last.ckpt", "run.json"
#: A checkpoint is no older than this, however long an epoch takes.
CHECKPOINT_SECONDS = 600


@dataclass(frozen=True)
class TrainingConfig:
    """How to train; the defaults are the paper's (appendix B.2).

    Attributes
    ----------
    max_epochs : int
        Passes over all windows; the cosine ends at zero after them.
    max_steps : int or None
        Optimiser steps after which to end instead, if that comes first; warm-up and cosine shrink with it.
    batch_size : int
        Windows per optimiser step.
    micro_batch : int
        Windows that are computed at once; their gradients are added up to a batch.
    learning_rate, weight_decay, betas
        Of AdamW.
    warmup_epochs : float
        Epochs, out of ``max_epochs``, in which the learning rate rises linearly.
    eval_every : int or None
        Steps between validations and checkpoints; an epoch by default.
    val_windows : int
        Validation windows, drawn once at random: all of them would take longer than training.
    patience : int or None
        End after this many validations without a better score; None trains to the end.
    loss : {"last", "window"}
        Learn from the last hour of each window, as the paper does, or from every hour that has a target.
    precision : str
        Of lightning-fabric: ``"32-true"``, ``"bf16-mixed"`` ...
    seed : int
        Of weights, order and dropout.
    """

    max_epochs: int = 20
    max_steps: int | None = None
    batch_size: int = 4096
    micro_batch: int = 256
    learning_rate: float = 8e-5
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    warmup_epochs: float = 1.0
    eval_every: int | None = None
    val_windows: int = 20_000
    patience: int | None = 5
    loss: str = "last"
    precision: Any = "32-true"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("max_epochs", "batch_size", "micro_batch", "val_windows"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} must be at least 1, found {getattr(self, name)}")
        for name in ("max_steps", "eval_every", "patience"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ModelError(f"{name} must be at least 1 or None, found {getattr(self, name)}")

        if self.loss not in ("last", "window"):
            raise ModelError(f"loss must be 'last' or 'window', found {self.loss!r}")

    def total_steps(self, steps_per_epoch: int) -> int:
        """Optimiser steps in all."""
        steps = self.max_epochs * steps_per_epoch
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def rate(self, step: int, total: int) -> float:
        """Learning rate at a step: linear warm-up, then a cosine down to zero."""
        warmup = max(1, round(total * self.warmup_epochs / self.max_epochs))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(1, total - warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def fit(
    ds: xr.Dataset,
    model: str = "ecoperceiver",
    *,
    val: xr.Dataset | None = None,
    target: str = "NEE",
    variables: Sequence[str] | None = None,
    bands: Sequence[str] | None = None,
    max_qc: int = MAX_QC,
    run_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    allow_leakage: bool = False,
    min_distance: float = 1.0,
    network: dict[str, Any] | None = None,
    **settings: Any,
) -> CarbonModel:
    """Train a model on the towers of a Dataset.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers to train on, ``(site, time)``; their windows are loaded into memory.
    model : {"ecoperceiver"}
        Which model.
    val : xarray.Dataset, optional
        Towers to choose the best weights by; without them the last weights are returned.
    target : str
        Code of the variable to predict.
    variables : sequence of str, optional
        Hourly predictors; by default those of the paper's 21 that ``ds`` has.
    bands : sequence of str, optional
        Patch bands; by default all nine if ``ds`` has patches.
    max_qc : int
        Highest quality code that counts.
    run_dir : path-like, optional
        Folder for the best model, the last checkpoint and the learning curve; by default a new
        one under ``xcarbon-runs``.
    resume : bool
        Continue the run in ``run_dir`` where its last checkpoint left it. On a CPU the weights
        at the end are those of a run that was never interrupted.
    allow_leakage : bool
        Train although ``ds`` and ``val`` share towers or stand nearer than ``min_distance`` [km].
    min_distance : float
        Least distance [km] between training and validation towers.
    network : dict, optional
        Settings of :class:`~xcarbon.models.ecoperceiver.EcoPerceiverConfig` that differ from its defaults.
    **settings
        Settings of :class:`TrainingConfig`: ``max_epochs``, ``max_steps``, ``batch_size``, ``seed`` ...

    Returns
    -------
    CarbonModel
        The weights with the best validation score, with their scaler and provenance.

    Raises
    ------
    LeakageError
        If a validation tower is also a training tower, or too near to one.
    ModelError
        If a setting is unknown or not allowed, there is nothing to learn from, or ``run_dir`` holds
        another run.
    KeyboardInterrupt
        On Ctrl-C, after the step in progress is done and a checkpoint is written to ``run_dir``.

    Examples
    --------
    >>> import tempfile
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(2)
    >>> with tempfile.TemporaryDirectory() as run, xcarbon.set_options(progress=False):
    ...     model = fit(
    ...         towers,
    ...         variables=["DOY", "TOD", "TA"],
    ...         bands=(),
    ...         run_dir=run,
    ...         max_steps=1,
    ...         batch_size=8,
    ...         network={"width": 16, "cross_blocks": 1},
    ...     )
    >>> model.sites == tuple(towers["site"].values)
    True
    """
    if model != "ecoperceiver":
        raise ModelError(f"there is no model {model!r}; the models are ['ecoperceiver']")
    if val is not None and not allow_leakage:
        check_leakage(ds, val, min_distance)
    if bands is None:
        bands = PATCH_BANDS if "reflectance" in ds else ()
    inputs = tuple(variables) if variables is not None else present(PAPER_INPUTS, ds)
    config = _configure(EcoPerceiverConfig, variables=inputs, bands=tuple(bands), **(network or {}))
    training = _configure(TrainingConfig, **settings)
    windows, val_windows = (
        None if part is None else _load(part, config, target, max_qc) for part in (ds, val)
    )
    assert windows is not None
    scaler = Scaler(*_moments(windows), max_qc, {code: _bounds(code) for code in inputs})
    provenance = _provenance(ds, val, training)
    run = Run(_run_dir(run_dir, model, target), config, training, target, scaler, provenance)
    run.start(resume)
    return run.train(windows, val_windows)


class Run:
    """One training run and its folder: ``run.json``, ``last.ckpt`` and the best model in ``model``."""

    def __init__(
        self,
        folder: Path,
        config: EcoPerceiverConfig,
        training: TrainingConfig,
        target: str,
        scaler: Scaler,
        provenance: dict[str, Any],
    ) -> None:
        self.folder, self.training = folder, training
        self.fabric = lightning_fabric.Fabric(
            accelerator=OPTIONS["device"], devices=1, precision=training.precision
        )
        with torch.random.fork_rng():
            torch.manual_seed(training.seed)
            network = EcoPerceiver(config)
        self.model = CarbonModel(network, target, scaler, provenance)
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
        if resume:
            self._resume()
        elif (self.folder / RUN).exists():
            raise ModelError(
                f"{self.folder} holds a run: resume=True continues it, or choose another run_dir"
            )
        else:
            with replacing(self.folder / RUN) as path:
                path.write_text(json.dumps(self._settings(), indent=2) + "\n")

    def train(self, windows: Windows, val: Windows | None) -> CarbonModel:
        """Train to the end, to early stopping or to Ctrl-C."""
        per_epoch = math.ceil(len(windows) / self.training.batch_size)
        total = self.training.total_steps(per_epoch)
        eval_every = self.training.eval_every or per_epoch
        val_index = None if val is None else _draw(len(val), self.training.val_windows, self.training.seed)
        progress = tqdm(
            total=total, initial=self.step, desc="training", unit="step", disable=not OPTIONS["progress"]
        )
        batches: tuple[Tensor, ...] = ()
        saved = time.monotonic()
        with progress, torch.random.fork_rng(), interruptible() as interrupted:
            while self.step < total and not self._is_stale():
                epoch, number = divmod(self.step, per_epoch)
                if number == 0 or not batches:
                    order = _order(len(windows), self.training.seed, epoch)
                    batches = order.split(self.training.batch_size)
                loss = self._step(windows, batches[number], self.training.rate(self.step, total))
                self.step += 1
                progress.update()
                progress.set_postfix(loss=f"{loss:.3f}", best=f"{self.best:.3f}")
                if self.step % eval_every == 0 or self.step == total:
                    self._evaluate(loss, val, val_index)
                    saved = -math.inf
                if interrupted() or time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._checkpoint()
                    saved = time.monotonic()
                if interrupted():
                    where = f"stopped after step {self.step} of {total}"
                    raise KeyboardInterrupt(f"{where}; resume=True continues {self.folder}")
        return CarbonModel.load(self.folder / MODEL)

    def _step(self, windows: Windows, index: Tensor, rate: float) -> float:
        """One optimiser step; returns the mean squared error in standardised units."""
        # Dropout follows from seed and step alone, so that a resumed run draws the same masks.
        torch.manual_seed(_mix(self.training.seed, self.step))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        self.optimizer.zero_grad()
        total = 0.0
        for part in index.split(self.training.micro_batch):
            batch = windows.batch(part).to(self.fabric.device)
            loss = self._loss(batch, self.training.loss) * (len(part) / len(index))
            self.fabric.backward(loss)
            total += loss.item()
        if not math.isfinite(total):
            raise ModelError(
                f"the loss is {total} at step {self.step}: lower learning_rate, now "
                f"{self.training.learning_rate}; what was saved before is in {self.folder}"
            )
        self.optimizer.step()
        return total

    def _loss(self, batch: Batch, hours: str) -> Tensor:
        """Mean squared error over the last hours or all hours, in standardised units of the target."""
        output = self.network(batch.hourly, batch.patches, batch.patch_index)  # (B, T)
        wanted = (batch.target - self.model.scaler.mean) / self.model.scaler.std  # (B, T)
        if hours == "last":
            output, wanted = output[:, -1], wanted[:, -1]
        known = torch.isfinite(wanted)
        return F.mse_loss(output[known].float(), wanted[known])

    def _evaluate(self, loss: float, val: Windows | None, index: Tensor | None) -> None:
        """Score the validation windows, keep the weights if they are the best so far."""
        score = loss
        if val is not None and index is not None:
            self.network.eval()
            with torch.no_grad():
                losses = [
                    self._loss(val.batch(part).to(self.fabric.device), "last").item() * len(part)
                    for part in index.split(self.training.micro_batch)
                ]
            score = sum(losses) / len(index)
        checked = {} if val is None else {"val_mse": score}
        self.curve.append({"step": self.step, "train_mse": loss, **checked})
        if val is None or score < self.best:
            self.best, self.stale = score, 0
            self.model.provenance["curve"] = self.curve
            self.model.save(self.folder / MODEL)
        else:
            self.stale += 1

    def _is_stale(self) -> bool:
        return self.training.patience is not None and self.stale >= self.training.patience

    def _settings(self) -> dict[str, Any]:
        """What has to be the same when a run is resumed, as JSON gives it back."""
        settings = {
            "network": dataclasses.asdict(self.model.config),
            "training": dataclasses.asdict(self.training),
            "target": self.model.target,
            "scaler": dataclasses.asdict(self.model.scaler),
            "sites": self.model.provenance["sites"],
            "val_sites": self.model.provenance["val_sites"],
        }
        return json.loads(json.dumps(settings))

    def _checkpoint(self) -> None:
        """Write what it takes to continue, atomically."""
        state = {
            "network": self.model.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **{name: getattr(self, name) for name in ("step", "stale", "best", "curve")},
        }
        with replacing(self.folder / CHECKPOINT) as path:
            torch.save(state, path)
        if not (self.folder / MODEL).exists():
            self.model.save(self.folder / MODEL)

    def _resume(self) -> None:
        """Continue from the last checkpoint of the same run."""
        try:
            before = json.loads((self.folder / RUN).read_text())
        except FileNotFoundError:
            raise ModelError(f"{self.folder} holds no run to resume") from None
        now = _flatten(self._settings())
        before = _flatten(before)
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        if changed:
            raise ModelError(f"{self.folder} was started with other settings: {', '.join(changed)} differ")
        if not (self.folder / CHECKPOINT).exists():
            return
        state = torch.load(self.folder / CHECKPOINT, map_location=self.fabric.device, weights_only=True)
        self.model.network.load_state_dict(state.pop("network"))
        self.optimizer.load_state_dict(state.pop("optimizer"))
        for name, value in state.items():
            setattr(self, name, value)


def _flatten(settings: dict[str, Any]) -> dict[str, Any]:
    """Give nested settings dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        nested = value if isinstance(value, dict) else {"": value}
        flat |= {f"{name}.{inner}".rstrip("."): leaf for inner, leaf in nested.items()}
    return flat


def _configure(cls: Callable[..., Any], **settings: Any) -> Any:
    """Build a settings class, with an error that lists what there is."""
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ModelError(f"unknown settings {unknown}; {getattr(cls, '__name__', cls)} takes {known}")
    return cls(**settings)


def _load(ds: xr.Dataset, config: EcoPerceiverConfig, target: str, max_qc: int) -> Windows:
    """Windows of all towers, with a clear error where there are none."""
    if ds.sizes.get("site") == 0:
        raise ModelError("there are no towers in the training or in the validation set")
    inputs = model_inputs(ds, config.variables, config.bands, target=target, max_qc=max_qc)
    if config.bands and "patch" not in inputs:
        raise ModelError(f"the model has bands {list(config.bands)}, but the Dataset has no reflectance")
    windows = load_windows(inputs, config.context)
    if windows is None:
        raise ModelError(
            f"none of {inputs.sizes['site']} towers has an hour with {target} at quality <= {max_qc} and "
            f"{config.context} hours before it"
        )
    return windows


def _moments(windows: Windows) -> tuple[float, float]:
    """Mean and standard deviation of the target over all windows."""
    values = windows.target[windows.block, windows.offset, -1].double()
    std = values.std().item() if len(values) > 1 else 0.0
    return values.mean().item(), std or 1.0


def _bounds(code: str) -> tuple[float, float]:
    bounds = VARIABLES[code].bounds
    if bounds is None:
        raise ModelError(f"{code} is a target and cannot be a predictor")
    return bounds.lower, bounds.upper


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


def _run_dir(run_dir: str | os.PathLike[str] | None, model: str, target: str) -> Path:
    if run_dir is not None:
        return Path(run_dir)
    return Path("xcarbon-runs") / f"{model}-{target}-{dt.datetime.now():%Y%m%d-%H%M%S}"


def _provenance(ds: xr.Dataset, val: xr.Dataset | None, training: TrainingConfig) -> dict[str, Any]:
    """What a reader of the model's predictions should be able to find out."""
    return {
        "created": dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "sites": _sites(ds),
        "val_sites": [] if val is None else _sites(val),
        "data": {
            name: ds.attrs[name] for name in ("title", "source", "license", "references") if name in ds.attrs
        },
        "citations": sorted({str(text) for text in np.atleast_1d(ds["citation"].values) if text})
        if "citation" in ds.coords
        else [],
        "training": dataclasses.asdict(training),
        "versions": {
            "xcarbon": xcarbon.__version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "xarray": xr.__version__,
            "python": platform.python_version(),
        },
    }


def _sites(ds: xr.Dataset) -> list[str]:
    return [str(site) for site in np.atleast_1d(ds["site"].values)] if "site" in ds.coords else []
