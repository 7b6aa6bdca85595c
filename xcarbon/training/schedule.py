"""Settings of the training of networks, and the learning-rate schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from xcarbon.core.errors import ModelError


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of the training of a network.

    Optimiser, learning rate, batch size, epochs and warm-up follow the paper (appendix B.2) by default. The
    default loss does not: the paper predicts the last hour of a window, ``loss="last"``.

    Attributes
    ----------
    max_epochs : int
        Number of passes over all windows. The learning rate is zero at the end of them.
    max_steps : int or None
        Number of optimiser steps after which training ends, if this is less than ``max_epochs``. Warm-up and
        cosine are shortened in proportion.
    batch_size : int
        Number of windows per optimiser step.
    micro_batch : int or None
        Number of windows that are computed at once; the gradients of a batch are summed. By default 64 on
        a processor and 512 on other devices. The result depends on it only through rounding.
    learning_rate : float
        Highest learning rate of AdamW.
    weight_decay : float
        Weight decay of AdamW.
    betas : tuple of float
        Decay rates of the moment estimates of AdamW.
    warmup_epochs : float
        Number of epochs, out of ``max_epochs``, in which the learning rate increases linearly.
    eval_every : int or None
        Number of steps between validations and checkpoints; by default an epoch.
    val_windows : int
        Number of validation windows, drawn once at random. Using all windows would take longer than training.
    patience : int or None
        Number of validations without a better score after which training ends; None to disable.
    loss : {"window", "last"}
        Hours of a window that enter the loss: all hours that have a target, at the same cost, or the last
        hour, as in the paper.
    precision : str
        Precision, as in lightning-fabric: ``"32-true"``, ``"bf16-mixed"`` and others.
    clip : float or None
        Largest norm of the gradient of a step; larger gradients are scaled down to it. None to disable.
    averaging : float
        Decay of the exponential moving average (EMA) of the weights, in [0, 1). The EMA is scored and
        saved; with 0 the weights themselves are.
    seed : int
        Random seed for initial weights, order of the windows and dropout.

    Raises
    ------
    ModelError
        If a setting is out of range.
    """

    max_epochs: int = 20
    max_steps: int | None = None
    batch_size: int = 4096
    micro_batch: int | None = None
    learning_rate: float = 8e-5
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    warmup_epochs: float = 1.0
    eval_every: int | None = None
    val_windows: int = 20_000
    patience: int | None = 5
    loss: str = "window"
    precision: Any = "32-true"
    clip: float | None = None
    averaging: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("max_epochs", "batch_size", "val_windows"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} must be at least 1, found {getattr(self, name)}")
        for name in ("max_steps", "micro_batch", "eval_every", "patience"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ModelError(f"{name} must be at least 1 or None, found {getattr(self, name)}")
        if self.clip is not None and not self.clip > 0:
            raise ModelError(f"clip must be positive or None, found {self.clip}")
        if not 0 <= self.averaging < 1:
            raise ModelError(f"averaging must be in [0, 1), found {self.averaging}")
        if self.loss not in ("last", "window"):
            raise ModelError(f"loss must be 'last' or 'window', found {self.loss!r}")

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the total number of optimiser steps."""
        steps = self.max_epochs * steps_per_epoch
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def rate(self, step: int, total: int) -> float:
        """Return the learning rate at a step: linear warm-up, then a cosine that ends at zero."""
        warmup = max(1, round(total * self.warmup_epochs / self.max_epochs))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(1, total - warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
