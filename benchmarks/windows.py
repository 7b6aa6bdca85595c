"""How fast windows are made, compared with one xbatcher window per sample."""

import numpy as np
import torch
import xarray as xr
import xbatcher

from benchmarks.common import SHARED_INPUTS, fastest, open_tower_year, open_towers, report, size
from xcarbon.prep.inputs import model_inputs
from xcarbon.training.batches import WindowBatches
from xcarbon.training.windows import load_windows, valid_hours

CONTEXT, BATCH = 32, 4096
#: Towers that are streamed, and windows of which the alternative is timed.
TOWERS, SAMPLES = size(20, 2), size(200, 20)


def by_blocks(inputs: xr.Dataset) -> list[torch.Tensor]:
    """Make all windows with a target as views of blocks, and gather them in batches."""
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


def stream(inputs: xr.Dataset) -> WindowBatches:
    """Return all windows in order, with one tower in memory at a time."""
    return WindowBatches(inputs, CONTEXT, batch_size=BATCH, shuffle=False, pool=1)


def streamed(inputs: xr.Dataset) -> int:
    """Count the windows of a stream while they are gathered in batches."""
    return sum(len(batch.target) for batch in stream(inputs))


class OneYearInMemory:
    """One year of a tower in memory: the real DE-Tha, or a synthetic tower where it is absent."""

    timeout = 300

    def setup(self) -> None:
        """Load the inputs, and check that both ways give the same windows."""
        hours = slice(size(8760, 1000))
        self.inputs = model_inputs(open_tower_year(), SHARED_INPUTS, target="NEE").isel(time=hours).compute()
        ours = torch.cat(by_blocks(self.inputs))
        theirs = torch.cat(one_by_one(self.inputs.isel(site=0)))
        assert torch.equal(ours.nan_to_num(-9), theirs.nan_to_num(-9))

    def track_windows(self) -> float:
        """Time one xbatcher window per sample, which is what its documentation shows, against blocks."""
        ours = fastest({"blocks": lambda: by_blocks(self.inputs)}, 7)["blocks"]
        theirs = fastest({"samples": lambda: one_by_one(self.inputs.isel(site=0))}, 1)["samples"]
        return theirs / ours

    track_windows.unit = "x faster than one window per sample"


class Store:
    """Twenty towers, opened lazily: real ones of 24 years, or synthetic ones where these are absent."""

    timeout = 300

    def setup(self) -> None:
        """Open the towers, and check that a stream has as many windows as the same towers in memory."""
        self.inputs = model_inputs(open_towers(TOWERS), SHARED_INPUTS, target="NEE")
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
        first_batch = next(iter(stream(self.inputs))).inputs.hourly
        samples = [
            window["hourly"].values for window in generator if np.isfinite(window["target"].values[-1])
        ]
        np.testing.assert_array_equal(first_batch[: len(samples)], samples)
        theirs = fastest({"samples": lambda: [window.compute() for window in generator]}, 1)["samples"]
        ours = fastest({"stream": lambda: streamed(self.inputs)}, 3)["stream"]
        return theirs / SAMPLES / (ours / self.count)

    track_stream.unit = "x faster than one window per sample"


if __name__ == "__main__":
    report(globals())
