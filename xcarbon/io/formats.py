"""Open towers or grids of any supported format."""

from __future__ import annotations

import glob
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import xarray as xr

from xcarbon.core.errors import FileFormatError, OptionError
from xcarbon.core.variables import VARIABLES
from xcarbon.io.columns import Source
from xcarbon.io.era5 import open_era5
from xcarbon.io.era5.files import unpack
from xcarbon.io.fluxnet import open_fluxnet
from xcarbon.io.grid import open_grid, open_lazily
from xcarbon.io.handles import ZARR
from xcarbon.io.location import is_repository
from xcarbon.io.netcdf import open_netcdf
from xcarbon.io.networks import recognise
from xcarbon.io.records.header import read_header
from xcarbon.io.store import open_store

PathLike = str | os.PathLike[str]

#: Chunk sizes for ERA5: a model predicts one chunk in minutes. Dask's default chunks would take hours.
ERA5_CHUNKS = dict.fromkeys(("time", "valid_time"), 744) | dict.fromkeys(
    ("latitude", "longitude", "lat", "lon"), 16
)


#: First bytes of NetCDF files (classic and HDF5) and of zip archives.
_NETCDF, _ZIP = (b"CDF", b"\x89HDF"), b"PK\x03\x04"


def open_data(
    paths: PathLike | Sequence[PathLike], metadata: PathLike | None = None, *, uncertainty: bool = False
) -> xr.Dataset:
    """Open towers or a grid lazily, detect the format from the content, and expand patterns and folders.

    The paths are Zarr stores, NetCDF files, tower files of the networks, archives, or folders of such files;
    ``metadata`` is a table of sites for tower files, of which ``uncertainty`` reads the uncertainties, too.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    found = [match for path in given for match in sorted(glob.glob(os.fspath(path))) or [os.fspath(path)]]
    if not found:
        raise FileNotFoundError("there is no file to open: the list of paths is empty")
    found = [file for path in found for file in _files(path)]
    tables = [path for path in found if _is_table(path)]
    if tables:
        if len(tables) < len(found):
            other = next(path for path in found if path not in tables)
            raise FileFormatError(f"{tables[0]} and {other} cannot be opened together: one is a tower file")
        return open_fluxnet(tables, metadata=metadata, uncertainty=uncertainty)
    if metadata is not None and os.path.exists(found[0]):
        raise OptionError(f"{metadata} is for tower files; {found[0]} contains its own metadata")
    return _open_arrays(found)


def _files(path: str) -> list[str]:
    """Return the NetCDF files in a folder that is no Zarr store, or else the path itself."""
    if not os.path.isdir(path) or _is_zarr(path):
        return [path]
    inside = sorted(entry.path for entry in os.scandir(path) if entry.is_file())
    files = [file for file in inside if _starts_with(file, _NETCDF)]
    towers = [file for file in inside if recognise(Source(os.path.abspath(file)))]
    if files and towers:
        raise FileFormatError(
            f"{path} contains NetCDF files such as {os.path.basename(files[0])} and tower files such as "
            f"{os.path.basename(towers[0])}: choose the files to open"
        )
    return files or [path]


def _is_table(path: str) -> bool:
    """Return whether a path is a tower file, an archive or a folder of such files."""
    if os.path.isdir(path):
        return not _is_zarr(path)
    if not os.path.isfile(path) or _starts_with(path, _NETCDF):
        return False  # it may be a URL
    if _starts_with(path, (_ZIP,)):
        return not _holds_netcdf(path)
    source = Source(os.path.abspath(path))
    if recognise(source) is None:
        try:
            read_header(source)
        except FileFormatError as error:
            raise FileFormatError(f"{path} is neither Zarr nor NetCDF nor a tower file: {error}") from None
    return True


def _holds_netcdf(path: str) -> bool:
    """Return whether an archive contains NetCDF files, or is damaged, which :func:`unpack` reports."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.lower().endswith((".nc", ".nc4", ".netcdf")) for name in archive.namelist())
    except zipfile.BadZipFile:
        return True


def _is_zarr(path: str) -> bool:
    return is_repository(Path(path)) or any(os.path.isfile(os.path.join(path, name)) for name in ZARR)


def _starts_with(path: str, starts: tuple[bytes, ...]) -> bool:
    with open(path, "rb") as file:
        return file.read(8).startswith(starts)


def _open_arrays(found: list[str]) -> xr.Dataset:
    """Open Zarr stores, NetCDF files and archives of them."""
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
