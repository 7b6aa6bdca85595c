"""Wrong units, ranges and repeated values of any variable are found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.quality.samples import found
from xcarbon.prep import clock
from xcarbon.quality.checks import check
from xcarbon.quality.plausibility import TowerRecord
from xcarbon.quality.plausibility.series import gap_filled
from xcarbon.quality.plausibility.series import stuck as stuck_in
from xcarbon.testing import synthetic_towers


@pytest.mark.parametrize(("code", "factor", "unit"), [("VPD", 0.1, "kPa"), ("PA", 10, "hPa")])
def test_wrong_units_are_named(clean, code, factor, unit):
    wrong = clean.assign({code: clean[code] * factor})
    assert found(wrong, "error") == [("units", "SY-001", code), ("units", "SY-002", code)]
    assert f"it is in {unit}" in check(wrong).findings[0].message


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
    tower = TowerRecord(time=np.arange(400).astype("datetime64[h]"), values={code: values})
    assert len(list(stuck_in(tower))) == stuck


def test_filled_values_do_not_look_stuck():
    values, time = np.full(100, 5.0), np.arange(100).astype("datetime64[h]")
    tower = TowerRecord(time=time, values={"TA": values}, flags={"TA": np.ones(100, "int8")})
    assert list(stuck_in(tower)) == []
    assert [finding.topic for finding in gap_filled(tower)] == ["gap-filled"]


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


@pytest.mark.parametrize("others", [["NEE"], ["NEE", "TA"], ["NEE", "TA", "RH"]])
def test_pressure_deficit_in_kilopascals_is_named_whatever_it_is_compared_with(others):
    ds = synthetic_towers(2, patches=False, variables=["TA", "RH", "VPD", "NEE"], seed=3).load()
    assert found(ds[[*others, "VPD"]], "error") == []
    severity = "warning" if others == ["NEE"] else "error"
    wrong = ds.assign(VPD=ds["VPD"] / 10)[[*others, "VPD"]]
    assert ("units", "SY-001", "VPD") in found(wrong, severity)


@pytest.mark.parametrize("value", [9999, 1e20, np.inf, -999])
def test_every_number_for_missing_values_is_found(clean, value):
    hour = np.arange(clean.sizes["time"])
    wrong = clean.assign(NEE=clean["NEE"].where(hour % 90, value))
    assert found(wrong, "error") == [("missing values", site, "NEE") for site in ("SY-001", "SY-002")]
    assert found(wrong, "warning") == []


def test_spikes_of_a_flux_are_found(clean):
    wrong = clean.assign(NEE=clean["NEE"].where(clean["time"].dt.hour != 3, 350))
    assert found(wrong, "warning") == [("bounds", site, "NEE") for site in ("SY-001", "SY-002")]
