"""Whether observations lie as far from their predictions as these say."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import xarray as xr

from xcarbon.core.variables import SPREAD
from xcarbon.evaluation.scores import flux_with_spread, pair
from xcarbon.prep.quality import MAX_QC

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
