"""Tests of daily means, cumulative sums and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex

from xcarbon.budget import artificial_gaps, carbon_sums
from xcarbon.core.errors import OptionError, TimestampError
from xcarbon.plotting import CarbonPlot
from xcarbon.plotting.errors import daily_errors, flux_of
from xcarbon.plotting.select import select
from xcarbon.plotting.year import Year, summed_years
from xcarbon.testing import synthetic_towers


def one_year(filled: xr.Dataset, trial: xr.Dataset | None = None) -> Year:
    hours = select(filled, None, None)
    return summed_years(flux_of(hours, trial), hours, None)[0]


def test_the_last_day_is_the_annual_sum_with_its_error(weather_tower: xr.Dataset, filled: xr.Dataset) -> None:
    hidden = artificial_gaps(weather_tower, "week")
    trial = weather_tower.assign(NEE=weather_tower["NEE"].where(~hidden)).carbon.gapfill(model="mds")
    for test in (None, trial.compute()):
        sums = carbon_sums(filled, trial=test)
        year = one_year(filled, None if test is None else test.isel(site=0))
        assert year.total[-1] == pytest.approx(sums["NEE"].item(), rel=1e-4)
        assert year.total_error[-1] == pytest.approx(sums["NEE_SE"].item(), rel=1e-4)
    assert CarbonPlot(filled).year(trial=trial).axes[1].get_legend() is not None


def test_the_figure_shows_means_sums_and_intervals(filled: xr.Dataset) -> None:
    upper, lower = CarbonPlot(filled).year().axes
    flux = filled["NEE"].values.astype(float).reshape(365, 24)
    np.testing.assert_allclose(upper.get_lines()[0].get_ydata(), flux.mean(axis=1))
    grams = 12.011e-6 * 3600 * np.cumsum(flux.sum(axis=1))
    np.testing.assert_allclose(lower.get_lines()[0].get_ydata(), grams, rtol=1e-6)
    assert len(upper.collections) == len(lower.collections) == 1
    texts = [text.get_text() for text in lower.get_legend().get_texts()]
    year = one_year(filled)
    half = f"{1.6449 * year.total_error[-1]:.0f}"
    assert texts[0].startswith(f"2010: {year.total[-1]:.0f}".replace("-", "−")) and f"± {half} g" in texts[0]
    assert texts[1] == "90 % interval"
    assert upper.get_ylabel() == "daily mean NEE\n[µmol m$^{-2}$ s$^{-1}$]"


def test_errors_of_days_are_correlated(filled: xr.Dataset) -> None:
    flux = flux_of(select(filled, None, None))
    days = np.sqrt(sum(part.spread**2 for part in flux.errors)).reshape(-1, 24)
    independent = np.sqrt((days**2).sum(axis=1)) / 24
    daily = daily_errors(flux)
    is_filled = (days > 0).any(axis=1)
    assert np.isnan(daily[~is_filled]).all() and 0 < is_filled.sum() < 365
    daily, independent, days = daily[is_filled], independent[is_filled], days[is_filled]
    assert (daily >= independent - 1e-9).all() and (daily <= days.sum(axis=1) / 24 + 1e-9).all()


def test_a_prediction_is_compared_with_the_observations(ds: xr.Dataset, nee: xr.DataArray) -> None:
    prediction = xr.Dataset({"NEE": nee, "NEE_SE": xr.full_like(nee, 2.0)})
    _, lower = CarbonPlot(ds).year(prediction, site="SY-002").axes
    assert len(lower.collections) == 1
    _, without = CarbonPlot(ds).year(nee, site="SY-002").axes
    assert not without.collections
    assert "±" not in without.get_legend().get_texts()[0].get_text()
    assert not CarbonPlot(prediction.compute()).year(site="SY-002").axes[1].collections


def test_a_measured_year_has_no_interval(weather_tower: xr.Dataset) -> None:
    complete = weather_tower.assign(NEE=weather_tower["NEE"].fillna(1), NEE_QC=weather_tower["NEE_QC"] * 0)
    filled = complete.carbon.gapfill(model="mds")
    assert np.isnan(carbon_sums(filled)["NEE_SE"]).all()
    legend = CarbonPlot(filled).year().axes[1].get_legend()
    assert "±" not in legend.get_texts()[0].get_text()


def test_several_years_are_lines_with_their_sums() -> None:
    ds = synthetic_towers(1, years=3, patches=False, variables=["NEE"], gaps=False).load()
    upper, lower = CarbonPlot(ds).year(year=[2010, 2012]).axes
    labels = [text.get_text()[:5] for text in lower.get_legend().get_texts()]
    assert labels == ["2010:", "2012:"]
    assert [line.get_xdata().size for line in lower.get_lines()[:2]] == [365, 366]
    assert len({to_hex(line.get_color()) for line in upper.get_lines()[:2]}) == 2
    ds["NEE"].loc[{"time": slice("2011-02-01T00", "2011-02-01T09")}] = np.nan
    with pytest.raises(OptionError, match=r"SY-001.*missing in 2011 \(10\), 2020 \(all\).*\[2010, 2012\]"):
        CarbonPlot(ds).year(year=[2010, 2011, 2020])


def test_sums_of_other_variables_and_of_gaps_are_refused(weather_tower: xr.Dataset) -> None:
    with pytest.raises(OptionError, match="TA has no sum of carbon"):
        CarbonPlot(weather_tower).year(variable="TA")
    gaps = weather_tower.assign(NEE=weather_tower["NEE"].where(weather_tower["NEE_QC"] == 0))
    with pytest.raises(OptionError, match="missing in every year"):
        CarbonPlot(gaps).year()


def test_half_hours_have_the_sums_of_hours(filled: xr.Dataset) -> None:
    half = np.timedelta64(30, "m")
    both = [filled, filled.assign_coords(time=filled["time"] + half)]
    halves = xr.concat([ds.drop_vars("time_bnds", errors="ignore") for ds in both], "time").sortby("time")
    total = one_year(halves).total
    np.testing.assert_allclose(total, one_year(filled).total, rtol=1e-6)
    upper = CarbonPlot(halves).fingerprint(time="2010-03").axes[0]
    assert upper.collections[0].get_array().shape == (48, 31)
    assert CarbonPlot(halves).gaps("NEE").collections[0].get_array().shape == (20, 365)
    with pytest.raises(TimestampError, match="half-hourly"):
        CarbonPlot(halves).series(filled)
    with pytest.raises(TimestampError, match="1 days"):
        CarbonPlot(filled.isel(time=slice(None, None, 24))).year()
    with pytest.raises(TimestampError, match="needs all hours"):
        CarbonPlot(filled.isel(time=np.r_[0:100, 200:8760])).year()
