"""Read and write NetCDF: one file for all towers in local standard time, or one file for each tower in UTC.

The ``long_name`` of ``time`` in a file states which of the two it is; :func:`open_netcdf` requires it.
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
from xcarbon.core.errors import FileFormatError, MetadataError, StoreError, TimestampError, reading
from xcarbon.core.options import progress_bar
from xcarbon.core.validation import check_stamps, steps_per_day
from xcarbon.core.variables import LIMITS
from xcarbon.io.handles import LOCK, open_netcdf_file, write_file
from xcarbon.io.store import CHUNK, check_towers
from xcarbon.prep.limits import apply_limits_to_column

PathLike = str | os.PathLike[str]

#: Chunk sizes in files: one tower, about one year. Opened Datasets have chunks of one tower.
CHUNKS = {"site": 1, **CHUNK}
#: One of these is part of the ``long_name`` of time in every file.
LOCAL, UTC = "local standard time", "UTC"

_UTC_ATTRS = {
    "long_name": f"start of the averaging hour in {UTC}",
    "comment": f"add utc_offset hours for {LOCAL} without daylight saving",
}
_UNKNOWN_ATTRS = {
    "long_name": f"start of the averaging hour in {LOCAL}",
    "comment": "no daylight saving; the offset from UTC is unknown",
}


# Writing


def write_netcdf(ds: xr.Dataset, path: PathLike, *, overwrite: bool = False) -> Path:
    """Write towers to one NetCDF4 file.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers in the data model, on ``(site, time)``.
    path : path-like
        File to write. It is written under a hidden name and renamed when it is complete.
    overwrite : bool
        Whether to replace an existing file. It is kept until the new one is complete.

    Returns
    -------
    pathlib.Path
        The file, with variables ``(site, time)`` in local standard time as in a store, compressed in chunks
        of one tower and about one year. It is written tower by tower, so it may be larger than memory.

    Raises
    ------
    StoreError
        If ``path`` exists and ``overwrite`` is false, if it is a folder, or if ``ds`` lacks the dimensions
        ``site`` or ``time``.
    MetadataError
        If a variable has other units than the vocabulary.

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
    with replacing(path, ds.nbytes) as temporary, progress_bar("writing"):
        write_file(ds, temporary, _encoding(ds))
    return path


