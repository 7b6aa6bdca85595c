"""Open and write NetCDF files from several threads.

The libraries NetCDF-C and HDF5 are not thread-safe, not even for different files: one call at a time may be
in them. xarray holds its lock while it reads or writes values, but not while it reads or writes metadata.
Opening a file therefore fails with "HDF error", or crashes the process, while another thread writes one. The
functions of this module hold the same lock in both cases.

HDF5 describes the strings of a file that is open several times by a pointer to the handle that was opened
last. When that handle is closed and another one remains, the next query of the variable reads freed memory,
and the process crashes (seen with netCDF4 1.7.5). Files of the Climate Data Store contain such a variable,
``expver``, and xarray opens a file anew for each Dataset. Handles of such files are therefore never closed.
The files that this module writes have arrays of characters in place of strings, so that they can be opened
several times by any program.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import dask
import xarray as xr
from xarray.backends import NetCDF4DataStore
from xarray.backends.common import ArrayWriter
from xarray.backends.locks import combine_locks, get_dask_scheduler, get_write_lock
from xarray.backends.netCDF4_ import NETCDF4_PYTHON_LOCK, NetCDF4BackendEntrypoint

from xcarbon.core.atomic import is_full
from xcarbon.core.errors import FileFormatError
from xcarbon.core.workers import finished_threads
from xcarbon.io.chunks import open_zarr, with_names

_KEPT: list[xr.Dataset] = []
#: First bytes of files that the NetCDF library reads: classic NetCDF, and HDF5.
_MAGIC = (b"CDF", b"\x89HDF")
#: Files of which one lies in every Zarr group.
ZARR = ("zarr.json", ".zgroup", ".zmetadata")


class _Lock:
    """The lock of xarray for NetCDF files, which one thread may acquire several times; one per process."""

    def __init__(self) -> None:
        self._own = threading.RLock()
        self._depth = 0

    def acquire(self, blocking: bool = True) -> bool:
        """Acquire the lock; return whether this succeeded."""
        if not self._own.acquire(blocking):
            return False
        if self._depth == 0 and not NETCDF4_PYTHON_LOCK.acquire(blocking):
            self._own.release()
            return False
        self._depth += 1
        return True

    def release(self) -> None:
        """Release the lock once."""
        self._depth -= 1
        if self._depth == 0:
            NETCDF4_PYTHON_LOCK.release()
        self._own.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()

    def __reduce__(self) -> str:
        return "LOCK"


#: Held by all calls of the NetCDF library. Code that holds it must not compute Dask arrays of NetCDF files.
LOCK = _Lock()


def open_netcdf_file(path: str | os.PathLike[str], **settings: Any) -> xr.Dataset:
    """Open a NetCDF file as ``xarray.open_dataset`` does, safely on several threads."""
    _check_kind(path)
    with LOCK:
        return xr.open_dataset(path, engine=_NetCDFBackend, lock=LOCK, **settings)


class _NetCDFBackend(NetCDF4BackendEntrypoint):
    """The NetCDF backend of xarray, with arrays that name themselves in errors."""

    def open_dataset(self, filename_or_obj: Any, **settings: Any) -> xr.Dataset:
        """Open a file; see :func:`xarray.open_dataset`."""
        return with_names(super().open_dataset(filename_or_obj, **settings), filename_or_obj)


def open_file(path: str | os.PathLike[str], **settings: Any) -> xr.Dataset:
    """Open a file or a Zarr store; keep files with strings open until the program ends.

    Several handles of one file share a file descriptor. The Dataset must not be closed explicitly; files
    without strings are closed when it is deleted.
    """
    engine = settings.pop("engine", None)
    _check_kind(path)
    if engine == "zarr":
        return open_zarr(path, **settings)
    if engine is None and _is_netcdf(path):
        ds = open_netcdf_file(path, **settings)
    else:
        ds = xr.open_dataset(path, engine=engine, **settings)
    texts = [array for array in ds.variables.values() if array.dtype.kind in "OTU"]
    if os.path.isfile(path) and any("char_dim_name" not in array.encoding for array in texts):
        _KEPT.append(ds)
    return ds


def _check_kind(path: str | os.PathLike[str]) -> None:
    """Raise an error for a pattern, a folder of files, or a file in GRIB."""
    if "*" in os.fspath(path) and not os.path.exists(path):
        raise FileNotFoundError(
            f"{path} is a pattern; pass the files that it matches: sorted(glob.glob(...))"
        )
    if os.path.isdir(path) and not any(os.path.isfile(os.path.join(path, name)) for name in ZARR):
        raise FileFormatError(
            f"{path} is a folder, but no Zarr store; pass its files as a list, as in "
            f"sorted(Path({os.fspath(path)!r}).glob('*.nc'))"
        )
    if os.path.isfile(path):
        with open(path, "rb") as file:
            is_grib = file.read(4) == b"GRIB"
        if is_grib:
            raise FileFormatError(
                f"{path} is in the format GRIB, which is not read; download it as NetCDF, or convert it"
            )


def _is_netcdf(path: str | os.PathLike[str]) -> bool:
    """Return whether a local file begins as NetCDF files do."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(4).startswith(_MAGIC)


def write_file(ds: xr.Dataset, path: Path, encoding: Mapping[Hashable, Mapping[str, Any]]) -> None:
    """Write a NetCDF4 file as ``Dataset.to_netcdf`` does, safely on several threads, without strings."""
    characters = {name: {"dtype": "S1"} for name, array in ds.variables.items() if array.dtype.kind in "OTU"}
    encoding = characters | dict(encoding)
    # On a cluster, each task opens and closes the file under a lock that all workers share.
    lock = combine_locks([LOCK, get_write_lock(os.fspath(path))])
    autoclose = bool(ds.chunks) and get_dask_scheduler() in ("distributed", "multiprocessing")
    writer = ArrayWriter()
    with LOCK:
        store = NetCDF4DataStore.open(os.fspath(path), mode="w", lock=lock, autoclose=autoclose)
    try:
        with LOCK:
            ds.dump_to_store(store, writer=writer, encoding=encoding)
            if autoclose:
                store.close()
        with finished_threads() as settings:
            if (writes := writer.sync(compute=False)) is not None:
                dask.compute(writes, **settings)
        store.close()
    except BaseException as error:
        full = is_full(error, path.parent)
        # HDF5 cannot close a file on a full disk, and a file that is open occupies its space.
        os.truncate(path, 0)
        with contextlib.suppress(RuntimeError):
            store.close()
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
