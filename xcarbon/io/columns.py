"""Reading of columns from text files and workbooks, which may be gzipped or inside zip archives.

A worksheet is converted to text with one line for each row. Only the requested columns are parsed. Errors
state the file, the line and the column.
"""

from __future__ import annotations

import codecs
import csv
import datetime as dt
import functools
import io
import itertools
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

from xcarbon.core.errors import FileFormatError, TimestampError, reading
from xcarbon.io.workbooks import is_workbook, worksheet_as_csv

TIMESTAMP = "TIMESTAMP_START"
#: Joins two columns whose sum is read, as in "FC + SC".
PLUS = " + "
#: Cells that stand for a missing value in the networks' files and tables.
MISSING_CELLS = (
    "-9999", "-9999.0", "", " ", "NA", "N/A", "n/a", "NaN", "nan", "NAN", "NULL", "null", "None", "--",
    "#N/A", "#NV", "#N/V", "#DIV/0!", "#VALUE!", "#NUM!", "#REF!", "#NAME?", "#NULL!",  # of spreadsheets
)  # fmt: skip
#: Errors while the bytes of a damaged file are decompressed.
_READ_ERRORS = (OSError, EOFError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
#: Number of bytes at the end of a file that must contain the last line.
_BLOCK = 1 << 20
#: Ends the message about a cell that is no time stamp.
NO_STAMP = "not YYYYMMDDHHMM: a time stamp looks like 201006010030, in local standard time"


@dataclass(frozen=True, slots=True)
class Source:
    """A file on disk, plain or gzipped, or a member of a zip archive, which may be inside another one.

    If the file is a workbook, its worksheet with a table is converted to CSV.
    """

    path: str
    member: str = ""

    @property
    def name(self) -> str:
        """File name without its folder."""
        return Path(self.member or self.path).name

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else self.path

    @contextmanager
    def open(self) -> Iterator[Any]:
        """Open the decompressed text; errors while it is read are raised as FileFormatError."""
        if is_workbook(self.name):
            stat = os.stat(self.path)
            yield io.BytesIO(_worksheet(self, stat.st_mtime_ns, stat.st_size))
            return
        with self.open_bytes() as stream:
            yield stream

    @contextmanager
    def open_bytes(self) -> Iterator[Any]:
        """Open the decompressed bytes, also those of a workbook."""
        try:
            if self.member:
                with _open_member(self) as stream:
                    yield stream
            else:
                compression = "gzip" if self.path.lower().endswith(".gz") else None
                with pa.input_stream(self.path, compression) as stream:
                    yield stream
        except (FileNotFoundError, PermissionError):
            raise
        except _READ_ERRORS as error:
            raise FileFormatError(f"{self}: the file is truncated or damaged ({error})") from error

    @contextmanager
    def lines(self) -> Iterator[Iterator[tuple[int, list[str]]]]:
        """Iterate over line numbers (from 1) and cells: the header, then the rows of data.

        Blank lines, comments and a row of units under the header are left out. The names in the header are
        without quotes and without blanks around them.
        """
        with self._text_lines() as lines:
            first = next(lines, None)
            yield iter(()) if first is None else _rows(first, lines)

    @contextmanager
    def _text_lines(self) -> Iterator[Iterator[tuple[int, str]]]:
        with self.open() as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors=_AS_WINDOWS)
            numbered = ((number, line.strip(_BLANKS)) for number, line in enumerate(text, start=1))
            yield ((number, line) for number, line in numbered if line and line[0] != "#")


@functools.lru_cache(maxsize=4)  # a table is read several times: its header, its stamps and its values
def _worksheet(source: Source, modified: int, size: int) -> bytes:
    """Read a workbook as CSV; time of modification and size are those of the file on disk."""
    with source.open_bytes() as stream:
        return worksheet_as_csv(stream.read(), str(source))


def is_archive(name: str) -> bool:
    """Check whether a file is named as a zip archive."""
    return name.lower().endswith(".zip")


@contextmanager
def _open_member(source: Source) -> Iterator[Any]:
    """Open a member of an archive; the path of a member of an inner archive begins with that archive."""
    with ExitStack() as stack:
        with reading(f"{source}: the file is truncated or damaged"):
            archive, member = stack.enter_context(zipfile.ZipFile(source.path)), source.member
            while member not in archive.NameToInfo:
                names = filter(is_archive, archive.namelist())
                inner = next((name for name in names if member.startswith(f"{name}/")), None)
                if inner is None:
                    raise zipfile.BadZipFile(f"the archive has no member {member}")
                content = io.BytesIO(archive.read(inner))
                archive = stack.enter_context(zipfile.ZipFile(content))
                member = member[len(inner) + 1 :]
            stream = stack.enter_context(archive.open(member))
        yield stream


# Lines

