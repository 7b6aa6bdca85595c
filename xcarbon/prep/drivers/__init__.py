"""Fill gaps in the meteorology of towers with reanalysis whose bias at each tower is removed."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xcarbon.core import conventions
from xcarbon.core.conventions import HOUR
from xcarbon.core.errors import MetadataError, OptionError, TimestampError, VariableError
from xcarbon.core.notices import warn
from xcarbon.core.validation import check_dataset, check_hourly, check_units, suggestion
from xcarbon.prep.drivers.adjustment import RULES
from xcarbon.prep.drivers.attributes import describe_parameters, fill_variable
from xcarbon.prep.drivers.graph import adjust_towers, find_gaps
from xcarbon.prep.labels import read_labels

__all__ = ["fill_drivers"]

#: Least number of hours with both a measurement and reanalysis: 90 days. Parameters from fewer hours of one
#: season make reanalysis worse in the others (``python -m benchmarks.drivers``).
MIN_HOURS = 90 * 24


def fill_drivers(
    ds: xr.Dataset, era5: xr.Dataset, *, max_qc: int | None = None, min_hours: int = MIN_HOURS
) -> xr.Dataset:
    r"""Fill gaps in the meteorology of towers with ERA5 whose bias at each tower is removed, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers on ``(site, time)``, or one on ``(time,)``, in local standard time, with the coordinates
        ``utc_offset`` [hours] and, for a grid of reanalysis, ``lat`` [degrees_north] and ``lon``
        [degrees_east].
    era5 : xarray.Dataset
        Hourly reanalysis in UTC, in the units of the vocabulary, with labels at the start of the hour: a grid
        ``(time, lat, lon)`` as :func:`xcarbon.open_era5` returns it, or series on ``time`` and ``site`` with
        the identifiers of the towers; for one tower also on ``(time,)``. Of a grid, the cell that contains
        the tower is used; if it has no values, as at the coast in ERA5-Land, the nearest of the eight cells
        around it that has values.
    max_qc : int, optional
        Highest quality flag of the values to keep; values with a higher flag are replaced. By default all
        values are kept, and only missing hours are filled. Values beyond the plausibility limits are regarded
        as missing.
    min_hours : int
        Least number of hours with both a measurement and reanalysis, by default 90 days. Where there are
        fewer, the gaps of the variable at this tower are left, and a warning names both.

    Returns
    -------
    xarray.Dataset
        ``ds`` with filled ``TA``, ``P``, ``RH``, ``VPD``, ``PA``, ``SW_IN``, ``LW_IN`` and ``WS``, as far as
        both Datasets contain them. Values that are kept do not change. Filled hours have the quality flag 2
        in ``<VAR>_QC``, which is added if it is absent (0 where there is a value). The parameters of the
        adjustment are on ``(site, driver)``, where ``driver`` is the code of a variable:

        - ``era5_slope`` [1] and ``era5_intercept`` [units of the variable],
        - ``era5_rmse`` [units of the variable]: root mean square difference between adjusted reanalysis and
          the measurements from which the parameters were computed,
        - ``era5_hours`` [1]: number of these measurements.

        The first three are NaN where the variable was not filled.

    Raises
    ------
    VariableError
        If the Datasets have none of these variables in common.
    MetadataError
        If a tower has no ``utc_offset``, no place, lies outside the grid, or is absent from the series; if
        the time of the towers is UTC; or if a variable has other units than the vocabulary.
    TimestampError
        If a time axis is not hourly, the Datasets have no hours in common, or reanalysis is in local time.
    OptionError
        If ``min_hours`` is less than 2, ``max_qc`` is negative, or ``era5`` is no Dataset.

    Warns
    -----
    UserWarning
        If ``era5`` has a variable that the towers lack, which cannot be adjusted and is left out; and, when
        values are computed, for each tower and variable whose gaps cannot be filled. Processes of a cluster
        do not forward the latter: read ``era5_hours``.

    Notes
    -----
    The parameters are computed for each tower and variable from all hours with a measurement (quality flag 0,
    or none) and reanalysis, by the rules of FLUXNET2015 [1]_ [2]_:

    - TA, VPD, PA and LW_IN: slope and intercept of the linear regression of measurements on reanalysis. RH,
      which FLUXNET does not fill, has the same rule.
    - SW_IN and WS: slope of the regression through the origin, so that nights stay dark.
    - P: ratio of the totals, so that the amount of precipitation is that of the tower. Single showers of
      reanalysis are at other hours than those of the tower.

    Adjusted values beyond a plausibility limit are set to the limit, for example RH to 100 % and VPD to 0. A
    slope that is not positive is not used: the gaps are left, and a warning names tower and variable. FLUXNET
    uses unadjusted reanalysis where there is no measurement.

    In UTC, an hour of the tower begins ``utc_offset`` hours before its label. If that is not a full hour, the
    two hours of reanalysis that it overlaps are averaged, weighted by the overlap.

    Hours before the first and after the last value of any variable of a tower are not part of its record and
    are not filled, nor are hours without reanalysis.

    References
    ----------
    .. [1] Vuichard, N. and Papale, D. (2015), Filling the gaps in meteorological continuous data measured at
       FLUXNET sites with ERA-Interim reanalysis, Earth Syst. Sci. Data 7, 157-171,
       doi:10.5194/essd-7-157-2015. The software of FLUXNET, ONEFlux, contains the rules in
       ``oneflux/downscaling``.
    .. [2] Pastorello et al. (2020), Scientific Data 7, 225, doi:10.1038/s41597-020-0534-3.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> tower = synthetic_towers(1, patches=False, variables=["TA"], gaps=False).isel(site=0).load()
    >>> utc = tower["time"] - np.timedelta64(int(tower["utc_offset"]), "h")
    >>> reanalysis = xr.Dataset({"TA": ("time", tower["TA"].values / 2 - 3)}, {"time": utc.values})
    >>> gap = tower.assign(TA=tower["TA"].where(tower["time"].dt.month != 7))
    >>> filled = fill_drivers(gap, reanalysis)
    >>> bool(abs(filled["TA"] - tower["TA"]).max() < 1e-4)
    True
    >>> float(filled["era5_slope"].sel(driver="TA").round(3)), int((filled["TA_QC"] == 2).sum())
    (2.0, 744)
    """
    if min_hours < 2:
        raise OptionError(f"min_hours must be at least 2, found {min_hours}")
    ds = read_labels(ds)
    check_dataset(era5, "era5", "xcarbon.open_era5 for its files")
    codes = _shared_codes(ds, era5)
    check_units(ds, codes)
    check_units(era5, codes)
    is_single = "site" not in ds.dims
    towers = ds.expand_dims("site") if is_single else ds
    gaps = find_gaps(towers, codes, max_qc)
    estimates, table = adjust_towers(towers, gaps, era5, min_hours)
    if is_single:
        gaps, estimates, table = (part.isel(site=0) for part in (gaps, estimates, table))
    series: dict[str, xr.DataArray] = {}
    for code in codes:
        series |= fill_variable(ds, code, estimates[code].where(gaps[code]))
    filled = ds.drop_dims("driver", errors="ignore").assign(series).assign(describe_parameters(table))
    if "acknowledgement" in era5.attrs:
        thanks = dict.fromkeys([ds.attrs.get("acknowledgement", ""), era5.attrs["acknowledgement"]])
        filled = filled.assign_attrs(acknowledgement="; ".join(filter(None, thanks)))
    settings = f"max_qc={max_qc}, min_hours={min_hours}"
    return conventions.apply(filled, history=f"xcarbon.prep.drivers.fill_drivers({codes}, {settings})")


def _shared_codes(ds: xr.Dataset, era5: xr.Dataset) -> list[str]:
    """Check the axes of both Datasets and return the variables to fill."""
    if conventions.is_grid(ds) or "time" not in ds.dims:
        raise MetadataError(f"gaps of towers on (site, time) are filled, found the dims {tuple(ds.sizes)}")
    if conventions.is_utc(ds):
        raise MetadataError(
            "the time of the towers is in UTC; convert it to local standard time, as xcarbon.open_netcdf does"
        )
    if "local" in str(era5["time"].attrs.get("long_name", "")):
        raise TimestampError(
            "the time of reanalysis must be UTC, but it is local time according to its long_name "
            f"{era5['time'].attrs['long_name']!r}; subtract utc_offset and correct the long_name"
        )
    check_hourly(ds["time"], str(ds.encoding.get("source", "the Dataset")))
    check_hourly(era5["time"], str(era5.encoding.get("source", "reanalysis")))
    if not (ds["time"].size and era5["time"].size):
        raise TimestampError("the towers or reanalysis have no hours")
    (first, last), (start, end) = (axis.values[[0, -1]] for axis in (ds["time"], era5["time"]))
    if first > end + 14 * HOUR or start > last + 14 * HOUR:
        raise TimestampError(
            f"towers and reanalysis have no hours in common: the towers have {_span(first, last)}, and "
            f"reanalysis {_span(start, end)}"
        )
    offered = [code for code in RULES if code in era5 and "time" in era5[code].dims]
    codes = [code for code in offered if code in ds and "time" in ds[code].dims]
    if not codes:
        raise VariableError(
            f"towers and reanalysis have no variable in common that can be filled: {', '.join(RULES)}; "
            f"the towers have {list(ds.data_vars)}, and reanalysis has {list(era5.data_vars)}"
            f"{suggestion(era5)}"
        )
    if absent := [code for code in offered if code not in codes]:
        warn(
            f"{', '.join(absent)} of reanalysis cannot be adjusted and is left out, because the towers have "
            "no measurements of it"
        )
    return codes


def _span(first: np.datetime64, last: np.datetime64) -> str:
    return f"{str(first)[:16]} to {str(last)[:16]}"
