"""Checks of any variable on its own: units, range, gap-filling, and values that repeat."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from xcarbon.core.variables import TARGETS, VARIABLES
from xcarbon.prep.limits import apply_limits
from xcarbon.prep.quality import MAX_QC
from xcarbon.quality.plausibility.tower import Finding, TowerRecord, marks_missing

#: Share of hours with two equal halves [1]; measured half-hours have at most 0.18 (SW_IN of US-Wi2).
UPSAMPLED = 0.5
#: Share of values out of bounds [1]; a smaller share is due to single spikes.
OUT_OF_BOUNDS = 1e-3
#: Consecutive hours with the same value, in the air and in the soil, where values change more slowly.
STUCK, STUCK_IN_SOIL = 24, 7 * 24
#: Distance from a bound as a share of the range [1] within which constant values are normal: fog, dusk, calm.
AT_REST = 0.01


def units(tower: TowerRecord) -> Iterator[Finding]:
    """Find variables in another unit than that of the vocabulary.

    The check finds VPD in kPa or Pa, PA in hPa, Pa, bar or mmHg, RH and SWC as fractions, temperatures in K
    or degF, precipitation in m or inches, radiation in kW m-2, MJ m-2 or photons, photons in mol m-2 s-1 or
    W m-2, CO2 in mol mol-1, mmol mol-1 or mmol m-3, carbon fluxes in mol m-2 s-1, and methane in mol or
    umol m-2 s-1. The unit is found from the range of the values and, where these are known, from the
    saturation vapour pressure, the potential radiation or the elevation.
    """
    for code, unit in tower.units.items():
        sure = "it is in" if unit.is_certain else "it is probably in"
        message = f"The values of {code} show that {sure} {unit.name}. {unit.advice} to get "
        message += f"{VARIABLES[code].units}."
        yield tower.finding("error" if unit.is_certain else "warning", "units", message, code)


def plausible(tower: TowerRecord) -> Iterator[Finding]:
    """Find numbers that mark missing values, and variables with over 0.1 % of values out of their range.

    The range is that of the plausibility limits, with their margins, and that of the scaling bounds.
    """
    for code, series in tower.values.items():
        known, missing = ~np.isnan(series), marks_missing(series)
        if lost := np.count_nonzero(missing):
            marks = np.unique(series[missing])
            shown = ", ".join(f"{mark:g}" for mark in marks[:3]) + (" ..." if marks.size > 3 else "")
            message = f"{code} has {lost} values that mark gaps: {shown}. Replace them by NaN."
            yield tower.finding("error", "missing values", message, code)
        if code in tower.units:
            continue
        limits, bounds = VARIABLES[code].limits, VARIABLES[code].bounds or VARIABLES[code].limits
        lower, upper = max(limits.lower, bounds.lower), min(limits.upper, bounds.upper)
        used = apply_limits(series, limits)
        wrong = known & ~missing & ~((used >= lower) & (used <= upper))
        if wrong.sum() > OUT_OF_BOUNDS * known.sum():
            worst = series[wrong][np.abs(series[wrong] - (lower + upper) / 2).argmax()]
            message = (
                f"{code} is out of {lower:g} to {upper:g} {VARIABLES[code].units} in "
                f"{wrong.sum() / known.sum():.1%} of its values; the worst is {worst:g}. Models read these "
                "values as missing; check the units and the sensor."
            )
            yield tower.finding("warning", "bounds", message, code)


def gap_filled(tower: TowerRecord) -> Iterator[Finding]:
    """Find variables without a measured value."""
    for code, flags in tower.flags.items():
        known = ~np.isnan(tower.values[code]) & (flags >= 0)
        if known.any() and flags[known].min() >= 1:
            readable = np.mean(flags[known] <= MAX_QC)
            message = (
                f"{code} has no measured value, and {readable:.0%} of its filled values have quality flag "
                f"{MAX_QC}. Models read the others as missing; do not use {code} as a measurement."
            )
            yield tower.finding("warning", "gap-filled", message, code)


def stuck(tower: TowerRecord) -> Iterator[Finding]:
    """Find sensors that repeat a measured value for more than a day, or for more than a week in the soil.

    Precipitation is not checked, nor are values that are 0 or close to a bound.
    """
    for code in tower.values:
        if code == "P" or (code in TARGETS and code != "NEE"):
            continue
        series, bounds = tower.read(code, max_qc=0), VARIABLES[code].bounds
        if bounds:
            margin = AT_REST * (bounds.upper - bounds.lower)
            resting = (series < bounds.lower + margin) | (series > bounds.upper - margin)
            series = np.where(resting, np.nan, series)
        start, length = longest_run((series[1:] == series[:-1]) & (series[1:] != 0))
        limit = STUCK_IN_SOIL if code.startswith(("SWC", "TS", "WTD")) else STUCK
        if length + 1 > limit:
            when = str(tower.time[start].astype("datetime64[m]")).replace("T", " ")
            message = (
                f"{code} stays at {series[start]:.4g} {VARIABLES[code].units} for {length + 1} hours from "
                f"{when}. Check the sensor, and replace these values by NaN."
            )
            yield tower.finding("warning", "stuck sensor", message, code)


def longest_run(true: NDArray[np.bool_]) -> tuple[int, int]:
    """Return start and length of the longest run of true values; the length is 0 if there is none.

    Examples
    --------
    >>> longest_run(np.array([True, False, True, True]))
    (2, 2)
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], true, [False]])))
    if not edges.size:
        return 0, 0
    lengths = edges[1::2] - edges[::2]
    return int(edges[2 * lengths.argmax()]), int(lengths.max())


def halves(tower: TowerRecord) -> Iterator[Finding]:
    """Find hourly data that was submitted as half-hourly: more than half of the hours have equal halves."""
    if tower.equal_halves > UPSAMPLED:
        share = f"{tower.equal_halves:.0%}"
        message = f"{share} of hours have two equal half-hours, so the source is hourly. Use hourly data."
        yield tower.finding("warning", "upsampled", message)
