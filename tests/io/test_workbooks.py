"""Reading of tower tables from Excel workbooks."""

import io
import zipfile

import numpy as np
import openpyxl
import pandas as pd
import pytest
import xarray as xr

from xcarbon import build, open_fluxnet, open_store, set_options
from xcarbon.core.errors import FileFormatError, TimestampError
from xcarbon.io.fluxnet import audit_fluxnet
from xcarbon.io.workbooks import worksheet_as_csv
from xcarbon.testing import raise_on_compute

PLACE = dict(site="DE-Tha", lat=50.9636, lon=13.5669, igbp="ENF", elevation=380, utc_offset=1)
NAME = "FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-1996_1-4"
#: OLE header of old and of encrypted Excel files.
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)


def stamps(form="number", steps=4):
    """Create the column of time stamps as numbers, text or dates."""
    times = pd.date_range("1996-03-31", periods=steps, freq="30min")
    if form == "date":
        return [time.to_pydatetime() for time in times]
    texts = times.strftime("%Y%m%d%H%M")
    return [int(text) for text in texts] if form == "number" else list(texts)


def workbook(path, **sheets):
    """Write rows of cells by worksheet."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def rows(form="number", values=(1, 3, 5.5, None), units=False):
    """Create the rows of a tower's table."""
    head = [["TIMESTAMP_START", "TA_F"], *([["YYYYMMDDHHMM", "deg C"]] if units else [])]
    return head + [list(row) for row in zip(stamps(form, len(values)), values, strict=True)]


def read(path, **metadata):
    return open_fluxnet(path, metadata=PLACE | metadata).load()


@pytest.mark.parametrize("form", ["number", "text", "date"])
@pytest.mark.parametrize("units", [False, True])
def test_stamps_and_units_as_people_have_them(tmp_path, form, units):
    ds = read(workbook(tmp_path / "tower.xlsx", data=rows(form, units=units)))
    assert ds["time"].values[0] == np.datetime64("1996-03-31")
    np.testing.assert_array_equal(ds["TA"], [[2, np.nan]])


@pytest.mark.parametrize("form", ["number", "date"])
def test_real_rows_have_the_values_of_the_csv(real_data, tmp_path, form):
    (source,) = real_data.glob("raw/FLX_DE-Tha_*.csv.gz")
    table = pd.read_csv(source, dtype=str, nrows=3000)
    text, book = tmp_path / f"{NAME}.csv", tmp_path / "book" / f"{NAME}.xlsx"
    table.to_csv(text, index=False)
    cells = table.apply(pd.to_numeric)
    if form == "date":
        cells["TIMESTAMP_START"] = pd.to_datetime(table["TIMESTAMP_START"], format="%Y%m%d%H%M")
    book.parent.mkdir()
    cells.to_excel(book, index=False)
    expected = read(text)
    with raise_on_compute():
        lazy = open_fluxnet(book, metadata=PLACE)
    xr.testing.assert_equal(lazy.load(), expected)
    assert int(expected["NEE"].count()) > 1000
    for code in expected.data_vars:
        assert str(lazy[code].attrs) == str(expected[code].attrs)
    audits = [audit_fluxnet(path, metadata=PLACE)["DE-Tha"][0] for path in (text, book)]
    assert audits[0].pop("file") != audits[1].pop("file")
    assert audits[0] == audits[1]


def test_the_worksheet_with_the_table_is_read(tmp_path):
    sheets = {"about": [["My tower"], ["TA_F is air temperature"]], "data": rows(), "BADM": [["SITE_ID"]]}
    np.testing.assert_array_equal(read(workbook(tmp_path / "tower.xlsx", **sheets))["TA"], [[2, np.nan]])


def test_several_tables_are_an_error_that_names_them(tmp_path):
    path = workbook(tmp_path / "tower.xlsx", **{"1996": rows(), "notes": [["x"]], "1997": rows()})
    for given in (path, tmp_path):
        with pytest.raises((FileFormatError, FileNotFoundError), match=r"worksheets \['1996', '1997'\] all"):
            read(given)


@pytest.mark.parametrize(
    ("sheets", "message"),
    [
        ({"a": [["x"]], "b": [["y"]]}, r"none of the worksheets \['a', 'b'\] contains"),
        ({"a": [["x", "y"], [1, 2]]}, "this is not a FLUXNET file: its header, which starts with 'x,y'"),
        ({"a": []}, "the file is empty"),
    ],
)
def test_workbook_without_a_table(tmp_path, sheets, message):
    with pytest.raises(FileFormatError, match=rf"tower\.xlsx: {message}"):
        read(workbook(tmp_path / "tower.xlsx", **sheets))


