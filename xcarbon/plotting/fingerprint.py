"""Fingerprint: every hour as a cell, day by hour of the day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xcarbon.core.errors import OptionError
from xcarbon.core.variables import FILLED
from xcarbon.plotting.select import Hours, daily_steps, has_flags, observed_hours
from xcarbon.plotting.style import MISSING, QUIET, color_scale, date_axis, figure_of, label, panels
from xcarbon.prep.limits import plausible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def fullest_year(measured: xr.DataArray) -> str:
    """Return the calendar year with the most measured hours ``(time,)``."""
    counts = measured.notnull().groupby("time.year").sum()
    if not counts.any():
        raise OptionError(f"no hour of {measured.name} is measured: name the period to show")
    return str(counts["year"].values[counts.values.argmax()])


def draw_fingerprint(ax: Axes | Sequence[Axes] | None, hours: Hours) -> Figure:
    """Plot measured hours and, below them, filled or predicted ones with the same colours."""
    code = hours.code
    shown = {"measured": observed_hours(hours.tower, code, 0)}
    if hours.predicted is not None:
        name = "filled" if code + FILLED in hours.predicted else "predicted"
        shown[name] = plausible(hours.predicted[code], code)
    elif has_flags(hours.tower, code):
        shown["measured and filled"] = plausible(hours.tower[code], code)
    axs = panels(ax, len(shown), 1, (7.2, 0.6 + 1.7 * len(shown)), sharex=True, sharey=True)
    scale = color_scale(np.concatenate([values.values for values in shown.values()]), code, hours.units)
    for panel, (name, values) in zip(axs, shown.items(), strict=True):
        days, table = by_hour(values)
        edges = np.append(days, days[-1] + 1)
        hour = np.linspace(0, 24, table.shape[1] + 1)
        image = panel.pcolormesh(edges, hour, table.T, rasterized=True, **scale)
        panel.set_facecolor(MISSING)
        panel.set_yticks(range(0, 25, 6))
        panel.set_ylabel("hour of day")
        panel.set_title(name, loc="left", fontsize="medium")
        date_axis(panel, edges)
        panel.tick_params(color=QUIET)
    for panel in axs[:-1]:
        panel.set_xlabel("")
    figure = figure_of(axs[0])
    figure.colorbar(image, ax=axs, label=label(code, hours.units), extend="both", aspect=30, pad=0.02)
    axs[0].set_title(hours.title, loc="right", fontsize="medium")
    return figure


def by_hour(values: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Arrange hours ``(time,)`` as days and values ``(days, hours)``, NaN where there is no hour."""
    stamps = values["time"].values
    day = stamps.astype("M8[D]")
    days = np.arange(day[0], day[-1] + 1)
    steps = daily_steps(stamps)
    table = np.full((days.size, steps), np.nan)
    hour = (stamps - day) * steps // np.timedelta64(1, "D")
    table[(day - days[0]).astype(int), hour.astype(int)] = values.values
    return days, table
