"""Windows are aligned to years, and hours between windows are weighted by distance."""

from __future__ import annotations

import numpy as np

from xcarbon.budget.partitioning.windows import DAY, neighbours, samples, window_starts, within_year

TIME = np.arange("2011-03-01", "2012-02-01", dtype="datetime64[h]")


def test_windows_begin_anew_each_year():
    starts = window_starts(TIME, 4)
    assert starts[0] == np.datetime64("2011-02-26") and np.datetime64("2012-01-01") in starts
    for year in ("2011", "2012"):
        day = (starts[starts.astype("datetime64[Y]") == np.datetime64(year)] - np.datetime64(year)) / DAY
        assert (day % 4 == 0).all()


def test_samples_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    chosen = rng.random(TIME.size) < 0.02
    starts = window_starts(TIME, 4)
    found = samples(chosen, TIME, starts, starts + 8 * DAY)
    for window, start in enumerate(starts):
        expected = np.flatnonzero(chosen & (TIME - start >= 0 * DAY) & (TIME - start < 8 * DAY))
        np.testing.assert_array_equal(found.position[window][found.there[window]], expected)
        assert found.number[window] == expected.size


def test_no_samples_at_all():
    starts = window_starts(TIME, 4)
    found = samples(np.zeros(TIME.size, bool), TIME, starts, starts + 8 * DAY)
    assert not found.there.any() and not found.number.any()


def test_neighbours_are_interpolated_and_kept_beyond_the_ends():
    position = np.array([np.nan, 10.0, 2.0, 10.0])
    start = np.full(4, np.datetime64("2011-03-01"))
    time = start[0] + np.array([0, 2, 4, 10, 13]) * DAY
    near = neighbours(position, start, time)
    value = np.array([np.nan, 5.0, 1.0, 5.0])
    mixed = value[near.before] * (1 - near.weight) + value[near.after] * near.weight
    np.testing.assert_allclose(mixed, [1, 1, 2, 5, 5])
    np.testing.assert_allclose(near.distance, [2, 0, 2, 0, 3])
    assert neighbours(np.full(4, np.nan), start, time) is None


def test_windows_of_another_year_have_no_weight():
    start = np.array(["2010-12-01", "2011-02-01"], "datetime64[D]")
    time = np.array(["2010-12-01", "2010-12-31", "2011-01-01", "2011-03-01", "2012-01-01"], "datetime64[D]")
    near = neighbours((start - time[0]) / DAY, start, time)
    used = np.where(near.weight == 1, near.after, near.before)
    np.testing.assert_array_equal(used, [0, 0, 1, 1, 1])
    np.testing.assert_allclose(near.distance, [0, 30, 31, 28, 334])
    cut = within_year(start, start - 40 * DAY, start + 40 * DAY)
    np.testing.assert_array_equal(cut[0], np.array(["2010-10-22", "2011-01-01"], "datetime64[D]"))
    np.testing.assert_array_equal(cut[1], np.array(["2011-01-01", "2011-03-13"], "datetime64[D]"))
