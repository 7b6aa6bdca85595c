"""A workaround for a fault of HDF5 with NetCDF files that contain variables of strings.

HDF5 describes the strings of a file that is open several times by a pointer to the handle that was opened
last. When that handle is closed and another one remains, the next query of the variable reads freed memory,
and the process crashes (seen with netCDF4 1.7.5). Files of the Climate Data Store contain such a variable,
``expver``, and xarray opens a file anew for each Dataset. Handles of such files are therefore never closed.
"""

from __future__ import annotations

import os
from typing import Any

import xarray as xr

_KEPT: list[xr.Dataset] = []


def open_file(path: str | os.PathLike[str], **settings: Any) -> xr.Dataset:
    """Open a file as ``xarray.open_dataset`` does, and keep it open until the program ends if it has strings.

    Several handles of one file share a file descriptor. The Dataset must not be closed explicitly; files
    without strings are closed when it is deleted.
    """
    ds = xr.open_dataset(path, **settings)
    if os.path.isfile(path) and any(array.dtype.kind in "OTU" for array in ds.variables.values()):
        _KEPT.append(ds)
    return ds
