"""Compare predictions with observations, lazily."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xcarbon.conventions import check_variables
from xcarbon.errors import OptionError, VariableError
from xcarbon.prep.quality import MAX_QC, mask_quality
from xcarbon.variables import VARIABLES

#: Number and mean of a tower's observations, sums of squares about it, of squared errors, of errors.
MOMENTS = ("n", "mean", "spread", "squared", "error")


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
    """Moments of each tower's hours, from which the scores of any group follow; one task per tower."""
    if observed.chunks or predicted.chunks:
        observed, predicted = observed.chunk(time=-1), predicted.chunk(time=-1)
    moments = xr.apply_ufunc(
        _tower_moments,
        observed,
        predicted,
        input_core_dims=[["time"], ["time"]],
        output_core_dims=[["moment"]],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"moment": len(MOMENTS)}},
        keep_attrs=False,
    )
    towers = xr.Dataset({name: moments.isel(moment=number) for number, name in enumerate(MOMENTS)})
    towers = towers.assign(n=towers["n"].astype("int64")).reset_coords(drop=True)
    return towers if "site" in towers.dims else towers.expand_dims("site")


def _tower_moments(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Kernel of :func:`_moments`: ``(..., time) -> (..., moment)``, in float64."""
    both = ~np.isnan(observed) & ~np.isnan(predicted)
    y = np.where(both, observed, 0).astype("float64")
    error = np.where(both, predicted, 0).astype("float64") - y
    n = both.sum(axis=-1)
    mean = y.sum(axis=-1) / np.maximum(n, 1)
    # About the mean: a difference of two large sums would lose the digits that matter.
    deviation = np.where(both, y - mean[..., np.newaxis], 0)
    return np.stack(
        [n, mean, *((x**2).sum(axis=-1) for x in (deviation, error)), error.sum(axis=-1)], axis=-1
    )


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
