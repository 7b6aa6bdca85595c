"""Fill gaps in the meteorology of towers with reanalysis whose bias at each tower is removed.

The module contains, in this order, array kernels for one tower, the Dask graph, and the labels.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core import conventions
from xcarbon.core.conventions import HOUR, MISSING_FLAG, QC
from xcarbon.core.errors import MetadataError, OptionError, TimestampError, VariableError
from xcarbon.core.notices import warn
from xcarbon.core.validation import check_hourly, check_units, suggestion
from xcarbon.core.variables import CONSOLIDATED, TIME_FEATURES, VARIABLES
from xcarbon.prep.labels import read_labels
from xcarbon.prep.limits import plausible
from xcarbon.prep.quality import mask_quality

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Rule = Literal["line", "proportional", "total"]

#: How reanalysis is adjusted to the measurements of a tower, by variable.
RULES: dict[str, Rule] = {
    "TA": "line",
    "P": "total",
    "RH": "line",
    "VPD": "line",
    "PA": "line",
    "SW_IN": "proportional",
    "LW_IN": "line",
    "WS": "proportional",
}
#: Quality flag of filled hours.
FLAG = 2
#: Least number of hours with both a measurement and reanalysis: 90 days. Parameters from fewer hours of one
#: season make reanalysis worse in the others (``python -m benchmarks.drivers``).
MIN_HOURS = 90 * 24
#: Parameters of the adjustment, which are variables of the result on ``(site, driver)``.
PARAMETERS = ("era5_slope", "era5_intercept", "era5_rmse", "era5_hours")
_RULE_TEXTS: dict[Rule, str] = {
    "line": "slope and intercept of a linear regression",
    "proportional": "slope of a linear regression through the origin",
    "total": "ratio of the totals",
}
#: Largest number of towers whose reanalysis is read together; 25 years need 8 MB for each.
GROUP = 16
_REFERENCE = "Vuichard and Papale 2015, doi:10.5194/essd-7-157-2015"
#: Spacing of the cells of ERA5 [degrees], for a grid with a single cell.
_SPACING = 0.25


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
        If ``min_hours`` is less than 2, or ``max_qc`` is negative.

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
    codes = _shared_codes(ds, era5)
    check_units(ds, codes)
    check_units(era5, codes)
    is_single = "site" not in ds.dims
    towers = ds.expand_dims("site") if is_single else ds
    gaps = _gaps(towers, codes, max_qc)
    estimates, table = _adjust(towers, gaps, era5, min_hours)
    if is_single:
        gaps, estimates, table = (part.isel(site=0) for part in (gaps, estimates, table))
    series: dict[str, xr.DataArray] = {}
    for code in codes:
        series |= _fill(ds, code, estimates[code].where(gaps[code]))
    filled = ds.drop_dims("driver", errors="ignore").assign(series).assign(_describe(table))
    if "acknowledgement" in era5.attrs:
        thanks = dict.fromkeys([ds.attrs.get("acknowledgement", ""), era5.attrs["acknowledgement"]])
        filled = filled.assign_attrs(acknowledgement="; ".join(filter(None, thanks)))
    settings = f"max_qc={max_qc}, min_hours={min_hours}"
    return conventions.apply(filled, history=f"xcarbon.prep.drivers.fill_drivers({codes}, {settings})")


# Kernels for one tower


class Adjustment(NamedTuple):
    """Adjusted reanalysis is ``slope`` times reanalysis plus ``intercept`` [units of the variable]."""

    slope: float
    intercept: float


def fit_adjustment(measured: Array, reanalysis: Array, rule: Rule) -> Adjustment:
    """Fit measurements ``(hours,)`` to reanalysis; the slope is NaN if reanalysis has no variation.

    Examples
    --------
    >>> fit_adjustment(np.array([5.0, 7.0]), np.array([2.0, 3.0]), "line")
    Adjustment(slope=2.0, intercept=1.0)
    >>> fit_adjustment(np.array([0.0, 6.0]), np.array([3.0, 1.0]), "total")
    Adjustment(slope=1.5, intercept=0.0)
    """
    y, x = measured.astype(float), reanalysis.astype(float)
    if rule == "total":
        return Adjustment(_ratio(y.sum(), x.sum()), 0.0)
    if rule == "proportional":
        return Adjustment(_ratio(x @ y, x @ x), 0.0)
    deviation = x - x.mean()
    slope = _ratio(deviation @ y, deviation @ deviation if np.ptp(x) else 0.0)
    return Adjustment(slope, float(y.mean() - slope * x.mean()))


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else np.nan


def shift_hours(series: Array, start: int, size: int) -> Array:
    """Average an hourly series ``(hours,)`` over ``size`` hours, the first of which begins at ``start``.

    ``start`` [s] counts from the beginning of the series. The two hours that an hour overlaps are
    weighted by the overlap. Hours that the series does not cover are NaN.

    Examples
    --------
    >>> shift_hours(np.array([1.0, 2.0, 4.0]), 2700, 3)
    array([1.75, 3.5 ,  nan])
    """
    first, seconds = divmod(int(start), 3600)
    padded = np.full(size + 1, np.nan)
    begin, end = max(first, 0), min(first + size + 1, series.size)
    if begin < end:
        padded[begin - first : end - first] = series[begin:end]
    share = seconds / 3600
    return (1 - share) * padded[:-1] + share * padded[1:] if share else padded[:-1]


def adjust_tower(
    measured: Array,
    is_gap: Mask,
    cells: Array,
    order: NDArray[np.int_],
    start: int,
    site: str,
    *,
    code: str,
    min_hours: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Adjust the reanalysis of one variable to one tower; warn if its gaps cannot be filled.

    ``measured`` and ``is_gap`` are ``(time,)``, ``cells (hour, row, column)`` is reanalysis around the tower,
    ``order (cell,)`` contains the flat positions of the cells from the nearest to the farthest, and ``start``
    is the first hour of the tower in reanalysis [s]. The results are adjusted values ``(time,)``, NaN if
    there are none, and slope, intercept, RMSE and number of hours, ``(4,)``.
    """
    columns = cells.reshape(cells.shape[0], -1)
    with_values = [cell for cell in order if np.isfinite(columns[:, cell]).any()]
    nearest = columns[:, with_values[0] if with_values else order[0]]
    reanalysis = shift_hours(nearest, start, measured.size)
    both = np.isfinite(measured) & np.isfinite(reanalysis)
    hours = np.count_nonzero(both)
    slope, intercept = (
        fit_adjustment(measured[both], reanalysis[both], RULES[code]) if hours else (np.nan,) * 2
    )
    reason = ""
    if hours < min_hours:
        reason = f"{hours} hours have a measurement and reanalysis, but {min_hours} are needed (min_hours)"
    elif not slope > 0:
        reason = f"the measurements do not increase with reanalysis (slope {slope:.3g})"
    if reason:
        if is_gap.any():
            warn(f"{site}: {np.count_nonzero(is_gap)} missing hours of {code} are not filled: {reason}")
        unknown = np.full(measured.shape, np.nan, np.float32)
        return unknown, np.array([np.nan, np.nan, np.nan, hours], np.float32)
    limits = VARIABLES[code].limits
    adjusted = np.clip(slope * reanalysis + intercept, limits.lower, limits.upper)
    rmse = np.sqrt(np.mean((adjusted[both] - measured[both]) ** 2))
    return adjusted.astype(np.float32), np.array([slope, intercept, rmse, hours], np.float32)


