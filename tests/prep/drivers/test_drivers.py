"""Gaps are filled without bias, and nothing else changes."""

from __future__ import annotations

import warnings

import dask
import numpy as np
import pytest
import xarray as xr

import xcarbon
from tests.budget.samples import light_model
from tests.prep.drivers.samples import GAP, IN_GAP, biased, in_utc
from xcarbon.budget import gapfill
from xcarbon.core.errors import MetadataError, OptionError, TimestampError, VariableError
from xcarbon.prep.drivers import fill_drivers
from xcarbon.prep.drivers.adjustment import RULES
from xcarbon.prep.quality import mask_quality
from xcarbon.testing import raise_on_compute, synthetic_grid


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
