"""Predictions of a streaming EcoPerceiver equal the output of its network, for each hour and place."""

from __future__ import annotations

import dataclasses

import dask
import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.samples import nee_scaler, shaken
from tests.prediction.test_predict import partitions
from xcarbon.core import conventions
from xcarbon.core.errors import ModelError
from xcarbon.models.bundle import CarbonModel
from xcarbon.models.calibration import SpreadCalibration
from xcarbon.models.inputs import ModelInputs
from xcarbon.models.networks import StreamingPredictor
from xcarbon.models.streaming import StreamingConfig, StreamingEcoPerceiver
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.patches import patch_index
from xcarbon.prep.statics import stack_statics
from xcarbon.testing import raise_on_compute

WINDOW, FIELD = 5, 13
CODES = ("TA", "SW_IN", "VPD")


def make(variables=("DOY", "TOD", *CODES), bands=("B1", "snow"), **network) -> CarbonModel:
    torch.manual_seed(3)
    config = StreamingConfig(
        variables, bands, width=16, heads=2, window=WINDOW, layers=3, octaves=4, **{"spread": False} | network
    )
    network = shaken(StreamingEcoPerceiver(config))
    return CarbonModel(StreamingPredictor(network), nee_scaler(variables))


@pytest.fixture(scope="module")
def model() -> CarbonModel:
    return make()


@pytest.fixture(scope="module")
def days(towers) -> xr.Dataset:
    """Two towers in three days of July, with a gap that is longer than the context of a prediction."""
    ds = towers.isel(site=slice(2)).sel(time=slice("2010-07-01", "2010-07-03")).load()
    return without_hours(ds, slice(40, 60))


def without_hours(ds: xr.Dataset, hours: slice) -> xr.Dataset:
    gap = xr.zeros_like(ds["time"], dtype=bool)
    gap[hours] = True
    return ds.assign({code: ds[code].where(~gap) for code in CODES})


def by_hour(ds: xr.Dataset, model: CarbonModel) -> np.ndarray:
    """Predict hour by hour by the network itself, from the hours of the record within the context."""
    config = model.config
    inputs = model_inputs(ds, config.variables, config.bands).load().chunk()
    hourly, days = inputs["hourly"].values, inputs["day"].values if "patch" in inputs else None
    statics = torch.from_numpy(stack_statics(inputs, config.statics).compute())
    output = np.full(hourly.shape[:2], np.nan, np.float32)
    for site, last in np.ndindex(hourly.shape[:2]):
        hours = slice(max(0, last + 1 - FIELD), last + 1)
        patches = index = None
        if days is not None:
            images = inputs["patch"].values[site]
            found = patch_index(inputs["time"].values, days, np.isfinite(images).all((1, 2, 3)))[hours]
            patches, index = torch.from_numpy(np.nan_to_num(images)), torch.from_numpy(found)[None]
        series = torch.from_numpy(hourly[site, hours])[None]
        if not torch.isfinite(series[..., -3:]).any() and (index is None or (index < 0).all()):
            continue
        with torch.no_grad():
            predicted = model.network(ModelInputs(series, patches, index, statics[site][None]))
        output[site, last] = predicted.mean[0, -1, 0]
    return output * 5.0 - 1.0


@pytest.fixture(scope="module")
def expected(days, model) -> np.ndarray:
    return by_hour(days, model)


@given(st.data())
@settings(max_examples=10)
def test_any_chunks_leave_no_trace(days, model, expected, data):
    chunks = {dim: data.draw(partitions(days.sizes[dim]), dim) for dim in ("site", "time", "day")}
    with raise_on_compute():
        prediction = days.chunk(chunks).carbon.predict_nee(model)
    np.testing.assert_allclose(prediction.values, expected, rtol=1e-4, atol=1e-4)


def test_predictions_begin_with_the_first_hour(days, expected):
    """They end where the context has no observation; a patch enters at noon, in the middle of the gap."""
    assert np.isfinite(expected[:, :40]).all()


@pytest.mark.parametrize("hours", [1, WINDOW - 1, WINDOW, FIELD - 1, FIELD, FIELD + 1])
def test_short_records(days, model, expected, hours):
    prediction = days.isel(time=slice(hours)).carbon.predict_nee(model)
    np.testing.assert_allclose(prediction.values, expected[:, :hours], rtol=1e-4, atol=1e-4)


