"""Predict a flux for a Dataset with a trained model, lazily and chunk by chunk."""

from __future__ import annotations

import os
from typing import Any, Literal, cast, overload

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.delayed import delayed
from dask.highlevelgraph import HighLevelGraph
from tqdm.auto import tqdm

from xcarbon._version import __version__
from xcarbon.core import conventions
from xcarbon.core.conventions import MISSING_FLAG
from xcarbon.core.errors import ModelError
from xcarbon.core.options import OPTIONS
from xcarbon.core.spelling import did_you_mean
from xcarbon.core.validation import check_dataset
from xcarbon.core.variables import IN_TRAINING, SPREAD, SUMS, TIME_FEATURES, memory_code
from xcarbon.models import pretrained
from xcarbon.models.bundle import CarbonModel
from xcarbon.models.inputs import ModelInputs
from xcarbon.prediction.applicability import FLAG, INDEX, applicability_attrs, dissimilarity
from xcarbon.prediction.leakage import in_training
from xcarbon.prediction.parcel import Parcel
from xcarbon.prediction.predictable import describe, predictable
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.labels import read_labels
from xcarbon.prep.memory import past
from xcarbon.prep.patches import patch_index
from xcarbon.prep.statics import stack_statics

Model = CarbonModel | str | os.PathLike[str] | None

#: Largest number of hours that one task predicts, so that a part of a long record is computed quickly.
BLOCK = 4392
#: Root attributes that a prediction inherits from its data.
INHERITED = ("license", "references", "acknowledgement", "history")


