"""Open and write the store: many towers in one Zarr v3 store, in a folder or a bucket."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xcarbon.core import conventions
from xcarbon.core.conventions import MISSING_FLAG
from xcarbon.core.errors import StoreError, XCarbonError, reading
from xcarbon.core.validation import check_no_half_hours
from xcarbon.io.chunks import open_zarr
from xcarbon.io.location import Location, Opened, Options, PathLike
from xcarbon.io.regions import in_regions, write_store

#: Chunk sizes of a store: one year of hours, one year of days.
CHUNK = {"time": 8784, "day": 366}


def open_store(
    path: PathLike, *, version: str | None = None, storage_options: Options | None = None
) -> xr.Dataset:
    """Open a Zarr store of towers lazily.

    Parameters
    ----------
    path : path-like or URL
        A store written by :func:`to_store`, or any Zarr store in the data model: a folder, or a URL that
        begins with ``s3://``, ``gs://``, ``az://``, ``https://`` or ``file://``.
    version : str, optional
        Tag or snapshot of a store of Icechunk, see :func:`xcarbon.store_versions`. By default, the latest
        complete version is opened.
    storage_options : mapping, optional
        How a URL is accessed. For buckets, arguments of the storage of Icechunk (``icechunk.s3_storage``,
        ``gcs_storage``, ``azure_storage``), such as ``region``, ``endpoint_url``, ``access_key_id``,
        ``secret_access_key`` or ``anonymous``. Credentials that are not given come from the environment. For
        other URLs, options of the file system of fsspec.

    Returns
    -------
    xarray.Dataset
        Series ``(site, time)``, and patches ``(site, day, band, y, x)`` if the store has any. Coordinates are
        in memory; variables are Dask arrays, float32, quality flags int8. A chunk is one file of the store,
        which :func:`to_store` writes for each tower and variable. The arrays read one version of a store of
        Icechunk, also if another process writes a new one.

    Raises
    ------
    StoreError
        If there is no Zarr store at ``path``, if it lacks the dimensions ``site`` and ``time``, or if it has
        no such ``version``; plain Zarr has none.
    OptionError
        If ``storage_options`` are not those of the storage, or if ``path`` is a local folder.
    MissingPackageError
        If the store is in a bucket, and the extra ``cloud`` is not installed.
    MetadataError
        If a variable has other units than the vocabulary.

    Examples
    --------
    >>> import tempfile, xcarbon
    >>> from xcarbon.testing import synthetic_towers
    >>> with tempfile.TemporaryDirectory() as folder, xcarbon.set_options(progress=False):
    ...     path = to_store(synthetic_towers(2, patches=False), f"{folder}/towers.zarr")
    ...     open_store(path).sizes["site"]
    2
    """
    location = Location.of(path, storage_options)
    try:
        with reading(f"{path} cannot be opened as a Zarr store", StoreError):
            opened = location.open(version)
            return read_store(opened)
    except (FileNotFoundError, PermissionError) as error:
        if isinstance(error, XCarbonError):
            raise
        raise StoreError(f"{path} cannot be opened as a Zarr store: {error}") from error


def read_store(opened: Opened) -> xr.Dataset:
    """Read the towers of a store that is open."""
    ds = open_zarr(opened, by_shard=True, decode_coords="all")
    if not {"site", "time"} <= set(ds.dims):
        raise StoreError(
            f"{opened} is not a store of towers: it has dims {tuple(ds.dims)}, but site and time are needed"
        )
    return as_opened(ds, opened.path)


def store_versions(path: PathLike, *, storage_options: Options | None = None) -> pd.DataFrame:
    """List the versions of a store of Icechunk.

    Parameters
    ----------
    path : path-like or URL
        A store in a bucket, or a folder that ends in ``.icechunk``, written by xcarbon.
    storage_options : mapping, optional
        As for :func:`open_store`.

    Returns
    -------
    pandas.DataFrame
        One row for each version, from the oldest to the newest: its tag ``version`` as index, its
        ``snapshot``, and the time at which it was ``written`` [UTC].

    Raises
    ------
    StoreError
        If there is no store of Icechunk at ``path``.
    OptionError
        If ``storage_options`` are not those of the storage, or if ``path`` is a local folder.
    MissingPackageError
        If the extra ``cloud`` is not installed.

    Examples
    --------
    >>> import tempfile, xcarbon
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(2, patches=False)
    >>> with tempfile.TemporaryDirectory() as folder, xcarbon.set_options(progress=False):
    ...     path = to_store(towers, f"{folder}/towers.icechunk")
    ...     path = to_store(towers.isel(site=[0]), path, overwrite=True)
    ...     store_versions(path).index.tolist(), open_store(path, version="v1").sizes["site"]
    (['v1', 'v2'], 2)
    """
    return Location.of(path, storage_options).versions()


def as_opened(ds: xr.Dataset, path: PathLike) -> xr.Dataset:
    """Load the coordinates of a lazily opened Dataset, cast variables to float32, and add CF attributes."""
    ds = ds.assign_coords(ds.coords.to_dataset().load().coords)
    # Packed integers decode to float64, which doubles memory for digits that were never measured.
    wide = {name: array.astype("float32") for name, array in ds.data_vars.items() if array.dtype == "float64"}
    ds = ds.assign(wide)
    ds.encoding["source"] = os.fspath(path)
    return conventions.apply(ds)


def to_store(
    ds: xr.Dataset,
    path: PathLike,
    *,
    overwrite: bool = False,
    storage_options: Options | None = None,
) -> Path | str:
    """Write towers to a Zarr v3 store.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers in the data model, on ``(site, time)``.
    path : path-like or URL
        Folder to write. It is written under a hidden name and renamed when it is complete. URLs that begin
        with ``s3://``, ``gs://`` or ``az://``, and folders that end in ``.icechunk``, are written with
        Icechunk: the store is a new version when it is complete.
    overwrite : bool
        Whether to replace an existing store. It is kept until the new one is complete; Icechunk also keeps it
        as an earlier version.
    storage_options : mapping, optional
        As for :func:`open_store`.

    Returns
    -------
    pathlib.Path or str
        The folder, or the URL.

    Raises
    ------
    StoreError
        If ``path`` exists and ``overwrite`` is false, if it exists and is not a Zarr store, if ``ds`` lacks
        the dimensions ``site`` or ``time``, or if another process has written a version of the store in the
        meantime, which is kept.
    OptionError
        If ``storage_options`` are not those of the storage, or if ``path`` is a local folder.
    MissingPackageError
        If the store is written with Icechunk, and the extra ``cloud`` is not installed.
    MetadataError
        If a variable has other units than the vocabulary.
    TimestampError
        If the values are half-hourly.

    Notes
    -----
    Each tower is computed and written by one task. Chunks hold one tower and about one year; one shard (file)
    holds the whole series of a variable at a tower. Years without data take no space, because the fill value
    is NaN, or -1 for flags.

    Examples
    --------
    >>> import tempfile, xcarbon
    >>> from xcarbon.testing import synthetic_towers
    >>> with tempfile.TemporaryDirectory() as folder, xcarbon.set_options(progress=False):
    ...     to_store(synthetic_towers(2, patches=False), f"{folder}/towers.zarr").name
    'towers.zarr'
    """
    location = Location.of(path, storage_options)
    check_towers(ds)
    check_no_half_hours(ds["time"], "the Dataset to write")
    location.check_free(overwrite=overwrite)
    location.check_replaceable()
    ds = conventions.apply(ds.drop_encoding(), history="written by xcarbon.io.store.to_store")
    write_store(by_site(ds), location)
    return location.returned


def check_towers(ds: xr.Dataset) -> None:
    """Raise a StoreError if a Dataset to write lacks the dimensions of towers, or is not hourly."""
    if not {"site", "time"} <= set(ds.dims):
        raise StoreError(
            f"towers need dims site and time, found {tuple(ds.dims)}; add one with ds.expand_dims('site')"
        )
    steps = np.diff(ds["time"].values)
    if steps.size and steps.min() >= np.timedelta64(1, "D"):
        raise StoreError(
            "only hourly towers are written, but time has steps of a day or longer: use ds.to_zarr or "
            "ds.to_netcdf"
        )


def by_site(ds: xr.Dataset) -> xr.Dataset:
    """Return a Dataset with the chunks and the encoding of a store; a region is one tower."""
    whole = {"site": 1, **{dim: -1 for dim in ds.dims if dim != "site"}}
    return encode(in_regions(ds, whole, {"site"}))


def encode(ds: xr.Dataset) -> xr.Dataset:
    """Set chunks, shards and fill values of a store for all variables with ``site``, in their encoding."""
    ds = ds.copy()
    for array in ds.data_vars.values():
        if "site" in array.dims:
            sizes = [1 if dim == "site" else size for dim, size in array.sizes.items()]
            chunks = [min(CHUNK.get(str(dim), n), n) for dim, n in zip(array.dims, sizes, strict=True)]
            shards = [chunk * math.ceil(size / chunk) for chunk, size in zip(chunks, sizes, strict=True)]
            layout = {"chunks": tuple(chunks), "shards": tuple(shards)}
            array.variable.encoding = array.encoding | layout | _fill(array)
    return ds


def _fill(array: xr.DataArray) -> dict[str, Any]:
    """Fill value of missing values, so that chunks without data are not written; the default is 0."""
    if "_FillValue" in array.encoding:  # packed
        return {"fill_value": array.encoding["_FillValue"]}
    if np.issubdtype(array.dtype, np.floating):
        return {"fill_value": np.nan, "_FillValue": array.dtype.type(np.nan)}
    return {"fill_value": MISSING_FLAG} if np.issubdtype(array.dtype, np.signedinteger) else {}
