"""Drivers, the variables of ERA5 that they are computed from, and the kernels that compute them.

Kernels compute hours ``(hours, lat, lon)`` from the values at the ends of hours ``(hours + 1, lat, lon)``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xcarbon.core.errors import FileFormatError, VariableError
from xcarbon.core.notices import warn
from xcarbon.core.variables import VARIABLES
from xcarbon.prep.humidity import relative_humidity, saturation_vapour_pressure, vapour_pressure_deficit

Array = NDArray[np.floating[Any]]
#: Accumulation period of sums: the hour that ends at a stamp, or the time since 00 UTC.
Accumulated = Literal["hour", "day"]


@dataclass(frozen=True, slots=True)
class Driver:
    """A variable, its sources in ERA5, and the kernel that computes it from their values or sums."""

    code: str
    sources: tuple[str, ...]
    kernel: Callable[..., NDArray[np.float32]]
    of_sums: bool = False
    factor: float = 1.0
    comment: str = "mean of the values at the two ends of the hour"


def _celsius(temperature: Array) -> Array:
    return temperature - 273.15


def _vapour_pressures(temperature: Array, dew_point: Array) -> tuple[Array, Array]:
    """Actual and saturation vapour pressure [hPa] from temperature and dew point [K]."""
    return saturation_vapour_pressure(_celsius(dew_point)), saturation_vapour_pressure(_celsius(temperature))


def _relative_humidity(temperature: Array, dew_point: Array) -> Array:
    return relative_humidity(*_vapour_pressures(temperature, dew_point))


def _vapour_pressure_deficit(temperature: Array, dew_point: Array) -> Array:
    return vapour_pressure_deficit(*_vapour_pressures(temperature, dew_point))


def _kilopascals(pressure: Array) -> Array:
    return pressure / 1000


def _mean_of_ends(values: Array) -> Array:
    return (values[:-1] + values[1:]) / 2


def _mean(*ends: Array, instant: Callable[..., Array]) -> NDArray[np.float32]:
    """Hourly mean of a quantity that ``instant`` computes at both ends of the hour."""
    return _mean_of_ends(instant(*ends)).astype(np.float32)


def _direction(u: Array, v: Array) -> NDArray[np.float32]:
    """Direction that the mean wind comes from [degree], from 0 to below 360; NaN without wind."""
    u, v = _mean_of_ends(u), _mean_of_ends(v)
    degrees = (np.degrees(np.arctan2(-u, -v)) % 360).astype(np.float32)
    degrees[degrees == 360] = 0  # float32 rounds the remainder of a tiny negative angle up to 360
    return np.where((u == 0) & (v == 0), np.float32(np.nan), degrees)


def _amount(
    sums: Array, first_of_day: NDArray[np.bool_], *, code: str, factor: float, accumulated: Accumulated
) -> NDArray[np.float32]:
    """Amount of each hour from sums over the hour or since 00 UTC."""
    amounts = sums[1:]
    if accumulated == "day":
        amounts = amounts - np.where(first_of_day[:, None, None], 0, sums[:-1])
    amounts = amounts * factor
    _check_amounts(amounts, code, accumulated)
    return np.maximum(amounts, 0).astype(np.float32)


def _check_amounts(amounts: Array, code: str, accumulated: Accumulated) -> None:
    """Check for amounts that only result from the other accumulation period: far below 0 or too large."""
    variable = VARIABLES[code]
    assert variable.bounds is not None  # every predictor has bounds
    upper = variable.bounds.upper
    wrong = amounts[(amounts < -0.01 * upper) | (amounts > upper)]
    if wrong.size:
        kinds = {"hour": "over the hour", "day": "since 00 UTC"}
        other = "day" if accumulated == "hour" else "hour"
        raise FileFormatError(
            f"{code} would be {wrong[0]:g} {variable.units}, so the files do not contain sums "
            f"{kinds[accumulated]} but probably {kinds[other]}; pass accumulated={other!r}"
        )


def _state(code: str, sources: tuple[str, ...], instant: Callable[..., Array]) -> Driver:
    return Driver(code, sources, functools.partial(_mean, instant=instant))


def _sum(code: str, source: str, factor: float) -> Driver:
    """Describe a driver from sums [m or J m-2], which ``factor`` converts to the units of the variable."""
    return Driver(code, (source,), functools.partial(_amount, code=code, factor=factor), True, factor)


#: Units of the sources by their short names, and their names in the Climate Data Store and Earth Engine.
SOURCES = {
    "t2m": ("K", "2m_temperature", "temperature_2m"),
    "d2m": ("K", "2m_dewpoint_temperature", "dewpoint_temperature_2m"),
    "sp": ("Pa", "surface_pressure"),
    "tp": ("m", "total_precipitation"),
    "ssrd": ("J m-2", "surface_solar_radiation_downwards"),
    "strd": ("J m-2", "surface_thermal_radiation_downwards"),
    "u10": ("m s-1", "10m_u_component_of_wind", "u_component_of_wind_10m"),
    "v10": ("m s-1", "10m_v_component_of_wind", "v_component_of_wind_10m"),
}
DRIVERS = (
    _state("TA", ("t2m",), _celsius),
    _sum("P", "tp", 1000),
    _state("RH", ("t2m", "d2m"), _relative_humidity),
    _state("VPD", ("t2m", "d2m"), _vapour_pressure_deficit),
    _state("PA", ("sp",), _kilopascals),
    _sum("SW_IN", "ssrd", 1 / 3600),
    _sum("LW_IN", "strd", 1 / 3600),
    _state("WS", ("u10", "v10"), np.hypot),
    Driver("WD", ("u10", "v10"), _direction, comment="direction of the mean wind vector"),
)


def no_driver(found: list[Any], where: str) -> VariableError:
    """Return the error of a file from whose variables no driver can be computed."""
    known = "; ".join(f"{driver.code} from {' and '.join(driver.sources)}" for driver in DRIVERS)
    return VariableError(
        f"{where}: no driver can be computed from {found}; xcarbon computes {known}; use the names {_names()}"
    )


def warn_of_unread(unread: list[str], drivers: list[Driver], where: str) -> None:
    """Warn of variables that are not read, if one of them could be the source of a driver that is absent."""
    absent = [driver.code for driver in DRIVERS if driver not in drivers]
    if unread and absent:
        more = f" and {len(unread) - 5} more" if len(unread) > 5 else ""
        warn(
            f"{where}: {', '.join(absent)} cannot be computed, and the variables "
            f"{', '.join(unread[:5])}{more} are not used; if they are the sources of these drivers, rename "
            f"them: {_names()}"
        )


def _names() -> str:
    return ", ".join(" or ".join((short, *names)) for short, (_, *names) in SOURCES.items())
