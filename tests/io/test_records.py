"""Columns, time stamps and hourly values of one tower file."""

from __future__ import annotations

import gzip
import itertools
import re
import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xcarbon.core.conventions import QC
from xcarbon.core.errors import FileFormatError, TimestampError
from xcarbon.core.variables import VARIABLES, is_gap_filled, quality_column, quality_scheme
from xcarbon.io.columns import Source
from xcarbon.io.networks import UNNAMED, recognise
from xcarbon.io.records import choose_columns, read_hours, survey
from xcarbon.testing import synthetic_towers, write_release

NAME = "FLX_DE-Tha_FLUXNET2015_FULLSET_HH_1996-2014_1-4.csv"
BASE = "AMF_US-CRT_BASE_HH_2-5.csv"
COMMENTS = "# Site: US-CRT\n# Version: 2-5\n"
STAMPS = ["TIMESTAMP_START", "TIMESTAMP_END"]
#: Added to small numbers, so that they are plausible.
LEVEL = {"PA": 60, "CO2": 390, "LW_IN": 290, "LW_OUT": 290}
COLUMNS = [(code, column) for code, known in VARIABLES.items() for column in known.columns]


def table(columns, start="1996-03-31", step=60):
    """Create the text of a file; a column is a list of cells, numbers or text."""
    rows = len(next(iter(columns.values())))
    begin = pd.date_range(start, periods=rows, freq=f"{step}min")
    times = zip(STAMPS, (begin, begin + pd.Timedelta(minutes=step)), strict=True)
    stamps = {name: time.strftime("%Y%m%d%H%M") for name, time in times}
    return pd.DataFrame(stamps | columns).to_csv(index=False)


@pytest.fixture
def write(tmp_path):
    """Write text as a release, plain or compressed by the extension of its name."""

    def _write(text, name=NAME):
        path = tmp_path / name
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(NAME, text)
            return recognise(Source(str(path), NAME))
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
        return recognise(Source(str(path)))

    return _write


@pytest.fixture
def read(write):
    """Write columns as an hourly file, and read the values and quality flags of one variable."""

    def _read(code, **columns):
        columns = {"PPFD_OUT": [1] * len(next(iter(columns.values())))} | columns
        hours = read_hours(survey(write(table(columns)), uncertainty=True))
        return hours.options[code]

    return _read


# Headers


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


def test_uncertainties_are_read_on_request(write):
    columns = [f"NEE_VUT_{percentile}" for percentile in ("05", "16", "25", "50", "75", "84", "95")]
    release = write(table({name: [1, 2] for name in ["NEE_VUT_REF", "NEE_VUT_REF_RANDUNC", *columns]}))
    assert list(survey(release).columns) == ["NEE"]
    assert list(survey(release, uncertainty=True).columns) == ["NEE", "NEE_RANDUNC", *columns]


# AmeriFlux BASE


def test_net_exchange_of_the_team_goes_before_the_flux_at_the_sensor():
    assert choose_columns(["FC", "NEE_PI", "FC_1_1_1", "SC"]) == {"NEE": ("NEE_PI",)}
    assert choose_columns(["NEE_PI_1_1_1", "NEE_PI_F"]) == {"NEE": ("NEE_PI_1_1_1", "NEE_PI_F")}
    assert choose_columns(["NEE_PI_F_1_1_1"]) == {"NEE": ("NEE_PI_F_1_1_1",)}


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        (["FC"], ["FC"]),
        (["SC", "FC"], ["FC + SC", "FC"]),
        (["SC"], None),
        (["FC_1_1_1", "SC_1_1_1"], ["FC_1_1_1 + SC_1_1_1", "FC_1_1_1"]),
        (["FC_1_2_1", "FC_1_1_1", "SC_1_2_1"], ["FC_1_1_1", "FC_1_2_1 + SC_1_2_1", "FC_1_2_1"]),
        (["FC_1_1_1", "SC"], ["FC_1_1_1 + SC", "FC_1_1_1"]),
        (["FC", "SC_1_1_1"], ["FC + SC_1_1_1", "FC"]),
        (["FC_1", "SC_1"], ["FC_1 + SC_1", "FC_1"]),
        (["FC", "NEE_PI_F"], ["FC", "NEE_PI_F"]),
        (["FC", "SC", "NEE"], ["NEE"]),
        (["FC_SSITC_TEST", "FC_QC"], None),
    ],
)
def test_flux_at_the_sensor_and_storage_are_nee_where_there_is_none(header, columns):
    assert choose_columns(header).get("NEE") == (columns and tuple(columns))


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


