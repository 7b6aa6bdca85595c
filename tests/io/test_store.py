"""Tests of writing towers to a store and opening it: values, chunks, laziness and failures."""

from __future__ import annotations

import asyncio
import threading
import time
import warnings

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import LocalStore

from xcarbon.core import conventions
from xcarbon.core.errors import StoreError
from xcarbon.io.store import open_store, to_store
from xcarbon.testing import raise_on_compute, synthetic_towers

PACKING_ERROR = 0.5e-4 + 1e-6  # of reflectance, int16 times 0.0001


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    """Return three towers with patches; the second has no soil heat flux, the third no patch."""
    ds = synthetic_towers(3, years=2, seed=4, variables=["TA", "P", "G", "NEE", "GPP_NT", "SWC_1"]).compute()
    for name, missing in {"G": np.nan, "G_QC": -1}.items():
        ds[name][1] = missing
    for name, missing in {"reflectance": np.nan, "snow": -1, "water": -1}.items():
        ds[name][2] = missing
    ds["elevation"][0] = np.nan
    return conventions.apply(ds.assign_coords(citation=("site", ["Müller et al. (2020), 東京", "", "A & B"])))


@pytest.fixture(scope="module")
def path(ds, tmp_path_factory):
    return to_store(ds, tmp_path_factory.mktemp("stores") / "towers.zarr")


@pytest.fixture
def failing(ds) -> xr.Dataset:
    """Return a Dataset of which one chunk cannot be computed."""

    def fail(block: np.ndarray, block_info=None) -> np.ndarray:
        if block_info[0]["chunk-location"] == (1, 0):
            raise RuntimeError("a worker died")
        return block

    chunked = ds.chunk(site=1)
    data = chunked["NEE"].data.map_blocks(fail, dtype="float32")
    return chunked.assign(NEE=chunked["NEE"].copy(data=data))


def assert_same(found: xr.Dataset, expected: xr.Dataset) -> None:
    """Compare everything: values, labels, types and attributes, in any order."""
    assert found.attrs.keys() - {"history"} == expected.attrs.keys() - {"history"}
    packed = "reflectance"
    found, expected = (
        part.compute().assign_attrs(history="").transpose(*expected.dims) for part in (found, expected)
    )
    xr.testing.assert_identical(found.drop_vars(packed), expected.drop_vars(packed))
    assert {name: found[name].dtype for name in found} == {name: expected[name].dtype for name in found}
    np.testing.assert_allclose(found[packed], expected[packed], rtol=0, atol=PACKING_ERROR)
    assert found[packed].attrs == expected[packed].attrs


def test_store_gives_back_what_was_written(ds, path):
    assert_same(open_store(path), ds)


def test_store_written_from_a_store_is_the_same(ds, path, tmp_path):
    again = to_store(open_store(path), tmp_path / "again.zarr")
    assert_same(open_store(again), ds)
    assert open_store(again).attrs["history"].count("to_store") == 2


def test_netcdf_gives_back_what_was_in_the_store(ds, path, tmp_path):
    open_store(path).to_netcdf(tmp_path / "towers.nc")
    with xr.open_dataset(tmp_path / "towers.nc", decode_coords="all") as found:
        assert_same(conventions.apply(found), ds)


def test_dataarray_goes_through_netcdf(ds, path, tmp_path):
    nee = open_store(path)["NEE"]
    nee.to_netcdf(tmp_path / "nee.nc")
    with xr.open_dataarray(tmp_path / "nee.nc") as found:
        xr.testing.assert_identical(found.compute(), nee.compute())


def test_one_tower_goes_through_netcdf(ds, path, tmp_path):
    tower = open_store(path).sel(site="SY-002")
    tower.to_netcdf(tmp_path / "tower.nc")
    with xr.open_dataset(tmp_path / "tower.nc", decode_coords="all") as found:
        assert found["site"].item() == "SY-002"
        xr.testing.assert_equal(found["NEE"].compute(), tower["NEE"].compute())


def test_patch_of_a_tower_opens_in_rio(path):
    patch = open_store(path)["reflectance"].sel(site="SY-001", day="2010-06-15")
    assert "Sinusoidal" in patch.rio.crs.to_wkt()
    assert patch.rio.resolution()[0] == pytest.approx(463.3, abs=0.1)


def test_dataset_in_double_precision_opens_in_single(ds, tmp_path):
    path = to_store(ds[["TA"]].astype("float64"), tmp_path / "double.zarr")
    assert open_store(path)["TA"].dtype == np.float32


def test_tower_is_a_handful_of_files(ds, path):
    for name in ("NEE", "P_QC", "TA"):
        assert len(list((path / name).rglob("c/*/*"))) == 3
    assert len(list((path / "lat").rglob("*"))) <= 3


def test_files_have_chunks_of_a_year_and_are_opened_as_one_chunk(path):
    found, stored = open_store(path), zarr.open_group(path, mode="r")
    assert stored["NEE"].chunks == (1, 8784)
    assert found["NEE"].chunks == ((1, 1, 1), (17520,))
    assert stored["reflectance"].chunks[:2] == (1, 366)
    assert found["reflectance"].chunks[:2] == ((1, 1, 1), (730,))


@pytest.mark.parametrize("name", ["G", "G_QC", "reflectance", "snow", "water"])
def test_what_is_missing_throughout_is_not_written(path, name):
    written = {int(file.name) for file in (path / name / "c").iterdir()}
    assert written == ({0, 1} if name in ("reflectance", "snow", "water") else {0, 2})


