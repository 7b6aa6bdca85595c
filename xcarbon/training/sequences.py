"""Sequences of consecutive hours, cut from towers that are resident in memory."""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm.auto import tqdm

from xcarbon.core.options import OPTIONS
from xcarbon.models.streaming import Sequences
from xcarbon.prep.statics import stack_statics
from xcarbon.training.windows import Tower, gather_patches

#: Sequences with fewer targets are left out: they cost as much as others.
LEAST_TARGETS = 24


class SequenceBatch(NamedTuple):
    """What a streaming model trains on.

    Attributes
    ----------
    sequences : Sequences
        B sequences of L hours.
    target : Tensor
        The fluxes of each hour in their units, shape ``(B, L, targets)``; NaN where missing, and
        in the hours with which a sequence begins, which have too little context.
    """

    sequences: Sequences
    target: Tensor


class TowerSequences:
    """Sequences of some towers, whose hours lie one after another in the same arrays.

    A sequence is known by the position of its first hour in these arrays. It never begins before its tower's
    record; what is missing behind the record has no influence, since a prediction sees no later hours.

    Parameters
    ----------
    inputs : xarray.Dataset
        From :func:`xcarbon.prep.inputs.model_inputs`, with a sequence of targets.
    statics : tuple of str
        What is told of a tower.
    length : int
        Hours L in a sequence.
    min_context : int
        Hours that a target needs, its own included.
    device : torch.device
        Where batches go.

    Attributes
    ----------
    starts : Tensor
        First hours of sequences that do not overlap but in the hours without targets, shape ``(len(self),)``.
    """

    def __init__(
        self,
        inputs: xr.Dataset,
        statics: tuple[str, ...],
        length: int,
        min_context: int,
        device: torch.device,
    ) -> None:
        self.length, self.warmup, self.device = length, min_context - 1, device
        progress = tqdm(
            range(inputs.sizes["site"]), desc="loading", unit="tower", disable=not OPTIONS["progress"],
            leave=False,
        )  # fmt: skip
        towers = [tower for site in progress if (tower := Tower.load(inputs, site, min_context)) is not None]
        hours = [tower.data.sizes["time"] for tower in towers]
        self._ends = torch.tensor(hours, dtype=torch.int64).cumsum(0)  # (towers,)
        self._begins = self._ends - torch.tensor(hours, dtype=torch.int64)  # (towers,)
        self._hourly = _joined([tower.data["hourly"].values for tower in towers])  # (H, V)
        self._target = _joined([tower.data["target"].values for tower in towers])  # (H, targets)
        self._statics: Tensor | None = None  # (towers, S)
        if statics:
            known = stack_statics(inputs, statics)[[tower.site for tower in towers]].compute()
            self._statics = torch.from_numpy(known)
        self._patches: Tensor | None = None  # (P, C, 8, 8)
        self._patch_index: Tensor | None = None  # (H,)
        if "patch" in inputs:
            self._add_patches(towers)
        self.starts = self._cut()

    def without_statics(self) -> TowerSequences:
        """Give the same sequences of the same arrays, without what is known of their towers."""
        without_statics = copy.copy(self)
        without_statics._statics = None
        return without_statics

    def _add_patches(self, towers: list[Tower]) -> None:
        """Put the towers' patches one after another, and shift their indices accordingly."""
        stacks = [tower.patches for tower in towers if tower.patches is not None]
        self._patches = _joined(stacks)
        offsets = np.cumsum([0, *(len(stack) for stack in stacks)])
        found = [tower.data["patch_index"].values for tower in towers]
        shifted = [
            np.where(index >= 0, index + offset, -1) for index, offset in zip(found, offsets, strict=False)
        ]
        self._patch_index = _joined(shifted)

    def _cut(self) -> Tensor:
        """Cut all towers into sequences, and keep those with enough targets."""
        cut = [torch.zeros(0, dtype=torch.int64)]
        for begin, end in zip(self._begins.tolist(), self._ends.tolist(), strict=True):
            count = math.ceil((end - begin - self.warmup) / self.stride)
            cut.append(begin + self.stride * torch.arange(count))
        starts = torch.cat(cut)
        known = torch.nn.functional.pad(torch.isfinite(self._target).any(1).cumsum(0), (1, 0))
        first = starts + self.warmup
        last = torch.minimum(starts + self.length, self._ends[self._tower(starts)])
        return starts[known[last] - known[first] >= LEAST_TARGETS]

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.starts)

    @property
    def stride(self) -> int:
        """Hours of a sequence that may have a target."""
        return self.length - self.warmup

    def moments(self) -> list[tuple[float, float]]:
        """Mean and standard deviation of each target."""
        # By numpy: torch sums in an order that changes with the number of threads, and so would the scaling
        # of a run that is resumed elsewhere.
        known = [values[torch.isfinite(values)].double().numpy() for values in self._target.T]
        return [
            (values.mean().item(), values.std(ddof=1).item() or 1.0 if values.size > 1 else 1.0)
            for values in known
        ]

    def moved(self, starts: Tensor, hours: int) -> Tensor:
        """Let sequences begin some hours later, or earlier, within the records of their towers."""
        tower = self._tower(starts)
        begins = self._begins[tower]
        latest = torch.maximum(begins, self._ends[tower] - self.length)
        return (starts + hours).clamp(begins, latest)

    def find(self, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Tell which sequences are held here, and their rows: all of them."""
        return starts, torch.arange(len(starts))

    def targets(self, starts: Tensor) -> Tensor:
        """Targets of each hour of some sequences, ``(B, L, targets)``; NaN where none is to be learnt."""
        hours, is_there = self._hours(starts)
        is_there[:, : self.warmup] = False
        return self._target[hours].masked_fill(~is_there[..., None], torch.nan)

    def batch(self, starts: Tensor) -> SequenceBatch:
        """Gather sequences, on the device."""
        hours, is_there = self._hours(starts)
        hourly = self._hourly[hours].masked_fill(~is_there[..., None], torch.nan)
        patches = index = None
        if self._patches is not None and self._patch_index is not None:
            index = self._patch_index[hours].masked_fill(~is_there, -1)
            patches, index = gather_patches(self._patches, index)
        statics = None if self._statics is None else self._statics[self._tower(starts)]
        parts = (hourly, patches, index, statics)
        sequences = Sequences._make(None if part is None else part.to(self.device) for part in parts)
        return SequenceBatch(sequences, self.targets(starts).to(self.device))

    def _tower(self, hours: Tensor) -> Tensor:
        """Numbers of the towers that hours belong to."""
        return torch.searchsorted(self._ends, hours, right=True)

    def _hours(self, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Positions of the hours of sequences, and whether they are in the record; both ``(B, L)``."""
        hours = starts[:, None] + torch.arange(self.length)
        ends = self._ends[self._tower(starts)][:, None]
        return torch.minimum(hours, ends - 1), hours < ends


def _joined(arrays: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate(arrays)) if arrays else torch.zeros(0, 0)
