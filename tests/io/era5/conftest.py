"""Fixtures of the tests of ERA5."""

from __future__ import annotations

import itertools

import pytest
import xarray as xr

from xcarbon.io.era5 import open_era5


@pytest.fixture
def opened(tmp_path):
    """Return a function that writes and opens a source."""
    number = itertools.count()

    def write_and_open(source: xr.Dataset, **how) -> xr.Dataset:
        path = tmp_path / str(next(number)) / "source.nc"
        path.parent.mkdir()
        source.to_netcdf(path)
        return open_era5(path, **how)

    return write_and_open


@pytest.fixture(scope="session")
def alps(real_data):
    return real_data / "era5" / "era5_2022_07_alps.nc"
