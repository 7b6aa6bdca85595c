"""Edges and areas of the cells of a grid on latitude and longitude."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core.errors import MetadataError

Edges = NDArray[np.float64]

#: Name of the coordinate with the areas of cells.
AREA = "cell_area"
#: Semi-major axis [m] and first eccentricity [1] of the ellipsoid WGS84.
SEMI_MAJOR, ECCENTRICITY = 6_378_137.0, 0.081_819_190_842_621_49


def cell_area(grid: xr.Dataset | xr.DataArray) -> xr.DataArray:
    r"""Compute the areas of the cells of a grid on the ellipsoid WGS84.

    Parameters
    ----------
    grid : xarray.Dataset or xarray.DataArray
        Grid with one-dimensional ``lat`` [degrees_north] and ``lon`` [degrees_east], in any order.

    Returns
    -------
    xarray.DataArray
        Areas [m2], float64, ``(lat, lon)``, in memory, named ``cell_area``, with CF attributes.

    Raises
    ------
    MetadataError
        If ``grid`` has no ``lat`` or ``lon``, or they are not one-dimensional and monotonic.

    Notes
    -----
    The edges of a cell are halfway between neighbouring centres, and not beyond the poles. If a grid has a
    single row or column, it is as wide as the other axis has steps. With the semi-major axis :math:`a`, the
    eccentricity :math:`e` and geodetic latitudes :math:`\varphi`, the area between the equator and a latitude
    per radian of longitude is [1]_

    .. math:: \frac{a^2 (1 - e^2)}{2} \left[\frac{\sin\varphi}{1 - e^2 \sin^2\varphi}
       + \frac{\mathrm{artanh}(e \sin\varphi)}{e}\right].

    A cell of a sphere with the same surface differs from that of the ellipsoid by up to 0.5 %.

    References
    ----------
    .. [1] Snyder 1987, Map Projections: A Working Manual, US Geological Survey Professional Paper 1395,
       equation 3-12, doi:10.3133/pp1395.

    Examples
    --------
    >>> grid = xr.Dataset(coords={"lat": [45.5, 44.5], "lon": [8.5, 9.5, 10.5]})
    >>> (cell_area(grid) / 1e6).round(0).values[:, 0]  # km2
    array([8686., 8837.])
    """
    check_axes(grid, "the grid", MetadataError)
    lat, lon = cell_edges(grid["lat"].values.astype(float), unwrap(grid["lon"].values))
    heights = np.abs(np.diff(_area_from_equator(np.deg2rad(lat.clip(-90, 90)))))
    widths = np.abs(np.diff(np.deg2rad(lon)))
    attrs = {
        "standard_name": "cell_area",
        "long_name": "area of the cell",
        "units": "m2",
        "comment": "on the ellipsoid WGS84, between edges halfway to the neighbouring centres",
    }
    coords = {name: grid[name].variable for name in ("lat", "lon")}
    return xr.DataArray(np.outer(heights, widths), coords, ("lat", "lon"), AREA, attrs)


def with_cell_area(ds: xr.Dataset) -> xr.Dataset:
    """Add the coordinate ``cell_area`` to a grid, and name it in the ``cell_measures`` of its variables."""
    ds = ds.assign_coords({AREA: cell_area(ds)})
    for array in ds.data_vars.values():
        if {"lat", "lon"} <= set(array.dims):
            array.attrs["cell_measures"] = f"area: {AREA}"
    return ds


def cell_edges(lat: NDArray[Any], lon: NDArray[Any]) -> tuple[Edges, Edges]:
    """Return the edges of cells along both axes, one more than centres, halfway between the centres.

    Examples
    --------
    >>> cell_edges(np.array([50.0, 49.5]), np.array([8.0]))
    (array([50.25, 49.75, 49.25]), array([7.75, 8.25]))
    """
    steps = [float(np.abs(np.diff(centres)).mean()) for centres in (lat, lon) if centres.size > 1]
    width = max(steps, default=1e-6)  # a single cell without neighbours is a point
    both = []
    for centres in (lat, lon):
        if centres.size == 1:
            both.append(np.array([centres[0] - width / 2, centres[0] + width / 2]))
        else:
            middles = (centres[1:] + centres[:-1]) / 2
            both.append(np.array([2 * centres[0] - middles[0], *middles, 2 * centres[-1] - middles[-1]]))
    return both[0], both[1]


def check_axes(grid: xr.Dataset | xr.DataArray, where: str, error: type[Exception]) -> None:
    """Check that ``lat`` and ``lon`` are one-dimensional and monotonic, apart from the seam of longitudes."""
    if not isinstance(grid, xr.Dataset | xr.DataArray):
        raise error(f"{where} must be a Dataset or DataArray on lat and lon, found {grid!r}")
    absent = [name for name in ("lat", "lon") if name not in grid.coords]
    if absent:
        raise error(
            f"{where} has no coordinate {' and '.join(absent)}, but dims {tuple(grid.dims)}; open it with "
            "xcarbon.open_era5 or rename its dimensions to lat and lon"
        )
    for name in ("lat", "lon"):
        if grid[name].ndim == 1 and grid[name].dims != (name,):
            raise error(
                f"{where}: {name} lies along {grid[name].dims[0]!r}, as of towers or points, but on a grid "
                f"it lies along {name!r}"
            )
        values = np.asarray(grid[name].values)
        steps = np.diff(unwrap(values) if name == "lon" and values.ndim == 1 else values)
        monotonic = values.ndim == 1 and values.size and ((steps > 0).all() or (steps < 0).all())
        if not monotonic or not np.isfinite(values).all() or (name == "lat" and np.abs(values).max() > 90):
            raise error(
                f"{where}: {name} must be one-dimensional and monotonic in degrees, found "
                f"{values.dtype} of shape {values.shape} that begins with {values.ravel()[:3].tolist()}"
            )


def unwrap(lon: NDArray[Any]) -> NDArray[np.float64]:
    """Remove the jump of longitudes at 180 or 360 degrees."""
    return np.unwrap(lon.astype(float), period=360)


def _area_from_equator(lat: Edges) -> Edges:
    """Area between the equator and latitudes [radians], per radian of longitude [m2]."""
    sine = np.sin(lat)
    polar = SEMI_MAJOR**2 * (1 - ECCENTRICITY**2) / 2
    flattened = sine / (1 - (ECCENTRICITY * sine) ** 2)
    return np.asarray(polar * (flattened + np.arctanh(ECCENTRICITY * sine) / ECCENTRICITY))
