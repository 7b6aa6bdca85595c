"""Quality checks of the record of one tower.

Each check is a function of a :class:`TowerRecord` that yields a :class:`Finding` for each problem. Values are
used up to the quality flag 1 unless the check states another limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xcarbon.core.variables import TARGETS, VARIABLES, Bounds
from xcarbon.prep.humidity import saturation_vapour_pressure
from xcarbon.prep.limits import apply_limits, apply_limits_to_column, is_code
from xcarbon.prep.quality import MAX_QC
from xcarbon.prep.sun import (
    Sunlight,
    Times,
    YearOfRadiation,
    clock_by_month,
    hours_between,
    season_of_sun,
    summer_time,
    sunlight,
    years_of_radiation,
)
from xcarbon.quality.units import Unit, find_unit

Array = NDArray[np.floating[Any]]
Severity = Literal["error", "warning", "note"]

#: Difference of ``utc_offset`` from the clock that the radiation indicates [hours]: it is suspicious above
#: the first limit, and wrong above the second. Tilted sensors and shaded mornings cause differences of up to
#: 0.36 at real towers (AU-Ync), and an error of half an hour is found (AU-TTE).
CLOCK_OFF, CLOCK_WRONG = 0.4, 0.75
#: Difference of a year's clock from that of all years [hours], in at least three months of the year.
CLOCK_JUMP = 0.45
#: Difference of ``utc_offset`` from ``lon / 15`` [hours]. Up to 1.9 occur (CN-Dan), 3 in the west of China.
CLOCK_OFF_LONGITUDE = 3.2
#: Hours by which a clock with daylight saving time is ahead in summer. Shade and gaps cause up to 0.58
#: (IT-SRo).
DAYLIGHT_SAVING = 0.7
#: Correlation of the seasonal cycle with that of the sun [1]: the sign of the latitude is wrong if it is
#: negative at the latitude, and above this limit at the opposite one. With the right sign, the second one is
#: at most -0.24 (TA of ZM-Mon) outside the inner tropics, where seasons do not follow the sun (GH-Ank: 0.46).
OTHER_SEASON = 0.5
#: Absolute latitude from which the season is checked [degree].
INNER_TROPICS = 10.0
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
#: Share of hours with two equal halves [1]; measured half-hours have at most 0.18 (SW_IN of US-Wi2).
UPSAMPLED = 0.5
#: Share of values out of bounds [1]; a smaller share is due to single spikes.
OUT_OF_BOUNDS = 1e-3
#: Consecutive hours with the same value, in the air and in the soil, where values change more slowly.
STUCK, STUCK_IN_SOIL = 24, 7 * 24
#: Distance from a bound as a share of the range [1] within which constant values are normal: fog, dusk, calm.
AT_REST = 0.01
#: All values below are markers of missing data: -9999 and -6999, or their mean with a measured half-hour.
NUMBER_FOR_MISSING = -3000.0
#: Plausible reflectance [1]; snow under a low sun has the highest.
REFLECTANCE = Bounds(0, 1.6)
#: Nearly all reflectance of a scene is below this limit [1] if the factor 0.0001 was applied twice.
SCALED_TWICE = 0.01
#: Classes without enough plants for an uptake of carbon at noon.
BARREN = ("BSV", "SNO", "URB", "WAT")
#: Minimum number of hours at noon, and at night, for the medians of a month.
_LEAST_HOURS = 30
#: Higher than all quality flags.
_ANY_FLAG = 9


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of the quality checks.

    Attributes
    ----------
    severity : {"error", "warning", "note"}
        Whether something is certainly wrong, is probably wrong, or should be known before the data is used.
    topic : str
        Subject of the check, for example ``"clock"``.
    message : str
        Sentences that state what was found, by how much, and what to do.
    site, variable : str
        Tower and variable; empty if the finding concerns all of them.
    """

    severity: Severity
    topic: str
    message: str
    site: str = ""
    variable: str = ""


