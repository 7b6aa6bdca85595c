"""Tests of the commands, of their output and of their errors."""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xcarbon
from tests.prediction.test_predict import make
from xcarbon import CarbonModel, training
from xcarbon.cli import cli, demonstration, fluxes, main
from xcarbon.cli.options import Selection
from xcarbon.cli.wording import PYTHON, in_words
from xcarbon.experiments import PROTOCOLS, comparison


@pytest.fixture(autouse=True)
def small_demo(monkeypatch):
    """Reduce the hours of the demo."""
    monkeypatch.setattr(demonstration, "DEMO_DAYS", 4)
    network = {"width": 16, "cross_blocks": 2, "self_layers": 1}
    small = {"val_windows": 8, "batch_size": 16, "network": network}
    for name, value in small.items():
        monkeypatch.setitem(demonstration.DEMO_TRAINING, name, value)


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


def test_demo_on_a_store_of_real_towers(real_data, tmp_path, capsys):
    sites = "DE-Tha,FI-Hyy,CZ-BK1,DE-Geb,DE-Kli,BE-Lon,DE-Gri,AT-Neu,DK-Eng"
    path = real_data / "fluxnet2015_hourly.zarr"
    towers = xr.open_zarr(path).attrs["title"]
    selection = ["--site", sites, "--from", "2006", "--to", "2009"]
    assert (
        main(["demo", "--data", str(path), "--steps", "1", "--out", str(tmp_path), "--quiet", *selection])
        == 0
    )
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
    assert "--steps" in capsys.readouterr().err


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
        (["demo", "--data", "."], "no file to open"),
        (["predict", "nowhere", "towers.zarr", "nee.nc"], "nowhere is not a model folder"),
        (["score", "nowhere.nc", "towers.zarr"], "nowhere.nc"),
        (["train", "nowhere.zarr", "run"], "nowhere.zarr"),
        (["demo", "--site", "DE-Tha"], "use --data, too"),
        (["info", "nowhere.nc"], "nowhere.nc"),
        (["gapfill", "nowhere.nc", "out.csv"], "out.csv must end in .zarr"),
        (["gapfill", "nowhere.nc", "out.nc"], "nowhere.nc"),
        (["budget", "nowhere.nc"], "nowhere.nc"),
        (["budget", "nowhere.nc", "--out", "."], "exists: choose another path, or use --overwrite"),
        (["explain", "nee-fluxnet2015", "nowhere.nc", "out.zarr"], "out.zarr must end in .nc"),
        (["plot", "year", "nowhere.nc", "out.txt"], "out.txt must end in one of .png"),
        (["plot", "year", "nowhere.nc", "out.png", "--by", "month"], "the figure year has no --by"),
        (["plot", "year", "nowhere.nc", "out.png", "--from", "2005"], "neither --from nor --to"),
        (["plot", "series", "nowhere.nc", "out.png"], "series needs --prediction"),
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
    assert not PYTHON.search(said)


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["demo", "--steps", "0"], ["info", "a.nc", "--from", "2005-13"]]
)
def test_wrong_arguments(arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("a.nc exists: choose another path, or pass overwrite=True to replace it", "or use --overwrite"),
        (
            "DE-Tha: a.csv lacks lat; pass metadata with lat=, lon= and igbp=, or a table with IGBP",
            "--metadata",
        ),
        ("DE-Tha: hours are missing in 2005; ds.carbon.gapfill() fills gaps", "`xcarbon gapfill` fills gaps"),
        ("no model of xcarbon predicts LE: train one with ds.carbon.fit(target='LE')", "--target LE"),
        ("a.nc: the axis must be hourly; ds.resample(time='1h').asfreq() fills gaps", "must be hourly"),
        ("TA has units 'K': convert them, and set ds['TA'].attrs['units']", "TA has units 'K': convert them"),
    ],
)
def test_advice_is_in_the_words_of_the_command_line(message, words):
    said = in_words(message)
    assert words in said and not PYTHON.search(said)


def test_other_messages_are_not_changed():
    message = "/data/year=2005/a.nc, line 3: 'x' is no number; check the file"
    assert in_words(message) == message


def test_the_console_script_is_installed():
    done = subprocess.run(
        [sys.executable, "-m", "xcarbon", "--version"], capture_output=True, text=True, env=os.environ
    )
    assert done.stdout.startswith("xcarbon ")


