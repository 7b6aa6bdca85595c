"""Selection of files, days and pixels of patches, for all supported formats."""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from datetime import UTC, datetime

import numpy as np
import pyproj
import pystac
import pytest
import rasterio
import xarray as xr

from tests.io.modis.samples import (
    AROUND,
    CORNER,
    FILL,
    LAT,
    LON,
    PATCH,
    counts,
    name,
    patch_counts,
    write_bands,
    write_geotiff,
    write_hdf4,
    write_netcdf,
)
from xcarbon.core.errors import FileFormatError, MetadataError
from xcarbon.io.modis import patches as modis
from xcarbon.io.modis import rasters
from xcarbon.io.modis.files import find_rasters
from xcarbon.io.modis.grid import MODIS_RADIUS, PIXEL_SIZE, georeference
from xcarbon.io.modis.patches import open_modis, patch_days, read_patches
from xcarbon.io.modis.rasters import Area
from xcarbon.io.store import open_store, to_store
from xcarbon.testing import raise_on_compute, synthetic_towers

DAY = np.array(["2018-07-04"], "M8[D]")
QUALITY = "BRDF_Albedo_Band_Mandatory_Quality_Band{}"
NEIGHBOUR = Area(AROUND.row, AROUND.column + 24, 24, 24)


def towers(**places: tuple[float, float]) -> xr.Dataset:
    """Create towers at given coordinates; the default is one tower at the common corner of four tiles."""
    places = places or {"XX-Cor": (LAT, LON)}
    lat, lon = zip(*places.values(), strict=True)
    return xr.Dataset(coords={"site": list(places), "lat": ("site", list(lat)), "lon": ("site", list(lon))})


def cut(folder, **kwargs) -> modis.Patches:
    return read_patches(find_rasters(folder), LAT, LON, **kwargs)


def packed(patches: modis.Patches) -> np.ndarray:
    """Counts of all days and bands, -1 where missing."""
    return np.nan_to_num(np.rint(patches.reflectance * 1e4), nan=-1).astype(int)


# Search for files


def test_folder_is_searched_recursively_and_other_files_are_skipped(tmp_path):
    write_bands(tmp_path / "2018" / "07")
    write_geotiff(tmp_path / name("Albedo_WSA_Band1"), AROUND, counts(AROUND))
    xr.Dataset({"t2m": ("time", [1.0])}).to_netcdf(tmp_path / "era5.nc")
    for other in ("readme.txt", "MOD13Q1.061_250m_aid0001.nc.xml", "MCD43A4-061-request.json", "photo.tif"):
        (tmp_path / other).write_text("{}")
    found = find_rasters(tmp_path)
    assert sorted(layer for raster in found for layer in raster.layers) == [f"B{n}" for n in range(1, 8)]
    assert all(raster.path.startswith(str(tmp_path / "2018" / "07")) for raster in found)


def test_file_that_is_found_twice_is_one(tmp_path):
    write_bands(tmp_path)
    assert len(find_rasters([tmp_path, *tmp_path.glob("*.tif")])) == 7


def test_only_one_file_of_a_whole_tile_is_opened(tmp_path):
    tile = Area(7 * 2400, 10 * 2400, 2400, 2400)
    write_geotiff(tmp_path / name(), tile, np.int16(1))
    other = tmp_path / name(day="2018186")
    other.write_text("download broken off")
    first, second = find_rasters(tmp_path)
    assert first.area == second.area == tile
    assert (str(first.days[0]), str(second.days[0])) == ("2018-07-04", "2018-07-05")
    with pytest.raises(FileFormatError, match=f"{other.name}: the file is truncated"):
        read_patches([first, second], LAT, LON)
    write_geotiff(other, AROUND, counts(AROUND))
    with pytest.raises(FileFormatError, match=r"has \(24, 24\) pixels, but another file of its tile"):
        read_patches([first, second], LAT, LON)


def test_broken_file_in_a_folder_is_an_error_that_names_it(tmp_path):
    write_bands(tmp_path)
    broken = tmp_path / "MCD43A2.A2018185.h10v07.061.2018194033728.hdf"
    broken.write_bytes(b"")
    with pytest.raises(FileFormatError, match=f"{broken.name}: the file is truncated"):
        find_rasters(tmp_path)


def test_absent_or_unrecognised_files_are_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder"):
        find_rasters(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="contain no files of"):
        find_rasters(tmp_path)
    path = write_geotiff(tmp_path / "band1.tif", AROUND, counts(AROUND))
    with pytest.raises(
        FileFormatError, match=r"band1.tif: the file is not recognised .* names they were downloaded with"
    ):
        find_rasters(path)