@dataclass(frozen=True, kw_only=True)
class TowerRecord:
    """The arrays and the metadata of one tower.

    Attributes
    ----------
    site, igbp : str
        Identifier and class; empty if unknown.
    lat, lon, elevation, utc_offset : float
        Coordinates [degrees_north], [degrees_east], [m] and clock minus UTC [hours]; NaN if unknown.
    equal_halves : float
        Share of hours whose two half-hours were equal [1]; NaN if unknown.
    time : numpy.ndarray
        Starts of the hours, shape ``(hours,)``.
    values, flags : dict of str to numpy.ndarray
        Values (NaN where missing) and quality flags by variable, shape ``(hours,)``.
    reflectance : numpy.ndarray or None
        Reflectance [1], shape ``(day, band, y, x)``; NaN where missing.
    """

    site: str = ""
    igbp: str = ""
    lat: float = np.nan
    lon: float = np.nan
    elevation: float = np.nan
    utc_offset: float = np.nan
    equal_halves: float = np.nan
    time: Times
    values: dict[str, Array]
    flags: dict[str, NDArray[np.integer[Any]]] = field(default_factory=dict)
    reflectance: Array | None = None

    def read(self, code: str, max_qc: int = MAX_QC) -> Array:
        """Return values up to a quality flag, ``(hours,)``; NaN elsewhere, and if the variable is absent."""
        if code not in self.values:
            return np.full(self.time.shape, np.nan, "float32")
        values = apply_limits_to_column(self._numbers(code), VARIABLES[code].limits)
        return np.where(self.flags[code] > max_qc, np.nan, values) if code in self.flags else values

    def _numbers(self, code: str) -> Array:
        """Return all values without numbers for missing values, ``(hours,)``."""
        values = self.values[code]
        return np.where(marks_missing(values), np.nan, values)

    @cached_property
    def units(self) -> dict[str, Unit]:
        """Units of the variables that are not in the unit of the vocabulary."""
        found: dict[str, Unit] = {}
        known: dict[str, Array] = {} if self.sun is None else {"SW_IN_POT": self.sun.mean}
        # The unit of temperature and humidity is found first, because others are compared with them.
        for code in sorted(self.values, key=lambda code: (code not in ("RH", "SW_IN"), code != "TA")):
            values = self._numbers(code)
            if code in self.flags:
                values = np.where(self.flags[code] > MAX_QC, np.nan, values)
            others = known | ({"VPD": self.read("VPD")} if code == "TA" and "VPD" in self.values else {})
            unit = find_unit(code, values, others, self.elevation)
            if unit is not None:
                found[code] = unit
            if code in ("TA", "RH", "SW_IN"):
                known[code] = values if unit is None else unit.convert(values)
        return found

    def read_converted(self, code: str) -> Array:
        """Return values up to the quality flag 1 in the unit of the vocabulary, ``(hours,)``."""
        if code not in self.units:
            return self.read(code)
        values = self.units[code].convert(self._numbers(code))
        return np.where(self.flags[code] > MAX_QC, np.nan, values) if code in self.flags else values

    @cached_property
    def clock(self) -> tuple[Times, Array]:
        """Months, and the UTC offset [hours] that the radiation indicates in each, both ``(months,)``."""
        light = next((code for code in ("SW_IN", "PPFD_IN", "SW_IN_POT") if code in self.values), None)
        if light is None or not np.isfinite(self.lat + self.lon):
            return np.array([], "datetime64[M]"), np.array([])
        return clock_by_month(self.read(light, max_qc=0), self.time, self.lat, self.lon)

    @property
    def offset_by_sun(self) -> float:
        """UTC offset [hours] that the radiation indicates; NaN with fewer than three months."""
        return float(np.median(self.clock[1])) if self.clock[1].size >= 3 else np.nan

    @property
    def offset(self) -> float:
        """Best estimate of the UTC offset [hours]."""
        guesses = (self.offset_by_sun, self.utc_offset, self.lon / 15)
        return next((guess for guess in guesses if np.isfinite(guess)), np.nan)

    @cached_property
    def sun(self) -> Sunlight | None:
        """Potential radiation, night and noon by the best estimate of the clock; None without coordinates."""
        if not np.isfinite(self.lat + self.lon):
            return None
        return sunlight(self.time, self.lat, self.lon, self.offset)

    def finding(self, severity: Severity, topic: str, message: str, variable: str = "") -> Finding:
        """Return a finding about this tower."""
        return Finding(severity, topic, message, self.site, variable)


