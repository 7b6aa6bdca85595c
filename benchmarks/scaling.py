"""How prediction scales: the model's share of the time, two processes against one, and peak memory.

The network is the paper's, untrained, without patches: weights do not change what it costs. Where its share
or its memory is asked for, it predicts a sample of the hours; everything else is done in full.
"""

import multiprocessing
import os
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

from benchmarks.memory import peak_memory
from xcarbon import open_store, set_options
from xcarbon.core.variables import PAPER_INPUTS, VARIABLES
from xcarbon.models.bundle import CarbonModel, Scaler
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.models.inputs import ModelInputs
from xcarbon.models.networks import EcoPerceiverPredictor
from xcarbon.prediction import predict as inference
from xcarbon.testing import synthetic_towers

DATA = Path(os.environ.get("XCARBON_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")).absolute()
STORE = DATA / "fluxnet2015_hourly.zarr"
TOWERS, YEARS = 20, 5
#: Windows that a sample predicts of a chunk, a year of a tower: as many as the model takes at once.
SAMPLE = 256
#: Hours of each of the towers that one and two processes predict.
HOURS = 240

set_options(progress=False)


def paper_model(variables: tuple[str, ...] = PAPER_INPUTS) -> CarbonModel:
    """Give the paper's network without patches, untrained."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = EcoPerceiver(EcoPerceiverConfig(variables, ()))
    bounds = {code: (VARIABLES[code].bounds.lower, VARIABLES[code].bounds.upper) for code in variables}
    return CarbonModel(EcoPerceiverPredictor(network.eval()), Scaler({"NEE": (0.0, 5.0)}, 1, bounds))


def write_store(path: Path) -> None:
    """Write towers with some years of all the paper's inputs."""
    year = synthetic_towers(TOWERS, patches=False).drop_vars("time_bnds")
    start = year["time"].values[0]
    years = xr.concat([year] * YEARS, "time", data_vars="minimal", coords="minimal", compat="override")
    years["time"] = start + np.arange(years.sizes["time"]) * np.timedelta64(1, "h")
    years.carbon.to_store(path)


@dataclass
class Sample:
    """Stands in for ``predict_hours``: predicts some hours of every n-th chunk, and repeats them."""

    every: int = 1
    calls: int = 0
    windows: int = 0
    seconds: float = 0.0

    def __call__(self, inputs: ModelInputs[np.ndarray], stamps: np.ndarray, model: CarbonModel) -> np.ndarray:
        """Predict a sample, and time it."""
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


PREDICT = inference.predict_hours


def store_to_netcdf(store: Path, sample: Sample, model: CarbonModel) -> float:
    """Predict a store and write it to NetCDF; return how long it takes."""
    with mock.patch.object(inference, "predict_hours", sample), tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        open_store(store).carbon.predict_to("NEE", model, Path(folder, "nee.nc"))
        return time.perf_counter() - start


class Share:
    """Twenty towers of five years, from a store to NetCDF on one core."""

    timeout = 900

    def setup_cache(self) -> Path:
        """Write the store into the folder that asv throws away afterwards."""
        path = Path("towers.zarr").absolute()
        if not path.exists():
            write_store(path)
        return path

    def track_model(self, store: Path) -> float:
        """Time reading, masking, scaling, writing and all that is not the model against the model.

        Both are for all hours; the model's time is that of a sample of 256 hours of each year.
        """
        sample, hours = Sample(), TOWERS * YEARS * 8760
        with dask.config.set(scheduler="synchronous"):
            others = store_to_netcdf(store, sample, paper_model()) - sample.seconds
        assert sample.windows >= TOWERS * YEARS * SAMPLE - TOWERS * 31
        model = sample.seconds / sample.windows * hours
        return model / (model + others)

    def track_processes(self, store: Path) -> float:
        """Time one process against two, on the same chunks of twenty towers; each has one thread."""
        one, two = (seconds_on_processes(store, processes) for processes in (1, 2))
        return one / two

    track_model.unit = "share of the time that is the model's"  # type: ignore[attr-defined]
    track_processes.unit = "x faster on two processes than on one"  # type: ignore[attr-defined]


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
    """Import all that a worker needs, by predicting a little."""
    hours = open_store(store).isel(site=[0], time=slice(-40, None))
    hours.carbon.predict_nee(paper_model()).compute(scheduler="synchronous")


class Memory:
    """The whole store of real towers."""

    timeout = 900

    def setup(self) -> None:
        """Skip where the store is absent."""
        if not STORE.exists():
            raise NotImplementedError(f"no store {STORE}")

    def track_peak(self) -> float:
        """Peak memory of a process that predicts all towers on two threads, the model in every 16th year."""
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(memory_of_the_real_store)

    track_peak.unit = "GB"  # type: ignore[attr-defined]


def memory_of_the_real_store() -> float:
    """Largest memory [GB] that this process has while it predicts the real store."""
    model = paper_model(("DOY", "TOD", "TA", "SW_IN", "VPD"))
    with dask.config.set(scheduler="threads", num_workers=2):
        store_to_netcdf(STORE, Sample(every=16), model)
    return peak_memory()


def main() -> None:
    """Print all figures."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "towers.zarr")
        write_store(store)
        for track in (Share().track_model, Share().track_processes):
            print(f"{track.__name__}: {track(store):.3f} {track.unit}", flush=True)
    if STORE.exists():
        print(f"track_peak: {Memory().track_peak():.2f} {Memory.track_peak.unit}")


if __name__ == "__main__":
    main()
