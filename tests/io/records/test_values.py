"""Values and quality flags of hours."""

from __future__ import annotations

import numpy as np
import pytest

from tests.io.records.samples import BASE, COLUMNS, COMMENTS, LEVEL, NAME, table
from xcarbon.core.errors import FileFormatError, TimestampError
from xcarbon.core.variables import VARIABLES, is_gap_filled, quality_column, quality_scheme
from xcarbon.io.records import read_hours, survey


@pytest.mark.parametrize(("code", "column"), COLUMNS)
def test_each_candidate_is_read_with_its_flags_or_without(read, code, column):
    one, two = (LEVEL.get(code, 0) + number for number in (1, 2))
    found = read(code, **{column: [one, two, -9999], quality_column(column): [0, 3, -9999]})
    np.testing.assert_array_equal(found.values, [one, two, np.nan])
    np.testing.assert_array_equal(found.flags, [0, 3, -1])
    worst = quality_scheme(column).flag_values[-1] if is_gap_filled(column) else 0
    np.testing.assert_array_equal(read(code, **{column: [one, -9999]}).flags, [worst, -1])


@pytest.mark.parametrize(
    ("column", "worst"),
    [
        *dict.fromkeys(("TA_F", "SW_IN_F", "VPD_F", "P_F", "PA_F", "WS_F", "RH_F"), 2).items(),
        *dict.fromkeys(("LE_F", "H_F", "NEE_F", "FCH4_F", "SWC_F_MDS_1", "TS_F_MDS_5"), 3).items(),
        *dict.fromkeys(("TA_F_MDS", "G_F_MDS", "NEE_VUT_REF", "GPP_NT_VUT_REF", "RECO_DT"), 3).items(),
        *dict.fromkeys(("TA", "RH", "NEE", "FCH4", "USTAR", "SW_IN_POT", "SWC_1", "G"), 0).items(),
    ],
)
def test_default_flag_of_a_column_without_flags(read, column, worst):
    (code,) = (code for code, known in COLUMNS if known == column)
    plausible = LEVEL.get(code, 0) + 1
    assert read(code, **{column: [plausible, plausible]}).flags.tolist() == [worst, worst]


@pytest.mark.parametrize("code", [code for code, known in VARIABLES.items() if len(known.columns) > 1])
def test_of_several_candidates_the_lowest_flag_wins_and_of_equals_the_first(read, code):
    """Each candidate has the lowest flag in one hour, and all flags are equal in another hour."""
    names = VARIABLES[code].columns
    level = LEVEL.get(code, 0)
    values = {name: [level + number] * (len(names) + 2) for number, name in enumerate(names)}
    flags = {
        quality_column(name): [*(0 if hour == number else 1 for hour in range(len(names))), 1, 2]
        for number, name in enumerate(names)
    }
    values[names[0]][-1] = -9999  # a missing value never wins
    found = read(code, **values, **flags)
    np.testing.assert_array_equal(found.values - level, [*range(len(names)), 0, 1])
    np.testing.assert_array_equal(found.flags, [*[0] * len(names), 1, 2])


def test_measured_value_is_better_than_a_filled_one_without_flags(read):
    """Files of FLUXNET-CH4 contain both."""
    for code, filled, worst in [
        ("TA", "TA_F", 2),
        ("NEE", "NEE_F", 3),
        ("LE", "LE_F", 3),
        ("FCH4", "FCH4_F", 3),
    ]:
        found = read(code, **{code: [1, -9999], filled: [5, 6]})
        np.testing.assert_array_equal(found.values, [1, 6])
        np.testing.assert_array_equal(found.flags, [0, worst])


@pytest.mark.parametrize("column", ["GPP_DT_VUT_REF", "RECO_NT_VUT_REF", "NEE_VUT_REF_RANDUNC"])
def test_variables_derived_from_nee_have_its_flags(read, column):
    (code,) = (code for code, known in COLUMNS if known == column)
    columns = {"NEE_VUT_REF": [1] * 5, "NEE_VUT_REF_QC": [0, 1, 2, 3, -9999]}
    found = read(code, **columns, **{column: [5, 6, -9999, 7, 8]})
    np.testing.assert_array_equal(found.values, [5, 6, np.nan, 7, 8])
    np.testing.assert_array_equal(found.flags, [0, 1, -1, 3, 3])


def test_audit_counts_the_hours_of_each_column(write):
    columns = {"TA_F": [1, 2, 3, 4], "TA_F_QC": [0, 1, 2, -9999], "TA": [5, 6, -9999, -9999]}
    hours = read_hours(survey(write(table(columns))))
    assert hours.taken == {"TA": {"TA_F": 3, "TA": 1}}


