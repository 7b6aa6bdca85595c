"""Kill workers of a cluster at random while it builds a store, predicts and trains, and compare the results.

python -m benchmarks.killing [--rounds 50] [--workers 4]

A round consists of three jobs. During each job, up to three randomly chosen workers are killed at random
moments, on average twice in the time that the job takes without kills. The result must be the same as without
a cluster; that of trees, which depends on how the rows are distributed, must be as good. The command stops
with an error at the first job that fails.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dask
import numpy as np
import pandas as pd
import xarray as xr
from dask.distributed import Client, LocalCluster
from distributed.core import Status
from distributed.utils import get_mp_context

import xcarbon
from xcarbon.models.bundle import CarbonModel
from xcarbon.testing import synthetic_towers, write_release

#: Number of towers, and the hours of each of them that are written, predicted and used for training.
TOWERS, HOURS = 8, 24 * 30
TINY = {"width": 16, "heads": 2, "cross_blocks": 1, "self_layers": 1}
NETWORK: dict[str, Any] = {"max_steps": 1, "batch_size": 8, "network": TINY}
#: Largest number of kills during a job: a task may be repeated as often (``allowed-failures`` of Dask).
KILLS = 3
TREES = {"n_estimators": 10, "max_depth": 4, "context": 8}


def build(folder: Path) -> xr.Dataset:
    """Build a store from raw files."""
    return xcarbon.open_store(xcarbon.build("raw", folder / "store.zarr").store).load()


def predict(folder: Path) -> xr.Dataset:
    """Predict with a small network, region by region."""
    path = xcarbon.open_store("store.zarr").carbon.predict_to("NEE", "model", folder / "nee.zarr")
    return xcarbon.open_store(path).load()


def train(folder: Path) -> CarbonModel:
    """Train trees on some towers, and score them on the others."""
    ds = xcarbon.open_store("store.zarr")
    train, val = ds.isel(site=slice(0, 6)), ds.isel(site=slice(6, None))
    return train.carbon.fit("xgboost", val=val, run_dir=folder / "run", **TREES)


def same_values(found: xr.Dataset, expected: xr.Dataset) -> None:
    """Check that all values are equal."""
    xr.testing.assert_equal(found, expected)


def as_good(found: CarbonModel, expected: CarbonModel) -> None:
    """Check that the errors after each tree differ by less than 5 % in training, and 10 % in validation.

    Without kills, the two validation towers differ by up to 6 % between distributions of the rows.
    """
    for point, other in zip(found.provenance["curve"], expected.provenance["curve"], strict=True):
        np.testing.assert_allclose(point["train_mse"], other["train_mse"], rtol=0.05)
        np.testing.assert_allclose(point["val_mse"], other["val_mse"], rtol=0.1)


#: Jobs, each with the check of its result.
JOBS: dict[str, tuple[Callable[[Path], Any], Callable[[Any, Any], None]]] = {
    "build": (build, same_values),
    "predict": (predict, same_values),
    "train": (train, as_good),
}


def write_raw(folder: Path) -> None:
    """Write files of synthetic towers, and a table of their metadata."""
    folder.mkdir()
    towers = synthetic_towers(TOWERS, patches=False, variables=["TA", "SW_IN", "VPD", "NEE"])
    towers = towers.isel(time=slice(24 * 120, 24 * 120 + HOURS)).load()
    for site in towers["site"].values:
        write_release(towers, site, folder)
    columns = {"SITE_ID": "site", "LOCATION_LAT": "lat", "LOCATION_LON": "lon", "IGBP": "igbp"}
    columns["UTC_OFFSET"] = "utc_offset"
    table = pd.DataFrame({column: towers[name] for column, name in columns.items()})
    table.to_csv(folder / "site_data.csv", index=False)


@contextlib.contextmanager
def cluster_of(workers: int) -> Iterator[LocalCluster]:
    """Start workers that are copies of a process that has imported everything: they are replaced quickly."""
    settings = {
        "distributed.worker.multiprocessing-method": "forkserver",
        "distributed.deploy.lost-worker-timeout": "60 s",  # a busy machine replaces workers slowly
    }
    with dask.config.set(settings):
        get_mp_context().set_forkserver_preload(
            ["xcarbon.models.networks", "xcarbon.pipeline", "xcarbon.training.boosting"]
        )
        with LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
        ) as cluster:
            yield cluster


def complete(cluster: LocalCluster, client: Client, workers: int) -> None:
    """Wait until there are all workers.

    A nanny gives up if its worker is killed while it starts. The cluster removes it after some time, and
    starts another one when it is scaled.
    """
    end = time.monotonic() + 600
    while len(client.nthreads()) < workers:
        if time.monotonic() > end:
            raise TimeoutError(f"only {len(client.nthreads())} of {workers} workers have started in 600 s")
        cluster.scale(workers)
        time.sleep(1)


@contextlib.contextmanager
def killing(cluster: LocalCluster, generator: random.Random, seconds: float) -> Iterator[list[int]]:
    """Kill random workers during the block, on average every ``seconds``; yield their process IDs."""
    is_over, killed = threading.Event(), list[int]()

    def kill() -> None:
        while not is_over.wait(generator.expovariate(1 / seconds)):
            # A nanny gives up if its worker is killed before its start is complete.
            pids = [
                nanny.pid
                for nanny in cluster.workers.values()
                if nanny.process is not None and nanny.process.status == Status.running
            ]
            with contextlib.suppress(IndexError, TypeError, ProcessLookupError):  # it is being replaced
                pid = generator.choice(pids)
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            if len(killed) == KILLS:
                return

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        is_over.set()
        thread.join()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50, help="number of rounds (default: 50)")
    parser.add_argument("--workers", type=int, default=4, help="number of worker processes (default: 4)")
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS), help="by default all")
    arguments = parser.parse_args(argv)
    jobs = {name: JOBS[name] for name in arguments.jobs}
    xcarbon.set_options(progress=False)
    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        write_raw(Path("raw").absolute())
        xcarbon.build("raw", "store.zarr")
        xcarbon.open_store("store.zarr").carbon.fit(run_dir="run", **NETWORK).save("model")
        expected = {name: job(Path("expected", name)) for name, (job, _) in jobs.items()}
        with cluster_of(arguments.workers) as cluster, Client(cluster) as client:
            complete(cluster, client, arguments.workers)
            usual = {}
            for name, (job, _) in jobs.items():
                start = time.perf_counter()
                job(Path("usual", name))
                usual[name] = time.perf_counter() - start
            for number in range(arguments.rounds):
                for name, (job, check) in jobs.items():
                    complete(cluster, client, arguments.workers)
                    start = time.perf_counter()
                    with killing(cluster, random.Random(f"{name} {number}"), usual[name] / 2) as killed:
                        result = job(Path(f"{number}", name))
                    check(result, expected[name])
                    seconds = time.perf_counter() - start
                    print(f"round {number + 1}, {name}: {len(killed)} kills in {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main()
