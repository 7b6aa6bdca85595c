"""Satellite series of all files are one Dataset, which goes through files unchanged."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import xcarbon
from tests.io.satellite.samples import sample
from xcarbon.core.variables import SATELLITE
from xcarbon.io.netcdf import open_netcdf
from xcarbon.io.satellite import is_satellite, open_satellite
from xcarbon.io.store import open_store, to_store
from xcarbon.testing import synthetic_towers


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.nc"):
        open_satellite(tmp_path / "none.nc")


@pytest.fixture(scope="module")
def real_series(real_data) -> xr.Dataset:
    return open_satellite(real_data / "satellite" / "*.nc")


def test_real_series_keep_the_values_of_their_files(real_data, real_series):
    assert set(real_series) >= {*SATELLITE, *(f"{code}_QC" for code in SATELLITE)}
    with xr.open_dataset(real_data / "satellite" / "monthly.nc") as ds:
        month = ds.sel(site="DE-Tha", time="2010-07-01").load()
    july = real_series.sel(site="DE-Tha", day="2010-07-16")
    assert float(july["LST_DAY"]) == pytest.approx(float(month["LST_DAY"]) - 273.15, abs=1e-3)
    assert float(july["SNOW_COVER"]) == pytest.approx(float(month["SNOW"]) / 100)
    assert float(july["SIF"]) == float(month["SIF"])
    with xr.open_dataset(real_data / "satellite" / "fapar_weekly.nc") as ds:
        week = float(ds["FAPAR"].sel(site="DE-Tha", time="2010-07-02"))
    assert float(real_series["FAPAR"].sel(site="DE-Tha", day="2010-07-05")) == week


def test_real_fapar_is_satellite_from_july_2002_on(real_series):
    tharandt = real_series.sel(site="DE-Tha")
    weekly = tharandt["FAPAR_DAYS"] == 7
    seen = tharandt["FAPAR_QC"].where(weekly & (tharandt["day"] < np.datetime64("2002-07-01")), drop=True)
    assert (seen == 2).all()
    assert (
        tharandt["FAPAR_QC"].sel(day=slice("2002-07-05", "2014-12-20")).where(weekly, drop=True) == 0
    ).all()
    months = (
        tharandt["FAPAR_QC"].sel(day=slice("2001", "2001-12")).where(tharandt["FAPAR_DAYS"] == 31, drop=True)
    )
    assert months.size and (months == 0).all()


def test_real_series_are_plausible_and_cf(real_series, findings):
    for code, series in SATELLITE.items():
        assert series.bounds.lower <= float(real_series[code].min())
        assert float(real_series[code].max()) <= series.bounds.upper
    towers = synthetic_towers(3, patches=False, variables=["TA"]).isel(time=slice(48))
    towers = towers.assign_coords(site=["DE-Tha", "FI-Hyy", "US-Ha1"])
    assert findings(towers.carbon.join_satellite(real_series)) == []


def test_series_go_through_store_and_netcdf(real_series, tmp_path):
    towers = synthetic_towers(3, variables=["TA"]).assign_coords(site=["DE-Tha", "FI-Hyy", "ZZ-Zzz"])
    joined = towers.carbon.join_satellite(real_series).compute()
    stored = open_store(to_store(joined, tmp_path / "towers.zarr"))
    assert stored["FAPAR"].chunksizes == {"site": (1, 1, 1), "day": (joined.sizes["day"],)}
    opened = open_netcdf(joined.carbon.to_netcdf(tmp_path / "towers.nc"))
    sites = open_netcdf(joined.carbon.to_sites(tmp_path / "sites"))
    for found in (stored, opened, sites):
        np.testing.assert_array_equal(found["day"], joined["day"])
        for name in (*SATELLITE, *(f"{code}_QC" for code in SATELLITE), "FAPAR_DAYS"):
            np.testing.assert_array_equal(found[name], joined[name])
            assert found[name].dtype == joined[name].dtype
            assert found[name].attrs.keys() == joined[name].attrs.keys()
        assert found["FAPAR"].attrs["composite_days"] == 31


def test_series_alone_go_through_netcdf(real_series, tmp_path):
    real_series.to_netcdf(tmp_path / "series.nc")
    again = open_satellite(tmp_path / "series.nc")
    for name in real_series:
        xr.testing.assert_equal(again[name], real_series[name])
    assert again["FAPAR"].attrs["composite_days"] == real_series["FAPAR"].attrs["composite_days"]


def test_files_are_recognised_by_their_content(real_data, tmp_path):
    assert all(is_satellite(path) for path in (real_data / "satellite").glob("*.nc"))
    assert is_satellite(sample(tmp_path / "a.csv", ["A"], ["2010-01-01"], MCD15A2H_061_Lai_500m=[1.5]))
    others = ("mod09a1_australia.nc", "era5/era5_2022_07_alps.nc", "raw/site_data.csv", "raw/none.csv")
    assert not any(is_satellite(real_data / name) for name in others)


def test_it_is_a_public_name():
    assert xcarbon.open_satellite is open_satellite
