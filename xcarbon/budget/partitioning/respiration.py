"""The response of ecosystem respiration to temperature: array kernels."""

from __future__ import annotations

import numpy as np

from xcarbon.budget.partitioning.least_squares import Array, Index, Model

#: Reference temperature, and temperature of no respiration [degC], of Lloyd and Taylor (1994).
REFERENCE, NO_RESPIRATION = 15.0, -46.02


def inverse_temperature(ta: Array) -> Array:
    """Return 1 / (Tref - T0) - 1 / (T - T0) [K-1] for temperatures [degC]; NaN at T0 and below.

    Examples
    --------
    >>> inverse_temperature(np.array([15.0, 25.0])).round(4)
    array([0.    , 0.0023])
    """
    above = np.where(ta > NO_RESPIRATION, ta - NO_RESPIRATION, np.nan)
    return 1 / (REFERENCE - NO_RESPIRATION) - 1 / above


def lloyd_taylor_model(inverse: Array) -> Model:
    """Return the model of respiration with the parameters (Rref, E0) in windows, ``(windows, samples)``."""

    def model(parameters: Array, rows: Index) -> tuple[Array, Array]:
        rref, e0 = parameters.T[..., np.newaxis]
        response = np.exp(e0 * inverse[rows])
        return rref * response, np.stack([response, rref * response * inverse[rows]], axis=1)

    return model
