"""Features of trees compared with a plain loop, and trees with the interface of all models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st

from xcarbon.core.errors import ModelError, VariableError
from xcarbon.core.variables import IGBP_CLASSES
from xcarbon.models import boosting
from xcarbon.models.boosting import BoostedTrees, BoostedTreesConfig, hour_features, patch_means
from xcarbon.models.bundle import CarbonModel, Scaler
from xcarbon.models.inputs import ModelInputs
from xcarbon.prep.patches import FILL, stack_bands

VARIABLES, BANDS = ("DOY", "TA"), ("B1", "B2", "snow")


def plain_mean(band: np.ndarray) -> float:
    """Mean of a band's valid pixels, pixel by pixel."""
    total = weights = 0.0
    for row in range(8):
        for column in range(8):
            if band[row, column] != -1:
                weight = 1 / ((row - 3.5) ** 2 + (column - 3.5) ** 2) ** 0.5
                total += weight * band[row, column]
                weights += weight
    return total / weights if weights else np.nan


def plain_features(hourly, patches, index, context) -> np.ndarray:
    """Features hour by hour, looking for the latest patch backwards through the window."""
    rows = []
    for hour in range(len(hourly)):
        bands = [np.nan] * len(BANDS)
        for before in range(min(context, hour + 1)):
            number = index[hour - before]
            if number >= 0:
                bands = [plain_mean(band) for band in patches[number]]
                break
        rows.append([*hourly[hour], *bands])
    return np.array(rows, np.float32).reshape(-1, len(VARIABLES) + len(BANDS))


@settings(max_examples=30)
@given(
    context=st.integers(1, 30),
    hours=st.integers(0, 60),
    patches=st.integers(0, 3),
    seed=st.integers(0, 99),
    fill=st.sampled_from([0, 0.5, 0.99, 1]),
)
def test_features_equal_those_of_a_plain_loop(context, hours, patches, seed, fill):
    rng = np.random.default_rng(seed)
    series = rng.random((hours + context - 1, 2), np.float32)
    series[rng.random(series.shape) < 0.3] = np.nan
    images = rng.random((patches, len(BANDS), 8, 8), np.float32)
    images[rng.random(images.shape) < fill] = FILL
    index = np.where(rng.random(len(series)) < 0.1, rng.integers(-1, max(patches, 1), len(series)), -1)
    index = index if patches else np.full(len(series), -1)
    config = BoostedTreesConfig(VARIABLES, BANDS, context=context)
    found = hour_features(config, ModelInputs(series, images, index))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plain_features(series, images, index, context), rtol=1e-5)


def test_without_patches_bands_are_missing():
    hourly = np.ones((5, 2), np.float32)
    found = hour_features(BoostedTreesConfig(VARIABLES, BANDS), ModelInputs(hourly))
    assert found.shape == (5, 5)
    assert np.isnan(found[:, 2:]).all() and (found[:, :2] == 1).all()


def test_the_fill_of_patches_is_known():
    assert boosting.FILL == FILL
    reflectance = np.full((1, 2, 8, 8), 0.3, np.float32)
    reflectance[0, 0, :3] = np.nan
    ds = xr.Dataset(
        {
            "reflectance": (("day", "band", "y", "x"), reflectance),
            "snow": (("day", "y", "x"), np.full((1, 8, 8), -1, "int8")),
        },
        {"band": ["B1", "B2"]},
    )
    np.testing.assert_allclose(patch_means(stack_bands(ds, BANDS).values), [[0.3, 0.3, np.nan]], rtol=1e-6)


@pytest.mark.parametrize("size", [1, 7, 8])
def test_equal_pixels_have_their_value_as_mean(size):
    assert patch_means(np.full((1, 1, size, size), 0.25, np.float32)).item() == pytest.approx(0.25)


def grow(features: int) -> xgboost.Booster:
    """A few trees on random numbers, some of them missing."""
    rng = np.random.default_rng(1)
    x = rng.random((500, features), np.float32)
    y = 7 + np.nansum(x, axis=1)
    x[rng.random(x.shape) < 0.2] = np.nan
    return xgboost.train({"max_depth": 3}, xgboost.DMatrix(x, y), 5)


def test_hours_that_are_not_wanted_are_not_predicted():
    config = BoostedTreesConfig(VARIABLES, context=4)
    trees = BoostedTrees(config, grow(2))
    hourly = np.random.default_rng(2).random((23, 2), np.float32)
    wanted = np.arange(20) % 3 > 0
    found = trees.predict_series(ModelInputs(hourly), wanted)
    expected = trees.booster.predict(xgboost.DMatrix(hourly[3:]))
    np.testing.assert_array_equal(found[0], np.where(wanted, expected, np.nan))
    assert found.dtype == np.float32 and 7 < np.nanmean(found) < 9


STATE = ("TA_30D", "TA_CLIMATE", "FAPAR")


def with_place(hours: int, igbp: float, lat: float) -> ModelInputs:
    rng = np.random.default_rng(3)
    doy = np.linspace(-1, 0.999, hours, dtype=np.float32)
    hourly = np.stack([doy, rng.random(hours, np.float32)], axis=1)
    state = rng.random((hours, len(STATE)), np.float32)
    state[rng.random(state.shape) < 0.3] = np.nan
    return ModelInputs(hourly, statics=np.array([igbp, lat], np.float32), state=state)


