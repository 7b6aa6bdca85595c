"""Quality checks of the record of one tower.

Each check is a function of a :class:`TowerRecord` that yields a :class:`Finding` for each problem. Values are
used up to the quality flag 1 unless the check states another limit. The thresholds are next to the checks.
"""

from __future__ import annotations

from xcarbon.quality.plausibility.coordinates import clock, elevation, latitude
from xcarbon.quality.plausibility.physics import flipped_flux, humidity, radiation
from xcarbon.quality.plausibility.reflectance import patches
from xcarbon.quality.plausibility.series import gap_filled, halves, plausible, stuck, units
from xcarbon.quality.plausibility.tower import Finding, TowerRecord

__all__ = ["CHECKS", "Finding", "TowerRecord", "run_checks"]

#: All checks, in the order in which they run.
CHECKS = (
    clock, latitude, radiation, humidity, units, plausible, gap_filled, stuck, halves,
    flipped_flux, elevation, patches,
)  # fmt: skip


def run_checks(tower: TowerRecord) -> list[Finding]:
    """Run all checks on one tower.

    Examples
    --------
    >>> import numpy as np
    >>> time = np.arange("2010-06", "2010-08", dtype="datetime64[h]")
    >>> stuck = TowerRecord(time=time, values={"TA": np.full(time.size, 7.2)}, elevation=5, utc_offset=1)
    >>> print(run_checks(stuck)[0].message)
    TA stays at 7.2 degC for 1464 hours from 2010-06-01 00:00. Check the sensor, and replace ... by NaN.
    """
    return [finding for check in CHECKS for finding in check(tower)]
