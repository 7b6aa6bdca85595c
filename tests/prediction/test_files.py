"""A prediction is written region by region: resumable, complete or not there, and the same every time."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster, get_client

import xcarbon
from tests.prediction.test_predict import make
from tests.processes import COPIES
from xcarbon.cli import main
from xcarbon.core.errors import MetadataError, ModelError, OptionError, StoreError, XCarbonError
from xcarbon.io import grid as grids
from xcarbon.io import regions
from xcarbon.io.formats import open_data
from xcarbon.models.bundle import CarbonModel
from xcarbon.prediction.files import predict_to


@pytest.fixture(scope="module")
def model() -> CarbonModel:
    return make(("DOY", "TOD", "TA", "SW_IN", "CO2"), ())


@pytest.fixture(scope="module")
def fortnight(towers) -> xr.Dataset:
    """Four towers in eight chunks; a region is a tower."""
    few = towers[["TA", "SW_IN", "TA_QC", "NEE"]].isel(site=slice(4))
    return few.sel(time=slice("2010-07-01", "2010-07-14")).chunk(time=170)


@pytest.fixture
def grid(monkeypatch) -> xr.Dataset:
    """Twelve cells in four chunks, each of them a region; one cell is sea."""
    monkeypatch.setattr(grids, "CHUNK", 30 * 3 * 2)
    rng = np.random.default_rng(1)
    stamps = np.datetime64("2022-07-01", "ns") + np.arange(60) * np.timedelta64(1, "h")
    axes = {"time": stamps, "lat": [50.0, 49.5, 49.0], "lon": [8.0, 8.5, 9.0, 99.0]}
    ds = xr.Dataset({"TA": (tuple(axes), rng.uniform(0, 30, (60, 3, 4)).astype("float32"))}, axes)
    ds.attrs = {"title": "a small grid", "history": "made"}
    return ds.where((ds["lat"] < 50) | (ds["lon"] > 8)).chunk(time=30, lon=2)


def written(path: Path) -> xr.Dataset:
    return open_data(path).load()


class Stop(Exception):
    """Something that is not caught on the way."""


@pytest.fixture
def count(monkeypatch):
    """Give a list that grows with each region that is written, and the number at which it stops."""
    done: list[str] = []
    limit = [10**6]
    write = regions._write

    def write_and_count(dims, blocks, target, region, mark):
        if ".predicting" not in str(target.store):
            return write(dims, blocks, target, region, mark)
        if len(done) >= limit[0]:
            raise Stop
        part = write(dims, blocks, target, region, mark)
        done.append(mark)
        return part

    monkeypatch.setattr(regions, "_write", write_and_count)
    # On threads, regions that were begun before the end would still be written after it.
    with dask.config.set(scheduler="synchronous"):
        yield done, limit


@pytest.mark.parametrize("name", ["nee.zarr", "nee.nc"])
@pytest.mark.parametrize("kind", ["fortnight", "grid"])
def test_file_is_what_is_predicted_with_its_provenance(kind, name, model, tmp_path, findings, request):
    ds = request.getfixturevalue(kind)
    path = ds.carbon.predict_to("NEE", model, tmp_path / name)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    found, expected = written(path), ds.carbon.predict_nee(model).compute()
    np.testing.assert_array_equal(found["NEE"], expected)
    assert found["NEE"].dims == expected.dims and found["NEE"].dtype == np.float32
    assert np.isfinite(expected).mean() > 0.7
    assert model.fingerprint() in found["NEE"].attrs["source"]
    assert found["NEE"].attrs["units"] == "umol m-2 s-1"
    assert found.attrs["title"] == f"NEE predicted from: {ds.attrs['title']}"
    assert found.attrs["history"].startswith(ds.attrs.get("history", ""))
    assert "predict_to, EcoPerceiver model" in found.attrs["history"]
    assert findings(found) == []


@pytest.mark.parametrize("name", ["nee.zarr", "nee.nc"])
@pytest.mark.parametrize("kind", ["fortnight", "grid"])
def test_spread_is_computed_and_written_with_the_flux(kind, name, tmp_path, count, findings, request):
    ds, (done, _) = request.getfixturevalue(kind), count
    path = predict_to(ds, "NEE", "nee-fluxnet2015", tmp_path / name, spread=True)
    lazy = ds.carbon.predict_nee("nee-fluxnet2015", spread=True)
    found, expected = written(path), lazy.compute()
    for code in ("NEE", "NEE_SE"):
        np.testing.assert_array_equal(found[code], expected[code])
        assert found[code].dims == expected[code].dims
    assert (found["NEE_SE"] > 0).any() and found["NEE"].attrs["ancillary_variables"] == "NEE_SE"
    number = lazy["NEE"].data.npartitions if kind == "grid" else ds.sizes["site"]
    assert len(done) == number  # both are computed and written together
    assert findings(found) == []


@pytest.mark.parametrize("name", ["nee.zarr", "nee.nc"])
@pytest.mark.parametrize("kind", ["fortnight", "grid"])
def test_stopped_in_the_middle_it_goes_on(kind, name, model, tmp_path, count, request):
    ds, (done, limit) = request.getfixturevalue(kind), count
    whole = written(predict_to(ds, "NEE", model, tmp_path / "whole" / name))
    number, limit[0] = len(done), len(done) + 2
    with pytest.raises(Stop):
        predict_to(ds, "NEE", model, tmp_path / name)
    assert not (tmp_path / name).exists() and len(done) == number + 2
    limit[0] = 10**6
    again = written(predict_to(ds, "NEE", model, tmp_path / name))
    assert len(done) == 2 * number  # none twice
    for variable in whole.variables:
        np.testing.assert_array_equal(again[variable], whole[variable], err_msg=variable)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([name, "whole"])


def test_regions_of_another_model_or_of_other_data_are_not_taken_over(fortnight, model, tmp_path, count):
    done, limit = count
    path = tmp_path / "nee.nc"
    for ds, by, number in [
        (fortnight, model, 1),
        (fortnight.assign(TA=fortnight["TA"] + 1), model, 2),
        (fortnight, make(("DOY", "TOD", "TA"), ()), 3),
    ]:
        limit[0] = len(done) + number
        with pytest.raises(Stop):
            predict_to(ds, "NEE", by, path)
        assert len(list((tmp_path / ".nee.nc.predicting").glob("*/done/*"))) == number
    limit[0] = 10**6
    predict_to(fortnight, "NEE", model, path)
    np.testing.assert_array_equal(written(path)["NEE"], fortnight.carbon.predict_nee(model))
    assert [entry.name for entry in tmp_path.iterdir()] == ["nee.nc"]


def run_slowly(arguments: list[str], has_region: Event, messages: Path) -> None:
    """Run a command with a pause after each region that is written."""
    write = regions._write

    def write_slowly(*region):
        write(*region)
        has_region.set()
        time.sleep(0.5)

    regions._write = write_slowly
    with messages.open("w") as sys.stderr:
        sys.exit(main(arguments))


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_command_that_was_killed_goes_on(fortnight, model, tmp_path, capsys, count, sent):
    data, out = fortnight.carbon.to_store(tmp_path / "towers.zarr"), tmp_path / "nee.nc"
    arguments = ["predict", str(model.save(tmp_path / "model")), str(data), str(out), "--quiet"]
    has_region, messages = COPIES.Event(), tmp_path / "messages.txt"
    process = COPIES.Process(target=run_slowly, args=(arguments, has_region, messages))
    process.start()
    assert has_region.wait(timeout=60)
    os.kill(process.pid, sent)
    process.join(timeout=60)
    assert process.exitcode == {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130}[sent]
    if sent == signal.SIGINT:
        said = "xcarbon: interrupted while predicting; run the same command again to continue\n"
        assert messages.read_text() == said
    before = len(list((tmp_path / ".nee.nc.predicting").glob("*/done/*")))
    assert 1 <= before < 4 and not out.exists()
    assert main(arguments) == 0
    assert len(count[0]) == 4 - before
    assert capsys.readouterr().out == f"wrote {out}\n"
    np.testing.assert_allclose(written(out)["NEE"], fortnight.carbon.predict_nee(model), rtol=1e-4, atol=1e-4)


def test_on_a_connected_cluster_and_on_threads(grid, model, tmp_path, capfd):
    with (
        Client(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None),
        xcarbon.set_options(progress=True),
    ):
        path = predict_to(grid, "NEE", model, tmp_path / "a.zarr")
    other = predict_to(grid, "NEE", model, tmp_path / "b.zarr")
    assert "predicting: 100%" in (said := capfd.readouterr().err) and "4/4" in said
    xr.testing.assert_equal(written(path), written(other))
    np.testing.assert_allclose(written(path)["NEE"], grid.carbon.predict_nee(model), rtol=1e-4, atol=1e-4)


def test_command_connects_to_a_cluster_for_its_duration(grid, model, tmp_path, capfd):
    data, saved = grids.write_grid(grid, tmp_path / "drivers.zarr"), model.save(tmp_path / "model")
    with LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        arguments = [str(saved), str(data), str(tmp_path / "nee.zarr")]
        assert main(["predict", *arguments, "--scheduler", address]) == 0
        with pytest.raises(ValueError, match="No global client"):
            get_client()
    assert "4/4" in capfd.readouterr().err  # regions are counted on clusters only
    found = written(tmp_path / "nee.zarr")["NEE"]
    np.testing.assert_allclose(found, grid.carbon.predict_nee(model), rtol=1e-4, atol=1e-4)


def hold(values: np.ndarray, until: Path, block_info=None) -> np.ndarray:
    """Return the values; for the last block only after a file exists."""
    last = block_info is not None and block_info[None]["chunk-location"] == (1, 0, 1)
    while last and not until.exists():
        time.sleep(0.01)
    return values


def test_scheduler_that_stops_does_not_lose_regions(grid, model, tmp_path, count):
    path, until = tmp_path / "nee.zarr", tmp_path / "until"
    held = grid["TA"].data.map_blocks(hold, until, dtype="float32", meta=np.empty((0, 0, 0), "float32"))
    ds = grid.assign(TA=(grid["TA"].dims, held))

    def marks() -> dict[str, int]:
        return {
            mark.name: mark.stat().st_mtime_ns for mark in path.parent.glob(".nee.zarr.predicting/*/done/*")
        }

    def stop() -> None:
        while len(marks()) < 3:
            time.sleep(0.01)
        cluster.sync(cluster.scheduler.close)

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),  # 30 s of attempts to connect again
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        thread = threading.Thread(target=stop)
        thread.start()
        with pytest.raises(XCarbonError, match="connect to a cluster, and run the same command again"):
            predict_to(ds, "NEE", model, path)
        before = marks()
        until.touch()
        thread.join()
    assert len(before) == 3 and not path.exists()
    predict_to(ds, "NEE", model, path)
    assert len(count[0]) == 1  # the region that was missing
    np.testing.assert_allclose(written(path)["NEE"], grid.carbon.predict_nee(model), rtol=1e-4, atol=1e-4)


def test_single_towers_and_cells_have_the_dims_of_files(fortnight, grid, model, tmp_path):
    alone = written(predict_to(fortnight.isel(site=1), "NEE", model, tmp_path / "alone.nc"))
    assert alone["NEE"].dims == ("site", "time") and alone["site"].values.tolist() == ["SY-002"]
    unnamed = written(predict_to(fortnight.isel(site=1, drop=True), "NEE", model, tmp_path / "unnamed.zarr"))
    assert unnamed["site"].values.tolist() == ["tower"]
    np.testing.assert_array_equal(unnamed["NEE"], alone["NEE"])
    expected = grid.carbon.predict_nee(model).isel(lat=[1], lon=[2]).compute()
    cell = xcarbon.core.conventions.apply(grid).isel(lat=1, lon=2)
    row = grid.isel(lat=1, lon=[2]).transpose("lon", "time")
    for number, part in enumerate((cell, row)):
        found = written(predict_to(part, "NEE", model, tmp_path / f"{number}.nc"))
        assert found["NEE"].dims == ("time", "lat", "lon")
        np.testing.assert_allclose(found["NEE"], expected, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_written_is_said_before_anything_is_computed(fortnight, grid, model, tmp_path, count):
    with pytest.raises(OptionError, match=r"must end in \.zarr"):
        predict_to(fortnight, "NEE", model, tmp_path / "nee.csv")
    (tmp_path / "nee.nc").write_text("mine")
    with pytest.raises(StoreError, match="exists"):
        predict_to(fortnight, "NEE", model, tmp_path / "nee.nc")
    with pytest.raises(ModelError, match="predicts NEE"):
        predict_to(fortnight, "GPP_DT", model, tmp_path / "gpp.nc")
    bent = grid.rename(lat="j", lon="i").assign_coords(lon=(("j", "i"), np.zeros((3, 4))))
    with pytest.raises(MetadataError, match="dims time, lat and lon"):
        predict_to(bent, "NEE", model, tmp_path / "bent.nc")
    assert not count[0] and [entry.name for entry in tmp_path.iterdir()] == ["nee.nc"]
    predict_to(fortnight, "NEE", model, tmp_path / "nee.nc", overwrite=True)
    assert written(tmp_path / "nee.nc")["NEE"].shape == (4, 336)
