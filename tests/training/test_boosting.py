"""Trees are trained, tuned, resumed and applied with the same functions as EcoPerceiver."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import dask
import numpy as np
import pytest
import xarray as xr
import xgboost

import xcarbon
from tests.prediction.test_predict import make
from tests.processes import exit_code
from xcarbon.core.errors import LeakageError, ModelError, StoreError
from xcarbon.core.variables import memory_features
from xcarbon.models.boosting import BoostedTreesConfig
from xcarbon.models.bundle import CarbonModel
from xcarbon.prep.inputs import model_inputs
from xcarbon.testing import raise_on_compute, synthetic_towers
from xcarbon.training import arrays, fit, rows
from xcarbon.training.boosting import SCRATCH
from xcarbon.training.boosting_config import STATE_SETTINGS, BoostingConfig
from xcarbon.training.checkpoints import MODEL, RUN
from xcarbon.training.rows import Draw, LocalRows, tower_rows
from xcarbon.training.search import SEARCH, SPACE, assign_folds, draw_point

CONTEXT = 8
QUICK = {"n_estimators": 12, "max_depth": 4, "context": CONTEXT}
#: A model of air temperature alone, and a draw of all hours.
TA, ALL = BoostedTreesConfig(("TA",), context=CONTEXT), Draw(1.0, 0.0, 0)
SEARCHED = QUICK | {"tune": True, "points": 3, "folds": 2, "n_estimators": 4}


@pytest.fixture(scope="module")
def sets(towers) -> tuple[xr.Dataset, xr.Dataset]:
    """Four and two towers in three months of summer."""
    season = towers.sel(time=slice("2010-06-01", "2010-08-31"), day=slice("2010-06-01", "2010-08-31"))
    return season.isel(site=slice(0, 4)), season.isel(site=slice(4, 6))


def limit_memory(monkeypatch, limit: float) -> None:
    """Set the limit of memory, and make XGBoost read the data in several pages."""
    monkeypatch.setattr(arrays, "memory_limit", lambda: limit)
    monkeypatch.setattr(rows, "PAGE_BYTES", 100_000)


@pytest.fixture(scope="module")
def model(sets, tmp_path_factory) -> CarbonModel:
    with xcarbon.set_options(progress=False):
        return fit(sets[0], "xgboost", val=sets[1], run_dir=tmp_path_factory.mktemp("trees"), **QUICK)


def test_defaults_are_the_paper_s():
    parameters = {
        "max_depth": 9, "learning_rate": 0.1, "min_child_weight": 9, "subsample": 0.7,
        "colsample_bytree": 0.7, "colsample_bylevel": 0.8, "gamma": 0.4, "reg_alpha": 0.1, "reg_lambda": 0,
        "tree_method": "hist", "objective": "reg:squarederror", "seed": 0,
    }  # fmt: skip
    config = BoostingConfig()
    assert (config.n_estimators, config.context, config.points, config.folds) == (150, 32, 50, 5)
    assert config.parameters() == parameters
    assert all(getattr(config, name) in values for name, values in SPACE.items())


def test_fit_reduces_the_error_and_records_the_provenance(sets, model):
    train, val = sets
    curve = model.provenance["curve"]
    assert [point["step"] for point in curve] == list(range(1, 13))
    assert curve[-1]["train_mse"] < 0.6 < curve[0]["train_mse"] < 1.1
    assert model.sites == tuple(train["site"].values)
    assert model.provenance["val_sites"] == list(val["site"].values)
    assert model.provenance["versions"]["xgboost"] == xgboost.__version__
    assert model.provenance["training"]["max_depth"] == 4
    assert len(model.config.variables) == 21 and len(model.config.bands) == 9
    used = model.predictor.booster.get_score(importance_type="weight")
    assert set(used) & {"B1", "B2", "snow"} and set(used) <= {*model.config.variables, *model.config.bands}


def test_a_prediction_scores_as_in_training(sets, model):
    """Training and prediction use the same hours and the same features."""
    train, val = sets
    for ds, name in ((train, "train_mse"), (val, "val_mse")):
        scores = ds.carbon.score(ds.carbon.predict_nee(model), by=None, training_towers="keep").compute()
        learnt = tower_rows(model_inputs(ds, ["TA"], target=["NEE"]), TA, ALL)
        assert scores["n"] == sum(len(tower.target) for tower in learnt)
        variance = np.concatenate([tower.target.compute() for tower in learnt]).var(dtype=float)
        if ds is train:
            scale = variance
        expected = model.provenance["curve"][-1][name]
        assert scores["rmse"] ** 2 / scale == pytest.approx(expected, rel=1e-5)


def test_attributes_contain_the_name_of_the_kind(sets, model):
    with raise_on_compute():
        prediction = sets[1].carbon.predict_nee(model)
    assert prediction.attrs["source"].startswith(f"XGBoost model {model.fingerprint()}, xcarbon")
    assert prediction.attrs["training_sites"].split() == list(model.sites)


@pytest.mark.parametrize("chunks", [{"time": 3}, {"time": (5, 1, 66)}, {"site": -1, "day": 2}])
def test_predictions_do_not_depend_on_the_chunking(sets, model, chunks):
    days = sets[1].isel(time=slice(72), day=slice(3)).load()
    expected = days.carbon.predict_nee(model).values
    np.testing.assert_array_equal(days.chunk(chunks).carbon.predict_nee(model), expected)
    assert np.isfinite(expected).mean() > 0.8


def test_both_models_predict_the_same_hours(sets, model):
    week = sets[1].isel(time=slice(200), day=slice(8)).load()
    gap = xr.zeros_like(week["time"], dtype=bool)
    gap[100:130] = True
    week = week.assign({code: week[code].where(~gap) for code in model.config.variables[2:]})
    week["reflectance"] = week["reflectance"].where(week["day"] < week["day"][3])
    trees, network = (week.carbon.predict_nee(each).notnull().values for each in (model, make()))
    np.testing.assert_array_equal(trees, network)
    assert not trees[:, 100 + CONTEXT : 130].all() and trees[:, 130:].all()


def test_cells_of_a_grid_are_towers_in_solar_time(sets, model):
    cell = sets[1].isel(site=0, time=slice(100), day=slice(5), drop=True)[["TA", "SW_IN", "reflectance"]]
    grid = cell.load().expand_dims(lat=[50.0], lon=[0.0, 30.0]).transpose("time", ...)
    prediction = grid.chunk(time=30).carbon.predict_nee(model)
    for number, hours in enumerate((0, 2)):
        local = cell.assign_coords(time=cell["time"].values + np.timedelta64(hours, "h"))
        expected = local.carbon.predict_nee(model).values
        np.testing.assert_array_equal(prediction.isel(lat=0, lon=number), expected)
    assert (prediction[:, 0, 0] != prediction[:, 0, 1]).any()


def test_a_prediction_is_written(sets, model, tmp_path):
    week = sets[1].isel(time=slice(168))
    path = week.carbon.predict_to("NEE", model, tmp_path / "nee.nc")
    with xcarbon.open_netcdf(path) as found:
        np.testing.assert_array_equal(found["NEE"], week.carbon.predict_nee(model))
        assert "predict_to, XGBoost model" in found.attrs["history"]


def test_seeds_reproduce(sets, model, tmp_path):
    train, val = sets
    again, other = (
        fit(train, "xgboost", val=val, seed=seed, run_dir=tmp_path / str(seed), **QUICK) for seed in (0, 1)
    )
    assert again.fingerprint() == model.fingerprint() != other.fingerprint()


def test_only_targets_are_read_to_find_hours(sets):
    train = sets[0].chunk(site=1)  # another test may have loaded them

    def fail(values):
        raise AssertionError("predictors were read")

    guarded = train.assign(TA=train["TA"].copy(data=train["TA"].data.map_blocks(fail, meta=np.empty((0, 0)))))
    inputs = model_inputs(guarded, ["TA"], target=["NEE"])
    found = tower_rows(inputs, TA, ALL)
    known = inputs["target"][:, CONTEXT - 1 :, 0].notnull().sum("time").values
    assert [len(tower.target) for tower in found] == known.tolist()
    with pytest.raises(AssertionError, match="were read"):
        found[0].features.compute()


def test_towers_without_hours_are_left_out(sets, tmp_path):
    train, _ = sets
    inputs = model_inputs(train, ["TA"], target=["NEE"])
    inputs["target"] = inputs["target"].where(inputs["site"] != train["site"][1])
    found = tower_rows(inputs, TA, ALL)
    assert [tower.site for tower in found] == [0, 2, 3]


def test_towers_that_are_held_out_have_no_influence(sets):
    """Other targets at held-out towers lead to the same trees."""
    train, _ = sets
    config = BoostedTreesConfig(("DOY", "TOD", "TA", "SW_IN"), context=CONTEXT)
    training = BoostingConfig(n_estimators=3, max_depth=3)
    held_out = np.array([False, True, False, False])
    boosters = []
    for offset in (0, 100):
        inputs = model_inputs(train, config.variables, target=["NEE"])
        inputs["target"] = inputs["target"] + xr.DataArray(held_out * np.float32(offset), dims="site")
        local = LocalRows.read(tower_rows(inputs, config, ALL), config.features)
        booster, _ = local.train(training, held_out=held_out)
        boosters.append(booster)
        errors = [local.squared_error(booster, np.arange(4) == tower) for tower in range(4)]
        assert local.squared_error(booster, held_out) == errors[1]
        assert errors[1] > 5000 * local.sizes[1] * (offset > 0)
        weighted = local.train(training)[0]
        assert weighted.save_raw() != booster.save_raw()
    assert boosters[0].save_raw() == boosters[1].save_raw()


def test_early_stopping_keeps_the_best_trees(sets, tmp_path):
    train, val = sets
    settings = {"n_estimators": 300, "learning_rate": 1.0, "early_stopping_rounds": 3, "context": CONTEXT}
    found = fit(train, "xgboost", val=val, run_dir=tmp_path, **settings)
    scores = [point["val_mse"] for point in found.provenance["curve"]]
    assert len(scores) < 100
    assert found.predictor.booster.num_boosted_rounds() == np.argmin(scores) + 1 == len(scores) - 3


def test_trainings_that_are_not_possible_raise_errors(sets, tmp_path):
    train, _ = sets
    cases = {
        r"unknown settings \['depth', 'network'\].*'n_estimators', 'max_depth'": (
            train, {"depth": 3, "network": {}}
        ),
        "pass val": (train, {"early_stopping_rounds": 3}),
        "max_depth must be at least 1": (train, {"max_depth": 0}),
        "subsample must be greater than 0 and at most 1": (train, {"subsample": 1.5}),
        "there are no towers": (train.isel(site=[]), {}),
        "no reflectance": (train.drop_vars("reflectance"), {"bands": ("B1",)}),
        "none of 4 towers has an hour": (train.assign(NEE=train["NEE"] * np.nan), {}),
        "4 groups of towers are too few for 5 folds": (train, {"tune": True}),
    }  # fmt: skip
    for message, (ds, settings) in cases.items():
        with pytest.raises(ModelError, match=message):
            fit(ds, "xgboost", run_dir=tmp_path / "run", **settings)
    with pytest.raises(LeakageError, match=train["site"].values[0]):
        fit(train, "xgboost", val=train.isel(site=[0]), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_resuming_a_finished_run_returns_its_model(sets, model, tmp_path):
    train, val = sets
    settings = QUICK | {"n_estimators": 2}
    first = fit(train, "xgboost", run_dir=tmp_path, **settings)
    assert {path.name for path in tmp_path.iterdir()} == {MODEL, RUN}
    assert fit(train, "xgboost", run_dir=tmp_path, resume=True, **settings).provenance == first.provenance
    with pytest.raises(ModelError, match="holds a run"):
        fit(train, "xgboost", run_dir=tmp_path, **settings)
    with pytest.raises(ModelError, match=r"training\.seed, val_sites differ"):
        fit(train, "xgboost", val=val, seed=1, run_dir=tmp_path, resume=True, **settings)
    with pytest.raises(ModelError, match="no run to resume"):
        fit(train, "xgboost", run_dir=tmp_path / "new", resume=True, **settings)


def test_a_search_continues_after_an_interruption(sets, tmp_path, monkeypatch):
    train, _ = sets
    grown = []
    original = LocalRows.train

    def count(self, training, **where):
        grown.append(training)
        if len(grown) == limit:
            raise KeyboardInterrupt
        return original(self, training, **where)

    monkeypatch.setattr(LocalRows, "train", count)
    limit = 10**6
    whole = fit(train, "xgboost", run_dir=tmp_path / "whole", **SEARCHED)
    assert len(grown) == 3 * 2 + 1  # points x folds, and the best one on all towers
    points = json.loads((tmp_path / "whole" / SEARCH).read_text())
    assert len({json.dumps(point) for point in points}) == 3
    best = min(points, key=lambda point: point["mse"])
    assert whole.provenance["search"] == best
    assert whole.provenance["training"].items() >= (best["settings"] | SEARCHED).items()
    assert not {"n_estimators", "max_depth"} & set(best["settings"]) and 0.1 < best["mse"] < 1.5

    grown.clear()
    limit = 4  # in the second fold of the second point
    with pytest.raises(KeyboardInterrupt, match="resume=True continues"):
        fit(train, "xgboost", run_dir=tmp_path / "parts", **SEARCHED)
    assert json.loads((tmp_path / "parts" / SEARCH).read_text()) == points[:1]
    grown.clear()
    limit = 10**6
    resumed = fit(train, "xgboost", run_dir=tmp_path / "parts", resume=True, **SEARCHED)
    assert len(grown) == 2 * 2 + 1
    assert resumed.fingerprint() == whole.fingerprint()
    with pytest.raises(ModelError, match="drawn differ"):
        fit(train, "xgboost", run_dir=tmp_path / "parts", resume=True, gamma=0.4, **SEARCHED)


def test_points_are_random_and_reproducible():
    points = [draw_point(7, number, list(SPACE)) for number in range(200)]
    assert points == [draw_point(7, number, list(SPACE)) for number in range(200)]
    assert points[0] != draw_point(8, 0, list(SPACE))
    for name, values in SPACE.items():
        assert {point[name] for point in points} == set(values)
    assert draw_point(7, 0, ["gamma"]) == {"gamma": points[0]["gamma"]}


def test_folds_are_by_site_and_keep_near_towers_together():
    groups = np.array([0, 1, 2, 2, 3, 4, 5, 2])
    fold = assign_folds(groups, 3, seed=1)
    assert set(fold) == {0, 1, 2} and len(set(fold[groups == 2])) == 1
    assert np.bincount(assign_folds(np.arange(12), folds=5, seed=0)).tolist() == [3, 3, 2, 2, 2]
    np.testing.assert_array_equal(fold, assign_folds(groups, 3, seed=1))
    assert any((assign_folds(groups, 3, seed) != fold).any() for seed in range(2, 6))


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_ctrl_c_while_bins_are_made_does_not_truncate_the_data(sets, tmp_path, monkeypatch, place):
    limit_memory(monkeypatch, 0 if place == "disk" else math.inf)
    step, pressed = rows._Batches.next, []

    def press(self, input_data):
        if self.position and not pressed:
            pressed.append(os.kill(os.getpid(), signal.SIGINT))
        return step(self, input_data)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="resume=True"):
        patch.setattr(rows._Batches, "next", press)
        fit(sets[0], "xgboost", run_dir=tmp_path, **QUICK)
    assert pressed and {path.name for path in tmp_path.iterdir()} == {RUN}
    fit(sets[0], "xgboost", run_dir=tmp_path, resume=True, **QUICK)


# Data larger than memory


def test_trees_from_disk_are_those_from_memory(sets, tmp_path, monkeypatch, capsys, recwarn):
    """Also with validation towers and after a search; no file is left, and a line reports the choice."""
    train, val = sets
    settings = SEARCHED | {"points": 2, "early_stopping_rounds": 2}
    found, made = [], []
    matrix = xgboost.ExtMemQuantileDMatrix
    monkeypatch.setattr(xgboost, "ExtMemQuantileDMatrix", lambda *a, **k: made.append(1) or matrix(*a, **k))
    for name, limit in {"memory": math.inf, "disk": 0}.items():
        limit_memory(monkeypatch, limit)
        with xcarbon.set_options(progress=True):
            found.append(fit(train, "xgboost", val=val, run_dir=tmp_path / name, **settings))
        lines = [line for line in capsys.readouterr().err.splitlines() if "GB)" in line]
        place = "held in memory" if limit else f"stored on disk in {tmp_path / name / SCRATCH}, because"
        assert len(lines) == 1 and lines[0].startswith("The data with its bins (0.") and place in lines[0]
        assert {path.name for path in (tmp_path / name).iterdir()} == {MODEL, RUN, SEARCH}
        assert len(made) == (0 if limit else 2)  # all points of the search share the bins
        made.clear()
    assert found[0].predictor.booster.save_raw() == found[1].predictor.booster.save_raw()
    assert found[0].provenance["curve"] == found[1].provenance["curve"]
    assert found[0].provenance["search"] == found[1].provenance["search"]
    assert not [warning for warning in recwarn if "external memory" in str(warning.message).lower()]


def test_an_error_removes_the_files(sets, tmp_path, monkeypatch, recwarn):
    limit_memory(monkeypatch, 0)
    seen = []

    def fail(self, *arguments):
        seen.extend((tmp_path / SCRATCH).iterdir())
        raise RuntimeError("the training failed")

    monkeypatch.setattr(rows._Progress, "after_iteration", fail)
    with pytest.raises(RuntimeError, match="the training failed"):
        fit(sets[0], "xgboost", val=sets[1], run_dir=tmp_path, **QUICK)
    assert len(seen) == 2  # bins of both sets; the file of the features has no name
    assert {path.name for path in tmp_path.iterdir()} == {RUN}
    assert not [warning for warning in recwarn if "external memory" in str(warning.message).lower()]


def one_tower() -> xr.Dataset:
    """One tower in three months, also in another process."""
    return synthetic_towers(1, patches=False).isel(time=slice(2200))


def train_and_die(folder: Path) -> None:
    """Train from disk, and kill the own process after the first tree."""
    xcarbon.set_options(progress=False)
    arrays.memory_limit = lambda: 0
    rows._Progress.after_iteration = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
    one_tower().carbon.fit("xgboost", n_estimators=2, run_dir=folder)


def test_files_of_a_killed_process_are_removed_at_the_next_start(tmp_path):
    assert exit_code(train_and_die, tmp_path) == -signal.SIGKILL and list((tmp_path / SCRATCH).iterdir())
    fit(one_tower(), "xgboost", n_estimators=2, run_dir=tmp_path, resume=True)
    assert {path.name for path in tmp_path.iterdir()} == {MODEL, RUN}


def test_a_full_disk_is_found_before_anything_is_written(sets, tmp_path, monkeypatch):
    limit_memory(monkeypatch, 0)
    with (
        monkeypatch.context() as patch,
        pytest.raises(StoreError, match=r"needs up to 0\.0. GB in .*scratch"),
    ):
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
        patch.setattr(rows, "empty", None)
        fit(sets[0], "xgboost", run_dir=tmp_path, **QUICK)
    assert {path.name for path in tmp_path.iterdir()} == {RUN}
    if hasattr(os, "posix_fallocate"):  # another process may fill the disk after the check
        full = OSError(errno.ENOSPC, "No space left on device")
        monkeypatch.setattr(os, "posix_fallocate", Mock(side_effect=full))
        with pytest.raises(StoreError, match="scratch cannot be written because the disk is full"):
            fit(sets[0], "xgboost", run_dir=tmp_path, resume=True, **QUICK)


def test_a_cluster_of_two_processes_grows_trees_as_good(sets, tmp_path):
    distributed = pytest.importorskip("distributed")
    train, val = (ds[["TA", "SW_IN", "NEE", "NEE_QC"]].load() for ds in sets)
    one, other = (
        fit(train, "xgboost", val=val, seed=seed, run_dir=tmp_path / str(seed), **QUICK) for seed in (0, 1)
    )
    quick = SEARCHED | {"points": 1}
    here = fit(train, "xgboost", run_dir=tmp_path / "here", **quick)
    with distributed.Client(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None):
        there = fit(train, "xgboost", run_dir=tmp_path / "there", **quick)
        found = fit(train.chunk(site=1), "xgboost", val=val, run_dir=tmp_path / "two", **QUICK)
        prediction = val.carbon.predict_nee(found).compute()
    predictions = [val.carbon.predict_nee(each).compute() for each in (one, other, found)]
    seeds, places = (abs(predictions[0] - each).mean() for each in predictions[1:])
    assert places < 1.5 * seeds
    np.testing.assert_array_equal(prediction, predictions[2])
    curves = [each.provenance["curve"] for each in (one, found)]
    for point, expected in zip(*curves, strict=True):
        assert point == pytest.approx(expected, rel=0.05)
    assert there.provenance["search"]["mse"] == pytest.approx(here.provenance["search"]["mse"], rel=0.1)


def test_a_worker_that_is_killed_while_trees_are_trained(sets, tmp_path):
    """Without a restart, XGBoost of the other worker would wait for the lost one without a limit of time."""
    distributed = pytest.importorskip("distributed")
    train, val = (ds[["TA", "SW_IN", "NEE", "NEE_QC"]].load() for ds in sets)
    trees = QUICK | {"n_estimators": 30, "val": val.isel(site=[0])}  # a worker has no rows of it
    here = fit(train, "xgboost", run_dir=tmp_path / "here", **trees)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        killed = []

        def kill():
            names = {
                worker: nanny.pid for nanny in cluster.workers.values() if (worker := nanny.worker_address)
            }
            while not killed:
                for worker in list(cluster.scheduler.workers.values()):
                    if any(task.prefix.name == "train_part" for task in list(worker.processing)):
                        killed.append(os.kill(names[worker.address], signal.SIGKILL))
                        break
                time.sleep(0.01)

        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        there = fit(train.chunk(site=1), "xgboost", run_dir=tmp_path / "there", **trees)
    assert killed
    for point, expected in zip(there.provenance["curve"], here.provenance["curve"], strict=True):
        assert point == pytest.approx(expected, rel=0.05)


# State


@pytest.fixture(scope="module")
def with_series() -> xr.Dataset:
    """Four towers with satellite series."""
    codes = ["TA", "SW_IN", "VPD", "NEE", "GPP_NT"]
    ds = synthetic_towers(4, seed=2, patches=False, satellite=True, variables=codes)
    ds["GPP_NT"] = ds["GPP_NT"].where(ds["time"].dt.hour > 4)
    return ds.persist()


STATE = {"features": "state", "n_estimators": 10, "min_child_weight": 5, "share": 0.3}


@pytest.fixture(scope="module")
def stateful(with_series, tmp_path_factory) -> CarbonModel:
    with xcarbon.set_options(progress=False):
        folder = tmp_path_factory.mktemp("state")
        return fit(with_series, "xgboost", target=["NEE", "GPP_NT"], run_dir=folder, **STATE)


def test_trees_with_a_state_have_settings_of_their_own(with_series, stateful):
    config, training = stateful.config, stateful.provenance["training"]
    assert config.statics == ("igbp", "lat") and config.bands == ()
    assert config.state == (*memory_features(["TA", "VPD", "SW_IN"]), "FAPAR", "LAI")
    assert training.items() >= (STATE_SETTINGS | STATE).items()
    assert stateful.targets == stateful.outputs == ("NEE", "GPP_NT")
    used = set(stateful.predictor.booster.get_score())
    assert used & set(config.site_features) and used & {"FAPAR", "LAI"} and used <= set(config.features)
    with pytest.raises(ModelError, match="'paper' or 'state'"):
        BoostingConfig(features="all")
    with pytest.raises(ModelError, match="share must be greater than 0"):
        BoostingConfig(share=0.0)


def test_several_fluxes_are_learnt_at_once(with_series, stateful):
    """Each has its own units and mean; hours in which one of them is missing are predicted, too."""
    for target, least in (("NEE", 0.3), ("GPP_NT", 0.3)):
        prediction = with_series.carbon.predict(target, stateful)
        assert with_series.carbon.score(prediction, by=None, training_towers="keep")["nse"].compute() > least
    assert prediction.where(with_series["time"].dt.hour <= 4, drop=True).notnull().any()


def test_the_first_hour_of_a_record_is_predicted(with_series, stateful):
    prediction = with_series.carbon.predict_nee(stateful)
    hourly = model_inputs(with_series, ["TA", "SW_IN", "VPD"])["hourly"]
    observed = hourly.notnull().any("variable").values
    assert np.isfinite(prediction.values[observed]).all() and observed[:, 0].any()


def test_a_prediction_uses_the_features_of_the_training(with_series, stateful):
    config = stateful.config
    inputs = model_inputs(with_series, config.variables, state=config.state, target=list(stateful.targets))
    rows = tower_rows(inputs, config, ALL)
    predicted = [with_series.carbon.predict(code, stateful).values for code in stateful.targets]
    for tower in rows:
        known = np.isfinite(inputs["target"][tower.site].values).all(1)
        assert len(tower.target) == known.sum()
        expected = np.stack([each[tower.site, known] for each in predicted], 1)
        found = stateful.predictor.booster.inplace_predict(tower.features.compute())
        np.testing.assert_allclose(np.sort(found, 0), np.sort(expected, 0), rtol=1e-5)


def test_a_share_of_the_hours_is_drawn_for_each_tower(with_series):
    config = BoostedTreesConfig(("TA",), state=("TA_1D",), targets=("NEE", "GPP_NT"))
    inputs = model_inputs(with_series, ["TA"], state=["TA_1D"], target=["NEE", "GPP_NT"])
    every = tower_rows(inputs, config, ALL)
    some, again, other = (tower_rows(inputs, config, Draw(0.1, 0.0, seed)) for seed in (0, 0, 1))
    for number, tower in enumerate(every):
        known = np.isfinite(inputs["target"][number].values).all(1).sum()
        assert tower.target.shape == (known, 2)
        assert len(some[number].target) == np.ceil(known / 10)
        rows = np.hstack(dask.compute(*some[number][1:]))
        assert rows.shape[0] == len(some[number].target)
        whole = {row.tobytes() for row in np.hstack(dask.compute(*tower[1:]))}
        assert {row.tobytes() for row in rows} <= whole
        np.testing.assert_array_equal(rows, np.hstack(dask.compute(*again[number][1:])))
        assert (rows != np.hstack(dask.compute(*other[number][1:]))).any()


def test_groups_are_masked_hour_by_hour(with_series):
    state = ("TA_1D", "LAI", "VPD_1D", "FAPAR")
    config = BoostedTreesConfig(("TA", "DOY"), statics=("igbp", "lat"), state=state)
    features = np.zeros((20_000, len(config.features)), np.float32)
    rows._mask(features, config, 0.2, np.random.default_rng(0))
    gone = dict(zip(config.features, np.isnan(features).T, strict=True))
    assert not gone["TA"].any() and not gone["DOY"].any()
    assert gone["season"].mean() == pytest.approx(0.2, abs=0.01)
    assert all((gone[name] == gone["season"]).all() for name in config.site_features)
    for name in state:  # with the whole state, with all of its kind, and alone
        assert gone[name].mean() == pytest.approx(1 - 0.8**3, abs=0.01)
    together = gone["TA_1D"] & gone["VPD_1D"]
    kind = 1 - 0.8**2  # of all hours lack the whole state or the whole memory
    assert together.mean() == pytest.approx(kind + (1 - kind) * 0.2**2, abs=0.01)
    nothing = np.logical_and.reduce([gone[name] for name in state])
    assert nothing.mean() == pytest.approx(0.2 + 0.8 * (0.2 + 0.8 * 0.2**2) ** 2, abs=0.01)


def test_masked_features_are_those_of_the_dropout(with_series):
    config = BoostedTreesConfig(("TA",), statics=("igbp", "lat"), state=("TA_1D", "LAI"))
    inputs = model_inputs(with_series, ["TA"], state=config.state, target=["NEE"])
    plain, masked = (
        tower_rows(inputs, config, Draw(0.2, dropout, 0))[0].features.compute() for dropout in (0.0, 0.5)
    )
    assert np.isnan(masked).sum() > np.isnan(plain).sum()
    place = [config.features.index(name) for name in config.site_features]
    assert np.isnan(masked[:, place]).mean() == pytest.approx(0.5, abs=0.05)
    np.testing.assert_array_equal(np.sort(masked[:, 0]), np.sort(plain[:, 0]))


def test_chosen_features_of_the_state(with_series, tmp_path):
    model = fit(with_series, "xgboost", state=["TA_30D"], run_dir=tmp_path / "one", **STATE)
    assert model.config.state == ("TA_30D",)
    plain = fit(with_series, "xgboost", n_estimators=2, run_dir=tmp_path / "paper")
    assert plain.config.state == plain.config.statics == ()
    assert plain.config.min_context == 32


WITHOUT_TORCH = """
import sys, xcarbon
from xcarbon.testing import synthetic_towers
xcarbon.set_options(progress=False)
towers = synthetic_towers(1, patches=False).isel(time=slice(720))
assert "xgboost" not in sys.modules
model = towers.carbon.fit("xgboost", n_estimators=1, run_dir=sys.argv[1])
towers.carbon.predict_nee(sys.argv[1] + "/model").compute()
assert "xgboost" in sys.modules and not {"torch", "lightning_fabric"} & set(sys.modules)
"""


def test_trees_need_no_torch(tmp_path):
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, tmp_path / "run"], check=True, timeout=60)


def test_real_towers(real_towers, tmp_path):
    ds = real_towers.sel(site=["US-Wi2", "DE-Lkb"])
    found = fit(ds, "xgboost", run_dir=tmp_path, n_estimators=20)
    assert found.config.variables == ("DOY", "TOD", "TA", "VPD", "SW_IN")
    assert found.provenance["curve"][-1]["train_mse"] < 0.5