def is_in_record(has_value: Mask) -> Mask:
    """Return whether hours ``(..., time)`` are between the first and the last with a value.

    Examples
    --------
    >>> is_in_record(np.array([False, True, False, True, False]))
    array([False,  True,  True,  True, False])
    """
    after = np.logical_or.accumulate(has_value, axis=-1)
    return after & np.logical_or.accumulate(has_value[..., ::-1], axis=-1)[..., ::-1]


# Dask graph: one task for each tower and variable


def _gaps(towers: xr.Dataset, codes: list[str], max_qc: int | None) -> xr.Dataset:
    """Return lazily which hours are to be filled, ``(site, time)`` without labels."""
    record = _record(towers)
    gaps = {}
    for code in codes:
        kept = plausible(towers[code], code) if max_qc is None else mask_quality(towers, [code], max_qc)[code]
        gaps[code] = _bare(kept).isnull() & record
    return xr.Dataset(gaps)


def _adjust(
    towers: xr.Dataset, gaps: xr.Dataset, era5: xr.Dataset, min_hours: int
) -> tuple[xr.Dataset, xr.Dataset]:
    """Adjust reanalysis to all towers: adjusted variables, and parameters on ``(site, driver)``."""
    codes = list(gaps.data_vars)
    fields, order = _around_towers(era5[codes], towers)
    start = xr.DataArray(_start(towers, era5), dims="site")
    series, tables = {}, []
    for code in codes:
        series[code], table = xr.apply_ufunc(
            partial(adjust_tower, code=str(code), min_hours=min_hours),
            _bare(mask_quality(towers, [str(code)], 0)[code]),
            gaps[code],
            fields[code],
            order,
            start,
            _labels(towers),
            input_core_dims=[["time"], ["time"], ["hour", "row", "column"], ["cell"], [], []],
            output_core_dims=[["time"], ["parameter"]],
            vectorize=True,
            dask="parallelized",
            output_dtypes=[np.float32, np.float32],
            dask_gufunc_kwargs={"output_sizes": {"parameter": len(PARAMETERS)}},
        )
        tables.append(table)
    table = xr.concat(tables, dim=xr.Variable("driver", codes), coords="minimal", compat="override")
    parameters = {name: table.isel(parameter=number) for number, name in enumerate(PARAMETERS)}
    return xr.Dataset(series), xr.Dataset(parameters).transpose("site", "driver")


