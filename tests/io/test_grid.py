"""Tests of opening grids lazily and of writing them chunk by chunk."""

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import xcarbon
from tests.processes import exit_code
from xcarbon.core.errors import (
    FileFormatError,
    MetadataError,
    OptionError,
    StoreError,
    TimestampError,
    VariableError,
)
from xcarbon.io import grid
from xcarbon.io.grid import DIMS, open_grid, write_grid, write_years
from xcarbon.prep.cells import cell_area
from xcarbon.quality.cf import cf_findings_in_file

TIME = np.datetime64("2022-07-01", "ns") + np.arange(30) * np.timedelta64(1, "h")


@pytest.fixture
def drivers() -> xr.Dataset:
    rng = np.random.default_rng(0)
    axes = {"time": TIME, "lat": [50.0, 49.5, 49.0], "lon": [8.0, 8.5, 9.0, 9.5]}
    values = rng.uniform(0, 30, (30, 3, 4)).astype("float32")
    values[:, 0, 0] = np.nan
    return xr.Dataset({"TA": (tuple(axes), values)}, axes, {"title": "a small grid"})


@pytest.mark.parametrize("name", ["grid.zarr", "grid.nc"])
def test_what_is_written_is_read_again(drivers, tmp_path, name, findings):
    path = write_grid(drivers.chunk(time=7, lat=2, lon=3), tmp_path / name)
    back = open_grid(path)
    assert back["TA"].chunks and [entry.name for entry in tmp_path.iterdir()] == [name]
    xr.testing.assert_equal(back.drop_vars(["time_bnds", "cell_area"]), drivers)
    assert back["TA"].dtype == np.float32 and back["TA"].attrs["standard_name"] == "air_temperature"
    assert back["time"].attrs["long_name"] == "start of the averaging hour in UTC"
    assert back["lat"].attrs["axis"] == "Y" and "featureType" not in back.attrs
    assert "write_grid" in back.attrs["history"]
    assert findings(back) == []


def test_names_and_precision_of_others(drivers, tmp_path):
    theirs = drivers.rename(lat="latitude", lon="longitude").astype("float64")
    theirs.transpose("longitude", ...).to_zarr(tmp_path / "theirs.zarr")
    back = open_grid(tmp_path / "theirs.zarr")
    assert back["TA"].dtype == np.float32
    xr.testing.assert_equal(back["TA"].transpose("time", "lat", "lon"), drivers["TA"])


