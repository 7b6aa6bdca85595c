"""Legends of maps of land cover: the class of IGBP that each value of a map stands for.

Values are translated to codes: 0 for water, 1 to 16 for the classes of land in the order of ``IGBP_CLASSES``,
and one code each for land of an unknown class and for missing data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xcarbon.core.errors import FileFormatError
from xcarbon.core.variables import IGBP_CLASSES

LegendName = Literal["igbp", "lccs"]
#: Class of IGBP for each class of the land cover maps of ESA CCI and C3S (LCCS); "" is land whose class
#: cannot be decided. Classes of trees are divided by the tree cover that Poulter et al. (2015, table 2,
#: doi:10.5194/gmd-8-2315-2015) assign to them, and by the limits of IGBP: forest above 60 %, woody savanna
#: 30 to 60 %, savanna 10 to 30 %. No class of IGBP depends on the climate, so the climate zones of the same
#: paper are not needed. Not certain are: shrubland (120 to 122), whose cover of 60 % is the limit between
#: closed and open shrubland, and which is open here because open shrubland covers forty times as many pixels
#: of MCD12C1 (718,990 and 17,227 in 2019); open forest (62, 72, 82), whose cover of 30 % is the limit between
#: savanna and woody savanna; mixed forest (90), whose cover of 60 % is the limit between woody savanna and
#: forest; orchards (12), which are cropland here; and lichens and mosses (140), which IGBP does not contain.
LCCS_TO_IGBP: dict[int, str] = {
    10: "CRO",  # cropland, rainfed
    11: "CRO",  # cropland, rainfed, herbaceous cover
    12: "CRO",  # cropland, rainfed, tree or shrub cover
    20: "CRO",  # cropland, irrigated or post-flooding
    30: "CVM",  # mosaic of cropland (> 50 %) and natural vegetation
    40: "CVM",  # mosaic of natural vegetation (> 50 %) and cropland
    50: "EBF",  # tree cover, broadleaved, evergreen (90 % trees)
    60: "DBF",  # tree cover, broadleaved, deciduous (70 % trees)
    61: "DBF",  # the same, closed (70 % trees)
    62: "WSA",  # the same, open (30 % trees)
    70: "ENF",  # tree cover, needleleaved, evergreen (70 % trees)
    71: "ENF",  # the same, closed (70 % trees)
    72: "WSA",  # the same, open (30 % trees)
    80: "DNF",  # tree cover, needleleaved, deciduous (70 % trees)
    81: "DNF",  # the same, closed (70 % trees)
    82: "WSA",  # the same, open (30 % trees)
    90: "MF",  # tree cover, mixed leaf type (60 % trees)
    100: "WSA",  # mosaic of trees and shrubs (> 50 %) and herbaceous cover (40 % trees)
    110: "SAV",  # mosaic of herbaceous cover (> 50 %), trees and shrubs (20 % trees)
    120: "OSH",  # shrubland (60 % shrubs)
    121: "OSH",  # shrubland, evergreen (60 % shrubs)
    122: "OSH",  # shrubland, deciduous (60 % shrubs)
    130: "GRA",  # grassland
    140: "",  # lichens and mosses
    150: "BSV",  # sparse vegetation (< 15 %)
    151: "BSV",  # sparse trees
    152: "BSV",  # sparse shrubs
    153: "BSV",  # sparse herbaceous cover
    160: "WET",  # tree cover, flooded by fresh or brackish water
    170: "WET",  # tree cover, flooded by saline water
    180: "WET",  # shrub or herbaceous cover, flooded
    190: "URB",  # urban areas
    200: "BSV",  # bare areas
    201: "BSV",  # bare areas, consolidated
    202: "BSV",  # bare areas, unconsolidated
    210: "WAT",  # water
    220: "SNO",  # permanent snow and ice
}
_LAND = tuple(name for name in IGBP_CLASSES if name != "WAT")
#: Codes of water, of land of an unknown class, and of missing data.
WATER, UNDECIDED, MISSING = 0, len(_LAND) + 1, len(_LAND) + 2
CODES = MISSING + 1
#: Code of values that a legend does not contain.
_INVALID = 255
#: Name and share of land of each code.
NAMES = np.array(["", *_LAND, "", ""])
SHARES = np.array([0, *[1] * (len(_LAND) + 1), np.nan], np.float32)
_CODE_OF = {name: code for code, name in enumerate(_LAND, 1)} | {"WAT": WATER, "": UNDECIDED}
#: Value that all maps use for missing data.
_FILL = 255


def _table(classes: Mapping[int, str], *missing: int) -> NDArray[np.uint8]:
    """Return the code of each value of a byte."""
    table = np.full(256, _INVALID, np.uint8)
    for value, name in classes.items():
        table[value] = _CODE_OF[name]
    table[[*missing, _FILL]] = MISSING
    return table


@dataclass(frozen=True, eq=False)
class Legend:
    """Meaning of the values of a map, and how its files are recognised."""

    title: str
    variables: tuple[str, ...]
    words: tuple[str, ...]  # parts of file names
    table: NDArray[np.uint8]
    references: str


_IGBP_REFERENCE = "Loveland and Belward 1997, doi:10.1080/014311697217099 (IGBP classes)"
LEGENDS: dict[str, Legend] = {
    "igbp": Legend(
        "MCD12C1",
        ("Majority_Land_Cover_Type_1", "LC_Type1"),
        ("MCD12C1",),
        _table({0: "WAT", **dict(enumerate(_LAND, 1)), 17: "WAT"}),
        f"Sulla-Menashe et al. 2019, doi:10.1016/j.rse.2018.12.013 (MCD12); {_IGBP_REFERENCE}",
    ),
    "lccs": Legend(
        "ESA CCI and C3S land cover",
        ("lccs_class",),
        ("LCCS", "ESACCI-LC"),
        _table(LCCS_TO_IGBP, 0),
        f"Poulter et al. 2015, doi:10.5194/gmd-8-2315-2015 (cover of the classes of LCCS); {_IGBP_REFERENCE}",
    ),
}


def translate(
    values: NDArray[Any], table: NDArray[np.uint8], fill: float | None, where: str
) -> NDArray[np.uint8]:
    """Translate the values of a map to codes."""
    if values.dtype == np.int8:  # NetCDF classic has no unsigned bytes
        values = values.view(np.uint8)
        fill = None if fill is None else int(fill) % 256
    missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    if fill is not None:
        missing |= values == fill
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.uint8)
    codes = table[whole]
    wrong = ((codes == _INVALID) | (whole != values)) & ~missing
    if wrong.any():
        raise FileFormatError(
            f"{where} contains the value {values[wrong][0]:g}, which is not a class of this map; check that "
            "the file is neither packed nor resampled by averaging, and that the legend is right"
        )
    codes[missing] = MISSING
    return codes
