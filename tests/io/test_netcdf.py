"""Tests of writing towers to NetCDF and opening them: values, UTC offsets, chunks and failures."""

from __future__ import annotations

import itertools

import netCDF4
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from xarray.backends.netCDF4_ import NetCDF4ArrayWrapper

from xcarbon import open_fluxnet
from xcarbon.core import conventions
from xcarbon.core.errors import FileFormatError, MetadataError, StoreError, TimestampError
from xcarbon.io.netcdf import open_netcdf, write_netcdf, write_sites
from xcarbon.io.store import open_store, to_store
from xcarbon.testing import raise_on_compute, synthetic_towers

PACKING_ERROR = 0.5e-4 + 1e-6  # of reflectance, int16 times 0.0001
HOUR = np.timedelta64(1, "h")
OFFSETS = np.array([9.5, -3.5, np.nan], "float32")


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    """Return three towers with gaps and unusual UTC offsets; the third is shorter and has no patch."""
    ds = synthetic_towers(3, seed=4, variables=["TA", "P", "G", "NEE", "GPP_NT", "SWC_1"])
    ds = ds.isel(time=slice(2000), day=slice(84)).compute()
    for name in ds.data_vars:
        missing = -1 if ds[name].dtype == np.int8 else np.nan
        if "time" in ds[name].dims:
            ds[name][2, :700] = missing
            ds[name][1, 1800:] = missing
        elif "day" in ds[name].dims:
            ds[name][2] = missing
    ds["G"][1], ds["G_QC"][1] = np.nan, -1
    ds["elevation"][0] = np.nan
    ds["utc_offset"][:] = OFFSETS
    ds["TA"].attrs["source_column"] = "TA_F"
    return conventions.apply(ds.assign_coords(citation=("site", ["Müller et al. (2020), 東京", "", "A & B"])))


@pytest.fixture(scope="module")
def path(ds, tmp_path_factory):
    return write_netcdf(ds.chunk(site=1), tmp_path_factory.mktemp("one") / "towers.nc")


@pytest.fixture(scope="module")
def paths(ds, tmp_path_factory):
    return write_sites(ds.chunk(site=1), tmp_path_factory.mktemp("many"))


def on_hours_of(found: xr.Dataset, expected: xr.Dataset) -> xr.Dataset:
    """Add the hours in which no tower has a value."""
    missing = {name: -1 if array.dtype == np.int8 else np.nan for name, array in found.data_vars.items()}
    return conventions.apply(found.reindex(time=expected["time"], fill_value=missing))


def assert_same(found: xr.Dataset, expected: xr.Dataset) -> None:
    """Compare everything: values, labels, types and attributes, in any order."""
    found, expected = (part.compute().transpose(*expected.dims) for part in (found, expected))
    for name, array in expected.variables.items():
        assert found[name].dtype == array.dtype or found[name].dtype.kind == array.dtype.kind == "U"
    assert found.attrs.keys() - {"history"} == expected.attrs.keys() - {"history"}
    found, expected = found.assign_attrs(history=""), expected.assign_attrs(history="")
    if "reflectance" in expected:
        np.testing.assert_allclose(found["reflectance"], expected["reflectance"], rtol=0, atol=PACKING_ERROR)
        found["reflectance"] = found["reflectance"].copy(data=expected["reflectance"])
    xr.testing.assert_identical(found, expected)


def change(source, target, edit) -> None:
    """Copy a NetCDF file and change the copy without xarray."""
    target.write_bytes(source.read_bytes())
    with netCDF4.Dataset(target, "a") as file:
        edit(file)


# Round trips


def test_one_file_gives_back_all_towers(ds, path):
    assert_same(open_netcdf(path), ds)


def test_files_of_single_towers_give_back_all_towers(ds, paths):
    assert [path.name for path in paths] == ["SY-001.nc", "SY-002.nc", "SY-003.nc"]
    assert_same(on_hours_of(open_netcdf(reversed(paths)), ds), ds)


def test_one_tower_comes_back_alone(ds, paths):
    found = open_netcdf(paths[2])
    assert found["time"].values[0] == ds["time"].values[700]
    assert_same(found, ds.isel(site=[2], time=slice(700, None)))


