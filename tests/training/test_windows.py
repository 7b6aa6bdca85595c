"""Windows equal naive slicing: each target once, nothing across towers, no copy before a batch."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xcarbon.core.variables import PATCH_BANDS
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.patches import NOON
from xcarbon.training import windows as windows_module
from xcarbon.training.windows import LoadedTower, blocks, load_windows, valid_hours

START = np.datetime64("2012-02-28T05", "ns")


@st.composite
def model_input(draw, patches: bool = True, state: bool = False) -> xr.Dataset:
    """Inputs of a few short towers with gaps; every value identifies its tower, hour and variable."""
    sites = draw(st.integers(1, 3))
    hours = draw(st.integers(1, 90))
    time = START + np.arange(hours) * np.timedelta64(1, "h")
    site, hour, variable = np.ogrid[:sites, :hours, :2]
    hourly = (site * 1000 + hour * 10 + variable).astype("float32")
    hourly[draw(st.integers(0, sites - 1)), draw(st.integers(0, hours - 1)) :: 3] = np.nan
    gaps = draw(st.lists(st.booleans(), min_size=sites * hours, max_size=sites * hours))
    target = np.where(np.reshape(gaps, (sites, hours)), -hourly[..., 0], np.nan).astype("float32")
    inputs = xr.Dataset(
        {
            "hourly": (("site", "time", "variable"), hourly),
            "target": (("site", "time"), target),
        },
        coords={"time": time},
    )
    if state:
        values = (site * 1000 + hour * 10 + np.arange(3) + 5).astype("float32")
        values[:, draw(st.integers(0, hours - 1)) :: 4] = np.nan
        inputs["state"] = (("site", "time", "feature"), values)
    if patches:
        day = draw(st.lists(st.integers(-2, 6), min_size=1, unique=True))
        values = np.arange(sites * len(day), dtype="float32").reshape(sites, len(day), 1, 1, 1)
        usable = draw(st.lists(st.booleans(), min_size=values.size, max_size=values.size))
        values = np.where(np.reshape(usable, values.shape), values, np.nan)
        inputs["patch"] = (("site", "day", "band", "y", "x"), np.tile(values, (1, 1, 2, 8, 8)))
        inputs["day"] = START.astype("datetime64[D]").astype("datetime64[ns]") + np.array(
            day, "timedelta64[D]"
        )
    return inputs


def patch_at(inputs: xr.Dataset, site: int, stamp: np.datetime64) -> float | None:
    """First pixel of the patch that enters at an hour, looked up one by one."""
    date = stamp.astype("datetime64[D]")
    if "patch" not in inputs or (stamp - date) // np.timedelta64(1, "h") != NOON:
        return None
    for day, patch in zip(inputs["day"].values, inputs["patch"].values[site], strict=True):
        if day.astype("datetime64[D]") == date and np.isfinite(patch).all():
            return float(patch.flat[0])
    return None


def naive(inputs: xr.Dataset, context: int) -> list[tuple]:
    """Every window by slicing: tower by tower, hour by hour."""
    windows = []
    for site in range(inputs.sizes["site"]):
        hourly, target = inputs["hourly"].values[site], inputs["target"].values[site]
        state = inputs["state"].values[site] if "state" in inputs else hourly[:, :0]
        for last in range(context - 1, len(target)):
            if np.isfinite(target[last]):
                hours = slice(last - context + 1, last + 1)
                seen = [patch_at(inputs, site, stamp) for stamp in inputs["time"].values[hours]]
                windows.append((site, last, hourly[hours], target[hours], state[hours], seen))
    return windows


def unpack(batch) -> list[tuple]:
    """Windows of a batch in the form of ``naive``, without tower and hour."""
    inputs = batch.inputs
    if inputs.patches is None:
        seen = [[None] * inputs.hourly.shape[1]] * len(inputs.hourly)
    else:
        seen = [
            [None if i < 0 else float(inputs.patches[i, 0, 0, 0]) for i in row] for row in inputs.patch_index
        ]
    state = inputs.hourly[..., :0] if inputs.state is None else inputs.state
    return list(zip(inputs.hourly.numpy(), batch.target.numpy(), state.numpy(), seen, strict=True))


def assert_same(found: list[tuple], expected: list[tuple]) -> None:
    assert len(found) == len(expected)
    for (*arrays, seen), (_, _, *naive_arrays, naive_seen) in zip(found, expected, strict=True):
        for array, naive_array in zip(arrays, naive_arrays, strict=True):
            np.testing.assert_array_equal(array, naive_array)
        assert seen == naive_seen


@contextmanager
def blocks_of(hours: int):
    """Cut blocks of another length."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows_module, "BLOCK_HOURS", hours)
        yield


