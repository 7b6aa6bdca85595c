"""Convert the units of other Datasets to those of the vocabulary, with pint."""

from __future__ import annotations

import functools
import math
import re
from typing import Any

from xcarbon.core.errors import MetadataError
from xcarbon.core.variables import VARIABLES

#: Molar masses [g mol-1] of carbon, carbon dioxide and methane.
MOLAR_MASS = {"C": 12.011, "CO2": 44.009, "CH4": 16.043}
#: Quantities that are not in the vocabulary, but from which humidity or a coordinate is computed.
AUXILIARY = {"dew_point": "degC", "specific_humidity": "1", "elevation": "m"}

_CARBON_FLUXES = ("NEE", "GPP_DT", "GPP_NT", "RECO_DT", "RECO_NT")
#: Substances that units may name beside a mole or a gram, as in "umolCO2 m-2 s-1".
_SUBSTANCES = {
    **dict.fromkeys(_CARBON_FLUXES, ("C", "CO2")),
    "FCH4": ("C", "CH4"),
    "CO2": ("CO2",),
    "PPFD_IN": ("photon",),
    "PPFD_OUT": ("photon",),
}
_SUBSTANCE = re.compile(
    r"\b((?:k|m|u|µ|μ|n|micro)?(?:g|mole?))\s*\(?(CO2|CH4|C|[Pp]hoton)s?\)?(?![A-Za-z\d])"
)
_FACTOR = re.compile(r"(\d*\.?\d+(?:[eE][+-]?\d+)?|10(?:\^|\*\*)?[+-]\d+)(?:\s+(.*))?")
_CELSIUS = re.compile(r"deg(?:ree)?s?[ _]?C(?:elsius)?", re.IGNORECASE)
#: Spellings that pint cannot read: signs of powers, and units that nothing separates, as in "umolm-2s-1".
_SPELLINGS = (
    (re.compile(r"^\[(.*)\]$"), r"\1"),
    (re.compile("\N{MINUS SIGN}"), "-"),
    (re.compile(r"(?<=[A-Za-z])\+1(?!\d)"), " "),
    (re.compile(r"(mol|W|J|g|C|CO2|CH4|[Pp]hotons?)(?=m-\d)"), r"\1 "),
    (re.compile(r"(?<=-\d)(?=[A-Za-z])"), " "),
    (re.compile(r"^([hk])pa$", re.IGNORECASE), lambda match: match[1].lower() + "Pa"),
)
_SYNONYMS = {
    "Kelvin": "K",
    "\N{DEGREE CELSIUS}": "degC",
    "fraction": "1",
    "frac": "1",
    "unitless": "1",
    "mb": "hPa",
    "ms-1": "m s-1",
    "ppmv": "ppm",
    "degree_true": "degree",
    "degrees_true": "degree",
    "m of water equivalent": "m",
}
_ANGLES = ("degree", "degrees", "radian")


def conversion(units: str, code: str, *, as_carbon: bool = False, hours: float = 1.0) -> tuple[float, float]:
    """Return the factor and the offset that convert values to the units of the vocabulary.

    Parameters
    ----------
    units : str
        Units as in a CF file, for example ``"K"``, ``"kg m-2 s-1"`` or ``"gC m-2 d-1"``.
    code : str
        Code of the variable, or a name in ``AUXILIARY``.
    as_carbon : bool
        Whether a mass without a substance, as in ``"kg m-2 s-1"``, is a mass of carbon.
    hours : float
        Length of a time step [hours], over which rates of precipitation are summed.

    Returns
    -------
    tuple of float
        The converted value is ``factor * value + offset``.

    Raises
    ------
    MetadataError
        If the units cannot be read, or cannot be converted.

    Notes
    -----
    Beside units of the same dimension, precipitation is converted from a mass (1000 kg m-3) and from a rate,
    which is summed over the time step; radiation from its sum over the step [J m-2]; and carbon fluxes from
    masses of carbon (12.011 g mol-1), carbon dioxide (44.009 g mol-1) or methane (16.043 g mol-1).

    Examples
    --------
    >>> conversion("hPa", "PA"), conversion("kg m-2 s-1", "P")
    ((0.1, 0.0), (3600.0, 0.0))
    """
    target = VARIABLES[code].units if code in VARIABLES else AUXILIARY[code]
    registry = _registry()
    scale, source, substance = _parse(units)
    goal_scale, goal, _ = _parse(target)
    if substance and substance not in _SUBSTANCES.get(code, ()):
        raise MetadataError(f"units {units!r} of {substance} cannot be converted to {target!r} for {code}")
    if _is_angle(source) == _is_angle(goal):
        for bridge in _bridges(registry, code, "C" if as_carbon and not substance else substance, hours):
            if (source * bridge.units).dimensionality == goal.dimensionality:
                if bridge.unitless:  # the units may have another zero
                    zero, one = (float(registry.Quantity(x, source).to(goal).magnitude) for x in (0.0, 1.0))
                else:
                    zero, one = 0.0, float((registry.Quantity(1.0, source) * bridge).to(goal).magnitude)
                return scale * (one - zero) / goal_scale, zero / goal_scale
    raise MetadataError(
        f"units {units!r} cannot be converted to {target!r} for {code}{_reason(code, source)}"
    )


