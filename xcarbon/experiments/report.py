"""The report of an experiment: what came out, how sure it is, and what was run."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr

from xcarbon.core.variables import PAPER_INPUTS, TIME_FEATURES
from xcarbon.evaluation import site_quantiles
from xcarbon.evaluation.bootstrap import DRAWS
from xcarbon.experiments import figures, paper, wording
from xcarbon.experiments.config import Experiment, Model
from xcarbon.experiments.pages import Page
from xcarbon.experiments.protocols import PROTOCOLS
from xcarbon.experiments.results import judged
from xcarbon.experiments.runs import Plan, inputs
from xcarbon.prep.split import distances

#: Weeks that are drawn if none are asked for.
_WEEKS = 4
#: Towers nearer than this [km] have the same weather and vegetation.
_NEAR = 1.0
_QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9)
#: Efficiencies below are written at the edge of a figure.
_LOWEST = -1.0
_LIBRARIES = ("xcarbon", "numpy", "xarray", "torch", "xgboost")
_HOURS = {"all": "all", "best-year": "of each tower the calendar year with most observations"}
_BOXES = " Dots are seeds, a box goes from the worst to the best; a diamond is the only value."
_AHEAD = (
    "Differences of efficiencies, means over the seeds that both have. A model is ahead, in bold, where the "
    "95 % interval over towers excludes zero. † Fewer than "
    f"{wording.FEW} towers: all of them favour one model by chance alone more often than one time in twenty."
)


def report(experiment: Experiment, plan: Plan, results: xr.Dataset) -> Page:
    """Compose the report of an experiment.

    Parameters
    ----------
    experiment : Experiment
        What was compared.
    plan : Plan
        Its runs, all of them done.
    results : xarray.Dataset
        From :func:`xcarbon.experiments.results.collect`.

    Returns
    -------
    Page
        Not written yet.
    """
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


# What came out


def _title(experiment: Experiment) -> str:
    if experiment.protocol is None:
        return f"{experiment.target} of {', '.join(model.label for model in experiment.models)}"
    return f"{experiment.protocol}: {PROTOCOLS[experiment.protocol].question}"


def _summary(page: Page, experiment: Experiment, plan: Plan, results: xr.Dataset) -> None:
    towers, hours = wording.towers(results)[wording.ALL], wording.hours(results)[wording.ALL]
    best = str(results["nse"].mean("seed").idxmax("model").values)
    page.text(
        f"{experiment.target} of {towers} towers in {hours:,} hours, predicted by {results.sizes['model']} "
        f"models. Over all hours the highest Nash-Sutcliffe efficiency is that of {best}, "
        f"{wording.score(results, 'nse', best)}.",
        "lead",
    )
    if any(sets.development for sets in plan.sets.values()):
        page.text(
            "**Development scores.** The store has none of the test towers. Models are compared at the "
            "validation towers, by which the best weights were chosen, too.",
            "note",
        )
    page.figure(
        "overall",
        figures.intervals(results),
        "Efficiency over all hours: mean over seeds, with its 95 % interval over towers.",
    )
    if results.sizes["pair"]:
        rows = [
            [str(name), wording.difference(results, pair), wording.ahead_by_class(results, pair)]
            for pair, name in enumerate(results["pair"].values)
        ]
        page.table(["", "over all hours", "ahead in classes"], rows, _AHEAD, is_text=True)


def _scores(page: Page, experiment: Experiment, plan: Plan, results: xr.Dataset) -> None:
    page.heading("Scores by class")
    several = results.sizes["seed"] > 1
    page.figure(
        "nse",
        figures.boxes(results["nse_igbp"], results["nse"], lowest=_LOWEST),
        "Efficiency by IGBP class, pooled over hours." + (_BOXES if several else ""),
    )
    _score_table(page, experiment, plan, results, "nse")
    rmse = figures.boxes(results["rmse_igbp"], results["rmse"])
    page.figure("rmse", rmse, "Root mean square error by IGBP class.")
    _score_table(page, experiment, plan, results, "rmse")
    _score_table(page, experiment, plan, results, "bias")


def _score_table(page: Page, experiment: Experiment, plan: Plan, results: xr.Dataset, name: str) -> None:
    """A score by class, with the paper's numbers beside those that it gives."""
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
        caption += " In brackets the 95 % interval over towers. Bold is ahead of every other model."
    if published:
        caption += f" Paper: {paper.REFERENCE}, means over ten seeds."
    if published and other:
        caption += (
            " They are of its own test towers, with other hours, predictors and training: for orientation, "
            "not to be compared."
        )
    page.table(header, rows, caption)


