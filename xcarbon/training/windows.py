"""Windows of consecutive hours that end with the predicted one.

One xbatcher window per sample would take microseconds to list and hundreds of microseconds to read, which
adds up to days for the published dataset. Instead, xbatcher yields *blocks* of one tower by several weeks,
which overlap by the length of a window less one hour. The windows are strided views of a block; data is
copied only when a batch is gathered.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
import xbatcher
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from xcarbon.core.options import OPTIONS
from xcarbon.models.inputs import ModelInputs
from xcarbon.prep.patches import patch_index

#: Predicted hours in a block: eight weeks.
BLOCK_HOURS = 8 * 7 * 24


class Batch(NamedTuple):
    """A batch of windows, or of sequences, with their targets.

    Attributes
    ----------
    inputs : ModelInputs
        Tensors of B windows, with ``hourly`` of the shape ``(B, T, V)``, and the patches that enter there.
    target : Tensor
        The flux of each hour in its units, shape ``(B, T)``, or ``(B, T, targets)`` for several fluxes; NaN
        where missing. The last hour of a window always has a target; in a sequence, the first hours have
        none, because their context is too short.
    """

    inputs: ModelInputs[Tensor]
    target: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """Move all tensors to a device."""
        return Batch(self.inputs.to(device), self.target.to(device))


class Block(NamedTuple):
    """Several weeks of one tower, with the hours of context before them.

    Attributes
    ----------
    site : int
        Position of the tower.
    start : int
        Position on the time axis of the first hour of context.
    hourly : numpy.ndarray
        Scaled variables [1], shape ``(block + T - 1, V)``, float32.
    target : numpy.ndarray
        The flux in its units, shape ``(block + T - 1,)``, float32; NaN where missing.
    patch_index : numpy.ndarray or None
        Position of the patch that enters at each hour, shape ``(block + T - 1,)``; -1 for none.
    state : numpy.ndarray or None
        State features, shape ``(block + T - 1, M)``, float32; NaN where missing.
    """

    site: int
    start: int
    hourly: np.ndarray
    target: np.ndarray
    patch_index: np.ndarray | None
    state: np.ndarray | None


def valid_hours(target: np.ndarray, context: int) -> np.ndarray:
    """Find the hours that have a target and a full window.

    Parameters
    ----------
    target : numpy.ndarray
        Shape ``(hours,)`` or ``(hours, targets)``; NaN where missing.
    context : int
        Number T of hours in a window, including the predicted hour.

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
class LoadedTower:
    """One tower in memory, from the first hour of its first valid window to the last valid hour.

    Attributes
    ----------
    site : int
        Position of the tower.
    start : int
        Position on the time axis of the first hour.
    data : xarray.Dataset
        ``hourly``, ``target`` and, where there are patches or a state, ``patch_index`` or ``state``, on
        ``time``.
    patches : numpy.ndarray or None
        Patches that ``patch_index`` refers to, shape ``(P, C, 8, 8)``.
    """

    site: int
    start: int
    data: xr.Dataset
    patches: np.ndarray | None

    @classmethod
    def load(cls, inputs: xr.Dataset, site: int, context: int) -> LoadedTower | None:
        """Load one tower of ``inputs``; None, with only the target read, if no hour is valid."""
        tower = inputs.isel(site=site, drop=True)
        hours = valid_hours(tower["target"].values, context)
        if not hours.size:
            return None
        start = int(hours[0]) - context + 1
        names = [name for name in ("hourly", "target", "state") if name in tower]
        data = tower[names].isel(time=slice(start, int(hours[-1]) + 1)).load()
        if "patch" not in tower:
            return cls(site, start, data, None)
        time, day = data["time"].values, tower["day"].values
        within = (day >= time[0].astype("datetime64[D]")) & (day <= time[-1])
        patch = tower["patch"].isel(day=np.flatnonzero(within)).load()
        # A day without a patch would need as much memory as a day with one.
        patch = patch.dropna("day", how="any")
        usable = np.ones(patch.sizes["day"], bool)
        data["patch_index"] = ("time", patch_index(time, patch["day"].values, usable))
        return cls(site, start, data, patch.values)


