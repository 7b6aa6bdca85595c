"""Raster files of MODIS products: reading of headers and of the pixels in a window.

The formats are GeoTIFF, NetCDF and HDF4-EOS. Pixels are counted from the upper left corner of the sinusoidal
grid that all products of 500 m share; they are not resampled.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core.errors import FileFormatError, reading
from xcarbon.core.variables import REFLECTANCE_BANDS
from xcarbon.io.handles import LOCK, open_netcdf_file
from xcarbon.io.hdf4 import open_hdf4
from xcarbon.io.modis.grid import MODIS_RADIUS, PIXEL_SIZE, grid_position
from xcarbon.io.modis.names import PRODUCTS, Name, find_product, named_layers

if TYPE_CHECKING:
    from rasterio.crs import CRS

Container = Literal["geotiff", "netcdf", "subset", "hdf4"]

#: Reflectance per count of packed integers [1]. The attribute ``scale_factor`` is not used, because it is a
#: divisor (10000) in HDF files of MOD09GA and a factor (0.0001) in those of MCD43A4.
COUNT = np.float32(1e-4)
_SUBSET_DIMS = ("site", "time", "band", "row", "col")
#: Tolerance for the position of a raster on the grid [pixels]; files round coordinates to centimetres.
_SLACK = 0.01


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle of pixels of the sinusoidal grid.

    Attributes
    ----------
    row, column : int
        Position of the upper left pixel, counted from the upper left corner of the grid.
    height, width : int
        Number of rows and columns.

    Examples
    --------
    >>> window, tile = Area(row=2396, column=0, height=8, width=8), Area(2400, 0, 2400, 2400)
    >>> window.overlap(tile)
    Area(row=2400, column=0, height=4, width=8)
    >>> window.overlap(Area(0, 2400, 2400, 2400)) is None
    True
    """

    row: int
    column: int
    height: int
    width: int

    def overlap(self, other: Area) -> Area | None:
        """Return the area that both contain, None if there is none."""
        row, column = max(self.row, other.row), max(self.column, other.column)
        height = min(self.row + self.height, other.row + other.height) - row
        width = min(self.column + self.width, other.column + other.width) - column
        return Area(row, column, height, width) if height > 0 and width > 0 else None

    def within(self, outer: Area) -> tuple[slice, slice]:
        """Return the rows and columns of this area within an area that contains it."""
        row, column = self.row - outer.row, self.column - outer.column
        return slice(row, row + self.height), slice(column, column + self.width)


@dataclass(frozen=True, slots=True, eq=False)
class Raster:
    """Description of a raster without its pixels, sufficient to read them in another process.

    Attributes
    ----------
    path : str
        Path or URL of the file.
    container : {"geotiff", "netcdf", "subset", "hdf4"}
        Format of the file; a "subset" contains areas around several sites in one array.
    product : str
        One of :data:`PRODUCTS`.
    days : numpy.ndarray
        Days, or first days of composites, in the order of the file [datetime64[D]].
    layers : dict
        Names in the file of the layers that it contains: ``B1`` to ``B7``, ``B1_quality`` to
        ``B7_quality``, ``state``, ``snow`` and ``water``.
    area : Area
        Pixels of the grid that the raster contains.
    rank : tuple
        Collection and production time stamp; among rasters of one product, day and area the greatest is
        used.
    subset : int
        Position of the site in a "subset".
    """

    path: str
    container: Container
    product: str
    days: NDArray[np.datetime64]
    layers: Mapping[str, str]
    area: Area
    rank: tuple[float, str]
    subset: int = 0


# Headers


def _naming(path: str) -> AbstractContextManager[None]:
    """Convert errors of libraries to a FileFormatError with the path."""
    return reading(f"{path}: the file is truncated or does not contain what its name states")


