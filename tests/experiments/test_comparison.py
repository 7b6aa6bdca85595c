"""Tests of a whole experiment: results, reuse of earlier runs, interruption and report."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from dask.distributed import Client, LocalCluster

import xcarbon
from xcarbon import training
from xcarbon.core.errors import OptionError
from xcarbon.evaluation.baselines import ridge
from xcarbon.experiments import Experiment, Model, comparison, read_experiment, run, runs, towers
from xcarbon.models.bundle import CarbonModel
from xcarbon.testing import synthetic_towers
from xcarbon.training.windows import Windows

CONFIG = """
protocol = "table2"
store = "towers.zarr"
out = "out"
seeds = [0, 10]
evaluate = ["extremes", "time-scales"]
draw = ["SY-008", "SY-001"]
models = [{kind = "ridge"}]

[settings.ecoperceiver]
max_steps = 4
batch_size = 16
eval_every = 2
val_windows = 16
learning_rate = 5e-3
network = { width = 16, heads = 2, cross_blocks = 1, self_layers = 1, context = 8, octaves = 4 }

[settings.xgboost]
n_estimators = 3
context = 8
"""
ROLES = ["train", "train", "train", "train", "val", "val", "test", "test", "test", "test"]
TINY = Model(
    "ecoperceiver",
    settings={
        "max_steps": 1,
        "batch_size": 8,
        "val_windows": 8,
        "network": {"width": 16, "heads": 2, "cross_blocks": 1, "self_layers": 1, "context": 4, "octaves": 2},
    },
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Write a store of ten towers with six weeks of data and a coordinate with the split."""
    folder = tmp_path_factory.mktemp("experiment")
    ds = synthetic_towers(10, patches=False, variables=["TA", "SW_IN", "NEE"])
    ds = ds.sel(time=slice("2010-06-01", "2010-07-14")).assign_coords(paper_split=("site", ROLES))
    ds["NEE_RANDUNC"] = xr.full_like(ds["NEE"], 0.5)
    ds["NEE_RANDUNC"].attrs = {}
    with xcarbon.set_options(progress=False):
        ds.carbon.to_store(folder / "towers.zarr")
    (folder / "experiment.toml").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def experiment(folder) -> Experiment:
    return read_experiment(folder / "experiment.toml")


@pytest.fixture(scope="module")
def results(experiment) -> xr.Dataset:
    with xcarbon.set_options(progress=False):
        return run(experiment)


@pytest.fixture
def plan(experiment, results) -> runs.RunList:
    return runs.plan(experiment, xcarbon.open_store(experiment.store))


@pytest.fixture
def no_report(monkeypatch) -> None:
    """Replace the report, because figures take most of the time."""
    monkeypatch.setattr(comparison, "report", lambda *_: SimpleNamespace(write=lambda folder: None))


@pytest.fixture
def fits(monkeypatch) -> list[str]:
    """Record the kinds of the models that are trained."""
    trained: list[str] = []
    fit = training.fit

    def counted(ds: xr.Dataset, kind: str, **settings: Any) -> CarbonModel:
        trained.append(kind)
        return fit(ds, kind, **settings)

    monkeypatch.setattr(training, "fit", counted)
    return trained


def written(experiment: Experiment) -> dict[str, int]:
    return {
        str(path): path.stat().st_mtime_ns
        for path in (experiment.out).rglob("*")
        if path.is_file() and "report" not in path.name and path.suffix != ".png"
    }


def test_results_are_those_of_the_accessor(experiment, results, plan):
    """Compare with scores of each model in the hours that all models predict."""
    test = plan.ds.sel(site=list(plan.sets[10].scored))
    predictions = {
        label: runs.prediction(plan.runs[label, 10], experiment.runs, test["NEE"])
        for label in results["model"].values
    }
    everywhere = np.logical_and.reduce([nee.notnull() for nee in predictions.values()])
    assert 0.5 < everywhere.mean() < 1
    for label, nee in predictions.items():
        ours = results.sel(model=label, seed=10)
        nee = nee.where(everywhere)
        for by, suffix in {None: "", "igbp": "_igbp", "site": "_site"}.items():
            scores = test.carbon.score(nee, by=by).compute()
            for name in ("nse", "rmse", "bias", "n"):
                np.testing.assert_allclose(ours[f"{name}{suffix}"], scores[name], rtol=1e-6)
    assert len(set(results["n"].values.ravel())) == 1


