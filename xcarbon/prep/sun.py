"""Array kernels for the position of the sun, and for a tower's clock as its radiation shows it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Times = NDArray[np.datetime64]

#: Solar radiation above the atmosphere at the mean distance from the sun [W m-2].
SOLAR_CONSTANT = 1361.0
#: Sine of the sun's elevation below which an hour counts as deep night: 6 degrees below the horizon. At this
#: elevation, an error of half an hour in the clock does not turn night into day.
_DEEP_NIGHT = np.sin(np.radians(-6))
#: Minutes of an hour for which the position of the sun is computed; both ends are included.
_MINUTES = np.arange(0, 61, 15).astype("timedelta64[m]")

#: Quantile of radiation over the days of a month that represents a clear sky. The mean cannot be used for a
#: clock, because afternoon clouds over mountains shift it by up to 25 minutes (US-NR1).
_CLEAR = 0.9
#: Minimum number of hours with a value in a day whose mean is used, and of months in a seasonal cycle.
_WHOLE_DAY, _MIN_MONTHS = 22, 6
#: Minimum number of days in a month, so that a clear day is probably among them [days].
_MIN_DAYS = 10
#: Minimum of a month's largest hourly potential radiation [W m-2]; the months of polar night have less.
_MIN_SUN = 200.0

#: Sensors measure less than this at night [W m-2]; thermal offsets are as low as -10.
_DARK = 10.0
#: Factor [1] and margin [W m-2] above the largest potential radiation of an hour. Reflection by clouds
#: increases the mean of an hour by less.
_EXCESS = (1.1, 50.0)
#: Minimum number of hours of night, and of day, in a year that is compared with the sun.
_MIN_HOURS = 200


def sine_of_elevation(utc: Times, lat: float, lon: float) -> Array:
    """Compute the sine of the elevation of the sun's centre [1], in the shape of ``utc`` (datetime64).

    The low-precision formulas of the Astronomical Almanac, without refraction, are accurate to 0.01 degrees.
    ``lat`` and ``lon`` are in degrees.

    Examples
    --------
    >>> noon = np.array(["2010-06-21T12:02"], "datetime64[m]")
    >>> np.degrees(np.arcsin(sine_of_elevation(noon, 40.0, 0.0))).round(1)
    array([73.4])
    """
    days, anomaly = _days(utc), _anomaly(utc)
    mean_longitude = 280.459 + 0.98564736 * days
    longitude = np.radians(mean_longitude + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    obliquity = np.radians(23.438)
    sine = np.sin(obliquity) * np.sin(longitude)  # sine of the declination
    ascension = np.arctan2(np.cos(obliquity) * np.sin(longitude), np.cos(longitude))
    hour_angle = np.radians(280.461 + 360.98564737 * days + lon) - ascension
    latitude = np.radians(lat)
    return np.sin(latitude) * sine + np.cos(latitude) * np.sqrt(1 - sine**2) * np.cos(hour_angle)


def potential_radiation(utc: Times, lat: float, lon: float) -> Array:
    """Compute the radiation [W m-2] on a horizontal surface above the atmosphere, in the shape of ``utc``.

    Examples
    --------
    >>> potential_radiation(np.array(["2010-01-03T12:05"], "datetime64[m]"), -23.0, 0.0).round()
    array([1407.])
    """
    anomaly = _anomaly(utc)
    distance = 1.00014 - 0.01671 * np.cos(anomaly) - 0.00014 * np.cos(2 * anomaly)
    return SOLAR_CONSTANT / distance**2 * np.maximum(sine_of_elevation(utc, lat, lon), 0)


def _days(utc: Times) -> Array:
    """Days since the epoch J2000."""
    return (utc - np.datetime64("2000-01-01T12:00")) / np.timedelta64(1, "D")


def _anomaly(utc: Times) -> Array:
    """Mean anomaly of the Earth's orbit [rad]."""
    return np.radians(357.529 + 0.98560028 * _days(utc))


class Sunlight(NamedTuple):
    """Potential radiation, night and noon in each hour of a record.

    Attributes
    ----------
    mean, highest : numpy.ndarray
        Mean and maximum of the potential radiation in the hour [W m-2], shape ``(hours,)``.
    night : numpy.ndarray
        Whether the sun is at least 6 degrees below the horizon during the hour, shape ``(hours,)``.
    noon : numpy.ndarray
        Whether the middle of the hour is less than two hours from mean solar noon, shape ``(hours,)``.
    """

    mean: Array
    highest: Array
    night: NDArray[np.bool_]
    noon: NDArray[np.bool_]


