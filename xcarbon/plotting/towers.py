"""Map of towers."""

from __future__ import annotations

import importlib.resources
from typing import TYPE_CHECKING

import numpy as np

from xcarbon.core.variables import IGBP_CLASSES
from xcarbon.plotting.style import LAND, QUIET, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _land() -> list[np.ndarray]:
    """Read the outlines of land, each ``(points, 2)``: longitude and latitude [degrees]."""
    file = importlib.resources.files("xcarbon.plotting") / "data" / "land_110m.npz"
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as outline:
        points = np.stack([outline["lon"], outline["lat"]], axis=1)
    breaks = np.flatnonzero(np.isnan(points[:, 0]))
    return [ring[~np.isnan(ring[:, 0])] for ring in np.split(points, breaks)]


def draw_land(ax: Axes) -> None:
    """Plot land and label the axes in degrees of longitude and latitude."""
    from matplotlib.collections import PolyCollection

    land = PolyCollection(_land(), facecolors=LAND, edgecolors=LAND, linewidths=0.3, zorder=0)
    ax.add_collection(land)
    ax.set(xlim=(-180, 180), ylim=(-60, 85), aspect="equal")
    ax.set_xticks(range(-120, 121, 60), ["120° W", "60° W", "0°", "60° E", "120° E"])
    ax.set_yticks(range(-60, 61, 30), ["60° S", "30° S", "0°", "30° N", "60° N"])
    ax.tick_params(length=0, labelsize="small", labelcolor=QUIET)
    ax.grid(color="white", linewidth=0.6, zorder=1)
    ax.set_axisbelow(True)
    for spine in ax.spines.values():
        spine.set_visible(False)


def scatter_classes(ax: Axes, lon: np.ndarray, lat: np.ndarray, labels: np.ndarray) -> None:
    """Plot the towers by class, large classes first so that they do not cover small ones."""
    names, counts = np.unique(labels, return_counts=True)
    for position in np.argsort(-counts, kind="stable"):
        name = str(names[position])
        color, marker = style(name, int(position))
        here = labels == name
        ax.scatter(
            lon[here],
            lat[here],
            s=24,
            color=color,
            marker=marker,
            edgecolors="white",
            linewidths=0.4,
            zorder=2,
            label=f"{name} {IGBP_CLASSES.get(name, '')}".rstrip() + f" ({counts[position]})",
        )
