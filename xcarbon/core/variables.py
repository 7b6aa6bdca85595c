"""The vocabulary: code, CF name, units, bounds, columns and quality flags of every variable.

Codes are the FLUXNET base codes in capitals. Readers, CF attributes, scaling and the documentation page use
the definitions in this module.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from xcarbon.core.errors import BoundsError, VariableError
from xcarbon.core.spelling import near


@dataclass(frozen=True, slots=True)
class Bounds:
    """The closed interval of plausible values of a variable, in its units.

    Attributes
    ----------
    lower, upper : float
        Smallest and largest value, in the units of the variable.

    Raises
    ------
    BoundsError
        If the interval is reversed, empty or not finite. With a reversed interval, every value would be
        out of bounds and therefore missing.

    Examples
    --------
    >>> Bounds(-80, 80)
    Bounds(lower=-80, upper=80)
    >>> Bounds(80, -80)
    Traceback (most recent call last):
    ...
    xcarbon.core.errors.BoundsError: lower bound 80 must be less than upper bound -80
    """

    lower: float
    upper: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lower) and math.isfinite(self.upper)):
            raise BoundsError(f"bounds must be finite, found {self.lower} and {self.upper}")
        if not self.lower < self.upper:
            raise BoundsError(f"lower bound {self.lower} must be less than upper bound {self.upper}")


@dataclass(frozen=True, slots=True)
class Limits(Bounds):
    """The closed interval of values that can be true, in the units of a variable, and a margin.

    Values beyond a limit by more than ``margin`` are missing. Values beyond a limit by up to ``margin``, such
    as light of -4 W m-2 at night or a relative humidity of 100.3 %, are due to the offset of a sensor and are
    clipped to the limit.

    Attributes
    ----------
    margin : float
        Distance from the limit up to which values are clipped, in the units of the variable.

    Raises
    ------
    BoundsError
        If the interval is reversed, empty or not finite, or the margin is negative or not finite.
    """

    margin: float = 0.0

    def __post_init__(self) -> None:
        Bounds.__post_init__(self)  # slots replace the class, so that super() has no cell to refer to
        if not (math.isfinite(self.margin) and self.margin >= 0):
            raise BoundsError(f"the margin must be finite and not negative, found {self.margin}")


@dataclass(frozen=True, slots=True)
class QualityScheme:
    """The meaning of the integers in a column of quality flags (``_QC``); lower flags are better."""

    name: str
    flag_meanings: tuple[str, ...]

    @property
    def flag_values(self) -> tuple[int, ...]:
        """Quality flags from 0, which marks a measured value."""
        return tuple(range(len(self.flag_meanings)))


#: Flags of the fluxes, and of columns filled by marginal distribution sampling alone (``_F_MDS``).
MDS = QualityScheme(
    "MDS", ("measured", "good_quality_gapfill", "medium_quality_gapfill", "poor_quality_gapfill")
)
#: Flags of meteorology consolidated from measurements, sampling and downscaled reanalysis (``_F``).
CONSOLIDATED = QualityScheme(
    "consolidated", ("measured", "good_quality_gapfill", "downscaled_from_reanalysis")
)
#: Flags of a variable whose values come from columns of both kinds.
HARMONISED = QualityScheme(
    "harmonised",
    (
        "measured",
        "good_quality_gapfill",
        "medium_quality_gapfill_or_reanalysis",
        "poor_quality_gapfill",
    ),
)


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of the data model.

    Attributes
    ----------
    code : str
        FLUXNET base code, which is the variable's name in every Dataset.
    long_name, units : str
        CF attributes.
    standard_name : str or None
        CF standard name; None if the CF table has no name with these units.
    bounds : Bounds or None
        Range that scales a predictor; None for targets and uncertainties.
    limits : Limits
        Values that can be true, from :data:`LIMITS`. They do not scale.
    cyclic : bool
        Whether both bounds mean the same (as for a direction or the time of day).
    cell_method : {"mean", "sum"}
        Whether a value is the mean or the sum of its hour.
    columns : tuple of str
        Columns of network files that contain the variable, in order of preference.
    is_uncertainty : bool
        Whether it describes the uncertainty of a flux. Such variables are read on request only.
    """

    code: str
    long_name: str
    units: str
    standard_name: str | None = None
    bounds: Bounds | None = None
    cyclic: bool = False
    cell_method: Literal["mean", "sum"] = "mean"
    columns: tuple[str, ...] = ()
    is_uncertainty: bool = False

    @property
    def limits(self) -> Limits:
        """Values that can be true."""
        return LIMITS[self.code]

    @property
    def is_target(self) -> bool:
        """Whether the variable is one that models predict."""
        return self.bounds is None and not self.is_uncertainty

    @property
    def is_time_feature(self) -> bool:
        """Whether the variable is computed from the time stamp and is therefore never missing."""
        return self.code in TIME_FEATURES


