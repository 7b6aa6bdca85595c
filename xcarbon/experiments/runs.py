"""Runs of an experiment: each is a model, a seed and towers, and is stored under the hash of its inputs."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xcarbon.core.atomic import replacing
from xcarbon.core.errors import OptionError
from xcarbon.core.variables import PAPER_INPUTS, PATCH_BANDS, present
from xcarbon.experiments import towers
from xcarbon.experiments.config import BASELINES, Experiment, Model
from xcarbon.experiments.towers import Sets
from xcarbon.io.store import open_store, to_store

RUN, TRAINING, MODEL, PREDICTION = "run.json", "training", "model", "prediction.zarr"
#: Root attributes that results and predictions of baselines take over from the data.
INHERITED = ("license", "references", "acknowledgement")


@dataclass(frozen=True)
class Run:
    """One training and prediction."""

    model: Model  # with all of its settings
    seed: int | None  # None for a model that does not depend on it
    target: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    scored: tuple[str, ...]
    years: tuple[int, ...] | None  # predicted year of each scored tower; None for all hours
    data: str  # fingerprint of the data of the towers

    @property
    def key(self) -> dict[str, Any]:
        """All inputs of the run; the label is not one of them."""
        model = {"kind": self.model.kind, "settings": self.model.settings}
        rest = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)[1:]}
        return model | rest

    @functools.cached_property
    def name(self) -> str:
        """Hash of the key."""
        return hashlib.sha256(json.dumps(self.key, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class RunList:
    """All runs of an experiment."""

    ds: xr.Dataset
    counts: xr.Dataset  # result of ``towers.survey``
    sets: dict[int, Sets]  # by seed
    runs: dict[tuple[str, int], tuple[Run, ...]]  # by label and seed: one run, or one for each class

    @property
    def distinct(self) -> dict[str, Run]:
        """All different runs by name, in the order in which they are done: seed by seed."""
        return {run.name: run for runs in self.runs.values() for run in runs}


def plan(experiment: Experiment, ds: xr.Dataset) -> RunList:
    """List the runs of an experiment on a store; only the target is read."""
    counts = towers.survey(ds, experiment.target, experiment.max_qc)
    sets = {seed: towers.sets(ds, experiment.split, seed) for seed in experiment.seeds}
    runs = {
        (model.label, seed): _runs(experiment, model, seed, ds, counts, sets[seed])
        for number, seed in enumerate(experiment.seeds)
        for model in experiment.models
        if model.max_seeds is None or number < model.max_seeds
    }
    _check_different(experiment, runs)
    return RunList(ds, counts, sets, runs)


def _runs(
    experiment: Experiment, model: Model, seed: int, ds: xr.Dataset, counts: xr.Dataset, all_sets: Sets
) -> tuple[Run, ...]:
    """Runs of a model with a seed: one, or one for each class."""
    found = []
    for sets in _by_class(ds, all_sets) if model.by_class else [all_sets]:
        train = towers.draw(sets.train, model.share, seed)
        when = towers.period(counts, sets.scored, experiment.hours)
        found.append(
            Run(
                model=complete(experiment, model, ds),
                seed=None if model.kind in BASELINES else seed,
                target=experiment.target,
                train=train,
                val=sets.val,
                scored=sets.scored,
                years=None if when is None else tuple(when["start"].dt.year.values.tolist()),
                data=towers.fingerprint(ds, counts, [*train, *sets.val, *sets.scored]),
            )
        )
    if not found:
        raise OptionError(
            f"{model.label!r} is trained by class, but no class has both training towers and scored towers"
        )
    return tuple(found)


def complete(experiment: Experiment, model: Model, ds: xr.Dataset) -> Model:
    """Return a model with the settings that it takes over from the experiment and the store."""
    # Default inputs are explicit settings, because the hash of a run depends on them.
    settings = {**inputs(experiment, ds), "max_qc": experiment.max_qc}
    return model.with_defaults({name: settings[name] for name in model.shared})


def inputs(experiment: Experiment, ds: xr.Dataset) -> dict[str, tuple[str, ...]]:
    """Return the ``variables`` and ``bands`` that models use unless their own settings differ."""
    variables, bands = present(PAPER_INPUTS, ds), PATCH_BANDS if "reflectance" in ds else ()
    return {
        "variables": variables if experiment.variables is None else experiment.variables,
        "bands": bands if experiment.bands is None else experiment.bands,
    }


def _by_class(ds: xr.Dataset, sets: Sets) -> list[Sets]:
    """Sets of each class that has training towers and scored towers."""
    igbp = dict(zip(map(str, ds["site"].values), ds["igbp"].values, strict=True))
    classes = sorted({igbp[site] for site in sets.train} & {igbp[site] for site in sets.scored})
    found = []
    for name in classes:
        train, val, scored = (tuple(site for site in part if igbp[site] == name) for part in sets[:3])
        found.append(Sets(train, val, scored, sets.development))
    return found


def _check_different(experiment: Experiment, runs: dict[tuple[str, int], tuple[Run, ...]]) -> None:
    """Raise an OptionError if two labels have the same runs: a model would be compared with itself."""
    seed = experiment.seeds[0]
    seen: dict[tuple[str, ...], str] = {}
    for model in experiment.models:
        names = tuple(run.name for run in runs[model.label, seed])
        if names in seen:
            settings = runs[model.label, seed][0].model.settings
            raise OptionError(
                f"{seen[names]!r} and {model.label!r} are the same model on this store, with {settings}: "
                "remove one of them"
            )
        seen[names] = model.label


def perform(run: Run, plan: RunList, folder: Path) -> None:
    """Train and predict, unless this has been done already; after Ctrl-C the same call continues."""
    here = folder / run.name
    if (here / PREDICTION).exists():
        return
    if not (here / RUN).exists():
        with replacing(here / RUN) as path:
            path.write_text(json.dumps(run.key, indent=2) + "\n")
    ds = plan.ds
    when = towers.period(plan.counts, run.scored, "all" if run.years is None else "best-year")
    to_predict = towers.drivers(ds.sel(site=list(run.scored)), when)
    if run.model.kind in BASELINES:
        predict = BASELINES[run.model.kind].predict
        prediction = predict(ds.sel(site=list(run.train)), to_predict, run.target, **run.model.settings)
        attrs = {name: ds.attrs[name] for name in INHERITED if name in ds.attrs}
        to_store(prediction.to_dataset().assign_attrs(attrs), here / PREDICTION)
        return
    _train(run, ds, here)
    to_predict.carbon.predict_to(run.target, here / MODEL, here / PREDICTION)


def _train(run: Run, ds: xr.Dataset, here: Path) -> None:
    """Train, or resume the training; the model is saved when the training is complete."""
    if (here / MODEL).exists():
        return
    model = ds.sel(site=list(run.train)).carbon.fit(
        run.model.kind,
        val=ds.sel(site=list(run.val)) if run.val else None,
        target=run.target,
        seed=run.seed,
        run_dir=here / TRAINING,
        resume=(here / TRAINING / RUN).exists(),
        allow_leakage=True,  # the paper's split has near towers; the random split keeps the distance itself
        **run.model.settings,
    )
    model.save(here / MODEL)


def prediction(runs: tuple[Run, ...], folder: Path, like: xr.DataArray) -> xr.DataArray:
    """Open the prediction of the runs of a label and seed, lazily, like observations ``(site, time)``.

    It is missing at towers and hours that are not predicted.
    """
    parts = [open_store(folder / run.name / PREDICTION)[run.target].reset_coords(drop=True) for run in runs]
    parts = [part.chunk(time=-1).reindex(time=like["time"].values) for part in parts]
    whole = xr.concat(parts, "site") if len(parts) > 1 else parts[0]
    return whole.reindex(site=like["site"].values).astype(np.float32).rename(str(like.name))
