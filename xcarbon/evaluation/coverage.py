"""Coverage: the share of the observations within the intervals of a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import xarray as xr

from xcarbon.core.variables import SPREAD
from xcarbon.evaluation.scores import flux_with_spread, members, pair
from xcarbon.prep.quality import MAX_QC

#: Default levels of the intervals: shares of a normal distribution.
LEVELS = (0.5, 0.9)


def coverage(
    ds: xr.Dataset,
    prediction: xr.Dataset,
    by: str | None = None,
    *,
    levels: Sequence[float] = LEVELS,
    max_qc: int = MAX_QC,
) -> xr.Dataset:
    r"""Compute the share of the observations within the intervals of a prediction.

    Parameters
    ----------
    ds : xarray.Dataset
        Observations on ``(site, time)`` or ``(time,)``, with their quality flags.
    prediction : xarray.Dataset
        A flux and its standard deviation, from ``ds.carbon.predict_nee(model, spread=True)``.
    by : str or None
        A coordinate on ``site``, ``"site"`` for one value per tower, None for one value over all hours.
    levels : sequence of float
        Shares of a normal distribution within the intervals, between 0 and 1.
    max_qc : int
        Highest quality flag of the observations that are used.

    Returns
    -------
    xarray.Dataset
        Along ``level`` and ``by``, lazy: ``coverage`` [1], the share of the hours with

        .. math:: |y - x| \le \sigma\, \Phi^{-1}\left(\frac{1 + level}{2}\right),

        and ``n``, the number of hours. The coverage of a calibrated prediction is equal to ``level``.

    Raises
    ------
    VariableError
        If the prediction has no spread, or ``ds`` does not contain the observations.
    OptionError
        If ``by`` is not a coordinate on ``site``.

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
    if by != "site":
        sums = sums.where(members(error, by), 0).sum("site")
    share = sums["within"] / sums["n"].where(sums["n"] > 0)
    share.attrs = {"long_name": "share of the observations within the interval", "units": "1"}
    sums["n"].attrs = {"long_name": "number of hours", "units": "1"}
    return xr.Dataset({"coverage": share, "n": sums["n"]})


def standardised_error(ds: xr.Dataset, prediction: xr.Dataset, *, max_qc: int = MAX_QC) -> xr.DataArray:
    """Compute errors divided by the spread of the prediction, ``(site, time)`` [1], NaN where missing."""
    target = flux_with_spread(prediction)
    observed, predicted = pair(ds, prediction[target], max_qc=max_qc)
    _, spread = pair(ds, prediction[target + SPREAD].rename(target), max_qc=max_qc)
    return (observed - predicted) / spread
