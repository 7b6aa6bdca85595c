"""Names of MODIS files and of their layers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

#: Valid range of packed reflectances by product, best product first; fill values are out of range. MCD43A2
#: contains flags only.
PRODUCTS: dict[str, tuple[int, int]] = {
    "MCD43A4": (0, 32766),
    "MOD09A1": (-100, 16000),
    "MOD09GA": (-100, 16000),
    "MCD43A2": (0, 0),
}
_PRODUCT = rf"(?P<product>{'|'.join(PRODUCTS)})"
_LAYERS: dict[str, str] = {
    r"(?:Nadir_Reflectance_Band|sur_refl_b0|B0)([1-7])(?:_1)?": r"B\1",
    r"BRDF_Albedo_Band_Mandatory_Quality_Band([1-7])": r"B\1_quality",
    r"sur_refl_state_500m": "state",
    r"Snow_BRDF_Albedo": "snow",
    r"BRDF_Albedo_LandWaterType": "water",
}
_GRANULE = re.compile(
    _PRODUCT + r"\.A(?P<day>\d{7})\.(?P<tile>h\d\dv\d\d)\.(?P<collection>\d{3})\.(?P<stamp>\d{13})"
    r"(?:[._](?P<layer>\w+?))?(?:\.\w+)?"
)
_APPEEARS = re.compile(
    _PRODUCT + r"\.(?P<collection>\d{3})_(?:500m|(?P<layer>\w+)_doy(?P<day>\d{7})(?:\d{6})?)_aid\d{4}\.\w+"
)


@dataclass(frozen=True, slots=True)
class Name:
    """Parts of a file name.

    Attributes
    ----------
    product : str
        One of :data:`PRODUCTS`.
    day : numpy.datetime64 or None
        Day, or first day of a composite; None for a file with several days.
    tile : tuple of int or None
        Column and row of the tile ``hXXvYY``.
    layer : str or None
        Only layer of the file, by its name in xcarbon.
    rank : tuple
        Collection and production time stamp; a greater rank is newer.
    """

    product: str
    day: np.datetime64 | None = None
    tile: tuple[int, int] | None = None
    layer: str | None = None
    rank: tuple[float, str] = (0.0, "")


def parse_name(name: str) -> Name | None:
    """Parse a file name or the id of a STAC item; None if it is not from NASA or AppEEARS.

    Examples
    --------
    >>> name = parse_name("MCD43A4.A2018185.h10v07.061.2018194033728_Nadir_Reflectance_Band1.tif")
    >>> str(name.day), name.tile, name.layer, name.rank
    ('2018-07-04', (10, 7), 'B1', (6.1, '2018194033728'))
    >>> parse_name("MCD43A4.061_500m_aid0001.nc").product
    'MCD43A4'
    """
    found = _GRANULE.fullmatch(name) or _APPEEARS.fullmatch(name)
    if not found:
        return None
    part: dict[str, str] = {"tile": "", "stamp": ""} | found.groupdict("")
    return Name(
        part["product"],
        _day_of_year(part["day"]) if part["day"] else None,
        (int(part["tile"][1:3]), int(part["tile"][4:6])) if part["tile"] else None,
        layer_of(part["layer"]),
        (_collection(part["collection"]), part["stamp"]),
    )


def find_product(text: str) -> str | None:
    """Find the first product that a text mentions."""
    found = re.search(_PRODUCT, text)
    return found["product"] if found else None


def layer_of(name: str) -> str | None:
    """Convert the name of a layer to its name in xcarbon; None if xcarbon does not read the layer.

    Examples
    --------
    >>> [layer_of(name) for name in ("sur_refl_b02", "Snow_BRDF_Albedo", "sur_refl_vzen")]
    ['B2', 'snow', None]
    """
    for pattern, layer in _LAYERS.items():
        if found := re.fullmatch(pattern, name):
            return found.expand(layer)
    return None


def named_layers(names: Iterable[object]) -> dict[str, str]:
    """Map the layers among the variables of a file to their names in the file."""
    return {layer: str(name) for name in names if (layer := layer_of(str(name)))}


def _day_of_year(text: str) -> np.datetime64:
    """Parse YYYYDDD."""
    return np.datetime64(text[:4], "D") + (int(text[4:]) - 1)


def _collection(text: str) -> float:
    """Parse a collection: 006 is 6, 061 is 6.1."""
    number = int(text)
    return number / 10 if number > 9 else float(number)
