"""Inputs are cut, compacted and checked alike as arrays and as tensors, and need no torch as arrays."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric import Fabric

from xcarbon.core.errors import ModelError
from xcarbon.models.inputs import ModelInputs

VARIABLES = ("DOY", "TA", "P")
CONFIG = SimpleNamespace(
    variables=VARIABLES, bands=("B1", "snow"), statics=("igbp", "lat"), state=("TA_30D",)
)


@st.composite
def inputs(draw) -> ModelInputs:
    """A batch, or one series, in which patches and hours are told apart by their numbers."""
    batch = draw(st.sampled_from([(), (1,), (3,)]))
    hours, patches = draw(st.integers(1, 30)), draw(st.integers(0, 5))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    hourly = rng.random((*batch, hours, 3))
    hourly[rng.random(hourly.shape) < 0.5] = np.nan
    index = np.where(
        rng.random((*batch, hours)) < 0.3, rng.integers(-1, max(patches, 1), (*batch, hours)), -1
    )
    index = index if patches else np.full_like(index, -1)
    images = np.arange(patches, dtype=float)[:, None, None, None] * np.ones((1, 2, 8, 8))
    return ModelInputs(hourly, images, index, rng.random((*batch, 2)), rng.random((*batch, hours, 1)))


def entering(found: ModelInputs) -> np.ndarray:
    """First pixel of the patch at each hour, NaN without one."""
    pixels = np.array([*found.patches[:, 0, 0, 0], np.nan])
    return pixels[found.patch_index]


@given(inputs(), st.data())
def test_hours_keep_their_values_and_patches(whole, data):
    start = data.draw(st.integers(0, whole.hourly.shape[-2] - 1))
    stop = data.draw(st.none() | st.integers(start + 1, 40))
    part = whole.between(start, stop)
    np.testing.assert_array_equal(part.hourly, whole.hourly[..., start:stop, :])
    np.testing.assert_array_equal(entering(part), entering(whole)[..., start:stop])
    np.testing.assert_array_equal(part.state, whole.state[..., start:stop, :])
    assert part.statics is whole.statics
    assert set(part.patch_index.flat) - {-1} == set(range(len(part.patches)))
    tensors = whole.map(torch.from_numpy).between(start, stop)
    for name, array in vars(part).items():
        np.testing.assert_array_equal(getattr(tensors, name).numpy(), array)


@given(inputs(), st.integers(0, 4))
def test_missing_hours_are_added_before_the_first(whole, hours):
    count = hours + whole.hourly.shape[-2]
    padded = whole.padded(count) if whole.hourly.ndim == 2 else None
    if padded is None:
        return
    assert np.isnan(padded.hourly[:hours]).all() and np.isnan(padded.state[:hours]).all()
    assert (padded.patch_index[:hours] == -1).all()
    for name, field in vars(padded.between(hours, None)).items():
        np.testing.assert_array_equal(field, getattr(whole.compact(), name))
    assert ModelInputs(whole.hourly).padded(count).state is None
    assert len(whole.padded(1).hourly) == len(whole.hourly)


@given(inputs())
def test_hours_are_observed_by_a_variable_or_a_patch(whole):
    expected = np.isfinite(whole.hourly[..., 1:]).any(-1) | (whole.patch_index >= 0)
    np.testing.assert_array_equal(whole.observed(VARIABLES), expected)
    np.testing.assert_array_equal(whole.map(torch.from_numpy).observed(VARIABLES), expected)
    bare = ModelInputs(whole.hourly)
    np.testing.assert_array_equal(bare.observed(VARIABLES), np.isfinite(whole.hourly[..., 1:]).any(-1))


def test_without_patches_nothing_is_numbered():
    bare = ModelInputs(np.zeros((4, 3)))
    assert bare.compact() is bare
    part = bare.between(1, 3)
    assert part.hourly.base is bare.hourly, "a view"
    assert (part.patches, part.patch_index, part.statics, part.state) == (None,) * 4


def test_a_series_becomes_a_batch_and_moves():
    whole = ModelInputs(
        np.zeros((4, 3)), np.zeros((1, 2, 8, 8)), np.full(4, -1), np.zeros(2), np.zeros((4, 1))
    )
    batch = whole.batched()
    batch.check(CONFIG)
    assert batch.patches is whole.patches
    moved = batch.map(torch.from_numpy).to("meta")
    assert {field.device.type for field in vars(moved).values()} == {"meta"}
    assert moved.without_statics().statics is None and moved.statics is not None


def test_precision_plugins_reach_the_fields():
    network = Fabric(accelerator="cpu", devices=1, precision="64-true").setup(Sum())
    single = ModelInputs(torch.ones(1, 2, 3), patch_index=torch.zeros(1, 2, dtype=torch.int64))
    assert network(single) == 6
    assert single.hourly.dtype == torch.float32


class Sum(torch.nn.Module):
    """A network that reads the hourly variables."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, inputs: ModelInputs) -> torch.Tensor:
        assert inputs.patch_index.dtype == torch.int64
        assert inputs.hourly.dtype == torch.float64
        return self.weight * inputs.hourly.sum()


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("hourly", (2, 4, 2), r"hourly must have the shape \(2, 4, 3\), found \(2, 4, 2\)"),
        ("hourly", (2, 0, 3), r"hourly must have the shape \(2, 1, 3\), found \(2, 0, 3\)"),
        ("hourly", (4, 3), r"hourly must have the shape \(4, 4, 3\), found \(4, 3\)"),
        ("patches", (5, 2, 8, 7), r"patches must have the shape \(5, 2, 8, 8\), found \(5, 2, 8, 7\)"),
        ("patch_index", (2, 3), r"patch_index must have the shape \(2, 4\), found \(2, 3\)"),
        ("statics", (1, 2), r"statics must have the shape \(2, 2\), found \(1, 2\)"),
        ("state", (2, 4, 2), r"state must have the shape \(2, 4, 1\), found \(2, 4, 2\)"),
    ],
)
def test_wrong_shapes_are_named(name, shape, message):
    right = ModelInputs(
        np.zeros((2, 4, 3)), np.zeros((5, 2, 8, 8)), np.zeros((2, 4)), np.zeros((2, 2)), np.zeros((2, 4, 1))
    )
    right.check(CONFIG)
    right.check(CONFIG, hours=4)
    with pytest.raises(ModelError, match=message):
        replace(right, **{name: np.zeros(shape)}).check(CONFIG)
    with pytest.raises(ModelError, match=r"\(2, 5, 3\), found \(2, 4, 3\)"):
        right.check(CONFIG, hours=5)


def test_networks_are_imported_when_they_are_used():
    code = """
import sys
import xcarbon.models
from xcarbon.models.inputs import ModelInputs
assert not {"torch", "xarray"} & set(sys.modules) - before, "too early"
from xcarbon.models import EcoPerceiver, EcoPerceiverConfig, StreamingConfig, StreamingEcoPerceiver
assert "torch" in sys.modules
assert EcoPerceiver().config == EcoPerceiverConfig()
assert StreamingEcoPerceiver().config == StreamingConfig()
try:
    xcarbon.models.Oracle
except AttributeError as error:
    assert "Oracle" in str(error)
else:
    raise AssertionError
"""
    code = "import sys, xcarbon\nbefore = set(sys.modules)\nassert 'torch' not in before\n" + code
    subprocess.run([sys.executable, "-c", code], check=True)
