"""Compare predictions with observations, lazily."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xcarbon.conventions import check_variables
from xcarbon.errors import OptionError, VariableError
from xcarbon.prep.quality import MAX_QC, mask_quality
from xcarbon.variables import VARIABLES


def score(
    ds: xr.Dataset, prediction: xr.DataArray, by: str | None = "igbp", *, max_qc: int = MAX_QC
) -> xr.Dataset:
    """Score a prediction against the observations of a Dataset.

    Parameters
    ----------
    ds : xarray.Dataset
        Observations on ``(site, time)`` or ``(time,)``, with their quality codes.
    prediction : xarray.DataArray
        Named by the code of what it predicts, on the same dims; aligned with ``ds`` by label.
    by : str or None
        ``"igbp"`` or any other coordinate on ``site`` for a score per class, ``"site"`` for one per
        tower, None for one over all hours.
    max_qc : int
        Highest quality code of an observation that counts.

    Returns
    -------
    xarray.Dataset
        Along ``by``, lazily, pooled over the hours of the class where both are there:

        - ``nse`` [1]: Nash-Sutcliffe efficiency ``1 - sum (y - x)^2 / sum (y - mean y)^2``; NaN where
          observations do not vary,
        - ``rmse`` and ``bias`` (prediction less observation) in units of the target,
        - ``n``: number of hours.

    Raises
    ------
    VariableError
        If the prediction has no name, or ``ds`` does not have the observations.
    OptionError
        If ``by`` is not a coordinate on ``site``.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(3, patches=False)
    >>> float(score(towers, towers["NEE"] + 1, by=None)["bias"].round(4))
    1.0
    """
    if prediction.name is None:
        raise VariableError("the prediction has no name: name it by what it predicts, as in .rename('NEE')")
    target = str(prediction.name)
    check_variables(ds, (target,), "scoring")
    if by is not None and (by not in ds.coords or ("site" in ds.dims and ds[by].dims != ("site",))):
        on_site = [str(name) for name, coordinate in ds.coords.items() if coordinate.dims == ("site",)]
        raise OptionError(f"by must be None or a coordinate on site, found {by!r}; there are {on_site}")
    observed, predicted = xr.align(mask_quality(ds, [target], max_qc)[target], prediction, join="inner")
    towers = _moments(observed, predicted)
    units = VARIABLES[target].units if target in VARIABLES else "1"
    if by is None:
        return _scores(_pool(towers, xr.DataArray(True)), units)
    labels = ds[by].sel(site=observed["site"]) if "site" in ds.dims else ds[by].expand_dims("site")
    if by == "site":
        return _scores(towers.assign_coords(site=labels.values), units)
    names = np.unique(labels.values)
    member = xr.DataArray(labels.values == names[:, None], dims=(by, "site"), coords={by: names})
    return _scores(_pool(towers, member), units)


def _moments(observed: xr.DataArray, predicted: xr.DataArray) -> xr.Dataset:
    """Moments of each tower's hours, in float64, from which the scores of any group follow."""
    both = observed.notnull() & predicted.notnull()
    y = observed.astype("float64").where(both)
    error = predicted.astype("float64").where(both) - y
    n = both.sum("time")
    mean = y.sum("time") / n.where(n > 0)
    moments = xr.Dataset(
        {
            "n": n,
            "mean": mean,
            # About the mean: a difference of two large sums would lose the digits that matter.
            "spread": ((y - mean) ** 2).sum("time"),
            "error": error.sum("time"),
            "squared": (error**2).sum("time"),
        }
    ).reset_coords(drop=True)
    return moments if "site" in moments.dims else moments.expand_dims("site")


def _pool(towers: xr.Dataset, member: xr.DataArray) -> xr.Dataset:
    """Moments of groups of towers, without computing anything."""
    sums = towers[["n", "error", "squared"]].where(member, 0).sum("site")
    mean = (towers["n"] * towers["mean"]).where(member, 0).sum("site") / sums["n"].where(sums["n"] > 0)
    spread = towers["spread"] + towers["n"] * (towers["mean"] - mean) ** 2
    return sums.assign(mean=mean, spread=spread.where(member, 0).sum("site"))


def _scores(moments: xr.Dataset, units: str) -> xr.Dataset:
    """From moments to scores."""
    n = moments["n"].where(moments["n"] > 0)
    # What is left of the mean's rounding error is no spread.
    varies = moments["spread"] > n * (1e-12 * moments["mean"]) ** 2
    scores = xr.Dataset(
        {
            "nse": 1 - moments["squared"] / moments["spread"].where(varies),
            "rmse": (moments["squared"] / n) ** 0.5,
            "bias": moments["error"] / n,
            "n": moments["n"],
        }
    )
    scores["nse"].attrs = {"long_name": "Nash-Sutcliffe efficiency", "units": "1"}
    scores["rmse"].attrs = {"long_name": "root mean square error", "units": units}
    scores["bias"].attrs = {"long_name": "mean of prediction less observation", "units": units}
    scores["n"].attrs = {"long_name": "number of hours", "units": "1"}
    return scores
