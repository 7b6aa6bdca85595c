"""Windows of consecutive hours that end with the predicted one.

A window per sample would cost xbatcher microseconds to list and hundreds of them to read, days for
the published dataset. So xbatcher yields *blocks* of one tower by some weeks, which overlap by a
window less one hour, and the windows are strided views inside a block: only a batch copies.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
import xbatcher
from torch import Tensor
from tqdm.auto import tqdm

from xcarbon.core.options import OPTIONS
from xcarbon.prep.patches import patch_index

#: Predicted hours in a block: eight weeks.
BLOCK_HOURS = 8 * 7 * 24


class Batch(NamedTuple):
    """What a model trains on: B windows of T hours and V variables, P patches of C bands.

    Attributes
    ----------
    hourly : Tensor
        Scaled variables [1], shape ``(B, T, V)``; NaN where missing.
    patches : Tensor or None
        The patches that the windows see, shape ``(P, C, 8, 8)``; None without patches.
    patch_index : Tensor or None
        Which patch enters at each hour, shape ``(B, T)``; -1 for none.
    target : Tensor
        The flux of each hour in its units, shape ``(B, T)``: always there in the last hour, which is
        the predicted one; NaN where missing before it.
    """

    hourly: Tensor
    patches: Tensor | None
    patch_index: Tensor | None
    target: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """Move all tensors to a device."""
        patches = None if self.patches is None else self.patches.to(device)
        index = None if self.patch_index is None else self.patch_index.to(device)
        return Batch(self.hourly.to(device), patches, index, self.target.to(device))


class Block(NamedTuple):
    """Some weeks of one tower, with the hours of context before them.

    Attributes
    ----------
    site : int
        Position of the tower.
    start : int
        Position on the time axis of the first hour of context.
    hourly : numpy.ndarray
        Shape ``(block + T - 1, V)``, float32.
    target : numpy.ndarray
        Shape ``(block + T - 1,)``, float32; NaN where there is nothing to learn or score.
    patch_index : numpy.ndarray or None
        Shape ``(block + T - 1,)``, position in the tower's patches or -1.
    """

    site: int
    start: int
    hourly: np.ndarray
    target: np.ndarray
    patch_index: np.ndarray | None


def valid_hours(target: np.ndarray, context: int) -> np.ndarray:
    """Find the hours that have a target and a full window.

    Parameters
    ----------
    target : numpy.ndarray
        Shape ``(hours,)`` or ``(hours, targets)``; NaN where there is none.
    context : int
        Hours T in a window, the predicted one included.

    Returns
    -------
    numpy.ndarray
        Positions of the hours, sorted, int64.

    Examples
    --------
    >>> valid_hours(np.array([1.0, 2.0, np.nan, 4.0]), context=2)
    array([1, 3])
    """
    hours = np.flatnonzero(np.isfinite(target.reshape(len(target), -1)).any(axis=1))
    return hours[hours >= context - 1]


@dataclass(frozen=True)
class Tower:
    """One tower's inputs in memory, from the first hour that a valid window sees to the last."""

    site: int
    start: int
    data: xr.Dataset
    patches: np.ndarray | None

    @classmethod
    def load(cls, inputs: xr.Dataset, site: int, context: int) -> Tower | None:
        """Load one tower of ``inputs``, or nothing more than its target if no hour is valid."""
        tower = inputs.isel(site=site, drop=True)
        hours = valid_hours(tower["target"].values, context)
        if not hours.size:
            return None
        start = int(hours[0]) - context + 1
        data = tower[["hourly", "target"]].isel(time=slice(start, int(hours[-1]) + 1)).load()
        if "patch" not in tower:
            return cls(site, start, data, None)
        time, day = data["time"].values, tower["day"].values
        within = (day >= time[0].astype("datetime64[D]")) & (day <= time[-1])
        patch = tower["patch"].isel(day=np.flatnonzero(within)).load()
        # A day without a patch would take as much memory as one with a patch.
        patch = patch.dropna("day", how="any")
        usable = np.ones(patch.sizes["day"], bool)
        data["patch_index"] = ("time", patch_index(time, patch["day"].values, usable))
        return cls(site, start, data, patch.values)