def load_towers(inputs: xr.Dataset, sites: Sequence[int], context: int) -> list[LoadedTower]:
    """Load the towers with at least one valid hour, with a progress bar."""
    progress = tqdm(sites, desc="loading", unit="tower", disable=not OPTIONS["progress"], leave=False)
    towers = [LoadedTower.load(inputs, site, context) for site in progress]
    return [tower for tower in towers if tower is not None]


def join_patches(towers: list[LoadedTower]) -> list[LoadedTower]:
    """Let all towers share one array of patches, and shift their ``patch_index`` accordingly."""
    stacks = [tower.patches for tower in towers if tower.patches is not None]
    if not stacks:
        return towers
    joined, joint = np.concatenate(stacks), []
    first = np.cumsum([0, *(len(stack) for stack in stacks)])
    for tower, offset in zip(towers, first, strict=False):
        index = tower.data["patch_index"].values
        data = tower.data.assign(patch_index=("time", np.where(index < 0, index, index + offset)))
        joint.append(dataclasses.replace(tower, data=data, patches=joined))
    return joint


def blocks(tower: LoadedTower, context: int) -> Iterator[Block]:
    """Cut a tower into overlapping blocks of :data:`BLOCK_HOURS`, and skip those without a valid target.

    Parameters
    ----------
    tower : LoadedTower
        One tower's inputs.
    context : int
        Number T of hours in a window.

    Yields
    ------
    Block
        All blocks have the same length: the last one is padded with missing hours, since xbatcher would
        drop an incomplete one. Every hour with a target is predicted in exactly one block.
    """
    data = tower.data
    missing = -(data.sizes["time"] - context + 1) % BLOCK_HOURS
    fill = {"hourly": np.nan, "target": np.nan, "state": np.nan, "patch_index": -1}
    padded = data.drop_vars("time").pad(
        time=(0, missing), constant_values={name: fill[str(name)] for name in data.data_vars}
    )
    generator = xbatcher.BatchGenerator(
        padded,
        # With all dims, because xbatcher stacks the others of all variables into one.
        input_dims={str(dim): size for dim, size in padded.sizes.items()}
        | {"time": BLOCK_HOURS + context - 1},
        input_overlap={"time": context - 1} if context > 1 else {},
    )
    for number, block in enumerate(generator):
        target = block["target"].values
        if np.isfinite(target[context - 1 :]).any():
            index, state = (
                block[name].values if name in block else None for name in ("patch_index", "state")
            )
            start = tower.start + number * BLOCK_HOURS
            yield Block(tower.site, start, block["hourly"].values, target, index, state)


