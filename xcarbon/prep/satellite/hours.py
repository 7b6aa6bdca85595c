"""Values of satellite series at each hour: labels, Dask graph and array kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from xcarbon.core.conventions import LENGTH, QC, satellite_attrs
from xcarbon.core.errors import MetadataError, VariableError
from xcarbon.core.validation import check_units
from xcarbon.core.variables import SATELLITE

#: Number of composites up to which a gap is interpolated, and a past value is used.
MAX_GAP = 4
#: Highest quality flag that :func:`hourly` uses: with values of later composites, and without.
MAX_QC_HINDCAST, MAX_QC_CAUSAL = 2, 1
#: Hours of a chunk of the result: ten years, since one takes less time to compute than Dask takes to schedule
#: a task.
_CHUNK = 10 * 8784
_RULES = {
    False: (
        "hourly values: linear interpolation in time between the centres of composites up to "
        f"{MAX_GAP} composite lengths apart, constant up to half a composite beyond the first and the last; "
        "uses later composites"
    ),
    True: (
        "hourly values: value of the latest composite that had ended before the hour, until "
        f"{MAX_GAP} composite lengths after its end; uses no later composite"
    ),
}


def hourly(
    series: xr.Dataset,
    time: xr.DataArray | ArrayLike,
    variables: Sequence[str] | None = None,
    *,
    causal: bool = False,
    max_qc: int | None = None,
    chunks: int | tuple[int, ...] = _CHUNK,
) -> xr.Dataset:
    """Compute values of satellite series at hours, lazily.

    Parameters
    ----------
    series : xarray.Dataset
        Satellite series on ``(site, day)`` or ``(day,)``, with their quality flags where there are any.
    time : xarray.DataArray or array_like
        Starts of hours [datetime64], shape ``(time,)``.
    variables : sequence of str, optional
        Series to use. Default: all.
    causal : bool
        Use no composite that had not ended before the hour, as a forecast requires. Default: interpolate
        between the composite before and the one after, which is the best estimate of a past state.
    max_qc : int, optional
        Highest quality flag of the composites to use. Default: 2, and 1 with ``causal``, because a mean
        seasonal cycle (flag 2) is computed from later years.
    chunks : int or tuple of int
        Sizes of the chunks of the result along ``time`` [hours], by default ten years.

    Returns
    -------
    xarray.Dataset
        Each series on ``(site, time)`` in its units, float32, NaN where missing. The attribute ``comment``
        states the rule. A chunk has the sites of a chunk of ``series``.

    Raises
    ------
    VariableError
        If ``series`` does not contain one of the variables, or none at all.
    MetadataError
        If a series has other units than the vocabulary, or no composite length.

    Notes
    -----
    The centre of a composite is the midnight at which its ``day`` begins.

    Interpolation is linear between neighbouring composites with a value. If their centres are more than
    four composite lengths apart, the hours between them are missing, except those up to half a composite
    from one of the two, which have its value. The same holds before the first and after the last.

    A composite has ended at the first midnight after its ``day`` plus half its length; with ``causal`` its
    value is used from then on, until a later one has ended, and for at most four composite lengths. The
    delay between the end of a composite and its publication is not considered.

    Examples
    --------
    >>> day = np.array(["2010-01-05", "2010-01-13"], "datetime64[ns]")
    >>> series = xr.Dataset({"LAI": ("day", [1.0, 3.0], {"composite_days": 8})}, {"day": day})
    >>> hours = np.array(["2010-01-05T00", "2010-01-09T00", "2010-01-17T00"], "datetime64[ns]")
    >>> hourly(series, hours)["LAI"].values
    array([1., 2., 3.], dtype=float32)
    >>> hourly(series, hours, causal=True)["LAI"].values
    array([nan,  1.,  3.], dtype=float32)
    """
    codes = [code for code in SATELLITE if code in series and "day" in series[code].dims]
    codes = codes if variables is None else list(variables)
    absent = [code for code in codes if code not in SATELLITE or code not in series]
    if absent or not codes:
        have = [code for code in SATELLITE if code in series]
        raise VariableError(f"the satellite series {absent} are not in the Dataset, which has {have}")
    check_units(series, codes)
    max_qc = (MAX_QC_CAUSAL if causal else MAX_QC_HINDCAST) if max_qc is None else max_qc
    if not series.indexes["day"].is_monotonic_increasing:
        series = series.sortby("day")
    if not isinstance(time, xr.DataArray):
        time = xr.DataArray(np.asarray(time, "datetime64[ns]"), dims="time")
    coords = {name: coord for name, coord in series.coords.items() if "day" not in coord.dims}
    coords["time"] = time.variable
    day, hours = _hours_since_epoch(series["day"].values), _hours_since_epoch(time.values)
    found = {}
    for code in codes:
        array = series[code].transpose(..., "day")
        dims = array.dims[:-1]
        values, length = _lazy(array), _length(series, code, array)
        flags = series.get(f"{code}{QC}")
        if flags is not None:
            values = da.where(_lazy(flags.transpose(*array.dims)) > max_qc, np.float32(np.nan), values)
        data = _map_chunks(values, length, day, da.from_array(hours, chunks=(chunks,)), causal)
        attrs = {key: value for key, value in array.attrs.items() if key != "ancillary_variables"}
        rule = "; ".join(filter(None, [attrs.get("comment"), _RULES[causal]]))
        attrs = satellite_attrs(code) | attrs | {"comment": rule}
        found[code] = xr.Variable((*dims, "time"), data, attrs)
    return xr.Dataset(found, coords)


def _lazy(array: xr.DataArray) -> da.Array:
    """Return a Dask array; one that is in memory has one chunk per place."""
    if isinstance(array.data, da.Array):
        return array.data
    return da.from_array(array.values, chunks=(*(1 for _ in array.dims[:-1]), -1))


def _length(series: xr.Dataset, code: str, array: xr.DataArray) -> da.Array | float:
    """Return the length of the composites [days], ``(..., day)`` if there are several, else a number."""
    if f"{code}{LENGTH}" in series:
        return _lazy(series[f"{code}{LENGTH}"].transpose(*array.dims))
    try:
        return float(array.attrs["composite_days"])
    except (KeyError, ValueError):
        found = array.attrs.get("composite_days")
        raise MetadataError(
            f"{code} needs the length of its composites [days] in the attribute composite_days, found "
            f"{found!r}: set ds[{code!r}].attrs['composite_days']"
        ) from None


def _hours_since_epoch(stamps: NDArray[np.datetime64]) -> NDArray[np.float64]:
    return (stamps - np.datetime64(0, "s")) / np.timedelta64(1, "h")


def _map_chunks(
    values: da.Array,
    length: da.Array | float,
    day: NDArray[np.float64],
    hours: da.Array,
    causal: bool,
) -> da.Array:
    """Dask graph: one task per chunk of places and of hours, ``(..., day) -> (..., time)``."""
    *place, axis = range(values.ndim)
    if isinstance(length, da.Array):
        length = length.rechunk(values.chunks)
    return da.blockwise(
        to_hours,
        (*place, axis + 1),
        values,
        (*place, axis),
        length,
        (*place, axis) if isinstance(length, da.Array) else None,
        hours,
        (axis + 1,),
        da.from_array(day, chunks=(values.chunks[axis],)),  # one for all tasks
        (axis,),
        causal=causal,
        concatenate=True,
        align_arrays=False,  # they are aligned, and the warning about the number of chunks would be shown
        dtype=np.float32,
        meta=np.empty((0,) * values.ndim, np.float32),
    )


def to_hours(
    values: NDArray[Any],
    length: NDArray[Any] | float,
    hours: NDArray[np.float64],
    day: NDArray[np.float64],
    causal: bool = False,
) -> NDArray[np.float32]:
    """Compute hourly values of series in memory; see :func:`hourly`.

    Parameters
    ----------
    values : numpy.ndarray
        Values of composites in any units, shape ``(..., day)``; NaN where missing.
    length : numpy.ndarray or float
        Lengths of the composites [days], of the same shape or one for all.
    hours : numpy.ndarray
        Hours [hours since any epoch], shape ``(time,)``.
    day : numpy.ndarray
        Centres of the composites, increasing [hours since the same epoch, which is a midnight], shape
        ``(day,)``.
    causal : bool
        Use only composites that had ended before the hour.

    Returns
    -------
    numpy.ndarray
        Shape ``(..., time)``, float32.

    Examples
    --------
    >>> to_hours(np.array([1.0, 3.0]), 1.0, np.arange(0.0, 25, 6), np.array([0.0, 24]))
    array([1. , 1.5, 2. , 2.5, 3. ], dtype=float32)
    """
    order = np.argsort(hours, kind="stable") if (np.diff(hours) < 0).any() else slice(None)
    result = np.full((*values.shape[:-1], hours.size), np.nan, np.float32)
    lengths = np.broadcast_to(np.asarray(length, np.float64) * 24, values.shape)
    kernel = _latest if causal else _interpolate
    for place in np.ndindex(values.shape[:-1]):
        there = np.flatnonzero(np.isfinite(values[place]))
        if there.size:
            series = day[there], values[place][there].astype(np.float64), lengths[place][there]
            result[place][order] = kernel(*series, hours[order])
    return result


def _interpolate(
    centre: NDArray[np.float64],
    value: NDArray[np.float64],
    length: NDArray[np.float64],
    hours: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Interpolate one series: centres and lengths [hours] of the composites with a value, all ``(n,)``."""
    found = np.interp(hours, centre, value, left=np.nan, right=np.nan)
    is_gap = np.diff(centre) > MAX_GAP * np.maximum(length[:-1], length[1:])
    gaps = [int(gap) for gap in np.flatnonzero(is_gap)]
    # The hours before the first composite and after the last are gaps with a neighbour on one side.
    for left, right in [(-1, 0), *((gap, gap + 1) for gap in gaps), (len(centre) - 1, len(centre))]:
        start, stop = 0, hours.size
        if left >= 0:
            start = int(np.searchsorted(hours, centre[left] + length[left] / 2, side="right"))
            found[int(np.searchsorted(hours, centre[left])) : start] = value[left]
        if right < len(centre):
            end = int(np.searchsorted(hours, centre[right]))
            stop = int(np.searchsorted(hours, centre[right] - length[right] / 2))
            found[stop:end] = value[right]
        found[start:stop] = np.nan
    return found


def _latest(
    centre: NDArray[np.float64],
    value: NDArray[np.float64],
    length: NDArray[np.float64],
    hours: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the value of the latest composite that has ended; arguments as in :func:`_interpolate`."""
    end = 24 * np.ceil((centre + length / 2) / 24)
    order = np.argsort(end, kind="stable")
    end, oldest = end[order], end[order] + MAX_GAP * length[order]
    limits = np.append(np.searchsorted(hours, end), hours.size)
    found = np.full(hours.size, np.nan)
    found[limits[0] :] = np.repeat(value[order], np.diff(limits))
    for number in np.flatnonzero(oldest < np.append(end[1:], np.inf)):
        found[int(np.searchsorted(hours, oldest[number], side="right")) : limits[number + 1]] = np.nan
    return found
