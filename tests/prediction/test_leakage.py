"""Predictions and scores mark the towers that the model was trained on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import xarray as xr

import xcarbon
from tests.prediction.test_predict import make
from xcarbon.core.errors import LeakageError, MetadataError, OptionError, TimestampError, VariableError
from xcarbon.models.bundle import CarbonModel
from xcarbon.models.towers import coordinates
from xcarbon.prediction.leakage import in_training
from xcarbon.testing import synthetic_towers

DAYS = slice(24 * 180, 24 * 190)


@pytest.fixture(scope="module")
def days() -> xr.Dataset:
    """Three towers; the second has the name of a training tower, the third lies 200 m from one."""
    ds = synthetic_towers(3, patches=False, variables=["TA", "SW_IN", "NEE"]).isel(time=DAYS).load()
    return ds.assign_coords(site=["SY-001", "XX-One", "SY-003"])


@pytest.fixture(scope="module")
def model(days) -> CarbonModel:
    lat, lon = float(days["lat"][2]) + 0.0018, float(days["lon"][2])
    towers = coordinates([np.nan, lat], [np.nan, lon], ["ENF", "GRA"])
    provenance = {"sites": ["XX-One", "XX-Two"], "coordinates": towers}
    return dataclasses.replace(make(("DOY", "TOD", "TA", "SW_IN"), ()), provenance=provenance)


def test_towers_are_matched_by_name_and_by_distance(days, model):
    assert in_training(days, model).values.tolist() == [False, True, True]
    assert in_training(days, model, min_distance=0.1).values.tolist() == [False, True, False]
    assert bool(in_training(days.isel(site=2), model)) and not bool(in_training(days.isel(site=0), model))
    assert in_training(days.drop_vars(["lat", "lon"]), model).values.tolist() == [False, True, False]
    assert in_training(days.drop_vars("site"), model).values.tolist() == [False, False, True]
    tuned = {"sites": ["SY-001"], "pretrained_sites": ["xx-one"]}
    tuned = dataclasses.replace(model, provenance=tuned)
    assert in_training(days, tuned).values.tolist() == [True, True, False]


def test_what_is_unknown_is_not_marked(days, model):
    nameless = dataclasses.replace(model, provenance={})
    assert "in_training" not in days.carbon.predict_nee(nameless).coords
    assert in_training(days.isel(site=0).drop_vars(["site", "lat", "lon"]), model) is None
    grid = days.isel(site=0, drop=True).expand_dims(lat=[50.0], lon=[10.0])
    assert in_training(grid, model) is None


def test_a_score_warns_and_can_leave_training_towers_out(days, model):
    nee = days.carbon.predict_nee(model)
    with pytest.warns(UserWarning, match=r"trained on 2 of 3 scored towers \(XX-One, SY-003\)"):
        warned = days.carbon.score(nee, by="site")
    assert warned["in_training"].values.tolist() == [False, True, True]
    assert warned.attrs["training_towers"] == "XX-One SY-003"
    kept = days.carbon.score(nee, by=None, training_towers="keep")
    dropped = days.carbon.score(nee, by=None, training_towers="drop")
    one = days.isel(site=[0])
    alone = one.carbon.score(nee, by=None, training_towers="drop")
    xr.testing.assert_equal(dropped.compute(), alone.compute())
    assert dropped.attrs["training_towers"] == "" and int(dropped["n"]) < int(kept["n"])
    with pytest.raises(LeakageError, match="trained on all towers"):
        days.carbon.score(nee.isel(site=[1, 2]), training_towers="drop")
    with pytest.raises(LeakageError, match="trained on all towers"):
        days.isel(site=1).carbon.score(nee.isel(site=1), by=None, training_towers="drop")
    with pytest.raises(OptionError, match="must be one of"):
        days.carbon.score(nee, training_towers="ignore")


def test_what_is_not_an_aligned_prediction_is_an_error(days, model):
    nee = days.carbon.predict_nee(model)
    with pytest.raises(VariableError, match=r"numpy|ndarray without labels.*copy\(data="):
        days.carbon.score(nee.values)
    with pytest.raises(TimestampError, match="no time in common"):
        days.isel(time=slice(48)).carbon.score(nee.isel(time=slice(48, None)))
    with pytest.raises(MetadataError, match="no site in common"):
        days.isel(site=[0]).carbon.score(nee.isel(site=[1]))
    both = nee.to_dataset().assign(NEE_SE=nee + 1)
    xr.testing.assert_equal(
        days.carbon.score(both, None, training_towers="keep"),
        days.carbon.score(nee, None, training_towers="keep"),
    )
    with pytest.raises(VariableError, match="must contain one flux"):
        days.carbon.score(both.assign(GPP_NT=nee))


def test_a_record_that_is_too_short_is_scored_over_no_hours(days, model):
    short = days.isel(time=slice(model.config.min_context - 1))
    scores = short.carbon.score(short.carbon.predict_nee(model), None, training_towers="keep")
    assert int(scores["n"]) == 0 and np.isnan(scores["nse"])


def test_the_model_of_the_package_lists_the_places_of_its_towers(real_towers):
    towers = xcarbon.load("nee-fluxnet2015").training_towers
    ds = real_towers.sel(site=towers.site)
    np.testing.assert_allclose(towers.lat, ds["lat"], atol=1e-4)
    np.testing.assert_allclose(towers.lon, ds["lon"], atol=1e-4)
    assert (towers.igbp == ds["igbp"].values).all()


def test_towers_may_share_a_coordinate(days, model):
    along = days.assign_coords(lat=("site", [50.0] * 3), lon=("site", [9.0, 10.0, 11.0]))
    found = in_training(along.drop_vars("lat").assign_coords(lat=50.0), model)
    assert found.equals(in_training(along, model).reset_coords(drop=True))
