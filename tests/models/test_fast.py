"""A series has the predictions of the plain model window by window, without needless computation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.models.samples import shaken
from xcarbon.core.errors import ModelError
from xcarbon.core.variables import PAPER_INPUTS, PATCH_BANDS
from xcarbon.models import fast
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.models.fast import predict_series, windows_per_step
from xcarbon.models.inputs import ModelInputs

SMALL = {"width": 16, "heads": 4, "cross_blocks": 2, "self_layers": 2, "context": 6, "octaves": 3}


def make(seed: int = 0, scale: float = 0.2, **settings) -> EcoPerceiver:
    torch.manual_seed(seed)
    return shaken(EcoPerceiver(EcoPerceiverConfig(**(SMALL | settings))), scale)


def series(
    network: EcoPerceiver, windows: int, seed: int = 0, missing: float = 0.3, patched: float = 0.1
) -> ModelInputs:
    """Hours with gaps, of some variables or of all, and patches at random hours."""
    config, random = network.config, torch.Generator().manual_seed(seed)
    hours, variables, bands = windows + config.context - 1, len(config.variables), len(config.bands)
    hourly = torch.rand(hours, variables, generator=random) - 0.5
    hourly[torch.rand(hours, variables, generator=random) < missing] = torch.nan
    hourly[torch.rand(hours, generator=random) < missing / 3] = torch.nan
    state = None
    if config.state:
        state = 3 * torch.randn(hours, len(config.state), generator=random)
        state[torch.rand(state.shape, generator=random) < missing] = torch.nan
    if not bands:
        return ModelInputs(hourly, state=state)
    patches = torch.rand(5, bands, 8, 8, generator=random) * 2 - 1
    index = torch.randint(0, 5, (hours,), generator=random)
    index[torch.rand(hours, generator=random) >= patched] = -1
    return ModelInputs(hourly, patches, index, state=state)


def plainly(network: EcoPerceiver, data: ModelInputs) -> Tensor:
    """The plain model, window by window."""
    context, index = network.config.context, data.patch_index
    windows = ModelInputs(data.hourly.unfold(0, context, 1).transpose(1, 2))  # (W, T, V)
    if index is not None:
        windows.patches, windows.patch_index = data.patches, index.unfold(0, context, 1)
    if data.state is not None:
        windows.state = data.state.unfold(0, context, 1).transpose(1, 2)  # (W, T, M)
    with torch.no_grad():
        return network(windows)[:, -1]


def in_float64(network: EcoPerceiver, data: ModelInputs) -> tuple[EcoPerceiver, ModelInputs]:
    return network.double(), data.map(lambda x: x.double() if x.is_floating_point() else x)


def everything(network: EcoPerceiver, data: ModelInputs) -> np.ndarray:
    return np.ones(len(data.hourly) - network.config.context + 1, bool)


def assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


@given(
    variables=st.sets(st.sampled_from(PAPER_INPUTS), min_size=1),
    bands=st.sampled_from([(), PATCH_BANDS[:1], PATCH_BANDS]),
    state=st.sampled_from([(), ("TA_30D",), ("VPD_1D", "TA_CLIMATE", "FAPAR")]),
    context=st.sampled_from([1, 2, 6, 32]),
    layers=st.sampled_from([(2, 2), (1, 0), (3, 1), (0, 2)]),
    normalize=st.booleans(),
    causal=st.booleans(),
    octaves=st.sampled_from([0, 3]),
    windows=st.integers(1, 70),
    step=st.integers(1, 80),
    missing=st.sampled_from([0.0, 0.3, 1.0]),
    patched=st.sampled_from([0.0, 0.05, 1.0]),
    seed=st.integers(0, 100),
)
@settings(max_examples=60)
def test_equals_the_plain_model(
    variables,
    bands,
    state,
    context,
    layers,
    normalize,
    causal,
    octaves,
    windows,
    step,
    missing,
    patched,
    seed,
):
    network = make(
        seed,
        variables=tuple(sorted(variables)),
        bands=bands,
        state=state,
        context=context,
        cross_blocks=layers[0],
        self_layers=layers[1],
        normalize_keys_values=normalize,
        causal=causal,
        octaves=octaves,
    )
    network, data = in_float64(network, series(network, windows, seed, missing, patched))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "windows_per_step", lambda network: step)
        found = predict_series(network, data, everything(network, data))
    assert_equal(found, plainly(network, data))


@given(
    wanted=st.lists(st.tuples(st.booleans(), st.integers(1, 20)), max_size=6),
    step=st.integers(1, 30),
)
@settings(max_examples=30)
@example(wanted=[(True, 20)], step=20)
@example(wanted=[], step=20)
def test_predicts_what_is_wanted_and_nothing_else(wanted, step):
    wanted = np.repeat([is_wanted for is_wanted, _ in wanted], [length for _, length in wanted]).astype(bool)
    network = make()
    network, data = in_float64(network, series(network, len(wanted)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "windows_per_step", lambda network: step)
        found = predict_series(network, data, wanted)
    assert found.isfinite().numpy().tolist() == wanted.tolist()
    if wanted.any():
        assert_equal(found[wanted], plainly(network, data)[wanted])


@pytest.mark.parametrize(("octaves", "within"), [(12, 1.05), (2, 1.2)])
def test_float32_is_as_exact_as_the_plain_model(octaves, within):
    """The paper's sizes; the rounding of high octaves is common to both and hides the rest."""
    sizes = {"width": 128, "heads": 8, "cross_blocks": 8, "self_layers": 4, "context": 32, "octaves": octaves}
    errors: dict[str, list[Tensor]] = {"plain": [], "fast": []}
    for seed in range(6):
        network = make(seed, 0.05, **sizes, normalize_keys_values=seed % 2 == 0)
        data = series(network, 20, seed)
        plain = plainly(network, data)
        found = predict_series(network, data, everything(network, data))
        exact = plainly(*in_float64(network, data))
        errors["plain"].append(plain - exact)
        errors["fast"].append(found - exact)
    rms = {name: torch.cat(parts).square().mean().sqrt().item() for name, parts in errors.items()}
    assert 0 < rms["fast"] < within * rms["plain"]


