"""The store: many towers in one Zarr v3 folder, opened lazily and written atomically."""

from __future__ import annotations

import math
import os
import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed

from xcarbon.core import conventions
from xcarbon.core.atomic import check_free, replacing
from xcarbon.core.conventions import MISSING_FLAG
from xcarbon.core.errors import StoreError
from xcarbon.core.options import progress_bar

#: Chunk of a store: a year of hours, a year of days.
CHUNK = {"time": 8784, "day": 366}


def open_store(path: str | os.PathLike[str]) -> xr.Dataset:
    """Open a Zarr store of towers lazily.

    Parameters
    ----------
    path : path-like or URL
        The store: one that :func:`to_store` wrote, or any Zarr store of the data model.

    Returns
    -------
    xarray.Dataset
        On ``(site, time)``, with patches on ``(site, day, band, y, x)`` where there are any. Only the
        coordinates are in memory; values are Dask arrays in the chunks of the store, float32, quality
        codes int8.

    Raises
    ------
    StoreError
        If there is no Zarr store, or it lacks the dimensions ``site`` and ``time``.

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
        with warnings.catch_warnings():
            # Stores of others may lack the index that opens them in one read.
            warnings.filterwarnings("ignore", message="Failed to open Zarr store with consolidated metadata")
            ds = xr.open_zarr(path, chunks={}, decode_coords="all")
    except (OSError, KeyError, ValueError) as error:
        raise StoreError(f"{path} cannot be opened as a Zarr store: {error}") from error
    if not {"site", "time"} <= set(ds.dims):
        raise StoreError(f"{path} is no store of towers: it has dims {tuple(ds.dims)}, not site and time")
    return as_opened(ds, path)


def as_opened(ds: xr.Dataset, path: str | os.PathLike[str]) -> xr.Dataset:
    """Give what was opened lazily its conventions: coordinates in memory, values float32.

    Parameters
    ----------
    ds : xarray.Dataset
        Variables of the data model, as they are stored.
    path : path-like
        Where they are; messages name it.
    """
    ds = ds.assign_coords(ds.coords.to_dataset().load().coords)
    # Packed integers decode to float64, which doubles memory for digits that were never measured.
    wide = {name: array.astype("float32") for name, array in ds.data_vars.items() if array.dtype == "float64"}
    ds = ds.assign(wide)
    ds.encoding["source"] = os.fspath(path)
    return conventions.apply(ds)


def to_store(ds: xr.Dataset, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write towers to a Zarr v3 store, atomically.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers of the data model on ``(site, time)``.
    path : path-like
        The folder to write. It appears when everything is written, never before.
    overwrite : bool
        Replace a store that is there, which is kept until the new one is complete.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    StoreError
        If there is something at ``path`` already (other than a store, with ``overwrite``), or ``ds``
        has no ``site`` and ``time``.

    Notes
    -----
    Chunks hold one tower and about a year, and one shard (file) holds a tower's whole series of a
    variable. Years without data are not written: the fill value is NaN, -1 for codes and flags.
    """
    path = Path(path)
    if not {"site", "time"} <= set(ds.dims):
        raise StoreError(f"a store needs dims site and time, found {tuple(ds.dims)}; ds.expand_dims('site')?")
    check_free(path, overwrite=overwrite)
    if path.exists() and not any((path / name).exists() for name in ("zarr.json", ".zgroup")):
        raise StoreError(f"{path} is no Zarr store and is not replaced: remove it, or choose another path")
    ds = conventions.apply(ds.drop_encoding(), history="written by xcarbon.io.store.to_store")
    whole = {"site": 1, **{dim: -1 for dim in ds.dims if dim != "site"}}
    ds = ds.chunk(whole).assign_coords(ds.coords)  # a coordinate stays one chunk, one file
    with replacing(path) as folder, progress_bar("writing"):
        _write(ds, folder).compute()
    return path


def write_template(ds: xr.Dataset, folder: Path) -> None:
    """Write all of a store but its values, which :func:`write_site` writes site by site.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers of the data model with their attributes, on Dask; nothing of it is computed.
    folder : pathlib.Path
        The folder to write.
    """
    # One task an array instead of one a site: to describe thousands that never run takes minutes.
    empty = {name: array.copy(data=da.zeros_like(array.data, chunks=-1)) for name, array in ds.items()}
    _write(conventions.apply(ds.drop_encoding().assign(empty)), folder)


def write_site(ds: xr.Dataset, folder: Path, index: int) -> None:
    """Write the values of one site into a store that has its template.

    Parameters
    ----------
    ds : xarray.Dataset
        Variables of the template with a ``site`` of length 1 and all its days and hours, in memory.
    folder : pathlib.Path
        The store. Every site has files of its own: several may be written at a time.
    index : int
        Position of the site.
    """
    region = {str(dim): slice(0, size) for dim, size in ds.sizes.items()}
    region["site"] = slice(index, index + 1)
    # Attributes and coordinates are the template's: to write them here would be a race.
    values = xr.Dataset({name: (array.dims, array.values) for name, array in ds.items()})
    with warnings.catch_warnings():
        _ignore_zarr_warnings()
        values.to_zarr(folder, mode="r+", region=region)


def _write(ds: xr.Dataset, folder: Path) -> Delayed:
    """Write metadata and coordinates at once, and the values when the result is computed."""
    with warnings.catch_warnings():
        _ignore_zarr_warnings()
        return ds.to_zarr(
            folder, mode="w", zarr_format=3, encoding=_encoding(ds), consolidated=True, compute=False
        )


def _ignore_zarr_warnings() -> None:
    """Zarr has yet to standardise strings, and the index that opens a store in one read."""
    warnings.filterwarnings("ignore", message=".*does not have a Zarr V3 specification.*")
    warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part.*")


def _encoding(ds: xr.Dataset) -> dict[Any, dict[str, Any]]:
    """Chunks, shards and fill values of all variables along ``site``."""
    encoding = {}
    for name, array in ds.data_vars.items():
        if "site" not in array.dims:
            continue
        chunks = [
            1 if dim == "site" else min(CHUNK.get(str(dim), size), size) for dim, size in array.sizes.items()
        ]
        shards = [chunk * math.ceil(size / chunk) for chunk, size in zip(chunks, array.shape, strict=True)]
        shards[array.dims.index("site")] = 1
        layout = {"chunks": tuple(chunks), "shards": tuple(shards)}
        encoding[name] = array.encoding | layout | _fill(array)
    return encoding


def _fill(array: xr.DataArray) -> dict[str, Any]:
    """Fill value, so that empty chunks are not written: the default 0 would write them all."""
    if "_FillValue" in array.encoding:  # packed
        return {"fill_value": array.encoding["_FillValue"]}
    if np.issubdtype(array.dtype, np.floating):
        return {"fill_value": np.nan, "_FillValue": array.dtype.type(np.nan)}
    return {"fill_value": MISSING_FLAG} if np.issubdtype(array.dtype, np.signedinteger) else {}
