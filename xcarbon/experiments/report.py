"""The report of an experiment: its results, their uncertainty, and the models and data behind them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from importlib.metadata import version

import numpy as np
import pandas as pd
import xarray as xr

from xcarbon.core.variables import PAPER_INPUTS, TIME_FEATURES
from xcarbon.evaluation import site_quantiles
from xcarbon.evaluation.bootstrap import DRAWS
from xcarbon.experiments import figures, paper, wording
from xcarbon.experiments.config import Experiment, Model
from xcarbon.experiments.protocols import PROTOCOLS
from xcarbon.experiments.results import scored_predictions
from xcarbon.experiments.runs import RunList, inputs
from xcarbon.prep.split import distances
from xcarbon.reports.pages import Page

#: Distance below which two towers share weather and vegetation [km].
_NEAR = 1.0
_QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9)
_SPLITS = {
    "paper": f"as in {paper.REFERENCE}",
    "random": "random by seed, stratified by class; towers less than 1 km apart are in the same set",
}
_HOURS = {"all": "all", "best-year": "the calendar year with the most observations at each tower"}
_DIFFERENCES = (
    "Differences of efficiencies, averaged over the seeds of both models. Bold marks differences whose 95 % "
    f"interval over towers excludes zero. † marks classes with fewer than {wording.FEW} towers, which all "
    "favour the same one of two equal models by chance in more than one case in twenty (2 / 2^5)."
)


def report(experiment: Experiment, plan: RunList, results: xr.Dataset) -> Page:
    """Compose the report of an experiment from its results; all runs must be done."""
    page = Page(_title(experiment))
    _summary(page, experiment, plan, results)
    _scores(page, experiment, plan, results)
    _differences(page, results)
    _further(page, results)
    _towers(page, results)
    _weeks(page, experiment, plan, results)
    _models(page, experiment)
    _data(page, experiment, plan, results)
    return page


# Results


def _title(experiment: Experiment) -> str:
    """Return the protocol and its question, or the names of the models."""
    if experiment.protocol is None:
        return f"{experiment.target} of {', '.join(model.label for model in experiment.models)}"
    return f"{experiment.protocol}: {PROTOCOLS[experiment.protocol].question}"


def _summary(page: Page, experiment: Experiment, plan: RunList, results: xr.Dataset) -> None:
    """Add the scores over all hours."""
    towers, hours = wording.towers(results)[wording.ALL], wording.hours(results)[wording.ALL]
    best = str(results["nse"].mean("seed").idxmax("model").values)
    page.text(
        f"This report compares predictions of {experiment.target} by {results.sizes['model']} models at "
        f"{towers} towers in {hours:,} hours. Over all hours, {best} has the highest Nash-Sutcliffe "
        f"efficiency: {wording.score(results, 'nse', best)}.",
        "lead",
    )
    if any(sets.development for sets in plan.sets.values()):
        page.text(
            "**Development scores.** The store contains no test towers. The models are compared at the "
            "validation towers, which were also used to select the best weights.",
            "note",
        )
    page.figure(
        "overall",
        figures.intervals(results),
        "Efficiency over all hours: mean over seeds, with the 95 % interval over towers.",
    )
    if results.sizes["pair"]:
        rows = [
            [str(name), wording.difference(results, pair), wording.ahead_by_class(results, pair)]
            for pair, name in enumerate(results["pair"].values)
        ]
        header = ["difference", "over all hours", "better model in classes"]
        page.table(header, rows, _DIFFERENCES, is_text=True)


def _scores(page: Page, experiment: Experiment, plan: RunList, results: xr.Dataset) -> None:
    """Add the scores by class."""
    page.heading("Scores by class")
    caption = "Efficiency by IGBP class, pooled over the hours of a class."
    if results.sizes["seed"] > 1:
        caption += " Dots are seeds, boxes with whiskers show their range, and diamonds are single values."
    page.figure("nse", figures.boxes(results["nse_igbp"], results["nse"], lowest=figures.LOWEST), caption)
    _score_table(page, experiment, plan, results, "nse")
    rmse = figures.boxes(results["rmse_igbp"], results["rmse"])
    page.figure("rmse", rmse, "Root mean square error by IGBP class.")
    _score_table(page, experiment, plan, results, "rmse")
    _score_table(page, experiment, plan, results, "bias")


def _score_table(page: Page, experiment: Experiment, plan: RunList, results: xr.Dataset, name: str) -> None:
    """Add a table of a score by class, with the published scores if there are any."""
    labels = list(map(str, results["model"].values))
    with_paper = experiment.protocol == "table2" and experiment.target == "NEE" and name != "bias"
    published = paper.scores() if with_paper else {}
    towers, hours = wording.towers(results), wording.hours(results)
    rows = []
    for group in wording.groups(results):
        best = wording.ahead_of_all(results, group) if name == "nse" else None
        cells = [wording.score(results, name, label, group) for label in labels]
        cells = [f"**{cell}**" if label == best else cell for label, cell in zip(labels, cells, strict=True)]
        of_paper = [wording.number(table.get(group, {}).get(name, np.nan)) for table in published.values()]
        rows.append([wording.group_name(group), str(towers[group]), f"{hours[group]:,}", *cells, *of_paper])
    other = "" if _is_paper_data(plan) else " (other data)"
    header = ["class", "towers", "hours", *labels, *(f"{label}, paper{other}" for label in published)]
    caption = f"{_named(results[name])}: mean"
    caption += " ± standard deviation over seeds." if results.sizes["seed"] > 1 else " of one seed."
    if name == "nse":
        caption += (
            " Brackets contain the 95 % interval over towers. Bold marks a model that is better than every "
            "other, with intervals of the differences that exclude zero."
        )
    if published:
        caption += f" Paper: means over ten seeds from {paper.REFERENCE}."
    if published and other:
        caption += (
            " These scores are for other test towers, hours, predictors and training. They are shown for "
            "orientation and are not comparable."
        )
    page.table(header, rows, caption)


def _is_paper_data(plan: RunList) -> bool:
    """Return whether training and scored towers are exactly those of the paper."""
    return all(
        set(sets.train) == set(paper.sites("train")) and set(sets.scored) == set(paper.sites("test"))
        for sets in plan.sets.values()
    )


def _differences(page: Page, results: xr.Dataset) -> None:
    """Add the differences between models by class."""
    if not results.sizes["pair"]:
        return
    page.heading("Differences between models")
    page.figure(
        "differences",
        figures.differences(results),
        f"Efficiency minus that of {results['model'].values[0]}: mean over seeds, with the 95 % interval "
        "over towers. Symbols are filled where the interval excludes zero. The axis is cut at −1 and 1.",
    )
    towers = wording.towers(results)
    rows = []
    for group in wording.groups(results):
        few = "†" if towers[group] < wording.FEW else ""
        cells = [wording.difference(results, pair, group) for pair in range(results.sizes["pair"])]
        rows.append([wording.group_name(group), f"{towers[group]}{few}", *cells])
    page.table(
        ["class", "towers", *map(str, results["pair"].values)],
        rows,
        f"{_DIFFERENCES} Both models of a pair are scored on the same hours and in the same "
        f"{DRAWS:,} draws of towers with replacement.",
    )


def _further(page: Page, results: xr.Dataset) -> None:
    """Add the sections of the additional scores."""
    if "nse_condition" in results:
        page.heading("Extremes")
        _section(page, results, "condition", "hours of each condition, relative to all hours of the tower")
    if "nse_scale" in results:
        page.heading("Time scales")
        _section(page, results, "scale", "means over the periods of each time scale")
    if "nse_ceiling" in results:
        page.heading("Efficiency of a perfect model")
        groups = wording.groups(results)
        ceiling = [float(wording.of_group(results, "nse_ceiling", group).mean()) for group in groups]
        page.table(
            ["class", "NSE"],
            [[wording.group_name(g), wording.number(nse)] for g, nse in zip(groups, ceiling, strict=True)],
            "Expected efficiency of a perfect model in the scored hours. It is limited by the random "
            "uncertainty of the observations.",
        )


def _section(page: Page, results: xr.Dataset, by: str, what: str) -> None:
    """Add figure and tables of additional scores along ``by``."""
    known = results[f"nse_{by}"].notnull().any(["model", "seed"])
    absent = [str(name) for name in results[by].values[~known]]
    results = results.isel({by: np.flatnonzero(known)})
    nse = results[f"nse_{by}"].transpose("model", "seed", by)
    page.figure(by, figures.boxes(nse, lowest=figures.LOWEST), f"Efficiency in {what}.")
    for scores in (results[f"nse_{by}"], results[f"rmse_{by}"]):
        rows = [
            [str(group), *map(wording.over_seeds, scores.sel({by: group}).transpose("model", "seed"))]
            for group in scores[by].values
        ]
        page.table([by, *map(str, results["model"].values)], rows, f"{_named(scores)}, all classes.")
    if absent:
        page.text(f"Too few hours or years are available for: {', '.join(absent)}.")


def _towers(page: Page, results: xr.Dataset) -> None:
    """Add quantiles of scores over towers."""
    page.heading("Variation between towers")
    quantiles = site_quantiles(results[["nse_site", "rmse_site"]], _QUANTILES).mean("seed")
    rows = [
        [f"{label}, {name.upper()}", *map(wording.number, quantiles[f"{name}_site"].sel(model=label).values)]
        for name in ("nse", "rmse")
        for label in results["model"].values
    ]
    page.table(
        ["model and score", *(f"{q:.0%}" for q in _QUANTILES)],
        rows,
        "Quantiles over towers of the scores of each tower. The worst towers are in the low quantiles of NSE "
        "and in the high quantiles of RMSE.",
    )


def _weeks(page: Page, experiment: Experiment, plan: RunList, results: xr.Dataset) -> None:
    """Add figures of a week of observations and predictions."""
    page.heading("Examples of a week")
    for site in experiment.draw or _typical(results):
        seeds = [seed for seed in experiment.seeds if site in plan.sets[seed].scored]
        if not seeds:
            page.text(f"{site} is not among the scored towers.")
            continue
        each = [scored_predictions(experiment, plan, seed)[1].sel(site=site, drop=True) for seed in seeds]
        predicted = xr.concat(each, "seed", join="outer").sel(model=results["model"].values)
        predicted = predicted.transpose("model", "seed", "time").compute()
        bands = " Lines are means over seeds, bands are the range of the seeds." if len(seeds) > 1 else ""
        caption = f"{site}: the week near midsummer with the most observations.{bands}"
        page.figure(f"week-{site}", figures.week(plan.ds, predicted, site), caption)


def _typical(results: xr.Dataset) -> list[str]:
    """Return the towers with the most hours in the four classes with the most hours."""
    hours = results["n_site"].isel(model=0).max("seed")
    longest = {name: str(of_class.idxmax("site").values) for name, of_class in hours.groupby("site_igbp")}
    by_class = wording.hours(results)
    return [longest[name] for name in sorted(longest, key=lambda name: -by_class[str(name)])][:4]


# Models and data


def _models(page: Page, experiment: Experiment) -> None:
    """Add the models and their settings."""
    page.heading("What was run")
    rows = [[model.label, model.kind_name, _settings(model)] for model in experiment.models]
    page.table(["model", "kind", "settings other than its defaults"], rows, is_text=True)


def _settings(model: Model) -> str:
    """Return the settings of a model that differ from the defaults, with dotted names for nested settings."""
    own = {"share": model.share if model.share < 1 else None, "max_seeds": model.max_seeds}
    settings = {**model.settings, **{name: value for name, value in own.items() if value is not None}}
    (flat,) = pd.json_normalize(settings).to_dict("records")
    lists = {
        name: " ".join(map(str, value)) or "none" for name, value in flat.items() if isinstance(value, tuple)
    }
    return ", ".join(f"{name} = {value}" for name, value in (flat | lists).items())


def _data(page: Page, experiment: Experiment, plan: RunList, results: xr.Dataset) -> None:
    """Add the data, the towers and their citations."""
    ds = plan.ds
    towers, hours = wording.towers(results)[wording.ALL], wording.hours(results)[wording.ALL]
    read = inputs(experiment, ds)
    libraries = ("xcarbon", "numpy", "xarray", "torch", "xgboost")
    rows = [
        ["store", experiment.store],
        ["data", str(ds.attrs.get("title", "unnamed"))],
        ["licence", str(ds.attrs.get("license", "not stated"))],
        ["references", str(ds.attrs.get("references", "not stated"))],
        ["target", f"{experiment.target}, quality flags up to {experiment.max_qc}"],
        ["predictors", f"{' '.join(read['variables'])}; patches: {' '.join(read['bands']) or 'none'}"],
        ["hours", _HOURS[experiment.hours]],
        ["split", _SPLITS[experiment.split]],
        *_sets(plan),
        ["scored towers", f"{towers} towers with {hours:,} hours"],
        ["seeds", " ".join(map(str, experiment.seeds))],
        [
            "missing data",
            "; ".join(_limitations(experiment, plan, results)) or "none compared with the paper",
        ],
        ["software", ", ".join(f"{name} {version(name)}" for name in libraries)],
        ["date", f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"],
    ]
    page.table(["", ""], rows, is_text=True)
    sets = plan.sets[experiment.seeds[0]]
    # Validation towers may be scored, too, and are then shown as scored.
    roles = dict.fromkeys(sets.train, "training") | dict.fromkeys(sets.val, "validation")
    roles |= dict.fromkeys(sets.scored, "scored")
    used = ds[[experiment.target]].sel(site=list(roles)).assign_coords(role=("site", list(roles.values())))
    of_seed = f", seed {experiment.seeds[0]}" if experiment.split == "random" else ""
    page.figure("roles", figures.sites(used, "role"), f"Training, validation and scored towers{of_seed}.")
    page.figure("classes", figures.sites(used, "igbp"), f"Towers by IGBP class{of_seed}.")
    cited = sorted(set(map(str, used["citation"].values)) - {""}) if "citation" in used.coords else []
    if cited:
        page.heading("Citations of the towers")
        for text in cited:
            page.text(text)


def _sets(plan: RunList) -> Iterator[list[str]]:
    """Yield numbers of training and validation towers and hours, for each seed if they differ."""
    for name, what in {"train": "training", "val": "validation"}.items():
        texts = []
        for sets in plan.sets.values():
            sites = list(getattr(sets, name))
            observed = int(plan.counts["hours"].sel(site=sites).sum())
            texts.append(f"{len(sites)} towers with {observed:,} hours")
        yield [f"{what} towers", "; ".join(dict.fromkeys(texts))]


def _limitations(experiment: Experiment, plan: RunList, results: xr.Dataset) -> Iterator[str]:
    """Yield what the store lacks compared with the paper, and other limitations."""
    ds = plan.ds
    absent = [code for code in PAPER_INPUTS if code not in ds and code not in TIME_FEATURES]
    if absent:
        yield f"predictors {' '.join(absent)}"
    if "reflectance" not in ds:
        yield "satellite patches"
    if experiment.split == "paper":
        there = set(map(str, ds["site"].values))
        for name, what in {"train": "training", "val": "validation", "test": "test"}.items():
            missing = len(set(paper.sites(name)) - there)
            if missing:
                yield f"{missing} of the paper's {len(paper.sites(name))} {what} towers"
    without = {s for sets in plan.sets.values() for s in sets.scored} - set(map(str, results["site"].values))
    if without:
        yield f"{len(without)} of the scored towers, where no hour is predicted by all models"
    near = max(_count_near_training(ds, sets.train, sets.scored) for sets in plan.sets.values())
    if near:
        yield f"independence: {near} of the scored towers are less than {_NEAR:.0f} km from a training tower"


def _count_near_training(ds: xr.Dataset, train: tuple[str, ...], scored: tuple[str, ...]) -> int:
    """Count the scored towers next to a training tower."""
    place = [ds[name].sel(site=list(sites)).values for sites in (train, scored) for name in ("lat", "lon")]
    return int((distances(*place) < _NEAR).any(axis=0).sum())


def _named(scores: xr.DataArray) -> str:
    """Return the name of a score with its units."""
    name = str(scores.attrs["long_name"])
    return f"{name[0].upper()}{name[1:]} [{scores.attrs['units']}]"
