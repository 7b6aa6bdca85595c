"""EcoPerceiver is the paper's model: its size, causality and treatment of missing inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xcarbon.core.errors import ModelError
from xcarbon.core.variables import PAPER_INPUTS
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.models.inputs import ModelInputs

SMALL = {"width": 16, "heads": 2, "cross_blocks": 2, "self_layers": 1, "context": 6, "octaves": 3}


def make(seed: int = 0, **settings) -> EcoPerceiver:
    torch.manual_seed(seed)
    model = EcoPerceiver(EcoPerceiverConfig(**(SMALL | settings)))
    # Larger weights than those of a fresh network, so that every path matters.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def windows(batch: int = 3, context: int = 6, variables: int = 21, seed: int = 0) -> ModelInputs:
    generator = torch.Generator().manual_seed(seed)
    hourly = torch.rand(batch, context, variables, generator=generator) - 0.5
    patches = torch.rand(2, 9, 8, 8, generator=generator)
    index = torch.full((batch, context), -1)
    index[0, 2], index[-1, 4] = 1, 0
    return ModelInputs(hourly, patches, index)


def test_has_the_parameters_of_the_paper():
    model = EcoPerceiver()
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert parts == {
        "embed": 21 * 16 + 9 * (64 * 24 + 24 + 16) + 2 * 2 * 40,
        "cross": 142_848,
        "mix": 165_376,
        "layers": 4 * 165_376,
        "head": 129,
    }
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 988_633


def test_fourier_features_and_embedding_are_concatenated():
    embed = make().embed
    x = torch.tensor([0.25, -0.5, *[0.0] * 19])
    expected = [np.sin(2.0**k * np.pi * 0.25) for k in range(3)]
    expected += [np.cos(2.0**k * np.pi * 0.25) for k in range(3)]
    features = embed.observations(x)
    assert features.shape == (21, 6 + 16)
    np.testing.assert_allclose(features[0, :6].detach(), expected, atol=1e-6)
    torch.testing.assert_close(features[0, 6:], embed.variable[0])


def test_without_octaves_an_observation_is_itself():
    network = make(octaves=0)
    features = network.embed.observations(torch.linspace(-0.5, 0.5, 21))
    torch.testing.assert_close(features[:, 0], torch.linspace(-0.5, 0.5, 21))
    torch.testing.assert_close(features[:, 1:], network.embed.variable)
    inputs = windows()
    assert not torch.allclose(network(ModelInputs(inputs.hourly)), network(inputs))


def test_each_band_has_its_own_linear_map():
    embed = make().embed
    patches = torch.rand(2, 9, 8, 8)
    features = embed.images(patches)
    band = patches[1, 4].flatten() @ embed.band_weight[4] + embed.band_bias[4]
    torch.testing.assert_close(features[1, 4], torch.cat([band, embed.band[4]]))


def test_hours_with_a_patch_have_a_norm_of_their_own():
    model = make()
    inputs = windows()
    before = model.embed(inputs)[0]
    with torch.no_grad():
        model.embed.with_patch.bias += 1
    after = model.embed(inputs)[0]
    changed = (before != after).any(dim=(2, 3))
    assert (changed == (inputs.patch_index >= 0)).all()


@pytest.mark.parametrize("normalize", [True, False])
def test_no_hour_sees_the_future(normalize):
    model = make(normalize_keys_values=normalize)
    inputs = windows()
    before = model(inputs)
    for hour in range(1, 6):
        other, other_index = inputs.hourly.clone(), inputs.patch_index.clone()
        other[:, hour:] += 0.1
        other_index[:, hour:] = 0
        after = model(ModelInputs(other, inputs.patches, other_index))
        torch.testing.assert_close(after[:, :hour], before[:, :hour], rtol=0, atol=0)
        assert (after[:, hour] != before[:, hour]).all()


def test_without_causality_earlier_hours_see_later_ones():
    hourly, later = (ModelInputs(windows().hourly) for _ in range(2))
    later.hourly[:, -1] += 0.1
    for causal in (True, False):
        network = make(causal=causal)
        assert torch.equal(network(hourly)[:, 0], network(later)[:, 0]) == causal


def test_every_hour_of_the_past_matters():
    model = make()
    inputs = windows()
    before = model(inputs)[:, -1]
    for hour in range(6):
        other = inputs.hourly.clone()
        other[:, hour] += 0.1
        assert (model(replace(inputs, hourly=other))[:, -1] != before).all()


def test_missing_observations_have_no_influence():
    """A missing variable has the same effect as a model without the variable."""
    names = ("DOY", "TA", "P")
    model, without = make(variables=names), make(variables=names[:2])
    weights = model.state_dict()
    weights["embed.variable"] = weights["embed.variable"][:2]
    without.load_state_dict(weights)
    inputs = windows(variables=3)
    inputs.hourly[:, :, 2] = torch.nan
    fewer = replace(inputs, hourly=inputs.hourly[:, :, :2])
    torch.testing.assert_close(model(inputs), without(fewer), rtol=1e-5, atol=1e-6)


def test_patches_that_no_hour_sees_have_no_influence():
    model = make()
    inputs = windows()
    bare = ModelInputs(inputs.hourly)
    unseen = replace(inputs, patch_index=torch.full_like(inputs.patch_index, -1))
    torch.testing.assert_close(model(replace(unseen, patches=inputs.patches + 1)), model(unseen))
    torch.testing.assert_close(model(unseen), model(bare), rtol=1e-5, atol=1e-6)
    assert (model(inputs)[0] != model(bare)[0]).any()


def test_hours_without_any_input_give_a_finite_number_and_gradient():
    model = make()
    hourly = windows().hourly
    hourly[0] = torch.nan
    hourly[1, 3] = torch.nan
    output = model(ModelInputs(hourly))
    assert torch.isfinite(output).all()
    output.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@given(st.sets(st.sampled_from(PAPER_INPUTS), min_size=1), st.integers(1, 4), st.integers(0, 10))
@settings(max_examples=20)
def test_any_subset_of_variables_and_any_batch_size(variables, batch, seed):
    model = make(variables=tuple(sorted(variables)), bands=())
    hourly = windows(batch, variables=len(variables), seed=seed).hourly
    output = model(ModelInputs(hourly))
    assert output.shape == (batch, 6)
    alone = torch.cat([model(ModelInputs(hourly[i : i + 1])) for i in range(batch)])
    torch.testing.assert_close(output, alone, rtol=1e-4, atol=1e-5)


def test_dropout_spares_time_features_and_patches():
    model = make(dropout=0.99).train()
    inputs = windows()
    _, present = model.embed(inputs)
    assert present[:, :, :2].all()
    assert present[:, :, 2:21].float().mean() < 0.1
    assert (present[:, :, 21:] == (inputs.patch_index >= 0)[:, :, None]).all()
    assert model.eval().embed(inputs)[1][:, :, :21].all()


def test_dropped_share_is_the_paper_s():
    torch.manual_seed(0)
    model = EcoPerceiver().train()
    _, present = model.embed(ModelInputs(torch.zeros(64, 32, 21)))
    assert present[:, :, 2:].float().mean().item() == pytest.approx(0.7, abs=0.01)


def test_bfloat16_is_close_to_float32():
    model = make()
    inputs = windows()
    exact = model(inputs)
    rough = model.to(torch.bfloat16)(inputs)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().max() < 0.05 * exact.abs().max() + 0.05


def test_a_fresh_network_is_well_conditioned():
    torch.manual_seed(0)
    output = EcoPerceiver()(ModelInputs(torch.rand(32, 32, 21) - 0.5))
    assert 0.01 < output.std() < 3


@pytest.mark.parametrize("wrong", [{"width": 30, "heads": 4}, {"variables": ()}, {"dropout": 1.0}])
def test_settings_that_cannot_be(wrong):
    with pytest.raises(ModelError):
        EcoPerceiverConfig(**wrong)


def test_wrong_shapes_are_named():
    model = make()
    inputs = windows()
    with pytest.raises(ModelError, match=r"hourly must have the shape \(3, 6, 21\), found \(3, 5, 21\)"):
        model(ModelInputs(inputs.hourly[:, :5]))
    with pytest.raises(ModelError, match="patches must have the shape"):
        model(replace(inputs, patches=inputs.patches[:, :8]))
    with pytest.raises(ModelError, match="patch_index must have the shape"):
        model(replace(inputs, patch_index=inputs.patch_index[:, :5]))
