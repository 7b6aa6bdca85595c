"""The running mean of a network's weights, which predicts better than the last ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The exponential mean of a network's weights over the steps of its training.

    In the first steps it is the plain mean over about a tenth of them, since the first weights are of no use.

    Parameters
    ----------
    network : torch.nn.Module
        Its weights are read after every step, and replaced only within :meth:`in_use`.
    share : float
        What a step keeps of the mean; with 0 it is the weights themselves.

    Attributes
    ----------
    weights : dict of str to Tensor
        The mean, and ``steps``, the number of weights in it; empty before the first step, and with a share
        of 0.

    Examples
    --------
    >>> network = nn.Linear(1, 1, bias=False)
    >>> average = Average(network, 0.5)
    >>> for weight in (0.0, 8.0):
    ...     _ = nn.init.constant_(network.weight, weight)
    ...     average.update()
    >>> with average.in_use():
    ...     round(network.weight.item(), 1)
    6.5
    >>> network.weight.item()
    8.0
    """

    def __init__(self, network: nn.Module, share: float) -> None:
        self._network, self._share = network, share
        self.weights: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights after a step in."""
        if not self._share:
            return
        now = dict(self._network.named_parameters())
        if not self.weights:
            self.weights = {name: weight.detach().clone() for name, weight in now.items()}
            self.weights["steps"] = torch.ones(())
            return
        steps = self.weights["steps"].add_(1).item()
        share = min(self._share, steps / (steps + 9))
        for name, weight in now.items():
            self.weights[name].lerp_(weight, 1 - share)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Give the network its mean weights for a while."""
        if not self.weights:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, weight in self._network.named_parameters():
            kept = weight.detach().clone()
            weight.copy_(self.weights[name])
            self.weights[name] = kept