def test_further_scores_begin_with_those_of_all_hours(results):
    for by, first in {"condition": "all", "scale": "hourly"}.items():
        scores = results[f"nse_{by}"].sel({by: first}).transpose("model", "seed")
        np.testing.assert_allclose(scores, results["nse"], rtol=1e-6)
    # A perfect model has an RMSE equal to the noise of 0.5.
    variance = (results["rmse"] ** 2 / (1 - results["nse"])).isel(model=0)
    np.testing.assert_allclose(results["nse_ceiling"], 1 - 0.25 / variance, rtol=1e-4)


def test_a_model_without_a_seed_is_run_once(experiment, results, plan):
    assert plan.runs["ridge regression", 0][0].name == plan.runs["ridge regression", 10][0].name
    assert len(plan.distinct) == 5 == len(list((experiment.runs).iterdir()))
    nse = results["nse"]
    assert nse.sel(model="ridge regression", seed=0) == nse.sel(model="ridge regression", seed=10)
    assert nse.sel(model="EcoPerceiver", seed=0) != nse.sel(model="EcoPerceiver", seed=10)


def test_a_model_may_have_fewer_seeds(experiment, results, fits, tmp_path):
    shutil.copytree(experiment.out, tmp_path / "out")
    models = (
        dataclasses.replace(model, max_seeds=1 if model.label == "EcoPerceiver" else None)
        for model in experiment.models
    )
    fewer = run(dataclasses.replace(experiment, models=tuple(models), out=tmp_path / "out", evaluate=()))
    assert not fits
    assert list(fewer["model"].values) == list(results["model"].values)
    np.testing.assert_allclose(fewer["nse"].sel(seed=0), results["nse"].sel(seed=0))
    assert fewer["nse"].sel(seed=10).isnull().sum() == 1 == fewer["nse"].sel(model="EcoPerceiver").count()
    pair = fewer.sel(pair="EcoPerceiver − XGBoost")
    expected = fewer["nse"].sel(model=["XGBoost", "EcoPerceiver"], seed=0).diff("model")
    np.testing.assert_allclose(pair["nse_difference"], expected[0])
    assert "EcoPerceiver" in (tmp_path / "out" / "report.md").read_text()


def test_a_model_may_learn_from_a_share_of_the_towers(experiment, plan):
    """The share depends on the seed; other settings and the model of all towers do not change."""
    models = (Model("ridge"), Model("ridge", "half", share=0.5))
    found = runs.plan(dataclasses.replace(experiment, models=models), plan.ds)
    assert found.runs["ridge regression", 0] == plan.runs["ridge regression", 0]
    for seed in experiment.seeds:
        (every,), (half,) = found.runs["ridge regression", seed], found.runs["half", seed]
        assert half.train == towers.draw(every.train, 0.5, seed)
        assert (half.val, half.scored, half.model.settings) == (every.val, every.scored, every.model.settings)


def test_nothing_is_done_twice(experiment, results, fits, no_report, monkeypatch):
    before = written(experiment)

    @functools.wraps(runs.BASELINES["ridge"].predict)
    def again(*_: Any, **__: Any) -> None:
        raise AssertionError("the ridge regression is computed again")

    monkeypatch.setitem(runs.BASELINES, "ridge", runs.BASELINES["ridge"]._replace(predict=again))
    xr.testing.assert_identical(run(experiment), results)
    assert fits == []
    assert written(experiment) == before