#: Predictors that are computed from the time stamp in local standard time.
TIME_FEATURES = ("DOY", "TOD")
#: Suffix in the name of a predicted flux's spread, which is its predictive standard deviation.
SPREAD = "_SE"
#: Coordinate of a prediction: whether the model was trained on the tower.
IN_TRAINING = "in_training"


def _soil(code: str, long_name: str, units: str, standard_name: str, bounds: Bounds) -> list[Variable]:
    """Return a soil variable at five depths; 1 is the shallowest."""
    return [
        Variable(
            f"{code}_{depth}",
            f"{long_name}, sensor depth {depth}",
            units,
            standard_name,
            bounds,
            columns=(f"{code}_F_MDS_{depth}", f"{code}_{depth}"),
        )
        for depth in range(1, 6)
    ]


_NEE = "surface_upward_mole_flux_of_carbon_dioxide"
_CARBON = "umol m-2 s-1"
_PARTITIONED = {
    "GPP_DT": "gross primary production, daytime partitioning",
    "GPP_NT": "gross primary production, night-time partitioning",
    "RECO_DT": "ecosystem respiration, daytime partitioning",
    "RECO_NT": "ecosystem respiration, night-time partitioning",
}


_TABLE = [
    Variable("DOY", "day of year", "1", None, Bounds(1, 367), cyclic=True),
    Variable("TOD", "time of day", "hours", None, Bounds(0, 24), cyclic=True),
    Variable(
        "TA", "air temperature", "degC", "air_temperature", Bounds(-80, 80),
        columns=("TA_F", "TA_F_MDS", "TA"),
    ),
    Variable(
        "P", "precipitation", "mm", "lwe_thickness_of_precipitation_amount", Bounds(0, 300),
        cell_method="sum", columns=("P_F", "P"),
    ),
    Variable(
        "RH", "relative humidity", "%", "relative_humidity", Bounds(0, 100), columns=("RH", "RH_F"),
    ),
    Variable(
        "VPD", "vapour pressure deficit", "hPa", "water_vapor_saturation_deficit_in_air",
        Bounds(0, 110), columns=("VPD_F", "VPD_F_MDS", "VPD"),
    ),
    Variable(
        "PA", "atmospheric pressure", "kPa", "surface_air_pressure", Bounds(20, 150),
        columns=("PA_F", "PA"),
    ),
    Variable(
        "CO2", "carbon dioxide mole fraction", "1e-6", "mole_fraction_of_carbon_dioxide_in_air",
        Bounds(0, 2000), columns=("CO2_F_MDS", "CO2"),
    ),
    Variable(
        "SW_IN", "incoming shortwave radiation", "W m-2", "surface_downwelling_shortwave_flux_in_air",
        Bounds(0, 2000), columns=("SW_IN_F", "SW_IN_F_MDS", "SW_IN"),
    ),
    Variable(
        "SW_IN_POT", "potential incoming shortwave radiation at the top of the atmosphere", "W m-2",
        "toa_incoming_shortwave_flux", Bounds(0, 2000), columns=("SW_IN_POT",),
    ),
    Variable(
        "SW_OUT", "outgoing shortwave radiation", "W m-2", "surface_upwelling_shortwave_flux_in_air",
        Bounds(-100, 2000), columns=("SW_OUT",),
    ),
    Variable(
        "LW_IN", "incoming longwave radiation", "W m-2", "surface_downwelling_longwave_flux_in_air",
        Bounds(0, 2000), columns=("LW_IN_F", "LW_IN_F_MDS", "LW_IN"),
    ),
    Variable(
        "LW_OUT", "outgoing longwave radiation", "W m-2", "surface_upwelling_longwave_flux_in_air",
        Bounds(-100, 2000), columns=("LW_OUT",),
    ),
    Variable(
        "NETRAD", "net radiation", "W m-2", "surface_net_downward_radiative_flux",
        Bounds(-1000, 2000), columns=("NETRAD",),
    ),
    Variable(
        "PPFD_IN", "incoming photosynthetic photon flux density", _CARBON,
        "surface_downwelling_photosynthetic_photon_flux_in_air", Bounds(-200, 3000),
        columns=("PPFD_IN",),
    ),
    Variable(
        "PPFD_OUT", "outgoing photosynthetic photon flux density", _CARBON,
        "surface_upwelling_photosynthetic_photon_flux_in_air", Bounds(-200, 3000),
        columns=("PPFD_OUT",),
    ),
    Variable("WS", "wind speed", "m s-1", "wind_speed", Bounds(0, 100), columns=("WS_F", "WS")),
    Variable(
        "WD", "wind direction", "degree", "wind_from_direction", Bounds(0, 360), cyclic=True,
        columns=("WD",),
    ),
    Variable(
        "USTAR", "friction velocity", "m s-1", "magnitude_of_surface_friction_velocity_in_air",
        Bounds(0, 10), columns=("USTAR",),
    ),
    *_soil("SWC", "soil water content", "%", "volume_fraction_of_condensed_water_in_soil", Bounds(0, 100)),
    *_soil("TS", "soil temperature", "degC", "soil_temperature", Bounds(-40, 40)),
    Variable("WTD", "water table depth", "m", "water_table_depth", Bounds(-3, 3), columns=("WTD",)),
    Variable(
        "G", "soil heat flux", "W m-2", "downward_heat_flux_in_soil", Bounds(-1000, 2000),
        columns=("G_F_MDS", "G", "G_1_1_1"),
    ),
    Variable(
        "H", "sensible heat flux", "W m-2", "surface_upward_sensible_heat_flux", Bounds(-1000, 2000),
        columns=("H_F_MDS", "H", "H_F"),
    ),
    Variable(
        "LE", "latent heat flux", "W m-2", "surface_upward_latent_heat_flux", Bounds(-1000, 2000),
        columns=("LE_F_MDS", "LE", "LE_F"),
    ),
    Variable(
        "NEE", "net ecosystem exchange of carbon dioxide, positive into the air", _CARBON, _NEE,
        columns=("NEE_VUT_REF", "NEE", "NEE_F"),
    ),
    *(
        Variable(code, name, _CARBON, columns=(f"{code}_VUT_REF", code))
        for code, name in _PARTITIONED.items()
    ),
    Variable(
        "FCH4", "methane flux, positive into the air", "nmol m-2 s-1",
        columns=("FCH4", "FCH4_F"),
    ),
    Variable(
        "NEE_RANDUNC", "random uncertainty of net ecosystem exchange", _CARBON, f"{_NEE} standard_error",
        columns=("NEE_VUT_REF_RANDUNC",), is_uncertainty=True,
    ),
    *(
        Variable(
            f"NEE_VUT_{percentile}",
            f"net ecosystem exchange at percentile {percentile} of the friction velocity thresholds",
            _CARBON, _NEE, columns=(f"NEE_VUT_{percentile}",), is_uncertainty=True,
        )
        for percentile in ("05", "16", "25", "50", "75", "84", "95")
    ),
    *(
        Variable(
            f"{code}_VUT_{percentile}",
            f"{name} at percentile {percentile} of the friction velocity thresholds", _CARBON,
            columns=(f"{code}_VUT_{percentile}",), is_uncertainty=True,
        )
        for code, name in _PARTITIONED.items()
        for percentile in ("16", "84")
    ),
]  # fmt: skip

