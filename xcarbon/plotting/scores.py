"""Scores of classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from xcarbon.core.errors import OptionError
from xcarbon.plotting.style import OBSERVED, axes, strip, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_scores(ax: Axes | None, score: xr.Dataset) -> Axes:
    """Plot a bar for each class, the best one on top."""
    if len(score["nse"].dims) != 1:
        raise OptionError(
            f"the figure needs scores along one dimension, found {score['nse'].dims}; "
            'score with ds.carbon.score(prediction, by="igbp")'
        )
    by = str(score["nse"].dims[0])
    score = score[["nse", "n"]].compute().dropna(by, subset=["nse"]).sortby("nse")
    labels, nse = score[by].values.astype(str), score["nse"].values
    ax = axes(ax, (4.5, 0.6 + 0.25 * len(labels)))
    colors = [style(label, 0)[0] for label in labels]
    ax.barh(labels, nse, color=colors, height=0.7)
    left = max(-1.0, 1.05 * min(nse.min(initial=0), 0))
    for row, (value, hours) in enumerate(zip(nse, score["n"].values, strict=True)):
        text = f" {value:.2f}  ({int(hours):,} h)"
        ax.text(max(value, 0), row, text, va="center", fontsize="small")
    ax.axvline(0, color=OBSERVED, linewidth=0.6)
    ax.set_xlim(left, 1.35)
    ax.set_xticks([tick for tick in (-1, -0.5, 0, 0.25, 0.5, 0.75, 1) if tick >= left])
    ax.set_xlabel("Nash-Sutcliffe efficiency [1]")
    strip(ax)
    return ax
