"""Measured, filled and missing hours through time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core.errors import OptionError
from xcarbon.core.options import progress_bar
from xcarbon.core.validation import check_variables
from xcarbon.plotting.select import daily_steps, has_flags, observed_hours, tower_title
from xcarbon.plotting.style import LAND, OBSERVED, axes, date_axis, legend, strip
from xcarbon.prep.labels import read_labels
from xcarbon.prep.limits import plausible
from xcarbon.prep.periods import Array, Periods, map_towers, periods

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Colours of measured, filled and missing hours.
COLORS = (OBSERVED, "#56b4e9", LAND)
#: Height of a row in cells: the shares of a period are rounded to one cell.
CELLS = 20
#: Longest records that are shown by day and by week [days].
_BY_DAY, _BY_WEEK = 400, 2000


def draw_gaps(ax: Axes | None, ds: xr.Dataset, codes: Sequence[str]) -> Axes:
    """Plot a row for each tower, or for each variable of a single tower."""
    check_variables(ds, tuple(codes), "the figure")
    ds = read_labels(ds)
    if not ds.sizes["time"]:
        raise OptionError("the Dataset has no hours to show")
    if "site" in ds.dims and ds.sizes["site"] == 1:
        ds = ds.isel(site=0)
    if "site" in ds.dims and len(codes) > 1:
        raise OptionError(f"the rows are either towers or variables: select a tower, or one of {list(codes)}")
    unit, calendar = _calendar(ds["time"].values)
    with progress_bar("counting"):
        shares = xr.concat([_shares(ds, code, calendar) for code in codes], dim="row").compute()
    rows = list(ds["site"].values.astype(str)) if "site" in ds.dims else list(codes)
    if "site" in ds.dims:
        shares = shares.isel(row=0).rename(site="row")
    ax = axes(ax, (7.2, 0.9 + 0.22 * min(len(rows), 40) + 0.06 * max(0, len(rows) - 40)))
    flagged = all(has_flags(ds, code) for code in codes)
    measured = "measured" if flagged else "measured or without flag"
    _draw_rows(ax, shares.transpose("row", "period", "kind").values, calendar, measured)
    fontsize = "small" if len(rows) <= 40 else 5
    ax.set_yticks(np.arange(len(rows)) + 0.5, rows, fontsize=fontsize)
    ax.set_ylim(len(rows), 0)
    ax.tick_params(axis="y", length=0)
    ax.set_title(f"{codes[0]}, {len(rows)} towers" if "site" in ds.dims else tower_title(ds), loc="left")
    ax.set_xlabel(f"local standard time, share of hours in each {unit}")
    strip(ax)
    return ax


def _calendar(stamps: np.ndarray) -> tuple[str, Periods]:
    """Return the days, weeks or months of a record, depending on its length."""
    days = (stamps[-1] - stamps[0]) / np.timedelta64(1, "D")
    units: dict[str, Literal["D", "W", "M"]] = {"day": "D", "week": "W", "month": "M"}
    name = "day" if days <= _BY_DAY else "week" if days <= _BY_WEEK else "month"
    return name, periods(stamps, units[name])


def _shares(ds: xr.Dataset, code: str, calendar: Periods) -> xr.DataArray:
    """Compute lazily the shares of measured and of filled hours: ``(..., period, kind)``."""
    measured = observed_hours(ds, code, 0).notnull().reset_coords(drop=True)
    per_hour = daily_steps(ds["time"].values) // 24
    there = plausible(ds[code], code).notnull().reset_coords(drop=True)

    def count(measured: NDArray[np.bool_], there: NDArray[np.bool_]) -> Array:
        totals = [
            np.bincount(calendar.number[kind], minlength=calendar.hours.size)
            for kind in (measured, there & ~measured)
        ]
        return np.stack(totals, axis=-1) / (per_hour * calendar.hours[:, np.newaxis])

    return map_towers(count, measured, there, sizes={"period": calendar.hours.size, "kind": 2})


def _draw_rows(ax: Axes, shares: Array, calendar: Periods, measured: str) -> None:
    """Plot stacked shares ``(row, period, kind)``: from the bottom of a row measured, filled, missing."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    tops = np.cumsum(shares, axis=-1)[:, np.newaxis]
    height = (CELLS - 0.5 - np.arange(CELLS))[:, np.newaxis, np.newaxis] / CELLS  # (cell, period, kind)
    kind = (height >= tops).sum(axis=-1)
    rows = np.ma.masked_all((len(shares), CELLS + 1, shares.shape[1]), int)
    rows[:, :CELLS] = kind
    cells = rows.reshape(-1, shares.shape[1])[:-1]
    place = (np.arange(len(shares))[:, np.newaxis] + np.linspace(0.1, 0.9, CELLS + 1)).ravel()
    ends = np.append(calendar.start, calendar.start[-1] + calendar.hours[-1] // 24)
    ax.pcolormesh(ends, place, cells, cmap=ListedColormap(COLORS), vmin=-0.5, vmax=2.5, rasterized=True)
    date_axis(ax, ends)
    names = zip(COLORS, (measured, "filled", "missing"), strict=True)
    legend(ax, handles=[Patch(color=color, label=name) for color, name in names])