def _bare(array: xr.DataArray) -> xr.DataArray:
    """Return an array of towers without coordinates; if it is lazy, with one chunk for each tower."""
    bare = xr.DataArray(array.variable)
    return bare.chunk(site=1, time=-1) if bare.chunks else bare


def _record(towers: xr.Dataset) -> xr.DataArray:
    """Return lazily which hours belong to the record of each tower, ``(site, time)``."""
    there: Any = False
    for name, array in towers.data_vars.items():
        if {"site", "time"} <= set(array.dims) and name not in TIME_FEATURES:
            bare = array.variable
            has_value = bare.notnull() if array.dtype.kind == "f" else bare != MISSING_FLAG
            there = has_value.any([dim for dim in array.dims if dim not in ("site", "time")]) | there
    return xr.apply_ufunc(
        is_in_record,
        _bare(xr.DataArray(there)),
        input_core_dims=[["time"]],
        output_core_dims=[["time"]],
        dask="parallelized",
        output_dtypes=[bool],
    )


def _around_towers(era5: xr.Dataset, towers: xr.Dataset) -> tuple[xr.Dataset, xr.DataArray]:
    """Select reanalysis on ``(site, hour, row, column)``, and the cells by distance ``(site, cell)``."""
    if _is_lazy(towers):
        era5 = era5.chunk()
    if {"lat", "lon"} <= set(era5.indexes):
        rows, columns, order = _boxes(era5, towers)
        bare = era5.drop_vars([name for name in era5.coords if name != "time"])
        near, cut = _neighbours(bare, rows, columns), []
        for sites in near:
            lat = xr.DataArray(rows[sites], dims=("site", "row"))
            part = bare.isel(lat=lat, lon=xr.DataArray(columns[sites], dims=("site", "column")))
            # Chunks are merged before towers are joined, because the join takes time for each chunk.
            cut.append(part.chunk(time=-1) if _is_lazy(part) else part)
        fields = xr.concat(cut, "site").isel(site=np.argsort(np.concatenate(near)))
    else:
        fields = _series_of_towers(era5, towers).expand_dims(["row", "column"])
        order = np.zeros((towers.sizes["site"], 1), int)
    fields = fields.rename(time="hour").drop_vars(["hour", "site"], errors="ignore")
    if _is_lazy(fields):
        fields = fields.chunk({"site": 1, "hour": -1, "row": -1, "column": -1})
    return fields, xr.DataArray(order, dims=("site", "cell"))


