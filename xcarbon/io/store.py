"""Open and write the store: many towers in one Zarr v3 folder."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xcarbon.core import conventions
from xcarbon.core.atomic import check_free
from xcarbon.core.conventions import MISSING_FLAG
from xcarbon.core.errors import StoreError, reading
from xcarbon.core.validation import check_no_half_hours
from xcarbon.io.chunks import open_zarr
from xcarbon.io.regions import in_regions, write_store

#: Chunk sizes of a store: one year of hours, one year of days.
CHUNK = {"time": 8784, "day": 366}


def open_store(path: str | os.PathLike[str]) -> xr.Dataset:
    """Open a Zarr store of towers lazily.

    Parameters
    ----------
    path : path-like or URL
        A store written by :func:`to_store`, or any Zarr store in the data model.

    Returns
    -------
    xarray.Dataset
        Series ``(site, time)``, and patches ``(site, day, band, y, x)`` if the store has any. Coordinates are
        in memory; variables are Dask arrays in the chunks of the store, float32, quality flags int8.

    Raises
    ------
    StoreError
        If there is no Zarr store at ``path``, or it lacks the dimensions ``site`` and ``time``.
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
    try:
        with reading(f"{path} cannot be opened as a Zarr store", StoreError):
            ds = open_zarr(path, decode_coords="all")
    except (FileNotFoundError, PermissionError) as error:
        raise StoreError(f"{path} cannot be opened as a Zarr store: {error}") from error
    if not {"site", "time"} <= set(ds.dims):
        raise StoreError(
            f"{path} is not a store of towers: it has dims {tuple(ds.dims)}, but site and time are needed"
        )
    return as_opened(ds, path)


def as_opened(ds: xr.Dataset, path: str | os.PathLike[str]) -> xr.Dataset:
    """Load the coordinates of a lazily opened Dataset, cast variables to float32, and add CF attributes."""
    ds = ds.assign_coords(ds.coords.to_dataset().load().coords)
    # Packed integers decode to float64, which doubles memory for digits that were never measured.
    wide = {name: array.astype("float32") for name, array in ds.data_vars.items() if array.dtype == "float64"}
    ds = ds.assign(wide)
    ds.encoding["source"] = os.fspath(path)
    return conventions.apply(ds)


def to_store(ds: xr.Dataset, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write towers to a Zarr v3 store.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers in the data model, on ``(site, time)``.
    path : path-like
        Folder to write. It is written under a hidden name and renamed when it is complete.
    overwrite : bool
        Whether to replace an existing store. It is kept until the new one is complete.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    StoreError
        If ``path`` exists and ``overwrite`` is false, if it exists and is not a Zarr store, or if ``ds``
        lacks the dimensions ``site`` or ``time``.
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
    path = Path(path)
    check_towers(ds)
    check_no_half_hours(ds["time"], "the Dataset to write")
    check_free(path, overwrite=overwrite)
    if path.exists() and not any((path / name).exists() for name in ("zarr.json", ".zgroup")):
        raise StoreError(f"{path} is not a Zarr store and is not replaced: remove it, or choose another path")
    ds = conventions.apply(ds.drop_encoding(), history="written by xcarbon.io.store.to_store")
    write_store(by_site(ds), path)
    return path


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
