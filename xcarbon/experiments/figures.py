"""Figures of an experiment; figures of single towers use ``Dataset.carbon.plot``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xcarbon.plotting.style import QUIET, pretty, strip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours of models in turn, from the palette of Okabe and Ito for colour vision deficiency.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
#: Lower end of axes of the efficiency; smaller values are written at the edge.
LOWEST = -1.0


def boxes(scores: xr.DataArray, overall: xr.DataArray | None = None, lowest: float = -np.inf) -> Figure:
    """Plot scores ``(model, seed, group)``, and ``overall (model, seed)``, as points and boxes over seeds."""
    by = str(scores.dims[-1])
    values, groups = scores.transpose("model", "seed", by).values, list(scores[by].values.astype(str))
    if overall is not None:
        values = np.concatenate([values, overall.transpose("model", "seed").values[..., None]], axis=-1)
        groups = [*groups, "all"]
    figure, ax = _figure(3.6)
    if overall is not None:
        ax.axvline(len(groups) - 1.5, color=QUIET, linewidth=0.6)
    step = 0.8 / len(values)
    floor = max(lowest, min(np.nanmin(values, initial=0), 0) - 0.05)
    for number, (label, of_model) in enumerate(zip(scores["model"].values, values, strict=True)):
        place = np.arange(len(groups)) + (number - (len(values) - 1) / 2) * step
        _draw_model(ax, of_model, place, 0.8 * step, COLORS[number % len(COLORS)], str(label), floor)
    ax.set_xticks(range(len(groups)), groups)
    ax.set_xlim(-0.6, len(groups) - 0.4)
    ax.set_ylim(bottom=floor)
    ax.axhline(0, color=QUIET, linewidth=0.6, zorder=0)
    ax.set_ylabel(f"{scores.attrs['long_name']}\n[{pretty(scores.attrs['units'])}]")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, borderpad=0)
    return figure


def _draw_model(
    ax: Axes, values: np.ndarray, place: np.ndarray, width: float, color: str, label: str, floor: float
) -> None:
    """Plot boxes or points of one model, ``values (seed, group)``."""
    ax.plot([], [], "s", color=color, label=label)
    for column, x in zip(values.T, place, strict=True):
        known = column[np.isfinite(column)]
        if not known.size:
            continue
        if np.median(known) < floor:
            text = f" {np.median(known):.1f}".replace("-", "−")
            ax.text(x, floor, text, color=color, ha="center", va="bottom", rotation=90, fontsize="small")
            continue
        if np.ptp(known) == 0:
            ax.plot(x, known[0], "D", color=color, markersize=5)
            continue
        ax.plot(np.full(known.size, x), known, "o", color=color, markersize=4, alpha=0.7, zorder=3)
        if known.size < 5:  # too few seeds for a box
            continue
        ax.boxplot(
            known,
            positions=[x],
            widths=width,
            whis=(0, 100),
            manage_ticks=False,
            patch_artist=True,
            boxprops={"facecolor": color, "alpha": 0.35, "edgecolor": color},
            medianprops={"color": color, "linewidth": 2},
            whiskerprops={"color": color},
            capprops={"color": color},
        )


def intervals(results: xr.Dataset) -> Figure:
    """Plot the efficiency of each model over all hours with its interval over towers."""
    nse, bounds = results["nse"].mean("seed"), results["nse_interval"]
    figure, ax = _figure(0.7 + 0.32 * results.sizes["model"])
    for row, label in enumerate(results["model"].values):
        color = COLORS[row % len(COLORS)]
        ax.plot(bounds.sel(model=label), [row, row], color=color, linewidth=2)
        ax.plot(nse.sel(model=label), row, "o", color=color)
    ax.set_yticks(range(results.sizes["model"]), list(results["model"].values))
    ax.set_ylim(results.sizes["model"] - 0.5, -0.5)
    ax.set_xlabel("Nash-Sutcliffe efficiency over all hours [1]")
    return figure


def differences(results: xr.Dataset) -> Figure:
    """Plot the differences from the first model by class and over all hours, with intervals."""
    pairs = np.flatnonzero(results["pair_first"].values == results["model"].values[0])
    groups = [*results["igbp"].values.astype(str), "all"]
    figure, ax = _figure(0.8 + 0.14 * len(groups) * (1 + len(pairs)))
    step = 0.8 / len(pairs)
    for number, pair in enumerate(pairs):
        color = COLORS[(number + 1) % len(COLORS)]
        centre = np.append(results["nse_difference_igbp"][:, pair], results["nse_difference"][pair])
        bounds = np.vstack(
            [results["nse_difference_interval_igbp"][:, pair], results["nse_difference_interval"][pair]]
        )
        rows = np.arange(len(groups)) + (number - (len(pairs) - 1) / 2) * step
        sure = (bounds[:, 0] > 0) | (bounds[:, 1] < 0)
        ax.hlines(rows, *bounds.T, color=color, linewidth=1.6)
        for known, face in ((sure, color), (~sure, "white")):
            ax.plot(centre[known], rows[known], "o", color=color, markerfacecolor=face, markersize=6)
        ax.plot([], [], "o", color=color, label=str(results["pair"].values[pair]))
    ax.axvline(0, color=QUIET, linewidth=0.8, zorder=0)
    ax.axhline(len(groups) - 1.5, color=QUIET, linewidth=0.6)
    ax.set_yticks(range(len(groups)), groups)
    ax.set_ylim(len(groups) - 0.4, -0.6)
    left, right = ax.get_xlim()
    ax.set_xlim(max(left, LOWEST), min(right, -LOWEST))
    ax.set_xlabel("difference of Nash-Sutcliffe efficiencies [1]")
    longest = max(len(label) for label in ax.get_legend_handles_labels()[1])
    columns = max(1, min(3, 90 // longest))  # about 90 characters fit in the width
    figure.legend(loc="outside upper left", ncols=columns, frameon=False, borderpad=0)
    return figure


def week(ds: xr.Dataset, predicted: xr.DataArray, site: str) -> Figure:
    """Plot a week of observations and of predictions ``(model, seed, time)`` with the range of seeds."""
    from matplotlib.dates import num2date

    figure, ax = _figure(2.6)
    mean = predicted.mean("seed", keep_attrs=True).dropna("time")  # hours that all models predict
    ds.carbon.plot.series(mean.isel(model=0, drop=True), site=site, ax=ax)
    first, last = (np.datetime64(num2date(edge).replace(tzinfo=None)) for edge in ax.get_xlim())
    ax.lines[-1].remove()
    for number, label in enumerate(predicted["model"].values):
        color = COLORS[number % len(COLORS)]
        of_model = predicted.sel(model=label, time=slice(first, last))
        ax.plot(of_model["time"], of_model.mean("seed"), color=color, lw=1.4, label=label)
        if predicted.sizes["seed"] > 1:
            edges = of_model.min("seed"), of_model.max("seed")
            ax.fill_between(of_model["time"], *edges, color=color, alpha=0.2, linewidth=0)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def sites(ds: xr.Dataset, color_by: str) -> Figure:
    """Plot a map of towers."""
    figure, ax = _figure(4.6)
    ds.carbon.plot.sites(ax=ax, color_by=color_by)
    return figure


def _figure(height: float) -> tuple[Figure, Axes]:
    """Return a figure that is independent of pyplot, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, height), layout="constrained")
    ax = figure.subplots()
    strip(ax)
    return figure, ax
