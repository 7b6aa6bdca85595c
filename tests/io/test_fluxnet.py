"""Opening of tower files as an hourly Dataset."""

import gzip
import zipfile
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xcarbon import open_fluxnet
from xcarbon.core.conventions import QC
from xcarbon.core.errors import FileFormatError, MetadataError, OptionError, TimestampError
from xcarbon.core.variables import VARIABLES
from xcarbon.io.badm import SiteMetadata
from xcarbon.io.columns import Source
from xcarbon.io.fluxnet import audit_fluxnet
from xcarbon.io.networks import newest_first, recognise
from xcarbon.io.records import read_hours, survey, timestamps, values
from xcarbon.io.towers import fuse_records, group_towers, labels, read_tower
from xcarbon.testing import raise_on_compute, write_fluxnet_csv, write_release

THARANDT = dict(lat=50.9636, lon=13.5669, igbp="ENF", elevation=380, utc_offset=1)
RAW = ["AU-Emr", "AU-Tum", "CG-Tch", "CN-Sw2", "DE-Tha", "IT-CA3", "US-ARc", "US-Ha1", "US-Wi2"]
#: Half a packing step of the shared store, which contains the same hours with packed values.
PACKING = {"TA": 0.002, "VPD": 0.004, "SW_IN": 0.05, "NEE": 0.004, "GPP_DT": 0.004, "GPP_NT": 0.004}


def name(site="DE-Tha", product="SUBSET", resolution="HH", suffix=".csv"):
    return f"FLX_{site}_FLUXNET2015_{product}_{resolution}_1996-1996_1-4{suffix}"


def table(columns=None, start="1996-03-31", steps=8, step=30):
    """Create the text of a file; a column is a list of cells, numbers or text."""
    begin = pd.date_range(start, periods=steps, freq=f"{step}min")
    times = {"TIMESTAMP_START": begin, "TIMESTAMP_END": begin + pd.Timedelta(minutes=step)}
    stamps = {key: values.strftime("%Y%m%d%H%M") for key, values in times.items()}
    columns = {"TA_F": range(steps)} if columns is None else columns
    return pd.DataFrame(stamps | columns).to_csv(index=False)


@pytest.fixture
def write(tmp_path):
    """Write bytes or text to a file, compressed if its name ends with .gz."""

    def _write(content=None, file=None, **parts):
        path = tmp_path / (file or name(**parts))
        content = table() if content is None else content
        content = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        return path

    return _write


@pytest.fixture
def write_zip(tmp_path):
    """Write a zip archive from texts by file name."""

    def _write(**texts):
        path = tmp_path / "FLX_DE-Tha_FLUXNET2015_SUBSET_1996-1996_1-4.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file, text in texts.items():
                archive.writestr(file, text)
        return path

    return _write


def read(path, **metadata):
    return open_fluxnet(path, metadata=THARANDT | metadata).load()


# The real towers


@pytest.fixture(scope="module")
def real_raw(real_data):
    """Real towers in the format of FLUXNET2015, loaded one by one."""
    return {path.name[4:10]: open_fluxnet(path).load() for path in real_data.glob("raw/*.csv.gz")}


@pytest.mark.parametrize("site", RAW)
def test_real_tower_agrees_with_shared_store(site, real_raw, real_towers):
    tower = real_raw[site]
    expected = real_towers.sel(site=[site], time=tower.time).load()
    for code, packing in PACKING.items():
        found, wanted = tower[code].values, expected[code].values
        np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted), err_msg=code)
        np.testing.assert_allclose(found, wanted, atol=packing, rtol=0, err_msg=code)
    for code in ("TA", "VPD", "SW_IN", "NEE"):
        np.testing.assert_array_equal(tower[code + QC].values, expected[code + QC].values, code)
    for name_ in ("lat", "lon", "elevation", "igbp", "utc_offset"):
        np.testing.assert_array_equal(tower[name_].values, expected[name_].values)


def test_real_towers_open_together_as_they_do_alone(real_data, real_raw):
    paths = sorted(real_data.glob("raw/*.csv.gz"), reverse=True)
    with raise_on_compute():
        towers = open_fluxnet(paths)
    assert list(towers.site.values) == RAW
    assert towers.time.values[[0, -1]].astype("M8[h]").astype(str).tolist() == [
        "1991-01-01T00",
        "2014-12-31T23",
    ]
    assert towers["TA"].chunksizes == {"site": (1,) * 9, "time": (towers.time.size,)}
    towers = towers.load()
    for site, tower in real_raw.items():
        here = towers.sel(site=[site])
        alone = tower.reindex(time=here.time, fill_value={v: -1 for v in tower if QC in v})
        xr.testing.assert_equal(here.drop_vars("time_bnds"), alone.drop_vars("time_bnds"))


# The Dataset


def test_synthetic_tower_comes_back(towers, tmp_path):
    expected = towers.drop_dims(["day"], errors="ignore").isel(site=[0]).load()
    site = str(expected.site.values[0])
    path = write_fluxnet_csv(expected, site, tmp_path / name(site))
    found = read(path)
    codes = [code for code in VARIABLES if code in expected]
    assert codes and set(codes) == {code for code in found if code in VARIABLES}
    for code in codes:
        np.testing.assert_allclose(found[code], expected[code], rtol=1e-5, err_msg=code)


def test_structure(write):
    ds = read(write(table({"TA_F": [1] * 8, "TA_F_QC": [2] * 8, "RH": [3] * 8})))
    assert ds.sizes["site"] == 1 and ds.sizes["time"] == 4
    assert ds["TA"].dims == ds["TA_QC"].dims == ("site", "time")
    assert (ds["TA"].dtype, ds["TA_QC"].dtype) == ("float32", "int8")
    assert ds["TA"].attrs["source_column"] == "TA_F"
    assert ds["TA"].attrs["ancillary_variables"] == "TA_QC"
    assert ds["TA_QC"].attrs["flag_meanings"].endswith("downscaled_from_reanalysis")
    assert "RH_QC" not in ds
    assert ds["time"].values[0] == np.datetime64("1996-03-31T00")
    assert ds["site"].attrs["cf_role"] == "timeseries_id"
    assert "time_bnds" in ds.coords and "site_name" not in ds.coords
    assert ds.attrs["license"] == "CC-BY-4.0"
    assert "10.1038/s41597-020-0534-3" in ds.attrs["references"]
    assert "open_fluxnet" in ds.attrs["history"]
    assert name() in ds.attrs["source"]