def test_constant_threshold_replaces_the_variable_one_that_a_file_lacks(read):
    flags = {"NEE_CUT_REF_QC": [0, 2, -9999]}
    for code, column in [
        ("NEE", "NEE_CUT_REF"),
        ("GPP_DT", "GPP_DT_CUT_REF"),
        ("RECO_NT", "RECO_NT_CUT_REF"),
        ("NEE_RANDUNC", "NEE_CUT_REF_RANDUNC"),
    ]:
        found = read(code, **{column: [1, 2, 3]}, **flags)
        np.testing.assert_array_equal(found.values, [1, 2, 3])
        np.testing.assert_array_equal(found.flags, [0, 2, 3])
        assert choose_columns([column, column.replace("CUT", "VUT")], uncertainty=True)[code] == (
            column.replace("CUT", "VUT"),
        )


def test_percentiles_of_constant_thresholds_replace_those_of_variable_ones():
    found = choose_columns(["NEE_CUT_16", "NEE_CUT_84", "NEE_VUT_84", "RECO_NT_CUT_16"], uncertainty=True)
    assert found == {
        "NEE_VUT_16": ("NEE_CUT_16",),
        "NEE_VUT_84": ("NEE_VUT_84",),
        "RECO_NT_VUT_16": ("RECO_NT_CUT_16",),
    }


def test_layers_follow_the_sensors():
    header = [
        "TA_2",
        "TA_1",
        "TA_1_2_1",
        "FCH4_1",
        "SWC_1",
        "SWC_PI_1",
        "TS_7",
        "TA_1_SD",
        "SWC_1_1_1",
        "SWC_2",
    ]
    assert choose_columns(header) == {
        "TA": ("TA_1_2_1", "TA_1", "TA_2"),
        "SWC_1": ("SWC_1", "SWC_1_1_1", "SWC_PI_1"),
        "SWC_2": ("SWC_2",),
        "FCH4": ("FCH4_1",),
    }


def test_vertical_position_is_depth_in_the_soil_and_height_elsewhere():
    header = [
        "TS_1_2_1",
        "TS_1_1_1",
        "TS_2_1_1",
        "TS_1_6_1",
        "SWC_1_10_1",
        "TA_1_2_1",
        "TA_1_1_2",
        "TA_1_1_1",
    ]
    header += ["TA_2_1_1", "TA_1_1_A", "G_2_1_1", "G_1_1_1", "TA_1_10_1", "TA_PI_F_1_1_1", "TA_1_1_1_SD"]
    assert choose_columns(header) == {
        "TA": ("TA_1_1_1", "TA_1_1_2", "TA_1_1_A", "TA_2_1_1", "TA_1_2_1", "TA_1_10_1"),
        "TS_1": ("TS_1_1_1", "TS_2_1_1"),
        "TS_2": ("TS_1_2_1",),
        "G": ("G_1_1_1", "G_2_1_1"),
    }


def test_soil_without_a_position_is_the_shallowest():
    assert choose_columns(["SWC", "TS"]) == {"SWC_1": ("SWC",), "TS_1": ("TS",)}


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


# Real headers


def real_header(folder, name):
    lines = (folder / "headers" / name).read_text().splitlines()
    return [line for line in lines if line[0] != "#"], [line for line in lines if line[0] == "#"]


