"""Scale predictors by fixed bounds, and compute the predictors that depend on the local time alone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from dask.array.core import PerformanceWarning

from xcarbon.core.conventions import HOUR, is_utc
from xcarbon.core.errors import BoundsError, MetadataError
from xcarbon.core.variables import Variable


def scale(values: np.ndarray, variable: Variable) -> np.ndarray:
    """Scale values of a predictor by its bounds.

    Parameters
    ----------
    values : numpy.ndarray
        Values in the units of the variable, any shape; NaN where missing.
    variable : Variable
        Variable with bounds.

    Returns
    -------
    numpy.ndarray
        Scaled values [1] of the same shape and precision (float32 for integers):
        ``2 (x - lower) / (upper - lower) - 1`` in [-1, 1) for a cyclic variable, where the upper bound
        becomes -1 like the lower bound, and ``(x - lower) / (upper - lower) - 0.5`` in [-0.5, 0.5] for
        others. Values outside of the bounds become NaN. Values equal to a bound are valid, for example a
        relative humidity of 100 %.

    Raises
    ------
    BoundsError
        If the variable has no bounds, as targets have none.

    Examples
    --------
    >>> from xcarbon.core.variables import VARIABLES
    >>> scale(np.array([-80.0, 0.0, 80.0, 81.0]), VARIABLES["TA"])
    array([-0.5,  0. ,  0.5,  nan])
    >>> scale(np.array([0.0, 180.0, 360.0]), VARIABLES["WD"])
    array([-1.,  0., -1.])
    """
    bounds = variable.bounds
    if bounds is None:
        raise BoundsError(f"{variable.code} has no bounds to scale it by; only predictors can be scaled")
    if not np.issubdtype(values.dtype, np.floating):
        values = values.astype("float32")
    inside = (values >= bounds.lower) & (values <= bounds.upper)
    unit = (np.where(inside, values, np.nan) - bounds.lower) / (bounds.upper - bounds.lower)
    return 2 * (unit % 1) - 1 if variable.cyclic else unit - 0.5


def local_time(ds: xr.Dataset) -> xr.DataArray:
    """Return the local time of the values of a Dataset.

    This is ``time`` for towers, and the lazy :func:`mean_solar_time` for cells of a grid, whose ``time``
    is in UTC. A MetadataError is raised if a grid has no ``lon``, or if the ``time`` of towers is in UTC.

    Examples
    --------
    >>> time = np.array(["2022-07-01T00"], "datetime64[ns]")
    >>> ds = xr.Dataset(coords={"time": time, "lat": [48.0], "lon": [-7.5, 0, 15]})
    >>> local_time(ds).values.tolist()[0]  # doctest: +ELLIPSIS
    [datetime.datetime(2022, 6, 30, 23, 30), datetime.datetime(2022, 7, 1, 0, 0), ...]
    """
    if not is_utc(ds):
        return ds["time"]
    if "site" in ds.coords:
        raise MetadataError(
            "the time of the towers is in UTC; convert it to local standard time, as xcarbon.open_netcdf does"
        )
    if "lon" not in ds.coords:
        raise MetadataError(
            "the time of a grid is in UTC, and its local solar time needs a coordinate 'lon' [degrees_east]; "
            f"add it to the coordinates {sorted(map(str, ds.coords))}"
        )
    return mean_solar_time(ds["time"], ds["lon"], ds.unify_chunks().chunksizes)


def mean_solar_time(
    time: xr.DataArray, lon: xr.DataArray, chunks: Mapping[Any, tuple[int, ...]]
) -> xr.DataArray:
    """Compute mean solar time, lazily: UTC plus ``lon / 15`` hours, without the equation of time.

    ``time (time,)`` is in UTC and ``lon`` [degrees_east] has any dims; ``chunks`` are the chunk sizes
    along these dims. The result is rounded to seconds.
    """
    # The arrays have no coordinates here, because xarray keeps indexes in memory, which cannot be chunked.
    stamps, degrees = (
        xr.DataArray(array.values, dims=array.dims).chunk({dim: chunks.get(dim, -1) for dim in array.dims})
        for array in (time, lon)
    )
    with warnings.catch_warnings():
        # The result has the chunks of the other variables, more than time and longitude have.
        warnings.simplefilter("ignore", PerformanceWarning)
        return xr.apply_ufunc(_solar, stamps, degrees, dask="parallelized", output_dtypes=["M8[s]"])


def _solar(stamps: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Kernel of :func:`mean_solar_time`: one degree of longitude is 240 seconds."""
    return stamps.astype("M8[s]") + np.rint(lon * 240).astype("m8[s]")


def time_features(time: xr.DataArray) -> dict[str, xr.DataArray]:
    """Compute ``DOY`` [1], from 1, and ``TOD`` [hours] as float32 from local time, any dims; lazy if it is.

    Examples
    --------
    >>> noon = xr.DataArray(np.array(["2010-12-31T12:00"], "datetime64[ns]"), dims="time")
    >>> {code: int(values[0]) for code, values in time_features(noon).items()}
    {'DOY': 365, 'TOD': 12}
    """
    return {
        code: xr.apply_ufunc(kernel, time, dask="parallelized", output_dtypes=[np.float32], keep_attrs=False)
        for code, kernel in _CLOCK.items()
    }


def clock_features(time: np.ndarray) -> dict[str, np.ndarray]:
    """Compute ``DOY`` [1] and ``TOD`` [hours] as float32 from an array of local times, any shape."""
    return {code: kernel(time) for code, kernel in _CLOCK.items()}


def _day_of_year(time: np.ndarray) -> np.ndarray:
    return ((time.astype("M8[D]") - time.astype("M8[Y]")).astype("int64") + 1).astype(np.float32)


def _time_of_day(time: np.ndarray) -> np.ndarray:
    return ((time - time.astype("M8[D]")) / HOUR).astype(np.float32)


_CLOCK = {"DOY": _day_of_year, "TOD": _time_of_day}
