"""Open and write grids, ``(time, lat, lon)`` in UTC, as Zarr or NetCDF."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import xarray as xr

from xcarbon.core import conventions
from xcarbon.core.atomic import replacing
from xcarbon.core.errors import FileFormatError, StoreError, VariableError, reading
from xcarbon.core.options import progress_bar
from xcarbon.core.validation import check_hourly
from xcarbon.core.variables import VARIABLES
from xcarbon.io import handles
from xcarbon.io.location import Location
from xcarbon.io.regions import in_regions, write_store
from xcarbon.io.store import as_opened

PathLike = str | os.PathLike[str]

DIMS = ("time", "lat", "lon")
#: Largest number of values in a chunk of a file, which is one file of a Zarr store.
CHUNK = 2**22


def open_grid(path: PathLike) -> xr.Dataset:
    """Open a Zarr store or NetCDF file of drivers on a grid lazily.

    Parameters
    ----------
    path : path-like or URL
        Its variables are named by code, in the units of the vocabulary, on hourly ``time`` in UTC, ``lat``
        (or ``latitude``) and ``lon`` (or ``longitude``). Files of ERA5 are opened by
        :func:`xcarbon.open_era5`.

    Returns
    -------
    xarray.Dataset
        Variables ``(time, lat, lon)``, float32, in the chunks of the source.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    FileFormatError
        If it is neither Zarr nor NetCDF, or lacks one of the dimensions.
    VariableError
        If it has no variable of the vocabulary.
    MetadataError
        If a variable has other units than the vocabulary.
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
    longer = {"latitude": "lat", "longitude": "lon"}
    ds = ds.rename({old: new for old, new in longer.items() if old in ds.dims})
    if not set(DIMS) <= set(ds.dims):
        raise FileFormatError(
            f"{path} is not a grid: it has dims {tuple(ds.dims)}, but time, lat and lon are needed"
        )
    if not any(name in VARIABLES for name in ds.data_vars):
        found = sorted(map(str, ds.data_vars))
        raise VariableError(f"{path} has no variable of the vocabulary, found {found}: rename its variables")
    check_hourly(ds["time"], str(path))
    return as_opened(ds, path)


def open_lazily(path: PathLike, **settings: Any) -> xr.Dataset:
    """Open any Zarr store or NetCDF file, by default in its own chunks."""
    try:
        with reading(f"{path} cannot be opened as NetCDF or Zarr"):
            engine = None if os.path.isfile(path) else "zarr"
            how = {"engine": engine, "chunks": {}, "decode_coords": "all"} | settings
            return handles.open_file(path, **how)
    except FileNotFoundError as error:
        if os.path.exists(path):
            raise FileFormatError(
                f"{path} cannot be opened as NetCDF or Zarr ({error}): a file of it is missing"
            ) from error
        raise FileNotFoundError(f"there is no file or Zarr store {path}") from None


def write_grid(ds: xr.Dataset, path: PathLike, *, overwrite: bool = False) -> Path | str:
    """Write a grid to a Zarr v3 store or a NetCDF4 file.

    Parameters
    ----------
    ds : xarray.Dataset
        Variables of the data model, on ``(time, lat, lon)``.
    path : path-like or URL
        File to write, ending in ``.nc``, or store, ending in ``.zarr``. It is written under a hidden name and
        renamed when it is complete. URLs are written as :func:`xcarbon.io.store.to_store` states.
    overwrite : bool
        Whether to replace an existing file or store. It is kept until the new one is complete.

    Returns
    -------
    pathlib.Path or str
        The store or file, or the URL.

    Raises
    ------
    StoreError
        If ``path`` exists and ``overwrite`` is false, or if ``ds`` is not a grid.
    MetadataError
        If a variable has other units than the vocabulary.

    Notes
    -----
    It is computed and written chunk by chunk. Small Dask chunks are joined along ``lat`` and ``lon`` to
    chunks of at most four million values.

    Examples
    --------
    >>> import tempfile, xcarbon
    >>> import numpy as np
    >>> time = np.arange("2022-07-01", "2022-07-02", dtype="datetime64[h]").astype("M8[ns]")
    >>> grid = {"time": time, "lat": [48.0, 47.75], "lon": [8.0, 8.25]}
    >>> ds = xr.Dataset({"TA": (DIMS, np.full((24, 2, 2), 20.0, "float32"))}, grid)
    >>> with tempfile.TemporaryDirectory() as folder, xcarbon.set_options(progress=False):
    ...     write_grid(ds, f"{folder}/drivers.nc").name
    'drivers.nc'
    """
    location = Location.of(path)
    if not conventions.is_grid(ds) or "time" not in ds.dims:
        raise StoreError(f"a grid has dims time, lat and lon, found {tuple(ds.dims)}")
    location.check_free(overwrite=overwrite)
    ds = by_chunk(conventions.apply(ds.drop_encoding(), history="written by xcarbon.io.grid.write_grid"))
    if location.suffix == ".zarr" or location.is_repository:
        write_store(ds, location)
    else:
        write_file(ds, Path(location.path))
    return location.returned


def by_chunk(ds: xr.Dataset) -> xr.Dataset:
    """Chunk a grid as its file: in chunks of one size, small ones joined along ``lat`` and ``lon``."""
    ds = ds if ds.chunks else ds.chunk()
    sizes = {dim: max(chunks) for dim, chunks in ds.unify_chunks().chunksizes.items()}
    side = max(1, math.isqrt(CHUNK // math.prod(sizes[dim] for dim in DIMS)))
    return in_regions(ds, sizes | {dim: side * sizes[dim] for dim in ("lat", "lon")}, set(DIMS))


def write_file(ds: xr.Dataset, path: Path) -> None:
    """Write a Dataset to a NetCDF4 file in its own chunks, and move it to ``path`` when it is complete."""
    encoding: dict[Any, dict[str, Any]] = {
        name: {"zlib": True, "complevel": 4, "chunksizes": tuple(sizes[0] for sizes in array.chunks)}
        for name, array in ds.data_vars.items()
        if array.chunks
    }
    with replacing(path, ds.nbytes) as temporary, progress_bar("writing"):
        handles.write_file(ds, temporary, encoding)
