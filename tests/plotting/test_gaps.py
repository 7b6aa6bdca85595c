"""Tests of the shares of measured, filled and missing hours."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xcarbon.core.errors import OptionError, VariableError
from xcarbon.plotting import CarbonPlot
from xcarbon.plotting.gaps import CELLS


def kinds(ax: object) -> np.ndarray:
    """Return the kinds ``(row, cell, period)`` of a figure: 0 measured, 1 filled, 2 missing."""
    table = ax.collections[0].get_array()
    padded = np.ma.concatenate([table, np.ma.masked_all((1, table.shape[1]))])
    return padded.reshape(-1, CELLS + 1, table.shape[1])[:, :CELLS].filled(-1)


def test_a_row_for_each_tower_shows_the_shares_of_each_day(ds: xr.Dataset) -> None:
    ax = CarbonPlot(ds).gaps()
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ds["site"].values.tolist()
    assert ax.get_title(loc="left") == "NEE, 12 towers"
    rows = kinds(ax)
    assert rows.shape == (12, CELLS, 365)
    there = ds["NEE"].notnull().values.reshape(12, 365, 24)
    measured = there & (ds["NEE_QC"] == 0).values.reshape(12, 365, 24)
    np.testing.assert_allclose((rows == 0).mean(axis=1), measured.mean(axis=2), atol=0.5 / CELLS + 1e-9)
    np.testing.assert_allclose((rows == 2).mean(axis=1), 1 - there.mean(axis=2), atol=0.5 / CELLS + 1e-9)
    assert (np.diff(rows, axis=1) <= 0).all()  # missing hours are on top of each row


def test_a_row_for_each_variable_of_a_tower(ds: xr.Dataset) -> None:
    ax = CarbonPlot(ds.assign(DOY=ds["NEE"])).gaps(site="SY-004")
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["NEE", "GPP_DT", "RECO_DT"]
    assert ax.get_title(loc="left") == "SY-004, cropland"
    assert (kinds(ax)[1] != 1).all()  # without flags, no hour is filled
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["measured or without flag", "filled", "missing"]
    one = CarbonPlot(ds.isel(site=[3])).gaps("NEE")
    assert [text.get_text() for text in one.get_legend().get_texts()] == ["measured", "filled", "missing"]


def test_filled_hours_of_the_package_are_filled(filled: xr.Dataset) -> None:
    shares = (kinds(CarbonPlot(filled).gaps("NEE"))[0] == 1).mean()
    assert shares == pytest.approx(filled["NEE_FILLED"].mean().item(), abs=0.01)


@pytest.mark.parametrize(
    ("days", "periods", "unit"),
    [(300, 300, "day"), (600, 87, "week"), (3000, 99, "month")],
)
def test_periods_are_longer_for_longer_records(days: int, periods: int, unit: str) -> None:
    time = np.datetime64("2010-01-01", "ns") + np.arange(days * 24) * np.timedelta64(1, "h")
    tower = xr.Dataset({"TA": ("time", np.ones(time.size))}, {"time": time})
    ax = CarbonPlot(tower).gaps()
    assert kinds(ax).shape == (1, CELLS, periods)
    assert f"each {unit}" in ax.get_xlabel()


def test_hours_are_counted_lazily_in_one_computation(ds: xr.Dataset) -> None:
    computed = []

    def count(block: np.ndarray) -> np.ndarray:
        computed.append(block.shape)
        return block

    lazy = ds["NEE"].chunk(site=1, time=-1)
    lazy = lazy.copy(data=lazy.data.map_blocks(count, meta=np.empty((0, 0), np.float32)))
    CarbonPlot(ds.assign(NEE=lazy)).gaps()
    assert len(computed) == 12


def test_errors_name_what_is_missing(ds: xr.Dataset) -> None:
    with pytest.raises(VariableError, match="FCH4"):
        CarbonPlot(ds).gaps("FCH4")
    with pytest.raises(OptionError, match="either towers or variables"):
        CarbonPlot(ds).gaps(["NEE", "GPP_DT"])
    with pytest.raises(OptionError, match="no hours"):
        CarbonPlot(ds.isel(time=slice(0))).gaps()
