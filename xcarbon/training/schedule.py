"""How to train: the paper's settings, and its learning rate over time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from xcarbon.core.errors import ModelError


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
    micro_batch : int or None
        Windows that are computed at once; their gradients are added up to a batch. By default 64 on a
        processor and 512 elsewhere. What is learnt does not depend on it.
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
    loss : {"window", "last"}
        Learn from every hour of a window that has a target, which costs the same, or from its last hour, as
        the paper does.
    precision : str
        Of lightning-fabric: ``"32-true"``, ``"bf16-mixed"`` ...
    clip : float or None
        Largest norm of the gradient of a step, which is scaled down to it; None for any.
    averaging : float
        Share that an optimiser step keeps of the running mean of the weights, which is what is scored and
        saved; 0 for the weights as they are.
    seed : int
        Of weights, order and dropout.
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
