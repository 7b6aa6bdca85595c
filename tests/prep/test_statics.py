"""Static site features are stacked, and unknown ones are missing."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xcarbon.core.variables import IGBP_CLASSES
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.statics import stack_statics
from xcarbon.testing import raise_on_compute, synthetic_towers

CLASSES = list(IGBP_CLASSES)
NAMES = ("igbp", "lat", "lon", "elevation")


@pytest.fixture(scope="module")
def towers() -> xr.Dataset:
    return synthetic_towers(3, patches=False).isel(time=slice(24))


def test_towers(towers):
    found = stack_statics(model_inputs(towers, ["TA"]), NAMES)
    assert found.dtype == np.float32
    expected = [
        [CLASSES.index(str(igbp)) for igbp in towers["igbp"].values],
        *(towers[name].values.astype("f4") for name in NAMES[1:]),
    ]
    np.testing.assert_array_equal(found.compute(), np.transpose(expected))


def test_chunked_coordinates_stay_lazy(towers):
    chunked = towers.chunk()
    with raise_on_compute():
        found = stack_statics(model_inputs(chunked, ["TA"]), NAMES)
    np.testing.assert_array_equal(found, stack_statics(model_inputs(towers, ["TA"]), NAMES))


def test_unknown_features_are_missing(towers):
    igbp = ["ENF", "?", ""]
    ds = towers.drop_vars(["lat", "elevation"]).assign_coords(igbp=("site", igbp))
    found = stack_statics(model_inputs(ds, ["TA"]), NAMES).compute()
    assert found[0, 0] == CLASSES.index("ENF")
    assert np.isnan(found[1:, 0]).all() and np.isnan(found[:, [1, 3]]).all()
    np.testing.assert_array_equal(found[:, 2], ds["lon"].values.astype("f4"))


def test_a_single_tower(towers):
    whole = stack_statics(model_inputs(towers, ["TA"]), NAMES).compute()
    alone = stack_statics(model_inputs(towers.isel(site=1), ["TA"]), NAMES)
    np.testing.assert_array_equal(alone, whole[1:2])


def test_cells_have_the_chunks_of_the_grid():
    axes = {
        "time": np.datetime64("2010-07-01", "ns") + np.arange(4) * np.timedelta64(1, "h"),
        "lat": np.linspace(60, 40, 5), "lon": np.linspace(0, 30, 4),
    }  # fmt: skip
    grid = xr.Dataset({"TA": (tuple(axes), np.zeros((4, 5, 4), "f4"))}, axes).chunk(lat=2, lon=3)
    found = stack_statics(model_inputs(grid, ["TA"]), NAMES)
    assert found.chunks == ((2, 2, 1), (3, 1), (4,))
    igbp, lat, lon, elevation = np.moveaxis(found.compute(), -1, 0)
    assert np.isnan(igbp).all() and np.isnan(elevation).all()
    np.testing.assert_array_equal(lat, np.broadcast_to(grid["lat"].values[:, None].astype("f4"), (5, 4)))
    np.testing.assert_array_equal(lon, np.broadcast_to(grid["lon"].values.astype("f4"), (5, 4)))