def test_what_is_missing_is_done_and_nothing_else(experiment, results, plan, fits, no_report, tmp_path):
    """A cluster is used here; the results do not depend on it."""
    shutil.copytree(experiment.out, tmp_path / "out")
    one = dataclasses.replace(experiment, out=tmp_path / "out", seeds=(10,), evaluate=())
    prediction = one.runs / plan.runs["EcoPerceiver", 10][0].name / "prediction.zarr"
    shutil.rmtree(prediction)
    one.results.unlink()
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        again = run(one)
    assert fits == [] and prediction.exists()
    scores = ["nse", "rmse", "bias", "n", "nse_site", "nse_igbp"]
    xr.testing.assert_allclose(again[scores], results[scores].sel(seed=[10]))


def test_ctrl_c_loses_nothing(experiment, results, plan, no_report, tmp_path, monkeypatch):
    """The second run is interrupted in its second step, and the experiment is called again."""
    other = dataclasses.replace(experiment, out=tmp_path, seeds=(0,), draw=(), evaluate=())
    batch, calls = Windows.batch, []

    def pressed(self, index):
        calls.append(index)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return batch(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Windows, "batch", pressed)
        with pytest.raises(
            KeyboardInterrupt, match="run 2 of 3, EcoPerceiver, seed 0; the same command continues"
        ):
            run(other)
    name = plan.runs["EcoPerceiver", 0][0].name
    assert (tmp_path / "runs" / name / "training" / "last.ckpt").exists()
    assert not (tmp_path / "runs" / name / "model").exists()
    calls.clear()
    monkeypatch.setattr(Windows, "batch", lambda self, index: calls.append(index) or batch(self, index))
    again = run(other)
    models = [CarbonModel.load(out / "runs" / name / "model") for out in (tmp_path, experiment.out)]
    assert models[0].fingerprint() == models[1].fingerprint()
    np.testing.assert_array_equal(again["nse"].sel(seed=0), results["nse"].sel(seed=0))


def test_the_report_says_what_came_out_and_what_was_run(experiment, results):
    markdown = (experiment.out / "report.md").read_text()
    page = (experiment.out / "report.html").read_text()
    rmse = results["rmse"].sel(model="EcoPerceiver").values
    shown = f"{rmse.mean():.2f} ± {rmse.std(ddof=1):.2f}"
    for text in (markdown, page):
        assert "Is EcoPerceiver better than XGBoost" in text and shown in text
        assert "EcoPerceiver, paper (other data)" in text and "arXiv:2406.04940" in text
        assert "max_steps = 4" in text and "network.width = 16" in text
        assert (
            "CC0-1.0" in text and "satellite patches" in text and "47 of the paper's 47 test towers" in text
        )
        assert "SY-001 is not among the scored towers" in text
        assert "Development" not in text
    assert "| all | 4 |" in markdown and "| ENF evergreen needleleaf forest |" in markdown
    figures = re.findall(r"!\[.*\]\((figures/.*\.png)\)", markdown)
    assert all((experiment.out / figure).stat().st_size > 5000 for figure in figures)
    names = {Path(figure).stem for figure in figures}
    assert names == {
        "overall",
        "nse",
        "rmse",
        "differences",
        "condition",
        "scale",
        "week-SY-008",
        "roles",
        "classes",
    }
    assert page.count("data:image/png;base64,") == len(figures)
    assert not re.findall(r'(?:src|href)="(?!data:)', page)


def test_results_say_what_they_are_and_where_they_come_from(experiment, results):
    assert results.attrs["license"] == "CC0-1.0" and "Synthetic flux towers" in results.attrs["title"]
    assert results.attrs["Conventions"].startswith("CF-")
    for name, array in results.data_vars.items():
        assert array.attrs["long_name"] and {"units", "comment"} & set(array.attrs), name
    assert results["rmse_igbp"].attrs["units"] == "umol m-2 s-1"
    assert results["site_lat"].attrs["units"] == "degrees_north"


