"""Reading of columns from plain, packed, commented and invalid files."""

from __future__ import annotations

import gzip
import zipfile

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xcarbon.core.errors import FileFormatError, TimestampError
from xcarbon.io import columns
from xcarbon.io.columns import Source, find_line, read_columns, read_last_line

COMMENTS = "# Site: US-CRT\n# Version: 2-5\n"
TEXT = "a,b\n1,2\n3,4\n5,-9999\n"
MISSING = "; missing values are empty cells, NaN, NA or -9999"


@pytest.fixture(params=["plain", "gz", "zip"])
def write(request, tmp_path):
    """Write text to a plain, gzipped or zipped file."""

    def _write(text):
        data = text.encode()
        if request.param == "zip":
            with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("folder/a.csv", data)
            return Source(str(tmp_path / "a.zip"), "folder/a.csv")
        path = tmp_path / {"plain": "a.csv", "gz": "a.csv.gz"}[request.param]
        path.write_bytes(gzip.compress(data) if request.param == "gz" else data)
        return Source(str(path))

    return _write


@pytest.mark.parametrize("start", ["", "\ufeff", COMMENTS, f"\ufeff{COMMENTS}", f"\n{COMMENTS}\n"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_lines_before_the_header_do_not_matter(write, start, ending):
    source = write((start + TEXT).replace("\n", ending))
    table = read_columns(source, {"b": pa.float32(), "a": pa.int64()}, ("-9999",))
    assert table.column_names == ["b", "a"]
    np.testing.assert_array_equal(table["a"], [1, 3, 5])
    np.testing.assert_array_equal(table["b"].to_numpy(), [2, 4, np.nan])
    assert source.name.partition(".gz")[0] == "a.csv"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("3,wet", "line {line}, column b: 'wet' is not a number" + MISSING),
        ("3", "line {line}: the line has 1 cells, but the header has 2 columns"),
        ("3,4,5", "line {line}: the line has 3 cells, but the header has 2 columns"),
        ("3,", "line {line}, column b: '' is not a number" + MISSING),
    ],
)
@pytest.mark.parametrize(("start", "line"), [("", 3), (COMMENTS, 5), (f"{COMMENTS}\n", 6)])
def test_errors_name_the_line_as_an_editor_counts_it(write, start, line, row, message):
    source = write(f"{start}a,b\n1,2\n{row}\n5,6\n")
    with pytest.raises(FileFormatError) as caught:
        read_columns(source, {"a": pa.int64(), "b": pa.float32()})
    assert str(caught.value) == f"{source}, {message.format(line=line)}"


@pytest.mark.parametrize(("start", "lines"), [("", [2, 3, 4]), (COMMENTS, [4, 5, 6]), ("\n\n", [4, 5, 6])])
def test_line_of_a_row(write, start, lines):
    source = write(start + TEXT)
    assert [find_line(source, row) for row in range(3)] == lines
    assert find_line(write("a\n1\n\n\n2\n"), 1) == 5


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n\n", " \n \n"])
@pytest.mark.parametrize("block", [12, 40, 1 << 20])
def test_last_line(write, monkeypatch, end, block):
    monkeypatch.setattr(columns, "_BLOCK", block)
    text = "".join(f"{number},x\n" for number in range(1000))
    for width in range(12):  # a line may extend over two blocks
        assert read_last_line(write(f"{'a' * width},b\n{text}1000,{end}")) == ["1000", ""]


def test_last_line_of_nothing(write):
    assert read_last_line(write("")) == [""]
    assert read_last_line(write("a,b")) == ["a", "b"]


