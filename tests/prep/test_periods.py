"""Tests of the kernels over periods against pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xcarbon.prep.periods import day_of_year, departures, period_means, periods

STAMPS = st.lists(st.integers(0, 60 * 8766), min_size=1, max_size=30).map(
    lambda hours: np.datetime64("1969-12-20T00", "ns") + np.array(hours) * np.timedelta64(1, "h")
)


@pytest.mark.parametrize(("unit", "frequency"), [("D", "D"), ("W", "W-SUN"), ("M", "M"), ("Y", "Y")])
@given(stamps=STAMPS)
def test_periods_are_those_of_pandas(unit, frequency, stamps):
    found = periods(stamps, unit)
    expected = pd.DatetimeIndex(stamps).to_period(frequency)
    starts = found.start[found.number]
    assert (starts == expected.start_time.values).all()
    length = (expected.end_time.ceil("h") - expected.start_time) / pd.Timedelta(1, "h")
    assert (found.hours[found.number] == length).all()
    assert (np.diff(found.start).astype(int) * 24 == found.hours[:-1]).all()
    assert (day_of_year(periods(stamps, "D").start)[periods(stamps, "D").number] + 1).tolist() == (
        pd.DatetimeIndex(stamps).day_of_year.tolist()
    )


@given(
    values=st.lists(st.sampled_from([np.nan, -1.0, 0.0, 2.5, 1e6]), min_size=1, max_size=20),
    min_count=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_means_are_those_of_pandas(values, min_count, seed):
    index = np.random.default_rng(seed).integers(0, 4, len(values))
    pairs = np.stack([values, np.roll(values, 1)])
    found = period_means(pairs, index, min_count)
    table = pd.DataFrame(pairs.T, columns=["y", "x"]).assign(index=index).dropna()
    groups = table.groupby("index")
    expected = groups.mean()[groups.size() >= min_count].reindex(range(found.shape[1]))
    np.testing.assert_allclose(found, expected.to_numpy().T)


def test_periods_may_need_different_numbers_of_values():
    values, index = np.array([[1.0, 2.0, 3.0, 4.0]]), np.array([0, 0, 1, 1])
    assert np.isnan(period_means(values, index, np.array([2, 3]))).tolist() == [[False, True]]


def test_departures_are_from_the_mean_of_the_others_too():
    values, index = np.array([[1.0, 3.0, 7.0, np.nan]]), np.array([0, 0, 1, 1])
    np.testing.assert_array_equal(departures(values, index), [[-1, 1, np.nan, np.nan]])
    np.testing.assert_array_equal(departures(values, index, min_count=1), [[-1, 1, 0, np.nan]])


def test_departures_leave_no_rounding_error_and_no_infinity_out():
    values, index = np.array([[0.1, 0.1, 0.1, np.inf, 1.0]]), np.array([0, 0, 0, 1, 1])
    np.testing.assert_array_equal(departures(values / 3, index), [[0, 0, 0, np.inf, -np.inf]])