def run_checks(tower: TowerRecord) -> list[Finding]:
    """Run all checks on one tower.

    Examples
    --------
    >>> time = np.arange("2010-06", "2010-08", dtype="datetime64[h]")
    >>> stuck = TowerRecord(time=time, values={"TA": np.full(time.size, 7.2)}, elevation=5, utc_offset=1)
    >>> print(run_checks(stuck)[0].message)
    TA stays at 7.2 degC for 1464 hours from 2010-06-01 00:00. Check the sensor, and replace ... by NaN.
    """
    return [finding for check in CHECKS for finding in check(tower)]


# --- Clocks ------------------------------------------------------------------------


def clock(tower: TowerRecord) -> Iterator[Finding]:
    """Compare ``utc_offset`` with the clock that the radiation indicates, or with the longitude.

    The check finds an offset that is missing, has the wrong sign or is off by more than 0.4 h (an error above
    0.75 h), daylight saving time, and years with another clock. Without three months of radiation, the offset
    is compared with ``lon / 15`` instead, with a tolerance of 3.2 h.
    """
    by_sun = tower.offset_by_sun
    if not np.isfinite(by_sun):
        yield from _clock_by_longitude(tower)
    elif ahead := _summer_time(tower):
        yield tower.finding("error", "daylight saving", f"{ahead}. Convert the time to standard time.")
    elif not np.isfinite(tower.utc_offset):
        message = f"utc_offset is missing. Set it; the radiation indicates {_utc(by_sun)} ({by_sun:.2f} h)."
        yield tower.finding("warning", "clock", message)
    else:
        yield from _clock_by_sun(tower)


def _clock_by_sun(tower: TowerRecord) -> Iterator[Finding]:
    """Compare ``utc_offset`` with the radiation of all months, and each year with all years."""
    stated, by_sun = tower.utc_offset, tower.offset_by_sun
    error = hours_between(by_sun, stated)
    if abs(error) > CLOCK_WRONG:
        found = f"utc_offset is {_utc(stated)}, but the radiation indicates {_utc(by_sun)} ({by_sun:.2f} h)"
        yield tower.finding("error", "clock", f"{found}. {_clock_advice(tower)}")
    elif abs(error) > CLOCK_OFF:
        message = (
            f"The radiation indicates a clock {error:+.1f} h off utc_offset. Check for shifted time labels."
        )
        yield tower.finding("warning", "clock", message)
    months, offsets = tower.clock
    years = months.astype("datetime64[Y]")
    for year in np.unique(years):
        jump = hours_between(float(np.median(offsets[years == year])), by_sun)
        if np.count_nonzero(years == year) >= 3 and abs(jump) > CLOCK_JUMP:
            message = (
                f"The clock of {year} is {jump:+.1f} h off that of all years. Check the time of this year."
            )
            yield tower.finding("note", "clock", message)


def _clock_advice(tower: TowerRecord) -> str:
    """Return what to correct where radiation, ``utc_offset`` and longitude disagree.

    The radiation shows the difference between ``utc_offset`` and the longitude, so that either can be wrong.
    The longitude is corrected if the offset fits with the other sign of the longitude, and the offset if it
    fits with its own other sign. If both fit, the country in the identifier decides where it can.
    """
    by_sun, stated, lon = tower.offset_by_sun, tower.utc_offset, tower.lon
    if _is_swapped(tower):
        return (
            f"utc_offset fits a longitude of {tower.lat:g}, which is the latitude, so that the two are "
            f"probably swapped. The tower is then at {lon:g} N, {tower.lat:g} E; check this on a map."
        )
    other_offset = abs(hours_between(by_sun, -stated)) < CLOCK_WRONG
    other_longitude = abs(hours_between(by_sun - 2 * lon / 15, stated)) < CLOCK_OFF
    hemisphere = _hemisphere(tower.site)
    if hemisphere:
        other_longitude = other_longitude and hemisphere * lon < 0
        other_offset = other_offset and not other_longitude
    if other_longitude and other_offset:
        return (
            f"The longitude {lon:g} or utc_offset has the wrong sign. Look up the tower on a map, and change "
            "the sign of one of them."
        )
    if other_longitude:
        return (
            f"utc_offset fits the longitude {-lon:g} instead of {lon:g}, so the sign of the longitude is "
            "wrong. Change the sign of the longitude, not utc_offset."
        )
    if other_offset:
        return "Change its sign."
    fitting = (lon - 15 * hours_between(by_sun, stated) + 180) % 360 - 180
    return (
        f"Correct utc_offset or the longitude: utc_offset would fit a longitude near {fitting:.0f}, and the "
        f"longitude is {lon:g}."
    )


