"""Checks against physics: radiation and the sun, humidity and saturation, NEE and the time of day."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xcarbon.prep.humidity import saturation_vapour_pressure
from xcarbon.prep.quality import MAX_QC
from xcarbon.prep.sun import Sunlight, Times, YearOfRadiation, years_of_radiation
from xcarbon.quality.plausibility.coordinates import latitude
from xcarbon.quality.plausibility.tower import Array, Finding, Severity, TowerRecord

#: Share of a year's hours of deep night with radiation [1]; 0.02 are the nights of one week.
LIT_NIGHTS = 0.02
#: Hours of a year with more radiation than above the atmosphere. Reflection and wet sensors cause a few.
EXCESS_HOURS = 10
#: Radiation of a year divided by potential radiation [1]; the cloudiest real year has 0.31 (CG-Tch).
DIM_YEAR = 0.2
#: Share of hours [1] in which the deficit exceeds the saturation vapour pressure by more than a margin [hPa].
#: Sensors of temperature and humidity differ, so that a share of 0.003 is common.
DRIER_THAN_DRY, DRY_MARGIN = 0.005, 0.5
#: Relative difference of the deficit from the one by temperature and humidity [1], median of hours.
HUMIDITY_OFF = 0.1
#: Classes without enough plants for an uptake of carbon at noon.
BARREN = ("BSV", "SNO", "URB", "WAT")
#: Minimum number of hours at noon, and at night, for the medians of a month.
_MIN_HOURS = 30
#: Higher than all quality flags.
_ANY_FLAG = 9


def radiation(tower: TowerRecord) -> Iterator[Finding]:
    """Compare SW_IN of each year with potential radiation.

    The check finds years with more than 10 W m-2 in over 2 % of the hours of deep night, with at least ten
    hours of more radiation than above the atmosphere, or with less than 20 % of potential radiation. Values
    with quality flags above 1 are compared separately and yield notes. Towers with a wrong latitude are not
    checked.
    """
    if tower.sun is None or "SW_IN" not in tower.values or any(latitude(tower)):
        return
    good = tower.read("SW_IN")
    rest = np.where(np.isnan(good), tower.read("SW_IN", max_qc=_ANY_FLAG), np.nan)
    yield from _implausible_years(tower, years_of_radiation(good, tower.time, tower.sun), "warning", "SW_IN")
    years = years_of_radiation(rest, tower.time, tower.sun)
    yield from _implausible_years(tower, years, "note", f"SW_IN with a quality flag above {MAX_QC}")


def _implausible_years(
    tower: TowerRecord, years: list[YearOfRadiation], severity: Severity, what: str
) -> Iterator[Finding]:
    """List the years in which radiation is impossible; ``what`` is the subject of the sentence."""
    lit = [f"{year.year} ({year.lit_nights:.0%} of hours)" for year in years if year.lit_nights > LIT_NIGHTS]
    bright = [f"{year.year} ({year.excess} hours)" for year in years if year.excess >= EXCESS_HOURS]
    dim = [f"{year.year} ({year.clearness:.0%})" for year in years if year.clearness < DIM_YEAR]
    for topic, odd, fault in (
        ("radiation at night", lit, "above 10 W m-2 in deep night"),
        ("too much radiation", bright, "above the radiation at the top of the atmosphere"),
        ("too little radiation", dim, f"below {DIM_YEAR:.0%} of potential radiation"),
    ):
        if odd:
            message = f"{what} is {fault} in {', '.join(odd)}. Correct these years or leave them out."
            yield tower.finding(severity, topic, message, "SW_IN")


def humidity(tower: TowerRecord) -> Iterator[Finding]:
    """Compare VPD with ``es(TA) (1 - RH / 100)``, and with the saturation vapour pressure ``es(TA)``.

    The check finds a difference of more than 10 % in the median hour, and a deficit that exceeds ``es(TA)``
    by more than 0.5 hPa in over 0.5 % of hours. Variables in another unit are converted first.
    """
    deficit, saturated = tower.read_converted("VPD"), saturation_vapour_pressure(tower.read_converted("TA"))
    expected = saturated * (1 - tower.read_converted("RH") / 100)
    clear = (expected > 1) & ~np.isnan(deficit)  # [hPa]; ratios of smaller deficits are noise
    ratio = float(np.median(deficit[clear] / expected[clear])) if clear.any() else np.nan
    if abs(ratio - 1) > HUMIDITY_OFF:
        message = f"VPD is {ratio:.2f} times the deficit by TA and RH in the median hour. Check all three."
        yield tower.finding("warning", "humidity", message, "VPD")
    both = ~np.isnan(deficit + saturated)
    share = np.mean(deficit[both] > saturated[both] + DRY_MARGIN) if both.any() else 0
    if share > DRIER_THAN_DRY:
        message = (
            f"VPD is above the saturation vapour pressure at TA in {share:.1%} of hours. Check TA and VPD."
        )
        yield tower.finding("warning", "humidity", message, "VPD")


def flipped_flux(tower: TowerRecord) -> Iterator[Finding]:
    """Find NEE with the wrong sign: release at noon and uptake at night.

    The medians are those of the month of the year in which noon and night differ most. Classes without
    plants are not checked.
    """
    if "NEE" not in tower.values or tower.sun is None or tower.igbp in BARREN:
        return
    noon, night = noon_and_night(tower.read("NEE"), tower.time, tower.sun)
    if noon > 0 > night:
        medians = f"{noon:.1f} umol m-2 s-1 at noon and {night:.1f} at night in its most active month"
        message = f"NEE is {medians}, but uptake must be negative. Change its sign."
        yield tower.finding("error", "sign", message, "NEE")


def noon_and_night(flux: Array, time: Times, sun: Sunlight) -> tuple[float, float]:
    """Compute the medians of a flux at noon and at night, in the month of the year in which they differ most.

    They are NaN if no month has enough hours of both.

    Examples
    --------
    >>> from xcarbon.prep.sun import sunlight
    >>> time = np.arange("2010-03", "2010-05", dtype="datetime64[h]")
    >>> sun = sunlight(time, lat=51.0, lon=13.5, utc_offset=1.0)
    >>> noon_and_night(np.where(sun.night, 3.0, -12.0), time, sun)
    (-12.0, 3.0)
    """
    month, known = time.astype("datetime64[M]").astype(int) % 12, ~np.isnan(flux)
    best, largest = (np.nan, np.nan), -1.0
    for number in range(12):
        noon, night = (flux[known & part & (month == number)] for part in (sun.noon, sun.night))
        if min(noon.size, night.size) < _MIN_HOURS:
            continue
        medians = (float(np.median(noon)), float(np.median(night)))
        if (difference := abs(medians[0] - medians[1])) > largest:
            best, largest = medians, difference
    return best
