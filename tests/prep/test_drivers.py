"""Gaps are filled with reanalysis of the right hour and cell, without bias, and nothing else changes."""

from __future__ import annotations

import warnings

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xcarbon
from tests.budget.samples import light_model
from xcarbon.budget import gapfill
from xcarbon.core.errors import MetadataError, OptionError, TimestampError, VariableError
from xcarbon.core.variables import VARIABLES
from xcarbon.prep.drivers import RULES, adjust_tower, fill_drivers, fit_adjustment, shift_hours
from xcarbon.prep.quality import mask_quality
from xcarbon.testing import raise_on_compute, synthetic_grid, synthetic_towers

GAP = slice(3000, 4000)
IN_GAP = (np.arange(8760) >= GAP.start) & (np.arange(8760) < GAP.stop)


@pytest.fixture(scope="module")
def truth() -> xr.Dataset:
    names = [*RULES, "NEE"]
    return synthetic_towers(2, patches=False, variables=names, gaps=False, seed=4).load()


@pytest.fixture(scope="module")
def gappy(truth) -> xr.Dataset:
    inside = xr.DataArray(IN_GAP, dims="time")
    hidden = {code: truth[code].where(~inside) for code in RULES}
    flags = {f"{code}_QC": truth[f"{code}_QC"].where(~inside, -1) for code in RULES if f"{code}_QC" in truth}
    return truth.assign(hidden | flags)


def in_utc(towers: xr.Dataset, **fields: xr.DataArray) -> xr.Dataset:
    """Make series of reanalysis on (time, site) in UTC from arrays on the clocks of towers."""
    series = []
    for site in towers["site"].values:
        one = towers.sel(site=site)
        time = one["time"].values - np.timedelta64(round(float(one["utc_offset"]) * 60), "m")
        arrays = {code: ("time", field.sel(site=site).values) for code, field in fields.items()}
        series.append(xr.Dataset(arrays, {"time": time}).expand_dims(site=[site]))
    return xr.concat(series, "site", join="outer")


def biased(truth: xr.Dataset) -> xr.Dataset:
    """Make reanalysis that has another bias for each rule."""
    lines = {"TA": 3.0, "PA": 5.0, "LW_IN": -20.0, "VPD": -1.0, "RH": 4.0}
    return in_utc(truth, **{code: truth[code] / 1.25 + lines.get(code, 0) for code in RULES})


# Kernels


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


# Clocks and cells


@pytest.mark.parametrize("offset", [-8.0, 0.0, 1.0, 5.5, 5.75, 9.5])
def test_labels_are_shifted_by_the_offset(truth, offset):
    tower = truth.isel(site=[0]).assign_coords(utc_offset=("site", [offset]))
    utc = (tower["time"] - tower["time"][0]).values / np.timedelta64(1, "h") - offset
    tower = tower.assign(TA=(("site", "time"), (utc % 24)[None] - 10))[["TA"]]
    smooth = tower["TA"].where(abs(utc % 24 - 12) < 10)  # away from midnight, where the saw-tooth falls
    stamps = tower["time"].values[0] + np.arange(-24, 8800) * np.timedelta64(1, "h")
    era5 = xr.Dataset({"TA": ("time", np.arange(-24, 8800) % 24.0)}, {"time": stamps})
    filled = fill_drivers(tower.assign(TA=smooth.where(smooth["time"].dt.month != 5)), era5)
    there = smooth.notnull()
    np.testing.assert_allclose(filled["TA"].where(there), smooth, atol=1e-4)
    assert float(filled["era5_rmse"][0, 0]) < 1e-4


def towers_at(*places: tuple[float, float]) -> xr.Dataset:
    """Make towers of 30 days in UTC with a gap of one day."""
    time = np.arange("2010-01-01", "2010-01-31", dtype="M8[h]").astype("M8[ns]")
    rng = np.random.default_rng(5)
    values = rng.normal(size=(len(places), time.size))
    values[:, 100:124] = np.nan
    coords = {
        "time": time,
        "site": [f"XX-{number:03d}" for number in range(len(places))],
        "lat": ("site", [place[0] for place in places]),
        "lon": ("site", [place[1] for place in places]),
        "utc_offset": ("site", np.zeros(len(places))),
    }
    return xr.Dataset({"TA": (("site", "time"), values)}, coords)


