"""The Dask graph of a prediction, one task for each block of hours, and its kernel for one tower."""

from __future__ import annotations

from typing import Any, cast

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.delayed import delayed
from dask.highlevelgraph import HighLevelGraph

from xcarbon.models.bundle import CarbonModel
from xcarbon.models.inputs import ModelInputs
from xcarbon.prediction.compressed import CompressedModel
from xcarbon.prep.patches import patch_index
from xcarbon.prep.statics import stack_statics

#: Largest number of hours that one task predicts, so that a part of a long record is computed quickly.
BLOCK = 4392


def predict_blocks(inputs: xr.Dataset, model: CarbonModel) -> da.Array:
    """Build the Dask graph, ``(*place, time, outputs)``: each block of at most ``BLOCK`` hours is one task.

    The task gets the chunks that contain the block, the last hours of the chunks before, and all patches.
    """
    *place, _, _ = inputs["hourly"].dims
    hourly, axis, before = inputs["hourly"].data, len(place), model.config.context - 1
    hours = da.overlap.ensure_minimum_chunksize(
        min(model.config.context, hourly.shape[axis]), hourly.chunks[axis]
    )
    hourly = hourly.rechunk({axis: hours, axis + 1: -1})
    stamps = _local_stamps(inputs, hourly)
    arrays = [_hours_before(hourly, axis, before, np.nan), hourly]
    arrays += [_hours_before(stamps, axis, before, "NaT"), stamps]
    statics = state_before = state = patch = day = None
    if model.config.statics:
        statics = stack_statics(inputs, model.config.statics, hourly.chunks[:axis])
    if "state" in inputs:
        state = inputs["state"].data.rechunk({axis: hours, axis + 1: -1})
        state_before = _hours_before(state, axis, before, np.nan)
    if "patch" in inputs:
        day = inputs["day"].values
        whole = dict.fromkeys(range(axis, inputs["patch"].ndim), -1)
        patch = inputs["patch"].data.rechunk(dict(enumerate(hourly.chunks[:axis])) | whole)
    arrays += [statics, state_before, state, patch]
    # The model and the days are tasks, so that they are sent once to each worker and not with every block.
    opened = delayed(CompressedModel.open, pure=True)(CompressedModel(model))
    name = f"predict-{tokenize(opened.key, day, *(array is not None and array.name for array in arrays))}"
    layer: dict[Any, Any] = {f"day-{name}": day}
    sizes: list[int] = []
    for number, size in enumerate(hours):
        for start in range(0, max(size, 1), BLOCK):
            stop = min(start + BLOCK, size)
            for cell in np.ndindex(hourly.numblocks[:axis]):
                keys = [_key(array, (*cell, number)) for array in arrays]
                key = (name, *cell, len(sizes), 0)
                part = slice(start, stop + before)
                layer[key] = (_predict_block, part, *keys, opened.key, f"day-{name}")
            sizes.append(stop - start)
    sources = [array for array in arrays if array is not None]
    graph = HighLevelGraph.from_collections(name, layer, dependencies=cast(Any, [*sources, opened]))
    chunks = (*hourly.chunks[:axis], tuple(sizes), (len(model.outputs),))
    return da.Array(graph, name, chunks, meta=np.empty((0,) * (axis + 2), np.float32))


def _key(array: da.Array | None, place: tuple[int, ...]) -> tuple[Any, ...] | None:
    """Key of the chunk at a place and time; the array may have one chunk along a dim, and further dims."""
    if array is None:
        return None
    index = [0 if count == 1 else at for at, count in zip(place, array.numblocks, strict=False)]
    return (array.name, *index, *[0] * (array.ndim - len(index)))


def _local_stamps(inputs: xr.Dataset, hourly: da.Array) -> da.Array:
    """Local time in the chunks of ``hourly``; the length is 1 along dims on which it does not depend."""
    local = inputs.get("local_time", inputs["time"]).variable.to_base_variable().astype("datetime64[s]")
    stamps = da.asarray(local.set_dims(inputs["hourly"].dims[:-1]).data)
    same = [axis for axis, size in enumerate(stamps.shape) if size == hourly.shape[axis]]
    return stamps.rechunk({axis: hourly.chunks[axis] for axis in same})