def encoded_hours(monkeypatch) -> list[int]:
    """Write down how many hours are encoded at a time."""
    counts: list[int] = []
    encode = fast._Step.encode

    def counting(step, inputs):
        counts.append(len(inputs.hourly))
        return encode(step, inputs)

    monkeypatch.setattr(fast._Step, "encode", counting)
    return counts


def test_an_hour_is_encoded_once_in_a_step(monkeypatch):
    network = make(bands=())
    data = series(network, 20)
    counts = encoded_hours(monkeypatch)
    predict_series(network, data, everything(network, data))
    assert counts == [25]


def test_long_runs_that_are_not_wanted_cost_nothing(monkeypatch):
    network = make(bands=())
    data = series(network, 200_000)
    wanted = np.zeros(200_000, bool)
    wanted[:10] = wanted[-10:] = True
    counts = encoded_hours(monkeypatch)
    assert predict_series(network, data, wanted).isfinite().sum() == 20
    assert counts == [15, 15]


def test_arrays_are_reused_from_step_to_step(monkeypatch):
    network = make(bands=())
    data = series(network, 95)
    made: list[int] = []

    class Step(fast._Step):
        def __init__(self, network: EcoPerceiver, windows: int) -> None:
            made.append(windows)
            super().__init__(network, windows)

    monkeypatch.setattr(fast, "_Step", Step)
    monkeypatch.setattr(fast, "windows_per_step", lambda network: 10)
    predict_series(network, data, everything(network, data))
    assert made == [10, 5]


def test_without_a_state_it_is_missing():
    network = make(state=("TA_30D", "LAI"))
    network, data = in_float64(network, series(network, 12))
    wanted = everything(network, data)
    unknown = replace(data, state=torch.full_like(data.state, torch.nan))
    found = predict_series(network, replace(data, state=None), wanted)
    assert_equal(found, predict_series(network, unknown, wanted))
    assert not torch.allclose(found, predict_series(network, data, wanted))


def test_changed_weights_change_the_prediction():
    network = make()
    data = series(network, 10)
    wanted = everything(network, data)
    before = predict_series(network, data, wanted)
    with torch.no_grad():
        network.cross.key.weight += 0.1
    after = predict_series(network, data, wanted)
    assert (after != before).any()
    torch.testing.assert_close(after, plainly(network, data), rtol=1e-4, atol=1e-5)


def test_steps_fit_into_their_budget(monkeypatch):
    """Size of the arrays of a step, with its keys and values and one LayerNorm."""
    few = {"variables": PAPER_INPUTS[:5], "bands": (), "state": ("TA_30D",)}
    for sizes in ({}, few, {"width": 256, "context": 64}):
        network = EcoPerceiver(EcoPerceiverConfig(**sizes))
        config, windows = network.config, windows_per_step(network)
        with torch.inference_mode():
            step = fast._Step(network, windows)
            hourly = torch.zeros(windows + config.context - 1, len(config.variables))
            inputs = step.encode(ModelInputs(hourly))
        arrays = [value for value in (*vars(step).values(), *inputs) if isinstance(value, Tensor)]
        storages = {array.untyped_storage().data_ptr(): array.untyped_storage().nbytes() for array in arrays}
        taken = sum(storages.values()) + step.x.nbytes
        assert 0.7 < taken / fast._budget(torch.device("cpu")) < 1.7
    assert windows_per_step(EcoPerceiver()) == pytest.approx(
        2 * windows_per_step(EcoPerceiver().double()), abs=1
    )
    monkeypatch.setattr(fast, "_budget", lambda device: 1)
    assert windows_per_step(EcoPerceiver()) == 1


def test_budget_follows_the_cache(monkeypatch):
    cpu = torch.device("cpu")
    for cache, budget in [(2**20, 2**23), (2**24, 2**24), (2**30, 2**25), (0, 2**25), (-1, 2**25)]:
        monkeypatch.setattr("os.sysconf", lambda name, cache=cache: cache)
        monkeypatch.setattr("os.sysconf_names", {"SC_LEVEL3_CACHE_SIZE": 194})
        assert fast._budget(cpu) == budget
    monkeypatch.setattr("os.sysconf_names", {})
    assert fast._budget(cpu) == 2**25


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no graphics card")
def test_on_a_graphics_card():
    network = make().double()
    _, data = in_float64(network, series(network, 50))
    expected = plainly(network, data)
    found = predict_series(network.cuda(), data.to("cuda"), everything(network, data))
    assert_equal(found.cpu(), expected)


def test_wrong_shapes_are_named():
    network = make()
    data = series(network, 10)
    wanted = everything(network, data)
    with pytest.raises(ModelError, match=r"hourly must have the shape \(15, 21\).*found \(14, 21\)"):
        predict_series(network, replace(data, hourly=data.hourly[1:]), wanted)
    with pytest.raises(ModelError, match=r"hourly must have the shape \(15, 21\).*found \(15, 20\)"):
        predict_series(network, replace(data, hourly=data.hourly[:, 1:]), wanted)
    with pytest.raises(ModelError, match=r"patch_index must have the shape \(15,\), found \(14,\)"):
        predict_series(network, replace(data, patch_index=data.patch_index[1:]), wanted)