def grid_with(towers: xr.Dataset, cells: list[tuple[float, float]], lats, lons) -> xr.Dataset:
    """Make a grid with the complete series of each tower plus 1 in one cell, and noise in the others."""
    rng = np.random.default_rng(6)
    values = rng.normal(size=(towers.sizes["time"], len(lats), len(lons)))
    grid = xr.DataArray(values, {"time": towers["time"], "lat": lats, "lon": lons}, ("time", "lat", "lon"))
    for number, (lat, lon) in enumerate(cells):
        grid.loc[{"lat": lat, "lon": lon}] = towers["TA"][number].fillna(7.0) + 1
    return grid.to_dataset(name="TA")


def test_the_cell_of_each_tower_is_selected():
    lats, lons = np.arange(50.0, 47, -0.25), np.arange(8.0, 11, 0.25)
    towers = towers_at((49.3, 9.4), (48.1, 10.2))
    era5 = grid_with(towers, [(49.25, 9.5), (48.0, 10.25)], lats, lons)
    filled = fill_drivers(towers, era5, min_hours=200)
    np.testing.assert_allclose(filled["TA"][:, 100:124], 7, atol=1e-5)
    np.testing.assert_allclose(filled["era5_intercept"], -1, atol=1e-5)


def test_cells_without_values_are_replaced_by_the_nearest_with_values():
    lats, lons = np.arange(50.0, 47, -0.25), np.arange(8.0, 11, 0.25)
    towers = towers_at((49.3, 9.4), (50.0, 8.0))
    era5 = grid_with(towers, [(49.25, 9.25), (49.75, 8.25)], lats, lons)
    sea = [(49.25, 9.5), (50.0, 8.0), (50.0, 8.25), (49.75, 8.0)]
    for lat, lon in sea:
        era5["TA"].loc[{"lat": lat, "lon": lon}] = np.nan
    filled = fill_drivers(towers, era5, min_hours=200)
    np.testing.assert_allclose(filled["TA"][:, 100:124], 7, atol=1e-5)


def test_longitudes_are_cyclic():
    lats, lons = np.arange(-10.0, 10, 1), np.arange(-180.0, 180, 1)
    towers = towers_at((2.1, 179.8))
    filled = fill_drivers(towers, grid_with(towers, [(2, -180)], lats, lons), min_hours=200)
    np.testing.assert_allclose(filled["TA"][:, 100:124], 7, atol=1e-5)
    eastwards = grid_with(towers, [(2, 180)], lats, lons % 360)
    again = fill_drivers(towers, eastwards.sortby("lon"), min_hours=200)
    np.testing.assert_allclose(again["TA"][:, 100:124], 7, atol=1e-5)


def test_towers_outside_the_grid_are_named():
    lats, lons = np.arange(50.0, 47, -0.25), np.arange(8.0, 11, 0.25)
    era5 = grid_with(towers_at((48, 9)), [], lats, lons)
    with pytest.warns(UserWarning, match="do not increase with reanalysis"):  # a corner cell has noise
        fill_drivers(towers_at((50.1, 7.9)), era5, min_hours=200)
    with pytest.raises(MetadataError, match=r"XX-001: the tower at 50\.2 degrees north, 8 degrees east"):
        fill_drivers(towers_at((48, 9), (50.2, 8)), era5)
    with pytest.raises(MetadataError, match="XX-000: lat or lon is missing"):
        fill_drivers(towers_at((np.nan, 9)), era5)


# Values and flags


def test_gaps_are_filled_without_bias_and_measurements_are_kept(truth, gappy):
    filled = gappy.carbon.fill_drivers(biased(truth))
    for code in RULES:
        span = float(truth[code].max() - truth[code].min())
        np.testing.assert_allclose(filled[code][:, GAP], truth[code][:, GAP], atol=1e-4 * span)
        kept = gappy[code].notnull()
        np.testing.assert_array_equal(filled[code].where(kept), gappy[code])
        expected = xr.where(kept, gappy.get(f"{code}_QC", 0), 2)
        np.testing.assert_array_equal(filled[f"{code}_QC"], expected.transpose("site", "time"))
        assert filled[f"{code}_QC"].dtype == np.int8
    assert filled["era5_slope"].dims == ("site", "driver")
    np.testing.assert_allclose(filled["era5_slope"], 1.25, rtol=1e-3)
    assert (filled["era5_hours"] <= 7760).all()
    xr.testing.assert_identical(filled["NEE"], gappy["NEE"])