def test_features_are_hour_bands_class_season_and_state():
    config = BoostedTreesConfig(VARIABLES, BANDS, ("igbp", "lat"), STATE)
    classes = [f"igbp_{name}" for name in IGBP_CLASSES]
    assert list(config.features) == [*VARIABLES, *BANDS, *classes, "season", *STATE]
    assert config.min_context == 1 and BoostedTreesConfig(VARIABLES).min_context == 32
    inputs = with_place(40, list(IGBP_CLASSES).index("GRA"), 50)
    found = dict(zip(config.features, hour_features(config, inputs).T, strict=True))
    np.testing.assert_array_equal(found["TA"], inputs.hourly[:, 1])
    np.testing.assert_array_equal(found["season"], inputs.hourly[:, 0])
    for number, name in enumerate(STATE):
        np.testing.assert_array_equal(found[name], inputs.state[:, number])
    for name in classes:
        assert (found[name] == (name == "igbp_GRA")).all()
    assert all(np.isnan(found[band]).all() for band in BANDS)


def test_the_season_of_the_south_is_shifted_by_half_a_year():
    config = BoostedTreesConfig(VARIABLES, (), ("igbp", "lat"))
    north, south = (
        hour_features(config, replace(with_place(8784, 3, lat), state=None))[:, -1] for lat in (50, -50)
    )
    assert north.min() >= -1 and north.max() < 1 and south.min() >= -1 and south.max() < 1
    np.testing.assert_allclose(np.abs(north - south), 1, atol=1e-6)
    np.testing.assert_allclose(south[: 8784 // 2], north[8784 // 2 :], atol=1e-3)


@pytest.mark.parametrize(("igbp", "lat"), [(np.nan, 50), (3, np.nan), (np.nan, np.nan)])
def test_an_unknown_place_is_missing(igbp, lat):
    config = BoostedTreesConfig(VARIABLES, (), ("igbp", "lat"), STATE)
    features = hour_features(config, with_place(40, igbp, lat))
    found = dict(zip(config.features, features.T, strict=True))
    assert all(np.isnan(found[name]).all() == np.isnan(igbp) for name in config.site_features[:-1])
    assert np.isnan(found["season"]).all() == np.isnan(lat)
    without = hour_features(config, ModelInputs(with_place(40, igbp, lat).hourly))
    assert np.isnan(without[:, len(VARIABLES) :]).all()


def test_settings_of_the_state_are_checked():
    with pytest.raises(VariableError, match="TA_8D is not a state feature"):
        BoostedTreesConfig(VARIABLES, state=("TA_8D",))
    with pytest.raises(ModelError, match="igbp and lat"):
        BoostedTreesConfig(VARIABLES, statics=("igbp", "lon"))
    assert "season" not in BoostedTreesConfig(("TA",), statics=("lat",)).features


def test_several_targets_are_the_rows_of_a_prediction(tmp_path):
    config = BoostedTreesConfig(VARIABLES, (), ("igbp", "lat"), STATE, ("NEE", "GPP_NT"))
    rng = np.random.default_rng(1)
    x = rng.random((500, len(config.features)), np.float32)
    y = np.stack([x[:, 1], 100 + x[:, -1]], axis=1)
    trees = BoostedTrees(config, xgboost.train({"max_depth": 3}, xgboost.DMatrix(x, y), 5))
    scaler = Scaler({"NEE": (0.0, 1.0), "GPP_NT": (0.0, 1.0)}, 1, {})
    model = CarbonModel(trees, scaler)
    inputs, wanted = with_place(40, 3, 50), np.arange(40) % 3 > 0
    found = model.predict_series(inputs, wanted)
    assert found.shape == (2, 40)
    assert np.isnan(found[:, ~wanted]).all()
    expected = trees.booster.predict(xgboost.DMatrix(hour_features(config, inputs)))
    np.testing.assert_array_equal(found[:, wanted], expected[wanted].T)
    assert (found[0, wanted] < 1).all() and (found[1, wanted] > 50).all()
    loaded = CarbonModel.load(model.save(tmp_path / "model"))
    assert loaded.config == config
    np.testing.assert_array_equal(loaded.predict_series(inputs, wanted), found)


def test_a_record_may_begin_with_the_first_hour():
    """With a state, and hours before the predicted ones are used for the patch only."""
    config = BoostedTreesConfig(VARIABLES, BANDS, state=STATE, context=3)
    trees = BoostedTrees(config, grow(len(config.features)))
    inputs = with_place(12, 3, 50)
    inputs.statics = None
    inputs.patches = np.random.default_rng(0).random((1, len(BANDS), 8, 8), np.float32)
    inputs.patch_index = np.where(np.arange(12) == 4, 0, -1)
    whole = trees.predict_series(inputs, np.ones(12, bool))
    part = trees.predict_series(inputs.between(3, None), np.ones(7, bool))
    np.testing.assert_array_equal(part, whole[:, 5:])


def test_trees_that_read_something_else_are_refused():
    with pytest.raises(ModelError, match=r"read 2 features.*'snow'"):
        BoostedTrees(BoostedTreesConfig(VARIABLES, BANDS), grow(2))
