"""Water vapour in the air: kernels on arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def saturation_vapour_pressure(temperature: Array) -> Array:
    """Give the vapour pressure of saturated air over water.

    Parameters
    ----------
    temperature : numpy.ndarray
        Temperature of the air, or of its dew point for the vapour pressure itself [degC], of any shape.

    Returns
    -------
    numpy.ndarray
        ``6.1121 exp(17.502 (T - 0.01) / (T + 240.96))`` [hPa]: equation 7.5 of part IV of the IFS
        documentation (cycle 41r2), with the parameters of Buck (1981) for water, to which the dew point
        of ERA5 refers.

    Examples
    --------
    >>> saturation_vapour_pressure(np.array([0.01, 20.0])).round(2)
    array([ 6.11, 23.36])
    """
    return 6.1121 * np.exp(17.502 * (temperature - 0.01) / (temperature + 240.96))
