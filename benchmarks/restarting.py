"""Kill the scheduler of a cluster while it predicts, start it again at the same address, and predict again.

python -m benchmarks.restarting [--rounds 20]

The scheduler and two workers are processes of their own. In each round, the scheduler is killed when one, two
or three of eight regions are complete, and is started again. The call of ``predict_to`` must end with an
error that states what happened and what to do. The workers, which end if they lose their scheduler, are
started again. The same call with a new client must then succeed, and the result must be the same as without a
cluster. The command stops with an error at the first round that fails.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import xarray as xr
from dask.distributed import Client

import xcarbon
from benchmarks.common import size
from benchmarks.killing import NETWORK, write_raw
from xcarbon.core.errors import XCarbonError

WORKERS = size(2, 1)


class Cluster:
    """Processes of a scheduler and of workers, which are started with the commands of Dask."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.start_scheduler()
        self.start_workers()

    def start_scheduler(self) -> None:
        self.scheduler = _start("dask_scheduler", "--host", "127.0.0.1", "--port", str(self.port))

    def start_workers(self) -> None:
        options = ["--nworkers", str(WORKERS), "--nthreads", "1", "--local-directory", "workers"]
        self.workers = _start("dask_worker", self.address, *options)

    def kill_scheduler(self) -> None:
        """Kill the scheduler, and start another one at the same address."""
        self.scheduler.kill()
        self.scheduler.wait()
        self.start_scheduler()

    def close(self) -> None:
        """Stop all processes."""
        for process in (self.workers, self.scheduler):
            process.terminate()
            process.wait()


def _start(module: str, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"distributed.cli.{module}", *options, "--no-dashboard"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def complete(path: Path) -> set[str]:
    """Names of the regions that are complete."""
    return {mark.name for mark in path.parent.glob(f".{path.name}.predicting/*/done/*")}


def restart_during(cluster: Cluster, path: Path, regions: int) -> str:
    """Predict, kill the scheduler when some regions are complete, start it again, and return the error."""
    ds = xcarbon.open_store("store.zarr")

    def kill() -> None:
        while len(complete(path)) < regions:
            time.sleep(0.01)
        cluster.kill_scheduler()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        ds.carbon.predict_to("NEE", "model", path)
    except XCarbonError as error:
        return str(error)
    finally:
        thread.join()
    return ""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="number of rounds (default: 20)")
    arguments = parser.parse_args(argv)
    xcarbon.set_options(progress=False)
    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        write_raw(Path("raw").absolute())
        ds = xcarbon.open_store(xcarbon.build("raw", "store.zarr").store)
        ds.carbon.fit(run_dir="run", **NETWORK).save("model")
        expected = xcarbon.open_store(ds.carbon.predict_to("NEE", "model", "expected.zarr")).load()
        with contextlib.closing(Cluster()) as cluster:
            for number in range(arguments.rounds):
                path = Path(f"{number}.zarr").absolute()
                with Client(cluster.address, timeout=60) as client:
                    client.wait_for_workers(WORKERS, timeout=60)
                    start = time.perf_counter()
                    error = restart_during(cluster, path, 1 + number % 3)
                    ended = time.perf_counter() - start
                if "connect to a cluster, and run the same command again" not in error:
                    raise AssertionError(f"the call ended with: {error or 'no error'}")
                kept = len(complete(path))
                cluster.workers.wait(timeout=60)
                cluster.start_workers()
                with Client(cluster.address, timeout=60) as client:
                    client.wait_for_workers(WORKERS, timeout=60)
                    found = xcarbon.open_store(ds.carbon.predict_to("NEE", "model", path)).load()
                xr.testing.assert_equal(found, expected)
                print(
                    f"round {number + 1}: {kept} regions kept, error after {ended:.1f} s: {error}", flush=True
                )


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main()
