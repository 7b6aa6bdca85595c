"""Training of hourly networks on single hours of all towers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import xcarbon
from tests.training.samples import sequences_of
from xcarbon.models.ensemble import members
from xcarbon.prep.inputs import model_inputs
from xcarbon.testing import synthetic_towers
from xcarbon.training import fit

QUICK = {
    "variables": ["DOY", "TOD", "TA", "SW_IN"],
    "batch_size": 64,
    "network": {"width": 16},
    "max_steps": 6,
}


@pytest.fixture(scope="module")
def towers():
    with xcarbon.set_options(progress=False):
        yield synthetic_towers(3, patches=False).sel(time=slice("2010-05", "2010-06")).load()


def test_samples_are_the_hours_with_a_target(towers):
    inputs = model_inputs(towers, ["TA"], target=["NEE"])
    sequences = sequences_of(inputs, (), 1).samples
    assert len(sequences) == int(inputs["target"].notnull().sum())
    batch = sequences.batch(sequences.starts[:10])
    assert batch.inputs.hourly.shape == (10, 1, 1)
    assert torch.isfinite(batch.target).all()


def test_learns_and_resumes(towers, tmp_path):
    settings = QUICK | {"max_steps": 200, "target": ["NEE", "GPP_NT"]}
    model = fit(towers, "hourly", run_dir=tmp_path / "run", **settings)
    assert model.targets == ("NEE", "GPP_NT")
    nse = towers.carbon.score(towers.carbon.predict_nee(model), by=None, training_towers="keep")["nse"]
    assert float(nse) > 0.5
    again = fit(towers, "hourly", run_dir=tmp_path / "run", resume=True, **settings)
    assert again.fingerprint() == model.fingerprint()


def test_patches_of_the_towers_are_not_read(tmp_path):
    with_patches = synthetic_towers(2).sel(time=slice("2010-05", "2010-06"))
    model = fit(with_patches, "hourly", run_dir=tmp_path, **QUICK)
    assert model.config.bands == ()


def test_inputs_are_standardised_with_the_training_towers(towers, tmp_path):
    model = fit(towers, "hourly", run_dir=tmp_path, **QUICK)
    config, network = model.config, model.network
    inputs = model_inputs(towers, config.variables, state=config.state, target="NEE")
    known = inputs["hourly"].where(inputs["target"].notnull().any("site"))
    assert network.mean[2] == pytest.approx(float(known.isel(variable=2).mean()), abs=0.01)
    assert len(network.mean) == len(config.variables) + len(config.state)


def test_members_are_fine_tuned(towers, tmp_path):
    model = fit(towers, "hourly", run_dir=tmp_path / "two", members=2, **QUICK)
    assert [member.predictor.kind for member in members(model)] == ["hourly"] * 2
    tuned = fit(
        towers.isel(site=[0]), "pretrained", start=model, run_dir=tmp_path / "tuned", max_steps=20, length=48
    )
    before, after = (
        float(
            towers.isel(site=[0]).carbon.score(
                towers.isel(site=[0]).carbon.predict_nee(each), by=None, training_towers="keep"
            )["nse"]
        )
        for each in (model, tuned)
    )
    assert after > before
    assert np.isfinite(after)
