"""Open files of ERA5, also in archives, and join them on one grid and hourly time stamps."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable
from typing import Any

import dask
import numpy as np
import xarray as xr

from xcarbon.core.errors import FileFormatError, MetadataError, TimestampError, reading
from xcarbon.core.validation import check_hourly
from xcarbon.io.era5.drivers import SOURCES, no_driver
from xcarbon.io.handles import open_file
from xcarbon.prep.units import are_equal

PathLike = str | os.PathLike[str]
DIMS = ("time", "lat", "lon")
_RENAMED = {"valid_time": "time", "latitude": "lat", "longitude": "lon"}


def unpack(paths: Iterable[PathLike]) -> list[PathLike]:
    """Replace zip archives, whatever their names, by the NetCDF files in them, which are unpacked."""
    return [file for path in paths for file in (_unpack(path) if _is_zip(path) else [path])]


def _is_zip(path: PathLike) -> bool:
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _unpack(path: PathLike) -> list[PathLike]:
    stat = os.stat(path)
    return list(_unpack_once(os.path.abspath(path), stat.st_size, stat.st_mtime_ns))


@functools.cache
def _unpack_once(path: str, size: int, changed: int) -> tuple[str, ...]:
    """Unpack an archive to a temporary folder; its size and time of change are keys of the cache."""
    with reading(f"{path}: the archive is truncated or damaged"), zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith((".nc", ".nc4", ".netcdf"))]
        if not names:
            raise FileFormatError(
                f"{path}: the archive contains no NetCDF file, only {archive.namelist()[:5]}; choose "
                "NetCDF as the format of the download"
            )
        folder = tempfile.mkdtemp(prefix="xcarbon-", dir=dask.config.get("temporary-directory", None))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return tuple(archive.extract(name, folder) for name in names)


def open_fields(path: PathLike, chunks: Any) -> xr.Dataset:
    """Open the sources in a file on ``(time, lat, lon)``, and check them."""
    opened = open_sources(path, chunks)
    fields = merge_versions(opened).assign_attrs(opened.attrs)
    for short, array in fields.items():
        _check_source(array, SOURCES[str(short)][0], f"{path}: {short}")
    fields["time"] = fields["time"].astype("M8[ns]")
    fields = fields.transpose(*DIMS)
    fields.encoding = opened.encoding
    return fields


def open_sources(path: PathLike, chunks: Any) -> xr.Dataset:
    """Open the sources in a file by their short names and with our names of dims, as they are.

    The ``encoding`` of the result lists the other variables, which are ``"unread"``.
    """
    with reading(f"{path}: the file cannot be opened as NetCDF or Zarr"):
        engine = "zarr" if os.path.isdir(path) else None
        file = open_file(path, chunks=chunks, engine=engine)
    named = {
        short: file[name]
        for short, (_, *names) in SOURCES.items()
        for name in (*reversed(names), short)
        if name in file
    }
    if not named:
        raise no_driver(list(file.data_vars), str(path))
    fields = xr.Dataset({short: array.reset_coords(drop=True) for short, array in named.items()})
    renamed = {old: new for old, new in _RENAMED.items() if old in fields.dims}
    fields = fields.rename(renamed).assign_attrs(file.attrs)
    used = {*SOURCES, *(name for _, *names in SOURCES.values() for name in names)}
    fields.encoding["unread"] = [
        str(name) for name, array in file.data_vars.items() if name not in used and array.ndim > 2
    ]
    return fields


def merge_versions(fields: xr.Dataset) -> xr.Dataset:
    """Select final values (experiment version 1) where they exist, else preliminary values (5)."""
    if "expver" in fields.dims:
        versions = sorted(fields["expver"].values)
        final, *others = (fields.sel(expver=version, drop=True) for version in versions)
        for preliminary in others:
            final = final.fillna(preliminary)
        fields = final
    single = [dim for dim, size in fields.sizes.items() if size == 1 and dim not in DIMS]
    return fields.squeeze(single, drop=True)


def _check_source(array: xr.DataArray, units: str, where: str) -> None:
    """Check that a source is on a grid with time stamps and, if it has units, in the units of ERA5."""
    if not set(array.dims) == set(array.indexes) == set(DIMS) or not array.size:
        raise FileFormatError(
            f"{where} has dimensions {dict(array.sizes)}, but xcarbon reads (time, latitude, longitude) and "
            "dimensions of size 1; those of a series at a point are added by "
            "ds.expand_dims(['latitude', 'longitude'])"
        )
    if not np.issubdtype(array["time"].dtype, np.datetime64):
        raise TimestampError(
            f"{where}: the time axis is {array['time'].dtype}, but xcarbon needs decoded time stamps"
        )
    found = array.attrs.get("units", units)
    if not are_equal(found, units):
        raise MetadataError(f"{where} has units {found!r}, but {units!r} in ERA5; convert the variable")


def join(files: list[xr.Dataset], where: str) -> xr.Dataset:
    """Join files in time, in which they are sorted, and by variable; the result is hourly without gaps."""
    names = dict.fromkeys(name for file in files for name in file.data_vars)
    how: dict[str, Any] = {"join": "exact", "compat": "override", "combine_attrs": "drop"}
    try:
        fields = [
            xr.concat([file[name] for file in files if name in file], "time", coords="minimal", **how)
            for name in names
        ]
        joined = xr.merge(fields, **how)
    except xr.AlignmentError as error:
        raise FileFormatError(
            f"{where}: the files do not fit together, because their grids or the time stamps of their "
            f"variables differ ({error})"
        ) from error
    check_hourly(joined["time"], where, in_file=True)
    return joined


def wrap_longitudes(fields: xr.Dataset) -> xr.Dataset:
    """Convert longitudes from 0..360 to -180..180 [degrees_east] in ascending order."""
    lon = fields["lon"].values
    fields = fields.assign_coords(lon=np.where(lon > 180, lon - 360, lon))
    seam = np.flatnonzero(np.diff(fields["lon"].values) < 0)
    return fields.roll(lon=-int(seam[0]) - 1, roll_coords=True) if seam.size else fields


def align_chunks(fields: xr.Dataset, where: str) -> xr.Dataset:
    """Rechunk all sources like the first one; the last stamp must not be a chunk of its own."""
    if fields.sizes["time"] < 2:
        raise TimestampError(f"{where}: found one time stamp, but an hour needs stamps at both ends")
    chunks = dict(next(iter(fields.data_vars.values())).chunksizes)
    *sizes, last = chunks["time"]
    if last == 1:
        chunks["time"] = (*sizes[:-1], sizes[-1] + 1)
    return fields.chunk(chunks)