def test_filled_hours_are_not_fitted_again(truth, gappy):
    era5 = biased(truth)
    first = fill_drivers(gappy, era5[["TA", "WS"]].where(era5["time"].dt.dayofyear < 150))
    again = fill_drivers(first, era5)
    assert (first["TA"][:, GAP].isnull().sum() > 0) and again["TA"].notnull().all()
    assert (again["era5_hours"].sel(driver="TA") == 7760).all()


def test_the_order_of_dims_is_kept(truth, gappy):
    filled = fill_drivers(gappy.transpose("time", ...), biased(truth))
    assert filled["TA"].dims == filled["TA_QC"].dims == ("time", "site")
    np.testing.assert_array_equal(filled["TA"].T, fill_drivers(gappy, biased(truth))["TA"])


def test_flags_above_the_tolerance_are_replaced_on_request(truth, gappy):
    flagged = truth.assign(TA_QC=truth["TA_QC"].copy(data=np.tile([0, 0, 0, 1, 2], (2, 1752))))
    era5 = biased(truth)[["TA"]]
    xr.testing.assert_equal(fill_drivers(flagged, era5)["TA"], flagged["TA"])
    filled = fill_drivers(flagged, era5 + 1, max_qc=0)
    np.testing.assert_array_equal(filled["TA_QC"][0, :5], [0, 0, 0, 2, 2])
    measured = flagged["TA_QC"] == 0
    np.testing.assert_array_equal(filled["TA"].where(measured), flagged["TA"].where(measured))
    assert (filled["era5_hours"] <= 5256).all()


def test_filled_values_are_plausible(truth, gappy):
    noise = np.random.default_rng(7).normal(size=truth["TA"].shape)
    rough = {code: truth[code] + 0.3 * float(truth[code].std()) * noise for code in ("RH", "VPD", "WS")}
    era5 = in_utc(truth, SW_IN=truth["SW_IN"] * 1.3, **rough)
    filled = fill_drivers(gappy, era5)
    assert filled["RH"][:, GAP].max() == 100
    assert filled["VPD"][:, GAP].min() == 0
    assert filled["WS"][:, GAP].min() >= 0
    dark = truth["SW_IN"][:, GAP] == 0
    assert dark.sum() > 300
    assert (filled["SW_IN"][:, GAP].where(dark, 0) == 0).all()


def test_implausible_values_are_gaps_and_are_not_fitted(truth):
    spoilt = truth.copy(deep=True)
    spoilt["TA"][:, 50] = 9999
    filled = fill_drivers(spoilt, biased(truth)[["TA"]])
    np.testing.assert_allclose(filled["TA"][:, 50], truth["TA"][:, 50], atol=1e-3)


def test_hours_outside_the_record_are_not_filled(truth):
    tower = truth.where(truth["time"].dt.month.isin([3, 4, 5, 6, 7, 8]))
    tower["TA"] = tower["TA"].where(tower["time"].dt.month > 3)  # the flux begins in March
    filled = fill_drivers(tower, biased(truth))
    in_record = truth["time"].dt.month.isin([3, 4, 5, 6, 7, 8])
    np.testing.assert_array_equal(filled["TA"].notnull().all("site"), in_record)
    assert (filled["TA_QC"].where(filled["time"].dt.month == 3, 2) == 2).all()


def test_meanings_of_flags_include_reanalysis(truth):
    mds = {"flag_values": np.arange(4), "flag_meanings": "measured good_gapfill medium_gapfill poor_gapfill"}
    ds = truth.drop_vars("WS_QC", errors="ignore").assign(TA_QC=truth["TA_QC"].assign_attrs(mds))
    filled = fill_drivers(ds, biased(truth))
    meanings = "missing measured good_gapfill medium_gapfill_or_reanalysis poor_gapfill"
    assert filled["TA_QC"].attrs["flag_meanings"] == meanings
    for code in ("WS", "SW_IN"):
        assert filled[f"{code}_QC"].attrs["flag_meanings"].split()[3] == "downscaled_from_reanalysis"
    assert filled["WS"].attrs["ancillary_variables"] == "WS_QC"
    assert "10.5194/essd-7-157-2015" in filled["WS"].attrs["comment"]


# What cannot be filled