SIZES = {"context": st.integers(1, 40), "block_hours": st.sampled_from([1, 2, 5, 24, 1000])}


@settings(max_examples=50)
@given(inputs=model_input() | model_input(patches=False) | model_input(state=True), **SIZES)
def test_loaded_windows_are_the_naive_ones(inputs, context, block_hours):
    expected = naive(inputs, context)
    with blocks_of(block_hours):
        windows = load_windows(inputs, context)
    if windows is None:
        assert expected == []
        return
    where = list(zip(windows.site.tolist(), windows.hour.tolist(), strict=True))
    assert where == [(site, hour) for site, hour, *_ in expected]
    assert_same(unpack(windows.batch(torch.arange(len(windows)))), expected)


def test_chosen_towers_are_loaded_and_keep_their_numbers(towers):
    inputs = model_inputs(towers.isel(site=[0, 1, 2]), ["TA"], ["B1"], target="NEE")
    every, some = load_windows(inputs, context=32), load_windows(inputs, context=32, sites=[0, 2])
    assert some.site.unique().tolist() == [0, 2]
    chosen = torch.nonzero(every.site != 1).squeeze(1)
    assert torch.equal(some.hour, every.hour[chosen])
    found, expected = some.batch(torch.arange(len(some))), every.batch(chosen)
    assert torch.equal(found.target.nan_to_num(-9), expected.target.nan_to_num(-9))


def test_windows_move_with_all_they_have(towers):
    inputs = model_inputs(towers.isel(site=[0]), ["TA"], ["B1"], state=["TA_1D"], target="NEE")
    windows = load_windows(inputs, context=32)
    moved = windows.to("meta")
    views = (moved.hourly, moved.target, moved.patch_index, moved.patches, moved.site, moved.state)
    assert {part.device.type for part in views} == {"meta"}
    assert moved.hourly.shape == windows.hourly.shape
    assert windows.hourly.device.type == "cpu"
    known = windows.hourly.untyped_storage().nbytes()
    assert known < windows.nbytes < 30 * known


@settings(max_examples=50)
@given(inputs=model_input(), seed=st.integers(0, 99), **SIZES)
def test_batch_holds_the_windows_asked_for_and_only_their_patches(inputs, seed, context, block_hours):
    with blocks_of(block_hours):
        windows = load_windows(inputs, context)
    if windows is None:
        return
    index = torch.randperm(len(windows), generator=torch.Generator().manual_seed(seed))[:5]
    batch = windows.batch(index)
    expected = naive(inputs, context)
    assert_same(unpack(batch), [expected[i] for i in index])
    assert set(range(len(batch.inputs.patches))) == set(batch.inputs.patch_index.unique().tolist()) - {-1}


@settings(max_examples=50)
@given(inputs=model_input(patches=False), **SIZES)
def test_blocks_predict_each_target_once_and_are_equally_long(inputs, context, block_hours):
    tower = LoadedTower.load(inputs, 0, context)
    if tower is None:
        return
    predicted = []
    with blocks_of(block_hours):
        cut = list(blocks(tower, context))
    for block in cut:
        assert block.hourly.shape == (block_hours + context - 1, 2)
        assert np.isfinite(block.target[context - 1 :]).any()
        predicted += [block.start + int(hour) for hour in valid_hours(block.target, context)]
    assert predicted == [hour for site, hour, *_ in naive(inputs, context) if site == 0]


