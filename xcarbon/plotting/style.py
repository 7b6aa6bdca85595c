"""Colours, labels and axes shared by all figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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


def style(label: str, position: int) -> tuple[str, str]:
    """Return colour and marker of a label: fixed for IGBP classes, by position for other labels."""
    return IGBP_STYLES.get(label) or _STYLES[position % len(_STYLES)]


def pretty(units: str) -> str:
    """Format CF units with superscripts."""
    parts = []
    for part in units.split(" "):
        base = part.rstrip("-0123456789")
        parts.append(f"{base}$^{{{part[len(base) :]}}}$" if base and base != part else part)
    return " ".join(parts).replace("umol", "µmol")


def coord_label(coord: xr.DataArray) -> str:
    """Return the label of a variable with its units."""
    name = coord.attrs.get("long_name", str(coord.name))
    return f"{name} [{pretty(coord.attrs['units'])}]" if "units" in coord.attrs else name


def axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return the axes, or new ones in a figure of the given size [inches]."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def date_axis(ax: Axes, time: xr.DataArray) -> None:
    """Label a time axis with concise dates."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=4, maxticks=9)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    ax.set_xlim(time.values[0], time.values[-1])
    ax.set_xlabel("local standard time")


def strip(ax: Axes) -> None:
    """Remove the upper and the right spine."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
