"""Towers without faults."""

from __future__ import annotations

import pytest
import xarray as xr

from xcarbon.core import conventions
from xcarbon.testing import synthetic_towers


@pytest.fixture(autouse=True)
def without_conventions(monkeypatch):
    """Skip the slow CF checks, except in tests that call ``cf_findings`` themselves."""
    monkeypatch.setattr("xcarbon.quality.checks.cf_findings", lambda ds: [])


@pytest.fixture(scope="session")
def tharandt(real_towers) -> xr.Dataset:
    """Two good years of a good tower, in memory."""
    return real_towers.sel(site=["DE-Tha"], time=slice("2004", "2005")).load()


@pytest.fixture(scope="session")
def good() -> xr.Dataset:
    """Two synthetic towers of three months, in memory."""
    codes = ["TA", "P", "RH", "VPD", "PA", "SW_IN", "SWC_1", "NEE"]
    ds = synthetic_towers(2, variables=codes).isel(time=slice(90 * 24), day=slice(60)).load()
    return conventions.apply(ds, history="made for a test").assign_coords(citation=("site", ["a", "b"]))


@pytest.fixture
def clean(good) -> xr.Dataset:
    """Return a copy that a test may change."""
    return good.copy(deep=True)
