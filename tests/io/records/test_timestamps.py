"""Time stamps, and the errors of irregular ones."""

from __future__ import annotations

import itertools
import re

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.io.records.samples import COMMENTS, NAME, table
from xcarbon.core.errors import FileFormatError, TimestampError
from xcarbon.io.records import read_hours, survey


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
