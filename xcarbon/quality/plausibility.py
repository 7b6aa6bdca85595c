"""The traps in tower records: each a function of one tower's arrays that says what it found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xcarbon.core.variables import TARGETS, VARIABLES, Bounds
from xcarbon.prep.humidity import saturation_vapour_pressure
from xcarbon.prep.quality import MAX_QC
from xcarbon.prep.sun import (
    Sunlight,
    Times,
    YearOfRadiation,
    clock_by_month,
    hours_between,
    summer_time,
    sunlight,
    years_of_radiation,
)

Array = NDArray[np.floating[Any]]
Severity = Literal["error", "warning", "note"]

#: A clock that is off by more [hours] shows another hour than its offset says. Tilted sensors and shaded
#: mornings move the sun's clock of a real tower by up to 0.36 (AU-Ync); half an hour is seen (AU-TTE).
CLOCK_OFF, CLOCK_WRONG = 0.4, 0.75
#: A year whose clock differs by as much [hours] from the tower's other years, in three months or more.
CLOCK_JUMP = 0.45
#: Clocks of countries are up to 1.9 h off the sun (CN-Dan), and three in the very west of China [hours].
CLOCK_OFF_LONGITUDE = 3.2
#: A clock that is as much ahead in summer [hours]; shade, or a broken year, make 0.58 (IT-SRo).
DAYLIGHT_SAVING = 0.7
#: Share of a year's deep night with radiation [1]: two percent are a week's nights.
LIT_NIGHTS = 0.02
#: Hours of a year above the atmosphere's light; reflections and wet sensors make a few.
EXCESS_HOURS = 10
#: Radiation of a year over potential radiation [1]; the cloudiest real year has 0.31 (CG-Tch).
DIM_YEAR = 0.2
#: Share of hours [1] whose deficit is above what saturated air holds, by more than [hPa]: sensors of
#: temperature and humidity differ, and three in a thousand hours are common.
DRIER_THAN_DRY, DRY_MARGIN = 0.005, 0.5
#: Relative difference of a deficit from that of temperature and humidity [1], in the median hour.
HUMIDITY_OFF = 0.1
#: Share of hours whose halves are equal [1]: at most 0.18 where they were measured (SW_IN of US-Wi2).
UPSAMPLED = 0.5
#: Share of values out of bounds [1] that is more than a spike now and then.
OUT_OF_BOUNDS = 1e-3
#: Hours of the same value: no sensor in the air repeats itself for longer than a day; soil may.
STUCK, STUCK_IN_SOIL = 24, 7 * 24
#: Closer to a bound than this share of the range, a sensor rests for good reason: fog, dusk, calm.
AT_REST = 0.01
#: No measurement is as low: -9999 and -6999, alone or in the mean with a half-hour that was measured.
NUMBER_FOR_MISSING = -3000.0
#: Believable reflectance [1], snow under a low sun included.
REFLECTANCE = Bounds(0, 1.6)
#: Classes without enough plants to take up carbon at noon.
BARREN = ("BSV", "SNO", "URB", "WAT")
#: Hours of noon, and of night, that tell a month's fluxes.
_LEAST_HOURS = 30
#: Higher than all quality codes.
_ANY_CODE = 9


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes
    ----------
    severity : {"error", "warning", "note"}
        Wrong; likely to be wrong; worth knowing.
    topic, message : str
        What it is about; what was found and what to do.
    site, variable : str
        Where; empty where it concerns all.
    """

    severity: Severity
    topic: str
    message: str
    site: str = ""
    variable: str = ""


