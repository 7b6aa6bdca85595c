"""Reader for hourly ERA5 and ERA5-Land files, which become model drivers on a grid.

Time stamps of the files are instants in UTC, whereas xcarbon labels an hour with its start. The value of an
hour depends on the stamps at its start and its end, so each chunk along time is extended by the first stamp
of the next chunk, and one task computes the hours of a chunk.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from xcarbon.core import conventions
from xcarbon.core.errors import OptionError
from xcarbon.core.variables import VARIABLES
from xcarbon.io.era5.accumulation import find_periods
from xcarbon.io.era5.drivers import DRIVERS, Accumulated, Driver, no_driver, warn_of_unread
from xcarbon.io.era5.files import DIMS, PathLike, align_chunks, join, open_fields, unpack, wrap_longitudes
from xcarbon.prep.limits import apply_limits
from xcarbon.prep.scale import mean_solar_time, time_features

_SUMS = {"hour": "from sums over the hour", "day": "from differences of sums since 00 UTC"}
_REFERENCES = (
    "Hersbach et al. 2020, doi:10.1002/qj.3803 (ERA5); "
    "Muñoz-Sabater et al. 2021, doi:10.5194/essd-13-4349-2021 (ERA5-Land)"
)


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
        [m s-1], ``v10`` [m s-1]), long names (``2m_temperature`` ...) or those of Earth Engine
        (``temperature_2m`` ...). Several files are joined in time and by variable; they must have the same
        grid.
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

    Warns
    -----
    UserWarning
        If drivers cannot be computed and the files have variables with other names, which are not used.

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
    files = [(path, open_fields(path, chunks)) for path in unpack(paths)]
    files.sort(key=lambda file: file[1]["time"].values[0])
    fields = align_chunks(wrap_longitudes(join([opened for _, opened in files], where)), where)
    drivers = [driver for driver in DRIVERS if all(source in fields for source in driver.sources)]
    if not drivers:
        raise no_driver(list(fields.data_vars), where)
    unread = dict.fromkeys(name for _, opened in files for name in opened.encoding["unread"])
    warn_of_unread(list(unread), drivers, where)
    sums = [driver for driver in drivers if driver.of_sums]
    periods: dict[str, Accumulated] = {}
    if accumulated:
        periods = dict.fromkeys([driver.code for driver in sums], accumulated)
    elif sums:
        periods = find_periods(files, sums, where)
    return _label(fields, drivers, periods, where)


def _label(
    fields: xr.Dataset, drivers: list[Driver], periods: dict[str, Accumulated], where: str
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
        variables[driver.code] = (DIMS, values, attrs)
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


def _map_hours(
    fields: xr.Dataset, drivers: list[Driver], periods: dict[str, Accumulated]
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
