"""Run tasks on a Dask cluster, or on the threads of this process."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import dask
from dask import threaded
from dask.base import get_scheduler
from dask.system import CPU_COUNT
from dask.utils import format_bytes

from xcarbon.core import options
from xcarbon.core.errors import XCarbonError

if TYPE_CHECKING:
    from dask.distributed import KilledWorker

Item = TypeVar("Item")
Result = TypeVar("Result")


#: Reasons of Dask for the cancellation of a task, in words.
CANCELLED = {
    "scheduler-restart": "because the scheduler was restarted",
    "scheduler-connection-lost": "because the connection to the scheduler was lost",
}


class WorkersLostError(RuntimeError):
    """Workers were lost repeatedly while they computed a task, or trained together."""

    def __init__(self, task: str, workers: Collection[str], memory_limit: int) -> None:
        super().__init__(task)
        self.task, self.workers, self.memory_limit = task, workers, memory_limit

    def __str__(self) -> str:
        """Name the task, and state whether the nanny of a worker stopped it because of its memory."""
        limit = format_bytes(self.memory_limit) if self.memory_limit else "not set"
        for event in _stopped_for_memory():
            if event["worker"] in self.workers:
                return (
                    f"{self.task}: the worker {event['worker']} used {format_bytes(event['rss'])} and was "
                    f"stopped because of its memory limit of {limit}"
                )
        return f"{self.task}: probably because memory ran out (memory limit of a worker: {limit})"


def _stopped_for_memory() -> list[dict[str, Any]]:
    """Events of workers that were stopped by their nannies because they exceeded their memory limit."""
    client = connected_client()
    if client is not None and client.status == "running":
        with suppress(OSError, TimeoutError):
            return [event for _, event in client.get_events("worker-restart-memory")]
    return []


def connected_client() -> Any:
    """Return the client of the Dask cluster that is connected, or None."""
    from dask.distributed import get_client

    try:
        return get_client()
    except ValueError:
        return None


@contextmanager
def executor() -> Iterator[Executor]:
    """Yield an executor of the connected cluster, or of threads."""
    client = connected_client()
    if client is not None:
        yield client.get_executor(pure=False)
        return
    pool = ThreadPoolExecutor(CPU_COUNT)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)  # tasks that run are completed, also after Ctrl-C


@contextmanager
def finished_threads() -> Iterator[dict[str, Any]]:
    """Yield settings for ``dask.compute`` whose threads have finished after the block, also after an error.

    The threads that Dask uses by default continue with their tasks after an error in another task, and would
    write to a folder while it is removed. The settings are empty if the scheduler is not that of threads.
    """
    is_default = get_scheduler() in (None, threaded.get)
    if not is_default or dask.config.get("pool", None) is not None:
        yield {}
        return
    pool = ThreadPoolExecutor(dask.config.get("num_workers", None) or CPU_COUNT)
    try:
        yield {"pool": pool}
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def resumable(what: str, again: str = "run the same command again to continue") -> Iterator[None]:
    """Add to errors of interrupted work how it is continued."""
    from dask.distributed import KilledWorker
    from distributed.comm import CommClosedError

    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted while {what}; {again}") from None
    except (KilledWorker, WorkersLostError) as error:
        lost = _lost(error, f"task {error.task}") if isinstance(error, KilledWorker) else error
        raise XCarbonError(
            f"workers were killed repeatedly while {what}, {lost}; use fewer threads per worker, a higher "
            f"memory limit or, for a Dataset on Dask, smaller chunks; {again}"
        ) from error
    except (CancelledError, CommClosedError) as error:  # the latter while a result is fetched
        unknown = "probably because the scheduler was stopped or restarted, or the connection was lost"
        reason = CANCELLED.get(getattr(error, "reason", ""), unknown)
        raise XCarbonError(
            f"the cluster cancelled the tasks while {what}, {reason}; connect to a cluster, and {again}"
        ) from None


def _lost(error: KilledWorker, task: str) -> WorkersLostError:
    return WorkersLostError(task, {error.last_worker.address}, error.last_worker.memory_limit)


@contextmanager
def naming_task(task: str) -> Iterator[None]:
    """Name the task, for example a tower, in the error that its workers were killed."""
    from dask.distributed import KilledWorker

    try:
        yield
    except KilledWorker as error:
        raise _lost(error, task) from error


def map_unordered(
    pool: Executor,
    function: Callable[[Item], Result],
    items: Sequence[Item],
    what: str,
    name: Callable[[Item], str] = str,
) -> Iterator[tuple[Item, Result]]:
    """Yield items with results in the order of completion, and show progress; ``name`` is for errors."""
    from tqdm import tqdm

    futures = {pool.submit(function, item): item for item in items}
    try:
        with resumable(what):
            done = as_completed(futures)
            for future in tqdm(done, what, len(items), unit="tower", disable=not options.OPTIONS["progress"]):
                # Without this, a task whose result has been used would run again if its worker was lost.
                item = futures.pop(future)
                with naming_task(name(item)):
                    result = future.result()
                yield item, result
    finally:
        for future in futures:
            future.cancel()