def are_equal(units: str, others: str) -> bool:
    """Return whether two texts state the same units.

    Examples
    --------
    >>> are_equal("J/m^2", "J m-2"), are_equal("m s**-1", "m s-1"), are_equal("degC", "K")
    (True, True, False)
    """
    if units == others:
        return True
    try:
        (scale, unit, substance), (other_scale, other, other_substance) = _parse(units), _parse(others)
    except MetadataError:
        return False
    one = _registry().Quantity(1.0, unit)
    same_dimension = substance == other_substance and unit.dimensionality == other.dimensionality
    return same_dimension and math.isclose(scale * one.to(other).magnitude, other_scale, rel_tol=1e-9)


@functools.cache
def _registry() -> Any:
    """Return the registry of CF units; its module imports matplotlib if that is installed, so not earlier."""
    from cf_xarray.units import units

    return units


@functools.cache
def _parse(text: str) -> tuple[float, Any, str]:
    """Split units into a number, units of pint, and the substance that they name or ""."""
    spelled = text.strip()
    for pattern, spelling in _SPELLINGS:
        spelled = pattern.sub(spelling, spelled)
    match = _SUBSTANCE.search(spelled)
    plain = " ".join(_SUBSTANCE.sub(r"\1", spelled).split())
    plain = _SYNONYMS.get(plain, plain)
    plain = "degC" if _CELSIUS.fullmatch(plain) else plain
    number, rest = "1", plain
    if factor := _FACTOR.fullmatch(plain):
        number, rest = re.sub(r"^10(?:\^|\*\*)?([+-])", r"1e\1", factor[1]), factor[2] or ""
    try:
        unit = _registry().Unit(rest)
    except Exception as error:  # pint raises many kinds of errors for a text that it cannot parse
        raise MetadataError(f"units {text!r} cannot be read ({error})") from error
    return (
        float(number),
        unit,
        match[2].lower() if match and "hoton" in match[2] else match[2] if match else "",
    )


def _bridges(registry: Any, code: str, substance: str, hours: float) -> list[Any]:
    """Return quantities by which values may be multiplied to reach the dimension of a variable."""
    quantity, step = registry.Quantity, registry.Quantity(hours, "hour")
    bridges = [quantity(1.0, "")]
    if code == "P":
        density = quantity(1000.0, "kg m-3")
        bridges += [1 / density, step, step / density]
    elif code in ("SW_IN", "LW_IN"):
        bridges += [1 / step]
    elif substance in MOLAR_MASS and code in _SUBSTANCES:
        bridges += [1 / quantity(MOLAR_MASS[substance], "g mol-1")]
    return bridges


def _is_angle(unit: Any) -> bool:
    return any(name in str(unit) for name in _ANGLES) and not unit.dimensionality


def _reason(code: str, unit: Any) -> str:
    """Return why units of a variable cannot be converted, where that is not obvious."""
    if code.startswith("PPFD"):
        return (
            ": energy and number of photons are related by the spectrum, so compute the photon flux yourself"
        )
    if code in (*_CARBON_FLUXES, "FCH4") and "[mass]" in unit.dimensionality:
        return ": write what the mass is made of in the units, for example 'gC m-2 d-1'"
    return ""
