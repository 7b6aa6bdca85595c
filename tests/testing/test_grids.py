"""Tests of the synthetic grid."""

import numpy as np
import pytest
import xarray as xr

from xcarbon.core.errors import OptionError, VariableError
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.satellite import hourly
from xcarbon.testing import raise_on_compute, synthetic_grid


@pytest.fixture(scope="module")
def grid() -> xr.Dataset:
    return synthetic_grid(3, 4, seed=2, variables=["TA", "SW_IN", "VPD", "NEE"]).load()


def test_grid_is_plausible(grid):
    land = grid["igbp"] != ""
    assert not land.values[-1, -1] and land.sum() == 11
    assert (grid["land_fraction"] == land).all()
    summer, winter = (grid.sel(time=f"2010-{month}").mean("time") for month in ("07", "01"))
    assert (summer["TA"] > winter["TA"] + 10).all()
    noon = grid["NEE"].sel(time="2010-07").groupby("time.hour").mean().sel(hour=11)
    assert (noon < -3).where(land, True).all()
    # Sunlight is highest at noon of mean solar time, about half an hour before noon of UTC.
    day = grid["SW_IN"].groupby("time.hour").mean()
    assert day.argmax("hour").isin([11, 12]).all()
    assert (grid["FAPAR"].notnull() == land).all() and grid["FAPAR"].max() < 0.95
    assert (grid["LAI"] > grid["FAPAR"]).where(land, True).all()


def test_grid_is_that_of_models(grid, findings):
    assert findings(grid.isel(time=slice(48))) == []
    assert model_inputs(grid, ["DOY", "TOD", "TA"])["hourly"].dims == ("lat", "lon", "time", "variable")
    series = hourly(grid, grid["time"])
    assert series["FAPAR"].sizes == {"lat": 3, "lon": 4, "time": 8760}
    share = series["FAPAR"].notnull().mean("time")  # missing in the last hours, too far from December 16
    assert ((share > 0.99) == (grid["igbp"] != "")).all()


def test_grid_is_lazy_and_reproducible(grid):
    with raise_on_compute():
        again = synthetic_grid(3, 4, seed=2, variables=["TA"])
    assert again["TA"].chunks[0][0] == 744
    xr.testing.assert_equal(again["TA"].compute(), grid["TA"])
    assert not np.array_equal(synthetic_grid(3, 4, seed=3)["elevation"], grid["elevation"])


def test_wrong_settings():
    with pytest.raises(OptionError, match="n_lat=0"):
        synthetic_grid(0)
    with pytest.raises(VariableError, match="cannot be simulated"):
        synthetic_grid(variables=["WTD"])
