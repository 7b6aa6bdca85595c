"""What it costs to train from data on disk, compared with data in memory.

The data is that of the towers of the store and their memory of the past. If it is cold, the operating system
has nothing of it in memory when the training begins, so that each sample is read from the disk, as in data
much larger than the memory.
"""

import contextlib
import math
import multiprocessing
import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.common import SHARED_INPUTS, open_towers, report, size
from xcarbon.core.variables import memory_features
from xcarbon.training import arrays, fit, run
from xcarbon.training.arrays import Arrays

#: Towers and repetitions of the comparison of speed, and towers of the measurement of memory.
TOWERS, REPEAT, ALL = size(40, 1), size(3, 1), size(180, 1)
SETTINGS: dict[str, dict[str, Any]] = {
    "ecoperceiver": {"batch_size": size(512, 16), "max_steps": size(6, 2)},
    "streaming": {"max_steps": size(30, 2)},
}
#: Settings of the trees.
TREES: dict[str, Any] = {"features": "state", "share": 1.0, "n_estimators": size(100, 2)}
#: Data [bytes] that is held in memory when the memory is measured, and what the process may need beyond it.
LIMIT, WORK = size(200_000_000, 1000), 700_000_000


class TrainingFromDisk:
    """Training of a network at real towers."""

    timeout = 3600
    params = size(tuple(SETTINGS), ("streaming",))
    param_names = ("model",)

    def track_warm(self, kind: str) -> float:
        """Time training from memory against training from disk."""
        return compare(kind)

    def track_cold(self, kind: str) -> float:
        """Time training from memory against training from cold data on disk."""
        return compare(kind, mock.patch.object(arrays._OnDisk, "tensor", evicted))

    def track_cold_alone(self, kind: str) -> float:
        """Time training from memory against cold data on disk without the thread that gathers batches."""
        with mock.patch.object(run, "prefetch", lambda items: (item for item in items)):
            return compare(kind, mock.patch.object(arrays._OnDisk, "tensor", evicted))

    track_warm.unit = track_cold.unit = track_cold_alone.unit = "x the speed of training from memory"


class TreesFromDisk:
    """Training of trees at all real towers, in processes that hold their data in memory and on disk."""

    timeout = 3600

    def setup_cache(self) -> dict[float, tuple[float, float, str]]:
        """Train both ways, and check that the trees are the same."""
        results = {}
        for limit in (math.inf, 0):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                results[limit] = pool.apply(train_trees, (limit,))
        if len({trees for _, _, trees in results.values()}) > 1:
            raise RuntimeError("the trees from disk differ from those from memory")
        return results

    def track_speed(self, results: dict[float, tuple[float, float, str]]) -> float:
        """CPU time of training from memory against training from disk."""
        return results[math.inf][0] / results[0][0]

    def track_memory(self, results: dict[float, tuple[float, float, str]]) -> float:
        """Anonymous memory that training from memory adds to a process against training from disk."""
        return results[math.inf][1] / results[0][1]

    setup_cache.timeout = 3600  # type: ignore[attr-defined]
    track_speed.unit = "x the speed of training from memory"  # type: ignore[attr-defined]
    track_memory.unit = "x less memory than for training from memory"  # type: ignore[attr-defined]


class MemoryOfTraining:
    """Training in a process whose memory is limited, at all real towers."""

    timeout = 3600
    params = size(tuple(SETTINGS), ("streaming",))
    param_names = ("model",)

    def track_memory(self, kind: str) -> float:
        """Divide the size of the training data by the anonymous memory that a training adds to a process."""
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            data, added = pool.apply(memory_of_training, (kind,))
        return data / added

    track_memory.unit = "x more data than memory for it"


def evicted(
    part: arrays._OnDisk, tensor: Callable[[Any], torch.Tensor] = arrays._OnDisk.tensor
) -> torch.Tensor:
    """Remove the data of a file from memory before it is mapped."""
    os.fsync(part.file.fileno())
    os.posix_fadvise(part.file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return tensor(part)


def train(kind: str, towers: int, limit: float) -> tuple[float, int]:
    """Train with this limit of memory; return the time without loading [s] and the data [bytes]."""
    seconds, sizes = [], []
    steps, tensors = run.TrainingRun.train, Arrays.tensors

    def timed(*arguments: Any) -> Any:
        start = time.perf_counter()
        model = steps(*arguments)
        seconds.append(time.perf_counter() - start)
        return model

    def measured(grown: Arrays) -> dict[str, torch.Tensor]:
        sizes.append(grown.nbytes if grown.folder else 0)
        return tensors(grown)

    state = memory_features(SHARED_INPUTS)
    with (
        tempfile.TemporaryDirectory(dir=".") as folder,
        mock.patch.object(arrays, "memory_limit", lambda: limit),
        mock.patch.object(run.TrainingRun, "train", timed),
        mock.patch.object(Arrays, "tensors", measured),
    ):
        fit(open_towers(towers), kind, variables=SHARED_INPUTS, state=state, run_dir=folder, **SETTINGS[kind])
    return seconds[0], sum(sizes)


def compare(kind: str, on_disk: AbstractContextManager[Any] | None = None) -> float:
    """Train from memory and from disk in turns; return the ratio of the shortest times."""
    shortest = [math.inf, math.inf]
    for _ in range(REPEAT):
        memory, _ = train(kind, TOWERS, math.inf)
        with on_disk or contextlib.nullcontext():
            disk, _ = train(kind, TOWERS, 0)
        shortest = [min(pair) for pair in zip(shortest, (memory, disk), strict=True)]
    return shortest[0] / shortest[1]


def train_trees(limit: float) -> tuple[float, float, str]:
    """Train trees with this limit of memory; return CPU time [s], added memory [bytes] and a fingerprint."""
    ds = open_towers(ALL)
    state = memory_features(SHARED_INPUTS)
    start = time.process_time()
    with (
        tempfile.TemporaryDirectory(dir=".") as folder,
        mock.patch.object(arrays, "memory_limit", lambda: limit),
        peak_of_anonymous_memory() as added,
    ):
        model = fit(ds, "xgboost", variables=SHARED_INPUTS, state=state, run_dir=folder, **TREES)
    return time.process_time() - start, added[0], model.fingerprint()


@contextlib.contextmanager
def peak_of_anonymous_memory() -> Iterator[list[int]]:
    """Yield a list with the anonymous memory [bytes] that this process has added at most."""
    before, added, done = status("RssAnon"), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            added[0] = max(added[0], status("RssAnon") - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield added
    finally:
        done.set()
        watcher.join()


def status(name: str) -> int:
    """Return a line of the status of this process [bytes], on Linux."""
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) * 1024


def memory_of_training(kind: str, limit: float = LIMIT) -> tuple[int, int]:
    """Train where the data does not fit into memory; return its size and the added memory [bytes].

    The operating system refuses more writable private memory than ``LIMIT + WORK`` (RLIMIT_DATA), of which
    ``WORK`` is for a tower while it is loaded and for the network. Mapped files do not count.
    """
    train(kind, 1, 0)  # imports everything
    ceiling = status("VmData") + LIMIT + WORK
    resource.setrlimit(resource.RLIMIT_DATA, (ceiling, ceiling))
    with peak_of_anonymous_memory() as added:
        _, data = train(kind, ALL, limit)
    return data, added[0]


if __name__ == "__main__":
    report(globals())
