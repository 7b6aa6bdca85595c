"""The vocabulary is complete and agrees with the CF standard name table."""

import math
from pathlib import Path
from xml.etree import ElementTree

import cf_units
import compliance_checker
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xcarbon.core.errors import BoundsError, VariableError
from xcarbon.core.variables import (
    CONSOLIDATED,
    HARMONISED,
    MDS,
    PAPER_INPUTS,
    PATCH_BANDS,
    REFLECTANCE_BANDS,
    SATELLITE,
    TARGETS,
    TIME_FEATURES,
    VARIABLES,
    Bounds,
    common_scheme,
    is_gap_filled,
    memory_features,
    present,
    quality_column,
    quality_scheme,
    state_groups,
    variable,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@pytest.fixture(scope="module")
def standard_names() -> dict[str, str]:
    """Canonical units of every CF standard name."""
    folder = Path(compliance_checker.__file__).parent / "data"
    table = ElementTree.parse(folder / "cf-standard-name-table.xml").getroot()
    return {entry.get("id"): entry.findtext("canonical_units") or "1" for entry in table.iter("entry")}


@given(lower=FINITE, upper=FINITE)
def test_bounds_are_the_right_way_round_or_an_error(lower, upper):
    if lower < upper:
        assert Bounds(lower, upper).lower < Bounds(lower, upper).upper
    else:
        with pytest.raises(BoundsError, match="must be less than"):
            Bounds(lower, upper)


@given(finite=FINITE, other=st.sampled_from([math.inf, -math.inf, math.nan]))
def test_bounds_are_finite_or_an_error(finite, other):
    for lower, upper in [(finite, other), (other, finite)]:
        with pytest.raises(BoundsError, match="finite"):
            Bounds(lower, upper)


@pytest.mark.parametrize("code", VARIABLES)
def test_variable_has_units_that_exist(code):
    cf_units.Unit(VARIABLES[code].units)
    assert VARIABLES[code].units
    assert VARIABLES[code].long_name


@pytest.mark.parametrize("code", [code for code in VARIABLES if VARIABLES[code].standard_name])
def test_standard_name_is_in_the_cf_table_with_convertible_units(code, standard_names):
    name, *modifier = VARIABLES[code].standard_name.split()
    assert modifier in ([], ["standard_error"])  # a modifier of CF, appendix C
    canonical = standard_names[name]
    assert cf_units.Unit(VARIABLES[code].units).is_convertible(canonical)


@pytest.mark.parametrize("code", SATELLITE)
def test_satellite_series_has_units_and_a_standard_name_of_the_cf_table(code, standard_names):
    series = SATELLITE[code]
    unit = cf_units.Unit(series.units)
    assert series.standard_name is None or unit.is_convertible(standard_names[series.standard_name])
    assert code == series.code
    assert code not in VARIABLES


@pytest.mark.parametrize("code", VARIABLES)
def test_variable_is_a_predictor_with_bounds_or_a_target_or_an_uncertainty_without(code):
    known = VARIABLES[code]
    assert (code in TARGETS) == known.is_target
    assert [known.bounds is not None, known.is_target, known.is_uncertainty].count(True) == 1


def test_uncertainties_are_those_of_nee_and_of_no_model():
    percentiles = [f"NEE_VUT_{percentile}" for percentile in ("05", "16", "25", "50", "75", "84", "95")]
    uncertainties = [code for code, known in VARIABLES.items() if known.is_uncertainty]
    partitioned = [
        f"{code}_VUT_{part}" for code in ("GPP_DT", "GPP_NT", "RECO_DT", "RECO_NT") for part in (16, 84)
    ]
    assert uncertainties == ["NEE_RANDUNC", *percentiles, *partitioned]
    assert not {*TARGETS, *PAPER_INPUTS} & set(uncertainties)
    assert {VARIABLES[code].units for code in uncertainties} == {VARIABLES["NEE"].units}


@pytest.mark.parametrize("code", VARIABLES)
def test_only_time_features_have_no_column(code):
    assert (not VARIABLES[code].columns) == (code in TIME_FEATURES) == variable(code).is_time_feature


def test_no_column_holds_two_variables():
    columns = [column for known in VARIABLES.values() for column in known.columns]
    assert len(columns) == len(set(columns))


def test_paper_inputs_are_21_predictors_and_9_bands():
    assert len(set(PAPER_INPUTS)) == len(PAPER_INPUTS) == 21
    assert not set(PAPER_INPUTS) & set(TARGETS)
    assert all(code in VARIABLES for code in PAPER_INPUTS)
    assert len(PATCH_BANDS) == 9
    assert all(low < high for low, high in REFLECTANCE_BANDS.values())


@pytest.mark.parametrize(("typo", "meant"), [("TAA", "TA"), ("VDP", "VPD"), ("NEE_VUT", "NEE")])
def test_unknown_code_suggests_near_ones(typo, meant):
    with pytest.raises(VariableError, match=f"no variable '{typo}'.*'{meant}'"):
        variable(typo)


def test_unknown_code_without_similar_ones_lists_all():
    with pytest.raises(VariableError, match=r"DOY.*FCH4"):
        variable("?")


@pytest.mark.parametrize(
    ("column", "scheme"),
    [
        ("TA_F", CONSOLIDATED),
        ("SW_IN_F", CONSOLIDATED),
        ("P_F", CONSOLIDATED),
        ("TA_F_MDS", MDS),
        ("LE_F_MDS", MDS),
        ("G_F_MDS", MDS),
        ("NEE_VUT_REF", MDS),
        ("NEE_F", MDS),
        ("FCH4_F", MDS),
        ("SWC_F_MDS_1", MDS),
        ("RH_F", CONSOLIDATED),
        ("LE_F", MDS),
        ("H_F", MDS),
        ("GPP_NT_VUT_REF", MDS),
        ("NEE_VUT_05", MDS),
    ],
)
def test_quality_scheme_follows_the_variable_family(column, scheme):
    assert quality_scheme(column) is scheme
    assert scheme.flag_values[0] == 0
    assert scheme.flag_meanings[0] == "measured"


def test_present_keeps_order_and_time_features():
    assert present(("P", "TOD", "TA", "RH"), ["TA", "P"]) == ("P", "TOD", "TA")


@pytest.mark.parametrize(
    ("columns", "scheme"),
    [
        (["TA_F"], CONSOLIDATED),
        (["TA_F", "VPD_F"], CONSOLIDATED),
        (["LE_F_MDS", "LE"], MDS),
        (["TA_F", "TA_F_MDS"], HARMONISED),
        (["TA_F_MDS", "TA_F", "TA"], HARMONISED),
    ],
)
def test_columns_have_a_common_scheme(columns, scheme):
    assert common_scheme(columns) is scheme
    assert len(scheme.flag_values) >= max(len(quality_scheme(column).flag_values) for column in columns)


COLUMNS = {column for known in VARIABLES.values() for column in known.columns}


def test_columns_derived_from_nee_have_its_flags_and_others_their_own():
    derived = {column for column in COLUMNS if quality_column(column) == "NEE_VUT_REF_QC"}
    assert derived == {
        "NEE_VUT_REF",
        "NEE_VUT_REF_RANDUNC",
        *(f"{flux}_{method}_VUT_REF" for flux in ("GPP", "RECO") for method in ("DT", "NT")),
    }
    assert all(quality_column(column) == f"{column}_QC" for column in COLUMNS - derived)


def test_columns_without_filled_values_are_those_of_sensors():
    soil = {f"{code}_{depth}" for code in ("SWC", "TS") for depth in range(1, 6)}
    radiation = {"SW_IN", "SW_IN_POT", "SW_OUT", "LW_IN", "LW_OUT", "NETRAD", "PPFD_IN", "PPFD_OUT"}
    weather = {"TA", "P", "RH", "VPD", "PA", "CO2", "WS", "WD", "USTAR", "WTD"}
    fluxes = {"G", "G_1_1_1", "H", "LE", "NEE", "FCH4"}
    measured = {column for column in COLUMNS if not is_gap_filled(column)}
    assert measured == soil | radiation | weather | fluxes


def test_groups_are_all_memory_series_variables_and_each_series():
    state = (*memory_features(["TA", "SW_IN"]), "FAPAR", "LAI")
    both, memory, series, *alone = state_groups(state)
    assert both == list(range(14)) and memory == list(range(12)) and series == [12, 13]
    assert alone == [list(range(6)), list(range(6, 12)), [12], [13]]
    assert state_groups(["LAI", "TA_1D"]) == [[0, 1], [1], [0], [0], [1]]
    assert state_groups(()) == []
    assert state_groups(["TA_1D"]) == [[0], [0]]