@dataclass(frozen=True, kw_only=True)
class Tower:
    """One tower's record.

    Attributes
    ----------
    site, igbp : str
        Identifier and class; empty where unknown.
    lat, lon, elevation, utc_offset : float
        [degrees_north], [degrees_east], [m], [hours]; NaN where unknown.
    equal_halves : float
        Share of hours whose two half-hours were equal [1]; NaN where unknown.
    time : numpy.ndarray
        Starts of the hours, shape ``(hours,)``.
    values, codes : dict of str to numpy.ndarray
        By variable, values (NaN where missing) and quality codes, shape ``(hours,)``.
    reflectance : numpy.ndarray or None
        Shape ``(day, band, y, x)`` [1]; NaN where fill.
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
    codes: dict[str, NDArray[np.integer[Any]]] = field(default_factory=dict)
    reflectance: Array | None = None

    def read(self, code: str, max_qc: int = MAX_QC) -> Array:
        """Values of a variable up to a quality code; NaN elsewhere, and throughout if it is absent."""
        if code not in self.values:
            return np.full(self.time.shape, np.nan, "float32")
        values = np.where(self.values[code] > NUMBER_FOR_MISSING, self.values[code], np.nan)
        return np.where(self.codes[code] > max_qc, np.nan, values) if code in self.codes else values

    @cached_property
    def clock(self) -> tuple[Times, Array]:
        """Months, and the clock [hours from UTC] that measured light keeps in them."""
        light = next((code for code in ("SW_IN", "PPFD_IN", "SW_IN_POT") if code in self.values), None)
        if light is None or not np.isfinite(self.lat + self.lon):
            return np.array([], "datetime64[M]"), np.array([])
        return clock_by_month(self.read(light, max_qc=0), self.time, self.lat, self.lon)

    @property
    def offset_by_sun(self) -> float:
        """The clock [hours from UTC] by the sun; NaN where three months do not tell."""
        return float(np.median(self.clock[1])) if self.clock[1].size >= 3 else np.nan

    @property
    def offset(self) -> float:
        """The best guess of the clock [hours from UTC]."""
        guesses = (self.offset_by_sun, self.utc_offset, self.lon / 15)
        return next((guess for guess in guesses if np.isfinite(guess)), np.nan)

    @cached_property
    def sun(self) -> Sunlight | None:
        """The sun in each hour, whatever the clock says it is; None where the place is unknown."""
        if not np.isfinite(self.lat + self.lon):
            return None
        return sunlight(self.time, self.lat, self.lon, self.offset)

    def finding(self, severity: Severity, topic: str, message: str, variable: str = "") -> Finding:
        """Say that it is of this tower."""
        return Finding(severity, topic, message, self.site, variable)


def find_traps(tower: Tower) -> list[Finding]:
    """Go through all traps.

    Parameters
    ----------
    tower : Tower

    Returns
    -------
    list of Finding

    Examples
    --------
    >>> time = np.arange("2010-06", "2010-08", dtype="datetime64[h]")
    >>> stuck = Tower(time=time, values={"TA": np.full(time.size, 7.2)}, elevation=5, utc_offset=1)
    >>> find_traps(stuck)[0].message
    'the same value, 7.2 degC, for 1464 hours from 2010-06-01 00:00: a stuck sensor'
    """
    return [finding for trap in TRAPS for finding in trap(tower)]


# --- Clocks ------------------------------------------------------------------------


def clock(tower: Tower) -> Iterator[Finding]:
    """Compare ``utc_offset`` with the sun: the wrong sign, half an hour, a year, summer time."""
    by_sun = tower.offset_by_sun
    if not np.isfinite(by_sun):
        yield from _clock_by_longitude(tower)
    elif ahead := _summer_time(tower):
        yield tower.finding("error", "daylight saving", f"{ahead}: bring the series to standard time")
    elif not np.isfinite(tower.utc_offset):
        found = f"by its radiation the clock is {_utc(by_sun)} ({by_sun:.2f} h)"
        yield tower.finding("warning", "clock", f"there is no utc_offset: set it; {found}")
    else:
        yield from _clock_by_sun(tower)


def _clock_by_sun(tower: Tower) -> Iterator[Finding]:
    stated, by_sun = tower.utc_offset, tower.offset_by_sun
    error = hours_between(by_sun, stated)
    if abs(error) > CLOCK_WRONG:
        flipped = abs(hours_between(by_sun, -stated)) < CLOCK_WRONG
        advice = "the sign is wrong" if flipped else "correct utc_offset, or the longitude"
        found = f"utc_offset says {_utc(stated)}, but by its radiation the clock is {_utc(by_sun)}"
        yield tower.finding("error", "clock", f"{found} ({by_sun:.2f} h): {advice}")
    elif abs(error) > CLOCK_OFF:
        message = f"by its radiation the clock is {error:+.1f} h off utc_offset: are labels shifted?"
        yield tower.finding("warning", "clock", message)
    months, offsets = tower.clock
    years = months.astype("datetime64[Y]")
    for year in np.unique(years):
        jump = hours_between(float(np.median(offsets[years == year])), by_sun)
        if np.count_nonzero(years == year) >= 3 and abs(jump) > CLOCK_JUMP:
            yield tower.finding("note", "clock", f"the clock of {year} is {jump:+.1f} h off the other years'")


def _clock_by_longitude(tower: Tower) -> Iterator[Finding]:
    """What can be said without radiation."""
    by_longitude = tower.lon / 15
    if not np.isfinite(tower.utc_offset):
        guess = f", about {_utc(round(by_longitude))} by the longitude" if np.isfinite(by_longitude) else ""
        yield tower.finding("warning", "clock", f"there is no utc_offset: set it{guess}")
    elif abs(hours_between(tower.utc_offset, by_longitude)) > CLOCK_OFF_LONGITUDE:
        found = f"utc_offset says {_utc(tower.utc_offset)}, but the longitude {_utc(round(by_longitude))}"
        yield tower.finding("error", "clock", f"{found}: correct one of them")


def _summer_time(tower: Tower) -> str:
    """Say by how much the clock is ahead in summer, if it is."""
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
    return f"the clock is about {hours:.1f} h ahead in the summers of {', '.join(ahead)}"


def _utc(offset: float) -> str:
    """Name of a clock, to the half hour."""
    return f"UTC{round(2 * offset) / 2:+g}"


# --- Radiation ---------------------------------------------------------------------


def radiation(tower: Tower) -> Iterator[Finding]:
    """Compare SW_IN with the sun by year: light at night, above the atmosphere's, or hardly any."""
    if tower.sun is None or "SW_IN" not in tower.values:
        return
    good = tower.read("SW_IN")
    rest = np.where(np.isnan(good), tower.read("SW_IN", max_qc=_ANY_CODE), np.nan)
    years = years_of_radiation(good, tower.time, tower.sun)
    yield from _odd_years(tower, years, "warning", "")
    years = years_of_radiation(rest, tower.time, tower.sun)
    yield from _odd_years(tower, years, "note", f" (values at codes above {MAX_QC})")