def test_towers_go_from_store_to_files_and_back(ds, paths, tmp_path):
    store = to_store(open_netcdf(paths), tmp_path / "towers.zarr")
    again = write_netcdf(open_store(store), tmp_path / "towers.nc")
    found = open_netcdf(again)
    assert_same(on_hours_of(found, ds), ds)
    history = found.attrs["history"]
    assert [history.count(by) for by in ("write_sites", "to_store", "write_netcdf")] == [1, 1, 1]


def test_file_that_xarray_wrote_opens(ds, tmp_path):
    ds.to_netcdf(tmp_path / "towers.nc")
    assert_same(open_netcdf(tmp_path / "towers.nc"), ds)


@settings(max_examples=12)
@given(data=st.data())
def test_any_clock_and_any_gap_come_back(tmp_path_factory, data):
    hours, n_sites = data.draw(st.integers(2, 60)), data.draw(st.integers(1, 3))
    quarters = st.integers(-12 * 4, 14 * 4).map(lambda quarter: quarter / 4)
    values = np.full((n_sites, hours), np.nan, "float32")
    for row in values:
        there = data.draw(st.sets(st.integers(0, hours - 1), min_size=1))
        row[list(there)] = np.arange(len(there))
    start = np.datetime64("2019-12-31T20", "ns")
    expected = conventions.apply(
        xr.Dataset(
            {
                "NEE": (("site", "time"), values),
                "NEE_QC": (("site", "time"), np.where(np.isnan(values), -1, 0).astype("int8")),
            },
            coords={
                "site": [f"SY-{number}" for number in range(n_sites)],
                "time": start + HOUR * np.arange(hours),
                "utc_offset": ("site", [data.draw(quarters | st.just(np.nan)) for _ in range(n_sites)]),
            },
        )
    )
    folder = tmp_path_factory.mktemp("clocks")
    assert_same(on_hours_of(open_netcdf(write_sites(expected, folder)), expected), expected)
    assert_same(open_netcdf(write_netcdf(expected, folder / "all.nc")), expected)


def test_real_towers_come_back_with_their_half_hour_and_unknown_clocks(real_towers, tmp_path):
    expected = real_towers.sel(site=["AU-DaS", "DE-Tha", "US-ARc"], time=slice("2005", "2008")).load()
    assert expected["utc_offset"].values[0] == 9.5
    assert np.isnan(expected["utc_offset"].values[2])
    assert_same(on_hours_of(open_netcdf(write_sites(expected, tmp_path)), expected), expected)
    assert_same(open_netcdf(write_netcdf(expected, tmp_path / "all.nc")), expected)


def test_real_csv_file_comes_back(real_data, tmp_path):
    tower = open_fluxnet(real_data / "raw" / "FLX_US-Wi2_FLUXNET2015_SUBSET_HH_2003-2003.csv.gz")
    expected = tower.load()
    assert_same(on_hours_of(open_netcdf(write_sites(tower, tmp_path)), expected), expected)


# Content of the files


def test_time_of_a_tower_is_utc_to_the_minute(ds, paths):
    for file, offset in zip(paths[:2], OFFSETS[:2], strict=True):
        with xr.open_dataset(file) as raw:
            assert raw["time"].attrs["long_name"] == "start of the averaging hour in UTC"
            assert raw.attrs["featureType"] == "timeSeries"
            assert raw["TA"].dims == ("time",)
            assert raw["site"].ndim == raw["lat"].ndim == raw["utc_offset"].ndim == 0
            local = raw["time"] + np.timedelta64(int(offset * 60), "m")
            there = ds["TA"].sel(site=raw["site"].item(), time=local.values)
            np.testing.assert_array_equal(raw["TA"], there)
            np.testing.assert_array_equal(raw["time_bnds"][:, 0], raw["time"])


def test_time_of_a_tower_whose_clock_is_unknown_stays_local_and_says_so(ds, paths):
    with xr.open_dataset(paths[2]) as raw:
        assert raw["time"].attrs["long_name"] == "start of the averaging hour in local standard time"
        assert "unknown" in raw["time"].attrs["comment"]
        assert raw["time"].values[0] == ds["time"].values[700]


