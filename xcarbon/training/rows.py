"""Training data of boosted trees: one row for each hour, in this process or on the workers of a cluster."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import dask
import dask.array as da
import numpy as np
import xarray as xr
import xgboost
from dask.delayed import delayed
from numpy.typing import NDArray
from tqdm.auto import tqdm
from xgboost import collective

from xcarbon.core.conventions import HOUR
from xcarbon.core.interrupts import interruptible
from xcarbon.core.options import OPTIONS, progress_bar
from xcarbon.core.variables import state_groups
from xcarbon.core.workers import WorkersLostError
from xcarbon.models.boosting import BoostedTreesConfig, hour_features
from xcarbon.models.inputs import ModelInputs
from xcarbon.prep.patches import patch_index
from xcarbon.prep.statics import stack_statics
from xcarbon.training.arrays import empty

if TYPE_CHECKING:
    from xcarbon.training.boosting_config import BoostingConfig

#: Size [bytes] of a feature of an hour, as float32 and in bins, and of what XGBoost adds for each hour. A
#: feature without missing values needs only 1 byte in bins.
FEATURE_BYTES, HOUR_BYTES = 4 + 5, 60
#: Size [bytes] of the features that are passed to XGBoost at once. If the bins are on disk, those of several
#: such pages are in memory. Smaller pages cost more time.
PAGE_BYTES = 100_000_000
#: Root mean squared errors [units of the target] after each tree, by set (``train``, ``val``) and metric.
History = dict[str, dict[str, list[float]]]
#: Features and targets.
Pair: TypeAlias = tuple[NDArray[np.float32], ...]


class TowerRows(NamedTuple):
    """The n hours of a tower that have all targets and a full window, lazily; each array is one chunk."""

    site: int  # position of the tower in the Dataset
    features: da.Array  # (n, F)
    target: da.Array  # (n, targets), in their units


class Draw(NamedTuple):
    """Random choice of hours of a tower, and of groups of state features that are masked."""

    share: float  # of the hours with all targets that are rows [1]
    dropout: float  # probability that the site features or a group of the state are masked in an hour
    seed: Any  # for numpy.random.default_rng


def tower_rows(inputs: xr.Dataset, config: BoostedTreesConfig, draw: Draw) -> list[TowerRows]:
    """Find the rows of each tower that has any, reading only the targets of the ``model_inputs``."""
    towers = [inputs.isel(site=site, drop=True) for site in range(inputs.sizes["site"])]
    with progress_bar("counting hours"):
        spans = dask.compute(*(delayed(_span)(tower["target"].data, config.min_context) for tower in towers))
    statics: Sequence[Any] = [None] * len(towers)
    if config.statics:
        statics = list(dask.compute(stack_statics(inputs, config.statics))[0])
    rows = []
    for site, (tower, (start, stop, count)) in enumerate(zip(towers, spans, strict=True)):
        if count:
            own = draw._replace(seed=[draw.seed, site])
            part = tower.isel(time=slice(start, stop))
            rows.append(TowerRows(site, *_read(part, statics[site], count, config, own)))
    return rows


def _span(target: NDArray[np.float32], context: int) -> tuple[int, int, int]:
    """Return the start of the first window, the end of the last one and the number of windows."""
    starts = np.flatnonzero(np.isfinite(target[context - 1 :]).all(axis=1))
    return (int(starts[0]), int(starts[-1]) + context, starts.size) if starts.size else (0, 0, 0)


def _read(
    tower: xr.Dataset, statics: NDArray[np.float32] | None, count: int, config: BoostedTreesConfig, draw: Draw
) -> tuple[da.Array, da.Array]:
    """Features and targets of a tower, lazily, computed by one task."""
    time = tower["time"].values
    day = patches = None
    if "patch" in tower:
        day = tower["day"].values
        within = np.flatnonzero((day >= time[0].astype("datetime64[D]")) & (day <= time[-1]))
        day, patches = day[within], tower["patch"].isel(day=within).data
    arrays = (tower[name].data if name in tower else None for name in ("hourly", "target", "state"))
    features, target = delayed(_tower_rows, nout=2)(*arrays, statics, time[0], day, patches, config, draw)
    rows = math.ceil(count * draw.share)
    shape, targets = (rows, len(config.features)), (rows, len(config.targets))
    return da.from_delayed(features, shape, np.float32), da.from_delayed(target, targets, np.float32)


def _tower_rows(
    hourly: NDArray[np.float32],
    target: NDArray[np.float32],
    state: NDArray[np.float32] | None,
    statics: NDArray[np.float32] | None,
    start: np.datetime64,
    day: NDArray[np.datetime64] | None,
    patches: NDArray[np.float32] | None,
    config: BoostedTreesConfig,
    draw: Draw,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernel of :func:`_read`: ``(hours + T - 1, V), ... -> (n, F), (n, targets)``."""
    index = None
    if patches is not None and day is not None:
        stamps = np.arange(start, start + len(hourly) * HOUR, HOUR)
        usable = np.asarray(np.isfinite(patches).all(axis=(1, 2, 3)))
        index = patch_index(stamps, day, usable)
    before = config.min_context - 1
    rows = np.flatnonzero(np.isfinite(target[before:]).all(axis=1)) + before
    generator = np.random.default_rng(draw.seed)
    if draw.share < 1:
        rows = np.sort(generator.choice(rows, math.ceil(len(rows) * draw.share), replace=False))
    features = hour_features(config, ModelInputs(hourly, patches, index, statics, state))[rows]
    if draw.dropout:
        _mask(features, config, draw.dropout, generator)
    order = _leaf_order(features, target[rows, 0])
    return features[order], target[rows][order]


