"""Simulate weather, fluxes and satellite patches of one tower; each process is one function on arrays.

Weather is computed from solar geometry and autoregressive noise, uptake from light-use efficiency,
respiration from temperature, and patches from the phenology of the same vegetation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xcarbon.core.conventions import HOUR, MISSING_FLAG, QC
from xcarbon.core.variables import (
    PAPER_INPUTS,
    PATCH_BANDS,
    REFLECTANCE_BANDS,
    TARGETS,
    VARIABLES,
    QualityScheme,
    quality_scheme,
)
from xcarbon.io.modis.grid import PATCH_PIXELS
from xcarbon.prep.humidity import saturation_vapour_pressure
from xcarbon.prep.sun import SOLAR_CONSTANT

Array = NDArray[np.floating[Any]]
Generator = np.random.Generator

#: Codes of all variables that can be simulated.
SIMULATED = (*PAPER_INPUTS[2:], *TARGETS, "SW_IN_POT", "SWC_1", "TS_1")
#: Numbers of the independent random streams of a tower.
_SITE, _WEATHER, _FLUX, _GAPS, _PATCH, _SERIES = range(6)

_STEFAN_BOLTZMANN = 5.670374e-8  # [W m-2 K-4]
_KELVIN = 273.15
_PPFD_PER_WATT = 2.04  # photosynthetic photons in sunlight [umol J-1]
_CLOSURE = 0.85  # share of the available energy that eddy covariance measures [1]
_NOON = slice(12, None, 24)


@dataclass(frozen=True)
class _Ecosystem:
    """Parameters of the vegetation of one IGBP class."""

    regions: tuple[str, ...]
    fapar: tuple[float, float]  # absorbed share of light in winter and summer [1]
    season: tuple[float, float]  # steepness and onset of the season in the annual cosine [1]
    light_use: float  # quantum yield [1]
    uptake_limit: float  # light-saturated uptake of a closed canopy [umol m-2 s-1]
    respiration: float  # respiration at 10 degC [umol m-2 s-1]
    albedo: float  # albedo without snow [1]
    drag: float  # friction velocity per wind speed [1]
    brightness: float = 1.0  # reflectance of the canopy, relative to grass [1]
    methane: float = -1.0  # methane flux at 10 degC [nmol m-2 s-1]


# fmt: off
_ECOSYSTEMS = {
    # regions, fapar, season,
    # light use, uptake limit, respiration, albedo, drag, brightness, methane
    "ENF": _Ecosystem(("europe", "canada", "russia"), (0.60, 0.82), (5, 0.00),
                      0.045, 30, 2.8, 0.09, 0.19, 0.60),
    "DBF": _Ecosystem(("usa", "europe", "russia"), (0.18, 0.88), (9, 0.10),
                      0.050, 38, 2.6, 0.14, 0.18, 0.95),
    "GRA": _Ecosystem(("mongolia", "australia", "usa"), (0.20, 0.70), (5, 0.10),
                      0.042, 26, 2.2, 0.20, 0.10),
    "CRO": _Ecosystem(("usa", "south america", "europe"), (0.10, 0.85), (14, 0.35),
                      0.055, 45, 2.4, 0.19, 0.09, 1.10),
    "EBF": _Ecosystem(("amazon", "south america"), (0.85, 0.90), (3, 0.00),
                      0.045, 34, 2.4, 0.12, 0.20, 0.90),
    "MF": _Ecosystem(("europe", "canada", "russia"), (0.40, 0.85), (7, 0.05),
                     0.048, 34, 2.7, 0.12, 0.19, 0.80),
    "WET": _Ecosystem(("canada", "russia"), (0.15, 0.60), (8, 0.20),
                      0.035, 18, 1.4, 0.15, 0.10, 0.85, 60.0),
    "SAV": _Ecosystem(("southern africa", "australia"), (0.30, 0.60), (4, 0.10),
                      0.038, 22, 1.5, 0.17, 0.14),
    "OSH": _Ecosystem(("mongolia", "australia", "usa"), (0.15, 0.40), (4, 0.10),
                      0.035, 14, 1.1, 0.22, 0.11, 1.10),
}
# fmt: on
_FIRST_CLASSES = ("ENF", "DBF", "GRA", "CRO")
_MORE_CLASSES = ("EBF", "WET", "MF", "SAV", "OSH", *_FIRST_CLASSES)

#: Ranges of latitude and longitude [degrees] that contain little water.
_REGIONS = {
    "europe": ((45, 52), (4, 25)),
    "usa": ((34, 42), (-112, -83)),
    "canada": ((50, 58), (-119, -97)),
    "russia": ((57, 63), (32, 60)),
    "mongolia": ((42, 50), (85, 118)),
    "amazon": ((-9, -2), (-68, -52)),
    "south america": ((-32, -21), (-62, -53)),
    "southern africa": ((-28, -15), (18, 29)),
    "australia": ((-30, -20), (130, 141)),
}


@dataclass(frozen=True)
class Site:
    """One tower, and its deviations from other towers of the same class."""

    seed: int
    index: int
    igbp: str
    lat: float
    lon: float
    elevation: float
    utc_offset: float
    vigour: float  # factor of the uptake, relative to the class [1]
    delay: float  # delay of the growing season [days]

    @property
    def ecosystem(self) -> _Ecosystem:
        """Parameters of the class."""
        return _ECOSYSTEMS[self.igbp]

    def rng(self, stream: int) -> Generator:
        """Return the random generator of one stream."""
        return _rng(self.seed, self.index, stream)


def _rng(seed: int, index: int, stream: int) -> Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index, stream)))


@dataclass(frozen=True)
class Period:
    """The time axis, and quantities of it that the simulation uses."""

    start: str
    years: int

    @property
    def days(self) -> NDArray[np.datetime64]:
        """Midnight of each day."""
        end = pd.Timestamp(self.start) + pd.DateOffset(years=self.years)
        return pd.date_range(self.start, end, inclusive="left", unit="ns").values

    @property
    def hours(self) -> NDArray[np.datetime64]:
        """Start of each hour."""
        return (self.days[:, np.newaxis] + np.arange(24) * HOUR).ravel()

    @property
    def day_of_year(self) -> Array:
        """Day of the year of each hour, from 1."""
        return pd.DatetimeIndex(self.hours).day_of_year.to_numpy(float)

    @property
    def hour(self) -> Array:
        """Hour of the day, from 0."""
        return pd.DatetimeIndex(self.hours).hour.to_numpy(float)

    @property
    def years_since_2010(self) -> Array:
        """Time of each hour since the start of 2010 [years]."""
        return (self.hours - np.datetime64("2010-01-01")) / np.timedelta64(8766, "h")


def draw_site(seed: int, index: int) -> Site:
    """Draw the location and parameters of a tower from a region of its class."""
    rng = _rng(seed, index, _SITE)
    classes, position = (_FIRST_CLASSES, index) if index < 12 else (_MORE_CLASSES, index - 12)
    igbp = classes[position % len(classes)]
    names = _ECOSYSTEMS[igbp].regions
    region = names[(index // len(_FIRST_CLASSES)) % len(names)]
    lat, lon = (round(rng.uniform(*edges), 4) for edges in _REGIONS[region])
    return Site(
        seed=seed,
        index=index,
        igbp=igbp,
        lat=lat,
        lon=lon,
        elevation=round(rng.lognormal(5.3, 0.7)),
        utc_offset=9.5 if region == "australia" else round(lon / 15),
        vigour=rng.normal(1, 0.07),
        delay=rng.normal(0, 7),
    )


def _ar1(rng: Generator, size: int, memory: float) -> Array:
    """Draw standard normal noise whose autocorrelation decays over ``memory`` steps."""
    persistence = np.exp(-1 / memory)
    return _filter(rng.standard_normal(size), persistence) * np.sqrt(1 - persistence**2)


def _smooth(values: Array, memory: float) -> Array:
    """Mean of past values, weighted by exp(-age / ``memory``)."""
    persistence = np.exp(-1 / memory)
    return _filter(values, persistence) * (1 - persistence)


def _filter(values: Array, persistence: float) -> Array:
    """Solve ``y[i] = persistence * y[i - 1] + values[i]`` with periodic boundaries."""
    frequency = np.fft.rfftfreq(values.size)
    response = 1 / (1 - persistence * np.exp(-2j * np.pi * frequency))
    return np.fft.irfft(np.fft.rfft(values) * response, values.size)


def _logistic(values: Array) -> Array:
    return 1 / (1 + np.exp(-values))


def _annual_cosine(lat: float, day_of_year: Array, warmest: float) -> Array:
    """Cosine that is 1 on the warmest day, which is given for the northern hemisphere."""
    peak = warmest if lat >= 0 else warmest - 182.6
    return np.cos(2 * np.pi * (day_of_year - peak) / 365.25)


def _potential_radiation(site: Site, period: Period) -> Array:
    """Sunlight [W m-2] on a level surface above the atmosphere, in the middle of the hour."""
    # These formulas are simpler than those of xcarbon.prep.sun, which would change all synthetic towers.
    angle = 2 * np.pi * (period.day_of_year - 81) / 365.25
    declination = np.radians(23.44) * np.sin(angle)
    equation_of_time = 9.87 * np.sin(2 * angle) - 7.53 * np.cos(angle) - 1.5 * np.sin(angle)
    solar_hour = period.hour + 0.5 + site.lon / 15 - site.utc_offset + equation_of_time / 60
    lat, hour_angle = np.radians(site.lat), np.radians(15 * (solar_hour - 12))
    elevation = np.sin(lat) * np.sin(declination)
    elevation = elevation + np.cos(lat) * np.cos(declination) * np.cos(hour_angle)
    distance = 1 + 0.033 * np.cos(2 * np.pi * period.day_of_year / 365.25)
    return SOLAR_CONSTANT * distance * np.maximum(elevation, 0)


def _weather(site: Site, period: Period) -> dict[str, Array]:
    """Simulate meteorological variables by code, and ``cloud``, the cloud cover [1]."""
    rng, size = site.rng(_WEATHER), period.hours.size
    potential = _potential_radiation(site, period)
    cloud = _logistic(1.6 * _ar1(rng, size, 18) - 0.2)
    sunlight = potential * (0.76 - 0.56 * cloud**1.5)
    season = _annual_cosine(site.lat, period.day_of_year, 205)
    climate = 27 - 0.0075 * site.lat**2 - 0.0055 * site.elevation
    slow = climate + 0.28 * abs(site.lat) * season + 3.5 * _ar1(rng, size, 72)
    temperature = slow + 0.013 * (_smooth(sunlight, 4) - _smooth(sunlight, 120))
    rain = np.where((cloud > 0.72) & (rng.random(size) < 0.22), rng.exponential(1.2, size), 0)
    wind = 2.6 * np.exp(0.5 * _ar1(rng, size, 12)) * (0.8 + 0.4 * potential / SOLAR_CONSTANT)
    pressure = 101.325 * (1 - 2.25577e-5 * site.elevation) ** 5.25588
    night_air = 14 * np.exp(-wind / 2) * (_smooth(potential, 2) < 60)
    return {
        "TA": temperature,
        "P": rain,
        "PA": pressure + 0.6 * _ar1(rng, size, 96),
        "CO2": 390 + 2.2 * period.years_since_2010 + night_air + 2 * _ar1(rng, size, 48),
        "SW_IN": sunlight,
        "SW_IN_POT": potential,
        "PPFD_IN": _PPFD_PER_WATT * sunlight * (1 + 0.05 * cloud),
        "WS": wind,
        "WD": (220 + 90 * _ar1(rng, size, 36)) % 360,
        "USTAR": site.ecosystem.drag * wind * np.exp(0.15 * rng.standard_normal(size)),
        "cloud": cloud,
        **_humidity(rng, slow, temperature, cloud, rain),
    }


def _humidity(rng: Generator, slow: Array, temperature: Array, cloud: Array, rain: Array) -> dict[str, Array]:
    """Relative humidity and vapour pressure deficit; the dew point follows the slow part of temperature."""
    dew_point = slow - 8 + 5 * cloud + 2 * _ar1(rng, slow.size, 48)
    dew_point = np.where(rain > 0, temperature - 0.4, np.minimum(dew_point, temperature))
    saturation, vapour = saturation_vapour_pressure(temperature), saturation_vapour_pressure(dew_point)
    return {"RH": 100 * vapour / saturation, "VPD": saturation - vapour}


def absorbed_light(site: Site, period: Period) -> Array:
    """Share of light that the canopy absorbs [1]."""
    winter, summer = site.ecosystem.fapar
    steepness, onset = site.ecosystem.season
    season = _annual_cosine(site.lat, period.day_of_year - site.delay, 200)
    return winter + (summer - winter) * _logistic(steepness * (season - onset))


def _snow_cover(air: Mapping[str, Array]) -> Array:
    """Share of the ground that is covered by snow [1]."""
    return _logistic(-1.5 * (_smooth(air["TA"], 240) + 1))


def _soil(air: Mapping[str, Array]) -> dict[str, Array]:
    """Temperature and moisture of the topsoil."""
    mean = air["TA"].mean()
    daily_rain = 24 * _smooth(air["P"], 240)
    return {
        "TS_1": mean + 0.5 + 0.9 * (_smooth(air["TA"], 30) - mean),
        "SWC_1": 8 + 35 * daily_rain / (daily_rain + 1),
    }


def _radiation(site: Site, air: Mapping[str, Array], fapar: Array) -> dict[str, Array]:
    """Radiation balance of the surface."""
    kelvin = air["TA"] + _KELVIN
    vapour = saturation_vapour_pressure(air["TA"]) - air["VPD"]
    clear = 1.24 * (vapour / kelvin) ** (1 / 7)
    longwave_in = np.minimum(clear * (1 + 0.35 * air["cloud"]), 1) * _STEFAN_BOLTZMANN * kelvin**4
    surface = kelvin + 0.008 * air["SW_IN"] - 3 * (1 - air["cloud"]) * (air["SW_IN"] == 0)
    longwave_out = 0.97 * _STEFAN_BOLTZMANN * surface**4 + 0.03 * longwave_in
    shortwave_out = air["SW_IN"] * (site.ecosystem.albedo + 0.4 * _snow_cover(air) * (1 - fapar))
    return {
        "LW_IN": longwave_in,
        "LW_OUT": longwave_out,
        "SW_OUT": shortwave_out,
        "PPFD_OUT": air["PPFD_IN"] * (0.11 - 0.08 * fapar),
        "NETRAD": air["SW_IN"] - shortwave_out + longwave_in - longwave_out,
    }


def _heat(rng: Generator, state: Mapping[str, Array], fapar: Array) -> dict[str, Array]:
    """Divide the available energy, reduced by the closure gap of eddy covariance, into heat fluxes."""
    ground = (0.05 + 0.15 * (1 - fapar)) * _smooth(state["NETRAD"], 2)
    available = _CLOSURE * (state["NETRAD"] - ground)
    wetness = np.minimum(state["SWC_1"] / 30, 1) * _logistic(state["TA"] / 4)
    latent = (0.1 + 0.65 * fapar) * wetness * np.maximum(available, 0)
    sensible = available - latent
    return {"G": ground, "LE": _measured(rng, latent, 3), "H": _measured(rng, sensible, 3)}


def _measured(rng: Generator, flux: Array, least: float) -> Array:
    """Add the random error of eddy covariance: Laplacian, with a scale that increases with the flux."""
    return flux + rng.laplace(0, 1, flux.size) * (least + 0.08 * np.abs(flux))


def _carbon(site: Site, rng: Generator, state: Mapping[str, Array], fapar: Array) -> dict[str, Array]:
    """Uptake by light-use efficiency, respiration after Lloyd and Taylor, and the measured fluxes."""
    plants, air = site.ecosystem, state["TA"]
    warmth = np.clip((air + 3) / 18, 0, 1) * np.clip((44 - air) / 16, 0, 1)
    stress = warmth / (1 + (state["VPD"] / 30) ** 2)
    light = plants.light_use * fapar * state["PPFD_IN"]
    limit = plants.uptake_limit * fapar
    uptake = site.vigour * stress * light * limit / (light + limit)
    soil = np.maximum(state["TS_1"], -25)
    acclimation = np.exp(-0.04 * (soil.mean() - 10))
    release = plants.respiration * acclimation * (0.6 + 0.5 * fapar)
    release = release * np.exp(308.56 * (1 / 56.02 - 1 / (soil + 46.02)))
    drift = {name: 1 + 0.06 * _ar1(rng, air.size, 240) for name in ("DT", "NT")}
    return {
        "NEE": _measured(rng, release - uptake, 0.5),
        "FCH4": _measured(rng, plants.methane * np.exp(0.1 * (state["TS_1"] - 10)), 1),
        **{f"GPP_{name}": uptake * np.maximum(factor, 0) for name, factor in drift.items()},
        **{f"RECO_{name}": release * np.maximum(factor, 0) for name, factor in drift.items()},
    }


def _simulate(site: Site, period: Period) -> dict[str, Array]:
    """Simulate all variables of a tower, without gaps."""
    rng, fapar = site.rng(_FLUX), absorbed_light(site, period)
    state = _weather(site, period)
    state |= _soil(state)
    state |= _radiation(site, state, fapar)
    state |= _heat(rng, state, fapar)
    return state | _carbon(site, rng, state, fapar)


# --- Gaps, gap-filling and quality flags --------------------------------------


def flag_scheme(code: str) -> QualityScheme | None:
    """Return the quality scheme of a variable in FLUXNET, or None if it has no quality flags there."""
    column = VARIABLES[code].columns[0]
    return quality_scheme(column) if "_F" in column or code == "NEE" else None


def _outages(rng: Generator, size: int, rate: float) -> NDArray[np.int8]:
    """Grade each hour: 0 measured, 1 to 3 gap-filled with decreasing quality, 4 missing."""
    # Gaps last hours, about a day, or weeks; with a rate of 1 they cover about eight percent of the hours.
    grade = np.zeros(size, np.int8)
    for per_year, mean_length in ((60, 3), (10, 24), (0.8, 350)):
        for begin in rng.integers(size, size=rng.poisson(rate * per_year * size / 8760)):
            length = rng.geometric(1 / mean_length)
            gap = grade[begin : begin + length]
            np.maximum(gap, 1 + np.searchsorted((12, 72, 480), length), out=gap)
    return grade


def _grades(rng: Generator, state: Mapping[str, Array]) -> dict[str, NDArray[np.int8]]:
    """Grade each variable: power cuts affect all, sensors fail independently, fluxes fail in calm nights."""
    size = state["TA"].size
    power, sonic = _outages(rng, size, 0.3), _outages(rng, size, 2)
    grades = {code: np.maximum(power, _outages(rng, size, 0.6)) for code in SIMULATED}
    calm_night = (state["USTAR"] < 0.2) & (state["SW_IN_POT"] == 0)
    for code in ("H", "LE", "NEE", "FCH4"):
        grades[code] = np.maximum(grades[code], sonic)
    grades["NEE"] = np.maximum(grades["NEE"], calm_night)
    for code in ("GPP_DT", "GPP_NT", "RECO_DT", "RECO_NT"):
        grades[code] = np.where(grades["NEE"] == 4, np.int8(4), np.int8(0))
    grades["SW_IN_POT"][:] = 0
    return grades


def _add_gaps(rng: Generator, state: Mapping[str, Array]) -> dict[str, Array]:
    """Replace values by gap-filled and missing ones, and add quality flags."""
    rows: dict[str, Array] = {}
    for code, grade in _grades(rng, state).items():
        values, scheme = state[code], flag_scheme(code)
        if scheme is None:
            rows[code] = np.where(grade > 0, np.nan, values)
            continue
        error = np.clip(0.1 * grade * _ar1(rng, values.size, 24), -0.9, 0.9)
        filled = values + error * np.minimum(np.abs(values), values.std())
        rows[code] = np.where(grade == 4, np.nan, filled)
        flags = np.array([*range(4), MISSING_FLAG]).clip(max=scheme.flag_values[-1])
        rows[f"{code}{QC}"] = flags[grade].astype(float)
    return rows


def tower_rows(site: Site, period: Period, rows: Sequence[str], gaps: bool) -> NDArray[np.float32]:
    """Return series and quality flags of one tower, ``(row, time)``."""
    state = _simulate(site, period)
    if gaps:
        state |= _add_gaps(site.rng(_GAPS), state)
    measured = np.zeros(period.hours.size)
    return np.stack([state.get(row, measured) for row in rows]).astype(np.float32)


# --- Patches ------------------------------------------------------------------

#: Reflectance [1] of bare soil and its covers, by MODIS band.
_SPECTRA = {
    "soil": np.array([0.17, 0.25, 0.09, 0.13, 0.32, 0.35, 0.28]),
    "plants": np.array([0.03, 0.42, 0.025, 0.06, 0.38, 0.2, 0.08]),
    "snow": np.array([0.85, 0.8, 0.88, 0.87, 0.5, 0.12, 0.08]),
    "water": np.array([0.03, 0.02, 0.05, 0.05, 0.01, 0.008, 0.005]),
}


def _texture(rng: Generator) -> Array:
    """Draw a smooth pattern ``(y, x)`` with mean 0 and standard deviation 1."""
    noise = rng.standard_normal((PATCH_PIXELS + 2, PATCH_PIXELS + 2))
    pattern = np.lib.stride_tricks.sliding_window_view(noise, (3, 3)).mean((2, 3))
    return (pattern - pattern.mean()) / pattern.std()


def _mix(below: Array, share: Array, above: Array) -> Array:
    """Mix spectra ``(..., band, y, x)`` with a share ``(..., y, x)`` of another spectrum."""
    share = share[..., np.newaxis, :, :]
    return below * (1 - share) + above * share


def tower_patches(site: Site, period: Period, gaps: bool) -> NDArray[np.float32]:
    """Return reflectance, snow and water of one tower, ``(day, band, y, x)``; NaN or -1 for fill pixels."""
    rng, air = site.rng(_PATCH), _weather(site, period)
    plants, soil, white, wet = (
        _SPECTRA[name][:, np.newaxis, np.newaxis] for name in ("plants", "soil", "snow", "water")
    )
    green = absorbed_light(site, period)[_NOON, np.newaxis, np.newaxis] * (1 + 0.15 * _texture(rng))
    snow = _snow_cover(air)[_NOON, np.newaxis, np.newaxis] + 0.12 * _texture(rng) > 0.5
    water = _texture(rng) > (1.2 if site.igbp == "WET" else 2.2)
    surface = _mix(soil, np.clip(green, 0, 0.97), plants * site.ecosystem.brightness)
    surface = _mix(surface, 0.8 * snow, white)
    surface = _mix(surface, 0.9 * water, wet)
    surface *= 1 + 0.03 * rng.standard_normal(surface.shape)
    flags = np.stack([snow, np.broadcast_to(water, snow.shape)], axis=1)
    patch = np.concatenate([surface.round(4), flags], axis=1).astype(np.float32)
    return _hide(patch, _fill(rng, air["cloud"])) if gaps else patch


def _fill(rng: Generator, cloud: Array) -> NDArray[np.bool_]:
    """Draw the pixels that clouds hide, ``(day, y, x)``; some days are hidden completely."""
    overcast = _smooth(cloud, 96)[_NOON, np.newaxis, np.newaxis]
    lost_day = rng.random(overcast.shape) < 0.06
    return (overcast + 0.06 * _texture(rng) > 0.62) | lost_day


def _hide(patch: NDArray[np.float32], fill: NDArray[np.bool_]) -> NDArray[np.float32]:
    missing = np.full(len(PATCH_BANDS), np.nan, np.float32)
    missing[len(REFLECTANCE_BANDS) :] = MISSING_FLAG
    return np.where(fill[:, np.newaxis], missing[:, np.newaxis, np.newaxis], patch)


# --- Satellite series ---------------------------------------------------------

#: Length of a composite [days].
COMPOSITE_DAYS = 8
#: Satellite series that are simulated, each with its quality flags.
SERIES = ("FAPAR", "FAPAR_QC", "LAI", "LAI_QC")


def composite_days(period: Period) -> NDArray[np.datetime64]:
    """Return the day at the centre of each composite."""
    return period.days[COMPOSITE_DAYS // 2 :: COMPOSITE_DAYS]


def tower_series(site: Site, period: Period, gaps: bool) -> NDArray[np.float32]:
    """Return the :data:`SERIES` of one tower, ``(row, day)``; NaN or -1 where clouds hide the surface."""
    rng = site.rng(_SERIES)
    fapar = absorbed_light(site, period)[_NOON][COMPOSITE_DAYS // 2 :: COMPOSITE_DAYS]
    fapar = np.clip(fapar + 0.02 * rng.standard_normal(fapar.size), 0.01, 0.98)
    flags = np.zeros(fapar.size)
    if gaps:
        flags = rng.choice([0.0, 1.0, 2.0, float(MISSING_FLAG)], fapar.size, p=[0.75, 0.1, 0.1, 0.05])
        fapar[flags == MISSING_FLAG] = np.nan
    return np.stack([fapar, flags, -2 * np.log(1 - fapar), flags]).astype(np.float32)
