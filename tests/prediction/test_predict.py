"""Predictions are lazy, labelled, and the same however they are chunked and wherever they are computed."""

from __future__ import annotations

import itertools
import os
import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import dask
import dask.array as da
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode

import xcarbon
from tests.models.samples import nee_scaler, shaken
from xcarbon.core.errors import MetadataError, ModelError, TimestampError, VariableError
from xcarbon.core.variables import PAPER_INPUTS, PATCH_BANDS
from xcarbon.models import fast
from xcarbon.models.bundle import CarbonModel
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.models.inputs import ModelInputs
from xcarbon.models.networks import EcoPerceiverPredictor
from xcarbon.prediction.predict import predict_hours
from xcarbon.prep.inputs import model_inputs
from xcarbon.testing import raise_on_compute

CONTEXT = 8


def make(variables=PAPER_INPUTS, bands=PATCH_BANDS) -> CarbonModel:
    torch.manual_seed(3)
    config = EcoPerceiverConfig(
        tuple(variables), tuple(bands), width=16, heads=2, cross_blocks=2, self_layers=1, context=CONTEXT
    )
    predictor = EcoPerceiverPredictor(shaken(EcoPerceiver(config)))
    provenance = {"sites": ["XX-One", "XX-Two"], "data": {"title": "two towers"}}
    return CarbonModel(predictor, nee_scaler(variables), provenance)


@pytest.fixture(scope="module")
def model() -> CarbonModel:
    return make()


@pytest.fixture(scope="module")
def eight_days(towers) -> xr.Dataset:
    """Three towers in eight days of July, with a gap."""
    ds = towers.isel(site=slice(3)).sel(time=slice("2010-07-01", "2010-07-08"))
    gap = xr.zeros_like(ds["time"], dtype=bool)
    gap[100:130] = True
    return ds.assign({code: ds[code].where(~gap) for code in PAPER_INPUTS[2:]})


@pytest.fixture(scope="module")
def expected(eight_days, model) -> np.ndarray:
    """Predict window by window by the network itself."""
    inputs = model_inputs(eight_days, PAPER_INPUTS, PATCH_BANDS).load()
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
                batch = ModelInputs(window, stack, torch.from_numpy(index)[None])
                output[site, last] = model.network(batch)[0, -1]
    return output * 5.0 - 1.0


def test_nothing_is_computed_before_it_is_asked_for(towers, model):
    with raise_on_compute():
        prediction = towers.carbon.predict_nee(model)
        towers.carbon.score(prediction)
    assert isinstance(prediction.data, dask.array.Array)
    with raise_on_compute(), pytest.raises(AssertionError):
        prediction.compute()


def test_equals_the_model_window_by_window(eight_days, model, expected):
    prediction = eight_days.carbon.predict_nee(model).values
    np.testing.assert_array_equal(np.isnan(prediction), np.isnan(expected))
    np.testing.assert_allclose(prediction, expected, rtol=1e-4, atol=1e-4)
    assert np.isnan(prediction[:, : CONTEXT - 1]).all()
    assert np.isfinite(prediction[:, CONTEXT - 1 : 100]).all()