_CARBON_LIMITS = Limits(-100, 100)
_PARTITIONED_LIMITS = Limits(-100, 200)

#: Plausibility limits of hours and half-hours by code, in the units of each variable. They separate values
#: that can be true from spikes and numbers for missing values. They follow the physical ranges of AmeriFlux
#: (https://ameriflux.lbl.gov/data/data-processing-pipelines/data-qaqc/, list of the flux-processing standard
#: by ``amf_variables`` of the R package amerifluxr), and are wider where records of the World Meteorological
#: Organization are (temperature: -89.2 and 56.7 degC, precipitation of an hour: 305 mm, pressure at sea
#: level: 108.5 kPa) or where towers stand higher or in dry or frozen soil. Only variables with a physical
#: limit, such as darkness or saturation, have a margin: sensors are off by a few W m-2 at night, and by a few
#: percent in saturated air.
LIMITS: dict[str, Limits] = {
    "DOY": Limits(1, 367),
    "TOD": Limits(0, 24),
    "TA": Limits(-90, 60),
    "P": Limits(0, 310, 0.5),
    "RH": Limits(0, 100, 5),
    "VPD": Limits(0, 130, 2),
    "PA": Limits(40, 110),
    "CO2": Limits(150, 2000),
    "SW_IN": Limits(0, 1500, 20),
    "SW_IN_POT": Limits(0, 1500, 20),
    "SW_OUT": Limits(0, 1300, 20),
    "LW_IN": Limits(30, 700),
    "LW_OUT": Limits(80, 1000),
    "NETRAD": Limits(-300, 1400),
    "PPFD_IN": Limits(0, 3000, 50),
    "PPFD_OUT": Limits(0, 2500, 50),
    "WS": Limits(0, 75, 0.5),
    "WD": Limits(0, 360, 1),
    "USTAR": Limits(0, 10, 0.1),
    **{f"SWC_{depth}": Limits(0, 100, 2) for depth in range(1, 6)},
    **{f"TS_{depth}": Limits(-60, 80) for depth in range(1, 6)},
    "WTD": Limits(-50, 10),
    "G": Limits(-300, 500),
    "H": Limits(-500, 1000),
    "LE": Limits(-500, 1000),
    "NEE": _CARBON_LIMITS,
    **dict.fromkeys(_PARTITIONED, _PARTITIONED_LIMITS),
    "FCH4": Limits(-500, 4000),
    "NEE_RANDUNC": Limits(0, 100),
    **{f"NEE_VUT_{part}": _CARBON_LIMITS for part in ("05", "16", "25", "50", "75", "84", "95")},
    **{f"{code}_VUT_{part}": _PARTITIONED_LIMITS for code in _PARTITIONED for part in ("16", "84")},
}

