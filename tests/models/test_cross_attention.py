"""Taking the query to the inputs is attention to their keys and values: outputs and gradients are equal."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.models.inputs import ModelInputs


def by_keys_and_values(model: EcoPerceiver, windows: ModelInputs) -> Tensor:
    """The model as the paper has it: keys and values of all inputs in every block."""
    inputs, present = model.embed(windows)  # (B, T, N, Hi), (B, T, N)
    layer, x = model.cross, model.latents.expand(len(inputs), -1, -1)  # (B, T, Hl)
    for _ in range(model.config.cross_blocks):
        keys, values = (
            of(inputs).unflatten(-1, (layer.heads, -1)) for of in (layer.key, layer.value)
        )  # 2 x (B, T, N, heads, size)
        query = layer.query(layer.norm(x)).unflatten(-1, (layer.heads, -1))  # (B, T, heads, size)
        score = (query[:, :, None] * keys).sum(-1) * query.shape[-1] ** -0.5  # (B, T, N, heads)
        score = score.masked_fill(~present[..., None], -torch.inf)
        weight = score.softmax(2).nan_to_num(0)  # an hour without inputs reads nothing
        read = (weight[..., None] * values).sum(2)  # (B, T, heads, size)
        x = model.mix(layer.mlp(x + layer.out(read.flatten(2))))
    for layer in model.layers:
        x = layer(x)
    return model.head(x).squeeze(-1)


@pytest.mark.parametrize("bands", [(), ("B1", "snow")])
def test_outputs_and_gradients_are_those_of_keys_and_values(bands):
    torch.manual_seed(0)
    names = ("DOY", "TOD", "TA", "VPD")
    sizes = {"width": 16, "heads": 2, "cross_blocks": 3, "self_layers": 1, "context": 6, "octaves": 3}
    model = EcoPerceiver(EcoPerceiverConfig(variables=names, bands=bands, **sizes)).double().eval()
    for parameter in model.parameters():  # large enough for every part to matter
        parameter.data += 0.2 * torch.randn_like(parameter)
    hourly = (torch.rand(3, 6, 4) - 0.5).double()
    hourly[torch.rand(3, 6, 4) < 0.3] = torch.nan
    hourly[1, 2] = torch.nan
    windows = ModelInputs(hourly)
    if bands:
        windows.patches, index = torch.rand(2, 2, 8, 8).double(), torch.full((3, 6), -1)
        index[0, 3], index[2, 5] = 0, 1
        windows.patch_index = index
    found, expected = ([], [])
    for results, forward in ((found, model), (expected, lambda x: by_keys_and_values(model, x))):
        model.zero_grad()
        output = forward(windows)
        (output * torch.arange(1, 19).view(3, 6)).sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        results += [output.detach(), gradients]
    torch.testing.assert_close(found[0], expected[0])
    unused = expected[1].keys() - found[1].keys()
    assert unused == {"cross.key.bias"}
    assert expected[1]["cross.key.bias"].abs().max() < 1e-12
    for name, gradient in found[1].items():
        torch.testing.assert_close(gradient, expected[1][name], msg=lambda text, n=name: f"{n}: {text}")