def test_replaced_columns_are_stated(write):
    base = write(table({"FC": [1, 1], "SC": [1, 1]}, steps=2), file="AMF_US-Tw3_BASE_HH_5-5.csv")
    ds = read(base)
    assert (ds["NEE"].item(), ds["NEE"].attrs["source_column"]) == (2, "FC + SC, FC")
    ds = read(write(table({"NEE_CUT_REF": [1, 1], "NEE_CUT_REF_QC": [1, 1]}, steps=2)))
    assert (ds["NEE_QC"].item(), ds["NEE"].attrs["source_column"]) == (1, "NEE_CUT_REF")


def test_constant_threshold_replaces_the_variable_one_that_is_empty(write):
    columns = {"NEE_VUT_REF": "-9999", "NEE_VUT_REF_QC": "-9999", "NEE_CUT_REF": 2, "NEE_CUT_REF_QC": 1}
    columns |= {"GPP_DT_VUT_REF": ["-9999", "NaN", "", "-6999"] * 25, "GPP_DT_CUT_REF": 5}
    columns |= {"GPP_NT_VUT_REF": [-9999] * 60 + [3] * 40, "GPP_NT_CUT_REF": 5}  # not empty
    columns |= {"RECO_DT_VUT_REF": -9999, "RECO_DT_CUT_REF": "NaN"}  # both are empty
    columns = {name: [cell] * 100 if not isinstance(cell, list) else cell for name, cell in columns.items()}
    path = write(table(columns, steps=100))
    ds = read(path)
    assert {code: ds[code].attrs["source_column"] for code in ("NEE", "GPP_DT", "GPP_NT", "RECO_DT")} == {
        "NEE": "NEE_CUT_REF",
        "GPP_DT": "GPP_DT_CUT_REF",
        "GPP_NT": "GPP_NT_VUT_REF",
        "RECO_DT": "RECO_DT_VUT_REF",
    }
    assert (ds["NEE"] == 2).all() and (ds["NEE_QC"] == 1).all() and (ds["GPP_DT"] == 5).all()
    assert int(ds["GPP_NT"].count()) == 20
    assert audit_fluxnet(path, metadata={"site": "DE-Tha"})["DE-Tha"][0]["columns"]["NEE"] == {
        "NEE_CUT_REF": 50
    }


def test_best_column_is_chosen(write):
    columns = {
        "TA": [1, 1, -9999, -9999, 1, 1],
        "TA_F_MDS": [2] * 6,
        "TA_F_MDS_QC": [3, 3, 3, 3, 0, 0],
        "TS_F_MDS_1": [4] * 6,
    }
    ds = read(write(table(columns, steps=6)))
    np.testing.assert_array_equal(ds["TA"], [[1, 2, 2]])
    np.testing.assert_array_equal(ds["TA_QC"], [[0, 3, 0]])
    assert ds["TA"].attrs["source_column"] == "TA_F_MDS, TA"
    assert ds["TA_QC"].attrs["flag_meanings"].endswith("poor_quality_gapfill")
    np.testing.assert_array_equal(ds["TS_1"], [[4, 4, 4]])
    np.testing.assert_array_equal(ds["TS_1_QC"], [[3, 3, 3]])  # gap-filled, but the file has no flags


def test_half_hours_are_combined_by_variable(write):
    columns = {
        "TA_F": [1, 2, 3, -9999, -9999, -9999],
        "TA_F_QC": [0, 2, 0, 1, -9999, -9999],
        "P_F": [1, 2, 3, 4, 5, -9999],
        "WD": [350, 20, 180, 190, 10, "-9999.000"],
    }
    ds = read(write(table(columns, steps=6)))
    nan = np.nan
    np.testing.assert_array_equal(ds["TA"], [[1.5, nan, nan]])
    np.testing.assert_array_equal(ds["TA_QC"], [[2, -1, -1]])
    np.testing.assert_array_equal(ds["P"], [[3, 7, nan]])
    np.testing.assert_allclose(ds["WD"], [[5, 185, nan]], atol=1e-4)


def test_file_from_half_past_to_half_past(write):
    columns = {"TA_F": [1, 2, 4, 5], "TA_F_QC": [0, 1, 2, 0]}
    ds = read(write(table(columns, start="1996-03-31 01:30", steps=4)))
    np.testing.assert_array_equal(ds["TA"], [[np.nan, 3, np.nan]])
    np.testing.assert_array_equal(ds["TA_QC"], [[-1, 2, -1]])
    assert ds["time"].dt.hour.values.tolist() == [1, 2, 3]


def test_hourly_file_passes_straight(write):
    columns = {"WD": [360, -9999], "NEE_VUT_REF": [1, 2], "NEE_VUT_REF_QC": [3, -9999]}
    ds = read(write(table(columns, steps=2, step=60), resolution="HR"))
    np.testing.assert_array_equal(ds["WD"], [[360, np.nan]])
    np.testing.assert_array_equal(ds["NEE"], [[1, 2]])
    np.testing.assert_array_equal(ds["NEE_QC"], [[3, 3]])  # gap-filled, but the file has no flags


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n"])
def test_spellings_of_a_text_file(write, suffix, ending):
    text = "\ufeff" + table({"TA_F": ["1", " 2", "NA", ""]}, steps=4).replace("\n", ending)
    np.testing.assert_array_equal(read(write(text, suffix=suffix))["TA"], [[1.5, np.nan]])


def test_zip_gives_the_one_file_of_the_tower(write_zip):
    other = "FLX_DE-Tha_FLUXNET2015_"
    path = write_zip(
        **{
            f"{other}ERAI_HH_1989-2014_1-4.csv": "TIMESTAMP_START,TA_ERA\n",
            f"{other}AUXMETEO_1996-1996_1-4.csv": "x\n",
            name(resolution="DD"): "TIMESTAMP,TA_F\n19960101,1\n",
            name(): table(),
        }
    )
    ds = read(path)
    np.testing.assert_array_equal(ds["TA"], [[0.5, 2.5, 4.5, 6.5]])
    assert name() in ds.attrs["source"]


