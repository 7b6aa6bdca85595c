"""Compare predictions with observations, lazily."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xcarbon.core.errors import OptionError, VariableError
from xcarbon.core.validation import check_variables
from xcarbon.core.variables import SPREAD, VARIABLES
from xcarbon.prep.quality import MAX_QC, mask_quality

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
    return pooled(moments(ds, prediction, max_qc=max_qc), by)


def moments(ds: xr.Dataset, prediction: xr.DataArray, *, max_qc: int = MAX_QC) -> xr.Dataset:
    """Sum up each tower's hours: five numbers from which the scores of any group of towers follow.

    Parameters
    ----------
    ds, prediction, max_qc
        As for :func:`score`. Dims besides ``site`` and ``time`` stay.

    Returns
    -------
    xarray.Dataset
        Along ``site``, lazily, one task for each tower, with the coordinates of ``ds`` on ``site``:

        - ``n``: number of hours where both are there,
        - ``mean`` of their observations in units of the target, ``spread``: sum of squares about it,
        - ``squared`` and ``error``: sums of squared errors and of errors (prediction less observation).

    Raises
    ------
    VariableError
        If the prediction has no name, or ``ds`` does not have the observations.

    Examples
    --------
    Scores of towers drawn with replacement, as for a bootstrap over towers:

    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(3, patches=False)
    >>> sums = moments(towers, towers["NEE"] + 1).compute()
    >>> float(pooled(sums.isel(site=[0, 2, 2]))["bias"].round(4))
    1.0
    """
    observed, predicted = pair(ds, prediction, max_qc=max_qc)
    stacked = xr.apply_ufunc(
        tower_moments,
        observed,
        predicted,
        input_core_dims=[["time"], ["time"]],
        output_core_dims=[["moment"]],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"moment": len(MOMENTS)}},
        keep_attrs=False,
    )
    return label_moments(stacked, observed)


def pooled(moments: xr.Dataset, by: str | None = None) -> xr.Dataset:
    """Score groups of towers by what :func:`moments` tells of each.

    Parameters
    ----------
    moments : xarray.Dataset
        Of towers along ``site``; a tower may be there more than once.
    by : str or None
        As for :func:`score`.

    Returns
    -------
    xarray.Dataset
        As :func:`score` gives it; dims besides ``site`` stay.

    Raises
    ------
    OptionError
        If ``by`` is not a coordinate on ``site``.
    """
    check_group(moments, by)
    towers, units = moments.reset_coords(drop=True), moments["mean"].attrs.get("units", "1")
    if by == "site":
        return _scores(towers, units)
    if by is None:
        return _scores(_pool(towers, xr.DataArray(True)), units)
    labels = moments[by].values
    names = np.unique(labels)
    member = xr.DataArray(labels == names[:, None], dims=(by, "site"), coords={by: names})
    return _scores(_pool(towers, member), units)


def check_group(towers: xr.Dataset | xr.DataArray, by: str | None) -> None:
    """Raise an OptionError if ``by`` is neither None nor a coordinate on ``site``."""
    on_site = [str(name) for name, coordinate in towers.coords.items() if coordinate.dims == ("site",)]
    if by is not None and by not in on_site:
        raise OptionError(f"by must be None or a coordinate on site, found {by!r}; there are {on_site}")


def pair(
    ds: xr.Dataset, prediction: xr.DataArray, *, max_qc: int = MAX_QC
) -> tuple[xr.DataArray, xr.DataArray]:
    """Put the observations that count and a prediction of them side by side.

    Parameters
    ----------
    ds, prediction, max_qc
        As for :func:`score`.

    Returns
    -------
    observed, predicted : xarray.DataArray
        On the same labels of ``(site, time)``, a single tower, too, in one chunk along ``time`` if lazy.
        ``observed`` has the units of the target and the coordinates of ``ds``.

    Raises
    ------
    VariableError
        If the prediction has no name, or ``ds`` does not have the observations.
    """
    if prediction.name is None:
        raise VariableError("the prediction has no name: name it by what it predicts, as in .rename('NEE')")
    target = str(prediction.name)
    check_variables(ds, (target,), "scoring")
    observed = mask_quality(ds, [target], max_qc)[target]
    if "site" not in observed.dims:
        observed, prediction = _with_site(observed), _with_site(prediction)
    observed, predicted = xr.align(observed, prediction.reset_coords(drop=True), join="inner")
    if observed.chunks or predicted.chunks:
        # Coordinates stay in memory.
        observed = observed.chunk(time=-1).assign_coords(observed.coords)
        predicted = predicted.chunk(time=-1)
    units = VARIABLES[target].units if target in VARIABLES else "1"
    return observed.assign_attrs(units=units), predicted


def flux_with_spread(prediction: xr.Dataset) -> str:
    """Find the flux that a prediction with ``spread=True`` is of.

    Parameters
    ----------
    prediction : xarray.Dataset
        A flux and its standard deviation, as ``NEE`` and ``NEE_SE``.

    Returns
    -------
    str
        The name of the flux.

    Raises
    ------
    VariableError
        If there is none with its standard deviation, or several.
    """
    names = [str(name) for name in prediction.data_vars]
    fluxes = [name for name in names if name + SPREAD in names]
    if len(fluxes) != 1:
        raise VariableError(f"a prediction has a flux and its {SPREAD}, found {names}: ask for spread=True")
    return fluxes[0]


def _with_site(array: xr.DataArray) -> xr.DataArray:
    """Give a single tower, and what is known of it, the dim ``site``."""
    if "site" in array.dims:
        return array
    known = {name: c.variable.set_dims(["site"]) for name, c in array.coords.items() if not c.dims}
    return array.drop_vars(known).expand_dims("site").assign_coords(known)


def label_moments(stacked: xr.DataArray, observed: xr.DataArray) -> xr.Dataset:
    """Name moments along a dim ``moment``, and give them the coordinates of their observations.

    Parameters
    ----------
    stacked : xarray.DataArray
        From :func:`tower_moments`, with dims ``site`` and ``moment``.
    observed : xarray.DataArray
        The first of :func:`pair`.

    Returns
    -------
    xarray.Dataset
        As :func:`moments` gives it.
    """
    towers = xr.Dataset({name: stacked.isel(moment=number) for number, name in enumerate(MOMENTS)})
    known = {name: c for name, c in observed.coords.items() if c.dims == ("site",)}
    towers = towers.assign(n=towers["n"].astype("int64")).reset_coords(drop=True).assign_coords(known)
    towers["mean"].attrs["units"] = observed.attrs["units"]
    return towers


def tower_moments(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Kernel of :func:`moments`: ``(..., time) -> (..., moment)`` as in :data:`MOMENTS`, in float64."""
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