#: Handler of bytes that are not UTF-8: they are read as by Windows, whose degree sign is a single byte.
_AS_WINDOWS = "xcarbon-cp1252"


def _as_windows(error: UnicodeError) -> tuple[str, int]:
    """Decode the bytes of an error as by Windows."""
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error(_AS_WINDOWS, _as_windows)
#: Blanks around a line; tabs can separate empty cells.
_BLANKS = " \r\n\f\v\ufeff"


@dataclass(frozen=True, slots=True)
class Layout:
    """How a table is written: names of columns, line above the data, separator, quotes, decimal point, units.

    ``units`` are the cells of a row of units under the header; empty if there is none.
    """

    header: list[str]
    line: int
    separator: str = ","
    is_quoted: bool = False
    decimal: str = "."
    units: tuple[str, ...] = ()


def read_layout(source: Source) -> Layout:
    """Find the layout of a table from its first lines."""
    with source._text_lines() as lines:
        first = next(lines, None)
        if first is None:
            return Layout([], 0)
        start = list(itertools.islice(lines, 2))
    separator = _separator(first[1])
    rows = list(_rows(first, iter(start)))
    has_units = len(rows) <= len(start)
    line = start[0][0] if has_units else first[0]
    units = tuple(cell.strip(' "') for cell in split_line(start[0][1], separator)) if has_units else ()
    text = "".join(row for _, row in start[has_units:])
    decimal = "," if separator != "," and re.search(r"\d,\d", text) else "."
    return Layout(rows[0][1], line, separator, '"' in first[1] + text, decimal, units)


