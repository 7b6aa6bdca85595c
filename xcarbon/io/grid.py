"""Open and write grids, ``(time, lat, lon)`` in UTC, as Zarr or NetCDF."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from dask.base import tokenize

from xcarbon.core import conventions
from xcarbon.core.atomic import occupied, replacing
from xcarbon.core.errors import FileFormatError, OptionError, StoreError, VariableError, reading
from xcarbon.core.options import progress_bar
from xcarbon.core.validation import check_hourly
from xcarbon.core.variables import VARIABLES
from xcarbon.io import handles
from xcarbon.io.chunks import open_zarr
from xcarbon.io.location import Location, Options, PathLike
from xcarbon.io.regions import in_regions, write_store
from xcarbon.io.store import as_opened
from xcarbon.prep.cells import with_cell_area

DIMS = ("time", "lat", "lon")
#: Largest number of values in a chunk of a file, which is one file of a Zarr store.
CHUNK = 2**22


def open_grid(path: PathLike, *, storage_options: Options | None = None) -> xr.Dataset:
    """Open a Zarr store or NetCDF file of drivers or fluxes on a grid lazily.

    Parameters
    ----------
    path : path-like or URL
        Its variables are named by code, in the units of the vocabulary, on hourly ``time`` in UTC, ``lat``
        (or ``latitude``) and ``lon`` (or ``longitude``). Files of ERA5 are opened by
        :func:`xcarbon.open_era5`. URLs of stores are those of :func:`xcarbon.open_store`.
    storage_options : mapping, optional
        How the URL is accessed, as for :func:`xcarbon.open_store`.

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
    StoreError
        If there is no complete store in a bucket, or it cannot be accessed.
    OptionError
        If ``storage_options`` are not those of the storage, or if ``path`` is local.
    MissingPackageError
        If the store is in a bucket, and the extra ``cloud`` is not installed.

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
    ds = open_lazily(path, storage_options)
    longer = {"latitude": "lat", "longitude": "lon"}
    ds = ds.rename({old: new for old, new in longer.items() if old in ds.dims})
    if not set(DIMS) <= set(ds.dims):
        raise FileFormatError(
            f"{path} is not a grid: it has dims {tuple(ds.dims)}, but time, lat and lon are needed"
        )
    if not any(name in VARIABLES for name in ds.data_vars):
        found = sorted(map(str, ds.data_vars))
        raise VariableError(f"{path} has no variable of the vocabulary, found {found}: rename its variables")
    check_hourly(ds["time"], str(path), in_file=True)
    return as_opened(ds, path)


def open_lazily(path: PathLike, storage_options: Options | None = None, **settings: Any) -> xr.Dataset:
    """Open any Zarr store or NetCDF file, by default in its own chunks."""
    how = {"chunks": {}, "decode_coords": "all"} | settings
    location = Location.of(path, storage_options)
    try:
        with reading(f"{path} cannot be opened as NetCDF or Zarr"):
            if os.path.isfile(location.path):
                return handles.open_file(location.path, **how)
            return open_zarr(location.open(), **how)
    except FileNotFoundError as error:
        if os.path.exists(path):
            raise FileFormatError(
                f"{path} cannot be opened as NetCDF or Zarr ({error}): a file of it is missing"
            ) from error
        raise FileNotFoundError(f"there is no file or Zarr store {path}") from None