@overload
def predict(
    ds: xr.Dataset,
    target: str,
    model: Model = ...,
    *,
    spread: Literal[False] = ...,
    max_qc: int | None = ...,
    history: xr.Dataset | None = ...,
    causal: bool = ...,
    applicability: bool = ...,
) -> xr.DataArray: ...
@overload
def predict(
    ds: xr.Dataset,
    target: str,
    model: Model = ...,
    *,
    spread: Literal[True],
    max_qc: int | None = ...,
    history: xr.Dataset | None = ...,
    causal: bool = ...,
    applicability: bool = ...,
) -> xr.Dataset: ...
@overload
def predict(
    ds: xr.Dataset,
    target: str,
    model: Model = ...,
    *,
    spread: bool,
    max_qc: int | None = ...,
    history: xr.Dataset | None = ...,
    causal: bool = ...,
    applicability: bool = ...,
) -> xr.DataArray | xr.Dataset: ...
def predict(
    ds: xr.Dataset,
    target: str,
    model: Model = None,
    *,
    spread: bool = False,
    max_qc: int | None = None,
    history: xr.Dataset | None = None,
    causal: bool = False,
    applicability: bool = False,
) -> xr.DataArray | xr.Dataset:
    """Predict a flux for every hour, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers on ``(site, time)``, one tower on ``(time,)``, or cells of a grid on ``(time, lat, lon)`` in
        UTC, with patches and satellite series if the model uses them. Predictors that are absent count as
        missing.
    target : str
        Code of the variable to predict; the model must have been trained for it, or for the two variables
        that it is the sum of (:data:`xcarbon.core.variables.SUMS`).
    model : CarbonModel, path-like or str, optional
        A trained model, the folder of a saved model, or the name of a model of the package (``xcarbon
        models`` lists them). By default the model of the package that predicts this flux; its name is
        printed.
    spread : bool
        Also return the standard deviation of the error, if the model was trained to predict it.
    max_qc : int, optional
        Highest quality flag of the predictors to use; by default the one that the model was trained with.
    history : xarray.Dataset, optional
        The hourly variables of the same towers or cells before the first hour of ``ds``, if ``ds`` is a part
        of a longer record. The prediction then equals that part of a prediction of the whole record: a model
        computes its memory, for which it needs a year or more, and the context of the first hours from it.
    causal : bool
        Use no satellite composite that had not ended before the hour. By default satellite series are
        interpolated between the composites before and after the hour.
    applicability : bool
        Also return the dissimilarity index of the state of the ecosystem, and a flag for hours whose state is
        unlike any in training.

    Returns
    -------
    xarray.DataArray or xarray.Dataset
        Prediction named ``target``, on the dims of ``ds``, float32, in the units of the target, with CF
        attributes and the provenance of the model. It is computed lazily. NaN where the record has fewer
        hours than the model needs (``model.config.min_context``), and where a window contains no
        observation. The coordinate ``in_training`` states for each tower whether the model was trained on it
        (:func:`xcarbon.prediction.leakage.in_training`).
        With ``spread`` or ``applicability``, a Dataset with the prediction and ``<target>_SE``,
        the standard deviation of the error of a single hour at a tower that was not used in training, or
        ``dissimilarity`` and ``applicable``
        (:class:`~xcarbon.models.applicability.Applicability`).

    Raises
    ------
    ModelError
        If the model predicts another variable, predicts no spread although ``spread`` is set, has no area of
        applicability although ``applicability`` is set, or cannot be loaded.
    VariableError
        If ``ds`` has none of the model's predictors.
    MetadataError
        If the units of a predictor differ from those of the vocabulary, or a grid has no longitude.
    TimestampError
        If the time axis is not hourly, or ``history`` does not end before ``ds`` begins.
    OptionError
        If ``ds`` or ``history`` is no Dataset.

    Notes
    -----
    The result does not depend on the chunking: a chunk includes the hours of context before it.
    One task predicts one chunk, or half a year of a longer one, so that ``prediction.sel(time="2010-07-01")``
    predicts half a year; the memory of the model is computed for the chunks up to it. For each of its
    threads, a worker holds the chunk of each predictor and 4 bytes for each hour, cell and variable of the
    model, independent of the size of the Dataset. A month of 16 x 16 cells needs about 20 MB and some
    minutes; much larger chunks should be divided when the files are opened. Each worker holds one copy of the
    model.

    Cells without any observation, such as cells of the sea or cells masked by ``ds.where(mask)``, are
    skipped.

    For towers in memory, the number of hours that are not predicted and the reasons are printed, unless
    progress is switched off; :func:`xcarbon.prediction.predictable.predictable` counts them for any Dataset.

    On a grid the model reads mean solar time, UTC plus ``lon / 15`` hours, and the patch of a day at its
    noon.

    Examples
    --------
    >>> import tempfile
    >>> import xcarbon
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(2, patches=False)
    >>> with tempfile.TemporaryDirectory() as run, xcarbon.set_options(progress=False):
    ...     model = towers.carbon.fit(run_dir=run, max_steps=1, batch_size=8, network={"cross_blocks": 1})
    >>> predict(towers, "NEE", model).dims
    ('site', 'time')
    """
    model = _default(target) if model is None else pretrained.load(model)
    if target not in model.fluxes:
        instead = f"ds.carbon.predict({model.targets[0]!r}, model)"
        hint = did_you_mean(target, model.fluxes) or f": use {instead}"
        raise ModelError(f"the model predicts {', '.join(model.fluxes)}, not {target}{hint}")
    if spread and not model.has_spread:
        raise ModelError(f"this {model.predictor.name} model predicts no standard deviation: omit spread")
    config = model.config
    if history is not None:
        check_dataset(history, "history", "the Dataset before the selection of hours")
    ds, max_qc = read_labels(ds), model.scaler.max_qc if max_qc is None else max_qc
    _report_absent(ds, model)
    _report_missing(ds, model, max_qc)
    _report_memory(ds, model, history)
    longer, begin = ds, 0
    if history is not None:
        longer, history, begin = _with_context(ds, history, config.context - 1)
    inputs = model_inputs(
        longer,
        config.variables,
        config.bands,
        state=config.state,
        history=history,
        causal=causal,
        max_qc=max_qc,
    )
    values = _predict_blocks(inputs, model)
    outputs = {name: values[..., number] for number, name in enumerate(model.outputs)}
    if target not in model.targets:
        outputs |= _sum(target, outputs)
    attrs = {
        target: _flux_attrs(target, model),
        target + SPREAD: _spread_attrs(target),
    }
    names = [target] + [target + SPREAD] * spread
    if applicability:
        outputs |= dissimilarity(_in_blocks(inputs, values), model)
        attrs |= applicability_attrs(model)
        names += [INDEX, FLAG]
    if len(names) > 1:
        attrs[target]["ancillary_variables"] = " ".join(names[1:])
    hourly = inputs["hourly"].isel(variable=0, time=slice(begin, None), drop=True)
    wanted = (*[slice(None)] * hourly.dims.index("time"), slice(begin, None))
    dims = max((ds[code].dims for code in config.variables if code in ds), key=len)
    found = {}
    for name in names:
        array = hourly.copy(data=outputs[name][wanted])
        if "site" not in ds.dims and "site" in array.dims:
            array = array.isel(site=0, drop="site" not in ds.coords)
        found[name] = array.transpose(*dims, ...).assign_attrs(attrs[name])
    prediction = _label(xr.Dataset(found), ds, model)
    if len(names) > 1:
        title = f"{target} predicted from: {ds.attrs.get('title', 'unnamed data')}"
        inherited = {name: ds.attrs[name] for name in INHERITED if name in ds.attrs}
        line = f"xcarbon.predict, {attrs[target]['source']}"
        return conventions.log(prediction.assign_attrs(inherited, title=title), line)
    array = prediction[target]
    del array["time"].attrs["bounds"]  # a DataArray cannot carry them
    return array