def _mask(
    features: NDArray[np.float32], config: BoostedTreesConfig, dropout: float, generator: np.random.Generator
) -> None:
    """Mask the site features and each group of state features, each in other hours."""
    first = len(config.features) - len(config.state)
    groups = [[first + number for number in group] for group in state_groups(config.state)]
    for group in [list(range(first - len(config.site_features), first)), *groups]:
        masked = np.flatnonzero(generator.random(len(features)) < dropout)
        features[masked[:, np.newaxis], group] = np.nan


def _leaf_order(features: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.int64]:
    """Order of the hours by the leaves of a small tree, ``(n, F), (n,) -> (n,)``.

    Most hours of a leaf of later trees are then neighbours in memory, which makes the training nearly a fifth
    faster than with hours in the order of time.
    """
    matrix = xgboost.QuantileDMatrix(features, target, nthread=1)
    tree = xgboost.train({"tree_method": "hist", "max_depth": 6, "nthread": 1}, matrix, 1)
    return tree.predict(matrix, pred_leaf=True).ravel().argsort(kind="stable")


def memory_of(rows: Sequence[TowerRows]) -> int:
    """Memory that a training on rows needs [bytes], or their files at most."""
    return sum(FEATURE_BYTES * tower.features.size + HOUR_BYTES * len(tower.target) for tower in rows)