def test_files_are_compressed_in_chunks_of_a_tower_and_a_year(path, paths):
    with netCDF4.Dataset(path) as file:
        assert file["NEE"].chunking() == [1, 2000]
        assert file["reflectance"].chunking() == [1, 84, 7, 8, 8]
        assert file["reflectance"].dtype == np.int16
        assert file["NEE_QC"].dtype == np.int8
        assert all(
            file[name].filters()["complevel"] == 4 for name in ("NEE", "NEE_QC", "reflectance", "time")
        )
    with netCDF4.Dataset(paths[0]) as file:
        assert file["NEE"].chunking() == [2000]
        assert file["reflectance"].filters()["zlib"]


def test_both_kinds_of_file_are_cf(path, paths, findings):
    for file in (path, paths[0], paths[2]):
        with xr.open_dataset(file, decode_cf=False) as raw:  # the attributes as they are in the file
            for array in raw.variables.values():
                array.encoding["_FillValue"] = None  # otherwise xarray adds one
            assert findings(raw) == []


def test_tower_without_any_value_is_not_lost(ds, tmp_path):
    empty = ds[["TA"]].isel(site=[0]).where(False)
    (file,) = write_sites(empty, tmp_path)
    found = open_netcdf(file)
    assert (found.sizes["site"], found.sizes["time"]) == (1, 1)


# Laziness and memory


def test_opening_reads_coordinates_alone(path, paths, monkeypatch):
    read, get = set(), NetCDF4ArrayWrapper._getitem
    monkeypatch.setattr(
        NetCDF4ArrayWrapper, "_getitem", lambda self, key: read.add(self.variable_name) or get(self, key)
    )
    for files in (path, paths):
        with raise_on_compute():
            found = open_netcdf(files)
        assert "igbp" in read
        assert not read & set(found.data_vars)
        assert all(array.chunks for array in found.data_vars.values())
        assert not any(coordinate.chunks for coordinate in found.coords.values())
    found["TA"].load()
    assert read & set(found.data_vars) == {"TA"}


def test_chunks_are_a_tower(tmp_path):
    ds = synthetic_towers(2, years=2, patches=False, variables=["TA"])
    chunks = ((1, 1), (17520,))
    assert open_netcdf(write_netcdf(ds, tmp_path / "all.nc"))["TA"].chunks == chunks
    later = ds.isel(site=[1]).assign_coords(time=ds["time"] + 5000 * HOUR)
    write_sites(ds.isel(site=[0]), tmp_path)
    write_sites(later, tmp_path)
    found = open_netcdf(tmp_path / f"{site}.nc" for site in ds["site"].values)
    assert found["TA"].chunks == ((1, 1), (22520,))
    assert found["TA"].sel(site="SY-002")[:5000].isnull().all()


def test_towers_are_written_one_after_the_other(ds, tmp_path):
    alive, most = itertools.count(), []

    def watch(block: np.ndarray) -> np.ndarray:
        most.append(next(alive) - sum(file.suffix == ".nc" for file in tmp_path.iterdir()))
        return block

    chunked = ds[["TA"]].chunk(site=1)
    chunked["TA"] = chunked["TA"].copy(
        data=chunked["TA"].data.map_blocks(watch, meta=chunked["TA"].data._meta)
    )
    write_sites(chunked, tmp_path)
    assert most == [0, 0, 0]  # each tower is computed after the earlier ones are written


# Different files


def test_variables_that_a_file_lacks_are_missing(ds, tmp_path):
    one = write_sites(ds.isel(site=[0]).drop_vars(["reflectance", "snow", "water", "P", "P_QC"]), tmp_path)
    other = write_sites(ds.isel(site=[1]).drop_vars(["G", "G_QC", "citation"]), tmp_path)
    found = open_netcdf([*other, *one]).compute()
    assert found["reflectance"].sel(site="SY-001").isnull().all()
    assert (found["snow"].sel(site="SY-001") == -1).all()
    assert found["P"].sel(site="SY-001").isnull().all()
    assert (found["P_QC"].sel(site="SY-001") == -1).all()
    assert found["citation"].values.tolist() == ["Müller et al. (2020), 東京", ""]
    assert {found[name].dtype for name in ("P_QC", "G_QC", "snow", "water")} == {np.dtype("int8")}
    assert {found[name].dtype for name in ("P", "G", "reflectance")} == {np.dtype("float32")}
    assert "spatial_ref" in found.coords
    np.testing.assert_array_equal(
        found["P"].sel(site="SY-002").dropna("time"), ds["P"].sel(site="SY-002").dropna("time")
    )


