"""Tests of marginal distribution sampling against a plain loop and against a mean day in real gaps."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budget.samples import towers
from xcarbon.budget.gaps import artificial_gaps
from xcarbon.budget.mds import mds, sample
from xcarbon.core.errors import MetadataError, TimestampError, VariableError
from xcarbon.testing import raise_on_compute


def naive(chosen, flux, sw_in, ta, vpd, per_day):
    """Implement the method hour by hour as described in the publication."""
    hours = np.arange(len(flux))

    def search(hour, days, alike):
        apart = abs(hours - hour)
        if alike == "time of day":
            near = np.zeros(len(flux), bool)
            for day in range(days + 1):
                near |= abs(apart - day * per_day) <= per_day // 24
        else:
            near = (apart <= days * per_day) & (abs(sw_in - sw_in[hour]) < max(20, min(50, sw_in[hour])))
            if alike == "weather":
                near &= (abs(ta - ta[hour]) < 2.5) & (abs(vpd - vpd[hour]) < 5)
        return flux[near & (hours != hour) & ~np.isnan(flux)]

    def fill(hour):
        for days in (7, 14):
            yield search(hour, days, "weather"), 1
        yield search(hour, 7, "light"), 1
        for days, quality in ((0, 1), (1, 2), (2, 2)):
            yield search(hour, days, "time of day"), quality
        for days in range(21, 71, 7):
            yield search(hour, days, "weather"), 2 if days <= 28 else 3
        for days in range(14, 71, 7):
            yield search(hour, days, "light"), 2 if days <= 14 else 3
        for days in range(7, 211, 7):
            yield search(hour, days, "time of day"), 3

    for hour in chosen:
        for found, quality in fill(hour):
            if len(found) >= 2:
                yield np.mean(found), np.std(found, ddof=1), quality
                break
        else:
            yield np.nan, np.nan, -1


@settings(max_examples=12)
@given(
    seed=st.integers(0, 999),
    days=st.sampled_from([1, 10, 30]),
    measured=st.sampled_from([0.0, 0.005, 0.05, 0.4]),
    missing=st.sampled_from([0.0, 0.5, 0.95]),
    per_day=st.sampled_from([24, 48]),
)
def test_it_is_that_of_a_plain_loop(seed, days, measured, missing, per_day):
    rng = np.random.default_rng(seed)
    size = days * per_day
    flux = np.where(rng.random(size) < measured, rng.normal(size=size), np.nan)
    weather = [rng.uniform(0, 300, size), rng.normal(10, 4, size), rng.uniform(0, 20, size)]
    weather = [np.where(rng.random(size) < missing, np.nan, values) for values in weather]
    chosen = rng.choice(size, 16, replace=False)
    expected = np.array(list(naive(chosen, flux, *weather, per_day))).T
    found = np.stack(sample(flux, *weather, per_day))[:, chosen]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("gap", "quality"), [(6, 1), (13, 1), (15, 2), (40, 3), (60, 3)])
def test_far_hours_are_of_lower_quality(gap, quality):
    """Return a record with changing weather and a gap of some days around an hour."""
    hours = np.arange(24 * 150)
    flux = np.where(abs(hours - 1800) <= 24 * gap, np.nan, 1.0)
    weather = np.full(hours.size, 100.0), np.full(hours.size, 10.0), np.full(hours.size, 5.0)
    found = sample(flux, *weather)
    assert found.quality[1800] == quality
    assert np.all(found.mean == 1) and np.all(found.std == 0)


def test_light_counts_where_the_air_is_not_known_and_the_day_where_nothing_is():
    hours = np.arange(24 * 6)
    flux = np.where(hours % 24 == 12, -10.0, 2.0)
    light = np.where(hours % 24 == 12, 800.0, 0.0)
    unknown = np.full(hours.size, np.nan)
    np.testing.assert_array_equal(sample(flux, light, unknown, unknown).mean, flux)
    by_hour = sample(np.where(hours // 24 == 3, np.nan, flux), unknown, unknown, unknown)
    assert by_hour.mean[3 * 24 + 12] == pytest.approx(-2)  # includes the hours before and after
    assert by_hour.quality[3 * 24 + 12] == 2


def test_darkness_is_told_from_dawn():
    """A difference of 30 W m-2 is large at night and small in daylight."""
    light = np.array([0.0, 0.0, 0.0, 30.0, 30.0, 30.0, 500.0, 500.0, 530.0])
    mild = np.full(light.size, 10.0)
    found = sample(np.array([1.0, 1.0, 1.0, 5.0, 5.0, 5.0, 8.0, 8.0, 9.0]), light, mild, mild)
    np.testing.assert_array_equal(found.mean, [1, 1, 1, 5, 5, 5, 8.5, 8.5, 8])


def test_no_measurement_fills_nothing():
    nothing = np.full(60, np.nan)
    found = sample(nothing, *np.zeros((3, 60)))
    assert np.isnan(found.mean).all() and (found.quality == -1).all()
    for hours in range(3):
        assert np.isnan(sample(np.ones(hours), *np.zeros((3, hours))).mean).all()


def test_towers_are_sampled_lazily_each_by_itself():
    ds = towers(2)
    with raise_on_compute():
        both = mds(ds)
    assert both["NEE"].chunks and both["NEE"].dtype == both["NEE_SE"].dtype == np.float32
    assert both["NEE_QC"].dtype == np.int8
    alone = mds(ds.isel(site=1).load())
    assert alone["NEE"].dims == ("time",)
    xr.testing.assert_equal(both.isel(site=1).compute(), alone)
    chopped = mds(ds.chunk(time=500).assign_coords(ds.coords))
    xr.testing.assert_equal(chopped.compute(), both.compute())


def test_only_measured_fluxes_and_believable_weather_are_used():
    ds = towers(1, gaps=False).load()
    worse = ds.assign(NEE_QC=ds["NEE_QC"].where(ds["time"].dt.day > 3, 1).astype("int8"))
    spoilt = worse.assign(NEE=worse["NEE"].where(worse["NEE_QC"] == 0, 90))
    xr.testing.assert_equal(mds(worse)["NEE"], mds(spoilt)["NEE"])
    assert mds(spoilt, max_qc=1)["NEE"].max() > 80
    dark = ds.assign(SW_IN_QC=xr.full_like(ds["SW_IN_QC"], 2), TA_QC=xr.full_like(ds["TA_QC"], 2))
    unknown = ds.assign(SW_IN=ds["SW_IN"] * np.nan, TA=ds["TA"] * np.nan)
    xr.testing.assert_equal(mds(dark)["NEE"], mds(unknown)["NEE"])


def test_what_is_absent_or_in_other_units_is_said():
    ds = towers(1)
    with pytest.raises(VariableError, match=r"sampling needs \['VPD'\]"):
        mds(ds.drop_vars("VPD"))
    ds["VPD"].attrs["units"] = "kPa"
    with pytest.raises(MetadataError, match="VPD has units 'kPa'"):
        mds(ds)
    with pytest.raises(TimestampError, match="must be hourly"):
        mds(towers(1).isel(time=slice(None, None, 2)))


@pytest.mark.parametrize("kind", ["short", "week"])
def test_real_gaps_are_filled_better_than_by_a_mean_day(real_towers, kind):
    tower = real_towers.sel(site="DE-Tha", time="2005").load()
    hidden = artificial_gaps(tower, kind)
    ds = tower.assign(NEE=tower["NEE"].where(~hidden))
    measured = ds["NEE"].where(ds["NEE_QC"] == 0)
    slot = (ds["time"].dt.month * 24 + ds["time"].dt.hour).rename("slot")
    mean_day = measured.groupby(slot).mean().sel(slot=slot)
    truth = tower["NEE"].where(hidden)
    errors = [float(((guess - truth) ** 2).mean()) for guess in (mds(ds)["NEE"], mean_day)]
    assert errors[0] < 0.8 * errors[1]
