"""Features of trees compared with a plain loop, and trees with the interface of all models."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st

from xcarbon.core.errors import ModelError
from xcarbon.models import boosting
from xcarbon.models.boosting import BoostedTrees, BoostedTreesConfig, hour_features, patch_means
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
    for hour in range(context - 1, len(hourly)):
        bands = [np.nan] * len(BANDS)
        for before in range(context):
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
    found = hour_features(BoostedTreesConfig(VARIABLES, BANDS, context), series, images, index)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plain_features(series, images, index, context), rtol=1e-5)


def test_without_patches_bands_are_missing():
    hourly = np.ones((5, 2), np.float32)
    found = hour_features(BoostedTreesConfig(VARIABLES, BANDS, 3), hourly)
    assert found.shape == (3, 5)
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
    config = BoostedTreesConfig(VARIABLES, (), 4)
    trees = BoostedTrees(config, grow(2))
    hourly = np.random.default_rng(2).random((23, 2), np.float32)
    wanted = np.arange(20) % 3 > 0
    found = trees.predict_series(ModelInputs(hourly), wanted)
    expected = trees.booster.predict(xgboost.DMatrix(hourly[3:]))
    np.testing.assert_array_equal(found[0], np.where(wanted, expected, np.nan))
    assert found.dtype == np.float32 and 7 < np.nanmean(found) < 9


def test_trees_that_read_something_else_are_refused():
    with pytest.raises(ModelError, match=r"read 2 features.*'snow'"):
        BoostedTrees(BoostedTreesConfig(VARIABLES, BANDS), grow(2))
