"""Tests of the figure of sums with their intervals."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xcarbon.core.errors import OptionError, VariableError
from xcarbon.plotting import CarbonPlot


def sums(months: int) -> xr.Dataset:
    """Return monthly sums of one flux at two towers; the second month is missing."""
    edges = (np.datetime64("2010-01") + np.arange(months + 1)).astype("M8[ns]")
    total = np.stack([np.arange(months, dtype=float), np.ones(months)])
    total[:, 1] = np.nan
    values = {"NEE": total, "NEE_LOWER": total - 2, "NEE_UPPER": total + 2}
    variables = {name: (("site", "time"), array, {"units": "g m-2"}) for name, array in values.items()}
    bounds = (("time", "bnds"), np.stack([edges[:-1], edges[1:]], axis=1))
    coords = {"site": ["XX-A", "XX-B"], "time": edges[:-1], "time_bnds": bounds}
    return xr.Dataset(variables, coords)


def test_few_periods_are_points_with_error_bars() -> None:
    ax = CarbonPlot(xr.Dataset()).sums(sums(12), variable="NEE")
    points, _, (bars,) = ax.containers[0]
    np.testing.assert_array_equal(points.get_ydata(), sums(12)["NEE"][0])
    assert points.get_xdata()[0] == np.datetime64("2010-01-16T12")  # the middle of January
    lengths = [np.ptp(segment[:, 1]) for segment in bars.get_segments() if len(segment)]
    assert lengths[0] == lengths[2] == 4
    assert ax.get_title(loc="left") == "XX-A"


def test_many_periods_are_lines_with_bands() -> None:
    ax = CarbonPlot(xr.Dataset()).sums(sums(48), site="XX-B", variable=["NEE"])
    assert not ax.containers and len(ax.collections) == 1
    np.testing.assert_array_equal(ax.get_lines()[0].get_ydata(), sums(48)["NEE"][1])


def test_sums_without_interval_or_tower_are_refused() -> None:
    with pytest.raises(VariableError, match=r"\['NEE_UPPER'\]"):
        CarbonPlot(xr.Dataset()).sums(sums(12).drop_vars("NEE_UPPER"), variable="NEE")
    with pytest.raises(OptionError, match="no tower 'XX-C'"):
        CarbonPlot(xr.Dataset()).sums(sums(12), site="XX-C", variable="NEE")
