"""Units are found by ranges and physics, and right values are in the right unit."""

from __future__ import annotations

import numpy as np
import pytest

from xcarbon.prep.humidity import saturation_vapour_pressure
from xcarbon.prep.other_units import find_unit, find_units
from xcarbon.prep.sun import sunlight

TIME = np.arange("2010-01-01", "2011-01-01", dtype="datetime64[h]")
POTENTIAL = sunlight(TIME, lat=51.0, lon=13.5, utc_offset=1.0).mean
NOISE = np.random.default_rng(0)
TA = 10 - 12 * np.cos(2 * np.pi * np.arange(TIME.size) / 8766) + 5 * POTENTIAL / 1000
RH = np.clip(90 - POTENTIAL / 20 + NOISE.normal(0, 4, TIME.size), 15, 100)
#: Plausible values of a year in the units of the vocabulary.
RIGHT = {
    "TA": TA,
    "TS_1": TA * 0.6 + 4,
    "RH": RH,
    "SWC_1": NOISE.uniform(8, 45, TIME.size),
    "VPD": saturation_vapour_pressure(TA) * (1 - RH / 100),
    "PA": NOISE.normal(97, 1, TIME.size),
    "CO2": NOISE.normal(400, 15, TIME.size),
    "P": np.where(NOISE.random(TIME.size) < 0.1, NOISE.gamma(0.6, 1.5, TIME.size), 0),
    "SW_IN": POTENTIAL * NOISE.uniform(0.2, 0.75, TIME.size),
    "PPFD_IN": POTENTIAL * 2.02 * NOISE.uniform(0.2, 0.75, TIME.size),
    "NEE": 3 - POTENTIAL / 60 + NOISE.normal(0, 2, TIME.size),
    "FCH4": NOISE.normal(20, 15, TIME.size),
}
CASES = [
    ("TA", lambda x: x + 273.15, "K"),
    ("TA", lambda x: x * 1.8 + 32, "degF"),
    ("TS_1", lambda x: x + 273.15, "K"),
    ("TS_1", lambda x: x * 1.8 + 32, "degF"),
    ("RH", lambda x: x / 100, "fractions"),
    ("SWC_1", lambda x: x / 100, "fractions"),
    ("VPD", lambda x: x / 10, "kPa"),
    ("VPD", lambda x: x * 100, "Pa"),
    ("PA", lambda x: x * 10, "hPa"),
    ("PA", lambda x: x * 1000, "Pa"),
    ("PA", lambda x: x / 100, "bar"),
    ("CO2", lambda x: x / 1e6, "mol mol-1"),
    ("CO2", lambda x: x / 1e3, "mmol mol-1"),
    ("CO2", lambda x: x / 24, "mmol m-3"),
    ("P", lambda x: x / 1000, "m"),
    ("P", lambda x: x / 25.4, "inches"),
    ("SW_IN", lambda x: x / 1000, "kW m-2"),
    ("SW_IN", lambda x: x * 3600 / 1e6, "MJ m-2 per hour"),
    ("PPFD_IN", lambda x: x / 1e6, "mol m-2 s-1"),
    ("NEE", lambda x: x / 1e6, "mol m-2 s-1"),
    ("FCH4", lambda x: x / 1e9, "mol m-2 s-1"),
    ("FCH4", lambda x: x / 1e3, "umol m-2 s-1"),
]
OTHERS = {"TA": TA, "RH": RH, "SW_IN_POT": POTENTIAL}


@pytest.mark.parametrize(("code", "convert", "name"), CASES)
def test_units_of_a_whole_tower_are_found_without_coordinates(code, convert, name):
    values = {known: RIGHT[known] for known in ("TA", "RH", "VPD", "SW_IN", code)} | {
        code: convert(RIGHT[code])
    }
    assert {code: unit.name.split(" instead")[0] for code, unit in find_units(values).items()} == {code: name}


def find(code, values, others):
    return find_unit(code, values, {name: values for name, values in others.items() if name != code})


@pytest.mark.parametrize("others", [{}, OTHERS, {"TA": TA}], ids=["alone", "with others", "with TA"])
@pytest.mark.parametrize("code", RIGHT)
def test_right_values_are_in_the_right_unit(code, others):
    assert find(code, RIGHT[code], others) is None


@pytest.mark.parametrize("others", [{}, OTHERS, {"TA": TA}], ids=["alone", "with others", "with TA"])
@pytest.mark.parametrize(("code", "change", "name"), CASES)
def test_other_unit_is_named_and_converted(code, change, name, others):
    unit = find(code, change(RIGHT[code]), others)
    assert unit is not None and unit.name.split()[0] == name.split()[0]
    np.testing.assert_allclose(unit.convert(change(RIGHT[code])), RIGHT[code], rtol=0.02, atol=1e-6)


def test_radiation_that_is_photons_is_named_by_potential_radiation():
    assert find("SW_IN", RIGHT["PPFD_IN"] * 1.4, OTHERS).name == "umol m-2 s-1 of photons"
    assert find_unit("PPFD_IN", RIGHT["SW_IN"] * 0.45, {"SW_IN": RIGHT["SW_IN"]}).name == "W m-2"


def test_polar_night_has_no_unit():
    dark = np.full(TIME.size, 0.3)
    assert find_unit("SW_IN", dark, {"SW_IN_POT": np.full(TIME.size, 20.0)}) is None


def test_cold_fahrenheit_is_named_by_humidity():
    cold = TA - 20
    vpd = saturation_vapour_pressure(cold) * (1 - RH / 100)
    assert find_unit("TA", cold * 1.8 + 32, {"RH": RH, "VPD": vpd}).name == "degF"
    assert find_unit("TA", cold, {"RH": RH, "VPD": vpd}) is None


def test_millimetres_of_mercury_are_named_by_the_elevation():
    assert find_unit("PA", np.full(200, 570.0), {}, elevation=2400.0).name == "mmHg"
    assert find_unit("PA", np.full(200, 760.0), {}, elevation=2400.0).name == "hPa"


def test_few_values_are_not_judged():
    assert find_unit("PA", np.full(100, 1013.0), {}) is None