#: Every variable by its code, in the order of the data model.
VARIABLES: dict[str, Variable] = {variable.code: variable for variable in _TABLE}


@dataclass(frozen=True, slots=True)
class SatelliteVariable:
    """A satellite series of a tower: one number per composite, on ``(site, day)``.

    Attributes
    ----------
    code : str
        Name of the variable in every Dataset.
    long_name, units : str
        CF attributes.
    bounds : Bounds
        Limits of plausible values in the units; values beyond them are missing.
    bounds_source : str
        Where the limits come from.
    standard_name : str or None
        CF standard name; None if the CF table has none.
    names : tuple of str
        Names of the variable in files, besides the code.
    """

    code: str
    long_name: str
    units: str
    bounds: Bounds
    bounds_source: str
    standard_name: str | None = None
    names: tuple[str, ...] = ()


#: Quality flags of satellite series.
SATELLITE_QUALITY = QualityScheme("satellite", ("good_composite", "usable_composite", "mean_seasonal_cycle"))

_LST_SOURCE = (
    "beyond the extremes that MODIS has measured: 80.8 in the Lut Desert (Zhao et al. 2021) and -98 in "
    "Antarctica (Scambos et al. 2018)"
)

#: Satellite series by code. They are not in :data:`VARIABLES`, which the readers of tower files use.
SATELLITE: dict[str, SatelliteVariable] = {
    variable.code: variable
    for variable in (
        SatelliteVariable(
            "FAPAR", "fraction of absorbed photosynthetically active radiation", "1", Bounds(0, 1),
            "definition, and valid range of MCD15A2H",
            "fraction_of_surface_downwelling_photosynthetic_radiative_flux_absorbed_by_vegetation",
            ("FPAR",),
        ),
        SatelliteVariable(
            "LAI", "leaf area index", "1", Bounds(0, 10), "valid range of MCD15A2H", "leaf_area_index",
        ),
        SatelliteVariable(
            "NIRV", "near-infrared reflectance of vegetation", "1", Bounds(-0.2, 1),
            "product of the valid range of NDVI in MOD13Q1 and of a reflectance",
        ),
        SatelliteVariable(
            "NDWI", "normalised difference water index of the bands at 0.86 and 1.64 um", "1", Bounds(-1, 1),
            "definition",
        ),
        SatelliteVariable(
            "EVI", "enhanced vegetation index", "1", Bounds(-0.2, 1), "valid range of MOD13Q1",
        ),
        SatelliteVariable(
            "LST_DAY", "land surface temperature by day", "degC", Bounds(-100, 85), _LST_SOURCE,
            "surface_temperature",
        ),
        SatelliteVariable(
            "LST_NIGHT", "land surface temperature by night", "degC", Bounds(-100, 85), _LST_SOURCE,
            "surface_temperature",
        ),
        SatelliteVariable(
            "SNOW_COVER", "fraction of the surface covered by snow", "1", Bounds(0, 1), "definition",
            "surface_snow_area_fraction", ("SNOW",),
        ),
        SatelliteVariable(
            "SIF", "sun-induced fluorescence", "mW m-2 nm-1 sr-1", Bounds(-1, 5),
            "range and noise of retrievals (Joiner et al. 2013)",
            "toa_outgoing_radiance_per_unit_wavelength_due_to_solar_induced_fluorescence",
        ),
        SatelliteVariable(
            "SOIL_MOISTURE", "volumetric soil moisture of the surface layer", "m3 m-3", Bounds(0, 1),
            "valid range of ESA CCI Soil Moisture", "volume_fraction_of_condensed_water_in_soil",
        ),
    )
}  # fmt: skip