def write_grid(
    ds: xr.Dataset,
    path: PathLike,
    *,
    overwrite: bool = False,
    storage_options: Options | None = None,
) -> Path | str:
    """Write a grid to a Zarr v3 store or a NetCDF4 file.

    Parameters
    ----------
    ds : xarray.Dataset
        Variables of the data model on ``(time, lat, lon)``, hourly or from
        :func:`~xcarbon.prep.aggregate.aggregate`.
    path : path-like or URL
        File to write, ending in ``.nc``, or store, ending in ``.zarr``. It is written under a hidden name and
        renamed when it is complete. URLs are written as :func:`xcarbon.io.store.to_store` states.
    overwrite : bool
        Whether to replace an existing file or store. It is kept until the new one is complete.
    storage_options : mapping, optional
        How the URL is accessed, as for :func:`xcarbon.open_store`.

    Returns
    -------
    pathlib.Path or str
        The store or file, or the URL.

    Raises
    ------
    StoreError
        If ``path`` exists and ``overwrite`` is false, or if ``ds`` is not a grid.
    OptionError
        If ``path`` ends in neither ``.zarr`` nor ``.nc``, or if ``storage_options`` are not those of the
        storage.
    MetadataError
        If an hourly variable has other units than the vocabulary.
    TimestampError
        If time is neither hourly nor the result of ``aggregate``.
    MissingPackageError
        If the store is in a bucket, and the extra ``cloud`` is not installed.

    Notes
    -----
    It is computed and written chunk by chunk. Small Dask chunks are joined along ``lat`` and ``lon`` to
    chunks of at most four million values. The coordinate ``cell_area`` [m2] is that of
    :func:`~xcarbon.prep.cells.cell_area`.

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
    location = Location.of(path, storage_options)
    location.check_output()
    location.check_free(overwrite=overwrite)
    ds = by_chunk(_described(ds, "written by xcarbon.io.grid.write_grid"))
    if location.suffix == ".nc":
        write_file(ds, Path(location.path))
    else:
        write_store(ds, location)
    return location.returned


def write_years(ds: xr.Dataset, path: PathLike, *, overwrite: bool = False) -> list[Path]:
    """Write a grid to one NetCDF4 file for each calendar year, continuing an earlier call.

    Parameters
    ----------
    ds : xarray.Dataset
        Variables of the data model on ``(time, lat, lon)``, hourly or from
        :func:`~xcarbon.prep.aggregate.aggregate`.
    path : path-like
        Path of the files without the year: ``maps/NEE.nc`` is written as ``maps/NEE_2010.nc``,
        ``maps/NEE_2011.nc`` and so on.
    overwrite : bool
        Whether to replace existing files with other data. Each of them is kept until the new one is complete.

    Returns
    -------
    list of pathlib.Path
        The files, one for each year.

    Raises
    ------
    OptionError
        If ``path`` does not end in ``.nc``, or is a URL.
    StoreError
        If a file exists that contains other data, and ``overwrite`` is false; nothing is written then. If
        ``ds`` is not a grid.
    MetadataError
        If an hourly variable has other units than the vocabulary.
    TimestampError
        If time is neither hourly nor the result of ``aggregate``.
    KeyboardInterrupt
        On Ctrl-C. The same call writes only the years that are missing.

    Notes
    -----
    Years are computed one after the other, each of them chunk by chunk as by :func:`write_grid`, and a file
    appears when it is complete. The attribute ``id`` of a file identifies the data that it was written from:
    existing files with the same ``id`` are kept and not computed again.

    Examples
    --------
    >>> import tempfile, xcarbon
    >>> from xcarbon.testing import synthetic_grid
    >>> ds = synthetic_grid(2, 2, years=2)[["TA"]]
    >>> with tempfile.TemporaryDirectory() as folder, xcarbon.set_options(progress=False):
    ...     files = write_years(ds.carbon.aggregate("MM"), f"{folder}/TA.nc")
    ...     [file.name for file in files], xr.open_dataset(files[0])["TA"].attrs["cell_measures"]
    (['TA_2010.nc', 'TA_2011.nc'], 'area: cell_area')
    """
    location = Location.of(path)
    if location.folder is None or location.suffix != ".nc":
        raise OptionError(f"{path} must be a local path that ends in .nc, such as maps/NEE.nc")
    identity = tokenize(ds.assign_attrs(history=""))
    ds = _described(ds, "written by xcarbon.io.grid.write_years").assign_attrs(id=identity)
    years = np.unique(ds["time"].values.astype("M8[Y]")).astype(str)
    files = {year: location.folder.with_stem(f"{location.folder.stem}_{year}") for year in years}
    complete = {year for year, file in files.items() if file.exists() and _id_of(file) == identity}
    for year, file in files.items():
        if file.exists() and year not in complete and not overwrite:
            raise occupied(str(file))
    for year, file in files.items():
        if year not in complete:
            write_file(by_chunk(ds.sel(time=year)), file)
    return list(files.values())


def _id_of(file: Path) -> str | None:
    """Return the attribute ``id`` of a NetCDF file; None if it has none or is not NetCDF."""
    try:
        with reading(str(file)):
            return handles.open_file(file).attrs.get("id")
    except FileFormatError:
        return None


def _described(ds: xr.Dataset, history: str) -> xr.Dataset:
    """Add the attributes of hourly grids, or keep those of days and longer periods, and add the areas."""
    if not conventions.is_grid(ds) or "time" not in ds.dims:
        raise StoreError(f"a grid has dims time, lat and lon, found {tuple(ds.dims)}")
    ds = with_cell_area(ds.drop_encoding())
    if _is_aggregated(ds):
        for axis in ("time", "time_bnds"):
            ds[axis].encoding = {"units": conventions.DAY_UNITS, "calendar": "standard", "dtype": "int32"}
        for axis in ("lat", "lon"):
            ds[axis].encoding = {"_FillValue": None}
        return conventions.log(ds, history)
    check_hourly(ds["time"], "the grid to write")
    return conventions.apply(ds, history=history)


def _is_aggregated(ds: xr.Dataset) -> bool:
    """Return whether the bounds of time are those of days or longer periods."""
    bounds = ds.get("time_bnds")
    return bounds is not None and bool((np.diff(bounds.values) >= np.timedelta64(1, "D")).any())


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
