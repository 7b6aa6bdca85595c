"""Windows as a torch dataset, for training loops outside the package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import dask
import torch
import xarray as xr
from torch.utils.data import IterableDataset, get_worker_info

from xcarbon.core.errors import ModelError, OptionError
from xcarbon.core.options import set_options
from xcarbon.core.variables import PAPER_INPUTS, PATCH_BANDS, present
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.quality import MAX_QC
from xcarbon.training.windows import Batch, load_windows


def batches(
    ds: xr.Dataset,
    context: int = 32,
    *,
    batch_size: int = 256,
    target: str = "NEE",
    variables: Sequence[str] | None = None,
    bands: Sequence[str] | None = None,
    state: Sequence[str] = (),
    max_qc: int = MAX_QC,
    shuffle: bool = True,
    pool: int = 8,
) -> WindowBatches:
    """Return batches of windows of hours as a torch dataset, for any training loop, lazily.

    A window is the ``context`` hours that end with the predicted hour. There is one window for each hour that
    has a target and enough hours before it.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers, ``(site, time)``, or one tower, ``(time,)``.
    context : int
        Number T of hours in a window, including the predicted hour.
    batch_size : int
        Number B of windows in a batch. The last batch of a pool is smaller.
    target : str
        Code of the variable to predict.
    variables : sequence of str, optional
        The V hourly predictors, in this order; by default those of the paper's 21 that ``ds`` has.
    bands : sequence of str, optional
        The C patch bands, in this order; by default all nine if ``ds`` has patches.
    state : sequence of str
        The M state features, in this order: causal means of the past of hourly variables, named as in
        ``TA_30D`` (:func:`xcarbon.core.variables.memory_features`), and satellite series, such as ``LAI``.
    max_qc : int
        Highest quality flag of the hours that are used. Predictors and targets with a higher flag are
        missing.
    shuffle : bool
        Whether towers, and the windows within a pool of towers, are in random order, another one in each
        epoch. As in torch, ``torch.manual_seed`` makes the order reproducible. If false, windows are in the
        order of towers and hours.
    pool : int
        Number of towers whose windows are mixed, and which are held in memory at a time, by each worker.

    Returns
    -------
    WindowBatches
        A :class:`torch.utils.data.IterableDataset`. Nothing is computed until it is iterated over. Each
        iteration is one epoch and yields pairs ``inputs, target`` of tensors:

        - ``inputs.hourly (B, T, V)``: the predictors [1] float32, scaled by the fixed bounds of the
          vocabulary to [-0.5, 0.5], cyclic ones to [-1, 1); NaN where missing;
        - ``inputs.state (B, T, M)``: the state features in their units, float32, NaN where missing; None
          without ``state``;
        - ``inputs.patches (P, C, 8, 8)``: the patches that enter in one of the windows: reflectance [1], snow
          and water flags, float32, -1 where fill; None without patches;
        - ``inputs.patch_index (B, T)``: position in ``inputs.patches`` of the patch that enters at an hour,
          int64, -1 for none; None without patches;
        - ``target (B, T)``: the flux of each hour in its units, such as [umol m-2 s-1], float32. It is never
          NaN in the last hour; it is NaN where missing in the hours before.

    Raises
    ------
    OptionError
        If ``context``, ``batch_size`` or ``pool`` is less than 1, or ``max_qc`` is negative.
    VariableError
        If a variable is unknown, a predictor is a target, or ``ds`` does not contain the target or any
        predictor.
    ModelError
        During the iteration in one process, if no hour has a target and enough hours before it.

    Notes
    -----
    Pass the dataset to ``torch.utils.data.DataLoader(..., batch_size=None, num_workers=2)`` to read towers
    in other processes: each worker reads its share of the towers, so that each window is yielded once in an
    epoch. There should be several towers for each worker. Blocks of some weeks are cut from the towers by
    xbatcher, and windows are views of the blocks.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(2, patches=False)
    >>> for inputs, target in batches(towers, variables=["DOY", "TOD", "TA"], batch_size=64):
    ...     break
    >>> inputs.hourly.shape, target.shape
    (torch.Size([64, 32, 3]), torch.Size([64, 32]))
    """
    if bands is None:
        bands = PATCH_BANDS if "reflectance" in ds else ()
    if variables is None:
        variables = present(PAPER_INPUTS, ds)
    inputs = model_inputs(ds, variables, bands, state=state, target=target, max_qc=max_qc)
    return WindowBatches(inputs, context, batch_size=batch_size, shuffle=shuffle, pool=pool)


class WindowBatches(IterableDataset[Batch]):
    """Batches of windows of the inputs of a model, with a few towers in memory at a time.

    Parameters
    ----------
    inputs : xarray.Dataset
        From :func:`xcarbon.prep.inputs.model_inputs`, with a target.
    context : int
        Number T of hours in a window.
    batch_size : int
        Number B of windows in a batch.
    shuffle : bool
        Whether towers and windows are in random order.
    pool : int
        Number of towers that are held in memory at a time.
    """

    def __init__(
        self, inputs: xr.Dataset, context: int, *, batch_size: int, shuffle: bool, pool: int
    ) -> None:
        for name, value in (("context", context), ("batch_size", batch_size), ("pool", pool)):
            if value < 1:
                raise OptionError(f"{name} must be 1 or more, found {value}")
        self.inputs, self.context = inputs, context
        self.batch_size, self.shuffle, self.pool = batch_size, shuffle, pool

    def __iter__(self) -> Iterator[Batch]:
        """Yield every window of this worker's towers once."""
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        sites = torch.arange(first, self.inputs.sizes["site"], step)
        found = False
        for chosen in self._ordered(sites).split(self.pool):
            for batch in self._pool(chosen.tolist(), in_worker=worker is not None):
                found = True
                yield batch
        if not found and worker is None:
            raise ModelError(
                f"none of {self.inputs.sizes['site']} towers has an hour with a target at the end of "
                f"{self.context} hours: use other towers, a shorter context or a higher max_qc"
            )

    def _ordered(self, values: torch.Tensor) -> torch.Tensor:
        """Put values into the order of this epoch, with the random numbers of the process or worker."""
        return values[torch.randperm(len(values))] if self.shuffle else values

    def _pool(self, sites: list[int], in_worker: bool) -> Iterator[Batch]:
        """Yield the windows of several towers, which leave the memory at the end."""
        # The threads of Dask and the connections of a cluster do not exist in a forked process.
        scheduler = {"scheduler": "synchronous"} if in_worker else {}
        with set_options(progress=False), dask.config.set(scheduler):
            windows = load_windows(self.inputs, self.context, sites)
        if windows is None:
            return
        for index in self._ordered(torch.arange(len(windows))).split(self.batch_size):
            yield windows.batch(index)
