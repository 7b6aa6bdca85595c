"""Observed against predicted hours, as density."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dask
import numpy as np
import xarray as xr

from xcarbon.core.errors import OptionError
from xcarbon.core.options import progress_bar
from xcarbon.core.validation import check_variables
from xcarbon.core.variables import IGBP_CLASSES, variable
from xcarbon.evaluation.scores import pair, score
from xcarbon.plotting.select import as_dataset, in_period, observed_hours
from xcarbon.plotting.style import OBSERVED, figure_of, label, panels, strip
from xcarbon.prep.quality import MAX_QC

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS, _MAX_PANELS = 4, 24
#: Number of cells along each axis, and share of the hours beyond each end of the axes.
CELLS, _BEYOND = 60, 0.0005


def draw_scatter(
    ax: Axes | Sequence[Axes] | None,
    ds: xr.Dataset,
    prediction: xr.DataArray | xr.Dataset,
    by: str | None,
    time: str | slice | None,
) -> Figure:
    """Plot one panel for each class, or one for all hours."""
    code, predictions = as_dataset(prediction)
    check_variables(ds, (code,), "the figure")
    units = str(ds[code].attrs.get("units") or variable(code).units)
    ds = in_period(observed_hours(ds, code, MAX_QC).to_dataset(name=code), time)
    with progress_bar("loading"):
        observed, predicted = dask.compute(*pair(ds, predictions[code]))
    scores = score(observed.to_dataset(), predicted, by)
    scores = scores.expand_dims(all=["all hours"]) if by is None else scores
    scores = scores.isel({scores["n"].dims[0]: np.flatnonzero(scores["n"])})
    names = scores["n"][scores["n"].dims[0]].values
    if not 1 <= names.size <= _MAX_PANELS:
        raise OptionError(
            f"the figure has 1 to {_MAX_PANELS} panels, but {names.size} classes of {by!r} have hours with "
            "an observation and a prediction"
        )
    counts, edges = _histograms(observed, predicted, by, names)
    from matplotlib.colors import LogNorm

    norm = LogNorm(1, max(counts.max(), 2))
    cell = 3.2 if names.size == 1 else 1.8
    rows, columns = -(-names.size // _COLUMNS), min(names.size, _COLUMNS)
    size = 1.2 + cell * columns, 0.6 + (cell + 0.15) * rows
    axs = panels(ax, names.size, _COLUMNS, size, sharex=True, sharey=True)
    for number, panel in enumerate(axs):
        cells = np.ma.masked_equal(counts[number], 0).T
        image = panel.pcolormesh(edges, edges, cells, norm=norm, cmap="viridis", rasterized=True)
        panel.axline((0, 0), slope=1, color=OBSERVED, linewidth=0.6)
        panel.set(xlim=edges[[0, -1]], ylim=edges[[0, -1]], aspect="equal")
        name = str(names[number])
        panel.set_title(name if columns > 2 else IGBP_CLASSES.get(name, name), loc="left", fontsize="medium")
        nse, hours = (scores[key].values[number] for key in ("nse", "n"))
        text = f"NSE {nse:z.2f}\n{hours:,} h".replace("-", "−")
        panel.text(0.04, 0.96, text, va="top", fontsize="small", transform=panel.transAxes)
        strip(panel)
        if number % columns == 0:
            panel.set_ylabel(label(f"observed {code}", units, "\n"))
        if number + columns >= names.size:
            panel.set_xlabel(label(f"predicted {code}", units, "\n"))
            panel.tick_params(labelbottom=True)
    figure = figure_of(axs[0])
    figure.colorbar(image, ax=axs, label="hours per cell", aspect=30, pad=0.02)
    return figure


def _histograms(
    observed: xr.DataArray, predicted: xr.DataArray, by: str | None, names: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Count the hours of each class, ``(class, predicted, observed)``, and return the edges of the cells."""
    both = (observed.notnull() & predicted.notnull()).transpose("site", "time").values
    of_tower = np.repeat("all hours", len(both)) if by is None else observed[by].values
    row = np.searchsorted(names, of_tower)[:, np.newaxis].repeat(both.shape[1], axis=1)[both]
    x, y = (array.transpose("site", "time").values[both] for array in (predicted, observed))
    low, high = np.quantile([x, y], [_BEYOND, 1 - _BEYOND])
    edges = np.linspace(low, high, CELLS + 1)
    counts = [np.histogram2d(x[row == number], y[row == number], edges)[0] for number in range(names.size)]
    return np.array(counts, dtype=int), edges
