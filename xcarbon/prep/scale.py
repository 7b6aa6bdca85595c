"""Scale predictors to fixed bounds, and derive the predictors that follow from the local time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from xcarbon.core.conventions import HOUR, is_utc
from xcarbon.core.errors import BoundsError, MetadataError
from xcarbon.core.variables import Variable


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
    >>> from xcarbon.core.variables import VARIABLES
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


def local_time(ds: xr.Dataset) -> xr.DataArray:
    """Tell what the time is where the values of a Dataset belong.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers, whose ``time`` is local standard time; or cells of a grid, whose ``time`` is UTC, with their
        longitude ``lon`` [degrees_east].

    Returns
    -------
    xarray.DataArray
        Of towers ``time``; of cells lazily their :func:`mean_solar_time`.

    Raises
    ------
    MetadataError
        If cells have no ``lon``, or the time of towers says that it is UTC.

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
        raise MetadataError("time is in UTC, but towers need local standard time: see xcarbon.open_netcdf")
    if "lon" not in ds.coords:
        raise MetadataError(
            "time on a grid is in UTC, and local solar time needs a coordinate 'lon' [degrees_east], "
            f"but there are {sorted(map(str, ds.coords))}"
        )
    return mean_solar_time(ds["time"], ds["lon"], ds.unify_chunks().chunksizes)


def mean_solar_time(
    time: xr.DataArray, lon: xr.DataArray, chunks: Mapping[Any, tuple[int, ...]]
) -> xr.DataArray:
    """Mean solar time, lazily.

    Parameters
    ----------
    time : xarray.DataArray
        Stamps in UTC, dims ``(time,)``.
    lon : xarray.DataArray
        Longitude [degrees_east] on any dims.
    chunks : mapping
        Chunk sizes along these dims.

    Returns
    -------
    xarray.DataArray
        UTC plus ``lon / 15`` hours, to the second, without the equation of time; dims of ``time`` and
        ``lon``.
    """
    # Without their coordinates: an index is always in memory.
    stamps, degrees = (
        xr.DataArray(array.values, dims=array.dims).chunk({dim: chunks.get(dim, -1) for dim in array.dims})
        for array in (time, lon)
    )
    return xr.apply_ufunc(_solar, stamps, degrees, dask="parallelized", output_dtypes=["M8[s]"])


def _solar(stamps: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Kernel of :func:`mean_solar_time`: the sun turns by one degree in 240 seconds."""
    return stamps.astype("M8[s]") + np.rint(lon * 240).astype("m8[s]")


def time_features(time: xr.DataArray) -> dict[str, xr.DataArray]:
    """Derive day of year and time of day from local time.

    Parameters
    ----------
    time : xarray.DataArray
        Starts of the hours in local time, on any dims; see :func:`local_time`.

    Returns
    -------
    dict of str to xarray.DataArray
        ``DOY`` [1], 1 on the first of January, and ``TOD`` [hours], on the dims of ``time``, float32; lazy
        if ``time`` is.

    Examples
    --------
    >>> noon = xr.DataArray(np.array(["2010-12-31T12:00"], "datetime64[ns]"), dims="time")
    >>> {code: int(values[0]) for code, values in time_features(noon).items()}
    {'DOY': 365, 'TOD': 12}
    """
    return {
        code: xr.apply_ufunc(kernel, time, dask="parallelized", output_dtypes=[np.float32], keep_attrs=False)
        for code, kernel in {"DOY": _day_of_year, "TOD": _time_of_day}.items()
    }


def _day_of_year(time: np.ndarray) -> np.ndarray:
    return ((time.astype("M8[D]") - time.astype("M8[Y]")).astype("int64") + 1).astype(np.float32)


def _time_of_day(time: np.ndarray) -> np.ndarray:
    return ((time - time.astype("M8[D]")) / HOUR).astype(np.float32)
