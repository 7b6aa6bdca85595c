"""Implausible values are missing, offsets of sensors are clipped, and other values are not changed."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xcarbon.core.errors import BoundsError
from xcarbon.core.variables import LIMITS, VARIABLES, Limits
from xcarbon.prep.limits import (
    CODES,
    MIN_VALUES,
    Counts,
    apply_limits,
    apply_limits_to_column,
    count_beyond,
    plausible,
)
from xcarbon.testing import raise_on_compute, synthetic_towers


def test_every_variable_has_limits():
    assert list(LIMITS) == list(VARIABLES)
    assert all(variable.limits is LIMITS[code] for code, variable in VARIABLES.items())


@pytest.mark.parametrize("code", VARIABLES)
def test_codes_for_missing_values_are_beyond_all_limits(code):
    codes = np.array([*CODES, np.inf, -np.inf], "float32")
    assert np.isnan(apply_limits(codes, LIMITS[code])).all()
    # -9999 averaged with a plausible half-hour, as in files of others
    assert np.isnan(apply_limits((LIMITS[code].upper + codes[:2]) / 2, LIMITS[code])).all()


@pytest.mark.parametrize(
    ("code", "value", "expected"),
    [
        ("SW_IN", -4, 0),
        ("SW_IN", -99, np.nan),
        ("SW_IN", 1510, 1500),
        ("RH", 100.3, 100),
        ("RH", 120, np.nan),
        ("VPD", -0.2, 0),
        ("TA", -99.9, np.nan),
        ("TA", -80, -80),
        ("NEE", -100, -100),
        ("NEE", 350, np.nan),
        ("NEE", -999, np.nan),
        ("PA", 1013, np.nan),
        ("WD", 360.4, 360),
    ],
)
def test_single_values(code, value, expected):
    np.testing.assert_array_equal(apply_limits(np.array([value], "float32"), LIMITS[code]), [expected])


@given(
    values=hnp.arrays(np.float32, st.integers(0, 20), elements=st.floats(width=32)),
    margin=st.sampled_from([0.0, 2.0]),
)
def test_what_is_left_is_within_the_limits_and_the_rest_as_it_was(values, margin):
    limits = Limits(-10, 20, margin)
    found = apply_limits(values, limits)
    assert found.dtype == values.dtype
    inside = (values >= -10) & (values <= 20)
    np.testing.assert_array_equal(found[inside], values[inside])
    known = ~np.isnan(found)
    assert ((found[known] >= -10) & (found[known] <= 20)).all()
    np.testing.assert_array_equal(known, (values >= -10 - margin) & (values <= 20 + margin))


def test_plausible_values_are_not_copied():
    values = np.array([1.0, np.nan], "float32")
    assert apply_limits(values, LIMITS["TA"]) is values


def test_integers_become_float():
    assert apply_limits(np.array([1, 9999]), LIMITS["TA"]).dtype == np.float32


def test_column_in_another_unit_is_kept_without_its_codes():
    """A pressure in hPa must stay visible, so that its unit can be named."""
    hectopascals = np.array([1013.0] * 100 + [9999, -6999, np.inf, np.nan], "float32")
    found = apply_limits_to_column(hectopascals, LIMITS["PA"])
    np.testing.assert_array_equal(found, [1013.0] * 100 + [np.nan] * 4)
    assert count_beyond(hectopascals, LIMITS["PA"]) == Counts(codes=3, other_unit=100)
    few = hectopascals[: MIN_VALUES - 1]
    assert np.isnan(apply_limits_to_column(few, LIMITS["PA"])).all()


def test_column_of_codes_is_missing():
    assert np.isnan(apply_limits_to_column(np.full(1000, -6999.0), LIMITS["NEE"])).all()


def test_values_are_counted_once():
    values = np.array([-5, -5, -50, 9999, -999, np.inf, 1e20, np.nan, 3, 1600] + [100] * 20, "float32")
    assert count_beyond(values, LIMITS["SW_IN"]) == Counts(codes=4, beyond=2, clipped=2)


@pytest.mark.parametrize("chunks", [None, 100])
def test_array_in_another_unit_is_named_when_it_is_computed(chunks):
    kelvin = xr.DataArray(np.linspace(270.0, 300.0, 200), dims="time")
    lazy = plausible(kelvin.chunk(time=chunks) if chunks else kelvin.chunk(), "TA")
    with pytest.warns(UserWarning, match=r"values of TA are beyond -90 to 60 degC .* another unit"):
        assert lazy.isnull().all()
    repeated = xr.DataArray(np.where(np.arange(200) % 2, -99.0, -3.0), dims="time").chunk()
    with pytest.warns(UserWarning, match="NEE is -99 in so many hours"):
        plausible(repeated, "NEE").compute()


def test_arrays_stay_lazy_with_their_attributes():
    array = xr.DataArray([1.0, 150.0], dims="time", attrs={"units": "%"}, name="RH").chunk(time=1)
    with raise_on_compute():
        found = plausible(array, "RH")
    np.testing.assert_array_equal(found, [1, np.nan])
    assert found.attrs == array.attrs and found.name == "RH" and found.chunks == array.chunks
    assert plausible(array, "something_else") is array


def test_synthetic_towers_are_plausible():
    ds = synthetic_towers(2, patches=False, years=1).load()
    for code in VARIABLES:
        if code in ds:
            np.testing.assert_array_equal(plausible(ds[code], code), ds[code], err_msg=code)


@pytest.mark.parametrize("margin", [-1, np.nan, np.inf])
def test_margin_is_a_distance(margin):
    with pytest.raises(BoundsError, match="margin must be finite and not negative"):
        Limits(0, 1, margin)


def test_reversed_limits_are_an_error():
    with pytest.raises(BoundsError, match="must be less than"):
        Limits(1, 0, 5)