def test_validation_towers_are_scored_as_development(folder, tmp_path):
    ds = xcarbon.open_store(folder / "towers.zarr")
    none = ds.isel(site=slice(0, 6)).assign_coords(paper_split=("site", ROLES[:6]))
    store = none.drop_vars("NEE_RANDUNC").carbon.to_store(tmp_path / "towers.zarr")
    results = run(Experiment(str(store), tmp_path / "out", (Model("ridge"),)))
    assert results["site"].values.tolist() == ["SY-005", "SY-006"]
    assert results.sizes["pair"] == 0
    assert "**Development scores.**" in (tmp_path / "out" / "report.md").read_text()


def test_one_model_for_each_class(folder, tmp_path, no_report):
    models = (Model("ridge"), Model("ridge", "own class", by_class=True))
    experiment = Experiment(str(folder / "towers.zarr"), tmp_path, models)
    results = run(experiment)
    todo = runs.plan(experiment, xcarbon.open_store(experiment.store))
    igbp = todo.ds["igbp"].to_series()
    for one in todo.runs["own class", 0]:
        (name,) = set(igbp[list(one.scored)])
        assert list(one.train) == [site for site in todo.sets[0].train if igbp[site] == name]
        expected = ridge(todo.ds.sel(site=list(one.train)), todo.ds.sel(site=list(one.scored)))
        found = runs.prediction((one,), tmp_path / "runs", expected)
        xr.testing.assert_allclose(found, expected.drop_vars(["lat", "lon"]).reset_coords(drop=True))
    assert set(igbp[list(todo.sets[0].scored)]) <= set(igbp[list(todo.sets[0].train)])
    assert (results["n_site"] > 0).all()


def test_the_best_year_alone_is_predicted_and_scored(tmp_path, no_report):
    """The best year of one tower is 2011. A tower without observations is left out."""
    ds = synthetic_towers(6, years=2, patches=False, variables=["TA", "NEE"])
    ds["NEE"] = ds["NEE"].where((ds["site"] != "SY-005") | (ds["time"].dt.year == 2011))
    ds["NEE"] = ds["NEE"].where(ds["site"] != "SY-004")
    ds["NEE_RANDUNC"] = xr.full_like(ds["NEE"], 0.5).drop_attrs()
    ds = ds.assign_coords(paper_split=("site", ["train"] * 2 + ["val"] + ["test"] * 3))
    store = ds.sel(time=slice("2010-11-01", "2011-02-01")).carbon.to_store(tmp_path / "towers.zarr")
    experiment = Experiment(str(store), tmp_path / "out", (TINY,), hours="best-year")
    results = run(experiment)
    todo = runs.plan(experiment, xcarbon.open_store(store))
    (only,) = todo.runs["EcoPerceiver", 0]
    assert only.years == (2010, 2011, 2010)
    assert results["site"].values.tolist() == ["SY-005", "SY-006"]
    assert set(results["igbp"].values) == set(results["site_igbp"].values)
    assert results["n_igbp"].dtype == np.int64
    nee = xcarbon.open_store(tmp_path / "out" / "runs" / only.name / "prediction.zarr")["NEE"].load()
    first = nee["time"].values[nee.notnull().argmax("time").values]
    assert str(first[1])[:13] == "2010-12-18T00"
    observed = towers.observations(todo.ds.sel(site=list(only.scored)), "NEE", 1, None)
    both = observed.where(observed["time"].dt.year == xr.DataArray(list(only.years), dims="site")) * nee
    np.testing.assert_array_equal(results["n_site"].values.ravel(), both.count("time")[1:])


def test_two_names_for_one_model_are_refused(folder, tmp_path):
    models = (Model("ecoperceiver", "with patches"), Model("ecoperceiver", "without", settings={"bands": ()}))
    with pytest.raises(OptionError, match="'with patches' and 'without' are the same model on this store"):
        run(Experiment(str(folder / "towers.zarr"), tmp_path, models))
    assert not any(tmp_path.iterdir())


def test_figures_need_matplotlib_before_hours_of_training(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(xcarbon.core.errors.XCarbonError, match=r"pip install 'xcarbon\[plot\]'"):
        run(Experiment(str(folder / "towers.zarr"), tmp_path, (Model("ridge"),)))
