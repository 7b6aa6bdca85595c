"""Of several records of a variable the best value counts, hour by hour."""

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
    """Some records of the same hours, of which no two share a value."""
    shape = st.tuples(st.integers(least, most), st.integers(1, 12))
    codes = draw(hnp.arrays("int8", shape, elements=st.integers(-1, 3)))
    values = np.arange(codes.size, dtype="float32").reshape(codes.shape)
    values[codes < 0] = np.nan
    return [Option(*record) for record in zip(values, codes, strict=True)]


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_lower_code_wins_ties_go_to_the_first_and_missing_never_wins():
    nan = np.nan
    first = Option(np.array([1, 1, 1, nan, nan], "float32"), np.array([0, 1, 3, -1, -1], "int8"))
    second = Option(np.array([2, 2, 2, 2, nan], "float32"), np.array([0, 0, 2, 3, -1], "int8"))
    fused = fuse([first, second])
    np.testing.assert_array_equal(fused.values, [1, 2, 2, 2, nan])
    np.testing.assert_array_equal(fused.flags, [0, 0, 2, 3, -1])
    np.testing.assert_array_equal(fused.origin, [0, 1, 1, 1, -1])


@given(options())
def test_code_is_the_lowest_of_those_that_have_a_value(records):
    codes = np.stack([record.flags for record in records]).astype(int)
    lowest = np.where(codes < 0, 99, codes).min(axis=0)
    np.testing.assert_array_equal(fuse(records).flags, np.where(lowest == 99, -1, lowest))


@given(options())
def test_value_and_code_are_those_of_the_record_that_is_named(records):
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
def test_place_sets_a_record_into_a_longer_axis(missing, dtype, before, total):
    placed = place(np.array([1, 2, 3], dtype), before, total, missing)
    assert placed.dtype == dtype
    after = total - before - 3
    np.testing.assert_array_equal(placed, [*[missing] * before, 1, 2, 3, *[missing] * after])