def test_towers_of_different_years_and_variables(write):
    first = write(table({"TA_F": [1, 1], "TA_F_QC": [0, 0]}, steps=2), site="US-Ha1")
    later = table({"RH": [2, 2], "TA_F": [3, 3]}, start="1996-03-31 03:00", steps=2)
    second = write(later, site="AU-Tum")
    ds = open_fluxnet([first, second], metadata={"US-Ha1": THARANDT, "AU-Tum": THARANDT}).load()
    nan = np.nan
    assert ds["site"].values.tolist() == ["AU-Tum", "US-Ha1"]
    np.testing.assert_array_equal(ds["TA"], [[nan, nan, nan, 3], [1, nan, nan, nan]])
    np.testing.assert_array_equal(ds["RH"], [[nan, nan, nan, 2], [nan] * 4])
    np.testing.assert_array_equal(ds["TA_QC"], [[-1, -1, -1, 2], [0, -1, -1, -1]])


def test_licence_is_only_claimed_where_it_is_known(write):
    tier_two = read(write(site="RU-Sam"), lat=72.37, lon=126.5, utc_offset=9)
    assert tier_two.attrs["license"].endswith("Tier Two policy for RU-Sam")
    assert "license" not in read(write(file="mine.csv"), site="XX-Xyz").attrs


# Several releases of a tower

OLD = "FLX_DE-Tha_FLUXNET2015_FULLSET_HH_1996-2014_1-4.csv"
NEW = "ICOSETC_DE-Tha_FLUXNET_HH_L2.csv"
NAN = np.nan


def flagged(values, flags, code="TA", **more):
    """Create half-hourly columns from hourly values and quality flags."""
    column = VARIABLES[code].columns[0]
    columns = {column: np.repeat(values, 2), f"{column}_QC": np.repeat(flags, 2)}
    return columns | {name: np.repeat(cells, 2) for name, cells in more.items()}


@pytest.fixture
def fuse(write):
    """Fuse an old and a new release, which are given as columns and, optionally, their start."""

    def _fuse(old, new, start_of_old="1996-03-31", start_of_new="1996-03-31", **metadata):
        old, new = (
            table(columns, start=start, steps=len(next(iter(columns.values()))))
            for columns, start in ((old, start_of_old), (new, start_of_new))
        )
        return read([write(old, file=OLD), write(new, file=NEW)], site="DE-Tha", **metadata)

    return _fuse


def origin(ds, code, site=0):
    """Return the label of the release for each hour of a variable."""
    flag = ds["release"].sel(code=code)[site]
    meanings = dict(zip(flag.attrs["flag_values"], flag.attrs["flag_meanings"].split(), strict=True))
    return [meanings[value] for value in flag.values]


FROM_OLD, FROM_NEW = "FLUXNET2015_1-4", "ICOS-L2"


def test_lower_flag_wins_ties_go_to_the_newer_and_missing_never_wins(fuse):
    ds = fuse(
        flagged([1, 1, 1, 1, -9999, -9999], [0, 0, 1, 2, -9999, -9999]),
        flagged([2, 2, 2, -9999, 2, -9999], [0, 1, 0, -9999, 2, -9999]),
    )
    np.testing.assert_array_equal(ds["TA"], [[2, 1, 2, 1, 2, NAN]])
    np.testing.assert_array_equal(ds["TA_QC"], [[0, 0, 0, 2, 2, -1]])
    expected = [FROM_NEW, FROM_OLD, FROM_NEW, FROM_OLD, FROM_NEW, "missing"]
    assert origin(ds, "TA") == expected


def test_each_variable_is_fused_on_its_own(fuse):
    ds = fuse(
        flagged([1, 1], [0, 2]) | flagged([10, 10], [3, 0], "NEE") | {"WS": [4] * 4},
        flagged([2, 2], [1, 1]) | flagged([20, 20], [1, 1], "NEE") | {"RH": [5] * 4},
    )
    np.testing.assert_array_equal(ds["TA"], [[1, 2]])
    np.testing.assert_array_equal(ds["NEE"], [[20, 10]])
    assert [origin(ds, code) for code in ("TA", "NEE", "WS", "RH")] == [
        [FROM_OLD, FROM_NEW],
        [FROM_NEW, FROM_OLD],
        [FROM_OLD, FROM_OLD],
        [FROM_NEW, FROM_NEW],
    ]
    assert ds["code"].values.tolist() == [code for code in VARIABLES if code in ds]
    assert ds["TA"].attrs["source_column"] == "TA_F"


def test_structure_of_the_release_flag(fuse):
    flag = fuse(flagged([1], [0]), flagged([2], [0]))["release"]
    assert (flag.dims, flag.dtype) == (("site", "code", "time"), "int8")
    assert flag.attrs["flag_meanings"] == f"missing {FROM_OLD} {FROM_NEW}"
    assert (flag.attrs["flag_values"].tolist(), flag.attrs["flag_values"].dtype) == ([-1, 0, 1], "int8")
    assert flag.attrs["long_name"]


def test_releases_that_overlap_in_part(fuse):
    ds = fuse(flagged([1, 1, 1], [1, 1, 0]), flagged([2, 2, 2], [1, 1, 1]), start_of_new="1996-03-31 01:00")
    np.testing.assert_array_equal(ds["TA"], [[1, 2, 1, 2]])
    assert origin(ds, "TA") == [FROM_OLD, FROM_NEW, FROM_OLD, FROM_NEW]


def test_releases_of_different_years(fuse):
    ds = fuse(
        flagged([1, 1], [0, 3]),
        flagged([2], [0]),
        start_of_old="1996-12-31 22:00",
        start_of_new="1997-01-01 02:00",
    )
    np.testing.assert_array_equal(ds["TA"], [[1, 1, NAN, NAN, 2]])
    np.testing.assert_array_equal(ds["TA_QC"], [[0, 3, -1, -1, 0]])
    assert origin(ds, "TA") == [FROM_OLD, FROM_OLD, "missing", "missing", FROM_NEW]
    assert ds["time"].values[[0, -1]].astype("M8[h]").astype(str).tolist() == [
        "1996-12-31T22",
        "1997-01-01T02",
    ]


@pytest.mark.parametrize(("flags", "expected"), [([1, 0, 1], [2, 2, 2]), ([1, 1, 1], [2, 1, 2])])
def test_half_hourly_release_with_an_hourly_one(write, flags, expected):
    """A file from half past to half past contains one whole hour."""
    halves = table({"TA_F": [1] * 4, "TA_F_QC": [0] * 4}, start="1996-03-31 00:30", steps=4)
    hours = table({"TA_F": [2] * 3, "TA_F_QC": flags}, steps=3, step=60)
    newer = "AMF_DE-Tha_FLUXNET_SUBSET_HR_1996-1996_3-5.csv"
    ds = read([write(halves, file=OLD), write(hours, file=newer)], site="DE-Tha")
    np.testing.assert_array_equal(ds["TA"], [expected])
    np.testing.assert_array_equal(ds["TA_QC"], [[1, 0, 1]])


