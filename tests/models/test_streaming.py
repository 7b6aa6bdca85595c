"""One pass, chunks and single hours predict the same; a prediction depends only on its receptive field."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.models.samples import shaken
from xcarbon.core.errors import ModelError
from xcarbon.core.variables import IGBP_CLASSES, PAPER_INPUTS, PATCH_BANDS, STATICS
from xcarbon.models import streaming
from xcarbon.models.ecoperceiver import EcoPerceiver
from xcarbon.models.inputs import ModelInputs
from xcarbon.models.streaming import (
    KVCache,
    Prediction,
    StreamingConfig,
    StreamingEcoPerceiver,
    predict_series,
)

SMALL = {
    "spread": False,
    "variables": ("DOY", "TOD", "TA", "SW_IN", "VPD"),
    "bands": ("B1", "snow"),
    "width": 16,
    "heads": 2,
    "window": 5,
    "octaves": 3,
    "layers": 3,
    "cross_blocks": 2,
}


def make(seed: int = 0, scale: float = 0.2, **settings) -> StreamingEcoPerceiver:
    """Make a network in double precision, with weights so large that every path matters."""
    torch.manual_seed(seed)
    return shaken(StreamingEcoPerceiver(StreamingConfig(**(SMALL | settings))).double(), scale)


def sequences(
    config: StreamingConfig, batch: int, hours: int, seed: int = 0, missing: float = 0.3
) -> ModelInputs:
    """Hours with gaps, of some variables or of all, patches at random hours, and towers known in part."""
    random = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=random, dtype=torch.float64)

    hourly = uniform(batch, hours, len(config.variables)) - 0.5
    hourly[uniform(*hourly.shape) < missing] = torch.nan
    hourly[uniform(batch, hours) < missing / 3] = torch.nan
    lower, upper, _ = torch.tensor([STATICS[code] for code in config.statics]).double().view(-1, 3).T
    statics = (lower + (upper - lower) * uniform(batch, len(config.statics))).round()
    statics[uniform(*statics.shape) < missing] = torch.nan
    state = None
    if config.state:
        state = 8 * uniform(batch, hours, len(config.state)) - 4
        state[uniform(*state.shape) < missing] = torch.nan
    if not config.bands:
        return ModelInputs(hourly, statics=statics, state=state)
    patches = uniform(5, len(config.bands), 8, 8) * 2 - 1
    index = torch.randint(0, 5, (batch, hours), generator=random)
    index[uniform(batch, hours) > 0.2] = -1
    return ModelInputs(hourly, patches, index, statics, state)


def in_parts(
    network: StreamingEcoPerceiver, data: ModelInputs, chunks: list[int]
) -> tuple[Prediction, KVCache]:
    """Predict chunk by chunk."""
    cache, parts = None, []
    for stop, length in zip(np.cumsum(chunks).tolist(), chunks, strict=True):
        prediction, cache = network.advance(cache, data.between(stop - length, stop))
        parts.append(prediction)
    scales = [part.log_scale for part in parts if part.log_scale is not None]
    return Prediction(torch.cat([p.mean for p in parts], 1), torch.cat(scales, 1) if scales else None), cache


def plainly(network: StreamingEcoPerceiver, data: ModelInputs) -> Tensor:
    """Compute the model hour by hour: softmax over the present inputs, rotations by angles."""
    config, size = network.config, network.config.width // network.config.heads
    inputs, present = network.embed_inputs(data)
    batch, hours = present.shape[:2]

    def attend(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return ((query @ keys.T) / math.sqrt(query.shape[-1])).softmax(-1) @ values

    def rotated(x: Tensor, hour: int) -> Tensor:
        turned = x.clone()
        for pair in range(size // 2):
            angle = hour * streaming.ROTARY_BASE ** (-2 * pair / size)
            a, b = x[2 * pair], x[2 * pair + 1]
            turned[2 * pair] = a * math.cos(angle) - b * math.sin(angle)
            turned[2 * pair + 1] = a * math.sin(angle) + b * math.cos(angle)
        return turned

    def cross(layer, x: Tensor, b: int, t: int) -> Tensor:
        seen = inputs[b, t][present[b, t]]  # (n, Hi)
        asked = layer.ask(layer.norm(x)).view(config.heads, -1)
        read = attend(asked, seen, seen) if len(seen) else torch.zeros_like(asked)
        return layer.mlp(x + layer.out(read.flatten()))

    def mix(layer, x: Tensor) -> Tensor:
        query, keys, values = layer.project(layer.norm(x)).view(hours, 3, config.heads, size).unbind(1)
        read = torch.zeros_like(query)
        for t in range(hours):
            seen = range(max(0, t - config.window + 1), t + 1)
            for h in range(config.heads):
                turned = torch.stack([rotated(keys[s, h], s) for s in seen])
                read[t, h] = attend(rotated(query[t, h], t)[None], turned, values[seen, h])[0]
        return layer.mlp(x + layer.out(read.flatten(1)))

    predicted = []
    for b in range(batch):
        x = network.latent.expand(hours, -1)
        if network.state is not None:
            x = x + network.state(data.state[b : b + 1], data.hourly[b : b + 1])[0]
        for number, layer in enumerate(network.layers):
            if number < config.cross_blocks:
                x = torch.stack([cross(network.cross[number], x[t], b, t) for t in range(hours)])
            x = mix(layer, x)
        predicted.append(network.head(x))
    return torch.stack(predicted)


def assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("hours", "settings"),
    [
        (13, {}),
        (3, {}),
        (10, {"window": 1, "layers": 2}),
        (9, {"bands": (), "statics": ()}),
        (9, {"state": ("TA_7D", "FAPAR")}),
    ],
)
def test_equals_the_model_written_hour_by_hour(hours, settings):
    network = make(**settings)
    data = sequences(network.config, 2, hours)
    with torch.no_grad():
        assert_equal(network(data).mean, plainly(network, data))


@given(
    chunks=st.lists(st.integers(1, 14), min_size=1, max_size=8),
    window=st.sampled_from([1, 2, 5, 8]),
    batch=st.integers(1, 3),
    variables=st.sets(st.sampled_from(PAPER_INPUTS), min_size=1),
    bands=st.sampled_from([(), PATCH_BANDS]),
    statics=st.sets(st.sampled_from(list(STATICS))),
    state=st.sampled_from([(), ("TA_30D",), ("VPD_1D", "TA_CLIMATE", "FAPAR")]),
    spread=st.booleans(),
    missing=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 100),
)
@settings(max_examples=50)
def test_chunks_of_any_length_give_what_one_pass_gives(
    chunks, window, batch, variables, bands, statics, state, spread, missing, seed
):
    network = make(
        seed,
        variables=tuple(sorted(variables)),
        bands=bands,
        statics=tuple(sorted(statics)),
        state=state,
        window=window,
        spread=spread,
    )
    data = sequences(network.config, batch, sum(chunks), seed, missing)
    with torch.no_grad():
        whole = network(data)
        found, cache = in_parts(network, data, chunks)
    assert cache.hours == sum(chunks)
    assert torch.isfinite(whole.mean).all()
    assert_equal(found.mean, whole.mean)
    if spread:
        assert_equal(found.log_scale, whole.log_scale)


@pytest.mark.parametrize("state", [(), ("TA_30D", "FAPAR")])
def test_hour_by_hour_gives_what_one_pass_gives_and_remembers_no_more(state):
    network = make(state=state)
    data = sequences(network.config, 2, 30)
    with torch.no_grad():
        found, cache = in_parts(network, data, [1] * 30)
        assert_equal(found.mean, network(data).mean)
    assert {kept.shape for kept in cache.keys_values} == {(2, 4, 32)}


def test_a_series_is_what_one_pass_gives(monkeypatch):
    network = make(spread=True, state=("TA_30D", "FAPAR"))
    data = sequences(network.config, 2, 47)
    expected = network(data)
    for chunk in (10, 47, 100):
        monkeypatch.setattr(streaming, "CHUNK_HOURS", chunk)
        found = predict_series(network, data)
        assert_equal(found.mean, expected.mean)
        assert_equal(found.log_scale, expected.log_scale)
    assert not found.mean.requires_grad
    assert predict_series(make(state=network.config.state), data).log_scale is None


def test_a_chunk_holds_only_the_patches_that_it_sees():
    data = sequences(make().config, 2, 20)
    data.patch_index[:] = -1
    data.patch_index[0, 3], data.patch_index[1, 9], data.patch_index[0, 12] = 4, 1, 2
    chunk = data.between(2, 11)
    assert_equal(chunk.patches, data.patches[[1, 4]])
    assert chunk.patch_index[0, 1] == 1
    assert chunk.patch_index[1, 7] == 0
    assert (chunk.patch_index >= 0).sum() == 2
    assert len(data.between(4, 9).patches) == 0


def test_beginnings_of_a_year_are_cut_nowhere():
    """A year at once and in the chunks that a series is predicted in, in the precision that is used."""
    torch.manual_seed(0)
    config = StreamingConfig(variables=("DOY", "TOD", "TA"), bands=(), width=16, heads=2)
    network, hourly = StreamingEcoPerceiver(config), torch.rand(1, 8760, 3) - 0.5
    with torch.no_grad():
        expected = network(ModelInputs(hourly)).mean
    torch.testing.assert_close(
        predict_series(network, ModelInputs(hourly)).mean, expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(("window", "layers", "blocks"), [(5, 3, 2), (2, 4, 1), (1, 1, 1), (8, 2, 2)])
def test_an_hour_sees_its_receptive_field_and_nothing_else(window, layers, blocks):
    network = make(window=window, layers=layers, cross_blocks=blocks, bands=())
    hours, hour = 40, 30
    data = sequences(network.config, 1, hours, missing=0)
    hourly = data.hourly.requires_grad_()
    output = network(data).mean[0, hour]
    seen = torch.autograd.grad(output.sum(), hourly)[0][0].abs().amax(1) > 0
    expected = torch.zeros(hours, dtype=torch.bool)
    expected[hour + 1 - network.config.context : hour + 1] = True
    assert seen.tolist() == expected.tolist()


def test_nothing_that_comes_later_changes_an_hour():
    network = make(state=("TA_30D", "FAPAR"))
    data = sequences(network.config, 2, 24)
    with torch.no_grad():
        before = network(data).mean
        for hour in (1, 7, 23):
            hourly, index, state = data.hourly.clone(), data.patch_index.clone(), data.state.clone()
            hourly[:, hour:] = 0.1
            index[:, hour:] = 0
            state[:, hour:] = 1.0
            after = network(replace(data, hourly=hourly, patch_index=index, state=state)).mean
            torch.testing.assert_close(after[:, :hour], before[:, :hour], rtol=0, atol=0)
            assert (after[:, hour] != before[:, hour]).all()


def test_missing_variables_have_no_influence():
    """A missing variable has the same effect as a network without the variable."""
    network, without = make(), make(variables=SMALL["variables"][:4])
    weights = network.state_dict()
    weights["embed.variable"] = weights["embed.variable"][:4]
    without.load_state_dict(weights)
    data = sequences(network.config, 2, 20)
    data.hourly[..., 4] = torch.nan
    assert_equal(network(data).mean, without(replace(data, hourly=data.hourly[..., :4])).mean)


def test_unknown_statics_have_no_influence():
    network, without = make(), make(statics=("igbp", "lat"))
    weights = network.state_dict()
    weights["statics.static"] = weights["statics.static"][:2]
    without.load_state_dict(weights)
    data = sequences(network.config, 2, 20, missing=0)
    known = network(data).mean
    data.statics[:, 2:] = torch.tensor([torch.nan, 1e6])  # unknown, or impossible
    in_part = network(data).mean
    assert_equal(in_part, without(replace(data, statics=data.statics[:, :2])).mean)
    nothing = network(replace(data, statics=torch.full((2, 4), torch.nan))).mean
    assert_equal(nothing, network(replace(data, statics=None)).mean)
    assert (known != in_part).all()
    assert (in_part != nothing).all()


@pytest.mark.parametrize("number", range(4))
def test_each_static_matters_to_its_own_sequence(number):
    network = make()
    data = sequences(network.config, 2, 20, missing=0)
    data.statics[:, 0] = 3
    before = network(data).mean
    data.statics[1, number] += 1
    after = network(data).mean
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=0)
    assert (after[1] != before[1]).all()


def test_places_are_near_across_the_date_line_and_have_few_octaves():
    network = make(octaves=12, statics=("lon",))
    east, west, near = torch.tensor([[179.999], [-179.999], [179.0]]).double()
    encoded = [network.statics(degrees[None])[0] for degrees in (east, west, near)]
    torch.testing.assert_close(encoded[0], encoded[1], rtol=0, atol=1e-3)
    assert (encoded[0] - encoded[2]).abs().max() < 1


def test_classes_have_embeddings_of_their_own():
    network = make(statics=("igbp",))
    encoded, known = network.statics(torch.arange(len(IGBP_CLASSES)).double()[:, None])
    assert known.all()
    assert len(torch.unique(encoded[:, 0], dim=0)) == len(IGBP_CLASSES)


def test_patches_matter_from_their_hour_on():
    network = make()
    data = sequences(network.config, 1, 20)
    data.patch_index[:] = -1
    without = network(data).mean[0]
    assert_equal(without, network(replace(data, patches=None, patch_index=None)).mean[0])
    data.patch_index[0, 12] = 3
    changed = network(data).mean[0] != without
    assert changed.flatten().tolist() == [False] * 12 + [True] * 8


def test_hours_without_any_input_give_finite_numbers_and_gradients():
    network = make(spread=True)
    data = sequences(network.config, 2, 20).without_statics()
    data.hourly[0] = data.hourly[1, 3] = torch.nan
    data.patch_index[0] = -1
    sum(part.square().sum() for part in network(data)).backward()
    gradients = [p.grad for name, p in network.named_parameters() if not name.startswith("statics")]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_gradients_reach_all_parameters():
    network = make(spread=True, targets=("NEE", "LE"))
    data = sequences(network.config, 3, 40)
    sum(part.square().sum() for part in network(data)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad != 0).any(), name


def test_learns_from_hours_that_one_layer_does_not_see():
    """The target is an input from six hours earlier, and a layer attends to four hours."""
    torch.manual_seed(0)
    settings = SMALL | {"variables": ("TA",), "bands": (), "statics": (), "window": 4, "embedding": 4}
    network = StreamingEcoPerceiver(StreamingConfig(**settings))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(120):
        hourly = torch.rand(4, 64, 1) - 0.5
        wanted = hourly.roll(6, dims=1) * 12**0.5
        error = F.mse_loss(network(ModelInputs(hourly)).mean[:, 9:], wanted[:, 9:])
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert error < 0.3


def multiply_adds(network: torch.nn.Module, *data) -> float:
    """Count as torch does."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network(*data)
    return counter.get_total_flops() / 2


