"""The area of applicability of a model: computed from its training towers, and used in predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed

from xcarbon.core.conventions import MISSING_FLAG
from xcarbon.core.errors import ModelError
from xcarbon.core.options import progress_bar
from xcarbon.models.applicability import CLASS, Applicability
from xcarbon.models.boosting import BoostedTrees
from xcarbon.models.bundle import CarbonModel
from xcarbon.models.ensemble import members
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.labels import read_labels
from xcarbon.prep.statics import stack_statics

#: Names of the dissimilarity index and of its flag in a prediction.
INDEX, FLAG = "dissimilarity", "applicable"


def with_applicability(
    model: CarbonModel, ds: xr.Dataset, *, weights: Mapping[str, float] | None = None, seed: int = 0
) -> CarbonModel:
    """Compute the area of applicability of a model from its training towers.

    Parameters
    ----------
    model : CarbonModel
        A model with a state. Its predictions do not change.
    ds : xarray.Dataset
        The training towers, ``(site, time)``. One hour of each day with a measured target is used.
    weights : mapping of str to float, optional
        Weights of the state features and of ``igbp``. By default the square root of their gain in the trees
        of the model, or 1 for all if there are no trees.
    seed : int
        Random seed for sampling days and reference points.

    Returns
    -------
    CarbonModel
        The model with its ``area``.

    Raises
    ------
    ModelError
        If the model has no state, or fewer than two towers have measured targets.

    Notes
    -----
    The dissimilarity index of Meyer and Pebesma (2021, doi:10.1111/2041-210X.13650) is computed from the slow
    features, the state and the class, since the weather of single hours occurs at most towers:
    :class:`xcarbon.models.applicability.Applicability`.

    Examples
    --------
    >>> import xcarbon
    >>> xcarbon.load("nee-fluxnet2015").area.names[-1]
    'igbp'
    """
    names = _features(model)
    inputs = model_inputs(
        read_labels(ds),
        model.config.variables,
        state=model.config.state,
        target=model.targets[0],
        max_qc=model.scaler.max_qc,
    )
    statics = stack_statics(inputs, [CLASS]) if CLASS in names else None
    sample = delayed(_sample)
    rows = []
    with progress_bar("sampling days"):
        for site in range(inputs.sizes["site"]):
            tower = inputs.isel(site=site)
            known = None if statics is None else statics[site]
            days = sample(tower["state"].data, tower["target"].data, known, [seed, site]).compute()
            rows.append(days)
    groups = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
    chosen = _gain(model) if weights is None else weights
    factors = [chosen.get(name, 0.0) for name in names]
    area = Applicability.from_training(np.concatenate(rows), names, groups, factors, seed=seed)
    return dataclasses.replace(model, area=area)


def _features(model: CarbonModel) -> tuple[str, ...]:
    """Names of the features of the index: the state and, if the model reads it, the class."""
    if not model.config.state:
        raise ModelError(
            "the area of applicability is computed from the state, but this "
            f"{model.predictor.name} model has none: train a model with state features"
        )
    return model.config.state + ((CLASS,) if CLASS in model.config.statics else ())


def _sample(state: np.ndarray, target: np.ndarray, igbp: np.ndarray | None, seed: list[int]) -> np.ndarray:
    """Draw one of each 24 consecutive hours with a target: ``(hours, M), (hours,), (1,) -> (n, F)``."""
    hours = np.flatnonzero(np.isfinite(target))
    days = np.random.default_rng(seed).choice(hours, len(hours) // 24, replace=False)
    found = state[np.sort(days)]
    if igbp is None:
        return found
    return np.concatenate([found, np.broadcast_to(igbp, (len(found), 1))], axis=1)


def _gain(model: CarbonModel) -> dict[str, float]:
    """Square root of the gain of each feature in the trees of a model, 1 for all without trees."""
    names = _features(model)
    gains: dict[str, float] = {}
    for member in members(model):
        if isinstance(member.predictor, BoostedTrees):
            for feature, gain in member.predictor.booster.get_score(importance_type="gain").items():
                name = CLASS if feature.startswith(f"{CLASS}_") else feature
                gains[name] = max(gains.get(name, 0.0), float(np.sqrt(gain)))
    return {name: gains.get(name, 0.0) for name in names} if gains else dict.fromkeys(names, 1.0)


def dissimilarity(inputs: xr.Dataset, model: CarbonModel) -> dict[str, da.Array]:
    """Compute the index and its flag from the ``model_inputs``, lazily, both ``(*place, time)``."""
    if model.area is None:
        raise ModelError(
            "the model has no area of applicability: compute it from the training towers with "
            "xcarbon.prediction.applicability.with_applicability(model, towers)"
        )
    state = inputs["state"]
    *place, time, _ = state.dims
    statics: list[object] = [None, None]
    if CLASS in model.area.names:
        chunks = state.data.chunks[: len(place)]
        statics = [stack_statics(inputs, [CLASS], chunks), (*place, "static")]
    index = da.blockwise(
        _dissimilarity,
        (*place, time),
        state.data,
        state.dims,
        *statics,
        # A Delayed is sent once to each worker; a plain argument would be part of every task.
        area=delayed(model.area, pure=True),
        concatenate=True,
        meta=np.empty((0,) * (len(place) + 1), np.float32),
    )
    flag = da.where(da.isnan(index), MISSING_FLAG, index <= model.area.threshold).astype(np.int8)
    return {INDEX: index, FLAG: flag}


def applicability_attrs(model: CarbonModel) -> dict[str, dict[str, Any]]:
    """CF attributes of the index and its flag."""
    return {
        INDEX: {
            "long_name": "dissimilarity index of the state",
            "units": "1",
            "references": "Meyer and Pebesma 2021, doi:10.1111/2041-210X.13650",
            "comment": f"the area of applicability ends at {model.area.threshold:.4f}" if model.area else "",
            "ancillary_variables": FLAG,
        },
        FLAG: {
            "long_name": "state within the area of applicability",
            "standard_name": "status_flag",
            "flag_values": np.array([0, 1], np.int8),
            "flag_meanings": "outside inside",
        },
    }


def _dissimilarity(state: np.ndarray, igbp: np.ndarray | None, area: Applicability) -> np.ndarray:
    """Kernel of :func:`dissimilarity`: ``(*place, hours, M), (*place, 1) -> (*place, hours)``."""
    if igbp is None:
        return area.dissimilarity(state)
    classes = np.broadcast_to(igbp[..., np.newaxis, :], (*state.shape[:-1], 1))
    return area.dissimilarity(np.concatenate([state, classes], axis=-1))
