"""Tests of maps of land cover: legends, files in the formats of the products, and aggregation to grids."""

from __future__ import annotations

import sys
from pathlib import Path

import dask.array as da
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import xarray as xr

import xcarbon
from xcarbon.core.errors import FileFormatError, MetadataError, OptionError, VariableError
from xcarbon.core.variables import IGBP_CLASSES
from xcarbon.io import landcover
from xcarbon.io.landcover import LCCS_TO_IGBP, open_landcover
from xcarbon.testing import raise_on_compute

MCD12C1 = "Majority_Land_Cover_Type_1"
LAND = [name for name in IGBP_CLASSES if name != "WAT"]
#: Values and meanings of the flags in files of C3S; the meanings of some classes are shortened.
FLAGS = {
    0: "no_data", 10: "cropland_rainfed", 11: "cropland_rainfed_herbaceous_cover",
    12: "cropland_rainfed_tree_or_shrub_cover", 20: "cropland_irrigated", 30: "mosaic_cropland",
    40: "mosaic_natural_vegetation", 50: "tree_broadleaved_evergreen_closed_to_open",
    60: "tree_broadleaved_deciduous_closed_to_open", 61: "tree_broadleaved_deciduous_closed",
    62: "tree_broadleaved_deciduous_open", 70: "tree_needleleaved_evergreen_closed_to_open",
    71: "tree_needleleaved_evergreen_closed", 72: "tree_needleleaved_evergreen_open",
    80: "tree_needleleaved_deciduous_closed_to_open", 81: "tree_needleleaved_deciduous_closed",
    82: "tree_needleleaved_deciduous_open", 90: "tree_mixed", 100: "mosaic_tree_and_shrub",
    110: "mosaic_herbaceous", 120: "shrubland", 121: "shrubland_evergreen", 122: "shrubland_deciduous",
    130: "grassland", 140: "lichens_and_mosses", 150: "sparse_vegetation", 151: "sparse_tree",
    152: "sparse_shrub", 153: "sparse_herbaceous", 160: "tree_cover_flooded_fresh_or_brakish_water",
    170: "tree_cover_flooded_saline_water", 180: "shrub_or_herbaceous_cover_flooded", 190: "urban",
    200: "bare_areas", 201: "bare_areas_consolidated", 202: "bare_areas_unconsolidated", 210: "water",
    220: "snow_and_ice",
}  # fmt: skip


def axis(first: float, last: float, size: int) -> np.ndarray:
    """Centres of pixels between two edges."""
    return first + (np.arange(size) + 0.5) * (last - first) / size


def pixels(values: np.ndarray, west: float = -180, east: float = 180) -> xr.Dataset:
    """A map of MCD12C1 from pole to pole."""
    height, width = values.shape
    axes = {"lat": axis(90, -90, height), "lon": axis(west, east, width)}
    return xr.Dataset({MCD12C1: (("lat", "lon"), values)}, axes)


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 17, (18, 36)).astype("uint8")


def write_hdf4(path: Path, values: np.ndarray, name: str = MCD12C1) -> Path:
    from pyhdf.SD import SD, SDC

    file = SD(str(path), SDC.WRITE | SDC.CREATE)
    layer = file.create(name, SDC.UINT8, values.shape)
    layer[:] = values
    layer.setfillvalue(255)
    layer.endaccess()
    file.end()
    return path


def write_geotiff(path: Path, values: np.ndarray, crs: str = "EPSG:4326") -> Path:
    import rasterio
    from rasterio.transform import from_bounds

    height, width = values.shape
    size = {"height": height, "width": width, "count": 1, "dtype": "uint8", "nodata": 255}
    grid = from_bounds(-180, -90, 180, 90, width, height)
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=grid, **size) as file:
        file.write(values, 1)
    return path


def write_cci(path: Path, values: np.ndarray, lat: np.ndarray, lon: np.ndarray, *, time: bool) -> Path:
    """Write a file like those of C3S; those of ESA CCI have no time and signed bytes."""
    dims = ("time", "lat", "lon") if time else ("lat", "lon")
    attrs = {
        "standard_name": "land_cover_lccs",
        "flag_values": np.array(list(FLAGS), "uint8"),
        "flag_meanings": " ".join(FLAGS.values()),
        "valid_min": 1,
    }
    if not time:
        values, attrs["flag_values"] = values.view("int8"), attrs["flag_values"].view("int8")
        attrs["_Unsigned"] = "true"
    array = xr.DataArray(values[np.newaxis] if time else values, dims=dims, attrs=attrs)
    ds = xr.Dataset({"lccs_class": array, "change_count": array.drop_attrs()}, {"lat": lat, "lon": lon})
    ds["crs"] = 0
    ds.to_netcdf(path, encoding={"lccs_class": {"chunksizes": tuple(min(3, n) for n in array.shape)}})
    return path