def test_flags_of_different_schemes_are_compared_as_they_are(fuse):
    ds = fuse({"TA_F": [1, 1], "TA_F_QC": [2, 2]}, {"TA_F_MDS": [2, 2], "TA_F_MDS_QC": [3, 3]})
    assert (ds["TA"].item(), ds["TA_QC"].item()) == (1, 2)
    assert ds["TA"].attrs["source_column"] == "TA_F_MDS, TA_F"
    assert "medium_quality_gapfill_or_reanalysis" in ds["TA_QC"].attrs["flag_meanings"]


def test_towers_with_one_release_beside_towers_with_several(write):
    one = table(flagged([7, 7], [0, 0], RH=[3, 3]), start="1996-03-31 01:00", steps=4)
    paths = [
        write(one, file="AMF_US-Ha1_FLUXNET_SUBSET_HH_1996-1996_3-5.csv"),
        write(table(flagged([1, 1], [0, 1]), steps=4), file=OLD),
        write(table(flagged([2, 2], [1, 0]), steps=4), file=NEW),
    ]
    ds = open_fluxnet(paths, metadata={"US-Ha1": THARANDT, "DE-Tha": THARANDT}).load()
    assert ds["release"].attrs["flag_meanings"] == f"missing {FROM_OLD} AmeriFlux-FLUXNET_3-5 {FROM_NEW}"
    np.testing.assert_array_equal(ds["TA"], [[1, 2, NAN], [NAN, 7, 7]])
    assert origin(ds, "TA", 0) == [FROM_OLD, FROM_NEW, "missing"]
    assert origin(ds, "TA", 1) == ["missing", "AmeriFlux-FLUXNET_3-5", "AmeriFlux-FLUXNET_3-5"]
    assert origin(ds, "RH", 0) == ["missing"] * 3


def test_one_release_of_each_tower_needs_no_flag(write):
    ds = open_fluxnet([write(), write(site="US-Ha1")], metadata={"US-Ha1": THARANDT, "DE-Tha": THARANDT})
    assert "release" not in ds and "code" not in ds.coords


def test_release_is_read_lazily_and_each_file_once(write, monkeypatch):
    paths = [write(table(flagged([1, 1], [0, 1]), steps=4), file=file) for file in (OLD, NEW)]
    with raise_on_compute():
        ds = open_fluxnet(paths, metadata=THARANDT | dict(site="DE-Tha"))
    assert all(array.chunks for array in ds.data_vars.values())
    opened = []
    original = values.read_columns
    monkeypatch.setattr(values, "read_columns", lambda *args: opened.append(args[0].name) or original(*args))
    ds.load()
    assert sorted(opened) == sorted([OLD, NEW])


def test_packed_subset_and_unpacked_fullset_are_one_release(write, write_zip):
    subset, fullset = name(), name(product="FULLSET")
    packed = write_zip(**{f"folder/{subset}": table({"TA_F": [1, 1]}, steps=2)})
    unpacked = write(table({"TA_F": [2, 2], "RH": [3, 3]}, steps=2), product="FULLSET")
    ds = read([packed, unpacked], site="DE-Tha")
    assert ds["TA"].item() == 2 and "release" not in ds
    assert ds.attrs["source"] == f"files {fullset}"


def test_releases_in_folders_and_archives_are_found(tmp_path, write_zip):
    write_zip(**{f"x/{OLD}": table(flagged([1], [1]), steps=2), "x/README.txt": "read me"})
    (tmp_path / "icos").mkdir()
    (tmp_path / "icos" / NEW).write_text(table(flagged([2], [0]), steps=2))
    ds = read(tmp_path, site="DE-Tha")
    assert ds["TA"].item() == 2
    assert ds.attrs["source"] == f"files {NEW}, {OLD}"
    assert ds.attrs["license"] == "CC-BY-4.0"


def icos(folder, year, values, flags):
    """Write one of the yearly releases of ICOS, which all have the same name."""
    (folder / year).mkdir()
    (folder / year / NEW).write_text(table(flagged(values, flags), steps=2 * len(values)))


@pytest.mark.parametrize(("longer", "shorter"), [("2024-1", "2023-1"), ("a", "b")])
def test_of_files_with_the_same_name_the_one_that_ends_last_is_the_newest(tmp_path, longer, shorter):
    icos(tmp_path, longer, [2, 2, 2], [0, 1, 0])
    icos(tmp_path, shorter, [1, 1], [0, 0])
    ds = read(tmp_path, site="DE-Tha")
    np.testing.assert_array_equal(ds["TA"], [[2, 1, 2]])
    assert origin(ds, "TA") == [FROM_NEW] * 3


def test_copies_are_read_once(tmp_path):
    for folder in ("a", "b"):
        icos(tmp_path, folder, [2, 2], [0, 0])
    with zipfile.ZipFile(tmp_path / "ICOSETC_DE-Tha_ARCHIVE_L2.zip", "w") as archive:
        archive.write(tmp_path / "a" / NEW, NEW)
    ds = read(tmp_path, site="DE-Tha")
    assert ds.attrs["source"] == f"files {NEW}" and "release" not in ds


def test_interim_release_adds_what_the_final_one_lacks(write):
    interim = NEW.replace("_L2", "_INTERIM_L2")
    paths = [
        write(table(flagged([1, 1, 1], [0, 0, 0]), steps=6), file=interim),
        write(table(flagged([2, 2], [0, 1]), steps=4), file=NEW),
    ]
    ds = read(paths, site="DE-Tha")
    np.testing.assert_array_equal(ds["TA"], [[2, 1, 1]])
    assert origin(ds, "TA") == ["ICOS-L2", "ICOS-L2_INTERIM", "ICOS-L2_INTERIM"]