def test_of_a_plain_file_the_end_alone_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "_BLOCK", 64)
    path = tmp_path / "a.csv"
    path.write_bytes(b"\x00" * 100_000 + b"\n1,2\n")
    read = []
    original = pa.input_stream

    def watched(*args):
        stream = original(*args)

        class Watched:
            seekable, seek, size = stream.seekable, stream.seek, stream.size

            def __enter__(self):
                return self

            def __exit__(self, *_):
                stream.close()

            def read(self, size):
                read.append(data := stream.read(size))
                return data

        return Watched()

    monkeypatch.setattr(columns.pa, "input_stream", watched)
    assert read_last_line(Source(str(path))) == ["1", "2"]
    assert sum(map(len, read)) == 64


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(st.integers(-9999, 9999), st.integers(-9999, 9999)), min_size=1, max_size=20),
    blanks=st.lists(st.integers(0, 3), min_size=21, max_size=21),
)
def test_blank_lines_are_nowhere_rows(write, rows, blanks):
    ends = ["\n" * (1 + blank) for blank in blanks]
    lines = ["a,b", *(f"{a},{b}" for a, b in rows)]
    text = "".join(f"{line}{end}" for line, end in zip(lines, ends, strict=False))
    source = write(text)
    found = read_columns(source, {"a": pa.int64(), "b": pa.float32()})
    assert found["a"].to_pylist() == [a for a, _ in rows]
    numbered = text.split("\n")
    assert [numbered[find_line(source, row) - 1] for row in range(len(rows))] == lines[1:]
    assert read_last_line(source) == lines[-1].split(",")


def test_truncated_or_absent_files_are_named(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(TEXT.encode() * 1000)[:-20])
    for read in (read_last_line, lambda source: read_columns(source, {"a": pa.int64()})):
        with pytest.raises(FileFormatError, match=r"a\.csv\.gz: the file is truncated or damaged"):
            read(Source(str(path)))
        with pytest.raises(FileNotFoundError):
            read(Source(str(tmp_path / "absent.csv")))


# Layouts

STAMPED = "TIMESTAMP_START,TA_F,P\n201006010000,1.5,-9999\n201006010030,2.5,0\n"
LAYOUTS = {
    "blanks": STAMPED.replace(",", " , "),
    "tabs": STAMPED.replace(",", "\t"),
    "semicolons": STAMPED.replace(",", ";"),
    "decimal commas": STAMPED.replace(",", ";").replace(".", ","),
    "quoted header": STAMPED.replace("TIMESTAMP_START,TA_F,P", '"TIMESTAMP_START", "TA_F","P"'),
    "all quoted": "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in STAMPED.split()),
    "mark and quotes": "\ufeff" + STAMPED.replace("TIMESTAMP_START", '"TIMESTAMP_START"'),
    "row names": '"","TIMESTAMP_START","TA_F","P"\n"1",201006010000,1.5,-9999\n"2",201006010030,2.5,0\n',
    "empty columns": STAMPED.replace("\n", ",,\n"),
    "units": STAMPED.replace("P\n", "P\nYYYYMMDDHHMM,deg C,mm\n"),
    "units in brackets": STAMPED.replace("P\n", "P\n[yyyymmddHHMM],[degC],1\n\n"),
    "comments and units": "# Site\n" + STAMPED.replace("P\n", "P\n-,degC,mm\n"),
    "late quotes": STAMPED.replace("\n", ",METHOD\n", 1)
    .replace("9\n", "9,a\n")
    .replace(",0\n", ',0,"b,c"\n'),
    "late decimal commas": STAMPED.replace(",", ";").replace("1.5", "1,5").replace("2.5", "2,5"),
}


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_layouts_of_a_table_give_the_same_values(write, text, ending):
    source = write(text.replace("\n", ending))
    table = read_columns(source, {"TIMESTAMP_START": pa.int64(), "TA_F": pa.float32(), "P": pa.float32()})
    assert table.column_names == ["TIMESTAMP_START", "TA_F", "P"]
    assert table["TIMESTAMP_START"].to_pylist() == [201006010000, 201006010030]
    assert table["TA_F"].to_pylist() == [1.5, 2.5]
    assert table["P"].to_pylist() == [-9999, 0]
    assert [number for number, line in enumerate(text.splitlines(), 1) if "06010030" in line] == [
        find_line(source, 1)
    ]


