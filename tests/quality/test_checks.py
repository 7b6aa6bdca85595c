"""Quality checks find the faults of towers and nothing else, and the report lists them."""

from __future__ import annotations

import contextlib
import io
import sys
from collections import defaultdict

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xcarbon.core import conventions
from xcarbon.core.errors import MetadataError, VariableError
from xcarbon.prep import clock
from xcarbon.quality import plausibility
from xcarbon.quality.checks import Report, cf_findings, check
from xcarbon.testing import raise_on_compute, synthetic_grid, synthetic_towers

#: Known faults of real towers, verified by eye: part of the message by topic. Nothing else may be found.
REAL = {
    "US-Me6": {"clock": "utc_offset is UTC+8, but the radiation indicates UTC-8 (-8.04 h). Change its sign"},
    "IT-SR2": {"clock": "utc_offset is UTC+0, but the radiation indicates UTC+1 (1.02 h). Correct"},
    "AU-TTE": {"clock": "+0.5 h off utc_offset", "metadata": "elevation"},
    "US-ARc": {"clock": "utc_offset is missing. Set it; the radiation indicates UTC-6"},
    "FR-Fon": {"clock": "The clock of 2007 is +0.5 h off that of all years"},
    "DK-Eng": {"radiation at night": "2005 (35% of hours), 2006 (58% of hours), 2007"},
    "SN-Dhr": {"radiation at night": "2010 (66% of hours)", "too little radiation": "2010 (1%)"},
    "FR-LBr": {"radiation at night": "1997 (9% of hours)", "too little radiation": "2002 (0%)"},
    "US-Me2": {"too much radiation": "2008 (24 hours)"},
    "US-SRC": {
        "clock": "utc_offset is missing",
        "humidity": "saturation vapour pressure at TA in 0.9% of hours",
    },
    "CA-Man": {"gap-filled": "VPD has no measured value, and 0% of its filled values have quality flag 1"},
    "DE-RuR": {"gap-filled": "VPD has no measured value, and 0% of its filled values have quality flag 1"},
    "DE-RuS": {"gap-filled": "VPD has no measured value, and 0% of its filled values have quality flag 1"},
    "US-MMS": {"stuck sensor": "TA stays at -9.99 degC for 72 hours from 2014-01-06 00:00"},
    "US-Atq": {"stuck sensor": "stays at -39.73 degC for 36 hours"},
    "CA-NS3": {},
    "CA-NS4": {"duplicate": "within 100 m of CA-NS3"},
    "DE-Tha": {},
    "CN-Dan": {"metadata": "elevation"},  # its clock is 1.93 h off the sun
    "US-NR1": {},  # cloudy afternoons
    "ES-Amo": {"radiation at night": "2012 (2% of hours)"},  # carbon dioxide leaves the ground at noon
    "CN-Sw2": {"metadata": "elevation"},
    "FI-Jok": {},  # half an hour ahead in the summer of 2002
    "CH-Fru": {},  # fog for days: a deficit of 0.004 hPa
    "GL-ZaH": {},  # polar night
    "US-Ha1": {},  # hourly
}


@pytest.fixture(autouse=True)
def without_conventions(monkeypatch):
    """Skip the slow CF checks, except in tests that call ``cf_findings`` themselves."""
    monkeypatch.setattr("xcarbon.quality.checks.cf_findings", lambda ds: [])


@pytest.fixture(scope="module")
def tharandt(real_towers) -> xr.Dataset:
    """Two good years of a good tower, in memory."""
    return real_towers.sel(site=["DE-Tha"], time=slice("2004", "2005")).load()


@pytest.fixture(scope="module")
def good() -> xr.Dataset:
    """Two synthetic towers of three months, in memory."""
    codes = ["TA", "P", "RH", "VPD", "PA", "SW_IN", "SWC_1", "NEE"]
    ds = synthetic_towers(2, variables=codes).isel(time=slice(90 * 24), day=slice(60)).load()
    return conventions.apply(ds, history="made for a test").assign_coords(citation=("site", ["a", "b"]))


@pytest.fixture
def clean(good) -> xr.Dataset:
    """Return a copy that a test may change."""
    return good.copy(deep=True)


def by_site(report: Report) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for finding in report.findings:
        assert finding.topic not in found[finding.site] or finding.topic == "clock"
        found[finding.site][finding.topic] = finding.message
    return found


def found(ds: xr.Dataset, severity: str) -> list[tuple[str, str, str]]:
    return [(one.topic, one.site, one.variable) for one in check(ds).findings if one.severity == severity]