def _is_paper_data(plan: Plan) -> bool:
    """Whether the paper's towers are trained on and tested, all of them and no others."""
    return all(
        set(sets.train) == set(paper.sites("train")) and set(sets.scored) == set(paper.sites("test"))
        for sets in plan.sets.values()
    )


def _differences(page: Page, results: xr.Dataset) -> None:
    if not results.sizes["pair"]:
        return
    page.heading("Which model is ahead")
    page.figure(
        "differences",
        figures.differences(results),
        f"Efficiency less that of {results['model'].values[0]}, mean over seeds, with its 95 % interval over "
        "towers. Filled where the interval excludes zero. The axis ends at 1.",
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
        f"{_AHEAD} Both models of a pair are scored on the same hours and the same {DRAWS:,} draws of "
        "towers, with replacement.",
    )


def _further(page: Page, results: xr.Dataset) -> None:
    """Sections of what was asked for beside the scores by class."""
    if "nse_condition" in results:
        page.heading("Extremes")
        _section(page, results, "condition", "hours of each condition, relative to the tower's own")
    if "nse_scale" in results:
        page.heading("Time scales")
        _section(page, results, "scale", "means over the periods of each scale")
    if "nse_ceiling" in results:
        page.heading("What noise leaves to a perfect model")
        groups = wording.groups(results)
        ceiling = [float(wording.of_group(results, "nse_ceiling", group).mean()) for group in groups]
        page.table(
            ["class", "NSE"],
            [[wording.group_name(g), wording.number(nse)] for g, nse in zip(groups, ceiling, strict=True)],
            "Efficiency that the random uncertainty of the observations allows in the hours scored.",
        )


def _section(page: Page, results: xr.Dataset, by: str, what: str) -> None:
    known = results[f"nse_{by}"].notnull().any(["model", "seed"])
    absent = [str(name) for name in results[by].values[~known]]
    results = results.isel({by: np.flatnonzero(known)})
    nse = results[f"nse_{by}"].transpose("model", "seed", by)
    page.figure(by, figures.boxes(nse, lowest=_LOWEST), f"Efficiency in {what}.")
    for scores in (results[f"nse_{by}"], results[f"rmse_{by}"]):
        rows = [
            [str(group), *map(wording.over_seeds, scores.sel({by: group}).transpose("model", "seed"))]
            for group in scores[by].values
        ]
        page.table([by, *map(str, results["model"].values)], rows, f"{_named(scores)}, all classes.")
    if absent:
        page.text(f"There are not enough hours or years for: {', '.join(absent)}.")


def _towers(page: Page, results: xr.Dataset) -> None:
    page.heading("From tower to tower")
    quantiles = site_quantiles(results[["nse_site", "rmse_site"]], _QUANTILES).mean("seed")
    rows = [
        [f"{label}, {name.upper()}", *map(wording.number, quantiles[f"{name}_site"].sel(model=label).values)]
        for name in ("nse", "rmse")
        for label in results["model"].values
    ]
    page.table(
        ["", *(f"{q:.0%}" for q in _QUANTILES)],
        rows,
        "Quantiles over towers of the scores of single towers. Bad towers are in the low quantiles of NSE "
        "and in the high ones of RMSE.",
    )


def _weeks(page: Page, experiment: Experiment, plan: Plan, results: xr.Dataset) -> None:
    page.heading("Weeks")
    for site in experiment.draw or _typical(results):
        seeds = [seed for seed in experiment.seeds if site in plan.sets[seed].scored]
        if not seeds:
            page.text(f"{site} is not among the towers that are scored.")
            continue
        each = [judged(experiment, plan, seed)[1].sel(site=site, drop=True) for seed in seeds]
        predicted = xr.concat(each, "seed", join="outer").sel(model=results["model"].values)
        predicted = predicted.transpose("model", "seed", "time").compute()
        spread = " Lines are means over seeds, bands their range." if len(seeds) > 1 else ""
        caption = f"{site}: the week around midsummer with most observations.{spread}"
        page.figure(f"week-{site}", figures.week(plan.ds, predicted, site), caption)


def _typical(results: xr.Dataset) -> list[str]:
    """The tower with most hours of each of the classes with most hours."""
    hours = results["n_site"].isel(model=0).max("seed")
    longest = {name: str(of_class.idxmax("site").values) for name, of_class in hours.groupby("site_igbp")}
    by_class = wording.hours(results)
    return [longest[name] for name in sorted(longest, key=lambda name: -by_class[str(name)])][:_WEEKS]


# What was run


def _models(page: Page, experiment: Experiment) -> None:
    page.heading("What was run")
    rows = [[model.label, model.kind_name, _settings(_said(model))] for model in experiment.models]
    page.table(["model", "kind", "settings other than its defaults"], rows, is_text=True)