def test_all_formats_of_mcd12c1_are_equal(values, tmp_path):
    values[3, 5] = 255
    maps = {
        "hdf": write_hdf4(tmp_path / "MCD12C1.A2019001.061.2022170020638.hdf", values),
        "tif": write_geotiff(tmp_path / "MCD12C1.A2019001.tif", values),
        "nc": tmp_path / "map.nc",
        "zarr": tmp_path / "map.zarr",
    }
    pixels(values).to_netcdf(maps["nc"], encoding={MCD12C1: {"_FillValue": 255}})
    pixels(values).to_zarr(maps["zarr"])
    expected = np.array(["", *LAND])[np.where(values == 255, 0, values)]
    for path in maps.values():
        with raise_on_compute():
            ds = open_landcover(path)
        assert ds["igbp"].chunks
        ds.load()
        np.testing.assert_array_equal(ds["igbp"], expected)
        np.testing.assert_allclose(ds["lat"], axis(90, -90, 18))
        np.testing.assert_allclose(ds["lon"], axis(-180, 180, 36))
        assert np.isnan(ds["land_fraction"][3, 5]) and ds["land_fraction"].sum() == (values > 0).sum() - 1
        assert "MCD12C1" in ds.attrs["title"] and "igbp" in ds.coords


@pytest.mark.parametrize("time", [True, False])
def test_classes_of_cci(tmp_path, time):
    values = np.array(list(FLAGS), "uint8").reshape(2, -1)
    lat, lon = axis(50, 49.9, 2), axis(8, 9, values.shape[1])
    path = write_cci(tmp_path / "C3S-LC.nc", values, lat, lon, time=time)
    ds = open_landcover(path).load()
    classes = dict(zip(FLAGS, ds["igbp"].values.ravel(), strict=True))
    assert classes.pop(0) == "" and classes.pop(210) == ""
    assert classes == {value: name for value, name in LCCS_TO_IGBP.items() if value != 210}
    shares = dict(zip(FLAGS, ds["land_fraction"].values.ravel(), strict=True))
    assert np.isnan(shares[0]) and shares[210] == 0 and shares[140] == 1 and shares[62] == 1


def test_every_class_of_cci_is_translated():
    assert LCCS_TO_IGBP.keys() == FLAGS.keys() - {0}
    assert set(LCCS_TO_IGBP.values()) <= {"", *IGBP_CLASSES}


@pytest.mark.parametrize(
    ("lat", "lon"),
    [
        (axis(90, -90, 6), axis(-180, 180, 12)),
        (axis(-90, 90, 6), axis(0, 360, 12)),
        (axis(90, -90, 180), axis(-180, 180, 360)),  # finer than the map
        (np.linspace(90, -90, 13), np.linspace(0, 337.5, 16)),  # between pixels, with cells at the poles
        (np.array([45.0]), np.array([5.0, 15.0])),
        (axis(10, 40, 3), np.array([150.0, 170.0, -170.0, -150.0])),  # across the date line
        (axis(10, 40, 3), np.array([340.0, 350.0, 0.0, 10.0])),
        (axis(-20, 20, 2), axis(180, -180, 18)),
    ],
)
@pytest.mark.parametrize("west", [-180, 0])
def test_largest_class_of_cells(values, tmp_path, lat, lon, west):
    path = tmp_path / "map.nc"
    source = pixels(np.roll(values, 18 if west == 0 else 0, axis=1), west, west + 360)
    source.to_netcdf(path)
    like = xr.Dataset(coords={"lat": lat, "lon": lon})
    ds = open_landcover(path, like=like).load()
    assert ds["lat"].equals(like["lat"]) and ds["lon"].equals(like["lon"])
    check(ds, pixels(values)[MCD12C1], lat, lon)


def naive(
    source: xr.DataArray, south: float, north: float, west: float, east: float, slack: tuple[float, float]
) -> np.ndarray:
    """Area of each value in a cell, by a loop over all pixels of a global map; no narrow overlaps."""
    height, width = source.shape
    area = np.zeros(256)
    for y, x in np.ndindex(source.shape):
        top, left = 90 - y * 180 / height, -180 + x * 360 / width
        low, high = max(south, top - 180 / height), min(north, top)
        if high - low < slack[0]:
            continue
        for turn in (-360, 0, 360, 720):
            width_of = min(east, left + turn + 360 / width) - max(west, left + turn)
            if width_of > slack[1]:
                area[int(source[y, x])] += width_of * (np.sin(np.radians(high)) - np.sin(np.radians(low)))
    return area


