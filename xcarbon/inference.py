"""Apply a trained model to a Dataset, lazily and chunk by chunk."""

from __future__ import annotations

import functools
import os

import dask.array as da
import numpy as np
import torch
import xarray as xr
from dask.delayed import delayed

import xcarbon
from xcarbon import conventions
from xcarbon.errors import ModelError
from xcarbon.models.bundle import CarbonModel
from xcarbon.options import OPTIONS
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.patches import patch_index
from xcarbon.variables import TIME_FEATURES
from xcarbon.windows import gather_patches

#: Windows that are computed at once: small enough for the caches, large enough for the matrix products.
BATCH = 128


def predict(ds: xr.Dataset, target: str, model: CarbonModel | str | os.PathLike[str]) -> xr.DataArray:
    """Predict a flux for every hour, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers on ``(site, time)``, or one on ``(time,)``; patches where the model uses them.
        Predictors that are absent count as missing.
    target : str
        Code of the variable to predict; the model must have been trained for it.
    model : CarbonModel or path-like
        A trained model, or the folder that one was saved to.

    Returns
    -------
    xarray.DataArray
        Named ``target``, on the dims of ``ds``, float32, in units of the target, with CF attributes and
        the model's provenance. Nothing is computed before it is asked for. NaN where there is less
        than a full window of stamps, and where a window holds no observation at all.

    Raises
    ------
    ModelError
        If the model predicts another variable, or cannot be loaded.
    VariableError
        If ``ds`` has none of the model's predictors.
    TimestampError
        If the time axis is not hourly.

    Examples
    --------
    >>> import tempfile
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(2, patches=False)
    >>> with tempfile.TemporaryDirectory() as run, xcarbon.set_options(progress=False):
    ...     model = towers.carbon.fit(run_dir=run, max_steps=1, batch_size=8, network={"cross_blocks": 1})
    >>> predict(towers, "NEE", model).dims
    ('site', 'time')
    """
    if not isinstance(model, CarbonModel):
        model = CarbonModel.load(model)
    if model.target != target:
        instead = f"ds.carbon.predict({model.target!r}, model)"
        raise ModelError(f"the model predicts {model.target}, not {target}: use {instead}")
    config = model.config
    inputs = model_inputs(ds, config.variables, config.bands, max_qc=model.scaler.max_qc)
    values = _predict_blocks(inputs, model)
    template = inputs["hourly"].isel(variable=0, drop=True).drop_vars("spatial_ref", errors="ignore")
    prediction = template.copy(data=values).rename(target)
    prediction.attrs = conventions.variable_attrs(target) | _provenance(model)
    # A DataArray cannot carry the bounds; conventions.apply(prediction.to_dataset()) adds them again.
    prediction["time"].attrs = {k: v for k, v in ds["time"].attrs.items() if k != "bounds"}
    if "site" not in ds.dims:
        prediction = prediction.isel(site=0, drop="site" not in ds.coords)
    return prediction


def _predict_blocks(inputs: xr.Dataset, model: CarbonModel) -> da.Array:
    """Dask graph: each chunk of hours gets the hours of context before it, and its towers' patches."""
    context = model.config.context
    hourly = inputs["hourly"].data
    chunks = da.overlap.ensure_minimum_chunksize(min(context, hourly.shape[1]), hourly.chunks[1])
    hourly = hourly.rechunk({1: chunks, 2: -1})
    stamps = da.from_array(inputs["time"].values.astype("datetime64[s]"), chunks=(chunks,))
    arrays = [_with_context(hourly, 1, context, np.nan), "stv", _with_context(stamps, 0, context, "NaT"), "t"]
    day = None
    if "patch" in inputs:
        day = inputs["day"].values
        arrays += [inputs["patch"].data.rechunk({0: hourly.chunks[0], 1: -1, 2: -1, 3: -1, 4: -1}), "sdbyx"]
    return da.blockwise(
        functools.partial(_predict_block, day=day),
        "st",
        *arrays,
        # A Delayed is sent once to each worker; a plain argument would be a part of every task.
        model=delayed(model, pure=True),
        adjust_chunks={"t": chunks},
        align_arrays=False,
        concatenate=True,
        meta=np.empty((0, 0), np.float32),
    )


