"""Scores of predictions against observations: Nash-Sutcliffe efficiency, root mean square error and bias."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xcarbon.core.errors import LeakageError, MetadataError, OptionError, TimestampError, VariableError
from xcarbon.core.notices import warn
from xcarbon.core.validation import check_no_half_hours, check_variables
from xcarbon.core.variables import IN_TRAINING, SPREAD, TARGETS, VARIABLES
from xcarbon.prep.labels import read_labels
from xcarbon.prep.periods import map_towers
from xcarbon.prep.quality import MAX_QC, mask_quality

#: Names of the moments of a tower, see :func:`moments`.
MOMENTS = ("n", "mean", "error", "sse", "sst", "ssp", "sxy")


#: What :func:`score` does with towers that the model was trained on.
TRAINING_TOWERS = ("warn", "drop", "keep")


def score(
    ds: xr.Dataset,
    prediction: xr.DataArray | xr.Dataset,
    by: str | None = "igbp",
    *,
    max_qc: int = MAX_QC,
    training_towers: str = "warn",
) -> xr.Dataset:
    """Score a prediction against the observations of a Dataset.

    Parameters
    ----------
    ds : xarray.Dataset
        Observations on ``(site, time)`` or ``(time,)``, with their quality flags.
    prediction : xarray.DataArray or xarray.Dataset
        Prediction on the same dimensions, named by the code of the predicted variable, or a Dataset with a
        prediction and its standard deviation, from ``predict_nee(spread=True)``. It is aligned with ``ds`` by
        label.
    by : str or None
        ``"igbp"`` or any other coordinate on ``site`` for one score per class, ``"site"`` for one score per
        tower, None for one score over all hours.
    max_qc : int
        Highest quality flag of the observations that are scored.
    training_towers : {"warn", "drop", "keep"}
        What to do with towers that the model was trained on, which the coordinate ``in_training`` of a
        prediction marks: their scores are better than those at other towers. ``"warn"`` scores them with a
        warning, ``"drop"`` leaves them out, ``"keep"`` scores them without a warning.

    Returns
    -------
    xarray.Dataset
        Scores along ``by``, lazy, pooled over the hours of each class that have both an observation and a
        prediction:

        - ``nse`` [1]: Nash-Sutcliffe efficiency ``1 - sum (y - x)^2 / sum (y - mean y)^2``; NaN where the
          observations do not vary,
        - ``rmse`` and ``bias`` (prediction minus observation) in units of the target,
        - ``n``: number of hours.

        The attribute ``training_towers`` lists the scored towers that the model was trained on. Scores of
        each tower also have the coordinate ``in_training``. Both are absent if it is unknown.

    Raises
    ------
    VariableError
        If the prediction has no name or no labels, or ``ds`` does not contain the observations.
    TimestampError, MetadataError
        If the prediction and ``ds`` have no hour or no tower in common, or the observations are half-hourly.
    LeakageError
        If ``training_towers`` is ``"drop"`` and the model was trained on all towers.
    OptionError
        If ``by`` is not a coordinate on ``site``, or ``training_towers`` is another word.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(3, patches=False)
    >>> float(score(towers, towers["NEE"] + 1, by=None)["bias"].round(4))
    1.0
    """
    if training_towers not in TRAINING_TOWERS:
        raise OptionError(f"training_towers must be one of {TRAINING_TOWERS}, found {training_towers!r}")
    prediction = as_flux(prediction)
    known = _with_site(prediction).coords.get(IN_TRAINING)
    if known is None:
        return pooled(moments(ds, prediction, max_qc=max_qc), by)
    known = known.compute()
    if training_towers == "drop" and known.any():
        if known.all():
            raise LeakageError(
                "the model was trained on all towers of the prediction, so none is left to score: predict at "
                'other towers, or pass training_towers="keep"'
            )
        prediction, known = (each.isel(site=~known.values) for each in (prediction, known))
    towers = moments(ds, prediction, max_qc=max_qc)
    known = known.reset_coords(drop=True).reindex_like(towers["site"]) if "site" in known.indexes else known
    found = towers["site"].values[known.values] if "site" in towers.coords else ["the tower"] * known.any()
    if len(found) and training_towers == "warn":
        few = ", ".join(map(str, found[:5])) + ", ..." * (len(found) > 5)
        warn(
            f"the model was trained on {len(found)} of {known.size} scored towers ({few}), so the scores are "
            'better than at other towers: pass training_towers="drop" to leave them out, or "keep"'
        )
    scores = pooled(towers, by).assign_attrs(training_towers=" ".join(map(str, found)))
    return scores.assign_coords({IN_TRAINING: known.variable}) if by == "site" else scores


def as_flux(prediction: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """Return the flux of a prediction with its spread; raise a VariableError if there are no labels."""
    if isinstance(prediction, xr.Dataset):
        fluxes = [name for name in prediction.data_vars if name in TARGETS]
        if len(fluxes) != 1:
            raise VariableError(
                f"the prediction must contain one flux, found {fluxes or list(prediction.data_vars)}: select "
                "one, as in prediction['NEE']"
            )
        return prediction[fluxes[0]]
    if not isinstance(prediction, xr.DataArray):
        raise VariableError(
            f"the prediction is a {type(prediction).__name__} without labels: pass a DataArray such as "
            "ds['NEE'].copy(data=prediction)"
        )
    return prediction


def moments(ds: xr.Dataset, prediction: xr.DataArray, *, max_qc: int = MAX_QC) -> xr.Dataset:
    """Compute the moments of each tower, from which the scores of any group of towers follow.

    Parameters
    ----------
    ds, prediction, max_qc
        As for :func:`score`. Dimensions of the prediction besides ``site`` and ``time`` are kept.

    Returns
    -------
    xarray.Dataset
        Moments along ``site``, lazy with one task for each tower, with the coordinates of ``ds`` on ``site``.
        They are computed over the hours that have both an observation and a prediction:

        - ``n``: number of hours,
        - ``mean``: mean of the observations, in units of the target,
        - ``error``: sum of the errors (prediction minus observation),
        - ``sse``: sum of the squared errors,
        - ``sst``, ``ssp``: sums of squares of the observations and of the predictions, each about their mean,
        - ``sxy``: sum of products of their deviations from these means.

    Raises
    ------
    VariableError
        If the prediction has no name, or ``ds`` does not contain the observations.

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
    stacked = map_towers(tower_moments, observed, predicted, sizes={"moment": len(MOMENTS)})
    return label_moments(stacked, observed)


