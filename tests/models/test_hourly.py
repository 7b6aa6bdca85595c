"""Hourly networks: each hour on its own, with bounded inputs that may be missing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xcarbon.core.errors import ModelError, VariableError
from xcarbon.models.bundle import CarbonModel, Scaler
from xcarbon.models.hourly import HourlyConfig, HourlyNetwork
from xcarbon.models.inputs import ModelInputs
from xcarbon.models.networks import HourlyPredictor

CONFIG = HourlyConfig(("DOY", "TOD", "TA"), state=("TA_30D", "LAI"), targets=("NEE", "GPP_NT"), width=16)


@pytest.fixture(scope="module")
def network() -> HourlyNetwork:
    torch.manual_seed(0)
    network = HourlyNetwork(CONFIG).eval()
    network.standardise(torch.tensor([0.0, 0, 0.1, 10, 2]), torch.tensor([1.0, 1, 0.05, 5, 1]))
    return network


def hours(count: int, seed: int = 0) -> ModelInputs:
    rng = np.random.default_rng(seed)
    state = rng.normal([10, 2], [5, 1], (2, count, 2))
    return ModelInputs(
        torch.from_numpy(rng.uniform(-0.5, 0.5, (2, count, 3))).float(),
        statics=torch.tensor([[2.0], [torch.nan]]),
        state=torch.from_numpy(state).float(),
    )


def test_hours_do_not_depend_on_each_other(network):
    inputs = hours(20)
    whole = network(inputs)
    part = network(inputs.between(7, 9))
    torch.testing.assert_close(part.mean, whole.mean[:, 7:9])
    torch.testing.assert_close(part.log_scale, whole.log_scale[:, 7:9])


def test_absent_inputs_are_those_that_are_missing_in_all_hours(network):
    inputs = hours(5)
    missing = dataclasses.replace(
        inputs, statics=torch.full((2, 1), torch.nan), state=torch.full((2, 5, 2), torch.nan)
    )
    absent = ModelInputs(inputs.hourly)
    assert torch.equal(network(missing).mean, network(absent).mean)
    assert torch.isfinite(network(absent).mean).all()
    assert not torch.equal(network(inputs).mean, network(absent).mean)


@given(st.sampled_from([1e9, -1e9, 300.0, -300.0]))
def test_absurd_states_have_the_effect_of_the_limit(extreme):
    torch.manual_seed(0)
    network = HourlyNetwork(CONFIG).eval()
    inputs = hours(3)
    absurd = dataclasses.replace(inputs, state=torch.full_like(inputs.state, extreme))
    limit = dataclasses.replace(inputs, state=torch.full_like(inputs.state, float(np.sign(extreme)) * 4))
    assert torch.equal(network(absurd).mean, network(limit).mean)


def test_cyclic_variables_have_no_jump_at_midnight(network):
    inputs = hours(1)
    before, after = inputs.hourly.clone(), inputs.hourly.clone()
    before[..., 1], after[..., 1] = 1 - 1e-6, -1
    near = [network(dataclasses.replace(inputs, hourly=each)).mean for each in (before, after)]
    torch.testing.assert_close(*near, atol=1e-4, rtol=0)


def test_is_saved_and_predicts_wanted_hours(network, tmp_path):
    scaler = Scaler({"NEE": (1.0, 2.0), "GPP_NT": (3.0, 4.0)}, 1, {})
    model = CarbonModel(HourlyPredictor(network), scaler)
    inputs = hours(10).map(lambda field: field[0].numpy())
    wanted = np.arange(8) % 2 == 0
    found = model.predict_series(inputs, wanted)
    assert found.shape == (4, 8)
    assert (np.isfinite(found) == wanted).all()
    with torch.inference_mode():
        expected = network(inputs.map(torch.from_numpy).batched()).mean[0, 2:, 0]
    np.testing.assert_allclose(found[0, wanted], (expected * 2 + 1)[wanted], rtol=1e-4, atol=1e-5)
    assert model.predict_series(inputs, np.zeros(8, bool)).shape == (4, 8)
    model.save(tmp_path / "model")
    again = CarbonModel.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_series(inputs, wanted), found)


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"statics": ("lat",)}, ModelError, "static igbp or none"),
        ({"targets": ()}, ModelError, "needs variables"),
        ({"state": ("TA_2D",)}, VariableError, "TA_2D is not a state feature"),
        ({"width": 0}, ModelError, "width"),
    ],
)
def test_wrong_settings_are_refused(settings, error, match):
    with pytest.raises(error, match=match):
        HourlyConfig(**settings)


def test_shapes_are_checked(network):
    with pytest.raises(ModelError, match="state must have the shape"):
        network(dataclasses.replace(hours(3), state=torch.zeros(2, 3, 1)))
