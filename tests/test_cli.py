"""Tests of the commands, of their output and of their errors."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import xarray as xr

import xcarbon
from tests.prediction.test_predict import make
from xcarbon import CarbonModel, cli, training
from xcarbon.cli import main
from xcarbon.experiments import PROTOCOLS, comparison


@pytest.fixture(autouse=True)
def small_demo(monkeypatch):
    """Reduce the hours of the demo."""
    monkeypatch.setattr(cli, "DEMO_DAYS", 4)
    monkeypatch.setitem(cli.DEMO_TRAINING, "val_windows", 8)


@pytest.fixture
def corner(real_data) -> xr.Dataset:
    """Return a month of ERA5 in four cells."""
    with xr.open_dataset(real_data / "era5" / "era5_2022_07_alps.nc") as month:
        return month.isel({dim: slice(2) for dim in month.dims if dim != "time"}).load()


def test_demo_goes_from_towers_to_netcdf_scores_and_figure(tmp_path, capsys):
    out = tmp_path / "demo"
    assert main(["demo", "--steps", "2", "--out", str(out), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "SYNTHETIC" in said
    assert "simulated, not measured" in said
    assert "nse" in said
    with xr.open_dataset(out / "nee.nc") as ds:
        assert ds.attrs["Conventions"].startswith("CF-")
        assert ds["NEE"].dims == ("site", "time")
        assert ds["NEE"].notnull().mean() > 0.6
    assert (out / "nee.png").stat().st_size > 10_000
    assert len(CarbonModel.load(out / "run" / "model").sites) == 6
    assert main(["demo", "--steps", "1", "--out", str(out), "--quiet"]) == 0  # replaces the first run


def test_demo_on_a_store_of_real_towers(real_data, tmp_path, capsys, monkeypatch):
    sites = ["DE-Tha", "FI-Hyy", "CZ-BK1", "DE-Geb", "DE-Kli", "BE-Lon", "DE-Gri", "AT-Neu", "DK-Eng"]
    open_store = "xcarbon.open_store"
    towers = xr.open_zarr(real_data / "fluxnet2015_hourly.zarr").attrs["title"]
    from xcarbon.io.store import open_store as opened

    monkeypatch.setattr(open_store, lambda path: opened(path).sel(site=sites, time=slice("2006", "2009")))
    path = real_data / "fluxnet2015_hourly.zarr"
    assert main(["demo", "--data", str(path), "--steps", "1", "--out", str(tmp_path), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "synthetic" not in said.lower()
    with xr.open_dataset(tmp_path / "nee.nc") as ds:
        assert towers in ds.attrs["title"]


def test_train_predict_and_score(towers, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = dict(network={"width": 16, "cross_blocks": 1, "self_layers": 1}, batch_size=8, val_windows=8)
    monkeypatch.setattr(training, "fit", functools.partial(training.fit, **small))
    summer = towers[["TA", "SW_IN", "NEE", "TA_QC", "NEE_QC"]].sel(time=slice("2010-07-01", "2010-07-14"))
    summer.carbon.to_store("towers.zarr")
    train = ["train", "towers.zarr", "run", "--steps", "1", "--quiet"]
    assert main(train) == 0
    assert "wrote run/model, trained on" in capsys.readouterr().out
    assert main(train) == 0  # the training is complete already
    assert main(["predict", "run/model", "towers.zarr", "nee.nc", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["score", "nee.nc", "towers.zarr", "--quiet"]) == 0
    said = capsys.readouterr().out
    known = len(CarbonModel.load("run/model").sites)
    assert said.startswith(f"NEE at {12 - known} towers that the model was not trained on, {known} left out")
    assert "nse" in said and "\nall " in said


def test_trees_are_trained_too(towers, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "fit", functools.partial(training.fit, n_estimators=2))
    towers[["TA", "NEE"]].sel(time=slice("2010-07-01", "2010-07-04")).carbon.to_store("towers.zarr")
    assert main(["train", "towers.zarr", "run", "--model", "xgboost", "--quiet"]) == 0
    assert CarbonModel.load("run/model").predictor.name == "XGBoost"
    assert main(["train", "towers.zarr", "again", "--model", "xgboost", "--steps", "2", "--quiet"]) == 1
    assert "max_steps" in capsys.readouterr().err


def test_predict_on_a_month_of_era5_in_several_files(corner, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for part, hours in {"a": slice(100), "b": slice(100, None)}.items():
        corner.isel(time=hours).to_netcdf(f"era5-{part}.nc")
    make(("DOY", "TOD", "TA", "SW_IN"), ()).save("model")
    assert main(["predict", "model", "era5-*.nc", "nee.zarr", "--quiet"]) == 0
    ds = xcarbon.io.grid.open_grid("nee.zarr")
    assert ds["NEE"].shape == (743, 2, 2) and ds["NEE"][7:].notnull().all()
    assert "Copernicus" in ds.attrs["acknowledgement"]
    assert main(["predict", "model", "era5-a.nc", "nee.zarr"]) == 1
    assert "nee.zarr exists" in capsys.readouterr().err


def test_a_model_of_the_package_predicts_a_grid_by_its_name(corner, tmp_path, monkeypatch):
    """The model needs neither vapour pressure deficit nor land cover class, which the grid lacks."""
    monkeypatch.chdir(tmp_path)
    corner.isel(time=slice(200)).to_netcdf("era5.nc")
    assert main(["predict", "nee-fluxnet2015", "era5.nc", "nee.zarr", "--spread", "--quiet"]) == 0
    nee, error = (xcarbon.io.grid.open_grid("nee.zarr")[code] for code in ("NEE", "NEE_SE"))
    assert "nee-fluxnet2015" in nee.attrs["source"]
    noon = nee.groupby("time.hour").mean().sel(hour=11)
    assert (noon < -2).all()  # July in the Alps
    assert 1 < error.mean() < 10


def test_models_of_the_package_are_listed_and_described(capsys):
    assert main(["models"]) == 0
    assert "nee-fluxnet2015" in capsys.readouterr().out
    assert main(["models", "nee-fluxnet2015"]) == 0
    assert "Where it must not be used" in capsys.readouterr().out
    assert main(["models", "nee"]) == 1
    assert "no model 'nee'" in capsys.readouterr().err


def test_an_experiment_is_run_and_run_again(towers, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(comparison, "report", lambda *_: SimpleNamespace(write=lambda folder: None))
    weeks = towers[["TA", "NEE", "NEE_QC"]].sel(time=slice("2010-07-01", "2010-07-14"))
    weeks.carbon.to_store(tmp_path / "towers.zarr")
    config = tmp_path / "experiment.toml"
    config.write_text(
        'store = "towers.zarr"\nout = "out"\nsplit = "random"\n'
        'models = [{kind = "ridge"}, {kind = "diurnal_cycle"}]\n'
    )
    for _ in range(2):
        assert main(["experiment", str(config), "--quiet"]) == 0
        said = capsys.readouterr().out
        assert "ridge regression" in said and "mean diurnal cycle" in said
        assert f"wrote {tmp_path}/out/results.nc" in said
    assert main(["experiment", str(config), "--store", "towers.zarr"]) == 1
    assert "sets its own store" in capsys.readouterr().err


def test_a_protocol_is_written_to_its_folder_and_run_from_there(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["experiment", "table2", "--store", "towers.zarr", "--out", "out"]) == 1
    assert f"{tmp_path}/towers.zarr cannot be opened" in capsys.readouterr().err
    text = (tmp_path / "out" / "experiment.toml").read_text()
    assert 'protocol = "table2"' in text and f'store = "{tmp_path}/towers.zarr"' in text
    assert main(["experiment", "fourier", "--store", "towers.zarr", "--out", "out"]) == 1
    assert "experiment.toml is table2" in capsys.readouterr().err


def test_protocols_are_listed(capsys):
    assert main(["experiment", "--list"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == list(PROTOCOLS)
    assert all(line.endswith("?") for line in said)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["experiment"], "--list lists the protocols"),
        (["experiment", "table2"], "table2 needs --store and --out"),
        (["experiment", "nowhere.toml"], "nowhere.toml"),
        (["demo", "--data", "nowhere.zarr"], "nowhere.zarr"),
        (["demo", "--data", "."], "cannot be opened"),
        (["predict", "nowhere", "towers.zarr", "nee.nc"], "nowhere is not a model folder"),
        (["score", "nowhere.nc", "towers.zarr"], "nowhere.nc"),
        (["train", "nowhere.zarr", "run"], "nowhere.zarr"),
        (["fetch", "nowhere.csv", "raw"], "there is no snapshot nowhere.csv"),
    ],
)
def test_errors_are_one_line_and_a_status(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("xcarbon: ")
    assert message in said
    assert "Traceback" not in said


@pytest.mark.parametrize("arguments", [[], ["fly"], ["demo", "--steps", "0"]])
def test_wrong_arguments(arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def test_the_console_script_is_installed():
    done = subprocess.run(
        [sys.executable, "-m", "xcarbon", "--version"], capture_output=True, text=True, env=os.environ
    )
    assert done.stdout.startswith("xcarbon ")
