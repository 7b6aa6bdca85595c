"""The state of the ecosystem at each hour: months of memory, and satellite series."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core.errors import VariableError
from xcarbon.core.variables import MEMORY, SATELLITE, memory_code, memory_features
from xcarbon.prep import satellite
from xcarbon.prep.memory import memory


def state_features(ds: xr.Dataset, variables: Sequence[str]) -> tuple[str, ...]:
    """List the state features that a Dataset has.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers or cells of a grid.
    variables : sequence of str
        Hourly variables whose memory to use.

    Returns
    -------
    tuple of str
        The memory of those of ``variables`` that ``ds`` has, then its satellite series.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> state_features(synthetic_towers(1), ["DOY", "TA"])
    ('TA_1D', 'TA_7D', 'TA_30D', 'TA_90D', 'TA_365D', 'TA_CLIMATE')
    """
    series = tuple(code for code in SATELLITE if code in ds and "day" in ds[code].dims)
    return memory_features(code for code in variables if code in ds) + series


def stack_state(
    ds: xr.Dataset,
    features: Sequence[str],
    hourly: xr.DataArray,
    *,
    history: xr.Dataset | None = None,
    causal: bool = False,
) -> xr.DataArray:
    """Stack the state features of each hour, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers or cells, with hourly variables on ``time`` and satellite series on ``day``.
    features : sequence of str
        M state features in the model's order. Those that ``ds`` does not have are NaN in all hours.
    hourly : xarray.DataArray
        Scaled predictors, shape ``(*place, time, variable)``, whose dims and chunks the result takes.
    history : xarray.Dataset, optional
        The same towers or cells before the first hour of ``ds``: see :func:`xcarbon.prep.memory.memory`.
    causal : bool
        Use no satellite composite that had not ended before the hour: see
        :func:`xcarbon.prep.satellite.hourly`.

    Returns
    -------
    xarray.DataArray
        Shape ``(*place, time, feature)``, float32, in the units of the features; NaN where missing.

    Examples
    --------
    >>> from xcarbon.prep.inputs import model_inputs
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(2, patches=False)
    >>> hourly = model_inputs(towers, ["TA"])["hourly"]
    >>> stack_state(towers, ["TA_30D", "FAPAR"], hourly).dims
    ('site', 'time', 'feature')
    """
    found = _memory_and_series(ds, features, hourly, history, causal)
    dims, chunks = hourly.dims[:-1], hourly.data.chunks[:-1]
    arrays: list[Any] = []
    orders = []
    for array in found.values():
        values, names = _in_chunks(array, dims, chunks)
        arrays += [values, names]
        orders.append(np.argsort([(*dims, "time_constant").index(dim) for dim in names]))
    missing = da.full((*hourly.shape[:-1], len(features)), np.float32(np.nan), chunks=(*chunks, -1))
    stacked = da.blockwise(
        _stack,
        (*dims, "feature"),
        missing,
        (*dims, "feature"),
        *arrays,
        orders=orders,
        layout=_layout(features, list(found)),
        concatenate=True,
        align_arrays=False,
        meta=np.empty((0,) * hourly.ndim, np.float32),
    )
    coords = {name: hourly.coords[name] for name in hourly.coords if "variable" not in hourly[name].dims}
    return xr.DataArray(
        stacked,
        dims=(*dims, "feature"),
        coords=coords | {"feature": list(features)},
        attrs={"long_name": "state of the ecosystem"},
    )


def _memory_and_series(
    ds: xr.Dataset,
    features: Sequence[str],
    hourly: xr.DataArray,
    history: xr.Dataset | None,
    causal: bool,
) -> dict[Hashable, xr.DataArray]:
    """Compute the memory and the satellite series that the features need and ``ds`` has, at each hour."""
    codes = list(dict.fromkeys(code for name in features if (code := memory_code(name)) and code in ds))
    found = dict(memory(ds, codes, history=history).data_vars) if codes else {}
    series = [code for code in features if code in SATELLITE and code in ds]
    for code in series:
        allowed = {"day", "site", *hourly.dims[:-2]}
        if "day" not in ds[code].dims or not set(ds[code].dims) <= allowed:
            raise VariableError(
                f"{code} has the dimensions {ds[code].dims}, but satellite series lie along day and the "
                f"dimensions {hourly.dims[:-2]} of the predictors: add the series with the days of its "
                f"composites, or leave it out by ds.drop_vars({code!r})"
            )
    if series:
        joined = [name for code in series for name in (code, f"{code}_QC", f"{code}_DAYS") if name in ds]
        chunks = hourly.data.chunks[-2]
        found |= satellite.hourly(ds[joined], ds["time"], series, causal=causal, chunks=chunks).data_vars
    return found


def _in_chunks(
    array: xr.DataArray, dims: tuple[Hashable, ...], chunks: tuple[tuple[int, ...], ...]
) -> tuple[da.Array, tuple[Hashable, ...]]:
    """Return the values of an array with all ``dims``, in these chunks, and the order of its dims."""
    # Dims on which a feature does not depend have length 1 until a chunk is computed; none is moved.
    variable = array.variable.to_base_variable()
    variable = variable.set_dims([*(dim for dim in dims if dim not in variable.dims), *variable.dims])
    cut = {
        variable.dims.index(dim): sizes
        for dim, sizes in zip(dims, chunks, strict=True)
        if variable.sizes[dim] == sum(sizes)
    }
    return da.asarray(variable.data).rechunk(cut), variable.dims


def _layout(features: Sequence[str], names: list[Hashable]) -> list[tuple[int, int, int | None]]:
    """Return the position of each feature, of its array in ``names`` and of its time constant, if any."""
    constants, layout = list(MEMORY), []
    for position, feature in enumerate(features):
        code = memory_code(feature)
        source = feature if code is None else f"{code}_MEMORY"
        if source in names:
            constant = None if code is None else constants.index(feature.rpartition("_")[2])
            layout.append((position, names.index(source), constant))
    return layout


def _stack(
    missing: NDArray[np.float32],
    *arrays: NDArray[np.float32],
    orders: list[NDArray[np.int_]],
    layout: list[tuple[int, int, int | None]],
) -> NDArray[np.float32]:
    """Kernel of :func:`stack_state`: one block ``(*place, hours, M)``, all of which is missing at first.

    ``orders`` contains the order of the dims of each array in the block. ``layout`` contains the position of
    each feature, the number of its array, and of its time constant.
    """
    stacked = np.full(missing.shape, np.nan, np.float32)
    for position, number, constant in layout:
        array = arrays[number].transpose(orders[number])
        stacked[..., position] = array if constant is None else array[..., constant]
    return stacked