#: Countries, as in the identifiers of towers, that lie entirely west or east of Greenwich. The few towers of
#: the United States in the western Pacific are neglected.
WEST = "AR BO BR CA CL CO CR CU EC GF GL GT GY IE IS MX NI PA PE PR PT PY SN SR US UY VE"
EAST = (
    "AT AU BE BG BW CD CG CH CN CY CZ DE DK EE EG FI GR HR HU ID IL IN IT JP KE KH KR LA LT LU LV MN MY MZ "
    "NA NL NO PH PL RO RS RW SD SE SG SI SJ SK TH TR TW TZ UA UG UZ VN ZA ZM ZW"
)


def _hemisphere(site: str) -> int:
    """Return 1 for the country of a tower in the east, -1 in the west, 0 if it is unknown or in both."""
    country = site.partition("-")[0]
    return (country in EAST.split()) - (country in WEST.split())


def _clock_by_longitude(tower: TowerRecord) -> Iterator[Finding]:
    """Compare ``utc_offset`` with the longitude, for towers without radiation."""
    by_longitude = tower.lon / 15
    if not np.isfinite(tower.utc_offset):
        guess = f"; the longitude indicates {_utc(round(by_longitude))}" if np.isfinite(by_longitude) else ""
        yield tower.finding("warning", "clock", f"utc_offset is missing. Set it{guess}.")
    elif abs(hours_between(tower.utc_offset, by_longitude)) > CLOCK_OFF_LONGITUDE:
        indicated = _utc(round(by_longitude))
        message = (
            f"utc_offset is {_utc(tower.utc_offset)}, but the longitude indicates {indicated}. Correct one."
        )
        if abs(hours_between(tower.utc_offset, -by_longitude)) <= CLOCK_OFF_LONGITUDE:
            message += f" One of them may have lost its sign: the longitude is {tower.lon:g}."
        yield tower.finding("error", "clock", message)


def _summer_time(tower: TowerRecord) -> str:
    """Return a clause about the years with daylight saving time; empty if there are none."""
    months, offsets = tower.clock
    years = months.astype("datetime64[Y]")
    ahead = {
        str(year): summer_time(months[years == year], offsets[years == year], tower.lat)
        for year in np.unique(years)
    }
    ahead = {year: hours for year, hours in ahead.items() if hours > DAYLIGHT_SAVING}
    if not ahead:
        return ""
    hours = np.median(list(ahead.values()))
    return f"The clock is about {hours:.1f} h ahead in the summers of {', '.join(ahead)}"


def _utc(offset: float) -> str:
    """Format a UTC offset, rounded to half an hour."""
    return f"UTC{round(2 * offset) / 2:+g}"


# --- Places ------------------------------------------------------------------------


