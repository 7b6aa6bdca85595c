"""Select the reanalysis of each tower: its cell of the grid or its series, and its first hour in UTC."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core.errors import MetadataError
from xcarbon.prep.drivers.adjustment import Array

#: Largest number of towers whose reanalysis is read together; 25 years need 8 MB for each.
GROUP = 16
#: Spacing of the cells of ERA5 [degrees], for a grid with a single cell.
_SPACING = 0.25


def reanalysis_of_towers(era5: xr.Dataset, towers: xr.Dataset) -> tuple[xr.Dataset, xr.DataArray]:
    """Select reanalysis on ``(site, hour, row, column)``, and the cells by distance ``(site, cell)``."""
    if _is_lazy(towers):
        era5 = era5.chunk()
    if {"lat", "lon"} <= set(era5.indexes):
        rows, columns, order = _boxes(era5, towers)
        bare = era5.drop_vars([name for name in era5.coords if name != "time"])
        near, cut = _neighbours(bare, rows, columns), []
        for sites in near:
            lat = xr.DataArray(rows[sites], dims=("site", "row"))
            part = bare.isel(lat=lat, lon=xr.DataArray(columns[sites], dims=("site", "column")))
            # Chunks are merged before towers are joined, because the join takes time for each chunk.
            cut.append(part.chunk(time=-1) if _is_lazy(part) else part)
        fields = xr.concat(cut, "site").isel(site=np.argsort(np.concatenate(near)))
    else:
        fields = _series_of_towers(era5, towers).expand_dims(["row", "column"])
        order = np.zeros((towers.sizes["site"], 1), int)
    fields = fields.rename(time="hour").drop_vars(["hour", "site"], errors="ignore")
    if _is_lazy(fields):
        fields = fields.chunk({"site": 1, "hour": -1, "row": -1, "column": -1})
    return fields, xr.DataArray(order, dims=("site", "cell"))


def _neighbours(
    era5: xr.Dataset, rows: NDArray[np.int_], columns: NDArray[np.int_]
) -> list[NDArray[np.int_]]:
    """Positions of towers in groups whose cells begin in the same chunk, so that it is read once for each."""
    chunk = [
        np.searchsorted(np.cumsum(era5.chunksizes.get(dim, (era5.sizes[dim],))), cells[:, 0], side="right")
        for dim, cells in (("lat", rows), ("lon", columns))
    ]
    groups: dict[tuple[int, ...], list[int]] = {}
    for site, place in enumerate(zip(*chunk, strict=True)):
        groups.setdefault(place, []).append(site)
    return [
        np.array(sites[start : start + GROUP])
        for sites in groups.values()
        for start in range(0, len(sites), GROUP)
    ]


def _is_lazy(ds: xr.Dataset) -> bool:
    return any(array.chunks for array in ds.data_vars.values())


def _series_of_towers(era5: xr.Dataset, towers: xr.Dataset) -> xr.Dataset:
    """Return the series of reanalysis in the order of the towers."""
    names = names_of(towers).values
    if not set(era5.dims) <= {"time", "site"} or (names.size > 1 and "site" not in era5.dims):
        raise MetadataError(
            f"reanalysis has the dims {dict(era5.sizes)}, but {names.size} towers need a grid (time, lat, "
            "lon), as xcarbon.open_era5 opens it, or series on (time, site)"
        )
    if "site" not in era5.dims:
        return era5.drop_vars([name for name in era5.coords if name != "time"]).expand_dims("site")
    offered: Any = era5["site"].values.astype(str) if "site" in era5.coords else []
    absent = names[~np.isin(names, offered)].tolist()
    if absent:
        raise MetadataError(
            f"reanalysis has no series for the towers {absent[:5]}; add them to its coordinate 'site'"
        )
    bare = era5.drop_vars([name for name in era5.coords if name not in ("time", "site")])
    return bare.sel(site=names)


def _boxes(era5: xr.Dataset, towers: xr.Dataset) -> tuple[NDArray[np.int_], ...]:
    """Return rows and columns of the up to 3 x 3 cells around each tower, and the flat positions by distance.

    A MetadataError names a tower outside the grid, or one without a place.
    """
    names = names_of(towers).values
    lats, lons = (_per_tower(towers, name) for name in ("lat", "lon"))
    boxes = []
    for site, lat, lon in zip(names, lats, lons, strict=True):
        north = era5["lat"].values - lat
        east = (era5["lon"].values - lon + 180) % 360 - 180
        if not np.isfinite(lat + lon):
            raise MetadataError(f"{site}: lat or lon is missing, so that no cell of the grid can be selected")
        if _is_outside(north) or _is_outside(east):
            raise MetadataError(
                f"{site}: the tower at {lat:g} degrees north, {lon:g} degrees east is outside the grid of "
                f"reanalysis, which covers {_extent(era5['lat'])} degrees north and {_extent(era5['lon'])} "
                "degrees east; use a grid that contains it, or leave the tower out with ds.drop_sel(site=...)"
            )
        rows, columns = _three(north), _three(east)
        square = north[rows, np.newaxis] ** 2 + (east[columns] * np.cos(np.radians(lat))) ** 2
        boxes.append((rows, columns, np.argsort(square, axis=None, kind="stable")))
    return tuple(map(np.stack, zip(*boxes, strict=True)))


def _is_outside(distance: Array) -> bool:
    """Return whether the nearest cell is farther than half the spacing of the cells [degrees]."""
    steps = np.abs(np.diff(distance))
    spacing = np.median(steps) if steps.size else _SPACING
    return bool(np.abs(distance).min() > 0.5001 * spacing)


def _three(distance: Array) -> NDArray[np.int_]:
    """Return the three cells around the nearest one; fewer if the grid has fewer."""
    first = int(np.clip(np.argmin(np.abs(distance)) - 1, 0, max(distance.size - 3, 0)))
    return np.arange(first, min(first + 3, distance.size))


def _extent(axis: xr.DataArray) -> str:
    return f"{float(axis.min()):g} to {float(axis.max()):g}"


def first_hours(towers: xr.Dataset, era5: xr.Dataset) -> NDArray[np.int64]:
    """Return the first hour of each tower after the first hour of reanalysis [s], ``(site,)``."""
    offset = _per_tower(towers, "utc_offset")
    unknown = names_of(towers).values[~np.isfinite(offset)]
    if unknown.size:
        raise MetadataError(
            f"utc_offset is missing for {unknown[:5].tolist()}; it relates the local standard time of the "
            "tower to the UTC of reanalysis: set ds['utc_offset'] [hours]"
        )
    first = (towers["time"].values[0] - era5["time"].values[0]) / np.timedelta64(1, "s")
    return np.round(first - offset * 3600).astype(int)


def _per_tower(towers: xr.Dataset, name: str) -> NDArray[np.float64]:
    """Return a coordinate of the towers, ``(site,)``; NaN if it is absent."""
    values = towers[name].values if name in towers.coords else np.nan
    return np.broadcast_to(np.asarray(values, float), towers.sizes["site"])


def names_of(towers: xr.Dataset) -> xr.DataArray:
    """Return the identifiers of the towers as text, without coordinates."""
    names = towers["site"].values.astype(str) if "site" in towers.coords else ["the tower"]
    return xr.DataArray(names, dims="site")
