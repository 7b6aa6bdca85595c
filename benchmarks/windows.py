"""How fast windows are made, beside one xbatcher window per sample; and how many in a second."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import xarray as xr
import xbatcher

from xcarbon import open_store, set_options
from xcarbon.prep.inputs import model_inputs
from xcarbon.testing import synthetic_towers
from xcarbon.training.windows import load_windows, stream, valid_hours

DATA = Path(os.environ.get("XCARBON_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")).absolute()
STORE = DATA / "fluxnet2015_hourly.zarr"
CONTEXT, BATCH = 32, 4096
#: What the real store has of the paper's inputs.
VARIABLES = ["DOY", "TOD", "TA", "SW_IN", "VPD"]
#: Towers of the real store to stream, and samples of which the alternative is timed.
TOWERS, SAMPLES = 20, 200

set_options(progress=False)


def seconds(function: Callable[[], object], repeat: int = 3) -> float:
    """Time the fastest of some calls."""
    fastest = np.inf
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest


def by_blocks(inputs: xr.Dataset) -> list[torch.Tensor]:
    """Make all windows with a target by blocks and views, and gather them in batches."""
    windows = load_windows(inputs, CONTEXT)
    return [windows.batch(index).inputs.hourly for index in torch.arange(len(windows)).split(BATCH)]


def one_by_one(inputs: xr.Dataset) -> list[torch.Tensor]:
    """Make all windows with a target as xbatcher's documentation does: one selection per sample."""
    generator = xbatcher.BatchGenerator(
        inputs, input_dims={"time": CONTEXT}, input_overlap={"time": CONTEXT - 1}
    )
    samples = [
        torch.from_numpy(window["hourly"].values)
        for window in generator
        if np.isfinite(window["target"].values[-1])
    ]
    return [torch.stack(samples[start : start + BATCH]) for start in range(0, len(samples), BATCH)]


def streamed(inputs: xr.Dataset) -> int:
    """Count the windows of a stream, all of them gathered in batches."""
    return sum(len(batch.target) for batch in stream(inputs, CONTEXT, BATCH))


class OneYearInMemory:
    """One year of a tower, in memory: the real DE-Tha where there is one, else a synthetic tower."""

    timeout = 300

    def setup(self) -> None:
        """Load the inputs, and make sure that both ways give the same windows."""
        if STORE.exists():
            ds = open_store(STORE).sel(site=["DE-Tha"], time="2010")
        else:
            ds = synthetic_towers(1, patches=False)
        self.inputs = model_inputs(ds, VARIABLES, target="NEE").compute()
        ours = torch.cat(by_blocks(self.inputs))
        theirs = torch.cat(one_by_one(self.inputs.isel(site=0)))
        assert torch.equal(ours.nan_to_num(-9), theirs.nan_to_num(-9))
        self.count = len(ours)

    def track_windows(self) -> float:
        """Time one xbatcher window per sample, which is what its documentation shows, against blocks."""
        ours = seconds(lambda: by_blocks(self.inputs), 7)
        theirs = seconds(lambda: one_by_one(self.inputs.isel(site=0)), 1)
        return theirs / ours

    def track_rate(self) -> float:
        """Tell the rate by itself."""
        return self.count / seconds(lambda: by_blocks(self.inputs), 7)

    track_windows.unit = "x faster than one window per sample"
    track_rate.unit = "windows/s"


class RealStore:
    """Twenty real towers of 24 years in a Zarr store, opened lazily."""

    timeout = 300

    def setup(self) -> None:
        """Open the store, or skip where it is absent."""
        if not STORE.exists():
            raise NotImplementedError(f"no store {STORE}")
        ds = open_store(STORE)
        ds = ds.isel(site=slice(0, None, ds.sizes["site"] // TOWERS)).isel(site=slice(TOWERS))
        self.inputs = model_inputs(ds, VARIABLES, target="NEE")
        self.count = streamed(self.inputs)
        assert self.count == len(load_windows(self.inputs, CONTEXT))

    def track_stream(self) -> float:
        """Time one xbatcher window per sample, each computed by Dask, for as many windows as a stream."""
        tower = self.inputs.isel(site=0)
        first = valid_hours(tower["target"].values, CONTEXT)[0] - CONTEXT + 1
        generator = xbatcher.BatchGenerator(
            tower.isel(time=slice(first, first + SAMPLES + CONTEXT - 1)),
            input_dims={"time": CONTEXT},
            input_overlap={"time": CONTEXT - 1},
        )
        assert len(generator) == SAMPLES
        ours = next(stream(self.inputs, CONTEXT, BATCH)).inputs.hourly
        samples = [
            window["hourly"].values for window in generator if np.isfinite(window["target"].values[-1])
        ]
        np.testing.assert_array_equal(ours[: len(samples)], samples)
        theirs = seconds(lambda: [window.compute() for window in generator], 1) / SAMPLES
        return theirs / (seconds(lambda: streamed(self.inputs)) / self.count)

    def track_rate(self) -> float:
        """Tell the rate by itself: reading, unpacking, masking, scaling, stacking and gathering."""
        return self.count / seconds(lambda: streamed(self.inputs))

    track_stream.unit = "x faster than one window per sample"
    track_rate.unit = "windows/s"


def main() -> None:
    """Print all figures."""
    for benchmark in (OneYearInMemory(), RealStore()):
        benchmark.setup()
        for name in ("track_windows", "track_stream", "track_rate"):
            if track := getattr(benchmark, name, None):
                print(f"{type(benchmark).__name__}.{name}: {track():,.0f} {track.unit}")


if __name__ == "__main__":
    main()