def check(ds: xr.Dataset, source: xr.DataArray, lat: np.ndarray, lon: np.ndarray) -> None:
    """Compare cells with a loop; of several classes with nearly the same area each is right."""
    lon = np.unwrap(lon, period=360)
    half = abs(np.diff(lat if lat.size > 1 else lon).mean()) / 2, abs(np.diff(lon).mean()) / 2
    # Overlaps of less than a thousandth of a cell or pixel result from rounding.
    heights = np.clip(lat + half[0], -90, 90) - np.clip(lat - half[0], -90, 90)
    slack = (
        1e-3 * min(heights.min(), 180 / source.shape[0]),
        1e-3 * min(2 * half[1], 360 / source.shape[1]),
    )
    cells = list(np.ndindex(lat.size, lon.size))
    for y, x in cells[:: max(1, len(cells) // 60)]:
        south, north = (np.clip(lat[y] + sign * half[0], -90, 90) for sign in (-1, 1))
        area = naive(source, south, north, lon[x] - half[1], lon[x] + half[1], slack)
        found, fraction = ds["igbp"].values[y, x], ds["land_fraction"].values[y, x]
        land = area[1:17]
        np.testing.assert_allclose(fraction, land.sum() / (land.sum() + area[0]), rtol=1e-5)
        if land.sum() == 0:
            assert found == ""
        else:
            assert area[1 + LAND.index(found)] >= land.max() * (1 - 1e-6)


@hypothesis.settings(max_examples=25, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(
    seed=st.integers(0, 1000),
    shape=st.tuples(st.integers(2, 12), st.integers(2, 12)),
    step=st.tuples(st.floats(3, 60), st.floats(3, 90)),
    corner=st.tuples(st.floats(-80, 60), st.floats(-180, 180)),
    cells=st.tuples(st.integers(2, 4), st.integers(2, 4)),
    descending=st.booleans(),
    side=st.integers(1, 200),
)
@hypothesis.example(
    45, (8, 5), (3.0, 23.984375), (0.0, 0.0), (2, 3), False, 1
)  # nearly at the edge of a pixel
def test_aggregation_is_that_of_a_loop(tmp_path, seed, shape, step, corner, cells, descending, side):
    source = np.random.default_rng(seed).integers(0, 4, shape).astype("uint8")
    path = tmp_path / "map.nc"
    pixels(source).to_netcdf(path)
    lat = corner[0] + np.arange(cells[0]) * min(step[0], (85 - corner[0]) / cells[0])
    lat = lat[::-1] if descending else lat
    lon = corner[1] + np.arange(cells[1]) * step[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landcover, "_PIXELS", side)  # blocks of a few pixels
        ds = open_landcover(path, like=xr.Dataset(coords={"lat": lat, "lon": lon})).load()
    check(ds, pixels(source)[MCD12C1], lat, lon)


def test_ties_go_to_the_first_class(tmp_path):
    pixels(np.array([[10, 4], [4, 10]], "uint8")).to_netcdf(tmp_path / "map.nc")
    like = xr.Dataset(coords={"lat": [0.0], "lon": [0.0, 180.0]})
    assert open_landcover(tmp_path / "map.nc", like=like)["igbp"].values.tolist() == [["DBF", "DBF"]]


def test_land_of_unknown_class(tmp_path):
    lat, lon = axis(70, 69, 2), axis(8, 10, 4)
    values = np.array([[140, 140, 210, 0], [140, 130, 210, 130]], "uint8")
    path = write_cci(tmp_path / "cci.nc", values, lat, lon, time=True)
    cells = xr.Dataset(coords={"lat": [69.5], "lon": [8.5, 9.5, 10.5]})
    ds = open_landcover(path, like=cells)
    # Lichens cover most of the first cell; missing pixels count neither as land nor as water.
    assert ds["igbp"].values.tolist() == [["", "GRA", ""]]
    np.testing.assert_allclose(ds["land_fraction"], [[1, 0.335, np.nan]], atol=0.01)


def test_large_maps_are_read_in_blocks(tmp_path):
    """Only the chunks that a cell needs are read, and the graph is built without reading."""
    read = []

    def block(block_info):
        read.append(block_info[None]["chunk-location"])
        return np.full(block_info[None]["chunk-shape"], 4, "uint8")

    codes = da.map_blocks(block, chunks=((2025,) * 32, (2025,) * 64), dtype="uint8")
    lat, lon = axis(90, -90, 64800), axis(-180, 180, 129600)
    cells = xr.Dataset(coords={"lat": np.arange(50, 46, -0.25), "lon": np.arange(9, 14, 0.25)})
    with raise_on_compute():
        igbp, _ = landcover._aggregate(codes, lat, lon, cells)
    assert igbp.shape == (16, 20) and igbp.numblocks != (1, 1)
    assert (igbp.compute(scheduler="sync") == "DBF").all() and len(set(read)) <= 4


def test_result_is_a_cf_dataset(values, tmp_path, findings):
    pixels(values).to_netcdf(tmp_path / "map.nc")
    ds = open_landcover(tmp_path / "map.nc", like=xr.Dataset(coords={"lat": [5.0, 0.0], "lon": [0.0, 5.0]}))
    assert findings(ds.load()) == []


def test_map_of_the_package(values, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(landcover, "_PACKAGE", "a_map_in_a_package")
    with pytest.raises(FileNotFoundError, match=r"xcarbon\[landcover\]"):
        open_landcover()
    folder = tmp_path / "a_map_in_a_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ImportError('its code is not needed')")
    write_geotiff(folder / landcover._PACKAGED, values)
    assert (open_landcover()["igbp"].values == np.array(["", *LAND])[values]).all()


def test_real_map_of_the_package():
    pytest.importorskip("rasterio")
    try:
        ds = open_landcover(like=xr.Dataset(coords={"lat": [50.96, 48.7], "lon": [13.57, 2.35]}))
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert ds["igbp"].shape == (2, 2) and set(ds["igbp"].values.ravel()) <= set(LAND)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda ds: ds.rename({MCD12C1: "cover"}), VariableError, r"\['cover'\].*legend="),
        (lambda ds: ds.rename({MCD12C1: "a"}).assign(b=ds[MCD12C1]), VariableError, "file of its own"),
        (lambda ds: ds + np.uint8(20), FileFormatError, "value 20, which is not a class"),
        (lambda ds: ds + 0.5, FileFormatError, "value 0.5, which is not a class"),
        (lambda ds: ds.expand_dims(time=[1, 2]), FileFormatError, "single map"),
        (lambda ds: ds.drop_vars("lat"), FileFormatError, "no coordinate lat"),
        (lambda ds: ds.isel(lon=[0, 2, 1]), FileFormatError, "lon must be one-dimensional and monotonic"),
        (lambda ds: ds.assign_coords(lat=ds["lat"] * 2), FileFormatError, "lat must be one-dim"),
        (lambda ds: ds.rename(lat="row"), FileFormatError, "single map"),
    ],
)
def test_files_that_are_no_map(tmp_path, change, error, message):
    path = tmp_path / "theirs.nc"
    change(pixels(np.zeros((4, 8), "uint8"))).to_netcdf(path)
    with pytest.raises(error, match=message) as raised:
        open_landcover(path).load()
    assert "theirs.nc" in str(raised.value)


