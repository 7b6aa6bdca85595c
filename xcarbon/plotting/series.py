"""Time series of a tower: hours of a few days, or daily means of a longer period."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from xcarbon.core.errors import OptionError
from xcarbon.core.variables import FILLED, SPREAD
from xcarbon.plotting.errors import daily_errors, daily_means, flux_of
from xcarbon.plotting.select import Hours, daily_steps, observed_hours
from xcarbon.plotting.style import OBSERVED, PREDICTED, QUIET, date_axis, draw_interval, label, legend, strip
from xcarbon.prep.quality import MAX_QC

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WEEK = 7
#: Longest period whose hours are drawn [days].
MAX_HOURLY_DAYS = 62
#: Length from which lines are thin [days].
_DENSE = 800


def midsummer_week(hours: Hours) -> slice:
    """Return the week near midsummer with the most observations in predicted hours."""
    assert hours.predicted is not None
    observed, predicted = observed_hours(hours.tower, hours.code, MAX_QC), hours.predicted
    both = observed.isel(time=np.flatnonzero(observed.indexes["time"].isin(predicted.indexes["time"])))
    if not both.size:
        raise OptionError(
            "observations and prediction have no hour in common: predict these towers and years"
        )
    counts = pd.Series(both.notnull().values, both.indexes["time"]).resample("D").sum()
    weekly = counts.rolling(_WEEK, center=True, min_periods=1).sum()
    south = "lat" in observed.coords and float(observed["lat"]) < 0
    distance = (pd.DatetimeIndex(counts.index).day_of_year.to_numpy() - (15 if south else 196)) % 365
    distance = np.minimum(distance, 365 - distance)
    # One more observation outweighs any distance up to 42 days; weeks farther from midsummer come last.
    merit = weekly.to_numpy() - distance / 366 - 10_000 * ((distance > 42) | (weekly == 0))
    middle = counts.index[int(np.argmax(merit))]
    half = pd.Timedelta(_WEEK // 2, "D")
    return slice(middle - half, middle + half + pd.Timedelta("23:30:00"))


def draw_series(ax: Axes, hours: Hours) -> None:
    """Plot observations as points and predictions as a line with a band, hourly or as daily means."""
    assert hours.predicted is not None
    observed, predicted = observed_hours(hours.tower, hours.code, MAX_QC), hours.predicted
    ax.axhline(0, color=QUIET, linewidth=0.6, zorder=0)
    days = observed.sizes["time"] / daily_steps(observed["time"].values)
    width = 1.4 if days < _DENSE else 0.6
    if days > MAX_HOURLY_DAYS:
        ax.plot(*daily_means(observed), "o", color=OBSERVED, ms=1.3 * width, label="observed")
        stamps, mean = daily_means(predicted[hours.code])
        error, period = daily_errors(flux_of(hours)), "daily mean "
    else:
        ax.plot(observed["time"], observed, "o-", color=OBSERVED, lw=0.5, ms=2.2, label="observed")
        stamps, mean = predicted["time"].values, predicted[hours.code].values
        error = predicted[hours.code + SPREAD].values if hours.code + SPREAD in predicted else None
        period = ""
    name = "filled" if hours.code + FILLED in predicted else "predicted"
    ax.plot(stamps, mean, color=PREDICTED, lw=width, label=name)
    if error is not None:
        draw_interval(ax, stamps, mean, error, PREDICTED)
    ax.set_ylabel(label(period + hours.code, hours.units))
    date_axis(ax, observed["time"].values)
    ax.set_title(hours.title, loc="left")
    legend(ax)
    strip(ax)
