"""Tests of the density of observed against predicted hours."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xcarbon.core.errors import OptionError, VariableError
from xcarbon.plotting import CarbonPlot
from xcarbon.plotting.scatter import CELLS


def test_a_panel_for_each_class_counts_its_hours(ds: xr.Dataset, nee: xr.DataArray) -> None:
    figure = CarbonPlot(ds).scatter(nee)
    *panels, bar = figure.axes
    assert [panel.get_title(loc="left") for panel in panels] == ["CRO", "DBF", "ENF", "GRA"]
    scores = ds.carbon.score(nee).compute()
    for panel, n, nse in zip(panels, scores["n"].values, scores["nse"].values, strict=True):
        counts = panel.collections[0].get_array()
        assert counts.shape == (CELLS, CELLS)
        assert 0.99 * n < counts.sum() <= n
        assert panel.texts[0].get_text() == f"NSE {nse:.2f}\n{n:,} h"
    norms = {id(panel.collections[0].norm) for panel in panels}
    assert len(norms) == 1 and bar.get_ylabel() == "hours per cell"
    assert panels[0].get_ylabel().startswith("observed NEE") and not panels[1].get_ylabel()


def test_observations_are_on_the_vertical_axis(ds: xr.Dataset, nee: xr.DataArray) -> None:
    panel, _ = CarbonPlot(ds).scatter((nee * 0).rename("NEE"), by=None).axes
    counts = np.ma.filled(panel.collections[0].get_array(), 0)  # rows are observations
    assert (counts.sum(axis=0) > 0).sum() == 1
    assert (counts.sum(axis=1) > 0).sum() > 20


def test_periods_towers_and_axes_can_be_chosen(ds: xr.Dataset, nee: xr.DataArray) -> None:
    import matplotlib.pyplot as plt

    ax = plt.figure().subplots()
    two = ds.isel(site=[0, 1])
    figure = CarbonPlot(two).scatter(nee, by=None, time="2010-07", ax=ax)
    assert figure is ax.figure
    july = two.carbon.score(nee.sel(time="2010-07"), by=None)["n"].compute().item()
    assert f"{july:,} h" in ax.texts[0].get_text()
    by_site = CarbonPlot(two).scatter(nee, by="site").axes[:2]
    assert [panel.get_title(loc="left") for panel in by_site] == ["SY-001", "SY-002"]
    single = CarbonPlot(ds.isel(site=0)).scatter(nee.isel(site=0)).axes[0]
    assert single.get_title(loc="left") == "evergreen needleleaf forest"
    with pytest.raises(OptionError, match="2 panels, but ax contains 1"):
        CarbonPlot(two).scatter(nee, ax=ax)


def test_lazy_data_is_computed_once(ds: xr.Dataset, nee: xr.DataArray) -> None:
    computed = []

    def predict(block: np.ndarray) -> np.ndarray:
        computed.append(block.shape)
        return block

    lazy = nee.chunk(site=1, time=-1)
    lazy = lazy.copy(data=lazy.data.map_blocks(predict, meta=np.empty((0, 0), np.float32)))
    CarbonPlot(ds).scatter(lazy)
    assert len(computed) == ds.sizes["site"]


def test_errors_name_what_is_missing(ds: xr.Dataset, nee: xr.DataArray) -> None:
    with pytest.raises(OptionError, match="coordinates on site"):
        CarbonPlot(ds).scatter(nee, by="biome")
    with pytest.raises(OptionError, match=r"0 classes of 'igbp'"):
        CarbonPlot(ds).scatter(nee * np.nan)
    many = ds.isel(site=[0] * 30).assign_coords(site=[f"S{number}" for number in range(30)])
    with pytest.raises(OptionError, match=r"1 to 24 panels, but 30 classes"):
        CarbonPlot(many).scatter(many["NEE"], by="site")
    with pytest.raises(VariableError, match="FCH4"):
        CarbonPlot(ds).scatter(nee.rename("FCH4"))
