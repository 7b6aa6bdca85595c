"""Pixels in a window are the same for all formats, and rasters off the MODIS grid are an error."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from tests.io.modis.samples import (
    AROUND,
    CRS,
    FILL,
    PATCH,
    corner,
    counts,
    name,
    write_geotiff,
    write_hdf4,
    write_netcdf,
)
from xcarbon.core.errors import FileFormatError
from xcarbon.io.modis.grid import PIXEL_SIZE
from xcarbon.io.modis.names import layer_of, parse_name
from xcarbon.io.modis.rasters import Area, Raster, open_rasters, read_window

BAND = "Nadir_Reflectance_Band1"
QUALITY = "BRDF_Albedo_Band_Mandatory_Quality_Band1"


def open_one(path) -> Raster:
    (raster,) = open_rasters(str(path), parse_name(path.name))
    return raster


# Names and areas


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (name("B07"), "MCD43A4 2018-07-04 (10, 7) B7 6.1 2018194033728"),
        (name(QUALITY), "MCD43A4 2018-07-04 (10, 7) B1_quality 6.1 2018194033728"),
        (
            name("B01", collection="006").replace(".tif", ".TIF"),
            "MCD43A4 2018-07-04 (10, 7) B1 6.0 2018194033728",
        ),
        (
            "MOD09A1.A2020366.h18v04.061.2022118025506_crop.nc",
            "MOD09A1 2020-12-31 (18, 4) None 6.1 2022118025506",
        ),
        (
            "MOD09GA.A2008296.h14v17.006.2015181011753.hdf",
            "MOD09GA 2008-10-22 (14, 17) None 6.0 2015181011753",
        ),
        ("MCD43A2.061_Snow_BRDF_Albedo_doy2018185_aid0001.tif", "MCD43A2 2018-07-04 None snow 6.1 "),
        (
            "MOD09A1.061_sur_refl_state_500m_doy2022297000000_aid0012.tif",
            "MOD09A1 2022-10-24 None state 6.1 ",
        ),
        ("MCD43A4.061_500m_aid0001.nc", "MCD43A4 None None None 6.1 "),
    ],
)
def test_names_of_nasa_and_appeears_are_read(text, expected):
    found = parse_name(text)
    collection, stamp = found.rank
    assert f"{found.product} {found.day} {found.tile} {found.layer} {collection} {stamp}" == expected


@pytest.mark.parametrize(
    "text", ["MOD13Q1.061_250m_aid0001.nc", "MCD43A1.A2018185.h10v07.061.2018194033728.hdf", "readme.tif"]
)
def test_names_of_others_are_not(text):
    assert parse_name(text) is None


@pytest.mark.parametrize("text", ["sur_refl_b01_c", "state_1km_1", "sur_refl_b08", "BRDF_Albedo_Uncertainty"])
def test_layers_that_are_not_read_have_no_name(text):
    assert layer_of(text) is None


areas = st.builds(Area, *[st.integers(0, 50)] * 2, *[st.integers(1, 50)] * 2)


@given(areas, areas)
def test_overlap_is_the_common_area(one, other):
    grid = np.zeros((2, 100, 100), bool)
    whole = Area(0, 0, 100, 100)
    grid[0][one.within(whole)] = grid[1][other.within(whole)] = True
    overlap = one.overlap(other)
    assert overlap == other.overlap(one)
    assert (overlap is None) == (not grid.all(axis=0).any())
    if overlap is not None:
        assert grid.all(axis=0).sum() == overlap.height * overlap.width
        assert grid.all(axis=0)[overlap.within(whole)].all()


# Containers


@pytest.fixture
def geotiff(tmp_path):
    return write_geotiff(tmp_path / name(), AROUND, counts(AROUND))


@pytest.fixture
def netcdf(tmp_path):
    return write_netcdf(tmp_path / "MCD43A4.A2018185.h10v07.061.2018194033728.nc", {BAND: counts(AROUND)})


@pytest.fixture
def hdf4(tmp_path):
    path = tmp_path / "MCD43A4.A2018185.h10v07.061.2018194033728.hdf"
    return write_hdf4(path, {BAND: counts(AROUND)}, scale_factor=0.0001)


@pytest.mark.parametrize("container", ["geotiff", "netcdf", "hdf4"])
def test_window_has_the_pixels_of_the_file(container, request):
    raster = open_one(request.getfixturevalue(container))
    assert (raster.container, raster.product, raster.area) == (container, "MCD43A4", AROUND)
    assert raster.days == np.array(["2018-07-04"], "M8[D]")
    band = read_window(pickle.loads(pickle.dumps(raster)), PATCH)["B1"]
    assert band.dtype == np.float32
    np.testing.assert_allclose(band[0], counts(PATCH) / 1e4, rtol=1e-6)


@pytest.mark.parametrize("container", ["geotiff", "netcdf", "hdf4"])
def test_broken_file_is_an_error_that_names_it(container, request):
    path = request.getfixturevalue(container)
    raster = open_one(path)
    path.write_bytes(path.read_bytes()[:50])
    for work in (lambda: open_one(path), lambda: read_window(raster, PATCH)):
        with pytest.raises(FileFormatError, match=f"{path.name}: the file is truncated"):
            work()


def test_scale_factors_are_ignored_whether_factor_or_divisor(tmp_path):
    path = tmp_path / "MOD09GA.A2018185.h10v07.061.2018194033728.hdf"
    layers = {"sur_refl_b01_1": counts(AROUND), "sur_refl_b02_c": counts(AROUND, 2)}
    raster = open_one(write_hdf4(path, layers, scale_factor=10000.0))
    values = read_window(raster, PATCH)
    assert list(values) == ["B1"]
    np.testing.assert_allclose(values["B1"][0], counts(PATCH) / 1e4, rtol=1e-6)


def test_hdf4_without_pyhdf_names_the_package_to_install(hdf4, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyhdf.SD", None)
    with pytest.raises(FileFormatError, match=r"MCD43A4.*hdf: .* pip install 'xcarbon\[modis\]'"):
        open_one(hdf4)


def test_series_of_appeears_has_its_days_and_layers(tmp_path):
    days = np.array(["2019-12-31", "2020-02-29", "2020-03-01"], "M8[D]")
    series = np.stack([counts(AROUND, band) for band in (1, 2, 3)])
    quality = np.zeros(series.shape, "uint8")
    path = tmp_path / "MCD43A4.061_500m_aid0001.nc"
    write_netcdf(path, {BAND: series, QUALITY: quality}, days=days, dims=("ydim", "xdim"))
    raster = open_one(path)
    np.testing.assert_array_equal(raster.days, days)
    values = read_window(raster, PATCH)
    assert values.keys() == {"B1", "B1_quality"}
    expected = [counts(PATCH, band) / 1e4 for band in (1, 2, 3)]
    np.testing.assert_allclose(values["B1"], expected, rtol=1e-6)


def test_subsets_around_sites_are_a_raster_each(tmp_path):
    west, north = corner(AROUND)
    south = north - AROUND.height * PIXEL_SIZE
    values = np.stack([[[counts(AROUND, band)] for band in range(1, 8)]]).swapaxes(1, 2)
    xr.Dataset(
        {
            "sur_refl": (("site", "time", "band", "row", "col"), np.concatenate([values, values + 1])),
            "xllcorner": ("site", np.round([west, west + 100 * PIXEL_SIZE], 2)),
            "yllcorner": ("site", np.round([south, south], 2)),
        },
        coords={"time": ("time", [6], {"units": "days since 2018-07-01"}), "band": np.arange(1, 8)},
        attrs={"title": "MOD09A1 subsets"},
    ).to_netcdf(tmp_path / "sites.nc")
    first, second = open_rasters(str(tmp_path / "sites.nc"), None)
    assert first.area == AROUND
    assert second.area == Area(AROUND.row, AROUND.column + 100, 24, 24)
    assert (first.product, str(first.days[0])) == ("MOD09A1", "2018-07-07")
    found = read_window(second, Area(AROUND.row, AROUND.column + 100, 2, 3))
    np.testing.assert_allclose(found["B7"][0], (counts(AROUND, 7)[:2, :3] + 1) / 1e4, rtol=1e-6)


def test_netcdf_of_something_else_holds_nothing(tmp_path):
    xr.Dataset({"t2m": ("time", [1.0])}).to_netcdf(tmp_path / "era5.nc")
    assert open_rasters(str(tmp_path / "era5.nc"), None) == []


# Values


def test_fill_and_what_is_out_of_the_valid_range_is_missing(tmp_path):
    values = np.full((24, 24), 5000, "int16")
    values[0, :4] = [FILL, -1, 0, 32766]
    raster = open_one(write_geotiff(tmp_path / name(), AROUND, values))
    row = read_window(raster, Area(AROUND.row, AROUND.column, 1, 5))["B1"][0, 0]
    np.testing.assert_allclose(row, [np.nan, np.nan, 0, 3.2766, 0.5], rtol=1e-6)


def test_slightly_negative_reflectance_of_mod09_is_valid(tmp_path):
    values = np.full((24, 24), -28672, "int16")
    values[0, :4] = [-100, -101, 16000, 16001]
    raster = open_one(write_geotiff(tmp_path / name("sur_refl_b01", "MOD09A1"), AROUND, values))
    row = read_window(raster, Area(AROUND.row, AROUND.column, 1, 5))["B1"][0, 0]
    np.testing.assert_allclose(row, [-0.01, np.nan, 1.6, np.nan, np.nan], rtol=1e-6)


def test_floats_are_reflectances_already(tmp_path):
    values = (counts(AROUND) / 1e4).astype("float32")
    values[12, 12] = np.nan
    raster = open_one(write_geotiff(tmp_path / name(), AROUND, values))
    found = read_window(raster, PATCH)["B1"][0]
    np.testing.assert_array_equal(found, values[8:16, 8:16])


def test_floats_that_are_no_reflectances_are_an_error(tmp_path):
    raster = open_one(write_geotiff(tmp_path / name(), AROUND, counts(AROUND).astype("float32")))
    with pytest.raises(FileFormatError, match=r"B1 has floats up to 1[0-9]+, which are not reflectances"):
        read_window(raster, PATCH)


# The grid


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crs": "EPSG:4326"}, "the CRS is EPSG:4326, but xcarbon reads the MODIS sinusoidal grid"),
        ({"crs": CRS.replace("R=6371007.181", "ellps=WGS84")}, "the CRS is .*WGS.*84"),
        ({"crs": CRS.replace("lon_0=0", "lon_0=9")}, "the CRS is"),
        ({"step": PIXEL_SIZE / 2}, "pixels are 231.65.* x 231.65.* m, but those .* are 463.31"),
        ({"step": 463.0}, "pixels are 463 x 463 m"),
        (
            {"shift": PIXEL_SIZE / 2},
            "the raster starts at x -77.*, y 11.* m, which is not the corner of a pixel",
        ),
    ],
)
def test_raster_that_is_not_on_the_grid_is_an_error(tmp_path, changes, message):
    path = write_geotiff(tmp_path / name(), AROUND, counts(AROUND), **changes)
    with pytest.raises(FileFormatError, match=f"{path.name}: {message}"):
        open_one(path)


def test_rounded_corners_are_on_the_grid(tmp_path):
    path = write_geotiff(tmp_path / name(), AROUND, counts(AROUND), shift=0.4)
    assert open_one(path).area == AROUND


def test_netcdf_without_a_grid_mapping_is_an_error(netcdf):
    ds = xr.load_dataset(netcdf, mask_and_scale=False).drop_vars("crs")
    ds[BAND].attrs.pop("grid_mapping", None)
    ds[BAND].encoding.pop("grid_mapping", None)
    ds.to_netcdf(netcdf)
    with pytest.raises(FileFormatError, match="the CRS is not stated"):
        open_one(netcdf)


def test_rows_from_south_to_north_are_an_error(netcdf):
    xr.load_dataset(netcdf, mask_and_scale=False).sortby("y").to_netcdf(netcdf)
    with pytest.raises(FileFormatError, match=r"pixels are 463.* x -463.* rows from north to south"):
        open_one(netcdf)


def test_several_days_under_the_name_of_one_are_an_error(tmp_path):
    path = tmp_path / "MCD43A4.A2018185.h10v07.061.2018194033728.nc"
    write_netcdf(path, {BAND: np.stack([counts(AROUND)] * 2)}, days=["2018-07-04", "2018-07-05"])
    with pytest.raises(FileFormatError, match=f"{BAND} has dimensions .*'time': 2.* do not fit the days"):
        open_one(path)