def sunlight(time: Times, lat: float, lon: float, utc_offset: float) -> Sunlight:
    """Compute potential radiation, night and noon in each hour of a record.

    ``time (hours,)`` are starts of the hours on the tower's clock, which is ``utc_offset`` [hours] ahead
    of UTC.

    Examples
    --------
    >>> day = np.arange("2010-03-21", "2010-03-22", dtype="datetime64[h]")
    >>> sunlight(day, lat=51.0, lon=13.5, utc_offset=1.0).mean[[0, 12]].round()
    array([  0., 864.])
    """
    utc = time.astype("datetime64[s]") - np.timedelta64(round(utc_offset * 3600), "s")
    moments = np.stack([utc + minutes for minutes in _MINUTES])
    potential = potential_radiation(moments, lat, lon)
    sine = sine_of_elevation(moments[[0, -1]], lat, lon)
    mean = (potential[1:] + potential[:-1]).mean(0) / 2
    solar_hour = _hour(time) + 0.5 + lon / 15 - utc_offset
    noon = np.abs(hours_between(solar_hour, 12)) < 2
    return Sunlight(mean, potential.max(0), sine.max(0) < _DEEP_NIGHT, noon)


def clock_by_month(radiation: Array, time: Times, lat: float, lon: float) -> tuple[Times, Array]:
    """Estimate the UTC offset of a tower's clock from its radiation, month by month.

    ``radiation (hours,)`` is measured radiation or photon flux in any unit, NaN where missing, and ``time
    (hours,)`` are starts of the hours on the tower's clock. The results are the months with enough days
    and sun, datetime64[M], and the offset of the clock from UTC [hours] in each of them, both
    ``(months,)``. The offset is between ``lon / 15 - 12`` and ``lon / 15 + 12``. It is the lag between
    the first diurnal harmonics of clear-sky and potential radiation, at which their correlation is
    largest. Its error is less than 15 minutes in 90 % of the months of FLUXNET2015.

    Examples
    --------
    >>> time = np.arange("2010-06-01", "2010-07-01", dtype="datetime64[h]")
    >>> light = sunlight(time, lat=51.0, lon=13.5, utc_offset=2.0).mean
    >>> clock_by_month(light, time, lat=51.0, lon=13.5)[1].round(1)
    array([2.])
    """
    month = time.astype("datetime64[M]").astype(int)
    first, months = month[0], month[-1] - month[0] + 1
    known = ~np.isnan(radiation)
    slot = ((month - first) * 24 + _hour(time))[known]
    # As if the clock showed mean solar time, so that the lag is the difference between the two clocks.
    expected = sunlight(time[known], lat, 0.0, 0.0).mean
    count = np.bincount(slot, minlength=months * 24)
    observed, potential = (
        _clear_sky(values, slot, count).reshape(months, 24) for values in (radiation[known], expected)
    )
    lag = np.angle(_harmonic(observed) / _harmonic(potential)) * 24 / (2 * np.pi)
    good = (observed.max(1) > 0) & (potential.max(1) > _MIN_SUN)
    good &= count.reshape(months, 24).min(1) >= _MIN_DAYS
    return (first + np.flatnonzero(good)).astype("datetime64[M]"), lon / 15 + lag[good]


def _clear_sky(values: Array, slot: NDArray[np.int_], count: NDArray[np.int_]) -> Array:
    """Return the clear-sky quantile of the values in each slot, ``(slots,)``; 0 for empty slots."""
    ordered = np.append(values[np.lexsort((values, slot))], 0)
    start = np.cumsum(count) - count
    place = start + (_CLEAR * (count - 1)).astype(int)
    return np.where(count > 0, ordered[np.minimum(place, values.size)], 0)


def _harmonic(cycle: Array) -> NDArray[np.complexfloating[Any]]:
    """Return the first harmonic of days ``(..., 24)``, plus a tiny number so that it can be a divisor."""
    return cycle @ np.exp(2j * np.pi * np.arange(24) / 24) + 1e-9


def _hour(time: Times) -> NDArray[np.int_]:
    """Return the hour of the day of each time."""
    return time.astype("datetime64[h]").astype(int) % 24


def summer_time(months: Times, utc_offset: Array, lat: float) -> float:
    """Compute by how much a clock is ahead in summer [hours]; about 1 for daylight saving time.

    ``months`` and ``utc_offset`` are the results of :func:`clock_by_month`, of which the medians of
    summer and winter are compared; the sign of ``lat`` decides which is which. The result is NaN with
    fewer than three months of either.

    Examples
    --------
    >>> months = np.arange("2010-01", "2011-01", dtype="datetime64[M]")
    >>> summer_time(months, np.array([1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 1, 1.0]), lat=51.0)
    1.0
    """
    month = months.astype(int) % 12 + 1
    warm, cold = (month >= 5) & (month <= 8), (month <= 2) | (month >= 11)
    if min(warm.sum(), cold.sum()) < 3:
        return float("nan")
    difference = np.median(utc_offset[warm]) - np.median(utc_offset[cold])
    return float(difference if lat >= 0 else -difference)


