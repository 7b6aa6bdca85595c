"""Wrong clocks, latitudes and longitudes are found."""

from __future__ import annotations

import numpy as np
import pytest

from tests.quality.samples import by_site, found, message
from xcarbon.quality.checks import check
from xcarbon.testing import synthetic_towers


def test_daylight_saving_is_found(tharandt):
    month = tharandt["time"].dt.month
    late = tharandt.shift(time=1, fill_value={name: -1 for name in tharandt if "QC" in str(name)})
    saving = tharandt.where((month < 4) | (month > 10), late)
    assert found(saving, "error") == [("daylight saving", "DE-Tha", "")]
    assert "about 0.8 h ahead in the summers of 2004, 2005" in message(saving, "daylight saving")


@pytest.mark.parametrize(
    ("stated", "expected"), [(np.nan, "UTC+1 (0."), (-1.0, "Change its sign"), (2.0, "Correct utc")]
)
def test_clock_is_compared_with_the_sun(tharandt, stated, expected):
    ds = tharandt.assign_coords(utc_offset=("site", [stated]))
    assert expected in message(ds, "clock")


def test_clock_without_radiation_is_compared_with_the_longitude(tharandt):
    ds = tharandt[["NEE", "NEE_QC"]]
    assert found(ds, "error") == []
    wrong = ds.assign_coords(utc_offset=("site", [-5.0]))
    assert message(wrong, "clock").startswith("utc_offset is UTC-5, but the longitude indicates UTC+1")
    unknown = ds.assign_coords(utc_offset=("site", [np.nan]))
    assert message(unknown, "clock") == "utc_offset is missing. Set it; the longitude indicates UTC+1."


@pytest.mark.parametrize("site", ["DE-Tha", "AU-How", "US-NR1", "BR-Sa1"])
def test_longitude_with_a_lost_sign_is_named(real_towers, site):
    ds = real_towers.sel(site=[site], time=slice("2003", "2004")).load()
    wrong = ds.assign_coords(lon=-ds["lon"])
    assert "Change the sign of the longitude, not utc_offset" in message(wrong, "clock")
    corrected = wrong.assign_coords(lon=-wrong["lon"])
    assert found(corrected, "error") == []


def test_lost_sign_of_an_unknown_country_is_of_longitude_or_offset(real_towers):
    ds = real_towers.sel(site=["US-NR1"], time=slice("2003", "2004")).load()
    ds = ds.assign_coords(site=["XX-NR1"], lon=-ds["lon"])
    assert "change the sign of one of them" in message(ds, "clock")


def test_longitude_near_greenwich_with_a_lost_sign_is_named():
    ds = synthetic_towers(1, years=1, patches=False, seed=3).load()
    wrong = ds.assign_coords(lon=-ds["lon"])
    assert "Change the sign of the longitude, not utc_offset" in message(wrong, "clock")


def test_wrong_longitude_is_given_with_the_one_that_fits(tharandt):
    wrong = tharandt.assign_coords(lon=("site", [60.0]))
    text = message(wrong, "clock")
    fitting = float(text.split("near ")[1].split(",")[0])
    assert abs(fitting - tharandt["lon"].item()) < 6


@pytest.mark.parametrize("site", ["DE-Tha", "AU-Tum", "ZM-Mon", "SD-Dem"])
@pytest.mark.parametrize("codes", [["SW_IN"], ["TA"]])
def test_latitude_with_a_lost_sign_is_named(real_towers, site, codes):
    tower = real_towers.sel(site=[site])[[*codes, f"{codes[0]}_QC"]].load()
    assert "latitude" not in by_site(check(tower))[site]
    lat = float(tower["lat"][0])
    wrong = by_site(check(tower.assign_coords(lat=-tower["lat"])))[site]
    if (site, codes) == ("ZM-Mon", ["TA"]):  # warmest in October, before the rain
        assert "latitude" not in wrong
    else:
        assert f"is that of the latitude {lat:g}" in wrong["latitude"]
        assert "Change the sign of the latitude" in wrong["latitude"]


@pytest.mark.parametrize("site", ["BR-Sa3", "GH-Ank"])
def test_season_of_the_inner_tropics_is_not_compared_with_the_sun(real_towers, site):
    tower = real_towers.sel(site=[site])[["SW_IN", "SW_IN_QC"]].load()
    for lat in (tower["lat"], -tower["lat"]):
        assert "latitude" not in by_site(check(tower.assign_coords(lat=lat)))[site]


@pytest.mark.parametrize("site", ["DE-Tha", "CG-Tch", "ES-LgS"])
def test_swapped_coordinates_are_named(real_towers, site):
    tower = real_towers.sel(site=[site], time=slice("2002", "2009"))[["SW_IN", "SW_IN_QC"]].load()
    lat, lon = tower["lat"], tower["lon"]
    assert "clock" not in by_site(check(tower))[site]
    found = message(tower.assign_coords(lat=lon, lon=lat), "clock")
    assert f"utc_offset fits a longitude of {float(lon[0]):g}, which is the latitude" in found
    assert f"The tower is then at {float(lat[0]):g} N, {float(lon[0]):g} E" in found
