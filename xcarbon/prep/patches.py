"""Arrange satellite patches as models read them."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xcarbon.core.errors import VariableError

#: Value of a pixel without data in the patches that models read.
FILL = -1.0
#: Hour of the day at which a model reads the day's patch, because the satellites pass around noon.
NOON = 12


def stack_bands(ds: xr.Dataset, bands: tuple[str, ...]) -> xr.DataArray:
    """Stack reflectance, snow and water flags to one array, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Dataset with ``reflectance (..., day, band, y, x)`` [1] and optionally the flags ``snow`` and
        ``water (..., day, y, x)``.
    bands : tuple of str
        Bands in the order of the result, among ``B1`` to ``B7``, ``snow`` and ``water``.

    Returns
    -------
    xarray.DataArray
        ``(..., day, band, y, x)`` float32; -1 where a pixel has no data or ``ds`` does not contain the band.
        If more than half of a day's reflectance pixels have no data, all pixels of the day are NaN, and
        models do not use the day.

    Raises
    ------
    VariableError
        If ``ds`` contains none of the bands.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> stack_bands(synthetic_towers(2), ("B1", "B2", "snow")).sizes["band"]
    3
    """
    have = [*ds.indexes.get("band", ()), *(name for name in ("snow", "water") if name in ds)]
    if not set(bands) & set(have):
        raise VariableError(f"the model needs bands {list(bands)}, but the Dataset has {have}")
    reflectance = ds["reflectance"].transpose(..., "day", "band", "y", "x")
    fill_share = reflectance.isnull().mean(("band", "y", "x"))
    layers = [_band(ds, reflectance, band) for band in bands]
    stacked = xr.concat(layers, dim="band").transpose(..., "day", "band", "y", "x")
    stacked = stacked.fillna(FILL).where(fill_share <= 0.5)
    stacked.attrs = {"long_name": "reflectance and flags around the tower", "units": "1"}
    return stacked.astype("float32").assign_coords(band=list(bands))


def _band(ds: xr.Dataset, reflectance: xr.DataArray, band: str) -> xr.DataArray:
    """Return one band, ``(..., day, y, x)``; missing flags are -1 already."""
    if band in ds.indexes["band"]:
        return reflectance.sel(band=band, drop=True)
    if band in ds:
        return ds[band].astype("float32")
    return xr.full_like(reflectance.isel(band=0, drop=True), FILL)


def patch_index(time: np.ndarray, day: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Compute which patch a model reads at each hour, ``(hours,)`` int64.

    The result is the position in ``day (days,)``, in any order, at the noon hour of each day that is
    ``usable (days,)``, and -1 at all other hours. ``time (hours,)`` are starts of hours in local standard
    time.

    Examples
    --------
    >>> time = np.arange("2010-01-01", "2010-01-02", dtype="datetime64[h]")
    >>> int(patch_index(time, np.array(["2010-01-01"], "datetime64[D]"), np.array([True]))[12])
    0
    """
    index = np.full(time.shape, -1, np.int64)
    if not day.size:
        return index
    date, days = time.astype("datetime64[D]"), day.astype("datetime64[D]")
    order = np.argsort(days)
    position = order[np.minimum(np.searchsorted(days, date, sorter=order), days.size - 1)]
    # Labels are starts of hours. Hours that start at half past contain noon if they start at 12:30.
    at_noon = (time - date).astype("timedelta64[h]") == np.timedelta64(NOON, "h")
    found = at_noon & (days[position] == date) & usable[position]
    index[found] = position[found]
    return index
