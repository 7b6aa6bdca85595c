"""Tests of opening grids lazily and of writing them chunk by chunk."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from xcarbon.core.errors import FileFormatError, MetadataError, StoreError, TimestampError, VariableError
from xcarbon.io import grid
from xcarbon.io.grid import open_grid, write_grid

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
    xr.testing.assert_equal(back.drop_vars("time_bnds"), drivers)
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
