"""Scores of a prediction at time scales from hours to years."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import xarray as xr

from xcarbon.evaluation.scores import MOMENTS, label_moments, pair, pooled, tower_moments
from xcarbon.prep.periods import Array, Stamps, departures, map_towers, period_means, periods
from xcarbon.prep.quality import MAX_QC

#: Scales of :func:`score_time_scales`, in its order.
SCALES = ("hourly", "daily", "weekly", "monthly", "seasonal", "anomalies", "interannual")

#: Function that computes series of observed and predicted values at each scale, ``(2, periods)``, from
#: complete observed and predicted hours ``(2, hours)`` and their time stamps.
Scales = Callable[[Array, Stamps], Sequence[Array]]


def score_time_scales(
    ds: xr.Dataset, prediction: xr.DataArray, by: str | None = None, *, max_qc: int = MAX_QC
) -> xr.Dataset:
    """Score a prediction at time scales from hours to years.

    The diurnal and the seasonal cycle make up most of the variance of hourly fluxes, so that a model that
    uses only the position of the sun scores well. The skill for weeks, unusual seasons and years is visible
    after averaging and after subtracting the mean seasonal cycle.

    Parameters
    ----------
    ds, prediction, by, max_qc
        As for :func:`xcarbon.evaluation.scores.score`.

    Returns
    -------
    xarray.Dataset
        ``nse`` [1], ``rmse``, ``bias`` and ``n``, here the number of periods, along ``scale`` and ``by``,
        lazy with one task for each tower. All means are computed over the hours that have both an observation
        and a prediction:

        - ``hourly``: the scores of :func:`xcarbon.evaluation.scores.score`,
        - ``daily``, ``weekly`` (Monday to Sunday), ``monthly``: means of days, weeks and months with at least
          half of their hours,
        - ``seasonal``: the mean year, that is the mean of each calendar month over the years,
        - ``anomalies``: monthly means minus the mean year, for calendar months with data in at least two
          years,
        - ``interannual``: means of years with at least half of their hours, minus the tower's mean over
          years, for towers with at least two years.

        Observations and predictions each have their own mean year. Periods are pooled over a class like
        hours; the efficiency of ``anomalies`` is therefore relative to the variance of the anomalies. Gaps
        affect observations and predictions equally. If they fall into different seasons in different years,
        they add to the differences between years, and a model of the mean season alone scores above 0 in
        ``interannual``.

    Raises
    ------
    VariableError
        If the prediction has no name, or ``ds`` does not contain the observations.
    OptionError
        If ``by`` is not a coordinate on ``site``.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(2, patches=False)
    >>> scores = score_time_scales(towers, towers["NEE"] + 1)
    >>> scores["rmse"].sel(scale=["daily", "anomalies"]).values.round(3)
    array([ 1., nan])
    """
    observed, predicted = pair(ds, prediction, max_qc=max_qc)
    scores = pooled(moments_by_scale(observed, predicted, _scales, SCALES), by).transpose("scale", ...)
    scores["n"].attrs["long_name"] = "number of periods"
    return scores


def moments_by_scale(
    observed: xr.DataArray, predicted: xr.DataArray, scales: Scales, names: Sequence[str]
) -> xr.Dataset:
    """Compute the moments of each tower ``(site, scale)`` from its periods at several named scales."""
    stamps = xr.DataArray(observed["time"].values, dims="time")
    sizes = {"scale": len(names), "moment": len(MOMENTS)}
    stacked = map_towers(partial(_tower_scales, scales=scales), observed, predicted, stamps, sizes=sizes)
    return label_moments(stacked.assign_coords(scale=list(names)), observed)


def _tower_scales(observed: Array, predicted: Array, stamps: Stamps, *, scales: Scales) -> Array:
    """Compute the moments of one tower: ``(time,)`` to ``(scale, moment)``; 0 without a common hour."""
    pairs = np.stack([observed, predicted]).astype("float64")
    both = ~np.isnan(pairs).any(axis=0)
    if not both.any():
        return np.zeros(())
    return np.stack([tower_moments(*series) for series in scales(pairs[:, both], stamps[both])])


def _scales(pairs: Array, stamps: Stamps) -> Sequence[Array]:
    """Compute the series of :data:`SCALES` from complete pairs ``(2, hours)``."""
    day, week = periods(stamps, "D"), periods(stamps, "W")
    month, year = periods(stamps, "M"), periods(stamps, "Y")
    daily, weekly, monthly, annual = (
        period_means(pairs, period.number, period.hours / 2) for period in (day, week, month, year)
    )
    of_year = month.start.astype("datetime64[M]").astype(int) % 12
    seasonal = period_means(monthly, of_year, min_count=1)
    all_years = np.zeros(annual.shape[1], int)
    anomalies, interannual = departures(monthly, of_year), departures(annual, all_years)
    return pairs, daily, weekly, monthly, seasonal, anomalies, interannual