def _check_sinusoidal(path: str, crs: CRS | None) -> None:
    """Check that a CRS is that of the MODIS land products."""
    found = crs.to_dict() if crs else {}
    radius = found.get("R", found.get("a", 0))
    if not (
        found.get("proj") == "sinu"
        and found.get("lon_0", 0) == 0
        and found.get("b", radius) == radius
        and abs(radius - MODIS_RADIUS) < 1e-3
    ):
        raise FileFormatError(
            f"{path}: the CRS is {crs.to_string() if crs else 'not stated'}, but xcarbon reads the MODIS "
            f"sinusoidal grid (sphere of {MODIS_RADIUS} m); export the file in its native projection"
        )


def _area(path: str, corner: tuple[float, float], step: tuple[float, float], shape: tuple[int, ...]) -> Area:
    """Convert the upper left ``corner`` (x, y) and pixel ``step`` (east, south) [m] to pixels of the grid."""
    if not np.allclose(step, PIXEL_SIZE, rtol=0, atol=1e-3):
        raise FileFormatError(
            f"{path}: pixels are {step[0]:.10g} x {step[1]:.10g} m, but those of the 500 m grid are "
            f"{PIXEL_SIZE:.7f} m, with rows from north to south"
        )
    position = np.array(grid_position(*corner))
    row, column = np.rint(position).astype(int)
    if np.abs(position - (row, column)).max() > _SLACK:
        raise FileFormatError(
            f"{path}: the raster starts at x {corner[0]:.3f}, y {corner[1]:.3f} m, which is not the corner "
            "of a pixel of the MODIS grid; export the file without resampling"
        )
    return Area(int(row), int(column), *shape)


def open_rasters(path: str, name: Name | None) -> list[Raster]:
    """Read the header of a GeoTIFF, NetCDF or HDF4-EOS file; the list is empty without known layers."""
    suffix = path.partition("?")[0].rpartition(".")[2].lower()  # a URL may carry a signature
    with _naming(path):
        if suffix == "nc":
            return _open_netcdf(path, name)
        if name is not None and suffix in _OPENERS:
            return _OPENERS[suffix](path, name)
    return []


def _open_geotiff(path: str, name: Name) -> list[Raster]:
    """Read the header of a GeoTIFF of one layer."""
    import rasterio

    if name.layer is None or name.day is None:
        return []
    with rasterio.open(path) as file:
        if file.count != 1:
            raise FileFormatError(
                f"{path}: the file has {file.count} bands, but its name states the single layer {name.layer}"
            )
        _check_sinusoidal(path, file.crs)
        grid = file.transform
        area = _area(path, (grid.c, grid.f), (grid.a, -grid.e), file.shape)
    return [Raster(path, "geotiff", name.product, np.array([name.day]), {name.layer: ""}, area, name.rank)]


def _open_hdf4(path: str, name: Name) -> list[Raster]:
    """Read the structure of an HDF4-EOS file and use the grid with known layers, which is that of 500 m."""
    from rasterio.crs import CRS

    with open_hdf4(path) as file:
        attributes = file.attributes()
    structure = "".join(attributes[key] for key in sorted(attributes) if key.startswith("StructMetadata"))
    for grid in re.findall(r"GROUP=(GRID_\d+)\s(.*?)END_GROUP=\1\s", structure, re.DOTALL):
        layers = named_layers(re.findall(r'DataFieldName="(.+?)"', grid[1]))
        if layers:
            break
    else:
        raise FileFormatError(
            f"{path}: the file contains no layer that xcarbon reads, such as Nadir_Reflectance_Band1"
        )
    field = dict(re.findall(r"(\w+)=(.+)", grid[1]))
    west, north = (float(number) for number in field["UpperLeftPointMtrs"].strip("()").split(","))
    east, south = (float(number) for number in field["LowerRightMtrs"].strip("()").split(","))
    shape = int(field["YDim"]), int(field["XDim"])
    step = (east - west) / shape[1], (north - south) / shape[0]
    if field["Projection"] != "GCTP_SNSOID":
        raise FileFormatError(
            f"{path}: the projection is {field['Projection']}, but xcarbon reads the sinusoidal GCTP_SNSOID"
        )
    radius = field["ProjParams"].strip("()").split(",")[0]
    _check_sinusoidal(path, CRS.from_string(f"+proj=sinu +R={radius}"))
    area = _area(path, (west, north), step, shape)
    return [Raster(path, "hdf4", name.product, np.array([name.day]), layers, area, name.rank)]


