"""Towers of a prediction that its model was trained on."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xcarbon.core.variables import IN_TRAINING
from xcarbon.models.bundle import CarbonModel
from xcarbon.models.towers import TrainingTowers
from xcarbon.prep.split import distances


def in_training(ds: xr.Dataset, model: CarbonModel, *, min_distance: float = 1.0) -> xr.DataArray | None:
    """Find the towers that a model was trained on.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers along ``site``, or one tower, with the coordinates ``site`` or ``lat`` and ``lon``.
    model : CarbonModel
        A trained model with its provenance.
    min_distance : float
        Distance [km] to a training tower below which a tower counts as trained on, whatever its name.

    Returns
    -------
    xarray.DataArray or None
        Bool, shape ``(site,)``, or a scalar for one tower: whether the tower has the name of a training tower
        or lies near one; for a fine-tuned model also of those of the first training. None if it is unknown:
        the model lists no towers, ``ds`` is a grid, or has neither names nor coordinates of towers.

    Examples
    --------
    >>> import xcarbon
    >>> place = {
    ...     "site": ["DE-New", "SY-001"],
    ...     "lat": ("site", [50.9626, 10.0]),
    ...     "lon": ("site", [13.5651, 0.0]),
    ... }
    >>> in_training(xr.Dataset(coords=place), xcarbon.load("nee-fluxnet2015")).values
    array([ True, False])
    """
    towers = model.training_towers
    place = [ds[name] for name in ("site", "lat", "lon") if name in ds.coords]
    if not towers.site.size or not place or any(set(each.dims) - {"site"} for each in place):
        return None
    found = xr.DataArray(False)
    if "site" in ds.coords:
        names = {name.upper() for name in towers.site.tolist()} - {""}
        sites = ds["site"].reset_coords(drop=True)
        is_named = [str(site).strip().upper() in names for site in sites.values.flat]
        found = found | sites.copy(data=np.reshape(is_named, sites.shape))
    if {"lat", "lon"} <= set(ds.coords):
        near = xr.apply_ufunc(
            _is_near,
            *(ds[name].reset_coords(drop=True) for name in ("lat", "lon")),
            kwargs={"towers": towers, "min_distance": min_distance},
            dask="parallelized",
            output_dtypes=[np.bool_],
        )
        found = found | near
    found.attrs = {"long_name": "whether the model was trained on the tower"}
    return found.rename(IN_TRAINING)


def _is_near(lat: np.ndarray, lon: np.ndarray, towers: TrainingTowers, min_distance: float) -> np.ndarray:
    """Return whether places lie within a distance [km] of a training tower, in their common shape."""
    lat, lon = np.broadcast_arrays(lat, lon)  # one of them can be the same for all towers
    apart = distances(np.ravel(lat), np.ravel(lon), towers.lat, towers.lon)
    return np.reshape((apart < min_distance).any(axis=1), np.shape(lat))