# STAC


@pytest.fixture
def item(tmp_path) -> pystac.Item:
    """A STAC item with assets whose file names are not recognised."""
    time = datetime(2018, 7, 4, 12, tzinfo=UTC)
    item = pystac.Item("scene-7", None, None, time, {}, collection="MCD43A4.061")
    for band in range(1, 8):
        path = write_geotiff(tmp_path / "assets" / f"{band}.tif", AROUND, counts(AROUND, band))
        item.add_asset(f"Nadir_Reflectance_Band{band}", pystac.Asset(str(path)))
    item.add_asset("metadata", pystac.Asset(str(tmp_path / "assets" / "scene.xml")))
    item.set_self_href(str(tmp_path / "item.json"))
    return item


def test_stac_items_and_their_collections_are_read(item, tmp_path):
    item.make_asset_hrefs_relative()
    item.save_object(include_self_link=False)
    collection = pystac.ItemCollection([item])
    (tmp_path / "collection.json").write_text(json.dumps(collection.to_dict()))
    for source in (item, [item], collection, tmp_path / "item.json", str(tmp_path / "collection.json")):
        patches = cut(source)
        np.testing.assert_array_equal(patches.day, DAY)
        np.testing.assert_array_equal(packed(patches)[0], patch_counts())


def test_names_of_assets_have_priority_over_the_item(item, tmp_path):
    """The time of an item can be the middle of the period of a composite."""
    write_bands(tmp_path / "named", day="2018188")
    for band in range(1, 8):
        layer = f"Nadir_Reflectance_Band{band}"
        item.assets[layer].href = str(tmp_path / "named" / name(layer, day="2018188"))
    np.testing.assert_array_equal(cut(item).day, DAY + 3)


def test_stac_that_holds_nothing_is_an_error(item, tmp_path):
    item.assets = {"metadata": item.assets["metadata"]}
    with pytest.raises(FileFormatError, match=r"scene-7.*: the file is not recognised"):
        find_rasters(item)
    (tmp_path / "other.json").write_text('{"type": "Feature"}')
    with pytest.raises(FileFormatError, match=r"other.json: .* neither a STAC item nor an item collection"):
        find_rasters(tmp_path / "other.json")


# Which pixels


def test_patch_is_the_block_around_the_nearest_corner_of_pixels(tmp_path):
    write_bands(tmp_path)
    pixel = 1 / 240  # of latitude [degrees]
    for rows, expected in ((0.4, 0), (0.6, 1), (-0.6, -1)):
        patch = Area(PATCH.row - expected, PATCH.column, 8, 8)
        found = read_patches(find_rasters(tmp_path), LAT + rows * pixel, LON, max_quality=1)
        # A degree of longitude is shorter than at the equator; the step follows the column.
        column = round(86400 / 2 + 240 * LON * np.cos(np.radians(LAT + rows * pixel))) - 4
        patch = Area(patch.row, column, 8, 8)
        np.testing.assert_array_equal(packed(found)[0, 0], counts(patch))


def test_window_over_the_corner_of_four_tiles_is_filled_from_all(tmp_path):
    for v, row in ((7, CORNER[0] - 12), (8, CORNER[0])):
        for h, column in ((10, CORNER[1] - 12), (11, CORNER[1])):
            write_bands(tmp_path, Area(row, column, 12, 12), tile=f"h{h:02}v{v:02}")
    np.testing.assert_array_equal(packed(cut(tmp_path))[0], patch_counts())


def test_newest_collection_wins_and_then_the_latest_stamp(tmp_path):
    write_bands(tmp_path / "a", values=np.int16(1), collection="061", stamp="2021001000000")
    write_bands(tmp_path / "b", values=np.int16(2), collection="061", stamp="2020001000000")
    write_bands(tmp_path / "c", values=np.int16(3), collection="006", stamp="2022001000000")
    assert (packed(cut(tmp_path)) == 1).all()
    assert (packed(cut([tmp_path / "b", tmp_path / "c"])) == 2).all()


def test_file_that_loses_fills_no_gap_and_is_not_read(tmp_path):
    holes = counts(AROUND)
    holes[12, 12] = FILL
    write_bands(tmp_path / "new", values=holes)
    old = write_bands(tmp_path / "old", collection="006")
    found = find_rasters(tmp_path)
    shutil.rmtree(old)
    values = packed(read_patches(found, LAT, LON))
    assert (values[0, :, 4, 4] == -1).all()
    assert (values == -1).sum() == 7