#: Variables that models predict.
TARGETS: tuple[str, ...] = tuple(code for code, variable in VARIABLES.items() if variable.is_target)

#: Fluxes that are the sum of two others: NEE is RECO - GPP. A model that predicts both predicts the sum, too.
SUMS: dict[str, tuple[str, str]] = {"RECO_NT": ("NEE", "GPP_NT"), "RECO_DT": ("NEE", "GPP_DT")}

#: Suffixes in a filled flux: the flag of measured and filled hours, and the prediction of all hours.
FILLED, MODEL = "_FILLED", "_MODEL"

#: The 21 inputs of EcoPerceiver in arXiv 2406.04940.
PAPER_INPUTS: tuple[str, ...] = (
    "DOY", "TOD", "TA", "P", "RH", "VPD", "PA", "CO2", "SW_IN", "SW_OUT", "LW_IN", "LW_OUT", "NETRAD",
    "PPFD_IN", "PPFD_OUT", "WS", "WD", "USTAR", "G", "H", "LE",
)  # fmt: skip

#: Reflectance bands of MCD43A4 with their shortest and longest wavelengths [nm].
REFLECTANCE_BANDS: dict[str, tuple[int, int]] = {
    "B1": (620, 670), "B2": (841, 876), "B3": (459, 479), "B4": (545, 565),
    "B5": (1230, 1250), "B6": (1628, 1652), "B7": (2105, 2155),
}  # fmt: skip
#: Channels of a patch: the reflectance bands, then the flags of MCD43A2.
PATCH_BANDS: tuple[str, ...] = (*REFLECTANCE_BANDS, "snow", "water")
#: Pixels along each side of a patch.
PATCH_PIXELS = 8

