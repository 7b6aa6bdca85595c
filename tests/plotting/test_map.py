"""Tests of maps: edges of cells, colours, missing cells and hours."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xcarbon.core.errors import MetadataError, OptionError, VariableError
from xcarbon.plotting import CarbonPlot


@pytest.fixture
def grid() -> xr.Dataset:
    time = np.arange("2022-07-01", "2022-07-03", dtype="M8[h]").astype("M8[ns]")
    axes = {"time": time, "lat": [50.0, 49.5, 49.0], "lon": [8.0, 8.5, 9.0, 9.5]}
    values = np.random.default_rng(0).normal(-5, 1, (48, 3, 4))
    values[:, 2, 3] = np.nan
    return xr.Dataset({"NEE": (tuple(axes), values, {"units": "umol m-2 s-1"})}, axes)


def test_cells_are_where_they_belong(grid):
    ax = CarbonPlot(grid).map()
    mesh = ax.collections[0]
    corners = mesh.get_coordinates()
    assert corners[0, 0].tolist() == [7.75, 50.25] and corners[-1, -1].tolist() == [9.75, 48.75]
    drawn = np.ma.filled(mesh.get_array(), np.nan).reshape(3, 4)
    np.testing.assert_allclose(drawn, grid["NEE"].mean("time"))
    assert ax.get_xlim() == (7.75, 9.75) and ax.get_ylim() == (48.75, 50.25)


def test_colours_of_nee_are_centred_on_zero_and_units_are_stated(grid):
    ax = CarbonPlot(grid).map(time="2022-07-02")
    low, high = ax.collections[0].get_clim()
    assert low == -high < 0
    assert "m$^{-2}$" in ax.figure.axes[1].get_ylabel()
    assert ax.get_title(loc="left") == "mean of 2022-07-02" and not ax.get_title(loc="right")


def test_missing_hours_are_stated_and_days_are_drawn(grid):
    gap = grid.where((grid["time"] > grid["time"][11]) | (grid["lon"] > 8))
    assert CarbonPlot(gap).map().get_title(loc="right") == "6.8 % of the values are missing"  # 3 of 11 cells
    daily = grid.carbon.aggregate("DD")
    assert CarbonPlot(daily).map().get_title(loc="left") == "mean of 2022-07-01 to 2022-07-02"
    assert "d$^{-1}$" in CarbonPlot(daily).map(time="2022-07-02").figure.axes[1].get_ylabel()


def test_the_period_of_a_month_ends_with_its_last_day(grid):
    month = grid.isel(time=[0]).assign(
        time_bnds=(("time", "bnds"), [pd.date_range("2022-07", periods=2, freq="MS")])
    )
    assert CarbonPlot(month).map().get_title(loc="left") == "2022-07-01 to 2022-07-31"


def test_only_the_period_is_loaded(grid):
    def fail(block):
        raise AssertionError("loaded")

    lazy = grid["NEE"].chunk(time=24).data
    broken = da.concatenate([lazy[:24], da.map_blocks(fail, lazy[24:], meta=np.empty((0, 0, 0)))])
    ds = grid.assign(NEE=grid["NEE"].copy(data=broken))
    CarbonPlot(ds).map(time="2022-07-01")
    with pytest.raises(AssertionError, match="loaded"):
        CarbonPlot(ds).map(time="2022-07-02")


def test_what_cannot_be_drawn_is_said(grid):
    for ds, settings, error in (
        (grid, {"variable": "TA"}, VariableError),
        (grid.isel(lat=0), {}, MetadataError),
        (grid, {"time": "2021"}, OptionError),
        (grid.isel(lat=[2], lon=[3]), {}, OptionError),
    ):
        with pytest.raises(error):
            CarbonPlot(ds).map(**settings)
