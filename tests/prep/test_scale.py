"""Scaling keeps to the bounds, the paper's formulas, and the precision of the values."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xcarbon.errors import BoundsError
from xcarbon.prep.scale import scale, time_features
from xcarbon.variables import TARGETS, VARIABLES

PREDICTORS = [code for code in VARIABLES if code not in TARGETS]
VALUES = hnp.arrays(
    st.sampled_from(["float32", "float64"]),
    hnp.array_shapes(max_dims=3, max_side=5),
    elements=st.one_of(st.floats(-3000, 3000, width=32), st.floats(width=32)),
)


@given(code=st.sampled_from(PREDICTORS), values=VALUES)
def test_scaled_values_are_in_range_and_the_rest_is_missing(code, values):
    known = VARIABLES[code]
    scaled = scale(values, known)
    inside = (values >= known.bounds.lower) & (values <= known.bounds.upper)
    assert scaled.dtype == values.dtype
    assert scaled.shape == values.shape
    np.testing.assert_array_equal(np.isfinite(scaled), inside)
    if known.cyclic:
        assert ((scaled >= -1) & (scaled < 1))[inside].all()
    else:
        assert ((scaled >= -0.5) & (scaled <= 0.5))[inside].all()


@given(code=st.sampled_from(PREDICTORS), share=st.floats(0, 0.999))
def test_scaling_is_linear_between_the_bounds(code, share):
    known = VARIABLES[code]
    lower, upper = known.bounds.lower, known.bounds.upper
    scaled = scale(np.array([lower + share * (upper - lower)]), known)
    expected = 2 * share - 1 if known.cyclic else share - 0.5
    np.testing.assert_allclose(scaled, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("code", "value", "expected"),
    [
        ("RH", 100, 0.5),
        ("RH", 100.1, np.nan),
        ("TA", -80, -0.5),
        ("TA", 81, np.nan),
        ("WD", 0, -1),
        ("WD", 90, -0.5),
        ("WD", 360, -1),
        ("WD", 361, np.nan),
        ("P", -0.1, np.nan),
        ("PA", np.inf, np.nan),
    ],
)
def test_edges(code, value, expected):
    np.testing.assert_allclose(scale(np.array([value], "float32"), VARIABLES[code]), [expected])


def test_integers_are_scaled_in_single_precision():
    scaled = scale(np.array([0, 25, 200]), VARIABLES["RH"])
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled, [-0.5, -0.25, np.nan])


@pytest.mark.parametrize("code", TARGETS)
def test_targets_have_no_scaling(code):
    with pytest.raises(BoundsError, match=f"{code} is a target"):
        scale(np.zeros(1), VARIABLES[code])


def test_time_features_scale_by_the_papers_formulas():
    time = pd.date_range("2012-01-01", "2012-12-31T23:00", freq="h")  # a leap year
    features = time_features(xr.DataArray(time, dims="time"))
    doy = scale(features["DOY"].values, VARIABLES["DOY"])
    tod = scale(features["TOD"].values, VARIABLES["TOD"])
    np.testing.assert_allclose(doy, (time.day_of_year - 1 - 183) / 183, atol=1e-6)
    np.testing.assert_allclose(tod, (time.hour - 12) / 12, atol=1e-6)
    assert doy.dtype == tod.dtype == np.float32


def test_time_of_day_counts_half_hours():
    time = xr.DataArray(np.array(["2010-01-01T12:30"], "datetime64[ns]"), dims="time")
    assert time_features(time)["TOD"].item() == 12.5
