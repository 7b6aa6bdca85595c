"""The vocabulary is complete, sane, and agrees with the CF standard name table."""

import math
from pathlib import Path
from xml.etree import ElementTree

import cf_units
import compliance_checker
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xcarbon.errors import BoundsError, VariableError
from xcarbon.variables import (
    CONSOLIDATED,
    MDS,
    PAPER_INPUTS,
    PATCH_BANDS,
    REFLECTANCE_BANDS,
    TARGETS,
    TIME_FEATURES,
    VARIABLES,
    Bounds,
    present,
    quality_scheme,
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
    canonical = standard_names[VARIABLES[code].standard_name]
    assert cf_units.Unit(VARIABLES[code].units).is_convertible(canonical)


@pytest.mark.parametrize("code", VARIABLES)
def test_variable_is_a_predictor_with_bounds_or_a_target_without(code):
    assert (VARIABLES[code].bounds is None) == (code in TARGETS) == VARIABLES[code].is_target


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


def test_hopeless_code_lists_all():
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
    ],
)
def test_quality_scheme_follows_the_variable_family(column, scheme):
    assert quality_scheme(column) is scheme
    assert scheme.flag_values[0] == 0
    assert scheme.flag_meanings[0] == "measured"


def test_present_keeps_order_and_time_features():
    assert present(("P", "TOD", "TA", "RH"), ["TA", "P"]) == ("P", "TOD", "TA")