def test_real_fullset_header_serves_all_but_methane_and_water_table(real_data, tmp_path):
    header, _ = real_header(real_data, "fluxnet_fullset_hh.txt")
    assert len(header) == 267
    ds = synthetic_towers(1, seed=3, patches=False).isel(time=slice(48)).load()
    path = write_release(ds, "SY-001", tmp_path, columns=header)
    record = survey(recognise(Source(str(path))), uncertainty=True)
    absent = {"DOY", "TOD", "WTD", "FCH4"}
    assert set(record.columns) == set(VARIABLES) - absent
    for code, columns in record.columns.items():
        assert columns == tuple(name for name in VARIABLES[code].columns if name in header)
        for column in columns:
            expected = quality_column(column)
            assert record.flags.get(column) == (expected if expected in header else None)
    assert record.flags["RECO_DT_VUT_REF"] == record.flags["NEE_VUT_REF"] == "NEE_VUT_REF_QC"
    hours = read_hours(record).options
    for code in set(ds.data_vars) & set(VARIABLES) - absent:
        np.testing.assert_allclose(hours[code].values, ds[code][0], rtol=1e-5, err_msg=code)
        if f"{code}{QC}" in ds:
            np.testing.assert_array_equal(hours[code].flags, ds[f"{code}{QC}"][0], err_msg=code)
    for code in {"SWC_1", "TS_5", "NEE_RANDUNC"}:  # in the header, but without values
        assert np.isnan(hours[code].values).all() and (hours[code].flags == -1).all()


def test_real_base_header(real_data, write):
    header, comments = real_header(real_data, "ameriflux_base_hh.txt")
    assert len(comments) == 2
    level = {name: LEVEL.get(name, 0) for name in header}
    columns = {name: [level[name] + n / 10] * 2 for n, name in enumerate(header) if name not in STAMPS}
    record = survey(write("\n".join([*comments, table(columns, step=30)]), BASE))
    hours = read_hours(record).options
    assert set(hours) == {
        *(
            "TA",
            "P",
            "RH",
            "PA",
            "CO2",
            "SW_IN",
            "SW_OUT",
            "LW_IN",
            "LW_OUT",
            "NETRAD",
            "PPFD_IN",
            "WS",
            "WD",
        ),
        *("USTAR", "SWC_1", "TS_1", "WTD", "G", "H", "LE", "NEE", "FCH4"),
    }
    named = {"NEE": "NEE_PI", "SWC_1": "SWC", "TS_1": "TS_1_1_1", "G": "G_1_1_1"}
    for code, option in hours.items():
        number = header.index(named.get(code, code)) / 10 + LEVEL.get(code, 0)
        assert option.values.tolist() == pytest.approx([number * (2 if code == "P" else 1)])
        assert option.flags.tolist() == [0]
    assert record.columns["G"] == ("G_1_1_1", "G_2_1_1")
    assert record.columns["TS_1"] == ("TS_1_1_1", "TS_2_1_1")


# Time stamps


def same(one, other):
    assert (one.first, one.rows, one.step) == (other.first, other.rows, other.step)
    assert (one.columns, one.flags) == (other.columns, other.flags)