def _rows(first: tuple[int, str], lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """Split the header and the lines under it into cells; see :meth:`Source.lines`."""
    number, text = first
    separator = _separator(text)
    header = [name.strip(' "\t\xa0') for name in split_line(text, separator)]
    yield number, header
    rows = ((number, split_line(line, separator)) for number, line in lines)
    for number, cells in itertools.islice(rows, 1):
        if not _are_units(header, cells):
            yield number, cells
    yield from rows


def _separator(header: str) -> str:
    return max(",;\t", key=header.count)


def split_line(line: str, separator: str) -> list[str]:
    """Split a line into cells, which may be quoted."""
    return (
        next(csv.reader([line], delimiter=separator, skipinitialspace=True))
        if '"' in line
        else line.split(separator)
    )


def _are_units(header: list[str], cells: list[str]) -> bool:
    """Check whether a row has units: no time stamp and no number, except the unit 1."""
    if TIMESTAMP not in header or len(cells) != len(header):
        return False
    texts = {cell.strip() for cell in cells} - {"1", *MISSING_CELLS}
    return (
        bool(texts)
        and not re.search(r"\d", cells[header.index(TIMESTAMP)])
        and not any(map(_is_number, texts))
    )


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


# Time stamps

#: Dates with the year first; other orders are ambiguous.
_DATE = re.compile(
    r"(\d{4})(?:([-/.])(\d{1,2})\2(\d{1,2})[T ]+(\d{1,2}):|(\d\d)()(\d\d)[T ](\d\d):?)(\d\d)"
    r"(?::?00(?:\.0+)?)?"  # seconds
)


def parse_stamp(text: str) -> int | None:
    """Convert the text of a time stamp to the number YYYYMMDDHHMM; None if it is ambiguous or none.

    Spreadsheets and other software write such numbers as floats or as dates.

    Examples
    --------
    >>> [parse_stamp(text) for text in ("201006010030", "201006010030.0", "2.0100601E+11")]
    [201006010030, 201006010030, 201006010000]
    >>> [parse_stamp(text) for text in ("2010-06-01T00:30:00", "2010/6/1 0:30", "01/06/2010 00:30")]
    [201006010030, 201006010030, None]
    """
    text = text.strip().strip('"').strip()
    if re.fullmatch(r"[0-9]{1,18}", text):
        return int(text)
    if match := _DATE.fullmatch(text):
        numbers = [int(part) for part in match.groups() if part and part.isdigit()]
        stamp = int("{:04}{:02}{:02}{:02}{:02}".format(*numbers))
    else:
        number = float(text.replace(",", ".")) if _is_number(text) else 0.0
        if not (1e11 < number < 1e12 and number.is_integer()):
            return None
        stamp = int(number)
    try:
        dt.datetime.strptime(str(stamp), "%Y%m%d%H%M")
    except ValueError:
        return None
    return stamp


# Columns


def read_columns(source: Source, types: Mapping[str, pa.DataType], missing: tuple[str, ...] = ()) -> pa.Table:
    """Read the columns in ``types``, ``(rows,)`` each: float32, or int64 for time stamps.

    ``missing`` cells become null. A name such as "FC + SC" is the sum of two columns, which is null where
    either is missing.
    """
    layout = read_layout(source)
    parts = {part: kind for name, kind in types.items() for part in name.split(PLUS)}
    try:
        table = _parse(source, layout, parts, missing)
    except pa.ArrowInvalid as error:
        found = _parse_with_care(source, layout, parts, missing)
        if found is None:
            raise _find_wrong_line(source, parts, missing) or FileFormatError(f"{source}: {error}") from None
        table = found
    for name in types:
        if PLUS in name:
            table = table.append_column(name, _sum_of([table[part] for part in name.split(PLUS)]))
    return table.select(list(types)) if len(table.column_names) != len(types) else table


def _parse(
    source: Source,
    layout: Layout,
    types: Mapping[str, pa.DataType],
    missing: tuple[str, ...],
) -> pa.Table:
    with source.open() as stream:
        return pyarrow.csv.read_csv(
            stream,
            read_options=pyarrow.csv.ReadOptions(
                block_size=1 << 20,
                column_names=layout.header,
                skip_rows=layout.line,
                use_threads=pa.cpu_count() > 1,  # threads take a third longer on a single core
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=layout.separator,
                quote_char='"' if layout.is_quoted else False,  # False saves a quarter of the time
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=list(types),
                column_types=types,
                null_values=missing,
                decimal_point=layout.decimal,
            ),
        )


def _parse_with_care(
    source: Source, layout: Layout, types: Mapping[str, pa.DataType], missing: tuple[str, ...]
) -> pa.Table | None:
    """Parse stamps from text, quotes that begin below the first row, and decimal commas; None if it fails."""
    texts = {name: pa.string() if kind == pa.int64() else kind for name, kind in types.items()}
    for decimal in layout.decimal if layout.separator == "," else ".,":
        careful = replace(layout, is_quoted=True, decimal=decimal)
        try:
            table = _parse(source, careful, texts, missing)
        except pa.ArrowInvalid:
            continue
        for place, (name, kind) in enumerate(types.items()):
            if kind == pa.int64():
                stamps = [None if text is None else parse_stamp(text) for text in table[name].to_pylist()]
                if None in stamps:
                    return None
                table = table.set_column(place, name, pa.chunked_array([pa.array(stamps, kind)]))
        return table
    return None


def _sum_of(columns: list[pa.ChunkedArray]) -> pa.ChunkedArray:
    """Sum of columns, null where any of them is null or -9999."""
    present = [
        pyarrow.compute.if_else(pyarrow.compute.equal(column, pa.scalar(-9999, column.type)), None, column)
        for column in columns
    ]
    return pyarrow.compute.add(*present)


def _find_wrong_line(
    source: Source, types: Mapping[str, pa.DataType], missing: tuple[str, ...]
) -> FileFormatError | None:
    """Build the error for the first line that cannot be parsed."""
    with source.lines() as lines:
        _, header = next(lines)
        wanted = [(header.index(column), column, kind == pa.int64()) for column, kind in types.items()]
        marks: dict[str, str] = {}  # first cells with a decimal point and with a comma
        for number, cells in lines:
            if len(cells) != len(header):
                return FileFormatError(
                    f"{source}, line {number}: the line has {len(cells)} cells, but the header has "
                    f"{len(header)} columns"
                )
            for place, column, is_stamp in wanted:
                text, where = cells[place], f"{source}, line {number}, column {column}"
                if is_stamp and parse_stamp(text) is None:
                    return TimestampError(f"{where}: {text!r} is {NO_STAMP}")
                if is_stamp or text in missing:
                    continue
                for mark in set(text) & {".", ","} if re.search(r"\d", text) else ():
                    marks.setdefault(mark, f"line {number}, column {column}: {text!r}")
                if len(marks) == 2:
                    return FileFormatError(
                        f"{source}: numbers have points and commas ({marks['.']}; {marks[',']}); write "
                        "numbers without separators of thousands and with one kind of decimal point"
                    )
                if not _is_number(text):
                    return FileFormatError(
                        f"{where}: {text!r} is not a number; missing values are empty cells, NaN, NA or -9999"
                    )
    return None


def find_line(source: Source, row: int) -> int:
    """Return the line number (from 1) of a row under the header (from 0); blank lines are not rows."""
    with source.lines() as lines:
        line, _ = next(itertools.islice(lines, row + 1, None))
    return line


def read_last_line(source: Source, separator: str = ",") -> list[str]:
    """Return the cells of the last line that is not blank; of a plain file only the end is read."""
    end = b""
    with source.open() as stream:
        if stream.seekable() and not source.member:
            stream.seek(max(0, stream.seek(0, io.SEEK_END) - _BLOCK))
        while block := stream.read(_BLOCK):
            end = (end + block)[-_BLOCK:]
    line = end.decode("utf-8", "replace").rstrip(_BLANKS).rpartition("\n")[2].strip(_BLANKS)
    return split_line(line, separator)
