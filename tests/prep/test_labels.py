"""Stamps, classes and places of a user's Dataset are read, or refused with advice."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xcarbon.core.errors import MetadataError, TimestampError, VariableError
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.labels import read_labels
from xcarbon.prep.statics import stack_statics
from xcarbon.testing import raise_on_compute, synthetic_towers


@pytest.fixture(scope="module")
def two() -> xr.Dataset:
    ds = synthetic_towers(2, patches=False, variables=["TA", "NEE"]).isel(time=slice(48)).load()
    return ds.assign_coords(utc_offset=("site", [1.0, 1.0]))


def test_labels_of_the_data_model_are_not_changed(two):
    assert read_labels(two) is two
    with raise_on_compute():
        read_labels(two.chunk())


ZONED = {
    "pandas index": lambda time: time.tz_localize("Etc/GMT-1"),
    "objects": lambda time: np.array(list(time.tz_localize("Etc/GMT-1")), object),
    "python": lambda time: np.array(list(time.tz_localize("Etc/GMT-1").to_pydatetime()), object),
    "winter in a zone with daylight saving": lambda time: time.tz_localize("Europe/Berlin"),
    "naive objects": lambda time: np.array(list(time.to_pydatetime()), object),
    "microseconds": lambda time: time.as_unit("us"),
    "cftime": lambda time: xr.date_range(
        str(time[0]), periods=len(time), freq="h", calendar="standard", use_cftime=True
    ),
}


@pytest.mark.parametrize("change", ZONED.values(), ids=ZONED)
def test_unambiguous_stamps_are_read(two, change):
    zoned = two.assign_coords(time=change(two.indexes["time"]))
    expected = model_inputs(two, ["DOY", "TOD", "TA"], target="NEE").compute()
    found = model_inputs(zoned, ["DOY", "TOD", "TA"], target="NEE").compute()
    np.testing.assert_array_equal(found["hourly"], expected["hourly"])
    np.testing.assert_array_equal(found["target"], expected["target"])
    np.testing.assert_array_equal(found["time"], expected["time"])


def test_predictions_have_the_hours_of_zoned_towers(two):
    ds = synthetic_towers(1, patches=False, variables=["TA", "SW_IN", "VPD"]).isel(time=slice(96)).load()
    ds = ds.assign_coords(utc_offset=("site", [1.0]))
    zoned = ds.assign_coords(time=ds.indexes["time"].tz_localize("Etc/GMT-1"))
    expected, found = ds.carbon.predict_nee().compute(), zoned.carbon.predict_nee().compute()
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found["time"], ds["time"])


AMBIGUOUS = {
    "UTC": (lambda time: time.tz_localize("UTC"), r"offsets \+0 h from UTC, but utc_offset is \[1.0\]"),
    "another zone": (lambda time: time.tz_localize("Etc/GMT-2"), r"\+2 h from UTC"),
    "daylight saving": (
        lambda time: pd.date_range("2010-03-27", periods=len(time), freq="h", tz="Europe/Berlin"),
        r"\+1 h, \+2 h from UTC.*tz_convert",
    ),
    "numbers": (lambda time: np.arange(len(time)), "time must be datetime64.*pd.to_datetime"),
    "texts": (lambda time: time.strftime("%Y%m%d%H%M"), "time must be datetime64.*pd.to_datetime"),
    "no leap days": (
        lambda time: xr.date_range("2010-01-01", periods=len(time), freq="h", calendar="noleap"),
        "calendar 'noleap'.*convert_calendar",
    ),
    "months of 30 days": (
        lambda time: xr.date_range("2010-01-01", periods=len(time), freq="h", calendar="360_day"),
        "calendar '360_day'",
    ),
}


@pytest.mark.parametrize(("change", "message"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_other_stamps_are_errors_with_advice(two, change, message):
    wrong = two.assign_coords(time=change(two.indexes["time"]))
    for use in (lambda ds: model_inputs(ds, ["TA"]), lambda ds: ds.carbon.check()):
        with pytest.raises(TimestampError, match=message):
            use(wrong)


def test_zoned_stamps_of_towers_in_two_zones_are_an_error(two):
    zoned = two.assign_coords(
        time=two.indexes["time"].tz_localize("Etc/GMT-1"), utc_offset=("site", [1.0, 2.0])
    )
    with pytest.raises(TimestampError, match=re.escape("utc_offset is [1.0, 2.0]")):
        read_labels(zoned)
    with pytest.raises(TimestampError, match="utc_offset is absent"):
        read_labels(zoned.drop_vars("utc_offset"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("utc_offset", 15.0), ("utc_offset", -100), ("lat", 91.0), ("lon", 237.5), ("lon", -181)],
)
def test_places_out_of_range_are_errors(two, name, value):
    wrong = two.assign_coords({name: ("site", [0, value])})
    for use in (lambda ds: model_inputs(ds, ["TA"]), lambda ds: ds.carbon.check()):
        with pytest.raises(MetadataError, match=f"{name} is {value:g}, beyond"):
            use(wrong)


@pytest.mark.parametrize("kind", [str, object])
@pytest.mark.parametrize("name", ["lat", "utc_offset", "elevation"])
def test_places_that_are_text_are_errors(two, name, kind):
    text = two[name].astype(str).astype(kind)
    with pytest.raises(MetadataError, match=rf"{name} has values of the type .*ds\['{name}'\].astype\(float"):
        read_labels(two.assign_coords({name: text}))


def test_variables_without_time_are_an_error_with_advice():
    ds = xr.Dataset({"TA": ("index", [1.0]), "NEE": ("index", [1.0])})
    for use in (ds.carbon.gapfill, ds.carbon.predict_nee):
        with pytest.raises(TimestampError, match=r"no time, only the dimensions \('index',\); name the dim"):
            use()


def test_grid_from_0_to_360_degrees_is_an_error_with_advice():
    axes = {"time": pd.date_range("2010-01-01", periods=24, freq="h"), "lat": [50.0], "lon": [10.0, 350.0]}
    grid = xr.Dataset({"TA": (tuple(axes), np.zeros((24, 1, 2), "float32"))}, axes)
    with pytest.raises(MetadataError, match=r"lon is 350.*\+ 180\) % 360 - 180"):
        model_inputs(grid, ["TA"])


@pytest.mark.parametrize("lazy", [False, True])
def test_classes_are_read_in_any_letter_case(two, lazy):
    ds = two.assign_coords(igbp=("site", ["ENF", "GRA"]))
    small = two.assign_coords(igbp=("site", ["enf", " Gra"]))
    small = small.assign_coords(igbp=small["igbp"].chunk()) if lazy else small
    found, expected = (stack_statics(model_inputs(of, ["TA"]), ["igbp"]).compute() for of in (small, ds))
    np.testing.assert_array_equal(found, expected)
    if not lazy:
        assert read_labels(small)["igbp"].values.tolist() == ["ENF", "GRA"]
        assert small.carbon.score(two["NEE"] + 1)["igbp"].values.tolist() == ["ENF", "GRA"]


def test_unknown_class_is_an_error_with_the_classes(two):
    wrong = two.assign_coords(igbp=("site", ["ENF", "forest"]))
    with pytest.raises(MetadataError, match="unknown IGBP class 'FOREST'; the classes are ENF,"):
        stack_statics(model_inputs(wrong, ["TA"]), ["igbp"])


@pytest.mark.parametrize("unknown", ["", "?", "nan", "UNK"])
def test_class_that_is_not_known_is_missing(two, unknown):
    ds = two.assign_coords(igbp=("site", ["ENF", unknown]))
    assert np.isnan(stack_statics(model_inputs(ds, ["TA"]), ["igbp"]).compute()[1, 0])


@pytest.mark.parametrize("name", ["igbp", "lat", "lon", "elevation", "utc_offset"])
def test_places_may_be_variables(two, name):
    found = read_labels(two.reset_coords(name))
    assert found.equals(two)
    assert name in found.coords


def test_class_that_is_a_variable_is_used():
    ds = synthetic_towers(1, patches=False, variables=["TA", "SW_IN", "VPD"]).isel(time=slice(96)).load()
    found, expected = ds.reset_coords(["igbp", "lat"]).carbon.predict_nee(), ds.carbon.predict_nee()
    np.testing.assert_array_equal(found, expected)


OTHER_NAMES = {
    "sites": ({"site": "sites"}, r"'site' is named 'sites'; use ds.rename\(sites='site'\)"),
    "station": ({"site": "station"}, r"ds.rename\(station='site'\)"),
    "any dim of towers": ({"site": "place"}, r"ds.rename\(place='site'\)"),
    "latitude": ({"lat": "latitude", "lon": "longitude"}, r"ds.rename\(latitude='lat', longitude='lon'\)"),
    "datetime": ({"time": "datetime"}, r"'time' is named 'datetime'"),
}


@pytest.mark.parametrize(("names", "message"), OTHER_NAMES.values(), ids=OTHER_NAMES)
def test_other_names_are_errors_with_advice(two, names, message):
    # Towers along another dim would be taken for cells of a grid, whose time is in UTC.
    for use in (lambda ds: model_inputs(ds, ["TA"]), lambda ds: ds.carbon.predict_nee()):
        with pytest.raises(MetadataError, match=message):
            use(two.rename(names))


def test_identifiers_along_another_dim_are_an_error_with_advice(two):
    with pytest.raises(MetadataError, match=r"towers lie along 'place'.*ds.swap_dims\(place='site'\)"):
        read_labels(two.swap_dims(site="place"))


def test_cells_along_one_dim_stay_cells():
    axes = {
        "time": pd.date_range("2010-01-01", periods=24, freq="h"),
        "lat": ("cell", [50.0, 0]),
        "lon": ("cell", [0, 15.0]),
    }
    cells = xr.Dataset({"TA": (("time", "cell"), np.zeros((24, 2), "float32"))}, axes)
    clock = model_inputs(cells, ["TOD", "TA"])["local_time"]
    assert (clock.isel(cell=1) - clock.isel(cell=0)).dt.seconds.values.tolist() == [3600] * 24


@pytest.mark.parametrize("dim", ["site", "time"])
def test_nothing_to_predict_is_an_error(two, dim):
    with pytest.raises(VariableError, match=f"dimension '{dim}' has the length 0"):
        two.isel({dim: []}).carbon.predict_nee()
