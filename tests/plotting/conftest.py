"""Towers, a prediction and filled fluxes for figures, which are drawn without a screen."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib
import pytest
import xarray as xr

from xcarbon.testing import synthetic_towers


@pytest.fixture(autouse=True)
def no_screen() -> Iterator[None]:
    """Use a backend without a screen, and close the figures."""
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    return synthetic_towers(12, patches=False, variables=["NEE", "GPP_DT", "RECO_DT"]).persist()


@pytest.fixture(scope="module")
def nee(ds: xr.Dataset) -> xr.DataArray:
    return (ds["RECO_DT"] - ds["GPP_DT"]).rename("NEE")


@pytest.fixture(scope="session")
def weather_tower() -> xr.Dataset:
    """Return a year of one tower with the weather that gaps are filled from."""
    return synthetic_towers(1, patches=False, variables=["TA", "VPD", "SW_IN", "NEE"]).load()


@pytest.fixture(scope="session")
def filled(weather_tower: xr.Dataset) -> xr.Dataset:
    """Return its filled flux."""
    return weather_tower.carbon.gapfill(model="mds").compute()
