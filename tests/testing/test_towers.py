"""Tests of synthetic towers: structure, plausible values, gaps, patches and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyproj
import pytest
import xarray as xr

from xcarbon import open_fluxnet
from xcarbon.core.conventions import QC, REFLECTANCE_ENCODING, quality_attrs
from xcarbon.core.errors import OptionError, VariableError
from xcarbon.core.validation import check_hourly
from xcarbon.core.variables import PAPER_INPUTS, TARGETS, TIME_FEATURES, VARIABLES, quality_scheme
from xcarbon.io.modis.grid import MODIS_RADIUS, patch_centre
from xcarbon.prep.humidity import saturation_vapour_pressure
from xcarbon.testing import raise_on_compute, synthetic_towers, write_fluxnet_csv, write_release

EVERYTHING = [*PAPER_INPUTS, *TARGETS, "SW_IN_POT", "SWC_1", "TS_1"]


@pytest.fixture(scope="module")
def truth() -> xr.Dataset:
    """Return twelve towers without gaps."""
    return synthetic_towers(12, variables=EVERYTHING, gaps=False).load()


@pytest.fixture(scope="module")
def spoilt() -> xr.Dataset:
    """Return the same towers with gaps."""
    return synthetic_towers(12, variables=EVERYTHING).load()


def summer_and_winter(array: xr.DataArray, lat: float) -> tuple[xr.DataArray, xr.DataArray]:
    """Return July and January in the north, and January and July in the south."""
    dim = "day" if "day" in array.dims else "time"
    july, january = (array.isel({dim: array[dim].dt.month == month}) for month in (7, 1))
    return (july, january) if lat > 0 else (january, july)


def ndvi(ds: xr.Dataset) -> xr.DataArray:
    red, infrared = (ds["reflectance"].sel(band=band) for band in ("B1", "B2"))
    return (infrared - red) / (infrared + red)


# --- Structure ------------------------------------------------------------------------------------


def test_opening_computes_nothing_and_one_task_simulates_a_tower() -> None:
    with raise_on_compute():
        ds = synthetic_towers(100, years=3)
    assert ds["NEE"].chunksizes["site"] == (1,) * 100
    assert max(ds["NEE"].chunksizes["time"]) <= 8784
    simulations = [key for key in ds["NEE"].data.dask if "run_kernel" in str(key)]
    assert len(simulations) == 100


def test_raise_on_compute_catches_a_computation() -> None:
    ds = synthetic_towers(1, patches=False)
    with raise_on_compute():
        mean = ds["TA"].mean()
        with pytest.raises(AssertionError, match="computed"):
            mean.compute()
    assert np.isfinite(mean.compute())


def test_towers_depend_on_seed_and_position_alone(spoilt: xr.Dataset) -> None:
    few = synthetic_towers(3)
    absent = set(spoilt.data_vars) - set(few.data_vars)
    xr.testing.assert_identical(few.load(), spoilt.drop_vars(absent).isel(site=slice(3)))
    other = synthetic_towers(3, seed=1, variables=["TA"], patches=False)
    assert not np.allclose(other["TA"], few["TA"], equal_nan=True)
    assert not np.any(other["lat"] == few["lat"])


def test_default_variables_are_inputs_and_targets() -> None:
    ds = synthetic_towers(1)
    codes = {str(name) for name in ds.data_vars if name in VARIABLES}
    assert codes == {*PAPER_INPUTS, *TARGETS} - set(TIME_FEATURES)
    assert {"reflectance", "snow", "water"} <= set(ds.data_vars)
    assert "reflectance" not in synthetic_towers(1, patches=False)


def test_dozen_towers_have_three_of_each_main_class_in_both_hemispheres() -> None:
    ds = synthetic_towers(12)
    assert pd.Series(ds["igbp"].values).value_counts().to_dict() == {
        "ENF": 3,
        "DBF": 3,
        "GRA": 3,
        "CRO": 3,
    }
    assert (ds["lat"] > 0).any() and (ds["lat"] < 0).any()
    assert (ds["utc_offset"] % 1 != 0).any()
    many = synthetic_towers(39)
    assert pd.Series(many["igbp"].values).value_counts().min() >= 3
    assert len(set(many["igbp"].values)) == 9


def test_time_axis_is_hourly_through_leap_years() -> None:
    ds = synthetic_towers(1, years=2, start="2011-07-01", patches=False)
    check_hourly(ds["time"], "synthetic")
    assert ds["time"].values[-1] == np.datetime64("2013-06-30T23")
    assert ds["NEE"].isel(time=-1).notnull().load().dtype == bool


def test_types_and_attributes_follow_the_data_model(spoilt: xr.Dataset) -> None:
    for name, array in spoilt.data_vars.items():
        flag = str(name).endswith(QC) or name in ("snow", "water")
        assert array.dtype == ("int8" if flag else "float32"), name
        assert "long_name" in array.attrs, name
        if str(name) in VARIABLES:
            assert array.attrs["units"] == VARIABLES[str(name)].units
    assert spoilt["P"].attrs["cell_methods"] == "time: sum"
    assert spoilt["site"].attrs["cf_role"] == "timeseries_id"
    assert REFLECTANCE_ENCODING.items() <= spoilt["reflectance"].encoding.items()
    assert spoilt.attrs["featureType"] == "timeSeries"
    assert "synthetic" in spoilt.attrs["title"].lower()
    assert all(name.startswith("synthetic ") for name in spoilt["site_name"].values)


def test_spatial_ref_is_the_modis_grid(spoilt: xr.Dataset) -> None:
    attrs = spoilt["spatial_ref"].attrs
    assert attrs["grid_mapping_name"] == "sinusoidal"
    assert attrs["longitude_of_projection_origin"] == 0
    assert attrs["false_easting"] == attrs["false_northing"] == 0
    assert attrs["semi_major_axis"] == attrs["semi_minor_axis"] == MODIS_RADIUS
    assert "Sinusoidal" in pyproj.CRS.from_wkt(attrs["crs_wkt"]).coordinate_operation.method_name
    assert spoilt["reflectance"].isel(site=0, day=0).rio.crs == attrs["crs_wkt"]
    x, y = patch_centre(spoilt["lat"], spoilt["lon"])
    assert (spoilt["patch_x"] == x).all() and (spoilt["patch_y"] == y).all()


@pytest.mark.parametrize("codes", [["TAA"], ["SWC_5"]])
def test_unknown_variable_is_an_error(codes: list[str]) -> None:
    with pytest.raises(VariableError, match=codes[0]):
        synthetic_towers(1, variables=codes)


@pytest.mark.parametrize("wrong", [{"n_sites": 0}, {"years": 0}])
def test_no_tower_or_no_year_is_an_error(wrong: dict[str, int]) -> None:
    with pytest.raises(OptionError, match="found"):
        synthetic_towers(**wrong)


# --- Physics --------------------------------------------------------------------------------------


def test_every_value_is_within_the_bounds_of_its_variable(spoilt: xr.Dataset) -> None:
    for code, variable in VARIABLES.items():
        if code in spoilt and variable.bounds is not None:
            assert spoilt[code].min() >= variable.bounds.lower, code
            assert spoilt[code].max() <= variable.bounds.upper, code


def test_nights_are_dark_and_noon_is_bright(truth: xr.Dataset, spoilt: xr.Dataset) -> None:
    night = truth["SW_IN_POT"] == 0
    assert 0.45 < night.mean() < 0.55
    for code in ("SW_IN", "SW_OUT", "PPFD_IN", "PPFD_OUT", "GPP_DT", "GPP_NT"):
        assert float(spoilt[code].where(night, 0).max()) == 0, code
    assert (truth["SW_IN"] <= truth["SW_IN_POT"]).all()
    hourly = truth["SW_IN_POT"].groupby("time.hour").mean()
    assert set(hourly.idxmax("hour").values) <= {11, 12}
    assert np.allclose(truth["PPFD_IN"], 2.04 * truth["SW_IN"], rtol=0.06)


def test_seasons_follow_the_hemisphere(truth: xr.Dataset) -> None:
    for lat, tower in zip(truth["lat"].values, truth["TA"], strict=True):
        summer, winter = summer_and_winter(tower, lat)
        assert summer.mean() > winter.mean() + 5


def test_humidity_agrees_with_vapour_pressure_deficit(truth: xr.Dataset) -> None:
    saturation = saturation_vapour_pressure(truth["TA"])
    assert np.allclose(truth["VPD"], saturation * (1 - truth["RH"] / 100), atol=0.01)
    assert truth["RH"].where(truth["P"] > 0).min() > 90


def test_energy_is_balanced(truth: xr.Dataset) -> None:
    net = truth["SW_IN"] - truth["SW_OUT"] + truth["LW_IN"] - truth["LW_OUT"]
    assert np.allclose(truth["NETRAD"], net, atol=1e-2)
    available = (truth["NETRAD"] - truth["G"]).mean("time")
    turbulent = (truth["H"] + truth["LE"]).mean("time")
    assert np.allclose(turbulent, 0.85 * available, atol=1)


def test_carbon_fluxes_add_up_but_for_noise_that_grows_with_them(truth: xr.Dataset) -> None:
    for code in ("GPP_DT", "GPP_NT", "RECO_DT", "RECO_NT"):
        assert truth[code].min() >= 0
        assert truth[code].max() < 60
    net = (truth["RECO_DT"] - truth["GPP_DT"]).values.ravel()
    error = np.abs(truth["NEE"].values.ravel() - net)
    assert error[np.abs(net) > 10].mean() > 1.5 * error[np.abs(net) < 1].mean()
    assert np.corrcoef(truth["NEE"].values.ravel(), net)[0, 1] > 0.9


def test_uptake_is_greatest_in_summer(truth: xr.Dataset) -> None:
    for lat, tower in zip(truth["lat"].values, truth["GPP_DT"], strict=True):
        summer, winter = summer_and_winter(tower, lat)
        assert summer.mean() > 1.5 * winter.mean()


# --- Failures -------------------------------------------------------------------------------------


def test_quality_codes_agree_with_missing_values(spoilt: xr.Dataset) -> None:
    coded = [str(name).removesuffix(QC) for name in spoilt.data_vars if str(name).endswith(QC)]
    assert {"TA", "SW_IN", "VPD", "NEE", "LE"} <= set(coded)
    assert not {"RH", "USTAR", "GPP_DT"} & set(coded)
    for code in coded:
        flags = spoilt[f"{code}{QC}"]
        scheme = quality_scheme(VARIABLES[code].columns[0])
        assert set(np.unique(flags)) <= {-1, *scheme.flag_values}, code
        assert flags.attrs["flag_meanings"] == quality_attrs(code, scheme)["flag_meanings"]
        assert ((flags == -1) == spoilt[code].isnull()).all(), code


def test_gaps_have_a_realistic_share_and_measured_values_are_untouched(
    truth: xr.Dataset, spoilt: xr.Dataset
) -> None:
    measured = spoilt["NEE_QC"] == 0
    assert 0.5 < measured.mean() < 0.8
    assert 0.7 < (spoilt["NEE_QC"].isin([0, 1])).mean() < 0.95
    assert spoilt["NEE"].where(measured).equals(truth["NEE"].where(measured))
    night = spoilt["SW_IN_POT"] == 0
    assert measured.where(night).mean() < measured.where(~night).mean()
    assert (truth["NEE_QC"] == 0).all() and truth["NEE"].notnull().all()


def test_gaps_last_from_hours_to_weeks(spoilt: xr.Dataset) -> None:
    missing = np.concatenate([[False], spoilt["USTAR"].isnull().values.ravel(), [False]])
    edges = np.flatnonzero(np.diff(missing.astype(int)))
    lengths = edges[1::2] - edges[::2]
    assert np.median(lengths) < 12
    assert lengths.max() > 7 * 24


# --- Patches --------------------------------------------------------------------------------------


def test_greenness_follows_the_season_and_varies_in_space(truth: xr.Dataset) -> None:
    for lat, igbp, tower in zip(truth["lat"].values, truth["igbp"].values, ndvi(truth), strict=True):
        summer, winter = summer_and_winter(tower, lat)
        assert 0.3 < summer.median() < 0.9
        assert summer.median() > winter.median() + (0.05 if igbp == "ENF" else 0.15)
        assert summer.mean("day").std() > 0.01


def test_patches_stay_within_the_packing_and_hide_some_ground(spoilt: xr.Dataset) -> None:
    reflectance = spoilt["reflectance"]
    assert reflectance.min() >= 0 and reflectance.max() <= 1
    assert 0.05 < reflectance.isnull().mean() < 0.4
    fill = reflectance.isnull().all("band")
    assert (fill == reflectance.isnull().any("band")).all()
    assert ((spoilt["snow"] == -1) == fill).all() and ((spoilt["water"] == -1) == fill).all()
    share = fill.mean(("y", "x"))
    assert (share == 1).any() and ((share > 0) & (share < 1)).any()
    assert spoilt["y"][0] > 0 > spoilt["x"][0]


def test_snow_falls_where_it_is_cold(truth: xr.Dataset) -> None:
    snowy = (truth["snow"].mean(("y", "x")) > 0.5).rename(day="time")
    cold = truth["TA"].resample(time="1D").mean()
    assert cold.where(snowy).mean() < 0 < cold.where(~snowy).mean()


# --- The file -------------------------------------------------------------------------------------


def test_fluxnet_csv_has_two_half_hours_for_each_hour(spoilt: xr.Dataset, tmp_path: Path) -> None:
    site = "SY-002"
    path = write_fluxnet_csv(spoilt, site, tmp_path / "FLX_SY-002_FLUXNET2015_SUBSET_HH.csv.gz")
    table = pd.read_csv(path, na_values=-9999, dtype={"TIMESTAMP_START": str})
    assert len(table) == 2 * spoilt.sizes["time"]
    assert table["TIMESTAMP_START"][[0, 1, 2]].tolist() == [
        "201001010000",
        "201001010030",
        "201001010100",
    ]
    assert str(table["TIMESTAMP_END"].iloc[-1]) == "201101010000"
    columns = {"TA_F", "TA_F_QC", "NEE_VUT_REF", "NEE_VUT_REF_QC", "GPP_DT_VUT_REF", "RH"}
    assert columns <= set(table.columns)
    tower = spoilt.sel(site=site)
    hourly = table.groupby(table.index // 2)
    assert np.allclose(hourly["P_F"].sum(min_count=2), tower["P"], atol=1e-5, equal_nan=True)
    assert np.allclose(hourly["NEE_VUT_REF"].mean(), tower["NEE"], atol=1e-3, equal_nan=True)
    assert np.array_equal(hourly["NEE_VUT_REF_QC"].max().fillna(-1), tower["NEE_QC"])


PRODUCTS = {
    "AmeriFlux-BASE": "AMF_SY-002_BASE_HH_1-5.csv",
    "AmeriFlux-FLUXNET": "AMF_SY-002_FLUXNET_FULLSET_HH_2010-2010_3-5.csv",
    "FLUXNET": "AMF_SY-002_FLUXNET_FLUXMET_HH_2010-2010_v1.3_r1.csv",
    "FLUXNET-CH4": "FLX_SY-002_FLUXNET-CH4_HH_2010-2010_1-1.csv",
    "FLUXNET2015_FULLSET": "FLX_SY-002_FLUXNET2015_FULLSET_HH_2010-2010_1-4.csv",
    "FLUXNET2015_SUBSET": "FLX_SY-002_FLUXNET2015_SUBSET_HH_2010-2010_1-4.csv",
    "ICOS-L2": "ICOSETC_SY-002_FLUXNET_HH_L2.csv",
    "ICOS-Warm-Winter-2020": "FLX_SY-002_FLUXNET2015_FULLSET_HH_2010-2010_beta-3.csv",
}


@pytest.fixture(scope="module")
def month(spoilt: xr.Dataset) -> xr.Dataset:
    """Return a month with gap-filled and missing values."""
    return spoilt.isel(time=slice(24 * 190, 24 * 220))


@pytest.mark.parametrize("product", PRODUCTS)
def test_release_has_the_name_and_the_values_of_its_product(
    month: xr.Dataset, product: str, tmp_path: Path
) -> None:
    path = write_release(month, "SY-002", tmp_path, product)
    assert path == tmp_path / PRODUCTS[product]
    tower = month.sel(site=["SY-002"]).load()
    metadata = {key: tower[key].item() for key in ("lat", "lon", "igbp")}
    found = open_fluxnet(path, metadata=metadata).load()
    assert found.attrs["source"] == f"files {path.name}"
    has = {str(name) for name in tower.data_vars if name in VARIABLES}
    has -= {
        "AmeriFlux-BASE": {"SW_IN_POT", "GPP_DT", "GPP_NT", "RECO_DT", "RECO_NT"},
        "FLUXNET-CH4": set(),
    }.get(product, {"FCH4"})
    assert {name for name in found.data_vars if name in VARIABLES} == has
    for code in has:
        flags = tower.get(f"{code}{QC}", xr.zeros_like(tower[code], "int8"))
        is_whole = product not in ("AmeriFlux-BASE", "FLUXNET-CH4")
        beside = product == "FLUXNET-CH4" and code not in ("CO2", "G", "SWC_1", "TS_1")
        expected = tower[code] if is_whole or beside else tower[code].where(flags == 0)
        np.testing.assert_array_equal(found[code], expected, err_msg=code)
        if is_whole and f"{code}{QC}" in tower:
            np.testing.assert_array_equal(found[f"{code}{QC}"], flags, err_msg=code)
        elif f"{code}{QC}" in found and f"{code}{QC}" in tower:
            measured = (flags == 0).values
            assert ((found[f"{code}{QC}"] == 0).values == measured).all(), code


def test_release_has_the_header_that_is_asked_for(month: xr.Dataset, tmp_path: Path) -> None:
    header = ["TIMESTAMP_START", "TIMESTAMP_END", "NIGHT", "TA_F", "TA_F_QC", "TA_ERA"]
    path = write_release(month, "SY-001", tmp_path, columns=header)
    table = pd.read_csv(path)
    assert table.columns.tolist() == header
    assert (table[["NIGHT", "TA_ERA"]] == -9999).all(axis=None)
    assert table["TIMESTAMP_START"].iloc[1] == 201007100030
    hours = month["TA"].sel(site="SY-001").fillna(-9999)
    np.testing.assert_array_equal(table["TA_F"].iloc[::2].astype("float32"), hours)
    np.testing.assert_array_equal(table["TA_F"].iloc[1::2].astype("float32"), hours)


def test_release_of_no_product_is_an_error(month: xr.Dataset, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"unknown product 'FLUXNET2016'.*AmeriFlux-BASE"):
        write_release(month, "SY-001", tmp_path, "FLUXNET2016")
    with pytest.raises(KeyError):
        write_release(month, "SY-999", tmp_path)
    assert not list(tmp_path.iterdir())


# --- Satellite series -----------------------------------------------------------------------------


@pytest.mark.parametrize("patches", [True, False])
def test_satellite_series_follow_the_vegetation(patches) -> None:
    with raise_on_compute():
        ds = synthetic_towers(4, satellite=True, patches=patches)
    assert ds.sizes["day"] == (365 if patches else 46)
    assert ds["FAPAR"].attrs["composite_days"] == 8
    series = ds[["FAPAR", "FAPAR_QC", "LAI", "LAI_QC"]].load()
    assert series["FAPAR_QC"].dtype == np.int8 and series["LAI"].dtype == np.float32
    assert (series["FAPAR"].isnull() == (series["FAPAR_QC"] == -1)).all()
    assert (series["LAI"].notnull().sum("day") > 40).all()
    for number in range(4):
        summer, winter = summer_and_winter(series["LAI"][number], float(ds["lat"][number]))
        assert summer.mean() > winter.mean()
    whole = synthetic_towers(4, satellite=True, patches=False, gaps=False)
    assert whole["FAPAR"].notnull().all() and (whole["FAPAR_QC"] == 0).all()


def test_satellite_series_change_nothing_else() -> None:
    ds = synthetic_towers(2, satellite=True, patches=False, variables=["TA"])
    names = ["FAPAR", "FAPAR_QC", "LAI", "LAI_QC", "day"]
    plain = synthetic_towers(2, patches=False, variables=["TA"])
    xr.testing.assert_equal(ds.drop_vars(names).compute(), plain.compute())