def test_an_hour_costs_what_is_stated_and_little_beside_a_window():
    days = 32
    index = torch.full((1, 24 * days), -1)
    index[0, 12::24] = torch.arange(days)
    data = ModelInputs(
        torch.zeros(1, 24 * days, 21), torch.zeros(days, 9, 8, 8), index, torch.zeros(1, len(STATICS))
    )
    found = multiply_adds(StreamingEcoPerceiver(), data) / (24 * days)
    assert found == pytest.approx(1_442_944 + 9 * 64 * 24 / 24, rel=2e-3)
    assert 60 * found < multiply_adds(EcoPerceiver(), ModelInputs(torch.zeros(1, 32, 21)))


def test_the_cost_of_an_hour_does_not_depend_on_the_length():
    network = StreamingEcoPerceiver(StreamingConfig(bands=()))
    costs = [multiply_adds(network, ModelInputs(torch.zeros(1, hours, 21))) / hours for hours in (512, 2048)]
    assert costs[1] == pytest.approx(costs[0], rel=1e-3)


def test_float32_is_close_to_float64():
    network = make(scale=0.05)
    data = sequences(network.config, 2, 40)
    exact = network(data).mean
    single = data.map(lambda x: x.float() if x.is_floating_point() else x)
    rough = network.float()(single).mean
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough.double(), exact, rtol=1e-3, atol=1e-4)


