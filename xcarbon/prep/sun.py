"""The sun over a tower, and what the radiation measured there tells of its clock: kernels on arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Times = NDArray[np.datetime64]

#: Sunlight above the atmosphere at the mean distance of the sun [W m-2].
SOLAR_CONSTANT = 1361.0
#: The sun is well down below this sine of its elevation: 6 degrees under the horizon, where a clock may be
#: half an hour off without daylight.
_DEEP_NIGHT = np.sin(np.radians(-6))
#: Minutes of an hour at which the sun is looked at: its ends and between them.
_MINUTES = np.arange(0, 61, 15).astype("timedelta64[m]")

#: The brightest tenth of a month's days have their sun without clouds. Means are of no use for a clock:
#: afternoon clouds over mountains move them by up to 25 minutes (US-NR1).
_CLEAR = 0.9
#: A clear day among the days of a month needs as many days [days].
_LEAST_DAYS = 10
#: In the polar night, radiation tells no time [W m-2].
_LEAST_SUN = 200.0

#: A night sensor reads less than this [W m-2]; thermal offsets go down to -10.
_DARK = 10.0
#: Hours above the atmosphere's edge: a tenth and 50 W m-2 above its brightest moment. Clouds that mirror
#: light to the sensor do less in the mean of an hour.
_EXCESS = (1.1, 50.0)
#: Hours of night, and of day, without which a year is not judged.
_LEAST_HOURS = 200


def sine_of_elevation(utc: Times, lat: float, lon: float) -> Array:
    """Tell how high the sun stands.

    Parameters
    ----------
    utc : numpy.ndarray
        Instants, datetime64 of any shape.
    lat, lon : float
        Latitude [degrees_north] and longitude [degrees_east].

    Returns
    -------
    numpy.ndarray
        Sine of the elevation of the sun's centre [1], shape of ``utc``; negative at night. From the
        low-precision formulas of the Astronomical Almanac, good to 0.01 degrees; without refraction.

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
    sine = np.sin(obliquity) * np.sin(longitude)  # of the declination
    ascension = np.arctan2(np.cos(obliquity) * np.sin(longitude), np.cos(longitude))
    hour_angle = np.radians(280.461 + 360.98564737 * days + lon) - ascension
    latitude = np.radians(lat)
    return np.sin(latitude) * sine + np.cos(latitude) * np.sqrt(1 - sine**2) * np.cos(hour_angle)


