"""Scaling follows the bounds and the formulas of the paper, and keeps the precision of the values."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xcarbon.core.errors import BoundsError, MetadataError
from xcarbon.core.variables import TARGETS, VARIABLES
from xcarbon.prep.scale import local_time, scale, time_features
from xcarbon.testing import raise_on_compute

PREDICTORS = [code for code, variable in VARIABLES.items() if variable.bounds]
VALUES = hnp.arrays(
    st.sampled_from(["float32", "float64"]),
    hnp.array_shapes(max_dims=3, max_side=5),
    elements=st.one_of(st.floats(-3000, 3000, width=32), st.floats(width=32)),
)


@given(code=st.sampled_from(PREDICTORS), values=VALUES)
def test_scaled_values_are_in_range_and_others_are_missing(code, values):
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
    with pytest.raises(BoundsError, match=f"{code} has no bounds"):
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


def test_time_of_day_counts_seconds():
    time = xr.DataArray(np.array(["2010-12-31T23:59:59"], "datetime64[s]"), dims="time")
    assert time_features(time)["TOD"].item() == pytest.approx(24 - 1 / 3600, abs=1e-5)
    assert time_features(time)["DOY"].item() == 365


@given(lon=st.lists(st.floats(-180, 360), min_size=1, max_size=4), hour=st.integers(0, 24 * 366))
def test_local_time_of_cells_is_that_of_the_sun(lon, hour):
    time = np.datetime64("2011-12-31", "ns") + (hour + np.arange(3)) * np.timedelta64(1, "h")
    ds = xr.Dataset({"TA": (("time", "lon"), np.zeros((3, len(lon))))}, {"time": time, "lon": lon}).chunk(
        time=2
    )
    with raise_on_compute():
        local = local_time(ds)
        features = time_features(local)
    assert local.chunks[0] == (2, 1)
    flat = pd.DatetimeIndex(np.add.outer(time, np.rint(np.array(lon) * 240).astype("m8[s]")).ravel())
    np.testing.assert_array_equal(local.values.ravel(), flat)
    np.testing.assert_array_equal(features["DOY"].values.ravel(), flat.day_of_year)
    hours = flat.hour + flat.minute / 60 + flat.second / 3600
    np.testing.assert_allclose(features["TOD"].values.ravel(), hours, atol=1e-5)


def test_local_time_of_many_chunks_is_silent(recwarn):
    time = np.datetime64("2020-01-01", "ns") + np.arange(24) * np.timedelta64(1, "h")
    shape = {"time": time, "lat": np.arange(40.0), "lon": np.arange(40.0)}
    ds = xr.Dataset({"TA": (list(shape), da.zeros((24, 40, 40), chunks=(2, 2, 2)))}, shape)
    ds["time"].attrs["long_name"] = "start of the averaging hour in UTC"
    assert local_time(ds).chunksizes == {"time": (2,) * 12, "lon": (2,) * 20}
    assert not recwarn.list


def test_local_time_of_towers_is_their_time(towers):
    assert local_time(towers).identical(towers["time"])
    assert local_time(towers.isel(site=0, drop=True)).identical(towers["time"])


def test_local_time_is_never_taken_for_utc(towers):
    ds = xr.Dataset({"TA": ("lat", [1.0])}, {"lat": [50.0], "time": towers["time"].values})
    with pytest.raises(MetadataError, match="needs a coordinate 'lon'"):
        local_time(ds)
    says = towers["time"].assign_attrs(long_name="start of the averaging hour in UTC")
    tower = towers.isel(site=0).assign_coords(time=says)
    with pytest.raises(MetadataError, match="open_netcdf"):
        local_time(tower)