def _hours_before(array: da.Array, axis: int, hours: int, fill: object) -> da.Array:
    """For each chunk along ``axis`` the last hours of the chunk before it; ``fill`` for the first chunk."""
    chunks = (*array.chunks[:axis], (hours,) * array.numblocks[axis], *array.chunks[axis + 1 :])
    name = f"hours-before-{tokenize(array, axis, hours, fill)}"
    layer: dict[Any, Any] = {}
    for place in np.ndindex(array.numblocks):
        if place[axis] and hours:
            before = (*place[:axis], place[axis] - 1, *place[axis + 1 :])
            layer[(name, *place)] = (_last, (array.name, *before), axis, hours)
        else:
            shape = [sizes[number] for sizes, number in zip(chunks, place, strict=True)]
            layer[(name, *place)] = (np.full, shape, fill, array.dtype)
    graph = HighLevelGraph.from_collections(name, layer, dependencies=cast(Any, [array]))
    return da.Array(graph, name, chunks, meta=array._meta)


def _last(values: np.ndarray, axis: int, hours: int) -> np.ndarray:
    # A copy, because a view would keep the whole chunk in memory.
    return values[(slice(None),) * axis + (slice(-hours, None),)].copy()


def _predict_block(
    part: slice,
    before: np.ndarray,
    hourly: np.ndarray,
    stamps_before: np.ndarray,
    stamps: np.ndarray,
    statics: np.ndarray | None,
    state_before: np.ndarray | None,
    state: np.ndarray | None,
    patches: np.ndarray | None,
    model: CarbonModel,
    day: np.ndarray | None,
) -> np.ndarray:
    """Predict a block: ``(*place, T - 1, V), (*place, hours, V) -> (*place, block, outputs)``.

    ``part`` selects the hours of the block and the T - 1 hours before it from the first two, concatenated.
    """
    place = hourly.shape[:-2]
    block = part.stop - part.start - before.shape[-2]
    output = np.empty((*place, block, len(model.outputs)), np.float32)
    clocks_before, clocks = (
        np.broadcast_to(each, (*place, each.shape[-1])) for each in (stamps_before, stamps)
    )
    for cell in np.ndindex(place):
        inputs = ModelInputs(_select(part, before[cell], hourly[cell]))
        clock = _select(part, clocks_before[cell], clocks[cell])
        if patches is not None and day is not None:
            inputs.patches = patches[cell]
            usable = np.isfinite(patches[cell]).all(axis=(1, 2, 3))
            inputs.patch_index = patch_index(clock, day, usable)
        if statics is not None:
            inputs.statics = statics[cell]
        if state_before is not None and state is not None:
            inputs.state = _select(part, state_before[cell], state[cell])
        output[cell] = predict_hours(inputs, clock, model).T
    return output


def _select(part: slice, before: np.ndarray, chunk: np.ndarray) -> np.ndarray:
    """Select hours from the hours before a chunk and the chunk, as if they were concatenated."""
    begin, end = max(part.start - len(before), 0), part.stop - len(before)
    return np.concatenate([before[part], chunk[begin:end]])


def predict_hours(inputs: ModelInputs[np.ndarray], stamps: np.ndarray, model: CarbonModel) -> np.ndarray:
    """Predict consecutive hours of one tower.

    Parameters
    ----------
    inputs : ModelInputs
        The hours as numpy arrays, with ``hourly`` of the shape ``(hours + T - 1, V)``.
    stamps : numpy.ndarray
        Time stamps, shape ``(hours + T - 1,)``; NaT before the record.
    model : CarbonModel
        The model, with a context of T hours.

    Returns
    -------
    numpy.ndarray
        Shape ``(len(model.outputs), hours)``, float32; NaN where a window contains no observation, or the
        record has fewer hours than the model needs.
    """
    config = model.config
    observed = inputs.observed(config.variables)
    has_observation = np.lib.stride_tricks.sliding_window_view(observed, config.context).any(axis=1)
    recorded = ~np.isnat(stamps)
    least = config.min_context
    wanted = has_observation & recorded[config.context - least : len(stamps) - least + 1]
    if not wanted.any():  # the sea, most of a grid
        return np.full((len(model.outputs), len(wanted)), np.nan, np.float32)
    begin = 0
    if least < config.context:  # hours before the record are not hours without observations
        begin = min(int(recorded.argmax()), config.context - 1)
    return model.predict_series(inputs.between(begin, None), wanted)
