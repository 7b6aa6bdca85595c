"""Patches that are empty or wrongly scaled are found."""

from __future__ import annotations

import numpy as np

from tests.quality.samples import found, message
from xcarbon.quality.checks import check


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


def test_reflectance_scaled_twice_is_named(clean):
    wrong = clean.assign(reflectance=clean["reflectance"] / 10_000)
    assert found(wrong, "error") == [("units", site, "reflectance") for site in ("SY-001", "SY-002")]
    assert "Multiply it by 10,000" in message(wrong, "units")
