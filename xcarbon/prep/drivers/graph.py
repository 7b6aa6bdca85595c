"""The Dask graph of filling: one task for each tower and variable."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from xcarbon.core.conventions import MISSING_FLAG
from xcarbon.core.variables import TIME_FEATURES
from xcarbon.prep.drivers.adjustment import PARAMETERS, adjust_tower
from xcarbon.prep.drivers.reanalysis import first_hours, names_of, reanalysis_of_towers
from xcarbon.prep.hours import in_record
from xcarbon.prep.limits import plausible
from xcarbon.prep.quality import mask_quality


def find_gaps(towers: xr.Dataset, codes: list[str], max_qc: int | None) -> xr.Dataset:
    """Return lazily which hours are to be filled, ``(site, time)`` without labels."""
    record = _record(towers)
    gaps = {}
    for code in codes:
        kept = plausible(towers[code], code) if max_qc is None else mask_quality(towers, [code], max_qc)[code]
        gaps[code] = _bare(kept).isnull() & record
    return xr.Dataset(gaps)


def adjust_towers(
    towers: xr.Dataset, gaps: xr.Dataset, era5: xr.Dataset, min_hours: int
) -> tuple[xr.Dataset, xr.Dataset]:
    """Adjust reanalysis to all towers: adjusted variables, and parameters on ``(site, driver)``."""
    codes = list(gaps.data_vars)
    fields, order = reanalysis_of_towers(era5[codes], towers)
    start = xr.DataArray(first_hours(towers, era5), dims="site")
    series, tables = {}, []
    for code in codes:
        series[code], table = xr.apply_ufunc(
            partial(adjust_tower, code=str(code), min_hours=min_hours),
            _bare(mask_quality(towers, [str(code)], 0)[code]),
            gaps[code],
            fields[code],
            order,
            start,
            names_of(towers),
            input_core_dims=[["time"], ["time"], ["hour", "row", "column"], ["cell"], [], []],
            output_core_dims=[["time"], ["parameter"]],
            vectorize=True,
            dask="parallelized",
            output_dtypes=[np.float32, np.float32],
            dask_gufunc_kwargs={"output_sizes": {"parameter": len(PARAMETERS)}},
        )
        tables.append(table)
    table = xr.concat(tables, dim=xr.Variable("driver", codes), coords="minimal", compat="override")
    parameters = {name: table.isel(parameter=number) for number, name in enumerate(PARAMETERS)}
    return xr.Dataset(series), xr.Dataset(parameters).transpose("site", "driver")


def _bare(array: xr.DataArray) -> xr.DataArray:
    """Return an array of towers without coordinates; if it is lazy, with one chunk for each tower."""
    bare = xr.DataArray(array.variable)
    return bare.chunk(site=1, time=-1) if bare.chunks else bare


def _record(towers: xr.Dataset) -> xr.DataArray:
    """Return lazily which hours belong to the record of each tower, ``(site, time)``."""
    there: Any = False
    for name, array in towers.data_vars.items():
        is_series = {"site", "time"} <= set(array.dims) and name not in TIME_FEATURES
        if is_series and array.dtype.kind in "fi":  # masks have a value in every hour
            bare = array.variable
            has_value = bare.notnull() if array.dtype.kind == "f" else bare != MISSING_FLAG
            there = has_value.any([dim for dim in array.dims if dim not in ("site", "time")]) | there
    return in_record(_bare(xr.DataArray(there)))