@pytest.mark.parametrize("name", [NAME, f"{NAME}.gz", "a.zip"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n\n"])
@pytest.mark.parametrize("start", ["", COMMENTS, "\ufeff"])
def test_ends_give_the_same_record_as_the_whole_file(write, name, ending, end, start):
    text = (
        start + table({"TA_F": range(7), "TA_F_QC": [0] * 7}, start="1999-12-31 22:30", step=30).strip() + end
    )
    release = write(text.replace("\n", ending), name)
    whole = survey(release)
    same(survey(release, whole=False), whole)
    assert (whole.rows, whole.step, str(whole.first)) == (7, 30, "1999-12-31T22:30")
    assert (str(whole.start), whole.half_past, whole.hours) == ("1999-12-31T22", True, 4)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(",", ";"),
        lambda text: "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in text.split()),
        lambda text: text.replace("\n", "\nYYYYMMDDHHMM,YYYYMMDDHHMM,degC\n", 1),
        lambda text: text.replace("00,", "00.0,").replace("30,", "30.0,"),
        lambda text: re.sub(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d),", r"\1-\2-\3 \4:\5,", text),
    ],
    ids=["semicolons", "quotes", "units", "floats", "dates"],
)
def test_ends_give_the_same_record_in_other_layouts(write, change):
    text = table({"TA_F": range(7)}, start="1999-12-31 22:30", step=30).strip()
    whole = survey(write(text))
    release = write(change(text))
    same(survey(release, whole=False), whole)
    same(survey(release), whole)
    assert read_hours(survey(release)).options["TA"].values[1:].tolist() == [1.5, 3.5, 5.5]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=st.datetimes(pd.Timestamp("1990-01-01"), pd.Timestamp("2025-01-01")),
    rows=st.integers(2, 60),
    step=st.sampled_from([30, 60]),
)
def test_ends_give_the_same_record_as_the_whole_file_at_any_time(write, first, rows, step):
    start = pd.Timestamp(first).floor(f"{step}min")
    release = write(table({"RH": [1] * rows}, start, step))
    same(survey(release, whole=False), survey(release))
    assert survey(release).rows == rows


def text_of(stamps):
    return "TIMESTAMP_START,TIMESTAMP_END,TA_F\n" + "".join(f"{stamp},0,1\n" for stamp in stamps)


STAMP = [f"19960331{hour:02}{minute:02}" for hour, minute in itertools.product(range(5), (0, 30))]


@pytest.mark.parametrize("cut", range(2, 16))
def test_file_that_breaks_off_in_its_last_line_is_refused(write, cut):
    """A file that ends within its last cell cannot be distinguished from a complete one."""
    broken = text_of(STAMP)[: -cut - 1]
    assert broken.count("\n") == len(STAMP)
    with pytest.raises(TimestampError, match=r"is the file truncated\?"):
        survey(write(broken), whole=False)
    with pytest.raises(FileFormatError):
        survey(write(broken))


@pytest.mark.parametrize(
    ("stamps", "message"),
    [
        ([], "the file has 0 rows; at least two are needed"),
        (STAMP[:1], "the file has 1 rows; at least two are needed"),
        ([*STAMP, STAMP[0]], "the last TIMESTAMP_START 199603310000 does not follow from 199603310000"),
        ([*STAMP, "199503310000"], "199503310000 does not follow"),
        ([*STAMP, "199603310515"], "199603310515 does not follow from 199603310000 in steps of 30 minutes"),
        ([*STAMP, "199613310000"], "199613310000 does not follow"),
        ([*STAMP, "0"], "last TIMESTAMP_START 0 does not follow"),
        ([*STAMP, "-9999"], "TIMESTAMP_START '-9999' is not YYYYMMDDHHMM"),
        ([*STAMP, "1.99603E+11"], r"TIMESTAMP_START '1.99603E\+11' is not YYYYMMDDHHMM"),
        ([*STAMP, "9" * 30], "TIMESTAMP_START '9{30}' is not YYYYMMDDHHMM"),
        (["19960331", "19960401"], "line 2: TIMESTAMP_START 19960331 is daily or coarser"),
        ([STAMP[0], STAMP[0], STAMP[1]], "line 3: TIMESTAMP_START 199603310000 repeats"),
        ([STAMP[0], STAMP[3]], "line 3: .* leaves a gap"),
    ],
)
def test_wrong_ends_are_named(write, stamps, message):
    release = write(text_of(stamps))
    with pytest.raises(TimestampError, match=message) as caught:
        survey(release, whole=False)
    assert str(release.source) in str(caught.value)
    with pytest.raises(FileFormatError):
        survey(release)


