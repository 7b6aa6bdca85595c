"""Patches: pixels without data, days that are left out, and the hour at which a patch is read."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from xcarbon.core.errors import VariableError
from xcarbon.core.variables import PATCH_BANDS, REFLECTANCE_BANDS
from xcarbon.prep.patches import patch_index, stack_bands
from xcarbon.testing import raise_on_compute


def patches(fill_pixels: int = 0) -> xr.Dataset:
    """Return one day of seven bands of 2 x 2 pixels; the first ``fill_pixels`` have no data."""
    reflectance = np.arange(28, dtype="float32") / 100
    reflectance[:fill_pixels] = np.nan
    dims = ("site", "day", "band", "y", "x")
    return xr.Dataset(
        {
            "reflectance": (dims, reflectance.reshape(1, 1, 7, 2, 2)),
            "snow": (("site", "day", "y", "x"), np.array([0, 1, -1, 1], "int8").reshape(1, 1, 2, 2)),
            "water": (("site", "day", "y", "x"), np.zeros((1, 1, 2, 2), "int8")),
        },
        coords={"band": list(REFLECTANCE_BANDS), "day": pd.to_datetime(["2010-01-01"])},
    )


def test_bands_are_stacked_in_the_order_asked_for():
    ds = patches()
    stacked = stack_bands(ds, ("water", "B7", "snow", "B1"))
    assert stacked.dims == ("site", "day", "band", "y", "x")
    assert stacked.dtype == np.float32
    assert stacked["band"].values.tolist() == ["water", "B7", "snow", "B1"]
    np.testing.assert_array_equal(stacked.sel(band="B7"), ds["reflectance"].sel(band="B7"))
    np.testing.assert_array_equal(stacked.sel(band="snow"), ds["snow"])


def test_fill_is_minus_one():
    stacked = stack_bands(patches(fill_pixels=5), PATCH_BANDS)
    assert (stacked == -1).sum() == 5 + 1  # and one pixel of snow
    assert stacked.notnull().all()


@pytest.mark.parametrize(("fill_pixels", "left_out"), [(14, False), (15, True), (28, True)])
def test_day_that_is_more_than_half_fill_is_left_out(fill_pixels, left_out):
    stacked = stack_bands(patches(fill_pixels), PATCH_BANDS)
    assert stacked.isnull().all() == stacked.isnull().any() == left_out


def test_share_of_fill_is_that_of_all_reflectance_bands():
    stacked = stack_bands(patches(fill_pixels=4), ("B1", "water"))  # B1 is fill altogether
    assert (stacked.sel(band="B1") == -1).all()


def test_bands_that_are_absent_are_fill():
    ds = patches().drop_vars("snow").sel(band=["B2", "B1"])
    stacked = stack_bands(ds, ("B1", "B5", "snow"))
    assert (stacked.sel(band=["B5", "snow"]) == -1).all()
    np.testing.assert_array_equal(stacked.sel(band="B1"), ds["reflectance"].sel(band="B1"))


def test_no_band_at_all_is_an_error():
    ds = patches().drop_vars(["snow", "band"])
    with pytest.raises(VariableError, match=r"bands \['B1', 'snow'\], but the Dataset has \['water'\]"):
        stack_bands(ds, ("B1", "snow"))


def test_one_tower_has_no_site_dimension():
    assert stack_bands(patches().isel(site=0), PATCH_BANDS).dims == ("day", "band", "y", "x")


def test_stacking_is_lazy(towers):
    with raise_on_compute():
        stack_bands(towers, PATCH_BANDS)


@given(
    start=st.integers(0, 60),
    hours=st.integers(0, 100),
    minutes=st.sampled_from([0, 30]),
    days=st.lists(st.integers(-1, 6), unique=True),
    data=st.data(),
)
def test_patch_enters_at_the_noon_hour_of_its_usable_day(start, hours, minutes, days, data):
    usable = np.array(data.draw(st.tuples(*[st.booleans()] * len(days))), bool)
    origin = np.datetime64("2012-02-27", "ns")  # a leap day is near
    time = origin + np.arange(start, start + hours) * np.timedelta64(1, "h") + np.timedelta64(minutes, "m")
    day = origin + np.array(days, "timedelta64[D]")
    expected = [
        next(
            (
                position
                for position, date in enumerate(pd.DatetimeIndex(day))
                if usable[position] and stamp.floor("D") == date and stamp.hour == 12
            ),
            -1,
        )
        for stamp in pd.DatetimeIndex(time)
    ]
    index = patch_index(time, day, usable)
    assert index.dtype == np.int64
    assert index.tolist() == expected


def test_hours_before_the_record_have_no_patch():
    time = np.array(["NaT", "2010-01-01T12"], "datetime64[s]")
    day = np.array(["2010-01-01"], "datetime64[D]")
    assert patch_index(time, day, np.array([True])).tolist() == [-1, 0]
