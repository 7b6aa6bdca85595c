"""Daily means and running sums of the hours of a flux, with standard errors for correlated errors."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xarray as xr

from xcarbon.core.errors import TimestampError
from xcarbon.core.variables import FILLED, MODEL, SPREAD
from xcarbon.plotting.select import Hours, daily_steps, observed_hours
from xcarbon.prep.limits import plausible
from xcarbon.prep.periods import Array, Stamps, period_means, periods

if TYPE_CHECKING:
    from xcarbon.budget.correlation import ErrorPart


class Flux(NamedTuple):
    """A flux in consecutive hours or half-hours, each ``(hours,)``.

    Attributes
    ----------
    stamps, value : numpy.ndarray
        Start and value of each hour.
    random : numpy.ndarray
        Standard errors of measured hours, which are independent; 0 in other hours.
    errors : sequence of ErrorPart
        Correlated errors of predicted hours; empty without a spread.
    """

    stamps: Stamps
    value: Array
    random: Array
    errors: Sequence[ErrorPart] = ()

    def during(self, hours: slice) -> Flux:
        """Select consecutive hours."""
        errors = [part.during(hours) for part in self.errors]
        return Flux(self.stamps[hours], self.value[hours], self.random[hours], errors)


def flux_of(hours: Hours, trial: xr.Dataset | None = None) -> Flux:
    """Return the flux of a prediction or of a filled series, with the errors of :func:`carbon_sums`."""
    code, source = hours.code, hours.tower if hours.predicted is None else hours.predicted
    value, spread = plausible(source[code], code), source.get(code + SPREAD)
    if code + FILLED in source:
        model = source if trial is None else trial.reindex_like(source)
        measured = tested = source[code + FILLED] == 0
        if trial is not None:
            tested = measured & (model[code + FILLED] == 1)
        error = (source[code] - model[code + MODEL]).where(tested)
        error_spread = model.get(code + MODEL + SPREAD)
    else:
        measured = xr.zeros_like(value, dtype=bool)
        observed = observed_hours(hours.tower, code, 0).reindex_like(source)
        error, error_spread = observed - source[code], spread
    stamps, flux, none = source["time"].values, value.values.astype(float), np.zeros(value.size)
    is_compared = code + FILLED in source or hours.predicted is not None
    if not is_compared or spread is None or error_spread is None:
        return Flux(stamps, flux, none)
    from xcarbon.budget.correlation import variance_ratio
    from xcarbon.budget.sums import depends_on_length, filling_errors

    if np.ptp(np.diff(stamps)) > np.timedelta64(0):
        raise TimestampError(
            f"{hours.title}: the correlation of errors needs all hours between {stamps[0]} and {stamps[-1]}, "
            "missing values included: ds.resample(time='1h').asfreq() adds them"
        )
    per_hour = daily_steps(stamps) // 24
    ratio = variance_ratio(error.values.astype(float), error_spread.values.astype(float))
    by_length = code + FILLED in source and depends_on_length(source[code + MODEL])
    flag = (~measured).values.astype("int8")
    errors = filling_errors(spread.values, flag, ratio, by_length=by_length, per_hour=per_hour)
    return Flux(stamps, flux, spread.where(measured).fillna(0).values.astype(float), errors)


def standard_error(flux: Flux, hours: slice) -> float:
    """Return the standard error of the sum of consecutive hours; NaN if that of all hours is unknown."""
    from xcarbon.budget.correlation import variance_of_sum

    part = flux.during(hours)
    if not (part.random.any() or any(each.spread.any() for each in part.errors)):
        return np.nan
    return float(np.sqrt(variance_of_sum(part.errors) + (part.random**2).sum()))


def daily_means(values: xr.DataArray) -> tuple[Stamps, Array]:
    """Return days and means ``(days,)`` of hours ``(time,)``; NaN for days with a missing hour."""
    stamps, hours = values["time"].values, values.values[np.newaxis].astype(float)
    days = periods(stamps, "D")
    return days.start, period_means(hours, days.number, min_count=daily_steps(stamps))[0]


def daily_errors(flux: Flux) -> Array | None:
    """Return the standard errors ``(days,)`` of daily means; None if they are unknown."""
    if not flux.errors:
        return None
    number, steps = periods(flux.stamps, "D").number, daily_steps(flux.stamps)
    edges = np.searchsorted(number, np.arange(number[-1] + 2))
    return np.array([standard_error(flux, slice(*pair)) / steps for pair in itertools.pairwise(edges)])