def write_sites(ds: xr.Dataset, folder: PathLike, *, overwrite: bool = False) -> list[Path]:
    """Write each tower to a NetCDF4 file of its own, in UTC.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers in the data model, on ``(site, time)``.
    folder : path-like
        Folder in which the files ``<site>.nc`` are written.
    overwrite : bool
        Whether to replace existing files.

    Returns
    -------
    list of pathlib.Path
        The files, in the order of ``ds``. Variables are on ``(time,)`` and the coordinates of the tower are
        scalars. Time runs from the first to the last hour with a value (one hour if there is none), in UTC,
        which is local standard time minus ``utc_offset`` [h], rounded to seconds. If ``utc_offset`` is
        unknown, time stays in local standard time, and its ``long_name`` states this.

    Raises
    ------
    StoreError
        If a file exists and ``overwrite`` is false, or if ``ds`` lacks the dimensions ``site`` or ``time``.
    MetadataError
        If the name of a site cannot be a file name, or a variable has other units than the vocabulary.

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
        raise MetadataError(f"sites {wrong} cannot be file names: rename them")
    paths = [Path(folder, f"{site}.nc") for site in sites]
    _check_writable(ds, paths, overwrite)
    ds = conventions.apply(ds.drop_encoding(), history="written by xcarbon.io.netcdf.write_sites")
    with progress_bar("writing"):
        for index, path in enumerate(paths):
            tower = _to_utc(_trim(ds.isel(site=index).load()))
            with replacing(path, tower.nbytes) as temporary:
                write_file(tower, temporary, _encoding(tower))
    return paths


def _check_writable(ds: xr.Dataset, paths: list[Path], overwrite: bool) -> None:
    """Check the dimensions of towers, and that their files may be written."""
    check_towers(ds)
    for path in paths:
        if path.is_dir():
            raise StoreError(f"{path} is a folder: choose another path")
        check_free(path, overwrite=overwrite)


def _encoding(ds: xr.Dataset) -> dict[Any, dict[str, Any]]:
    """Compression and chunks of all numeric variables that have dimensions."""
    return {
        name: array.encoding
        | {"zlib": True, "complevel": 4}
        | {"chunksizes": tuple(min(CHUNKS.get(str(dim), size), size) for dim, size in array.sizes.items())}
        for name, array in ds.variables.items()
        if array.ndim and array.dtype.kind not in "OSTU"
    }


def _trim(tower: xr.Dataset) -> xr.Dataset:
    """Select the hours of a tower in memory from the first to the last with a value in any variable."""
    has_value = np.zeros(tower.sizes["time"], bool)
    for array in tower.data_vars.values():
        if "time" in array.dims:
            there = array.notnull() if array.dtype.kind == "f" else array != MISSING_FLAG
            has_value |= there.any([dim for dim in array.dims if dim != "time"]).values
    hours = np.flatnonzero(has_value)
    first, last = (hours[0], hours[-1]) if hours.size else (0, 0)
    return tower.isel(time=slice(first, last + 1))


def _to_utc(tower: xr.Dataset) -> xr.Dataset:
    """Convert the time of a tower to UTC, if its offset is known, and set the attributes of time."""
    offset = tower["utc_offset"].item() if "utc_offset" in tower.coords else np.nan
    step = conventions.time_step(tower)
    whole = conventions.TIME_UNITS if step == HOUR else conventions.HALF_HOUR_UNITS
    attrs, units, time = _UNKNOWN_ATTRS, whole, tower["time"].values
    if np.isfinite(offset):
        # Offsets are not always whole hours.
        units = "seconds since 1970-01-01 00:00:00"
        attrs, time = _UTC_ATTRS, time - _offset(offset)
    if step != HOUR:
        attrs = attrs | {"long_name": attrs["long_name"].replace("averaging hour", "averaging half-hour")}
    tower = tower.assign_coords(time=("time", time, tower["time"].attrs | attrs))
    tower = tower.assign_coords(time_bnds=conventions.time_bounds(tower["time"], step))
    for name in ("time", "time_bnds"):
        tower[name].encoding = {"units": units, "calendar": "standard", "dtype": "int64"}
    return tower


def _offset(hours: float) -> np.timedelta64:
    """Convert an offset from UTC [h] to seconds."""
    return np.timedelta64(round(hours * 3600), "s")


# Reading


def open_netcdf(path_or_paths: PathLike | Iterable[PathLike]) -> xr.Dataset:
    """Open NetCDF files of towers lazily.

    Parameters
    ----------
    path_or_paths : path-like or iterable of path-like
        Files written by :func:`write_netcdf` or :func:`write_sites`, or any NetCDF files in the data model,
        with one or several towers each.

    Returns
    -------
    xarray.Dataset
        Variables ``(site, time)`` as from :func:`xcarbon.open_store`. Time is hourly (half-hourly, if the
        files are), in local standard time, from the first hour of any tower to the last hour of any tower.
        Sites are sorted. A chunk holds one tower. Variables, days and hours that a tower lacks are missing
        values. Texts in attributes that differ between files are joined.

    Raises
    ------
    FileNotFoundError
        If ``path_or_paths`` is empty, or a file does not exist.
    FileFormatError
        If a file is not in the data model or does not state whether its time is UTC, or if files contain the
        same tower, different time steps, pixels or bands, or a variable with different units or flags.
    MetadataError
        If a variable has other units than the vocabulary.
    TimestampError
        If time is not hourly or half-hourly, or its labels are not full hours (or half-hours) in local
        standard time.

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
    """Open a file, convert its time to local standard time, and load its coordinates, with a dim ``site``."""
    # Other handles of the file must not be closed before its strings are loaded; see xcarbon.io.handles.
    with LOCK:
        return _labelled(path)