def message(ds: xr.Dataset, topic: str) -> str:
    (text,) = {one.message for one in check(ds).findings if one.topic == topic}
    return text


def test_real_towers(real_towers):
    found = by_site(check(real_towers.sel(site=list(REAL))))
    assert {site: found[site].keys() for site in REAL} == {site: REAL[site].keys() for site in REAL}
    for site, expected in REAL.items():
        for topic, fragment in expected.items():
            assert fragment in found[site][topic]


def test_nothing_is_wrong_with_good_towers(clean):
    assert check(clean).findings == ()


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


@pytest.mark.parametrize("site", ["DE-Tha", "AU-How", "BR-Sa1"])
def test_flipped_flux_is_found(real_towers, site):
    ds = real_towers[["NEE", "NEE_QC"]].sel(site=[site], time=slice("2002", "2004")).load()
    assert found(ds, "error") == []
    assert found(ds.assign(NEE=-ds["NEE"]), "error") == [("sign", site, "NEE")]


def test_flux_of_bare_ground_may_have_any_sign(tharandt):
    bare = tharandt.assign(NEE=-tharandt["NEE"]).assign_coords(igbp=("site", ["BSV"]))
    assert found(bare, "error") == []


@pytest.mark.parametrize(("code", "factor", "unit"), [("VPD", 0.1, "kPa"), ("PA", 10, "hPa")])
def test_wrong_units_are_named(clean, code, factor, unit):
    wrong = clean.assign({code: clean[code] * factor})
    assert found(wrong, "error") == [("units", "SY-001", code), ("units", "SY-002", code)]
    assert f"it is in {unit}" in check(wrong).findings[0].message


def test_humidity_that_does_not_fit_is_found(clean):
    assert ("humidity", "SY-001", "VPD") in found(clean.assign(VPD=clean["VPD"] * 1.3), "warning")
    drier = clean.drop_vars("RH").assign(VPD=clean["VPD"].where(clean["time"].dt.day > 1, 60))
    assert found(drier, "warning") == [("humidity", site, "VPD") for site in ("SY-001", "SY-002")]


def test_numbers_for_missing_values_are_found_and_not_used(clean):
    hour = np.arange(clean.sizes["time"])
    wrong = clean.assign(NEE=clean["NEE"].where(hour % 7, -9999.0), TA=clean["TA"].where(hour % 90, -6999.0))
    names = [("missing values", site, code) for site in ("SY-001", "SY-002") for code in ("TA", "NEE")]
    assert found(wrong, "error") == names
    assert found(wrong, "warning") == []
    assert (check(wrong).coverage["nee_hours"] < check(clean).coverage["nee_hours"]).all()


def test_values_out_of_bounds_are_found(clean):
    wrong = clean.assign(RH=clean["RH"].where(clean["time"].dt.hour != 3, 140))
    assert found(wrong, "warning") == [("bounds", site, "RH") for site in ("SY-001", "SY-002")]
    text = check(wrong).findings[0].message
    assert "RH is out of 0 to 100 % in 4.3% of its values; the worst is 140. Models read these" in text


@pytest.mark.parametrize(
    ("code", "value", "hours", "stuck"),
    [
        ("TA", 4.5, 24, False),
        ("TA", 4.5, 25, True),
        ("NEE", 1.5, 25, True),
        ("NEE", 0.0, 99, False),
        ("VPD", 0.3, 99, False),
        ("SWC_1", 21.0, 99, False),
        ("SWC_1", 21.0, 169, True),
        ("P", 1.0, 99, False),
    ],
)
def test_stuck_sensors_are_found(code, value, hours, stuck):
    values = np.random.default_rng(0).uniform(5, 50, 400)
    values[100 : 100 + hours] = value
    tower = plausibility.TowerRecord(time=np.arange(400).astype("datetime64[h]"), values={code: values})
    assert len(list(plausibility.stuck(tower))) == stuck


def test_filled_values_do_not_look_stuck():
    values, time = np.full(100, 5.0), np.arange(100).astype("datetime64[h]")
    tower = plausibility.TowerRecord(time=time, values={"TA": values}, flags={"TA": np.ones(100, "int8")})
    assert list(plausibility.stuck(tower)) == []
    assert [finding.topic for finding in plausibility.gap_filled(tower)] == ["gap-filled"]


