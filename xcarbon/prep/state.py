"""The state of the ecosystem at each hour: months of memory, and satellite series."""

from __future__ import annotations

from collections.abc import Sequence

import dask.array as da
import numpy as np
import xarray as xr

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
    codes = list(dict.fromkeys(code for name in features if (code := memory_code(name)) and code in ds))
    means = memory(ds, codes, history=history) if codes else xr.Dataset()
    series = [code for code in features if code in SATELLITE and code in ds and "day" in ds[code].dims]
    joined = [name for code in series for name in (code, f"{code}_QC", f"{code}_DAYS") if name in ds]
    values = satellite.hourly(ds[joined], ds["time"], series, causal=causal) if series else xr.Dataset()
    dims = hourly.dims[:-1]
    chunks, shape = hourly.data.chunks[:-1], hourly.shape[:-1]
    layers = []
    for name in features:
        code, array = memory_code(name), None
        if code is None and name in values:
            array = values[name]
        elif code in codes:
            constant = list(MEMORY).index(name.rpartition("_")[2])
            array = means[f"{code}_MEMORY"].isel(time_constant=constant, drop=True)
        if array is None:
            layers.append(da.full(shape, np.float32(np.nan), chunks=chunks))
            continue
        # Dims on which a feature does not depend have length 1 until a chunk is computed.
        data = da.asarray(array.variable.to_base_variable().set_dims(dims).data)
        cut = {axis: chunks[axis] for axis, size in enumerate(shape) if data.shape[axis] == size}
        layers.append(da.broadcast_to(data.rechunk(cut), shape, chunks=chunks))
    stacked = da.stack(layers, axis=-1).rechunk({len(dims): -1})
    coords = {name: hourly.coords[name] for name in hourly.coords if "variable" not in hourly[name].dims}
    return xr.DataArray(
        stacked,
        dims=(*dims, "feature"),
        coords=coords | {"feature": list(features)},
        attrs={"long_name": "state of the ecosystem"},
    )
