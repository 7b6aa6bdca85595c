"""Fine-tuning goes on from the weights of a model, member by member, and remembers both trainings."""

from __future__ import annotations

import os
import signal

import pytest
import torch
import xarray as xr

from tests.training.test_streaming import QUICK
from xcarbon.core.errors import ModelError
from xcarbon.models import pretrained
from xcarbon.models.bundle import CarbonModel
from xcarbon.models.ensemble import ensemble, members
from xcarbon.training import fit, run

TUNING = {name: QUICK[name] for name in ("length", "batch_size", "micro_batch")} | {"max_steps": 6}


@pytest.fixture(scope="module")
def months(towers) -> xr.Dataset:
    return towers.isel(site=slice(0, 3), time=slice(0, 1440), day=slice(0, 60)).load()


@pytest.fixture(scope="module")
def others(months, tmp_path_factory) -> CarbonModel:
    """An ensemble of two members trained on two towers; one uses static site features."""
    folder = tmp_path_factory.mktemp("others")
    settings = QUICK | {"variables": ["DOY", "TOD", "TA", "SW_IN"], "bands": []}
    towers = months.isel(site=slice(0, 2))
    members = [
        fit(
            towers,
            "streaming",
            seed=seed,
            run_dir=folder / str(seed),
            members=1,
            without_statics=seed,
            **settings,
        )
        for seed in range(2)
    ]
    return ensemble(members)


@pytest.fixture(scope="module")
def tower(months) -> xr.Dataset:
    """One tower, whose fluxes are others' turned upside down."""
    tower = months.isel(site=2)
    return tower.assign(NEE=-2 * tower["NEE"] + 10)


def network_weights(model: CarbonModel) -> torch.Tensor:
    return torch.cat([part.flatten() for part in model.network.state_dict().values()])


def test_a_tower_is_learnt_and_both_trainings_are_remembered(others, tower, tmp_path):
    before = network_weights(others).clone()
    tuned = tower.carbon.fit(
        "pretrained", start=others, run_dir=tmp_path, **TUNING | {"max_steps": 40, "learning_rate": 1e-2}
    )
    assert torch.equal(network_weights(others), before)
    errors = [
        float(tower.carbon.score(tower.carbon.predict_nee(model), by=None)["rmse"])
        for model in (others, tuned)
    ]
    assert errors[1] < 0.8 * errors[0]
    assert tuned.predictor.kind == "ensemble"
    assert [len(member.config.statics) for member in tuned.network.members] == [4, 0]
    assert tuned.scaler.targets == others.scaler.targets
    assert (tuned.config.variables, tuned.config.dropout) == (others.config.variables, 0.05)
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


def test_interrupted_in_the_second_member_and_resumed(others, tower, tmp_path, monkeypatch):
    whole = fit(tower, "pretrained", start=others, run_dir=tmp_path / "whole", **TUNING)
    original, calls = run.TrainingRun._step, []

    def press(self, *arguments):
        calls.append(self.folder.path.name)
        if calls.count("member-1") == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="after step 3"):
        patch.setattr(run.TrainingRun, "_step", press)
        fit(tower, "pretrained", start=others, run_dir=tmp_path / "parts", **TUNING)
    resumed = fit(tower, "pretrained", start=others, run_dir=tmp_path / "parts", resume=True, **TUNING)
    assert torch.equal(network_weights(resumed), network_weights(whole))


def test_what_cannot_be_fine_tuned_is_said(others, tower, tmp_path):
    with pytest.raises(ModelError, match=r"predicts \['NEE'\]"):
        fit(tower, "pretrained", target="LE", start=others, run_dir=tmp_path / "LE", **TUNING)
    trees = fit(tower, "xgboost", n_estimators=2, run_dir=tmp_path / "trees")
    with pytest.raises(ModelError, match="found a XGBoost"):
        fit(tower, "pretrained", start=trees, run_dir=tmp_path / "run", **TUNING)
    with pytest.raises(ModelError, match="not a model folder, nor one of the models"):
        fit(tower, "pretrained", start="nowhere", run_dir=tmp_path / "run", **TUNING)
    with pytest.raises(ModelError, match="no model of xcarbon predicts LE"):
        pretrained.default("LE")
