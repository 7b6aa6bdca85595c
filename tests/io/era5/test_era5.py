"""Labels, means and sums of hourly ERA5 are computed lazily."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.io.era5.samples import assert_same, everything, make
from xcarbon.io.era5 import open_era5
from xcarbon.prep.scale import time_features
from xcarbon.testing import raise_on_compute


def test_real_temperature_is_the_mean_of_both_ends_of_the_hour(alps):
    found = open_era5(alps)["TA"]
    with xr.open_dataset(alps) as source:
        expected = (source["t2m"].values[:-1] + source["t2m"].values[1:]) / 2 - 273.15
    assert found.dtype == np.float32
    assert -10 < found.min() < found.max() < 40
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_real_sums_belong_to_the_hour_that_ends_at_their_stamp(alps):
    found = open_era5(alps)["SW_IN"]
    with xr.open_dataset(alps) as source:
        np.testing.assert_allclose(found, source["ssrd"].values[1:] / 3600, rtol=1e-6, atol=1e-3)


def test_real_sun_stands_highest_at_noon_of_mean_solar_time_and_does_not_shine_at_night(alps):
    ds = open_era5(alps).load()
    assert (ds["SW_IN"].where((ds["TOD"] > 21.5) | (ds["TOD"] < 2.5), 0) == 0).all()
    # The maximum over all days excludes clouds. In July, the true sun is 4 to 6 minutes late.
    clear = ds["SW_IN"].max("lat").groupby("time.hour").max()
    middle = (clear["hour"] + 0.5 + ds["utc_offset"] + 3) % 24 - 3
    noon = (clear * middle).sum("hour") / clear.sum("hour")
    np.testing.assert_allclose(noon, 12.1, atol=0.25)


def test_real_month_opens_lazily(alps):
    with raise_on_compute():
        ds = open_era5(alps)
    assert set(ds.data_vars) == {"TA", "SW_IN", "DOY", "TOD"}
    assert ds.sizes["time"] == 743
    assert all(array.chunks for array in ds.data_vars.values())


@settings(max_examples=30)
@given(lon=st.floats(-180, 180), hour=st.integers(0, 24 * 365))
def test_solar_time_is_that_of_towers_at_their_offset(tmp_path_factory, lon, hour):
    path = tmp_path_factory.mktemp("solar") / "source.nc"
    make(np.datetime64("2020-01-01T00") + hour, 3, lon=(lon,), t2m=280.0).to_netcdf(path)
    found = open_era5(path).isel(lon=0)
    expected = time_features(found["time"] + np.rint(lon / 15 * 3600).astype("m8[s]"))
    np.testing.assert_array_equal(found["DOY"], expected["DOY"])
    # time_features counts whole minutes
    np.testing.assert_allclose(found["TOD"], expected["TOD"], atol=1 / 60 + 1e-5)
    assert found["utc_offset"] == pytest.approx(lon / 15, abs=1e-5)
    assert 0 <= found["TOD"].min() <= found["TOD"].max() < 24


def test_day_changes_at_local_midnight(opened):
    found = opened(make("2021-01-01T00", 4, lon=(-30.0, 0.0, 7.5), t2m=280.0)).load()
    np.testing.assert_array_equal(found["TOD"], [[22, 0, 0.5], [23, 1, 1.5], [0, 2, 2.5]])
    np.testing.assert_array_equal(found["DOY"], [[366, 1, 1], [366, 1, 1], [1, 1, 1]])


def test_last_chunk_is_never_empty_and_all_variables_share_their_chunks(opened):
    ds = opened(everything(hours=49), chunks={"time": 24, "longitude": 1})
    assert ds["TA"].chunks == ((24, 24), (3,), (1, 1))  # the stamps have chunks of 24 and 25
    assert ds["TOD"].chunks == ((24, 24), (1, 1))
    assert ds.unify_chunks().chunks == ds.chunks


def test_shift_by_an_hour_costs_a_few_tasks_per_chunk_and_reads_two_chunks(opened):
    def tasks(hours: int, code: str) -> float:
        array = opened(everything(hours=hours), chunks={"time": 10})[code].data
        return len(dask.optimize(array)[0].__dask_graph__()) / array.npartitions

    for code, limit in {"TA": 5, "VPD": 9, "SW_IN": 6, "DOY": 5}.items():
        assert tasks(400, code) == pytest.approx(tasks(100, code), rel=0.1)
        assert tasks(400, code) <= limit
    chunk = opened(everything(hours=100), chunks={"time": 10})["TA"].data.blocks[4]
    read = []
    with dask.callbacks.Callback(pretask=lambda key, *_: read.append(key)):
        chunk.compute(scheduler="synchronous", optimize_graph=False)
    assert sum(str(key[0]).startswith("open_dataset") and len(key) > 1 for key in read) == 2


def test_chunks_change_no_value(opened):
    source = everything(hours=50)
    expected = opened(source).load()
    for chunks in ({"time": 1}, {"time": 7, "latitude": 2}, {"time": 49}):
        assert_same(opened(source, chunks=chunks), expected)


def test_grid_is_cf(opened, findings):
    ds = opened(everything())
    assert findings(ds) == []
    assert "featureType" not in ds.attrs
    np.testing.assert_array_equal(ds["time_bnds"][:, 0], ds["time"])
    np.testing.assert_array_equal(np.diff(ds["time_bnds"]), np.timedelta64(1, "h"))


def test_grid_goes_through_netcdf(opened, tmp_path):
    ds = opened(everything())
    ds.to_netcdf(tmp_path / "drivers.nc")
    with xr.open_dataset(tmp_path / "drivers.nc", decode_coords="all") as found:
        found["time"].attrs["bounds"] = "time_bnds"  # xarray moves it to the encoding
        xr.testing.assert_identical(found.compute(), ds.compute())