def blocks(tower: Tower, context: int, block_hours: int = BLOCK_HOURS) -> Iterator[Block]:
    """Cut a tower into overlapping blocks, skipping those without a valid target.

    Parameters
    ----------
    tower : Tower
        One tower's inputs.
    context : int
        Hours T in a window.
    block_hours : int
        Predicted hours in a block.

    Yields
    ------
    Block
        All of the same length: the last one is padded with missing hours, since xbatcher would
        drop an incomplete one. Every hour with a target is predicted in exactly one block.
    """
    data = tower.data
    missing = -(data.sizes["time"] - context + 1) % block_hours
    fill = {"hourly": np.nan, "target": np.nan, "patch_index": -1}
    padded = data.drop_vars("time").pad(
        time=(0, missing), constant_values={name: fill[str(name)] for name in data.data_vars}
    )
    generator = xbatcher.BatchGenerator(
        padded,
        input_dims={"time": block_hours + context - 1},
        input_overlap={"time": context - 1} if context > 1 else {},
    )
    for number, block in enumerate(generator):
        target = block["target"].values
        if np.isfinite(target[context - 1 :]).any():
            index = block["patch_index"].values if "patch_index" in block else None
            start = tower.start + number * block_hours
            yield Block(tower.site, start, block["hourly"].values, target, index)


class Windows:
    """Every window of some towers that ends with a valid target, resident in memory.

    Parameters
    ----------
    towers : list of Tower
        At least one.
    context : int
        Hours T in a window.
    block_hours : int
        Predicted hours in a block.

    Attributes
    ----------
    site, hour : Tensor
        Positions of each window's tower and predicted hour, shape ``(len(self),)``.
    """

    def __init__(self, towers: list[Tower], context: int, block_hours: int = BLOCK_HOURS) -> None:
        cut = [list(blocks(tower, context, block_hours)) for tower in towers]
        flat = [block for tower_blocks in cut for block in tower_blocks]
        self.context = context
        self._hourly = torch.from_numpy(np.stack([block.hourly for block in flat]))  # (n, block + T - 1, V)
        self._target = torch.from_numpy(np.stack([block.target for block in flat]))  # (n, block + T - 1)
        self._patch_index: Tensor | None = None  # (n, block + T - 1)
        self.block, self.offset = torch.nonzero(torch.isfinite(self.target[:, :, -1]), as_tuple=True)
        self.site = torch.tensor([block.site for block in flat])[self.block]
        self.hour = torch.tensor([block.start for block in flat])[self.block] + self.offset + context - 1
        self.patches: Tensor | None = None
        if towers[0].patches is not None:
            self._add_patches(towers, cut)

    def _add_patches(self, towers: list[Tower], cut: list[list[Block]]) -> None:
        """Put the towers' patches one after another, and shift the blocks' indices accordingly."""
        stacks = [tower.patches for tower in towers if tower.patches is not None]
        self.patches = torch.from_numpy(np.concatenate(stacks))  # (P, C, 8, 8)
        offsets = np.cumsum([0, *(len(stack) for stack in stacks)])
        shifted = [
            np.where(block.patch_index >= 0, block.patch_index + offset, -1)
            for tower_blocks, offset in zip(cut, offsets, strict=False)
            for block in tower_blocks
            if block.patch_index is not None
        ]
        self._patch_index = torch.from_numpy(np.stack(shifted))

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.block)

    @property
    def hourly(self) -> Tensor:
        """View ``(n, block, T, V)``: a stride, not a copy."""
        return self._hourly.unfold(1, self.context, 1).transpose(2, 3)

    @property
    def target(self) -> Tensor:
        """View ``(n, block, T)``."""
        return self._target.unfold(1, self.context, 1)

    @property
    def patch_index(self) -> Tensor | None:
        """View ``(n, block, T)``."""
        return None if self._patch_index is None else self._patch_index.unfold(1, self.context, 1)

    @property
    def nbytes(self) -> int:
        """Memory that the windows take [bytes]."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, Tensor))

    def to(self, device: torch.device | str) -> Windows:
        """Hold them on another device; batches are gathered there."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device))
        return moved

    def predicted(self) -> Tensor:
        """Target of each window's last hour, shape ``(len(self),)``."""
        return self._target[self.block, self.offset + self.context - 1]

    def targets(self, index: Tensor) -> Tensor:
        """Target of each hour of some windows, shape ``(B, T)``; NaN where missing."""
        index = index.to(self.block.device)
        return self.target[self.block[index], self.offset[index]]

    def batch(self, index: Tensor) -> Batch:
        """Gather windows.

        Parameters
        ----------
        index : Tensor
            Which windows, int64, shape ``(B,)``.

        Returns
        -------
        Batch
            Holding only the patches that its windows see.
        """
        index = index.to(self.block.device)
        block, offset = self.block[index], self.offset[index]
        hourly, target = self.hourly[block, offset], self.target[block, offset]  # (B, T, V), (B, T)
        if self.patches is None or self.patch_index is None:
            return Batch(hourly, None, None, target)
        return Batch(hourly, *gather_patches(self.patches, self.patch_index[block, offset]), target)


