"""Windows of consecutive hours that end with the predicted one.

One xbatcher window per sample would take microseconds to list and hundreds of microseconds to read, which
adds up to days for the published dataset. Instead, xbatcher yields *blocks* of one tower by several weeks,
which overlap by the length of a window less one hour. The windows are strided views of a block; data is
copied only when a batch is gathered.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
import xbatcher
from torch import Tensor
from tqdm.auto import tqdm

from xcarbon.core.options import OPTIONS
from xcarbon.models.inputs import ModelInputs
from xcarbon.prep.patches import patch_index
from xcarbon.training.arrays import Arrays
from xcarbon.training.moments import TowerMoments

#: Predicted hours in a block: eight weeks.
BLOCK_HOURS = 8 * 7 * 24
#: Arrays with values at each hour, in the inputs of a model and in a tower.
SERIES = ("hourly", "target", "state")


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
        names = [name for name in SERIES if name in tower]
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


def load_towers(inputs: xr.Dataset, sites: Sequence[int], context: int) -> Iterator[LoadedTower]:
    """Load the towers with at least one valid hour one by one, with a progress bar.

    ``patch_index`` is the position of a patch among those of all towers.
    """
    patches = 0
    for site in tqdm(sites, desc="loading", unit="tower", disable=not OPTIONS["progress"], leave=False):
        tower = LoadedTower.load(inputs, site, context)
        if tower is not None:
            if tower.patches is not None:
                index = tower.data["patch_index"]
                tower.data["patch_index"] = index.where(index < 0, index + patches)
                patches += len(tower.patches)
            yield tower


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
    """All windows of several towers that end with a valid target.

    Parameters
    ----------
    towers : iterable of LoadedTower
        At least one tower, from :func:`load_towers`.
    context : int
        Number T of hours in a window.
    arrays : Arrays
        Empty arrays, to which the blocks are added.

    Attributes
    ----------
    counts : dict of int to int
        Number of windows of each tower.
    moments : TowerMoments
        Moments of the predicted ``target``, and of ``state`` in all hours.
    patches : Tensor or None
        Patches of all towers, shape ``(P, C, 8, 8)``.
    """

    # In addition to the blocks, a window needs the eight bytes of its position.

    def __init__(self, towers: Iterable[LoadedTower], context: int, arrays: Arrays) -> None:
        self.context = context
        self.counts: dict[int, int] = {}
        self.moments = TowerMoments()
        positions, cut = Arrays(), list[tuple[int, int]]()
        for tower in towers:
            own = list(blocks(tower, context))
            stacks = {
                name: np.stack([getattr(block, name) for block in own])
                for name in (*SERIES, "patch_index")
                if name in tower.data
            }
            predicted = stacks["target"][:, context - 1 :]  # (n, block)
            valid = np.flatnonzero(np.isfinite(predicted))
            self.counts[tower.site] = len(valid)
            self.moments.add(tower.site, target=predicted[..., None], state=stacks.get("state"))
            positions.append(position=valid + len(cut) * predicted.shape[1])
            arrays.append(**stacks, patches=tower.patches)
            cut += [(block.site, block.start) for block in own]
        data = arrays.tensors()
        self._hourly = data["hourly"]  # (n, block + T - 1, V)
        self._target = data["target"]  # (n, block + T - 1)
        self._patch_index = data.get("patch_index")  # (n, block + T - 1)
        self._state = data.get("state")  # (n, block + T - 1, M)
        self.patches = data.get("patches")
        self._position = positions.tensors()["position"]  # block * number of the block + offset
        self._site, self._start = torch.tensor(cut).T  # (n,), (n,)

    def __len__(self) -> int:
        """Number of windows."""
        return len(self._position)

    def _where(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of the blocks of windows, and offsets of the windows in them."""
        size = self._target.shape[1] - self.context + 1
        return position // size, position % size

    @property
    def site(self) -> Tensor:
        """Position of each window's tower, ``(len(self),)``."""
        return self._site[self._where(self._position)[0]]

    @property
    def hour(self) -> Tensor:
        """Position on the time axis of each window's predicted hour, ``(len(self),)``."""
        block, offset = self._where(self._position)
        return self._start[block] + offset + self.context - 1

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

    @property
    def nbytes(self) -> int:
        """Size of the windows and their positions [bytes]."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, Tensor))

    def to(self, device: torch.device | str) -> Windows:
        """Move the windows to a device; batches are gathered there."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device))
        return moved

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
        block, offset = self._where(self._position[index.to(self._position.device)])
        patch_index = None if self.patch_index is None else self.patch_index[block, offset]  # (B, T)
        state = None if self.state is None else self.state[block, offset]  # (B, T, M)
        inputs = ModelInputs(self.hourly[block, offset], self.patches, patch_index, state=state)
        return Batch(inputs.compact(), self.target[block, offset])


def load_windows(
    inputs: xr.Dataset,
    context: int,
    sites: Sequence[int] | None = None,
    arrays: Arrays | None = None,
) -> Windows | None:
    """Load every window of towers.

    Parameters
    ----------
    inputs : xarray.Dataset
        From :func:`xcarbon.prep.inputs.model_inputs`, with a target.
    context : int
        Number T of hours in a window.
    sites : sequence of int, optional
        Positions of the towers to load; by default all.
    arrays : Arrays, optional
        Empty arrays for the blocks; by default they are held in memory.

    Returns
    -------
    Windows or None
        The windows, tower by tower; None if no hour has a target and a full window.
    """
    towers = load_towers(inputs, range(inputs.sizes["site"]) if sites is None else sites, context)
    first = next(towers, None)
    if first is None:
        return None
    return Windows(itertools.chain([first], towers), context, Arrays() if arrays is None else arrays)
