"""Scale predictors to fixed bounds, and derive the predictors that follow from the time stamp."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xcarbon.errors import BoundsError
from xcarbon.variables import Variable


def scale(values: np.ndarray, variable: Variable) -> np.ndarray:
    """Scale values of a predictor between its bounds.

    Parameters
    ----------
    values : numpy.ndarray
        Values in the units of the variable, of any shape; NaN where missing.
    variable : Variable
        Whose bounds to use.

    Returns
    -------
    numpy.ndarray
        Scaled values [1] of the same shape and precision (single for integers):
        ``2 (x - lower) / (upper - lower) - 1`` in [-1, 1) for a cyclic variable, whose upper bound is
        its lower one again, and ``(x - lower) / (upper - lower) - 0.5`` in [-0.5, 0.5] for the
        others. Both bounds belong to the range (air is often saturated at a relative humidity of
        100 %); what is outside is missing.

    Raises
    ------
    BoundsError
        If the variable is a target and has no bounds.

    Examples
    --------
    >>> from xcarbon.variables import VARIABLES
    >>> scale(np.array([-80.0, 0.0, 80.0, 81.0]), VARIABLES["TA"])
    array([-0.5,  0. ,  0.5,  nan])
    >>> scale(np.array([0.0, 180.0, 360.0]), VARIABLES["WD"])
    array([-1.,  0., -1.])
    """
    bounds = variable.bounds
    if bounds is None:
        raise BoundsError(f"{variable.code} is a target and has no scaling bounds")
    if not np.issubdtype(values.dtype, np.floating):
        values = values.astype("float32")
    inside = (values >= bounds.lower) & (values <= bounds.upper)
    unit = (np.where(inside, values, np.nan) - bounds.lower) / (bounds.upper - bounds.lower)
    return 2 * (unit % 1) - 1 if variable.cyclic else unit - 0.5


def time_features(time: xr.DataArray) -> dict[str, xr.DataArray]:
    """Derive day of year and time of day from the time stamp.

    Parameters
    ----------
    time : xarray.DataArray
        Starts of the hours in local standard time, dims ``(time,)``.

    Returns
    -------
    dict of str to xarray.DataArray
        ``DOY`` [1], 1 on the first of January, and ``TOD`` [hours], each ``(time,)``.

    Examples
    --------
    >>> noon = xr.DataArray(np.array(["2010-12-31T12:00"], "datetime64[ns]"), dims="time")
    >>> {code: int(values[0]) for code, values in time_features(noon).items()}
    {'DOY': 365, 'TOD': 12}
    """
    hours = time.dt.hour + time.dt.minute / 60
    return {"DOY": time.dt.dayofyear.astype("float32"), "TOD": hours.astype("float32")}
