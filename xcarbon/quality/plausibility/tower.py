"""The record of one tower, which the checks read, and the findings, which they yield."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xcarbon.core.variables import VARIABLES
from xcarbon.prep.limits import apply_limits_to_column, is_code
from xcarbon.prep.other_units import Unit, find_units
from xcarbon.prep.quality import MAX_QC
from xcarbon.prep.sun import Sunlight, Times, clock_by_month, sunlight

Array = NDArray[np.floating[Any]]
Severity = Literal["error", "warning", "note"]
#: All values below are markers of missing data: -9999 and -6999, or their mean with a measured half-hour.
NUMBER_FOR_MISSING = -3000.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of the quality checks.

    Attributes
    ----------
    severity : {"error", "warning", "note"}
        Whether something is certainly wrong, is probably wrong, or should be known before the data is used.
    topic : str
        Subject of the check, for example ``"clock"``.
    message : str
        Sentences that state what was found, by how much, and what to do.
    site, variable : str
        Tower and variable; empty if the finding concerns all of them.
    """

    severity: Severity
    topic: str
    message: str
    site: str = ""
    variable: str = ""


@dataclass(frozen=True, kw_only=True)
class TowerRecord:
    """The arrays and the metadata of one tower.

    Attributes
    ----------
    site, igbp : str
        Identifier and class; empty if unknown.
    lat, lon, elevation, utc_offset : float
        Coordinates [degrees_north], [degrees_east], [m] and clock minus UTC [hours]; NaN if unknown.
    equal_halves : float
        Share of hours whose two half-hours were equal [1]; NaN if unknown.
    time : numpy.ndarray
        Starts of the hours, shape ``(hours,)``.
    values, flags : dict of str to numpy.ndarray
        Values (NaN where missing) and quality flags by variable, shape ``(hours,)``.
    reflectance : numpy.ndarray or None
        Reflectance [1], shape ``(day, band, y, x)``; NaN where missing.
    """

    site: str = ""
    igbp: str = ""
    lat: float = np.nan
    lon: float = np.nan
    elevation: float = np.nan
    utc_offset: float = np.nan
    equal_halves: float = np.nan
    time: Times
    values: dict[str, Array]
    flags: dict[str, NDArray[np.integer[Any]]] = field(default_factory=dict)
    reflectance: Array | None = None

    def read(self, code: str, max_qc: int = MAX_QC) -> Array:
        """Return values up to a quality flag, ``(hours,)``; NaN elsewhere, and if the variable is absent."""
        if code not in self.values:
            return np.full(self.time.shape, np.nan, "float32")
        return self._masked(code, apply_limits_to_column(self._numbers(code), VARIABLES[code].limits), max_qc)

    def _masked(self, code: str, values: Array, max_qc: int = MAX_QC) -> Array:
        """Set values with a higher quality flag to NaN, ``(hours,)``."""
        return np.where(self.flags[code] > max_qc, np.nan, values) if code in self.flags else values

    def _numbers(self, code: str) -> Array:
        """Return all values without numbers for missing values, ``(hours,)``."""
        values = self.values[code]
        return np.where(marks_missing(values), np.nan, values)

    @cached_property
    def units(self) -> dict[str, Unit]:
        """Units of the variables that are not in the unit of the vocabulary."""
        values = {code: self._masked(code, self._numbers(code)) for code in self.values}
        return find_units(values, None if self.sun is None else self.sun.mean, self.elevation)

    def read_converted(self, code: str) -> Array:
        """Return values up to the quality flag 1 in the unit of the vocabulary, ``(hours,)``."""
        if code not in self.units:
            return self.read(code)
        return self._masked(code, self.units[code].convert(self._numbers(code)))

    @cached_property
    def clock(self) -> tuple[Times, Array]:
        """Months, and the UTC offset [hours] that the radiation indicates in each, both ``(months,)``."""
        light = next((code for code in ("SW_IN", "PPFD_IN", "SW_IN_POT") if code in self.values), None)
        if light is None or not np.isfinite(self.lat + self.lon):
            return np.array([], "datetime64[M]"), np.array([])
        return clock_by_month(self.read(light, max_qc=0), self.time, self.lat, self.lon)

    @property
    def offset_by_sun(self) -> float:
        """UTC offset [hours] that the radiation indicates; NaN with fewer than three months."""
        return float(np.median(self.clock[1])) if self.clock[1].size >= 3 else np.nan

    @property
    def offset(self) -> float:
        """Best estimate of the UTC offset [hours]."""
        guesses = (self.offset_by_sun, self.utc_offset, self.lon / 15)
        return next((guess for guess in guesses if np.isfinite(guess)), np.nan)

    @cached_property
    def sun(self) -> Sunlight | None:
        """Potential radiation, night and noon by the best estimate of the clock; None without coordinates."""
        if not np.isfinite(self.lat + self.lon):
            return None
        return sunlight(self.time, self.lat, self.lon, self.offset)

    def finding(self, severity: Severity, topic: str, message: str, variable: str = "") -> Finding:
        """Return a finding about this tower."""
        return Finding(severity, topic, message, self.site, variable)


def marks_missing(values: Array) -> NDArray[np.bool_]:
    """Return where values are numbers for missing values, or means of -9999 and a measured half-hour."""
    return is_code(values) | (values <= NUMBER_FOR_MISSING)
