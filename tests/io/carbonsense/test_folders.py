"""Folders of v1 are read, and what is wrong in them is named."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tests.io.carbonsense.samples import change, write_period
from xcarbon.core.errors import FileFormatError, MetadataError, TimestampError
from xcarbon.io.carbonsense import open_carbonsense


def test_small_patches_of_v1_are_taken_whole(ds, tmp_path):
    for size in (8, 10):
        write_period(ds, tmp_path / str(size), "SY-001", "2010-01-01", "2010-01-03", size)
    small, large = (open_carbonsense(tmp_path / str(size)).load() for size in (8, 10))
    xr.testing.assert_equal(small["reflectance"], large["reflectance"])
    assert small["reflectance"].notnull().any()


@pytest.mark.parametrize(
    ("column", "value", "code", "physical"),
    [
        ("TA_F", 0.125, "TA", 20.0),
        ("WD", 0.5, "WD", 270.0),
        ("WD", -1.0, "WD", 0.0),
        ("PA_F", 0.1, "PA", 98.0),
        ("NETRAD", -0.1, "NETRAD", 200.0),
        ("P_F", -0.5, "P", 0.0),
    ],
)
def test_a_scaled_value_of_v1_means(copy, column, value, code, physical):
    period = copy / "SY-002" / "2010-01-05_2010-01-12"
    table = pd.read_csv(period / "predictors.csv", index_col="timestamp")
    table.loc["2010-01-06 05:00:00", column] = value
    table.to_csv(period / "predictors.csv")
    found = open_carbonsense(copy)[code].sel(site="SY-002", time="2010-01-06T05:00")
    assert float(found) == pytest.approx(physical, rel=1e-6, abs=1e-5)


def test_infinite_targets_are_missing(copy_v2):
    change(copy_v2, "UPDATE ec_data SET NEE = 9e999 WHERE timestamp = 201001060500")
    found = open_carbonsense(copy_v2)["NEE"].sel(time="2010-01-06T05:00")
    assert found.isnull().all()


@pytest.mark.parametrize("name", ["meta.json", "predictors.csv", "targets.csv", "modis.pkl"])
def test_period_without_a_file_is_an_error(copy, name):
    (copy / "SY-001" / "2010-02-01_2010-02-05" / name).unlink()
    with pytest.raises(FileFormatError, match=rf"SY-001/2010-02-01_2010-02-05: .* lacks \['{name}'\]"):
        open_carbonsense(copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON with SITE_ID"),
        ("[1]", "not JSON with SITE_ID"),
        ('{"SITE_ID": "SY-001"}', "two dates in TIME"),
        ('{"SITE_ID": "SY-001", "TIME": ["2010-02-30", "2010-03-01"]}', "two dates in TIME"),
        ('{"SITE_ID": "DE-Tha", "TIME": ["2010-01-01", "2010-01-08"]}', "DE-Tha from .* of SY-001"),
        ('{"SITE_ID": "SY-001", "TIME": ["2010-01-08", "2010-01-01"]}', "from 2010-01-08 to 2010-01-01"),
    ],
)
def test_metadata_that_cannot_be_read_is_an_error(copy, text, message):
    (copy / "SY-001" / "2010-01-01_2010-01-08" / "meta.json").write_text(text)
    with pytest.raises(FileFormatError, match=rf"SY-001/2010-01-01_2010-01-08/meta\.json: .*{message}"):
        open_carbonsense(copy)


def test_tower_without_a_place_is_an_error(copy, copy_v2):
    meta = copy / "SY-002" / "2010-01-05_2010-01-12" / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"IGBP": None}))
    with pytest.raises(MetadataError, match="SY-002 lacks igbp"):
        open_carbonsense(copy)
    assert open_carbonsense(copy, metadata={"SY-002": {"igbp": "DBF"}}).sizes["site"] == 2
    change(copy_v2, "DELETE FROM site_data WHERE site = 'SY-002'")
    with pytest.raises(MetadataError, match="SY-002 lacks lat and lon and igbp"):
        open_carbonsense(copy_v2)


def test_absent_columns_are_an_error(copy):
    period = copy / "SY-001" / "2010-02-01_2010-02-05"
    table = pd.read_csv(period / "predictors.csv")
    table.drop(columns="TA_F").to_csv(period / "predictors.csv", index=False)
    with pytest.raises(FileFormatError, match=r"2010-02-05 and .*: only one .* columns \['TA_F'\]"):
        open_carbonsense(copy)
    table.drop(columns="timestamp").to_csv(period / "predictors.csv", index=False)
    with pytest.raises(
        FileFormatError, match=r"predictors\.csv: the table must have timestamp and columns such as TA_F"
    ):
        open_carbonsense(copy)
    (period / "predictors.csv").write_text("")
    with pytest.raises(FileFormatError, match=r"predictors\.csv: the table must have timestamp"):
        open_carbonsense(copy)


def test_tables_that_differ_in_time_are_an_error(copy):
    file = copy / "SY-002" / "2010-01-05_2010-01-12" / "targets.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(FileFormatError, match=r"SY-002/.*: predictors\.csv and targets\.csv have different"):
        open_carbonsense(copy)["NEE"].load()


NOON = pd.Timestamp("2010-01-06T12").as_unit("ns")

PATCH = np.zeros((9, 10, 10), "float32")


@pytest.mark.parametrize(
    ("patches", "error", "message"),
    [
        ([PATCH], FileFormatError, "found a list, not a dict"),
        ({"2010-01-06": PATCH}, FileFormatError, "'2010-01-06' is not a time"),
        ({NOON: None}, FileFormatError, "its value is not an array"),
        ({NOON: PATCH[:, :9, :9]}, FileFormatError, r"2010-01-06: .* found float32 of shape \(9, 9, 9\)"),
        ({NOON: PATCH[:7]}, FileFormatError, r"shape \(9, 8, 8\) or \(9, 10, 10\), found .* \(7, 10, 10\)"),
        ({NOON: PATCH.astype(str)}, FileFormatError, "found <U"),
        ({NOON: PATCH, NOON - pd.Timedelta("1h"): PATCH}, TimestampError, "2010-01-06 is the second one"),
        ({pd.Timestamp("2011-01-06T12"): PATCH}, TimestampError, "2011-01-06 is .* outside of all records"),
        ({NOON: Path("x")}, FileFormatError, "rejected, because the pickle names pathlib"),
    ],
)
def test_wrong_patches_are_errors(copy, patches, error, message):
    file = copy / "SY-002" / "2010-01-05_2010-01-12" / "modis.pkl"
    file.write_bytes(pickle.dumps(patches))
    with pytest.raises(error, match=rf"SY-002/2010-01-05_2010-01-12/modis\.pkl.*{message}"):
        open_carbonsense(copy)["reflectance"].load()