def test_other_files(values, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_landcover(tmp_path / "nowhere.hdf")
    for name in ("text.nc", "text.tif", "text.hdf"):
        (tmp_path / name).write_text("no map")
        with pytest.raises(FileFormatError, match=name):
            open_landcover(tmp_path / name)
    with pytest.raises(VariableError, match="no variable Majority_Land_Cover_Type_1"):
        open_landcover(write_hdf4(tmp_path / "MCD12C1.other.hdf", values, "Majority_Land_Cover_Type_2"))
    with pytest.raises(FileFormatError, match="global map"):
        open_landcover(write_hdf4(tmp_path / "MCD12C1.part.hdf", values[:9]))
    with pytest.raises(FileFormatError, match="EPSG:3857"):
        open_landcover(write_geotiff(tmp_path / "MCD12C1.mercator.tif", values, "EPSG:3857"))
    unnamed = write_geotiff(tmp_path / "unnamed.tif", values)
    with pytest.raises(VariableError, match="pass legend="):
        open_landcover(unnamed)
    assert (open_landcover(unnamed, legend="igbp")["igbp"].values[values == 4] == "DBF").all()
    with pytest.raises(OptionError, match="modis"):
        open_landcover(unnamed, legend="modis")


def test_grids_without_cells(values, tmp_path, towers):
    pixels(values).to_netcdf(tmp_path / "map.nc")
    for like, message in [
        (xr.Dataset(coords={"latitude": [1.0], "longitude": [1.0]}), "no coordinate lat and lon"),
        (xr.Dataset(coords={"lat": (("y", "x"), np.ones((2, 2))), "lon": 1.0}), "one-dimensional"),
        (towers, "lies along .site., as of towers"),
    ]:
        with pytest.raises(MetadataError, match=message):
            open_landcover(tmp_path / "map.nc", like=like)


def test_public_name():
    assert xcarbon.open_landcover is open_landcover


def test_damaged_pixels_are_named_when_they_are_computed(values, tmp_path):
    path = write_geotiff(tmp_path / "MCD12C1.A2019001.tif", values)
    path.write_bytes(path.read_bytes()[: -values.size // 2])
    with pytest.raises(FileFormatError, match=r"MCD12C1\.A2019001\.tif.* cannot be (read|opened)"):
        open_landcover(path).load()
