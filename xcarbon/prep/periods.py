"""Means over days, weeks, months and years: kernels for one tower, and their application to all towers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Stamps = NDArray[np.datetime64]
Index = NDArray[np.int_]

#: Weekday of numpy's epoch, 1970-01-01, a Thursday [days after Monday].
_MONDAY = 3


class Periods(NamedTuple):
    """The days, weeks, months or years between the first and the last time stamp, without gaps.

    Attributes
    ----------
    number : numpy.ndarray
        Number of the period of each stamp, from 0, ``(stamps,)``.
    start : numpy.ndarray
        First day of each period, datetime64[D], ``(periods,)``.
    hours : numpy.ndarray
        Length of each period [hours], ``(periods,)``.
    """

    number: Index
    start: Stamps
    hours: Index


def periods(stamps: Stamps, unit: Literal["D", "W", "M", "Y"]) -> Periods:
    """Assign time stamps ``(stamps,)`` to days, weeks from Monday to Sunday, months or years.

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
    """Return the number of days since the first of January.

    Examples
    --------
    >>> day_of_year(np.array(["2012-01-01", "2012-12-31"], "datetime64[D]"))
    array([  0, 365])
    """
    return (day - day.astype("datetime64[Y]")).astype(int)


def period_means(values: Array, index: Index, min_count: float | Array | Index) -> Array:
    """Average series over periods, ``(series, stamps)`` to ``(series, periods)``.

    Only stamps at which all series have a value are used. ``index`` is the number of the period of each
    stamp, from 0. Periods with fewer than ``min_count`` values, one number or one for each period, are NaN.

    Examples
    --------
    >>> values = np.array([[1.0, 3.0, 5.0, np.nan], [2.0, 2.0, 4.0, 9.0]])
    >>> period_means(values, np.array([0, 0, 1, 1]), min_count=1)
    array([[2., 5.],
           [2., 4.]])
    """
    there = ~np.isnan(values).any(axis=0)
    size = int(index.max()) + 1
    count = np.bincount(index[there], minlength=size)
    total = np.stack([np.bincount(index[there], series[there], size) for series in values])
    return np.where((count > 0) & (count >= min_count), total / np.maximum(count, 1), np.nan)


def departures(values: Array, index: Index, min_count: int = 2) -> Array:
    """Subtract the mean of its period from each value, ``(series, stamps)``.

    Departures within the rounding error are set to 0. They are NaN where there are fewer than ``min_count``
    values; the default excludes single values, whose departure is always 0. Infinite values stay infinite.

    Examples
    --------
    >>> departures(np.array([[1.0, 3.0, 5.0]]), np.array([0, 0, 1]))
    array([[-1.,  1., nan]])
    """
    mean = period_means(values, index, min_count)[:, index]
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        departure = np.where(np.isinf(values), values, values - mean)
    return np.where(np.abs(departure) < 1e-12 * np.abs(values), 0, departure)


def period_sums(values: Array, index: Index, size: int) -> Array:
    """Compute number and sum of the values of each period: ``(stamps,)`` each to ``(2, size)``."""
    known = np.isfinite(values)
    numbers = np.bincount(index[known], minlength=size)
    return np.stack([numbers, np.bincount(index[known], values[known], size)])


def map_towers(
    kernel: Callable[..., Any], *arrays: xr.DataArray, sizes: Mapping[str, int], dtype: type = np.float64
) -> xr.DataArray:
    """Apply a kernel to the series of each tower, lazily, with one task for each tower.

    The kernel gets series of one tower, each ``(time,)``, and returns an array with the shape ``sizes``, of
    which ``time`` may be one. The result has the dimensions of ``arrays`` without ``time``, followed by those
    of ``sizes``; it is 0 if there are no hours.
    """
    arrays = tuple(array.chunk(time=-1) if array.chunks else array for array in arrays)
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
    """Apply the kernel to each tower: ``(..., time) -> (..., *shape)``."""
    arrays = np.broadcast_arrays(*arrays)
    towers = arrays[0].shape[:-1]
    result = np.zeros((*towers, *shape), dtype)
    if arrays[0].shape[-1]:
        for tower in np.ndindex(towers):
            result[tower] = kernel(*(array[tower] for array in arrays))
    return result