def test_storage_is_added_where_it_was_measured(write):
    columns = {"FC": [1, 2, -9999, 4], "SC": [0.5, -9999, 3, -9999], "NEE_PI_F": [9, 9, 9, 9]}
    record = survey(write(COMMENTS + table(columns), BASE))
    hours = read_hours(record)
    np.testing.assert_array_equal(hours.options["NEE"].values, [1.5, 2, 9, 4])
    np.testing.assert_array_equal(hours.options["NEE"].flags, [0, 0, 3, 0])
    assert hours.taken["NEE"] == {"FC + SC": 1, "FC": 2, "NEE_PI_F": 1}
    assert record.columns["NEE"] == ("FC + SC", "FC", "NEE_PI_F")


def test_hour_with_storage_in_one_half_is_the_flux_at_the_sensor(write):
    columns = {"FC": [1, 3, 5, 7], "SC": [1, -9999, 1, 1]}
    hours = read_hours(survey(write(COMMENTS + table(columns, step=30), BASE)))
    np.testing.assert_array_equal(hours.options["NEE"].values, [2, 7])
    assert hours.taken["NEE"] == {"FC + SC": 1, "FC": 1}


def test_highest_sensor_counts_and_another_one_where_it_fails(write):
    columns = {"TA_1_2_1": [1, 1, 1], "TA_1_1_1": [5, -9999, 5], "NEE_PI": [2, -9999, 3], "FC": [9, 9, 9]}
    record = survey(write(COMMENTS + table(columns), BASE))
    hours = read_hours(record)
    np.testing.assert_array_equal(hours.options["TA"].values, [5, 1, 5])
    np.testing.assert_array_equal(hours.options["TA"].flags, [0, 0, 0])
    np.testing.assert_array_equal(hours.options["NEE"].values, [2, np.nan, 3])
    assert record.flagged == []
    assert hours.taken["TA"] == {"TA_1_1_1": 2, "TA_1_2_1": 1}


@pytest.mark.parametrize(("start", "line"), [("", 4), (COMMENTS, 6)])
def test_errors_name_the_line_in_spite_of_comments(write, start, line):
    text = table({"TA": [1, 2, 3, 4]})
    wrong = [
        (text.replace(",3\n", ",wet\n"), FileFormatError, f"line {line}, column TA: 'wet'"),
        (text.replace("199603310200,", "199603310230,"), TimestampError, f"line {line}: TIMESTAMP_START"),
        (text.replace(",3\n", "\n"), FileFormatError, f"line {line}: the line has 2 cells, but .* has 3"),
    ]
    for content, error, message in wrong:
        with pytest.raises(error, match=message):
            read_hours(survey(write(start + content, BASE)))
    flagged = table({"TA_F": [1] * 4, "TA_F_QC": [0, 1, 7, 0]})
    with pytest.raises(FileFormatError, match=f"line {line}, column TA_F_QC: 7 is not a quality flag"):
        read_hours(survey(write(start + flagged, BASE)))


@pytest.mark.parametrize(
    ("columns", "share"),
    [
        ({"NEE_VUT_REF": [1, 1, 2, 3, 4, 4]}, 2 / 3),
        ({"NEE_VUT_REF": [1, 1, 2, 3, 4, 4], "NEE_VUT_REF_QC": [0, 0, 0, 0, 1, 1]}, 0.5),
        ({"TA_F": [1, 1, 2, 2, 3, 3]}, 1),
        ({"TA_F": [1, 1, 2, 2, 3, 3], "NEE": [1, 2, 3, 4, -9999, 5]}, 0),
        ({"RH": [1, 1, 2, 2, 3, 3]}, np.nan),
    ],
)
def test_share_of_equal_halves_is_that_of_what_was_measured(write, columns, share):
    np.testing.assert_allclose(read_hours(survey(write(table(columns, step=30)))).equal_halves, share)
    assert np.isnan(read_hours(survey(write(table(columns, step=60)))).equal_halves)


def test_flag_of_an_hour_is_the_worse_of_its_halves_and_missing_with_its_value(write):
    columns = {"TA_F": [1, 2, 3, 4, -9999, 6], "TA_F_QC": [0, 2, 1, 0, 0, 0], "TA": [-9999, 9, 9, 9, 9, 9]}
    found = read_hours(survey(write(table(columns, step=30)))).options["TA"]
    np.testing.assert_array_equal(found.values, [1.5, 9, 9])
    np.testing.assert_array_equal(found.flags, [2, 0, 0])


def test_hour_without_a_value_has_no_flag(write):
    """Opposite wind directions have no mean."""
    columns = {"WD": [0, 180, 90, 90], "WD_QC": [0, 0, 0, 1]}
    found = read_hours(survey(write(table(columns, step=30)))).options["WD"]
    np.testing.assert_array_equal(found.values, [np.nan, 90])
    np.testing.assert_array_equal(found.flags, [-1, 1])


IMPLAUSIBLE = [
    9999,
    9999.99,
    -999,
    -6999,
    350,
    1e20,
    1e36,
    "inf",
    "-inf",
    "NA",
    "NaN",
    "nan",
    "",
    " ",
    "NULL",
]