def _odd_years(
    tower: Tower, years: list[YearOfRadiation], severity: Severity, which: str
) -> Iterator[Finding]:
    """Name the years in which the sun cannot have shone as the values say."""
    lit = [f"{year.year} ({year.lit_nights:.0%} of hours)" for year in years if year.lit_nights > LIT_NIGHTS]
    bright = [f"{year.year} ({year.excess} hours)" for year in years if year.excess >= EXCESS_HOURS]
    dim = [f"{year.year} ({year.clearness:.0%})" for year in years if year.clearness < DIM_YEAR]
    for topic, named, what in (
        ("radiation at night", lit, "above 10 W m-2 deep in the night of"),
        ("too much radiation", bright, "brighter than the sky above the atmosphere in"),
        ("too little radiation", dim, "a small part of potential radiation in"),
    ):
        if named:
            message = f"{what} {', '.join(named)}{which}: look at it, or leave it out"
            yield tower.finding(severity, topic, message, "SW_IN")


# --- Air ---------------------------------------------------------------------------


def humidity(tower: Tower) -> Iterator[Finding]:
    """Compare VPD with ``es(TA) (1 - RH / 100)``, and with es(TA) where there is no RH."""
    deficit, saturated = tower.read("VPD"), saturation_vapour_pressure(tower.read("TA"))
    expected = saturated * (1 - tower.read("RH") / 100)
    clear = (expected > 1) & ~np.isnan(deficit)  # [hPa]: ratios of smaller ones are noise
    ratio = float(np.median(deficit[clear] / expected[clear])) if clear.any() else np.nan
    if abs(10 * ratio - 1) < HUMIDITY_OFF:
        message = "is a tenth of what TA and RH say: it is in kPa, multiply by 10 for hPa"
        yield tower.finding("error", "units", message, "VPD")
    elif abs(ratio - 1) > HUMIDITY_OFF:
        message = f"is {ratio:.2f} times what TA and RH say in the median hour: check the three"
        yield tower.finding("warning", "humidity", message, "VPD")
    both = ~np.isnan(deficit + saturated)
    share = np.mean(deficit[both] > saturated[both] + DRY_MARGIN) if both.any() else 0
    if share > DRIER_THAN_DRY:
        message = f"{share:.1%} of hours above what saturated air of that temperature holds: check TA and VPD"
        yield tower.finding("warning", "humidity", message, "VPD")


def pressure(tower: Tower) -> Iterator[Finding]:
    """Recognise pressure in hPa: ten times what is believable in kPa."""
    bounds, values = VARIABLES["PA"].bounds, tower.read("PA")
    values = values[~np.isnan(values)]
    if bounds and values.size and bounds.upper < np.median(values) <= 10 * bounds.upper:
        message = f"is {np.median(values):.0f} in the median: it is in hPa, divide by 10 for kPa"
        yield tower.finding("error", "units", message, "PA")


# --- Any variable ------------------------------------------------------------------


