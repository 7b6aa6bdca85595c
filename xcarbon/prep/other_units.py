"""Find variables that are in another unit than that of the vocabulary, each from its own physics.

The functions take arrays of one tower, NaN where missing. They use the range of a variable, and the
saturation vapour pressure, potential radiation or radiation in the same hours where these are known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xcarbon.core.variables import VARIABLES
from xcarbon.prep.humidity import saturation_vapour_pressure
from xcarbon.prep.limits import apply_limits_to_column

Array = NDArray[np.floating[Any]]

#: Minimum number of values of a variable, and of wet hours, to determine its unit.
MIN_HOURS, MIN_WET = 120, 50
#: Hours of a record that contains all seasons.
ALL_SEASONS = 300 * 24
#: Largest potential radiation [W m-2] of a record that is not polar night.
SUNNY = 300.0


class Unit(NamedTuple):
    """A unit that a variable is probably in.

    Attributes
    ----------
    name : str
        Name of the unit.
    advice : str
        What to do with the values.
    convert : callable
        Function from values in this unit to values in the unit of the vocabulary.
    is_certain : bool
        Whether no tower is known whose values would be so in the right unit.
    """

    name: str
    advice: str
    convert: Callable[[Array], Array]
    is_certain: bool = True


def _times(name: str, factor: float, *, is_certain: bool = True) -> Unit:
    """Return a unit whose values need a factor."""
    advice = f"Multiply it by {factor:g}" if factor > 1 else f"Divide it by {1 / factor:g}"
    return Unit(name, advice, lambda values: values * factor, is_certain)


KELVIN = Unit("K", "Subtract 273.15", lambda values: values - 273.15)
FAHRENHEIT = Unit("degF", "Subtract 32 and divide by 1.8", lambda values: (values - 32) / 1.8)
FRACTION = _times("fractions instead of percent", 100)


#: Variables whose units are found first, by their turn, because others are compared with them.
_FIRST = {"RH": 0, "SW_IN": 0, "TA": 1}


def find_units(
    values: Mapping[str, Array], potential: Array | None = None, elevation: float = np.nan
) -> dict[str, Unit]:
    """Find the variables of a tower that are in another unit than that of the vocabulary.

    Parameters
    ----------
    values : mapping of str to numpy.ndarray
        Values by code, NaN where missing, shape ``(hours,)``.
    potential : numpy.ndarray, optional
        Mean potential radiation [W m-2], shape ``(hours,)``.
    elevation : float
        Height of the tower above sea level [m]; NaN if unknown.

    Returns
    -------
    dict of str to Unit
        Units by code, only of variables in another unit; see :func:`find_unit`.

    Examples
    --------
    >>> {code: unit.name for code, unit in find_units({"TA": np.full(200, 290.0)}).items()}
    {'TA': 'K'}
    """
    found: dict[str, Unit] = {}
    known: dict[str, Array] = {} if potential is None else {"SW_IN_POT": potential}
    for code in sorted(values, key=lambda code: _FIRST.get(code, 2)):
        others = known
        if code == "TA" and "VPD" in values:
            others = known | {"VPD": apply_limits_to_column(values["VPD"], VARIABLES["VPD"].limits)}
        unit = find_unit(code, values[code], others, elevation)
        if unit is not None:
            found[code] = unit
        if code in _FIRST:
            known[code] = values[code] if unit is None else unit.convert(values[code])
    return found


def find_unit(
    code: str, values: Array, others: Mapping[str, Array], elevation: float = np.nan
) -> Unit | None:
    """Find the unit that a variable is in, if it is not that of the vocabulary.

    Parameters
    ----------
    code : str
        Code of the variable.
    values : numpy.ndarray
        Its values, NaN where missing, shape ``(hours,)``.
    others : mapping of str to numpy.ndarray
        Variables in the same hours, in the units of the vocabulary: ``TA``, ``RH`` and ``SW_IN`` where they
        are known, and the mean potential radiation [W m-2] as ``SW_IN_POT``. None of them is required.
    elevation : float
        Height of the tower above sea level [m]; NaN if unknown.

    Returns
    -------
    Unit or None
        None if the values are in the unit of the vocabulary, if they fit several units, or if there are fewer
        than 120 of them.

    Examples
    --------
    >>> find_unit("PA", np.full(200, 1013.0), {}).name
    'hPa'
    >>> find_unit("RH", np.linspace(0.3, 1, 200), {}).advice
    'Multiply it by 100'
    """
    if np.count_nonzero(~np.isnan(values)) < MIN_HOURS:
        return None
    base = code.split("_")[0]
    rule = {
        "TA": _temperature, "TS": _temperature, "RH": _percentage, "SWC": _percentage, "VPD": _deficit,
        "PA": _pressure, "CO2": _mole_fraction, "P": _precipitation, "SW": _radiation, "PPFD": _photons,
        "NEE": _carbon, "GPP": _carbon, "RECO": _carbon, "FCH4": _methane,
    }.get(base)  # fmt: skip
    if rule is None or code in ("SW_OUT", "PPFD_OUT", "SW_IN_POT") or VARIABLES[code].is_uncertainty:
        return None
    return rule(code, values, others, elevation)


def _quantiles(values: Array) -> tuple[float, float]:
    """Return the median and the 99th percentile of the known values."""
    middle, high = np.nanpercentile(values, [50, 99])
    return float(middle), float(high)


def _temperature(code: str, values: Array, others: Mapping[str, Array], elevation: float) -> Unit | None:
    """Find the unit of a temperature: medians are at most 40 degC, and the record of the air is 56.7 degC."""
    middle, high = _quantiles(values)
    if 180 < middle < 340:
        return KELVIN
    hottest = 56.7 if code == "TA" else 82.0
    if 40 < middle < 120 or hottest < high < 140:
        return FAHRENHEIT
    if code == "TA" and {"RH", "VPD"} <= others.keys():
        ratio, as_fahrenheit = (
            _median_ratio(others["VPD"], _expected_deficit(air, others["RH"]))
            for air in (values, FAHRENHEIT.convert(values))
        )
        return FAHRENHEIT if ratio < 0.8 and 0.9 < as_fahrenheit < 1.1 else None
    return None


def _percentage(code: str, values: Array, others: Mapping[str, Array], elevation: float) -> Unit | None:
    """Find the unit of humidity or soil moisture: values above 1 % occur at every site."""
    middle, high = _quantiles(values)
    return FRACTION if middle > 0 and high <= (1.1 if code == "RH" else 1.0) else None


def _expected_deficit(air: Array, humidity: Array) -> Array:
    """Return the deficit [hPa] that follows from air temperature [degC] and humidity [%]."""
    return saturation_vapour_pressure(air) * (1 - humidity / 100)


def _median_ratio(values: Array, expected: Array) -> float:
    """Return the median ratio, where the expected deficit is above 1 hPa; smaller ones are noise."""
    clear = (expected > 1) & ~np.isnan(values)
    return float(np.median(values[clear] / expected[clear])) if clear.any() else float("nan")


def _deficit(code: str, values: Array, others: Mapping[str, Array], elevation: float) -> Unit | None:
    """Find the unit of VPD from humidity, else from the saturation vapour pressure, else from its range.

    The 99th percentile of VPD / es(TA) is at least 0.375 at the towers of FLUXNET2015 (CG-Tch), and the 99th
    percentile of VPD at least 3.6 hPa (SJ-Adv).
    """
    kilopascals, pascals = _times("kPa", 10), _times("Pa", 0.01)
    if "TA" in others and "RH" in others:
        ratio = _median_ratio(values, _expected_deficit(others["TA"], others["RH"]))
        if np.isfinite(ratio):
            return kilopascals if 0.09 < ratio < 0.11 else pascals if 90 < ratio < 110 else None
    if "TA" in others:
        ratios = values / saturation_vapour_pressure(others["TA"])
        if np.count_nonzero(~np.isnan(ratios)) >= MIN_HOURS:
            middle, high = _quantiles(ratios)
            return kilopascals if 0 < high < 0.15 else pascals if middle > 2 else None
    _, high = _quantiles(values)
    if high > VARIABLES["VPD"].limits.upper:
        return pascals
    has_summer = np.count_nonzero(~np.isnan(values)) >= ALL_SEASONS
    return _times("kPa", 10, is_certain=False) if has_summer and 0 < high < 2.5 else None


def _pressure(code: str, values: Array, others: Mapping[str, Array], elevation: float) -> Unit | None:
    """Find the unit of air pressure: 40 to 110 kPa at towers, and close to that of the elevation."""
    middle, _ = _quantiles(values)
    expected = 101.3 * np.exp(-elevation / 8400)
    if abs(middle * 0.133322 / expected - 1) < 0.04 and abs(middle / 10 / expected - 1) > 0.1:
        return _times("mmHg", 0.133322, is_certain=False)
    for name, factor in (("hPa", 0.1), ("Pa", 0.001), ("bar", 100)):
        if 40 <= middle * factor <= 110:
            return _times(name, factor)
    return None


def _mole_fraction(code: str, values: Array, others: Mapping[str, Array], elevation: float) -> Unit | None:
    """Find the unit of carbon dioxide in air: 300 to 1000 umol mol-1, which are 12 to 40 mmol m-3."""
    middle, _ = _quantiles(values)
    for name, factor in (("mol mol-1", 1e6), ("mmol mol-1", 1e3)):
        if 250 < middle * factor < 1500:
            return _times(name, factor)
    if 10 < middle < 40:
        advice = "Divide it by the density of air in kmol m-3, from TA and PA, to get umol mol-1"
        return Unit("mmol m-3", advice, lambda density: density * 24.0)
    return None


def _precipitation(code: str, values: Array, others: Mapping[str, Array], elevation: float) -> Unit | None:
    """Find the unit of precipitation: about 1 mm in the mean wet hour, and more in the wettest 1 %."""
    wet = values[values > 0]
    if wet.size < MIN_WET:
        return None
    mean, high = wet.mean(), np.percentile(wet, 99)
    if mean < 0.005 and high < 0.05:
        return _times("m", 1000)
    return _times("inches", 25.4, is_certain=False) if mean < 0.12 and high < 0.8 else None


def _radiation(code: str, values: Array, others: Mapping[str, Array], elevation: float) -> Unit | None:
    """Find the unit of radiation: more than 5 W m-2 in sun, and less than above the atmosphere."""
    _, high = _quantiles(values)
    potential = others.get("SW_IN_POT")
    if potential is not None:
        day = ~np.isnan(values) & (potential > 0)
        if day.sum() < MIN_HOURS or np.percentile(potential[day], 90) < SUNNY:
            return None
        clearness = values[day].sum() / potential[day].sum()
        if 1.2 < clearness < 2.2:
            return _times("umol m-2 s-1 of photons", 1 / 2.02, is_certain=False)
        if clearness > 2e-2:
            return None
    elif np.count_nonzero(~np.isnan(values)) < ALL_SEASONS:
        return None
    if 0.1 < high < 1.4:
        return _times("kW m-2", 1000)
    return _times("MJ m-2 per hour", 1e6 / 3600) if 1.4 <= high < 5 else None


def _photons(code: str, values: Array, others: Mapping[str, Array], elevation: float) -> Unit | None:
    """Find the unit of a photon flux: 2 umol of photons per J, and above 0.01 mol m-2 in sunny hours."""
    _, high = _quantiles(values)
    if 0 < high < 0.01:
        return _times("mol m-2 s-1", 1e6)
    light = others.get("SW_IN")
    if light is None:
        return None
    bright = (light > 100) & ~np.isnan(values)
    ratio = np.median(values[bright] / light[bright]) if bright.sum() >= MIN_HOURS else np.nan
    return _times("W m-2", 4.57, is_certain=False) if 0.35 < ratio < 0.6 else None


def _carbon(code: str, values: Array, others: Mapping[str, Array], elevation: float) -> Unit | None:
    """Find the unit of a carbon flux: the largest 1 % is above 1 umol m-2 s-1, also at GL-ZaH (1.7)."""
    _, high = _quantiles(np.abs(values))
    return _times("mol m-2 s-1", 1e6) if 0 < high < 1e-3 else None


def _methane(code: str, values: Array, others: Mapping[str, Array], elevation: float) -> Unit | None:
    """Find the unit of a methane flux: noise alone causes values of a few nmol m-2 s-1."""
    _, high = _quantiles(np.abs(values))
    if 0 < high < 1e-4:
        return _times("mol m-2 s-1", 1e9)
    return _times("umol m-2 s-1", 1000, is_certain=False) if 0 < high < 0.5 else None