def _labelled(path: PathLike) -> xr.Dataset:
    """Open a file as :func:`_open` does, while the lock of NetCDF is held."""
    with reading(f"{path} cannot be opened as NetCDF"):
        ds = open_netcdf_file(path, cache=False, decode_coords="all")
    lacks = [name for name in ("site", "time") if name not in ds.variables]
    if lacks or ds["time"].dims != ("time",):
        raise FileFormatError(f"{path} is not in the data model: it lacks {lacks or ['a dimension time']}")
    check_stamps(ds["time"], str(path), in_file=True)
    step = conventions.time_step(ds)
    ds = ds.drop_vars("time_bnds", errors="ignore")
    ds = ds.set_coords([name for name in ("site", "spatial_ref") if name in ds])
    coords = ds.coords.to_dataset().load()
    texts = {name: array.astype(str) for name, array in coords.variables.items() if array.dtype.kind == "O"}
    ds = ds.assign_coords(coords.coords).assign_coords(texts)
    ds = ds.assign_coords(time=_local_time(ds, path, step))
    steps_per_day(ds["time"], str(path), in_file=True)
    ds.encoding |= {"source": os.fspath(path), "step": step}
    if "site" not in ds.dims:
        own = [name for name in ds.coords if name not in (*ds.dims, "spatial_ref")]
        ds = ds.assign_coords(
            {name: ds.coords[name].variable.set_dims(["site", *ds[name].dims]) for name in own}
        )
    return ds


def _local_time(ds: xr.Dataset, path: PathLike, step: np.timedelta64) -> NDArray[np.datetime64]:
    """Read time, and convert it to local standard time if its ``long_name`` states that it is UTC."""
    long_name = str(ds["time"].attrs.get("long_name", ""))
    if (LOCAL in long_name) == (UTC in long_name):
        raise FileFormatError(
            f"{path} is not in the data model: the long_name of time must contain either {LOCAL!r} or "
            f"{UTC!r}, found {long_name!r}"
        )
    time = ds["time"].values
    if UTC in long_name:
        offsets = np.unique(ds["utc_offset"]) if "utc_offset" in ds else np.array([np.nan])
        if offsets.size != 1 or not np.isfinite(offsets[0]):
            raise FileFormatError(f"{path}: time in UTC needs one utc_offset, found {offsets}")
        time = time + _offset(float(offsets[0]))
    if ((time - time.astype("M8[D]")) % step != np.timedelta64(0)).any():
        unit = "a full hour" if step == HOUR else "the start of a half-hour"
        raise TimestampError(f"{path}: {time[0]} is not {unit} in {LOCAL}; check utc_offset")
    return time.astype("M8[ns]")


def _check_together(files: list[xr.Dataset]) -> None:
    """Check the time steps, that each tower is in one file only, and the pixels and bands of patches."""
    where: dict[str, str] = {}
    for file in files:
        source = file.encoding["source"]
        if file.encoding["step"] != files[0].encoding["step"]:
            raise FileFormatError(
                f"{files[0].encoding['source']} and {source} have different time steps, of an hour and of "
                "half an hour: open them one by one"
            )
        for site in map(str, file["site"].values):
            if site in where:
                raise FileFormatError(
                    f"{where[site]} and {source} both contain the tower {site}: leave one out"
                )
            where[site] = source
    for dim in {str(dim) for file in files for dim in file.dims} - CHUNKS.keys():
        having = [file for file in files if dim in file.dims]
        for file in having:
            if not having[0].get_index(dim).equals(file.get_index(dim)):
                sources = f"{having[0].encoding['source']} and {file.encoding['source']}"
                raise FileFormatError(f"{sources} differ in {dim!r}: open them one by one")


