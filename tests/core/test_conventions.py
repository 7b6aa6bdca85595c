"""Attributes pass the IOOS compliance checker; applying them changes no value and hides no error."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xcarbon.core import conventions
from xcarbon.core.errors import MetadataError
from xcarbon.core.variables import CONSOLIDATED, PAPER_INPUTS, SATELLITE, TARGETS
from xcarbon.testing import raise_on_compute, synthetic_towers


@pytest.fixture(scope="module")
def plain() -> xr.Dataset:
    ds = synthetic_towers(2, patches=False, variables=["TA", "P", "WD", "NEE", "FCH4"]).isel(time=slice(240))
    return conventions.apply(ds, history="made for a test").load()


def test_towers_are_cf(findings):
    ds = synthetic_towers(2, patches=False, variables=[*PAPER_INPUTS, *TARGETS, "SWC_1", "TS_1"])
    assert findings(conventions.apply(ds.isel(time=slice(240)), history="made for a test")) == []


def test_one_tower_is_cf(plain, findings):
    assert findings(plain.isel(site=0)) == []


def test_towers_with_patches_are_cf(findings):
    ds = synthetic_towers(2, variables=["TA"]).isel(time=slice(240), day=slice(10))
    assert findings(conventions.apply(ds, history="made for a test")) == []


def test_towers_with_satellite_series_are_cf(plain, findings):
    ds = plain.assign_coords(day=np.arange("2010-01-05", "2010-03-05", 8, "datetime64[D]").astype("M8[ns]"))
    shape = (ds.sizes["site"], ds.sizes["day"])
    for code in SATELLITE:
        ds[code] = (("site", "day"), np.full(shape, 0.5, np.float32), {"composite_days": 8.0})
        ds[f"{code}_QC"] = ("site", "day"), np.zeros(shape, np.int8)
    ds["FAPAR_DAYS"] = ("site", "day"), np.full(shape, 8, np.float32)
    ds = conventions.apply(ds, history="made for a test")
    assert findings(ds) == []
    assert ds["FAPAR"].attrs["ancillary_variables"] == "FAPAR_QC FAPAR_DAYS"
    assert ds["LAI_QC"].attrs["flag_values"].tolist() == [-1, 0, 1, 2]


def test_satellite_series_in_other_units_are_refused():
    ds = xr.Dataset({"LST_DAY": ("day", [290.0], {"units": "K"})})
    with pytest.raises(MetadataError, match="LST_DAY has units 'K'"):
        conventions.apply(ds)


def test_prediction_is_cf(plain, findings):
    prediction = (plain["NEE"] + 1).rename("NEE")
    prediction.attrs = conventions.variable_attrs("NEE") | {"source": "a model"}
    exported = conventions.apply(prediction.to_dataset(), title="a prediction", history="predicted")
    assert findings(exported) == []


def test_real_towers_are_cf(real_towers, findings):
    ds = real_towers.isel(site=[3, 77]).sel(time="2010-01")
    assert findings(conventions.apply(ds, history="cut out")) == []


def test_checker_finds_what_is_wrong(plain, findings):
    wrong = plain.copy()
    wrong["TA"].attrs["standard_name"] = "hotness"
    assert any("hotness" in message for message in findings(wrong))


def test_apply_computes_nothing_and_changes_neither_values_nor_its_argument():
    ds = synthetic_towers(1).drop_attrs().drop_encoding()
    before = ds.copy(deep=True)
    with raise_on_compute():
        described = conventions.apply(ds)
    xr.testing.assert_identical(ds.load(), before.load())
    assert not any(array.encoding for array in ds.variables.values())
    xr.testing.assert_equal(described.load().drop_vars("time_bnds"), ds.drop_vars("time_bnds"))


def test_apply_twice_is_apply_once(towers):
    once = conventions.apply(towers)
    twice = conventions.apply(once)
    assert {name: array.attrs.keys() for name, array in once.variables.items()} == {
        name: array.attrs.keys() for name, array in twice.variables.items()
    }
    xr.testing.assert_identical(once[["NEE", "snow"]], twice[["NEE", "snow"]])


def test_more_detailed_attributes_are_kept(plain):
    ds = plain[["TA", "TA_QC"]].copy()
    ds["TA"].attrs |= {"source_column": "TA_F", "long_name": "air temperature at 42 m"}
    ds["TA_QC"].attrs |= conventions.quality_attrs("TA", CONSOLIDATED)
    described = conventions.apply(ds)
    assert described["TA"].attrs["source_column"] == "TA_F"
    assert described["TA"].attrs["long_name"] == "air temperature at 42 m"
    assert "downscaled_from_reanalysis" in described["TA_QC"].attrs["flag_meanings"]


def test_other_units_are_an_error(plain):
    ds = plain[["TA"]].copy()
    ds["TA"] = (ds["TA"] + 273.15).assign_attrs(units="K")
    with pytest.raises(MetadataError, match="TA has units 'K', but xcarbon needs 'degC'"):
        conventions.apply(ds)


def test_ancillary_variables_are_those_in_the_dataset(plain):
    ds = plain[["TA", "TA_QC", "P"]].rename(TA_QC="TA_release")
    ds["TA"].attrs["ancillary_variables"] = "TA_release TA_QC"
    described = conventions.apply(ds)
    assert described["TA"].attrs["ancillary_variables"] == "TA_release"
    assert "ancillary_variables" not in described["P"].attrs


def test_flags_have_the_type_of_their_variable_and_a_meaning_for_missing(plain):
    ds = plain[["TA", "TA_QC"]].copy()
    ds["TA_QC"].attrs = {"flag_values": [0, 1], "flag_meanings": "good bad"}
    flags = conventions.apply(ds)["TA_QC"].attrs
    assert flags["flag_values"].dtype == np.int8
    assert flags["flag_values"].tolist() == [-1, 0, 1]
    assert flags["flag_meanings"] == "missing good bad"


def test_time_bounds_are_the_hour_after_each_label(plain):
    bounds = conventions.apply(plain.drop_vars("time_bnds"))["time_bnds"]
    assert bounds.dims == ("time", "bnds")
    np.testing.assert_array_equal(bounds[:, 0], plain["time"])
    np.testing.assert_array_equal(bounds[:, 1], plain["time"] + conventions.HOUR)


def test_root_attributes_of_the_dataset_win():
    ds = xr.Dataset(attrs={"license": "mine", "Conventions": "CF-1.0"})
    described = conventions.apply(ds, license="theirs", references="a paper")
    assert described.attrs["license"] == "mine"
    assert described.attrs["references"] == "a paper"
    assert described.attrs["Conventions"] == conventions.CONVENTIONS


def test_history_grows_by_a_line():
    once = conventions.log(xr.Dataset(), "read")
    first, second = conventions.log(once, "written").attrs["history"].split("\n")
    assert first == once.attrs["history"]
    assert first.endswith("Z read")
    assert second.endswith("Z written")


def test_bounds_of_a_file_opened_plainly_are_coordinates_again(tmp_path):
    synthetic_towers(1).isel(time=slice(48), day=slice(2)).to_netcdf(tmp_path / "towers.nc")
    with xr.open_dataset(tmp_path / "towers.nc") as ds:
        assert {"time_bnds", "spatial_ref"} <= set(conventions.apply(ds).coords)


def test_coordinates_that_were_dropped_are_not_named_in_the_next_file(plain, tmp_path):
    plain.to_netcdf(tmp_path / "first.nc")
    with xr.open_dataset(tmp_path / "first.nc") as ds:
        conventions.apply(ds.drop_vars("lat")).to_netcdf(tmp_path / "second.nc")
    with xr.open_dataset(tmp_path / "second.nc", decode_cf=False) as raw:
        assert raw["NEE"].attrs["coordinates"] == "elevation igbp lon site_name utc_offset"
