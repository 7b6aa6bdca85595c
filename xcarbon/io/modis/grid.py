"""Sinusoidal grid of the MODIS land products, and the patches of towers on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from xcarbon.core.conventions import apply
from xcarbon.core.errors import MetadataError
from xcarbon.core.variables import PATCH_PIXELS, REFLECTANCE_BANDS

#: Radius of the sphere of the MODIS sinusoidal grid [m].
MODIS_RADIUS = 6371007.181
#: Number of pixels along a tile ``hXXvYY`` at 500 m.
TILE = 2400
#: Rows and columns of the global grid at 500 m, which has 18 by 36 tiles.
GRID_SHAPE = (18 * TILE, 36 * TILE)
#: Width and height of a pixel [m].
PIXEL_SIZE = 2 * np.pi * MODIS_RADIUS / GRID_SHAPE[1]


def sinusoidal() -> xr.DataArray:
    """Create the grid mapping variable of the MODIS land products."""
    import rioxarray  # noqa: F401 - registers .rio

    crs = f"+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R={MODIS_RADIUS} +units=m +no_defs"
    return xr.DataArray(0).rio.write_crs(crs)["spatial_ref"]


def patch_grid() -> dict[str, Any]:
    """Create the coordinates shared by all patches: ``band``, ``y`` [m], ``x`` [m] and ``spatial_ref``."""
    offset = (np.arange(PATCH_PIXELS) - (PATCH_PIXELS - 1) / 2) * PIXEL_SIZE
    return {"band": list(REFLECTANCE_BANDS), "y": -offset, "x": offset, "spatial_ref": sinusoidal()}


def grid_position(x: float, y: float) -> tuple[float, float]:
    """Row and column of a point on the grid [m], counted in pixels from the upper left corner of the grid."""
    return GRID_SHAPE[0] / 2 - y / PIXEL_SIZE, GRID_SHAPE[1] / 2 + x / PIXEL_SIZE


def patch_centre(lat: ArrayLike, lon: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Compute the centre of the patch around a tower: the pixel corner nearest to the tower.

    The grid is sinusoidal, :math:`x = R \lambda \cos \varphi`, :math:`y = R \varphi`. Like the MODIS
    products, the function uses the geodetic latitude :math:`\varphi` and the longitude :math:`\lambda`
    [rad] as coordinates on a sphere of radius :math:`R =` :data:`MODIS_RADIUS` [m].

    Parameters
    ----------
    lat : array_like
        Latitude of the towers [degrees_north].
    lon : array_like
        Longitude of the towers [degrees_east].

    Returns
    -------
    x : numpy.ndarray
        Easting on the grid [m], with the shape of ``lat``.
    y : numpy.ndarray
        Northing on the grid [m], with the shape of ``lat``.

    Examples
    --------
    >>> x, y = patch_centre(50.9626, 13.5651)  # DE-Tha
    >>> float(x / PIXEL_SIZE), float(y / PIXEL_SIZE)
    (2050.0, 12231.0)
    """
    phi, lam = np.radians(lat), np.radians(lon)
    x, y = lam * np.cos(phi) * MODIS_RADIUS, phi * MODIS_RADIUS
    return np.rint(x / PIXEL_SIZE) * PIXEL_SIZE, np.rint(y / PIXEL_SIZE) * PIXEL_SIZE


def georeference(ds: xr.Dataset) -> xr.Dataset:
    """Convert the coordinates of one tower's patches to positions on the MODIS sinusoidal grid.

    Parameters
    ----------
    ds : xarray.Dataset
        Patches of one tower, with ``x`` and ``y`` [m] relative to the centre of the patch, which is at the
        scalar coordinates ``patch_x`` and ``patch_y`` [m].

    Returns
    -------
    xarray.Dataset
        The same data with ``x`` and ``y`` on the MODIS sinusoidal grid [m], for ``.rio`` and other software
        for georeferenced data, and without ``patch_x`` and ``patch_y``.

    Raises
    ------
    MetadataError
        If the Dataset contains several towers or has no ``patch_x`` and ``patch_y``.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> tower = georeference(synthetic_towers(2).isel(site=0))
    >>> tower["reflectance"].isel(day=0).rio.reproject("EPSG:4326").rio.crs.to_epsg()
    4326
    """
    if not {"patch_x", "patch_y"} <= set(ds.coords):
        raise MetadataError(
            "the patch has no coordinates patch_x and patch_y, which state its position on the MODIS grid"
        )
    if ds["patch_x"].ndim:
        raise MetadataError(
            f"the Dataset contains several towers, {ds['site'].values[:5]}; select one: ds.sel(site=...)"
        )
    on_grid = {axis: (axis, ds[axis].values + ds[f"patch_{axis}"].values) for axis in ("x", "y")}
    return apply(ds.drop_vars(["patch_x", "patch_y"]).assign_coords(on_grid))