def test_short_first_line_is_named(write):
    text = "TA_F,TIMESTAMP_START\n1,199603310000\n2\n3,199603310100\n"
    with pytest.raises(TimestampError, match="line that starts with '2' has 1 cells, but the header has 2"):
        survey(write(text), whole=False)


@pytest.mark.parametrize(
    ("stamps", "message"),
    [
        (STAMP[:4] + STAMP[5:], "line 6: TIMESTAMP_START 199603310230 leaves a gap after 199603310130"),
        ([*STAMP[:4], STAMP[3], *STAMP[5:]], "line 6: TIMESTAMP_START 199603310130 repeats 199603310130"),
        ([*STAMP[:4], STAMP[5], STAMP[4], *STAMP[6:]], "line 6: .* leaves a gap"),
    ],
)
def test_fault_in_the_middle_is_found_when_values_are_read(write, stamps, message):
    record = survey(write(text_of(stamps)), whole=False)
    with pytest.raises(TimestampError, match=message):
        read_hours(record)


def test_file_with_too_few_rows_in_the_middle_is_no_longer_the_one_that_was_surveyed(write):
    record = survey(write(text_of(STAMP)), whole=False)
    write(text_of(STAMP[:6]))
    with pytest.raises(FileFormatError, match=r"had 10 rows from 1996-03-31T00:00 .* now has 6"):
        read_hours(record)


# Hours


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


# Plausibility


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


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["TA_F (degC)"], r"rename 'TA_F \(degC\)' to TA_F to read"),
        (
            ["ta_1_1_1", "NEE.VUT.REF"],
            "'ta_1_1_1' to TA_1_1_1, 'NEE.VUT.REF' to NEE",
        ),
    ],
)
def test_columns_that_are_spelled_otherwise_are_named(write, names, message):
    columns = {"SW_IN_F": [1.0, 2.0], "H2O": [1.0, 2.0]} | {name: [1.0, 2.0] for name in names}
    with pytest.warns(UserWarning, match=f"some columns are not read; .*{message}"):
        survey(write(table(columns)))


def test_columns_of_a_file_of_others_are_named_if_main_variables_are_absent(write):
    release = write(table({"VPD": [1.0, 2.0], "NEE": [1.0, 2.0], "Tair": [1.0, 2.0], "Rg": [1.0, 2.0]}))
    survey(release)  # files of the networks have many other columns
    with pytest.warns(UserWarning, match=r"no column of TA, SW_IN, and the columns \['Tair', 'Rg'\] are not"):
        survey(replace(release, product=UNNAMED))


def test_codes_for_missing_values_are_not_equal_halves(write):
    columns = {"NEE_VUT_REF": [1, 2, 9999, 9999, 3, 4], "NEE_VUT_REF_QC": [0] * 6}
    assert read_hours(survey(write(table(columns, step=30)))).equal_halves == 0


UNITS = {
    "TIMESTAMP_START": "YYYYMMDDHHMM", "TA": "K", "VPD": "kPa", "NEE": "gC m-2 d-1", "P": "mm s-1", "RH": "-",
    "SW_IN": "Wm-2", "PA": "", "H": "[W+1m-2]", "WS": "ms-1", "CO2": "umolCO2 mol-1", "NEE_QC": "-",
}  # fmt: skip


def test_row_of_units_converts_the_values(write):
    rows = {"TIMESTAMP_START": ["199603310000", "199603310030", "199603310100", "199603310130"]}
    cells = dict(
        TA=288.15, VPD=0.5, NEE=1.0377507, P=1 / 3600, RH=60, SW_IN=500, PA=99, H=50, WS=3, CO2=400, NEE_QC=0
    )
    frame = pd.DataFrame(rows | cells)
    frame.loc[2, ["TA", "VPD"]] = -9999.99
    header, text = frame.to_csv(index=False).split("\n", 1)
    units = ",".join(UNITS[name] for name in frame.columns)
    record = survey(write(f"{header}\n{units}\n{text}"))
    expected = dict(TA=15, VPD=5, NEE=1, P=1, RH=60, SW_IN=500, PA=99, H=50, WS=3, CO2=400)
    for code, value in expected.items():
        missing = code in ("TA", "VPD")
        values = read_hours(record).options[code].values
        np.testing.assert_allclose(values, [value, np.nan if missing else value], rtol=1e-5, err_msg=code)