def test_a_fresh_network_begins_near_the_mean_and_the_variance_of_the_target():
    torch.manual_seed(0)
    network = StreamingEcoPerceiver(StreamingConfig(spread=True))
    prediction = network(ModelInputs(torch.rand(4, 64, 21) - 0.5))
    assert 0.001 < prediction.mean.std() < 1
    assert prediction.log_scale.abs().max() < 1


def test_a_flux_that_is_always_zero_does_not_drive_the_spread_to_nothing():
    network = make(spread=True)
    with torch.no_grad():
        network.head.bias[1] = -1e4
    prediction = network(sequences(network.config, 1, 5))
    assert (prediction.log_scale >= streaming.MIN_LOG_SCALE).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"targets": ()}, "needs variables, and targets"),
        ({"variables": ()}, "needs variables, and targets"),
        ({"targets": ("NEE", "LE")}, r"not among them.*\('NEE', 'LE'\)"),
        ({"statics": ("igbp", "slope")}, r"among \['igbp'.*'slope'"),
        ({"window": 0}, "window must be at least 1"),
        ({"cross_blocks": 0}, "cross_blocks must be at least 1"),
        ({"cross_blocks": 7}, "cross_blocks must be at least 1 and at most 6, found 7"),
        ({"width": 24}, "multiple of 2 x 8"),
        ({"dropout": 1.5}, "dropout must be at least 0 and at most 1, found 1.5"),
    ],
)
def test_settings_that_cannot_be(wrong, message):
    with pytest.raises(ModelError, match=message):
        StreamingConfig(**wrong)