def _said(model: Model) -> dict[str, Any]:
    """What a model's part of the experiment says other than its defaults."""
    own = {"share": model.share if model.share < 1 else None, "max_seeds": model.max_seeds}
    return {**model.settings, **{name: value for name, value in own.items() if value is not None}}


def _settings(settings: Mapping[str, Any], prefix: str = "") -> str:
    """Settings as text, nested ones with dotted names."""
    parts = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            parts.append(_settings(value, f"{prefix}{name}."))
        else:
            shown = " ".join(map(str, value)) or "none" if isinstance(value, tuple) else value
            parts.append(f"{prefix}{name} = {shown}")
    return ", ".join(filter(None, parts))


def _data(page: Page, experiment: Experiment, plan: Plan, results: xr.Dataset) -> None:
    ds = plan.ds
    chosen = {"variables": experiment.variables, "bands": experiment.bands}
    towers, hours = wording.towers(results)[wording.ALL], wording.hours(results)[wording.ALL]
    read = inputs(ds) | {name: codes for name, codes in chosen.items() if codes is not None}
    rows = [
        ["store", experiment.store],
        ["data", str(ds.attrs.get("title", "unnamed"))],
        ["licence", str(ds.attrs.get("license", "not stated"))],
        ["to cite", str(ds.attrs.get("references", "not stated"))],
        ["target", f"{experiment.target}, quality up to {experiment.max_qc}"],
        ["predictors", f"{' '.join(read['variables'])}; patches: {' '.join(read['bands']) or 'none'}"],
        ["hours", _HOURS[experiment.hours]],
        ["split", _split(experiment)],
        *_sets(plan),
        ["scored", f"{towers} towers with {hours:,} hours"],
        ["seeds", " ".join(map(str, experiment.seeds))],
        [
            "lacking",
            "; ".join(_lacks(experiment, plan, results)) or "nothing that the paper has",
        ],
        ["made with", ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)],
        ["date", f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"],
    ]
    page.table(["", ""], rows, is_text=True)
    sets = plan.sets[experiment.seeds[0]]
    # A tower that is scored may be one that models are chosen by.
    roles = dict.fromkeys(sets.train, "training") | dict.fromkeys(sets.val, "validation")
    roles |= dict.fromkeys(sets.scored, "scored")
    used = ds[[experiment.target]].sel(site=list(roles)).assign_coords(role=("site", list(roles.values())))
    of_seed = f", of seed {experiment.seeds[0]}" if experiment.split == "random" else ""
    page.figure("roles", figures.sites(used, "role"), f"What towers are for{of_seed}.")
    page.figure("classes", figures.sites(used, "igbp"), f"Towers by IGBP class{of_seed}.")
    cited = sorted(set(map(str, used["citation"].values)) - {""}) if "citation" in used.coords else []
    if cited:
        page.heading("Citations of the towers")
        for text in cited:
            page.text(text)


def _split(experiment: Experiment) -> str:
    if experiment.split == "paper":
        return f"that of {paper.REFERENCE}"
    return "at random by seed, stratified by class; towers less than 1 km apart stay together"


def _sets(plan: Plan) -> Iterator[list[str]]:
    """Towers and hours to train on and to choose by, of each seed if they differ."""
    for name, what in {"train": "training", "val": "validation"}.items():
        texts = []
        for sets in plan.sets.values():
            sites = list(getattr(sets, name))
            observed = int(plan.counts["hours"].sel(site=sites).sum())
            texts.append(f"{len(sites)} towers with {observed:,} hours")
        yield [what, "; ".join(dict.fromkeys(texts))]


def _lacks(experiment: Experiment, plan: Plan, results: xr.Dataset) -> Iterator[str]:
    """What the paper has and the store has not, and what else a reader should know."""
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
        yield f"hours that all models predict at {len(without)} of the scored towers"
    near = max(_too_near(ds, sets.train, sets.scored) for sets in plan.sets.values())
    if near:
        yield f"distance: {near} of the scored towers stand less than {_NEAR:.0f} km from a training tower"


def _too_near(ds: xr.Dataset, train: tuple[str, ...], scored: tuple[str, ...]) -> int:
    """How many towers stand next to one that is trained on."""
    place = [ds[name].sel(site=list(sites)).values for sites in (train, scored) for name in ("lat", "lon")]
    return int((distances(*place) < _NEAR).any(axis=0).sum())


def _named(scores: xr.DataArray) -> str:
    name = str(scores.attrs["long_name"])
    return f"{name[0].upper()}{name[1:]} [{scores.attrs['units']}]"