def _neighbours(
    era5: xr.Dataset, rows: NDArray[np.int_], columns: NDArray[np.int_]
) -> list[NDArray[np.int_]]:
    """Positions of towers in groups whose cells begin in the same chunk, so that it is read once for each."""
    chunk = [
        np.searchsorted(np.cumsum(era5.chunksizes.get(dim, (era5.sizes[dim],))), cells[:, 0], side="right")
        for dim, cells in (("lat", rows), ("lon", columns))
    ]
    groups: dict[tuple[int, ...], list[int]] = {}
    for site, place in enumerate(zip(*chunk, strict=True)):
        groups.setdefault(place, []).append(site)
    return [
        np.array(sites[start : start + GROUP])
        for sites in groups.values()
        for start in range(0, len(sites), GROUP)
    ]


def _is_lazy(ds: xr.Dataset) -> bool:
    return any(array.chunks for array in ds.data_vars.values())


def _series_of_towers(era5: xr.Dataset, towers: xr.Dataset) -> xr.Dataset:
    """Return the series of reanalysis in the order of the towers."""
    names = _labels(towers).values
    if not set(era5.dims) <= {"time", "site"} or (names.size > 1 and "site" not in era5.dims):
        raise MetadataError(
            f"reanalysis has the dims {dict(era5.sizes)}, but {names.size} towers need a grid (time, lat, "
            "lon), as xcarbon.open_era5 opens it, or series on (time, site)"
        )
    if "site" not in era5.dims:
        return era5.drop_vars([name for name in era5.coords if name != "time"]).expand_dims("site")
    offered: Any = era5["site"].values.astype(str) if "site" in era5.coords else []
    absent = names[~np.isin(names, offered)].tolist()
    if absent:
        raise MetadataError(
            f"reanalysis has no series for the towers {absent[:5]}; add them to its coordinate 'site'"
        )
    bare = era5.drop_vars([name for name in era5.coords if name not in ("time", "site")])
    return bare.sel(site=names)


def _boxes(era5: xr.Dataset, towers: xr.Dataset) -> tuple[NDArray[np.int_], ...]:
    """Return rows and columns of the up to 3 x 3 cells around each tower, and the flat positions by distance.

    A MetadataError names a tower outside the grid, or one without a place.
    """
    names = _labels(towers).values
    lats, lons = (_per_tower(towers, name) for name in ("lat", "lon"))
    boxes = []
    for site, lat, lon in zip(names, lats, lons, strict=True):
        north = era5["lat"].values - lat
        east = (era5["lon"].values - lon + 180) % 360 - 180
        if not np.isfinite(lat + lon):
            raise MetadataError(f"{site}: lat or lon is missing, so that no cell of the grid can be selected")
        if _is_outside(north) or _is_outside(east):
            raise MetadataError(
                f"{site}: the tower at {lat:g} degrees north, {lon:g} degrees east is outside the grid of "
                f"reanalysis, which covers {_extent(era5['lat'])} degrees north and {_extent(era5['lon'])} "
                "degrees east; use a grid that contains it, or leave the tower out with ds.drop_sel(site=...)"
            )
        rows, columns = _three(north), _three(east)
        square = north[rows, np.newaxis] ** 2 + (east[columns] * np.cos(np.radians(lat))) ** 2
        boxes.append((rows, columns, np.argsort(square, axis=None, kind="stable")))
    return tuple(map(np.stack, zip(*boxes, strict=True)))


def _is_outside(distance: Array) -> bool:
    """Return whether the nearest cell is farther than half the spacing of the cells [degrees]."""
    steps = np.abs(np.diff(distance))
    spacing = np.median(steps) if steps.size else _SPACING
    return bool(np.abs(distance).min() > 0.5001 * spacing)


def _three(distance: Array) -> NDArray[np.int_]:
    """Return the three cells around the nearest one; fewer if the grid has fewer."""
    first = int(np.clip(np.argmin(np.abs(distance)) - 1, 0, max(distance.size - 3, 0)))
    return np.arange(first, min(first + 3, distance.size))


