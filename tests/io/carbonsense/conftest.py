"""Both versions of CarbonSense in files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tests.io.carbonsense.samples import V1, V2, write_v1, write_v2
from xcarbon.core.variables import TARGETS
from xcarbon.testing import synthetic_towers


@pytest.fixture(scope="session")
def ds() -> xr.Dataset:
    """Two towers with a fill pixel and a value out of bounds."""
    codes = sorted({*V1, *V2, *TARGETS})
    ds = synthetic_towers(2, seed=5, variables=codes).sel(time=slice("2010-01", "2010-02"))
    ds = ds.sel(day=slice("2010-01", "2010-02")).compute()
    ds["reflectance"][0, 0] = 0.25
    ds["reflectance"][0, 0, 3, 0, 0] = np.nan
    ds["snow"][0, 0] = 1
    ds["snow"][0, 0, 7, 7] = -1
    ds["water"][0, 0] = 0
    ds["RH"][0, :2] = [100.0, 104.0]
    ds["WD"][0, :2] = [0.0, 90.0]
    return ds


@pytest.fixture(scope="session")
def v1(ds, tmp_path_factory) -> Path:
    return write_v1(ds, tmp_path_factory.mktemp("v1") / "carbonsense")


@pytest.fixture(scope="session")
def v2(ds, tmp_path_factory) -> Path:
    return write_v2(ds, tmp_path_factory.mktemp("v2") / "carbonsense v2?#%20")


@pytest.fixture(params=["v1", "v2"])
def path(request) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture
def copy(v1, tmp_path) -> Path:
    """Copy of the v1 dataset that a test may change."""
    return shutil.copytree(v1, tmp_path / "carbonsense")


@pytest.fixture
def copy_v2(v2, tmp_path) -> Path:
    """Copy of the v2 database that a test may change."""
    return Path(shutil.copy(v2 / "carbonsense_v2.sql", tmp_path))
