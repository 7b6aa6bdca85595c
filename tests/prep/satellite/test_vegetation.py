"""Indices of vegetation are those of the central pixels."""

from __future__ import annotations

import numpy as np
import pytest

from xcarbon.core.errors import VariableError
from xcarbon.core.variables import SATELLITE
from xcarbon.prep.satellite import indices, join_satellite
from xcarbon.testing import raise_on_compute


def test_indices_are_those_of_the_four_central_pixels(patches):
    ds = patches.compute()
    ds["reflectance"][0, 0, :, 3, 3] = np.nan
    ds["reflectance"][0, 1] = np.nan
    found = indices(ds)
    central = ds["reflectance"].isel(y=[3, 4], x=[3, 4]).mean(("y", "x"))
    red, nir, blue, swir = (central.sel(band=band, drop=True) for band in ("B1", "B2", "B3", "B6"))
    np.testing.assert_allclose(found["NIRV"], nir * (nir - red) / (nir + red), rtol=1e-5)
    np.testing.assert_allclose(found["NDWI"], (nir - swir) / (nir + swir), rtol=1e-5)
    np.testing.assert_allclose(found["EVI"], 2.5 * (nir - red) / (nir + 6 * red - 7.5 * blue + 1), rtol=1e-5)
    assert found["NIRV"].attrs["long_name"] == SATELLITE["NIRV"].long_name
    assert found["NIRV_QC"].attrs["long_name"] == f"quality of {SATELLITE['NIRV'].long_name}"
    assert "standard_name" not in found["NIRV"].attrs
    assert found["NIRV_QC"][0, :2].values.tolist() == [1, -1]
    assert set(np.unique(found["NIRV_QC"])) == {-1, 0, 1}
    assert {array.dtype for array in found.values()} == {np.dtype("float32"), np.dtype("int8")}


def test_indices_are_lazy_and_join_their_own_towers(patches):
    with raise_on_compute():
        joined = join_satellite(patches, indices(patches))
    assert joined.sizes == patches.sizes
    assert joined["EVI"].chunks


def test_indices_need_bands(patches):
    with pytest.raises(VariableError, match="need reflectance"):
        indices(patches.drop_vars("reflectance"))
    assert "EVI" not in indices(patches.sel(band=["B1", "B2"]))
