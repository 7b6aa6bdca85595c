"""Results of an experiment: scores of all runs on the same hours, with intervals, as one Dataset."""

from __future__ import annotations

import itertools
import json
from typing import Any

import dask
import numpy as np
import xarray as xr

from xcarbon._version import __version__
from xcarbon.core import conventions
from xcarbon.core.errors import OptionError
from xcarbon.core.options import progress_bar
from xcarbon.evaluation import bootstrap, noise_ceiling, score_conditions, score_time_scales
from xcarbon.evaluation.scores import moments, pooled
from xcarbon.experiments import towers
from xcarbon.experiments.config import Experiment
from xcarbon.experiments.runs import INHERITED, RunList, prediction
from xcarbon.io.handles import LOCK, open_netcdf_file

#: Dimension and function of the additional scores.
_FURTHER = {"extremes": ("condition", score_conditions), "time-scales": ("scale", score_time_scales)}


def collect(experiment: Experiment, plan: RunList) -> xr.Dataset:
    """Score all runs of an experiment.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    plan : RunList
        Its runs, which must all be done.

    Returns
    -------
    xarray.Dataset
        Results in memory. All models are scored on the same hours, those that all of them predict. Towers
        without such hours are left out.

        - ``nse`` [1], ``rmse`` and ``bias`` in units of the target and ``n`` [hours] along ``model`` and
          ``seed``; by class and by tower with the suffixes ``_igbp`` and ``_site``,
        - ``observed_mean``, ``observed_squares`` and ``error_squares``: moments of each tower, from which
          scores of other groups of towers can be computed,
        - ``nse_interval (model, bound)``: interval of the mean over seeds,
        - ``nse_difference (pair)`` and ``nse_difference_interval (pair, bound)``: difference between two
          models, averaged over the seeds of both models.

        Intervals are from the bootstrap over towers, see :func:`xcarbon.evaluation.bootstrap.pooled_nse`.

    Raises
    ------
    OptionError
        If there is no hour that all models predict.
    """
    lazy = [_of_seed(experiment, *scored_predictions(experiment, plan, seed)) for seed in experiment.seeds]
    with progress_bar("scoring"):
        by_seed = dask.compute(*lazy)
    seeds = _index("seed", experiment.seeds)
    sums = xr.concat([sums for sums, _ in by_seed], seeds, join="outer", fill_value=0)
    labels = [model.label for model in experiment.models]
    sums = sums.sel(model=labels).transpose("model", "seed", "site")
    # The bootstrap must not draw towers without scored hours.
    sums = sums.isel(site=np.flatnonzero((sums["n"] > 0).any(["model", "seed"])))
    if not sums.sizes["site"]:
        raise OptionError(
            f"no hour with {experiment.target} at the scored towers is predicted by all models: check that "
            "the store contains their predictors at these towers"
        )
    sites = plan.ds["site"].sel(site=sums["site"].values)
    sums = sums.assign_coords(igbp=("site", sites["igbp"].values.astype(str)))
    further = xr.concat([scores for _, scores in by_seed], seeds, join="outer")
    if "model" in further.dims:
        further = further.sel(model=labels)
    if "igbp" in further.dims:
        further = further.sel(igbp=np.unique(sums["igbp"].values))
    parts = [
        pooled(sums),
        _suffixed(pooled(sums, "igbp"), "igbp"),
        _suffixed(pooled(sums, "site"), "site"),
        _described(sums),
        _intervals(sums),
        further,
    ]
    results = xr.merge(parts, join="outer", compat="override", combine_attrs="override")
    place = {f"site_{name}": ("site", sites[name].values, sites[name].attrs) for name in towers.PLACE}
    return _with_attrs(results.assign_coords(place), experiment, plan)


def scored_predictions(experiment: Experiment, plan: RunList, seed: int) -> tuple[xr.Dataset, xr.DataArray]:
    """Open the scored towers of a seed and the predictions ``(model, site, time)`` of its models, lazily."""
    ds = plan.ds.sel(site=list(plan.sets[seed].scored))
    when = towers.period(plan.counts, plan.sets[seed].scored, experiment.hours)
    observed = towers.observations(ds, experiment.target, experiment.max_qc, when)
    labels = [model.label for model in experiment.models if (model.label, seed) in plan.runs]
    predicted = xr.concat(
        [prediction(plan.runs[label, seed], experiment.runs, observed) for label in labels],
        _index("model", labels),
    )
    # Only the hours that all models predict are scored.
    common = predicted.notnull().all("model").chunk({"site": 1, "time": -1})
    return ds.assign({experiment.target: observed.where(common)}), predicted


def _of_seed(
    experiment: Experiment, ds: xr.Dataset, predicted: xr.DataArray
) -> tuple[xr.Dataset, xr.Dataset]:
    """Compute moments ``(model, site)`` and the additional scores, lazily."""
    max_qc = experiment.max_qc
    sums = moments(ds, predicted, max_qc=max_qc).reset_coords(drop=True)
    sums = sums.assign_coords(model=predicted["model"].values)
    further: dict[Any, xr.DataArray] = {}
    for name in experiment.evaluate:
        by, score = _FURTHER[name]
        each = [score(ds, of_model.drop_vars("model"), max_qc=max_qc) for of_model in predicted]
        further |= _suffixed(xr.concat(each, predicted["model"]), by).data_vars
    if experiment.target == "NEE" and "NEE_RANDUNC" in ds:
        ceiling = {by: noise_ceiling(ds, by, max_qc=max_qc)["nse"] for by in (None, "igbp")}
        further |= {"nse_ceiling": ceiling[None], "nse_ceiling_igbp": ceiling["igbp"]}
    return sums, xr.Dataset(further)


