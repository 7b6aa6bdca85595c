"""Settings of the training of networks, and the learning-rate schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from xcarbon.core.errors import ModelError
from xcarbon.core.validation import check_range

#: Decay rates of the moments in AdamW (arXiv 2406.04940, appendix B.2).
BETAS = (0.9, 0.95)


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of the training of a network.

    Optimiser, learning rate, batch size, epochs and warm-up follow the paper (appendix B.2) by default. The
    default loss does not: the paper predicts the last hour of a window, ``loss="last"``.

    Attributes
    ----------
    max_epochs : int
        Number of passes over all windows. The learning rate reaches zero at the end of the last one.
    max_steps : int or None
        Largest number of optimiser steps. If it is smaller than the number of steps in ``max_epochs``, the
        warm-up and the cosine are shortened in proportion.
    batch_size : int
        Number of windows per optimiser step.
    micro_batch : int or None
        Number of windows that are computed at once; gradients are accumulated over the batch. None for 64 on
        a CPU and 512 on other devices. It changes the speed and the memory, not the result.
    learning_rate, weight_decay : float
        Largest learning rate and weight decay of AdamW.
    warmup_epochs : float
        Number of epochs, out of ``max_epochs``, in which the learning rate rises linearly.
    eval_every : int or None
        Number of steps between validations and checkpoints; None for one epoch.
    val_windows : int
        Number of validation windows, drawn at random once; scoring all windows would take longer than the
        training.
    patience : int or None
        Number of validations without a better score after which training stops; None to train to the end.
    loss : {"window", "last"}
        ``"window"`` computes the loss over all hours of a window that have a target, ``"last"`` over the last
        hour, as in the paper. Both cost the same.
    precision : str
        Precision as in lightning-fabric, for example ``"32-true"`` or ``"bf16-mixed"``.
    clip : float or None
        Largest norm of the gradient; larger gradients are scaled down to it. None for no limit.
    averaging : float
        Decay per step of the exponential moving average (EMA) of the weights, which is scored and saved;
        0 to use the weights themselves.
    seed : int
        Random seed for initialisation, the order of the windows and dropout.

    Raises
    ------
    ModelError
        If the value of a setting is not allowed.
    """

    max_epochs: int = 20
    max_steps: int | None = None
    batch_size: int = 4096
    micro_batch: int | None = None
    learning_rate: float = 8e-5
    weight_decay: float = 0.05
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
        check_range(self, "max_epochs", "batch_size", "val_windows", ge=1)
        check_range(self, "max_steps", "micro_batch", "eval_every", "patience", ge=1, optional=True)
        check_range(self, "clip", gt=0, optional=True)
        check_range(self, "averaging", ge=0, lt=1)
        if self.loss not in ("last", "window"):
            raise ModelError(f"loss must be 'last' or 'window', found {self.loss!r}")

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the number of optimiser steps of the whole training."""
        steps = self.max_epochs * steps_per_epoch
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def rate(self, step: int, total: int) -> float:
        """Return the learning rate of a step: linear warm-up, then a cosine that ends at zero."""
        warmup = max(1, round(total * self.warmup_epochs / self.max_epochs))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(1, total - warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