def _label(prediction: xr.Dataset, ds: xr.Dataset, model: CarbonModel) -> xr.Dataset:
    """Add CF attributes, and whether the model was trained on each tower."""
    prediction = prediction.drop_vars("spatial_ref", errors="ignore")
    prediction["time"].attrs = dict(ds["time"].attrs)
    if (trained := in_training(prediction, model)) is not None:
        prediction = prediction.assign_coords({IN_TRAINING: trained.variable})
    # Zarr has standardised strings of any length only.
    texts = {
        name: array.astype(object) for name, array in prediction.coords.items() if array.dtype.kind == "U"
    }
    return conventions.apply(prediction.assign_coords(texts))


def _sum(target: str, outputs: dict[str, da.Array]) -> dict[str, da.Array]:
    """Add two fluxes; the standard deviation of the sum is that of independent errors.

    Errors of NEE and GPP are negatively correlated, so it is too large: the 90 % interval of respiration
    contains 99 % of the hours of towers that were left out of the training.
    """
    first, second = SUMS[target]
    total = {target: outputs[first] + outputs[second]}
    if first + SPREAD in outputs:
        total[target + SPREAD] = da.hypot(outputs[first + SPREAD], outputs[second + SPREAD])
    return total


def _default(target: str) -> CarbonModel:
    """Load the model of the package for a target, and print its name, since the user did not choose it."""
    model = pretrained.default(target)
    if OPTIONS["progress"]:
        name = model.provenance["name"]
        tqdm.write(f"predicting {target} with {name} of xcarbon; `xcarbon models {name}` describes it")
    return model


def _report_absent(ds: xr.Dataset, model: CarbonModel) -> None:
    """Print which predictors and site features of the model are not in the Dataset."""
    codes = [code for code in model.config.variables if code not in TIME_FEATURES and code not in ds]
    absent = codes + [name for name in model.config.statics if name not in ds.coords]
    if not OPTIONS["progress"] or not absent:
        return
    derived = {"RH": "VPD", "VPD": "RH"}
    advice = next(
        (
            f"; ds.carbon.standardize(derive=True) computes {code} from TA and {derived[code]}"
            for code in codes
            if code in derived and {"TA", derived[code]} <= set(ds.data_vars)
        ),
        "",
    )
    tqdm.write(f"the model is less accurate without {' and '.join(absent)}, which the Dataset lacks{advice}")


def _report_missing(ds: xr.Dataset, model: CarbonModel, max_qc: int) -> None:
    """Print how many hours of towers in memory are not predicted, and why. Lazy Datasets are not computed."""
    in_memory = not any(ds[code].chunks for code in ds.data_vars)
    if not OPTIONS["progress"] or not in_memory or conventions.is_grid(ds):
        return
    if text := describe(predictable(ds, model, max_qc=max_qc)):
        tqdm.write(text)


