"""How long boosted trees take to train, and in how much memory, compared with a matrix of all hours."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import xarray as xr
import xgboost

from benchmarks.common import open_towers, peak_memory, report, size
from xcarbon.core.variables import PAPER_INPUTS, present
from xcarbon.prep.inputs import model_inputs
from xcarbon.training.boosting_config import BoostingConfig

TOWERS, TREES, CONTEXT = size(20, 2), size(150, 10), 32


def ours(ds: xr.Dataset) -> float:
    """Train as xcarbon does; return the error in the training hours as a share of their variance."""
    with tempfile.TemporaryDirectory() as run:
        model = ds.carbon.fit("xgboost", run_dir=run, n_estimators=TREES)
    return model.provenance["curve"][-1]["train_mse"]


def gathered(ds: xr.Dataset) -> float:
    """Train on one matrix of all hours with a target, which is the usual way to call XGBoost."""
    inputs = model_inputs(ds, present(PAPER_INPUTS, ds), target="NEE").load()
    hourly, target = inputs["hourly"].values[:, CONTEXT - 1 :], inputs["target"].values[:, CONTEXT - 1 :]
    observed = np.isfinite(target)
    matrix = xgboost.DMatrix(hourly[observed], target[observed])
    booster = xgboost.train(BoostingConfig().parameters(), matrix, TREES)
    error = booster.predict(matrix).astype(np.float64) - target[observed]
    return float(np.mean(error**2) / target[observed].var(dtype=np.float64))


def measure(train: Callable[[xr.Dataset], float]) -> tuple[float, float, float]:
    """Return seconds, peak memory [GB] and error of a training in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure, train).result()


def _measure(train: Callable[[xr.Dataset], float]) -> tuple[float, float, float]:
    ds = open_towers(TOWERS)
    start = time.perf_counter()
    error = train(ds)
    return time.perf_counter() - start, peak_memory(), error


class Trees:
    """The paper's trees on twenty towers, from their store to the model."""

    timeout = 900

    def setup_cache(self) -> dict[str, tuple[float, float, float]]:
        """Train both ways, and check that the trees are equally good: their bins differ a little."""
        results = {train.__name__: measure(train) for train in (gathered, ours)}
        errors = [error for _, _, error in results.values()]
        np.testing.assert_allclose(*errors, rtol=0.02)
        return results

    def track_time(self, results: dict[str, tuple[float, float, float]]) -> float:
        """Compare the time of the matrix of all hours with that of towers passed one by one."""
        return results["gathered"][0] / results["ours"][0]

    def track_memory(self, results: dict[str, tuple[float, float, float]]) -> float:
        """Compare the peak memory of the matrix of all hours with that of towers passed one by one."""
        return results["gathered"][1] / results["ours"][1]

    setup_cache.timeout = 900  # type: ignore[attr-defined]
    track_time.unit = "x faster than with a matrix of all hours"  # type: ignore[attr-defined]
    track_memory.unit = "x less memory than with a matrix of all hours"  # type: ignore[attr-defined]


if __name__ == "__main__":
    report(globals())