#: IGBP land cover classes.
IGBP_CLASSES: dict[str, str] = {
    "ENF": "evergreen needleleaf forest",
    "EBF": "evergreen broadleaf forest",
    "DNF": "deciduous needleleaf forest",
    "DBF": "deciduous broadleaf forest",
    "MF": "mixed forest",
    "CSH": "closed shrubland",
    "OSH": "open shrubland",
    "WSA": "woody savanna",
    "SAV": "savanna",
    "GRA": "grassland",
    "WET": "permanent wetland",
    "CRO": "cropland",
    "URB": "urban and built-up land",
    "CVM": "cropland and natural vegetation mosaic",
    "SNO": "snow and ice",
    "BSV": "barren or sparse vegetation",
    "WAT": "water body",
}

#: Static site features that models can use: position of the class in ``IGBP_CLASSES``, latitude
#: [degrees_north], longitude [degrees_east] and height above sea level [m]. The three numbers are the lower
#: bound, the upper bound, and half the period of the lowest frequency in the Fourier features.
STATICS: dict[str, tuple[float, float, float]] = {
    "igbp": (0, len(IGBP_CLASSES) - 1, 1),
    "lat": (-90, 90, 180),
    "lon": (-180, 180, 180),
    "elevation": (-500, 9000, 9500),
}

#: Time constants of the causal means of the past [days] by the ending of their names, as in ``TA_30D``. The
#: infinite one weights the whole past equally: the climate so far.
MEMORY: dict[str, float] = {
    "1D": 1.0, "7D": 7.0, "30D": 30.0, "90D": 90.0, "365D": 365.0, "CLIMATE": float("inf"),
}  # fmt: skip


