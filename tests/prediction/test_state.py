"""Predictions with memory and satellite series do not depend on the chunking, and continue a history."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import torch
import xarray as xr
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st

import xcarbon
from tests.models.samples import nee_scaler, shaken
from tests.models.test_boosting import grow
from tests.prediction.test_predict import partitions
from xcarbon.core.errors import TimestampError
from xcarbon.models.boosting import BoostedTrees, BoostedTreesConfig
from xcarbon.models.bundle import CarbonModel, Scaler
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.models.ensemble import ensemble
from xcarbon.models.inputs import ModelInputs
from xcarbon.models.networks import EcoPerceiverPredictor, StreamingPredictor
from xcarbon.models.streaming import StreamingConfig, StreamingEcoPerceiver
from xcarbon.prediction.predict import predict
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.statics import stack_statics
from xcarbon.testing import raise_on_compute, synthetic_towers

CODES = ("DOY", "TOD", "TA", "VPD")
STATE = ("VPD_7D", "LAI", "TA_1D", "TA_30D")
CONTEXT, FIELD = 6, 7
#: Hours of the history in two months.
CUT = 1200


def standardised(network):
    """Moments near those of the towers."""
    part = network.state if isinstance(network, StreamingEcoPerceiver) else network.embed.state
    part.standardise(torch.tensor([5.0, 2.0, 10.0, 10.0]), torch.tensor([3.0, 2.0, 8.0, 8.0]))
    return network


def grown(config: BoostedTreesConfig) -> xgboost.Booster:
    """Trees on random numbers in the ranges of the features."""
    rng = np.random.default_rng(1)
    ranges = {"DOY": (-1, 1), "TA": (-0.5, 0.5), "LAI": (0, 5), "TA_30D": (-5, 25)}
    x = np.stack([rng.uniform(*ranges.get(name, (0, 1)), 2000) for name in config.features], 1)
    x[rng.random(x.shape) < 0.2] = np.nan
    names = [config.features.index(name) for name in ranges]
    y = np.nansum(x[:, names] / [1, 0.5, 2, 10], axis=1)
    return xgboost.train({"max_depth": 5}, xgboost.DMatrix(x, y), 20)


def make(kind: str) -> CarbonModel:
    torch.manual_seed(3)
    sizes = {"width": 16, "heads": 2, "cross_blocks": 1, "octaves": 4, "state": STATE}
    if kind == "streaming":
        config = StreamingConfig(CODES, (), ("igbp", "lat"), window=3, layers=3, **sizes)
        predictor = StreamingPredictor(standardised(shaken(StreamingEcoPerceiver(config), 0.1)))
    elif kind == "ecoperceiver":
        config = EcoPerceiverConfig(CODES, (), context=CONTEXT, self_layers=1, **sizes)
        predictor = EcoPerceiverPredictor(standardised(shaken(EcoPerceiver(config), 0.1)))
    elif kind == "xgboost":
        config = BoostedTreesConfig(("DOY", "TA"), (), ("igbp", "lat"), ("LAI", "TA_30D"), context=4)
        predictor = BoostedTrees(config, grown(config))
    else:
        return ensemble([make(each) for each in KINDS[:-1]])
    scaler = Scaler({"NEE": (0.0, 1.0)}, 1, {}) if kind == "xgboost" else nee_scaler(CODES)
    return CarbonModel(predictor, scaler, {"sites": ["DE-Tha"]})


KINDS = ("streaming", "ecoperceiver", "xgboost", "ensemble")


@pytest.fixture(scope="module", params=KINDS)
def model(request) -> CarbonModel:
    return make(request.param)


@pytest.fixture(scope="module")
def months() -> xr.Dataset:
    """Three towers in two months with satellite series; the first hours are measured."""
    ds = synthetic_towers(3, seed=4, patches=False, satellite=True, variables=["TA", "VPD", "NEE"])
    ds = ds.isel(time=slice(3000, 4500)).load()
    ds["TA"][:, :5], ds["TA_QC"][:, :5] = 12.0, 0
    return ds


@pytest.fixture(scope="module")
def whole(months, model) -> np.ndarray:
    return months.carbon.predict_nee(model).values


def test_equals_the_model_hour_by_hour(months, model, whole):
    """Each hour from the hours of its context and their state."""
    config, rng = model.config, np.random.default_rng(0)
    inputs = model_inputs(months, config.variables, state=config.state).load()
    statics = stack_statics(inputs.chunk(), config.statics).compute() if config.statics else [None] * 3
    for site, last in zip(rng.integers(0, 3, 40), rng.integers(50, 1500, 40), strict=True):
        hours = slice(last - config.context + 1, last + 1)
        hourly, state = (inputs[name].values[site, hours] for name in ("hourly", "state"))
        if np.isnan(hourly[:, [code not in ("DOY", "TOD") for code in config.variables]]).all():
            assert np.isnan(whole[site, last])
            continue
        expected = model.predict_series(
            ModelInputs(hourly, statics=statics[site], state=state), np.ones(1, bool)
        )
        assert whole[site, last] == pytest.approx(expected[0, 0], rel=1e-3, abs=1e-3)


def test_memory_and_series_matter(months, model, whole):
    without = months.drop_vars(["LAI", "LAI_QC"]).carbon.predict_nee(model).values
    assert np.nanmax(np.abs(without - whole)) > 1e-3
    later = months.isel(time=slice(CUT, None)).carbon.predict_nee(model).values
    hours = slice(model.config.context, 400)
    assert np.nanmax(np.abs(later - whole[:, CUT:])[:, hours]) > 1e-3


@given(st.data())
@settings(max_examples=6)
def test_any_chunks_leave_no_trace(months, model, whole, data):
    chunks = {dim: data.draw(partitions(months.sizes[dim]), dim) for dim in ("site", "time", "day")}
    with raise_on_compute():
        prediction = months.chunk(chunks).carbon.predict_nee(model)
    assert isinstance(prediction.data, dask.array.Array)
    np.testing.assert_allclose(prediction.values, whole, rtol=1e-4, atol=1e-4)


def test_the_first_hours_of_a_record_are_predicted(months, model, whole):
    """By all models that do not need a full window."""
    first = model.config.min_context - 1
    assert np.isnan(whole[:, :first]).all()
    assert np.isfinite(whole[:, first:5]).all()
    assert first == (0 if model.predictor.kind in ("streaming", "xgboost") else CONTEXT - 1) or first < 5
    for hours in (1, 2, 7):
        short = months.isel(time=slice(hours)).carbon.predict_nee(model).values
        np.testing.assert_allclose(short, whole[:, :hours], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["towers", "one tower", "chunked"])
def test_a_history_gives_the_state_of_the_whole_record(months, model, whole, form):
    """And the hours of the windows of the first hours."""
    now, history = months.isel(time=slice(CUT, None)), months.isel(time=slice(CUT))
    expected = whole[:, CUT:]
    if form == "one tower":
        now, history, expected = now.isel(site=1), history.isel(site=1), expected[1:2]
    elif form == "chunked":
        now, history = now.chunk(time=70), history.chunk(time=100, site=1)
    found = now.carbon.predict_nee(model, history=history).values.reshape(expected.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    without = now.carbon.predict_nee(model).values.reshape(expected.shape)
    assert np.nanmax(np.abs(without - expected)[:, :200]) > 1e-3


def test_a_short_history_and_one_with_a_gap(months, model):
    """Missing hours between the history and the Dataset are missing hours of the record."""
    for start, stop in ((CUT - 3, CUT), (0, CUT - 2), (0, CUT - 40), (CUT - 5, CUT - 2)):
        record = months.isel(time=slice(start, None))
        there = record["time"] < months["time"][stop] if stop < CUT else xr.ones_like(record["time"], bool)
        there = there | (record["time"] >= months["time"][CUT])
        record = record.assign({code: record[code].where(there) for code in ("TA", "VPD")})
        expected = record.carbon.predict_nee(model).isel(time=slice(CUT - start, None))
        now, history = months.isel(time=slice(CUT, None)), months.isel(time=slice(start, stop))
        found = now.carbon.predict_nee(model, history=history)
        xr.testing.assert_allclose(found.drop_attrs(), expected.drop_attrs(), rtol=1e-4, atol=1e-4)
        assert found["time"].attrs == now.carbon.predict_nee(model)["time"].attrs


def test_a_history_needs_nothing_but_hourly_variables(months, model, whole):
    """In any order of towers; here every flag is good, so that a history without flags is the same."""
    good = months.assign({f"{code}_QC": months[f"{code}_QC"] * 0 for code in ("TA", "VPD")})
    expected = good.carbon.predict_nee(model).values[:, CUT:]
    now, bare = good.isel(time=slice(CUT, None)), good[["TA", "VPD"]].isel(time=slice(CUT), site=[2, 0, 1])
    found = now.carbon.predict_nee(model, history=bare).values
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    one = now.isel(site=1).carbon.predict_nee(model, history=bare)
    np.testing.assert_allclose(one, expected[1], rtol=1e-4, atol=1e-4)


def test_a_history_must_end_before_the_dataset(months, model):
    with pytest.raises(TimestampError, match="must end before"):
        months.carbon.predict_nee(model, history=months)


def test_causal_predictions_do_not_depend_on_later_hours(months, model):
    hour = 1000
    now = months["time"].values[hour]
    composite = months["day"] + np.timedelta64(4, "D") > now
    changed = months.assign(
        {code: months[code].where(months["time"] <= now, 3.0) for code in ("TA", "VPD")}
        | {"LAI": months["LAI"].where(~composite, 0.5), "LAI_QC": months["LAI_QC"].where(~composite, 0)}
    )
    one, other = (ds.carbon.predict_nee(model, causal=True).values for ds in (months, changed))
    np.testing.assert_array_equal(one[:, : hour + 1], other[:, : hour + 1])
    assert np.nanmax(np.abs(one - other)[:, hour + 1 :]) > 1e-3
    one, other = (ds.carbon.predict_nee(model).values for ds in (months, changed))
    assert np.nanmax(np.abs(one - other)[:, : hour + 1]) > 1e-4


def note(capsys, *arguments, **settings) -> str:
    """Text that a prediction prints."""
    capsys.readouterr()
    with xcarbon.set_options(progress=True):
        predict(*arguments, **settings)
    return "".join(capsys.readouterr())


def test_the_note_counts_the_days_before_the_dataset(months, capsys):
    model = make("xgboost")
    now, history = months.isel(time=slice(CUT, None)), months.isel(time=slice(CUT))
    said = "a year of weather before each hour, and {} days precede the Dataset"
    assert said.format(0) in note(capsys, now, "NEE", model)
    assert said.format(50) in note(capsys, now, "NEE", model, history=history)
    assert said.format(0) in note(capsys, now.chunk(time=100), "NEE", model)
    year = synthetic_towers(3, years=2, patches=False, variables=["TA", "VPD"], start="2008-06-01")
    past = year.sel(time=slice(None, now["time"].values[0] - np.timedelta64(1, "h")))
    assert "precede" not in note(capsys, now, "NEE", model, history=past)
    series = BoostedTreesConfig(("DOY", "TA"), state=("LAI",))
    without = CarbonModel(BoostedTrees(series, grow(3)), Scaler({"NEE": (0.0, 1.0)}, 1, {}))
    assert "precede" not in note(capsys, now, "NEE", without)
    with xcarbon.set_options(progress=False):
        predict(now, "NEE", model)
    assert "precede" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "chunks", [None, {"time": 500}, {"lat": 1}, {"lon": 2, "time": (1, 900, 599), "day": 7}]
)
def test_cells_of_a_grid_are_towers_in_solar_time(months, model, chunks):
    """With satellite fields on (day, lat, lon)."""
    tower = months.isel(site=0, drop=True)[["TA", "VPD", "LAI", "LAI_QC"]]
    tower = tower.drop_vars(["lat", "lon", "igbp"], errors="ignore")
    grid = xr.concat(
        [tower, tower.assign(TA=tower["TA"] + 2, LAI=(tower["LAI"] / 2).assign_attrs(tower["LAI"].attrs))],
        "lon",
    )
    grid["TA"].attrs = tower["TA"].attrs
    grid = grid.assign_coords(lon=[0.0, 30.0]).expand_dims(lat=[50.0])
    grid = grid.transpose("time", "day", "lat", "lon", ...)
    assert grid["LAI"].dims == ("day", "lat", "lon")
    lazy = grid if chunks is None else grid.chunk(chunks)
    with raise_on_compute():
        prediction = lazy.carbon.predict_nee(model)
    assert prediction.dims == ("time", "lat", "lon")
    for number in (0, 1):
        # A tower in UTC at the place of the cell has the same hours and the same state.
        alone = grid.isel(lon=[number]).carbon.predict_nee(model)
        np.testing.assert_allclose(prediction[..., [number]], alone, rtol=1e-4, atol=1e-4)
    zero = tower.expand_dims(site=["X"]).assign_coords(lat=("site", [50.0]), lon=("site", [0.0]))
    zero = zero.transpose("site", ...)
    expected = zero.carbon.predict_nee(model).values[0]
    np.testing.assert_allclose(prediction.values[:, 0, 0], expected, rtol=1e-4, atol=1e-4)
    assert np.isfinite(expected).mean() > 0.9
    now, history = lazy.isel(time=slice(CUT, None)), lazy.isel(time=slice(CUT))
    found = now.carbon.predict_nee(model, history=history)
    np.testing.assert_allclose(found, prediction[CUT:], rtol=1e-4, atol=1e-4)
    assert np.nanmax(np.abs(prediction.values[:, 0, 1] - expected)) > 1e-3


def test_a_written_prediction_continues_a_history(months, model, whole, tmp_path):
    now, history = months.isel(time=slice(CUT, None)), months.isel(time=slice(CUT))
    path = now.chunk(time=100).carbon.predict_to("NEE", model, tmp_path / "nee.nc", history=history)
    with xcarbon.open_netcdf(path) as found:
        np.testing.assert_allclose(
            found["NEE"], now.carbon.predict_nee(model, history=history), rtol=1e-4, atol=1e-4
        )


def test_models_of_all_kinds_are_trained_combined_and_saved(months, tmp_path):
    """From training to the prediction of an ensemble."""
    train, network = months.isel(site=slice(2)), {"width": 16, "heads": 2, "cross_blocks": 1, "octaves": 4}
    quick = {"max_steps": 2, "batch_size": 4, "network": network, "variables": CODES}
    streaming = train.carbon.fit("streaming", length=48, run_dir=tmp_path / "streaming", **quick)
    paper = train.carbon.fit("ecoperceiver", state=["LAI", "TA_7D"], run_dir=tmp_path / "paper", **quick)
    trees = train.carbon.fit(
        "xgboost", features="state", n_estimators=5, variables=("VPD", "TA"), run_dir=tmp_path / "trees"
    )
    together = ensemble([streaming, paper, trees])
    assert set(together.config.state) == {*streaming.config.state, *paper.config.state, *trees.config.state}
    found = months.carbon.predict_nee(together, spread=True)
    alone = [months.carbon.predict_nee(model).values for model in (streaming, paper, trees)]
    known = np.isfinite(alone).all(0)
    assert known.mean() > 0.8
    np.testing.assert_allclose(found["NEE"].values[known], np.mean(alone, 0)[known], rtol=1e-3, atol=1e-3)
    assert (found["NEE_SE"].values[known] > 0).all()
    loaded = CarbonModel.load(together.save(tmp_path / "model"))
    again = months.carbon.predict_nee(loaded, spread=True)
    xr.testing.assert_equal(again.drop_attrs().compute(), found.drop_attrs().compute())