def test_quality_of_a_file_that_loses_masks_nothing(tmp_path):
    write_bands(tmp_path)
    for band in range(1, 8):
        write_geotiff(tmp_path / name(QUALITY.format(band), collection="006"), AROUND, np.uint8(255))
    assert (packed(cut(tmp_path)) > 0).all()


def test_files_of_other_areas_fill_gaps(tmp_path):
    holes = np.full((24, 24), FILL, "int16")
    holes[:, :13] = 7000
    write_bands(tmp_path / "a", values=holes)
    write_bands(
        tmp_path / "b", Area(AROUND.row, AROUND.column, 24, 30), values=np.int16(5000), collection="006"
    )
    values = packed(cut(tmp_path))
    assert (values[..., :5] == 7000).all()
    assert (values[..., 5:] == 5000).all()


def test_better_product_wins_its_days(tmp_path):
    for band in range(1, 8):
        for day in ("2018185", "2018193"):
            write_geotiff(tmp_path / name(f"sur_refl_b0{band}", "MOD09A1", day), AROUND, np.int16(9))
        for day in ("2018193", "2018201"):
            write_geotiff(tmp_path / name(f"sur_refl_b0{band}_1", "MOD09GA", day), AROUND, np.int16(8))
    write_bands(tmp_path, values=np.where(np.arange(24) < 12, 7, FILL).astype("int16"))
    patches = cut(tmp_path)
    np.testing.assert_array_equal(patches.day, [DAY[0], DAY[0] + 8, DAY[0] + 16])
    assert set(np.unique(packed(patches)[0])) == {7, -1}
    assert (packed(patches)[1] == 9).all()
    assert (packed(patches)[2] == 8).all()


# Quality and flags


def test_pixels_of_low_quality_are_missing(tmp_path):
    quality = np.zeros((24, 24), "uint8")
    quality[8:16, 8] = [0, 1, 2, 255, 0, 0, 0, 0]
    write_bands(tmp_path)
    write_geotiff(tmp_path / name(QUALITY.format(2)), AROUND, quality)
    missing = packed(cut(tmp_path))[0] == -1
    assert missing[1, :, 0].tolist() == [False, False, True, True, False, False, False, False]
    assert missing.sum() == 2
    assert (packed(cut(tmp_path, max_quality=0))[0] == -1)[1, :, 0].tolist()[:4] == [False, True, True, True]
    assert (packed(cut(tmp_path, max_quality=255)) >= 0).all()


@pytest.mark.parametrize(
    ("state", "clear"),
    [
        (0b000, True),
        (0b001, False),
        (0b010, False),
        (0b011, True),
        (0b100, False),
        (0b1000, True),
        (65535, False),
    ],
)
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_clouds_and_their_shadows_are_missing(tmp_path, state, clear, dtype):
    states = np.zeros((24, 24), dtype)
    states[8, 8] = state
    layers = {f"sur_refl_b0{band}": counts(AROUND, band) for band in range(1, 8)}
    path = tmp_path / "MOD09A1.A2018185.h10v07.061.2018194033728.nc"
    write_netcdf(path, layers | {"sur_refl_state_500m": states})
    missing = packed(cut(path))[0] == -1
    assert missing[:, 0, 0].tolist() == [not clear] * 7
    assert missing.sum() == (0 if clear else 7)


def test_snow_and_water_are_flags(tmp_path):
    snow, water = np.zeros((24, 24), "uint8"), np.ones((24, 24), "uint8")
    snow[8, 8:11] = [1, 0, 255]
    water[8, 8:17] = [0, 1, 2, 3, 4, 5, 6, 7, 255]
    write_bands(tmp_path)
    write_bands(tmp_path, day="2018186")
    path = tmp_path / "MCD43A2.A2018185.h10v07.061.2018194033728.hdf"
    write_hdf4(path, {"Snow_BRDF_Albedo": snow, "BRDF_Albedo_LandWaterType": water})
    patches = cut(tmp_path)
    assert patches.snow.dtype == patches.water.dtype == np.int8
    assert patches.snow[0, 0].tolist() == [1, 0, -1, 0, 0, 0, 0, 0]
    assert patches.water[0, 0].tolist() == [1, 0, 0, 1, 1, 1, 1, 1]
    assert (patches.water[0, 1:] == 0).all()
    assert (patches.snow[1] == -1).all() and (patches.water[1] == -1).all()