def test_metadata_comes_from_the_archive_of_the_release(write, write_zip):
    rows = "SITE_ID,GROUP_ID,VARIABLE_GROUP,VARIABLE,DATAVALUE\n"
    values = dict(LOCATION_LAT=50.9, LOCATION_LONG=13.5, IGBP="ENF", UTC_OFFSET=1, SITE_NAME="Tharandt")
    rows += "".join(f"DE-Tha,1,GRP,{key},{value}\n" for key, value in values.items())
    path = write_zip(
        **{
            f"x/{OLD}": table(),
            "x/FLX_DE-Tha_FLUXNET2015_BIF_1996-2014.csv": rows,
            "x/FLX_DE-Tha_BIFVARINFO.csv": "not read",
        }
    )
    ds = open_fluxnet(path)
    assert (ds["lat"].item(), ds["site_name"].item()) == (50.9, "Tharandt")
    write(TABLE + "DE-Tha,50.8,13.4,380,,\n", file="site_data.csv")
    ds = open_fluxnet(path, metadata={"DE-Tha": {"lon": 13.3}})
    assert [ds[key].item() for key in ("lat", "lon", "elevation", "igbp")] == [50.8, 13.3, 380, "ENF"]


def test_terms_name_all_products(write):
    ds = read([write(file=OLD), write(file=NEW)], site="DE-Tha")
    assert ds.attrs["license"] == "CC-BY-4.0" and "s41597-020-0534-3" in ds.attrs["references"]
    mixed = read([write(file=OLD), write(file="AMF_DE-Tha_BASE_HH_2-5.csv")], site="DE-Tha")
    assert "license" not in mixed.attrs  # each team of AmeriFlux has its own


def test_uncertainties_are_read_on_request(write):
    columns = flagged([1, 2], [0, 1], "NEE", NEE_VUT_REF_RANDUNC=[3, 4], NEE_VUT_05=[5, 6], NEE_VUT_95=[7, 8])
    path = write(table(columns, steps=4))
    assert set(read(path)) == {"NEE", "NEE_QC"}
    ds = open_fluxnet(path, metadata=THARANDT, uncertainty=True).load()
    assert {"NEE_RANDUNC", "NEE_VUT_05", "NEE_VUT_95"} < set(ds)
    # Each value stands in two half-hours; the mean of independent halves has a smaller error.
    np.testing.assert_allclose(ds["NEE_RANDUNC"], np.array([[3, 4]]) / 2**0.5, rtol=1e-6)
    np.testing.assert_array_equal(ds["NEE_RANDUNC_QC"], [[0, 1]])
    assert ds["NEE_RANDUNC"].attrs["standard_name"].endswith("standard_error")


def tower_at(*paths):
    """Survey the releases of a tower."""
    releases = newest_first(recognise(Source(str(path))) for path in paths)
    (tower,) = group_towers(survey(release) for release in releases)
    return tower


def test_audit_counts_the_hours_of_each_release(write):
    old = write(table(flagged([1, 1, 1], [0, 2, 2], TA=[-9999, -9999, 5]), steps=6), file=OLD)
    new = write(table(flagged([2, 3], [1, 1]), steps=4), file=NEW)
    tower = tower_at(old, new)
    series = read_tower(tower, np.datetime64("1996-03-31T00"), 4, labels([tower]))
    np.testing.assert_array_equal(series.arrays["TA"], [1, 3, 5, NAN])
    np.testing.assert_array_equal(series.arrays["TA_release"], [0, 1, 0, -1])
    assert series.audit == [
        {
            "release": "ICOS-L2",
            "file": str(new),
            "first_hour": "1996-03-31T00",
            "hours": 2,
            "columns": {"TA": {"TA_F": 2}},
            "kept": {"TA": 1},
            "beyond_limits": {},
            "equal_halves": None,  # nothing was measured
        },
        {
            "release": "FLUXNET2015_1-4",
            "file": str(old),
            "first_hour": "1996-03-31T00",
            "hours": 3,
            "columns": {"TA": {"TA_F": 2, "TA": 1}},
            "kept": {"TA": 2},
            "beyond_limits": {},
            "equal_halves": 1.0,
        },
    ]


def test_releases_that_could_not_be_read_are_left_out_of_the_fusion(write):
    paths = [write(table(flagged([value], [0]), steps=2), file=file) for value, file in ((1, OLD), (2, NEW))]
    tower = tower_at(*paths)
    kept = tower.records[1:]
    series = fuse_records(kept, map(read_hours, kept), np.datetime64("1996-03-31T00"), 1, labels([tower]))
    assert series.arrays["TA"].tolist() == [1]
    assert series.arrays["TA_release"].tolist() == [labels([tower]).index("FLUXNET2015_1-4")]


@pytest.mark.parametrize("product", ["AmeriFlux-BASE", "FLUXNET-CH4", "ICOS-L2", "FLUXNET"])
def test_synthetic_tower_in_two_products_is_fused(towers, product, tmp_path):
    ds = towers[["TA", "TA_QC", "NEE", "NEE_QC", "FCH4", "RH"]].isel(site=[1], time=slice(480)).load()
    site = str(ds.site.values[0])
    write_release(ds, site, tmp_path)
    write_release(ds, site, tmp_path, product)
    found = read(tmp_path, site=site)
    for code in ("TA", "NEE", "RH"):
        np.testing.assert_allclose(found[code], ds[code], rtol=1e-5, err_msg=code)
    for code in ("TA_QC", "NEE_QC"):
        np.testing.assert_array_equal(found[code], ds[code], code)
    newer = "FLUXNET2015" if product == "AmeriFlux-BASE" else product
    measured = (ds["NEE_QC"] == 0).values[0]
    assert 0 < measured.mean() < 1
    assert all(label.startswith(newer) for label in np.array(origin(found, "NEE"))[measured])
    # Values that one product lacks are taken from the other one.
    assert ("FCH4" in found) == (product in ("AmeriFlux-BASE", "FLUXNET-CH4"))


# Laziness


def test_nothing_is_computed_at_opening_and_the_file_is_read_once(write, monkeypatch):
    columns = {"TA_F": range(8), "TA_F_QC": [0] * 8, "RH": range(8), "P_F": range(8)}
    path = write(table(columns, steps=8))
    calls = []
    for module in (timestamps, values):
        monkeypatch.setattr(
            module,
            "read_columns",
            lambda *args, original=module.read_columns: calls.append(list(args[1])) or original(*args),
        )
    with raise_on_compute():
        ds = open_fluxnet(path, metadata=THARANDT)
    assert calls == [["TIMESTAMP_START"]]
    assert all(array.chunks for array in ds.data_vars.values())
    ds.load()
    assert calls[1:] == [["TIMESTAMP_START", "P_F", "RH", "TA_F", "TA_F_QC"]]


