"""Both versions of CarbonSense are opened lazily, in physical units and without loss."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.io.carbonsense.samples import change, expected_of
from xcarbon.core.errors import FileFormatError, MetadataError, TimestampError
from xcarbon.core.variables import PATCH_BANDS, VARIABLES
from xcarbon.io import carbonsense
from xcarbon.io.carbonsense import open_carbonsense
from xcarbon.io.carbonsense.values import unscale
from xcarbon.io.store import open_store
from xcarbon.prep.scale import scale
from xcarbon.testing import raise_on_compute


def test_values_come_back_in_physical_units(ds, path):
    found, expected = open_carbonsense(path).load(), expected_of(ds, path)
    np.testing.assert_array_equal(found["time"], expected["time"])
    for code in set(expected.data_vars) - {"reflectance", "snow", "water"}:
        assert found[code].dims == ("site", "time")
        assert found[code].dtype == "float32"
        assert found[code].attrs["units"] == VARIABLES[code].units
        assert expected[code].notnull().any()
        np.testing.assert_allclose(found[code], expected[code], rtol=1e-6, atol=1e-6, err_msg=code)


def test_patches_come_back_by_day(ds, path):
    found, expected = open_carbonsense(path).load(), expected_of(ds, path)
    np.testing.assert_array_equal(found["day"], expected["day"])
    assert found["band"].values.tolist() == list(PATCH_BANDS[:7])
    for name in ("reflectance", "snow", "water"):
        assert found[name].dims == expected[name].dims
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    assert {name: found[name].dtype for name in ("reflectance", "snow", "water")} == {
        "reflectance": "float32", "snow": "int8", "water": "int8",
    }  # fmt: skip
    first = found.isel(site=0, day=0)
    assert first["reflectance"].isnull().sum() == 1
    assert np.isnan(first["reflectance"][3, 0, 0])
    assert first["snow"][7, 7] == -1
    assert found["reflectance"].isel(site=1, day=0).isnull().all()


def test_towers_are_described(ds, path):
    found = open_carbonsense(path)
    assert found["site"].values.tolist() == ["SY-001", "SY-002"]
    np.testing.assert_allclose(found["lat"], ds["lat"])
    np.testing.assert_allclose(found["lon"], ds["lon"])
    assert found["igbp"].values.tolist() == ds["igbp"].values.tolist()
    assert np.isnan(found["elevation"][1])
    assert found["utc_offset"].isnull().all()
    assert found.attrs["license"] == "CC-BY-4.0"
    assert "2406.04940" in found.attrs["references"]
    assert found.attrs["Conventions"].startswith("CF-")
    assert found["TA"].attrs["standard_name"] == "air_temperature"
    assert found["CO2"].attrs["source_column"] in ("CO2_F_MDS", "CO2")
    assert not [name for name in found if str(name).endswith("_QC")]
    assert not {"DOY", "TOD", "ODD", "PPFD_DIF"} & set(found)


def test_store_gives_back_what_was_imported(path, tmp_path):
    ds = open_carbonsense(path)
    found = open_store(ds.carbon.to_store(tmp_path / "store.zarr"))
    assert found.sizes == ds.sizes
    for name in ds.data_vars:
        atol = 0.5e-4 + 1e-6 if name == "reflectance" else 0
        np.testing.assert_allclose(found[name], ds[name], rtol=0, atol=atol, err_msg=str(name))


@given(data=st.data())
def test_unscaling_is_the_inverse_of_scaling(data):
    variable = data.draw(st.sampled_from([of for of in VARIABLES.values() if of.bounds]))
    lower, upper = variable.bounds.lower, variable.bounds.upper
    values = np.array(data.draw(st.lists(st.floats(lower, upper, exclude_max=True), min_size=1)))
    found = unscale(scale(values, variable), variable.bounds, variable.cyclic, "here")
    np.testing.assert_allclose(found, values, rtol=0, atol=1e-9 * (upper - lower))


def test_metadata_completes_what_is_known(path):
    given = {"SY-001": {"utc_offset": 1, "igbp": "CRO"}, "elsewhere": {"lat": 1}}
    found = open_carbonsense(path, metadata=given)
    assert found["utc_offset"].values.tolist()[0] == 1
    assert found["igbp"].values.tolist()[0] == "CRO"
    with pytest.raises(
        MetadataError, match=r"metadata is for \['DE-Tha'\], but .* contains \['SY-001', 'SY-002'\]"
    ):
        open_carbonsense(path, metadata={"DE-Tha": {"lat": 50}})


def test_opening_computes_nothing(path):
    with raise_on_compute():
        ds = open_carbonsense(path)
        ds = ds.assign(double=ds["NEE"] * 2).isel(time=slice(24))
    assert ds["double"].chunks[0] == (1, 1)


def test_values_are_read_when_they_are_computed(copy):
    for file in copy.glob("SY-002/*/*.csv"):
        file.write_text(file.read_text().replace("2010-01-06", "x"))
    for file in copy.glob("SY-002/*/modis.pkl"):
        file.write_bytes(b"no pickle")
    ds = open_carbonsense(copy)
    assert ds["NEE"].sel(site="SY-001").notnull().any()
    assert ds["reflectance"].sel(site="SY-001").notnull().any()
    with pytest.raises(FileFormatError, match=r"SY-002.*predictors\.csv"):
        ds["NEE"].load()
    with pytest.raises(FileFormatError, match=r"SY-002.*modis\.pkl"):
        ds["snow"].load()


def test_site_is_read_once(path, monkeypatch):
    calls = []
    for name in ("read_series", "read_patches"):
        read = getattr(carbonsense, name)
        monkeypatch.setattr(
            carbonsense, name, lambda *args, read=read, name=name: calls.append(name) or read(*args)
        )
    open_carbonsense(path).load()
    assert sorted(calls) == ["read_patches"] * 2 + ["read_series"] * 2


def test_other_files_and_folders_are_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing: no such file or folder"):
        open_carbonsense(tmp_path / "nothing")
    with pytest.raises(FileFormatError, match=r"neither CarbonSense v1, a folder with .*, nor v2"):
        open_carbonsense(tmp_path)
    (tmp_path / "file.sql").write_text("no database" * 100)
    with pytest.raises(FileFormatError, match=r"file\.sql: .* read as SQLite file of CarbonSense v2"):
        open_carbonsense(tmp_path / "file.sql")
    change(tmp_path / "other.sql", "CREATE TABLE ec_data (id INTEGER, site TEXT)")
    with pytest.raises(FileFormatError, match=r"other\.sql: .* \(no such table: modis_data\)"):
        open_carbonsense(tmp_path / "other.sql")


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("2010-01-06 05:00:00", "yesterday", FileFormatError, "yesterday"),
        ("2010-01-06 05:00:00", "", TimestampError, "1 rows have no timestamp"),
        ("2010-01-06 05:00:00", "2009-01-06 05:00:00", TimestampError, "2009-01-06T05:00:00 is not a full"),
        ("2010-01-06 05:00:00", "2010-01-06 05:10:00", TimestampError, "05:10:00 is not a full or half hour"),
        ("2010-01-06 05:00:00", "2010-01-06 05:30:00", None, ""),
        ("2010-01-06 05:00:00", "2010-01-06 06:00:00", FileFormatError, "two records have the same hour"),
    ],
)
def test_wrong_time_stamps_are_errors(copy, old, new, error, message):
    for file in copy.glob("SY-002/*/*.csv"):
        file.write_text(file.read_text().replace(old, new))
    ds = open_carbonsense(copy)
    if error is None:
        ds.load()
    else:
        with pytest.raises(error, match=rf"SY-002/2010-01-05_2010-01-12.*{message}"):
            ds["TA"].load()


def test_numbers_that_are_not_scaled_are_an_error(copy, copy_v2):
    file = copy / "SY-002" / "2010-01-05_2010-01-12" / "predictors.csv"
    table = pd.read_csv(file)
    table["TA_F"] = 20.0
    table.to_csv(file, index=False)
    with pytest.raises(FileFormatError, match=r"SY-002/.*, TA_F: 20 is not a scaled .* -0\.5 and 0\.5"):
        open_carbonsense(copy)["NEE"].load()
    change(copy_v2, "UPDATE ec_data SET WD = -1.5 WHERE site = 'SY-001'")
    with pytest.raises(
        FileFormatError, match=r"SY-001, ids 1 to \d+ of ec_data, WD: -1\.5 is not a scaled value"
    ):
        open_carbonsense(copy_v2)["NEE"].load()


def test_text_among_numbers_is_an_error(copy, copy_v2):
    file = copy / "SY-002" / "2010-01-05_2010-01-12" / "targets.csv"
    head, first, *rest = file.read_text().splitlines(keepends=True)
    file.write_text(head + first.replace(",", ",cold", 1) + "".join(rest))
    with pytest.raises(FileFormatError, match=r"SY-002/.*targets\.csv: .*cold"):
        open_carbonsense(copy)["NEE"].load()
    change(copy_v2, "UPDATE ec_data SET TA = 'cold' WHERE id = 3")
    with pytest.raises(FileFormatError, match=r"SY-001, ids 1 to \d+ of ec_data: .*cold"):
        open_carbonsense(copy_v2)["NEE"].load()


def test_implausible_targets_are_missing(copy_v2):
    change(copy_v2, "UPDATE ec_data SET NEE = -6999 WHERE timestamp = 201001060500")
    found = open_carbonsense(copy_v2)["NEE"].sel(time="2010-01-06T05:00")
    assert found.isnull().all()
