"""The database of v2 is read in batches, and what is wrong in it is named."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Any

import pytest
import xarray as xr

from tests.io.carbonsense.samples import change, write_v2
from xcarbon.core.errors import FileFormatError, TimestampError
from xcarbon.io.carbonsense import database, open_carbonsense


def test_database_is_found_by_its_own_name(v2):
    xr.testing.assert_identical(
        open_carbonsense(v2 / "carbonsense_v2.sql").load().drop_attrs(),
        open_carbonsense(v2).load().drop_attrs(),
    )


@pytest.mark.parametrize(
    ("column", "value", "physical"),
    [
        ("P", -0.4, 10.0),
        ("SW_IN", 0.2, 600.0),
        ("PA", 0.4, 99.0),
        ("TS_1", -0.25, -20.0),
        ("SWC_1", 0.1, 60.0),
    ],
)
def test_a_scaled_value_of_v2_means(copy_v2, column, value, physical):
    change(copy_v2, f"UPDATE ec_data SET {column} = {value} WHERE timestamp = 201001060500")
    found = open_carbonsense(copy_v2)[column].sel(site="SY-002", time="2010-01-06T05:00")
    assert float(found) == pytest.approx(physical, rel=1e-6)


def test_hours_at_half_past_have_the_label_of_the_hour_they_start_in(ds, v2, tmp_path):
    found = open_carbonsense(write_v2(ds, tmp_path / "late", shift="30min"))
    xr.testing.assert_equal(found["TA"].compute(), open_carbonsense(v2)["TA"].compute())
    assert found["reflectance"].isnull().all()  # the table has no row at noon


def test_database_is_read_in_batches_and_never_written(v2, monkeypatch):
    file = v2 / "carbonsense_v2.sql"
    before = file.read_bytes()
    whole = open_carbonsense(v2).load()
    monkeypatch.setattr(database, "_BATCH", 50)
    xr.testing.assert_equal(open_carbonsense(v2).load(), whole)
    assert file.read_bytes() == before
    assert list(v2.iterdir()) == [file]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ("x'00'", "found 1 bytes, but a patch has 2304 bytes"),
        ("NULL", "found None"),
        ("'text'", "found 'text'"),
    ],
)
def test_blob_of_the_wrong_size_is_an_error(copy_v2, data, found):
    change(copy_v2, f"UPDATE modis_data SET data = {data} WHERE id = 2")
    with pytest.raises(FileFormatError, match=rf"SY-001, modis_data of row_id \d+: {found}"):
        open_carbonsense(copy_v2)["reflectance"].load()


def test_wrong_stamps_of_v2_are_errors(copy_v2):
    change(copy_v2, "UPDATE ec_data SET timestamp = 201013010000 WHERE id = 5")
    with pytest.raises(TimestampError, match=r"SY-001, ids 1 to \d+ of ec_data: .* not YYYYMMDDHHMM"):
        open_carbonsense(copy_v2)["TA"].load()
    change(copy_v2, "UPDATE ec_data SET timestamp = 201001010330 WHERE id = 5")
    with pytest.raises(FileFormatError, match=r"SY-001, ids .*: two records have the same hour"):
        open_carbonsense(copy_v2)["TA"].load()
    change(copy_v2, "UPDATE ec_data SET timestamp = 'never' WHERE id = 1")
    with pytest.raises(TimestampError, match="SY-001: a timestamp is not YYYYMMDDHHMM"):
        open_carbonsense(copy_v2)


def test_database_without_rows_is_an_error(copy_v2):
    change(copy_v2, "DELETE FROM ec_data")
    with pytest.raises(FileFormatError, match="ec_data has no rows, or no column"):
        open_carbonsense(copy_v2)


def test_names_in_the_database_are_never_code(copy_v2):
    bad: Any = "a'; DROP TABLE ec_data; --\""
    with contextlib.closing(sqlite3.connect(copy_v2)) as connection, connection:
        for table in ("ec_data", "site_data"):
            connection.execute(f"UPDATE {table} SET site = ? WHERE site = 'SY-002'", [bad])
        connection.execute('ALTER TABLE ec_data ADD COLUMN "x"" FROM site_data; --" REAL')
    found = open_carbonsense(copy_v2).load()
    assert found["site"].values.tolist() == ["SY-001", bad]
    assert found["TA"].sel(site=bad).notnull().any()
    assert found["reflectance"].sel(site=bad).notnull().any()


def test_truncated_database_is_an_error(copy_v2):
    content = copy_v2.read_bytes()
    copy_v2.write_bytes(content[: len(content) // 2])
    with pytest.raises(FileFormatError, match=r"carbonsense_v2\.sql"):
        open_carbonsense(copy_v2).load()