_OPENERS: dict[str, Callable[[str, Name], list[Raster]]] = {
    "tif": _open_geotiff,
    "tiff": _open_geotiff,
    "hdf": _open_hdf4,
}


def _open_netcdf(path: str, name: Name | None) -> list[Raster]:
    """Read the header of a NetCDF file with a grid mapping or with subsets around sites."""
    with _netcdf(path) as ds:
        if set(_SUBSET_DIMS) <= set(ds.dims):
            return _open_subsets(path, ds)
        layers = named_layers(ds.data_vars)
        if name is None or not layers:
            return []
        array = ds[next(iter(layers.values()))]
        y, x = (ds[dim].values for dim in array.dims[-2:])
        step = (x[-1] - x[0]) / (x.size - 1), (y[0] - y[-1]) / (y.size - 1)
        corner = x[0] - step[0] / 2, y[0] + step[1] / 2
        _check_sinusoidal(path, _grid_mapping(array))
        area = _area(path, corner, step, (y.size, x.size))
        days = np.array([name.day]) if name.day is not None else _days(ds)
        if array.size != days.size * y.size * x.size:
            raise FileFormatError(
                f"{path}: {array.name} has dimensions {dict(array.sizes)}, which do not fit the days "
                f"{days[:3]} of the file"
            )
        return [Raster(path, "netcdf", name.product, days, layers, area, name.rank)]


def _grid_mapping(array: xr.DataArray) -> CRS | None:
    """Read the CRS of an array; parsing is cached, because thousands of files have equal attributes."""
    mapping = array.coords.get(array.rio.grid_mapping)
    attrs = {} if mapping is None else mapping.attrs
    return _parse_crs(tuple((key, tuple(np.atleast_1d(value).tolist())) for key, value in attrs.items()))


@functools.lru_cache(maxsize=100)
def _parse_crs(attrs: tuple[tuple[str, tuple[Any, ...]], ...]) -> CRS | None:
    words = {key: value[0] if len(value) == 1 else list(value) for key, value in attrs}
    crs: CRS | None = xr.DataArray(0, {"spatial_ref": ((), 0, words)}).rio.crs
    return crs


def _open_subsets(path: str, ds: xr.Dataset) -> list[Raster]:
    """Read the header of subsets on (site, time, band, row, col) from the service of ORNL."""
    array = _subset_array(ds)
    product = find_product(" ".join(map(str, (ds.attrs | array.attrs).values())))
    if not product:
        raise FileFormatError(
            f"{path}: the attributes title and long_name contain none of the products {list(PRODUCTS)}"
        )
    layers = {f"B{band}": str(position) for position, band in enumerate(ds["band"].values)}
    days = _days(ds)
    shape = array.shape[-2:]
    size = float(ds.attrs.get("cellsize_m", PIXEL_SIZE))
    rasters = []
    # The file states no CRS; the service only uses the native sinusoidal grid.
    for site, (west, south) in enumerate(zip(ds["xllcorner"].values, ds["yllcorner"].values, strict=True)):
        area = _area(path, (west, south + shape[0] * size), (size, size), shape)
        rasters.append(Raster(path, "subset", product, days, layers, area, (0.0, ""), site))
    return rasters


