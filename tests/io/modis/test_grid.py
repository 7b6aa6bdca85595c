"""Positions of patches on the sinusoidal grid of the MODIS products."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from xcarbon.core import conventions
from xcarbon.core.errors import MetadataError
from xcarbon.io.modis.grid import PIXEL_SIZE, georeference, patch_centre, sinusoidal
from xcarbon.testing import synthetic_towers


def test_patches_of_all_towers_share_axes_and_one_tower_is_georeferenced():
    ds = synthetic_towers(2, variables=["TA"])
    assert not {"standard_name", "axis"} & (ds["x"].attrs.keys() | ds["y"].attrs.keys())
    tower = georeference(ds.isel(site=1))
    assert tower["x"].attrs["standard_name"] == "projection_x_coordinate"
    for axis, size in (("x", PIXEL_SIZE), ("y", -PIXEL_SIZE)):
        np.testing.assert_allclose(tower[axis].diff(axis), size)
        np.testing.assert_allclose(tower[axis].mean(), ds[f"patch_{axis}"][1])
    corner = tower["x"].values / PIXEL_SIZE
    np.testing.assert_allclose(corner % 1, 0.5, atol=1e-6)
    xr.testing.assert_identical(conventions.apply(tower), tower)


def test_georeferenced_tower_is_cf(findings):
    tower = georeference(synthetic_towers(2, variables=["TA"]).isel(site=0))
    tower = tower.isel(time=slice(240), day=slice(10))
    assert findings(conventions.apply(tower, history="cut out")) == []


def test_patches_that_cannot_be_placed_are_an_error():
    ds = synthetic_towers(2, variables=["TA"])
    with pytest.raises(MetadataError, match=r"several towers, \['SY-001' 'SY-002'\]; select one"):
        georeference(ds)
    tower = georeference(ds.isel(site=0))
    with pytest.raises(MetadataError, match="the patch has no coordinates patch_x and patch_y"):
        georeference(tower)


@given(lat=st.floats(-89, 89), lon=st.floats(-180, 180))
def test_centre_of_a_patch_is_the_corner_nearest_to_the_tower(lat, lon):
    grid = sinusoidal().attrs["crs_wkt"]
    to_grid = pyproj.Transformer.from_crs("EPSG:4326", grid, always_xy=True)
    place, centre = to_grid.transform(lon, lat), patch_centre(lat, lon)
    assert np.abs(np.subtract(place, centre)).max() <= PIXEL_SIZE / 2 + 0.01
    pixels = np.array(centre) / PIXEL_SIZE
    np.testing.assert_allclose(pixels, np.rint(pixels), rtol=0, atol=1e-6)