def _index(name: str, values: Any) -> xr.DataArray:
    """Return labels along a new dimension."""
    return xr.DataArray(np.asarray(values), dims=name, name=name)


def _suffixed(scores: xr.Dataset, by: str) -> xr.Dataset:
    """Append the name of the grouping to the names of scores."""
    return scores.rename({name: f"{name}_{by}" for name in scores.data_vars})


def _described(sums: xr.Dataset) -> xr.Dataset:
    """Return the moments of each tower with descriptive names and attributes."""
    names = {"mean": "observed_mean", "sst": "observed_squares", "sse": "error_squares"}
    described, units = sums[list(names)].rename(names), sums["mean"].attrs["units"]
    described["observed_mean"].attrs = {"long_name": "mean of the tower's observations", "units": units}
    squares = {
        "observed_squares": "sum of squares of the tower's observations about their mean",
        "error_squares": "sum of squared errors of the prediction at the tower",
    }
    for name, long_name in squares.items():
        described[name].attrs = {"long_name": long_name, "comment": f"in squares of {units}"}
    return described.reset_coords(drop=True)


def _intervals(sums: xr.Dataset) -> xr.Dataset:
    """Compute bootstrap intervals of models and pairs of models, over all towers and by class."""
    classes = np.unique(sums["igbp"].values)
    of_class = [_bootstrapped(sums.isel(site=np.flatnonzero(sums["igbp"] == name))) for name in classes]
    by_class = xr.concat(of_class, _index("igbp", classes))
    both = xr.merge([_bootstrapped(sums), _suffixed(by_class, "igbp")], compat="override", join="outer")
    for name, array in both.data_vars.items():
        what = "difference of efficiencies, mean over seeds" if "difference" in str(name) else "efficiency"
        of = f"{bootstrap.LEVEL:.0%} interval over towers of the " if "interval" in str(name) else ""
        array.attrs = {"long_name": f"{of}{what}", "units": "1"}
    return both


def _bootstrapped(sums: xr.Dataset) -> xr.Dataset:
    """Compute bootstrap intervals over one group of towers."""
    models = sums["model"].values
    each = {name: sums[name].values.astype(float) for name in ("n", "mean", "sst", "sse")}
    size = sums.sizes["site"]
    nse = bootstrap.pooled_nse(**each, weights=np.ones((1, size), int))  # (model, seed, 1)
    draws = bootstrap.pooled_nse(**each, weights=bootstrap.draw(size))  # (model, seed, draws)
    if size < 2:
        draws = np.full_like(draws, np.nan)  # a single tower has only one possible draw
    first, second = np.array(list(itertools.combinations(range(len(models)), 2)), int).reshape(-1, 2).T
    names = [f"{models[b]} − {models[a]}" for a, b in zip(first, second, strict=True)]
    return xr.Dataset(
        {
            "nse_interval": (("model", "bound"), bootstrap.interval(_mean_over_seeds(draws))),
            # Differences by seed: seeds may have different towers, and models different seeds.
            "nse_difference": ("pair", _mean_over_seeds(nse[second] - nse[first])[:, 0]),
            "nse_difference_interval": (
                ("pair", "bound"),
                bootstrap.interval(_mean_over_seeds(draws[second] - draws[first])),
            ),
        },
        coords={
            "model": models,
            "bound": ["lower", "upper"],
            "pair": names,
            "pair_first": ("pair", models[first]),
            "pair_second": ("pair", models[second]),
        },
    )


def _mean_over_seeds(values: np.ndarray) -> np.ndarray:
    """Average over the seeds that have a value: ``(models or pairs, seed, draws)`` without ``seed``."""
    known = np.isfinite(values)
    count = known.sum(1)
    mean: np.ndarray = np.where(known, values, 0).sum(1) / np.where(count, count, np.nan)
    return mean


def _with_attrs(results: xr.Dataset, experiment: Experiment, plan: RunList) -> xr.Dataset:
    """Add attributes: titles, names, sources and the key of the results."""
    title = f"scores of {experiment.protocol or 'an experiment'}: {experiment.target}"
    results.attrs = {
        "Conventions": conventions.CONVENTIONS,
        "title": f"{title} at towers of: {plan.ds.attrs.get('title', 'unnamed towers')}",
        **{name: plan.ds.attrs[name] for name in INHERITED if name in plan.ds.attrs},
        "key": _key(experiment, plan),
    }
    names = {
        "model": "label of the model",
        "seed": "seed of training, and of the split if it is random",
        "site": "tower identifier",
        "igbp": "IGBP land cover class",
        "pair": "two models, second minus first",
    }
    for name, long_name in names.items():
        results[name].attrs["long_name"] = long_name
    return conventions.log(results, "xcarbon experiment")


def _key(experiment: Experiment, plan: RunList) -> str:
    """Return all inputs of the results as JSON, to compare them with those of another call."""
    content: dict[str, Any] = {
        "xcarbon": __version__,
        "runs": [[label, seed, [run.name for run in runs]] for (label, seed), runs in plan.runs.items()],
        "hours": experiment.hours,
        "max_qc": experiment.max_qc,
        "evaluate": experiment.evaluate,
    }
    return json.dumps(content)


def is_current(experiment: Experiment, plan: RunList) -> bool:
    """Return whether the file of results is of these runs, hours and scores."""
    if not experiment.results.exists():
        return False
    with LOCK, open_netcdf_file(experiment.results) as results:
        return bool(results.attrs.get("key") == _key(experiment, plan))
