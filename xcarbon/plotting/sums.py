"""Sums of carbon over years or months."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xcarbon.core.validation import check_variables
from xcarbon.plotting.select import first_site, one_tower, tower_title
from xcarbon.plotting.style import OBSERVED, QUIET, axes, date_axis, label, legend, strip

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Colours of fluxes; those of the daytime method are lighter.
COLORS = {
    "NEE": OBSERVED, "GPP_NT": "#117733", "RECO_NT": "#d55e00", "GPP_DT": "#77bb88", "RECO_DT": "#f0a070",
}  # fmt: skip
#: Most periods that are shown as points with error bars in place of lines with bands.
_POINTS = 40


def draw_sums(ax: Axes | None, sums: xr.Dataset, codes: Sequence[str], site: str | None) -> Axes:
    """Plot the sums of fluxes at a tower with their intervals."""
    endings = ("", "_LOWER", "_UPPER")
    check_variables(sums, tuple(code + ending for code in codes for ending in endings), "the figure of sums")
    tower = one_tower(sums, site or first_site(sums))
    tower = tower[[code + ending for code in codes for ending in endings]].compute()
    bounds = sums["time_bnds"].values.astype("M8[h]")
    half_length = (bounds[:, 1] - bounds[:, 0]) / 2
    middle = bounds[:, 0] + half_length
    ax = axes(ax, (7.2, 3.0))
    for number, code in enumerate(codes):
        total, low, high = (tower[code + ending].values for ending in endings)
        color = COLORS.get(code, f"C{number}")
        if middle.size <= _POINTS:
            shift = (number - (len(codes) - 1) / 2) * half_length / 6
            half = np.where(np.isfinite([low, high]), [total - low, high - total], 0)
            ax.errorbar(middle + shift, total, half, color=color, fmt="o", ms=3.5, lw=1, label=code)
        else:
            ax.plot(middle, total, color=color, lw=1, label=code)
            ax.fill_between(middle, low, high, color=color, alpha=0.25, lw=0)
    ax.axhline(0, color=QUIET, linewidth=0.6, zorder=0)
    ax.set_ylabel(label("sum of carbon", str(sums[codes[0]].attrs.get("units", "g m-2"))))
    ax.set_title(tower_title(tower), loc="left")
    date_axis(ax, np.append(bounds[:, 0], bounds[-1, 1]))
    legend(ax)
    strip(ax)
    return ax