def test_text_in_a_number_column_is_named_when_it_is_read(write):
    text = table({"TA_F": [1, 2, 3, 4], "RH": [1, 2, "wet", 4]}, steps=4)
    path = write(text)
    ds = open_fluxnet(path, metadata=THARANDT)
    with pytest.raises(FileFormatError) as caught:
        ds["TA"].load()
    assert str(caught.value) == (
        f"{path}, line 4, column RH: 'wet' is not a number; missing values are empty cells, NaN, NA or -9999"
    )


def test_text_where_nothing_is_read_does_no_harm(write):
    text = table({"TA_F": [1, 3], "METHOD": ["ustar", "none"]}, steps=2)
    assert read(write(text))["TA"].item() == 2


def test_quality_flags_may_be_written_as_decimals(write):
    ds = read(write(table({"TA_F": [1, 3], "TA_F_QC": ["0.0", "1.0"]}, steps=2)))
    assert ds["TA_QC"].item() == 1


@pytest.mark.parametrize("flag", [0.5, 4, -1, 300])
def test_invalid_quality_flag_is_named(write, flag):
    path = write(table({"TA_F": [1, 3], "TA_F_QC": [0, flag]}, steps=2))
    with pytest.raises(FileFormatError, match=r"line 3, column TA_F_QC: .* is not a quality flag"):
        read(path)


def test_changed_file_is_refused(write):
    ds = open_fluxnet(write(table(steps=8)), metadata=THARANDT)
    write(table(steps=4, columns={"TA_F": range(4)}))
    with pytest.raises(FileFormatError, match=r"had 8 rows from .* when it was opened, but it now has 4"):
        ds.load()


def test_values_are_read_by_another_process_in_another_folder(write, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    ds = open_fluxnet(Path(write().name), metadata=THARANDT)
    monkeypatch.chdir("/")
    with dask.config.set(scheduler="processes", num_workers=1):
        np.testing.assert_array_equal(ds["TA"].values, [[0.5, 2.5, 4.5, 6.5]])


# Invalid files


@pytest.mark.parametrize("resolution", ["DD", "WW", "MM", "YY"])
def test_coarser_file_is_refused_by_its_name(write, resolution):
    with pytest.raises(FileFormatError, match=rf"daily or coarser \({resolution}\)"):
        read(write(resolution=resolution))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", FileFormatError, "the file is empty"),
        ("TIMESTAMP_START,TA_F\n", FileFormatError, "the file has 0 rows"),
        ("TIMESTAMP_START,TA_F\n199601010000,1\n", FileFormatError, "the file has 1 rows"),
        ("TIMESTAMP_END,TA_F\n199601010000,1\n", TimestampError, "no column TIMESTAMP_START"),
        ("TIMESTAMP,TA_F\n19960101,1\n", FileFormatError, r"daily or coarser \(TIMESTAMP\)"),
        (
            "TIMESTAMP_START,TA_F\n19960101,1\n19960108,1\n",
            TimestampError,
            "line 2: TIMESTAMP_START 19960101 is daily or coarser",
        ),
        (
            "TIMESTAMP_START,TA_F\n199601010000,1\n199601010060,1\n",
            TimestampError,
            "line 3: TIMESTAMP_START 199601010060 is not YYYYMMDDHHMM",
        ),
        (
            "TIMESTAMP_START,TA_F\n1.99601E+11,1\n1.99601E+11,1\n",
            TimestampError,
            r"line 2, column TIMESTAMP_START: '1.99601E\+11' is not YYYYMMDDHHMM: .* looks like 2010",
        ),
        (
            "TIMESTAMP_START,TA_F\n199601010000,1\n\n199601010030\n",
            FileFormatError,
            "line 4: the line has 1 cells, but the header has 2 columns",
        ),
        ("TIMESTAMP_START,TA_F,TA_F\n199601010000,1,2\n", FileFormatError, r"columns \['TA_F'\] more than"),
        ("date;temperature\n1996-01-01;1\n", FileFormatError, "not a FLUXNET file"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", FileFormatError, "not a FLUXNET file"),
    ],
)
def test_wrong_file_is_named(write, text, error, message):
    path = write(text)
    with pytest.raises(error, match=message) as caught:
        open_fluxnet(path, metadata=THARANDT)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: data[:-4]])
def test_truncated_gzip(write, damage):
    text = table({"TA_F": range(2000)}, steps=2000)
    path = write(text, suffix=".csv.gz")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FileFormatError, match="truncated or damaged") as caught:
        open_fluxnet(path, metadata=THARANDT)
    assert str(path) in str(caught.value)


