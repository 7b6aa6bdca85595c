"""Datasets in the layouts of ICOS, PLUMBER2 and ERA5 become the Dataset that they were made from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from xcarbon.core.errors import MetadataError, OptionError, TimestampError, VariableError
from xcarbon.core.variables import TARGETS, VARIABLES
from xcarbon.io.era5 import open_era5
from xcarbon.prep.humidity import saturation_vapour_pressure
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.standardize import standardize
from xcarbon.prep.units import AUXILIARY, conversion
from xcarbon.testing import raise_on_compute, synthetic_towers

CARBON = 12.011


@pytest.fixture(scope="module")
def towers() -> xr.Dataset:
    """Two towers of sixty days with gaps, in memory."""
    ds = synthetic_towers(2, seed=3, patches=False).isel(time=slice(0, 24 * 60)).load()
    return ds.drop_vars("time_bnds")


def foreign(array: xr.DataArray, factor: float = 1.0, offset: float = 0.0, **attrs: str) -> xr.DataArray:
    """Return values in other units, in double precision, with other attributes."""
    return (
        (array.drop_attrs().astype("float64") * factor + offset).assign_attrs(attrs).drop_vars(array.coords)
    )


def icos(towers: xr.Dataset) -> xr.Dataset:
    """CF time series: identifiers by cf_role, standard names, labels in the middle of hours with bounds."""
    start = towers["time"].values
    made = {
        "air_temp": foreign(towers["TA"], 1, 273.15, standard_name="air_temperature", units="K"),
        "rain": foreign(towers["P"], 1 / 3600, standard_name="precipitation_flux", units="kg m-2 s-1"),
        "hum": foreign(towers["RH"], 0.01, standard_name="relative_humidity", units="1"),
        "press": foreign(towers["PA"], 1000, standard_name="surface_air_pressure", units="Pa"),
        "VPD_F": foreign(towers["VPD"], 1, units="hPa"),
        "SW_IN_F": foreign(towers["SW_IN"], 1, units="W m-2"),
        "SW_IN_F_QC": towers["SW_IN_QC"].where(towers["SW_IN_QC"] >= 0).drop_attrs().drop_vars(towers.coords),
        "wind": foreign(towers["WS"], 3.6, standard_name="wind_speed", units="km h-1"),
        "co2": foreign(
            towers["CO2"], 1e-6, standard_name="mole_fraction_of_carbon_dioxide_in_air", units="mol mol-1"
        ),
        "NEE_VUT_REF": foreign(towers["NEE"], CARBON * 0.0864, units="gC m-2 d-1"),
        "GPP_NT_VUT_REF": foreign(towers["GPP_NT"]),
    }
    ds = xr.Dataset({name: array.rename(site="station") for name, array in made.items()})
    ds = ds.assign_coords(
        time=("time", start + np.timedelta64(30, "m"), {"standard_name": "time", "bounds": "time_bounds"}),
        time_bounds=(("time", "nv"), np.stack([start, start + np.timedelta64(1, "h")], 1)),
        station_id=(
            "station",
            np.char.encode(towers["site"].values.astype("U")),
            {"cf_role": "timeseries_id"},
        ),
        latitude=("station", towers["lat"].values, {"units": "degrees_north"}),
        longitude=("station", towers["lon"].values % 360, {"units": "degrees_east"}),
        alt=("station", towers["elevation"].values / 1000, {"standard_name": "altitude", "units": "km"}),
    )
    ds["battery"] = ("station", np.ones(ds.sizes["station"]), {"units": "V"})
    return ds.assign_attrs({"title": "towers", "Package contact": "someone", "Conventions": "CF-1.8"})


def plumber2(towers: xr.Dataset) -> xr.Dataset:
    """One tower on (time, y, x) with the ALMA names, as FluxnetLSM writes it."""
    tower = towers.isel(site=0)
    kelvin = foreign(tower["TA"], 1, 273.15, units="K", Fluxnet_name="TA_F_MDS")
    made = {
        "Tair": kelvin.expand_dims(z=[1.0]),
        "Precip": foreign(tower["P"], 1 / 3600, units="kg/m2/s"),
        "VPD": foreign(tower["VPD"], units="hPa"),
        "RH": foreign(tower["RH"], units="%", standard_name="relative_humidity"),
        "Psurf": foreign(tower["PA"], 1000, units="Pa"),
        "SWdown": foreign(tower["SW_IN"], units="W/m2"),
        "Wind": foreign(tower["WS"], units="m/s"),
        "CO2air": foreign(tower["CO2"], units="ppm"),
        "NEE": foreign(tower["NEE"], units="umol/m2/s"),
        "GPP": foreign(tower["GPP_NT"], units="umol/m2/s", Fluxnet_name="GPP_NT_VUT_REF"),
        "Qh": foreign(tower["H"], units="W/m2"),
        "Tair_qc": foreign(tower["TA_QC"].where(tower["TA_QC"] >= 0), 2, units="-"),
    }
    ds = xr.Dataset(made, attrs={"site_code": "SY-001", "site_name": str(tower["site_name"].values)})
    ds = ds.expand_dims(y=[1.0], x=[1.0]).transpose("time", ..., "y", "x")
    ds = ds.assign_coords(time=tower["time"].values)
    ds["latitude"] = (("y", "x"), [[float(tower["lat"])]], {"units": "degrees_north"})
    ds["longitude"] = (("y", "x"), [[float(tower["lon"])]], {"units": "degrees_east"})
    ds["elevation"] = (("y", "x"), [[float(tower["elevation"])]], {"units": "m"})
    ds["IGBP_veg_short"] = ((), np.bytes_(f"{tower['igbp'].values!s:200}"), {"units": "-"})
    return ds


@pytest.fixture
def grid() -> xr.Dataset:
    """Drivers of the data model on a grid, with longitudes on both sides of Greenwich."""
    rng = np.random.default_rng(0)
    time = np.datetime64("2022-07-01", "ns") + np.arange(48) * np.timedelta64(1, "h")
    axes = {"time": time, "lat": [50.0, 49.75, 49.5], "lon": [-0.5, -0.25, 0.0, 0.25]}

    def draw(low: float, high: float) -> tuple[tuple[str, ...], np.ndarray]:
        return tuple(axes), rng.uniform(low, high, (48, 3, 4)).astype("float32")

    return xr.Dataset({"TA": draw(5, 30), "PA": draw(90, 100), "P": draw(0, 3), "SW_IN": draw(0, 900)}, axes)


def era5(grid: xr.Dataset) -> xr.Dataset:
    """Names, units and 0..360 degrees of ERA5; a sum belongs to the hour that ends at its stamp."""
    made = {
        "t2m": foreign(grid["TA"], 1, 273.15, units="K", standard_name="air_temperature"),
        "d2m": foreign(grid["TA"], 0.5, 273.15, units="K"),
        "sp": foreign(grid["PA"], 1000, units="Pa", standard_name="surface_air_pressure"),
        "tp": foreign(grid["P"], 1e-3, units="m").shift(time=1),
        "ssrd": foreign(
            grid["SW_IN"], 3600, units="J m**-2", standard_name="surface_downwelling_shortwave_flux_in_air"
        ).shift(time=1),
    }
    ds = xr.Dataset({name: array.rename(lat="latitude", lon="longitude") for name, array in made.items()})
    ds = ds.rename(time="valid_time").assign_coords(
        valid_time=("valid_time", grid["time"].values, {"standard_name": "time"}),
        latitude=("latitude", grid["lat"].values, {"standard_name": "latitude", "units": "degrees_north"}),
        longitude=("longitude", grid["lon"].values % 360, {"units": "degrees_east"}),
        number=0,
        expver=("valid_time", ["0001"] * 48),
    )
    return ds.sortby("longitude")


def assert_same(found: xr.Dataset, known: xr.Dataset, codes: list[str]) -> None:
    """Compare values and CF attributes."""
    for code in codes:
        assert found[code].dtype == np.float32
        assert found[code].dims == known[code].dims
        assert found[code].attrs["units"] == VARIABLES[code].units
        np.testing.assert_allclose(found[code], known[code], rtol=3e-7, atol=1e-6, err_msg=code)
    np.testing.assert_array_equal(found["time"], known["time"])
    for name in {"lat", "lon", "elevation"} & known.coords.keys():
        np.testing.assert_allclose(found[name], known[name], rtol=1e-6)
    if "site" in known.coords:
        np.testing.assert_array_equal(found["site"], known["site"])


# Round trips


def test_cf_time_series_come_back(towers, findings):
    ds = standardize(icos(towers))
    codes = ["TA", "P", "RH", "PA", "VPD", "SW_IN", "WS", "CO2", "NEE", "GPP_NT"]
    assert_same(ds, towers, codes)
    assert set(ds.data_vars) == {*codes, "SW_IN_QC"}
    np.testing.assert_array_equal(ds["SW_IN_QC"], towers["SW_IN_QC"])
    assert ds["SW_IN_QC"].dtype == np.int8
    assert ds["TA"].attrs["source"] == "air_temp [K]"
    assert "time: taken as local standard time; TA from" in ds.attrs["history"]
    assert "TA from air_temp [K]" in ds.attrs["history"]
    assert ds.attrs["standardization"].splitlines()[-1] == "left out: battery"
    assert findings(ds) == []


def test_plumber2_comes_back(towers, findings):
    ds = standardize(plumber2(towers))
    known = towers.isel(site=[0])
    codes = ["TA", "P", "VPD", "RH", "PA", "SW_IN", "WS", "CO2", "NEE", "GPP_NT", "H"]
    assert_same(ds, known, codes)
    assert ds["igbp"].values == known["igbp"].values
    assert ds["site_name"].values == known["site_name"].values
    assert ds.attrs["standardization"].splitlines()[-1] == "GPP_NT from GPP [umol/m2/s]"  # nothing left out
    np.testing.assert_array_equal(
        ds["TA_QC"], np.minimum(known["TA_QC"] * 2, 3).where(known["TA_QC"] >= 0, -1)
    )
    assert findings(ds) == []


def test_era5_comes_back(grid, findings):
    ds = standardize(era5(grid))
    assert_same(ds.isel(time=slice(-1)), grid.isel(time=slice(-1)), ["TA", "PA", "P", "SW_IN"])
    assert ds["SW_IN"].isel(time=-1).isnull().all()
    assert ds["lon"].values.tolist() == [-0.5, -0.25, 0, 0.25]
    assert ds["lat"].values.tolist() == [50, 49.75, 49.5]
    assert "ends at the stamp" in ds["SW_IN"].attrs["source"]
    assert findings(ds) == []


def test_sums_agree_with_the_reader_of_era5(grid, tmp_path):
    ds = era5(grid).drop_vars(["expver", "number"])
    ds.to_netcdf(tmp_path / "era5.nc")
    known = open_era5(tmp_path / "era5.nc").load()
    found = standardize(ds).isel(time=slice(-1))
    for code in ("P", "SW_IN"):
        np.testing.assert_allclose(found[code], known[code], rtol=1e-6)
    ends = standardize(ds, derive=True)["RH"]  # at the stamps, between which open_era5 averages
    mean = (ends.values[:-1] + ends.values[1:]) / 2
    np.testing.assert_allclose(mean, known["RH"], rtol=1e-5)


@pytest.mark.parametrize("decode_coords", ["all", True])
@pytest.mark.parametrize("layout", [icos, plumber2])
def test_files_are_as_datasets(towers, layout, decode_coords, tmp_path):
    ds = layout(towers)
    ds["time"].encoding = {"units": "hours since 2010-01-01", "dtype": "float64"}
    ds.to_netcdf(tmp_path / "file.nc")
    with xr.open_dataset(tmp_path / "file.nc", chunks={}, decode_coords=decode_coords) as file:
        found, known = standardize(file), standardize(ds)
        xr.testing.assert_equal(found.drop_attrs(), known.drop_attrs())
        assert found.attrs["standardization"] == known.attrs["standardization"]


@pytest.mark.parametrize("layout", [icos, plumber2])
def test_prediction_is_the_same(towers, layout):
    ds = standardize(layout(towers))
    known = towers.isel(site=slice(ds.sizes["site"]))
    known = known[[name for name in ds.data_vars if name in known]]
    names = [name for name in known if str(name).endswith("_QC")]
    ds = ds.drop_vars(names)
    known = known.drop_vars(names)
    place = [name for name in known.coords if name not in (*ds.coords, *ds.dims)]
    expected = known.drop_vars(place).carbon.predict_nee()
    found = ds.carbon.predict_nee()
    assert found.notnull().mean() > 0.9
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_dataset_of_the_data_model_stays_the_same():
    known = synthetic_towers(2, variables=["TA", "NEE"]).isel(time=slice(48), day=slice(2)).load()
    known = known.assign(FAPAR=known["reflectance"].isel(band=0, y=0, x=0, drop=True).drop_attrs())
    ds = standardize(known)
    assert set(ds.variables) == set(known.variables)
    for name in known.variables:
        xr.testing.assert_equal(
            ds[name].drop_vars(ds[name].coords), known[name].drop_vars(known[name].coords)
        )
    assert ds["TA_QC"].attrs["flag_meanings"] == known["TA_QC"].attrs["flag_meanings"]
    xr.testing.assert_equal(standardize(ds).drop_attrs(), ds.drop_attrs())
    alone = standardize(known.isel(site=1))
    xr.testing.assert_equal(alone.drop_attrs(), ds.isel(site=[1]).drop_attrs())


def test_nothing_is_computed(towers, grid):
    with raise_on_compute():
        ds = standardize(icos(towers).chunk(time=500).assign_coords(icos(towers).coords), derive=True)
        cells = standardize(era5(grid).chunk(valid_time=10), derive=True)
        model_inputs(ds, ["TA", "SW_IN"])
    assert all(array.chunks for array in (*ds.data_vars.values(), *cells.data_vars.values()))
    assert ds["TA"].chunks == ((2,), (500, 500, 440))
    xr.testing.assert_equal(cells.compute(), standardize(era5(grid), derive=True))


# Search


def test_ambiguous_standard_name_is_an_error_that_names_the_candidates(grid):
    ds = era5(grid)
    ds["t10m"] = ds["t2m"] - 1
    ds["t10m"].attrs = ds["t2m"].attrs
    with pytest.raises(VariableError, match=r"TA is ambiguous: 't2m', 't10m'.*standardize\(TA=\"t2m\"\)"):
        standardize(ds)
    chosen = ds.carbon.standardize(TA="t10m")
    np.testing.assert_allclose(chosen["TA"], grid["TA"] - 1, atol=1e-5)
    assert "TA" not in standardize(ds, TA=None)


@pytest.mark.parametrize(
    ("choices", "text"),
    [
        ({"TAA": "t2m"}, "no variable 'TAA'"),
        ({"TA": "t3m"}, "'t3m' cannot be used: the Dataset does not contain it"),
        ({"TA": "expver"}, "'expver' cannot be used: it has dims"),
    ],
)
def test_choice_that_does_not_exist_is_an_error(grid, choices, text):
    with pytest.raises(VariableError, match=text):
        standardize(era5(grid), **choices)


def test_documented_name_needs_matching_units(grid):
    ds = era5(grid)
    ds["sp"].attrs = {"units": "m s-1"}  # speed
    assert "PA" not in standardize(ds)
    ds["sp"].attrs = {"units": "Pa", "standard_name": "water_vapor_saturation_deficit_in_air"}
    assert {"PA", "VPD"} & set(standardize(ds).data_vars) == {"VPD"}


def test_gross_production_needs_its_fluxnet_name(towers):
    ds = plumber2(towers)
    del ds["GPP"].attrs["Fluxnet_name"]
    found = standardize(ds)
    assert "GPP_NT" not in found
    assert "GPP" in found.attrs["standardization"]
    assert "GPP_DT" in standardize(ds, GPP_DT="GPP")


def test_name_of_a_code_does_not_count_against_the_standard_name(towers):
    ds = plumber2(towers).rename(Psurf="P").drop_vars("Precip")
    with pytest.raises(MetadataError, match=r"P: units 'Pa' cannot be converted to 'mm'.*P=None"):
        standardize(ds)
    ds["P"].attrs["standard_name"] = "air_pressure"
    np.testing.assert_allclose(standardize(ds)["PA"], towers["PA"].isel(site=[0]), rtol=1e-6)


def test_no_variable_is_an_error(grid):
    ds = era5(grid).drop_attrs()[["t2m"]].rename(t2m="abc")
    ds = ds.rename(latitude="lat", longitude="lon")
    with pytest.raises(VariableError, match="no variable of xcarbon is in"):
        standardize(ds)


def test_variable_without_units_needs_a_fluxnet_name(towers):
    ds = plumber2(towers)
    del ds["NEE"].attrs["units"]
    assert_same(standardize(ds), towers.isel(site=[0]), ["NEE"])
    del ds["Tair"].attrs["units"]
    with pytest.raises(MetadataError, match="Tair, which would be TA, has no units"):
        standardize(ds)


def test_packed_values_are_decoded(grid):
    ds = era5(grid)[["t2m"]]
    packed = ((ds["t2m"] - 280) / 0.01).round().astype("int16")
    ds["t2m"] = packed.assign_attrs(ds["t2m"].attrs, scale_factor=0.01, add_offset=280.0)
    np.testing.assert_allclose(standardize(ds)["TA"], grid["TA"], atol=0.006)


@pytest.mark.parametrize("method", ["predict_nee", "check", "fit"])
def test_errors_suggest_to_standardize(towers, method):
    ds = plumber2(towers)[["Tair", "SWdown"]]
    with pytest.raises(VariableError, match=r"ds\.carbon\.standardize\(\)"):
        getattr(ds.carbon, method)()


# Coordinates


@pytest.mark.parametrize("dim", ["latitude", "longitude"])
def test_row_of_a_grid_keeps_both_dims(grid, dim):
    ds = standardize(era5(grid)[["t2m"]].isel({dim: 0}))
    assert ds["TA"].dims == ("time", "lat", "lon")
    assert ds.sizes[dim[:3]] == 1
    np.testing.assert_allclose(ds["TA"], grid["TA"].sel(lat=ds["lat"], lon=ds["lon"]), rtol=1e-6)


def test_single_cell_in_utc_needs_the_offset(grid):
    cell = era5(grid)[["t2m"]].isel(latitude=0, longitude=1)
    with pytest.raises(MetadataError, match=r"in UTC.*utc_offset=1"):
        standardize(cell)
    ds = standardize(cell, utc_offset=2)
    assert ds["time"].values[0] == np.datetime64("2022-07-01T02")
    assert ds.attrs["standardization"].startswith("time: UTC, shifted by 2 hours")
    assert (ds["utc_offset"].item(), ds["lon"].item()) == (2, 0.25)
    with pytest.raises(OptionError, match="utc_offset is for towers"):
        standardize(era5(grid), utc_offset=1)


@pytest.mark.parametrize(
    ("units", "is_utc"),
    [
        ("seconds since 1970-01-01 00:00:00 UTC", True),
        ("hours since 1970-01-01T00:00:00Z", True),
        ("hours since 1970-01-01 00:00:00 +00:00", True),
        ("days since 1970-01-01", False),
        ("seconds since 2002-01-01 00:00:00", False),
    ],
)
def test_units_of_the_time_may_state_utc(towers, units, is_utc):
    ds = plumber2(towers)
    ds["time"].encoding["units"] = units
    if is_utc:
        with pytest.raises(MetadataError, match="in UTC"):
            standardize(ds)
        ds = ds.carbon.standardize(utc_offset=0)
        assert ds.attrs["standardization"].startswith("time: UTC, shifted by 0 hours")
    np.testing.assert_array_equal(standardize(ds)["time"], towers["time"])


def test_offset_in_the_dataset_is_used(towers):
    tower = icos(towers).isel(station=[0]).drop_vars("time_bounds")
    local = towers["time"].values
    offset = float(towers["utc_offset"][0])
    tower = tower.assign_coords(
        time=("time", local - np.timedelta64(round(offset * 60), "m"), {"long_name": "time, UTC"}),
        utc_offset=("station", [offset]),
    )
    np.testing.assert_array_equal(standardize(tower)["time"], local)


def test_towers_with_one_dim_of_place_need_no_role(towers):
    ds = icos(towers).drop_vars("station_id").rename(station="n")
    assert standardize(ds)["TA"].dims == ("site", "time")
    assert standardize(ds)["site"].values.tolist() == ["0", "1"]


def test_sums_of_era5_land_are_an_error(grid):
    ds = era5(grid).assign_attrs(title="ERA5-Land hourly")
    with pytest.raises(MetadataError, match=r"since 00 UTC.*xcarbon\.open_era5"):
        standardize(ds)
    assert "TA" in standardize(ds, P=None, SW_IN=None)


def test_other_layouts_are_errors(grid, towers):
    curved = era5(grid).rename(latitude="y", longitude="x").drop_vars(["x", "y"])
    curved = curved.assign_coords({name: (("y", "x"), np.zeros((3, 4))) for name in ("lat", "lon")})
    with pytest.raises(MetadataError, match="lat has dims"):
        standardize(curved)
    halves = plumber2(towers)
    halves["time"] = towers["time"].values[0] + np.arange(halves.sizes["time"]) * np.timedelta64(30, "m")
    with pytest.raises(TimestampError, match="steps of 30 minutes"):
        standardize(halves)
    with pytest.raises(TimestampError, match="2010-01-01T00:30 is not the start of a clock hour"):
        standardize(icos(towers).drop_vars("time_bounds"))
    with pytest.raises(TimestampError, match="hourly without gaps"):
        standardize(plumber2(towers).isel(time=[0, 1, 3, 4]))
    with pytest.raises(TimestampError, match="decoded time stamps"):
        standardize(plumber2(towers).assign_coords(time=np.arange(towers.sizes["time"])))
    daily = icos(towers)
    daily["time_bounds"] = daily["time_bounds"] + np.array([0, 23]) * np.timedelta64(1, "h")
    with pytest.raises(TimestampError, match="one hour each"):
        standardize(daily)


# Humidity


@pytest.mark.parametrize("source", ["dew_point", "specific_humidity", "other"])
@pytest.mark.parametrize("code", ["RH", "VPD"])
def test_humidity_is_derived_on_request(towers, code, source):
    ds = plumber2(towers).drop_vars(["RH", "VPD"])
    ta, pa = (ds[name].isel(z=0, drop=True) if name == "Tair" else ds[name] for name in ("Tair", "Psurf"))
    ta, pa = ta.drop_attrs(), pa.drop_attrs()
    saturated = saturation_vapour_pressure(ta - 273.15)
    vapour = saturated * 0.6
    if source == "dew_point":
        log = np.log(vapour / 6.1121)
        dew = (240.96 * log + 17.502 * 0.01) / (17.502 - log)  # inverse of the formula of saturation
        ds["Tdew"] = dew.assign_attrs(standard_name="dew_point_temperature", units="degC")
    elif source == "specific_humidity":
        mixing = 0.622 * vapour / (pa / 100 - 0.378 * vapour)
        ds["Qair"] = mixing.assign_attrs(units="kg/kg")
    elif code == "RH":
        ds["VPD"] = (saturated - vapour).assign_attrs(units="hPa")
    else:
        ds["RH"] = xr.full_like(vapour, 60.0).assign_attrs(units="%")
    assert code not in standardize(ds)
    found = standardize(ds, derive=True)
    known = {"RH": xr.full_like(vapour, 60.0).where(vapour.notnull()), "VPD": saturated - vapour}[code]
    has = found[code].notnull().values.ravel()
    assert has.mean() > 0.8
    np.testing.assert_allclose(
        found[code].values.ravel()[has], known.values.ravel()[has], rtol=2e-4, atol=1e-3
    )
    assert found[code].dtype == np.float32
    assert found[code].attrs["source"].startswith("computed from TA (Tair [K]) and ")
    assert f"\n{code} computed from TA (Tair [K])" in found.attrs["standardization"]
    np.testing.assert_array_equal(found[f"{code}_QC"], found["TA_QC"])


# Units

#: Units of other Datasets with the exact number of our units in one of them, and the zero.
UNITS = [
    ("TA", "K", 1, -273.15), ("TA", "degrees_Celsius", 1, 0), ("TA", "deg C", 1, 0), ("PA", "Pa", 1e-3, 0),
    ("PA", "hPa", 0.1, 0), ("VPD", "Pa", 0.01, 0), ("VPD", "kPa", 10, 0), ("P", "kg m-2 s-1", 3600, 0),
    ("P", "mm/h", 1, 0), ("P", "kg m-2", 1, 0), ("P", "m", 1000, 0), ("P", "mm d-1", 1 / 24, 0),
    ("RH", "1", 100, 0), ("RH", "percent", 1, 0), ("SWC_1", "m3 m-3", 100, 0), ("CO2", "ppm", 1, 0),
    ("CO2", "umolCO2/mol", 1, 0), ("CO2", "mol mol-1", 1e6, 0), ("SW_IN", "J m**-2", 1 / 3600, 0),
    ("PPFD_IN", "µmol photons m-2 s-1", 1, 0), ("PPFD_IN", "mol m-2 s-1", 1e6, 0),
    ("WD", "degree_true", 1, 0),
    ("NEE", "g C m-2 d-1", 1e6 / CARBON / 86400, 0), ("NEE", "gC/m2/day", 1e6 / CARBON / 86400, 0),
    ("NEE", "mg CO2 m-2 s-1", 1e3 / 44.009, 0), ("NEE", "mol m-2 s-1", 1e6, 0), ("WS", "km/h", 1 / 3.6, 0),
    ("FCH4", "mg CH4 m-2 h-1", 1e6 / 16.043 / 3600, 0), ("FCH4", "umol m-2 s-1", 1000, 0),
    ("specific_humidity", "g kg-1", 1e-3, 0), ("elevation", "km", 1000, 0), ("TA", "degF", 5 / 9, -160 / 9),
    ("NEE", "umolm-2s-1", 1, 0), ("NEE", "[µmol+1s-1m-2]", 1, 0), ("FCH4", "nmolCH4m-2s-1", 1, 0),
    ("NEE", "μmol m−2 s−1", 1, 0), ("SW_IN", "Wm-2", 1, 0), ("WS", "ms-1", 1, 0), ("WTD", "cm", 0.01, 0),
    ("VPD", "kpa", 10, 0), ("PA", "mb", 0.1, 0), ("TA", "℃", 1, 0),
]  # fmt: skip


@given(st.sampled_from(UNITS), st.floats(-1e4, 1e4))
def test_conversion_is_linear_and_exact(case, value):
    code, units, factor, offset = case
    found = conversion(units, code)
    np.testing.assert_allclose(found[0] * value + found[1], factor * value + offset, rtol=1e-12, atol=1e-9)


def test_rates_are_summed_over_the_time_step():
    assert conversion("mm s-1", "P", hours=0.5) == (1800, 0)
    assert conversion("J m-2", "SW_IN", hours=0.5)[0] == pytest.approx(1 / 1800)


@given(st.sampled_from([*VARIABLES, *AUXILIARY]))
def test_own_units_are_not_converted(code):
    units = VARIABLES[code].units if code in VARIABLES else AUXILIARY[code]
    assert conversion(units, code) == (1, 0)


@given(st.sampled_from(TARGETS), st.sampled_from(["W m-2", "K", "kg m-2 s-1", "ppm", "Pa"]))
def test_fluxes_of_unknown_mass_or_energy_are_refused(code, units):
    with pytest.raises(MetadataError, match="cannot be converted"):
        conversion(units, code)


def test_mass_is_carbon_if_the_standard_name_states_it():
    assert conversion("kg m-2 s-1", "GPP_DT", as_carbon=True)[0] == pytest.approx(1e9 / CARBON)


@pytest.mark.parametrize(
    ("code", "units", "text"),
    [
        ("PPFD_IN", "W m-2", "related by the spectrum"),
        ("SW_IN", "umol m-2 s-1", "cannot be converted"),
        ("NEE", "g m-2 d-1", "what the mass is made of"),
        ("NEE", "mg CH4 m-2 s-1", "of CH4"),
        ("WD", "1", "cannot be converted"),
        ("RH", "degree", "cannot be converted"),
        ("H", "J m-2", "cannot be converted"),
        ("RH", "-", "cannot be read"),
        ("TA", "warm", "cannot be read"),
    ],
)
def test_other_units_are_errors(code, units, text):
    with pytest.raises(MetadataError, match=text):
        conversion(units, code)


def test_time_zones_are_refused_with_what_to_do():
    time = pd.date_range("2020-01-01", periods=48, freq="h", tz="Europe/Berlin")
    ds = xr.Dataset({"TA": ("time", np.zeros(48))}, {"time": time})
    with pytest.raises(TimestampError, match=r"without a time zone.*tz_localize\(None\)"):
        ds.carbon.standardize()


def test_class_is_read_in_any_letter_case_and_an_unknown_one_is_an_error():
    ds = xr.Dataset(
        {"TA": ("time", np.zeros(48))}, {"time": pd.date_range("2020-01-01", periods=48, freq="h")}
    )
    for text, expected in {"enf": "ENF", " Gra": "GRA", "unk": "", "": "", np.nan: ""}.items():
        assert ds.assign_coords(igbp=text).carbon.standardize()["igbp"].values == [expected]
    for wrong in ("Evergreen Needleleaf Forests", 1):
        with pytest.raises(MetadataError, match=f"igbp: unknown IGBP class '{wrong}'; the classes are ENF"):
            ds.assign_coords(igbp=wrong).carbon.standardize()


def test_single_cell_with_a_flux_is_a_tower():
    # The NetCDF files of OzFlux have a latitude and a longitude of length 1, in local standard time.
    axes = {
        "time": pd.date_range("2020-01-01", periods=48, freq="h"),
        "latitude": [-35.7],
        "longitude": [148.2],
    }
    flux = {"units": "umol/m^2/s", "standard_name": "surface_upward_mole_flux_of_carbon_dioxide"}
    air = {"units": "degC", "standard_name": "air_temperature"}
    values = np.zeros((48, 1, 1))
    ds = xr.Dataset({"Fco2": (tuple(axes), values, flux), "Ta": (tuple(axes), values, air)}, axes)
    with pytest.raises(MetadataError, match=r"is a tower.*ds.squeeze\(\['latitude', 'longitude'\]\)"):
        ds.carbon.standardize()
    tower = ds.squeeze(["latitude", "longitude"]).carbon.standardize()
    assert tower["NEE"].dims == ("site", "time")
    assert "local standard time" in tower.attrs["standardization"]
    assert ds.carbon.standardize(NEE=None)["TA"].dims == ("time", "lat", "lon")
