"""Raster files of MODIS products: what a file holds, and the pixels of a window of it.

GeoTIFF, NetCDF and HDF4-EOS files are read. Pixels stay on the sinusoidal grid that all products of 500 m
share, counted from its upper left corner; nothing is resampled.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core.errors import FileFormatError
from xcarbon.core.variables import REFLECTANCE_BANDS
from xcarbon.io.modis.grid import GRID_SHAPE, MODIS_RADIUS, PIXEL_SIZE
from xcarbon.io.modis.names import PRODUCTS, Name, find_product, named_layers

if TYPE_CHECKING:
    from rasterio.crs import CRS

Container = Literal["geotiff", "netcdf", "subset", "hdf4"]

#: Reflectance of one count of an integer. In HDF files of MOD09GA the attribute ``scale_factor`` is
#: 10000, which is to be divided by; in those of MCD43A4 it is 0.0001. The counts are the same.
COUNT = np.float32(1e-4)
_SUBSET_DIMS = ("site", "time", "band", "row", "col")
#: How far a raster may lie off the grid [pixels]: files round coordinates to centimetres.
_SLACK = 0.01


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle of pixels of the sinusoidal grid.

    Attributes
    ----------
    row, column : int
        Upper left pixel, counted from the upper left corner of the grid.
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
        """Give the pixels that both have, None if there are none."""
        row, column = max(self.row, other.row), max(self.column, other.column)
        height = min(self.row + self.height, other.row + other.height) - row
        width = min(self.column + self.width, other.column + other.width) - column
        return Area(row, column, height, width) if height > 0 and width > 0 else None

    def within(self, outer: Area) -> tuple[slice, slice]:
        """Give the rows and columns of an area that holds this one."""
        row, column = self.row - outer.row, self.column - outer.column
        return slice(row, row + self.height), slice(column, column + self.width)


@dataclass(frozen=True, slots=True, eq=False)
class Raster:
    """What is known of a raster before its pixels are read: enough to read them in another process.

    Attributes
    ----------
    path : str
        The file, or its URL.
    container : {"geotiff", "netcdf", "subset", "hdf4"}
        How to read it; a "subset" holds areas around several sites in one array.
    product : str
        One of :data:`PRODUCTS`.
    days : numpy.ndarray
        Days [datetime64[D]] in the order of the file; a composite has its first one.
    layers : dict
        Names in the file of ``B1`` to ``B7``, ``B1_quality`` to ``B7_quality``, ``state``, ``snow`` and
        ``water``, as far as they are there.
    area : Area
        Where on the grid it lies.
    rank : tuple
        Collection and production stamp: of two rasters of one product, day and area, the greater wins.
    subset : int
        Which area of a "subset" this is.
    """

    path: str
    container: Container
    product: str
    days: NDArray[np.datetime64]
    layers: Mapping[str, str]
    area: Area
    rank: tuple[float, str]
    subset: int = 0


# What a header says


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Turn what libraries raise into an error that names the file."""
    try:
        yield
    except (FileFormatError, FileNotFoundError):
        raise
    except (OSError, RuntimeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise FileFormatError(f"{path}: truncated, or not what its name says ({error})") from error


def _area(
    path: str, crs: CRS | None, corner: tuple[float, float], step: tuple[float, float], shape: tuple[int, ...]
) -> Area:
    """Find the pixels of a raster on the grid, and make sure that they are pixels of the grid.

    ``corner`` is easting and northing of the upper left corner [m], ``step`` how far the next pixel is to
    the east and to the south [m].
    """
    if not _is_sinusoidal(crs):
        raise FileFormatError(
            f"{path}: its CRS is {crs.to_string() if crs else 'not stated'}, but pixels are cut on the MODIS "
            f"sinusoidal grid (sphere of {MODIS_RADIUS} m); export the file in its native projection"
        )
    if not np.allclose(step, PIXEL_SIZE, rtol=0, atol=1e-3):
        raise FileFormatError(
            f"{path}: pixels are {step[0]:.10g} x {step[1]:.10g} m, but those of the 500 m grid are "
            f"{PIXEL_SIZE:.7f} m, with rows from north to south"
        )
    place = np.array([GRID_SHAPE[0] / 2 - corner[1] / PIXEL_SIZE, GRID_SHAPE[1] / 2 + corner[0] / PIXEL_SIZE])
    row, column = np.rint(place).astype(int)
    if np.abs(place - (row, column)).max() > _SLACK:
        raise FileFormatError(
            f"{path}: starts at x {corner[0]:.3f}, y {corner[1]:.3f} m, which is no corner of a pixel of the "
            "MODIS grid"
        )
    return Area(int(row), int(column), *shape)


def _is_sinusoidal(crs: CRS | None) -> bool:
    """Tell whether a CRS is that of the MODIS land products."""
    found = crs.to_dict() if crs else {}
    radius = found.get("R", found.get("a", 0))
    return bool(
        found.get("proj") == "sinu"
        and found.get("lon_0", 0) == 0
        and found.get("b", radius) == radius
        and abs(radius - MODIS_RADIUS) < 1e-3
    )


def open_rasters(path: str, name: Name | None) -> list[Raster]:
    """Read the header of a file.

    Parameters
    ----------
    path : str
        A GeoTIFF (``.tif``, ``.tiff``), NetCDF (``.nc``) or HDF4-EOS (``.hdf``) file, or its URL.
    name : Name or None
        What its name says.

    Returns
    -------
    list of Raster
        One, one of each site for subsets around sites, none if the file holds nothing that is read.

    Raises
    ------
    FileFormatError
        If it is broken, or not on the sinusoidal grid of 500 m.
    """
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
            raise FileFormatError(f"{path}: has {file.count} bands, but must hold {name.layer} alone")
        grid = file.transform
        area = _area(path, file.crs, (grid.c, grid.f), (grid.a, -grid.e), file.shape)
    return [Raster(path, "geotiff", name.product, np.array([name.day]), {name.layer: ""}, area, name.rank)]


def _open_hdf4(path: str, name: Name) -> list[Raster]:
    """Read the structure of an HDF4-EOS file; grids of other pixels than 500 m have no layer of ours."""
    from rasterio.crs import CRS

    with _hdf4(path) as file:
        attributes = file.attributes()
    structure = "".join(attributes[key] for key in sorted(attributes) if key.startswith("StructMetadata"))
    for grid in re.findall(r"GROUP=(GRID_\d+)\s(.*?)END_GROUP=\1\s", structure, re.DOTALL):
        layers = named_layers(re.findall(r'DataFieldName="(.+?)"', grid[1]))
        if layers:
            break
    else:
        raise FileFormatError(f"{path}: has no layer that is read, such as Nadir_Reflectance_Band1")
    field = dict(re.findall(r"(\w+)=(.+)", grid[1]))
    west, north = (float(number) for number in field["UpperLeftPointMtrs"].strip("()").split(","))
    east, south = (float(number) for number in field["LowerRightMtrs"].strip("()").split(","))
    shape = int(field["YDim"]), int(field["XDim"])
    step = (east - west) / shape[1], (north - south) / shape[0]
    if field["Projection"] != "GCTP_SNSOID":
        raise FileFormatError(
            f"{path}: the projection is {field['Projection']}, not the sinusoidal GCTP_SNSOID"
        )
    radius = field["ProjParams"].strip("()").split(",")[0]
    area = _area(path, CRS.from_string(f"+proj=sinu +R={radius}"), (west, north), step, shape)
    return [Raster(path, "hdf4", name.product, np.array([name.day]), layers, area, name.rank)]


@contextmanager
def _hdf4(path: str) -> Iterator[Any]:
    """Open an HDF4 file."""
    try:
        from pyhdf.error import HDF4Error
        from pyhdf.SD import SD
    except ImportError as error:
        raise FileFormatError(f"{path}: HDF4 files need pyhdf: pip install 'xcarbon[modis]'") from error
    try:
        file = SD(path)
        try:
            yield file
        finally:
            file.end()
    except HDF4Error as error:
        raise OSError(str(error)) from error


_OPENERS: dict[str, Callable[[str, Name], list[Raster]]] = {
    "tif": _open_geotiff,
    "tiff": _open_geotiff,
    "hdf": _open_hdf4,
}


def _open_netcdf(path: str, name: Name | None) -> list[Raster]:
    """Read the header of a NetCDF file: with a grid mapping, or subsets around sites."""
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
        area = _area(path, _grid_mapping(array), corner, step, (y.size, x.size))
        days = np.array([name.day]) if name.day is not None else _days(ds)
        if array.size != days.size * y.size * x.size:
            raise FileFormatError(f"{path}: {array.name} is {dict(array.sizes)}, but days are {days[:3]}")
        return [Raster(path, "netcdf", name.product, days, layers, area, name.rank)]


def _grid_mapping(array: xr.DataArray) -> CRS | None:
    """Read the CRS of an array, of which thousands of files state the same in the same words."""
    mapping = array.coords.get(array.rio.grid_mapping)
    attrs = {} if mapping is None else mapping.attrs
    return _parse_crs(tuple((key, tuple(np.atleast_1d(value).tolist())) for key, value in attrs.items()))


@functools.lru_cache(maxsize=100)
def _parse_crs(attrs: tuple[tuple[str, tuple[Any, ...]], ...]) -> CRS | None:
    words = {key: value[0] if len(value) == 1 else list(value) for key, value in attrs}
    crs: CRS | None = xr.DataArray(0, {"spatial_ref": ((), 0, words)}).rio.crs
    return crs


def _open_subsets(path: str, ds: xr.Dataset) -> list[Raster]:
    """Read the header of subsets on (site, time, band, row, col), as ORNL's service cuts them."""
    from rasterio.crs import CRS

    array = _subset_array(ds)
    product = find_product(" ".join(map(str, (ds.attrs | array.attrs).values())))
    if not product:
        raise FileFormatError(
            f"{path}: neither title nor long_name names one of the products {list(PRODUCTS)}"
        )
    layers = {f"B{band}": str(position) for position, band in enumerate(ds["band"].values)}
    days = _days(ds)
    shape = array.shape[-2:]
    size = float(ds.attrs.get("cellsize_m", PIXEL_SIZE))
    sphere = CRS.from_string(f"+proj=sinu +R={MODIS_RADIUS}")  # the service cuts on the native grid alone
    rasters = []
    for site, (west, south) in enumerate(zip(ds["xllcorner"].values, ds["yllcorner"].values, strict=True)):
        area = _area(path, sphere, (west, south + shape[0] * size), (size, size), shape)
        rasters.append(Raster(path, "subset", product, days, layers, area, (0.0, ""), site))
    return rasters


@contextmanager
def _netcdf(path: str) -> Iterator[xr.Dataset]:
    """Open a NetCDF file without unpacking values.

    The library is not safe for threads, and xarray guards the reading of values, but not the opening of
    files. The lock is held for both, so that files can be opened in tasks while others are written.
    """
    import rioxarray  # noqa: F401 - registers .rio
    from xarray.backends.netCDF4_ import NETCDF4_PYTHON_LOCK

    with (
        NETCDF4_PYTHON_LOCK,
        xr.open_dataset(
            path,
            engine="netcdf4",
            lock=False,
            mask_and_scale=False,
            decode_times=False,
            decode_coords="all",
            cache=False,
        ) as ds,
    ):
        yield ds


def _subset_array(ds: xr.Dataset) -> xr.DataArray:
    """Find the array of all sites and bands."""
    (array,) = (array for array in ds.data_vars.values() if array.dims == _SUBSET_DIMS)
    return array


def _days(ds: xr.Dataset) -> NDArray[np.datetime64]:
    """Days of a time axis in any calendar: AppEEARS counts in the Julian one."""
    decoded = xr.decode_cf(ds[["time"]])["time"]
    return np.atleast_1d(decoded.dt.strftime("%Y-%m-%d").values).astype("M8[D]")


# The pixels of a window


def read_window(raster: Raster, area: Area) -> dict[str, NDArray[Any]]:
    """Read all layers of a raster in a part of it, opening the file once.

    Parameters
    ----------
    raster : Raster
        One that :func:`open_rasters` gave.
    area : Area
        Pixels that lie in the raster.

    Returns
    -------
    dict
        Arrays ``(day, row, column)`` by layer: float32 reflectance [1] of bands, NaN where it is fill or
        out of the valid range; the numbers of the file for other layers.

    Raises
    ------
    FileFormatError
        If the file is broken, is not what its header or its neighbours said, or has reflectances that
        are neither integers nor fractions.
    """
    rows, columns = area.within(raster.area)
    shape = (raster.days.size, area.height, area.width)
    with _naming(raster.path):
        layers = _READERS[raster.container](raster, rows, columns)
        layers = {name: values.reshape(shape) for name, values in layers.items()}
    bands = {name: _reflectance(layers[name], raster, name) for name in layers.keys() & REFLECTANCE_BANDS}
    return layers | bands


def _reflectance(values: NDArray[Any], raster: Raster, name: str) -> NDArray[np.float32]:
    """Unpack integers; floats are reflectances already."""
    low, high = PRODUCTS[raster.product]
    if np.issubdtype(values.dtype, np.integer):
        valid, reflectance = (values >= low) & (values <= high), values.astype("float32") * COUNT
    else:
        if (values > 100).any():
            raise FileFormatError(
                f"{raster.path}: {name} has floats up to {np.nanmax(values):g}, which are no reflectances; "
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
                f"{raster.path}: has {file.shape} pixels, but another file of its tile in the folder is a "
                "whole tile; keep cut-outs in another folder"
            )
        return {next(iter(raster.layers)): file.read(1, window=Window.from_slices(rows, columns))}


def _read_hdf4(raster: Raster, rows: slice, columns: slice) -> dict[str, NDArray[Any]]:
    with _hdf4(raster.path) as file:
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
