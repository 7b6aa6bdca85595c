"""Reading of columns from plain, packed, commented and invalid files."""

from __future__ import annotations

import gzip
import zipfile

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xcarbon.core.errors import FileFormatError
from xcarbon.io import columns
from xcarbon.io.columns import Source, find_line, read_columns, read_last_line

COMMENTS = "# Site: US-CRT\n# Version: 2-5\n"
TEXT = "a,b\n1,2\n3,4\n5,-9999\n"


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
        ("3,wet", "line {line}, column b: 'wet' is not a number"),
        ("3", "line {line}: the line has 1 cells, but the header has 2 columns"),
        ("3,4,5", "line {line}: the line has 3 cells, but the header has 2 columns"),
        ("3,", "line {line}, column b: '' is not a number"),
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
