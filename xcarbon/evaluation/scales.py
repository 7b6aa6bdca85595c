"""Score a prediction from hours to years."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import xarray as xr

from xcarbon.evaluation.scores import MOMENTS, label_moments, pair, pooled, tower_moments
from xcarbon.prep.periods import Array, Stamps, departures, map_towers, period_means, periods
from xcarbon.prep.quality import MAX_QC

#: What :func:`score_time_scales` scores, in its order.
SCALES = ("hourly", "daily", "weekly", "monthly", "seasonal", "anomalies", "interannual")

#: From observed and predicted hours, ``(2, hours)`` and complete, and their stamps to a pair of series for
#: each scale, ``(2, periods)``.
Scales = Callable[[Array, Stamps], Sequence[Array]]


def score_time_scales(
    ds: xr.Dataset, prediction: xr.DataArray, by: str | None = None, *, max_qc: int = MAX_QC
) -> xr.Dataset:
    """Score a prediction at scales of time from hours to years.

    The day and the season make most of the variance of hourly fluxes, and a model that knows no more than the
    sun's path scores well. What it tells of weeks, of odd seasons and of years is seen after averaging and
    after taking the mean season out.

    Parameters
    ----------
    ds, prediction, by, max_qc
        As for :func:`xcarbon.evaluation.scores.score`.

    Returns
    -------
    xarray.Dataset
        ``nse``, ``rmse``, ``bias`` and ``n``, now the number of periods, along ``scale`` and ``by``, lazily,
        one task for each tower. All means are of the hours in which observation and prediction are both
        there:

        - ``hourly``: as :func:`xcarbon.evaluation.scores.score`,
        - ``daily``, ``weekly`` (from Monday to Sunday), ``monthly``: means of days, weeks and months in which
          at least half of the hours are there,
        - ``seasonal``: the mean year by calendar month, the mean of its monthly means over the years,
        - ``anomalies``: monthly means less the mean year, of calendar months that are there in two years or
          more,
        - ``interannual``: means of years with at least half of their hours less the tower's mean over years,
          of towers with two years or more.

        Observations and predictions each have their own mean year. Periods are pooled over a class as hours
        are: the efficiency of ``anomalies`` is relative to their variance, and no longer to that of the
        season. Gaps thin out both in the same hours, so where they fall into other seasons each year, years
        differ by that, too, and a model that knows the season alone scores above 0 in ``interannual``.

    Raises
    ------
    VariableError
        If the prediction has no name, or ``ds`` does not have the observations.
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
    """Sum up each tower's periods at several scales.

    Parameters
    ----------
    observed, predicted : xarray.DataArray
        From :func:`xcarbon.evaluation.scores.pair`.
    scales : callable
        See :data:`Scales`.
    names : sequence of str
        Of the scales.

    Returns
    -------
    xarray.Dataset
        As :func:`xcarbon.evaluation.scores.moments` gives it, along ``site`` and ``scale``.
    """
    stamps = xr.DataArray(observed["time"].values, dims="time")
    sizes = {"scale": len(names), "moment": len(MOMENTS)}
    stacked = map_towers(partial(_tower_scales, scales=scales), observed, predicted, stamps, sizes=sizes)
    return label_moments(stacked.assign_coords(scale=list(names)), observed)


def _tower_scales(observed: Array, predicted: Array, stamps: Stamps, *, scales: Scales) -> Array:
    """Kernel of :func:`moments_by_scale`: ``(time,) -> (scale, moment)``; 0 without a common hour."""
    pairs = np.stack([observed, predicted]).astype("float64")
    both = ~np.isnan(pairs).any(axis=0)
    if not both.any():
        return np.zeros(())
    return np.stack([tower_moments(*series) for series in scales(pairs[:, both], stamps[both])])


def _scales(pairs: Array, stamps: Stamps) -> Sequence[Array]:
    """Series of :data:`SCALES`."""
    day, week = periods(stamps, "D"), periods(stamps, "W")
    month, year = periods(stamps, "M"), periods(stamps, "Y")
    daily, weekly, monthly, annual = (
        period_means(pairs, period.number, period.hours / 2) for period in (day, week, month, year)
    )
    of_year = month.start.astype("datetime64[M]").astype(int) % 12
    seasonal = period_means(monthly, of_year, least=1)
    all_years = np.zeros(annual.shape[1], int)
    anomalies, interannual = departures(monthly, of_year), departures(annual, all_years)
    return pairs, daily, weekly, monthly, seasonal, anomalies, interannual
