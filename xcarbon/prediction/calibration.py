"""The spread of a model, scaled so that its intervals hold at towers it was not trained on."""

from __future__ import annotations

import dataclasses
from statistics import NormalDist

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core.errors import ModelError
from xcarbon.core.options import progress_bar
from xcarbon.evaluation.coverage import LEVELS, standardised_error
from xcarbon.models.bundle import CarbonModel
from xcarbon.prediction.predict import predict


def calibrate(model: CarbonModel, ds: xr.Dataset) -> CarbonModel:
    """Scale a model's spread so that it holds as many observations of other towers as it should.

    Parameters
    ----------
    model : CarbonModel
        A model with spread.
    ds : xarray.Dataset
        Towers that it was not trained on.

    Returns
    -------
    CarbonModel
        With another ``scaler.spread``; predictions are the same. Its provenance tells, as ``calibration``,
        the coverage of each of :data:`LEVELS` at towers that were left out when the factor was found, one
        after another.

    Raises
    ------
    ModelError
        If the model has no spread, or nothing was measured there.

    Notes
    -----
    Errors of fluxes have heavier tails than a normal distribution, so one factor cannot suit all levels. It
    is the geometric mean of those that suit each of :data:`LEVELS`.
    """
    if not model.has_spread:
        raise ModelError(f"this {model.predictor.name} model has no spread to be calibrated")
    errors, labels = [], []
    for target in model.targets:
        prediction = predict(ds, target, model, spread=True)
        with progress_bar("calibrating"):
            error = abs(standardised_error(ds, prediction, max_qc=model.scaler.max_qc)).compute()
        errors.append(error.values)
        labels = [str(site) for site in error["site"].values] if "site" in error.coords else []
    towers = np.concatenate(errors, axis=1)
    known = [tower[np.isfinite(tower)] for tower in towers]
    if not any(tower.size for tower in known):
        raise ModelError(f"none of {len(known)} towers has an hour with {' and '.join(model.targets)}")
    factor = _factor(np.concatenate(known))
    calibration = {"sites": labels, "factor": factor, "coverage": _left_out(known)}
    scaler = dataclasses.replace(model.scaler, spread=model.scaler.spread * factor)
    provenance = model.provenance | {"calibration": calibration}
    return dataclasses.replace(model, scaler=scaler, provenance=provenance)


def _factor(errors: NDArray[np.floating]) -> float:
    """By what to multiply the spread, given absolute standardised errors."""
    normal = [NormalDist().inv_cdf((1 + level) / 2) for level in LEVELS]
    return float(np.exp(np.log(np.quantile(errors, LEVELS) / normal).mean()))


def _left_out(towers: list[NDArray[np.floating]]) -> dict[str, float]:
    """Coverage of each level at towers by whose hours the factor was not found."""
    if sum(tower.size > 0 for tower in towers) < 2:
        return {}
    within = np.zeros(len(LEVELS))
    limits = np.array([NormalDist().inv_cdf((1 + level) / 2) for level in LEVELS])
    for number, tower in enumerate(towers):
        if tower.size:
            factor = _factor(np.concatenate(towers[:number] + towers[number + 1 :]))
            within += (tower[:, np.newaxis] <= factor * limits).sum(0)
    total = sum(tower.size for tower in towers)
    return {str(level): float(share) for level, share in zip(LEVELS, within / total, strict=True)}
