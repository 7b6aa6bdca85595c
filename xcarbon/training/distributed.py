"""Training on one process or on several: how towers are distributed, and how results are summed.

If ``torchrun`` started several processes, each process holds a share of the towers and computes those
windows of a batch that belong to them. Batches, their order and the masked observations are drawn as if one
process held all towers, and gradients and errors are summed over the processes. The learning curve
therefore does not depend on the number of processes; memory and loading time of a process are divided by
it.
"""

from __future__ import annotations

import inspect
import os
from typing import Any

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
from xcarbon.training.windows import Batch, Windows, load_windows, valid_hours


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


class Shard:
    """The windows of the share of the towers that this process holds, numbered over all processes."""

    def __init__(self, fabric: Fabric, inputs: xr.Dataset, context: int) -> None:
        self.fabric = fabric
        sites, self._features = inputs.sizes["site"], inputs.sizes.get("feature", 0)
        share = range(sites) if fabric.world_size == 1 else self._share(inputs, context)
        self.windows = load_windows(inputs, context, share)
        counts = torch.zeros(sites, dtype=torch.int64)
        if self.windows is not None:
            counts = torch.bincount(self.windows.site, minlength=sites)
        everywhere = total(fabric, counts)
        self._ends = everywhere.cumsum(0)  # (sites,)
        self._held = counts > 0  # (sites,)
        self._shift = counts.cumsum(0) - counts - (self._ends - everywhere)  # (sites,)
        if self.windows is not None and _has_memory(fabric.device, self.windows.nbytes):
            self.windows = self.windows.to(fabric.device)

    def __len__(self) -> int:
        """Number of windows of all processes."""
        return int(self._ends[-1])

    def find(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Find the windows of ``index (B,)`` that this process holds: positions in ``windows``, and rows."""
        site = torch.searchsorted(self._ends, index, right=True)  # (B,)
        rows = torch.nonzero(self._held[site]).squeeze(1)
        return index[rows] + self._shift[site[rows]], rows

    def batch(self, own: Tensor) -> Batch:
        """Gather windows that this process holds."""
        return self._held_here().batch(own)

    def targets(self, own: Tensor) -> Tensor:
        """Target of each hour of windows that this process holds, shape ``(B, T)``."""
        return self._held_here().targets(own)

    def _held_here(self) -> Windows:
        if self.windows is None:
            raise ModelError(
                f"process {self.fabric.global_rank + 1} of {self.fabric.world_size} has no tower: "
                "start at most as many processes as there are towers with a target"
            )
        return self.windows

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation of the target over all windows, for any number of processes."""
        mean = self._sum_by_tower(0.0, 1) / len(self)
        variance = self._sum_by_tower(mean, 2) / max(1, len(self) - 1)
        return mean, variance**0.5 or 1.0

    def state_moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each state feature ``(M,)``, for any number of processes."""
        count = self._state_sums(np.zeros(self._features), 0)
        with np.errstate(invalid="ignore"):  # a feature without values has the mean NaN
            mean = self._state_sums(np.zeros(self._features), 1) / count
            std = (self._state_sums(mean, 2) / count) ** 0.5
        return torch.from_numpy(mean).float(), torch.from_numpy(std).float()

    def _state_sums(self, origin: NDArray[np.float64], power: int) -> NDArray[np.float64]:
        """Sum powers of the state less ``origin``, first within each tower and then over the towers."""
        sums = np.zeros((len(self._ends), self._features))
        if self.windows is not None:
            sums = self.windows.state_sums(len(sums), origin, power)
        return total(self.fabric, torch.from_numpy(sums)).numpy().sum(0)

    def _sum_by_tower(self, origin: float, power: int) -> float:
        """Sum powers of the target less ``origin``, first within each tower and then over the towers."""
        sums = torch.zeros(len(self._ends), dtype=torch.float64)
        if self.windows is not None:
            values = self.windows.predicted().cpu().double() - origin
            sums = torch.bincount(self.windows.site.cpu(), values**power, minlength=len(sums))
        return total(self.fabric, sums).sum().item()

    def _share(self, inputs: xr.Dataset, context: int) -> list[int]:
        """Distribute the towers, the longest first, so that processes have similar numbers of windows."""
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


def _has_memory(device: torch.device, size: int) -> bool:
    """Whether a device is a GPU with twice as much free memory as ``size`` [bytes]."""
    return device.type == "cuda" and 2 * size < torch.cuda.mem_get_info(device)[0]
