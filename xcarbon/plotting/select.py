"""Selection of the variable, the tower and the period that a figure shows."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import dask
import numpy as np
import pandas as pd
import xarray as xr

from xcarbon.core.conventions import QC
from xcarbon.core.errors import OptionError, TimestampError, VariableError
from xcarbon.core.validation import check_variables
from xcarbon.core.variables import FILLED, IGBP_CLASSES, MODEL, SPREAD, TARGETS
from xcarbon.core.variables import variable as vocabulary
from xcarbon.prep.labels import read_labels
from xcarbon.prep.periods import Stamps
from xcarbon.prep.quality import mask_quality

Towers = TypeVar("Towers", xr.DataArray, xr.Dataset)

#: Endings of the variables that describe a flux.
_ENDINGS = ("", QC, FILLED, SPREAD, MODEL, MODEL + SPREAD)


class Hours(NamedTuple):
    """Hours of one tower.

    Attributes
    ----------
    code : str
        Code of the variable.
    tower : xarray.Dataset
        The variable and those that describe it (``_QC``, ``_FILLED``, ``_SE`` and so on), each ``(time,)``.
    predicted : xarray.Dataset or None
        The same of the prediction, on hours of its own.
    """

    code: str
    tower: xr.Dataset
    predicted: xr.Dataset | None

    @property
    def units(self) -> str:
        """Units of the variable."""
        return str(self.tower[self.code].attrs.get("units") or vocabulary(self.code).units)

    @property
    def title(self) -> str:
        """Name and class of the tower."""
        return tower_title(self.tower)

    def during(self, time: str | slice | None) -> Hours:
        """Select a period, lazily."""
        predicted = None if self.predicted is None else in_period(self.predicted, time)
        return Hours(self.code, in_period(self.tower, time), predicted)

    def load(self) -> Hours:
        """Load observations and prediction in one computation."""
        return Hours(self.code, *dask.compute(self.tower, self.predicted))


def select(
    ds: xr.Dataset,
    prediction: xr.DataArray | xr.Dataset | None,
    site: str | None,
    variable: str | None = None,
) -> Hours:
    """Select a variable of one tower and its prediction, if any, lazily."""
    code, predicted = variable or "NEE", None
    if prediction is not None:
        code, predicted = as_dataset(prediction)
        if variable not in (None, code):
            raise OptionError(f"the figure of {variable} was requested, but the prediction contains {code}")
    check_variables(ds, (code,), "the figure")
    ds = read_labels(ds)
    vocabulary(code)  # raises an error if it is unknown
    other = [str(dim) for dim in ds[code].dims if dim not in ("site", "time")]
    if other or "time" not in ds[code].dims:
        raise OptionError(
            f"the figure shows hours of towers, but {code} has the dims {ds[code].dims}: select one cell"
        )
    both = [ds] if predicted is None else [predicted, ds]
    if len({daily_steps(each["time"].values) for each in both}) > 1:
        raise TimestampError(
            "of observations and prediction one is half-hourly and the other one is hourly; "
            "ds.carbon.aggregate('HR') combines half-hours to clock hours"
        )
    site = site or first_site(*both)
    return Hours(
        code,
        one_tower(_with_endings(ds, code), site),
        None if predicted is None else one_tower(predicted, site),
    )


def as_dataset(prediction: xr.DataArray | xr.Dataset) -> tuple[str, xr.Dataset]:
    """Return the code of a prediction or a filled flux, and the variables that belong to it."""
    if isinstance(prediction, xr.DataArray):
        code = vocabulary(str(prediction.name)).code
        return code, prediction.to_dataset(name=code)
    fluxes = [name for name in TARGETS if name in prediction]
    if len(fluxes) != 1:
        raise VariableError(
            f"the prediction must contain one flux, found {fluxes or list(prediction.data_vars)}: select it, "
            'as in prediction[["NEE", "NEE_SE"]]'
        )
    return fluxes[0], _with_endings(prediction, fluxes[0])


def _with_endings(ds: xr.Dataset, code: str) -> xr.Dataset:
    """Select a variable and those that describe it."""
    return ds[[code + ending for ending in _ENDINGS if code + ending in ds]]


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


def in_period(towers: Towers, time: str | slice | None) -> Towers:
    """Select the hours of a period, such as ``"2010-07"`` or a slice of days."""
    if time is None:
        return towers
    # A slice selects the whole month or day, also if the string is equal to a time stamp.
    selected = towers.sel(time=slice(time, time) if isinstance(time, str) else time)
    if not selected.sizes["time"]:
        first, last = towers["time"].values[[0, -1]].astype("M8[D]")
        raise OptionError(f"there are no hours in {time}; the data is from {first} to {last}")
    return selected


def daily_steps(stamps: Stamps) -> int:
    """Return the number of time steps per day, 24 or 48, of an axis that may have gaps.

    Functions that need an axis without gaps use :func:`xcarbon.core.validation.steps_per_day`.
    """
    step = np.diff(stamps).min() if stamps.size > 1 else np.timedelta64(1, "h")
    if step not in (np.timedelta64(60, "m"), np.timedelta64(30, "m")):
        raise TimestampError(
            f"figures show hours or half-hours, but the time steps are {pd.Timedelta(step)}: use ds.plot"
        )
    return int(np.timedelta64(1, "D") / step)


def observed_hours(ds: xr.Dataset, code: str, max_qc: int) -> xr.DataArray:
    """Return the plausible values up to a quality flag, without those that this package filled."""
    values = mask_quality(ds, [code], max_qc)[code]
    return values.where(ds[f"{code}{FILLED}"] == 0) if f"{code}{FILLED}" in ds else values


def has_flags(ds: xr.Dataset, code: str) -> bool:
    """Return whether a variable has flags that separate measured from filled hours."""
    return f"{code}{FILLED}" in ds or f"{code}{QC}" in ds


def tower_title(tower: xr.Dataset) -> str:
    """Return the name and the class of a tower, if known."""
    parts = [str(tower["site"].values)] if "site" in tower.coords else []
    if "igbp" in tower.coords:
        igbp = str(tower["igbp"].values)
        parts.append(IGBP_CLASSES.get(igbp, igbp))
    return ", ".join(parts)
