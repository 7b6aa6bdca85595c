"""Fine-tuning goes on from the weights of a model, member by member, and remembers both trainings."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import xarray as xr

from tests.training.samples import interrupted, weights
from tests.training.test_streaming import QUICK
from xcarbon.core.errors import ModelError
from xcarbon.models import pretrained
from xcarbon.models.bundle import CarbonModel
from xcarbon.models.calibration import SpreadCalibration
from xcarbon.models.ensemble import ensemble, members
from xcarbon.training import fit

TUNING = {name: QUICK[name] for name in ("length", "batch_size", "micro_batch")} | {"max_steps": 6}


@pytest.fixture(scope="module")
def months(towers) -> xr.Dataset:
    return towers.isel(site=slice(0, 3), time=slice(0, 1440), day=slice(0, 60)).load()


@pytest.fixture(scope="module")
def others(months, tmp_path_factory) -> CarbonModel:
    """An ensemble of two networks trained on two towers."""
    folder = tmp_path_factory.mktemp("others")
    settings = QUICK | {"variables": ["DOY", "TOD", "TA", "SW_IN"], "bands": []}
    towers = months.isel(site=slice(0, 2))
    return ensemble(
        [fit(towers, "streaming", seed=seed, run_dir=folder / str(seed), **settings) for seed in range(2)]
    )


@pytest.fixture(scope="module")
def tower(months) -> xr.Dataset:
    """One tower, whose fluxes are others' turned upside down."""
    tower = months.isel(site=2)
    return tower.assign(NEE=-2 * tower["NEE"] + 10)


def test_a_tower_is_learnt_and_both_trainings_are_remembered(others, tower, tmp_path):
    before = weights(others)
    tuned = tower.carbon.fit(
        "pretrained", start=others, run_dir=tmp_path, **TUNING | {"max_steps": 40, "learning_rate": 1e-2}
    )
    assert torch.equal(weights(others), before)
    errors = [
        float(tower.carbon.score(nee, by=None, training_towers="keep")["rmse"])
        for nee in (tower.carbon.predict_nee(model) for model in (others, tuned))
    ]
    assert errors[1] < 0.8 * errors[0]
    assert tuned.predictor.kind == "ensemble"
    for member, start in zip(members(tuned), members(others), strict=True):
        assert member.scaler.targets == start.scaler.targets
        assert member.config == dataclasses.replace(
            start.config, dropout=0.05, variable_dropout=0.0, static_dropout=0.0, group_dropout=0.0
        )
    assert tuned.sites == (str(tower["site"].values),)
    assert tuned.provenance["pretrained_sites"] == list(others.sites)
    assert [each["seed"] for each in tuned.provenance["members"]] == [0, 1]
    assert CarbonModel.load(tmp_path / "model").fingerprint() == tuned.fingerprint()
    source = tower.carbon.predict_nee(tuned).attrs["source"]
    assert "fine-tuned" in source


def test_a_single_network_stays_one(others, tower, tmp_path):
    alone = ensemble(members(others)[:1])
    tuned = tower.carbon.fit("pretrained", start=alone, run_dir=tmp_path, **TUNING)
    assert tuned.predictor.kind == "streaming"


def test_interrupted_in_the_second_member_and_resumed(others, tower, tmp_path):
    whole = fit(tower, "pretrained", start=others, run_dir=tmp_path / "whole", **TUNING)
    with interrupted(3, "member-1"):
        fit(tower, "pretrained", start=others, run_dir=tmp_path / "parts", **TUNING)
    resumed = fit(tower, "pretrained", start=others, run_dir=tmp_path / "parts", resume=True, **TUNING)
    assert torch.equal(weights(resumed), weights(whole))


def test_what_cannot_be_fine_tuned_is_said(others, tower, tmp_path):
    with pytest.raises(ModelError, match=r"predicts \['NEE'\]"):
        fit(tower, "pretrained", target="LE", start=others, run_dir=tmp_path / "LE", **TUNING)
    trees = fit(tower, "xgboost", n_estimators=2, run_dir=tmp_path / "trees")
    with pytest.raises(ModelError, match="the model is a XGBoost"):
        fit(tower, "pretrained", start=trees, run_dir=tmp_path / "run", **TUNING)
    with pytest.raises(ModelError, match="not a model folder, nor one of the models"):
        fit(tower, "pretrained", start="nowhere", run_dir=tmp_path / "run", **TUNING)
    with pytest.raises(ModelError, match="no model of xcarbon predicts LE"):
        pretrained.default("LE")


def test_trees_of_an_ensemble_are_left_out_and_its_spread_is_kept(others, months, tower, tmp_path):
    towers = months.isel(site=slice(0, 2))
    trees = fit(towers, "xgboost", features="state", bands=[], n_estimators=2, run_dir=tmp_path / "trees")
    mixed = ensemble([*members(others), trees])
    mixed.scaler = dataclasses.replace(mixed.scaler, spread={"NEE": SpreadCalibration(1.25, 0.8)})
    tuned = fit(tower, "pretrained", start=mixed, run_dir=tmp_path / "run", **TUNING)
    assert [member.predictor.kind for member in members(tuned)] == ["streaming", "streaming"]
    assert tuned.scaler.spread == {"NEE": SpreadCalibration(1.25, 0.8)}
    alone = fit(
        tower, "pretrained", start=ensemble([members(others)[0], trees]), run_dir=tmp_path / "one", **TUNING
    )
    assert alone.predictor.kind == "streaming"


def test_networks_with_other_settings_are_fine_tuned_one_by_one(others, months, tower, tmp_path):
    settings = QUICK | {"variables": ["DOY", "TA"], "bands": [], "max_steps": 1}
    other = fit(months.isel(site=slice(0, 2)), "streaming", run_dir=tmp_path / "other", **settings)
    with pytest.raises(ModelError, match="different settings"):
        fit(tower, "pretrained", start=ensemble([others, other]), run_dir=tmp_path / "run", **TUNING)


@pytest.mark.parametrize("spread", [True, False])
def test_one_of_several_fluxes_can_be_fine_tuned(months, tower, tmp_path, spread):
    """The network begins with the weights of this flux."""
    towers = months.isel(site=slice(0, 2))
    settings = QUICK | {"variables": ["DOY", "TA"], "bands": [], "target": ["NEE", "GPP_NT"]}
    settings["network"] = QUICK["network"] | {"spread": spread}
    both = fit(towers, "streaming", run_dir=tmp_path / "both", **settings)
    still = TUNING | {"max_steps": 1, "learning_rate": 1e-12, "averaging": 0.0, "weight_decay": 0.0}
    for target in ("NEE", "GPP_NT"):
        tuned = fit(tower, "pretrained", target=target, start=both, run_dir=tmp_path / target, **still)
        assert tuned.targets == tuned.config.targets == (target,)
        found = tower.carbon.predict(target, tuned, spread=spread).to_dataset() if not spread else None
        found = tower.carbon.predict(target, tuned, spread=True) if spread else found
        expected = tower.carbon.predict(target, both, spread=spread)
        expected = expected if spread else expected.to_dataset()
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4)
