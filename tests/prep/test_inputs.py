"""Model inputs contain each variable masked and scaled, in the model's order, and are lazy."""

import numpy as np
import pytest
import xarray as xr

from xcarbon.core.errors import MetadataError, TimestampError, VariableError
from xcarbon.core.variables import PAPER_INPUTS, PATCH_BANDS, VARIABLES
from xcarbon.prep.inputs import as_towers, model_inputs
from xcarbon.prep.patches import stack_bands
from xcarbon.prep.quality import mask_quality
from xcarbon.prep.scale import scale, time_features
from xcarbon.testing import raise_on_compute

FEW = ["WD", "DOY", "TA", "TOD", "P"]


@pytest.mark.parametrize("max_qc", [0, 1])
def test_inputs_equal_those_of_each_variable_alone(towers, max_qc):
    ds = towers.isel(site=[0, 3])
    inputs = model_inputs(ds, PAPER_INPUTS, target="NEE", max_qc=max_qc).compute()
    assert inputs["hourly"].dims == ("site", "time", "variable")
    assert inputs["hourly"].dtype == inputs["target"].dtype == np.float32
    assert inputs["hourly"]["variable"].values.tolist() == list(PAPER_INPUTS)
    assert inputs["hourly"].attrs["units"] == "1"
    for code in PAPER_INPUTS:
        known = time_features(ds["time"]) if code in ("DOY", "TOD") else mask_quality(ds, [code], max_qc)
        expected = scale(known[code].values, VARIABLES[code])
        found = inputs["hourly"].sel(variable=code)
        np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape), err_msg=code)
    np.testing.assert_array_equal(inputs["target"], mask_quality(ds, ["NEE"], max_qc)["NEE"])
    assert np.isfinite(inputs["target"]).any()


def test_order_is_the_models(towers):
    ds = towers[["TA", "WD", "P", "TA_QC", "P_QC"]].isel(site=[0])
    there = model_inputs(ds, FEW)["hourly"]
    back = model_inputs(ds, FEW[::-1])["hourly"]
    xr.testing.assert_identical(there.compute(), back.sel(variable=FEW).compute())


def test_absent_variable_is_missing_throughout(towers):
    inputs = model_inputs(towers[["TA"]].isel(site=[0]), FEW).compute()
    assert inputs["hourly"].sel(variable=["WD", "P"]).isnull().all()
    assert inputs["hourly"].sel(variable=["DOY", "TOD"]).notnull().all()


def test_value_whose_flag_was_decoded_to_nan_is_used(towers):
    ds = towers[["TA"]].isel(site=[0], time=slice(24)).compute().fillna(0)
    ds["TA_QC"] = xr.full_like(ds["TA"], np.nan)
    assert model_inputs(ds, ["TA"])["hourly"].notnull().all()


def test_patches_come_with_bands_and_with_reflectance(towers):
    inputs = model_inputs(towers, ["TA"], PATCH_BANDS)
    assert inputs["patch"].dims == ("site", "day", "band", "y", "x")
    xr.testing.assert_equal(
        inputs["patch"].isel(site=1).compute(), stack_bands(towers.isel(site=1), PATCH_BANDS).compute()
    )
    assert "patch" not in model_inputs(towers, ["TA"])
    assert "patch" not in model_inputs(towers.drop_vars("reflectance"), ["TA"], PATCH_BANDS)


def test_nothing_is_computed(towers):
    with raise_on_compute():
        inputs = model_inputs(towers, PAPER_INPUTS, PATCH_BANDS, target="NEE")
        one = model_inputs(towers.isel(site=0), PAPER_INPUTS, PATCH_BANDS, target="NEE")
    assert inputs["hourly"].chunks[0] == (1,) * 12
    assert one["hourly"].shape == (1, towers.sizes["time"], 21)


def test_real_store_stays_on_disk(real_towers):
    with raise_on_compute():
        inputs = model_inputs(real_towers, ["DOY", "TOD", "TA", "SW_IN", "VPD"], target="NEE")
    assert inputs["hourly"].sizes["site"] == 180
    assert not any(coordinate.chunks for coordinate in inputs.coords.values())


def test_inputs_of_a_tower_do_not_depend_on_other_towers(towers):
    among = model_inputs(towers, FEW, ["B1"], target="NEE").isel(site=2).compute()
    alone = model_inputs(towers.isel(site=2), FEW, ["B1"], target="NEE")
    assert alone.sizes["site"] == 1
    assert alone["site"].item() == among["site"].item()
    xr.testing.assert_equal(
        alone.isel(site=0).compute().reset_coords(drop=True), among.reset_coords(drop=True)
    )


def test_tower_without_a_name_gets_one(towers):
    alone = as_towers(towers.isel(site=0, drop=True))
    assert alone["site"].values.tolist() == ["tower"]


def test_dataset_in_memory_is_chunked_by_tower(towers):
    chunked = as_towers(towers[["TA", "NEE"]].isel(site=[0, 1]).compute())
    assert chunked["TA"].chunks == ((1, 1), (towers.sizes["time"],))


def test_chunks_along_time_are_kept(towers):
    chunked = as_towers(towers[["TA"]].chunk(site=-1, time=1000))
    assert chunked["TA"].chunks == ((1,) * 12, (1000,) * 8 + (760,))


@pytest.mark.parametrize("dims", [("time", "site"), ("site", "time")])
def test_order_of_dimensions_does_not_matter(towers, dims):
    ds = towers[["TA"]].isel(site=[0, 1])
    xr.testing.assert_identical(
        model_inputs(ds.transpose(*dims), FEW).compute(), model_inputs(ds, FEW).compute()
    )


