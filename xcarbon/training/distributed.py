"""Training on one process or on several: how towers are distributed, and how results are summed.

If ``torchrun`` started several processes, each process holds a share of the towers and computes those
samples of a batch that belong to them. Batches, their order and the masked observations are drawn as if one
process held all towers, and gradients and errors are summed over the processes. The learning curve
therefore does not depend on the number of processes; memory and loading time of a process are divided by
it.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
import xarray as xr
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from xcarbon.core.errors import ModelError
from xcarbon.core.options import OPTIONS, set_options
from xcarbon.training.moments import TowerMoments, pooled
from xcarbon.training.windows import SERIES, Batch, valid_hours


def join_processes(precision: str) -> Fabric:
    """Launch lightning-fabric on the processes that ``torchrun`` started, or on this process alone.

    All processes but the first switch off their progress bars.
    """
    if not torch.distributed.is_torchelastic_launched():
        return Fabric(accelerator=OPTIONS["device"], devices=1, precision=precision)  # type: ignore[arg-type]
    # Buffers are equal in all processes, and a process without windows would not take part in their exchange.
    # Older versions of torch have another name for this setting.
    names = inspect.signature(DistributedDataParallel).parameters
    exchange = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
    settings: dict[str, Any] = {exchange: False}
    fabric = Fabric(
        accelerator=OPTIONS["device"],
        devices=int(os.environ["LOCAL_WORLD_SIZE"]),
        num_nodes=int(os.environ["GROUP_WORLD_SIZE"]),
        # A micro batch without patches does not use the weights of the bands.
        strategy=DDPStrategy(find_unused_parameters=True, **settings),
        precision=precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    if fabric.global_rank:
        set_options(progress=False)
    return fabric


def total(fabric: Fabric, values: Tensor) -> Tensor:
    """Sum values over all processes; the result is on the CPU."""
    if fabric.world_size == 1:
        return values.cpu()
    return fabric.all_reduce(values.clone(), reduce_op="sum").cpu()  # type: ignore[union-attr]


class Samples(Protocol):
    """Training samples of some towers: :class:`~xcarbon.training.windows.Windows` or sequences of hours."""

    counts: dict[int, int]
    moments: TowerMoments

    def batch(self, index: Tensor) -> Batch:
        """Gather samples."""


Held = TypeVar("Held", bound=Samples)


class Shard(Generic[Held]):
    """The samples of the share of the towers that this process holds, numbered over all processes.

    Parameters
    ----------
    fabric : Fabric
        The processes.
    inputs : xarray.Dataset
        From :func:`xcarbon.prep.inputs.model_inputs`, with a target.
    context : int
        Number T of hours before a target, including its own, without which it is not used.
    load : callable
        Loads the samples of the towers at these positions; None if there are none.
    """

    def __init__(
        self,
        fabric: Fabric,
        inputs: xr.Dataset,
        context: int,
        load: Callable[[Sequence[int]], Held | None],
    ) -> None:
        self.fabric = fabric
        sites = inputs.sizes["site"]
        first = inputs.isel(site=0, time=0)
        self._columns = {name: first[name].size for name in SERIES if name in inputs}
        held = load(range(sites) if fabric.world_size == 1 else self._share(inputs, context))
        self._moments = TowerMoments() if held is None else held.moments
        counts = torch.zeros(sites, dtype=torch.int64)
        for site, count in ({} if held is None else held.counts).items():
            counts[site] = count
        self._samples = held if counts.any() else None
        everywhere = total(fabric, counts)
        self._ends = everywhere.cumsum(0)  # (sites,)
        self._held = counts > 0  # (sites,)
        self._shift = counts.cumsum(0) - counts - (self._ends - everywhere)  # (sites,)

    def __len__(self) -> int:
        """Number of samples of all processes."""
        return int(self._ends[-1])

    def find(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Find the samples of ``index (B,)`` that this process holds: positions in ``samples``, and rows."""
        site = torch.searchsorted(self._ends, index, right=True)  # (B,)
        rows = torch.nonzero(self._held[site]).squeeze(1)
        return index[rows] + self._shift[site[rows]], rows

    @property
    def samples(self) -> Held:
        """The samples that this process holds."""
        if self._samples is None:
            raise ModelError(
                f"process {self.fabric.global_rank + 1} of {self.fabric.world_size} has no tower: "
                "start at most as many processes as there are towers with a target"
            )
        return self._samples

    def target_moments(self) -> list[tuple[float, float]]:
        """Mean and standard deviation of each target, for any number of processes."""
        mean, std = self._pooled("target", ddof=1)
        return [(middle, width or 1.0) for middle, width in zip(mean.tolist(), std.tolist(), strict=True)]

    def input_moments(self, name: str) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each column of "hourly" or "state", ``(n,)``; NaN without values."""
        mean, std = self._pooled(name, ddof=0)
        return torch.from_numpy(mean).float(), torch.from_numpy(std).float()

    def _pooled(self, name: str, ddof: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pool the moments of the towers of all processes."""
        own = self._moments.by_tower(name, len(self._ends), self._columns.get(name, 0))
        return pooled(total(self.fabric, torch.from_numpy(own)).numpy(), ddof)

    def _share(self, inputs: xr.Dataset, context: int) -> list[int]:
        """Distribute the towers, the longest first, so that processes have similar numbers of targets."""
        counts = torch.zeros(inputs.sizes["site"], dtype=torch.int64)
        for site in range(self.fabric.global_rank, len(counts), self.fabric.world_size):
            counts[site] = len(valid_hours(inputs["target"].isel(site=site).values, context))
        order = total(self.fabric, counts).sort(descending=True, stable=True)
        shares: list[list[int]] = [[] for _ in range(self.fabric.world_size)]
        loads = [0] * self.fabric.world_size
        for count, site in zip(order.values.tolist(), order.indices.tolist(), strict=True):
            lightest = loads.index(min(loads))
            loads[lightest] += count
            shares[lightest].append(site)
        return sorted(shares[self.fabric.global_rank])
