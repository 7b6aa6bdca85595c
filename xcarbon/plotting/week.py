"""Time series of a tower over a few days."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd
import xarray as xr

from xcarbon.core.errors import OptionError
from xcarbon.core.variables import IGBP_CLASSES, SPREAD, variable
from xcarbon.evaluation.scores import flux_with_spread
from xcarbon.plotting.style import OBSERVED, PREDICTED, QUIET, date_axis, pretty, strip

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Towers = TypeVar("Towers", xr.DataArray, xr.Dataset)

_WEEK = 7
#: Level of the interval of a prediction: share of a normal distribution.
_LEVEL = 0.9


def as_dataset(prediction: xr.DataArray | xr.Dataset) -> tuple[str, xr.Dataset]:
    """Return the code of the predicted variable and the prediction as a Dataset, with its spread if any."""
    if isinstance(prediction, xr.Dataset):
        flux = flux_with_spread(prediction)
        return variable(flux).code, prediction[[flux, flux + SPREAD]]
    target = variable(str(prediction.name)).code
    return target, prediction.to_dataset(name=target)


def first_site(*arrays: xr.DataArray | xr.Dataset) -> str | None:
    """Return the name of the first tower in the first array with the coordinate ``site``."""
    named = next((array for array in arrays if "site" in array.coords), None)
    return None if named is None else str(np.atleast_1d(named["site"].values)[0])


def one_tower(towers: Towers, site: str | None) -> Towers:
    """Select a tower ``(time,)`` if there is a dimension ``site``."""
    if "site" not in towers.dims:
        return towers
    if site not in towers.indexes["site"]:
        known = list(towers.indexes["site"][:10])
        raise OptionError(f"there is no tower {site!r}; the first towers are {known}")
    return towers.sel(site=site)


def load_days(
    observed: xr.DataArray, predicted: xr.Dataset, time: str | slice | None
) -> tuple[xr.DataArray, xr.Dataset]:
    """Load a period of a tower, by default that of :func:`summer_week`."""
    if time is None:
        in_both = observed.indexes["time"].isin(predicted.indexes["time"])
        observed = observed.isel(time=np.flatnonzero(in_both)).compute()
        if not observed.size:
            raise OptionError(
                "observations and prediction have no hour in common: predict these towers and years"
            )
        time = summer_week(observed)
    # A slice selects the whole month or day, also if the string is equal to a time stamp.
    period = slice(time, time) if isinstance(time, str) else time
    observed = observed.sel(time=period).compute()
    if not observed.size:
        raise OptionError(f"the tower has no hours in {time}")
    return observed, predicted.sel(time=period).compute()


def summer_week(observed: xr.DataArray) -> slice:
    """Return the week near midsummer with the most observations ``(time,)``."""
    daily = pd.Series(observed.notnull().values, observed.indexes["time"]).resample("D").sum()
    weekly = daily.rolling(_WEEK, center=True, min_periods=1).sum()
    south = "lat" in observed.coords and float(observed["lat"]) < 0
    distance = (pd.DatetimeIndex(daily.index).day_of_year.to_numpy() - (15 if south else 196)) % 365
    distance = np.minimum(distance, 365 - distance)
    # One more observation outweighs any distance up to 42 days; weeks farther from midsummer come last.
    merit = weekly.to_numpy() - distance / 366 - 10_000 * ((distance > 42) | (weekly == 0))
    middle = daily.index[int(np.argmax(merit))]
    half = pd.Timedelta(_WEEK // 2, "D")
    return slice(middle - half, middle + half + pd.Timedelta("23:30:00"))


def tower_title(tower: xr.DataArray) -> str:
    """Return the name and the class of a tower, if known."""
    parts = [str(tower["site"].values)] if "site" in tower.coords else []
    if "igbp" in tower.coords:
        igbp = str(tower["igbp"].values)
        parts.append(IGBP_CLASSES.get(igbp, igbp))
    return ", ".join(parts)


def draw_series(ax: Axes, target: str, observed: xr.DataArray, predicted: xr.Dataset) -> None:
    """Plot observations as points and predictions as a line with a band, each ``(time,)``."""
    ax.axhline(0, color=QUIET, linewidth=0.6, zorder=0)
    ax.plot(observed["time"], observed, "o-", color=OBSERVED, lw=0.5, ms=2.2, label="observed")
    ax.plot(predicted["time"], predicted[target], color=PREDICTED, lw=1.4, label="predicted")
    if target + SPREAD in predicted:
        half = NormalDist().inv_cdf((1 + _LEVEL) / 2) * predicted[target + SPREAD]
        low, high = predicted[target] - half, predicted[target] + half
        label = f"{100 * _LEVEL:.0f} % interval"
        ax.fill_between(predicted["time"], low, high, color=PREDICTED, alpha=0.2, lw=0, label=label)
    date_axis(ax, observed["time"])
    ax.set_ylabel(f"{target} [{pretty(variable(target).units)}]")
    ax.set_title(tower_title(observed), loc="left")
    ax.legend(
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
    strip(ax)
