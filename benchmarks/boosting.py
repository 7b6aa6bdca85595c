"""How long boosted trees take to train, and in how much memory; also beside a matrix gathered first.

python -m benchmarks.boosting [--towers 20]

Reads the real towers from their store and grows the paper's trees. Prints rows, seconds and peak memory.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import xarray as xr
import xgboost

from benchmarks.memory import peak_memory
from xcarbon import open_store, set_options
from xcarbon.core.variables import PAPER_INPUTS, present
from xcarbon.prep.inputs import model_inputs
from xcarbon.testing import synthetic_towers
from xcarbon.training.boosting_config import BoostingConfig

DATA = Path(os.environ.get("XCARBON_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")).absolute()
STORE = DATA / "fluxnet2015_hourly.zarr"
#: Towers of the comparison, and hours in a window.
TOWERS, CONTEXT = 20, 32

set_options(progress=False)


def towers(count: int | None) -> xr.Dataset:
    """The first towers of the real store, spread over its classes; synthetic ones where it is absent."""
    if not STORE.exists():
        return synthetic_towers(count or TOWERS, patches=False)
    ds = open_store(STORE)
    return ds.isel(site=slice(None, None, ds.sizes["site"] // count)) if count else ds


def ours(ds: xr.Dataset) -> float:
    """Train as xcarbon does; returns the error at the training hours."""
    with tempfile.TemporaryDirectory() as run:
        return ds.carbon.fit("xgboost", run_dir=run).provenance["curve"][-1]["train_mse"]


def gathered(ds: xr.Dataset) -> float:
    """Train as one would otherwise: load all hours, keep those with a target, hand over one matrix."""
    inputs = model_inputs(ds, present(PAPER_INPUTS, ds), target="NEE").load()
    hourly, target = inputs["hourly"].values[:, CONTEXT - 1 :], inputs["target"].values[:, CONTEXT - 1 :]
    known = np.isfinite(target)
    matrix = xgboost.DMatrix(hourly[known], target[known])
    booster = xgboost.train(BoostingConfig().parameters(), matrix, BoostingConfig().n_estimators)
    error = booster.predict(matrix).astype(np.float64) - target[known]
    return float(np.mean(error**2) / target[known].var(dtype=np.float64))


def measure(train: Callable[[xr.Dataset], float], count: int | None) -> tuple[float, float, float]:
    """Seconds and peak memory [GB] of a process of its own, and the error."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure, train, count).result()


def _measure(train: Callable[[xr.Dataset], float], count: int | None) -> tuple[float, float, float]:
    ds = towers(count)
    start = time.perf_counter()
    error = train(ds)
    return time.perf_counter() - start, peak_memory(), error


class Trees:
    """The paper's trees on twenty towers, from their store to the model."""

    timeout = 900

    def setup_cache(self) -> dict[str, tuple[float, float, float]]:
        """Train both ways, and make sure that the trees are as good: their bins differ a little."""
        results = {train.__name__: measure(train, TOWERS) for train in (gathered, ours)}
        errors = [error for _, _, error in results.values()]
        np.testing.assert_allclose(*errors, rtol=0.02)
        return results

    def track_time(self, results: dict[str, tuple[float, float, float]]) -> float:
        """Time the gathered matrix, the plain way to call XGBoost, against towers handed over in turn."""
        return results["gathered"][0] / results["ours"][0]

    def track_memory(self, results: dict[str, tuple[float, float, float]]) -> float:
        """Compare the peak memory of the gathered matrix with that of towers handed over in turn."""
        return results["gathered"][1] / results["ours"][1]

    setup_cache.timeout = 900  # type: ignore[attr-defined]
    track_time.unit = "x faster than with a gathered matrix"  # type: ignore[attr-defined]
    track_memory.unit = "x less memory than with a gathered matrix"  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--towers", type=int, help="by default all, without the comparison")
    arguments = parser.parse_args()
    ds = towers(arguments.towers)
    target = model_inputs(ds, present(PAPER_INPUTS, ds), target="NEE")["target"]
    rows = int(target.isel(time=slice(CONTEXT - 1, None)).notnull().sum())
    for train in (ours, gathered) if arguments.towers else (ours,):
        seconds, memory, error = measure(train, arguments.towers)
        print(
            f"{train.__name__}: {rows} rows, {seconds:.0f} s, {memory:.2f} GB at the most, "
            f"error {error:.3f} of the variance",
            flush=True,
        )


if __name__ == "__main__":
    main()