def gather_patches(patches: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Take the patches that some windows see.

    Parameters
    ----------
    patches : Tensor
        All patches, shape ``(P, C, 8, 8)``.
    index : Tensor
        Which of them enters at each hour, shape ``(B, T)``; -1 for none.

    Returns
    -------
    patches, index : Tensor
        Only the patches that are seen, and ``index`` renumbered to them.
    """
    used, renumbered = torch.unique(index, return_inverse=True)
    nothing = int((used < 0).any())
    return patches[used[nothing:]], renumbered - nothing


def load_windows(
    inputs: xr.Dataset,
    context: int,
    sites: Sequence[int] | None = None,
    block_hours: int = BLOCK_HOURS,
) -> Windows | None:
    """Load every window of towers into memory.

    Parameters
    ----------
    inputs : xarray.Dataset
        From :func:`xcarbon.prep.inputs.model_inputs`, with a target.
    context : int
        Hours T in a window.
    sites : sequence of int, optional
        Positions of the towers to load; by default all.
    block_hours : int
        Predicted hours in a block.

    Returns
    -------
    Windows or None
        Tower by tower; None if no hour has a target and a full window.
    """
    chosen = range(inputs.sizes["site"]) if sites is None else sites
    progress = tqdm(chosen, desc="loading", unit="tower", disable=not OPTIONS["progress"], leave=False)
    towers = [Tower.load(inputs, site, context) for site in progress]
    found = [tower for tower in towers if tower is not None]
    return Windows(found, context, block_hours) if found else None


def stream(
    inputs: xr.Dataset, context: int, batch_size: int, block_hours: int = BLOCK_HOURS
) -> Iterator[Batch]:
    """Yield all windows in order, holding one tower in memory at a time.

    Parameters
    ----------
    inputs : xarray.Dataset
        From :func:`xcarbon.prep.inputs.model_inputs`, with a target.
    context : int
        Hours T in a window.
    batch_size : int
        Windows B in a batch; the last of a tower may be smaller.
    block_hours : int
        Predicted hours in a block.

    Yields
    ------
    Batch
        Every window with a valid target exactly once, tower by tower.

    Examples
    --------
    >>> from xcarbon.prep.inputs import model_inputs
    >>> from xcarbon.testing import synthetic_towers
    >>> inputs = model_inputs(synthetic_towers(1), ["DOY", "TOD", "TA"], target="NEE")
    >>> next(stream(inputs, context=32, batch_size=64)).hourly.shape
    torch.Size([64, 32, 3])
    """
    for site in range(inputs.sizes["site"]):
        tower = Tower.load(inputs, site, context)
        if tower is None:
            continue
        windows = Windows([tower], context, block_hours)
        for index in torch.arange(len(windows)).split(batch_size):
            yield windows.batch(index)