@pytest.mark.parametrize(
    ("cell", "message"),
    [("n.a.", "line 3, column TA_F: 'n.a.' is not a number"), (True, "line 3, column TA_F: 'True' is not")],
)
def test_wrong_cell_is_named_with_its_row(tmp_path, cell, message):
    path = workbook(tmp_path / "tower.xlsx", data=rows(values=(1, cell, 2, 3)))
    with pytest.raises(FileFormatError, match=message):
        read(path)


def test_date_in_a_column_of_values_is_not_read_as_a_number(tmp_path):
    path = workbook(tmp_path / "tower.xlsx", data=rows(values=(1, stamps("date")[0], 2, 3)))
    with pytest.raises(FileFormatError, match="column TA_F: '1996-03-31 00:00:00' is not a number"):
        read(path)


def test_blank_rows_and_columns_are_left_out(tmp_path):
    found = [[], *rows(), [None, None], []]
    path = workbook(tmp_path / "tower.xlsx", data=found)
    book = openpyxl.load_workbook(path)
    book["data"].cell(9, 9).number_format = "0.00"  # formatted, but empty
    book.save(path)
    np.testing.assert_array_equal(read(path)["TA"], [[2, np.nan]])


def test_date_between_half_hours_is_an_error(tmp_path):
    table = rows("date")
    table[2][0] = table[2][0].replace(second=17)
    with pytest.raises(TimestampError, match="line 3, column TIMESTAMP_START: '1996-03-31 00:30:17'"):
        read(workbook(tmp_path / "tower.xlsx", data=table))


def test_workbooks_in_folders_archives_and_builds(tmp_path):
    for folder in ("folder", "zip"):
        (tmp_path / folder).mkdir()
    path = workbook(tmp_path / "folder" / f"{NAME}.xlsx", data=rows())
    packed = tmp_path / "zip" / "downloads.zip"
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.write(path, "tower.xlsx")
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("inner.zip", inner.getvalue())
    for given in (path.parent, packed, packed.parent):
        np.testing.assert_array_equal(read(given)["TA"], [[2, np.nan]])
    with set_options(progress=False):
        report = build(path.parent, tmp_path / "towers.zarr", metadata={"DE-Tha": PLACE})
    assert list(open_store(report.store)["site"].values) == ["DE-Tha"]


def test_text_file_is_preferred_to_a_workbook_with_its_name(tmp_path):
    (tmp_path / "a").mkdir()
    workbook(tmp_path / "a" / f"{NAME}.xlsx", data=rows(values=(7, 7)))
    (tmp_path / f"{NAME}.csv").write_text("TIMESTAMP_START,TA_F\n199603310000,1\n199603310030,1\n")
    assert read(tmp_path)["TA"].item() == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tower.xlsx", b"PK\x03\x04 cut", "truncated or not an Excel file"),
        ("tower.xlsx", b"", "truncated or not an Excel file"),
        ("tower.xlsx", OLE + "EncryptedPackage".encode("utf-16-le"), "protected by a password"),
        ("tower.xlsx", OLE + "Workbook".encode("utf-16-le"), r"old Excel format \(\.xls\) in spite"),
        ("tower.xls", OLE, r"a format that is not read; save it as \.xlsx or \.csv"),
        (f"{NAME}.xls", OLE, r"a format that is not read; save it as \.xlsx or \.csv"),
    ],
)
def test_unreadable_workbook_is_a_named_error(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileFormatError, match=message) as caught:
        read(tmp_path / name)
    assert name in str(caught.value)
    with pytest.raises((FileFormatError, FileNotFoundError), match=message):
        read(tmp_path)


def test_workbook_that_is_cut_is_a_named_error(tmp_path):
    path = workbook(tmp_path / "tower.xlsx", data=rows())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(FileFormatError, match=r"tower\.xlsx: the file is truncated"):
        read(path)


def test_replaced_workbook_is_noticed(tmp_path):
    path = workbook(tmp_path / "tower.xlsx", data=rows())
    ds = open_fluxnet(path, metadata=PLACE)
    workbook(path, data=rows(values=(1, 2, 3, 4, 5, 6)))
    with pytest.raises(FileFormatError, match="open it again"):
        ds.load()


def test_cell_far_from_the_table_is_named(tmp_path):
    """The library would allocate hundreds of gigabytes."""
    path = tmp_path / "tower.xlsx"
    pd.DataFrame({"SITE_ID": ["DE-Tha"]}).to_excel(path, index=False)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    members[sheet] = members[sheet].replace(b'"A2"', b'"XFD1048576"')
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(FileFormatError, match=r"tower\.xlsx: a cell in .*sheet1\.xml lies far"):
        worksheet_as_csv(path.read_bytes(), str(path))
