"""A state dict with the names and shapes of the authors' code becomes the model that it describes."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
import torch

import xcarbon
from xcarbon.core.errors import ModelError
from xcarbon.models.authors import _LAYER, _MODULES, load_checkpoint
from xcarbon.models.ecoperceiver import EcoPerceiver
from xcarbon.models.inputs import ModelInputs
from xcarbon.testing import synthetic_towers


def theirs(network: EcoPerceiver) -> dict[str, torch.Tensor]:
    """Weights of a network under the names of the authors' code."""
    weights = network.state_dict()
    found = {name: weights[ours] for name, ours in _MODULES.items()}
    for band in range(9):
        found[f"spectral_projections.{band}.weight"] = weights["embed.band_weight"][band].T.contiguous()
        found[f"spectral_projections.{band}.bias"] = weights["embed.band_bias"][band]
    for number in range(20):
        prefix = ("cross", "mix")[number % 2] if number < 16 else f"layers.{number - 16}"
        for name, ours in _LAYER.items():
            for part in ("weight", "bias"):
                found[f"layers.{number}.{name}.{part}"] = weights[f"{prefix}.{ours}.{part}"]
    return found | {"causal_mask": torch.ones(32, 32).triu(1).bool()[None]}


@pytest.fixture(scope="module")
def network() -> EcoPerceiver:
    torch.manual_seed(4)
    network = EcoPerceiver()
    for parameter in network.parameters():  # biases and norms that are not zeros and ones
        torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.fixture
def saved(network, tmp_path):
    def save(content):
        path = tmp_path / "checkpoint.pth"
        torch.save(content, path)
        return path

    return save


@pytest.mark.parametrize(
    "wrap", [dict, lambda w: {"model": w, "epoch": 3}, lambda w: {f"module.{n}": t for n, t in w.items()}],
    ids=["plain", "with an epoch", "distributed"],
)  # fmt: skip
def test_weights_and_predictions_are_the_same(network, saved, wrap):
    model = load_checkpoint(saved(wrap(theirs(network))))
    assert sum(parameter.numel() for parameter in model.network.parameters()) == 988_633
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(model.network.state_dict()[name], tensor, rtol=0, atol=0)
    hourly, index = torch.rand(2, 32, 21) - 0.5, torch.full((2, 32), -1)
    index[:, 12] = torch.tensor([0, 1])
    patches = torch.rand(2, 9, 8, 8)
    with torch.no_grad():
        inputs = ModelInputs(hourly, patches, index)
        torch.testing.assert_close(model.network.eval()(inputs), network(inputs), rtol=0, atol=0)


def test_it_predicts_saves_and_loads_as_any_model(network, saved, tmp_path):
    model = xcarbon.load(saved(theirs(network)))
    towers = synthetic_towers(1, seed=2).isel(time=slice(200)).load()
    prediction = towers.carbon.predict_nee(model).compute()
    assert np.isfinite(prediction.values).any()
    again = xcarbon.load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(towers.carbon.predict_nee(again), prediction)


def test_targets_that_were_standardised(network, saved):
    path = saved(theirs(network))
    plain, scaled = load_checkpoint(path), load_checkpoint(path, targets={"GPP_NT": (3.0, 2.0)})
    assert scaled.targets == ("GPP_NT",)
    towers = synthetic_towers(1, seed=2).isel(time=slice(100)).load()
    expected = 2 * towers.carbon.predict("NEE", plain) + 3
    np.testing.assert_allclose(towers.carbon.predict("GPP_NT", scaled), expected, rtol=1e-5)


def change(name, change_it):
    def changed(weights):
        return {key: change_it(value) if key == name else value for key, value in weights.items()}

    return changed


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda w: w | {"resnet.weight": torch.ones(1)}, "resnet.weight is not a weight of version 1"),
        (lambda w: {k: v for k, v in w.items() if k != "layers.17.ffn.0.bias"}, "no layers.17.ffn.0.bias"),
        (change("layers.6.attention.key.weight", lambda t: t + 1), "layers.6.attention.key.weight differs"),
        (
            change("layers.16.ffn.2.weight", lambda t: t[:5]),
            r"layers.16.ffn.2.weight has the shape \(5, 384\)",
        ),
        (change("input_embeddings.weight", lambda t: t[:5]), "has 5 hourly inputs, but 21 are named"),
        (lambda w: {"epoch": 3}, "there is no state dict"),
        (lambda w: {"model": w, "args": argparse.Namespace()}, "could execute code"),
    ],
)
def test_anything_else_is_refused_by_name(network, saved, damage, message):
    with pytest.raises(ModelError, match=message):
        load_checkpoint(saved(damage(theirs(network))))


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    for content in (b"", b"not a checkpoint", b"PK\x03\x04" + bytes(100)):
        (tmp_path / "broken.pth").write_bytes(content)
        with pytest.raises(ModelError, match=r"broken\.pth is not a file of tensors"):
            xcarbon.load(tmp_path / "broken.pth")
    with pytest.raises(ModelError, match=r"absent.pth"):
        xcarbon.load(tmp_path / "absent.pth")


def test_a_damaged_weight_is_refused(network, saved):
    """torch itself does not verify the checksums of its archives."""
    path = saved(theirs(network))
    content = bytearray(path.read_bytes())
    weight = network.embed.variable.detach().numpy().tobytes()[:64]
    content[content.index(weight)] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)
    with pytest.raises(ModelError, match=r"checkpoint\.pth .* checksum"):
        xcarbon.load(path)
