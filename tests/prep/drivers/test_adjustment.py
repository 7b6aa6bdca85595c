"""Reanalysis is adjusted by the rules of the literature."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xcarbon.core.variables import VARIABLES
from xcarbon.prep.drivers.adjustment import RULES, adjust_tower, fit_adjustment, shift_hours


@settings(max_examples=30)
@given(st.floats(0.2, 5), st.floats(-20, 20), st.sampled_from(sorted(RULES)), st.integers(0, 2**32 - 1))
def test_linear_reanalysis_is_recovered_exactly(slope, intercept, code, seed):
    rng = np.random.default_rng(seed)
    limits = VARIABLES[code].limits
    values = rng.uniform(limits.lower, limits.upper, 500)
    exact = intercept if RULES[code] == "line" else 0.0
    measured = np.where(rng.random(500) < 0.3, np.nan, values)
    cells = ((values - exact) / slope)[:, None, None]
    settings = {"code": code, "min_hours": 100}
    adjusted, parameters = adjust_tower(
        measured, np.isnan(measured), cells, np.array([0]), 0, "XX-Abc", **settings
    )
    span = limits.upper - limits.lower
    np.testing.assert_allclose(adjusted, values, atol=1e-6 * span)
    np.testing.assert_allclose(parameters[:2], [slope, exact], rtol=1e-4, atol=1e-4 * span)
    assert parameters[2] < 1e-6 * span
    assert parameters[3] == np.isfinite(measured).sum()


def test_rules_are_those_of_the_literature():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 10, 200)
    y = 2 * x + 3 + rng.normal(size=200)
    slope, intercept = np.polyfit(x, y, 1)
    assert fit_adjustment(y, x, "line") == pytest.approx((slope, intercept))
    origin = np.linalg.lstsq(x[:, None], y, rcond=None)[0][0]
    assert fit_adjustment(y, x, "proportional") == pytest.approx((origin, 0))
    assert fit_adjustment(y, x, "total") == pytest.approx((y.sum() / x.sum(), 0))


@given(st.integers(-100_000, 100_000), st.integers(1, 40))
def test_hours_are_averages_over_their_overlap(start, size):
    """The mean over an hour of a linear function of time is its value half an hour after the start."""
    hours = shift_hours(np.arange(24.0) + 0.5, start, size)
    begin = start / 3600 + np.arange(size)
    covered = (begin >= 0) & (begin + 1 <= 24)
    np.testing.assert_allclose(hours[covered], begin[covered] + 0.5, atol=1e-9)
    beyond = (begin <= -1) | (begin >= 24)
    assert np.isnan(hours[beyond]).all()
