"""The state enters a network standardised and clipped, and a missing one has no effect of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.models import test_ecoperceiver, test_streaming
from tests.models.samples import shaken
from xcarbon.core.errors import ModelError, VariableError
from xcarbon.models.boosting import BoostedTreesConfig
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.models.state import LIMIT, StateEmbedding
from xcarbon.models.streaming import StreamingConfig

STATE = ("TA_30D", "VPD_1D", "FAPAR")
MEAN, STD = torch.tensor([10.0, 5.0, 0.5]), torch.tensor([8.0, 2.0, 0.2])


def embedding() -> StateEmbedding:
    torch.manual_seed(0)
    made = StateEmbedding(3, 8, 6)
    made.initialise()
    made.standardise(MEAN, STD)
    return shaken(made)


def states(batch: int = 2, hours: int = 5) -> torch.Tensor:
    return MEAN + STD * torch.randn(batch, hours, 3, generator=torch.Generator().manual_seed(1))


def test_features_are_standardised():
    """The same as standardised features in an embedding with a mean of 0 and a deviation of 1."""
    made, plain = embedding(), embedding()
    plain.standardise(torch.zeros(3), torch.ones(3))
    state = states()
    torch.testing.assert_close(made(state, state), plain((state - MEAN) / STD, state))


def test_features_without_values_or_without_variation_are_not_scaled():
    made = embedding()
    made.standardise(torch.tensor([1.0, torch.nan, 3.0]), torch.tensor([2.0, torch.nan, 0.0]))
    assert made.mean.tolist() == [1, 0, 3]
    assert made.std.tolist() == [2, 1, 1]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("feature", range(3))
def test_absurd_values_have_the_effect_of_the_limit(feature, sign):
    made, state, limit = embedding(), states(), states()
    state[..., feature] = sign * 1e9
    limit[..., feature] = MEAN[feature] + sign * LIMIT * STD[feature]
    torch.testing.assert_close(made(state, state), made(limit, limit))
    assert torch.isfinite(made(state, state)).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_without_a_state_it_is_as_if_all_of_it_were_missing(value):
    made, state = embedding(), states()
    none = made(None, torch.zeros(2, 5, 7))
    torch.testing.assert_close(none, made(torch.full_like(state, value), state))
    assert none.shape == (2, 5, 6)
    assert not torch.allclose(none, made(MEAN.expand_as(state), state)), "a missing value is not the mean"


@pytest.mark.parametrize("kind", ["ecoperceiver", "streaming"])
@pytest.mark.parametrize("value", [1e9, -1e9])
def test_an_output_differs_by_no_more_than_at_the_limit(kind, value):
    """A gross error in one feature moves a prediction as far as a value at the limit."""
    if kind == "streaming":
        network = test_streaming.make(state=STATE)
        data = test_streaming.sequences(network.config, 3, 20)
        part = network.state
    else:
        network = test_ecoperceiver.make(state=STATE).double()
        windows = test_ecoperceiver.windows().map(lambda x: x.double() if x.is_floating_point() else x)
        data, part = replace(windows, state=states(3, 6).double()), network.embed.state
    part.standardise(MEAN, STD)

    def predict(state):
        with torch.no_grad():
            output = network(replace(data, state=state))
        return output if kind == "ecoperceiver" else output.mean

    for feature in range(3):
        absurd, limit = data.state.clone(), data.state.clone()
        absurd[..., feature] = value
        limit[..., feature] = MEAN[feature] + (1 if value > 0 else -1) * LIMIT * STD[feature]
        torch.testing.assert_close(predict(absurd), predict(limit))
    unknown = torch.full_like(data.state, torch.nan)
    torch.testing.assert_close(predict(None), predict(unknown))
    assert not torch.allclose(predict(data.state), predict(unknown))


def test_one_more_input_of_an_hour():
    network = test_ecoperceiver.make(state=STATE)
    windows = replace(test_ecoperceiver.windows(), state=states(3, 6))
    windows.state[1, 2] = torch.nan
    embedded, present = network.embed(windows)
    assert embedded.shape[:3] == present.shape == (3, 6, 21 + 9 + 1)
    assert not present[1, 2, -1] and present[..., -1].sum() == 3 * 6 - 1
    less, known = network.embed(replace(windows, patches=None, patch_index=None))
    assert less.shape[:3] == known.shape == (3, 6, 21 + 1)
    torch.testing.assert_close(less[:, :, -1], embedded[:, :, -1])


def test_an_hour_whose_state_is_missing_is_one_without_this_input():
    """A network with a state predicts as one without, if the state is missing."""
    torch.manual_seed(0)
    network = test_ecoperceiver.make(state=STATE)
    config = replace(network.config, state=())
    without = EcoPerceiver(config).eval()
    weights = {name: value for name, value in network.state_dict().items() if "state" not in name}
    without.load_state_dict(weights)
    windows = test_ecoperceiver.windows()
    with torch.no_grad():
        torch.testing.assert_close(network(windows), without(windows), rtol=1e-4, atol=1e-5)


def test_the_moments_are_saved_with_the_weights():
    weights = embedding().state_dict()
    torch.testing.assert_close(weights["mean"], MEAN)
    torch.testing.assert_close(weights["std"], STD)


@pytest.mark.parametrize("config", [EcoPerceiverConfig, StreamingConfig, BoostedTreesConfig])
def test_unknown_features_are_refused(config):
    for unknown in ("TA", "TA_31D", "XY_30D", "fapar"):
        with pytest.raises(VariableError, match=f"{unknown} is not a state feature"):
            config(("TA",), state=(unknown,))
    assert config(("TA",), state=("WTD_30D", "SIF")).state == ("WTD_30D", "SIF")


@pytest.mark.parametrize("config", [EcoPerceiverConfig, StreamingConfig])
def test_the_share_of_masked_groups_is_checked(config):
    with pytest.raises(ModelError, match="group_dropout"):
        config(group_dropout=-0.1)