@pytest.mark.parametrize("name", ["grid.zarr", "grid.nc"])
def test_failure_leaves_what_was_there(drivers, tmp_path, name):
    path = write_grid(drivers, tmp_path / name)
    with pytest.raises(StoreError, match="exists"):
        write_grid(drivers, path)

    def fail(block):
        raise RuntimeError("power cut")

    broken = drivers.assign(
        TA=drivers["TA"].chunk().copy(data=da.map_blocks(fail, drivers["TA"].chunk().data, dtype="f4"))
    )
    with pytest.raises(RuntimeError, match="power cut"):
        write_grid(broken, path, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert open_grid(path)["TA"].max() < 31
    write_grid(drivers + 1, path, overwrite=True)
    assert open_grid(path)["TA"].min() >= 1


def test_small_chunks_share_a_file(drivers, tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "CHUNK", 10 * 2 * 2)
    path = write_grid(drivers.chunk(time=10, lat=1, lon=1), tmp_path / "grid.zarr")
    assert open_grid(path)["TA"].chunks == ((10, 10, 10), (2, 1), (2, 2))


def test_what_is_no_grid_is_said(drivers, towers, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.zarr"):
        open_grid(tmp_path / "nowhere.zarr")
    (tmp_path / "text.nc").write_text("no")
    with pytest.raises(FileFormatError, match="cannot be opened"):
        open_grid(tmp_path / "text.nc")
    with pytest.raises(StoreError, match="a grid has dims"):
        write_grid(towers, tmp_path / "towers.nc")
    for number, (wrong, error, message) in enumerate(
        [
            (drivers.isel(lat=0), FileFormatError, "not a grid"),
            (drivers.rename(TA="t2m"), VariableError, "t2m"),
            (drivers.isel(time=[0, 2]), TimestampError, "hourly"),
            (drivers.assign(TA=drivers["TA"].assign_attrs(units="K")), MetadataError, "K"),
        ]
    ):
        wrong.to_netcdf(tmp_path / f"{number}.nc")
        with pytest.raises(error, match=message):
            open_grid(tmp_path / f"{number}.nc")


def test_damaged_values_are_named_when_they_are_computed(drivers, tmp_path):
    path = write_grid(drivers, tmp_path / "grid.nc")
    content = path.read_bytes()
    start = content.index(b"\x78\x5e")  # the first chunk compressed by zlib
    path.write_bytes(content[: start + 2] + b"\xff" * 8 + content[start + 10 :])
    with pytest.raises(FileFormatError, match=r"grid\.nc.* cannot be (read|opened)"):
        open_grid(path).load()


def test_store_without_its_metadata_is_named(drivers, tmp_path):
    path = write_grid(drivers, tmp_path / "grid.zarr")
    (path / "zarr.json").unlink()
    with pytest.raises(FileFormatError, match=r"grid\.zarr cannot be opened .*: a file of it is missing"):
        open_grid(path)


@pytest.fixture
def winter(drivers) -> xr.Dataset:
    """Two days of each of two years."""
    time = np.arange("2021-12-30", "2022-01-03", dtype="M8[h]").astype("M8[ns]")
    values = np.random.default_rng(0).uniform(0, 30, (96, 3, 4)).astype("float32")
    axes = {"time": time, "lat": drivers["lat"].values, "lon": drivers["lon"].values}
    return xr.Dataset({"NEE": (DIMS, values), "TA": (DIMS, values)}, axes, {"title": "a"}).chunk(
        time=30, lon=2
    )


def test_years_are_files_with_areas(winter, tmp_path):
    files = winter.carbon.to_years(tmp_path / "maps" / "NEE.nc")
    assert [file.name for file in files] == ["NEE_2021.nc", "NEE_2022.nc"]
    assert sorted(file.name for file in (tmp_path / "maps").iterdir()) == ["NEE_2021.nc", "NEE_2022.nc"]
    assert [cf_findings_in_file(file) for file in files] == [[], []]
    back = xr.open_mfdataset(files)
    np.testing.assert_array_equal(back["NEE"], winter["NEE"])
    assert back["NEE"].attrs["cell_measures"] == "area: cell_area"
    np.testing.assert_allclose(back["cell_area"].isel(time=0, missing_dims="ignore"), cell_area(winter))


def test_days_are_written_with_their_bounds(winter, tmp_path):
    daily = winter.carbon.aggregate("DD")
    assert daily["NEE"].dims == DIMS and daily["NEE"].chunks is not None
    files = daily.carbon.to_years(tmp_path / "daily.nc")
    store = write_grid(daily, tmp_path / "daily.zarr")
    assert [cf_findings_in_file(file) for file in files] == [[], []]
    for back in (xr.open_mfdataset(files), xr.open_zarr(store)):
        xr.testing.assert_allclose(back["NEE"].drop_vars("cell_area"), daily["NEE"])
        assert back["NEE"].attrs["units"] == "g m-2 d-1" and back["NEE"].attrs["cell_methods"] == "time: mean"
        np.testing.assert_array_equal(back["time_bnds"], daily["time_bnds"])
    with pytest.raises(TimestampError, match="hourly"):
        write_grid(winter.resample(time="1D").mean(), tmp_path / "wrong.zarr")


def test_years_are_continued_and_not_mixed(winter, tmp_path, monkeypatch):
    written, write = [], grid.write_file

    def fail_in_second(ds, path):
        written.append(path.name)
        if len(written) == 2:
            raise RuntimeError("power cut")
        write(ds, path)

    monkeypatch.setattr(grid, "write_file", fail_in_second)
    with pytest.raises(RuntimeError, match="power cut"):
        write_years(winter, tmp_path / "NEE.nc")
    assert [entry.name for entry in tmp_path.iterdir()] == ["NEE_2021.nc"]
    write_years(winter, tmp_path / "NEE.nc")
    write_years(winter, tmp_path / "NEE.nc")
    assert written == ["NEE_2021.nc", "NEE_2022.nc", "NEE_2022.nc"]
    with pytest.raises(StoreError, match=r"NEE_2021\.nc exists"):
        write_years(winter + 1, tmp_path / "NEE.nc")
    assert len(written) == 3
    write_years(winter + 1, tmp_path / "NEE.nc", overwrite=True)
    back = xr.open_mfdataset(sorted(tmp_path.iterdir()))
    np.testing.assert_array_equal(back["NEE"], winter["NEE"] + 1)


def write_days(store: Path, path: Path) -> None:
    xcarbon.set_options(progress=False)
    write_years(open_grid(store).carbon.aggregate("DD"), path)


def test_years_of_a_store_are_recognised_by_another_process(winter, tmp_path):
    """The identity of lazy data does not depend on the process."""
    store = write_grid(winter, tmp_path / "nee.zarr")
    files = write_years(open_grid(store).carbon.aggregate("DD"), tmp_path / "d.nc")
    before = [file.stat().st_ino for file in files]
    assert exit_code(write_days, store, tmp_path / "d.nc") == 0
    assert [file.stat().st_ino for file in files] == before


def test_years_need_a_path_of_files(winter, tmp_path):
    for path in (tmp_path / "folder", "s3://bucket/nee.nc"):
        with pytest.raises(OptionError, match=r"ends in \.nc"):
            write_years(winter, path)


def test_grid_in_a_repository_and_options_of_folders(drivers, tmp_path):
    pytest.importorskip("icechunk", reason="writes stores for buckets")
    path = write_grid(drivers.chunk(time=7), f"{tmp_path}/grid.icechunk")
    xr.testing.assert_equal(open_grid(path)["TA"].drop_vars("cell_area"), drivers["TA"])
    with pytest.raises(StoreError, match="exists"):
        write_grid(drivers, path)
    with pytest.raises(OptionError, match="storage_options"):
        open_grid(path, storage_options={"region": "a"})
    with pytest.raises(OptionError, match="storage_options"):
        write_grid(drivers, path, storage_options={"region": "a"})
