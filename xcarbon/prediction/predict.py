"""Predict a flux for a Dataset with a trained model, lazily: the labels of a prediction."""

from __future__ import annotations

import os
from typing import Literal, overload

import dask.array as da
import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from xcarbon.core import conventions
from xcarbon.core.conventions import MISSING_FLAG
from xcarbon.core.errors import ModelError
from xcarbon.core.options import OPTIONS
from xcarbon.core.spelling import did_you_mean
from xcarbon.core.validation import check_dataset
from xcarbon.core.variables import IN_TRAINING, SPREAD, SUMS
from xcarbon.models import pretrained
from xcarbon.models.bundle import CarbonModel
from xcarbon.prediction.applicability import FLAG, INDEX, applicability_attrs, dissimilarity
from xcarbon.prediction.attributes import INHERITED, flux_attrs, provenance_attrs, spread_attrs
from xcarbon.prediction.blocks import predict_blocks, predict_hours
from xcarbon.prediction.leakage import in_training
from xcarbon.prediction.notices import report_absent, report_memory, report_missing
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.labels import read_labels
from xcarbon.prep.memory import past

__all__ = ["predict", "predict_hours", "provenance_attrs"]

Model = CarbonModel | str | os.PathLike[str] | None


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
    report_absent(ds, model)
    report_missing(ds, model, max_qc)
    report_memory(ds, model, history)
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
    values = predict_blocks(inputs, model)
    outputs = {name: values[..., number] for number, name in enumerate(model.outputs)}
    if target not in model.targets:
        outputs |= _sum(target, outputs)
    attrs = {
        target: flux_attrs(target, model),
        target + SPREAD: spread_attrs(target),
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