def pooled(moments: xr.Dataset, by: str | None = None) -> xr.Dataset:
    """Score groups of towers from the moments of each tower.

    Parameters
    ----------
    moments : xarray.Dataset
        Moments along ``site`` from :func:`moments`. A tower may occur more than once.
    by : str or None
        As for :func:`score`.

    Returns
    -------
    xarray.Dataset
        Scores as returned by :func:`score`; dimensions besides ``site`` are kept.

    Raises
    ------
    OptionError
        If ``by`` is not a coordinate on ``site``.
    """
    groups, units = pool(moments, by), moments["mean"].attrs.get("units", "1")
    scores = xr.Dataset(
        {
            "nse": 1
            - groups["sse"] / groups["sst"].where(varies(groups["sst"], groups["n"], groups["mean"])),
            "rmse": (groups["sse"] / groups["n"].where(groups["n"] > 0)) ** 0.5,
            "bias": groups["error"] / groups["n"].where(groups["n"] > 0),
            "n": groups["n"],
        }
    )
    scores["nse"].attrs = {"long_name": "Nash-Sutcliffe efficiency", "units": "1"}
    scores["rmse"].attrs = {"long_name": "root mean square error", "units": units}
    scores["bias"].attrs = {"long_name": "mean of prediction minus observation", "units": units}
    scores["n"].attrs = {"long_name": "number of hours", "units": "1"}
    return scores


def pool(towers: xr.Dataset, by: str | None) -> xr.Dataset:
    """Pool moments ``(site,)`` over groups, lazily; variables that are no moments are summed."""
    member, towers = members(towers, by), towers.reset_coords(drop=True)
    if by == "site":
        return towers
    sums = towers.drop_vars(["mean", "sst", "ssp", "sxy"], errors="ignore").where(member, 0).sum("site")
    n = sums["n"].where(sums["n"] > 0)
    mean = (towers["n"] * towers["mean"]).where(member, 0).sum("site") / n
    # Deviations of each tower's means of observations (y) and predictions (x) from those of the group.
    y = towers["mean"] - mean
    x = y + towers["error"] / towers["n"].clip(min=1) - sums["error"] / n
    between = {"sst": y * y, "ssp": x * x, "sxy": x * y}
    within = {
        name: towers[name] + towers["n"] * product for name, product in between.items() if name in towers
    }
    total = {name: each.where(member, 0).sum("site") for name, each in within.items()}
    return sums.assign(total | {"mean": mean})


def members(towers: xr.Dataset | xr.DataArray, by: str | None) -> xr.DataArray:
    """Return which towers belong to which group: bool ``(by, site)``, or True for a single group."""
    on_site = [str(name) for name, coordinate in towers.coords.items() if coordinate.dims == ("site",)]
    if by is not None and by not in on_site:
        raise OptionError(
            f"by must be None or a coordinate on site, found {by!r}; the coordinates on site are {on_site}"
        )
    if by is None or by == "site":
        return xr.DataArray(True)
    labels = towers[by].values
    names = np.unique(labels)
    return xr.DataArray(labels == names[:, None], dims=(by, "site"), coords={by: names})