def test_hourly_source_of_half_hours_is_found_by_equal_halves(real_data, clean):
    columns = ["TIMESTAMP_START", "TA_F", "TA_F_QC"]
    path = next((real_data / "raw").glob("FLX_US-ARc_*.csv.gz"))
    table = pd.read_csv(path, usecols=columns, na_values=-9999)
    half_hours = table["TA_F"].where(table["TA_F_QC"] == 0).to_numpy()
    assert clock.equal_halves(half_hours) < 0.05
    assert clock.equal_halves(np.repeat(half_hours[::2], 2)) == 1
    assert np.isnan(clock.equal_halves(np.zeros(4)))
    shares = clean.assign_coords(equal_halves=("site", [0.99, 0.02]))
    assert found(shares, "warning") == [("upsampled", "SY-001", "")]


def test_one_tower_under_two_names_is_found(clean):
    twin = clean.isel(site=[0]).assign_coords(site=["XX-Two"])
    twin = twin.assign(NEE=twin["NEE"].where(twin["time"].dt.month == 2))  # a part of the record
    assert found(xr.concat([clean, twin], "site"), "error") == [("duplicate", "XX-Two", "")]


def test_patches_are_checked(clean):
    patches = clean.copy()
    patches["reflectance"] = patches["reflectance"].copy()
    patches["reflectance"][0] = np.nan
    patches["reflectance"][1] *= 10_000
    report = check(patches)
    assert found(patches, "warning") == [("patches", site, "reflectance") for site in ("SY-001", "SY-002")]
    assert report.findings[0].message.startswith("reflectance has no value")
    assert "Check the scale factor" in report.findings[1].message
    assert report.coverage["patch_days"].values[0] == 0 < report.coverage["patch_days"].values[1]


def test_coverage_counts_hours_of_the_record():
    time = np.arange("2010-01-01", "2010-01-11", dtype="datetime64[h]")
    nee, flags = np.full((1, 240), np.nan, "float32"), np.full((1, 240), -1, "int8")
    nee[0, 40:140], flags[0, 40:140] = np.arange(100), 0
    flags[0, 40:60], nee[0, 100:110], flags[0, 100:110] = 2, np.nan, -1
    ds = xr.Dataset(
        {"NEE": (("site", "time"), nee), "NEE_QC": (("site", "time"), flags)}, {"site": ["A"], "time": time}
    )
    coverage = check(ds).coverage.isel(site=0)
    assert coverage["present"].item() == pytest.approx(0.9)
    assert coverage["good"].item() == pytest.approx(0.7)
    assert coverage["nee_hours"] == 70
    assert (coverage["first"].values, coverage["last"].values) == (time[40], time[139])


def test_tower_without_a_value_is_named(clean):
    empty = clean.where(clean["site"] == "SY-001")
    assert ("coverage", "SY-002", "") in found(empty[["TA", "NEE"]], "warning")
    assert check(empty[["TA"]]).coverage["present"].values.tolist()[1] == [0]


def test_a_single_tower_is_checked(clean):
    report = check(clean.isel(site=0))
    assert report.findings == ()
    assert report.coverage.sizes["site"] == 1


def test_each_tower_is_read_once(clean):
    read = []

    def note(block: np.ndarray, block_info: dict) -> np.ndarray:
        read.append(block_info[0]["chunk-location"])
        return block

    ds = clean[["TA", "NEE"]].chunk(site=1, time=-1).assign_coords(clean.coords)
    ds["TA"] = ds["TA"].copy(
        data=ds["TA"].data.map_blocks(note, dtype="float32", meta=np.empty((0, 0), "float32"))
    )
    with raise_on_compute():
        cf_findings(ds)
    check(ds)
    assert sorted(read) == [(0, 0), (1, 0)]


def test_conventions_are_checked(clean):
    wrong = clean.drop_vars("reflectance")
    wrong["TA"] = wrong["TA"].assign_attrs(standard_name="hotness")
    assert any("hotness" in one.message for one in cf_findings(wrong))
    assert cf_findings(clean) == []
    assert cf_findings(clean.isel(site=0)) == []


def test_without_the_checker_a_note_says_how_to_get_it(clean, monkeypatch):
    monkeypatch.setitem(sys.modules, "compliance_checker.base", None)
    (note,) = cf_findings(clean)
    assert note.severity == "note"
    assert "xcarbon[check]" in note.message


def test_captured_output_survives_the_checker(clean):
    for name in [name for name in sys.modules if name.startswith("compliance_checker")]:
        del sys.modules[name]
    with contextlib.redirect_stdout(io.StringIO()) as captured:
        cf_findings(clean)
        print("§")
    assert captured.getvalue() == "§\n"