def test_fill_of_water_is_land_and_flags_alone_make_no_day(tmp_path):
    for day in ("2018185", "2018186"):
        layer = "BRDF_Albedo_LandWaterType"
        write_geotiff(tmp_path / name(layer, "MCD43A2", day), AROUND, np.uint8(255))
    write_bands(tmp_path)
    patches = cut(tmp_path)
    np.testing.assert_array_equal(patches.day, DAY)
    assert (patches.water == 0).all()


@pytest.mark.parametrize(("holes", "kept"), [(32, True), (33, False)])
def test_day_with_more_than_half_fill_is_excluded(tmp_path, holes, kept):
    values = counts(AROUND)
    patch = values[8:16, 8:16].copy().ravel()
    patch[:holes] = FILL
    values[8:16, 8:16] = patch.reshape(8, 8)
    write_bands(tmp_path, values=values)
    write_geotiff(tmp_path / name("Snow_BRDF_Albedo", "MCD43A2"), AROUND, np.uint8(1))
    patches = cut(tmp_path)
    np.testing.assert_array_equal(patches.day, DAY)
    assert np.isnan(patches.reflectance).mean() == (0.5 if kept else 1)
    assert (patches.snow == (1 if kept else -1)).all()


def test_days_are_listed_without_reading_a_pixel(tmp_path):
    for day in ("2018186", "2018185"):
        write_bands(tmp_path, day=day)
    write_bands(tmp_path, NEIGHBOUR, day="2018190")
    found = find_rasters(tmp_path)
    shutil.rmtree(tmp_path)
    np.testing.assert_array_equal(patch_days(found, LAT, LON), [DAY[0], DAY[0] + 1])
    assert patch_days(found, 50.0, 10.0).size == 0


# Dataset of many towers


@pytest.fixture
def series(tmp_path):
    """A series of AppEEARS with three days, the second of which has pixels of low quality."""
    layers = {}
    for band in range(1, 8):
        layers[f"Nadir_Reflectance_Band{band}"] = np.stack([counts(AROUND, band)] * 3)
        quality = np.zeros((3, 24, 24), "uint8")
        quality[1] = 3
        layers[QUALITY.format(band)] = quality
    days = [DAY[0], DAY[0] + 1, DAY[0] + 3]
    return write_netcdf(tmp_path / "MCD43A4.061_500m_aid0001.nc", layers, days=days, dims=("ydim", "xdim"))


def test_series_is_opened_once_and_read_in_one_slice(series, monkeypatch):
    opened = []
    monkeypatch.setattr(
        rasters, "_netcdf", lambda path, open_=rasters._netcdf: opened.append(path) or open_(path)
    )
    found = find_rasters(series)
    opened.clear()
    values = packed(read_patches(found, LAT, LON))
    assert len(opened) == 1
    np.testing.assert_array_equal(values[0], patch_counts())
    np.testing.assert_array_equal(values[2], patch_counts())
    assert (values[1] == -1).all()


def test_opening_is_lazy_and_a_tower_is_read_once(series, monkeypatch):
    read = []
    monkeypatch.setattr(
        modis, "read_patches", lambda *args, **kwargs: read.append(args) or read_patches(*args, **kwargs)
    )
    with raise_on_compute():
        ds = open_modis(series, towers(A=(LAT, LON), B=(LAT, LON + 0.01)))
    assert read == []
    assert ds["reflectance"].chunks[:2] == ((1, 1), (3,))
    ds.compute()
    assert len(read) == 2


def test_dataset_has_the_data_model(series):
    ds = open_modis(series, towers())
    like = synthetic_towers(1)
    for flag in ("reflectance", "snow", "water"):
        assert ds[flag].dims == like[flag].dims
        assert ds[flag].dtype == like[flag].dtype == ds[flag].compute().dtype
        assert ds[flag].attrs.keys() == like[flag].attrs.keys()
        assert ds[flag].encoding == like[flag].encoding
    for coordinate in ("band", "y", "x", "patch_x", "patch_y", "spatial_ref", "day"):
        assert ds[coordinate].attrs == like[coordinate].attrs
        assert ds[coordinate].dims == like[coordinate].dims
    xr.testing.assert_identical(ds["spatial_ref"], like["spatial_ref"])
    assert ds.attrs["source"] == "MODIS MCD43A4"