def test_plain_text_named_gz(write):
    path = write(suffix=".csv.gz")
    path.write_text(table())
    with pytest.raises(FileFormatError, match="truncated or damaged"):
        open_fluxnet(path, metadata=THARANDT)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:100],
        lambda data: data[: len(data) // 2] + b"damage" + data[len(data) // 2 + 6 :],
    ],
)
def test_damaged_zip(write_zip, damage):
    path = write_zip(**{name(): table({"TA_F": range(3000)}, steps=3000)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FileFormatError, match="truncated") as caught:
        open_fluxnet(path, metadata=THARANDT)
    assert str(path) in str(caught.value)


def test_zip_without_or_with_two_files(write_zip):
    with pytest.raises(FileFormatError, match=f"no half-hourly.*{name(resolution='DD')}"):
        read(write_zip(**{name(resolution="DD"): "x"}))
    both = read(write_zip(**{name(): table(), name(product="FULLSET"): table()}))
    assert both.attrs["source"] == f"files {name(product='FULLSET')}"


def test_absent_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        open_fluxnet(tmp_path / "absent.csv")
    with pytest.raises(FileNotFoundError, match="empty"):
        open_fluxnet([])


def test_flags_of_different_schemes_have_a_common_scheme(write):
    one = write(table({"TA_F": [1, 1], "TA_F_QC": [2, 2]}, steps=2))
    other = table({"TA_F_MDS": [1, 1], "TA_F_MDS_QC": [2, 2]}, steps=2)
    paths = [one, write(other, site="US-Ha1")]
    ds = open_fluxnet(paths, metadata={"DE-Tha": THARANDT, "US-Ha1": THARANDT})
    assert "medium_quality_gapfill_or_reanalysis" in ds["TA_QC"].attrs["flag_meanings"]


# Folders as they are downloaded


@pytest.fixture
def downloads(towers, tmp_path):
    """Create a folder with two towers in three products, their tables, and what else is downloaded."""
    folder = tmp_path / "raw"
    ds = towers[["TA", "TA_QC", "NEE", "NEE_QC"]].isel(time=slice(480)).load()
    one, two = ds.site.values[:2]
    (folder / "ameriflux").mkdir(parents=True)
    write_release(ds, one, folder, "FLUXNET2015_FULLSET")
    hourly = write_release(ds, one, folder, "ICOS-L2")
    write_release(ds, two, folder / "ameriflux", "AmeriFlux-BASE")
    hourly.with_name(hourly.name.replace("_HR_", "_DD_").replace("_HH_", "_DD_")).write_text(
        "TIMESTAMP,TA_F\n"
    )
    for name in (".DS_Store", "README.txt", "ICOSETC_VARINFO_L2.csv", "MCD43A4.061_500m_aid0001.nc"):
        (folder / name).write_bytes(b"\x00")
    (folder / "site_data.csv").write_text(TABLE + f"{one},50.9,13.5,380,ENF,1\n{two},51,13,9,GRA,1\n")
    return folder


def test_folder_of_downloads_opens_and_logs_what_is_passed_over(downloads, caplog):
    with caplog.at_level("INFO", "xcarbon"):
        ds = open_fluxnet(downloads)
    assert ds.sizes["site"] == 2 and ds["igbp"].values.tolist() == ["ENF", "GRA"]
    (record,) = caplog.records
    for text in (
        "passed over 5 files",
        "daily or coarser (1)",
        "hidden",
        "document (1)",
        "image",
        "auxiliary",
    ):
        assert text in record.getMessage()


def test_unexpected_files_in_a_folder_are_warned_about_once(downloads):
    (path,) = (downloads / "ameriflux").glob("*.csv")
    path.write_bytes(path.read_bytes()[:-100])
    (downloads / "mine.csv").write_text("a,b\n1,2\n")
    (downloads / "cut.zip").write_bytes(b"PK")
    with pytest.warns(UserWarning) as caught:
        ds = open_fluxnet(downloads)
    assert ds.sizes["site"] == 1
    (warning,) = caught
    for text in (
        "passed over 8 files",
        "damaged, or .* (2)",
        "mine.csv: table whose name",
        path.name,
        "cut.zip",
    ):
        assert text.replace(".*", "not as their names state") in str(warning.message)
    assert warning.filename == __file__
    with pytest.raises(FileFormatError, match="cells"):  # a file that is named must be readable
        open_fluxnet([downloads, path])


def test_folder_without_a_tower_is_an_error_with_reasons(tmp_path):
    (tmp_path / name(resolution="DD")).touch()
    with pytest.raises(FileNotFoundError, match=r"no half-hourly \(HH\) .*1-4.csv: daily or coarser"):
        open_fluxnet(tmp_path)


def test_files_with_any_names_belong_to_the_site_that_is_given(write, tmp_path):
    paths = [
        write(table({"TA_F": [1, 1]}, steps=2), file="y1.csv"),
        write(table({"TA_F": [2, 2]}, start="1996-03-31 01:00", steps=2), file="y2.txt"),
    ]
    (tmp_path / "README.txt").write_text("x")
    for given in (paths, tmp_path):
        np.testing.assert_array_equal(read(given, site="DE-Tha")["TA"], [[1, 2]])
    with pytest.raises(MetadataError, match=r"y1.csv: the file name does not contain the tower"):
        read(paths)


def test_other_tables_of_a_tower_are_not_read_beside_a_release(write, tmp_path):
    write(table({"TA_F": [1, 1], "TA_F_QC": [1, 1]}, steps=2), file=NEW)
    write(table({"TA_F": [7, 7], "TA_F_QC": [0, 0]}, steps=2), file="mine.csv")
    with pytest.warns(UserWarning, match="mine.csv: table whose name contains no tower"):
        assert read(tmp_path, site="DE-Tha")["TA"].item() == 1


def test_wrong_table_beside_a_file_does_no_harm_to_complete_metadata(write):
    path = write()
    write("not;a;table\n", file="FLX_AA-Flx_BIF_LATEST.csv")
    with pytest.warns(UserWarning, match="passed over 1 files: damaged"):
        assert read(path)["lat"].item() == THARANDT["lat"]
    with pytest.raises(
        MetadataError, match=r"DE-Tha lacks lon and igbp; .*BIF_LATEST.csv: .* neither a table"
    ):
        open_fluxnet(path, metadata={"DE-Tha": {"lat": 50.9}})
    bif = "SITE_ID;GROUP_ID;VARIABLE_GROUP;VARIABLE;DATAVALUE\nDE-Tha;1;GRP;SITE_NAME;Forêt\n"
    write(bif.encode("mac_roman"), file="FLX_AA-Flx_BIF_LATEST.csv")
    with pytest.warns(UserWarning, match="read as mac_roman"):
        assert read(path)["site_name"].item() == "Forêt"


def test_complete_second_copy_is_read_beside_an_incomplete_one(write, tmp_path):
    text = table({"TA_F": range(4)}, steps=4)
    write(text[:-14])
    write(text, file=name(suffix=" (1).csv"))
    write(text, file=name(suffix=" (2).csv"))
    with pytest.warns(UserWarning, match=r"passed over 2 files: .*damaged.* \(1\)"):
        np.testing.assert_array_equal(read(tmp_path)["TA"], [[0.5, 2.5]])


def test_files_with_years_but_no_network_are_no_copies(tmp_path):
    for folder, start in (("a", "1996-03-31"), ("b", "1996-03-31 01:00")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "2010-1.csv").write_text(table({"TA_F": [1, 1]}, start=start, steps=2))
    assert read(tmp_path, site="DE-Tha").sizes["time"] == 2


def test_archives_in_archives_and_second_copies(write, tmp_path):
    path = write(table({"TA_F": [2, 4]}, steps=2), file=name(suffix=" (1).CSV"))
    folder = tmp_path / "zips"
    folder.mkdir()
    with zipfile.ZipFile(tmp_path / "inner.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, f"x/{name()}")
        archive.writestr("site_data.csv", TABLE + "DE-Tha,50.8,13.4,380,ENF,1\n")
    with zipfile.ZipFile(folder / "Download.ZIP", "w") as archive:
        archive.write(tmp_path / "inner.zip", "inner.zip")
    for given in (path, folder, folder / "Download.ZIP"):
        assert read(given)["TA"].item() == 3
    assert open_fluxnet(folder)["lat"].item() == 50.8


# Time stamps

REGULAR = [f"19960331{hour:02}{minute:02}" for hour in range(5) for minute in (0, 30)]


def stamped(stamps):
    return "TIMESTAMP_START,TA_F\n" + "".join(f"{stamp},1\n" for stamp in stamps)


@pytest.mark.parametrize(
    ("stamps", "message"),
    [
        (REGULAR[:3] + REGULAR[2:], "line 5: TIMESTAMP_START 199603310100 repeats 199603310100"),
        (
            [*REGULAR[:3], REGULAR[4], REGULAR[3]],
            "line 5: TIMESTAMP_START 199603310200 leaves a gap after 199603310100",
        ),
        (
            [*REGULAR[:4], REGULAR[0]],
            "line 6: TIMESTAMP_START 199603310000 is earlier than 199603310130",
        ),
        (
            ["199603310000", "199603310010", "199603310020"],
            "line 3: TIMESTAMP_START 199603310010 leaves a gap after 199603310000",
        ),
        (["199603310015", "199603310045"], "199603310015 is not the start of a clock half-hour"),
        (["199603310030", "199603310130"], "199603310030 is not the start of a clock hour"),
    ],
)
def test_wrong_stamps_are_named(write, stamps, message):
    with pytest.raises(TimestampError, match=message) as caught:
        read(write(stamped(stamps)))
    assert "daylight" not in str(caught.value)


@pytest.mark.parametrize(
    "stamps",
    [
        REGULAR[:4] + REGULAR[6:],  # 02:00 and 02:30 are absent
        ["199610270130", "199610270200", "199610270230", "199610270200"],
        ["199603310000", "199603310100", "199603310300"],
        ["199610270100", "199610270200", "199610270200"],
    ],
)
def test_daylight_saving_time_is_recognised(write, stamps):
    with pytest.raises(TimestampError, match=r"daylight saving time.*local standard time"):
        read(write(stamped(stamps)))


def test_leap_days_and_centuries_are_regular(write):
    for start in ("1996-02-28", "2000-02-28", "1999-12-31"):
        ds = read(write(table({"TA_F": range(200)}, start=start, steps=200)))
        np.testing.assert_array_equal(ds["time"], pd.date_range(start, periods=100, freq="h").to_numpy())


# Metadata

TABLE = "SITE_ID,LOCATION_LAT,LOCATION_LON,LOCATION_ELEV,IGBP,UTC_OFFSET\n"


def test_metadata_beside_the_file(write):
    path = write()
    write(TABLE + "DE-Tha,50.96,13.57,,ENF,1\nAU-Tum,1,2,3,GRA,4\n", file="site_data.csv")
    bif = "SITE_ID;GROUP_ID;VARIABLE_GROUP;VARIABLE;DATAVALUE\n"
    rows = "DE-Tha;1;GRP_LOCATION;LOCATION_ELEV;380\nDE-Tha;1;GRP_LOCATION;LOCATION_LAT;0\n"
    write(bif + rows + "DE-Tha;2;GRP_HEADER;SITE_NAME;Tharandt\n", file="FLX_AA-Flx_BIF_LATEST.csv")
    ds = open_fluxnet(path)
    assert (ds["lat"].item(), ds["elevation"].item(), ds["utc_offset"].item()) == (50.96, 380, 1)
    assert ds["site_name"].item() == "Tharandt" and "doi" not in ds.coords
    given = open_fluxnet(path, metadata=dict(utc_offset=2, elevation=None))
    assert (given["utc_offset"].item(), given["elevation"].item()) == (2, 380)


@pytest.mark.parametrize("form", ["path", "fields", "by site", "SiteMetadata", "SiteMetadata by site"])
def test_forms_of_metadata(write, form):
    path = write()
    metadata = {
        "path": write(TABLE + "DE-Tha,50.9636,13.5669,380,ENF,1\n", file="elsewhere.csv"),
        "fields": THARANDT | dict(site="DE-Tha"),
        "by site": {"DE-Tha": THARANDT, "AU-Tum": {}},
        "SiteMetadata": SiteMetadata("DE-Tha", **THARANDT),
        "SiteMetadata by site": {"DE-Tha": SiteMetadata("DE-Tha", **THARANDT)},
    }[form]
    ds = open_fluxnet(path, metadata=metadata)
    assert {key: ds[key].item() for key in THARANDT} == THARANDT


def test_unknown_is_missing(write):
    ds = read(write(), elevation=None, utc_offset="")
    assert np.isnan(ds["elevation"].item()) and np.isnan(ds["utc_offset"].item())


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "DE-Tha lacks lat and lon and igbp"),
        (dict(igbp="ENF"), "DE-Tha lacks lat and lon"),
        (THARANDT | dict(igbp="WOOD"), "unknown IGBP class 'WOOD'"),
        (THARANDT | dict(lat=-121.6, lon=44.3), "look swapped"),
        (THARANDT | dict(lat=13.5669, lon=50.9636), "look swapped"),
        (THARANDT | dict(site="US-Ha1"), r"metadata is for \['US-Ha1'\], but .* from \['DE-Tha'\]"),
    ],
)
def test_wrong_metadata_is_named(write, metadata, message):
    with pytest.raises(MetadataError, match=message):
        open_fluxnet(write(), metadata=metadata)


def test_error_in_metadata_names_the_file(write):
    path = write()
    with pytest.raises(MetadataError) as caught:
        open_fluxnet(path)
    assert str(path) in str(caught.value)


def test_file_name_without_a_tower_needs_metadata(write):
    path = write(file="tharandt.csv")
    with pytest.raises(MetadataError, match="does not contain the tower"):
        open_fluxnet(path, metadata=THARANDT)
    assert read(path, site="DE-Tha")["site"].item() == "DE-Tha"


def test_fields_of_one_tower_do_not_fit_several_files(write):
    with pytest.raises(MetadataError, match="but the files are from"):
        open_fluxnet([write(), write(site="US-Ha1")], metadata=THARANDT)


def test_tables_in_memory_and_patterns_are_refused_with_advice(tmp_path):
    frame = pd.DataFrame({"TA": [1.0]}, index=pd.DatetimeIndex(["2010-06-01"], name="time"))
    for table in (frame, frame.to_xarray()):
        with pytest.raises(OptionError, match=r"reads files, but found a Data.*ds.carbon.standardize\(\)"):
            open_fluxnet(table)
    with pytest.raises(FileNotFoundError, match="pass the files that the pattern matches"):
        open_fluxnet(str(tmp_path / "*.csv"))
