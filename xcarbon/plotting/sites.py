"""Map of towers."""

from __future__ import annotations

import importlib.resources
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xcarbon.core.errors import OptionError
from xcarbon.core.variables import IGBP_CLASSES
from xcarbon.plotting.style import LAND, OBSERVED, QUIET, axes, coord_label, legend, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Limits of a map of the world, without Antarctica [degrees].
WORLD = ((-180.0, 180.0), (-60.0, 85.0))
#: Smallest height of a map [degrees], and largest number of towers with names.
MIN_HEIGHT, _MAX_NAMES = 6.0, 12
_LEGEND_COLUMNS = 3


def draw_sites(ax: Axes | None, ds: xr.Dataset, color_by: str) -> Axes:
    """Plot the towers with colours by class or by number."""
    lon, lat, labels = (np.atleast_1d(_site_coord(ds, name)) for name in ("lon", "lat", color_by))
    is_number = np.issubdtype(labels.dtype, np.number)
    legend_rows = 0 if is_number else -(-len(np.unique(labels)) // _LEGEND_COLUMNS)
    ax = axes(ax, (7.2, 3.0 + 0.17 * legend_rows))
    draw_land(ax, lon, lat)
    if is_number:
        points = ax.scatter(lon, lat, s=20, c=labels, edgecolors="white", linewidths=0.4, zorder=2)
        bar = ax.figure.colorbar(points, ax=ax, shrink=0.7)
        bar.set_label(coord_label(ds[color_by]), fontsize="small")
        unknown = ~np.isfinite(labels)
        if unknown.any():
            name = f"unknown ({unknown.sum()})"
            ax.scatter(lon[unknown], lat[unknown], s=16, c="none", edgecolors=QUIET, zorder=2, label=name)
            legend(ax)
    else:
        scatter_classes(ax, lon, lat, labels.astype(str))
        ax.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.06),
            ncols=_LEGEND_COLUMNS,
            frameon=False,
            fontsize="x-small",
            handletextpad=0.2,
            columnspacing=1.2,
        )
    if "site" in ds.coords and lon.size <= _MAX_NAMES:
        _name_towers(ax, lon, lat, np.atleast_1d(ds["site"].values).astype(str))
    return ax


def _site_coord(ds: xr.Dataset, name: str) -> np.ndarray:
    """Return the values of a coordinate of the towers."""
    found = [
        str(key)
        for key, coord in ds.coords.items()
        if coord.dims == ("site",) or ("site" not in ds.dims and not coord.dims)
    ]
    if name not in found:
        raise OptionError(f"the towers have no coordinate {name!r}; their coordinates are {sorted(found)}")
    return np.asarray(ds[name].values)


def _name_towers(ax: Axes, lon: np.ndarray, lat: np.ndarray, names: np.ndarray) -> None:
    """Write the names of towers beside them, and those of neighbours in one line."""
    height = np.ptp(ax.get_ylim()) / 25
    neighbours: list[list[int]] = []
    for number in np.flatnonzero(np.isfinite(lon) & np.isfinite(lat)).tolist():
        for group in neighbours:
            first = group[0]
            if abs(lon[number] - lon[first]) < 3 * height and abs(lat[number] - lat[first]) < height:
                group.append(number)
                break
        else:
            neighbours.append([number])
    for towers in neighbours:
        ax.annotate(
            ", ".join(names[towers]),
            (lon[towers].max(), lat[towers].max()),
            xytext=(4, 3),
            textcoords="offset points",
            fontsize="x-small",
            color=OBSERVED,
        )


def outlines() -> list[np.ndarray]:
    """Read the outlines of land, each ``(points, 2)``: longitude and latitude [degrees]."""
    file = importlib.resources.files("xcarbon.plotting") / "data" / "land_110m.npz"
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as outline:
        points = np.stack([outline["lon"], outline["lat"]], axis=1)
    breaks = np.flatnonzero(np.isnan(points[:, 0]))
    return [ring[~np.isnan(ring[:, 0])] for ring in np.split(points, breaks)]


def draw_land(ax: Axes, lon: np.ndarray, lat: np.ndarray) -> None:
    """Plot the land around the towers and label the axes in degrees of longitude and latitude."""
    from matplotlib.collections import PolyCollection

    land = PolyCollection(outlines(), facecolors=LAND, edgecolors=LAND, linewidths=0.3, zorder=0)
    ax.add_collection(land, autolim=False)
    label_degrees(ax, *extent(lon, lat))
    ax.grid(color="white", linewidth=0.6, zorder=1)
    ax.set_axisbelow(True)


def label_degrees(ax: Axes, west_east: tuple[float, float], south_north: tuple[float, float]) -> None:
    """Set the limits of a map, its aspect, and labels in degrees of longitude and latitude."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    (west, east), (south, north) = west_east, south_north
    # One degree of longitude is shorter than one of latitude, by the cosine of the latitude.
    is_world = east - west > 180
    aspect = 1.0 if is_world else 1 / np.cos(np.deg2rad((south + north) / 2))
    ax.set(xlim=(west, east), ylim=(south, north), aspect=aspect)
    steps = [1, 2, 3, 5, 6, 10]
    shape = (east - west) / (north - south) / aspect
    labels = int(np.clip(np.ceil(6 * shape), 1, 6))  # a narrow map has room for few
    for axis, ends, most in ((ax.xaxis, "WE", labels), (ax.yaxis, "SN", 6)):
        axis.set_major_locator(MaxNLocator(most, steps=steps, prune="lower", min_n_ticks=1))
        axis.set_major_formatter(FuncFormatter(lambda value, _, ends=ends: degrees(value, ends)))
    ax.tick_params(length=0, labelsize="small", labelcolor=QUIET)
    for spine in ax.spines.values():
        spine.set_visible(False)


def extent(lon: np.ndarray, lat: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the limits of a map around towers: longitudes and latitudes [degrees].

    The map has a margin of a tenth and is between 1.6 and 2.6 times as wide as high. It is the world if the
    towers are more than 180 degrees apart.
    """
    known = np.isfinite(lon) & np.isfinite(lat)
    if not known.any() or np.ptp(lon[known]) > 180:
        return WORLD
    (west, east), (south, north) = (_widened(place[known], 0.1, MIN_HEIGHT) for place in (lon, lat))
    shrink = np.cos(np.deg2rad((south + north) / 2))
    width, height = (east - west) * shrink, north - south
    east_west = _widened(np.array([west, east]), 0, max(width, 1.6 * height) / shrink)
    south_north = _widened(np.array([south, north]), 0, max(height, width / 2.6))
    if np.ptp(east_west) > 180:
        return WORLD
    return east_west, (max(south_north[0], -90.0), min(south_north[1], 90.0))


def _widened(place: np.ndarray, margin: float, least: float) -> tuple[float, float]:
    """Return limits around values with a relative margin on each side and a least width [degrees]."""
    half = max(np.ptp(place) * (1 + 2 * margin), least) / 2
    middle = float(place.min() + place.max()) / 2
    return middle - half, middle + half


def degrees(value: float, ends: str) -> str:
    """Return a label such as ``60° W``; ``ends`` are the letters of negative and of positive values."""
    return f"{abs(value):g}°" + (f" {ends[int(value > 0)]}" if value else "")


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
