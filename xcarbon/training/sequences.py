"""Sequences of consecutive hours of towers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from xcarbon.models.inputs import ModelInputs
from xcarbon.prep.statics import stack_statics
from xcarbon.training.arrays import Arrays
from xcarbon.training.moments import TowerMoments
from xcarbon.training.windows import SERIES, Batch, load_towers

#: Sequences with fewer targets are left out, because they cost as much as others.
MIN_TARGETS = 24


class TowerSequences:
    """Sequences of L hours of several towers, whose H hours are concatenated in the same arrays.

    Parameters
    ----------
    inputs : xarray.Dataset
        From :func:`xcarbon.prep.inputs.model_inputs`, with targets.
    sites : sequence of int
        Positions of the towers to load.
    statics : tuple of str
        Static site features.
    length : int
        Number L of hours in a sequence.
    arrays : Arrays
        Empty arrays, to which the hours are added.

    Attributes
    ----------
    starts : Tensor
        Position of the first hour of each sequence, int64, shape ``(len(self),)``.
    counts : dict of int to int
        Number of sequences of each tower.
    moments : TowerMoments
        Moments of ``hourly``, ``target`` and ``state`` in all hours.
    """

    # The position of its first hour in these arrays identifies a sequence. A sequence never begins before the
    # record of its tower. The hours after the record are missing; they have no influence, since a prediction
    # depends only on earlier hours.

    def __init__(
        self, inputs: xr.Dataset, sites: Sequence[int], statics: tuple[str, ...], length: int, arrays: Arrays
    ) -> None:
        self.length = length
        self.counts: dict[int, int] = {}
        self.moments = TowerMoments()
        cut, ends, end = Arrays(), [], 0
        for tower in load_towers(inputs, sites, context=1):
            series = {name: tower.data[name].values for name in SERIES if name in tower.data}
            index = tower.data["patch_index"].values if "patch_index" in tower.data else None
            arrays.append(**series, patch_index=index, patches=tower.patches)
            self.moments.add(tower.site, **series)
            starts = _starts(series["target"], length)
            self.counts[tower.site] = len(starts)
            cut.append(starts=starts + end)
            end += tower.data.sizes["time"]
            ends.append(end)
        self._ends = torch.tensor(ends, dtype=torch.int64)  # (towers,)
        self._begins = torch.nn.functional.pad(self._ends, (1, 0))[:-1]  # (towers,)
        self.starts = cut.tensors().get("starts", torch.zeros(0, dtype=torch.int64))
        data = arrays.tensors()
        self._hourly = data.get("hourly", torch.zeros(0, 0))  # (H, V)
        self._target = data.get("target", torch.zeros(0, 0))  # (H, targets)
        self._state = data.get("state")  # (H, M)
        self._patches = data.get("patches")  # (P, C, 8, 8)
        self._patch_index = data.get("patch_index")  # (H,)
        self._statics: Tensor | None = None  # (towers, S)
        if statics:
            known = stack_statics(inputs, statics)[list(self.counts)].compute()
            self._statics = torch.from_numpy(known)

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.starts)

    def moved(self, starts: Tensor, hours: int) -> Tensor:
        """Shift sequences by some hours, later or earlier, within the records of their towers."""
        tower = self._tower(starts)
        begins = self._begins[tower]
        latest = torch.maximum(begins, self._ends[tower] - self.length)
        return (starts + hours).clamp(begins, latest)

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


def _starts(target: NDArray[np.float32], length: int) -> NDArray[np.int64]:
    """Cut a tower into sequences, and keep the starts of those with enough targets."""
    starts = np.arange(0, len(target), length)
    known = np.add.reduceat(np.isfinite(target).any(1).astype(np.int64), starts)
    return starts[known >= min(MIN_TARGETS, length)]
