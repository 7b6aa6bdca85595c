"""NetCDF for exchange: all towers in one file as in a store, or a file for each tower in UTC.

A file says in the ``long_name`` of its time whether that is local standard time or UTC; this is what the
reader goes by.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from numpy.typing import NDArray

from xcarbon.core import conventions
from xcarbon.core.atomic import check_free, replacing
from xcarbon.core.conventions import HOUR, MISSING_FLAG
from xcarbon.core.errors import FileFormatError, MetadataError, StoreError, TimestampError
from xcarbon.core.options import progress_bar
from xcarbon.core.validation import check_hourly, check_stamps
from xcarbon.core.variables import LIMITS, Limits
from xcarbon.io.store import CHUNK
from xcarbon.prep.limits import apply_limits_to_column

PathLike = str | os.PathLike[str]

#: Chunks of a file, and of what is opened from files: one tower, about a year.
CHUNKS = {"site": 1, **CHUNK}
#: What the long name of time says in every file.
LOCAL, UTC = "local standard time", "UTC"

_UTC_ATTRS = {
    "long_name": f"start of the averaging hour in {UTC}",
    "comment": f"add utc_offset hours for {LOCAL} without daylight saving",
}
_UNKNOWN_ATTRS = {
    "long_name": f"start of the averaging hour in {LOCAL}",
    "comment": "no daylight saving; the offset from UTC is unknown",
}
#: Offsets are not always whole hours.
_UTC_UNITS = "seconds since 1970-01-01 00:00:00"


# Writing


def write_netcdf(ds: xr.Dataset, path: PathLike, *, overwrite: bool = False) -> Path:
    """Write towers to one NetCDF4 file, atomically.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers of the data model on ``(site, time)``.
    path : path-like
        The file to write. It appears when everything is written, never before.
    overwrite : bool
        Replace a file that is there, which is kept until the new one is complete.

    Returns
    -------
    pathlib.Path
        The file: ``(site, time)`` in local standard time as in a store, compressed in chunks of one
        tower and about a year. It is written tower by tower, so that it may be larger than memory.

    Raises
    ------
    StoreError
        If ``path`` exists, or ``ds`` has no ``site`` and ``time``.

    Examples
    --------
    >>> import tempfile, xcarbon
    >>> from xcarbon.testing import synthetic_towers
    >>> with tempfile.TemporaryDirectory() as folder, xcarbon.set_options(progress=False):
    ...     path = write_netcdf(synthetic_towers(2, patches=False), f"{folder}/towers.nc")
    ...     open_netcdf(path).sizes["site"]
    2
    """
    path = Path(path)
    _check_writable(ds, [path], overwrite)
    ds = conventions.apply(ds.drop_encoding(), history="written by xcarbon.io.netcdf.write_netcdf")
    whole = {"site": 1, **{dim: -1 for dim in ds.dims if dim != "site"}}
    ds = ds.chunk(whole).assign_coords(ds.coords)
    with replacing(path) as temporary, progress_bar("writing"):
        ds.to_netcdf(temporary, encoding=_encoding(ds))
    return path


def write_sites(ds: xr.Dataset, folder: PathLike, *, overwrite: bool = False) -> list[Path]:
    """Write each tower to a NetCDF4 file of its own, in UTC.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers of the data model on ``(site, time)``.
    folder : path-like
        Where to write ``<site>.nc``.
    overwrite : bool
        Replace files that are there.

    Returns
    -------
    list of pathlib.Path
        The files, in the order of ``ds``. In each, variables are on ``(time,)``, the coordinates of the
        tower are scalars, and time runs from the first to the last hour with any value (one hour where
        there is none). It is in UTC, ``local standard time - utc_offset``, to the second; for a tower
        whose ``utc_offset`` is unknown it stays in local standard time, and says so.

    Raises
    ------
    StoreError
        If one of the files exists, or ``ds`` has no ``site`` and ``time``.
    MetadataError
        If a site cannot name a file.

    Examples
    --------
    >>> import tempfile, xcarbon
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(2, patches=False)
    >>> with tempfile.TemporaryDirectory() as folder, xcarbon.set_options(progress=False):
    ...     paths = write_sites(towers, folder)
    ...     print([path.name for path in paths], open_netcdf(paths).sizes["site"])
    ['SY-001.nc', 'SY-002.nc'] 2
    """
    sites = [str(site) for site in ds["site"].values] if "site" in ds.dims else []
    wrong = [site for site in sites if Path(site).name != site]
    if wrong:
        raise MetadataError(f"sites {wrong} cannot name files: rename them")
    paths = [Path(folder, f"{site}.nc") for site in sites]
    _check_writable(ds, paths, overwrite)
    ds = conventions.apply(ds.drop_encoding(), history="written by xcarbon.io.netcdf.write_sites")
    with progress_bar("writing"):
        for index, path in enumerate(paths):
            tower = _to_utc(_trim(ds.isel(site=index).load()))
            with replacing(path) as temporary:
                tower.to_netcdf(temporary, encoding=_encoding(tower))
    return paths


def _check_writable(ds: xr.Dataset, paths: list[Path], overwrite: bool) -> None:
    """Make sure that there are towers to write, and nothing where they go."""
    if not {"site", "time"} <= set(ds.dims):
        raise StoreError(f"towers have dims site and time, found {tuple(ds.dims)}; ds.expand_dims('site')?")
    for path in paths:
        if path.is_dir():
            raise StoreError(f"{path} is no file: choose another path")
        check_free(path, overwrite=overwrite)


def _encoding(ds: xr.Dataset) -> dict[Any, dict[str, Any]]:
    """Compression and chunks of all numbers along a dimension."""
    return {
        name: array.encoding
        | {"zlib": True, "complevel": 4}
        | {"chunksizes": tuple(min(CHUNKS.get(str(dim), size), size) for dim, size in array.sizes.items())}
        for name, array in ds.variables.items()
        if array.ndim and array.dtype.kind not in "OSTU"
    }


def _trim(tower: xr.Dataset) -> xr.Dataset:
    """Cut a tower in memory to the hours from the first to the last that has any value."""
    has_value = np.zeros(tower.sizes["time"], bool)
    for array in tower.data_vars.values():
        if "time" in array.dims:
            there = array.notnull() if array.dtype.kind == "f" else array != MISSING_FLAG
            has_value |= there.any([dim for dim in array.dims if dim != "time"]).values
    hours = np.flatnonzero(has_value)
    first, last = (hours[0], hours[-1]) if hours.size else (0, 0)
    return tower.isel(time=slice(first, last + 1))


def _to_utc(tower: xr.Dataset) -> xr.Dataset:
    """Label the hours of a tower in UTC, if its offset is known, and say what they are labelled in."""
    offset = tower["utc_offset"].item() if "utc_offset" in tower.coords else np.nan
    attrs, units, time = _UNKNOWN_ATTRS, conventions.TIME_UNITS, tower["time"].values
    if np.isfinite(offset):
        attrs, units, time = _UTC_ATTRS, _UTC_UNITS, time - _offset(offset)
    tower = tower.assign_coords(time=("time", time, tower["time"].attrs | attrs))
    tower = tower.assign_coords(time_bnds=conventions.time_bounds(tower["time"]))
    for name in ("time", "time_bnds"):
        tower[name].encoding = {"units": units, "calendar": "standard", "dtype": "int64"}
    return tower


def _offset(hours: float) -> np.timedelta64:
    """Offset from UTC as it is applied to labels, to the second."""
    return np.timedelta64(round(hours * 3600), "s")


# Reading


def open_netcdf(path_or_paths: PathLike | Iterable[PathLike]) -> xr.Dataset:
    """Open NetCDF files of towers lazily.

    Parameters
    ----------
    path_or_paths : path-like or iterable of path-like
        Files that :func:`write_netcdf` or :func:`write_sites` wrote, or any NetCDF of the data model, with
        one tower or many.

    Returns
    -------
    xarray.Dataset
        On ``(site, time)`` as :func:`xcarbon.open_store` gives it: hourly labels in local standard time
        from the first hour of any tower to the last of any, sites sorted, one chunk per tower and about
        a year. What a tower lacks is missing. Texts in attributes that differ between files are joined.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    FileFormatError
        If a file is not of the data model, or does not say whether its time is UTC; if files have the
        same tower, other pixels or bands, or the same variable with other units or flags.
    TimestampError
        If labels are not hourly, or not clock hours in local standard time.

    Examples
    --------
    >>> import tempfile, xcarbon
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(2, patches=False)
    >>> with tempfile.TemporaryDirectory() as folder, xcarbon.set_options(progress=False):
    ...     ds = open_netcdf(write_sites(towers, folder)).load()
    >>> ds["time"].attrs["long_name"]
    'start of the averaging hour in the local standard time of each tower'
    """
    paths = [path_or_paths] if isinstance(path_or_paths, str | os.PathLike) else list(path_or_paths)
    if not paths:
        raise FileNotFoundError("there is no file to open: the list of paths is empty")
    files = sorted((_open(path) for path in paths), key=lambda file: str(file["site"].values[0]))
    _check_together(files)
    ds = _join(files)
    return conventions.apply(ds if ds.indexes["site"].is_monotonic_increasing else ds.sortby("site"))


def _open(path: PathLike) -> xr.Dataset:
    """Open a file in local standard time, with its coordinates in memory and those of towers on ``site``."""
    try:
        ds = xr.open_dataset(path, cache=False, decode_coords="all")
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{path} cannot be opened as NetCDF: {error}") from error
    lacks = [name for name in ("site", "time") if name not in ds.variables]
    if lacks or ds["time"].dims != ("time",):
        raise FileFormatError(f"{path} is not of the data model: it lacks {lacks or ['a dimension time']}")
    ds = ds.drop_vars("time_bnds", errors="ignore")
    ds = ds.set_coords([name for name in ("site", "spatial_ref") if name in ds])
    ds = ds.assign_coords(ds.coords.to_dataset().load().coords)
    ds = ds.assign_coords(time=_local_time(ds, path))
    check_hourly(ds["time"], str(path))
    ds.encoding["source"] = os.fspath(path)
    if "site" not in ds.dims:
        own = [name for name in ds.coords if name not in (*ds.dims, "spatial_ref")]
        ds = ds.assign_coords(
            {name: ds.coords[name].variable.set_dims(["site", *ds[name].dims]) for name in own}
        )
    return ds


def _local_time(ds: xr.Dataset, path: PathLike) -> NDArray[np.datetime64]:
    """Labels in local standard time, from what the file says that they are."""
    says = str(ds["time"].attrs.get("long_name", ""))
    if (LOCAL in says) == (UTC in says):
        raise FileFormatError(
            f"{path} is not of the data model: the long_name of time must say {LOCAL!r} or {UTC!r}, "
            f"but is {says!r}"
        )
    check_stamps(ds["time"], str(path))
    time = ds["time"].values
    if UTC in says:
        offsets = np.unique(ds["utc_offset"]) if "utc_offset" in ds else np.array([np.nan])
        if offsets.size != 1 or not np.isfinite(offsets[0]):
            raise FileFormatError(f"{path}: time is in UTC, but one utc_offset is needed, found {offsets}")
        time = time + _offset(float(offsets[0]))
    if (time != time.astype("M8[h]")).any():
        raise TimestampError(f"{path}: {time[0]} is not the start of a clock hour in {LOCAL}")
    return time.astype("M8[ns]")


def _check_together(files: list[xr.Dataset]) -> None:
    """Make sure that no tower is there twice, and that patches have the same pixels and bands."""
    where: dict[str, str] = {}
    for file in files:
        source = file.encoding["source"]
        for site in map(str, file["site"].values):
            if site in where:
                raise FileFormatError(f"{where[site]} and {source} both have the tower {site}")
            where[site] = source
    for dim in {str(dim) for file in files for dim in file.dims} - CHUNKS.keys():
        having = [file for file in files if dim in file.dims]
        for file in having:
            if not having[0].get_index(dim).equals(file.get_index(dim)):
                sources = f"{having[0].encoding['source']} and {file.encoding['source']}"
                raise FileFormatError(f"{sources} differ in {dim!r}; open them one by one")


def _join(files: list[xr.Dataset]) -> xr.Dataset:
    """Put towers under each other, on the hours and days of all of them."""
    coords = [(str(name), array.variable) for file in files for name, array in file.coords.items()]
    axes = {name: array for name, array in coords if "site" not in array.dims}
    first = min(file["time"].values[0] for file in files)
    last = max(file["time"].values[-1] for file in files)
    axes["time"] = xr.Variable("time", np.arange(first, last + HOUR, HOUR), axes["time"].attrs)
    if "day" in axes:
        days = np.concatenate([file["day"].values for file in files if "day" in file])
        axes["day"] = xr.Variable("day", np.unique(days), axes["day"].attrs)
    of_sites = dict.fromkeys(name for name, array in coords if "site" in array.dims)
    variables = dict.fromkeys(str(name) for file in files for name in file.data_vars)
    return xr.Dataset(
        {name: _stack(name, files, axes, lazy=True) for name in variables},
        axes | {name: _stack(name, files, axes, lazy=False) for name in of_sites},
        _join_attrs([file.attrs for file in files], "the files"),
    )


def _stack(name: str, files: list[xr.Dataset], axes: dict[str, xr.Variable], *, lazy: bool) -> xr.Variable:
    """Stack a variable of all towers, missing where a tower lacks it."""
    having = [file.variables[name] for file in files if name in file.variables]
    sizes = {str(dim): axes[str(dim)].size if dim in axes else size for dim, size in having[0].sizes.items()}
    parts = []
    for file in files:
        shape = {"site": 1} | sizes | {"site": file.sizes["site"]}
        if name not in file.variables:
            parts.append(_absent(having[0].dtype, shape, lazy=lazy))
        else:
            parts.append(_place(file[name], shape, axes) if lazy else file.variables[name])
    stacked = xr.Variable.concat(parts, "site", combine_attrs="drop")
    stacked.attrs = _join_attrs([array.attrs for array in having], name)
    return stacked


def _absent(dtype: np.dtype[Any], shape: dict[str, int], *, lazy: bool) -> xr.Variable:
    """Give what stands for a variable that towers lack."""
    full = functools.partial(da.full, chunks=_chunks(shape)) if lazy else np.full
    return xr.Variable(list(shape), full(tuple(shape.values()), _missing(dtype), dtype=dtype))


def _place(array: xr.DataArray, shape: dict[str, int], axes: dict[str, xr.Variable]) -> xr.Variable:
    """Set the record of towers into the hours and days of all, lazily, with one task per chunk."""
    before = int((array["time"].values[0] - axes["time"].values[0]) / HOUR) if "time" in shape else 0
    if "day" in shape:
        shape = shape | {"day": array.sizes["day"]}
    data = da.map_blocks(
        _read_block,
        _Record(array.variable, list(shape), before, LIMITS.get(str(array.name))),
        chunks=_chunks(shape),
        meta=np.empty((0,) * len(shape), array.dtype),
        name=f"open-netcdf-{array.name}-{_identity(array, shape, before)}",
    )
    placed = xr.DataArray(data, dims=list(shape))
    if "day" in shape:
        placed = placed.assign_coords(day=array["day"])
        placed = placed.reindex(day=axes["day"].values, fill_value=_missing(array.dtype))
    return placed.variable


def _identity(array: xr.DataArray, *parts: object) -> str:
    """Tell this array of this file from others, and from those of a file that replaces it."""
    path = array.encoding["source"]  # xarray's, of the variable
    stat = os.stat(path)
    return str(tokenize(path, stat.st_mtime_ns, stat.st_size, array.name, *parts))


def _chunks(shape: dict[str, int]) -> tuple[tuple[int, ...], ...]:
    return da.core.normalize_chunks([CHUNKS.get(dim, -1) for dim in shape], tuple(shape.values()))


class _Record:
    """A variable of a file, its dims in the result, the number of hours before it, and its limits."""

    def __init__(self, array: xr.Variable, dims: list[str], before: int, limits: Limits | None) -> None:
        self.array, self.dims, self.before, self.limits = array, dims, before, limits


def _read_block(record: _Record, block_info: dict[Any, Any]) -> NDArray[Any]:
    """Read a chunk; hours that the file does not have are missing."""
    limits = dict(zip(record.dims, block_info[None]["array-location"], strict=True))
    block = np.full(
        [stop - start for start, stop in limits.values()], _missing(record.array.dtype), record.array.dtype
    )
    inside = dict.fromkeys(limits, slice(None))
    if "time" in limits:
        start, stop = limits["time"]
        first = max(start, record.before)
        last = max(first, min(stop, record.before + record.array.sizes["time"]))
        inside["time"] = slice(first - start, last - start)
        limits["time"] = (first - record.before, last - record.before)
    source = record.array.isel({dim: slice(*limits[dim]) for dim in record.dims if dim in record.array.dims})
    block[tuple(inside.values())] = source.load().set_dims(record.dims).values
    return block if record.limits is None else apply_limits_to_column(block, record.limits)


def _missing(dtype: np.dtype[Any]) -> Any:
    """Value that stands for a missing one."""
    return {"f": np.nan, "i": MISSING_FLAG, "O": ""}.get(dtype.kind, np.zeros((), dtype)[()])


#: Attributes without which numbers mean nothing: they must agree.
_MEANING = ("units", "flag_values", "flag_meanings")
_SEPARATORS = {"history": "\n", "ancillary_variables": " "}


def _join_attrs(attrs: list[dict[Any, Any]], what: str) -> dict[Any, Any]:
    """Keep what attributes agree on, and join the texts that differ."""
    joined = {}
    for key in dict.fromkeys(key for each in attrs for key in each):
        found = [each[key] for each in attrs if key in each]
        if all(np.array_equal(value, found[0]) for value in found):
            joined[key] = found[0]
        elif key in _MEANING:
            raise FileFormatError(f"{what} differs in {key} between files, as {found}; open them one by one")
        else:
            joined[key] = _SEPARATORS.get(key, "; ").join(dict.fromkeys(map(str, found)))
    return joined
