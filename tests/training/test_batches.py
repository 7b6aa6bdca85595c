"""Batches for training loops outside the package: each window once, lazily, few towers in memory."""

from __future__ import annotations

import pickle
import weakref

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import xcarbon
from tests.training.test_windows import SIZES, assert_same, blocks_of, model_input, naive, unpack
from xcarbon.core.errors import ModelError, OptionError, VariableError
from xcarbon.prep.inputs import model_inputs
from xcarbon.testing import raise_on_compute
from xcarbon.training import windows as windows_module
from xcarbon.training.batches import WindowBatches
from xcarbon.training.windows import load_windows, valid_hours

VARIABLES = ["DOY", "TOD", "TA"]


def keys(batches) -> list[tuple]:
    """All windows as sortable bytes of hours and targets."""
    return sorted(
        (hourly.numpy().tobytes(), target.numpy().tobytes())
        for inputs, targets in batches
        for hourly, target in zip(inputs.hourly, targets, strict=True)
    )


@settings(max_examples=50)
@given(
    inputs=model_input() | model_input(patches=False, state=True),
    batch_size=st.integers(1, 50),
    pool=st.integers(1, 4),
    **SIZES,
)
def test_windows_in_order_are_the_naive_ones(inputs, batch_size, pool, context, block_hours):
    expected = naive(inputs, context)
    batches = WindowBatches(inputs, context, batch_size=batch_size, shuffle=False, pool=pool)
    with blocks_of(block_hours):
        if not expected:
            with pytest.raises(ModelError, match="has an hour with a target"):
                list(batches)
            return
        found = list(batches)
    assert all(1 <= len(batch.target) <= batch_size for batch in found)
    assert_same([window for batch in found for window in unpack(batch)], expected)


@settings(max_examples=30)
@given(inputs=model_input(patches=False), pool=st.integers(1, 4), seed=st.integers(0, 99), **SIZES)
def test_shuffled_windows_are_the_same_in_another_order(inputs, pool, seed, context, block_hours):
    if not naive(inputs, context):
        return
    torch.manual_seed(seed)
    with blocks_of(block_hours):
        shuffled, ordered = (
            keys(WindowBatches(inputs, context, batch_size=7, shuffle=shuffle, pool=pool))
            for shuffle in (True, False)
        )
    assert shuffled == ordered


def test_windows_equal_slices_of_the_dataset(towers):
    ds = towers.isel(site=[3], time=slice(0, 2000))
    batches = ds.carbon.batches(24, variables=["TA"], shuffle=False, batch_size=100, max_qc=0)
    kept = {code: ds[code].where(~(ds[f"{code}_QC"] > 0)).values[0] for code in ("TA", "NEE")}
    lower, upper = (getattr(xcarbon.core.variables.variable("TA").bounds, end) for end in ("lower", "upper"))
    hours = [hour for hour in range(23, 2000) if np.isfinite(kept["NEE"][hour])]
    found = [window for inputs, target in batches for window in zip(inputs.hourly, target, strict=True)]
    assert len(found) == len(hours) > 100
    for (hourly, target), hour in zip(found, hours, strict=True):
        window = slice(hour - 23, hour + 1)
        expected = (kept["TA"][window] - lower) / (upper - lower) - 0.5
        np.testing.assert_allclose(hourly[:, 0], expected, atol=1e-6)
        np.testing.assert_array_equal(target, kept["NEE"][window])
    assert np.isnan([target.numpy() for _, target in found]).any()  # hours before the last one have gaps


def test_defaults_are_those_of_the_dataset(towers):
    inputs, target = next(iter(towers.isel(site=[0, 1]).carbon.batches(batch_size=300)))
    assert inputs.hourly.shape == (300, 32, 21) and inputs.hourly.dtype == torch.float32
    assert target.shape == (300, 32) and target.dtype == torch.float32
    assert torch.isfinite(target[:, -1]).all()
    assert inputs.patches.shape[1:] == (9, 8, 8) and inputs.patch_index.shape == (300, 32)
    assert inputs.state is None and inputs.statics is None
    bare = towers.isel(site=0, drop=True).carbon.batches(bands=[], state=["TA_1D"], variables=VARIABLES)
    inputs, _ = next(iter(bare))
    assert inputs.patches is None and inputs.state.shape == (256, 32, 1)


def test_nothing_is_computed_before_the_iteration_and_then_one_pool_at_a_time(towers):
    with raise_on_compute():
        batches = towers.carbon.batches(variables=VARIABLES, pool=2)
        iterator = iter(batches)
    next(iterator)
    with raise_on_compute():  # the rest of the first two towers is in memory
        next(iterator)


