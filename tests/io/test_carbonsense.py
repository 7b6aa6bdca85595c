"""Both versions of CarbonSense are opened lazily, in physical units and without loss."""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from xcarbon.core.errors import FileFormatError, MetadataError, TimestampError
from xcarbon.core.variables import PATCH_BANDS, TARGETS, VARIABLES
from xcarbon.io import carbonsense
from xcarbon.io.carbonsense import open_carbonsense
from xcarbon.io.store import open_store
from xcarbon.prep.scale import scale
from xcarbon.testing import raise_on_compute, synthetic_towers

#: First and last dates of the periods of each site.
PERIODS = {
    "SY-001": [("2010-01-01", "2010-01-08"), ("2010-02-01", "2010-02-05")],
    "SY-002": [("2010-01-05", "2010-01-12")],
}
#: Columns of v1 with lower and upper bounds, from its normalization_config.yml.
V1 = {
    "TA": ("TA_F", -80, 80), "P": ("P_F", 0, 300), "RH": ("RH", 0, 100), "VPD": ("VPD_F", 0, 110),
    "PA": ("PA_F", 20, 150), "CO2": ("CO2_F_MDS", 0, 2000), "SW_IN": ("SW_IN_F", 0, 2000),
    "SW_OUT": ("SW_OUT", -100, 2000), "LW_IN": ("LW_IN_F", 0, 2000), "LW_OUT": ("LW_OUT", -100, 2000),
    "NETRAD": ("NETRAD", -1000, 2000), "PPFD_IN": ("PPFD_IN", -200, 3000),
    "PPFD_OUT": ("PPFD_OUT", -200, 3000), "WS": ("WS_F", 0, 100), "WD": ("WD", 0, 360),
    "USTAR": ("USTAR", 0, 10), "G": ("G_F_MDS", -1000, 2000), "H": ("H_F_MDS", -1000, 2000),
    "LE": ("LE_F_MDS", -1000, 2000),
}  # fmt: skip
TARGETS_V1 = {
    "NEE": "NEE_VUT_REF", "GPP_DT": "GPP_DT_VUT_REF", "GPP_NT": "GPP_NT_VUT_REF",
    "RECO_DT": "RECO_DT_VUT_REF", "RECO_NT": "RECO_NT_VUT_REF",
}  # fmt: skip
#: Bounds of v2, from its stage_4.py.
V2 = {
    "TA": (-80, 80), "P": (0, 100), "RH": (0, 100), "VPD": (0, 110), "PA": (0, 110), "CO2": (0, 750),
    "SW_IN": (-1500, 1500), "SW_IN_POT": (-1500, 1500), "SW_OUT": (-500, 500), "LW_IN": (-1000, 1000),
    "LW_OUT": (-1000, 1000), "NETRAD": (-1000, 1000), "PPFD_IN": (-2500, 2500), "PPFD_OUT": (-1000, 1000),
    "WS": (-100, 100), "WD": (0, 360), "USTAR": (-4, 4), "TS_1": (-40, 40), "G": (-700, 700),
    "H": (-700, 700), "LE": (-700, 700),
}  # fmt: skip
SCHEMA = """
    CREATE TABLE ec_data (id INTEGER PRIMARY KEY AUTOINCREMENT, site TEXT NOT NULL,
        timestamp INTEGER NOT NULL, DOY REAL, TOD REAL, ODD REAL, SWC_1 REAL, {columns});
    CREATE INDEX idx_ec_site ON ec_data(site);
    CREATE TABLE modis_data (id INTEGER PRIMARY KEY AUTOINCREMENT, row_id INTEGER, data BLOB);
    CREATE INDEX idx_modis_row_id ON modis_data(row_id);
    CREATE TABLE site_data (site TEXT PRIMARY KEY, lat REAL, lon REAL, elev REAL, igbp TEXT);
"""


# The dataset, generated from synthetic towers with the method of its authors


def scaled(values: np.ndarray, lower: float, upper: float, cyclic: bool) -> np.ndarray:
    inside = np.where((values >= lower) & (values <= upper), values.astype(float), np.nan)
    return (inside - (lower + upper) / 2) / ((upper - lower) / (2 if cyclic else 1))