def test_days_of_towers_are_united_and_what_is_not_covered_is_missing(tmp_path):
    write_bands(tmp_path)
    write_bands(tmp_path, NEIGHBOUR, day="2018186", tile="h11v07")
    east = (NEIGHBOUR.column + 12) / 240 - 180
    sites = towers(A=(LAT, LON), B=(LAT, east / np.cos(np.radians(LAT))), C=(50.0, 10.0))
    ds = open_modis(tmp_path, sites).compute()
    np.testing.assert_array_equal(ds["day"], [DAY[0], DAY[0] + 1])
    there = ds["reflectance"].notnull().all(("band", "y", "x"))
    assert there.values.tolist() == [[True, False], [False, True], [False, False]]
    assert (ds["snow"] == -1).all()


def test_rasters_without_any_tower_are_an_error(series):
    message = r"rasters are within lat 9.95 to 10.05, lon -71.1\d to -71.0\d, towers within lat 50.00 to 51"
    with pytest.raises(MetadataError, match=message):
        open_modis(series, towers(A=(50.0, 10.0), B=(51.0, 11.0)))


def test_towers_without_coordinates_are_an_error(series):
    with pytest.raises(MetadataError, match=r"B: latitude .* and longitude .* are missing or out of range"):
        open_modis(series, towers(A=(LAT, LON), B=(np.nan, 10.0)))
    with pytest.raises(MetadataError, match="towers need the coordinates site, lat and lon along site"):
        open_modis(series, towers().drop_vars("lon"))
    with pytest.raises(MetadataError, match="towers need the coordinates site, lat and lon along site"):
        open_modis(series, towers().isel(site=0))


def test_too_few_bands_are_an_error(tmp_path):
    write_bands(tmp_path)
    for band in range(4, 8):
        (tmp_path / name(f"Nadir_Reflectance_Band{band}")).unlink()
    with pytest.raises(FileFormatError, match=r"contain only the bands \['B1', 'B2', 'B3'\]"):
        open_modis(tmp_path, towers())