def test_short_overlaps_leave_the_gap_and_warn(truth, gappy):
    short = gappy.copy(deep=True)
    short["TA"][0] = short["TA"][0].where(np.arange(8760) < 100)
    first = gappy["site"].values[0]
    with pytest.warns(UserWarning, match=f"{first}: 8660 missing hours of TA are not filled: 100 hours"):
        filled = fill_drivers(short, biased(truth)[["TA"]])
    np.testing.assert_array_equal(filled["TA"][0], short["TA"][0])
    np.testing.assert_array_equal(filled["TA_QC"][0], short["TA_QC"][0])
    assert filled["TA"][1].notnull().all()
    assert filled["era5_hours"][0, 0] == 100
    assert np.isnan(filled["era5_slope"][0, 0])


def test_slopes_that_are_not_positive_are_refused(truth, gappy):
    era5 = in_utc(truth, TA=-truth["TA"])
    with pytest.warns(UserWarning, match="of TA are not filled: the measurements do not increase"):
        filled = fill_drivers(gappy, era5)
    np.testing.assert_array_equal(filled["TA"], gappy["TA"])


def test_variables_that_towers_lack_are_left_out_with_a_notice(truth, gappy):
    with pytest.warns(UserWarning, match="LW_IN of reanalysis cannot be adjusted and is left out"):
        filled = fill_drivers(gappy.drop_vars("LW_IN"), biased(truth))
    assert "LW_IN" not in filled
    assert "LW_IN" not in filled["driver"]


def test_what_is_wrong_is_named(truth, gappy):
    era5 = biased(truth)
    with pytest.raises(VariableError, match="no variable in common"):
        fill_drivers(gappy, era5[["TA"]].rename(TA="CO2"))
    with pytest.raises(MetadataError, match="TA has units 'K'"):
        fill_drivers(gappy, era5.assign(TA=era5["TA"].assign_attrs(units="K")))
    unknown = gappy.assign_coords(utc_offset=("site", [np.nan, 1.0]))
    with pytest.raises(MetadataError, match=f"utc_offset is missing for .'{gappy['site'].values[0]}'"):
        fill_drivers(unknown, era5)
    later = era5.assign_coords(time=era5["time"] + np.timedelta64(3660, "D"))
    with pytest.raises(TimestampError, match=r"no hours in common: the towers have 2010-01-01T00:00 to"):
        fill_drivers(gappy, later)
    with pytest.raises(TimestampError, match="must be UTC"):
        fill_drivers(gappy, truth)
    with pytest.raises(TimestampError, match="must be hourly"):
        fill_drivers(gappy, era5.isel(time=slice(None, None, 3)))
    with pytest.raises(MetadataError, match=rf"no series for the towers \['{gappy['site'].values[1]}'\]"):
        fill_drivers(gappy, era5.isel(site=[0]))
    with pytest.raises(MetadataError, match="2 towers need a grid"):
        fill_drivers(gappy, era5.isel(site=0))
    with pytest.raises(MetadataError, match="gaps of towers on"):
        fill_drivers(synthetic_grid(2, 2), era5)
    with pytest.raises(OptionError, match="min_hours"):
        fill_drivers(gappy, era5, min_hours=0)
    with pytest.raises(OptionError, match="max_qc"):
        fill_drivers(gappy, era5, max_qc=-1)


# Laziness and files


def test_filling_is_lazy_and_does_not_depend_on_chunks(truth, gappy):
    grid = synthetic_grid(4, 6, variables=["TA", "SW_IN", "VPD", "WS", "P"])
    towers = gappy.assign_coords(lat=("site", [49.7, 49.3]), lon=("site", [8.4, 9.1]))
    eager = fill_drivers(towers, grid.load())
    with raise_on_compute():
        chunked = towers.chunk(site=1, time=1000).assign_coords(towers.coords)
        lazy = fill_drivers(chunked, synthetic_grid(4, 6, variables=list(grid)[:5]))
        half = fill_drivers(towers.chunk(site=2).assign_coords(towers.coords), grid)
    assert all(lazy[name].chunks for name in ("TA", "TA_QC", "era5_slope"))
    xr.testing.assert_allclose(lazy.load(), eager, rtol=1e-5)
    xr.testing.assert_allclose(half.load(), eager, rtol=1e-5)
    alone = towers.isel(site=1).carbon.fill_drivers(grid)
    xr.testing.assert_allclose(alone, eager.isel(site=1), rtol=1e-5)


