"""Mean diurnal cycle of each month or season."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from xcarbon.core.errors import OptionError
from xcarbon.plotting.select import Hours, observed_hours
from xcarbon.plotting.style import MONTHS, OBSERVED, PREDICTED, QUIET, label, legend, strip
from xcarbon.prep.quality import MAX_QC

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Names of the cycles, and the position of each calendar month among them.
CYCLES = {
    "month": (MONTHS, np.arange(12)),
    "season": (("Dec–Feb", "Mar–May", "Jun–Aug", "Sep–Nov"), np.arange(1, 13) % 12 // 3),
}


def check_by(by: str) -> None:
    """Raise an OptionError unless there are cycles of this kind."""
    if by not in CYCLES:
        raise OptionError(f"by must be one of {list(CYCLES)}, found {by!r}")


def draw_diurnal(ax: Axes, hours: Hours, by: str) -> None:
    """Plot the cycles side by side: means, and the central half of the observations as a band."""
    names, position = CYCLES[by]
    cycles = mean_cycles(hours, position)
    x = np.arange(25 * len(names)) - 0.5
    ax.axhline(0, color=QUIET, linewidth=0.6, zorder=0)
    bounds = cycles["lower"], cycles["upper"]
    ax.fill_between(x, *bounds, color=OBSERVED, alpha=0.15, lw=0, label="central half")
    ax.plot(x, cycles["observed"], color=OBSERVED, lw=1.4, label="observed")
    if "predicted" in cycles:
        ax.plot(x, cycles["predicted"], color=PREDICTED, lw=1.4, label="predicted")
    for cycle in range(1, len(names)):
        ax.axvline(25 * cycle - 1, color=QUIET, linewidth=0.4)
    ax.set_xlim(-1, x.size - 1)
    ax.set_xticks(25 * np.arange(len(names)) + 11.5, names)
    ax.tick_params(axis="x", length=0)
    ax.set_xlabel("mean day of each month, from 0 to 24 h local standard time".replace("month", by))
    ax.set_ylabel(label(hours.code, hours.units))
    ax.set_title(hours.title, loc="left")
    legend(ax)
    strip(ax)


def mean_cycles(hours: Hours, position: np.ndarray) -> pd.DataFrame:
    """Average the hours of each cycle, ``(cycles * 25,)`` with a gap after each cycle."""
    observed = observed_hours(hours.tower, hours.code, MAX_QC)
    series = {"observed": observed.to_series()}
    if hours.predicted is not None:
        series["predicted"] = hours.predicted[hours.code].to_series()
    both = pd.DataFrame(series).dropna()
    if both.empty:
        raise OptionError(f"{hours.title}: there is no hour with all values of {hours.code} to average")
    stamps = pd.DatetimeIndex(both.index)
    groups = both.groupby([position[stamps.month - 1], stamps.hour])
    cycles = groups.mean()
    cycles["lower"], cycles["upper"] = (groups["observed"].quantile(q) for q in (0.25, 0.75))
    return cycles.reindex(pd.MultiIndex.from_product([range(position.max() + 1), range(25)]))