def test_patches_merge_with_towers_and_go_to_a_store_and_back(series, tmp_path):
    records = synthetic_towers(1, patches=False, variables=["NEE"]).isel(time=slice(48))
    records = records.assign_coords(lat=("site", [LAT]), lon=("site", [LON]))
    patches = open_modis(series, records)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        merged = records.merge(patches)
        xr.testing.assert_identical(xr.merge([records, patches]).drop_attrs(), merged.drop_attrs())
    stored = open_store(to_store(merged, tmp_path / "towers.zarr"))
    np.testing.assert_allclose(stored["reflectance"], patches["reflectance"], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(stored["patch_x"], patches["patch_x"])


def test_patch_is_centred_on_the_tower(series):
    patch = georeference(open_modis(series, towers()).isel(site=0, day=0).compute())
    assert patch.rio.crs.to_dict()["R"] == MODIS_RADIUS
    transform = patch.rio.transform()
    assert transform.c == pytest.approx((PATCH.column - 43200) * PIXEL_SIZE, abs=1e-6)
    assert transform.f == pytest.approx((21600 - PATCH.row) * PIXEL_SIZE, abs=1e-6)
    degrees = patch["reflectance"].rio.reproject("EPSG:4326")
    assert degrees["y"].mean() == pytest.approx(LAT, abs=1 / 480)
    assert degrees["x"].mean() == pytest.approx(LON, abs=1 / 480)


def test_rasters_can_be_read_in_another_process(series):
    found = pickle.loads(pickle.dumps(find_rasters(series)))
    np.testing.assert_array_equal(packed(read_patches(found, LAT, LON))[0], patch_counts())


# Real data

#: File, and row and column of the pixel with a tower.
REAL = {
    "geotiff": ("rasters", "MCD43A4.A2018185.h10v07.006.2018194033728_B0?.TIF", 2220, 1660),
    "netcdf": ("rasters", "MOD09A1.A2022105.h18v04.061.2022118025506_crop.nc", 50, 60),
    "hdf4": ("rasters", "MOD09GA.A2008296.h14v17.006.2015181011753.hdf", 30, 2300),
    "subset": (".", "mod09a1_australia.nc", 8, 8),
}


def source(kind: str, path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Band 2 of a file, read with the library of its format, and its eastings and northings."""
    if kind == "geotiff":
        with rasterio.open(path) as file:
            x, _ = file.xy([0] * file.width, range(file.width))
            _, y = file.xy(range(file.height), [0] * file.height)
            return file.read(1) / 1e4, np.array(x), np.array(y)
    if kind == "hdf4":
        from pyhdf.SD import SD

        steps = (np.arange(2400) + 0.5) * (4447802.078667 - 3335851.559) / 2400
        band = SD(str(path)).select("sur_refl_b02_1").get()
        return band / 1e4, steps - 4447802.078667, -8895604.157333 - steps
    with xr.open_dataset(path) as ds:
        if kind == "netcdf":
            return ds["sur_refl_b02"].values, ds["x"].values, ds["y"].values
        tumut = ds.isel(site=0, time=0)
        steps = (np.arange(17) + 0.5) * ds.attrs["cellsize_m"]
        west, south = tumut["xllcorner"].item(), tumut["yllcorner"].item()
        return tumut["sur_refl"].sel(band=2).values, west + steps, (south + steps)[::-1]


@pytest.mark.parametrize("kind", REAL)
def test_real_pixels_have_the_positions_in_their_file(real_data, kind):
    folder, pattern, row, column = REAL[kind]
    files = sorted((real_data / folder).glob(pattern))
    values, x, y = source(kind, files[min(1, len(files) - 1)])
    sphere = pyproj.CRS(f"+proj=sinu +R={MODIS_RADIUS}")
    to_grid = pyproj.Transformer.from_crs("EPSG:4326", sphere, always_xy=True)
    lon, lat = to_grid.transform(x[column] - 100, y[row] + 150, direction="INVERSE")

    patch = georeference(open_modis(files, towers(X=(lat, lon))).isel(site=0, day=0).compute())

    columns = [int(np.abs(x - of).argmin()) for of in patch["x"].values]
    rows = [int(np.abs(y - of).argmin()) for of in patch["y"].values]
    np.testing.assert_allclose(patch["x"], x[columns], rtol=0, atol=0.5)
    np.testing.assert_allclose(patch["y"], y[rows], rtol=0, atol=0.5)
    tower = to_grid.transform(lon, lat)
    assert abs(patch["x"].mean() - tower[0]) <= PIXEL_SIZE / 2 + 0.5
    assert abs(patch["y"].mean() - tower[1]) <= PIXEL_SIZE / 2 + 0.5
    band = patch["reflectance"].sel(band="B2").values
    there = np.isfinite(band)
    assert there.mean() > 0.5
    np.testing.assert_allclose(band[there], values[np.ix_(rows, columns)][there], rtol=0, atol=1e-6)
    assert band[there].min() >= -0.01 and band[there].max() < 1.6
    assert np.unique(band[there]).size > 10


def test_real_towers_in_australia_have_their_pixels(real_data, real_towers):
    names = ["AU-Tum", "AU-Wom", "AU-Whr", "AU-Cum", "AU-Rob"]
    path = real_data / "mod09a1_australia.nc"
    records = real_towers.sel(site=names).isel(time=slice(-8784, None))
    ds = records.merge(open_modis(path, records))
    assert ds["NEE"].chunks is not None
    raw = xr.load_dataset(path, mask_and_scale=False)
    for number, site in enumerate(names):
        patches = ds[["reflectance"]].sel(site=site).compute()
        corner = [patches["patch_x"].item(), patches["patch_y"].item()]
        corner = np.subtract(corner, [raw["xllcorner"][number], raw["yllcorner"][number]])
        column, row = np.rint(corner / PIXEL_SIZE).astype(int) * [1, -1] + [-4, 17 - 4]
        assert 4 <= column <= 5 and 4 <= row <= 5  # the tower's pixel is the ninth of seventeen
        counted = raw["sur_refl"][number, ..., row : row + 8, column : column + 8].values
        counted = np.where((counted < -100) | (counted > 16000), -1, counted)
        found = np.nan_to_num(np.rint(patches["reflectance"].values * 1e4), nan=-1)
        kept = (found != -1).any(axis=(1, 2, 3))
        np.testing.assert_array_equal(found[kept], counted[kept])
        assert kept.mean() > 0.99
        assert ((counted == -1).mean(axis=(1, 2, 3)) > 0.5).tolist() == (~kept).tolist()


def test_real_series_near_munich_has_six_dates(real_data):
    files = sorted((real_data / "rasters").glob("MOD09A1*_crop.nc"))
    ds = open_modis(files, towers(A=(48.14, 11.58))).compute()
    assert ds["day"].dt.dayofyear.values.tolist() == [105, 113, 121, 129, 137, 145]
    clear = ds["reflectance"].notnull().mean(("band", "y", "x"))
    assert clear.max() > 0.9
    assert (ds["reflectance"].mean() > 0.05) and (ds["reflectance"].mean() < 0.5)