@pytest.mark.parametrize(
    ("column", "units", "message"),
    [
        (
            "SW_IN",
            "umol m-2 s-1",
            "column SW_IN: units 'umol m-2 s-1' cannot be converted to 'W m-2'",
        ),
        ("NEE", "mg m-2 s-1", "line 2, column NEE: .*what the mass is made of.*correct the row of units"),
        ("TA", "warm", "line 2, column TA: units 'warm' cannot be read"),
    ],
)
def test_row_of_units_that_cannot_be_converted_is_an_error(write, column, units, message):
    text = f"TIMESTAMP_START,{column}\nYYYYMMDDHHMM,{units}\n199603310000,1\n199603310100,2\n"
    with pytest.raises(FileFormatError, match=message):
        survey(write(text))


def test_flux_and_storage_must_have_the_same_units(write):
    rows = "199603310000,1,2\n199603310100,2,3\n"
    record = survey(write(f"TIMESTAMP_START,FC,SC\n-,nmol m-2 s-1,nmol m-2 s-1\n{rows}"))
    np.testing.assert_allclose(read_hours(record).options["NEE"].values, [0.003, 0.005])
    with pytest.raises(FileFormatError, match=r"line 2: the units .* of FC \+ SC differ"):
        survey(write(f"TIMESTAMP_START,FC,SC\n-,nmol m-2 s-1,umol m-2 s-1\n{rows}"))


def test_units_may_be_written_by_windows(write, tmp_path):
    path = tmp_path / NAME
    text = "TIMESTAMP_START,TA,NEE\n-,\xb0C,\xb5mol m\xb2\n199603310000,1,2\n199603310100,2,3\n"
    path.write_bytes(text.replace(" m\xb2", " m-2 s-1").encode("cp1252"))
    assert survey(recognise(Source(str(path)))).conversions == {}


def test_errors_say_what_to_do(write):
    head, rows = (
        "TIMESTAMP_START,TA",
        ["199606010000,1", "199606010030,2", "199606010100,3", "199606010130,4"],
    )
    cases = {
        "add the missing rows": [rows[0], rows[1], rows[3]],
        "sort the rows": [rows[0], rows[1], rows[0]],
        "leave out one of the rows": [rows[0], rows[1], rows[1]],
        "only half-hours and hours are read": ["199606010000,1", "199606010010,1"],
    }
    for message, lines in cases.items():
        with pytest.raises(TimestampError, match=message):
            survey(write("\n".join([head, *lines, ""])))
    with pytest.raises(TimestampError, match="TIMESTAMP_END minus the time step"):
        survey(write("TIMESTAMP_END,TA\n199606010030,1\n199606010100,2\n"))


def test_text_in_utf_16_is_named(tmp_path):
    path = tmp_path / NAME
    path.write_bytes("TIMESTAMP_START,TA\n199603310030,1\n".encode("utf-16"))
    with pytest.raises(FileFormatError, match="not UTF-8 text; save it as CSV in UTF-8"):
        survey(recognise(Source(str(path))))


def test_errors_of_spreadsheets_are_missing_values(write):
    lines = [f"1996033100{30 * row:02},{cell}" for row, cell in enumerate(["#N/V", "#DIV/0!"])]
    record = survey(write("\n".join(["TIMESTAMP_START,TA", *lines, "199603310100,1", "199603310130,3", ""])))
    np.testing.assert_array_equal(read_hours(record).options["TA"].values, [np.nan, 2])
