"""Half-hours are combined to clock hours."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xcarbon.prep.clock import equal_halves, hours_touched, to_halves, to_hours

SHAPES = hnp.array_shapes(min_dims=1, max_dims=2, min_side=1, max_side=9)
GAPPY = hnp.arrays("float32", SHAPES, elements=st.sampled_from([*range(-40, 41), math.nan]))
FLAGS = hnp.arrays("int8", SHAPES, elements=st.integers(-1, 3))
DIRECTIONS = hnp.arrays(
    "float32", SHAPES, elements=st.one_of(st.integers(0, 360).map(float), st.just(math.nan))
)


def naive(values, how, half_past, missing):
    """Combine half-hours one by one."""
    hours = [[] for _ in range(hours_touched(len(values), half_past=half_past))]
    for place, value in enumerate(values, start=int(half_past)):
        hours[place // 2].append(value)
    whole = [len(halves) == 2 and not any(missing(half) for half in halves) for halves in hours]
    return [how(*halves) if fine else None for halves, fine in zip(hours, whole, strict=True)]


def vector_mean(first, second):
    """Average two directions by their unit vectors; None where these cancel."""
    total = sum(np.exp(1j * math.radians(angle)) for angle in (first, second))
    return math.degrees(np.angle(total)) % 360 if abs(total) > 1e-4 else None


def rows_of(values, half_past, how):
    """Return each row of half-hours with its hours."""
    hours = to_hours(values, how, half_past=half_past)
    assert hours.dtype == values.dtype
    assert hours.shape == (*values.shape[:-1], hours_touched(values.shape[-1], half_past=half_past))
    return zip(np.atleast_2d(values), np.atleast_2d(hours), strict=True)


@given(GAPPY, st.booleans(), st.sampled_from(["mean", "sum"]))
def test_mean_and_sum_agree_with_a_loop(values, half_past, how):
    combine = {"mean": lambda a, b: (a + b) / 2, "sum": lambda a, b: a + b}[how]
    for halves, hours in rows_of(values, half_past, how):
        expected = naive(halves, combine, half_past, math.isnan)
        np.testing.assert_array_equal(hours, [math.nan if x is None else x for x in expected])


@given(FLAGS, st.booleans())
def test_worst_agrees_with_a_loop(values, half_past):
    for halves, hours in rows_of(values, half_past, "worst"):
        expected = naive(halves, max, half_past, lambda flag: flag == -1)
        np.testing.assert_array_equal(hours, [-1 if flag is None else flag for flag in expected])


@given(DIRECTIONS, st.booleans())
def test_direction_is_that_of_the_summed_vectors(values, half_past):
    for halves, hours in rows_of(values, half_past, "direction"):
        assert not np.any(hours >= 360) and not np.any(hours < 0)
        expected = naive(halves.astype(float), vector_mean, half_past, math.isnan)
        for found, wanted in zip(hours, expected, strict=True):
            if wanted is None:
                assert math.isnan(found)
            else:
                assert abs((found - wanted + 180) % 360 - 180) < 1e-3


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(350, 10, 0), (10, 350, 0), (359, 359, 359), (0, 360, 0), (90, 180, 135), (0, 180, np.nan)],
)
def test_direction_goes_the_short_way_round(first, second, expected):
    found = to_hours(np.array([first, second], "float32"), "direction")
    np.testing.assert_array_equal(found, np.array([expected], "float32"))


@given(hnp.arrays("float32", st.integers(0, 20), elements=st.sampled_from([1, 2, math.nan])), st.booleans())
def test_share_of_equal_halves_agrees_with_a_loop(values, half_past):
    pairs = naive(values, lambda a, b: a == b, half_past, math.isnan)
    both = [equal for equal in pairs if equal is not None]
    expected = sum(both) / len(both) if both else math.nan
    np.testing.assert_allclose(equal_halves(values, half_past=half_past), expected)


@pytest.mark.parametrize(
    ("values", "half_past", "share"),
    [
        ([1, 1, 2, 2], False, 1),
        ([1, 1, 2, 2], True, 0),
        ([1, 1, 2, math.nan], False, 1),
        ([1, math.nan, math.nan, 1], False, math.nan),
        ([], False, math.nan),
    ],
)
def test_halves_are_those_of_clock_hours(values, half_past, share):
    found = equal_halves(np.array(values, "float32"), half_past=half_past)
    assert found == share or (math.isnan(found) and math.isnan(share))


def test_error_of_an_hour_is_smaller_than_those_of_its_halves():
    halves = np.array([3, 4, 1, np.nan], "float32")
    np.testing.assert_array_equal(to_hours(halves, "error"), np.array([2.5, np.nan], "float32"))


@given(st.integers(0, 9), st.booleans(), st.booleans(), st.integers(0, 99))
def test_halves_of_an_hour_have_its_mean(hours, half_past, sloping, seed):
    values = np.random.default_rng(seed).normal(size=hours)
    values[values > 1] = np.nan
    size = max(0, 2 * hours - half_past)
    halves = to_halves(values, size, half_past=half_past, sloping=sloping)
    assert halves.shape == (size,)
    if size:
        means = to_hours(halves, "mean", half_past=half_past)
        first = int(half_past)  # its first half is not there
        np.testing.assert_allclose(means[first:], values[first:])
