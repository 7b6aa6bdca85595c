"""Daily means and cumulative sums of calendar years."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xcarbon.core.errors import OptionError
from xcarbon.core.variables import variable
from xcarbon.plotting.errors import Flux, daily_errors, flux_of, standard_error
from xcarbon.plotting.select import Hours, daily_steps
from xcarbon.plotting.style import MONTHS, PREDICTED, QUIET, Z, draw_interval, figure_of, label, panels, strip
from xcarbon.prep.periods import Array, periods
from xcarbon.prep.units import conversion

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Most years in one figure.
_MAX_YEARS = 24
_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class Year(NamedTuple):
    """A complete calendar year.

    Attributes
    ----------
    year : int
        Calendar year.
    mean, mean_error : numpy.ndarray
        Daily means in units of the flux and their standard errors, ``(days,)``.
    total, total_error : numpy.ndarray
        Cumulative sum of carbon at the end of each day [g m-2] and its standard error, ``(days,)``. Standard
        errors are None if they are unknown; for several years only the last one is computed.
    """

    year: int
    mean: Array
    mean_error: Array | None
    total: Array
    total_error: Array | None


def draw_year(
    ax: Axes | Sequence[Axes] | None, hours: Hours, year: int | Sequence[int] | None, trial: xr.Dataset | None
) -> Figure:
    """Plot the daily means of the years and, below them, their cumulative sums."""
    if not variable(hours.code).is_target:
        raise OptionError(f"{hours.code} has no sum of carbon: choose one of the carbon fluxes")
    years = summed_years(flux_of(hours, trial), hours, year)
    upper, lower = panels(ax, 2, 1, (7.2, 5.2), sharex=True)
    colors = [PREDICTED] if len(years) == 1 else _sequence(len(years))
    for of_year, color in zip(years, colors, strict=True):
        days = np.arange(of_year.mean.size) + 0.5
        upper.plot(days, of_year.mean, color=color, lw=1)
        lower.plot(days, of_year.total, color=color, lw=1.4, label=_sum_label(of_year))
        if of_year.mean_error is not None and of_year.total_error is not None:
            draw_interval(upper, days, of_year.mean, of_year.mean_error, color)
            draw_interval(lower, days, of_year.total, of_year.total_error, color)
    for panel in (upper, lower):
        panel.axhline(0, color=QUIET, linewidth=0.6, zorder=0)
        strip(panel)
        _month_axis(panel)
    upper.set_ylabel(label(f"daily mean {hours.code}", hours.units, "\n"))
    upper.set_title(hours.title, loc="left")
    lower.set_ylabel(label(f"cumulative {hours.code}", "g m-2", "\ncarbon "))
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (1, 0), "ncols": 1 + len(years) // 13}
    lower.legend(frameon=False, fontsize="small", handlelength=1.2, **(place if len(years) > 1 else {}))
    return figure_of(upper)


def summed_years(flux: Flux, hours: Hours, year: int | Sequence[int] | None) -> list[Year]:
    """Sum the requested years, or the last complete one; raise an OptionError if hours are missing."""
    calendar = periods(flux.stamps, "Y")
    numbers = calendar.start.astype("M8[Y]").astype(int) + 1970
    known = np.bincount(calendar.number[np.isfinite(flux.value)], minlength=numbers.size)
    hours_of_year = calendar.hours * (daily_steps(flux.stamps) // 24)
    missing = dict(zip(numbers.tolist(), (hours_of_year - known).tolist(), strict=True))
    complete = [number for number in missing if not missing[number]]
    wanted = complete[-1:] if year is None else np.atleast_1d(np.asarray(year)).tolist()
    absent = [f"{number} ({missing.get(number, 'all')})" for number in wanted if number not in complete]
    if absent or not wanted:
        raise OptionError(
            f"{hours.title}: the sum of a year needs all of its hours of {hours.code}; hours are missing in "
            f"{', '.join(absent) or 'every year'}, and the complete years are {complete}; "
            "ds.carbon.gapfill() fills gaps"
        )
    if len(wanted) > _MAX_YEARS:
        raise OptionError(f"the figure shows at most {_MAX_YEARS} years, found {len(wanted)}")
    return [_sum(flux, hours.code, number, with_days=len(wanted) == 1) for number in wanted]


def _sum(flux: Flux, code: str, year: int, *, with_days: bool) -> Year:
    """Compute means and sums of a complete year, with standard errors of each day or of the year only."""
    first, end = np.searchsorted(flux.stamps, np.array([f"{year}", f"{year + 1}"], "M8[ns]"))
    of_year = flux.during(slice(first, end))
    steps = daily_steps(flux.stamps)
    mass = 1 / conversion("gC m-2 d-1", code)[0] / steps  # [g m-2] in an hour
    total, error = mass * np.cumsum(of_year.value)[steps - 1 :: steps], None
    if flux.errors:
        ends = range(steps, end - first + 1, steps) if with_days else [end - first]
        error = mass * np.array([standard_error(of_year, slice(0, hour)) for hour in ends])
    mean = of_year.value.reshape(-1, steps).mean(axis=1)
    return Year(year, mean, daily_errors(of_year) if with_days else None, total, error)


def _sum_label(year: Year) -> str:
    """Return year and sum with its interval."""
    error = np.nan if year.total_error is None else year.total_error[-1]
    interval = f" ± {Z * error:.0f}" if np.isfinite(error) else ""
    return f"{year.year}: {year.total[-1]:.0f}{interval} g m$^{{-2}}$".replace("-", "−", 1)


def _sequence(number: int) -> list[Any]:
    """Return colours in an order, from early to late."""
    from matplotlib import colormaps

    return list(colormaps["viridis"](np.linspace(0, 0.85, number)))


def _month_axis(ax: Axes) -> None:
    """Label the days of a year by month."""
    starts = np.append(np.cumsum([0, *_DAYS[:-1]]), 366)
    ax.set_xlim(0, 366)
    ax.set_xticks(starts, minor=True)
    ax.set_xticks(starts[:-1] + 15, MONTHS)
    ax.tick_params(axis="x", which="major", length=0)
    ax.grid(axis="x", which="minor", color=QUIET, linewidth=0.3)
