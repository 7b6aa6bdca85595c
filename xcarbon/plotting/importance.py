"""Figures of the importance of variables, by class and by hour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xcarbon.core.errors import OptionError
from xcarbon.plotting.style import (
    OBSERVED,
    PREDICTED,
    QUIET,
    check_panels,
    coord_label,
    figure_of,
    pyplot,
    strip,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Measures of importance; the first one in a Dataset is the default.
MEASURES = ("nse_loss", "mse_rise", "rmse_rise", "change")
#: Maximum number of classes for which numbers fit into the figure.
_NUMBERED = 14


def draw_importance(explained: xr.Dataset, measure: str, ax: Axes | Sequence[Axes] | None) -> Figure:
    """Plot a measure ``(class, variable)``, all towers first, and by lag ``(class, lag)`` if available."""
    if explained[measure].ndim == 1:
        explained = explained.expand_dims(igbp=["all"])
    by = explained[measure].dims[0]
    explained = explained.isel(variable=np.argsort(explained[measure][0].fillna(-np.inf).values))
    explained = explained.dropna(by, how="all", subset=[measure])
    if not explained.sizes[by]:
        raise OptionError(f"all values of {measure} are missing: no hour could be predicted and scored")
    everywhere, by_lag = explained.isel({by: 0}), explained.get(f"lag_{measure}")
    classes = explained.sizes[by] - 1
    number = 1 + bool(classes) + (by_lag is not None)
    bars, *others = _panels(everywhere, classes, by_lag) if ax is None else check_panels(ax, number)
    _draw_bars(bars, everywhere[measure], everywhere.get(f"{measure}_interval"))
    if classes:
        _draw_classes(others[0], explained[measure])
    if by_lag is not None:
        _draw_lags(others[-1], by_lag, everywhere["lag_bnds"].values)
    return figure_of(bars)


def _panels(everywhere: xr.Dataset, classes: int, by_lag: xr.DataArray | None) -> list[Axes]:
    """Return axes of a new figure: bars, and beside them the classes, and below them the lags, if any."""
    heights = [0.5 + 0.22 * everywhere.sizes["variable"]] + ([] if by_lag is None else [2.2])
    size = (7.2 if classes else 5.0, sum(heights) + 0.5)
    figure = pyplot().figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    widths = [1, min(0.2 + 0.18 * classes, 2.5)]
    upper = grid[0].subgridspec(1, 2, width_ratios=widths) if classes else grid
    cells = [upper[0]] + ([upper[1]] if classes else []) + ([] if by_lag is None else [grid[1]])
    return [figure.add_subplot(cell) for cell in cells]


def _draw_bars(ax: Axes, values: xr.DataArray, interval: xr.DataArray | None) -> None:
    """Plot bars ``(variable,)`` with intervals ``(variable, bound)``."""
    ax.barh(values["variable"].values.astype(str), values, color=PREDICTED, height=0.7)
    if interval is not None:
        ax.hlines(np.arange(values.size), *interval.transpose("bound", ...), color=OBSERVED, linewidth=1)
    ax.axvline(0, color=OBSERVED, linewidth=0.6)
    ax.set_ylim(-0.5, values.size - 0.5)
    ax.set_xlabel(coord_label(values))
    ax.set_title("all towers", loc="left", fontsize="medium")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    strip(ax)


def _draw_classes(ax: Axes, values: xr.DataArray) -> None:
    """Plot a heat map of all classes but the first, ``(class, variable)``, with the rows of the bars."""
    from matplotlib.colors import PowerNorm

    names, table = values[values.dims[0]].values[1:].astype(str), values.values[1:].T
    # Without a limit, a class whose flux hardly varies would determine the colour scale.
    norm = PowerNorm(0.5, vmin=0, vmax=_most(values), clip=True)
    ax.imshow(table, cmap="Oranges", norm=norm, aspect="auto", origin="lower")
    for (row, column), value in np.ndenumerate(table if len(names) <= _NUMBERED else table[:0]):
        if np.isfinite(value):
            color = "white" if norm(value) > 0.7 else OBSERVED
            ax.text(column, row, f"{value:z.2f}", ha="center", va="center", fontsize="x-small", color=color)
    ax.set_xticks(range(len(names)), names, rotation=90 if len(names) > _NUMBERED else 0, fontsize="small")
    ax.set_yticks([])
    ax.set_title("by class", loc="left", fontsize="medium")
    for spine in ax.spines.values():
        spine.set_visible(False)


def _most(values: xr.DataArray) -> float:
    """Return the upper limit of the scale: three times the largest importance over all towers."""
    return 3 * max(float(np.nanmax(values[0], initial=0)), 1e-3)


def _draw_lags(ax: Axes, values: xr.DataArray, bounds: np.ndarray) -> None:
    """Plot steps ``(class, lag)``, of equal width for all bins of hours."""
    edges = np.arange(len(bounds) + 1) - 0.5
    for number, name in enumerate(values[values.dims[0]].values.astype(str)):
        color, width = (style(name, number)[0], 1.0) if number else (OBSERVED, 2.0)
        ax.stairs(values[number], edges, baseline=None, label=name, color=color, lw=width, zorder=9 - number)
    names = [f"{first}" if end - first == 1 else f"{first}–{end - 1}" for first, end in bounds]
    ax.axhline(0, color=QUIET, linewidth=0.6, zorder=0)
    ax.set_xticks(range(len(names)), names)
    ax.set_xlim(edges[0], edges[-1])
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, -_most(values)), min(high, _most(values)))
    ax.set_xlabel("hours before the predicted one")
    ax.set_ylabel(coord_label(values), fontsize="small")
    if 1 < len(values) <= _NUMBERED + 1:
        ax.legend(frameon=False, fontsize="small", ncols=2)
    strip(ax)
