"""Tests of NetCDF files on several threads."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr

import xcarbon
from tests.processes import exit_code
from xcarbon.core.errors import FileFormatError
from xcarbon.io import handles
from xcarbon.io.handles import LOCK, write_file
from xcarbon.io.netcdf import open_netcdf, write_netcdf
from xcarbon.testing import synthetic_towers


def write_and_open_on_threads(folder: Path) -> None:
    xcarbon.set_options(progress=False)
    ds = synthetic_towers(2, patches=False, variables=["NEE"]).isel(time=slice(200)).compute()

    def write_and_open(number):
        path = write_netcdf(ds.chunk(site=1), folder / f"{number}.nc")
        return open_netcdf(path)["NEE"].load().equals(ds["NEE"])

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(write_and_open, range(15)))


def test_files_are_written_and_opened_on_threads(tmp_path):
    # Without the lock HDF5 crashes the process, so that this runs in another one.
    assert exit_code(write_and_open_on_threads, tmp_path) == 0


def test_one_thread_acquires_the_lock_several_times_and_others_wait():
    assert pickle.loads(pickle.dumps(LOCK)) is LOCK
    with ThreadPoolExecutor(1) as pool, LOCK, LOCK:
        assert not pool.submit(LOCK.acquire, blocking=False).result()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(LOCK.acquire, blocking=False).result()
        pool.submit(LOCK.release).result()


def test_strings_are_written_as_characters(tmp_path):
    """Files with strings crash a process that opens them several times, in any program."""
    path = synthetic_towers(2, patches=False, variables=["TA"]).carbon.to_netcdf(tmp_path / "towers.nc")
    with netCDF4.Dataset(path) as file:
        kinds = {name: variable.dtype for name, variable in file.variables.items()}
    assert kinds["site"] == kinds["igbp"] == "S1"
    assert str not in kinds.values()


def test_only_files_with_strings_stay_open(tmp_path):
    ds = xr.Dataset(coords={"name": ("x", np.array(["a", "bc"], object))})
    ds.to_netcdf(tmp_path / "strings.nc")
    write_file(ds, tmp_path / "characters.nc", {})
    before = len(handles._KEPT)
    assert handles.open_file(tmp_path / "characters.nc")["name"].values.tolist() == ["a", "bc"]
    assert len(handles._KEPT) == before
    handles.open_file(tmp_path / "strings.nc")
    assert len(handles._KEPT) == before + 1


@pytest.mark.parametrize("read", [xcarbon.open_netcdf, xcarbon.open_era5])
def test_folders_patterns_and_grib_are_refused_with_advice(tmp_path, read):
    grib = tmp_path / "era5.grib"
    grib.write_bytes(b"GRIB" + bytes(100))
    with pytest.raises(FileFormatError, match="GRIB, which is not read"):
        read(grib)
    with pytest.raises(FileFormatError, match=r"is a folder, but no Zarr store; .*glob\('\*.nc'\)"):
        read(tmp_path)
    with pytest.raises(FileNotFoundError, match="is a pattern; pass the files"):
        read(tmp_path / "*.nc")
