"""Variables of a Dataset that are those of the vocabulary, by names, standard names and units."""

from __future__ import annotations

from collections.abc import Mapping

import cf_xarray  # noqa: F401 (registers ds.cf)
import xarray as xr

from xcarbon.core.errors import MetadataError, VariableError
from xcarbon.core.validation import check_numbers
from xcarbon.core.variables import (
    TIME_FEATURES,
    VARIABLES,
    variable,
)
from xcarbon.prep.units import conversion

#: Quantities from which humidity is computed, and which are not in the result.
AUXILIARY = ("dew_point", "specific_humidity")
#: Standard names that are accepted beside the one of the vocabulary.
_STANDARD_NAMES: dict[str, tuple[str, ...]] = {
    "PA": ("air_pressure",),
    "P": ("precipitation_flux", "precipitation_amount", "lwe_precipitation_rate"),
    "G": ("downward_heat_flux_at_ground_level_in_soil",),
    "dew_point": ("dew_point_temperature",),
    "specific_humidity": ("specific_humidity",),
}
#: Names of PLUMBER2 (Ukkola et al. 2022, doi:10.5194/essd-14-449-2022) and of its tool FluxnetLSM.
_PLUMBER2: dict[str, tuple[str, ...]] = {
    "TA": ("Tair",),
    "P": ("Precip", "Rainf"),
    "PA": ("Psurf", "PSurf"),
    "CO2": ("CO2air",),
    "SW_IN": ("SWdown",),
    "SW_OUT": ("SWup",),
    "LW_IN": ("LWdown",),
    "LW_OUT": ("LWup",),
    "NETRAD": ("Rnet",),
    "WS": ("Wind",),
    "USTAR": ("Ustar",),
    "H": ("Qh",),
    "LE": ("Qle",),
    "G": ("Qg",),
    "GPP_NT": ("GPP",),
    "specific_humidity": ("Qair",),
}
#: PLUMBER2 names that other Datasets use for something else; the attribute Fluxnet_name must confirm them.
_CONFIRMED = ("GPP", "Qg")
_ERA5: dict[str, tuple[str, ...]] = {
    "TA": ("t2m", "2m_temperature", "temperature_2m"),
    "P": ("tp", "total_precipitation", "mtpr", "avg_tprate"),
    "PA": ("sp", "surface_pressure"),
    "SW_IN": ("ssrd", "surface_solar_radiation_downwards", "msdwswrf", "avg_sdswrf"),
    "LW_IN": ("strd", "surface_thermal_radiation_downwards", "msdwlwrf", "avg_sdlwrf"),
    "WS": ("si10", "10m_wind_speed"),
    **{f"SWC_{depth}": (f"swvl{depth}", f"volumetric_soil_water_layer_{depth}") for depth in range(1, 5)},
    **{f"TS_{depth}": (f"stl{depth}", f"soil_temperature_level_{depth}") for depth in range(1, 5)},
    "dew_point": ("d2m", "2m_dewpoint_temperature", "dewpoint_temperature_2m"),
}
#: Codes by their names in FLUXNET; a variable with such a name must have numbers.
_CODES = {name: code for code, known in VARIABLES.items() for name in (code, *known.columns)}
ERA5_NAMES = {name for names in _ERA5.values() for name in names}
#: ERA5 variables that are sums or means of the hour that ends at the stamp.
ENDING = {name for code in ("P", "SW_IN", "LW_IN") for name in _ERA5[code]}
#: Those that are sums, which begin at 00 UTC in ERA5-Land.
SUMS = {name for code in ("P", "SW_IN", "LW_IN") for name in _ERA5[code][:2]}


