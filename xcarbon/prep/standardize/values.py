"""Values in the units of the vocabulary, quality flags, and derived humidity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from xcarbon.core import conventions
from xcarbon.core.conventions import MISSING_FLAG, QC
from xcarbon.core.errors import MetadataError
from xcarbon.core.validation import check_numbers
from xcarbon.core.variables import (
    HARMONISED,
    VARIABLES,
    quality_column,
    quality_scheme,
)
from xcarbon.prep.humidity import (
    relative_humidity,
    saturation_vapour_pressure,
    vapour_pressure,
    vapour_pressure_deficit,
)
from xcarbon.prep.standardize.coordinates import (
    PLACES,
    Axes,
)
from xcarbon.prep.standardize.names import ENDING, SUMS
from xcarbon.prep.units import conversion


def convert_all(
    ds: xr.Dataset, axes: Axes, found: dict[str, str]
) -> tuple[dict[str, xr.DataArray], dict[str, xr.DataArray]]:
    """Return the variables and flags of the data model, and the auxiliary quantities."""
    made: dict[str, xr.DataArray] = {}
    auxiliary: dict[str, xr.DataArray] = {}
    for code, name in found.items():
        array = _place(_convert(ds, axes, name, code), axes)
        (made if code in VARIABLES else auxiliary)[code] = array
        flags = flags_name(ds, name)
        if flags and code in VARIABLES:
            made[f"{code}{QC}"] = _place(_flags(ds[flags], name, code), axes)
    return made, auxiliary


def _convert(ds: xr.Dataset, axes: Axes, name: str, code: str) -> xr.DataArray:
    """Return a variable in the units of the vocabulary, on its own dims, with its source."""
    array = ds[name]
    units = str(array.attrs.get("units", ""))
    factor, offset = 1.0, 0.0
    if units:
        kind = str(array.attrs.get("standard_name", ""))
        try:
            factor, offset = conversion(units, code, as_carbon="expressed_as_carbon" in kind)
        except MetadataError as error:
            raise MetadataError(
                f"{name}: {error}; correct ds[{name!r}].attrs['units'], choose another variable, as in "
                f'ds.carbon.standardize({code}="..."), or leave it out with {code}=None'
            ) from error
    elif code not in VARIABLES or name not in (code, *VARIABLES[code].columns):
        raise MetadataError(
            f"{name}, which would be {code}, has no units; set ds[{name!r}].attrs['units'], or leave it out "
            f"with {code}=None"
        )
    source = f"{name} [{units}]" if units else name
    if name in ENDING:
        if name in SUMS:
            _check_era5(ds, name)
        array = array.shift({axes.time: -1})
        source += ", of the hour that ends at the stamp"
    if (factor, offset) != (1.0, 0.0) or array.dtype != np.float32:
        array = _apply(lambda values: _linear(values, factor, offset), array)
    return array.assign_attrs(source=source)


def _linear(values: Any, factor: float, offset: float) -> Any:
    """Compute ``factor * values + offset`` in double precision, and return it in single precision."""
    return (values.astype(np.float64) * factor + offset).astype(np.float32)


def _apply(kernel: Callable[..., Any], *arrays: xr.DataArray, dtype: Any = np.float32) -> xr.DataArray:
    """Apply a kernel of arrays of the same shape, lazily, without attributes."""
    return xr.apply_ufunc(kernel, *arrays, dask="parallelized", output_dtypes=[dtype], keep_attrs=False)


def _place(array: xr.DataArray, axes: Axes) -> xr.DataArray:
    """Return an array on the dims of the data model, without coordinates."""
    names = {axes.time: "time"}
    if axes.is_grid:
        names |= dict(zip(axes.place, ("lat", "lon"), strict=True))
    elif axes.place:
        names[axes.place[0]] = "site"
    attrs = {"source": array.attrs["source"]} if "source" in array.attrs else array.attrs
    variable = array.variable.copy(deep=False)
    variable.attrs, variable.encoding = attrs, {}
    moved = xr.DataArray(variable).rename({old: new for old, new in names.items() if old in variable.dims})
    return moved if axes.is_grid or "site" in moved.dims else moved.expand_dims("site")


def _check_era5(ds: xr.Dataset, name: str) -> None:
    """Check that sums of ERA5 are sums over the hour."""
    text = " ".join(map(str, ds.attrs.values())).lower().replace("_", "-").replace(" ", "-")
    steps = [np.abs(np.diff(ds[dim].values)) for dim in ds[name].dims if PLACES.get(str(dim).lower())]
    steps = [step for step in steps if step.size]
    if "era5-land" in text or not steps or min(np.median(step) for step in steps) < 0.15:
        raise MetadataError(
            f"{name} may be a sum since 00 UTC, as in ERA5-Land, because the attributes or the grid spacing "
            "do not show that the Dataset is ERA5; open the files with xcarbon.open_era5"
        )


def flags_name(ds: xr.Dataset, name: str) -> str | None:
    """Return the name of the quality flags of a variable if 0 means measured in them, as in FLUXNET."""
    for flags in (f"{name}{QC}", f"{name}_qc", quality_column(name)):
        if flags in ds.data_vars and ds[flags].dims == ds[name].dims:
            values = np.atleast_1d(ds[flags].attrs.get("flag_values", [])).tolist()
            meanings = str(ds[flags].attrs.get("flag_meanings", "")).split()
            zero = dict(zip(values, meanings, strict=False)).get(0, "measured")
            return flags if zero in ("measured", "observed", "original") else None
    return None


def _flags(flags: xr.DataArray, name: str, code: str) -> xr.DataArray:
    """Return int8 quality flags; -1 is missing, and all above the worst flag of FLUXNET become that flag."""
    check_numbers(flags)
    if flags.dtype == np.int8 and "flag_values" in flags.attrs:
        return flags
    is_column = name in VARIABLES[code].columns and name != code
    scheme = quality_scheme(name) if is_column else HARMONISED
    attrs, worst = conventions.quality_attrs(code, scheme), scheme.flag_values[-1]
    return _apply(lambda values: _whole(values, worst), flags, dtype=np.int8).assign_attrs(attrs)


def _whole(values: Any, worst: int) -> Any:
    """Return flags as int8; negative numbers and NaN are missing."""
    known = values >= 0
    return np.where(known, np.minimum(np.where(known, values, 0), worst), MISSING_FLAG).astype(np.int8)


def derive_humidity(arrays: Mapping[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """Compute the humidity variables that are absent, with the worse flags of what they are computed from."""
    made = {}
    for code, kernels in _HUMIDITY.items():
        for needs, kernel in () if code in arrays else kernels.items():
            if all(need in arrays for need in needs):
                parts = [arrays[need] for need in needs]
                made[code] = _apply(kernel, *parts)
                text = " and ".join(f"{need} ({arrays[need].attrs['source']})" for need in needs)
                made[code].attrs = {"source": f"computed from {text}"}
                flags = [arrays[f"{need}{QC}"] for need in needs if f"{need}{QC}" in arrays]
                if flags:
                    made[f"{code}{QC}"] = _worst(flags, code)
                break
    return made


def _worst(flags: Iterable[xr.DataArray], code: str) -> xr.DataArray:
    """Return the largest of several flags."""
    first, *others = flags
    for other in others:
        first = _apply(np.maximum, first, other, dtype=np.int8)
    return first.copy(deep=False).assign_attrs(conventions.quality_attrs(code, HARMONISED))


def _from_dew_point(temperature: Any, dew_point: Any) -> tuple[Any, Any]:
    """Return the actual and the saturation vapour pressure [hPa] of temperatures [degC]."""
    return saturation_vapour_pressure(dew_point), saturation_vapour_pressure(temperature)


def _from_specific_humidity(temperature: Any, humidity: Any, pressure: Any) -> tuple[Any, Any]:
    """Return the same for a specific humidity [1] and a pressure [kPa]."""
    return vapour_pressure(humidity, 10 * pressure), saturation_vapour_pressure(temperature)


def _deficit_of_humidity(temperature: Any, humidity: Any) -> Any:
    saturated = saturation_vapour_pressure(temperature)
    return vapour_pressure_deficit(saturated * humidity / 100, saturated)


def _humidity_of_deficit(temperature: Any, deficit: Any) -> Any:
    saturated = saturation_vapour_pressure(temperature)
    return relative_humidity(saturated - deficit, saturated)


#: Kernels of the humidity variables by what they need, in order of preference.
_HUMIDITY: dict[str, dict[tuple[str, ...], Callable[..., Any]]] = {
    "RH": {
        ("TA", "dew_point"): lambda *parts: relative_humidity(*_from_dew_point(*parts)),
        ("TA", "specific_humidity", "PA"): lambda *parts: relative_humidity(*_from_specific_humidity(*parts)),
        ("TA", "VPD"): _humidity_of_deficit,
    },
    "VPD": {
        ("TA", "dew_point"): lambda *parts: vapour_pressure_deficit(*_from_dew_point(*parts)),
        ("TA", "specific_humidity", "PA"): lambda *parts: vapour_pressure_deficit(
            *_from_specific_humidity(*parts)
        ),
        ("TA", "RH"): _deficit_of_humidity,
    },
}
