"""Conditions in which models have large errors: extreme weather, spring and autumn, hours after a gap."""

from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core.errors import VariableError
from xcarbon.core.validation import check_no_half_hours
from xcarbon.core.variables import PAPER_INPUTS, TIME_FEATURES, present
from xcarbon.evaluation.scores import moments, pooled
from xcarbon.prep.labels import read_labels
from xcarbon.prep.periods import Array, Stamps, day_of_year, map_towers, period_means, periods
from xcarbon.prep.quality import MAX_QC, mask_quality
from xcarbon.prep.sun import sine_of_elevation

Mask = NDArray[np.bool_]

#: Names of the conditions of :func:`conditions`, in its order.
CONDITIONS = ("hottest", "driest", "darkest", "spring", "autumn", "after_gap")

#: Minimum length of a gap, and number of hours after it that belong to ``after_gap`` [hours].
_GAP = 24
_DAYS = 366
#: Width of the moving average over the mean year [days], as in Knauer et al. 2018.
_SMOOTHING = 15
#: Minimum number of hours of a daily mean, and of days of a mean year.
_MIN_HOURS, _MIN_DAYS = 12, 183


def conditions(ds: xr.Dataset, *, max_qc: int = MAX_QC) -> xr.DataArray:
    """Find the hours in which models are known to have large errors.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers on ``(site, time)``, or a single one on ``(time,)``, with at least one predictor.
    max_qc : int
        Highest quality flag of the values that are used.

    Returns
    -------
    xarray.DataArray
        Bool, ``(condition, site, time)``, or ``(condition, time)`` for a single tower; lazy if ``ds`` is
        lazy, with one task for each tower. The conditions are relative to the tower's own hours in ``ds``:

        - ``hottest``: ``TA`` is at or above its 95 % quantile,
        - ``driest``: ``VPD`` is at or above its 95 % quantile. VPD is used rather than soil water content
          because dry air by itself closes stomata [1]_, and because VPD is measured in the same way at almost
          every tower, whereas soil water content is available at fewer towers, at different depths and with
          different calibrations,
        - ``darkest``: ``SW_IN`` is at or below the 5 % quantile of the daylight hours. Daylight hours are
          those with ``SW_IN_POT`` above 0 or, without this variable, those with the sun above the horizon in
          the middle of the hour. The condition includes overcast days, dawn and dusk,
        - ``spring``, ``autumn``: within three weeks of the day of year on which the tower's mean year of GPP
          rises above, or falls below, the middle between its minimum and its maximum [2]_ [3]_. The mean year
          is the mean of daily means (of at least 12 hours) by day of year, smoothed over 15 days [4]_. ``TA``
          is used where GPP covers less than half of the year. The seasons are therefore correct for the
          southern hemisphere, and a tower may have two springs. Where the seasonal cycle is weak, the
          condition contains the weeks around its weak transitions,
        - ``after_gap``: the first 24 hours after a gap of at least 24 hours between two hours with data. In a
          gap all of the paper's 21 predictors that are in ``ds`` are missing. In these hours a model with a
          context of one or two days has little input.

        A condition contains no hours if ``ds`` lacks its variable or the coordinates of the tower.

    Raises
    ------
    VariableError
        If ``ds`` contains no predictor.

    References
    ----------
    .. [1] Novick, K. A., et al. (2016), The increasing importance of atmospheric demand for ecosystem water
       and carbon fluxes, Nature Climate Change 6, 1023-1027, doi:10.1038/nclimate3114
    .. [2] White, M. A., P. E. Thornton, and S. W. Running (1997), A continental phenology model for
       monitoring vegetation responses to interannual climatic variability, Global Biogeochemical Cycles 11,
       217-234, doi:10.1029/97GB00330
    .. [3] Panwar, A., et al. (2023), Methodological challenges and new perspectives of shifting vegetation
       phenology in eddy covariance data, Scientific Reports 13, 13885, doi:10.1038/s41598-023-41048-x
    .. [4] Knauer, J., et al. (2018), Bigleaf: an R package for the calculation of physical and physiological
       ecosystem properties from eddy covariance data, PLoS ONE 13, e0201114, doi:10.1371/journal.pone.0201114

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> hours = conditions(synthetic_towers(2, patches=False))
    >>> hours.dims
    ('condition', 'site', 'time')
    >>> hours.mean("time").sel(condition=["hottest", "spring"]).values.round(2)
    array([[0.05, 0.05],
           [0.12, 0.12]])
    """
    ds = read_labels(ds)
    check_no_half_hours(ds["time"], str(ds.encoding.get("source", "the Dataset")))
    predictors = [code for code in present(PAPER_INPUTS, ds) if code not in TIME_FEATURES]
    if not predictors:
        raise VariableError(f"conditions need at least one predictor, but the Dataset contains {list(ds)}")
    gpp = "GPP_NT" if "GPP_NT" in ds else "GPP_DT"
    good = mask_quality(ds, [code for code in (*predictors, gpp) if code in ds], max_qc)
    good = good.reset_coords(drop=True)  # lazy coordinates would be computed when arrays are combined
    gap = functools.reduce(operator.and_, (good[code].isnull() for code in predictors))
    unknown = xr.full_like(gap, np.nan, dtype=np.float32)
    arrays = [gap, _daylight(ds), *(good.get(code, unknown) for code in ("TA", "VPD", "SW_IN", gpp))]
    stamps = xr.DataArray(ds["time"].values, dims="time")
    sizes = {"condition": len(CONDITIONS), "time": ds.sizes["time"]}
    found = map_towers(_tower_conditions, *arrays, stamps, sizes=sizes, dtype=np.bool_)
    found = found.transpose("condition", ..., "time").assign_coords(condition=list(CONDITIONS))
    return found.rename("conditions").assign_attrs(long_name="whether the hour is in the condition")


