"""Night-time partitioning: respiration of the nights is extrapolated to the days by temperature."""

from __future__ import annotations

import numpy as np

from xcarbon.budget.partitioning.least_squares import Array, Mask, Prior, least_squares
from xcarbon.budget.partitioning.respiration import inverse_temperature, lloyd_taylor_model
from xcarbon.budget.partitioning.windows import DAY, HALF_DAY, neighbours, samples, window_starts
from xcarbon.prep.periods import Stamps

#: Global radiation below which an hour may belong to the night [W m-2].
DARK = 10.0
#: Declination of the sun at the summer solstice [degrees], and spring equinox [days after 1 January].
TILT, SPRING = 23.45, 79
#: Length and step of the windows for E0 and of those for Rref [days].
E0_DAYS, E0_STEP = 14, 5
DAYS, STEP = 8, 4
#: Minimum range of temperature [K] and smallest number of hours in a window for E0, and for Rref.
LEAST_RANGE, LEAST_E0, LEAST_RREF = 5.0, 7, 3
#: Accepted E0 of a window and of all nights of a year [K].
E0_RANGE = (30.0, 350.0)
#: Number of the best windows of a year whose mean is E0, and the smallest number that is sufficient.
BEST, LEAST_BEST = 3, 2
#: Share of the largest residuals that are left out [1].
TRIM = 0.1
#: Smallest Rref, to which negative ones are set, and largest accepted one [umol m-2 s-1]. Nights near
#: -40 degC determine respiration at 15 degC so poorly that it would be larger by orders of magnitude.
RREF_RANGE = (1e-6, 50.0)

#: Rows of the fitted parameters: position is the mean time of the nights [days since the first time stamp].
#: E0_WINDOWS is the number of windows whose mean is E0, 0 if it was fitted to all nights of the year.
ROWS = ("position", "E0", "E0_SE", "RREF", "RREF_SE", "COUNT", "E0_WINDOWS")


def fit_nighttime(nee: Array, ta: Array, sw_in: Array, lat: Array, time: Stamps) -> Array:
    """Fit Rref and E0 of one tower: ``(time,)`` each to ``(rows, windows)``, see :data:`ROWS`.

    NEE and TA are NaN where they are not measured. The latitude is NaN where it is unknown.
    """
    end = time + (time[1] - time[0]) if time.size > 1 else time
    is_night = ~(sw_in >= DARK) & ~has_sun(end, lat) & np.isfinite(nee) & np.isfinite(ta)
    inverse = inverse_temperature(np.where(is_night, ta, np.nan))
    is_night &= np.isfinite(inverse)
    flux, inverse = np.where(is_night, nee, 0).astype(float), np.where(is_night, inverse, 0)
    start = window_starts(time, STEP)
    e0, e0_se, used = _e0(is_night, flux, ta, inverse, end, start)
    chosen = samples(is_night, end, start - HALF_DAY, _within_year(start, DAYS) - HALF_DAY)
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
    rows[:5, (chosen.number < LEAST_RREF) | ~(rref <= RREF_RANGE[1])] = np.nan
    return rows


def has_sun(end: Stamps, lat: Array) -> Mask:
    """Return whether the sun is above the horizon at the end of time steps, if clocks show the solar time.

    False where the sun does not rise or set on the day, or the latitude [degrees] is unknown.

    Examples
    --------
    >>> has_sun(np.array(["2010-06-21T03", "2010-06-21T05"], "datetime64[h]"), np.array(50.0))
    array([False,  True])
    """
    day = end.astype("datetime64[D]")
    season = (day - day.astype("datetime64[Y]")) / DAY - SPRING
    declination = np.radians(TILT) * np.sin(2 * np.pi * season / 365)
    with np.errstate(invalid="ignore"):
        half_day = np.arccos(-np.tan(np.radians(lat)) * np.tan(declination)) * 12 / np.pi
        return np.abs((end - day) / np.timedelta64(1, "h") - 12) < half_day


def _within_year(start: Stamps, days: int) -> Stamps:
    """Return the day after windows that end with the year in which they start."""
    next_year = (start.astype("datetime64[Y]") + 1).astype("datetime64[D]")
    return np.minimum(start + days * DAY, next_year)


