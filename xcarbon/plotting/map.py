"""Map of a flux on a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xcarbon.core import conventions
from xcarbon.core.errors import MetadataError, OptionError
from xcarbon.core.validation import check_variables
from xcarbon.plotting.select import in_period
from xcarbon.plotting.sites import label_degrees, outlines
from xcarbon.plotting.style import MISSING, OBSERVED, axes, color_scale, label
from xcarbon.prep.cells import cell_edges, check_axes, unwrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_map(ax: Axes | None, ds: xr.Dataset, code: str, time: str | slice | None) -> Axes:
    """Plot the mean of a variable over a period as a map."""
    from matplotlib.collections import LineCollection

    check_variables(ds, (code,), "a map")
    field = ds[code]
    if not conventions.is_grid(field):
        raise MetadataError(f"a map needs {code} on lat and lon, found dims {tuple(field.dims)}")
    check_axes(field, "the grid", MetadataError)
    if time is not None and "time" not in field.dims:
        raise OptionError(f"{code} has no time axis, so that the period {time} cannot be selected")
    field = in_period(field, time)
    mean, share_missing = _mean(field)
    lat, lon = cell_edges(mean["lat"].values.astype(float), unwrap(mean["lon"].values))
    lat = lat.clip(-90, 90)
    units = str(ds[code].attrs.get("units", "1"))
    ax = axes(ax, _size(lon, lat))
    scale = color_scale(mean.values, code, units)
    image = ax.pcolormesh(lon, lat, mean.values, rasterized=True, **scale)
    ax.set_facecolor(MISSING)
    rings = outlines()
    coast = [ring + np.array([360.0 * turn, 0]) for turn in (-1, 0, 1) for ring in rings]
    ax.add_collection(LineCollection(coast, colors=OBSERVED, linewidths=0.5), autolim=False)
    label_degrees(ax, (lon.min(), lon.max()), (lat.min(), lat.max()))
    bar = ax.figure.colorbar(image, ax=ax, extend="both", shrink=0.8, pad=0.02)
    bar.set_label(label(code, units))
    ax.set_title(_period(field, ds.get("time_bnds")), loc="left", fontsize="medium")
    if share_missing > 0:
        ax.set_title(f"{100 * share_missing:.2g} % of the values are missing", loc="right", fontsize="small")
    return ax


def _size(lon: np.ndarray, lat: np.ndarray) -> tuple[float, float]:
    """Size of a figure in which a map with these edges and its colour bar leave little room [inches]."""
    shape = np.ptp(lon) / np.ptp(lat) * np.cos(np.deg2rad(lat.mean()))
    height = float(np.clip(5.6 / shape, 1.8, 4.2))
    return float(np.clip(height * shape, 3.2, 5.6)) + 1.6, height + 0.4


def _mean(field: xr.DataArray) -> tuple[xr.DataArray, float]:
    """Average over time; return the share of missing values, too, in cells that have any value."""
    if "time" not in field.dims:
        return field.transpose("lat", "lon").compute(), 0.0
    both = xr.Dataset({"mean": field.mean("time"), "count": field.count("time")}).compute()
    mean, count = (both[name].transpose("lat", "lon") for name in ("mean", "count"))
    known = count.values > 0
    share = 1 - count.values[known].mean() / field.sizes["time"] if known.any() else 0.0
    return mean, float(share)


def _period(field: xr.DataArray, bounds: xr.DataArray | None) -> str:
    """Return the first and the last day of the mean, which end with the bounds of time if there are any."""
    if "time" not in field.dims:
        return ""
    ends = field["time"].values[[0, -1]]
    if bounds is not None:
        ends[1] = bounds.sel(time=ends[1]).values.max() - np.timedelta64(1, "ns")
    first, last = np.datetime_as_string(ends, unit="D")
    what = "" if field.sizes["time"] == 1 else "mean of "
    return what + (str(first) if first == last else f"{first} to {last}")
