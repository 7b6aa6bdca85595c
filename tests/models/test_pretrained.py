"""The trained models of the package: loading, size, description, and scores at other towers."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xcarbon
from xcarbon.core.errors import ModelError
from xcarbon.models import pretrained
from xcarbon.testing import raise_on_compute

NAME = "nee-fluxnet2015"
#: Most that all weights together may weigh in the package [bytes].
LIMIT = 8_000_000


@pytest.fixture(scope="module")
def tower(towers) -> xr.Dataset:
    return towers.isel(site=[0], time=slice(24 * 90, 24 * 120))


def test_is_found_by_name_by_folder_and_as_itself():
    model = xcarbon.load(NAME)
    assert pretrained.names() == [NAME]
    assert xcarbon.load(model) is model
    assert xcarbon.load(pretrained.WEIGHTS / NAME).fingerprint() == model.fingerprint()
    assert pretrained.default("NEE").fingerprint() == model.fingerprint()
    assert model.targets == ("NEE", "GPP_NT") and model.has_spread
    assert pretrained.default("GPP_NT").fingerprint() == model.fingerprint()


def test_unknown_models_raise_errors(tmp_path):
    with pytest.raises(ModelError, match=f"nor one of the models .*{NAME}"):
        xcarbon.load("nee-fluxnet2051")
    with pytest.raises(ModelError, match="not a model folder"):
        xcarbon.load(tmp_path)
    with pytest.raises(ModelError, match="no model 'nothing'"):
        pretrained.card("nothing")


def test_weights_are_small():
    assert sum(path.stat().st_size for path in pretrained.WEIGHTS.rglob("*") if path.is_file()) < LIMIT


#: Remove it with the weights: these were trained by hand, and have no card.
PROVISIONAL = pytest.mark.xfail(reason="the weights are provisional", strict=False)


@PROVISIONAL
def test_was_trained_as_its_script_says():
    path = Path(__file__).parents[2] / "benchmarks" / "weights" / "train.py"
    spec = importlib.util.spec_from_file_location("recipe", path)
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    model = xcarbon.load(NAME)
    settings = dict(recipe.SETTINGS)
    assert list(model.config.variables) == settings.pop("variables")
    assert len(model.provenance["members"]) == settings["members"]
    for name, value in settings.pop("network").items():
        assert getattr(model.config, name) == value
    for seed, member in enumerate(model.provenance["members"]):
        assert member.items() >= (settings | {"seed": seed}).items()


@PROVISIONAL
def test_the_card_is_that_of_the_model():
    model, card = xcarbon.load(NAME), pretrained.card(NAME)
    assert model.fingerprint() in card
    for said in (
        "doi:10.1038/s41597-020-0534-3",
        "CC-BY-4.0",
        "must not be used",
        f"{len(model.sites)} towers",
    ):
        assert said in card


def test_is_the_default_and_is_named_in_the_output(tower, capsys):
    with xcarbon.set_options(progress=True), raise_on_compute():
        nee = tower.chunk().carbon.predict_nee()
    assert NAME in "".join(capsys.readouterr())
    assert NAME in nee.attrs["source"] and xcarbon.load(NAME).fingerprint() in nee.attrs["source"]
    assert "10.1038/s41597-020-0534-3" in nee.attrs["references"]
    with xcarbon.set_options(progress=False):
        silent = tower.carbon.predict_nee()
    assert NAME not in "".join(capsys.readouterr())
    xr.testing.assert_equal(nee, silent)
    with pytest.raises(ModelError, match="no model of xcarbon predicts GPP_DT"):
        tower.carbon.predict("GPP_DT")


@pytest.mark.parametrize("kept", [["TA"], ["SW_IN"], ["VPD"], ["TA", "VPD"]])
def test_predicts_from_any_of_its_inputs(tower, kept):
    bare = tower[[*kept, "NEE"]].drop_vars(["igbp", "lat", "lon", "elevation"], errors="ignore")
    found = bare.carbon.predict_nee(NAME, spread=True).compute()
    known = bare[kept].to_array().notnull().any("variable")
    assert np.isfinite(found["NEE"]).where(known, True).all()
    assert (abs(found["NEE"]).max() < 80) and (found["NEE_SE"].min() > 0)


def test_predicts_towers_that_it_was_not_trained_on(real_data):
    """Forests of the validation set in three months; a constant prediction has an NSE of at most 0."""
    ds = xcarbon.open_store(real_data / "fluxnet2015_hourly.zarr")
    model = xcarbon.load(NAME)
    forests = (ds["paper_split"] == "val") & ds["igbp"].isin(["DBF", "ENF", "MF"])
    val = ds.isel(site=forests.values).sel(time=slice("2005-05-01", "2005-07-31"))
    assert not set(val["site"].values) & set(model.sites)
    assert float(val.carbon.score(val.carbon.predict_nee(model), by=None)["nse"]) > 0.6


@PROVISIONAL
def test_its_spread_is_calibrated(real_data):
    ds = xcarbon.open_store(real_data / "fluxnet2015_hourly.zarr")
    forests = (ds["paper_split"] == "val") & ds["igbp"].isin(["DBF", "ENF", "MF"])
    val = ds.isel(site=forests.values).sel(time=slice("2005-05-01", "2005-07-31"))
    prediction = val.carbon.predict_nee(xcarbon.load(NAME), spread=True)
    within = xcarbon.evaluation.coverage(val, prediction)["coverage"].values
    np.testing.assert_allclose(within, [0.5, 0.9], atol=0.12)
