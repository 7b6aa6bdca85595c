"""Tests of chunks that are damaged or lost: they are named in errors and found by the quality checks."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

import xcarbon
from xcarbon.core.errors import StoreError
from xcarbon.io.grid import open_grid, write_grid
from xcarbon.io.store import open_store, to_store
from xcarbon.quality.storage import stored_values
from xcarbon.testing import synthetic_towers
from xcarbon.testing.grids import synthetic_grid


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """Return a store of three towers."""
    ds = synthetic_towers(3, seed=4, variables=["TA", "SW_IN", "NEE"], patches=False)
    return to_store(ds, tmp_path_factory.mktemp("stores") / "towers.zarr")


@pytest.fixture
def store(written, tmp_path) -> Path:
    """Return a copy of the store, which a test may damage."""
    return Path(shutil.copytree(written, tmp_path / "towers.zarr"))


def shard(store: Path, name: str, site: int) -> Path:
    """Return the file of a variable at a site."""
    (found,) = (path for path in (store / name / "c" / str(site)).rglob("*") if path.is_file())
    return found


def flip(path: Path, position: int) -> None:
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.write_bytes(content)


NAMED = r"towers.zarr: NEE at the site SY-002 cannot be read .*xcarbon check"


@pytest.mark.parametrize("position", [100, -2, "short"])
def test_damaged_chunk_is_named(store, position):
    path = shard(store, "NEE", 1)
    if position == "short":
        path.write_bytes(path.read_bytes()[:-50])
    else:
        flip(path, position)
    ds = open_store(store)
    ds["NEE"].isel(site=[0, 2]).compute()
    with pytest.raises(StoreError, match=NAMED):
        ds["NEE"].mean().compute()


def test_no_damaged_byte_reads_as_other_values(store):
    path = shard(store, "NEE", 1)
    for position in range(0, path.stat().st_size, path.stat().st_size // 12):
        flip(path, position)
        with pytest.raises(StoreError, match=NAMED):
            open_store(store)["NEE"].isel(site=1).compute()
        flip(path, position)
    open_store(store)["NEE"].compute()


def test_error_passes_between_processes(store):
    flip(shard(store, "NEE", 1), 100)
    with pytest.raises(StoreError, match=NAMED) as caught:
        open_store(store)["NEE"].isel(time=slice(10)).compute()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_damaged_chunk_is_named_by_predictions_and_training(store, tmp_path):
    ds = open_store(store).isel(time=slice(400))
    model = ds.isel(site=[0]).carbon.fit("xgboost", run_dir=tmp_path / "run", n_estimators=2)
    flip(shard(store, "SW_IN", 1), 100)
    named = "SW_IN at the site SY-002 cannot be read"
    with pytest.raises(StoreError, match=named):  # towers that were predicted before would be kept for later
        ds.isel(site=[1]).carbon.predict_to("NEE", model, tmp_path / "nee.zarr")
    with pytest.raises(StoreError, match=named):
        ds.carbon.fit("xgboost", run_dir=tmp_path / "other", n_estimators=2)
    assert {path.name for path in tmp_path.iterdir()} == {"towers.zarr", "run", "other"}


def test_damaged_time_is_named(store):
    (path,) = (path for path in (store / "time" / "c").rglob("*") if path.is_file())
    flip(path, 20)
    with pytest.raises(StoreError, match=r"towers.zarr cannot be opened as a Zarr store"):
        open_store(store)


def test_damaged_coordinate_is_named(store):
    (path,) = (path for path in (store / "lat" / "c").rglob("*") if path.is_file())
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(
        StoreError, match=r"towers.zarr: lat at the sites SY-001, SY-002, SY-003 cannot be read"
    ):
        open_store(store)


def test_damaged_chunk_of_a_grid_is_named(tmp_path):
    path = write_grid(synthetic_grid(variables=["TA"])[["TA"]].isel(time=slice(48)), tmp_path / "grid.zarr")
    (file,) = (file for file in (path / "TA" / "c").rglob("*") if file.is_file())
    flip(file, 100)
    with pytest.raises(StoreError, match=r"grid.zarr: TA in \[time 0:48, lat 0:\d+, lon 0:\d+\] cannot be"):
        open_grid(path).compute()


def test_names_of_tasks_depend_on_the_content_of_the_store(written, store):
    assert open_store(written)["NEE"].data.name == open_store(written)["NEE"].data.name
    assert open_store(written)["NEE"].data.name != open_store(store)["NEE"].data.name


def test_arrays_are_indexed_as_in_memory(written):
    lazy, loaded = open_store(written)["NEE"], open_store(written)["NEE"].load()
    for key in (
        {"site": 1},
        {"site": [2, 0], "time": slice(5, 50, 7)},
        {"time": [9, 3]},
        {"site": 0, "time": 4},
    ):
        np.testing.assert_array_equal(lazy.isel(key), loaded.isel(key))


# Lost chunks


def findings(ds):
    """Return severity, site and variable of the findings about the store."""
    return [(finding.severity, finding.site, finding.variable) for finding in stored_values(ds)]


def test_whole_store_has_no_finding(store):
    assert findings(open_store(store)) == []
    assert "counts" not in open_store(store)


def test_lost_and_damaged_files_are_found(store):
    shard(store, "NEE", 2).unlink()
    shard(store, "TA_QC", 0).unlink()
    flip(shard(store, "SW_IN", 1), 100)
    report = xcarbon.check(open_store(store))
    found = {(f.site, f.variable): f.message for f in report.findings if f.topic == "store"}
    assert found.keys() == {("SY-003", "NEE"), ("SY-001", "TA_QC"), ("SY-002", "SW_IN")}
    assert "has 0 values, but " in found["SY-003", "NEE"]
    assert "cannot be read" in found["SY-002", "SW_IN"]
    assert report.has_errors
    assert report.coverage["present"].sel(site="SY-002", variable="SW_IN") == 0


def test_lost_files_of_changed_or_selected_data_are_found(store):
    shard(store, "NEE", 2).unlink()
    ds = open_store(store)
    assert findings(ds.isel(time=slice(1000)).assign(TA=ds["TA"] + 1)) == [("error", "SY-003", "NEE")]
    assert findings(ds.sel(site=["SY-001", "SY-002"])) == []
    assert findings(ds[["TA"]]) == []


def test_numbers_of_a_part_are_counted_again(written, tmp_path):
    part = open_store(written).isel(site=[2, 1], time=slice(300))
    part["NEE"] = part["NEE"].where(part["TA"] > 0)
    again = to_store(part, tmp_path / "part.zarr")
    assert findings(open_store(again)) == []
    shard(again, "NEE", 0).unlink()
    assert findings(open_store(again)) == [("error", "SY-003", "NEE")]


def test_store_without_numbers_opens_and_is_a_note(store):
    shutil.rmtree(store / "counts")
    assert findings(open_store(store)) == [("note", "", "")]
    shard(store, "NEE", 2).unlink()
    assert findings(open_store(store)) == [("note", "", "")]


def test_data_from_elsewhere_has_no_finding(written, tmp_path):
    ds = open_store(written).isel(site=[0])
    assert findings(synthetic_towers(1)) == []
    assert findings(xcarbon.open_netcdf(ds.carbon.to_netcdf(tmp_path / "towers.nc"))) == []
