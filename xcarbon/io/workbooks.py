"""Reading of tables from Excel workbooks (``.xlsx``)."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
import zipfile
from typing import Any

from python_calamine import CalamineWorkbook

from xcarbon.core.errors import FileFormatError, reading

#: Columns that show that a worksheet contains a table: of a tower in hours, in coarser steps, or of metadata.
MARKERS = ("TIMESTAMP_START", "TIMESTAMP", "SITE_ID")
#: Number of rows at the start of a worksheet that must contain the names of the columns.
_START = 100
#: First bytes of old Excel files (.xls) and of workbooks that are encrypted with a password.
_OLD_OR_LOCKED = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
#: Name of a part of an encrypted workbook.
_LOCKED = "EncryptedPackage".encode("utf-16-le")

#: Number of cells that a worksheet may have whatever it contains.
_CELLS = 10**8

Row = list[Any]


def is_workbook(name: str) -> bool:
    """Check whether a file is named as an Excel workbook that can be read.

    Examples
    --------
    >>> [is_workbook(name) for name in ("tower.xlsx", "tower.XLSM", "tower.xls")]
    [True, True, False]
    """
    return name.lower().endswith((".xlsx", ".xlsm"))


def worksheet_as_csv(content: bytes, where: str) -> bytes:
    """Convert the worksheet that contains a table to CSV in UTF-8, with one line for each row.

    A single worksheet is converted whatever it contains. Of several worksheets, the one whose first row has
    a column of :data:`MARKERS` is converted. Dates are written as text, such as 2010-06-01 00:30:00.
    """
    if content.startswith(_OLD_OR_LOCKED):
        locked = "is protected by a password; remove the password"
        old = "is in the old Excel format (.xls) in spite of its name; save it as .xlsx or .csv"
        raise FileFormatError(f"{where}: the workbook {locked if _LOCKED in content else old}")
    with reading(f"{where}: the file is truncated or not an Excel file"):
        _check_extent(content, where)
        with CalamineWorkbook.from_filelike(io.BytesIO(content)) as workbook:
            sheets = {name: workbook.get_sheet_by_name(name) for name in workbook.sheet_names}
            starts = {
                name: sheet.to_python(skip_empty_area=False, nrows=_START) for name, sheet in sheets.items()
            }
            table = _find_table(starts, where)
            rows = sheets[table].to_python(skip_empty_area=False)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    width = max((place for place, cell in enumerate(_header(rows), start=1) if cell != ""), default=0)
    for row in rows:
        filled = max((place for place, cell in enumerate(row, start=1) if cell != ""), default=0)
        writer.writerow(map(_text, row[: max(width, filled)]) if filled else [])
    return text.getvalue().encode()


def _check_extent(content: bytes, where: str) -> None:
    """Refuse a worksheet with a cell far from the others.

    The library allocates all cells up to the last row and column, and ends the process if memory is short.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            if not re.fullmatch(r"xl/worksheets/[^/]+\.xml", name):
                continue
            sheet = archive.read(name)
            letters = next((n for n in (3, 2) if re.search(rb' r="[A-Z]{%d}\d' % n, sheet)), 1)
            digits = next((n for n in (7, 6, 5) if re.search(rb' r="[A-Z]+\d{%d}' % n, sheet)), 4)
            if 26**letters * 10**digits > 1000 * sheet.count(b' r="') + _CELLS:
                raise FileFormatError(
                    f"{where}: a cell in {name} lies far from the table; delete the rows below the table "
                    "and the columns beside it, or save the table as .csv"
                )


def _find_table(sheets: dict[str, list[Row]], where: str) -> str:
    """Return the name of the worksheet that contains a table, from the first rows of each worksheet."""
    if len(sheets) == 1:
        return next(iter(sheets))
    for marker in MARKERS:
        found = [name for name, rows in sheets.items() if marker in map(_name, _header(rows))]
        if len(found) == 1:
            return found[0]
        if found:
            raise FileFormatError(
                f"{where}: the worksheets {found} all contain a table with the column {marker}; save the one "
                "to read in a workbook of its own, or as .csv"
            )
    raise FileFormatError(
        f"{where}: none of the worksheets {list(sheets)} contains a tower's table, whose first row has the "
        f"column {MARKERS[0]}"
    )


def _header(rows: list[Row]) -> Row:
    """Return the first row that is neither empty nor a comment."""
    return next((row for row in rows if set(row) - {""} and not str(row[0]).startswith("#")), [])


def _name(cell: object) -> str:
    return str(cell).strip(' "\t\xa0')


def _text(cell: object) -> str:
    """Convert a cell to text; dates in Excel are fractions of days, which are rounded to seconds."""
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() else repr(cell)
    if isinstance(cell, dt.datetime):
        return f"{cell + dt.timedelta(milliseconds=500):%Y-%m-%d %H:%M:%S}"
    if isinstance(cell, dt.date):
        return f"{cell:%Y-%m-%d} 00:00:00"
    return " ".join(str(cell).splitlines())