def varies(squares: xr.DataArray, n: xr.DataArray, mean: xr.DataArray) -> xr.DataArray:
    """Return whether a sum of squares about a mean is more than the rounding error of the mean."""
    return squares > n * (1e-12 * mean) ** 2


def pair(
    ds: xr.Dataset, prediction: xr.DataArray, *, max_qc: int = MAX_QC
) -> tuple[xr.DataArray, xr.DataArray]:
    """Align the observations of sufficient quality with a prediction of them.

    Parameters
    ----------
    ds, prediction, max_qc
        As for :func:`score`.

    Returns
    -------
    observed : xarray.DataArray
        Observations ``(site, time)``, also of a single tower, in the units of the target and with the
        coordinates of ``ds``; in one chunk along ``time`` if lazy.
    predicted : xarray.DataArray
        The prediction with the same labels, dims and chunks.

    Raises
    ------
    VariableError
        If the prediction has no name or no labels, or ``ds`` does not contain the observations.
    TimestampError, MetadataError
        If the prediction and ``ds`` have no hour or no tower in common, or other units.
    """
    prediction = as_flux(prediction)
    if prediction.name is None:
        raise VariableError(
            "the prediction has no name: rename it to the variable that it predicts, as in .rename('NEE')"
        )
    target = str(prediction.name)
    check_variables(ds, (target,), "scoring")
    ds = read_labels(ds)
    check_no_half_hours(ds["time"], str(ds.encoding.get("source", "the observations")))
    observed = mask_quality(ds, [target], max_qc)[target]
    default = VARIABLES[target].units if target in VARIABLES else "1"
    units, found = (str(array.attrs.get("units", default)) for array in (ds[target], prediction))
    if units != found:
        raise MetadataError(
            f"the observations of {target} are in {units!r}, but the prediction is in {found!r}: convert one "
            "of them, and set its attribute units"
        )
    if "site" not in observed.dims:
        observed, prediction = _with_site(observed), _with_site(prediction)
    either = [observed, prediction.reset_coords(drop=True)]
    observed, predicted = xr.align(*either, join="inner")
    for dim, error in (("time", TimestampError), ("site", MetadataError)):
        if not observed.sizes[dim] and all(each.sizes[dim] for each in either):
            spans = [f"{each[dim].values[0]} to {each[dim].values[-1]}" for each in either]
            raise error(
                f"the observations ({spans[0]}) and the prediction ({spans[1]}) have no {dim} in common: "
                "select the same hours and towers of both"
            )
    if observed.chunks or predicted.chunks:
        # chunk() makes coordinates lazy, too; here they stay in memory.
        observed = observed.chunk(time=-1).assign_coords(observed.coords)
        predicted = predicted.chunk(time=-1)
    return observed.assign_attrs(units=units), predicted


def flux_with_spread(prediction: xr.Dataset) -> str:
    """Return the name of the flux in a prediction with a flux and its spread (``NEE``, ``NEE_SE``)."""
    names = [str(name) for name in prediction.data_vars]
    fluxes = [name for name in names if name + SPREAD in names]
    if len(fluxes) != 1:
        raise VariableError(
            f"the prediction must contain one flux and its {SPREAD}, found {names}: predict with spread=True"
        )
    return fluxes[0]


def _with_site(array: xr.DataArray) -> xr.DataArray:
    """Add the dimension ``site`` to a single tower and to its scalar coordinates."""
    if "site" in array.dims:
        return array
    scalars = {name: c.variable.set_dims(["site"]) for name, c in array.coords.items() if not c.dims}
    return array.drop_vars(scalars).expand_dims("site").assign_coords(scalars)


def label_moments(stacked: xr.DataArray, observed: xr.DataArray) -> xr.Dataset:
    """Return moments ``(..., moment)`` as a Dataset with the coordinates on ``site`` of ``observed``."""
    towers = xr.Dataset({name: stacked.isel(moment=number) for number, name in enumerate(MOMENTS)})
    on_site = {name: c for name, c in observed.coords.items() if c.dims == ("site",)}
    towers = towers.assign(n=towers["n"].astype("int64")).reset_coords(drop=True).assign_coords(on_site)
    towers["mean"].attrs["units"] = observed.attrs["units"]
    return towers


def tower_moments(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Compute :data:`MOMENTS` of one tower in float64: ``(time,)`` each to ``(moment,)``."""
    both = ~np.isnan(observed) & ~np.isnan(predicted)
    y, x = (np.where(both, series, 0).astype("float64") for series in (observed, predicted))
    n, error = both.sum(), x - y
    means = [series.sum() / max(n, 1) for series in (y, x)]
    # Deviations from the mean: a difference of two large sums would lose significant digits.
    with np.errstate(invalid="ignore"):  # infinite predictions
        dy, dx = (np.where(both, series - mean, 0) for series, mean in zip((y, x), means, strict=True))
        sums = [product.sum() for product in (error, error**2, dy**2, dx**2, dx * dy)]
    return np.array([n, means[0], *sums])