def test_report_reads_well(clean):
    wrong = clean.assign(VPD=clean["VPD"] / 10).drop_vars("citation")
    text = str(check(wrong))
    lines = text.splitlines()
    assert lines[0] == "2 towers: 2 errors, 0 warnings, 1 note"
    assert lines[2] == "ERROR: units"
    assert lines[3].startswith("  SY-001, SY-002: The values of VPD show that it is in kPa.")
    assert "  No tower has a citation or a doi. Add them, because licences of the data require it." in lines
    assert any(line.split()[:2] == ["NEE", "2"] for line in lines)
    assert any(line.split()[:2] == ["ENF", "1"] for line in lines)
    assert max(map(len, lines)) <= 110
    assert repr(check(wrong)) == text


def test_dataset_without_variables_is_an_error(clean):
    with pytest.raises(VariableError, match=r"nothing to check: none of \['snow'\]"):
        check(clean[["snow"]])


def test_satellite_series_have_coverage_and_limits(clean):
    day = np.arange("2010-01-05", "2010-03-30", 8, "datetime64[D]").astype("datetime64[ns]")
    values = np.full((2, day.size), 0.5, np.float32)
    values[1, :4] = np.nan  # January
    flags = np.where(np.isnan(values), -1, 0).astype(np.int8)
    flags[0, day >= np.datetime64("2010-03-01")] = 2
    series = xr.Dataset(
        {"FAPAR": (("site", "day"), values), "FAPAR_QC": (("site", "day"), flags)},
        {"site": clean["site"].values, "day": day},
    )
    report = check(clean.carbon.join_satellite(series))
    assert not [finding for finding in report.findings if finding.topic == "satellite series"]
    thirds = report.coverage.sel(series="FAPAR")
    np.testing.assert_allclose(thirds["series_present"], [1, 2 / 3])
    np.testing.assert_allclose(thirds["series_good"], [2 / 3, 2 / 3])
    assert "FAPAR                2      83%        67%" in report.to_text()
    series["FAPAR"][1, 6:9] = 45
    (finding,) = (
        finding
        for finding in check(clean.carbon.join_satellite(series)).findings
        if finding.topic == "satellite series"
    )
    assert (finding.site, finding.variable) == (str(clean["site"].values[1]), "FAPAR")
    assert "3 values of FAPAR are beyond 0 to 1 [1]" in finding.message


def test_humidity_is_compared_in_the_units_of_the_vocabulary(clean):
    wrong = clean.assign(RH=clean["RH"] / 100, TA=clean["TA"] + 273.15)
    names = [("units", site, code) for site in ("SY-001", "SY-002") for code in ("RH", "TA")]
    assert sorted(found(wrong, "error")) == sorted(names)
    assert found(wrong, "warning") == []


@pytest.mark.parametrize("others", [["NEE"], ["NEE", "TA"], ["NEE", "TA", "RH"]])
def test_pressure_deficit_in_kilopascals_is_named_whatever_it_is_compared_with(others):
    ds = synthetic_towers(2, patches=False, variables=["TA", "RH", "VPD", "NEE"], seed=3).load()
    assert found(ds[[*others, "VPD"]], "error") == []
    severity = "warning" if others == ["NEE"] else "error"
    wrong = ds.assign(VPD=ds["VPD"] / 10)[[*others, "VPD"]]
    assert ("units", "SY-001", "VPD") in found(wrong, severity)


def test_reflectance_scaled_twice_is_named(clean):
    wrong = clean.assign(reflectance=clean["reflectance"] / 10_000)
    assert found(wrong, "error") == [("units", site, "reflectance") for site in ("SY-001", "SY-002")]
    assert "Multiply it by 10,000" in message(wrong, "units")


@pytest.mark.parametrize("value", [9999, 1e20, np.inf, -999])
def test_every_number_for_missing_values_is_found(clean, value):
    hour = np.arange(clean.sizes["time"])
    wrong = clean.assign(NEE=clean["NEE"].where(hour % 90, value))
    assert found(wrong, "error") == [("missing values", site, "NEE") for site in ("SY-001", "SY-002")]
    assert found(wrong, "warning") == []


def test_spikes_of_a_flux_are_found(clean):
    wrong = clean.assign(NEE=clean["NEE"].where(clean["time"].dt.hour != 3, 350))
    assert found(wrong, "warning") == [("bounds", site, "NEE") for site in ("SY-001", "SY-002")]


# Places


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


def test_grid_is_not_checked():
    grid = synthetic_grid(2, 2).isel(time=slice(24))
    with pytest.raises(MetadataError, match="check is for towers"):
        grid.carbon.check()
    with pytest.raises(MetadataError, match="check is for towers"):
        synthetic_towers(1, patches=False).isel(site=[]).carbon.check()
