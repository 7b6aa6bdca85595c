r"""Memory of an ecosystem: causal means of the past of hourly variables, from a day to a year and longer.

An exponential mean with time constant :math:`\tau` gives the hour that lies :math:`k` hours back the
weight :math:`e^{-k/\tau}`. It follows from the mean of the hour before and the value of this hour, so the
state that is carried from hour to hour has a fixed size, whatever the time constant. The same recurrence
serves a whole record, its chunks one after another, and single hours as they are measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple, cast

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import ArrayLike, NDArray
from scipy.signal import lfilter

from xcarbon.core.conventions import HOUR
from xcarbon.core.errors import MetadataError, TimestampError
from xcarbon.core.validation import check_hourly, check_units, check_variables
from xcarbon.core.variables import MEMORY, VARIABLES, Limits
from xcarbon.prep.labels import read_labels
from xcarbon.prep.limits import apply_limits

#: Time constants of the means [days].
TIME_CONSTANTS = tuple(MEMORY.values())
#: An exponential mean is missing until the weights of the measured hours add up to this share of all weights:
#: after 0.36 time constants of a record without gaps, and again after a gap of 1.2 time constants.
MIN_WEIGHT = 0.3
#: Measured hours after which the mean of the whole past is not missing: eleven months.
MIN_CLIMATE_HOURS = 8000


class MemoryState(NamedTuple):
    """State of the recurrence after some hour.

    Attributes
    ----------
    total : numpy.ndarray
        Weighted sum of the measured values in the units of the variable, float64, shape ``(..., K)`` for
        the K time constants.
    weight : numpy.ndarray
        Sum of the weights of the hours with a value [1], or their number [hours] for the infinite time
        constant, float64, shape ``(..., K)``.
    """

    total: NDArray[np.float64]
    weight: NDArray[np.float64]

    @classmethod
    def empty(cls, shape: tuple[int, ...], time_constants: Sequence[float] = TIME_CONSTANTS) -> MemoryState:
        """Return the state before the first hour of a record, for values of shape ``(*shape, time)``."""
        zeros = np.zeros((*shape, len(time_constants)))
        return cls(zeros, zeros)


def update(
    state: MemoryState, values: ArrayLike, time_constants: Sequence[float] = TIME_CONSTANTS
) -> tuple[MemoryState, NDArray[np.float32]]:
    r"""Advance the means of the past by one or more hours.

    Parameters
    ----------
    state : MemoryState
        State after the hour before.
    values : array_like
        Values of the next hours in the units of the variable, shape ``(..., time)``; NaN where missing.
    time_constants : sequence of float
        K time constants [days].

    Returns
    -------
    state : MemoryState
        State after the last of these hours.
    means : numpy.ndarray
        Means of each hour and its past in the units of the variable, float32, shape ``(..., time, K)``; NaN
        where too little was measured (:data:`MIN_WEIGHT`, :data:`MIN_CLIMATE_HOURS`).

    Notes
    -----
    With :math:`a = e^{-1/\tau}`, :math:`x_t` the value, and :math:`m_t` 1 where it is measured, else 0:

    .. math::

        s_t = a s_{t-1} + (1 - a) m_t x_t, \quad w_t = a w_{t-1} + (1 - a) m_t, \quad \bar x_t = s_t / w_t.

    For the infinite time constant the sums are not weighted. Hours are processed one after another in double
    precision, so the result is the same, bit by bit, however the hours are divided between calls.

    Examples
    --------
    >>> state = MemoryState.empty(())
    >>> state, means = update(state, np.full(24, 5.0))
    >>> means[-1, :3]
    array([ 5., nan, nan], dtype=float32)
    """
    values = np.asarray(values, np.float64)
    measured = np.isfinite(values)
    filled, counted = np.where(measured, values, 0.0), measured.astype(np.float64)
    means = np.full((*values.shape, len(time_constants)), np.nan, np.float32)
    total, weight = np.empty_like(state.total), np.empty_like(state.weight)
    for number, days in enumerate(time_constants):
        decay = np.exp(-1 / (24 * days))
        gain = 1 - decay if np.isfinite(days) else 1.0
        sums, weights = (
            lfilter([gain], [1, -decay], hours, zi=decay * before[..., number, np.newaxis])[0]
            for hours, before in ((filled, state.total), (counted, state.weight))
        )
        enough = weights > (MIN_WEIGHT if np.isfinite(days) else MIN_CLIMATE_HOURS)
        np.divide(sums, weights, out=means[..., number], where=enough, casting="same_kind")
        if values.shape[-1]:
            total[..., number], weight[..., number] = sums[..., -1], weights[..., -1]
        else:
            total[..., number], weight[..., number] = state.total[..., number], state.weight[..., number]
    return MemoryState(total, weight), means


def memory(ds: xr.Dataset, codes: Sequence[str], *, history: xr.Dataset | None = None) -> xr.Dataset:
    """Compute causal means of the past of hourly variables, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Hourly variables on ``(site, time)``, ``(time,)`` or ``(time, lat, lon)``. Gap-filled hours count,
        since a filled value is closer to the truth than the mean of the other hours.
    codes : sequence of str
        Variables to summarise.
    history : xarray.Dataset, optional
        The same towers or cells before the first hour of ``ds``. Without it the past begins with ``ds``,
        and the means of long time constants are missing in its first months. Hours that lie between the
        two Datasets are missing hours.

    Returns
    -------
    xarray.Dataset
        Each variable with a last dimension ``time_constant`` [days], float32, in its units, named
        ``<code>_MEMORY``. The value of an hour uses no later hours, and does not depend on the chunking.

    Raises
    ------
    VariableError
        If ``ds`` or ``history`` lacks one of the variables.
    MetadataError
        If a variable has other units than the vocabulary, or ``history`` lacks a tower or cell of ``ds``.
    TimestampError
        If a time axis is not hourly, or ``history`` does not end before ``ds`` begins.

    Notes
    -----
    A chunk is one task, which passes its state on to the task of the next chunk in time. A prediction for a
    late region of a long record therefore reads the record before it once, and only the state is kept.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(2, patches=False)
    >>> memory(towers, ["TA"])["TA_MEMORY"].dims
    ('site', 'time', 'time_constant')
    """
    ds, where = read_labels(ds), str(ds.encoding.get("source", "the Dataset"))
    check_variables(ds, tuple(codes), "memory")
    check_units(ds, codes)
    check_hourly(ds["time"], where)
    start = 0
    if history is not None:
        check_variables(history, tuple(codes), "the history of the memory")
        check_units(history, codes)
        check_hourly(history["time"], f"the history of {where}")
        before = past(ds, history)
        start = before.sizes["time"]
    summaries = {}
    for code in codes:
        array = ds[code]
        if history is not None:  # other coordinates than those of the dims may differ
            parts = [before[code], ds[code]]
            array = xr.concat(parts, "time", coords="minimal", compat="override", join="exact")
        summaries[f"{code}_MEMORY"] = _summarise(array, code).isel(time=slice(start, None))
    return xr.Dataset(summaries)


def past(ds: xr.Dataset, history: xr.Dataset) -> xr.Dataset:
    """Return the history of the places of ``ds`` up to the hour before it; missing hours fill a gap."""
    if not history.sizes["time"]:
        raise TimestampError("the history has no hours: omit it, or select hours before the Dataset")
    first, last = ds["time"].values[0], history["time"].values[-1]
    if last >= first:
        raise TimestampError(
            f"the history must end before the Dataset begins, but it ends at {last} and the Dataset begins "
            f"at {first}: pass history=ds.sel(time=slice(None, start)) without the hours of the Dataset"
        )
    if "site" in ds.dims and "site" not in history.dims:
        site = history.coords.get("site", ds["site"])
        history = history.expand_dims(site=np.atleast_1d(site.values))
    if "site" in history.dims and "site" in ds.coords and "site" not in ds.dims:
        history = history.sel(site=ds["site"].values)
    for dim in ds.dims:
        if dim in ("time", "day") or dim not in history.indexes or dim not in ds.indexes:
            continue
        absent = ds.indexes[dim].difference(history.indexes[dim])
        if len(absent):
            raise MetadataError(f"the history lacks {len(absent)} values of {dim}, such as {absent[0]}")
        history = history.sel({dim: ds.indexes[dim]})
    hours = np.arange(history["time"].values[0], first, HOUR)
    return history if hours.size == history.sizes["time"] else history.reindex(time=hours)


def _summarise(array: xr.DataArray, code: str) -> xr.DataArray:
    """Label the means of one variable, which have its dims and then ``time_constant``."""
    values = array.data if isinstance(array.data, da.Array) else da.from_array(array.values, chunks=-1)
    return xr.DataArray(
        _map_chunks(values, array.dims.index("time"), VARIABLES[code].limits),
        dims=(*array.dims, "time_constant"),
        coords=array.coords | {"time_constant": ("time_constant", list(TIME_CONSTANTS), {"units": "days"})},
        attrs={
            "long_name": f"{VARIABLES[code].long_name}, exponential mean of the past",
            "units": VARIABLES[code].units,
            "cell_methods": "time: mean (weights decrease exponentially with age)",
        },
    )


def _map_chunks(values: da.Array, axis: int, limits: Limits) -> da.Array:
    """Dask graph: one task for each chunk, which uses the state of the chunk before it in time (``axis``)."""
    name, update_chunk = f"memory-{tokenize(values, axis, limits)}", partial(_update_chunk, axis, limits)
    layer: dict[Any, Any] = {}
    for place in np.ndindex(values.numblocks):
        number = place[axis]
        before = ("state-" + name, *place[:axis], number - 1, *place[axis + 1 :]) if number else None
        layer[("update-" + name, *place)] = (update_chunk, before, (values.name, *place))
        layer[("state-" + name, *place)] = (itemgetter(0), ("update-" + name, *place))
        layer[(name, *place, 0)] = (itemgetter(1), ("update-" + name, *place))
    graph = HighLevelGraph.from_collections(name, layer, dependencies=cast(Any, [values]))
    chunks = (*values.chunks, (len(TIME_CONSTANTS),))
    return da.Array(graph, name, chunks, meta=np.empty((0,) * len(chunks), np.float32))


def _update_chunk(
    axis: int, limits: Limits, state: MemoryState | None, values: NDArray[Any]
) -> tuple[MemoryState, NDArray[np.float32]]:
    """Advance the means by the hours of a chunk, along ``axis``; the first chunk has no state before it."""
    series = apply_limits(np.moveaxis(values, axis, -1), limits)
    state, means = update(MemoryState.empty(series.shape[:-1]) if state is None else state, series)
    return state, np.moveaxis(means, -2, axis)