def potential_radiation(utc: Times, lat: float, lon: float) -> Array:
    """Give the sunlight on a level surface above the atmosphere.

    Parameters
    ----------
    utc, lat, lon
        As for :func:`sine_of_elevation`.

    Returns
    -------
    numpy.ndarray
        [W m-2], shape of ``utc``; 0 at night.

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
    """Mean anomaly of the Earth on its orbit [rad]."""
    return np.radians(357.529 + 0.98560028 * _days(utc))


class Sunlight(NamedTuple):
    """The sun in each hour of a record.

    Attributes
    ----------
    mean, highest : numpy.ndarray
        Potential radiation of the hour and of its brightest moment [W m-2], shape ``(hours,)``.
    night : numpy.ndarray
        Whether the sun is well below the horizon all through the hour, shape ``(hours,)``.
    noon : numpy.ndarray
        Whether the hour's middle is less than two hours from mean solar noon, shape ``(hours,)``.
    """

    mean: Array
    highest: Array
    night: NDArray[np.bool_]
    noon: NDArray[np.bool_]


def sunlight(time: Times, lat: float, lon: float, utc_offset: float) -> Sunlight:
    """Follow the sun through the hours of a record.

    Parameters
    ----------
    time : numpy.ndarray
        Starts of the hours on the tower's clock, shape ``(hours,)``.
    lat, lon : float
        Latitude [degrees_north] and longitude [degrees_east].
    utc_offset : float
        The tower's clock minus UTC [hours].

    Returns
    -------
    Sunlight

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
    """Read a tower's clock off the sun, month by month.

    Parameters
    ----------
    radiation : numpy.ndarray
        Measured radiation or light in any unit, shape ``(hours,)``; NaN where missing.
    time : numpy.ndarray
        Starts of the hours on the tower's clock, shape ``(hours,)``.
    lat, lon : float
        Latitude [degrees_north] and longitude [degrees_east].

    Returns
    -------
    months : numpy.ndarray
        Months that have enough days and sun, datetime64[M].
    utc_offset : numpy.ndarray
        The clock minus UTC [hours] by the sun, from ``lon / 15 - 12`` to ``lon / 15 + 12``. It is the
        lag between the first diurnal harmonics of clear-sky and potential radiation, which is where
        their correlation peaks. In 90 of 100 months of FLUXNET2015 it is right to 15 minutes.

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
    # On a clock of mean solar time, which differs from the tower's by the lag alone.
    expected = sunlight(time[known], lat, 0.0, 0.0).mean
    count = np.bincount(slot, minlength=months * 24)
    observed, potential = (
        _clear_sky(values, slot, count).reshape(months, 24) for values in (radiation[known], expected)
    )
    lag = np.angle(_harmonic(observed) / _harmonic(potential)) * 24 / (2 * np.pi)
    good = (observed.max(1) > 0) & (potential.max(1) > _LEAST_SUN)
    good &= count.reshape(months, 24).min(1) >= _LEAST_DAYS
    return (first + np.flatnonzero(good)).astype("datetime64[M]"), lon / 15 + lag[good]


def _clear_sky(values: Array, slot: NDArray[np.int_], count: NDArray[np.int_]) -> Array:
    """Take the high quantile of the values in each slot; 0 where there are none."""
    ordered = np.append(values[np.lexsort((values, slot))], 0)
    start = np.cumsum(count) - count
    place = start + (_CLEAR * (count - 1)).astype(int)
    return np.where(count > 0, ordered[np.minimum(place, values.size)], 0)


def _harmonic(cycle: Array) -> NDArray[np.complexfloating[Any]]:
    """First harmonic of days ``(..., 24)``; never quite 0, so that one may divide by it."""
    return cycle @ np.exp(2j * np.pi * np.arange(24) / 24) + 1e-9


def _hour(time: Times) -> NDArray[np.int_]:
    """Hour of the day of each time."""
    return time.astype("datetime64[h]").astype(int) % 24


def summer_time(months: Times, utc_offset: Array, lat: float) -> float:
    """Tell by how much a clock is ahead in summer.

    Parameters
    ----------
    months, utc_offset : numpy.ndarray
        As :func:`clock_by_month` gives them.
    lat : float
        Latitude [degrees_north]: the months from May to August are winter in the south.

    Returns
    -------
    float
        Summer less winter [hours]: about 1 where a series has daylight saving. NaN without three months
        of each.

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


def hours_between(one: Any, other: Any) -> Any:
    """Hours that one clock is ahead of another, from -12 to 12; of numbers or arrays.

    Examples
    --------
    >>> hours_between(-11.5, 12)
    0.5
    """
    return (one - other + 12) % 24 - 12


class YearOfRadiation(NamedTuple):
    """What is odd about a year of radiation.

    Attributes
    ----------
    year : int
    lit_nights : float
        Share of the hours deep in the night with radiation [1].
    excess : int
        Hours brighter than the sky above the atmosphere.
    clearness : float
        Radiation over potential radiation [1].
    """

    year: int
    lit_nights: float
    excess: int
    clearness: float


def years_of_radiation(radiation: Array, time: Times, sun: Sunlight) -> list[YearOfRadiation]:
    """Compare radiation with the sun, year by year.

    Parameters
    ----------
    radiation : numpy.ndarray
        Incoming shortwave radiation [W m-2], shape ``(hours,)``; NaN where missing.
    time : numpy.ndarray
        Starts of the hours, shape ``(hours,)``.
    sun : Sunlight
        The sun in these hours.

    Returns
    -------
    list of YearOfRadiation
        Of the years with enough hours of day and of night; shares are NaN where only one has enough.

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
        lit = (dark > _DARK).mean() if dark.size >= _LEAST_HOURS else np.nan
        clear = light.sum() / potential.sum() if light.size >= _LEAST_HOURS else np.nan
        excess = int(np.count_nonzero(light > factor * sun.highest[day] + margin))
        found.append(YearOfRadiation(year, float(lit), excess, float(clear)))
    return found
