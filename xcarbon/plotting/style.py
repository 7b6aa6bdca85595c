"""Colours, labels and axes shared by all figures."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xcarbon.core.errors import OptionError
from xcarbon.core.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colour and marker of each IGBP class, the same in all figures. Colours are from the schemes of Paul Tol and
#: of Okabe and Ito for colour vision deficiency; similar colours have different markers.
IGBP_STYLES: dict[str, tuple[str, str]] = {
    "ENF": ("#117733", "^"),
    "EBF": ("#44aa99", "s"),
    "DNF": ("#225555", ">"),
    "DBF": ("#999933", "o"),
    "MF": ("#332288", "v"),
    "CSH": ("#882255", "<"),
    "OSH": ("#cc6677", "d"),
    "WSA": ("#aa4499", "p"),
    "SAV": ("#e69f00", "h"),
    "GRA": ("#ddcc77", "s"),
    "WET": ("#0072b2", "o"),
    "CRO": ("#d55e00", "D"),
    "URB": ("#555555", "X"),
    "CVM": ("#bb7744", "<"),
    "SNO": ("#88ccee", "*"),
    "BSV": ("#bbbbbb", ">"),
    "WAT": ("#000088", "8"),
}
#: Styles of other labels, in this order.
_STYLES = tuple(IGBP_STYLES[code] for code in ("WET", "CRO", "ENF", "WSA", "SAV", "OSH", "SNO"))

OBSERVED, PREDICTED, LAND, QUIET = "#222222", "#d55e00", "#e4e4e0", "#999999"
MISSING = "#bdbdbd"

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
#: Level of intervals: share of a normal distribution, and the corresponding multiple of a standard error.
LEVEL = 0.9
#: Share of the values beyond each end of a colour scale.
_BEYOND = 0.005
Z = NormalDist().inv_cdf((1 + LEVEL) / 2)


def style(label: str, position: int) -> tuple[str, str]:
    """Return colour and marker of a label: fixed for IGBP classes, by position for other labels."""
    return IGBP_STYLES.get(label) or _STYLES[position % len(_STYLES)]


def pretty(units: str) -> str:
    """Format CF units with superscripts."""
    parts = []
    for part in units.split(" "):
        base = part.rstrip("-0123456789")
        parts.append(f"{base}$^{{{part[len(base) :]}}}$" if base and base != part else part)
    return " ".join(parts).replace("umol", "µmol").replace("degC", "°C")


def coord_label(coord: xr.DataArray) -> str:
    """Return the label of a variable with its units."""
    name = coord.attrs.get("long_name", str(coord.name))
    return f"{name} [{pretty(coord.attrs['units'])}]" if "units" in coord.attrs else name


def label(name: str, units: str, separator: str = " ") -> str:
    """Return the label of an axis, such as ``NEE [µmol m-2 s-1]`` with superscripts."""
    return f"{name}{separator}[{pretty(units)}]"


def color_scale(values: np.ndarray, code: str, units: str) -> dict[str, Any]:
    """Return colours and limits: symmetric about 0 for NEE and other variables of both signs."""
    known = values[np.isfinite(values)]
    if not known.size:
        raise OptionError(f"all values of {code} are missing in this period")
    low, high = (float(limit) for limit in np.quantile(known, [_BEYOND, 1 - _BEYOND]))
    if (low < 0 < high or code == "NEE") and units != "degC":
        largest = max(-low, high)
        return {"cmap": "BrBG_r", "vmin": -largest, "vmax": largest}
    return {"cmap": "viridis", "vmin": low, "vmax": high}


def draw_interval(ax: Axes, x: Any, mean: np.ndarray, error: np.ndarray, color: str) -> None:
    """Plot the interval of a normal distribution around a mean."""
    half = Z * error
    name = f"{100 * LEVEL:.0f} % interval"
    ax.fill_between(x, mean - half, mean + half, color=color, alpha=0.2, lw=0, label=name)


def pyplot() -> Any:
    """Import pyplot, or raise an error that names the extra."""
    require("figures", "plot", "matplotlib.pyplot")
    import matplotlib.pyplot as plt

    return plt


def axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return the axes, or new ones in a figure of the given size [inches]."""
    return pyplot().subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def panels(
    ax: Axes | Sequence[Axes] | None, number: int, columns: int, size: tuple[float, float], **settings: Any
) -> list[Axes]:
    """Return as many of the given axes as there are panels, or those of a new figure."""
    if ax is not None:
        return check_panels(ax, number)
    shape = -(-number // columns), min(number, columns)
    grid = pyplot().subplots(*shape, figsize=size, layout="constrained", squeeze=False, **settings)[1]
    for unused in grid.flat[number:]:
        unused.remove()
    return list(grid.flat[:number])


def check_panels(ax: Axes | Sequence[Axes], number: int) -> list[Axes]:
    """Return the given axes, or raise an OptionError if their number is not that of the panels."""
    given = list(np.ravel(np.asarray(ax, dtype=object)))
    if len(given) != number:
        raise OptionError(f"the figure has {number} panels, but ax contains {len(given)} axes")
    return given


def figure_of(ax: Axes) -> Figure:
    """Return the figure that axes belong to."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def legend(ax: Axes, **settings: Any) -> None:
    """Add a legend above the axes, on the right."""
    ax.legend(
        **settings,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=3,
        frameon=False,
        fontsize="small",
        borderpad=0,
        handlelength=1.2,
        handletextpad=0.5,
        columnspacing=1.2,
    )


def date_axis(ax: Axes, time: np.ndarray) -> None:
    """Label a time axis with concise dates."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=4, maxticks=9)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    ax.set_xlim(time[0], time[-1])
    ax.set_xlabel("local standard time")


def strip(ax: Axes) -> None:
    """Remove the upper and the right spine."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