def find_variables(
    ds: xr.Dataset, time: str, place: tuple[str, ...], choices: Mapping[str, str | None]
) -> dict[str, str]:
    """Return the name of the variable to use for each code and auxiliary quantity that is found."""
    for code in choices:
        if code not in AUXILIARY:
            variable(code)  # raises an error if there is no such code
    dims = {time, *place}
    usable = [
        str(name)
        for name, array in ds.data_vars.items()
        if set(array.dims) <= dims and time in array.dims and array.dtype.kind in "fiu"
    ]
    for name, array in ds.data_vars.items():
        if time in array.dims and set(array.dims) <= dims and _CODES.get(str(name), "") not in {*choices, ""}:
            check_numbers(array)
    found = {code: _chosen(ds, usable, code, name) for code, name in choices.items() if name is not None}
    wanted = [code for code in (*VARIABLES, *AUXILIARY) if code not in {*choices, *TIME_FEATURES}]
    for search in (_by_fluxnet_name, _by_standard_name, _by_documented_name):
        free = [name for name in usable if name not in found.values()]
        for code in [code for code in wanted if code not in found]:
            names = search(ds, free, code)
            if len(names) > 1:
                raise VariableError(
                    f"{code} is ambiguous: {', '.join(map(repr, names))} could all be it; choose one, as in "
                    f'ds.carbon.standardize({code}="{names[0]}"), or leave it out with {code}=None'
                )
            if names:
                found[code] = names[0]
    return {code: found[code] for code in (*VARIABLES, *AUXILIARY) if code in found}


def _chosen(ds: xr.Dataset, usable: list[str], code: str, name: str) -> str:
    """Return the name of a chosen variable if it is in the Dataset, on its dims."""
    if name not in usable:
        where = f"it has dims {ds[name].dims}" if name in ds else "the Dataset does not contain it"
        raise VariableError(f"{code}={name!r} cannot be used: {where}; the variables are {usable}")
    return name


def _by_fluxnet_name(ds: xr.Dataset, names: list[str], code: str) -> list[str]:
    """Return the first variable that has the code or a FLUXNET column of it as its name."""
    known = (code, *(VARIABLES[code].columns if code in VARIABLES else ()))
    return [name for name in known if name in names and not _contradicts(ds[name], code)][:1]


def _by_standard_name(ds: xr.Dataset, names: list[str], code: str) -> list[str]:
    """Return all variables with a standard name of the code."""
    if code in VARIABLES and (VARIABLES[code].is_uncertainty or code in _deeper()):
        return []
    matching = {name for known in _standard_names(code) for name in ds.cf.standard_names.get(known, ())}
    return [name for name in names if name in matching]


def _by_documented_name(ds: xr.Dataset, names: list[str], code: str) -> list[str]:
    """Return all variables with a name of the code in PLUMBER2 or ERA5 and matching units."""
    known = (*_PLUMBER2.get(code, ()), *_ERA5.get(code, ()))
    return [name for name in known if name in names and _agrees(ds[name], code)]


def _agrees(array: xr.DataArray, code: str) -> bool:
    """Return whether units, standard name and FLUXNET name of a variable are those of a code."""
    if _contradicts(array, code):
        return False
    if array.name in _CONFIRMED and array.attrs.get("Fluxnet_name") not in VARIABLES[code].columns:
        return False
    if not array.attrs.get("units"):
        return True  # reported as an error when the values are converted
    try:
        conversion(array.attrs["units"], code)
    except MetadataError:
        return False
    return True


def _deeper() -> set[str]:
    """Codes of soil variables below the shallowest depth, which share the standard name with it."""
    return {code for code in VARIABLES if code[:-1] in ("SWC_", "TS_") and code[-1] != "1"}


def _standard_names(code: str) -> tuple[str, ...]:
    own = VARIABLES[code].standard_name if code in VARIABLES else None
    return (*((own,) if own else ()), *_STANDARD_NAMES.get(code, ()))


def _contradicts(array: xr.DataArray, code: str) -> bool:
    """Return whether the standard name of a variable belongs to other codes than this one."""
    name = array.attrs.get("standard_name")
    owners = {other for other in (*VARIABLES, *AUXILIARY) if name in _standard_names(other)}
    return bool(owners) and code not in owners
