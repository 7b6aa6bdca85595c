"""Tests of the lengths, positions and reproducibility of artificial gaps."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from tests.budget.samples import towers
from xcarbon.budget import artificial_gaps
from xcarbon.budget.gaps import KINDS, gap_length, plant
from xcarbon.core.errors import OptionError, VariableError
from xcarbon.testing import raise_on_compute


def runs(mask: np.ndarray) -> np.ndarray:
    """Return the lengths of the runs of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask, [0]])))
    return edges[1::2] - edges[::2]


@given(st.sampled_from(list(KINDS)), st.integers(0, 99), st.floats(0.02, 0.5), st.floats(0, 1))
def test_gaps_have_their_length_and_hide_their_share(kind, seed, share, density):
    rng = np.random.default_rng(seed)
    measured = rng.random(4000) < density
    hidden = plant(measured, kind, share, seed)
    assert not (hidden & ~measured).any()
    shortest, longest = KINDS[kind]
    assert hidden.sum() <= np.ceil(share * measured.sum()) + longest
    if density == 1:
        lengths = runs(hidden)
        assert lengths.min() >= shortest and lengths.max() <= longest
    if kind == "short" and share < 0.3:
        assert hidden.sum() >= share * measured.sum()


def test_gaps_are_the_same_again_and_others_with_another_seed():
    measured = np.random.default_rng(0).random(3000) < 0.6
    first = plant(measured, "day", 0.2, 1)
    np.testing.assert_array_equal(first, plant(measured, "day", 0.2, 1))
    assert (first != plant(measured, "day", 0.2, 2)).any()


def test_a_record_shorter_than_the_gap_has_none():
    assert not plant(np.ones(100, bool), "month", 0.1, 0).any()
    assert not plant(np.zeros(1000, bool), "short", 0.1, 0).any()


def test_towers_are_planted_lazily_each_by_itself():
    ds = towers(3)
    with raise_on_compute():
        hidden = artificial_gaps(ds, "day", share=0.2)
    assert hidden.chunks and hidden.dtype == bool and hidden.dims == ("site", "time")
    measured = ds["NEE"].where(ds["NEE_QC"] == 0).notnull()
    assert not (hidden & ~measured).any()
    np.testing.assert_allclose(hidden.sum("time") / measured.sum("time"), 0.2, atol=0.02)
    alone = artificial_gaps(ds.isel(site=2).load(), "day", share=0.2)
    xr.testing.assert_equal(hidden.isel(site=2).compute(), alone)


def test_what_cannot_be_planted_is_said():
    ds = towers(1)
    with pytest.raises(OptionError, match=r"kind must be one of \['short'.*found 'year'"):
        artificial_gaps(ds, "year")
    with pytest.raises(OptionError, match=r"between 0 and 1, found 10"):
        artificial_gaps(ds, "day", share=10)
    with pytest.raises(VariableError, match="artificial gaps needs"):
        artificial_gaps(ds, "day", target="FCH4")


def test_length_of_gaps():
    known = np.array([0, 0, 1, 0, 0, 0, 1, 0], bool)
    np.testing.assert_array_equal(gap_length(known), [2, 2, 0, 3, 3, 3, 0, 1])