def _report_memory(ds: xr.Dataset, model: CarbonModel, history: xr.Dataset | None) -> None:
    """Print that the memory of the first hours is short, if less than a year precedes them."""
    if not OPTIONS["progress"] or not any(memory_code(feature) for feature in model.config.state):
        return
    earliest = ds if history is None else history
    if not ds.sizes["time"] or not earliest.sizes["time"]:
        return
    before = ds["time"].values[0] - earliest["time"].values[0]
    if before < np.timedelta64(365, "D"):
        days = int(before / np.timedelta64(1, "D"))
        tqdm.write(
            f"the model uses a year of weather before each hour, and {days} days precede the Dataset: if the "
            "record begins earlier, pass the part before it as history"
        )


def _with_context(
    ds: xr.Dataset, history: xr.Dataset, hours: int
) -> tuple[xr.Dataset, xr.Dataset | None, int]:
    """Move the last hours of the history to the start of ``ds``; return both, and the number of hours."""
    before = past(ds, history)
    begin = min(hours, before.sizes["time"])
    cut = before.sizes["time"] - begin
    head, tail = before.isel(time=slice(cut)), before.isel(time=slice(cut, None))
    if not begin:
        return ds, before, 0
    time = np.concatenate([tail["time"].values, ds["time"].values])
    parts = {}
    for name, array in ds.data_vars.items():
        if "time" in array.dims:
            fill = MISSING_FLAG if array.dtype.kind == "i" else np.nan
            earlier = tail.get(name, array.isel(time=slice(0))).reindex(time=tail["time"].values)
            filled = earlier.fillna(fill).astype(array.dtype).variable.transpose(*array.dims)
            parts[name] = xr.Variable.concat([filled, array.variable], "time")
            parts[name].attrs = array.attrs
    ds = ds.drop_dims("time").assign_coords(time=("time", time, ds["time"].attrs)).assign(parts)
    return ds, head if head.sizes["time"] else None, begin


def _in_blocks(inputs: xr.Dataset, values: da.Array) -> xr.Dataset:
    """Divide the state into the chunks of predicted values along time."""
    axis = inputs["hourly"].dims.index("time")
    return inputs.assign(
        state=inputs["state"].copy(data=inputs["state"].data.rechunk({axis: values.chunks[axis]}))
    )


def _predict_blocks(inputs: xr.Dataset, model: CarbonModel) -> da.Array:
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
    opened = delayed(Parcel.open, pure=True)(Parcel(model))
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


def _flux_attrs(target: str, model: CarbonModel) -> dict[str, str]:
    """CF attributes of a predicted flux; the name is short enough for an axis."""
    attrs = conventions.variable_attrs(target) | provenance_attrs(model)
    attrs["long_name"], _, detail = attrs["long_name"].partition(", ")
    attrs["comment"] = "; ".join(filter(None, [detail, attrs["comment"]]))
    return attrs


def _spread_attrs(target: str) -> dict[str, str]:
    """CF attributes of a target's predicted standard deviation."""
    attrs = conventions.variable_attrs(target)
    attrs["long_name"] = "standard deviation of the error"
    if "standard_name" in attrs:
        attrs["standard_name"] += " standard_error"
    return attrs


def provenance_attrs(model: CarbonModel) -> dict[str, str]:
    """Return the CF attributes that describe the origin of a prediction.

    Parameters
    ----------
    model : CarbonModel
        The model of the prediction.

    Returns
    -------
    dict
        The attributes ``source``, ``references``, ``comment`` and ``training_sites``.
    """
    sites = model.sites
    data = model.provenance.get("data", {})
    described = data.get("title") or "unnamed data"
    name = f"{model.provenance['name']}: " if "name" in model.provenance else ""
    attrs = {
        "source": f"{name}{model.predictor.name} model {model.fingerprint()}, xcarbon {__version__}",
        "references": "arXiv:2406.04940",
        "comment": f"predicted by a model trained on {len(sites)} towers of: {described}",
        "training_sites": " ".join(sites),
    }
    if "references" in data:
        attrs["references"] += f"; {data['references']}"
    return attrs