@pytest.fixture(scope="module")
def short_csv(real_data, tmp_path_factory) -> Path:
    """Return the last year of DE-Tha as a tower file, with the table of its site in the same folder."""
    folder = tmp_path_factory.mktemp("raw")
    name = "FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-2014.csv"
    with gzip.open(real_data / "raw" / f"{name}.gz", "rt") as file:
        header, *lines = file
    path = folder / name.replace("1996", "2014")
    path.write_text("".join([header, *lines[-365 * 48 :]]))
    fields = "SITE_ID,LOCATION_LAT,LOCATION_LON,LOCATION_ELEV,IGBP,UTC_OFFSET"
    (folder / "site_data.csv").write_text(f"{fields}\nDE-Tha,50.9624,13.5652,385,ENF,1\n")
    return path


@pytest.fixture(scope="module")
def short_store(real_towers, tmp_path_factory) -> Path:
    """Return ten real towers in two years as a store."""
    sites = [
        "DE-Tha",
        "FI-Hyy",
        "FI-Sod",
        "IT-Lav",
        "DE-Hai",
        "US-UMB",
        "US-MMS",
        "DE-Gri",
        "US-Ne1",
        "US-Ne2",
    ]
    sites = [site for site in sites if site in real_towers.indexes["site"]]
    few = real_towers.sel(site=sites, time=slice("2005", "2006"))
    with xcarbon.set_options(progress=False):
        return few.carbon.to_store(tmp_path_factory.mktemp("store") / "towers.zarr")