def test_one_pool_is_in_memory_at_a_time(towers, monkeypatch):
    alive = weakref.WeakSet()

    class Counted(windows_module.Windows):
        def __init__(self, *arguments):
            assert not alive, "the windows of the pool before are still in memory"
            super().__init__(*arguments)
            assert len(self.counts) <= 2
            alive.add(self)

    monkeypatch.setattr(windows_module, "Windows", Counted)
    for _ in towers.isel(site=slice(0, 6)).carbon.batches(variables=["TA"], pool=2, batch_size=4096):
        assert len(alive) == 1


def test_a_batch_of_a_pool_has_windows_of_several_towers(towers):
    ds = towers.isel(site=slice(0, 4)).copy()
    ds["TA"] = ds["TA"] * 0 + xr.DataArray([0.0, 1.0, 2.0, 3.0], dims="site")
    batches = ds.carbon.batches(variables=["TA"], max_qc=9, pool=4)
    assert len(next(iter(batches)).inputs.hourly[:, -1, 0].unique()) >= 4


def test_the_order_differs_between_epochs_and_is_that_of_the_seed(towers):
    batches = towers.isel(site=slice(0, 3)).carbon.batches(variables=VARIABLES, pool=3)
    torch.manual_seed(5)
    first, second = next(iter(batches)).target, next(iter(batches)).target
    torch.manual_seed(5)
    again = next(iter(batches)).target
    assert torch.equal(first.nan_to_num(), again.nan_to_num())
    assert not torch.equal(first.nan_to_num(), second.nan_to_num())


def test_each_window_is_read_by_one_worker(towers, tmp_path):
    few = towers.isel(site=slice(0, 3), time=slice(0, 3000))
    few[["TA", "TA_QC", "NEE", "NEE_QC"]].carbon.to_store(tmp_path / "towers.zarr")
    ds = xcarbon.open_store(tmp_path / "towers.zarr")
    ds["TA"].mean().compute()  # Dask has threads now, which a forked worker does not inherit
    batches = ds.carbon.batches(variables=VARIABLES, batch_size=500)
    expected = keys(batches)
    assert keys(DataLoader(batches, batch_size=None, num_workers=2)) == expected
    assert keys(pickle.loads(pickle.dumps(batches))) == expected  # as in workers that are not forked


def test_more_workers_than_towers(towers):
    batches = towers.isel(site=[0], time=slice(0, 500)).carbon.batches(variables=["TA"])
    loader = DataLoader(batches, batch_size=None, num_workers=2)
    assert keys(loader) == keys(batches)


def test_wrong_arguments_are_refused_at_once(towers):
    for wrong in ({"context": 0}, {"batch_size": 0}, {"pool": -1}):
        with pytest.raises(OptionError, match=f"{next(iter(wrong))} must be 1 or more"):
            towers.carbon.batches(**wrong)
    with pytest.raises(OptionError, match="max_qc"):
        towers.carbon.batches(max_qc=-1)
    with pytest.raises(VariableError, match="XYZ"):
        towers.carbon.batches(variables=["XYZ"])
    with pytest.raises(VariableError, match="target"):
        towers.carbon.batches(variables=["NEE"])


def test_towers_without_windows_are_passed_over_and_none_at_all_is_an_error(towers):
    ds = towers.isel(site=[0, 1]).copy()
    ds["NEE"] = ds["NEE"].where(ds["site"] == ds["site"][1])
    batches = ds.carbon.batches(variables=["TA"], pool=1, shuffle=False, bands=[])
    assert keys(batches) == keys(ds.isel(site=[1]).carbon.batches(variables=["TA"], bands=[]))
    with pytest.raises(ModelError, match=r"none of 2 towers .* at the end of 32 hours"):
        list(ds.isel(time=slice(10)).carbon.batches(variables=["TA"]))


def test_batches_of_torch_are_those_of_the_training(towers):
    inputs = model_inputs(towers.isel(site=[2]), ["DOY", "TA"], ["B1"], target="NEE").chunk()
    windows = load_windows(inputs, context=32)
    order = torch.arange(len(windows)).split(1000)
    batches = WindowBatches(inputs, 32, batch_size=1000, shuffle=False, pool=1)
    for index, batch in zip(order, batches, strict=True):
        held = windows.batch(index)
        for name in ("hourly", "patches", "patch_index"):
            one, other = (getattr(each.inputs, name) for each in (batch, held))
            assert torch.equal(one.nan_to_num(-9), other.nan_to_num(-9))
        assert torch.equal(batch.target.nan_to_num(-9), held.target.nan_to_num(-9))


def test_real_towers_give_all_their_hours(real_towers):
    ds = real_towers.isel(site=[0, 60])
    inputs = model_inputs(ds, ["DOY", "TOD", "TA", "SW_IN", "VPD"], target="NEE")
    known = np.isfinite(inputs["target"].values)
    count = sum(len(valid_hours(tower, 32)) for tower in inputs["target"].values)
    assert 0.9 * known.sum() < count <= known.sum()
    batches = WindowBatches(inputs, 32, batch_size=4096, shuffle=True, pool=8)
    assert sum(len(batch.target) for batch in batches) == count
