"""The position of the sun agrees with almanacs, and clocks are estimated from radiation anywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xcarbon.prep.sun import (
    clock_by_month,
    hours_between,
    potential_radiation,
    sine_of_elevation,
    summer_time,
    sunlight,
    years_of_radiation,
)

YEAR = np.arange("2010-01-01", "2011-01-01", dtype="datetime64[h]")


@pytest.mark.parametrize(
    ("utc", "lat", "lon", "elevation"),
    [
        ("2003-10-17T19:30:30", 39.742476, -105.1786, 39.888),  # the example of NREL/TP-560-34302
        ("2010-06-21T11:28", 90.0, 0.0, 23.438),  # solstice
        ("2010-12-21T23:38", -90.0, 0.0, 23.438),
        ("2010-03-20T17:32", 0.0, -81.15, 90.0),  # equinox, at noon
    ],
)
def test_position_of_the_sun_agrees_with_almanacs(utc, lat, lon, elevation):
    sine = sine_of_elevation(np.array([utc], "datetime64[s]"), lat, lon)
    np.testing.assert_allclose(np.degrees(np.arcsin(sine)), elevation, atol=0.1)


def test_potential_radiation_of_a_year_at_the_equator():
    # 416 W m-2 is the value of textbooks.
    moments = np.arange("2010-01-01", "2011-01-01", dtype="datetime64[10m]")
    assert potential_radiation(moments, 0.0, 30.0).mean() == pytest.approx(416, abs=1)


def test_hours_add_up_to_the_day():
    light = sunlight(YEAR[:24], 51.0, 13.5, 1.0)
    moments = np.arange("2009-12-31T23:00", "2010-01-01T23:00", dtype="datetime64[m]")
    assert light.mean.mean() == pytest.approx(potential_radiation(moments, 51.0, 13.5).mean(), rel=0.01)
    assert (light.highest >= light.mean).all()
    assert not (light.night & (light.highest > 0)).any()
    assert np.flatnonzero(light.noon).tolist() == [10, 11, 12, 13]


@given(lat=st.floats(-60, 60), lon=st.floats(-180, 180), error=st.floats(-11, 11))
def test_clock_is_estimated_from_radiation(lat, lon, error):
    utc_offset = lon / 15 + error
    time = YEAR[: 24 * 59]
    months, clock = clock_by_month(0.7 * sunlight(time, lat, lon, utc_offset).mean, time, lat, lon)
    assert months.astype(str).tolist() == ["2010-01", "2010-02"]
    np.testing.assert_allclose(clock, utc_offset, atol=0.05)


def test_clock_is_robust_to_gaps_night_and_clouds():
    rng = np.random.default_rng(0)
    light = sunlight(YEAR, 74.5, -20.5, -1.0).mean * rng.uniform(0.2, 0.8, YEAR.size)
    light[rng.random(YEAR.size) < 0.4] = np.nan
    months, clock = clock_by_month(light, YEAR, 74.5, -20.5)
    assert {"2010-01", "2010-12"}.isdisjoint(months.astype(str))  # polar night
    np.testing.assert_allclose(clock, -1, atol=0.35)


def test_clock_is_unknown_without_light():
    for values in (np.nan, 0.0):
        assert clock_by_month(np.full(YEAR.size, values), YEAR, 51.0, 13.5)[0].size == 0


@pytest.mark.parametrize("lat", [51.0, -33.0])
def test_summer_time_is_an_hour_in_summer(lat):
    month = YEAR.astype("datetime64[M]").astype(int) % 12 + 1
    summer = (month >= 4) & (month <= 9) if lat > 0 else (month >= 10) | (month <= 3)
    light = np.where(summer, sunlight(YEAR, lat, 13.5, 2.0).mean, sunlight(YEAR, lat, 13.5, 1.0).mean)
    assert summer_time(*clock_by_month(light, YEAR, lat, 13.5), lat) == pytest.approx(1, abs=0.05)
    steady = clock_by_month(sunlight(YEAR, lat, 13.5, 1.0).mean, YEAR, lat, 13.5)
    assert summer_time(*steady, lat) == pytest.approx(0, abs=0.05)
    assert np.isnan(summer_time(steady[0][:5], steady[1][:5], lat))


def test_years_of_radiation():
    sun = sunlight(YEAR, 51.0, 13.5, 1.0)
    light = 0.5 * sun.mean
    light[np.flatnonzero(sun.night)[::10]] = 30
    light[np.flatnonzero(sun.highest > 600)[:7]] = 1800
    light[np.flatnonzero(sun.mean > 0)[::2]] = np.nan
    (year,) = years_of_radiation(light, YEAR, sun)
    assert year.year == 2010
    assert year.lit_nights == pytest.approx(0.1, abs=0.01)
    assert 3 <= year.excess <= 4
    assert year.clearness == pytest.approx(0.5, abs=0.01)
    assert years_of_radiation(np.full(YEAR.size, np.nan), YEAR, sun) == []


@given(st.floats(-14, 14), st.floats(-14, 14))
def test_hours_between_clocks_lie_on_the_circle(one, other):
    between = hours_between(one, other)
    assert -12 <= between <= 12
    assert np.isclose(np.cos(np.pi * (one - other - between) / 12), 1)
