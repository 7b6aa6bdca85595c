"""Means over days, weeks, months and years of a tower: kernels on arrays, and how to map them over towers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Stamps = NDArray[np.datetime64]
Index = NDArray[np.int_]

#: The epoch of numpy's calendar, from which it counts weeks, was a Thursday [days after a Monday].
_MONDAY = 3


class Periods(NamedTuple):
    """The days, weeks, months or years from the first stamp to the last.

    Attributes
    ----------
    number : numpy.ndarray
        The period of each stamp, counted from 0, shape ``(stamps,)``.
    start : numpy.ndarray
        The first day of each period, datetime64[D], shape ``(periods,)``; there are no gaps.
    hours : numpy.ndarray
        Length of each period [hours], shape ``(periods,)``.
    """

    number: Index
    start: Stamps
    hours: Index


def periods(stamps: Stamps, unit: Literal["D", "W", "M", "Y"]) -> Periods:
    """Assign stamps to days, weeks from Monday to Sunday, months or years.

    Parameters
    ----------
    stamps : numpy.ndarray
        Starts of hours or days, datetime64, sorted or not, at least one, shape ``(stamps,)``.
    unit : {"D", "W", "M", "Y"}
        As numpy has them.

    Returns
    -------
    Periods

    Examples
    --------
    >>> stamps = np.array(["2012-02-28T05", "2012-02-29T17", "2012-03-01T00"], "datetime64[h]")
    >>> periods(stamps, "M")
    Periods(number=array([0, 0, 1]), start=array(['2012-02-01', '2012-03-01'], dtype='datetime64[D]'),
            hours=array([696, 744]))
    """
    shift = _MONDAY if unit == "W" else 0
    since_epoch = (stamps.astype("datetime64[D]") + shift).astype(f"datetime64[{unit}]").astype(int)
    edges = np.arange(since_epoch.min(), since_epoch.max() + 2).astype(f"datetime64[{unit}]")
    days = edges.astype("datetime64[D]").astype(int) - shift
    number = since_epoch - since_epoch.min()
    return Periods(number, days[:-1].astype("datetime64[D]"), np.diff(days) * 24)


def day_of_year(day: Stamps) -> Index:
    """Number days from the first of January, which is 0.

    Examples
    --------
    >>> day_of_year(np.array(["2012-01-01", "2012-12-31"], "datetime64[D]"))
    array([  0, 365])
    """
    return (day - day.astype("datetime64[Y]")).astype(int)


def period_means(values: Array, index: Index, least: float | Array | Index) -> Array:
    """Average the values of each period, of several series at the stamps where all are there.

    Parameters
    ----------
    values : numpy.ndarray
        Shape ``(series, stamps)``; NaN where missing.
    index : numpy.ndarray
        The period of each stamp, counted from 0, shape ``(stamps,)``.
    least : float or numpy.ndarray
        Fewest values that make a mean, one number or one for each period.

    Returns
    -------
    numpy.ndarray
        Shape ``(series, periods)``; NaN where there are too few values.

    Examples
    --------
    >>> values = np.array([[1.0, 3.0, 5.0, np.nan], [2.0, 2.0, 4.0, 9.0]])
    >>> period_means(values, np.array([0, 0, 1, 1]), least=1)
    array([[2., 5.],
           [2., 4.]])
    """
    there = ~np.isnan(values).any(axis=0)
    size = int(index.max()) + 1
    count = np.bincount(index[there], minlength=size)
    total = np.stack([np.bincount(index[there], series[there], size) for series in values])
    return np.where((count > 0) & (count >= least), total / np.maximum(count, 1), np.nan)


def departures(values: Array, index: Index, least: int = 2) -> Array:
    """Subtract from each value the mean of its period.

    Parameters
    ----------
    values, index
        As for :func:`period_means`.
    least : int
        Fewest values that make a mean. A single value has no departure from itself.

    Returns
    -------
    numpy.ndarray
        Shape of ``values``; NaN where there is no mean, infinite where a value is. What rounding leaves is 0.

    Examples
    --------
    >>> departures(np.array([[1.0, 3.0, 5.0]]), np.array([0, 0, 1]))
    array([[-1.,  1., nan]])
    """
    mean = period_means(values, index, least)[:, index]
    with np.errstate(invalid="ignore"):  # infinity less infinity
        departure = np.where(np.isinf(values), values, values - mean)
    return np.where(np.abs(departure) < 1e-12 * np.abs(values), 0, departure)


def map_towers(
    kernel: Callable[..., Any], *arrays: xr.DataArray, sizes: Mapping[str, int], dtype: type = np.float64
) -> xr.DataArray:
    """Apply a kernel to the series of each tower, lazily, one task for each tower.

    Parameters
    ----------
    kernel : callable
        From the series of one tower, each ``(time,)``, to an array of the shape of ``sizes``.
    *arrays : xarray.DataArray
        With the dim ``time``, in one chunk if lazy.
    sizes : mapping of str to int
        Dims of the result; ``time`` may be one of them.
    dtype : type
        Of the result.

    Returns
    -------
    xarray.DataArray
        Dims of ``arrays`` without ``time``, and those of ``sizes``; 0 for a tower without any hour.
    """
    return xr.apply_ufunc(
        _each_tower,
        *arrays,
        kwargs={"kernel": kernel, "shape": tuple(sizes.values()), "dtype": dtype},
        input_core_dims=[["time"]] * len(arrays),
        output_core_dims=[list(sizes)],
        dask="parallelized",
        output_dtypes=[dtype],
        dask_gufunc_kwargs={"output_sizes": {dim: size for dim, size in sizes.items() if dim != "time"}},
        keep_attrs=False,
    )


def _each_tower(
    *arrays: NDArray[Any], kernel: Callable[..., Any], shape: tuple[int, ...], dtype: type
) -> NDArray[Any]:
    """``(..., time) -> (..., *shape)``."""
    arrays = np.broadcast_arrays(*arrays)
    towers = arrays[0].shape[:-1]
    result = np.zeros((*towers, *shape), dtype)
    if arrays[0].shape[-1]:
        for tower in np.ndindex(towers):
            result[tower] = kernel(*(array[tower] for array in arrays))
    return result
