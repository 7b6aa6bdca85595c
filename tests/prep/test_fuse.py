"""Fusion selects the best value of several records of a variable in each hour."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xcarbon.core.conventions import MISSING_FLAG
from xcarbon.prep.fuse import Option, fuse, place


@st.composite
def options(draw, least=1, most=5):
    """Generate records of the same hours without common values."""
    shape = st.tuples(st.integers(least, most), st.integers(1, 12))
    flags = draw(hnp.arrays("int8", shape, elements=st.integers(-1, 3)))
    values = np.arange(flags.size, dtype="float32").reshape(flags.shape)
    values[flags < 0] = np.nan
    return [Option(*record) for record in zip(values, flags, strict=True)]


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_lower_flag_wins_ties_go_to_the_first_and_missing_never_wins():
    nan = np.nan
    first = Option(np.array([1, 1, 1, nan, nan], "float32"), np.array([0, 1, 3, -1, -1], "int8"))
    second = Option(np.array([2, 2, 2, 2, nan], "float32"), np.array([0, 0, 2, 3, -1], "int8"))
    fused = fuse([first, second])
    np.testing.assert_array_equal(fused.values, [1, 2, 2, 2, nan])
    np.testing.assert_array_equal(fused.flags, [0, 0, 2, 3, -1])
    np.testing.assert_array_equal(fused.origin, [0, 1, 1, 1, -1])


@given(options())
def test_flag_is_the_lowest_of_those_with_a_value(records):
    flags = np.stack([record.flags for record in records]).astype(int)
    lowest = np.where(flags < 0, 99, flags).min(axis=0)
    np.testing.assert_array_equal(fuse(records).flags, np.where(lowest == 99, -1, lowest))


@given(options())
def test_value_and_flag_are_those_of_the_record_in_origin(records):
    fused = fuse(records)
    for hour, origin in enumerate(fused.origin):
        if origin < 0:
            assert all(np.isnan(record.values[hour]) for record in records)
            assert np.isnan(fused.values[hour]) and fused.flags[hour] == MISSING_FLAG
        else:
            assert fused.values[hour] == records[origin].values[hour]
            assert fused.flags[hour] == records[origin].flags[hour]
            assert all(record.flags[hour] != fused.flags[hour] for record in records[:origin])


@given(options(least=2), st.randoms())
def test_order_matters_for_ties_alone(records, random):
    shuffled = random.sample(records, len(records))
    one, other = fuse(records), fuse(shuffled)
    np.testing.assert_array_equal(one.flags, other.flags)
    tied = np.sum([record.flags == one.flags for record in records], axis=0) > 1
    np.testing.assert_array_equal(one.values[~tied], other.values[~tied])


@given(options(least=2), st.data())
def test_two_steps_equal_one(records, data):
    cut = data.draw(st.integers(1, len(records) - 1))
    at_once = fuse(records)
    parts = [fuse(records[:cut]), fuse(records[cut:])]
    in_steps = fuse([Option(part.values, part.flags) for part in parts])
    assert_equal(in_steps[:2], at_once[:2])
    shifted = np.where(parts[1].origin < 0, -1, parts[1].origin + cut)
    origin = np.choose(np.maximum(in_steps.origin, 0), [parts[0].origin, shifted])
    np.testing.assert_array_equal(np.where(in_steps.origin < 0, -1, origin), at_once.origin)


@given(options(most=1))
def test_a_single_record_is_not_changed(records):
    assert_equal(fuse(records)[:2], records[0])


@given(options())
def test_types_are_kept_and_nothing_is_changed_in_place(records):
    before = [Option(record.values.copy(), record.flags.copy()) for record in records]
    fused = fuse(records)
    assert [array.dtype for array in fused] == ["float32", "int8", "int8"]
    for record, was in zip(records, before, strict=True):
        assert_equal(record, was)
        assert not np.shares_memory(fused.values, record.values)


@pytest.mark.parametrize(("missing", "dtype"), [(np.float32(np.nan), "float32"), (MISSING_FLAG, "int8")])
@pytest.mark.parametrize(("before", "total"), [(0, 3), (0, 5), (2, 5), (1, 6)])
def test_place_copies_a_record_to_a_longer_axis(missing, dtype, before, total):
    placed = place(np.array([1, 2, 3], dtype), before, total, missing)
    assert placed.dtype == dtype
    after = total - before - 3
    np.testing.assert_array_equal(placed, [*[missing] * before, 1, 2, 3, *[missing] * after])
