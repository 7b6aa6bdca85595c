"""Towers with satellite patches."""

from __future__ import annotations

import pytest
import xarray as xr

from xcarbon.testing import synthetic_towers


@pytest.fixture(scope="session")
def patches() -> xr.Dataset:
    return synthetic_towers(2, variables=["TA"], seed=3).isel(day=slice(40))