def test_days_of_patches_are_united(ds, tmp_path):
    early, late = ds.isel(site=[0], day=slice(50)), ds.isel(site=[1], day=slice(30, None))
    found = open_netcdf([*write_sites(early, tmp_path), *write_sites(late, tmp_path)])
    assert found["day"].equals(ds["day"])
    assert found["snow"].dtype == np.int8
    assert (found["snow"][0, 50:] == -1).all()
    np.testing.assert_array_equal(found["snow"][1, 30:], ds["snow"][1, 30:])


def test_texts_that_differ_are_joined(ds, tmp_path):
    one, other = ds[["TA"]].isel(site=[0]).copy(), ds[["TA"]].isel(site=[1]).copy()
    other.attrs["license"] = "CC-BY-4.0"
    other["TA"].attrs["source_column"] = "TA_F_MDS"
    found = open_netcdf([*write_sites(one, tmp_path), *write_sites(other, tmp_path)])
    assert found.attrs["license"] == f"{ds.attrs['license']}; CC-BY-4.0"
    assert found["TA"].attrs["source_column"] == "TA_F; TA_F_MDS"


def test_files_that_contradict_each_other_are_an_error(ds, paths, tmp_path):
    with pytest.raises(FileFormatError, match=r"SY-001.nc and .*SY-001.nc both contain the tower SY-001"):
        open_netcdf([paths[0], paths[1], paths[0]])
    change(
        paths[1], tmp_path / "flags.nc", lambda file: file["TA_QC"].setncattr("flag_meanings", "a b c d e")
    )
    with pytest.raises(FileFormatError, match="TA_QC differs in flag_meanings between files"):
        open_netcdf([paths[0], tmp_path / "flags.nc"])
    (other,) = write_sites(ds.isel(site=[1], x=slice(4)), tmp_path)
    with pytest.raises(FileFormatError, match=r"SY-001.nc and .*SY-002.nc differ in 'x'"):
        open_netcdf([paths[0], other])


# Files outside the data model


@pytest.mark.parametrize(
    ("edit", "error", "message"),
    [
        (lambda file: file.renameVariable("site", "station"), FileFormatError, r"it lacks \['site'\]"),
        (lambda file: file.renameVariable("time", "date"), FileFormatError, r"it lacks \['time'\]"),
        (
            lambda file: file["time"].setncattr("long_name", "time"),
            FileFormatError,
            "the long_name of time must contain either 'local standard time' or 'UTC', found 'time'",
        ),
        (
            lambda file: file.renameVariable("utc_offset", "offset"),
            FileFormatError,
            r"time in UTC needs one utc_offset, found \[nan\]",
        ),
        (
            lambda file: file["time"].setncattr("long_name", "local standard time"),
            TimestampError,
            "2009-12-31T14:30:00.* is not a full hour",
        ),
        (lambda file: file["time"].__setitem__(5, 0), TimestampError, "must be hourly|full hour"),
    ],
    ids=["site", "time", "meaning", "offset", "clock", "gap"],
)
def test_what_is_not_of_the_data_model_is_an_error_that_says_what_is_missing(
    paths, tmp_path, edit, error, message
):
    change(paths[0], tmp_path / "changed.nc", edit)
    with pytest.raises(error, match=rf"changed.nc.*({message})"):
        open_netcdf(tmp_path / "changed.nc")


def test_files_that_cannot_be_opened_are_errors(real_data, tmp_path):
    with pytest.raises(FileNotFoundError):
        open_netcdf(tmp_path / "nothing.nc")
    with pytest.raises(FileNotFoundError, match="the list of paths is empty"):
        open_netcdf([])
    (tmp_path / "text.nc").write_text("no file")
    with pytest.raises(FileFormatError, match=r"text.nc cannot be opened as NetCDF"):
        open_netcdf(tmp_path / "text.nc")
    with pytest.raises(FileFormatError, match=r"is not in the data model: it lacks \['site'\]"):
        open_netcdf(real_data / "era5" / "era5_2022_07_alps.nc")


# Writing safely


