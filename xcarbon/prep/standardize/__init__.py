"""Turn CF Datasets from elsewhere into Datasets of the data model, lazily."""

from __future__ import annotations

import xarray as xr

from xcarbon.core import conventions
from xcarbon.core.errors import MetadataError, VariableError
from xcarbon.core.variables import TARGETS, VARIABLES
from xcarbon.prep.standardize.coordinates import (
    TOWER_NAMES,
    attribute_name,
    bounds_name,
    find_axes,
    other_variables,
    read_coordinates,
    unpack,
)
from xcarbon.prep.standardize.names import find_variables
from xcarbon.prep.standardize.values import convert_all, derive_humidity, flags_name

__all__ = ["standardize"]


def standardize(
    ds: xr.Dataset, *, derive: bool = False, utc_offset: float | None = None, **choices: str | None
) -> xr.Dataset:
    """Find the variables of the vocabulary in a CF Dataset, rename them and convert their units, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Hourly towers on time and a dim with ``cf_role = "timeseries_id"`` or the name ``site`` or
        ``station``; one tower on time, also with further dims of size 1 (``x``, ``y``, ``z``); or cells of a
        regular grid on time, latitude and longitude. The time is decoded. A label is the start of its hour;
        if the time has CF bounds, they define the hour.
    derive : bool
        Whether to compute ``RH`` and ``VPD`` where they are absent, from the air temperature and the first
        that exists of: the dew point; the specific humidity and the pressure; the other one of the two.
    utc_offset : float, optional
        Local standard time minus UTC [hours] of towers whose time is in UTC; their labels are shifted to
        local standard time. Default: the time of towers is local standard time unless it states that it is
        UTC. The time of grids is UTC.
    **choices : str or None
        Name of the variable to use for a code, for ``dew_point`` or for ``specific_humidity``, as in
        ``TA="t2m"``; None leaves the code out.

    Returns
    -------
    xarray.Dataset
        Float32 variables on ``(site, time)``, or on ``(time, lat, lon)`` with longitudes from -180 to 180
        [degrees_east] in ascending order. The attribute ``source`` of each variable states what it was made
        of, and so do the global attributes ``history`` and ``standardization``. Quality flags named
        ``<name>_QC`` or ``<name>_qc`` with the meaning of FLUXNET (0 measured) are taken, too.
        Variables on ``day``, such as patches, are kept; other variables are left out. The values of
        coordinates are read; those of variables are not.

    Raises
    ------
    VariableError
        If no variable is found, if several variables have the same standard name, if a variable with a
        FLUXNET name has text, or if a choice does not exist.
    MetadataError
        If units are absent or cannot be converted, if the coordinates are not those of towers or of a
        regular grid, if a single cell of a grid has a measured flux, if a class is unknown, or if towers are
        in UTC and ``utc_offset`` is not given.
    TimestampError
        If the time axis is not decoded, not hourly, or not of clock hours in local standard time.
    OptionError
        If ``utc_offset`` is given for a grid.

    Notes
    -----
    The search for a code has four steps, and the first that finds a variable ends it: ``choices``; the code
    itself or a FLUXNET column such as ``TA_F``; the CF standard name; the names in PLUMBER2 and ERA5, if the
    units can be converted and the standard name does not contradict. A name that is a code is not used if the
    standard name belongs to another code. Variables without units are accepted under FLUXNET names only, in
    the units of FLUXNET. Soil moisture and soil temperature with a CF standard name are taken for
    the shallowest depth.

    Conversions are described in :func:`xcarbon.prep.units.conversion`. Sums and mean rates of ERA5 belong to
    the hour that ends at the stamp and are therefore moved to the label one hour earlier, so that the last
    label has none. Sums of ERA5-Land begin at 00 UTC and are an error here; :func:`xcarbon.open_era5` reads
    them, and computes wind speed and hourly means from values at both ends of an hour.

    Examples
    --------
    >>> import numpy as np
    >>> time = np.arange("2020-06-01", "2020-06-02", dtype="datetime64[h]").astype("M8[ns]")
    >>> kelvin = {"standard_name": "air_temperature", "units": "K"}
    >>> ds = xr.Dataset({"temp": ("time", np.full(24, 293.15), kelvin)}, {"time": time})
    >>> tower = standardize(ds)
    >>> tower["TA"].dims, tower["TA"].values[0, 0], tower["TA"].attrs["source"]
    (('site', 'time'), np.float32(20.0), 'temp [K]')
    """
    ds, axes = find_axes(unpack(ds))
    found = find_variables(ds, axes.time, axes.place, choices)
    if not found.keys() & VARIABLES.keys():
        raise VariableError(
            f"no variable of xcarbon is in {sorted(map(str, ds.data_vars))}: standard names are absent or "
            'unknown; choose variables by code, as in ds.carbon.standardize(TA="temperature")'
        )
    measured = [code for code in TARGETS if code in found]
    if axes.is_grid and measured and all(ds.sizes[dim] == 1 for dim in axes.place):
        dims = list(axes.place)
        raise MetadataError(
            f"a single cell with {measured[0]} is a tower, whose time is local standard time, while that of "
            f"grids is UTC: use ds.squeeze({dims}).carbon.standardize(), with utc_offset= if the time is "
            f"UTC; for the cell of a grid, leave the flux out by {measured[0]}=None"
        )
    coords, clock = read_coordinates(ds, axes, found, utc_offset)
    made, auxiliary = convert_all(ds, axes, found)
    if derive:
        made |= derive_humidity({**made, **auxiliary})
    kept = other_variables(ds, axes)
    used = {*found.values(), *kept.variables, *(name for names in TOWER_NAMES.values() for name in names)}
    used |= {bounds_name(ds, axes.time)} | {
        flags for name in found.values() if (flags := flags_name(ds, name))
    }
    left_out = sorted(str(name) for name in ds.data_vars if name not in used)
    order = ("time", "lat", "lon") if axes.is_grid else ("site", "time")
    attrs = {attribute_name(name): value for name, value in ds.attrs.items()}
    result = xr.Dataset(made, coords, attrs).assign(kept.data_vars).transpose(*order, ...)
    if axes.is_grid and not result.indexes["lon"].is_monotonic_increasing:
        result = result.sortby("lon")
    lines = [f"time: {clock}"]
    lines += [
        f"{code} {'from ' if code in found else ''}{made[code].attrs['source']}"
        for code in VARIABLES
        if code in made
    ]
    lines += [f"left out: {', '.join(left_out)}"] if left_out else []
    result.attrs["standardization"] = "\n".join(lines)
    history = f"xcarbon.prep.standardize.standardize: {'; '.join(lines)}"
    return conventions.apply(result, history=history, title="Hourly data from elsewhere as used by xcarbon")