def patches_of(tower: xr.Dataset, size: int) -> dict[pd.Timestamp, np.ndarray]:
    """Patches by noon, with 8 or 10 pixels, without days of which more than half are fill pixels."""
    bands = tower["reflectance"].transpose("day", "band", "y", "x").fillna(-1)
    stacked = np.concatenate([bands, np.stack([tower["snow"], tower["water"]], axis=1)], axis=1)
    edge = ((0, 0), (0, 0), *((((size - 8) // 2,) * 2),) * 2)
    patches = np.pad(stacked.astype("float32"), edge, constant_values=0.77)
    noon = tower["day"].values + np.timedelta64(12, "h")
    good = (bands == -1).mean(("band", "y", "x")).values <= 0.5
    return {
        pd.Timestamp(time).as_unit("ns"): patch
        for time, patch, keep in zip(noon, patches, good, strict=True)
        if keep
    }


def write_period(ds: xr.Dataset, folder: Path, site: str, start: str, end: str, size: int = 10) -> Path:
    tower = ds.sel(site=site, time=slice(start, end), day=slice(start, end))
    time = tower["time"].to_index().rename("timestamp")
    clock = {"DOY": (time.day_of_year - 184) / 183, "TOD": (time.hour - 12) / 12}
    predictors = {
        column: scaled(tower[code].values, lower, upper, code == "WD")
        for code, (column, lower, upper) in V1.items()
    }
    targets = {column: tower[code].values for code, column in TARGETS_V1.items()}
    period = folder / site / f"{start}_{end}"
    period.mkdir(parents=True)
    pd.DataFrame(clock | {"PPFD_DIF": 0.1} | predictors, index=time).to_csv(period / "predictors.csv")
    pd.DataFrame(targets, index=time).to_csv(period / "targets.csv")
    (period / "modis.pkl").write_bytes(pickle.dumps(patches_of(tower, size)))
    meta = {
        "SITE_ID": site,
        "LOCATION_LAT": float(tower["lat"]),
        "LOCATION_LON": float(tower["lon"]),
        "LOCATION_ELEV": None if site == "SY-002" else float(tower["elevation"]),
        "IGBP": str(tower["igbp"].values),
        "SOURCES": "ameriflux,fluxnet",
        "TIME": [start, end],
    }
    (period / "meta.json").write_text(json.dumps(meta))
    return period


def write_v1(ds: xr.Dataset, folder: Path) -> Path:
    for site, periods in PERIODS.items():
        for start, end in periods:
            write_period(ds, folder, site, start, end)
    (folder / "README.txt").write_text("CarbonSense")
    return folder


def write_v2(ds: xr.Dataset, folder: Path, shift: str = "0min") -> Path:
    folder.mkdir()
    codes = [*V2, *TARGETS]
    path = folder / "carbonsense_v2.sql"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(SCHEMA.format(columns=", ".join(f"{code} REAL" for code in codes)))
        for site, ((start, _), *_) in PERIODS.items():
            tower = ds.sel(site=site, time=slice(start, PERIODS[site][-1][1]))
            stamps = (tower["time"].to_index() + pd.Timedelta(shift)).strftime("%Y%m%d%H%M").astype(int)
            columns = [
                scaled(tower[code].values, *V2[code], code == "WD") if code in V2 else tower[code].values
                for code in codes
            ]
            rows = [
                (site, stamp, *(None if np.isnan(value) else float(value) for value in values))
                for stamp, *values in zip(stamps.tolist(), *columns, strict=True)
            ]
            marks = ", ".join("?" * (len(codes) + 2))
            connection.executemany(
                f"INSERT INTO ec_data (site, timestamp, {', '.join(codes)}) VALUES ({marks})", rows
            )
            ids = dict(connection.execute("SELECT timestamp, id FROM ec_data WHERE site = ?", [site]))
            patches = patches_of(tower.sel(day=slice(start, PERIODS[site][-1][1])), 8)
            keyed = [(int(time.strftime("%Y%m%d1200")), patch.tobytes()) for time, patch in patches.items()]
            connection.executemany(
                "INSERT INTO modis_data (row_id, data) VALUES (?, ?)",
                [(ids[key], patch) for key, patch in keyed if key in ids],
            )
            place = (float(tower["lat"]), float(tower["lon"]), -9999.0, str(tower["igbp"].values))
            connection.execute("INSERT INTO site_data VALUES (?, ?, ?, ?, ?)", [site, *place])
    return folder


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    """Two towers with a fill pixel and a value out of bounds."""
    codes = sorted({*V1, *V2, *TARGETS})
    ds = synthetic_towers(2, seed=5, variables=codes).sel(time=slice("2010-01", "2010-02"))
    ds = ds.sel(day=slice("2010-01", "2010-02")).compute()
    ds["reflectance"][0, 0] = 0.25
    ds["reflectance"][0, 0, 3, 0, 0] = np.nan
    ds["snow"][0, 0] = 1
    ds["snow"][0, 0, 7, 7] = -1
    ds["water"][0, 0] = 0
    ds["RH"][0, :2] = [100.0, 104.0]
    ds["WD"][0, :2] = [0.0, 90.0]
    return ds


@pytest.fixture(scope="module")
def v1(ds, tmp_path_factory) -> Path:
    return write_v1(ds, tmp_path_factory.mktemp("v1") / "carbonsense")


@pytest.fixture(scope="module")
def v2(ds, tmp_path_factory) -> Path:
    return write_v2(ds, tmp_path_factory.mktemp("v2") / "carbonsense v2?#%20")


@pytest.fixture(params=["v1", "v2"])
def path(request) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture
def copy(v1, tmp_path) -> Path:
    """Copy of the v1 dataset that a test may change."""
    return shutil.copytree(v1, tmp_path / "carbonsense")


@pytest.fixture
def copy_v2(v2, tmp_path) -> Path:
    """Copy of the v2 database that a test may change."""
    return Path(shutil.copy(v2 / "carbonsense_v2.sql", tmp_path))


def expected_of(ds: xr.Dataset, path: Path) -> xr.Dataset:
    """Values of the source that the dataset contains, on the axes of all towers."""
    is_v1 = (path / "SY-001").is_dir()
    bounds = {code: limits for code, (_, *limits) in V1.items()} if is_v1 else V2
    days = slice("2010-01-01", "2010-02-05")
    expected = ds[[*bounds, *(TARGETS_V1 if is_v1 else TARGETS), "reflectance", "snow", "water"]]
    expected = expected.sel(time=days, day=days)
    for code, (lower, upper) in bounds.items():
        expected[code] = expected[code].where((expected[code] >= lower) & (expected[code] <= upper))
    dates = {site: [span(*of) for of in periods] for site, periods in PERIODS.items()}
    if not is_v1:  # v2 has rows in the gaps between periods
        dates = {site: [span(periods[0][0], periods[-1][1])] for site, periods in PERIODS.items()}
    hours, day = (
        xr.concat([expected[dim].dt.floor("D").isin(np.concatenate(of)) for of in dates.values()], "site")
        for dim in ("time", "day")
    )
    day = day & (expected["reflectance"].isnull().mean(("band", "y", "x")) <= 0.5)
    for name, array in expected.items():
        missing = -1 if name in ("snow", "water") else np.nan
        expected[name] = array.where(day if "day" in array.dims else hours, missing)
    return expected


def span(start: str, end: str) -> np.ndarray:
    return np.arange(start, np.datetime64(end) + 1, dtype="M8[D]")


# Values, patches and metadata


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


def test_database_is_found_by_its_own_name(v2):
    xr.testing.assert_identical(
        open_carbonsense(v2 / "carbonsense_v2.sql").load().drop_attrs(),
        open_carbonsense(v2).load().drop_attrs(),
    )


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


@given(data=st.data())
def test_unscaling_is_the_inverse_of_scaling(data):
    variable = data.draw(st.sampled_from([of for of in VARIABLES.values() if of.bounds]))
    lower, upper = variable.bounds.lower, variable.bounds.upper
    values = np.array(data.draw(st.lists(st.floats(lower, upper, exclude_max=True), min_size=1)))
    found = carbonsense._unscale(scale(values, variable), variable.bounds, variable.cyclic, "here")
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


def test_hours_at_half_past_have_the_label_of_the_hour_they_start_in(ds, v2, tmp_path):
    found = open_carbonsense(write_v2(ds, tmp_path / "late", shift="30min"))
    xr.testing.assert_equal(found["TA"].compute(), open_carbonsense(v2)["TA"].compute())
    assert found["reflectance"].isnull().all()  # the table has no row at noon


def test_infinite_targets_are_missing(copy_v2):
    change(copy_v2, "UPDATE ec_data SET NEE = 9e999 WHERE timestamp = 201001060500")
    found = open_carbonsense(copy_v2)["NEE"].sel(time="2010-01-06T05:00")
    assert found.isnull().all()


# Laziness


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
    for name in ("_read_series", "_read_patches"):
        read = getattr(carbonsense, name)
        monkeypatch.setattr(
            carbonsense, name, lambda *args, read=read, name=name: calls.append(name) or read(*args)
        )
    open_carbonsense(path).load()
    assert sorted(calls) == ["_read_patches"] * 2 + ["_read_series"] * 2


def test_database_is_read_in_batches_and_never_written(v2, monkeypatch):
    file = v2 / "carbonsense_v2.sql"
    before = file.read_bytes()
    whole = open_carbonsense(v2).load()
    monkeypatch.setattr(carbonsense, "_BATCH", 50)
    xr.testing.assert_equal(open_carbonsense(v2).load(), whole)
    assert file.read_bytes() == before
    assert list(v2.iterdir()) == [file]


# Errors


def change(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


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


def test_tables_that_differ_in_time_are_an_error(copy):
    file = copy / "SY-002" / "2010-01-05_2010-01-12" / "targets.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(FileFormatError, match=r"SY-002/.*: predictors\.csv and targets\.csv have different"):
        open_carbonsense(copy)["NEE"].load()


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


def test_implausible_targets_are_missing(copy_v2):
    change(copy_v2, "UPDATE ec_data SET NEE = -6999 WHERE timestamp = 201001060500")
    found = open_carbonsense(copy_v2)["NEE"].sel(time="2010-01-06T05:00")
    assert found.isnull().all()