def test_files_that_exist_are_kept_unless_told_otherwise(ds, tmp_path):
    (tmp_path / "SY-002.nc").write_text("keep me")
    for write, target in ((write_sites, tmp_path), (write_netcdf, tmp_path / "SY-002.nc")):
        with pytest.raises(StoreError, match=r"SY-002.nc exists: .* pass overwrite=True"):
            write(ds[["TA"]], target)
        assert [file.name for file in tmp_path.iterdir()] == ["SY-002.nc"]
        assert (tmp_path / "SY-002.nc").read_text() == "keep me"
    with pytest.raises(StoreError, match="is a folder: choose another"):
        write_netcdf(ds[["TA"]], tmp_path, overwrite=True)
    assert len(write_sites(ds[["TA"]], tmp_path, overwrite=True)) == 3
    write_netcdf(ds[["P"]], tmp_path / "SY-002.nc", overwrite=True)
    assert "P" in open_netcdf(tmp_path / "SY-002.nc")


def test_file_can_be_replaced_by_what_is_computed_from_it(ds, tmp_path):
    path = write_netcdf(ds[["NEE"]], tmp_path / "towers.nc")
    changed = open_netcdf(path)
    write_netcdf(changed.assign(NEE=changed["NEE"] * 2), path, overwrite=True)
    np.testing.assert_array_equal(open_netcdf(path)["NEE"], ds["NEE"] * 2)


@pytest.mark.parametrize("write", [write_netcdf, write_sites])
def test_failure_midway_leaves_no_half_file(ds, tmp_path, write):
    def fail(block: np.ndarray, block_info=None) -> np.ndarray:
        if block_info[0]["chunk-location"] == (1, 0):
            raise RuntimeError("a worker died")
        return block

    chunked = ds[["NEE"]].chunk(site=1)
    chunked["NEE"] = chunked["NEE"].copy(data=chunked["NEE"].data.map_blocks(fail, dtype="float32"))
    with pytest.raises(RuntimeError, match="a worker died"):
        write(chunked, tmp_path / "out.nc")
    left = [file.name for file in tmp_path.rglob("*") if file.is_file()]
    assert left == ([] if write is write_netcdf else ["SY-001.nc"])


def test_what_is_no_table_of_towers_is_not_written(ds, tmp_path):
    for write in (write_netcdf, write_sites):
        with pytest.raises(StoreError, match="towers need dims site and time"):
            write(ds.isel(site=0), tmp_path / "out.nc")
    with pytest.raises(MetadataError, match=r"sites \['a/b'\] cannot be file names"):
        write_sites(ds.isel(site=[0]).assign_coords(site=["a/b"]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_implausible_values_are_missing_and_offsets_are_clipped(ds, tmp_path):
    wrong = ds[["SWC_1", "NEE"]].copy(deep=True)
    wrong["SWC_1"][0, :3] = [100.3, 9999, np.inf]
    wrong["NEE"][0, :2] = [350, -6999]
    found = open_netcdf(write_netcdf(wrong, tmp_path / "towers.nc"))
    np.testing.assert_array_equal(found["SWC_1"][0, :3], [100, np.nan, np.nan])
    np.testing.assert_array_equal(found["NEE"][0, :2], [np.nan, np.nan])
    np.testing.assert_array_equal(found["SWC_1"][:, 3:], wrong["SWC_1"][:, 3:])


def test_column_in_another_unit_stays_visible(ds, tmp_path):
    kelvin = ds[["TA"]].copy(data={"TA": ds["TA"] + 273.15})
    found = open_netcdf(write_netcdf(kelvin, tmp_path / "towers.nc"))
    np.testing.assert_array_equal(found["TA"], kelvin["TA"])


def test_damaged_file_is_named_when_it_is_opened_or_computed(tmp_path):
    """Whatever is damaged; files without damage to what is read are opened."""
    towers = synthetic_towers(1, variables=["TA"], patches=False).isel(time=slice(48))
    path = write_netcdf(towers, tmp_path / "a.nc")
    content, errors = path.read_bytes(), 0
    for start in range(0, len(content) - 64, len(content) // 20):
        path.write_bytes(content[:start] + b"\xff" * 64 + content[start + 64 :])
        try:
            open_netcdf(path).load()
        except FileFormatError as error:
            assert "a.nc" in str(error)
            errors += 1
    assert errors