@contextmanager
def _netcdf(path: str) -> Iterator[xr.Dataset]:
    """Open a NetCDF file without unpacking values.

    The lock of NetCDF is held in the block, so that tasks can read files while others are written.
    """
    import rioxarray  # noqa: F401 - registers .rio

    with (
        LOCK,
        open_netcdf_file(
            path, mask_and_scale=False, decode_times=False, decode_coords="all", cache=False
        ) as ds,
    ):
        yield ds


def _subset_array(ds: xr.Dataset) -> xr.DataArray:
    """Select the array of all sites and bands."""
    (array,) = (array for array in ds.data_vars.values() if array.dims == _SUBSET_DIMS)
    return array


def _days(ds: xr.Dataset) -> NDArray[np.datetime64]:
    """Days of a time axis in any calendar; files of AppEEARS use the Julian calendar."""
    decoded = xr.decode_cf(ds[["time"]])["time"]
    return np.atleast_1d(decoded.dt.strftime("%Y-%m-%d").values).astype("M8[D]")


# Pixels of a window


def read_window(raster: Raster, area: Area) -> dict[str, NDArray[Any]]:
    """Read all layers in an area of a raster, ``(day, row, column)`` each, opening the file once.

    Bands are float32 reflectance [1], NaN where fill or out of the valid range; other layers are not decoded.
    """
    rows, columns = area.within(raster.area)
    shape = (raster.days.size, area.height, area.width)
    with _naming(raster.path):
        layers = _READERS[raster.container](raster, rows, columns)
        layers = {name: values.reshape(shape) for name, values in layers.items()}
    bands = {name: _reflectance(layers[name], raster, name) for name in layers.keys() & REFLECTANCE_BANDS}
    return layers | bands


def _reflectance(values: NDArray[Any], raster: Raster, name: str) -> NDArray[np.float32]:
    """Convert integers to reflectance [1]; floats already are reflectances."""
    low, high = PRODUCTS[raster.product]
    if np.issubdtype(values.dtype, np.integer):
        valid, reflectance = (values >= low) & (values <= high), values.astype("float32") * COUNT
    else:
        if (values > 100).any():
            raise FileFormatError(
                f"{raster.path}: {name} has floats up to {np.nanmax(values):g}, which are not reflectances; "
                "write packed values as integers"
            )
        valid, reflectance = (values > (low - 0.5) * COUNT) & (values < (high + 0.5) * COUNT), values
    return np.where(valid, reflectance, np.float32(np.nan)).astype("float32")


def _read_geotiff(raster: Raster, rows: slice, columns: slice) -> dict[str, NDArray[Any]]:
    import rasterio
    from rasterio.windows import Window

    with rasterio.open(raster.path) as file:
        if file.shape != (raster.area.height, raster.area.width):
            raise FileFormatError(
                f"{raster.path}: the file has {file.shape} pixels, but another file of its tile in the "
                "folder contains the whole tile; move cropped files to another folder"
            )
        return {next(iter(raster.layers)): file.read(1, window=Window.from_slices(rows, columns))}


def _read_hdf4(raster: Raster, rows: slice, columns: slice) -> dict[str, NDArray[Any]]:
    with open_hdf4(raster.path) as file:
        return {layer: file.select(name)[rows, columns] for layer, name in raster.layers.items()}


def _read_netcdf(raster: Raster, rows: slice, columns: slice) -> dict[str, NDArray[Any]]:
    with _netcdf(raster.path) as ds:
        return {layer: ds[name][..., rows, columns].values for layer, name in raster.layers.items()}


def _read_subset(raster: Raster, rows: slice, columns: slice) -> dict[str, NDArray[Any]]:
    with _netcdf(raster.path) as ds:
        values = _subset_array(ds)[raster.subset, ..., rows, columns].values
    return {layer: values[:, int(position)] for layer, position in raster.layers.items()}


_READERS: dict[Container, Callable[[Raster, slice, slice], dict[str, NDArray[Any]]]] = {
    "geotiff": _read_geotiff,
    "hdf4": _read_hdf4,
    "netcdf": _read_netcdf,
    "subset": _read_subset,
}
