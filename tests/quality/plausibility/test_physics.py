"""Fluxes and humidity that are physically impossible are found."""

from __future__ import annotations

import pytest

from tests.quality.samples import found


@pytest.mark.parametrize("site", ["DE-Tha", "AU-How", "BR-Sa1"])
def test_flipped_flux_is_found(real_towers, site):
    ds = real_towers[["NEE", "NEE_QC"]].sel(site=[site], time=slice("2002", "2004")).load()
    assert found(ds, "error") == []
    assert found(ds.assign(NEE=-ds["NEE"]), "error") == [("sign", site, "NEE")]


def test_flux_of_bare_ground_may_have_any_sign(tharandt):
    bare = tharandt.assign(NEE=-tharandt["NEE"]).assign_coords(igbp=("site", ["BSV"]))
    assert found(bare, "error") == []


def test_humidity_that_does_not_fit_is_found(clean):
    assert ("humidity", "SY-001", "VPD") in found(clean.assign(VPD=clean["VPD"] * 1.3), "warning")
    drier = clean.drop_vars("RH").assign(VPD=clean["VPD"].where(clean["time"].dt.day > 1, 60))
    assert found(drier, "warning") == [("humidity", site, "VPD") for site in ("SY-001", "SY-002")]


def test_humidity_is_compared_in_the_units_of_the_vocabulary(clean):
    wrong = clean.assign(RH=clean["RH"] / 100, TA=clean["TA"] + 273.15)
    names = [("units", site, code) for site in ("SY-001", "SY-002") for code in ("RH", "TA")]
    assert sorted(found(wrong, "error")) == sorted(names)
    assert found(wrong, "warning") == []
