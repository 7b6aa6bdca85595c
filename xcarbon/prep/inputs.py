"""Prepare the lazy arrays that a model reads: mask, scale and stack a Dataset's variables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from xcarbon.core.conventions import QC, is_utc
from xcarbon.core.errors import VariableError
from xcarbon.core.spelling import did_you_mean
from xcarbon.core.validation import check_hourly, check_units, check_variables, suggestion
from xcarbon.core.variables import TIME_FEATURES, VARIABLES, variable
from xcarbon.prep.labels import read_labels
from xcarbon.prep.limits import plausible_values
from xcarbon.prep.patches import stack_bands
from xcarbon.prep.quality import MAX_QC, mask_quality
from xcarbon.prep.scale import local_time, scale, time_features
from xcarbon.prep.state import stack_state

#: Chunks of a grid that is in memory: a month of hours, and the number of cells along each other dim.
CELL_HOURS, CELLS = 744, 16


def as_towers(ds: xr.Dataset) -> xr.Dataset:
    """Return ``ds`` with a ``site`` dimension and Dask chunks of one site."""
    if "site" not in ds.dims:
        ds = ds.expand_dims("site") if "site" in ds.coords else ds.expand_dims(site=["tower"])
    # Coordinates stay in memory: xarray compares them in most operations, which would compute them.
    return ds.chunk(site=1).assign_coords(ds.coords)


def model_inputs(
    ds: xr.Dataset,
    variables: Sequence[str],
    bands: Sequence[str] = (),
    *,
    state: Sequence[str] = (),
    history: xr.Dataset | None = None,
    causal: bool = False,
    target: str | Sequence[str] | None = None,
    max_qc: int = MAX_QC,
    target_max_qc: int | None = None,
) -> xr.Dataset:
    """Mask by plausibility and quality, scale and stack the variables that a model reads, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers on ``(site, time)``, or one tower on ``(time,)``, in local standard time; or cells of a grid on
        ``(time, lat, lon)`` in UTC, which is converted to local solar time. Patches have the dims
        ``(day, band, y, x)`` instead of ``time``. ``DOY`` and ``TOD`` are computed from the local time unless
        ``ds`` contains them.
    variables : sequence of str
        Hourly predictors in the model's order. Variables that ``ds`` does not contain are NaN in all hours.
    bands : sequence of str
        Patch bands in the model's order; empty for a model without patches.
    state : sequence of str
        State features in the model's order; empty for a model without state.
    history, causal
        How the state is computed: see :func:`xcarbon.prep.state.stack_state`.
    target : str or sequence of str, optional
        Variable or variables to predict, for training and scoring.
    max_qc : int
        Highest quality flag of the predictors to use.
    target_max_qc : int, optional
        Highest quality flag of the target to use; by default ``max_qc``.

    Returns
    -------
    xarray.Dataset
        ``hourly (site, time, variable)`` [1] float32, NaN where missing. With ``target`` also
        ``target (site, time)`` in its units, with a last dim ``target`` if a sequence is passed. With
        ``bands`` also ``patch (site, day, band, y, x)`` if ``ds`` has reflectance, and with ``state`` also
        ``state (site, time, feature)`` float32 in the units of the features. A grid has its own dims, such as
        ``lat`` and ``lon``, instead of ``site``, and also ``local_time``.

    Raises
    ------
    VariableError
        If a predictor is unknown or is a target, if ``ds`` contains no predictor, or if it does not contain
        the target.
    MetadataError
        If the units of a variable differ from those of the vocabulary, or if the time is in UTC and there is
        no longitude.
    TimestampError
        If the time axis is not hourly.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> inputs = model_inputs(synthetic_towers(2), ["DOY", "TOD", "TA"], target="NEE")
    >>> inputs["hourly"].dims
    ('site', 'time', 'variable')
    """
    targets = [code for code in variables if variable(code).is_target]
    if targets:
        raise VariableError(f"{targets} are target variables and cannot be predictors: leave them out")
    ds = read_labels(ds)
    found = [code for code in variables if code in ds and code not in TIME_FEATURES]
    if not found:
        measured = [code for code in variables if code not in TIME_FEATURES]
        have = [code for code in VARIABLES if code in ds]
        found_none = f"the model needs at least one of {measured}, but the Dataset has {have}"
        raise VariableError(
            found_none + (suggestion(ds) or did_you_mean(measured, [str(name) for name in ds.data_vars]))
        )
    if empty := [str(dim) for dim in ds[found[0]].dims if not ds.sizes[dim]]:
        raise VariableError(f"the Dataset has nothing to read: its dimension {empty[0]!r} has the length 0")
    codes = [] if target is None else [target] if isinstance(target, str) else list(target)
    check_variables(ds, tuple(codes), "training and scoring")
    check_units(ds, [*found, *codes])
    check_hourly(ds["time"], str(ds.encoding.get("source", "the Dataset")))
    local, in_utc = local_time(ds), is_utc(ds)  # before a single cell is given the dims of a tower
    ds, place = _place(ds, found)
    inputs = xr.Dataset({"hourly": _stack_hourly(ds, place, local, list(variables), found, max_qc)})
    if in_utc:
        inputs["local_time"] = local
    if target is not None:
        if place != ["site"]:
            raise VariableError(f"training and scoring needs towers on (site, time), found {place}")
        masked = mask_quality(ds, codes, max_qc if target_max_qc is None else target_max_qc)[codes].astype(
            "float32"
        )
        stacked = masked.to_dataarray("target").transpose("site", "time", "target")
        inputs["target"] = masked[target] if isinstance(target, str) else stacked
    if state:
        inputs["state"] = stack_state(ds, state, inputs["hourly"], history=history, causal=causal)
    if bands and "reflectance" in ds:
        inputs["patch"] = stack_bands(ds, tuple(bands)).transpose(*place, ...)
    return inputs


def scaled_drivers(ds: xr.Dataset, variables: Sequence[str], max_qc: int = MAX_QC) -> xr.DataArray:
    """Mask, scale and stack drivers of towers, ``(site, time, variable)`` [1], in hours or half-hours."""
    ds = read_labels(ds)
    found = [code for code in variables if code in ds and code not in TIME_FEATURES]
    check_units(ds, found)
    local = local_time(ds)
    ds, place = _place(ds, found)
    return _stack_hourly(ds, place, local, list(variables), found, max_qc)


def _place(ds: xr.Dataset, found: list[str]) -> tuple[xr.Dataset, list[str]]:
    """Return a Dataset in Dask chunks, and the dims that predictors have besides ``time``."""
    place = list(dict.fromkeys(str(dim) for code in found for dim in ds[code].dims if dim != "time"))
    if place in ([], ["site"]):
        return as_towers(ds), ["site"]
    is_lazy = any(array.chunks for array in ds.data_vars.values())
    chunks = {} if is_lazy else {"time": CELL_HOURS} | dict.fromkeys(place, CELLS)
    return ds.chunk(chunks).unify_chunks().assign_coords(ds.coords), place


def _stack_hourly(
    ds: xr.Dataset,
    place: list[str],
    local: xr.DataArray,
    variables: list[str],
    found: list[str],
    max_qc: int,
) -> xr.DataArray:
    """Mask, scale and stack all variables in one task per chunk, ``(*place, time, variable)``."""
    clock = time_features(local)
    arrays, layout = [], []
    for code in found + [code for code in variables if code in TIME_FEATURES]:
        arrays.append(ds[code] if code in ds else clock[code])
        flags = ds.get(f"{code}{QC}")
        arrays += [] if flags is None else [flags]
        layout.append((variables.index(code), code, flags is not None))
    stacked = xr.apply_ufunc(
        _mask_scale_stack,
        *arrays,
        kwargs={"layout": layout, "width": len(variables), "max_qc": max_qc},
        output_core_dims=[["variable"]],
        dask="parallelized",
        output_dtypes=[np.float32],
        dask_gufunc_kwargs={"output_sizes": {"variable": len(variables)}},
        keep_attrs=False,
    )
    stacked = stacked.transpose(*place, "time", "variable").assign_coords(variable=variables)
    return stacked.assign_attrs(long_name="scaled predictors", units="1")


def _mask_scale_stack(
    *arrays: np.ndarray, layout: list[tuple[int, str, bool]], width: int, max_qc: int
) -> np.ndarray:
    """Kernel of :func:`_stack_hourly`; values of a variable are followed by its quality flags, if any."""
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    stacked = np.full((*shape, width), np.nan, np.float32)
    queue = iter(arrays)
    for position, code, has_flags in layout:
        values = next(queue)
        if has_flags:
            values = np.where(next(queue) > max_qc, np.nan, values)
        variable = VARIABLES[code]
        stacked[..., position] = scale(plausible_values(values, variable.code), variable)
    return stacked
