"""Reader for hourly ERA5 and ERA5-Land files, which become model drivers on a grid.

Time stamps of the files are instants in UTC, whereas xcarbon labels an hour with its start. The value of an
hour depends on the stamps at its start and its end, so each chunk along time is extended by the first stamp
of the next chunk, and one task computes the hours of a chunk.

The module contains, in this order, array kernels, the Dask graph, the opening of files, and the labels.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import dask
import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core import conventions
from xcarbon.core.errors import (
    FileFormatError,
    MetadataError,
    OptionError,
    TimestampError,
    VariableError,
    reading,
)
from xcarbon.core.validation import check_hourly
from xcarbon.core.variables import VARIABLES
from xcarbon.io.accumulation import Accumulated, find_period
from xcarbon.io.handles import open_file
from xcarbon.prep.humidity import (
    relative_humidity,
    saturation_vapour_pressure,
    vapour_pressure_deficit,
)
from xcarbon.prep.limits import apply_limits
from xcarbon.prep.scale import mean_solar_time, time_features

PathLike = str | os.PathLike[str]
Array = NDArray[np.floating[Any]]


def open_era5(
    path_or_paths: PathLike | Iterable[PathLike],
    *,
    chunks: Any = "auto",
    accumulated: Accumulated | None = None,
) -> xr.Dataset:
    """Open hourly ERA5 or ERA5-Land files as lazy model drivers on a grid.

    Parameters
    ----------
    path_or_paths : path-like or iterable of path-like
        NetCDF files from the old or new Climate Data Store, zip archives of such files whatever their names,
        or Zarr stores. Archives are unpacked to the temporary directory of Dask (or of the system) until the
        program ends; on a cluster, unpack them to a folder that all workers see. Variables have short names
        (``t2m`` [K], ``d2m`` [K], ``sp`` [Pa], ``tp`` [m], ``ssrd`` [J m-2], ``strd`` [J m-2], ``u10``
        [m s-1], ``v10`` [m s-1]) or long names (``2m_temperature`` ...). Several files are joined in time
        and by variable; they must have the same grid.
    chunks : int, dict or "auto"
        Dask chunks of the files, as in :func:`xarray.open_dataset`.
    accumulated : {"hour", "day"}, optional
        Accumulation period of ``tp``, ``ssrd`` and ``strd``: ``"hour"`` for the hour that ends at the
        stamp (ERA5), ``"day"`` for the time since 00 UTC, where the stamp 00 UTC contains the sum of the
        previous day (ERA5-Land). By default, the period of each variable is found from a sample of its
        values, which is read when the files are opened: sums since 00 UTC never fall within a day, and fall
        after 00 UTC. The grid spacing does not matter.

    Returns
    -------
    xarray.Dataset
        Float32 drivers on ``(time, lat, lon)`` for which the files contain the variables: ``TA`` [degC],
        ``RH`` [%] and ``VPD`` [hPa] (from ``t2m`` and ``d2m``), ``PA`` [kPa], ``P`` [mm], ``SW_IN``
        [W m-2], ``LW_IN`` [W m-2], ``WS`` [m s-1] and ``WD`` [degree] (from ``u10`` and ``v10``), the
        direction that the wind comes from. ``DOY`` [1] and ``TOD`` [hours] on ``(time, lon)`` are in mean
        solar time, which is UTC plus ``utc_offset (lon)`` = lon / 15 [hours], without the equation of time.
        ``lon`` is between -180 and 180 [degrees_east].

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    FileFormatError
        If a file is not on ``(time, latitude, longitude)``, files do not fit together, or the values do not
        decide which accumulation period they have. When values are computed: if the sums do not have that
        period.
    TimestampError
        If time stamps are not hourly or have gaps.
    VariableError
        If the files contain no driver.
    MetadataError
        If a variable has other units than in ERA5.

    Notes
    -----
    Hours are labelled with their start in UTC: a sum stamped 13:00 has the label 12:00. Instantaneous
    variables are averaged over the two stamps at the ends of an hour. Humidity and wind speed are computed
    before averaging, and ``WD`` is the direction of the mean wind vector. The last stamp therefore only
    ends an hour and has no label. Small negative differences of sums since 00 UTC, which result from the
    rounding of packed files, are set to zero.

    Where ERA5 and ERA5T overlap along ``expver``, final values (1) replace preliminary values (5).

    Examples
    --------
    >>> import tempfile
    >>> stamps = np.arange("2022-07-01", "2022-07-02", dtype="datetime64[h]").astype("M8[ns]")
    >>> grid = {"time": stamps, "latitude": [48.0, 47.75], "longitude": [8.0, 8.25]}
    >>> source = xr.Dataset({"t2m": (list(grid), np.full((24, 2, 2), 293.15))}, grid)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     source.to_netcdf(f"{folder}/era5.nc")
    ...     ds = open_era5(f"{folder}/era5.nc").load()
    >>> dict(ds["TA"].sizes), ds["TA"].dtype, ds["TA"].values[0, 0, 0]
    ({'time': 23, 'lat': 2, 'lon': 2}, dtype('float32'), np.float32(20.0))
    """
    paths = [path_or_paths] if isinstance(path_or_paths, str | os.PathLike) else list(path_or_paths)
    if not paths:
        raise FileNotFoundError("the list of paths is empty: it contains no file to open")
    if accumulated not in (None, "hour", "day"):
        raise OptionError(f"accumulated={accumulated!r} is not allowed; use 'hour' or 'day'")
    where = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    paths = unpack(paths)
    files = [_open(path, chunks) for path in paths]
    fields = _align_chunks(_wrap_longitudes(_join(files, where)), where)
    drivers = [driver for driver in _DRIVERS if all(source in fields for source in driver.sources)]
    if not drivers:
        raise _no_driver(list(fields.data_vars), where)
    sums = [driver for driver in drivers if driver.of_sums]
    periods: dict[str, Accumulated] = {}
    if accumulated:
        periods = dict.fromkeys([driver.code for driver in sums], accumulated)
    elif sums:
        order = sorted(range(len(files)), key=lambda index: files[index]["time"].values[0])
        periods = _find_periods([paths[index] for index in order], sums, files, where)
    return _label(fields, drivers, periods, where)


# Kernels: from values at the ends of hours, (hours + 1, lat, lon), to hours, (hours, lat, lon)


def _celsius(temperature: Array) -> Array:
    return temperature - 273.15


def _vapour_pressures(temperature: Array, dew_point: Array) -> tuple[Array, Array]:
    """Actual and saturation vapour pressure [hPa] from temperature and dew point [K]."""
    return saturation_vapour_pressure(_celsius(dew_point)), saturation_vapour_pressure(_celsius(temperature))


def _relative_humidity(temperature: Array, dew_point: Array) -> Array:
    return relative_humidity(*_vapour_pressures(temperature, dew_point))


def _vapour_pressure_deficit(temperature: Array, dew_point: Array) -> Array:
    return vapour_pressure_deficit(*_vapour_pressures(temperature, dew_point))


def _kilopascals(pressure: Array) -> Array:
    return pressure / 1000


def _mean_of_ends(values: Array) -> Array:
    return (values[:-1] + values[1:]) / 2


def _mean(*ends: Array, instant: Callable[..., Array]) -> NDArray[np.float32]:
    """Hourly mean of a quantity that ``instant`` computes at both ends of the hour."""
    return _mean_of_ends(instant(*ends)).astype(np.float32)


def _direction(u: Array, v: Array) -> NDArray[np.float32]:
    """Direction that the mean wind comes from [degree], from 0 to below 360; NaN without wind."""
    u, v = _mean_of_ends(u), _mean_of_ends(v)
    degrees = (np.degrees(np.arctan2(-u, -v)) % 360).astype(np.float32)
    degrees[degrees == 360] = 0  # float32 rounds the remainder of a tiny negative angle up to 360
    return np.where((u == 0) & (v == 0), np.float32(np.nan), degrees)


def _amount(
    sums: Array, first_of_day: NDArray[np.bool_], *, code: str, factor: float, accumulated: Accumulated
) -> NDArray[np.float32]:
    """Amount of each hour from sums over the hour or since 00 UTC."""
    amounts = sums[1:]
    if accumulated == "day":
        amounts = amounts - np.where(first_of_day[:, None, None], 0, sums[:-1])
    amounts = amounts * factor
    _check_amounts(amounts, code, accumulated)
    return np.maximum(amounts, 0).astype(np.float32)


def _check_amounts(amounts: Array, code: str, accumulated: Accumulated) -> None:
    """Check for amounts that only result from the other accumulation period: far below 0 or too large."""
    variable = VARIABLES[code]
    assert variable.bounds is not None  # every predictor has bounds
    upper = variable.bounds.upper
    wrong = amounts[(amounts < -0.01 * upper) | (amounts > upper)]
    if wrong.size:
        kinds = {"hour": "over the hour", "day": "since 00 UTC"}
        other = "day" if accumulated == "hour" else "hour"
        raise FileFormatError(
            f"{code} would be {wrong[0]:g} {variable.units}, so the files do not contain sums "
            f"{kinds[accumulated]} but probably {kinds[other]}; pass accumulated={other!r}"
        )


# Drivers and the variables of ERA5 that they are computed from


@dataclass(frozen=True, slots=True)
class _Driver:
    """A variable, its sources in ERA5, and the kernel that computes it from their values or sums."""

    code: str
    sources: tuple[str, ...]
    kernel: Callable[..., NDArray[np.float32]]
    of_sums: bool = False
    factor: float = 1.0
    comment: str = "mean of the values at the two ends of the hour"


def _state(code: str, sources: tuple[str, ...], instant: Callable[..., Array]) -> _Driver:
    return _Driver(code, sources, functools.partial(_mean, instant=instant))


def _sum(code: str, source: str, factor: float) -> _Driver:
    """Describe a driver from sums [m or J m-2], which ``factor`` converts to the units of the variable."""
    return _Driver(code, (source,), functools.partial(_amount, code=code, factor=factor), True, factor)


#: Long names and units of the sources by their short names.
_SOURCES = {
    "t2m": ("2m_temperature", "K"),
    "d2m": ("2m_dewpoint_temperature", "K"),
    "sp": ("surface_pressure", "Pa"),
    "tp": ("total_precipitation", "m"),
    "ssrd": ("surface_solar_radiation_downwards", "J m-2"),
    "strd": ("surface_thermal_radiation_downwards", "J m-2"),
    "u10": ("10m_u_component_of_wind", "m s-1"),
    "v10": ("10m_v_component_of_wind", "m s-1"),
}

_DRIVERS = (
    _state("TA", ("t2m",), _celsius),
    _sum("P", "tp", 1000),
    _state("RH", ("t2m", "d2m"), _relative_humidity),
    _state("VPD", ("t2m", "d2m"), _vapour_pressure_deficit),
    _state("PA", ("sp",), _kilopascals),
    _sum("SW_IN", "ssrd", 1 / 3600),
    _sum("LW_IN", "strd", 1 / 3600),
    _state("WS", ("u10", "v10"), np.hypot),
    _Driver("WD", ("u10", "v10"), _direction, comment="direction of the mean wind vector"),
)


def _no_driver(found: list[Any], where: str) -> VariableError:
    known = "; ".join(f"{driver.code} from {' and '.join(driver.sources)}" for driver in _DRIVERS)
    names = ", ".join(f"{short} or {name}" for short, (name, _) in _SOURCES.items())
    return VariableError(
        f"{where}: no driver can be computed from {found}; xcarbon computes {known}; use the names {names}"
    )


# Dask graph


def _map_hours(
    fields: xr.Dataset, drivers: list[_Driver], periods: dict[str, Accumulated]
) -> dict[str, da.Array]:
    """Build the lazy arrays ``(hours, lat, lon)`` with one task per driver and chunk."""
    used = {source for driver in drivers for source in driver.sources}
    # Each chunk along time is extended by the first stamp of the next one.
    ends = {name: da.overlap.overlap(fields[name].data, {0: (0, 1)}, {0: "none"}) for name in used}
    hours = _hour_chunks(fields)
    starts = fields["time"].values[:-1]
    first_of_day = da.from_array(starts == starts.astype("M8[D]"), chunks=(hours,))
    arrays = {}
    for driver in drivers:
        operands: list[Any] = [part for name in driver.sources for part in (ends[name], "tyx")]
        kernel = driver.kernel
        if driver.of_sums:
            operands += [first_of_day, "t"]
            kernel = functools.partial(kernel, accumulated=periods[driver.code])
        arrays[driver.code] = da.blockwise(
            kernel,
            "tyx",
            *operands,
            adjust_chunks={"t": hours},
            align_arrays=False,
            meta=np.empty((0, 0, 0), np.float32),
        )
    return arrays


def _hour_chunks(fields: xr.Dataset) -> tuple[int, ...]:
    """Chunk sizes of hours; the last stamp only ends an hour, so the last chunk is one shorter."""
    *sizes, last = fields.chunksizes["time"]
    return (*sizes, last - 1)


# Files

_DIMS = ("time", "lat", "lon")
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


def _open(path: PathLike, chunks: Any, block: slice | None = None) -> xr.Dataset:
    """Open the sources in a file by their short names on ``(time, lat, lon)``.

    With a ``block`` of stamps, read the sums of some cells at these stamps.
    """
    with reading(f"{path}: the file cannot be opened as NetCDF or Zarr"):
        engine = "zarr" if os.path.isdir(path) else None
        file = open_file(path, chunks=chunks, engine=engine)
    named = {
        short: file[name] for short, names in _SOURCES.items() for name in (names[0], short) if name in file
    }
    if not named:
        raise _no_driver(list(file.data_vars), str(path))
    fields = xr.Dataset({short: array.reset_coords(drop=True) for short, array in named.items()})
    fields = fields.rename({old: new for old, new in _RENAMED.items() if old in fields.dims})
    if block is not None:
        names = [driver.sources[0] for driver in _DRIVERS if driver.of_sums and driver.sources[0] in fields]
        if not names:
            return xr.Dataset(attrs={"size of time": 0})
        steps = {dim: slice(None, None, -(-fields.sizes[dim] // _CELLS)) for dim in ("lat", "lon")}
        sample = fields[names].isel(steps | {"time": block}).load()
        return _merge_versions(sample).transpose(*_DIMS).assign_attrs({"size of time": fields.sizes["time"]})
    fields = _merge_versions(fields).assign_attrs(file.attrs)
    for short, array in fields.items():
        _check_source(array, _SOURCES[str(short)][1], f"{path}: {short}")
    fields["time"] = fields["time"].astype("M8[ns]")
    return fields.transpose(*_DIMS)


def _merge_versions(fields: xr.Dataset) -> xr.Dataset:
    """Select final values (experiment version 1) where they exist, else preliminary values (5)."""
    if "expver" in fields.dims:
        versions = sorted(fields["expver"].values)
        final, *others = (fields.sel(expver=version, drop=True) for version in versions)
        for preliminary in others:
            final = final.fillna(preliminary)
        fields = final
    single = [dim for dim, size in fields.sizes.items() if size == 1 and dim not in _DIMS]
    return fields.squeeze(single, drop=True)


def _check_source(array: xr.DataArray, units: str, where: str) -> None:
    """Check that a source is on a grid with time stamps and, if it has units, in the units of ERA5."""
    if not set(array.dims) == set(array.indexes) == set(_DIMS) or not array.size:
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
    if found.replace("**", "") != units:
        raise MetadataError(f"{where} has units {found!r}, but {units!r} in ERA5; convert the variable")


def _join(files: list[xr.Dataset], where: str) -> xr.Dataset:
    """Join files in time and by variable, and check that the time axis is hourly without gaps."""
    files = sorted(files, key=lambda file: file["time"].values[0])
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
    check_hourly(joined["time"], where)
    return joined


def _wrap_longitudes(fields: xr.Dataset) -> xr.Dataset:
    """Convert longitudes from 0..360 to -180..180 [degrees_east] in ascending order."""
    lon = fields["lon"].values
    fields = fields.assign_coords(lon=np.where(lon > 180, lon - 360, lon))
    seam = np.flatnonzero(np.diff(fields["lon"].values) < 0)
    return fields.roll(lon=-int(seam[0]) - 1, roll_coords=True) if seam.size else fields


def _align_chunks(fields: xr.Dataset, where: str) -> xr.Dataset:
    """Rechunk all sources like the first one; the last stamp must not be a chunk of its own."""
    if fields.sizes["time"] < 2:
        raise TimestampError(f"{where}: found one time stamp, but an hour needs stamps at both ends")
    chunks = dict(next(iter(fields.data_vars.values())).chunksizes)
    *sizes, last = chunks["time"]
    if last == 1:
        chunks["time"] = (*sizes[:-1], sizes[-1] + 1)
    return fields.chunk(chunks)


# Accumulation periods

#: Number of stamps that are sampled at a time, number after which one variable decides for all, and number of
#: cells along latitude and longitude.
_BLOCK, _ENOUGH, _CELLS = 48, 480, 8


def _find_periods(
    paths: list[PathLike], drivers: list[_Driver], files: list[xr.Dataset], where: str
) -> dict[str, Accumulated]:
    """Find the accumulation periods of sums from samples of files, which are in the order of time."""
    found: dict[str, Accumulated | Literal["either"] | None] = {}
    samples: dict[str, list[xr.DataArray]] = {driver.code: [] for driver in drivers}
    for stamps, sample in _samples(paths):
        for driver in drivers:
            if driver.sources[0] in sample and found.get(driver.code) not in ("hour", "day"):
                samples[driver.code].append(sample[driver.sources[0]])
                found[driver.code] = _find_period(driver, samples[driver.code])
        decided = [period in ("hour", "day") for period in found.values()]
        if sum(decided) == len(drivers) or (any(decided) and stamps >= _ENOUGH):
            break
    sure: list[Accumulated] = [period for period in found.values() if period == "hour" or period == "day"]
    attrs = " ".join(str(value) for file in files for value in file.attrs.values()).lower()
    if "era5-land" in attrs.replace("_", "-").replace(" ", "-"):
        sure.append("day")
    periods: dict[str, Accumulated] = {}
    for code in samples:
        period = found.get(code, "either")
        if period == "hour" or period == "day":
            periods[code] = period
        elif not (sure or period == "either"):
            raise FileFormatError(
                f"{where}: the values of {code} do not show whether they are sums over the hour (ERA5) or "
                "since 00 UTC (ERA5-Land); pass accumulated='hour' or accumulated='day'"
            )
        else:
            periods[code] = sure[0] if sure else "hour"
    return periods


def _find_period(driver: _Driver, parts: list[xr.DataArray]) -> Accumulated | Literal["either"] | None:
    bounds = VARIABLES[driver.code].bounds
    assert bounds is not None  # every predictor has bounds
    stamps = np.concatenate([part["time"].values for part in parts]).astype("M8[h]")
    sums = np.concatenate([part.values.reshape(part.shape[0], -1) for part in parts])
    rounding = max(abs(part.encoding.get("scale_factor", 0.0)) for part in parts)
    return find_period(stamps, sums, bounds.upper / driver.factor, rounding)


def _samples(paths: list[PathLike]) -> Iterator[tuple[int, xr.Dataset]]:
    """Iterate over blocks of stamps of some cells, each with the number of stamps until its end."""
    count = 0
    for path in paths:
        start, size = 0, 1
        while start < size:
            sample = _open(path, None, slice(start, start + _BLOCK))
            size = sample.attrs["size of time"]
            start += _BLOCK
            count += sample.sizes.get("time", 0)
            yield count, sample


# Labels

_SUMS = {"hour": "from sums over the hour", "day": "from differences of sums since 00 UTC"}
_REFERENCES = (
    "Hersbach et al. 2020, doi:10.1002/qj.3803 (ERA5); "
    "Muñoz-Sabater et al. 2021, doi:10.5194/essd-13-4349-2021 (ERA5-Land)"
)


def _label(
    fields: xr.Dataset, drivers: list[_Driver], periods: dict[str, Accumulated], where: str
) -> xr.Dataset:
    """Build the Dataset with names, coordinates and CF attributes."""
    variables: dict[str, Any] = {}
    arrays = _map_hours(fields, drivers, periods)
    for driver in drivers:
        comment = _SUMS[periods[driver.code]] if driver.of_sums else driver.comment
        attrs = {"source_column": ", ".join(driver.sources), "comment": comment}
        attrs = conventions.variable_attrs(driver.code) | attrs
        limits = VARIABLES[driver.code].limits
        values = da.map_blocks(apply_limits, arrays[driver.code], limits, dtype=np.float32)
        variables[driver.code] = (_DIMS, values, attrs)
    lon = fields["lon"]
    ds = xr.Dataset(
        variables,
        coords={
            "time": fields["time"].values[:-1],
            "lat": fields["lat"].values,
            "lon": lon.values,
            "utc_offset": ("lon", (lon.values / 15).astype("float32")),
        },
    )
    chunks = {"time": _hour_chunks(fields), "lon": fields.chunksizes["lon"]}
    ds = ds.assign(time_features(mean_solar_time(ds["time"], lon, chunks)))
    return conventions.apply(
        ds,
        history="xcarbon.io.era5.open_era5",
        title="Hourly drivers from ERA5 reanalysis",
        source=f"ERA5 files {where}",
        references=_REFERENCES,
        acknowledgement="Contains modified Copernicus Climate Change Service information",
    )
