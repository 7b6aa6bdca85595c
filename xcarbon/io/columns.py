"""Reading of columns from CSV files, which may be gzipped or inside a zip archive.

Only the requested columns are parsed. Errors state the file, the line and the column.
"""

from __future__ import annotations

import io
import itertools
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from xcarbon.core.errors import FileFormatError

#: Cells that stand for a missing value in the networks' files and tables.
MISSING_CELLS = (
    "-9999", "-9999.0", "", " ", "NA", "N/A", "#N/A", "NaN", "nan", "NAN", "NULL", "null",
)  # fmt: skip
#: Number of bytes at the end of a file that must contain the last line.
_BLOCK = 1 << 20
_PARSERS: dict[pa.DataType, Callable[[str], float]] = {pa.float32(): float, pa.int64(): int}


@dataclass(frozen=True, slots=True)
class Source:
    """A file on disk, plain or gzipped, or a member of a zip archive."""

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
        """Open the decompressed bytes; errors while they are read are raised as FileFormatError."""
        try:
            if self.member:
                with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
                    yield stream
            else:
                with pa.input_stream(self.path) as stream:  # decompresses .gz
                    yield stream
        except (FileNotFoundError, PermissionError):
            raise
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise FileFormatError(f"{self}: the file is truncated or damaged ({error})") from error

    @contextmanager
    def lines(self) -> Iterator[Iterator[tuple[int, list[str]]]]:
        """Iterate over line numbers (from 1) and cells, without blank lines and comments."""
        with self.open() as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace")
            numbered = ((number, line.strip()) for number, line in enumerate(text, start=1))
            yield ((number, line.split(",")) for number, line in numbered if line and line[0] != "#")


def read_columns(source: Source, types: Mapping[str, pa.DataType], missing: tuple[str, ...] = ()) -> pa.Table:
    """Read the columns in ``types`` (float32 or int64), ``(rows,)`` each; ``missing`` cells become null."""
    with source.lines() as lines:
        line, _ = next(lines)
    with source.open() as stream:
        try:
            return pyarrow.csv.read_csv(
                stream,
                read_options=pyarrow.csv.ReadOptions(
                    block_size=1 << 20,
                    skip_rows=line - 1,
                    use_threads=pa.cpu_count() > 1,  # threads take a third longer on a single core
                ),
                parse_options=pyarrow.csv.ParseOptions(quote_char=False),  # saves a quarter of the time
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=list(types), column_types=types, null_values=missing
                ),
            )
        except pa.ArrowInvalid as error:
            reason = str(error)
    raise FileFormatError(_find_wrong_line(source, types, missing) or f"{source}: {reason}")


def _find_wrong_line(
    source: Source, types: Mapping[str, pa.DataType], missing: tuple[str, ...]
) -> str | None:
    """Describe the first line that cannot be parsed, for an error message."""
    with source.lines() as lines:
        _, header = next(lines)
        wanted = [(header.index(column), column, _PARSERS[kind]) for column, kind in types.items()]
        for number, cells in lines:
            if len(cells) != len(header):
                return (
                    f"{source}, line {number}: the line has {len(cells)} cells, but the header has "
                    f"{len(header)} columns"
                )
            for place, column, parse in wanted:
                text = cells[place]
                try:
                    if text not in missing:
                        parse(text)
                except ValueError:
                    return f"{source}, line {number}, column {column}: {text!r} is not a number"
    return None


def find_line(source: Source, row: int) -> int:
    """Return the line number (from 1) of a row under the header (from 0); blank lines are not rows."""
    with source.lines() as lines:
        line, _ = next(itertools.islice(lines, row + 1, None))
    return line


def read_last_line(source: Source) -> list[str]:
    """Return the cells of the last line that is not blank; of a plain file only the end is read."""
    end = b""
    with source.open() as stream:
        if stream.seekable() and not source.member:
            stream.seek(max(0, stream.size() - _BLOCK))
        while block := stream.read(_BLOCK):
            end = (end + block)[-_BLOCK:]
    return end.decode("utf-8", "replace").rstrip().rpartition("\n")[2].strip().split(",")
