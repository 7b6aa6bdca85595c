"""Grids of the data model, ``(time, lat, lon)`` in UTC, opened from and written to Zarr and NetCDF."""

from __future__ import annotations

import math
import os
import warnings
from pathlib import Path
from typing import Any

import xarray as xr

from xcarbon.core import conventions
from xcarbon.core.atomic import check_free, replacing
from xcarbon.core.errors import FileFormatError, StoreError, VariableError
from xcarbon.core.options import progress_bar
from xcarbon.core.validation import check_hourly
from xcarbon.core.variables import VARIABLES
from xcarbon.io.store import as_opened

PathLike = str | os.PathLike[str]

DIMS = ("time", "lat", "lon")
#: Values in a chunk of a file: what is worth a file of its own in a store.
CHUNK = 2**22
_RENAMED = {"latitude": "lat", "longitude": "lon"}


def open_grid(path: PathLike) -> xr.Dataset:
    """Open a Zarr store or NetCDF file of drivers on a grid lazily.

    Parameters
    ----------
    path : path-like or URL
        With variables named by code, in the units of the vocabulary, on hourly ``time`` in UTC, ``lat`` (or
        ``latitude``) and ``lon`` (or ``longitude``). For ERA5's own files see :func:`xcarbon.open_era5`.

    Returns
    -------
    xarray.Dataset
        Float32 in the chunks of the source.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    FileFormatError
        If it is neither Zarr nor NetCDF, or lacks one of the dimensions.
    VariableError
        If there is no variable of the vocabulary.
    MetadataError
        If a variable is in other units.
    TimestampError
        If the time axis is not hourly.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> time = np.arange("2022-07-01", "2022-07-02", dtype="datetime64[h]").astype("M8[ns]")
    >>> grid = {"time": time, "lat": [48.0, 47.75], "lon": [8.0, 8.25]}
    >>> ds = xr.Dataset({"TA": (DIMS, np.full((24, 2, 2), 20.0, "float32"))}, grid)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_grid(ds, f"{folder}/drivers.zarr")
    ...     open_grid(path)["TA"].attrs["units"]
    'degC'
    """
    ds = open_lazily(path)
    ds = ds.rename({old: new for old, new in _RENAMED.items() if old in ds.dims})
    if not set(DIMS) <= set(ds.dims):
        raise FileFormatError(f"{path} is no grid: it has dims {tuple(ds.dims)}, not time, lat and lon")
    if not any(name in VARIABLES for name in ds.data_vars):
        raise VariableError(f"{path} has no variable that models read, but {sorted(map(str, ds.data_vars))}")
    check_hourly(ds["time"], str(path))
    return as_opened(ds, path)


def open_lazily(path: PathLike) -> xr.Dataset:
    """Open any Zarr store or NetCDF file in its own chunks.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    FileFormatError
        If it is neither.
    """
    try:
        with warnings.catch_warnings():
            # Stores of others may lack the index that opens them in one read.
            warnings.filterwarnings("ignore", message="Failed to open Zarr store with consolidated metadata")
            engine = None if os.path.isfile(path) else "zarr"
            return xr.open_dataset(path, engine=engine, chunks={}, decode_coords="all")
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file or Zarr store {path}") from None
    except (OSError, KeyError, ValueError) as error:
        raise FileFormatError(f"{path} cannot be opened as NetCDF or Zarr: {error}") from error


def write_grid(ds: xr.Dataset, path: PathLike, *, overwrite: bool = False) -> Path:
    """Write a grid to a Zarr v3 store or a NetCDF4 file, atomically and chunk by chunk.

    Parameters
    ----------
    ds : xarray.Dataset
        Variables of the data model on ``(time, lat, lon)``.
    path : path-like
        Ending in ``.zarr`` or ``.nc``. It appears when everything is written, never before.
    overwrite : bool
        Replace what is there, which is kept until the new one is complete.

    Returns
    -------
    pathlib.Path
        The store or file.

    Raises
    ------
    StoreError
        If ``path`` exists, or ``ds`` is no grid.
    """
    path = Path(path)
    if not conventions.is_grid(ds) or "time" not in ds.dims:
        raise StoreError(f"a grid has dims time, lat and lon, found {tuple(ds.dims)}")
    check_free(path, overwrite=overwrite)
    ds = conventions.apply(ds.drop_encoding(), history="written by xcarbon.io.grid.write_grid")
    if not ds.chunks:
        ds = ds.chunk()
    ds = ds.chunk(_file_chunks(ds)).assign_coords(ds.coords.to_dataset().load().coords)
    with replacing(path) as temporary, progress_bar("writing"):
        if path.suffix == ".zarr":
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part.*")
                ds.to_zarr(temporary, mode="w", zarr_format=3, consolidated=True, encoding=_encoding(ds, {}))
        else:
            ds.to_netcdf(temporary, encoding=_encoding(ds, {"zlib": True, "complevel": 4}))
    return path


def _file_chunks(ds: xr.Dataset) -> dict[Any, int]:
    """Chunks of one size, as a file has them, of blocks of cells that are computed one by one."""
    sizes = {dim: max(chunks) for dim, chunks in ds.unify_chunks().chunksizes.items()}
    side = max(1, math.isqrt(CHUNK // math.prod(sizes[dim] for dim in DIMS)))
    return sizes | {dim: side * sizes[dim] for dim in ("lat", "lon")}


def _encoding(ds: xr.Dataset, compression: dict[str, Any]) -> dict[Any, dict[str, Any]]:
    """Chunks of the file as those of the arrays."""
    key = "chunksizes" if compression else "chunks"
    return {
        name: array.encoding | compression | {key: tuple(sizes[0] for sizes in array.chunks or ())}
        for name, array in ds.data_vars.items()
        if array.chunks
    }
