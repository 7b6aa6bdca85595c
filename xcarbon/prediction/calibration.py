"""Calibration of the predicted standard deviation at towers that were not used in training."""

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
from xcarbon.models.calibration import SpreadCalibration
from xcarbon.prediction.predict import predict

#: Half width of the central interval of each level, in standard deviations of a normal distribution [1].
LIMITS = np.array([NormalDist().inv_cdf((1 + level) / 2) for level in LEVELS])


def calibrate(model: CarbonModel, ds: xr.Dataset) -> CarbonModel:
    """Scale the predicted standard deviation so that its intervals contain the nominal share of observations.

    Parameters
    ----------
    model : CarbonModel
        A model with spread.
    ds : xarray.Dataset
        Towers that were not used in training, with the measured targets.

    Returns
    -------
    CarbonModel
        The model with another ``scaler.spread``; its predictions do not change. The entry ``calibration``
        of its provenance contains the coverage of each of :data:`~xcarbon.evaluation.coverage.LEVELS`, the
        central 50 and 90 %, at each tower with the factor from all other towers.

    Raises
    ------
    ModelError
        If the model has no spread, or ``ds`` has no measured target.

    Notes
    -----
    Errors of fluxes have heavier tails than a normal distribution, so no single factor is exact
    at all levels. The factor is the geometric mean of the factors that are exact at each level.
    """
    if not model.has_spread:
        raise ModelError(f"this {model.predictor.name} model predicts no spread: choose one that does")
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
        raise ModelError(f"none of {len(known)} towers has a measured {' and '.join(model.targets)}")
    factor = _factor(np.concatenate(known))
    calibration = {"sites": labels, "factor": factor, "coverage": _left_out(known)}
    before = {code: model.scaler.spread.get(code, SpreadCalibration()) for code in model.targets}
    spread = {code: dataclasses.replace(each, factor=factor * each.factor) for code, each in before.items()}
    scaler = dataclasses.replace(model.scaler, spread=spread)
    provenance = model.provenance | {"calibration": calibration}
    return dataclasses.replace(model, scaler=scaler, provenance=provenance)


def _factor(errors: NDArray[np.floating]) -> float:
    """Factor for the spread from absolute standardised errors."""
    return float(np.exp(np.log(np.quantile(errors, LEVELS) / LIMITS).mean()))


def _left_out(towers: list[NDArray[np.floating]]) -> dict[str, float]:
    """Coverage of each level, each tower with the factor from all other towers."""
    if sum(tower.size > 0 for tower in towers) < 2:
        return {}
    within = np.zeros(len(LEVELS))
    for number, tower in enumerate(towers):
        if tower.size:
            factor = _factor(np.concatenate(towers[:number] + towers[number + 1 :]))
            within += (tower[:, np.newaxis] <= factor * LIMITS).sum(0)
    total = sum(tower.size for tower in towers)
    return {str(level): float(share) for level, share in zip(LEVELS, within / total, strict=True)}