def score_conditions(
    ds: xr.Dataset, prediction: xr.DataArray, by: str | None = None, *, max_qc: int = MAX_QC
) -> xr.Dataset:
    """Score a prediction in each of the conditions of :func:`conditions`.

    Parameters
    ----------
    ds, prediction, by, max_qc
        As for :func:`xcarbon.evaluation.scores.score`; ``max_qc`` applies to predictors, too.

    Returns
    -------
    xarray.Dataset
        The scores of :func:`xcarbon.evaluation.scores.score` along ``condition`` and ``by``, lazy. The first
        condition is ``all`` hours, followed by those of :func:`conditions`. An efficiency is relative to the
        variance within the condition, which is often smaller than that of all hours; compare ``rmse``, too.

    Raises
    ------
    VariableError
        If the prediction has no name, or ``ds`` lacks the observations or contains no predictor.
    OptionError
        If ``by`` is not a coordinate on ``site``.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(2, patches=False)
    >>> scores = score_conditions(towers, towers["NEE"] + 1)
    >>> scores["condition"].values[:3].tolist()
    ['all', 'hottest', 'driest']
    """
    everywhere = moments(ds, prediction, max_qc=max_qc).expand_dims(condition=["all"])
    target = str(prediction.name)
    under = ds.assign({target: ds[target].where(conditions(ds, max_qc=max_qc))})
    parts = [everywhere, moments(under, prediction, max_qc=max_qc)]
    towers = xr.concat(parts, "condition", coords="minimal", compat="override", join="exact")
    return pooled(towers, by).transpose("condition", ...)