def test_unknown_predictor_is_an_error(towers):
    with pytest.raises(VariableError, match=r"no variable 'TAA'.*'TA'"):
        model_inputs(towers, ["TA", "TAA"])


def test_target_as_predictor_is_an_error(towers):
    with pytest.raises(VariableError, match=r"\['NEE'\] are target variables and cannot be predictors"):
        model_inputs(towers, ["TA", "NEE"])


@pytest.mark.parametrize("variables", [["WTD", "DOY"], ["DOY", "TOD"]])
def test_no_predictor_at_all_is_an_error(towers, variables):
    with pytest.raises(VariableError, match="at least one of"):
        model_inputs(towers, variables)


def test_absent_target_is_an_error(towers):
    with pytest.raises(VariableError, match=r"training and scoring needs \['NEE'\]"):
        model_inputs(towers[["TA"]], ["TA"], target="NEE")


@pytest.mark.parametrize("code", ["TA", "NEE"])
def test_other_units_are_an_error(towers, code):
    wrong = towers.assign({code: towers[code].assign_attrs(units="K")})
    with pytest.raises(MetadataError, match=f"{code} has units 'K'"):
        model_inputs(wrong, ["TA"], target="NEE")


def test_time_axis_with_a_gap_is_an_error(towers):
    with pytest.raises(TimestampError, match="hourly without gaps"):
        model_inputs(towers.isel(time=[0, 1, 3]), ["TA"])


# Grids


@pytest.fixture
def grid() -> xr.Dataset:
    rng = np.random.default_rng(0)
    time = np.datetime64("2010-07-01", "ns") + np.arange(50) * np.timedelta64(1, "h")
    axes = {"time": time, "lat": [50.0, 49.0, 48.0], "lon": [-120.0, 0.1, 15.0, 100.0]}
    ds = xr.Dataset({"TA": (tuple(axes), rng.uniform(0, 30, (50, 3, 4)).astype("float32"))}, axes)
    return ds.assign(CO2=("time", rng.uniform(400, 420, 50)), TA_QC=(ds["TA"] > 25).astype("int8") * 2)


def test_cell_of_a_grid_equals_a_tower_in_solar_time(grid):
    variables = ["DOY", "TOD", "TA", "CO2", "P"]
    with raise_on_compute():
        inputs = model_inputs(grid.chunk(time=20, lat=2), variables)
    assert inputs["hourly"].dims == ("lat", "lon", "time", "variable")
    assert inputs["hourly"].chunks == ((2, 1), (4,), (20, 20, 10), (5,))
    assert inputs["local_time"].chunks == ((20, 20, 10), (4,))
    for lon in range(4):
        cell = grid.isel(lat=1, lon=lon)
        solar = cell["time"].values + np.rint(cell["lon"].values * 240).astype("m8[s]")
        tower = cell.drop_vars(["lat", "lon"]).assign_coords(time=solar)
        expected = model_inputs(tower, variables)["hourly"].isel(site=0)
        np.testing.assert_array_equal(inputs["hourly"].isel(lat=1, lon=lon), expected)
        np.testing.assert_array_equal(inputs["local_time"].isel(lon=lon), solar)


def test_grid_in_memory_is_chunked_and_chunks_of_a_lazy_grid_are_kept(grid, monkeypatch):
    monkeypatch.setattr("xcarbon.prep.inputs.CELLS", 2)
    monkeypatch.setattr("xcarbon.prep.inputs.CELL_HOURS", 30)
    chunks = {"lat": (2, 1), "lon": (2, 2), "time": (30, 20)}
    assert model_inputs(grid, ["TA"])["hourly"].chunks[:3] == tuple(chunks.values())
    assert model_inputs(grid.chunk(), ["TA"])["hourly"].chunks[:3] == ((3,), (4,), (50,))


def test_grids_have_no_target(grid):
    with pytest.raises(VariableError, match=r"needs towers on \(site, time\), found \['lat', 'lon'\]"):
        model_inputs(grid.assign(NEE=grid["TA"].drop_attrs()), ["TA"], target="NEE")


# Plausibility


@pytest.mark.parametrize("lazy", [False, True])
def test_light_slightly_below_zero_at_night_is_darkness(towers, lazy):
    ds = towers[["SW_IN", "TA"]].isel(site=[0, 1])
    ds = ds if lazy else ds.load()
    night = ds.assign(SW_IN=ds["SW_IN"].where(ds["SW_IN"] > 0, -3.0))
    dark = ds.assign(SW_IN=ds["SW_IN"].where(ds["SW_IN"] > 0, 0.0))
    xr.testing.assert_identical(
        model_inputs(night, ["SW_IN", "TA"]).compute(), model_inputs(dark, ["SW_IN", "TA"]).compute()
    )


@pytest.mark.parametrize("value", [9999, -999, -6999, 350, 1e20, np.inf])
def test_implausible_predictors_and_targets_are_missing(towers, value):
    ds = towers[["TA", "NEE"]].isel(site=[0]).load()
    known = ds["NEE"].notnull() & ds["TA"].notnull()
    wrong = ds.where((ds["time"].dt.hour != 3) | ~known, value)
    inputs = model_inputs(wrong, ["TA"], target="NEE").compute()
    expected = model_inputs(ds.where(wrong != value), ["TA"], target="NEE").compute()
    xr.testing.assert_identical(inputs, expected)