def latitude(tower: TowerRecord) -> Iterator[Finding]:
    """Compare the season of radiation, or else of temperature, with that of the sun at the latitude.

    The check finds a latitude with the wrong sign, except in the inner tropics. It needs measured values in
    six months of the year.
    """
    if not abs(tower.lat) >= INNER_TROPICS or _is_swapped(tower):
        return
    for code in ("SW_IN", "PPFD_IN", "SW_IN_POT", "TA"):
        own, other = season_of_sun(tower.read(code, max_qc=0), tower.time, tower.lat)
        if np.isfinite(own):
            if own < 0 and other > OTHER_SEASON:
                message = (
                    f"The season of {code} is that of the latitude {-tower.lat:g}: its correlation with the "
                    f"sun is {other:.2f} there, and {own:.2f} at the latitude {tower.lat:g}. Change the sign "
                    "of the latitude."
                )
                yield tower.finding("error", "latitude", message)
            return


def _is_swapped(tower: TowerRecord) -> bool:
    """Return whether the clock fits the radiation only if latitude and longitude are swapped."""
    if (
        not abs(tower.lon) <= 90
        or not abs(hours_between(tower.offset_by_sun, tower.utc_offset)) > CLOCK_WRONG
    ):
        return False
    swapped = tower.offset_by_sun + (tower.lat - tower.lon) / 15
    return abs(hours_between(swapped, tower.utc_offset)) < CLOCK_OFF


# --- Radiation ---------------------------------------------------------------------


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
    yield from _odd_years(tower, years_of_radiation(good, tower.time, tower.sun), "warning", "SW_IN")
    years = years_of_radiation(rest, tower.time, tower.sun)
    yield from _odd_years(tower, years, "note", f"SW_IN with a quality flag above {MAX_QC}")


def _odd_years(
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


# --- Air ---------------------------------------------------------------------------


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


def units(tower: TowerRecord) -> Iterator[Finding]:
    """Find variables in another unit than that of the vocabulary.

    The check finds VPD in kPa or Pa, PA in hPa, Pa, bar or mmHg, RH and SWC as fractions, temperatures in K
    or degF, precipitation in m or inches, radiation in kW m-2, MJ m-2 or photons, photons in mol m-2 s-1 or
    W m-2, CO2 in mol mol-1, mmol mol-1 or mmol m-3, carbon fluxes in mol m-2 s-1, and methane in mol or
    umol m-2 s-1. Each variable is judged by its own range and, where these are known, by the saturation
    vapour pressure, the potential radiation or the elevation.
    """
    for code, unit in tower.units.items():
        sure = "it is in" if unit.is_certain else "it is probably in"
        message = f"The values of {code} show that {sure} {unit.name}. {unit.advice} to get "
        message += f"{VARIABLES[code].units}."
        yield tower.finding("error" if unit.is_certain else "warning", "units", message, code)


# --- Any variable ------------------------------------------------------------------


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


def marks_missing(values: Array) -> NDArray[np.bool_]:
    """Return where values are numbers for missing values, or means of -9999 and a measured half-hour."""
    return is_code(values) | (values <= NUMBER_FOR_MISSING)


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


# --- Fluxes, places and patches ----------------------------------------------------


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
    >>> time = np.arange("2010-03", "2010-05", dtype="datetime64[h]")
    >>> sun = sunlight(time, lat=51.0, lon=13.5, utc_offset=1.0)
    >>> noon_and_night(np.where(sun.night, 3.0, -12.0), time, sun)
    (-12.0, 3.0)
    """
    month, known = time.astype("datetime64[M]").astype(int) % 12, ~np.isnan(flux)
    best = (np.nan, np.nan)
    for number in range(12):
        noon, night = (flux[known & part & (month == number)] for part in (sun.noon, sun.night))
        if min(noon.size, night.size) < _LEAST_HOURS:
            continue
        medians = (float(np.median(noon)), float(np.median(night)))
        if not abs(medians[0] - medians[1]) <= abs(
            best[0] - best[1]
        ):  # true for the first, where best is NaN
            best = medians
    return best


def elevation(tower: TowerRecord) -> Iterator[Finding]:
    """Find towers without elevation."""
    if not np.isfinite(tower.elevation):
        yield tower.finding("note", "metadata", "The elevation is missing. Add it to the metadata.")


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


#: All checks, in the order in which they run.
CHECKS = (
    clock, latitude, radiation, humidity, units, plausible, gap_filled, stuck, halves,
    flipped_flux, elevation, patches,
)  # fmt: skip