def test_windows_are_views_of_the_blocks(towers):
    ds = towers.isel(site=[0, 1])
    inputs = model_inputs(ds, ["TA", "DOY"], ["B1"], state=["TA_1D"], target="NEE")
    windows = load_windows(inputs, context=32)
    held = windows.hourly.untyped_storage().nbytes() / (windows.hourly.element_size() * 2)
    assert len(windows) > 5000
    assert held < 1.3 * 2 * towers.sizes["time"]  # hours in memory, and not 32 times as many
    first, second = windows.hourly[0, :2]  # (T, V) each
    assert first.data_ptr() != second.data_ptr()
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    assert first[1:].data_ptr() == second[:-1].data_ptr()
    for view in (windows.target, windows.patch_index, windows.state):
        assert view[0, 0, 1:].data_ptr() == view[0, 1, :-1].data_ptr()


def test_batch_is_a_copy(towers):
    windows = load_windows(model_inputs(towers.isel(site=[0]), ["TA"], target="NEE"), context=4)
    batch = windows.batch(torch.arange(3))
    batch.inputs.hourly.zero_()
    batch.target.zero_()
    assert not (windows.batch(torch.arange(3)).target == 0).any()


def test_only_patches_that_windows_can_see_are_in_memory(towers):
    inputs = model_inputs(towers.isel(site=[3]), ["TA"], PATCH_BANDS, target="NEE").compute()
    inputs["target"] = inputs["target"].where(inputs["time"].dt.month == 6)
    usable = inputs["patch"].notnull().all(("band", "y", "x"))[0]
    expected = inputs["patch"][0].sel(day=usable).sel(day=slice("2010-05-31", "2010-06-30"))
    assert 0 < expected.sizes["day"] < 31
    np.testing.assert_array_equal(LoadedTower.load(inputs, 0, context=24).patches, expected)


def test_tower_is_cut_to_what_its_windows_see(towers):
    inputs = model_inputs(towers.isel(site=[0]), ["TA"], target="NEE")
    inputs["target"] = inputs["target"].where(False)
    inputs["target"] = inputs["target"].compute()
    inputs["target"][0, [100, 150]] = 1.0
    tower = LoadedTower.load(inputs, 0, context=32)
    assert tower.start == 100 - 31
    assert tower.data.sizes["time"] == 150 - 100 + 32


def test_nothing_valid_is_none(towers):
    inputs = model_inputs(towers.isel(site=[0, 1]), ["TA"], target="NEE")
    assert load_windows(inputs.isel(time=slice(10)), context=32) is None


def test_tower_without_targets_is_left_out(towers):
    inputs = model_inputs(towers.isel(site=[0, 1, 2]), ["TA"], ["B1"], target="NEE").compute()
    inputs["target"][1] = np.nan
    windows = load_windows(inputs, context=32)
    assert windows.site.unique().tolist() == [0, 2]


def test_batch_moves_with_all_it_has(towers):
    windows = load_windows(model_inputs(towers.isel(site=[0]), ["TA"], ["B1"], target="NEE"), context=32)
    moved = windows.batch(torch.arange(40)).to("meta")
    parts = (moved.inputs.hourly, moved.inputs.patches, moved.inputs.patch_index, moved.target)
    assert {part.device.type for part in parts} == {"meta"}
    bare = load_windows(model_inputs(towers.isel(site=[0]), ["TA"], target="NEE"), context=32)
    assert bare.batch(torch.arange(2)).to("meta").inputs.patches is None


def test_empty_batch_is_empty(towers):
    windows = load_windows(model_inputs(towers.isel(site=[0]), ["TA"], ["B1"], target="NEE"), context=32)
    batch = windows.batch(torch.arange(0))
    assert batch.inputs.hourly.shape == (0, 32, 1)
    assert len(batch.inputs.patches) == 0
