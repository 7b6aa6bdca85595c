"""Humidity, wind and units are computed as the definitions require."""

from __future__ import annotations

import numpy as np
import pytest

from tests.io.era5.samples import make
from xcarbon.core.errors import FileFormatError


def test_rounding_of_packed_sums_gives_no_negative_rain(opened):
    daily = np.cumsum(np.r_[0, np.repeat([1e-3, 0, 2e-3, 0], 6)])  # at the stamps 00 to 24
    source = make(hours=25, tp=daily)
    jitter = np.random.default_rng(0).choice([-1e-6, 0, 1e-6], source["tp"].shape)
    source["tp"] += jitter
    found = opened(source, accumulated="day")["P"]
    assert (found.min(), found.sum("time").max()) == (0, pytest.approx(18, abs=0.05))


def test_sums_of_the_other_accumulation_are_an_error_when_computed(opened):
    sun = 3e6 * np.maximum(np.sin(np.arange(48) * np.pi / 12 - np.pi / 2), 0)
    hourly = make(hours=48, ssrd=sun)
    with pytest.raises(FileFormatError, match=r"SW_IN would be -.* pass accumulated='hour'"):
        opened(hourly, accumulated="day").compute()
    daily = make(hours=24, ssrd=np.cumsum(sun[:24]))
    with pytest.raises(FileFormatError, match=r"SW_IN would be \d.* pass accumulated='day'"):
        opened(daily, accumulated="hour").compute()


def test_humidity_is_computed_at_the_instants(opened):
    source = make(hours=2, t2m=[293.15, 303.15], d2m=[283.15, 293.15])
    found = opened(source).isel(time=0, lat=0, lon=0)
    assert found["RH"] == pytest.approx((100 * 12.27 / 23.37 + 100 * 23.37 / 42.43) / 2, rel=3e-3)
    assert found["VPD"] == pytest.approx(((23.37 - 12.27) + (42.43 - 23.37)) / 2, rel=3e-3)


def test_humidity_stays_in_its_bounds(opened):
    found = opened(make(hours=3, t2m=280.0, d2m=280.5)).load()
    assert (found["RH"] == 100).all()
    assert (found["VPD"] == 0).all()


@pytest.mark.parametrize(
    ("u", "v", "direction"), [(0, -3, 0), (-3, 0, 90), (0, 3, 180), (3, 0, 270), (1, -1, 315), (1e-9, -3, 0)]
)
def test_wind_direction_is_where_the_wind_comes_from(opened, u, v, direction):
    found = opened(make(hours=3, u10=u, v10=v)).load()
    np.testing.assert_allclose(found["WD"], direction, atol=1e-4)
    np.testing.assert_allclose(found["WS"], np.hypot(u, v), rtol=1e-6)


def test_wind_that_turns_has_the_mean_speed_and_the_direction_of_the_mean_vector(opened):
    found = opened(make(hours=3, u10=[0, -4, 4], v10=[-4, 0, 0])).isel(lat=0, lon=0)
    np.testing.assert_allclose(found["WS"], [4, 4])
    np.testing.assert_allclose(found["WD"], [45, np.nan])


def test_units_are_those_of_the_data_model(opened):
    found = opened(make(hours=2, sp=101325.0, tp=0.002, strd=300 * 3600.0)).load()
    assert {code: float(found[code].mean()) for code in ("PA", "P", "LW_IN")} == pytest.approx(
        {"PA": 101.325, "P": 2, "LW_IN": 300}
    )
    assert {found[code].dtype for code in found} == {np.dtype("float32")}


def test_implausible_values_are_missing(opened):
    source = make(hours=4, t2m=293.15, sp=101325.0)
    source["t2m"][1] = 1e20
    found = opened(source).isel(lat=0, lon=0)
    np.testing.assert_allclose(found["TA"], [np.nan, np.nan, 20], rtol=1e-6)
    assert found["PA"].notnull().all()
