"""Array kernels for water vapour in the air."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def saturation_vapour_pressure(temperature: Array) -> Array:
    """Compute the saturation vapour pressure over water [hPa] of air temperatures [degC], any shape.

    ``6.1121 exp(17.502 (T - 0.01) / (T + 240.96))`` is equation 7.5 of part IV of the IFS documentation
    (cycle 41r2) with the parameters of Buck (1981) for water. The dew point, also that of ERA5, gives the
    actual vapour pressure.

    Examples
    --------
    >>> saturation_vapour_pressure(np.array([0.01, 20.0])).round(2)
    array([ 6.11, 23.36])
    """
    return 6.1121 * np.exp(17.502 * (temperature - 0.01) / (temperature + 240.96))


def vapour_pressure(specific_humidity: Array, pressure: Array) -> Array:
    """Compute the vapour pressure of specific humidity [1], in the units of ``pressure``, any shape.

    ``e = q p / (0.622 + 0.378 q)``, where 0.622 is the ratio of the molar masses of water and dry air.

    Examples
    --------
    >>> vapour_pressure(np.array([0.0, 0.01]), np.array([1000.0, 1000.0])).round(2)
    array([ 0.  , 15.98])
    """
    return specific_humidity * pressure / (0.622 + 0.378 * specific_humidity)


def relative_humidity(vapour: Array, saturated: Array) -> Array:
    """Compute relative humidity [%], from 0 to 100, of the actual and the saturation vapour pressure.

    Examples
    --------
    >>> relative_humidity(np.array([5.0, 12.0]), np.array([10.0, 10.0]))
    array([ 50., 100.])
    """
    return np.clip(100 * vapour / saturated, 0, 100)


def vapour_pressure_deficit(vapour: Array, saturated: Array) -> Array:
    """Compute the vapour pressure deficit, at least 0, of the actual and the saturation vapour pressure.

    Examples
    --------
    >>> vapour_pressure_deficit(np.array([5.0, 12.0]), np.array([10.0, 10.0]))
    array([5., 0.])
    """
    return np.maximum(saturated - vapour, 0)