def test_warnings_of_lazy_towers_come_with_the_values(truth, gappy):
    short = gappy.assign(TA=gappy["TA"].where(gappy["time"].dt.month == 1)).chunk(site=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filled = fill_drivers(short, biased(truth)[["TA"]])
    with pytest.warns(UserWarning, match=f"{gappy['site'].values[1]}: 8016 missing hours of TA"):
        dask.compute(filled["TA"], scheduler="threads")


def test_filled_towers_are_cf_and_survive_files(truth, gappy, findings, tmp_path):
    filled = fill_drivers(gappy, biased(truth))
    assert findings(filled) == []
    filled.carbon.to_store(tmp_path / "towers.zarr")
    again = xcarbon.open_store(tmp_path / "towers.zarr")
    for name in ("TA", "TA_QC", "era5_slope", "era5_hours"):
        np.testing.assert_array_equal(again[name], filled[name])
    filled.carbon.to_netcdf(tmp_path / "towers.nc")
    np.testing.assert_array_equal(xcarbon.open_netcdf(tmp_path / "towers.nc")["TA"], filled["TA"])


def test_filled_drivers_are_used_when_fluxes_are_filled(truth, gappy):
    filled = fill_drivers(gappy, biased(truth)).assign(NEE=gappy["NEE"] * np.nan)
    assert gapfill(filled, model=light_model())["NEE"].notnull().all()
    strict = gapfill(filled, model=light_model(), driver_max_qc=None)["NEE"]
    np.testing.assert_array_equal(strict.isnull().all("site"), filled["SW_IN"][0].copy(data=IN_GAP))


# Real data


def test_real_era5_of_a_neighbouring_cell_is_adjusted(real_data):
    """The towers are real cells; the reanalysis of their own cells is removed."""
    path = real_data / "era5" / "era5_2022_07_alps.nc"
    if not path.exists():
        pytest.skip(f"no ERA5 at {path}")
    era5 = xcarbon.open_era5(path)[["TA", "SW_IN"]].load()
    rows, columns = np.meshgrid(range(1, 14, 4), range(1, 20, 6), indexing="ij")
    cells = era5.isel(lat=("site", rows.ravel()), lon=("site", columns.ravel())).transpose("site", "time")
    truth = cells.drop_vars("utc_offset").assign_coords(
        time=era5["time"].values + np.timedelta64(1, "h"),
        site=[f"XX-{number:03d}" for number in range(rows.size)],
        utc_offset=("site", np.ones(rows.size)),
    )
    hidden = xr.DataArray(np.arange(743) // 24 % 2 == 1, dims="time")
    for row, column in zip(rows.ravel(), columns.ravel(), strict=True):
        era5["TA"][:, row, column] = era5["SW_IN"][:, row, column] = np.nan
    filled = fill_drivers(truth.where(~hidden), era5, min_hours=240)
    error = (filled["TA"] - truth["TA"]).where(hidden)
    assert np.sqrt((error**2).mean()) < 0.5  # 0.4 K, neighbouring cells differ by 0.8 K
    assert abs(error.mean()) < 0.1
    assert (filled["SW_IN"] >= 0).where(hidden & truth["SW_IN"].notnull(), True).all()


def test_real_towers_are_filled_from_a_neighbour(real_towers):
    """A real tower 18 km away, with a clock of 9.5 hours, stands for reanalysis."""
    pair = real_towers[["TA", "TA_QC"]].sel(site=["AU-How", "AU-Fog"], time=slice("2007", "2008")).load()
    pair = pair.drop_vars("paper_split")
    how = pair.sel(site="AU-How")
    fog = mask_quality(pair.sel(site="AU-Fog"), ["TA"], 0)["TA"]
    utc = fog["time"].values - np.timedelta64(570, "m")
    era5 = xr.Dataset({"TA": ("time", fog.values)}, {"time": utc})
    measured = mask_quality(how, ["TA"], 0)["TA"]
    hidden = how["time"].dt.day % 2 == 0
    filled = fill_drivers(how.assign(TA=measured.where(~hidden)), era5)["TA"]
    common = hidden & measured.notnull() & fog.notnull()
    before = np.sqrt(((fog - measured).where(common) ** 2).mean())
    after = np.sqrt(((filled - measured).where(common) ** 2).mean())
    assert common.sum() > 2000
    assert after < 0.95 * before
    assert abs((filled - measured).where(common).mean()) < 0.1