def _with_context(array: da.Array, axis: int, context: int, fill: object) -> da.Array:
    """Give each chunk along ``axis`` the ``context - 1`` entries before it; ``fill`` before the first one."""
    if context == 1:
        return array
    chunks = list(array.chunks)
    chunks[axis] = (context - 1,)
    before = da.full([sum(sizes) for sizes in chunks], fill, dtype=array.dtype, chunks=tuple(chunks))
    first, *rest = array.chunks[axis]
    padded = da.concatenate([before, array], axis=axis).rechunk({axis: (first + context - 1, *rest)})
    return da.overlap.overlap(padded, {axis: (context - 1, 0)}, {axis: "none"})


def _predict_block(
    hourly: np.ndarray,
    stamps: np.ndarray,
    patches: np.ndarray | None = None,
    *,
    day: np.ndarray | None,
    model: CarbonModel,
) -> np.ndarray:
    """One chunk: ``(sites, hours + T - 1, V) -> (sites, hours)``."""
    output = np.full((len(hourly), len(stamps) - model.config.context + 1), np.nan, np.float32)
    for site, series in enumerate(hourly):
        if patches is None or day is None:
            output[site] = predict_hours(series, stamps, model)
        else:
            usable = np.isfinite(patches[site]).all(axis=(1, 2, 3))
            index = patch_index(stamps, day, usable)
            output[site] = predict_hours(series, stamps, model, patches[site], index)
    return output


def predict_hours(
    hourly: np.ndarray,
    stamps: np.ndarray,
    model: CarbonModel,
    patches: np.ndarray | None = None,
    index: np.ndarray | None = None,
) -> np.ndarray:
    """Predict consecutive hours of one tower.

    Parameters
    ----------
    hourly : numpy.ndarray
        Scaled variables [1], shape ``(hours + T - 1, V)``; NaN where missing.
    stamps : numpy.ndarray
        Time stamps, shape ``(hours + T - 1,)``; NaT before the record.
    model : CarbonModel
        The model, with a context of T hours.
    patches : numpy.ndarray, optional
        Shape ``(days, C, 8, 8)``.
    index : numpy.ndarray, optional
        Which patch enters at each hour, shape ``(hours + T - 1,)``; -1 for none.

    Returns
    -------
    numpy.ndarray
        Shape ``(hours,)``, float32; NaN where a window is incomplete or holds no observation.
    """
    config = model.config
    device = _device()
    model.network.to(device)
    measured = [number for number, code in enumerate(config.variables) if code not in TIME_FEATURES]
    observed = np.isfinite(hourly[:, measured]).any(axis=1)
    if index is not None:
        observed |= index >= 0
    seen = np.lib.stride_tricks.sliding_window_view(observed, config.context).any(axis=1)
    hours = len(stamps) - config.context + 1
    complete = ~np.isnat(stamps[:hours])
    output = np.full(hours, np.nan, np.float32)
    windows = torch.from_numpy(hourly).unfold(0, config.context, 1).transpose(1, 2)  # (hours, T, V)
    views = None if index is None else torch.from_numpy(index).unfold(0, config.context, 1)  # (hours, T)
    images, which = None, None
    for part in torch.from_numpy(np.flatnonzero(seen & complete)).split(BATCH):
        if patches is not None and views is not None:
            images, which = gather_patches(torch.from_numpy(patches), views[part])
            images, which = images.to(device), which.to(device)
        output[part.numpy()] = model.predict(windows[part].to(device), images, which).cpu().numpy()
    return output


def _device() -> torch.device:
    """The device of the option, resolved where the computation runs."""
    if OPTIONS["device"] != "auto":
        return torch.device(OPTIONS["device"])
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _provenance(model: CarbonModel) -> dict[str, str]:
    """CF attributes that say where a prediction comes from."""
    sites = model.sites
    data = model.provenance.get("data", {})
    described = data.get("title") or "unnamed data"
    attrs = {
        "source": f"EcoPerceiver model {model.fingerprint()}, xcarbon {xcarbon.__version__}",
        "references": "arXiv:2406.04940",
        "comment": f"predicted by a model trained on {len(sites)} towers of: {described}",
        "training_sites": " ".join(sites),
    }
    if "references" in data:
        attrs["references"] += f"; {data['references']}"
    return attrs
