"""How prediction scales: the model's share of the time, two processes compared with one, and peak memory.

The network is the paper's, untrained and without patches: the cost does not depend on the weights. To measure
its share of the time and the memory, it predicts a sample of the hours; all other work is done in full.
"""

import contextlib
import multiprocessing
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import dask
import numpy as np
import torch
import xarray as xr
from dask.distributed import Client, LocalCluster

from benchmarks.common import SHARED_INPUTS, STORE, has_store, peak_memory, report, size
from xcarbon import open_store
from xcarbon.core.variables import PAPER_INPUTS, VARIABLES
from xcarbon.models.bundle import CarbonModel, Scaler
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.models.inputs import ModelInputs
from xcarbon.models.networks import EcoPerceiverPredictor
from xcarbon.prediction import blocks
from xcarbon.testing import synthetic_towers

TOWERS, YEARS = size(20, 2), size(5, 1)
#: Windows of a sample, predicted for each year of a tower: as many as the model takes at once.
SAMPLE = size(256, 16)
#: Hours of each tower that one and two processes predict.
HOURS = size(240, 40)


def paper_model(variables: tuple[str, ...] = PAPER_INPUTS) -> CarbonModel:
    """Return the paper's network without patches, untrained."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = EcoPerceiver(EcoPerceiverConfig(variables, ()))
    bounds = {code: (VARIABLES[code].bounds.lower, VARIABLES[code].bounds.upper) for code in variables}
    return CarbonModel(EcoPerceiverPredictor(network.eval()), Scaler({"NEE": (0.0, 5.0)}, 1, bounds))


def write_store(path: Path) -> None:
    """Write towers with some years of all inputs of the paper."""
    year = synthetic_towers(TOWERS, patches=False).drop_vars("time_bnds")
    start = year["time"].values[0]
    years = xr.concat([year] * YEARS, "time", data_vars="minimal", coords="minimal", compat="override")
    years["time"] = start + np.arange(years.sizes["time"]) * np.timedelta64(1, "h")
    years.carbon.to_store(path)


@dataclass
class Sample:
    """A replacement for ``predict_hours`` that predicts some hours of every n-th chunk and repeats them."""

    every: int = 1
    calls: int = 0
    windows: int = 0
    seconds: float = 0.0

    def __call__(self, inputs: ModelInputs[np.ndarray], stamps: np.ndarray, model: CarbonModel) -> np.ndarray:
        """Predict a sample of the hours, and measure how long it takes."""
        context = model.config.context
        output = np.full((1, len(stamps) - context + 1), np.nan, np.float32)
        observed = np.flatnonzero(np.isfinite(inputs.hourly[context - 1 :, 2:]).any(axis=1))
        if not observed.size:
            return output
        self.calls += 1
        if self.calls % self.every:
            return output
        first, stop = observed[0], observed[0] + SAMPLE + context - 1
        start = time.perf_counter()
        found = PREDICT(inputs.between(first, stop), stamps[first:stop], model)
        self.seconds += time.perf_counter() - start
        self.windows += found.size
        return np.resize(found, output.shape)


PREDICT = blocks.predict_hours


def store_to_netcdf(store: Path, sample: Sample, model: CarbonModel) -> float:
    """Predict a store and write the result to NetCDF; return the time [s]."""
    with mock.patch.object(blocks, "predict_hours", sample), tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        open_store(store).carbon.predict_to("NEE", model, Path(folder, "nee.nc"))
        return time.perf_counter() - start


class Scaling:
    """Twenty towers of five years, from a store to NetCDF."""

    timeout = 900

    def setup_cache(self) -> Path:
        """Write the store to the current folder, which asv removes afterwards."""
        path = Path("scaling.zarr").absolute()
        write_store(path)
        return path

    def track_model(self, store: Path) -> float:
        """Time the model against all work on one core: reading, masking, scaling, writing and the model.

        The time of the model is that of a sample of each year, multiplied by the number of hours.
        """
        sample, hours = Sample(), TOWERS * YEARS * 8760
        with dask.config.set(scheduler="synchronous"):
            others = store_to_netcdf(store, sample, paper_model()) - sample.seconds
        assert sample.windows >= TOWERS * YEARS * SAMPLE - TOWERS * 31
        model = sample.seconds / sample.windows * hours
        return model / (model + others)

    def track_processes(self, store: Path) -> float:
        """Time one process against two, with one thread each and the same chunks of twenty towers."""
        one, two = (seconds_on_processes(store, processes) for processes in (1, 2))
        return one / two

    def track_memory(self, store: Path) -> float:
        """Peak memory of a process that predicts all real towers, or this store, on two threads.

        The model runs for every 16th year.
        """
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(memory_of_prediction, (STORE if has_store() else store,))

    track_model.unit = "of the time is spent in the model"  # type: ignore[attr-defined]
    track_processes.unit = "x faster on two processes than on one"  # type: ignore[attr-defined]
    track_memory.unit = "GB"  # type: ignore[attr-defined]


def seconds_on_processes(store: Path, processes: int) -> float:
    """Time a prediction on a cluster whose workers have imported everything."""
    prediction = open_store(store).isel(time=slice(HOURS)).carbon.predict_nee(paper_model())
    with (
        LocalCluster(n_workers=processes, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.run(warm_up, store)
        start = time.perf_counter()
        prediction.compute()
        return time.perf_counter() - start


def warm_up(store: Path) -> None:
    """Predict a few hours, so that a worker imports what it needs."""
    hours = open_store(store).isel(site=[0], time=slice(-40, None))
    hours.carbon.predict_nee(paper_model()).compute(scheduler="synchronous")


def memory_of_prediction(store: Path) -> float:
    """Return the peak memory [GB] of this process after it has predicted a store."""
    with dask.config.set(scheduler="threads", num_workers=2):
        store_to_netcdf(store, Sample(every=size(16, 1)), paper_model(SHARED_INPUTS))
    return peak_memory()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        report(globals())
