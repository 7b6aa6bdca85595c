"""Means of the past use no later hour, are the same under any chunking, and go on from a state."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xcarbon.core.errors import MetadataError, TimestampError, VariableError
from xcarbon.prep.memory import MIN_CLIMATE_HOURS, TIME_CONSTANTS, MemoryState, memory, update
from xcarbon.testing import raise_on_compute, synthetic_towers

HOURS = 500


def series(seed: int = 0, hours: int = HOURS) -> np.ndarray:
    """Two series with gaps, ``(2, hours)``."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(2, hours))
    return np.where(generator.random(values.shape) < 0.2, np.nan, values)


@pytest.fixture(scope="module")
def two() -> xr.Dataset:
    return synthetic_towers(2, years=2, patches=False, variables=["TA", "VPD"], seed=5).load()


def test_it_is_the_weighted_mean_of_the_definition():
    values = series()
    _, means = update(MemoryState.empty((2,)), values)
    age = np.arange(HOURS)[::-1]
    for number, days in enumerate(TIME_CONSTANTS[:4]):
        weights = np.exp(-age / (24 * days)) * np.isfinite(values)
        if (weights.sum(1) * (1 - np.exp(-1 / (24 * days))) > 0.3).all():
            expected = np.nansum(values * weights, 1) / weights.sum(1)
            np.testing.assert_allclose(means[:, -1, number], expected, rtol=1e-5)
        else:
            assert np.isnan(means[:, -1, number]).all()


@settings(max_examples=40)
@given(cuts=st.lists(st.integers(0, HOURS), max_size=6), seed=st.integers(0, 5))
def test_any_division_of_the_hours_gives_the_same_bits(cuts, seed):
    values, state, parts = series(seed), MemoryState.empty((2,)), []
    end, whole = update(MemoryState.empty((2,)), values)
    for part in np.split(values, sorted(cuts), axis=-1):
        state, means = update(state, part)
        parts.append(means)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    np.testing.assert_array_equal(state.total, end.total)
    np.testing.assert_array_equal(state.weight, end.weight)


def test_hour_by_hour_is_the_batch():
    values, state = series(hours=60), MemoryState.empty((2,))
    _, whole = update(state, values)
    for hour in range(60):
        state, means = update(state, values[:, hour : hour + 1])
        np.testing.assert_array_equal(means[:, 0], whole[:, hour])


def test_later_hours_have_no_influence():
    values = series()
    changed = values.copy()
    changed[:, 300:] = 1e6
    one, other = (update(MemoryState.empty((2,)), data)[1] for data in (values, changed))
    np.testing.assert_array_equal(one[:, :300], other[:, :300])
    assert not np.array_equal(one[:, 300:], other[:, 300:], equal_nan=True)


def test_means_are_missing_until_enough_was_measured_and_after_long_gaps():
    values = np.concatenate([np.ones(9000), np.full(9000, np.nan)])
    _, means = update(MemoryState.empty(()), values)
    first = np.isfinite(means).argmax(axis=0)
    expected = [-np.log(0.7) * 24 * days for days in TIME_CONSTANTS[:-1]]
    assert np.abs(first[:-1] - expected).max() <= 1
    assert first[-1] == MIN_CLIMATE_HOURS
    assert np.isfinite(means[9000 + 20]).all()
    assert np.isnan(means[-1]).tolist() == [True, True, True, True, True, False]
    np.testing.assert_allclose(means[np.isfinite(means)], 1, rtol=1e-6)


@pytest.mark.parametrize("chunks", [{}, {"time": 1000}, {"time": (1, 8000, 9519)}, {"site": 1, "time": 777}])
def test_chunks_of_a_dataset_do_not_change_the_result(two, chunks):
    whole = memory(two, ["TA", "VPD"]).compute()
    xr.testing.assert_identical(memory(two.chunk(chunks), ["TA", "VPD"]).compute(), whole)


def test_it_is_lazy_and_labelled(two):
    with raise_on_compute():
        lazy = memory(two.chunk(site=1, time=2000), ["TA"])
    assert lazy["TA_MEMORY"].dims == ("site", "time", "time_constant")
    assert lazy["TA_MEMORY"].dtype == np.float32
    assert lazy["TA_MEMORY"].attrs["units"] == "degC"
    assert lazy["time_constant"].values.tolist() == list(TIME_CONSTANTS)


def test_grids_and_single_towers(two):
    tower = two.isel(site=0)
    one = memory(tower, ["TA"])["TA_MEMORY"].compute()
    np.testing.assert_array_equal(one, memory(two, ["TA"])["TA_MEMORY"].isel(site=0))
    cells = tower[["TA"]].drop_vars(["lat", "lon"]).expand_dims(lat=[50.0, 51.0], lon=[10.0, 11.0, 12.0])
    cells = cells.transpose("time", "lat", "lon").chunk(time=3000, lat=1)
    grid = memory(cells, ["TA"])["TA_MEMORY"]
    assert grid.dims == ("time", "lat", "lon", "time_constant")
    np.testing.assert_array_equal(grid.isel(lat=1, lon=2).compute(), one)


@pytest.mark.parametrize("gap", [0, 30])
def test_history_continues_the_past(two, gap):
    cut = 9000
    whole = two.copy(deep=True)
    whole["TA"][:, cut - gap : cut] = np.nan
    expected = memory(whole, ["TA"])["TA_MEMORY"].isel(time=slice(cut, None)).compute()
    now, before = two.isel(time=slice(cut, None)), two.isel(time=slice(0, cut - gap))
    np.testing.assert_array_equal(memory(now, ["TA"], history=before)["TA_MEMORY"], expected)
    assert np.isnan(memory(now, ["TA"])["TA_MEMORY"].isel(time=0, time_constant=4)).all()


def test_what_does_not_fit_is_an_error(two):
    with pytest.raises(TimestampError, match="the history must end before the Dataset begins"):
        memory(two, ["TA"], history=two)
    with pytest.raises(VariableError, match=r"memory needs \['WTD'\]"):
        memory(two, ["WTD"])
    with pytest.raises(MetadataError, match="TA has units 'K'"):
        memory(two.assign(TA=two["TA"].assign_attrs(units="K")), ["TA"])


def test_implausible_values_are_no_part_of_the_past(two):
    wrong = two.copy(deep=True)
    wrong["TA"][:, 100:110] = 9999
    missing = two.copy(deep=True)
    missing["TA"][:, 100:110] = np.nan
    xr.testing.assert_identical(memory(wrong, ["TA"]).compute(), memory(missing, ["TA"]).compute())
