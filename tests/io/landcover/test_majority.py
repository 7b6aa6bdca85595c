"""Cells have the class that covers most of their land."""

from __future__ import annotations

import dask.array as da
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import xarray as xr

from tests.io.landcover.samples import LAND, MCD12C1, axis, pixels, write_cci
from xcarbon.core.errors import MetadataError
from xcarbon.io.landcover import majority, open_landcover
from xcarbon.testing import raise_on_compute


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
@hypothesis.example(0, (2, 2), (3.0, 3.0), (-72.2, -140.9), (2, 2), False, 1)  # beyond the outer centres
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
        patch.setattr(majority, "_PIXELS", side)  # blocks of a few pixels
        ds = open_landcover(path, like=xr.Dataset(coords={"lat": lat, "lon": lon})).load()
    check(ds, pixels(source)[MCD12C1], lat, lon)


def test_map_of_another_region_is_an_error(tmp_path):
    def cells(lat, lon):
        return open_landcover(path, like=xr.Dataset(coords={"lat": lat, "lon": lon}))["igbp"].values

    path = write_cci(
        tmp_path / "cci.nc", np.full((10, 20), 130, "uint8"), axis(50, 45, 10), axis(5, 15, 20), time=True
    )
    inside = [8.0, 9.0], [368.0, 369.0], [-360 + 14.9, -360 + 15.9], [4.9, 3.9]
    for lon in inside:
        assert (cells([48.0, 47.0], lon) == "GRA").any()
    outside = ([48.0, 47.0], [20.0, 21.0]), ([30.0, 29.0], [8.0, 9.0]), ([48.0, 47.0], [-10.0, -9.0])
    for lat, lon in outside:
        with pytest.raises(MetadataError, match=r"cci.nc covers 45 to 50 degrees north .* no cell in common"):
            cells(lat, lon)


@pytest.mark.parametrize(("lat", "lon"), [(-89.0, -179.0), (-72.2, -140.9), (89.0, 179.0), (1.0, 361.0)])
def test_cells_lie_on_the_outer_half_of_large_pixels(tmp_path, lat, lon):
    pixels(np.full((2, 2), 10, "uint8")).to_netcdf(tmp_path / "map.nc")
    like = xr.Dataset(coords={"lat": [lat, lat + 0.5], "lon": [lon, lon + 0.5]})
    assert (open_landcover(tmp_path / "map.nc", like=like)["igbp"] == "GRA").all()


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
        igbp, _ = majority.aggregate(codes, lat, lon, cells, "map.nc")
    assert igbp.shape == (16, 20) and igbp.numblocks != (1, 1)
    assert (igbp.compute(scheduler="sync") == "DBF").all() and len(set(read)) <= 4
