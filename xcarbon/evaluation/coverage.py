"""Whether observations lie as far from their predictions as these say."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.errors import ModelError
from xcarbon.inference import predict
from xcarbon.models.bundle import CarbonModel
from xcarbon.options import progress_bar
from xcarbon.prep.quality import MAX_QC
from xcarbon.scoring import flux_with_spread, pair
from xcarbon.variables import SPREAD

#: Shares of the observations that are looked at: the middle half, and all but the tails.
LEVELS = (0.5, 0.9)


def coverage(
    ds: xr.Dataset,
    prediction: xr.Dataset,
    by: str | None = None,
    *,
    levels: Sequence[float] = LEVELS,
    max_qc: int = MAX_QC,
) -> xr.Dataset:
    r"""Count the observations within the intervals that predictions give.

    Parameters
    ----------
    ds : xarray.Dataset
        Observations on ``(site, time)`` or ``(time,)``, with their quality codes.
    prediction : xarray.Dataset
        From ``ds.carbon.predict_nee(model, spread=True)``: a flux and its standard deviation.
    by : str or None
        A coordinate on ``site``, ``"site"`` for one value per tower, None for one over all hours.
    levels : sequence of float
        Shares of a normal distribution that intervals should hold.
    max_qc : int
        Highest quality code of an observation that counts.

    Returns
    -------
    xarray.Dataset
        Along ``level`` and ``by``, lazily: ``coverage`` [1], the share of the hours within

        .. math:: |y - x| \le \sigma\, \Phi^{-1}\left(\frac{1 + level}{2}\right),

        and ``n``, the number of hours.

    Raises
    ------
    VariableError
        If the prediction has no spread, or ``ds`` does not have the observations.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(2, patches=False)
    >>> prediction = xr.Dataset({"NEE": towers["NEE"] - 1, "NEE_SE": xr.ones_like(towers["NEE"])})
    >>> coverage(towers, prediction)["coverage"].values
    array([0., 1.])
    """
    error = standardised_error(ds, prediction, max_qc=max_qc)
    limits = [NormalDist().inv_cdf((1 + level) / 2) for level in levels]
    limit = xr.DataArray(limits, dims="level", coords={"level": list(levels)})
    within = (abs(error) <= limit).sum("time").rename("within")
    sums = xr.Dataset({"within": within, "n": error.notnull().sum("time")})
    if by is None:
        sums = sums.sum("site")
    elif by != "site":
        sums = sums.groupby(by).sum("site")
    share = sums["within"] / sums["n"].where(sums["n"] > 0)
    share.attrs = {"long_name": "share of the observations within the interval", "units": "1"}
    sums["n"].attrs = {"long_name": "number of hours", "units": "1"}
    return xr.Dataset({"coverage": share, "n": sums["n"]})


def standardised_error(ds: xr.Dataset, prediction: xr.Dataset, *, max_qc: int = MAX_QC) -> xr.DataArray:
    """Divide the errors of a prediction by the standard deviation that it gives.

    Parameters
    ----------
    ds, prediction, max_qc
        As for :func:`coverage`.

    Returns
    -------
    xarray.DataArray
        ``(y - x) / s`` [1] on ``(site, time)``, lazily; NaN where one of them is missing.

    Raises
    ------
    VariableError
        As for :func:`coverage`.
    """
    target = flux_with_spread(prediction)
    observed, predicted = pair(ds, prediction[target], max_qc=max_qc)
    _, spread = pair(ds, prediction[target + SPREAD].rename(target), max_qc=max_qc)
    return (observed - predicted) / spread


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