def _daylight(ds: xr.Dataset) -> xr.DataArray:
    """Return the hours in which the sun is up, ``([site,] time)``; none where this is unknown."""
    if "SW_IN_POT" in ds:
        return ds["SW_IN_POT"].reset_coords(drop=True) > 0
    stamps = xr.DataArray(ds["time"].values, dims="time")
    if not {"lat", "lon", "utc_offset"} <= set(ds.coords):
        return xr.zeros_like(stamps, bool)
    place = [ds[name].reset_coords(drop=True) for name in ("lat", "lon", "utc_offset")]
    if any(array.chunks for array in ds.data_vars.values()):
        place = [array.chunk(dict.fromkeys(array.dims, 1)) for array in place]
    return xr.apply_ufunc(
        _sun_is_up,
        stamps,
        *place,
        input_core_dims=[["time"], [], [], []],
        output_core_dims=[["time"]],
        dask="parallelized",
        output_dtypes=[np.bool_],
        keep_attrs=False,
    )


def _sun_is_up(stamps: Stamps, lat: Any, lon: Any, utc_offset: Any) -> Mask:
    """Return whether the sun is up in mid-hour: ``(time,)`` and places ``(...)`` to ``(..., time)``."""
    lat, lon, utc_offset = (values[..., np.newaxis] for values in (lat, lon, utc_offset))
    known = np.isfinite(lat + lon + utc_offset)
    ahead = (np.where(known, utc_offset, 0) * 3600).astype("timedelta64[s]")
    return known & (sine_of_elevation(stamps + np.timedelta64(30, "m") - ahead, lat, lon) > 0)


def _tower_conditions(
    gap: Mask, daylight: Mask, ta: Array, vpd: Array, sw_in: Array, gpp: Array, stamps: Stamps
) -> Mask:
    """Find the conditions of one tower: series ``(time,)`` each to ``(condition, time)``."""
    darkness = np.where(daylight, -sw_in, np.nan)
    spring, autumn = _transitions(gpp, ta, stamps)
    return np.stack([_highest(ta), _highest(vpd), _highest(darkness), spring, autumn, _after_gaps(gap)])


def _highest(series: Array) -> Mask:
    """Find the hours at or above the 95 % quantile of the series."""
    known = series[~np.isnan(series)]
    return series >= np.quantile(known, 0.95) if known.size else np.zeros(series.shape, bool)


def _after_gaps(gap: Mask) -> Mask:
    """Find the first hours after each gap; times before and after the record are no gaps."""
    after = np.zeros(gap.shape, bool)
    known = np.flatnonzero(~gap)
    for hour in known[1:][np.diff(known) > _GAP]:
        after[hour : hour + _GAP] = True
    return after


def _transitions(gpp: Array, ta: Array, stamps: Stamps) -> tuple[Mask, Mask]:
    """Find the hours of spring and of autumn, ``(time,)`` each."""
    day = periods(stamps, "D")
    of_year = day_of_year(day.start)
    for series in (gpp, ta):
        daily = period_means(series[np.newaxis], day.number, _MIN_HOURS)
        year = np.full(_DAYS, np.nan)
        year[: of_year.max() + 1] = period_means(daily, of_year, min_count=1)[0]
        if np.isfinite(year).sum() >= _MIN_DAYS:
            above = _above_half(year)
            before = np.roll(above, 1)
            spring, autumn = _near(above & ~before), _near(before & ~above)
            return spring[of_year][day.number], autumn[of_year][day.number]
    return np.zeros(stamps.shape, bool), np.zeros(stamps.shape, bool)


def _above_half(year: Array) -> Mask:
    """Find the days on which the smoothed mean year is above the middle of its range."""
    known = np.flatnonzero(np.isfinite(year))
    year = np.interp(np.arange(_DAYS), known, year[known], period=_DAYS)
    around = np.pad(year, _SMOOTHING // 2, mode="wrap")
    smooth = np.convolve(around, np.full(_SMOOTHING, 1 / _SMOOTHING), mode="valid")
    return smooth > (smooth.min() + smooth.max()) / 2


def _near(event: Mask) -> Mask:
    """Find the days of the year within three weeks of any event."""
    apart = np.abs(np.arange(_DAYS)[:, np.newaxis] - np.flatnonzero(event))
    return (np.minimum(apart, _DAYS - apart) <= 21).any(axis=1)