def _join(files: list[xr.Dataset]) -> xr.Dataset:
    """Concatenate towers along ``site``, on the hours and days of all files."""
    coords = [(str(name), array.variable) for file in files for name, array in file.coords.items()]
    axes = {name: array for name, array in coords if "site" not in array.dims}
    first = min(file["time"].values[0] for file in files)
    last = max(file["time"].values[-1] for file in files)
    step = files[0].encoding["step"]
    axes["time"] = xr.Variable("time", np.arange(first, last + step, step), axes["time"].attrs)
    axes["time_bnds"] = conventions.time_bounds(xr.DataArray(axes["time"]), step).variable
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
    """Concatenate a variable along ``site``; it is missing at towers whose file lacks it."""
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
    """Return missing values for towers that lack a variable."""
    full = functools.partial(da.full, chunks=_chunks(shape)) if lazy else np.full
    return xr.Variable(list(shape), full(tuple(shape.values()), _missing(dtype), dtype=dtype))


def _place(array: xr.DataArray, shape: dict[str, int], axes: dict[str, xr.Variable]) -> xr.Variable:
    """Place a variable of one file on the hours and days of all files, lazily; one task reads one chunk."""
    start = array["time"].values[0] if "time" in shape else axes["time"].values[0]
    before = int(np.searchsorted(axes["time"].values, start))
    if "day" in shape:
        shape = shape | {"day": array.sizes["day"]}
    data = da.map_blocks(
        functools.partial(_read_plausible, array.variable, list(shape), before, str(array.name)),
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
    """Hash of a variable and its file; it changes if the file is replaced."""
    path = array.encoding["source"]  # set by xarray
    stat = os.stat(path)
    return str(tokenize(path, stat.st_mtime_ns, stat.st_size, array.name, *parts))


def _chunks(shape: dict[str, int]) -> tuple[tuple[int, ...], ...]:
    return da.core.normalize_chunks([1 if dim == "site" else -1 for dim in shape], tuple(shape.values()))


def _read_plausible(
    array: xr.Variable, dims: list[str], before: int, name: str, block_info: dict[Any, Any]
) -> NDArray[Any]:
    """Read one chunk, and apply the plausibility limits of its variable if it has any."""
    block = _read_block(array, dims, before, block_info)
    return apply_limits_to_column(block, LIMITS[name]) if name in LIMITS else block


def _read_block(array: xr.Variable, dims: list[str], before: int, block_info: dict[Any, Any]) -> NDArray[Any]:
    """Read one chunk of a file that starts ``before`` hours later; hours that it lacks are missing values."""
    limits = dict(zip(dims, block_info[None]["array-location"], strict=True))
    block = np.full([stop - start for start, stop in limits.values()], _missing(array.dtype), array.dtype)
    inside = dict.fromkeys(limits, slice(None))
    if "time" in limits:
        start, stop = limits["time"]
        first = max(start, before)
        last = max(first, min(stop, before + array.sizes["time"]))
        inside["time"] = slice(first - start, last - start)
        limits["time"] = (first - before, last - before)
    source = array.isel({dim: slice(*limits[dim]) for dim in dims if dim in array.dims})
    block[tuple(inside.values())] = source.load().set_dims(dims).values
    return block


def _missing(dtype: np.dtype[Any]) -> Any:
    """Missing value of a data type."""
    return {"f": np.nan, "i": MISSING_FLAG, "O": ""}.get(dtype.kind, np.zeros((), dtype)[()])


def _join_attrs(attrs: list[dict[Any, Any]], what: str) -> dict[Any, Any]:
    """Merge attributes, and join the texts that differ."""
    separators = {"history": "\n", "ancillary_variables": " "}
    joined = {}
    for key in dict.fromkeys(key for each in attrs for key in each):
        found = [each[key] for each in attrs if key in each]
        if all(np.array_equal(value, found[0]) for value in found):
            joined[key] = found[0]
        elif key in ("units", "flag_values", "flag_meanings"):
            raise FileFormatError(
                f"{what} differs in {key} between files, found {found}: open the files one by one"
            )
        else:
            joined[key] = separators.get(key, "; ").join(dict.fromkeys(map(str, found)))
    return joined
