"""Quality checks find the faults of towers and nothing else, and the report lists them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from tests.quality.samples import by_site, found
from xcarbon.core.errors import MetadataError, VariableError
from xcarbon.quality.cf import cf_findings
from xcarbon.quality.checks import check
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


def test_real_towers(real_towers):
    found = by_site(check(real_towers.sel(site=list(REAL))))
    assert {site: found[site].keys() for site in REAL} == {site: REAL[site].keys() for site in REAL}
    for site, expected in REAL.items():
        for topic, fragment in expected.items():
            assert fragment in found[site][topic]


def test_nothing_is_wrong_with_good_towers(clean):
    assert check(clean).findings == ()


def test_one_tower_under_two_names_is_found(clean):
    twin = clean.isel(site=[0]).assign_coords(site=["XX-Two"])
    twin = twin.assign(NEE=twin["NEE"].where(twin["time"].dt.month == 2))  # a part of the record
    assert found(xr.concat([clean, twin], "site"), "error") == [("duplicate", "XX-Two", "")]


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


def test_grid_is_not_checked():
    grid = synthetic_grid(2, 2).isel(time=slice(24))
    with pytest.raises(MetadataError, match="check is for towers"):
        grid.carbon.check()
    with pytest.raises(MetadataError, match="check is for towers"):
        synthetic_towers(1, patches=False).isel(site=[]).carbon.check()