class LocalRows:
    """Rows in one process, as float32 and, for the training, as bins of ``hist``.

    Parameters
    ----------
    towers : sequence of pairs of numpy.ndarray
        Features ``(n, F)`` and targets ``(n, targets)`` of each tower, float32.
    features : sequence of str
        Names of the features.
    pages : sequence of pairs of numpy.ndarray, optional
        The same rows in the pieces that are passed to XGBoost at once; by default the towers.
    folder : pathlib.Path, optional
        Folder for files with the bins, which are in memory by default; the trees are the same.
    """

    def __init__(
        self,
        towers: Sequence[Pair],
        features: Sequence[str],
        pages: Sequence[Pair] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.towers, self.names, self.folder = towers, list(features), folder
        self.pages = towers if pages is None else pages
        self.sizes = [len(target) for _, target in towers]

    @classmethod
    def read(
        cls, rows: Sequence[TowerRows], features: Sequence[str], folder: Path | None = None
    ) -> LocalRows:
        """Read the rows of all towers into memory or, if there is a folder, into a file there."""
        ends = np.cumsum([len(tower.target) for tower in rows]).tolist()
        arrays = empty((ends[-1], len(features)), folder), empty((ends[-1], rows[0].target.shape[1]), None)
        towers = [tuple(array[slice(*part)] for array in arrays) for part in itertools.pairwise([0, *ends])]
        lazy = [array for tower in rows for array in (tower.features, tower.target)]
        with progress_bar("reading"):
            da.store(lazy, list(itertools.chain(*towers)), lock=False, scheduler="threads")
        page = max(1, PAGE_BYTES // (4 * len(features)))
        starts = range(0, ends[-1], page)
        pages = [tuple(array[start : start + page] for array in arrays) for start in starts]
        return cls(towers, features, pages, folder)

    @functools.cached_property
    def matrix(self) -> xgboost.QuantileDMatrix | xgboost.ExtMemQuantileDMatrix:
        """Rows in bins, which all trainings share."""
        return self._matrix()

    def _matrix(
        self, ref: xgboost.DMatrix | None = None
    ) -> xgboost.QuantileDMatrix | xgboost.ExtMemQuantileDMatrix:
        """Rows in bins of their own, or in those of ``ref``."""
        # XGBoost ignores a KeyboardInterrupt in its calls for the next page, and would train without it.
        with interruptible() as interrupted:
            try:
                if self.folder is None:
                    return xgboost.QuantileDMatrix(_Batches(self.pages, self.names), ref=ref)
                batches = _Batches(self.pages, self.names, str(self.folder / "bins"))
                return xgboost.ExtMemQuantileDMatrix(batches, ref=ref)
            finally:
                if interrupted():
                    raise KeyboardInterrupt

    def variance(self) -> float:
        """Sum of the variances of the targets over all rows."""
        return float(np.concatenate([target for _, target in self.towers]).var(0, dtype=np.float64).sum())

    def train(
        self,
        training: BoostingConfig,
        *,
        val: Any = None,
        held_out: NDArray[np.bool_] | None = None,
        progress: Any = None,
    ) -> tuple[xgboost.Booster, History]:
        """Train trees without the towers of the mask ``held_out``; score ``val`` after each tree."""
        self.matrix.set_weight(np.repeat(_weights(held_out, self.sizes), self.sizes))
        history: Any = {}
        booster = xgboost.train(
            training.parameters(),
            self.matrix,
            training.n_estimators,
            evals=[(self.matrix, "train"), *([] if val is None else [(val._matrix(self.matrix), "val")])],
            evals_result=history,
            verbose_eval=False,
            callbacks=_callbacks(training, val) + ([] if progress is None else [_Progress(progress)]),
        )
        return booster, history

    def squared_error(self, booster: xgboost.Booster, chosen: NDArray[np.bool_]) -> float:
        """Sum of squared errors over the rows of the chosen towers."""
        return sum(_squared_error(booster, *self.towers[tower]) for tower in np.flatnonzero(chosen).tolist())


class ClusterRows:
    """Rows in the memory of the workers of a cluster; each worker trains on the rows that it has read."""

    def __init__(self, client: Any, rows: Sequence[TowerRows], features: Sequence[str]) -> None:
        self.client, self.names = client, list(features)
        self.shapes = [tower.target.shape for tower in rows]
        self.sizes = [size for size, _ in self.shapes]
        pairs = ([array.to_delayed().item() for array in (tower.features, tower.target)] for tower in rows)
        self.towers = client.compute([delayed(pair) for pair in pairs])
        self._holders()

    def _holders(self) -> list[str]:
        """Read the rows that are not in memory, and return the address of a worker that holds each tower."""
        from dask.distributed import as_completed, wait

        while True:
            done, hidden = as_completed(self.towers), not OPTIONS["progress"]
            for future in tqdm(done, "reading", len(self.towers), unit="tower", disable=hidden, delay=2):
                if error := future.exception():  # the result would be sent to this process
                    raise error
            wait(self.towers)  # raises an error if they were cancelled
            holders = self.client.who_has(self.towers)
            if all(holders.values()):  # otherwise, a worker has been lost in the meantime
                return [min(holders[tower.key]) for tower in self.towers]

    def variance(self) -> float:
        """Sum of the variances of the targets over all rows."""
        pairs = zip(self.towers, self.shapes, strict=True)
        target = [da.from_delayed(delayed(tower)[1], shape, np.float32) for tower, shape in pairs]
        variance = da.concatenate(target).var(0, dtype=np.float64).sum()
        return float(self.client.compute(variance).result())

    def train(
        self,
        training: BoostingConfig,
        *,
        val: Any = None,
        held_out: NDArray[np.bool_] | None = None,
        progress: Any = None,
    ) -> tuple[xgboost.Booster, History]:
        """Train trees, as :meth:`LocalRows.train`; XGBoost reports no progress from a cluster.

        If a worker is lost, its rows are read again and the training starts again.
        """
        lost = set[str]()
        limits = [of["memory_limit"] for of in self.client.scheduler_info()["workers"].values()]
        for _ in range(1 + dask.config.get("distributed.scheduler.allowed-failures")):
            parts = self._parts(val, held_out)
            try:
                return self.client.sync(self._train, training, parts)
            except Exception:
                listed = self.client.nthreads().keys() & parts
                # A worker that does not answer has been lost, too.
                alive = self.client.run(os.getpid, workers=list(listed), on_error="ignore").keys()
                if alive == parts.keys():
                    raise
                lost |= parts.keys() - alive
                with suppress(KeyError):  # another worker has been lost in the meantime
                    # XGBoost of the others would wait for the lost worker without a limit of time.
                    self.client.restart_workers(list(alive), raise_for_error=False)
        raise WorkersLostError("a worker during each attempt", lost, max(limits, default=0))

    def _parts(self, val: Any, held_out: NDArray[np.bool_] | None) -> dict[str, tuple[Any, ...]]:
        """Towers of each worker that holds any, whether they are held out, and towers of ``val``."""
        holders = self._holders()
        parts: dict[str, tuple[Any, ...]] = {
            worker: ([], [], None if val is None else []) for worker in sorted(set(holders))
        }
        for tower, worker in enumerate(holders):
            parts[worker][0].append(self.towers[tower])
            parts[worker][1].append(held_out is not None and held_out[tower])
        for tower, worker in enumerate([] if val is None else val._holders()):
            # Rows of ``val`` on a worker that holds no rows of the training are moved to another worker.
            moved = list(parts.values())[tower % len(parts)]
            parts.get(worker, moved)[2].append(val.towers[tower])
        return parts

    async def _train(
        self, training: BoostingConfig, parts: dict[str, tuple[Any, ...]]
    ) -> tuple[xgboost.Booster, History]:
        """Train once; raise an error if a worker is lost."""
        first = next(iter(parts))
        started = await self.client.run(_start_tracker, len(parts), workers=[first])
        tasks = []
        for worker, part in parts.items():
            with dask.annotate(workers=worker):
                tasks.append(delayed(_train_part)(*part, self.names, training, started[first]))
        futures = self.client.compute(tasks)
        while {"pending"} <= {each.status for each in futures} <= {"pending", "finished"}:
            if not parts.keys() <= (await self.client.nthreads()).keys():
                raise RuntimeError("a worker was lost")
            await asyncio.sleep(0.1)
        return next(each for each in await self.client.gather(futures) if each is not None)

    def squared_error(self, booster: xgboost.Booster, chosen: NDArray[np.bool_]) -> float:
        """Sum of squared errors over the rows of the chosen towers."""
        trees = delayed(booster)
        towers = [delayed(self.towers[tower]) for tower in np.flatnonzero(chosen)]
        errors = [delayed(_squared_error)(trees, tower[0], tower[1]) for tower in towers]
        return sum(self.client.gather(self.client.compute(errors)))


async def _start_tracker(workers: int, dask_worker: Any) -> dict[str, Any]:
    """Start XGBoost's tracker, through which workers find each other, in a process beside this worker.

    The tracker ends its process if it cannot send to a lost worker, so that it must not be that of the
    scheduler, in which ``xgboost.dask`` starts it.
    """
    from distributed.comm import get_address_host

    host = get_address_host(dask_worker.address)
    command = [sys.executable, "-m", "xcarbon.training.tracker", str(workers), host]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    arguments: dict[str, Any] = json.loads(await asyncio.to_thread(process.stdout.readline))
    return arguments


def _train_part(
    towers: list[Any],
    held_out: list[bool],
    val: list[Any] | None,
    names: list[str],
    training: BoostingConfig,
    addresses: dict[str, Any],
) -> tuple[xgboost.Booster, History] | None:
    """Train on the rows of this worker, together with the other workers; one of them returns the trees."""
    from dask.distributed import get_worker

    worker = get_worker()
    empty = [[np.empty_like(array[:0]) for array in towers[0]]]
    train, *scored = (
        # Arrays that come from another worker may not be aligned, which XGBoost requires.
        LocalRows([tuple(np.require(array, None, "A") for array in pair) for pair in pairs], names)
        for pairs in ([towers] if val is None else [towers, val or empty])
    )
    with (
        collective.CommunicatorContext(**addresses, dmlc_task_id=f"{worker.name} {worker.address}"),
        xgboost.config_context(nthread=worker.state.nthreads),
    ):
        trained = train.train(training, val=scored[0] if scored else None, held_out=np.array(held_out))
        return trained if collective.get_rank() == 0 else None


Rows: TypeAlias = LocalRows | ClusterRows


class _Batches(xgboost.DataIter):
    """Iterator that passes the rows to XGBoost page by page; their bins are in files if ``prefix`` is set."""

    def __init__(self, pages: Sequence[Pair], names: list[str], prefix: str | None = None) -> None:
        self.pages, self.names, self.position = pages, names, 0
        super().__init__(prefix)

    def reset(self) -> None:
        """Return to the first page; XGBoost reads the rows several times."""
        self.position = 0

    def next(self, input_data: Callable[..., Any]) -> bool:
        """Pass the next page; return False after the last one."""
        if self.position == len(self.pages):
            return False
        features, target = self.pages[self.position]
        input_data(data=features, label=target, feature_names=self.names)
        self.position += 1
        return True


class _Progress(xgboost.callback.TrainingCallback):
    """Callback that advances a progress bar with each tree."""

    def __init__(self, progress: Any) -> None:
        self.progress = progress

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Show the errors; return False so that XGBoost continues."""
        self.progress.set_postfix({name: f"{scores['rmse'][-1]:.3f}" for name, scores in evals_log.items()})
        self.progress.update()
        return False


def _callbacks(training: BoostingConfig, val: Rows | None) -> list[xgboost.callback.TrainingCallback]:
    """Early stopping, if it is set and there are validation rows."""
    if training.early_stopping_rounds is None or val is None:
        return []
    return [xgboost.callback.EarlyStopping(rounds=training.early_stopping_rounds, save_best=True)]


def _weights(held_out: NDArray[np.bool_] | None, sizes: Sequence[int]) -> NDArray[np.float32]:
    """Weight of the rows of each tower; 0 for held-out towers, which influence the bins but not the trees."""
    used = np.ones(len(sizes), bool) if held_out is None else ~held_out
    return used.astype(np.float32)


def _squared_error(
    booster: xgboost.Booster, features: NDArray[np.float32], target: NDArray[np.float32]
) -> float:
    """Sum of squared errors of a tower, ``(n, F), (n, targets) -> ()``."""
    error = booster.inplace_predict(features).reshape(target.shape).astype(np.float64) - target
    return float((error**2).sum())
