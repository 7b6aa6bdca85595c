"""Daily, weekly, monthly and yearly values of towers, by the rules and in the units of FLUXNET files."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core import conventions
from xcarbon.core.conventions import QC
from xcarbon.core.errors import OptionError, TimestampError, VariableError
from xcarbon.core.validation import check_units, steps_per_day
from xcarbon.core.variables import TIME_FEATURES, VARIABLES
from xcarbon.prep.hours import clock_hours
from xcarbon.prep.limits import plausible
from xcarbon.prep.periods import Array, Index, Stamps, map_towers
from xcarbon.prep.quality import MAX_QC
from xcarbon.prep.units import conversion

#: Length of a period by the name of the resolution in files of the networks.
RESOLUTIONS = {"DD": "day", "WW": "week", "MM": "month", "YY": "year"}
#: Name of the hourly resolution in files of the networks.
HOURLY = "HR"
#: Variables that the networks average where more than half of the hours have a value, because they are not
#: gap-filled. All other variables need every hour.
MEASURED_ONLY = ("RH", "SW_OUT", "LW_OUT", "NETRAD", "PPFD_IN", "PPFD_OUT", "USTAR", "WTD")
_WEEKS = "52 weeks from the first of January of each year; the last one has 8 days, or 9 in leap years"
#: Coordinates of satellite patches, which are not aggregated.
_OF_PATCHES = ("spatial_ref", "patch_x", "patch_y")


def aggregate(ds: xr.Dataset, resolution: str) -> xr.Dataset:
    r"""Aggregate hours or half-hours to longer periods as the flux networks do, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Hourly or half-hourly variables named by code on ``time`` and any other dimensions, usually ``(site,
        time)``, and their quality flags ``<code>_QC``, if they have any.
    resolution : {"HR", "DD", "WW", "MM", "YY"}
        Hour, day, week, month or year. There are 52 weeks in each year, of which the first begins on the
        first of January and the last has 8 or 9 days.

    Returns
    -------
    xarray.Dataset
        With ``"HR"``, the Dataset itself if it is hourly; otherwise the clock hours of its half-hours, as
        :func:`xcarbon.open_fluxnet` reads them: an hour is missing if one of its halves is, and has the worse
        flag of its halves.

        For longer periods, float32 variables with one task for each variable and tower, NaN where missing:

        - carbon fluxes as mass of carbon: mean [g m-2 d-1] of days, weeks and months, sum [g m-2 year-1] of
          years. The files of the networks name these units gC m-2 d-1 and gC m-2 y-1, as the attribute
          ``network_units`` states; they are not units of CF.
        - ``P``: mean of the daily sums [mm d-1], and the sum of a year [mm year-1],
        - other variables: means in the same units,
        - ``<code>_QC``: share of hours [1] that are measured or gap-filled with good quality (flags 0 and 1),
          for variables with flags. For variables that are not gap-filled it is the share of hours with a
          value.

        ``time`` is the first day of the period and ``time_bnds`` its start and its end. Wind direction,
        uncertainties, satellite patches and satellite series are left out.

    Raises
    ------
    OptionError
        If the resolution is unknown.
    TimestampError
        If ``time`` is not hourly or half-hourly, or empty.
    VariableError
        If the Dataset contains no variable to aggregate.
    MetadataError
        If the units of a variable differ from those of the vocabulary.

    Notes
    -----
    The rules for gaps are those of ONEFlux [1]_, the software of FLUXNET2015 [2]_; with half-hours, they
    apply to half-hours instead of hours:

    - A daily value needs a value in each hour, measured or gap-filled. A week, month or year needs all of its
      days.
    - For variables that the networks do not gap-fill (:data:`MEASURED_ONLY`), a day needs a value in more
      than half of its hours, and a longer period needs more than half of its hours in such days. The mean is
      over the hours or days that have a value.
    - Soil heat flux needs every hour, too, whereas ONEFlux averages the hours that exist.

    Means of TA, SW_IN and VPD agree with the monthly files of nine towers of FLUXNET2015 within 0.0005 degC,
    0.004 W m-2 and 0.0005 hPa, and the same months are missing. Carbon fluxes may differ from the files of
    the networks, because the networks choose the reference flux (``_REF``) among 40 thresholds of friction
    velocity anew for each resolution: the monthly NEE of AU-Tum is equal, and that of DE-Tha differs by
    0.02 g m-2 d-1 (median), at most by 0.32 g m-2 d-1. Shares differ by up to 0.05 where records are
    half-hourly and the reference is the same, because an hour has the worse flag of its half-hours.

    The mass of carbon is 12.011 g mol-1, as everywhere in the package; ONEFlux uses 12.01, which is 0.01 %
    less. Values beyond the plausibility limits are missing.

    References
    ----------
    .. [1] https://github.com/AmeriFlux/ONEFlux: ``compute_dd``, ``compute_ww``, ``compute_mm`` and
       ``compute_yy`` in ``meteo_proc/src/dataset.c``, and ``aggregate_qcdata`` in
       ``pipeline/site_data_product.py``.
    .. [2] Pastorello et al. 2020, Scientific Data 7, 225, doi:10.1038/s41597-020-0534-3.

    Examples
    --------
    >>> time = np.arange("2010-01-01", "2010-01-03", dtype="datetime64[h]").astype("datetime64[ns]")
    >>> flux = xr.DataArray(np.full(48, 2.0, "float32"), {"time": time})
    >>> daily = aggregate(xr.Dataset({"NEE": flux.where(flux.time != time[30])}), "DD")
    >>> daily["NEE"].values.round(3), daily["NEE"].attrs["units"]
    (array([2.075,   nan], dtype=float32), 'g m-2 d-1')
    """
    check_resolution(resolution, HOURLY)
    if not ds.sizes.get("time"):
        raise TimestampError("the Dataset has no hours to aggregate")
    per_day = steps_per_day(ds["time"], "the Dataset")
    if resolution == HOURLY:
        return ds if per_day == 24 else clock_hours(ds)
    stamps = ds["time"].values.astype("datetime64[D]")
    if conventions.is_grid(ds) and stamps[0].astype("M8[Y]") < stamps[-1].astype("M8[Y]"):
        # All hours of a cell are one chunk, which would be too large for many cells and years.
        years = [aggregate(year, resolution) for _, year in ds.groupby("time.year")]
        return xr.concat(years, "time", data_vars="minimal", coords="minimal", combine_attrs="override")
    edges = period_edges(stamps[0], stamps[-1], resolution)
    variables: dict[str, Any] = {}
    for code in VARIABLES:
        if code in ds and "time" in ds[code].dims and _is_aggregated(code):
            check_units(ds, (code,))
            variables |= _aggregate(ds, code, stamps, edges, resolution, per_day)
    if not variables:
        raise VariableError(
            f"the Dataset contains no hourly variable to aggregate; its variables are {sorted(map(str, ds))}"
        )
    aggregated = xr.Dataset(variables)
    if conventions.is_grid(ds):
        aggregated = aggregated.transpose("time", "lat", "lon", ...)
    places = ds.drop_vars([*ds.data_vars, *_OF_PATCHES], errors="ignore")
    places = places.drop_dims([dim for dim in ds.dims if dim not in aggregated.dims or dim == "time"])
    aggregated = aggregated.assign_coords(places.coords).assign_attrs(ds.attrs)
    history = f"xcarbon.prep.aggregate.aggregate(resolution={resolution!r})"
    clock = {"clock": "UTC"} if conventions.is_utc(ds) else {}
    return describe(aggregated, edges, resolution, history, **clock)


def check_resolution(resolution: str, *others: str) -> None:
    """Raise an OptionError unless the resolution is daily, weekly, monthly, yearly or among ``others``."""
    allowed = (*others, *RESOLUTIONS)
    if resolution not in allowed:
        raise OptionError(f"resolution must be one of {', '.join(allowed)}, found {resolution!r}")


def period_edges(first: np.datetime64, last: np.datetime64, resolution: str) -> Stamps:
    """Return the first day of each period from that of ``first`` to that of ``last``, and the day after.

    Examples
    --------
    >>> period_edges(np.datetime64("2011-12-23"), np.datetime64("2012-01-01"), "WW").astype(str).tolist()
    ['2011-12-17', '2011-12-24', '2012-01-01', '2012-01-08']
    """
    january = np.arange(first.astype("M8[Y]"), last.astype("M8[Y]") + 2).astype("M8[D]")
    if resolution == "WW":
        edges = np.append((january[:-1, np.newaxis] + 7 * np.arange(52)).ravel(), january[-1])
    else:
        unit = f"M8[{resolution[0]}]"
        edges = np.arange(january[0].astype(unit), january[-1].astype(unit) + 1).astype("M8[D]")
    start, stop = np.searchsorted(edges, np.array([first, last], "M8[D]"), "right")
    return edges[start - 1 : stop + 1]


def _is_aggregated(code: str) -> bool:
    """Return whether the mean of a variable is meaningful: not of angles, times and uncertainties."""
    return not (VARIABLES[code].cyclic or VARIABLES[code].is_uncertainty or code in TIME_FEATURES)


def _aggregate(
    ds: xr.Dataset, code: str, stamps: Stamps, edges: Stamps, resolution: str, per_day: int
) -> dict[str, xr.DataArray]:
    """Aggregate one variable and its flags: ``(..., time)`` to ``(..., time)`` each."""
    values, name = plausible(ds[code], code), f"{code}{QC}"
    good = ds[name] <= MAX_QC if name in ds else xr.full_like(values, True, bool)
    kernel = partial(
        _tower_periods,
        day=(stamps - edges[0]).astype(int),
        lengths=np.diff(edges).astype(int),
        is_complete=code not in MEASURED_ONLY,
        per_day=per_day,
    )
    arrays = [array.reset_coords(drop=True) for array in (values, good)]
    parts = map_towers(kernel, *arrays, sizes={"part": 2, "period": edges.size - 1}).rename(period="time")
    mean, share = (parts.isel(part=part).astype("float32") for part in range(2))
    factor = per_day if code == "P" else 1 / conversion("gC m-2 d-1", code)[0] if _is_carbon(code) else 1.0
    if resolution == "YY" and _is_rate(code):
        days = xr.DataArray(np.diff(edges).astype("float32"), dims="time")
        mean = mean * days
    found = {code: (mean * np.float32(factor)).assign_attrs(period_attrs(code, resolution))}
    if "source_column" in ds[code].attrs:
        found[code].attrs["source_column"] = ds[code].attrs["source_column"]
    if name in ds or code in MEASURED_ONLY:
        found[name] = share.assign_attrs(share_attrs(code))
    return found


def _tower_periods(
    values: Array, good: NDArray[np.bool_], *, day: Index, lengths: Index, is_complete: bool, per_day: int
) -> Array:
    """Compute mean and share of good hours of each period from the hours of a tower: ``(2, periods)``.

    ``day`` is the number of the day of each hour and ``lengths`` are the lengths of the periods [days].
    ``per_day`` is 24, or 48 for half-hours in place of hours.
    """
    there, days = np.isfinite(values), int(lengths.sum())
    count = np.bincount(day[there], minlength=days)
    total = np.bincount(day[there], values[there], days)
    goods = np.bincount(day[there & good], minlength=days)
    known = count == per_day if is_complete else count > per_day / 2
    number = np.repeat(np.arange(lengths.size), lengths)[known]

    def sums(daily: Array | Index) -> Array:
        return np.bincount(number, daily[known], lengths.size).astype(float)

    known_days = sums(np.ones(days))
    mean = sums(total / np.maximum(count, 1)) / np.maximum(known_days, 1)
    is_known = known_days == lengths if is_complete else sums(count) > per_day / 2 * lengths
    return np.where(is_known, [mean, sums(goods) / (per_day * lengths)], np.nan)


# Attributes


def _is_carbon(code: str) -> bool:
    """Return whether a variable is a flux of carbon, or the uncertainty of one."""
    return VARIABLES[code].is_target or VARIABLES[code].is_uncertainty


def _is_rate(code: str) -> bool:
    """Return whether values of longer periods have other units than hourly values."""
    return code == "P" or _is_carbon(code)


def has_hourly_units(code: str) -> bool:
    """Return whether the values of longer periods have the units, and the limits, of hourly values."""
    return not _is_rate(code)


def period_attrs(code: str, resolution: str) -> dict[str, str]:
    """Return the CF attributes of a variable in days, weeks, months or years.

    Examples
    --------
    >>> attrs = period_attrs("GPP_NT", "YY")
    >>> attrs["units"], attrs["network_units"], attrs["cell_methods"]
    ('g m-2 year-1', 'gC m-2 y-1', 'time: sum')
    """
    attrs = conventions.variable_attrs(code)
    per, network = ("year-1", "y-1") if resolution == "YY" else ("d-1", "d-1")
    if code == "P":
        attrs |= {"units": f"mm {per}", "standard_name": "lwe_precipitation_rate"}
    elif _is_carbon(code):
        attrs |= {"units": f"g m-2 {per}", "long_name": f"{attrs['long_name']}, mass of carbon"}
        attrs["network_units"] = f"gC m-2 {network}"
        attrs.pop("standard_name", None)  # the names of CF are for other units
    attrs["cell_methods"] = "time: sum" if resolution == "YY" and _is_rate(code) else "time: mean"
    return attrs


def share_attrs(code: str) -> dict[str, str]:
    """Return the CF attributes of the share of good hours of a variable."""
    good = "with a measured value" if code in MEASURED_ONLY else "measured or gap-filled with good quality"
    return {
        "long_name": f"share of hours {good}, {VARIABLES[code].long_name}",
        "units": "1",
        "comment": "a share from 0 to 1, whereas hourly data has quality flags",
    }


def describe(
    ds: xr.Dataset,
    edges: Stamps,
    resolution: str,
    history: str,
    *,
    clock: str = "the local standard time of each tower",
    **root: str,
) -> xr.Dataset:
    """Attach the time axis, its bounds and CF attributes to variables of days, weeks, months or years."""
    places = conventions.apply(ds.drop_vars(list(ds.data_vars)), history=history, **root)
    bounds = np.stack([edges[:-1], edges[1:]], axis=1).astype("M8[ns]")
    attrs = {
        "standard_name": "time",
        "long_name": f"start of the {RESOLUTIONS[resolution]} in {clock}",
        "axis": "T",
        "bounds": "time_bnds",
        "units_metadata": "leap_seconds: none",
    }
    if resolution == "WW":
        attrs["comment"] = _WEEKS
    described = ds.assign_attrs(places.attrs).assign_coords(places.coords)
    described = described.assign_coords(
        time=("time", bounds[:, 0], attrs), time_bnds=(("time", "bnds"), bounds)
    )
    for axis in ("time", "time_bnds"):
        described[axis].encoding = {
            "units": conventions.DAY_UNITS, "calendar": "standard", "dtype": "int32"
        }  # fmt: skip
    for name in described.data_vars:
        if f"{name}{QC}" in described:
            described[name].attrs["ancillary_variables"] = f"{name}{QC}"
    return described
