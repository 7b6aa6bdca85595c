"""Predictions are lazy, labelled, and the same however they are chunked and wherever they are computed."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import torch
import xarray as xr

import xcarbon
from xcarbon import inference
from xcarbon.errors import ModelError, TimestampError, VariableError
from xcarbon.models.bundle import CarbonModel, Scaler
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.prep.inputs import model_inputs
from xcarbon.testing import raise_on_compute
from xcarbon.variables import PAPER_INPUTS, PATCH_BANDS, VARIABLES

CONTEXT = 8


def make(variables=PAPER_INPUTS, bands=PATCH_BANDS) -> CarbonModel:
    torch.manual_seed(3)
    config = EcoPerceiverConfig(
        tuple(variables), tuple(bands), width=16, heads=2, cross_blocks=2, self_layers=1, context=CONTEXT
    )
    network = EcoPerceiver(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    bounds = {code: (VARIABLES[code].bounds.lower, VARIABLES[code].bounds.upper) for code in variables}
    provenance = {"sites": ["XX-One", "XX-Two"], "data": {"title": "two towers"}}
    return CarbonModel(network.eval(), "NEE", Scaler(-1.0, 5.0, 1, bounds), provenance)


@pytest.fixture(scope="module")
def model() -> CarbonModel:
    return make()


@pytest.fixture(scope="module")
def fortnight(towers) -> xr.Dataset:
    """Three towers in two weeks of July, with a gap."""
    ds = towers.isel(site=slice(3)).sel(time=slice("2010-07-01", "2010-07-14"))
    gap = xr.zeros_like(ds["time"], dtype=bool)
    gap[100:130] = True
    return ds.assign({code: ds[code].where(~gap) for code in PAPER_INPUTS[2:]})


@pytest.fixture(scope="module")
def expected(fortnight, model) -> np.ndarray:
    """Window by window, without any of the machinery."""
    inputs = model_inputs(fortnight, PAPER_INPUTS, PATCH_BANDS).load()
    hourly, patch = inputs["hourly"].values, inputs["patch"].values
    days, stamps = inputs["day"].values.astype("M8[D]"), inputs["time"].values
    output = np.full(hourly.shape[:2], np.nan, np.float32)
    for site in range(hourly.shape[0]):
        for last in range(CONTEXT - 1, hourly.shape[1]):
            hours = np.arange(last - CONTEXT + 1, last + 1)
            images, index = [], np.full(CONTEXT, -1)
            for position, stamp in enumerate(stamps[hours]):
                day = np.flatnonzero(days == stamp.astype("M8[D]"))
                if stamp.astype("M8[h]").astype(int) % 24 == 12 and day.size:
                    image = patch[site, day[0]]
                    if np.isfinite(image).all():
                        index[position] = len(images)
                        images.append(image)
            if not np.isfinite(hourly[site, hours, 2:]).any() and not images:
                continue
            stack = torch.from_numpy(np.stack(images)) if images else torch.zeros(0, 9, 8, 8)
            window = torch.from_numpy(hourly[site, hours])[None]
            with torch.no_grad():
                output[site, last] = model.network(window, stack, torch.from_numpy(index)[None])[0, -1]
    return output * 5.0 - 1.0


def test_nothing_is_computed_before_it_is_asked_for(towers, model):
    with raise_on_compute():
        prediction = towers.carbon.predict_nee(model)
        towers.carbon.score(prediction)
    assert isinstance(prediction.data, dask.array.Array)
    with raise_on_compute(), pytest.raises(AssertionError):
        prediction.compute()


def test_equals_the_model_window_by_window(fortnight, model, expected):
    prediction = fortnight.carbon.predict_nee(model).values
    np.testing.assert_array_equal(np.isnan(prediction), np.isnan(expected))
    np.testing.assert_allclose(prediction, expected, rtol=1e-4, atol=1e-4)
    assert np.isnan(prediction[:, : CONTEXT - 1]).all()
    assert np.isfinite(prediction[:, CONTEXT - 1 : 100]).all()


@pytest.mark.parametrize(
    "chunks", [{"time": -1}, {"time": 50}, {"time": 3}, {"time": (100, 1, 235)}, {"site": 3}]
)
def test_chunks_leave_no_trace(fortnight, model, expected, chunks):
    prediction = fortnight.chunk(chunks).carbon.predict_nee(model)
    np.testing.assert_allclose(prediction.values, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("hours", [1, CONTEXT - 1, CONTEXT, CONTEXT + 1])
def test_a_record_shorter_than_a_window_is_not_predicted(fortnight, model, expected, hours):
    prediction = fortnight.isel(time=slice(hours)).carbon.predict_nee(model)
    np.testing.assert_allclose(prediction.values, expected[:, :hours], rtol=1e-4, atol=1e-4)


def test_a_dataset_in_memory_and_a_single_tower(fortnight, model, expected):
    loaded = fortnight.load()
    prediction = loaded.carbon.predict_nee(model)
    assert isinstance(prediction.data, dask.array.Array)
    np.testing.assert_allclose(prediction.values, expected, rtol=1e-4, atol=1e-4)
    alone = loaded.isel(site=1).carbon.predict_nee(model)
    assert alone.dims == ("time",)
    assert alone["site"].item() == "SY-002"
    np.testing.assert_allclose(alone.values, expected[1], rtol=1e-4, atol=1e-4)
    unnamed = loaded.isel(site=1, drop=True).carbon.predict_nee(model)
    assert "site" not in unnamed.coords
    np.testing.assert_allclose(unnamed.values, expected[1], rtol=1e-4, atol=1e-4)


def test_threads_and_a_cluster_of_two_processes_agree(fortnight, model, expected):
    distributed = pytest.importorskip("distributed")
    prediction = fortnight.chunk(time=100).carbon.predict_nee(model)
    with dask.config.set(scheduler="threads"):
        threads = prediction.values
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        processes = prediction.compute().values
    np.testing.assert_allclose(processes, threads, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(processes, expected, rtol=1e-4, atol=1e-4)


def test_without_patches_and_with_missing_predictors(fortnight, model):
    bare = fortnight.drop_vars(["reflectance", "snow", "water"])
    prediction = bare.carbon.predict_nee(model)
    assert np.isfinite(prediction.isel(time=slice(CONTEXT, 100))).all()
    fewer = bare[["TA", "SW_IN", "TA_QC"]].carbon.predict_nee(model)
    assert np.isfinite(fewer.isel(time=slice(CONTEXT, 100))).all()
    assert (abs(fewer - prediction).isel(time=slice(CONTEXT, 100)) > 1e-3).any()


def test_attributes_say_what_it_is_and_where_it_comes_from(fortnight, model):
    prediction = fortnight.carbon.predict_nee(model)
    assert prediction.name == "NEE"
    assert prediction.dtype == np.float32
    attrs = prediction.attrs
    assert attrs["standard_name"] == "surface_upward_mole_flux_of_carbon_dioxide"
    assert attrs["units"] == "umol m-2 s-1"
    assert model.fingerprint() in attrs["source"]
    assert "2 towers of: two towers" in attrs["comment"]
    assert attrs["training_sites"] == "XX-One XX-Two"
    assert {"lat", "lon", "igbp", "utc_offset"} <= set(prediction.coords)


def test_goes_to_netcdf_and_back(fortnight, model, tmp_path):
    prediction = fortnight.carbon.predict_nee(model)
    prediction.to_netcdf(tmp_path / "nee.nc")
    with xr.open_dataarray(tmp_path / "nee.nc") as back:
        xr.testing.assert_allclose(back, prediction.compute())
        assert back.dtype == np.float32
        assert back["igbp"].values.tolist() == fortnight["igbp"].values.tolist()


def test_a_saved_model_is_loaded_by_its_folder(fortnight, model, expected, tmp_path):
    model.save(tmp_path / "model")
    prediction = fortnight.carbon.predict_nee(tmp_path / "model")
    np.testing.assert_allclose(prediction.values, expected, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_predicted_is_said(fortnight, model):
    with pytest.raises(ModelError, match="predicts NEE, not GPP_DT"):
        fortnight.carbon.predict("GPP_DT", model)
    with pytest.raises(VariableError, match="the model needs"):
        fortnight[["NEE"]].carbon.predict_nee(model)
    with pytest.raises(TimestampError, match="hourly"):
        fortnight.isel(time=slice(None, None, 2)).carbon.predict_nee(model)
    with pytest.raises(ModelError, match="not a model folder"):
        fortnight.carbon.predict_nee("nowhere")


def test_the_graph_does_not_carry_the_weights_in_every_task(fortnight, model):
    graph = fortnight.chunk(time=20).carbon.predict_nee(model).__dask_graph__()
    layers = [layer for name, layer in graph.layers.items() if name.startswith("predict_block")]
    assert len(layers) == 1
    assert not any(isinstance(value, CarbonModel) for value in vars(layers[0]).values())


def test_real_tower(real_towers):
    """A real tower in its store: hours outside its record are not predicted."""
    small = make(("DOY", "TOD", "TA", "SW_IN", "VPD"), ())
    tower = real_towers.sel(site=["US-Wi2"])
    with xcarbon.set_options(device="cpu"):
        prediction = tower.carbon.predict_nee(small).compute()
    record = tower["TA"].notnull().any("site").compute()
    hours = np.flatnonzero(record)
    found = np.flatnonzero(prediction.notnull().any("site"))
    assert hours[0] <= found[0]
    assert found[-1] < hours[-1] + CONTEXT
    assert len(found) > 0.9 * len(hours)


def test_batches_do_not_matter(fortnight, model, expected, monkeypatch):
    monkeypatch.setattr(inference, "BATCH", 7)
    np.testing.assert_allclose(fortnight.carbon.predict_nee(model).values, expected, rtol=1e-4, atol=1e-4)