@pytest.mark.parametrize("value", IMPLAUSIBLE)
@pytest.mark.parametrize("step", [30, 60])
def test_implausible_value_is_missing_and_enters_no_hour(write, value, step):
    columns = {"NEE_VUT_REF": [1, 3, value, 5, 6, 6], "NEE_VUT_REF_QC": [0, 0, 0, 1, 0, 0]}
    found = read_hours(survey(write(table(columns, step=step)))).options["NEE"]
    expected = [2, np.nan, 6] if step == 30 else [1, 3, np.nan, 5, 6, 6]
    np.testing.assert_array_equal(found.values, expected)
    np.testing.assert_array_equal(found.flags >= 0, ~np.isnan(found.values))


def test_another_column_replaces_an_implausible_value(read):
    found = read("TA", TA_F=[1, -99.9, 3], TA_F_QC=[0, 0, 0], TA=[5, 6, 7])
    np.testing.assert_array_equal(found.values, [1, 6, 3])


@pytest.mark.parametrize("flag", [-9999, -6999, 9999, "NaN", ""])
def test_missing_value_code_among_flags_is_no_flag(read, flag):
    found = read("NEE", NEE_VUT_REF=[1, 2], NEE_VUT_REF_QC=[0, flag])
    np.testing.assert_array_equal(found.flags, [0, 3])


def test_precipitation_of_two_half_hours_is_plausible_as_a_sum(write):
    hours = read_hours(survey(write(table({"P": [200, 200, 1, 2, 0, -0.2]}, step=30))))
    np.testing.assert_array_equal(hours.options["P"].values, [np.nan, 3, 0])


def test_implausible_values_are_counted_by_column(write):
    columns = {
        "SW_IN_F": [-3, 500, 9999, -6999, 2500, "inf"],
        "SW_IN": [1, 2, 3, 4, 5, 6],
        "NEE_VUT_REF": [1, 350, -9999, 2, 3, 4],
    }
    hours = read_hours(survey(write(table(columns, step=60))))
    assert hours.beyond_limits == {
        "SW_IN": {"SW_IN_F": {"codes": 3, "beyond": 1, "clipped": 1}},
        "NEE": {"NEE_VUT_REF": {"beyond": 1}},
    }


def test_column_in_another_unit_is_read_as_it_is(write):
    hours = read_hours(survey(write(table({"PA": [1013] * 95 + [9999]}, step=60))))
    np.testing.assert_array_equal(hours.options["PA"].values, [1013] * 95 + [np.nan])
    assert hours.beyond_limits == {"PA": {"PA": {"codes": 1, "other_unit": 95}}}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"TA_F": np.linspace(270, 300, 300)},
            "TA show that it is in K. Subtract 273.15 to get degC",
        ),
        (
            {"PA_F": np.full(300, 1013.0)},
            "PA .* hPa. Divide it by 10 to get kPa, or state the units",
        ),
        (
            {"TA_F": np.linspace(5, 20, 300), "VPD_F": np.linspace(0.1, 0.9, 300)},
            "VPD show .* in kPa",
        ),
    ],
)
def test_variable_in_another_unit_is_named_when_it_is_read(write, columns, message):
    record = survey(write(table(columns)))
    with pytest.warns(UserWarning, match=f"{NAME}: the .*{message}"):
        read_hours(record)


def test_row_of_units_leaves_no_doubt(write):
    text = table({"TA_F": np.linspace(270, 300, 300)}).replace("TA_F\n", "TA_F\n-,-,K\n")
    assert abs(read_hours(survey(write(text))).options["TA"].values.mean() - (285 - 273.15)) < 1e-3


@pytest.mark.parametrize("code", [-99, -99.9, "-99.90"])
def test_repeated_number_within_the_limits_is_missing(read, code):
    flux = ["-5.5" if hour % 3 else code for hour in range(300)]
    values = read("NEE", FC=flux).values
    assert np.isnan(values[::3]).all() and np.nanmean(values) == -5.5
    single = ["-5.5"] * 299 + [code]
    assert read("NEE", FC=single).values[-1] < -98


def test_codes_for_missing_values_are_not_equal_halves(write):
    columns = {"NEE_VUT_REF": [1, 2, 9999, 9999, 3, 4], "NEE_VUT_REF_QC": [0] * 6}
    assert read_hours(survey(write(table(columns, step=30)))).equal_halves == 0


def test_errors_of_spreadsheets_are_missing_values(write):
    lines = [f"1996033100{30 * row:02},{cell}" for row, cell in enumerate(["#N/V", "#DIV/0!"])]
    record = survey(write("\n".join(["TIMESTAMP_START,TA", *lines, "199603310100,1", "199603310130,3", ""])))
    np.testing.assert_array_equal(read_hours(record).options["TA"].values, [np.nan, 2])
