"""Open towers or grids of any supported format."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

import xarray as xr

from xcarbon.core.errors import FileFormatError
from xcarbon.core.variables import VARIABLES
from xcarbon.io.era5 import open_era5, unpack
from xcarbon.io.grid import open_grid, open_lazily
from xcarbon.io.netcdf import open_netcdf
from xcarbon.io.store import open_store

PathLike = str | os.PathLike[str]

#: Chunk sizes for ERA5: a model predicts one chunk in minutes. Dask's default chunks would take hours.
ERA5_CHUNKS = dict.fromkeys(("time", "valid_time"), 744) | dict.fromkeys(
    ("latitude", "longitude", "lat", "lon"), 16
)


def open_data(paths: PathLike | Sequence[PathLike]) -> xr.Dataset:
    """Open towers or a grid lazily, detect the format, and expand patterns such as ``"era5/*.nc"``."""
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    found = [match for path in given for match in sorted(glob.glob(os.fspath(path))) or [os.fspath(path)]]
    if not found:
        raise FileNotFoundError("there is no file to open: the list of paths is empty")
    found = [os.fspath(path) for path in unpack(found)]
    first = open_lazily(found[0])
    names, data = set(first.variables), list(first.data_vars)
    chunks = {dim: size for dim, size in ERA5_CHUNKS.items() if dim in first.sizes}
    del first  # which closes the file
    if "site" in names and os.path.isfile(found[0]):
        return open_netcdf(found)
    if "site" not in names and not any(name in VARIABLES for name in data):
        return open_era5(found, chunks=chunks)
    if len(found) > 1:
        raise FileFormatError(
            f"{found[0]} and {len(found) - 1} more cannot be opened together: give one path"
        )
    return open_store(found[0]) if "site" in names else open_grid(found[0])
