"""Night-time partitioning: respiration of the nights is extrapolated to the days by temperature."""

from __future__ import annotations

import numpy as np

from xcarbon.budget.partitioning.least_squares import Array, Mask, Prior, least_squares
from xcarbon.budget.partitioning.respiration import inverse_temperature, lloyd_taylor_model
from xcarbon.budget.partitioning.windows import DAY, HALF_DAY, neighbours, samples, window_starts, within_year
from xcarbon.prep.periods import Stamps

#: Global radiation below which an hour may belong to the night [W m-2].
DARK = 10.0
#: Declination of the sun at the summer solstice [degrees], and spring equinox [days after 1 January].
TILT, SPRING = 23.45, 79
#: Length and step of the windows for E0 and of those for Rref [days].
E0_DAYS, E0_STEP = 14, 5
DAYS, STEP = 8, 4
#: Minimum range of temperature [K] and smallest number of hours in a window for E0, and for Rref.
MIN_RANGE, MIN_E0_HOURS, MIN_RREF_HOURS = 5.0, 7, 3
#: Accepted E0 of a window, and E0 of years without enough windows [K].
E0_RANGE, UNKNOWN_E0 = (30.0, 350.0), 200.0
#: Number of the best windows of a year whose mean is E0, and the smallest number that is sufficient.
BEST, MIN_BEST = 3, 2
#: Share of the largest residuals that are left out [1].
TRIM = 0.1
#: Smallest Rref, to which negative ones are set, and largest accepted one [umol m-2 s-1]. Nights near
#: -40 degC determine respiration at 15 degC so poorly that it would be larger by orders of magnitude.
RREF_RANGE = (1e-6, 50.0)

#: Rows of the fitted parameters: position is the mean time of the nights [days since the first time stamp].
#: E0_WINDOWS is the number of windows whose mean is E0, 0 if it is not determined by nights.
ROWS = ("position", "E0", "E0_SE", "RREF", "RREF_SE", "COUNT", "E0_WINDOWS")


def fit_nighttime(nee: Array, ta: Array, sw_in: Array, lat: Array, time: Stamps) -> Array:
    """Fit Rref and E0 of one tower: ``(time,)`` each to ``(rows, windows)``, see :data:`ROWS`.

    NEE, TA and SW_IN are NaN where they are not measured. The latitude is NaN where it is unknown.
    """
    end = time + (time[1] - time[0]) if time.size > 1 else time
    light = daylight(end, lat)
    is_dark = np.where(np.isnan(sw_in), light <= 0, (sw_in < DARK) & ~(light > 0))
    is_night = is_dark & np.isfinite(nee) & np.isfinite(ta)
    inverse = inverse_temperature(np.where(is_night, ta, np.nan))
    is_night &= np.isfinite(inverse)
    flux, inverse = np.where(is_night, nee, 0).astype(float), np.where(is_night, inverse, 0)
    start = window_starts(time, STEP)
    e0, e0_se, used = _e0(is_night, flux, ta, inverse, end, start)
    noon = start - HALF_DAY
    chosen = samples(is_night, end, *within_year(start, noon, noon + DAYS * DAY))
    response = np.exp(e0[:, np.newaxis] * inverse[chosen.position]) * chosen.there
    observed = flux[chosen.position] * chosen.there
    with np.errstate(invalid="ignore", divide="ignore"):
        squares = (response**2).sum(1)
        rref = (response * observed).sum(1) / squares
        residual = observed - rref[:, np.newaxis] * response
        rref_se = np.sqrt((residual**2).sum(1) / (chosen.number - 1) / squares)
        days = (time - time[0]) / DAY
        position = (days[chosen.position] * chosen.there).sum(1) / chosen.number
    rows = np.stack([position, e0, e0_se, np.maximum(rref, RREF_RANGE[0]), rref_se, chosen.number, used])
    rows[:5, (chosen.number < MIN_RREF_HOURS) | ~(rref <= RREF_RANGE[1])] = np.nan
    return rows