def season_of_sun(values: Array, time: Times, lat: float) -> tuple[float, float]:
    """Correlate the seasonal cycle of a variable with that of the sun at a latitude, and at its opposite.

    ``values (hours,)`` are measured radiation or air temperature in any unit, NaN where missing, and ``time
    (hours,)`` are starts of the hours. The seasonal cycle consists of the 90 % quantiles of the daily means
    in each month of the year, which represent clear skies. The results are its correlations [1] with the
    potential radiation at ``lat`` [degrees_north] and at ``-lat``; they are NaN with fewer than six months.

    Examples
    --------
    >>> time = np.arange("2010-01-01", "2011-01-01", dtype="datetime64[h]")
    >>> light = sunlight(time, lat=51.0, lon=0.0, utc_offset=0.0).mean
    >>> np.round(season_of_sun(light, time, lat=-51.0), 2).tolist()
    [-1.0, 1.0]
    """
    day = time.astype("datetime64[D]").astype(int)
    day, known = day - day[0], ~np.isnan(values)
    count = np.bincount(day[known], minlength=day[-1] + 1)
    whole = np.flatnonzero(count >= _WHOLE_DAY)
    daily = np.bincount(day[known], values[known], count.size)[whole] / count[whole]
    month = (time[0].astype("datetime64[D]") + whole).astype("datetime64[M]").astype(int) % 12
    months = np.flatnonzero(np.bincount(month, minlength=12) >= _MIN_DAYS)
    if months.size < _MIN_MONTHS:
        return float("nan"), float("nan")
    cycle = np.array([np.quantile(daily[month == number], _CLEAR) for number in months])
    middle = (months.astype("datetime64[M]").astype("datetime64[D]") + 14).astype("datetime64[h]")
    hours = (middle[:, np.newaxis] + np.arange(24)).astype("datetime64[m]")
    own, other = (
        float(np.corrcoef(cycle, potential_radiation(hours, sign * lat, 0.0).mean(1))[0, 1])
        for sign in (1, -1)
    )
    return own, other


def hours_between(one: Any, other: Any) -> Any:
    """Compute the hours by which one clock is ahead of another, from -12 to 12; numbers or arrays.

    Examples
    --------
    >>> hours_between(-11.5, 12)
    0.5
    """
    return (one - other + 12) % 24 - 12


class YearOfRadiation(NamedTuple):
    """A year of measured radiation compared with potential radiation.

    Attributes
    ----------
    year : int
        Year of the time stamps.
    lit_nights : float
        Share of the hours of deep night with more than 10 W m-2 [1].
    excess : int
        Number of hours with more radiation than above the atmosphere.
    clearness : float
        Measured radiation divided by potential radiation [1].
    """

    year: int
    lit_nights: float
    excess: int
    clearness: float


def years_of_radiation(radiation: Array, time: Times, sun: Sunlight) -> list[YearOfRadiation]:
    """Compare incoming shortwave radiation [W m-2], ``(hours,)``, with potential radiation, year by year.

    ``sun`` is the result of :func:`sunlight` for the same hours. ``lit_nights`` is NaN for years with
    fewer than 200 values in deep night, and ``clearness`` for years with fewer than 200 values by day.

    Examples
    --------
    >>> time = np.arange("2010", "2011", dtype="datetime64[h]")
    >>> sun = sunlight(time, lat=51.0, lon=13.5, utc_offset=1.0)
    >>> round(years_of_radiation(0.7 * sun.mean, time, sun)[0].clearness, 2)
    0.7
    """
    factor, margin = _EXCESS
    years = time.astype("datetime64[Y]").astype(int) + 1970
    known = ~np.isnan(radiation)
    found = []
    for year in np.unique(years[known]).tolist():
        hours = known & (years == year)
        dark, day = radiation[hours & sun.night], hours & (sun.mean > 0)
        light, potential = radiation[day], sun.mean[day]
        lit = (dark > _DARK).mean() if dark.size >= _MIN_HOURS else np.nan
        clear = light.sum() / potential.sum() if light.size >= _MIN_HOURS else np.nan
        excess = int(np.count_nonzero(light > factor * sun.highest[day] + margin))
        found.append(YearOfRadiation(year, float(lit), excess, float(clear)))
    return found