def _extent(axis: xr.DataArray) -> str:
    return f"{float(axis.min()):g} to {float(axis.max()):g}"


def _start(towers: xr.Dataset, era5: xr.Dataset) -> NDArray[np.int64]:
    """Return the first hour of each tower after the first hour of reanalysis [s], ``(site,)``."""
    offset = _per_tower(towers, "utc_offset")
    unknown = _labels(towers).values[~np.isfinite(offset)]
    if unknown.size:
        raise MetadataError(
            f"utc_offset is missing for {unknown[:5].tolist()}; it relates the local standard time of the "
            "tower to the UTC of reanalysis: set ds['utc_offset'] [hours]"
        )
    first = (towers["time"].values[0] - era5["time"].values[0]) / np.timedelta64(1, "s")
    return np.round(first - offset * 3600).astype(int)


def _per_tower(towers: xr.Dataset, name: str) -> NDArray[np.float64]:
    """Return a coordinate of the towers, ``(site,)``; NaN if it is absent."""
    values = towers[name].values if name in towers.coords else np.nan
    return np.broadcast_to(np.asarray(values, float), towers.sizes["site"])


def _labels(towers: xr.Dataset) -> xr.DataArray:
    """Return the identifiers of the towers as text, without coordinates."""
    names = towers["site"].values.astype(str) if "site" in towers.coords else ["the tower"]
    return xr.DataArray(names, dims="site")


# Labels


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


def _fill(ds: xr.Dataset, code: str, estimate: xr.DataArray) -> dict[str, xr.DataArray]:
    """Replace the values and quality flags of one variable where there is an estimate."""
    values, name = ds[code], f"{code}{QC}"
    is_kept = estimate.isnull()
    filled = values.where(is_kept, estimate).transpose(*values.dims)
    flags = ds[name] if name in ds else values.isnull() * MISSING_FLAG
    flags = flags.fillna(MISSING_FLAG) if flags.dtype.kind == "f" else flags
    flags = flags.where(is_kept, FLAG).astype("int8").transpose(*values.dims)
    how = f"gaps (quality flag {FLAG}) are filled with ERA5, adjusted by the {_RULE_TEXTS[RULES[code]]} of "
    how += f"measurements and ERA5 ({_REFERENCE}); the parameters are in {', '.join(PARAMETERS)}"
    comments = dict.fromkeys([values.attrs.get("comment", ""), how])
    filled.attrs = values.attrs | {"comment": "; ".join(filter(None, comments))}
    flags.attrs = _flag_attrs(code, ds[name].attrs if name in ds else {})
    return {code: filled, name: flags}


def _describe(table: xr.Dataset) -> xr.Dataset:
    """Add attributes to the parameters of the adjustment."""
    texts = (
        ("slope of the adjustment of ERA5 to the tower", "1"),
        ("intercept of the adjustment of ERA5 to the tower", None),
        ("root mean square difference of adjusted ERA5 and measurements", None),
        ("number of hours with a measurement and ERA5", "1"),
    )
    table = table.assign(era5_hours=table["era5_hours"].astype("int32"))
    for name, (text, units) in zip(PARAMETERS, texts, strict=True):
        table[name].attrs = {"long_name": text, "references": _REFERENCE}
        table[name].attrs |= {"units": units} if units else {"comment": "in the units of each driver"}
    table["driver"].attrs["long_name"] = "code of the filled variable"
    return table


def _flag_attrs(code: str, attrs: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of quality flags of which one marks reanalysis."""
    found = np.atleast_1d(attrs.get("flag_values", [])).tolist()
    meanings = dict(zip(found, str(attrs.get("flag_meanings", "")).split(), strict=False))
    if not meanings:
        return conventions.quality_attrs(code, CONSOLIDATED) | attrs
    mine = CONSOLIDATED.flag_meanings[FLAG]
    other = meanings.get(FLAG, mine)
    meanings[FLAG] = other if "reanalysis" in other else f"{other}_or_reanalysis"
    meanings = dict(sorted(meanings.items()))
    return attrs | {
        "flag_values": np.array(list(meanings), "int8"),
        "flag_meanings": " ".join(meanings.values()),
    }
