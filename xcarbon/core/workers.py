"""Run tasks on a Dask cluster, or on the threads of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

import dask
from dask import threaded
from dask.base import get_scheduler
from dask.system import CPU_COUNT

from xcarbon.core import options
from xcarbon.core.errors import XCarbonError

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkersLostError(RuntimeError):
    """Workers that trained together were lost repeatedly, also after the training was started again."""


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
        raise XCarbonError(
            f"workers were killed repeatedly while {what}, probably because memory ran out ({error}); give "
            f"each worker more memory or fewer threads; {again}"
        ) from error
    except (CancelledError, CommClosedError) as error:  # the latter while a result is fetched
        raise XCarbonError(
            f"the cluster cancelled the tasks while {what}, probably because the scheduler was stopped or "
            f"the connection was lost ({error}); connect to a cluster, and {again}"
        ) from None


def map_unordered(
    pool: Executor, function: Callable[[Item], Result], items: Sequence[Item], what: str
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with its result in the order of completion, and show progress."""
    from tqdm import tqdm

    futures = {pool.submit(function, item): item for item in items}
    try:
        with resumable(what):
            done = as_completed(futures)
            for future in tqdm(done, what, len(items), unit="tower", disable=not options.OPTIONS["progress"]):
                # Without this, a task whose result has been used would run again if its worker was lost.
                yield futures.pop(future), future.result()
    finally:
        for future in futures:
            future.cancel()
