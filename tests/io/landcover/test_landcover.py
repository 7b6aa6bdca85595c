"""Land cover is a CF Dataset on the cells of a grid."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import xcarbon
from tests.io.landcover.samples import pixels
from xcarbon.core.errors import MetadataError
from xcarbon.io.landcover import open_landcover


def test_result_is_a_cf_dataset(values, tmp_path, findings):
    pixels(values).to_netcdf(tmp_path / "map.nc")
    ds = open_landcover(tmp_path / "map.nc", like=xr.Dataset(coords={"lat": [5.0, 0.0], "lon": [0.0, 5.0]}))
    assert findings(ds.load()) == []


def test_grids_without_cells(values, tmp_path, towers):
    pixels(values).to_netcdf(tmp_path / "map.nc")
    for like, message in [
        (xr.Dataset(coords={"latitude": [1.0], "longitude": [1.0]}), "no coordinate lat and lon"),
        (xr.Dataset(coords={"lat": (("y", "x"), np.ones((2, 2))), "lon": 1.0}), "one-dimensional"),
        (towers, "lies along .site., as of towers"),
    ]:
        with pytest.raises(MetadataError, match=message):
            open_landcover(tmp_path / "map.nc", like=like)


def test_public_name():
    assert xcarbon.open_landcover is open_landcover