class Windows:
    """All windows of several towers that end with a valid target, held in memory.

    Parameters
    ----------
    towers : list of LoadedTower
        At least one tower.
    context : int
        Number T of hours in a window.

    Attributes
    ----------
    site, hour : Tensor
        Positions of each window's tower and predicted hour, shape ``(len(self),)``.
    patches : Tensor or None
        Patches of all towers, shape ``(P, C, 8, 8)``.
    """

    def __init__(self, towers: list[LoadedTower], context: int) -> None:
        towers = join_patches(towers)
        cut = [block for tower in towers for block in blocks(tower, context)]
        self.context = context
        self._hourly = torch.from_numpy(np.stack([block.hourly for block in cut]))  # (n, block + T - 1, V)
        self._target = torch.from_numpy(np.stack([block.target for block in cut]))  # (n, block + T - 1)
        self._patch_index: Tensor | None = None  # (n, block + T - 1)
        self._state: Tensor | None = None  # (n, block + T - 1, M)
        states = [block.state for block in cut if block.state is not None]
        if states:
            self._state = torch.from_numpy(np.stack(states))
        self.block, self.offset = torch.nonzero(torch.isfinite(self.target[:, :, -1]), as_tuple=True)
        self._block_site = [block.site for block in cut]
        self.site = torch.tensor(self._block_site)[self.block]
        self.hour = torch.tensor([block.start for block in cut])[self.block] + self.offset + context - 1
        self.patches: Tensor | None = None
        if towers[0].patches is not None:
            self.patches = torch.from_numpy(towers[0].patches)
            index = [block.patch_index for block in cut if block.patch_index is not None]
            self._patch_index = torch.from_numpy(np.stack(index))

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.block)

    @property
    def hourly(self) -> Tensor:
        """View of all windows, ``(n, block, T, V)``."""
        return self._hourly.unfold(1, self.context, 1).transpose(2, 3)

    @property
    def target(self) -> Tensor:
        """View of all windows, ``(n, block, T)``."""
        return self._target.unfold(1, self.context, 1)

    @property
    def patch_index(self) -> Tensor | None:
        """View of all windows, ``(n, block, T)``."""
        return None if self._patch_index is None else self._patch_index.unfold(1, self.context, 1)

    @property
    def state(self) -> Tensor | None:
        """View of all windows, ``(n, block, T, M)``."""
        return None if self._state is None else self._state.unfold(1, self.context, 1).transpose(2, 3)

    def state_sums(self, sites: int, origin: NDArray[np.float64], power: int) -> NDArray[np.float64]:
        """Sums of powers of the state less ``origin (M,)`` over the hours of each tower, ``(sites, M)``."""
        sums = np.zeros((sites, len(origin)))
        if self._state is not None:
            for site, block in zip(self._block_site, self._state, strict=True):
                values = block.cpu().numpy().astype(np.float64) - origin
                sums[site] += np.where(np.isnan(values), 0.0, values**power).sum(0)
        return sums

    @property
    def nbytes(self) -> int:
        """Size of the windows in memory [bytes]."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, Tensor))

    def to(self, device: torch.device | str) -> Windows:
        """Move the windows to a device; batches are gathered there."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device))
        return moved

    def predicted(self) -> Tensor:
        """Target of each window's last hour, shape ``(len(self),)``."""
        return self._target[self.block, self.offset + self.context - 1]

    def targets(self, index: Tensor) -> Tensor:
        """Target of each hour of the windows at ``index``, shape ``(B, T)``; NaN where missing."""
        index = index.to(self.block.device)
        return self.target[self.block[index], self.offset[index]]

    def batch(self, index: Tensor) -> Batch:
        """Gather windows.

        Parameters
        ----------
        index : Tensor
            Positions of the windows, int64, shape ``(B,)``.

        Returns
        -------
        Batch
            The windows, with only the patches that enter in one of them.
        """
        index = index.to(self.block.device)
        block, offset = self.block[index], self.offset[index]
        patch_index = None if self.patch_index is None else self.patch_index[block, offset]  # (B, T)
        state = None if self.state is None else self.state[block, offset]  # (B, T, M)
        inputs = ModelInputs(self.hourly[block, offset], self.patches, patch_index, state=state)
        return Batch(inputs.compact(), self.target[block, offset])


def load_windows(inputs: xr.Dataset, context: int, sites: Sequence[int] | None = None) -> Windows | None:
    """Load every window of towers into memory.

    Parameters
    ----------
    inputs : xarray.Dataset
        From :func:`xcarbon.prep.inputs.model_inputs`, with a target.
    context : int
        Number T of hours in a window.
    sites : sequence of int, optional
        Positions of the towers to load; by default all.

    Returns
    -------
    Windows or None
        The windows, tower by tower; None if no hour has a target and a full window.
    """
    towers = load_towers(inputs, range(inputs.sizes["site"]) if sites is None else sites, context)
    return Windows(towers, context) if towers else None