@pytest.mark.parametrize(
    "text",
    [
        STAMPED.replace(",", ";").replace("1.5", "1.037").replace("2.5", "2,5"),
        STAMPED.replace(",", ";").replace("1.5", "2,5").replace("2.5", "1.037,5"),
        STAMPED.replace("2.5", '"1,037.5"'),
    ],
)
def test_separators_of_thousands_are_named(write, text):
    with pytest.raises(FileFormatError, match=r"points and commas .*line \d, column TA_F: .*column TA_F"):
        read_columns(write(text), {"TIMESTAMP_START": pa.int64(), "TA_F": pa.float32()})


def test_first_row_of_data_is_not_taken_for_units(write):
    for first in ("201006010000,NA,-9999", "2010-06-01 00:00,NA,NA", ",1.5,2"):
        with write(f"TIMESTAMP_START,TA_F,P\n{first}\n201006010030,2.5,0\n").lines() as lines:
            assert [number for number, _ in lines] == [1, 2, 3]


STAMP_TEXTS = [
    ("201006010000.0", "201006010030.0"),
    ("2.0100601E+11", "2.0100601003e+11"),
    ("2010-06-01 00:00", "2010-06-01 00:30"),
    ("2010-06-01T00:00:00", "2010-06-01T00:30:00.000"),
    ("2010/6/1 0:00", "2010/6/1 0:30"),
    ("20100601 0000", "20100601 0030"),
    ('"201006010000"', '"201006010030"'),
]


@pytest.mark.parametrize("stamps", STAMP_TEXTS)
def test_unambiguous_stamps_are_read(write, stamps):
    source = write(f"TIMESTAMP_START,TA_F\n{stamps[0]},1\n{stamps[1]},2\n")
    table = read_columns(source, {"TIMESTAMP_START": pa.int64()})
    assert table["TIMESTAMP_START"].to_pylist() == [201006010000, 201006010030]


@pytest.mark.parametrize(
    "stamp",
    ["2.01006E+11", "01/06/2010 00:30", "6/1/10 0:30", "40330.02", "2010-06-01", "2010-13-01 00:00", ""],
)
def test_ambiguous_stamps_are_an_error_that_shows_a_stamp(write, stamp):
    source = write(f"TIMESTAMP_START,TA_F\n201006010000,1\n{stamp},2\n")
    with pytest.raises(TimestampError, match=r"line 3, .* is not YYYYMMDDHHMM: .* looks like 201006010030"):
        read_columns(source, {"TIMESTAMP_START": pa.int64()})


def test_sum_of_two_columns_is_missing_where_either_is(write):
    source = write("FC,SC\n1,2\n3,-9999\n-9999.00,4\n5,NA\n")
    table = read_columns(source, {"FC + SC": pa.float32(), "SC": pa.float32()}, ("-9999", "NA"))
    assert table.to_pydict() == {"FC + SC": [3, None, None, None], "SC": [2, None, 4, None]}


# Archives in archives


def test_members_of_inner_archives(tmp_path):
    for inner, outer in (("a.csv", "b.zip"), ("b.zip", "c.ZIP")):
        (tmp_path / "a.csv").write_text(TEXT)
        with zipfile.ZipFile(tmp_path / outer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(tmp_path / inner, f"x.zip/{inner}")  # a folder may be named like an archive
    source = Source(str(tmp_path / "c.ZIP"), "x.zip/b.zip/x.zip/a.csv")
    assert source.name == "a.csv"
    assert read_columns(source, {"a": pa.int64()})["a"].to_pylist() == [1, 3, 5]
    with pytest.raises(FileFormatError, match=r"truncated or damaged .*the archive has no member"):
        read_last_line(Source(str(tmp_path / "c.ZIP"), "x.zip/b.zip/absent.csv"))


#: Version of the zip format that a reader needs, in both headers of a member; methods 14 (LZMA) and 99 (AES).
@pytest.mark.parametrize(("offset", "value"), [(4, 99), (8, 14), (8, 99), (6, 1)])
def test_archive_that_cannot_be_unpacked_is_named(tmp_path, offset, value):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", TEXT * 100)
    content = bytearray(path.read_bytes())
    for place in (offset, content.index(b"PK\x01\x02") + offset + 2):
        content[place : place + 2] = value.to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"a\.zip.* the file is truncated or"):
        read_columns(Source(str(path), "a.csv"), {"a": pa.int64()})