def daylight(end: Stamps, lat: Array) -> Array:
    """Compute the time from sunrise or sunset to the end of time steps [h], positive by day.

    Clocks are regarded as showing the solar time. NaN where the sun does not rise or set on the day, or the
    latitude [degrees] is unknown.

    Examples
    --------
    >>> daylight(np.array(["2010-06-21T03", "2010-06-21T12"], "datetime64[h]"), np.array(50.0)).round(1)
    array([-0.9,  8.1])
    """
    day = end.astype("datetime64[D]")
    season = (day - day.astype("datetime64[Y]")) / DAY - SPRING
    declination = np.radians(TILT) * np.sin(2 * np.pi * season / 365)
    with np.errstate(invalid="ignore"):
        half_day = np.arccos(-np.tan(np.radians(lat)) * np.tan(declination)) * 12 / np.pi
    return half_day - np.abs((end - day) / np.timedelta64(1, "h") - 12)


def _e0(
    is_night: Mask, flux: Array, ta: Array, inverse: Array, end: Stamps, start: Stamps
) -> tuple[Array, Array, Array]:
    """Return E0, its standard error and the number of windows it is from, for windows from ``start``."""
    first = window_starts(end, E0_STEP)
    windows = _fit_windows(is_night, flux, ta, inverse, end, first)
    own, years = first.astype("datetime64[Y]"), start.astype("datetime64[Y]")
    value, se, used = np.full(start.size, UNKNOWN_E0), np.full(start.size, np.nan), np.zeros(start.size)
    for year in np.unique(years):
        e0, error = windows[:, own == year]
        good = np.flatnonzero((e0 > E0_RANGE[0]) & (e0 < E0_RANGE[1]) & np.isfinite(error))
        best = good[np.argsort(error[good], kind="stable")[:BEST]]
        if best.size >= MIN_BEST:
            here = years == year
            value[here], se[here], used[here] = e0[best].mean(), error[best].mean(), best.size
    return value, se, used


def _fit_windows(is_night: Mask, flux: Array, ta: Array, inverse: Array, end: Stamps, start: Stamps) -> Array:
    """Fit respiration in windows, and return E0 and its standard error, ``(2, windows)``."""
    chosen = samples(is_night, end, *within_year(start, start, start + E0_DAYS * DAY))
    warmest = np.where(chosen.there, ta[chosen.position], -np.inf).max(1)
    coldest = np.where(chosen.there, ta[chosen.position], np.inf).min(1)
    enough = np.flatnonzero((chosen.number >= MIN_E0_HOURS) & (warmest - coldest >= MIN_RANGE))
    fitted = np.full((2, start.size), np.nan)
    if enough.size:
        index, weight = chosen.position[enough], chosen.there[enough].astype(float)
        guess = np.tile([2.0, 200.0], (enough.size, 1))
        weak = Prior(guess, np.array([1e3, 1e4]))  # so that the normal matrix is never singular
        model = lloyd_taylor_model(inverse[index])
        fit = least_squares(model, guess, flux[index], weight, weak, trim=TRIM)
        fitted[:, enough] = fit.parameters[:, 1], np.sqrt(fit.covariance[:, 1, 1])
    return fitted


def nighttime_fluxes(rows: Array, nee: Array, nee_se: Array, ta: Array, time: Stamps) -> Array:
    """Compute RECO, GPP, their standard errors and the distance to the nearest window: ``(5, time)``.

    ``rows`` are from :func:`fit_nighttime`; the others are ``(time,)``.
    """
    near = neighbours(rows[0], window_starts(time, STEP), time)
    if near is None:
        return np.full((5, time.size), np.nan)
    inverse = inverse_temperature(ta)
    reco, reco_se = np.zeros((2, time.size))
    for window, weight in ((near.before, 1 - near.weight), (near.after, near.weight)):
        e0, e0_se, rref, rref_se = rows[1:5, window]
        response = np.exp(e0 * inverse)
        reco += weight * rref * response
        reco_se += weight * response * np.hypot(rref_se, rref * inverse * e0_se)
    return np.stack([reco, reco_se, reco - nee, np.hypot(reco_se, nee_se), near.distance])
