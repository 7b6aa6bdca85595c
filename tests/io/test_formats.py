"""Tests of opening towers and grids of any supported format."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xcarbon.core.errors import FileFormatError, MetadataError, OptionError, StoreError, VariableError
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


HEADER = "TIMESTAMP_START,TIMESTAMP_END,TA_F,TA_F_QC"
PLACE = "SITE_ID,LOCATION_LAT,LOCATION_LON,IGBP,UTC_OFFSET\nDE-Tha,50.96,13.57,ENF,1\n"


def write_tower(folder) -> Path:
    """Write two hours of a tower, with a table of its site beside them."""
    folder.mkdir(exist_ok=True)
    path = folder / "FLX_DE-Tha_FLUXNET2015_SUBSET_HR_1996-1996_1-4.csv"
    path.write_text(f"{HEADER}\n199601010000,199601010100,2.5,0\n199601010100,199601010200,3.5,0\n")
    (folder / "site_data.csv").write_text(PLACE)
    return path


def test_tower_files_archives_and_folders(towers, tmp_path):
    path = write_tower(tmp_path / "raw")
    archive = tmp_path / "raw.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(path, path.name)
        file.write(path.with_name("site_data.csv"), "site_data.csv")
    for given in (path, path.parent, archive):
        assert open_data(given)["TA"].values.tolist() == [[2.5, 3.5]]
    towers[["TA", "NEE"]].isel(site=[0, 1]).carbon.to_sites(tmp_path / "sites")
    assert open_data(tmp_path / "sites")["site"].values.tolist() == ["SY-001", "SY-002"]


def test_the_content_decides_and_not_the_name(towers, tmp_path):
    few = towers[["TA", "NEE"]].isel(site=[0])
    path = few.carbon.to_netcdf(tmp_path / "towers.csv")
    assert open_data(path)["site"].values.tolist() == ["SY-001"]
    assert open_data(few.carbon.to_store(tmp_path / "store.nc"))["site"].values.tolist() == ["SY-001"]


def test_a_table_of_sites_completes_tower_files_only(towers, tmp_path):
    path = write_tower(tmp_path / "raw")
    table = path.with_name("site_data.csv").rename(tmp_path / "places.csv")
    with pytest.raises(MetadataError, match="DE-Tha"):
        open_data(path)
    assert open_data(path, table)["lat"].item() == pytest.approx(50.96)
    nc = towers[["TA"]].isel(site=[0]).carbon.to_netcdf(tmp_path / "towers.nc")
    with pytest.raises(OptionError, match=r"towers.nc contains its own metadata"):
        open_data(nc, table)
    with pytest.raises(FileFormatError, match="opened together"):
        open_data([nc, path])
    shutil.copy(nc, path.parent)
    with pytest.raises(FileFormatError, match=r"towers.nc and tower files such as FLX_DE-Tha"):
        open_data(path.parent)
    other = tmp_path / "notes.txt"
    other.write_text("nothing to see")
    with pytest.raises(FileFormatError, match="neither Zarr nor NetCDF nor a tower file"):
        open_data(other)
    other.write_text("TIMESTAMP,TA_F\n20100601,1\n")
    with pytest.raises(FileFormatError, match=r"nor a tower file: .*daily or coarser"):
        open_data(other)
