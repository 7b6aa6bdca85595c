"""Exponential moving average (EMA) of a network's weights, which predicts better than the last weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class EMA(AveragedModel):
    """Average the weights of a network over the optimiser steps.

    Step n weights the average with ``min(decay, n / (n + 9))``. In the first steps this is about the mean
    over the last tenth of the steps, because the initial weights are of no use.

    Parameters
    ----------
    network : torch.nn.Module
        The network; :meth:`update_parameters` reads its weights after each step.
    decay : float
        Weight of the average in each step, in [0, 1).
    device : torch.device, optional
        Device of the average; by default that of the network.

    Examples
    --------
    >>> network = nn.Linear(1, 1, bias=False)
    >>> ema = EMA(network, 0.5)
    >>> for weight in (0.0, 8.0):
    ...     _ = nn.init.constant_(network.weight, weight)
    ...     ema.update_parameters(network)
    >>> with ema.applied_to(network):
    ...     round(network.weight.item(), 1)
    6.5
    >>> network.weight.item()
    8.0
    """

    def __init__(self, network: nn.Module, decay: float, device: torch.device | None = None) -> None:
        def average(averages: Any, weights: Any, averaged: Tensor | int) -> None:
            step = int(averaged) + 1
            get_ema_multi_avg_fn(min(decay, step / (step + 9)))(averages, weights, averaged)

        super().__init__(network, device, multi_avg_fn=average)

    @contextmanager
    def applied_to(self, network: nn.Module) -> Iterator[None]:
        """Replace the weights of a network by their average within a ``with`` block."""
        own = copy.deepcopy(network.state_dict())
        network.load_state_dict(self.module.state_dict())
        try:
            yield
        finally:
            network.load_state_dict(own)
