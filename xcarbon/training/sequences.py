"""Sequences of consecutive hours, cut from towers that are held in memory."""

from __future__ import annotations

import warnings

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from xcarbon.models.inputs import ModelInputs
from xcarbon.prep.statics import stack_statics
from xcarbon.training.windows import Batch, join_patches, load_towers

#: Sequences with fewer targets are left out, because they cost as much as others.
LEAST_TARGETS = 24


class TowerSequences:
    """Sequences of L hours of several towers, whose H hours are concatenated in the same arrays."""

    # The position of its first hour in these arrays identifies a sequence. A sequence never begins before the
    # record of its tower. The hours after the record are missing; they have no influence, since a prediction
    # depends only on earlier hours.

    def __init__(self, inputs: xr.Dataset, statics: tuple[str, ...], length: int) -> None:
        self.length = length
        towers = join_patches(load_towers(inputs, range(inputs.sizes["site"]), context=1))
        hours = torch.tensor([tower.data.sizes["time"] for tower in towers], dtype=torch.int64)
        self._ends = hours.cumsum(0)  # (towers,)
        self._begins = self._ends - hours  # (towers,)
        self._hourly = _joined([tower.data["hourly"].values for tower in towers])  # (H, V)
        self._target = _joined([tower.data["target"].values for tower in towers])  # (H, targets)
        self._statics: Tensor | None = None  # (towers, S)
        if statics:
            known = stack_statics(inputs, statics)[[tower.site for tower in towers]].compute()
            self._statics = torch.from_numpy(known)
        self._state: Tensor | None = None  # (H, M)
        if "state" in inputs:
            self._state = _joined([tower.data["state"].values for tower in towers])
        self._patches: Tensor | None = None  # (P, C, 8, 8)
        self._patch_index: Tensor | None = None  # (H,)
        if towers and towers[0].patches is not None:
            self._patches = torch.from_numpy(towers[0].patches)
            self._patch_index = _joined([tower.data["patch_index"].values for tower in towers])
        self.starts = self._cut()

    def _cut(self) -> Tensor:
        """Cut all towers into sequences, and keep the starts of those with enough targets."""
        cut = [torch.zeros(0, dtype=torch.int64)]
        for begin, end in zip(self._begins.tolist(), self._ends.tolist(), strict=True):
            cut.append(torch.arange(begin, end, self.length))
        starts = torch.cat(cut)
        known = torch.nn.functional.pad(torch.isfinite(self._target).any(1).cumsum(0), (1, 0))
        last = torch.minimum(starts + self.length, self._ends[self._tower(starts)])
        return starts[known[last] - known[starts] >= min(LEAST_TARGETS, self.length)]

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.starts)

    def moments(self) -> list[tuple[float, float]]:
        """Mean and standard deviation of each target."""
        # With numpy, the order of the sum does not depend on the number of threads.
        known = [values[torch.isfinite(values)].double().numpy() for values in self._target.T]
        return [
            (values.mean().item(), values.std(ddof=1).item() or 1.0 if values.size > 1 else 1.0)
            for values in known
        ]

    def variable_moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each scaled variable ``(V,)`` over its finite values."""
        return _column_moments(self._hourly)

    def state_moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each state feature ``(M,)`` over its finite values."""
        return _column_moments(torch.zeros(1, 0) if self._state is None else self._state)

    def moved(self, starts: Tensor, hours: int) -> Tensor:
        """Shift sequences by some hours, later or earlier, within the records of their towers."""
        tower = self._tower(starts)
        begins = self._begins[tower]
        latest = torch.maximum(begins, self._ends[tower] - self.length)
        return (starts + hours).clamp(begins, latest)

    def find(self, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sequences that this process holds, and their rows: all of them."""
        return starts, torch.arange(len(starts))

    def targets(self, starts: Tensor) -> Tensor:
        """Targets of each hour of sequences, ``(B, L, targets)``; NaN where missing."""
        hours, is_there = self._hours(starts)
        return self._target[hours].masked_fill(~is_there[..., None], torch.nan)

    def batch(self, starts: Tensor) -> Batch:
        """Gather sequences."""
        hours, is_there = self._hours(starts)  # (B, L), (B, L)
        hourly = self._hourly[hours].masked_fill(~is_there[..., None], torch.nan)  # (B, L, V)
        index = None
        if self._patch_index is not None:
            index = self._patch_index[hours].masked_fill(~is_there, -1)  # (B, L)
        statics = None if self._statics is None else self._statics[self._tower(starts)]  # (B, S)
        state = None
        if self._state is not None:
            state = self._state[hours].masked_fill(~is_there[..., None], torch.nan)  # (B, L, M)
        inputs = ModelInputs(hourly, self._patches, index, statics, state).compact()
        return Batch(inputs, self.targets(starts))

    def _tower(self, hours: Tensor) -> Tensor:
        """Positions of the towers that hours belong to."""
        return torch.searchsorted(self._ends, hours, right=True)

    def _hours(self, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Positions of the hours of sequences, and whether they are in the record; both ``(B, L)``."""
        hours = starts[:, None] + torch.arange(self.length)
        ends = self._ends[self._tower(starts)][:, None]
        return torch.minimum(hours, ends - 1), hours < ends


def _column_moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column over its finite values, ``(H, n) -> (n,), (n,)``."""
    with warnings.catch_warnings():  # a column without values has the mean NaN
        warnings.simplefilter("ignore", RuntimeWarning)
        mean, std = (function(values.numpy(), 0, dtype=np.float64) for function in (np.nanmean, np.nanstd))
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()


def _joined(arrays: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate(arrays)) if arrays else torch.zeros(0, 0)
