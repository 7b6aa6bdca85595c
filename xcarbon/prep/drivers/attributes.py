"""Values and quality flags of filled variables, and the attributes that describe how they were filled."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xcarbon.core import conventions
from xcarbon.core.conventions import MISSING_FLAG, QC
from xcarbon.core.variables import CONSOLIDATED
from xcarbon.prep.drivers.adjustment import PARAMETERS, RULES, Rule

#: Quality flag of filled hours.
FLAG = 2
_RULE_TEXTS: dict[Rule, str] = {
    "line": "slope and intercept of a linear regression",
    "proportional": "slope of a linear regression through the origin",
    "total": "ratio of the totals",
}
_REFERENCE = "Vuichard and Papale 2015, doi:10.5194/essd-7-157-2015"


def fill_variable(ds: xr.Dataset, code: str, estimate: xr.DataArray) -> dict[str, xr.DataArray]:
    """Replace the values and quality flags of one variable where there is an estimate."""
    values, name = ds[code], f"{code}{QC}"
    is_kept = estimate.isnull()
    filled = values.where(is_kept, estimate).transpose(*values.dims)
    flags = ds[name] if name in ds else values.isnull() * MISSING_FLAG
    flags = flags.fillna(MISSING_FLAG) if flags.dtype.kind == "f" else flags
    flags = flags.where(is_kept, FLAG).astype("int8").transpose(*values.dims)
    how = f"gaps (quality flag {FLAG}) are filled with ERA5, adjusted by the {_RULE_TEXTS[RULES[code]]} of "
    how += f"measurements and ERA5 ({_REFERENCE}); the parameters are in {', '.join(PARAMETERS)}"
    comments = dict.fromkeys([values.attrs.get("comment", ""), how])
    filled.attrs = values.attrs | {"comment": "; ".join(filter(None, comments))}
    flags.attrs = _flag_attrs(code, ds[name].attrs if name in ds else {})
    return {code: filled, name: flags}


def describe_parameters(table: xr.Dataset) -> xr.Dataset:
    """Add attributes to the parameters of the adjustment."""
    texts = (
        ("slope of the adjustment of ERA5 to the tower", "1"),
        ("intercept of the adjustment of ERA5 to the tower", None),
        ("root mean square difference of adjusted ERA5 and measurements", None),
        ("number of hours with a measurement and ERA5", "1"),
    )
    table = table.assign(era5_hours=table["era5_hours"].astype("int32"))
    for name, (text, units) in zip(PARAMETERS, texts, strict=True):
        table[name].attrs = {"long_name": text, "references": _REFERENCE}
        table[name].attrs |= {"units": units} if units else {"comment": "in the units of each driver"}
    table["driver"].attrs["long_name"] = "code of the filled variable"
    return table


def _flag_attrs(code: str, attrs: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of quality flags of which one marks reanalysis."""
    found = np.atleast_1d(attrs.get("flag_values", [])).tolist()
    meanings = dict(zip(found, str(attrs.get("flag_meanings", "")).split(), strict=False))
    if not meanings:
        return conventions.quality_attrs(code, CONSOLIDATED) | attrs
    mine = CONSOLIDATED.flag_meanings[FLAG]
    other = meanings.get(FLAG, mine)
    meanings[FLAG] = other if "reanalysis" in other else f"{other}_or_reanalysis"
    meanings = dict(sorted(meanings.items()))
    return attrs | {
        "flag_values": np.array(list(meanings), "int8"),
        "flag_meanings": " ".join(meanings.values()),
    }
