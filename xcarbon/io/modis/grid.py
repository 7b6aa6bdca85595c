"""The sinusoidal grid of the MODIS land products, and the patch of a tower on it."""

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
#: Rows and columns of that grid at 500 m: 18 by 36 tiles of 2400 by 2400 pixels around the globe.
GRID_SHAPE = (43200, 86400)
#: Width of its pixels [m].
PIXEL_SIZE = 2 * np.pi * MODIS_RADIUS / GRID_SHAPE[1]


def sinusoidal() -> xr.DataArray:
    """Give the grid mapping of the MODIS land products."""
    import rioxarray  # noqa: F401 - registers .rio

    crs = f"+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R={MODIS_RADIUS} +units=m +no_defs"
    return xr.DataArray(0).rio.write_crs(crs)["spatial_ref"]


def patch_grid() -> dict[str, Any]:
    """Give the coordinates that the patches of all towers share: ``band``, ``y``, ``x``, ``spatial_ref``."""
    offset = (np.arange(PATCH_PIXELS) - (PATCH_PIXELS - 1) / 2) * PIXEL_SIZE
    return {"band": list(REFLECTANCE_BANDS), "y": -offset, "x": offset, "spatial_ref": sinusoidal()}


def patch_centre(lat: ArrayLike, lon: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Find the centre of a tower's patch: the corner of pixels that is nearest to the tower on the grid.

    The grid is sinusoidal, :math:`x = R \lambda \cos \varphi`, :math:`y = R \varphi`, with latitude
    :math:`\varphi` and longitude :math:`\lambda` of the tower taken as those on a sphere of radius
    :data:`MODIS_RADIUS`, as the MODIS products take them.

    Parameters
    ----------
    lat : array_like
        Latitude [degrees_north].
    lon : array_like
        Longitude [degrees_east].

    Returns
    -------
    x, y : numpy.ndarray
        Easting and northing on the grid [m], of the shape of ``lat``.

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
    """Put the patches of one tower on the map.

    Parameters
    ----------
    ds : xarray.Dataset
        Patches of one tower, with ``x`` and ``y`` [m] from the patch's centre at ``patch_x`` and
        ``patch_y`` [m], scalars.

    Returns
    -------
    xarray.Dataset
        With ``x`` and ``y`` on the MODIS sinusoidal grid [m], for ``.rio`` and whatever else reads
        georeferenced data; without ``patch_x`` and ``patch_y``.

    Raises
    ------
    MetadataError
        If there is more than one tower, or the place of the patch is not known.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> tower = georeference(synthetic_towers(2).isel(site=0))
    >>> tower["reflectance"].isel(day=0).rio.reproject("EPSG:4326").rio.crs.to_epsg()
    4326
    """
    if not {"patch_x", "patch_y"} <= set(ds.coords):
        raise MetadataError("the patch cannot be placed: there are no coordinates patch_x and patch_y")
    if ds["patch_x"].ndim:
        raise MetadataError(f"select one tower of {ds['site'].values[:5]} first: ds.sel(site=...)")
    on_grid = {axis: (axis, ds[axis].values + ds[f"patch_{axis}"].values) for axis in ("x", "y")}
    return apply(ds.drop_vars(["patch_x", "patch_y"]).assign_coords(on_grid))