def _e0(
    is_night: Mask, flux: Array, ta: Array, inverse: Array, end: Stamps, start: Stamps
) -> tuple[Array, Array, Array]:
    """Return E0, its standard error and the number of windows it is from, for windows from ``start``."""
    first = window_starts(end, E0_STEP)
    stop = _within_year(first, E0_DAYS)
    e0, error = _fit_windows(is_night, flux, ta, inverse, end, first, stop, LEAST_RANGE)
    good = (e0 > E0_RANGE[0]) & (e0 < E0_RANGE[1]) & np.isfinite(error)
    own = first.astype("datetime64[Y]")
    years = np.unique(start.astype("datetime64[Y]"))
    value, se, used = np.full((3, years.size), np.nan)
    bounds = years.astype("datetime64[D]"), (years + 1).astype("datetime64[D]")
    whole, whole_se = _fit_windows(is_night, flux, ta, inverse, end, *bounds, 0.0)
    for place, year in enumerate(years):
        windows = np.flatnonzero(good & (own == year))
        best = windows[np.argsort(error[windows], kind="stable")[:BEST]]
        if best.size >= LEAST_BEST:
            value[place], se[place], used[place] = e0[best].mean(), error[best].mean(), best.size
        elif E0_RANGE[0] < whole[place] < E0_RANGE[1]:
            value[place], se[place], used[place] = whole[place], whole_se[place], 0
    near = neighbours(np.where(np.isfinite(value), years.astype(float), np.nan), years.astype(float))
    if near is None:
        return tuple(np.full((3, start.size), np.nan))  # type: ignore[return-value]
    of_year = np.where(near.weight > 0.5, near.after, near.before)
    of_window = of_year[np.searchsorted(years, start.astype("datetime64[Y]"))]
    return value[of_window], se[of_window], used[of_window]


def _fit_windows(
    is_night: Mask, flux: Array, ta: Array, inverse: Array, end: Stamps, start: Stamps, stop: Stamps,
    least_range: float,
) -> tuple[Array, Array]:  # fmt: skip
    """Fit respiration in windows, and return E0 and its standard error, ``(windows,)`` each."""
    chosen = samples(is_night, end, start, stop)
    warmest = np.where(chosen.there, ta[chosen.position], -np.inf).max(1)
    coldest = np.where(chosen.there, ta[chosen.position], np.inf).min(1)
    enough = np.flatnonzero((chosen.number >= LEAST_E0) & (warmest - coldest >= least_range))
    e0, error = np.full((2, start.size), np.nan)
    if enough.size:
        index, weight = chosen.position[enough], chosen.there[enough].astype(float)
        guess = np.tile([2.0, 200.0], (enough.size, 1))
        weak = Prior(guess, np.array([1e3, 1e4]))  # so that the normal matrix is never singular
        model = lloyd_taylor_model(inverse[index])
        fit = least_squares(model, guess, flux[index], weight, weak, trim=TRIM)
        e0[enough], error[enough] = fit.parameters[:, 1], np.sqrt(fit.covariance[:, 1, 1])
    return e0, error


def nighttime_fluxes(rows: Array, nee: Array, nee_se: Array, ta: Array, days: Array) -> Array:
    """Compute RECO, GPP, their standard errors and the distance to the nearest window: ``(5, time)``.

    ``rows`` are from :func:`fit_nighttime`; the others are ``(time,)``, and ``days`` are counted since the
    first time stamp.
    """
    near = neighbours(rows[0], days)
    if near is None:
        return np.full((5, days.size), np.nan)
    inverse = inverse_temperature(ta)
    reco, reco_se = np.zeros((2, days.size))
    for window, weight in ((near.before, 1 - near.weight), (near.after, near.weight)):
        e0, e0_se, rref, rref_se = rows[1:5, window]
        response = np.exp(e0 * inverse)
        reco += weight * rref * response
        reco_se += weight * response * np.hypot(rref_se, rref * inverse * e0_se)
    return np.stack([reco, reco_se, reco - nee, np.hypot(reco_se, nee_se), near.distance])