def test_values_stay_on_disk_and_coordinates_are_in_memory(path):
    found = open_store(path)
    with raise_on_compute():
        assert found["igbp"].values.tolist() == ["ENF", "DBF", "GRA"]
    assert all(array.chunks for array in found.data_vars.values())
    assert not any(coordinate.chunks for coordinate in found.coords.values())


def test_real_store_opens_lazily_in_the_types_of_the_data_model(real_towers):
    assert dict(real_towers.sizes) == {"site": 180, "time": 210384, "bnds": 2}
    for name, array in real_towers.data_vars.items():
        assert array.dtype == (np.int8 if name.endswith("_QC") else np.float32)
        assert array.chunks[0] == (1,) * 180
    assert not any(coordinate.chunks for coordinate in real_towers.coords.values())
    assert set(np.unique(real_towers["NEE_QC"][60])) <= {-1, 0, 1, 2, 3}


def test_writing_and_opening_warn_of_nothing(ds, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_store(to_store(ds, tmp_path / "towers.zarr")).isel(site=0).compute()


def test_folders_above_are_made(ds, tmp_path):
    path = to_store(ds[["TA"]], tmp_path / "a" / "b" / "towers.zarr")
    assert [entry.name for entry in path.parent.iterdir()] == ["towers.zarr"]


def test_failure_midway_leaves_nothing(failing, tmp_path):
    with pytest.raises(RuntimeError, match="a worker died"):
        to_store(failing, tmp_path / "towers.zarr")
    assert list(tmp_path.iterdir()) == []


def test_tasks_that_run_during_a_failure_leave_nothing(failing, tmp_path, monkeypatch):
    put, begun = LocalStore.set, threading.Event()

    async def put_slowly(store, key, value):
        if key.startswith(("TA/c/", "NEE/c/")):
            begun.set()
            await asyncio.sleep(0.5)  # the other task fails in the meantime
        await put(store, key, value)

    def fail(block, block_info=None):
        if block_info[0]["chunk-location"] == (1, 0):
            begun.wait(20)
            raise RuntimeError("a worker died")
        return block

    monkeypatch.setattr(LocalStore, "set", put_slowly)
    nee = failing["TA"].data.map_blocks(fail, dtype="float32")
    with dask.config.set(num_workers=2), pytest.raises(RuntimeError, match="a worker died"):
        to_store(failing.assign(NEE=failing["NEE"].copy(data=nee)), tmp_path / "towers.zarr")
    time.sleep(1)
    assert list(tmp_path.iterdir()) == []


def test_failure_midway_leaves_the_old_store(ds, failing, tmp_path):
    path = to_store(ds, tmp_path / "towers.zarr")
    with pytest.raises(RuntimeError, match="a worker died"):
        to_store(failing, path, overwrite=True)
    assert list(tmp_path.iterdir()) == [path]
    assert_same(open_store(path), ds)


def test_store_can_be_replaced_by_what_is_computed_from_it(ds, tmp_path):
    path = to_store(ds, tmp_path / "towers.zarr")
    changed = open_store(path)
    changed["NEE"] = changed["NEE"] * 2
    to_store(changed, path, overwrite=True)
    np.testing.assert_array_equal(open_store(path)["NEE"], ds["NEE"] * 2)
    assert list(tmp_path.iterdir()) == [path]


def test_path_that_exists_is_an_error(ds, path, tmp_path):
    with pytest.raises(StoreError, match=r"towers.zarr exists: .* pass overwrite=True"):
        to_store(ds, path)
    (tmp_path / "letter.txt").write_text("keep me")
    with pytest.raises(StoreError, match="is not a Zarr store and is not replaced"):
        to_store(ds, tmp_path, overwrite=True)
    assert (tmp_path / "letter.txt").read_text() == "keep me"


def test_dataset_without_site_is_not_written(ds, tmp_path):
    with pytest.raises(StoreError, match="towers need dims site and time"):
        to_store(ds.isel(site=0), tmp_path / "tower.zarr")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_store_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file.zarr").write_text("no store")
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / "broken.zarr" / "zarr.json").write_text("{")
    for name in ("nothing.zarr", "file.zarr", "folder.zarr", "broken.zarr"):
        with pytest.raises(StoreError, match=f"{name} cannot be opened as a Zarr store"):
            open_store(tmp_path / name)


def test_store_of_something_else_is_an_error(tmp_path):
    xr.Dataset({"a": ("x", [1])}).to_zarr(tmp_path / "other.zarr", consolidated=False)
    with pytest.raises(StoreError, match=r"not a store of towers: it has dims \('x',\)"):
        open_store(tmp_path / "other.zarr")


def test_store_is_written_with_any_scheduler(ds, tmp_path):
    with dask.config.set(scheduler="synchronous"):
        found = open_store(to_store(ds.chunk(site=2, time=1000), tmp_path / "towers.zarr"))
    assert_same(found, ds)


@pytest.mark.parametrize(
    "text", ['{"zarr_format": 3, "node_type": 1.5}', "[]", '{"attributes": [1]}', "1e400"]
)
def test_metadata_of_other_types_are_an_error_that_names_the_store(tmp_path, text):
    towers = synthetic_towers(1, variables=["TA"], patches=False)
    path = to_store(towers, tmp_path / "towers.zarr")
    (path / "zarr.json").write_text(text)
    with pytest.raises(StoreError, match="cannot be opened as a Zarr store"):
        open_store(path)