@given(st.data())
@settings(max_examples=5)
def test_hours_before_the_record_are_none(days, data):
    """Without a clock and patches, such hours would look like hours without observations."""
    model = make(CODES, ())
    ds = without_hours(days.drop_vars(["reflectance", "snow", "water"]), slice(2, 6))
    expected = by_hour(ds, model)
    assert np.isnan(expected[:, 40 + FIELD : 59]).all() and np.isfinite(expected[:, :40]).all()
    chunks = data.draw(partitions(ds.sizes["time"]))
    prediction = ds.chunk(time=chunks).carbon.predict_nee(model)
    np.testing.assert_allclose(prediction.values, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("unknown", [["igbp"], ["igbp", "lat", "lon", "elevation"]])
def test_what_is_not_known_of_a_tower_is_missing(days, model, expected, unknown):
    less = days.drop_vars(unknown)
    prediction = less.carbon.predict_nee(model).values
    np.testing.assert_allclose(prediction, by_hour(less, model), rtol=1e-4, atol=1e-4)
    assert np.nanmax(abs(prediction - expected)) > 1e-3
    blind = make(statics=())
    np.testing.assert_array_equal(less.carbon.predict_nee(blind), days.carbon.predict_nee(blind))


def test_a_single_tower_is_known_as_among_others(days, model, expected):
    alone = days.isel(site=1).carbon.predict_nee(model)
    np.testing.assert_allclose(alone.values, expected[1], rtol=1e-4, atol=1e-4)


@given(st.data())
@settings(max_examples=4)
def test_cells_know_where_they_are(data):
    """Each cell as a tower of its place; a class of the cells is known if there is such a coordinate."""
    rng = np.random.default_rng(0)
    clock = np.datetime64("2010-07-01", "ns") + np.arange(30) * np.timedelta64(1, "h")
    weather = rng.uniform(5, 25, (30, 2, 3)).astype("f4")
    axes = {"time": clock, "lat": [50.0, 20.0], "lon": [-90.0, 0.0, 135.0]}
    grid = xr.Dataset({"TA": (("time", "lat", "lon"), weather)}, axes)
    if data.draw(st.booleans()):
        grid = grid.assign_coords(igbp=(("lat", "lon"), [["ENF", "WAT", "?"], ["DBF", "GRA", "CRO"]]))
    model = make(("DOY", "TOD", "TA"), ())
    chunks = {dim: data.draw(partitions(grid.sizes[dim]), dim) for dim in ("time", "lat", "lon")}
    prediction = grid.chunk(chunks).carbon.predict_nee(model)
    assert prediction.dims == ("time", "lat", "lon")
    for row, column in np.ndindex(2, 3):
        cell = grid.isel(lat=row, lon=column)
        solar = cell["time"].values + np.timedelta64(round(float(cell["lon"]) / 15), "h")
        tower = cell.assign_coords(time=("time", solar))
        np.testing.assert_allclose(
            prediction[:, row, column], tower.carbon.predict_nee(model), rtol=1e-4, atol=1e-4
        )


def test_predictions_are_written_and_a_saved_model_is_read(days, model, expected, tmp_path):
    path = days.chunk(time=30).carbon.predict_to("NEE", model.save(tmp_path / "model"), tmp_path / "nee.nc")
    with xr.open_dataset(path) as written:
        np.testing.assert_allclose(written["NEE"], expected, rtol=1e-4, atol=1e-4)
        assert "streaming EcoPerceiver model" in written["NEE"].attrs["source"]


def test_gaps_that_nobody_wants_have_no_influence(model):
    """Wanted hours here and there are those of a pass over all."""
    hourly = np.random.default_rng(0).random((60 + FIELD - 1, 5), np.float32) - np.float32(0.5)
    inputs = ModelInputs(hourly)
    every = model.predict_series(inputs, np.ones(60, bool))[0]
    wanted = np.zeros(60, bool)
    wanted[[20, 21, 50]] = True
    some = model.predict_series(inputs, wanted)[0]
    np.testing.assert_allclose(some[wanted], every[wanted], rtol=1e-4, atol=1e-4)
    assert np.isnan(some[~wanted]).all()
    assert np.isnan(model.predict_series(inputs, np.zeros(60, bool))).all()


@pytest.fixture(scope="module")
def uncertain() -> CarbonModel:
    """It predicts two fluxes, and how uncertain they are."""
    two = make(targets=("NEE", "GPP_NT"), spread=True)
    scaler = dataclasses.replace(
        two.scaler,
        targets={"NEE": (-1.0, 5.0), "GPP_NT": (4.0, 7.0)},
        spread={"NEE": SpreadCalibration(1.5), "GPP_NT": SpreadCalibration(1.5)},
    )
    return dataclasses.replace(two, scaler=scaler)


def test_spread_belongs_to_its_flux(days, uncertain):
    with raise_on_compute():
        found = days.carbon.predict("GPP_NT", uncertain, spread=True)
    assert list(found) == ["GPP_NT", "GPP_NT_SE"]
    assert found["GPP_NT"].attrs["ancillary_variables"] == "GPP_NT_SE"
    assert found["GPP_NT_SE"].attrs["units"] == found["GPP_NT"].attrs["units"]
    alone = days.carbon.predict("GPP_NT", uncertain)
    xr.testing.assert_identical(alone.drop_attrs(), found["GPP_NT"].drop_attrs())
    known = np.isfinite(alone.values)
    np.testing.assert_array_equal(known, np.isfinite(found["GPP_NT_SE"].values))
    assert (found["GPP_NT_SE"].values[known] > 0).all()
    assert not np.allclose(days.carbon.predict_nee(uncertain).values[known], alone.values[known])


def test_all_outputs_are_computed_at_once(days, uncertain, monkeypatch):
    calls = []
    original = CarbonModel.predict_series
    monkeypatch.setattr(CarbonModel, "predict_series", lambda *args: calls.append(1) or original(*args))
    chunked = days.chunk(site=1, time=-1)
    dask.compute(chunked.carbon.predict("NEE", uncertain, spread=True), scheduler="synchronous")
    assert len(calls) == days.sizes["site"]


def test_spread_is_cf(days, uncertain, tmp_path):
    found = conventions.apply(days.carbon.predict_nee(uncertain, spread=True))
    found.to_netcdf(tmp_path / "nee.nc")
    with xr.open_dataset(tmp_path / "nee.nc") as written:
        assert written["NEE"].attrs["ancillary_variables"] == "NEE_SE"
        assert written["NEE_SE"].attrs["standard_name"].endswith("carbon_dioxide standard_error")


def test_two_fluxes_without_spread(days, uncertain):
    two = make(targets=("NEE", "GPP_NT"))
    two = dataclasses.replace(two, scaler=uncertain.scaler)
    assert days.carbon.predict("GPP_NT", two).notnull().any()


def test_a_model_without_spread_says_so(days, model):
    with pytest.raises(ModelError, match="omit spread"):
        days.carbon.predict_nee(model, spread=True)