def believable(tower: Tower) -> Iterator[Finding]:
    """Look for numbers that stand for missing values, and for values out of bounds."""
    for code, series in tower.values.items():
        known = ~np.isnan(series)
        if lost := np.count_nonzero(series <= NUMBER_FOR_MISSING):
            message = f"{lost} values as low as {np.nanmin(series):g} mean missing: make them NaN"
            yield tower.finding("error", "missing values", message, code)
        bounds = VARIABLES[code].bounds
        if bounds is None:
            continue
        wrong = (known & (series > NUMBER_FOR_MISSING)) & ((series < bounds.lower) | (series > bounds.upper))
        if wrong.sum() > OUT_OF_BOUNDS * known.sum():
            middle = (bounds.lower + bounds.upper) / 2
            worst = series[wrong][np.abs(series[wrong] - middle).argmax()]
            message = (
                f"{wrong.sum() / known.sum():.1%} of values out of {bounds.lower:g} to {bounds.upper:g} "
                f"{VARIABLES[code].units}, worst {worst:g}: they are read as missing"
            )
            yield tower.finding("warning", "bounds", message, code)


def gap_filled(tower: Tower) -> Iterator[Finding]:
    """Name variables of which nothing was measured."""
    for code, codes in tower.codes.items():
        known = ~np.isnan(tower.values[code]) & (codes >= 0)
        if known.any() and codes[known].min() >= 1:
            readable = np.mean(codes[known] <= MAX_QC)
            message = f"is gap-filled throughout, {readable:.0%} of it at code {MAX_QC}"
            yield tower.finding("warning", "gap-filled", message, code)


def stuck(tower: Tower) -> Iterator[Finding]:
    """Look for sensors that repeat a value, of which rain does not speak."""
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
            message = f"the same value, {series[start]:.4g} {VARIABLES[code].units}, for {length + 1} hours"
            yield tower.finding("warning", "stuck sensor", f"{message} from {when}: a stuck sensor", code)


def longest_run(true: NDArray[np.bool_]) -> tuple[int, int]:
    """Give start and length of the longest run of true values; the length is 0 if there is none.

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


def halves(tower: Tower) -> Iterator[Finding]:
    """Name hourly data that was sold as half-hourly."""
    if tower.equal_halves > UPSAMPLED:
        message = f"{tower.equal_halves:.0%} of hours had two equal halves: the source is hourly"
        yield tower.finding("warning", "upsampled", message)


# --- Fluxes, places and patches ----------------------------------------------------


def flipped_flux(tower: Tower) -> Iterator[Finding]:
    """Look for NEE with the wrong sign: released at noon, taken up at night, in the busiest month."""
    if "NEE" not in tower.values or tower.sun is None or tower.igbp in BARREN:
        return
    noon, night = noon_and_night(tower.read("NEE"), tower.time, tower.sun)
    if noon > 0 > night:
        medians = f"{noon:.1f} at noon and {night:.1f} umol m-2 s-1 at night in the busiest month"
        yield tower.finding("error", "sign", f"{medians}: it must be positive into the air", "NEE")


def noon_and_night(flux: Array, time: Times, sun: Sunlight) -> tuple[float, float]:
    """Give the medians of a flux at noon and at night, in the month of the year where they differ most.

    They are NaN where no month has enough hours of both.

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
        if not abs(medians[0] - medians[1]) <= abs(best[0] - best[1]):  # the first is compared with NaN
            best = medians
    return best


def elevation(tower: Tower) -> Iterator[Finding]:
    """Name towers without elevation."""
    if not np.isfinite(tower.elevation):
        yield tower.finding("note", "metadata", "there is no elevation")


def patches(tower: Tower) -> Iterator[Finding]:
    """Look for towers without a patch, and for reflectance that cannot be."""
    if tower.reflectance is None:
        return
    pixels = tower.reflectance[~np.isnan(tower.reflectance)]
    if not pixels.size:
        message = "no pixel of any day: is the tower outside of the images, or were none fetched?"
        yield tower.finding("warning", "patches", message, "reflectance")
        return
    wrong = pixels[(pixels < REFLECTANCE.lower) | (pixels > REFLECTANCE.upper)]
    if wrong.size > OUT_OF_BOUNDS * pixels.size:
        share, low, high = wrong.size / pixels.size, wrong.min(), wrong.max()
        message = f"{share:.1%} of pixels out of 0 to 1.6, {low:.4g} to {high:.4g}: check the scale factor"
        yield tower.finding("warning", "patches", message, "reflectance")


#: All traps, in the order of a report.
TRAPS = (
    clock, radiation, humidity, pressure, believable, gap_filled, stuck, halves,
    flipped_flux, elevation, patches,
)  # fmt: skip
