"""The trained models of the package: loading, size, description, and scores at other towers."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import xarray as xr

import xcarbon
from xcarbon.core.errors import ModelError
from xcarbon.core.variables import SATELLITE, memory_features
from xcarbon.models import pretrained
from xcarbon.models.ensemble import members
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


def test_was_trained_as_its_script_says():
    recipe = importlib.import_module("benchmarks.weights.train")
    model = xcarbon.load(NAME)
    kinds = [member.predictor.kind for member in members(model)]
    assert kinds == [kind for kind in recipe.MEMBERS for _ in range(recipe.SEEDS)]
    assert list(model.targets) == recipe.TARGETS
    assert list(model.config.variables) == recipe.VARIABLES
    assert set(model.config.state) == {*memory_features(recipe.VARIABLES), *SATELLITE}
    for member, kind in zip(members(model), kinds, strict=True):
        assert member.provenance["training"].items() >= recipe.MEMBERS[kind].items()
    assert len(model.sites) == 180


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


def test_absurd_inputs_have_bounded_predictions_outside_the_area(tower):
    """A class without training towers, a heat wave that lasts for months, and leaves beyond any limit."""
    extremes = {"TA": 60.0, "VPD": 90.0, "SW_IN": 1400.0}
    days = np.arange("2010-01-01", "2011-01-01", 8, "M8[D]").astype("M8[ns]")
    absurd = tower[["TA", "VPD", "SW_IN"]]
    absurd = absurd.assign({code: absurd[code] * 0 + value for code, value in extremes.items()})
    absurd = absurd.drop_vars("day", errors="ignore").assign_coords(igbp=("site", ["BSV"]), day=days)
    absurd["LAI"] = (("site", "day"), np.full((1, days.size), 10.0), {"units": "1", "composite_days": 8.0})
    found = absurd.carbon.predict_nee(NAME, spread=True, applicability=True).compute()
    assert (abs(found["NEE"]) < 80).all() and (found["NEE_SE"] < 80).all()
    assert (found["applicable"] == 0).all()


def test_predicts_its_training_towers_within_its_area(real_data):
    """Four forests in three months, without satellite series; the NSE of a constant is at most 0."""
    ds = xcarbon.open_store(real_data / "fluxnet2015_hourly.zarr")
    forests = (ds["paper_split"] == "val") & ds["igbp"].isin(["DBF", "ENF", "MF"])
    val = ds.isel(site=forests.values).isel(site=slice(4)).sel(time=slice("2004-05-01", "2005-07-31"))
    found = val.carbon.predict_nee(NAME, spread=True, applicability=True).load()
    assert float(val.carbon.score(found, by=None, training_towers="keep")["nse"]) > 0.6
    within = xcarbon.evaluation.coverage(val, found)["coverage"].values
    assert (within > [0.5, 0.9]).all()  # errors are smaller at training towers
    known = found["dissimilarity"].notnull()
    assert float((found["applicable"] == 1).sum() / known.sum()) > 0.9


def test_respiration_is_the_sum_of_nee_and_gpp(tower):
    nee, gpp, reco = (tower.carbon.predict(code, NAME).compute() for code in ("NEE", "GPP_NT", "RECO_NT"))
    np.testing.assert_allclose(reco, nee + gpp, rtol=1e-6, atol=1e-6)
    assert reco.attrs["units"] == "umol m-2 s-1"