def process(*arguments: object, folder: Path) -> str:
    """Run a command as a process of its own, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "xcarbon", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(xcarbon.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(*arguments: object, folder: Path) -> str:
    """Run a command in a folder, and return what it prints."""
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as said:
        assert main([str(argument) for argument in arguments]) == 0
    return said.getvalue()


def test_info_of_a_tower_file_and_of_a_store(short_csv, short_store, tmp_path, capsys):
    said = run("info", short_csv, "--to", "2014-06", "--quiet", folder=tmp_path)
    assert "1 tower, 2014-01-01 to 2014-06-30, time step 1 h" in said
    assert re.search(r"DE-Tha +ENF +2014-01-01 +2014-06-30 +100 %", said)
    assert re.search(r"TA +100.0  air temperature \[degC\], with quality flags", said)
    assert main(["info", str(short_store), "--site", "DE-Tha,US-Ne1"]) == 0
    said = capsys.readouterr().out
    assert "2 towers, 2005-01-01 to 2006-12-31" in said and "US-Ne1" in said and "FI-Hyy" not in said


def test_info_of_a_grid(corner, tmp_path, capsys):
    corner.to_netcdf(tmp_path / "era5.nc")
    assert main(["info", str(tmp_path / "era5.nc"), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "grid of 2 x 2 cells, 2022-07-01 to 2022-07-31, time step 1 h" in said
    assert re.search(r"SW_IN +100.0", said)


def test_gapfill_and_plot_a_tower_file(short_csv, tmp_path):
    said = run("gapfill", short_csv.parent, "filled.nc", "--model", "mds", "--quiet", folder=tmp_path)
    assert re.search(r"DE-Tha  measured \d\d\.\d%, filled \d\d\.\d%, missing 0.0%", said)
    with xr.open_dataset(tmp_path / "filled.nc") as filled:
        assert filled["NEE"].notnull().all() and filled["NEE"].sizes["time"] == 8760
    assert "wrote year.png" in run("plot", "year", "filled.nc", "year.png", folder=tmp_path)
    fingerprint = ["plot", "fingerprint", str(short_csv), str(tmp_path / "f.pdf")]
    assert main([*fingerprint, "--prediction", str(tmp_path / "filled.nc"), "--quiet"]) == 0
    assert (tmp_path / "year.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "f.pdf").read_bytes().startswith(b"%PDF")


def test_errors_of_a_tower_file_and_years_without_a_sum_are_reported(short_csv, tmp_path, capsys):
    table = pd.read_csv(short_csv).iloc[:6000]
    table["NEE_VUT_REF"], table["TA_F"] = -table["NEE_VUT_REF"], table["TA_F"] + 273.15
    (tmp_path / "raw").mkdir()
    table.to_csv(tmp_path / "raw" / short_csv.name, index=False)
    for beside in short_csv.parent.glob("site*"):
        shutil.copy(beside, tmp_path / "raw")
    with pytest.warns(UserWarning, match=rf"{short_csv.name}: the values of TA show that it is in K."):
        said = run("budget", "raw", "--out", "out", "--model", "mds", "--quiet", folder=tmp_path)
    assert "1 of 1 years have no sum, because more than 0% of their hours" in said
    errors = capsys.readouterr().err
    assert "xcarbon: DE-Tha: NEE is" in errors and "Change its sign." in errors
    assert "xcarbon: DE-Tha: The values of TA show that it is in K." in errors


def test_warnings_are_one_line_without_python(tmp_path):
    table = "TIMESTAMP_START,VPD,nee\n201406010000,5,1\n201406010100,5,2\n"
    path = tmp_path / "FLX_DE-Tha_FLUXNET2015_SUBSET_HR_2014-2014.csv"
    path.write_text(table)
    (tmp_path / "site_data.csv").write_text(
        "SITE_ID,LOCATION_LAT,LOCATION_LON,IGBP,UTC_OFFSET\nDE-Tha,50.9624,13.5652,ENF,1\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "xcarbon", "info", path], capture_output=True, text=True, check=True
    )
    assert f"xcarbon: {path}: some columns are not read; rename 'nee' to NEE to read them\n" in done.stderr


def test_budget_of_a_tower_file_with_percentiles_over_thresholds(short_csv, tmp_path, capsys):
    shutil.copytree(short_csv.parent, tmp_path / "raw")
    text = "TIMESTAMP,NEE_VUT_REF,NEE_VUT_REF_QC,NEE_VUT_16,NEE_VUT_84\n2014,-500,0.8,-520,-460\n"
    (tmp_path / "raw" / "FLX_DE-Tha_FLUXNET2015_SUBSET_YY_2014-2014.csv").write_text(text)
    said = run("budget", "raw", "--out", "out", "--model", "mds", "--quiet", folder=tmp_path)
    assert re.search(r"DE-Tha +2014-01-01 +-\d+ +-\d+ +-\d+", said)
    annual, monthly = (pd.read_csv(tmp_path / "out" / f"{name}.csv") for name in ("annual", "monthly"))
    assert annual["NEE_SE_threshold"].tolist() == [30]
    assert len(monthly) == 12 and monthly["NEE_SE_threshold"].isna().all()
    assert "Carbon budget of DE-Tha" in (tmp_path / "out" / "report.html").read_text()
    assert "percentiles" not in capsys.readouterr().err  # there is no monthly file


def test_percentiles_are_used_where_they_exist_and_reported_where_they_cannot_be_read(short_csv, capsys):
    assert fluxes._thresholds((str(short_csv), "s3://bucket/towers.zarr"), Selection()) == {}
    assert capsys.readouterr().err == ""
    damaged = short_csv.parent / "FLX_DE-Tha_FLUXNET2015_SUBSET_MM_2014-2014.csv"
    damaged.write_text("TIMESTAMP,NEE_VUT_REF\n201413,1\n")
    try:
        assert fluxes._thresholds((str(short_csv.parent),), Selection()) == {}
    finally:
        damaged.unlink()
    assert "without percentiles over friction velocity thresholds (MM): " in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["gaps"], ["gaps", "--site", "DE-Tha", "--from", "2005"], ["sites", "--color-by", "elevation"],
     ["diurnal", "--site", "US-Ne1", "--by", "season", "--to", "2005"], ["fingerprint", "--variable", "TA"]],
)  # fmt: skip
def test_plot_without_a_prediction(arguments, short_store, tmp_path, capsys):
    figure, *options = arguments
    out = str(tmp_path / "figure.svg")
    assert main(["plot", figure, str(short_store), out, *options, "--quiet"]) == 0
    assert "<svg" in (tmp_path / "figure.svg").read_text()
    assert main(["plot", figure, str(short_store), out, *options, "--quiet"]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main(["plot", figure, str(short_store), out, *options, "--quiet", "--overwrite"]) == 0


def test_predict_and_plot_a_month_of_a_tower(short_store, tmp_path):
    june = ["--site", "US-Ne1", "--from", "2005-06", "--to", "2005-06", "--quiet"]
    process("predict", "nee-fluxnet2015", short_store, "nee.nc", "--spread", *june, folder=tmp_path)
    with xr.open_dataset(tmp_path / "nee.nc") as nee:
        assert nee["site"].values.tolist() == ["US-Ne1"]
        assert nee["NEE"].shape == (1, 30 * 24)
        # The command has read the hours before June, too.
        tower = xcarbon.open_store(short_store).sel(site=["US-Ne1"], time=slice("2005-06"))
        whole = tower.carbon.predict_nee(xcarbon.load("nee-fluxnet2015")).sel(time=nee["time"])
        np.testing.assert_allclose(nee["NEE"], whole, atol=1e-3)
    scatter = ["plot", "scatter", short_store, "scatter.png", "--prediction", "nee.nc", *june]
    assert "wrote scatter.png" in run(*scatter, folder=tmp_path)


def test_plot_a_prediction_over_a_period(short_store, tmp_path):
    prediction, out = tmp_path / "nee.zarr", tmp_path / "series.png"
    towers = xcarbon.open_store(short_store)
    (towers["NEE"] + 1).to_dataset().carbon.to_store(prediction)
    options = ["--prediction", str(prediction), "--site", "US-Ne1", "--from", "2006-06", "--quiet"]
    assert main(["plot", "series", str(short_store), str(out), *options]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def test_train_explain_predict_and_score(short_store, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "fit", functools.partial(training.fit, n_estimators=10, max_depth=5))
    train = ["train", str(short_store), "run", "--model", "xgboost", "--to", "2005", "--quiet"]
    assert "wrote run/model" in run(*train, folder=tmp_path)
    before = (tmp_path / "run" / "run.json").stat().st_mtime_ns
    assert main([*train, "--overwrite"]) == 0
    assert (tmp_path / "run" / "run.json").stat().st_mtime_ns > before
    explain = ["explain", "run/model", str(short_store), "why.nc", "--hours", "20", "--figure", "why.png"]
    said = run(*explain, "--from", "2006-06", "--quiet", folder=tmp_path)
    assert "most important first" in said and "SW_IN" in said and "wrote why.nc and why.png" in said
    assert (tmp_path / "why.png").stat().st_size > 10_000
    with xr.open_dataset(tmp_path / "why.nc") as why:
        assert "nse_loss" in why
    june = ["--from", "2006-06", "--to", "2006-06", "--quiet"]
    assert main(["predict", "run/model", str(short_store), "nee.zarr", *june]) == 0
    assert "nse" in run("score", "nee.zarr", short_store, "--by", "site", "--quiet", folder=tmp_path)


def test_build_and_check(short_csv, tmp_path):
    said = run("build", short_csv.parent, "towers.zarr", "--quiet", folder=tmp_path)
    assert "towers built: 1" in said
    assert "1 tower" in run("check", "towers.zarr", "--from", "2014", "--quiet", folder=tmp_path)


def test_an_experiment_on_a_store(short_store, tmp_path):
    (tmp_path / "experiment.toml").write_text(
        f'store = "{short_store}"\nout = "out"\nsplit = "random"\n'
        'models = [{kind = "ridge"}, {kind = "diurnal_cycle"}]\n'
    )
    assert "results.nc" in run("experiment", "experiment.toml", "--quiet", folder=tmp_path)


def test_towers_and_periods_that_are_absent(short_store, tmp_path, capsys):
    assert main(["info", str(short_store), "--site", "XX-Abc"]) == 1
    assert "has no tower XX-Abc; the first towers are DE-Tha" in capsys.readouterr().err
    assert main(["info", str(short_store), "--from", "2010"]) == 1
    assert "there are no hours from 2010 to 2006-12-31" in capsys.readouterr().err
    assert main(["plot", "year", str(short_store), str(tmp_path / "a.png"), "--site", "DE-Tha,US-Ne1"]) == 1
    assert "shows one tower, but --site names 2" in capsys.readouterr().err


@pytest.mark.parametrize("name", cli.commands)
def test_every_command_has_an_example_of_itself(name, capsys):
    assert main([name, "--help"]) == 0
    said = capsys.readouterr().out
    *_, example = (line.strip() for line in said.splitlines() if line.strip())
    assert example.startswith(f"xcarbon {name}")
    command = cli.commands[name]
    command.make_context(name, example.split()[2:])  # an example has no wrong options
