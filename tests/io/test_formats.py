"""Tests of opening towers and grids of any supported format."""

import numpy as np
import pytest
import xarray as xr

from xcarbon.core.errors import FileFormatError, StoreError, VariableError
from xcarbon.io.formats import open_data
from xcarbon.io.grid import write_grid


def drivers(hours=30, **names) -> xr.Dataset:
    time = np.datetime64("2022-07-01", "ns") + np.arange(hours) * np.timedelta64(1, "h")
    axes = {"time": time, "lat": [50.0, 49.5], "lon": [8.0, 8.5]}
    return xr.Dataset({"TA": (tuple(axes), np.full((hours, 2, 2), 20, "float32"))}, axes).rename(names)


@pytest.mark.parametrize("form", ["zarr", "nc", "sites"])
def test_towers(towers, tmp_path, form):
    few = towers[["TA", "NEE"]].isel(site=[0, 1])
    if form == "zarr":
        given = few.carbon.to_store(tmp_path / "towers.zarr")
    elif form == "nc":
        given = few.carbon.to_netcdf(tmp_path / "towers.nc")
    else:
        given = few.carbon.to_sites(tmp_path) and tmp_path / "*.nc"
    ds = open_data(given)
    assert ds["site"].values.tolist() == ["SY-001", "SY-002"]
    assert "local standard time" in ds["time"].attrs["long_name"]


@pytest.mark.parametrize("name", ["grid.zarr", "grid.nc"])
def test_grids(tmp_path, name):
    ds = open_data(write_grid(drivers(), tmp_path / name))
    assert dict(ds["TA"].sizes) == {"time": 30, "lat": 2, "lon": 2}


def test_era5_in_several_files_and_in_blocks_that_a_task_can_predict(tmp_path, real_data):
    era5 = drivers(hours=48, TA="t2m", lat="latitude", lon="longitude") + 273.15
    for number in range(2):
        era5.isel(time=slice(24 * number, 24 * (number + 1))).to_netcdf(tmp_path / f"{number}.nc")
    ds = open_data([tmp_path / "*.nc"])
    assert ds.sizes["time"] == 47
    np.testing.assert_allclose(ds["TA"], 20, atol=1e-4)
    month = open_data(real_data / "era5" / "era5_2022_07_alps.nc")
    assert month["TA"].chunks == ((743,), (14,), (16, 4))


def test_what_cannot_be_opened_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_data(tmp_path / "nowhere.nc")
    with pytest.raises(FileNotFoundError, match="no file to open"):
        open_data([])
    paths = [write_grid(drivers(), tmp_path / f"{name}.nc") for name in "ab"]
    with pytest.raises(FileFormatError, match="together"):
        open_data(paths)
    drivers(TA="sst").to_netcdf(tmp_path / "sea.nc")
    with pytest.raises(VariableError, match="no driver"):
        open_data(tmp_path / "sea.nc")
    xr.Dataset({"site": ("site", ["a"])}).to_zarr(tmp_path / "towers.zarr")
    with pytest.raises(StoreError, match="not a store of towers"):
        open_data(tmp_path / "towers.zarr")
