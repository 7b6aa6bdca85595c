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