@pytest.mark.parametrize(
    "chunks", [{"time": -1}, {"time": 50}, {"time": 3}, {"time": (100, 1, 91)}, {"site": 3}]
)
def test_chunks_leave_no_trace(eight_days, model, expected, chunks):
    prediction = eight_days.chunk(chunks).carbon.predict_nee(model)
    np.testing.assert_allclose(prediction.values, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("hours", [1, CONTEXT - 1, CONTEXT, CONTEXT + 1])
def test_a_record_shorter_than_a_window_is_not_predicted(eight_days, model, expected, hours):
    prediction = eight_days.isel(time=slice(hours)).carbon.predict_nee(model)
    np.testing.assert_allclose(prediction.values, expected[:, :hours], rtol=1e-4, atol=1e-4)


def test_a_dataset_in_memory_and_a_single_tower(eight_days, model, expected):
    loaded = eight_days.load()
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


class LoggedModel(CarbonModel):
    """A model that writes down where it is unpickled."""

    def __setstate__(self, state):
        self.__dict__.update(state)
        with open(self.provenance["log"], "a") as log:
            log.write(f"{os.getpid()}\n")


def test_threads_and_a_cluster_of_two_processes_agree(eight_days, model, expected, tmp_path):
    distributed = pytest.importorskip("distributed")
    log = tmp_path / "log"
    logged = LoggedModel(model.predictor, model.scaler, {"log": str(log)})
    prediction = eight_days.chunk(time=50).carbon.predict_nee(logged)
    with dask.config.set(scheduler="threads"):
        threads = prediction.values
    with distributed.Client(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None):
        processes = prediction.compute().values
    loaded = Counter(log.read_text().split())
    loaded.pop(str(os.getpid()), None)
    # For 12 chunks once per worker; again if the scheduler has removed a copy that no task was waiting for.
    assert 0 < sum(loaded.values()) < 12
    np.testing.assert_allclose(processes, threads, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(processes, expected, rtol=1e-4, atol=1e-4)


def test_without_patches_and_with_missing_predictors(eight_days, model):
    bare = eight_days.drop_vars(["reflectance", "snow", "water"])
    prediction = bare.carbon.predict_nee(model)
    assert np.isfinite(prediction.isel(time=slice(CONTEXT, 100))).all()
    fewer = bare[["TA", "SW_IN", "TA_QC"]].carbon.predict_nee(model)
    assert np.isfinite(fewer.isel(time=slice(CONTEXT, 100))).all()
    assert (abs(fewer - prediction).isel(time=slice(CONTEXT, 100)) > 1e-3).any()


def test_attributes_say_what_it_is_and_where_it_comes_from(eight_days, model):
    prediction = eight_days.carbon.predict_nee(model)
    assert prediction.name == "NEE"
    assert prediction.dtype == np.float32
    attrs = prediction.attrs
    assert attrs["standard_name"] == "surface_upward_mole_flux_of_carbon_dioxide"
    assert attrs["units"] == "umol m-2 s-1"
    assert model.fingerprint() in attrs["source"]
    assert "2 towers of: two towers" in attrs["comment"]
    assert attrs["training_sites"] == "XX-One XX-Two"
    assert {"lat", "lon", "igbp", "utc_offset"} <= set(prediction.coords)


def test_goes_to_netcdf_and_back(eight_days, model, tmp_path):
    prediction = eight_days.carbon.predict_nee(model)
    prediction.to_netcdf(tmp_path / "nee.nc")
    with xr.open_dataarray(tmp_path / "nee.nc") as back:
        xr.testing.assert_allclose(back, prediction.compute())
        assert back.dtype == np.float32
        assert back["igbp"].values.tolist() == eight_days["igbp"].values.tolist()


def test_a_saved_model_is_loaded_by_its_folder(eight_days, model, expected, tmp_path):
    model.save(tmp_path / "model")
    prediction = eight_days.carbon.predict_nee(tmp_path / "model")
    np.testing.assert_allclose(prediction.values, expected, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_predicted_is_said(eight_days, model):
    with pytest.raises(ModelError, match="predicts NEE, not GPP_DT"):
        eight_days.carbon.predict("GPP_DT", model)
    with pytest.raises(VariableError, match="the model needs"):
        eight_days[["NEE"]].carbon.predict_nee(model)
    with pytest.raises(TimestampError, match="hourly"):
        eight_days.isel(time=slice(None, None, 2)).carbon.predict_nee(model)
    with pytest.raises(ModelError, match="not a model folder"):
        eight_days.carbon.predict_nee("nowhere")


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


@pytest.mark.parametrize("windows", [1, 7, 1000])
def test_steps_do_not_matter(eight_days, model, expected, monkeypatch, windows):
    monkeypatch.setattr(fast, "windows_per_step", lambda network: windows)
    np.testing.assert_allclose(eight_days.carbon.predict_nee(model).values, expected, rtol=1e-4, atol=1e-4)


def test_threads_that_share_a_model_do_not_disturb_each_other(eight_days, model):
    """Predict parts that differ in length and content, again and again, all at once."""
    inputs = model_inputs(eight_days, PAPER_INPUTS, PATCH_BANDS).load()
    stamps, hourly = inputs["time"].values, inputs["hourly"].values
    cut = [(site, start) for site in range(3) for start in (0, 40, 90, 150)]
    parts = [(ModelInputs(hourly[site, start:]), stamps[start:], model) for site, start in cut]
    alone = [predict_hours(*part) for part in parts]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda part: predict_hours(*part), parts * 3))
    for one, other in zip(alone * 3, together, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5)


# Chunks


@st.composite
def partitions(draw, size: int) -> tuple[int, ...]:
    """Chunk sizes along a dimension."""
    cuts = draw(st.sets(st.integers(1, size - 1), max_size=6)) if size > 1 else set()
    return tuple(np.diff([0, *sorted(cuts), size]).tolist())


@given(st.data())
@settings(max_examples=12)
def test_any_chunks_of_towers_leave_no_trace(eight_days, model, expected, data):
    ds = eight_days.isel(time=slice(60))
    chunks = {dim: data.draw(partitions(ds.sizes[dim]), dim) for dim in ("site", "time", "day")}
    prediction = ds.chunk(chunks).carbon.predict_nee(model)
    np.testing.assert_allclose(prediction.values, expected[:, :60], rtol=1e-4, atol=1e-4)


@given(st.data())
@settings(max_examples=12)
def test_any_chunks_and_order_of_a_grid_leave_no_trace(grid, model, cell_by_cell, data):
    chunks = {dim: data.draw(partitions(grid.sizes[dim]), dim) for dim in ("time", "lat", "lon", "day")}
    dims = data.draw(st.permutations(["time", "lat", "lon"]))
    prediction = grid.transpose(*dims, ...).chunk(chunks).carbon.predict_nee(model)
    assert prediction.dims == tuple(dims)
    found = prediction.transpose("time", "lat", "lon").values
    np.testing.assert_allclose(found, cell_by_cell, rtol=1e-4, atol=1e-4)


def drivers(hours: int, side: int, chunk: int) -> xr.Dataset:
    """A sea with one cell of land, observed in the first 50 hours of each chunk, lazily."""
    shape, blocks = (hours, side, side), (chunk, side, side)

    def make(block_info):
        values = np.full((chunk, side, side), np.nan, np.float32)
        values[:50, 0, 0] = block_info[None]["chunk-location"][0]
        return values

    data = da.map_blocks(make, chunks=da.core.normalize_chunks(blocks, shape), meta=np.empty((0, 0, 0), "f4"))
    grid = {"time": clock(hours), "lat": np.linspace(60, 40, side), "lon": np.linspace(-10, 20, side)}
    return xr.Dataset({"TA": (("time", "lat", "lon"), data)}, grid)


def test_memory_is_that_of_chunks_however_many_there_are():
    small, chunk, side = make(("DOY", "TOD", "TA", "SW_IN"), ()), 3000, 7

    def peak(chunks: int) -> int:
        prediction = drivers(chunk * chunks, side, chunk).carbon.predict_nee(small)
        counts = [dask.delayed(np.isfinite)(block).sum() for block in prediction.data.to_delayed().flat]
        tracemalloc.start()
        with dask.config.set(scheduler="synchronous"):  # of threads, the peak depends on who is first
            assert sum(dask.compute(*counts)) == (50 + CONTEXT - 1) * chunks - CONTEXT + 1
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(1)  # what is imported and cached
    few, many = peak(3), peak(12)
    chunk_bytes = 4 * chunk * side**2 * 4  # of each of the model's variables
    assert many < 1.3 * few
    assert many < 4 * chunk_bytes, f"{many / chunk_bytes:.1f} chunks"


# Grids


def clock(hours: int) -> np.ndarray:
    return np.datetime64("2010-07-01", "ns") + np.arange(hours) * np.timedelta64(1, "h")


@pytest.fixture(scope="module")
def grid(towers) -> xr.Dataset:
    """Six cells in sixty hours of July, with the weather and patches of synthetic towers; one is sea."""
    cells = towers.isel(site=slice(6)).sel(time=slice("2010-07-01", "2010-07-05")).isel(time=slice(60))
    lat, lon = np.array([50.0, 20.0]), np.array([-97.3, 0.0, 141.2])
    cells = cells[["TA", "SW_IN", "TA_QC", "reflectance", "snow", "water"]].load()
    arrays = {
        name: (("lat", "lon", *array.dims[1:]), array.values.reshape(2, 3, *array.shape[1:]), array.attrs)
        for name, array in cells.items()
    }
    axes = {name: cells[name].values for name in ("time", "day", "band", "y", "x")}
    ds = xr.Dataset(arrays, axes | {"lat": lat, "lon": lon}).transpose("time", ...)
    is_sea = (ds["lat"] == lat[1]) & (ds["lon"] == lon[2])
    return ds.where(~is_sea).chunk()


@pytest.fixture(scope="module")
def cell_by_cell(grid, model) -> np.ndarray:
    """Each cell as a tower in its local solar time."""
    output = np.empty((60, 2, 3), np.float32)
    for row, column in itertools.product(range(2), range(3)):
        cell = grid.isel(lat=row, lon=column)
        solar = cell["time"].values + np.rint(cell["lon"].values * 240).astype("m8[s]")
        tower = cell.drop_vars(["lat", "lon"]).assign_coords(time=solar)
        output[:, row, column] = tower.carbon.predict_nee(model).values
    return output


def test_cells_are_towers_in_local_solar_time(grid, model, cell_by_cell):
    with raise_on_compute():
        prediction = grid.carbon.predict_nee(model)
    assert prediction.dims == ("time", "lat", "lon") and prediction.dtype == np.float32
    np.testing.assert_allclose(prediction.values, cell_by_cell, rtol=1e-4, atol=1e-4)
    assert np.isnan(cell_by_cell[:, 1, 2]).all()
    assert np.isfinite(np.delete(cell_by_cell.reshape(60, 6), 5, axis=1)[CONTEXT - 1 :]).all()
    assert abs(grid.drop_vars("reflectance").carbon.predict_nee(model) - prediction).max() > 1e-3


def test_one_hour_later_is_fifteen_degrees_further_east():
    """With constant weather only the clock distinguishes cells."""
    small = make(("DOY", "TOD", "TA"), ())
    grid = {"time": clock(40), "lat": [50.0], "lon": [-15.0, 0.0, 15.0, 16.0]}
    ds = xr.Dataset({"TA": (tuple(grid), np.full((40, 1, 4), 20, "float32"))}, grid)
    west, middle, east, further = ds.carbon.predict_nee(small).values[:, 0].T
    np.testing.assert_allclose(middle[CONTEXT:-1], west[CONTEXT + 1 :], rtol=1e-4)
    np.testing.assert_allclose(east[CONTEXT:-1], middle[CONTEXT + 1 :], rtol=1e-4)
    assert np.nanstd(middle) > 0.01 and np.nanmax(abs(further - east)) > 1e-3


def test_clock_of_the_dataset_goes_before_the_sun():
    small = make(("DOY", "TOD", "TA"), ())
    grid = {"time": clock(20), "lat": [50.0], "lon": [0.0, 90.0]}
    ds = xr.Dataset({"TA": (tuple(grid), np.full((20, 1, 2), 20, "float32"))}, grid)
    ds["DOY"], ds["TOD"] = ds["time"].dt.dayofyear, ds["time"].dt.hour
    with_clock = ds.carbon.predict_nee(small).values[CONTEXT:]
    np.testing.assert_allclose(with_clock[..., 0], with_clock[..., 1], rtol=1e-5)
    by_the_sun = ds.drop_vars(["DOY", "TOD"]).carbon.predict_nee(small).values[CONTEXT:]
    np.testing.assert_allclose(by_the_sun[..., 0], with_clock[..., 0], rtol=1e-5)
    assert abs(by_the_sun[..., 1] - with_clock[..., 1]).max() > 1e-3


class CountLinear(TorchFunctionMode):
    """Count the calls of linear layers, of which every run of the network has some."""

    count = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.count += function is F.linear
        return function(*args, **(kwargs or {}))


def runs(ds: xr.Dataset, model: CarbonModel) -> int:
    """How much of the model a prediction takes."""
    prediction = ds.carbon.predict_nee(model)
    with CountLinear() as counted, dask.config.set(scheduler="synchronous"):
        prediction.compute()
    return counted.count


def test_sea_and_masked_cells_are_skipped_before_the_model_runs(grid, model):
    land = grid.isel(lat=[0], lon=[0])
    assert runs(grid.isel(lat=[1], lon=[2]), model) == 0
    assert runs(grid.where((grid["lat"] == 50) & (grid["lon"] == -97.3)), model) == runs(land, model) > 0
    assert runs(grid.where(False), model) == 0


@pytest.mark.parametrize("cells", [{"lat": 0}, {"lon": 1}, {"lat": [0], "lon": [1]}])
def test_part_of_a_grid_is_what_it_is_in_the_whole(grid, model, cell_by_cell, cells):
    expected = xr.DataArray(cell_by_cell, dims=("time", "lat", "lon")).isel(cells)
    prediction = grid.isel(cells).carbon.predict_nee(model)
    assert prediction.dims == expected.dims
    np.testing.assert_allclose(prediction, expected, rtol=1e-4, atol=1e-4)


def test_cells_of_any_dims(grid, model, cell_by_cell):
    """Curvilinear grids have longitude on two dims."""
    lon, lat = np.meshgrid(grid["lon"], grid["lat"])
    bent = grid.drop_vars(["lat", "lon", "reflectance", "snow", "water"]).rename(lat="j", lon="i")
    bent = bent.assign_coords(lon=(("j", "i"), lon), lat=(("j", "i"), lat))
    prediction = bent.carbon.predict_nee(model)
    assert prediction.dims == ("time", "j", "i")
    straight = grid.drop_vars("reflectance").carbon.predict_nee(model)
    np.testing.assert_allclose(prediction, straight, rtol=1e-4, atol=1e-4)


def test_real_month_of_era5(real_data):
    small = make(("DOY", "TOD", "TA", "SW_IN", "CO2"), ())
    ds = xcarbon.open_era5(
        real_data / "era5" / "era5_2022_07_alps.nc", chunks={"latitude": 2, "longitude": 5}
    )
    with raise_on_compute():
        prediction = ds.carbon.predict_nee(small)
    assert prediction.dims == ("time", "lat", "lon") and {"lat", "lon", "utc_offset"} <= set(
        prediction.coords
    )
    assert prediction["time"].attrs["long_name"] == "start of the averaging hour in UTC"
    corner = prediction.isel(lat=slice(2), lon=[0, -1]).compute()
    assert corner[: CONTEXT - 1].isnull().all() and corner[CONTEXT - 1 :].notnull().all()
    bare = ds.drop_vars(["DOY", "TOD", "utc_offset"]).isel(lat=slice(2), lon=[0, -1])
    np.testing.assert_allclose(bare.carbon.predict_nee(small), corner, rtol=1e-4, atol=1e-4)


def test_what_a_grid_lacks_is_said(grid, model):
    kelvin = grid.assign(TA=(grid["TA"] + 273.15).assign_attrs(units="K"))
    with pytest.raises(MetadataError, match=r"TA has units 'K'.*convert"):
        kelvin.carbon.predict_nee(model)
    with pytest.raises(MetadataError, match="needs a coordinate 'lon'"):
        grid.drop_vars("lon").carbon.predict_nee(model)
    says = grid["time"].assign_attrs(long_name="start of the averaging hour in UTC")
    tower = grid.isel(lat=0, lon=0).assign_coords(site="DE-Tha", time=says)
    with pytest.raises(MetadataError, match="open_netcdf"):
        tower.carbon.predict_nee(model)
