"""Open stores and files so that a chunk that cannot be read is reported with its path, variable and place.

The checksum of a chunk is verified when it is read, by a task on any thread or worker, where the error of the
library ("stored and computed checksum do not match", "NetCDF: HDF error") names nothing. The arrays are
therefore wrapped when the store or file is opened. The Dask graph stays as it is.
"""

from __future__ import annotations

import os
from typing import Any, cast

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.backends.zarr import ZarrBackendEntrypoint
from xarray.core import indexing

from xcarbon.core.errors import FileFormatError, StoreError, XCarbonError
from xcarbon.io.location import Location, Opened

PathLike = str | os.PathLike[str]

#: Cause of an error and what to do about it.
_ADVICE: dict[type[XCarbonError], str] = {
    StoreError: (
        "because a file of the store is damaged or not accessible: run xcarbon check STORE to list all "
        "damaged variables, and copy or build the store again"
    ),
    FileFormatError: "because the file is damaged or not accessible: copy or download it again",
}


def open_zarr(place: PathLike | Opened, *, by_shard: bool = False, **settings: Any) -> xr.Dataset:
    """Open a Zarr store as ``xarray.open_zarr`` does, by default in its own chunks, or in its shards."""
    opened = place if isinstance(place, Opened) else Location.of(place).open()
    engine = _ShardBackend if by_shard else _ZarrBackend
    settings = dict[str, Any](engine=engine, chunks={}) | settings
    try:
        ds = xr.open_dataset(cast(Any, opened), consolidated=opened.version is None, **settings)
    except ValueError:
        # Stores of other software may lack the index that opens them in one read.
        ds = xr.open_dataset(cast(Any, opened), consolidated=False, **settings)
    ds.encoding["store"] = opened
    return ds


class _ZarrBackend(ZarrBackendEntrypoint):
    """The Zarr backend of xarray, with arrays that name themselves in errors."""

    def open_dataset(self, filename_or_obj: Any, **settings: Any) -> xr.Dataset:
        """Open a store; see :func:`xarray.open_dataset`."""
        return with_names(
            super().open_dataset(filename_or_obj.store, **settings), filename_or_obj, StoreError
        )


class _ShardBackend(_ZarrBackend):
    """The same, with Dask chunks that contain all chunks of a shard, which is one file."""

    def open_dataset(self, filename_or_obj: Any, **settings: Any) -> xr.Dataset:
        """Open a store; see :func:`xarray.open_dataset`."""
        ds = super().open_dataset(filename_or_obj, **settings)
        for array in ds.variables.values():
            if shards := array.encoding.get("shards"):
                array.encoding["preferred_chunks"] = dict(zip(array.dims, shards, strict=True))
        return ds


def with_names(
    ds: xr.Dataset, path: PathLike | Opened, kind: type[XCarbonError] = FileFormatError
) -> xr.Dataset:
    """Wrap the variables of a Dataset, which was opened without Dask, so that they are named in errors."""
    opened = path if isinstance(path, Opened) else Opened(os.fspath(path), os.fspath(path))
    named = ds.assign({name: _named(array, str(name), opened, kind) for name, array in ds.variables.items()})
    named.set_close(ds._close)
    return named


def _named(array: xr.Variable, name: str, opened: Opened, kind: type[XCarbonError]) -> xr.Variable:
    """Wrap a lazy variable of a store or file."""
    data = indexing.LazilyIndexedArray(_NamedArray(array, name, opened, kind))
    return xr.Variable(array.dims, data, array.attrs, array.encoding)


class _NamedArray(BackendArray):
    """A variable that is read on indexing, and named in the error if it cannot be read."""

    def __init__(self, array: xr.Variable, name: str, opened: Opened, kind: type[XCarbonError]) -> None:
        self._array, self._name, self._opened, self._kind = array, name, opened, kind
        self.dtype, self.shape = array.dtype, array.shape

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        try:
            return np.asarray(self._array[key].values)
        except MemoryError:
            raise
        except Exception as error:
            raise self._kind(
                f"{self._opened}: {self._name}{self._place(key)} cannot be read ({error}), "
                f"{_ADVICE[self._kind]}"
            ) from error

    def _place(self, key: tuple[Any, ...]) -> str:
        """Name the sites that a key selects, or else its indices along each dimension."""
        selected = dict(zip(map(str, self._array.dims), key, strict=True))
        if "site" in selected and self._name != "site":
            try:
                sites: Any = zarr.open_array(self._opened.store, path="site", mode="r")[:]
                found = np.atleast_1d(sites[selected["site"]])
            except Exception:  # this must not hide the first error
                return ""
            names = ", ".join(map(str, found[:3])) + (", ..." if found.size > 3 else "")
            return f" at the site{'s' * (found.size > 1)} {names}"
        parts = [
            f"{dim} {part.start or 0}:{size if part.stop is None else part.stop}"
            for (dim, part), size in zip(selected.items(), self.shape, strict=True)
            if isinstance(part, slice)
        ]
        return f" in [{', '.join(parts)}]" if parts else ""
