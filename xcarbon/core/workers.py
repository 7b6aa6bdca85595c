"""Where work is done: a Dask cluster, or the threads of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

from dask.system import CPU_COUNT

from xcarbon.core import options
from xcarbon.core.errors import XCarbonError

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def cluster(scheduler: str | None) -> Iterator[Any]:
    """Give the client of the cluster that is asked for, or that is connected; None if there is none."""
    from dask.distributed import Client, get_client

    if scheduler:
        with Client(scheduler) as client:
            yield client
        return
    try:
        client = get_client()
    except ValueError:
        client = None
    yield client


@contextmanager
def executor(scheduler: str | None) -> Iterator[Executor]:
    """Give the cluster that is asked for, or connected, or else threads."""
    with cluster(scheduler) as client:
        if client is not None:
            yield client.get_executor(pure=False)
            return
        pool = ThreadPoolExecutor(CPU_COUNT)
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C, too, the towers under way are completed


def map_unordered(
    pool: Executor, function: Callable[[Item], Result], items: Sequence[Item], what: str
) -> Iterator[tuple[Item, Result]]:
    """Give items with their results as they come, with progress."""
    from dask.distributed import KilledWorker
    from tqdm import tqdm

    futures = {pool.submit(function, item): item for item in items}
    try:
        done = as_completed(futures)
        for future in tqdm(done, what, len(items), unit="tower", disable=not options.OPTIONS["progress"]):
            yield futures[future], future.result()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped while {what}; the same command goes on from here") from None
    except KilledWorker as error:
        raise XCarbonError(
            f"workers died again and again while {what}, most likely of too little memory ({error}); the "
            "same command goes on from here"
        ) from error
    except CancelledError:
        raise XCarbonError(f"the cluster gave up while {what}; the same command goes on from here") from None
    finally:
        for future in futures:
            future.cancel()
