"""Work on a cluster whose workers are killed ends with an error that states the probable cause."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import CancelledError

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster
from distributed.client import FutureCancelledError
from distributed.comm import CommClosedError

from tests.prediction.test_predict import make
from xcarbon.core.errors import XCarbonError
from xcarbon.core.workers import WorkersLostError, executor, map_unordered, resumable
from xcarbon.testing import synthetic_towers


def die(values: np.ndarray) -> np.ndarray:
    """End as a worker ends that uses more memory than its limit."""
    os.kill(os.getpid(), signal.SIGKILL)
    return values


def test_workers_that_are_killed_again_and_again(tmp_path):
    ds = synthetic_towers(2, patches=False, variables=["TA", "NEE"]).isel(time=slice(240))
    fatal = {name: (ds[name].dims, ds[name].data.map_blocks(die, meta=ds[name].data._meta)) for name in ds}
    ds = ds.assign(fatal).assign({name: ds[name] for name in ds if name.endswith("_QC")})
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        with (
            executor() as pool,
            pytest.raises(XCarbonError, match="while building, 1: probably because memory"),
        ):
            list(map_unordered(pool, die, [1], "building"))
        with pytest.raises(
            XCarbonError, match=r"while predicting, site SY-00\d: .* fewer threads .* smaller chunks; run"
        ):
            ds.carbon.predict_to("NEE", make(("TA",), ()), tmp_path / "nee.zarr")
        with pytest.raises(XCarbonError, match=r"while counting hours, task .* probably because memory"):
            ds.carbon.fit("xgboost", run_dir=tmp_path / "run", n_estimators=1)


def allocate(item: object) -> None:
    """Use 960 MB of memory, until the worker is stopped."""
    arrays = [np.ones(2_000_000) for _ in range(60)]
    time.sleep(120)
    assert arrays


def test_worker_that_exceeds_its_memory_limit_is_named():
    limit = {"memory_limit": "700MB", "threads_per_worker": 1}
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=1, dashboard_address=None, **limit) as cluster,
        Client(cluster),
        executor() as pool,
        pytest.raises(XCarbonError, match=r"tower A: the worker tcp.* used .* limit of 667\.57 MiB; use"),
    ):
        list(map_unordered(pool, allocate, ["A"], "building", lambda item: f"tower {item}"))


def test_restarted_scheduler_is_named():
    with (
        pytest.raises(XCarbonError, match="because the scheduler was restarted; connect"),
        resumable("predicting"),
    ):
        raise FutureCancelledError("key", "scheduler-restart")


@pytest.mark.parametrize("error", [CancelledError("key"), CommClosedError("closed")])
def test_stopped_scheduler_is_named(error):
    """Tasks are cancelled, or the connection breaks while a result is fetched."""
    with (
        pytest.raises(XCarbonError, match=r"scheduler was stopped .* connect to a cluster, and run the same"),
        resumable("predicting"),
    ):
        raise error


def test_workers_that_are_lost_in_every_attempt_to_train():
    """Without an event of a nanny, a lack of memory is called probable."""
    with (
        pytest.raises(XCarbonError, match=r"training, a worker .*: probably .* a worker: 2\.00 GiB"),
        resumable("training"),
    ):
        raise WorkersLostError("a worker during each attempt", {"tcp://127.0.0.1:1"}, 2**31)
