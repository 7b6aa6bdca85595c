"""Tests of the cells of fingerprints."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xcarbon.core.errors import OptionError
from xcarbon.plotting import CarbonPlot
from xcarbon.plotting.fingerprint import by_hour
from xcarbon.testing import synthetic_towers


def cells(panel: object) -> np.ndarray:
    """Return the values of the cells of a panel, ``(hour, day)``, NaN where missing."""
    (mesh,) = panel.collections
    return np.ma.filled(mesh.get_array(), np.nan)


def test_measured_hours_are_above_filled_ones(weather_tower: xr.Dataset, filled: xr.Dataset) -> None:
    tower = weather_tower.isel(site=0)
    upper, lower, bar = CarbonPlot(weather_tower).fingerprint(filled).axes
    assert [panel.get_title(loc="left") for panel in (upper, lower)] == ["measured", "filled"]
    assert upper.get_title(loc="right") == "SY-001, evergreen needleleaf forest"
    measured = tower["NEE"].where(tower["NEE_QC"] == 0).values.reshape(365, 24)
    np.testing.assert_array_equal(cells(upper), measured.T)
    np.testing.assert_array_equal(cells(lower), filled["NEE"].values.reshape(365, 24).T)
    assert upper.collections[0].get_clim() == lower.collections[0].get_clim()
    low, high = lower.collections[0].get_clim()
    assert low == -high < 0
    assert bar.get_ylabel() == "NEE [µmol m$^{-2}$ s$^{-1}$]"


def test_a_filled_dataset_shows_its_own_filled_hours(filled: xr.Dataset) -> None:
    upper, lower, _ = CarbonPlot(filled).fingerprint(time="2010-03").axes
    march = filled.isel(site=0).sel(time="2010-03")
    assert cells(upper).shape == (24, 31)
    assert np.isfinite(cells(upper)).sum() == (march["NEE_FILLED"] == 0).sum()
    assert np.isfinite(cells(lower)).all()


def test_the_default_is_the_year_with_most_measured_hours() -> None:
    ds = synthetic_towers(1, years=2, patches=False, variables=["TA", "NEE"]).load()
    ds["NEE"].loc[{"time": slice("2011-03", "2011-08")}] = np.nan
    assert cells(CarbonPlot(ds).fingerprint().axes[0]).shape == (24, 365)
    left, right = CarbonPlot(ds).fingerprint().axes[0].get_xlim()
    np.testing.assert_array_equal(
        np.array([left, right]).astype("M8[D]"), np.array(["2010-01-01", "2011-01-01"], "M8[D]")
    )
    both = CarbonPlot(ds).fingerprint(time=slice("2010", "2011"), variable="TA").axes[0]
    assert cells(both).shape == (24, 730)


def test_a_variable_without_flags_has_one_panel_and_a_scale_of_one_colour(weather_tower: xr.Dataset) -> None:
    ds = weather_tower.drop_vars("TA_QC")
    panel, bar = CarbonPlot(ds).fingerprint(variable="TA").axes
    assert bar.get_ylabel() == "TA [°C]"
    assert panel.collections[0].get_cmap().name == "viridis"


def test_hours_are_placed_by_their_stamp() -> None:
    stamps = np.array(["2010-01-01T22", "2010-01-01T23", "2010-01-03T01"], "M8[ns]")
    days, table = by_hour(xr.DataArray([1.0, 2.0, 3.0], {"time": stamps}))
    assert days.size == 3
    assert (table[0, 22], table[0, 23], table[2, 1]) == (1, 2, 3)
    assert np.isfinite(table).sum() == 3


def test_given_axes_are_used_if_their_number_fits(filled: xr.Dataset) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2)
    assert CarbonPlot(filled).fingerprint(time="2010-03", ax=axes) is figure
    assert axes[1].get_title(loc="left") == "measured and filled"
    with pytest.raises(OptionError, match="2 panels, but ax contains 1"):
        CarbonPlot(filled).fingerprint(time="2010-03", ax=axes[0])


def test_errors_name_what_is_missing(weather_tower: xr.Dataset, filled: xr.Dataset) -> None:
    with pytest.raises(OptionError, match=r"1999.*2010-01-01 to 2010-12-31"):
        CarbonPlot(filled).fingerprint(time="1999")
    with pytest.raises(OptionError, match=r"TA was requested.*NEE"):
        CarbonPlot(weather_tower).fingerprint(filled, variable="TA")
    with pytest.raises(OptionError, match="no hour of NEE is measured"):
        CarbonPlot(filled.assign(NEE=filled["NEE"] * np.nan)).fingerprint()
    with pytest.raises(OptionError, match="all values of NEE are missing"):
        CarbonPlot(filled.assign(NEE=filled["NEE"] * np.nan)).fingerprint(time="2010")
