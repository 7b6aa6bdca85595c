"""Hourly values are interpolated, or those of the latest composite that has ended."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from tests.prep.satellite.samples import make
from xcarbon.core.errors import MetadataError, VariableError
from xcarbon.core.variables import SATELLITE
from xcarbon.io.satellite import open_satellite
from xcarbon.prep.satellite import hourly, to_hours
from xcarbon.prep.satellite.hours import MAX_GAP
from xcarbon.testing import raise_on_compute, synthetic_towers

HOURS = np.arange("2009-12-20", "2010-12-20", dtype="datetime64[h]").astype("datetime64[ns]")


def brute_force(values, day, length, hour):
    """Value of the latest composite that had ended, by the definition."""
    best = None
    for value, centre, days in zip(values, day, length, strict=True):
        end = np.ceil((centre + days * 12) / 24) * 24
        if np.isfinite(value) and end <= hour and (best is None or end >= best[0]):
            best = end, value, days
    return best[1] if best and hour - best[0] <= MAX_GAP * 24 * best[2] else np.nan


@st.composite
def composites(draw):
    count = draw(st.integers(1, 15))
    steps = draw(st.lists(st.integers(1, 60), min_size=count, max_size=count))
    day = np.cumsum(steps).astype(float) * 24
    values = np.array(
        draw(st.lists(st.one_of(st.just(np.nan), st.floats(-5, 5)), min_size=count, max_size=count))
    )
    length = np.array(
        draw(st.lists(st.sampled_from([1.0, 4.0, 7.0, 8.0, 16.0, 31.0]), min_size=count, max_size=count))
    )
    return values, length, day


@given(composites())
def test_causal_values_are_those_of_the_latest_composite_that_had_ended(drawn):
    values, length, day = drawn
    hours = np.arange(0, day[-1] + 24 * 200, 24 * 3 + 5)
    found = to_hours(values, length, hours, day, causal=True)
    expected = [brute_force(values, day, length, hour) for hour in hours]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


@given(composites(), st.integers(0, 14))
def test_causal_values_do_not_depend_on_composites_that_had_not_ended(drawn, number):
    values, length, day = drawn
    number = min(number, len(values) - 1)
    hours = np.arange(0.0, day[-1] + 24 * 40, 24)
    changed = values.copy()
    changed[number] = 99.0
    before = hours < day[number] + length[number] * 12
    found, other = (to_hours(of, length, hours, day, causal=True) for of in (values, changed))
    np.testing.assert_array_equal(found[before], other[before])


@given(composites())
def test_interpolation_hits_the_values_at_the_centres(drawn):
    values, length, day = drawn
    np.testing.assert_array_equal(
        to_hours(values, length, day, day)[np.isfinite(values)],
        values[np.isfinite(values)].astype(np.float32),
    )


@given(composites())
def test_interpolation_stays_between_neighbours_and_leaves_long_gaps(drawn):
    values, length, day = drawn
    there = np.isfinite(values)
    hours = np.arange(0.0, day[-1] + 24 * 40, 6)
    found = to_hours(values, length, hours, day)
    if not there.any():
        assert np.isnan(found).all()
        return
    before = (day[there] <= hours[:, None]).sum(axis=1)  # number of composites, 0 before the first
    neighbours = np.stack([before, before + 1])
    day, values, length = (
        np.concatenate([[np.nan], each[there], [np.nan]])[neighbours] for each in (day, values, length)
    )
    is_near = (abs(day - hours) <= 12 * length).any(axis=0)
    is_between = day[1] - day[0] <= MAX_GAP * 24 * length.max(axis=0)  # with a neighbour on each side
    is_known = np.isfinite(found)
    np.testing.assert_array_equal(is_known, is_near | is_between)
    found, values = found[is_known], values[:, is_known]
    assert (np.nanmin(values, axis=0) - 1e-5 <= found).all()
    assert (found <= np.nanmax(values, axis=0) + 1e-5).all()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("chunks", [{"site": 1, "day": 7}, {"site": 2, "day": -1}, {"site": 1, "day": 366}])
def test_chunks_do_not_matter_and_nothing_computes(causal, chunks):
    series = make()
    series["LAI_DAYS"] = series["LAI"].copy(data=np.where(np.arange(40) < 20, 8, 16) + np.zeros((2, 1)))
    expected = hourly(series, HOURS, causal=causal).compute()
    with raise_on_compute():
        found = hourly(series.chunk(chunks), HOURS, causal=causal)
    xr.testing.assert_identical(found.compute(), expected)
    assert found["LAI"].dims == ("site", "time") and found["LAI"].dtype == np.float32
    assert 0 < float(expected["LAI"].notnull().mean()) < 1


def test_time_may_be_a_coordinate():
    towers = synthetic_towers(2, years=2, patches=False, variables=["TA"])
    series = make([str(site) for site in towers["site"].values])
    found = hourly(towers.carbon.join_satellite(series), towers["time"])
    assert found["time"].attrs == towers["time"].attrs
    np.testing.assert_array_equal(found["lat"], towers["lat"])


def test_the_rule_and_the_flags_are_stated_and_used():
    series = make(comment="an index")
    past, whole = (hourly(series, HOURS, causal=causal)["LAI"] for causal in (True, False))
    assert past.attrs["comment"].startswith(
        "an index; hourly values: value of the latest composite that had ended"
    )
    assert "linear interpolation" in whole.attrs["comment"]
    without = series.assign(LAI=series["LAI"].where(series["LAI_QC"] < 2))
    xr.testing.assert_equal(past, hourly(without, HOURS, causal=True)["LAI"])
    assert not whole.equals(hourly(without, HOURS)["LAI"])
    xr.testing.assert_equal(hourly(series, HOURS, max_qc=1)["LAI"], hourly(without, HOURS)["LAI"])


def test_unsorted_days_are_sorted():
    series = make()
    xr.testing.assert_equal(hourly(series.isel(day=slice(None, None, -1)), HOURS), hourly(series, HOURS))


def test_errors_of_hourly():
    with pytest.raises(VariableError, match="EVI"):
        hourly(make(), HOURS, ["EVI"])
    series = make()
    del series["LAI"].attrs["composite_days"]
    with pytest.raises(MetadataError, match="LAI needs the length of its composites"):
        hourly(series, HOURS)


def test_real_series_at_the_hours_of_real_towers(real_data, real_towers):
    series = open_satellite(real_data / "satellite" / "*.nc")
    with raise_on_compute():
        joined = real_towers.carbon.join_satellite(series)
        found = hourly(joined, joined["time"])
    tharandt = found.sel(site="DE-Tha", time="2010").compute()
    assert set(tharandt.data_vars) == set(SATELLITE)
    assert all(float(array.notnull().mean()) == 1 for array in tharandt.values())
    week = series["FAPAR"].sel(site="DE-Tha", day="2010-07-05")
    assert float(tharandt["FAPAR"].sel(time="2010-07-05T00")) == float(week)
    warm = tharandt["LST_DAY"].groupby("time.month").mean()
    assert float(warm.sel(month=7)) > float(warm.sel(month=1)) + 15


def test_a_chunk_is_one_task(real_towers):
    series = make([str(site) for site in real_towers["site"].values[:2]])
    found = hourly(series.chunk({"site": 1, "day": -1}), real_towers["time"])
    (optimised,) = dask.optimize(found["LAI"])
    blocks = np.prod([len(sizes) for sizes in found["LAI"].chunks])
    assert len(optimised.__dask_graph__()) <= 3 * blocks + 4


@given(composites(), st.randoms(use_true_random=False), st.booleans())
def test_order_and_division_of_the_hours_do_not_matter(drawn, random, causal):
    values, length, day = drawn
    hours = np.arange(0.0, day[-1] + 24 * 100, 17)
    expected = to_hours(values, length, hours, day, causal)
    order = list(range(len(hours)))
    random.shuffle(order)
    np.testing.assert_array_equal(to_hours(values, length, hours[order], day, causal), expected[order])
    cut = random.randrange(len(hours))
    parts = [to_hours(values, length, part, day, causal) for part in (hours[:cut], hours[cut:])]
    np.testing.assert_array_equal(np.concatenate(parts), expected)