def test_wrong_shapes_are_named():
    network = make()
    data = sequences(network.config, 2, 20)
    wrong = {
        r"hourly must have the shape \(2, 20, 5\), found \(2, 20, 4\)": {"hourly": data.hourly[..., 1:]},
        r"hourly must have the shape \(2, 1, 5\), found \(2, 0, 5\)": {"hourly": data.hourly[:, :0]},
        r"patches must have the shape \(5, 2, 8, 8\), found \(5, 1, 8, 8\)": {"patches": data.patches[:, :1]},
        r"patch_index must have the shape \(2, 20\), found \(2, 5\)": {
            "patch_index": data.patch_index[:, :5]
        },
        r"statics must have the shape \(2, 4\), found \(2, 3\)": {"statics": data.statics[:, :3]},
    }
    for message, change in wrong.items():
        with pytest.raises(ModelError, match=message):
            network(replace(data, **change))
    with pytest.raises(ModelError, match=r"hourly must have the shape \(2, 1, 5\)"):
        predict_series(network, ModelInputs(data.hourly[:, :0]))


def test_real_towers_are_what_statics_allow(real_towers):
    number = [list(IGBP_CLASSES).index(igbp) for igbp in real_towers["igbp"].values]
    values = [real_towers[code].values for code in ("lat", "lon", "elevation")]
    statics = torch.from_numpy(np.column_stack([number, *values]))
    encoded, known = make().statics(statics)
    assert torch.isfinite(encoded).all()
    assert (known == torch.isfinite(statics)).all()
    assert known[:, :3].all()
