"""Checks of the coordinates of a tower: its clock, latitude, longitude and elevation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xcarbon.prep.sun import hours_between, season_of_sun, summer_time
from xcarbon.quality.plausibility.tower import Finding, TowerRecord

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


def elevation(tower: TowerRecord) -> Iterator[Finding]:
    """Find towers without elevation."""
    if not np.isfinite(tower.elevation):
        yield tower.finding("note", "metadata", "The elevation is missing. Add it to the metadata.")
