"""Check of the satellite patches of a tower."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xcarbon.core.variables import Bounds
from xcarbon.quality.plausibility.series import OUT_OF_BOUNDS
from xcarbon.quality.plausibility.tower import Finding, TowerRecord

#: Plausible reflectance [1]; snow under a low sun has the highest.
REFLECTANCE = Bounds(0, 1.6)
#: Nearly all reflectance of a scene is below this limit [1] if the factor 0.0001 was applied twice.
SCALED_TWICE = 0.01


def patches(tower: TowerRecord) -> Iterator[Finding]:
    """Find towers without a patch, reflectance scaled twice, and over 0.1 % of it outside of 0 to 1.6."""
    if tower.reflectance is None:
        return
    pixels = tower.reflectance[~np.isnan(tower.reflectance)]
    if not pixels.size:
        message = "reflectance has no value. Check that the images cover the tower and were downloaded."
        yield tower.finding("warning", "patches", message, "reflectance")
        return
    if 0 < np.percentile(pixels, 99) < SCALED_TWICE:
        message = "reflectance is scaled twice. Multiply it by 10,000."
        yield tower.finding("error", "units", message, "reflectance")
        return
    wrong = pixels[(pixels < REFLECTANCE.lower) | (pixels > REFLECTANCE.upper)]
    if wrong.size > OUT_OF_BOUNDS * pixels.size:
        share, low, high = wrong.size / pixels.size, wrong.min(), wrong.max()
        found = f"reflectance is out of 0 to {REFLECTANCE.upper} in {share:.1%} of pixels"
        message = f"{found}, from {low:.4g} to {high:.4g}. Check the scale factor."
        yield tower.finding("warning", "patches", message, "reflectance")