def memory_features(codes: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the causal means of the past of hourly variables.

    Parameters
    ----------
    codes : iterable of str
        Hourly variables. Time features and directions have no memory and are skipped.

    Returns
    -------
    tuple of str
        Names in the order of the variables and, for each, of :data:`MEMORY`.

    Examples
    --------
    >>> memory_features(["DOY", "TA"])[:3]
    ('TA_1D', 'TA_7D', 'TA_30D')
    """
    linear = [code for code in codes if not VARIABLES[code].cyclic]
    return tuple(f"{code}_{ending}" for code in linear for ending in MEMORY)


def memory_code(feature: str) -> str | None:
    """Return the hourly variable whose past a state feature summarises; None for a satellite series.

    Parameters
    ----------
    feature : str
        A name of :func:`memory_features`, or a code of :data:`SATELLITE`.

    Returns
    -------
    str or None
        Code of the hourly variable.

    Raises
    ------
    VariableError
        If the name is neither.

    Examples
    --------
    >>> memory_code("SW_IN_365D"), memory_code("FAPAR")
    ('SW_IN', None)
    """
    if feature in SATELLITE:
        return None
    code, _, ending = feature.rpartition("_")
    if code in VARIABLES and ending in MEMORY:
        return code
    raise VariableError(
        f"{feature} is not a state feature: use a satellite series ({', '.join(SATELLITE)}), or an hourly "
        f"variable with one of the endings {', '.join(MEMORY)}, such as TA_30D"
    )


def state_groups(state: Sequence[str]) -> list[list[int]]:
    """Group state features that are masked together.

    Parameters
    ----------
    state : sequence of str
        M state features.

    Returns
    -------
    list of list of int
        G groups of positions in ``state``: the whole state if it has memory and satellite series, the whole
        memory, all satellite series, the memory of each variable, and each satellite series. There are no
        empty groups.

    Examples
    --------
    >>> state_groups(["TA_1D", "TA_30D", "VPD_1D", "LAI"])
    [[0, 1, 2, 3], [0, 1, 2], [3], [0, 1], [2], [3]]
    """
    groups: dict[str, list[int]] = {"the memory": [], "all satellite series": []}
    for number, feature in enumerate(state):
        code = memory_code(feature)
        groups["all satellite series" if code is None else "the memory"].append(number)
        groups.setdefault(code or feature, []).append(number)
    both = groups["the memory"] and groups["all satellite series"]
    return [list(range(len(state)))] * bool(both) + [group for group in groups.values() if group]


def variable(code: str) -> Variable:
    """Return the variable with a code.

    Parameters
    ----------
    code : str
        FLUXNET base code, for example ``"TA"``.

    Returns
    -------
    Variable
        Its entry in :data:`VARIABLES`.

    Raises
    ------
    VariableError
        If there is no variable with this code; the message suggests similar codes.

    Examples
    --------
    >>> variable("VPD").units
    'hPa'
    """
    try:
        return VARIABLES[code]
    except (KeyError, TypeError):  # a list has no hash
        if not isinstance(code, str):
            raise VariableError(f"a variable is named by its code, such as 'NEE', found {code!r}") from None
        common = [known.code for known in VARIABLES.values() if not known.is_uncertainty]
        instead = near(code, common) or list(VARIABLES)
        raise VariableError(f"there is no variable {code!r}; use one of {instead}") from None


def quality_scheme(column: str) -> QualityScheme:
    """Return the meaning of the quality flags of a column in a network file.

    Parameters
    ----------
    column : str
        Name of the column of values, for example ``"TA_F"`` (its flags are in ``TA_F_QC``).

    Returns
    -------
    QualityScheme
        ``CONSOLIDATED`` for meteorology named ``<code>_F``, where the flag 2 marks reanalysis; ``MDS`` for
        ``_F_MDS`` columns and fluxes, where the flags 1 to 3 are grades of gap-filling. Files of days and
        longer steps, whose ``_QC`` columns contain fractions of good half-hours, are not read.

    Examples
    --------
    >>> quality_scheme("TA_F").flag_meanings[2]
    'downscaled_from_reanalysis'
    >>> quality_scheme("NEE_VUT_REF").flag_meanings[2]
    'medium_quality_gapfill'
    """
    is_meteorology = not re.match(r"(NEE|GPP|RECO|FCH4|LE|H|G)_", column)
    return CONSOLIDATED if is_meteorology and column.endswith("_F") else MDS


def common_scheme(columns: Iterable[str]) -> QualityScheme:
    """Return the quality scheme of columns if they share one, else ``HARMONISED``.

    Examples
    --------
    >>> common_scheme(["TA_F", "TA_F_MDS"]).name
    'harmonised'
    """
    schemes = {scheme.name: scheme for scheme in map(quality_scheme, columns)}
    return schemes.popitem()[1] if len(schemes) == 1 else HARMONISED


def quality_column(column: str) -> str:
    """Return the name of the column of quality flags that belongs to a column of values.

    Gross primary production and respiration have the flags of NEE because they are partitioned from it. The
    random uncertainty of NEE has the flags of NEE, too.

    Examples
    --------
    >>> quality_column("TA_F"), quality_column("GPP_NT_VUT_REF")
    ('TA_F_QC', 'NEE_VUT_REF_QC')
    """
    from_nee = re.fullmatch(r"(?:GPP|RECO)_.*_([VC]UT)_REF|NEE_([VC]UT)_REF_RANDUNC", column)
    return f"NEE_{from_nee[1] or from_nee[2]}_REF_QC" if from_nee else f"{column}_QC"


def is_gap_filled(column: str) -> bool:
    """Return whether a column of a network file contains gap-filled values beside measured ones.

    Examples
    --------
    >>> [is_gap_filled(column) for column in ("TA_F", "SWC_F_MDS_1", "NEE_VUT_REF", "GPP_NT", "TA")]
    [True, True, True, True, False]
    """
    return bool(re.search(r"_F(_|$)|_[VC]UT_|^(GPP|RECO)_", column))


def present(codes: Iterable[str], available: Iterable[object]) -> tuple[str, ...]:
    """Return those of the codes that are available or are computed from the time stamp.

    Examples
    --------
    >>> present(("DOY", "TA", "P"), {"TA", "NEE"})
    ('DOY', 'TA')
    """
    have = set(available)
    return tuple(code for code in codes if code in have or code in TIME_FEATURES)
