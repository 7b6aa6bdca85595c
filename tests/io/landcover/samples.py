"""Maps of land cover in all formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from xcarbon.core.variables import IGBP_CLASSES

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
