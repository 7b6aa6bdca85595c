"""Satellite patches of towers from downloaded files of the MODIS products of 500 m.

A patch consists of the 8 by 8 pixels of the sinusoidal grid around the pixel corner nearest to the tower. It
is not resampled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core import conventions
from xcarbon.core.conventions import MISSING_FLAG
from xcarbon.core.errors import FileFormatError, MetadataError
from xcarbon.core.variables import REFLECTANCE_BANDS
from xcarbon.io.modis.files import PathOrItem, find_rasters
from xcarbon.io.modis.grid import GRID_SHAPE, PATCH_PIXELS, grid_position, patch_centre, patch_grid
from xcarbon.io.modis.names import PRODUCTS
from xcarbon.io.modis.rasters import Area, Raster, read_window

BANDS = tuple(REFLECTANCE_BANDS)
#: Products with reflectances, best first.
REFLECTANCES = tuple(product for product in PRODUCTS if product != "MCD43A2")
#: Classes of ``BRDF_Albedo_LandWaterType`` that are water; class 1 is land, class 2 is shoreline.
WATER = (0, 3, 4, 5, 6, 7)
#: Largest share of missing reflectances of a day [1]; days with more are excluded.
MAX_FILL = 0.5
#: Missing value of each variable, in the type of the variable.
_MISSING: dict[str, np.generic] = {
    "reflectance": np.float32(np.nan),
    "snow": MISSING_FLAG,
    "water": MISSING_FLAG,
}


# Rasters and days of a tower


def by_area(rasters: Iterable[Raster]) -> dict[Area, list[Raster]]:
    """Group rasters by area, which speeds up the search if many rasters share an area."""
    areas = defaultdict(list)
    for raster in rasters:
        areas[raster.area].append(raster)
    return dict(areas)


def covering(areas: Mapping[Area, list[Raster]], lat: float, lon: float) -> list[Raster]:
    """Select the rasters that overlap the patch of a tower at ``lat``, ``lon`` [degrees]."""
    window = _window(lat, lon)
    return [raster for area, rasters in areas.items() if area.overlap(window) for raster in rasters]


def patch_days(rasters: Iterable[Raster], lat: float, lon: float) -> NDArray[np.datetime64]:
    """List the sorted days on which a raster with a band overlaps the patch at ``lat``, ``lon`` [degrees]."""
    return _days(covering(by_area(rasters), lat, lon))


def _days(rasters: list[Raster]) -> NDArray[np.datetime64]:
    """Sorted days of the rasters with a band."""
    days = [raster.days for raster in rasters if not raster.layers.keys().isdisjoint(BANDS)]
    return np.unique(np.concatenate([np.empty(0, "M8[D]"), *days]))


def _window(lat: float, lon: float) -> Area:
    """Pixels of the patch of a tower."""
    x, y = patch_centre(lat, lon)
    row, column = (round(position) - PATCH_PIXELS // 2 for position in grid_position(float(x), float(y)))
    return Area(row, column, PATCH_PIXELS, PATCH_PIXELS)


# Patches of one tower


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """Patches of one tower.

    Attributes
    ----------
    day : numpy.ndarray
        Sorted days, shape ``(day,)`` [datetime64[D]].
    reflectance : numpy.ndarray
        Float32 [1], shape ``(day, 7, 8, 8)``, rows from north to south; NaN where missing.
    snow, water : numpy.ndarray
        Int8 flags, shape ``(day, 8, 8)``; -1 where missing.
    """

    day: NDArray[np.datetime64]
    reflectance: NDArray[np.float32]
    snow: NDArray[np.int8]
    water: NDArray[np.int8]


def read_patches(
    rasters: Iterable[Raster],
    lat: float,
    lon: float,
    *,
    max_quality: int = 1,
    on_error: Callable[[FileFormatError], None] | None = None,
) -> Patches:
    """Read the patches of one tower into memory.

    Parameters
    ----------
    rasters : list of Raster
        Rasters from :func:`find_rasters`; those that do not overlap the patch are ignored.
    lat : float
        Latitude of the tower [degrees_north].
    lon : float
        Longitude of the tower [degrees_east].
    max_quality : int
        Worst mandatory quality of MCD43A4 that is used [1]: 0 for full BRDF inversions, 1 for magnitude
        inversions.
    on_error : callable, optional
        Function that is called with the error of a damaged file, which is then skipped.

    Returns
    -------
    Patches
        Patches on all days on which a raster with a band overlaps the patch.

    Raises
    ------
    FileFormatError
        If a file is damaged or differs from its header or, for files that have not been opened, from the
        first file of its tile and layer, and ``on_error`` is not given.

    Notes
    -----
    - A patch on the edge of a tile is filled from all tiles that it overlaps.
    - Among files of the same product, day, layer and area, the newest collection and then the latest
      production time is used, and the other files are not read. Files of different areas fill each other's
      gaps.
    - Each day is read from MCD43A4 if available, otherwise from MOD09A1, otherwise from MOD09GA.
    - Fill values and values out of the valid range are missing. If the quality layers are available, the
      following pixels are missing, too: those of MCD43A4 with a mandatory quality worse than
      ``max_quality``, and those of MOD09A1 and MOD09GA whose 500 m state is cloudy, mixed or cloud shadow.
    - Snow and water are read from MCD43A2 of the same day. All classes except land and shoreline are water;
      fill is land.
    - If more than half of the reflectances of a day are missing, all reflectances and flags of the day are
      missing.
    """
    window = _window(lat, lon)
    here = covering(by_area(rasters), lat, lon)
    day = _days(here)

    def read_bands(granule: Granule, area: Area) -> Layers:
        return _mask_bands(_read_granule(granule, area, on_error), max_quality)

    def read_flags(granule: Granule, area: Area) -> Layers:
        return _classify(_read_granule(granule, area, on_error))

    bands = np.full((day.size, len(BANDS), window.height, window.width), np.nan, np.float32)
    open_days = np.ones(day.size, bool)
    for product in REFLECTANCES:
        these = [raster for raster in here if raster.product == product]
        wanted = open_days & np.isin(day, _days(these))
        _fill(bands, BANDS, these, window, day, wanted, read_bands)
        open_days &= ~wanted
    flags = np.full((day.size, 2, window.height, window.width), np.nan, np.float32)
    these = [raster for raster in here if raster.product == "MCD43A2"]
    _fill(flags, ("snow", "water"), these, window, day, np.ones(day.size, bool), read_flags)
    excluded = np.isnan(bands).mean(axis=(1, 2, 3)) > MAX_FILL
    bands[excluded] = flags[excluded] = np.nan
    snow, water = np.where(np.isnan(flags), MISSING_FLAG, flags).astype("int8").swapaxes(0, 1)
    return Patches(day, bands, snow, water)


Layers = Mapping[str, NDArray[Any]]
Granule = Mapping[str, Raster]


def _fill(
    target: NDArray[np.float32],
    names: tuple[str, ...],
    rasters: list[Raster],
    window: Area,
    day: NDArray[np.datetime64],
    wanted: NDArray[np.bool_],
    read: Callable[[Granule, Area], Layers],
) -> None:
    """Fill ``target (day, layer, y, x)`` in place from the rasters of one product, best rank first."""
    filled: defaultdict[tuple[Area, str], NDArray[np.bool_]] = defaultdict(lambda: ~wanted)
    for area, days, granule in _granules(rasters):
        layers = granule.keys() & set(names)
        known = np.isin(days, day)
        position = np.searchsorted(day, days[known])
        new = {name: ~filled[area, name][position] for name in layers}
        if not any(of_name.any() for of_name in new.values()):
            continue
        overlap = window.overlap(area)
        assert overlap is not None  # all rasters overlap the window
        rows, columns = overlap.within(window)
        values = read(granule, overlap)
        for name in layers & values.keys():
            here = (position[new[name]], names.index(name), rows, columns)
            target[here] = np.where(np.isnan(target[here]), values[name][known][new[name]], target[here])
            filled[area, name][position] = True


def _granules(rasters: list[Raster]) -> list[tuple[Area, NDArray[np.datetime64], Granule]]:
    """Group files of the same production time, area and days by layer, best rank first."""
    granules: dict[Any, tuple[Area, NDArray[np.datetime64], dict[str, Raster]]] = {}
    for raster in sorted(rasters, key=lambda raster: raster.path):
        key = (raster.rank, raster.area, raster.days.tobytes())
        *_, layers = granules.setdefault(key, (raster.area, raster.days, {}))
        for layer in raster.layers:
            layers.setdefault(layer, raster)
    return [granules[key] for key in sorted(granules, key=lambda key: key[0], reverse=True)]


def _read_granule(
    granule: Granule, area: Area, on_error: Callable[[FileFormatError], None] | None
) -> dict[str, NDArray[Any]]:
    """Read all layers of a granule, ``(day, y, x)`` each; empty if a file is damaged and skipped."""
    values: dict[str, NDArray[Any]] = {}
    for raster in dict.fromkeys(granule.values()):
        try:
            values = read_window(raster, area) | values
        except FileFormatError as error:
            if on_error is None:
                raise
            on_error(error)
            return {}
    return values


def _mask_bands(layers: Layers, max_quality: int) -> Layers:
    """Select the bands and mask pixels of low quality or with clouds."""
    clear: NDArray[np.bool_] | bool = True
    if "state" in layers:
        state = np.nan_to_num(layers["state"], nan=0xFFFF).astype("uint16")
        clear = ~np.isin(state & 0b11, (0b01, 0b10)) & (state & 0b100 == 0)
    masked = {}
    for name in layers.keys() & set(BANDS):
        keep = clear
        if f"{name}_quality" in layers:
            keep = keep & (layers[f"{name}_quality"] <= max_quality)
        masked[name] = np.where(keep, layers[name], np.float32(np.nan))
    return masked


def _classify(layers: Layers) -> Layers:
    """Convert layers to the flags 0 and 1; snow is NaN where fill."""
    classes: dict[str, NDArray[Any]] = {}
    if "snow" in layers:
        classes["snow"] = np.where(np.isin(layers["snow"], (0, 1)), layers["snow"], np.float32(np.nan))
    if "water" in layers:
        classes["water"] = np.isin(layers["water"], WATER)
    return classes


# Dataset of many towers


def open_modis(
    path_or_paths: PathOrItem | Iterable[PathOrItem],
    sites: xr.Dataset | xr.Coordinates,
    *,
    max_quality: int = 1,
) -> xr.Dataset:
    """Open satellite patches around towers in MODIS files as a lazy Dataset.

    As few headers as possible are read immediately. Pixels are read when they are computed, all pixels of a
    tower in one task.

    Parameters
    ----------
    path_or_paths : path-like, pystac.Item, pystac.ItemCollection, or iterable of these
        Files, folders or STAC items; see :func:`xcarbon.io.modis.files.find_rasters`.
    sites : xarray.Dataset or xarray.Coordinates
        Towers with ``lat`` [degrees_north] and ``lon`` [degrees_east] along ``site``.
    max_quality : int
        Worst mandatory quality of MCD43A4 that is used [1]: 0 for full BRDF inversions, 1 for magnitude
        inversions.

    Returns
    -------
    xarray.Dataset
        ``reflectance (site, day, band, y, x)`` [1], float32, NaN where missing; ``snow`` and ``water`` on
        ``(site, day, y, x)``, int8, -1 where missing. The rules are those of
        :func:`xcarbon.io.modis.patches.read_patches`. ``day`` contains all days on which a raster with a
        band overlaps the patch of any tower. ``x`` and ``y`` [m] are relative to the centre of the patch at
        ``patch_x`` and ``patch_y`` [m]; see :func:`xcarbon.io.modis.grid.georeference`.
        ``towers.merge(patches)`` combines the patches with the towers.

    Raises
    ------
    FileNotFoundError
        If a path does not exist or no MODIS file is found.
    FileFormatError
        If a file is damaged or not on the sinusoidal grid of 500 m (raised when it is opened or computed),
        or if the files contain so few bands that more than half of each patch would be missing.
    MetadataError
        If a tower has no valid coordinates, or no raster overlaps the patch of any tower.

    Examples
    --------
    >>> from xcarbon.io.modis.grid import georeference
    >>> from tempfile import TemporaryDirectory
    >>> from xcarbon.testing import synthetic_towers
    >>> folder = TemporaryDirectory()
    >>> scene = georeference(synthetic_towers(1).isel(site=0, day=184))["reflectance"]
    >>> for band in "1234567":
    ...     name = f"MCD43A4.061_Nadir_Reflectance_Band{band}_doy2010185_aid0001.tif"
    ...     scene.sel(band=f"B{band}").rio.to_raster(f"{folder.name}/{name}")
    >>> towers = synthetic_towers(1, patches=False)
    >>> towers.merge(open_modis(folder.name, towers))["reflectance"].sizes["day"]
    1
    >>> folder.cleanup()
    """
    rasters = find_rasters(path_or_paths)
    _check_bands(rasters)
    lat, lon = _check_towers(sites)
    areas = by_area(rasters)
    here = [covering(areas, *place) for place in zip(lat, lon, strict=True)]
    day = np.unique(np.concatenate([_days(of_site) for of_site in here]))
    if not day.size:
        raise MetadataError(
            f"no raster contains any of the towers: rasters are within {_bounds(rasters)}, towers within "
            f"lat {min(lat):.2f} to {max(lat):.2f}, lon {min(lon):.2f} to {max(lon):.2f}"
        )
    ds = template(sites, day)
    patches = _read_lazily(here, lat, lon, max_quality)
    ds = ds.assign({name: array.copy(data=_align(patches, array, day)) for name, array in ds.items()})
    products = sorted({raster.product for of_site in here for raster in of_site})
    return conventions.apply(ds, history="xcarbon.open_modis", source=f"MODIS {', '.join(products)}")


def template(sites: xr.Dataset | xr.Coordinates, day: NDArray[np.datetime64]) -> xr.Dataset:
    """Create the lazy Dataset of :func:`open_modis` on ``day (day,)`` with missing values only.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> template(synthetic_towers(2), np.array(["2018-07-04"], "M8[D]"))["reflectance"].shape
    (2, 1, 7, 8, 8)
    """
    dims = ("site", "day", "band", "y", "x")
    of_site = {name: ("site", sites[name].values) for name in ("site", "lat", "lon")}
    x, y = patch_centre(sites["lat"].values, sites["lon"].values)
    ds = xr.Dataset(
        coords=patch_grid()
        | of_site
        | {"patch_x": ("site", x), "patch_y": ("site", y), "day": day.astype("M8[ns]")}
    )
    for name, missing in _MISSING.items():
        own = [dim for dim in dims if name == "reflectance" or dim != "band"]
        shape = [ds.sizes[dim] for dim in own]
        ds[name] = own, da.full(shape, missing, chunks=(1, *shape[1:]), dtype=missing.dtype)
    return conventions.apply(ds)


def _check_bands(rasters: list[Raster]) -> None:
    """Check that the bands suffice for days with at most ``MAX_FILL`` missing reflectances."""
    bands = sorted({layer for raster in rasters for layer in raster.layers.keys() & set(BANDS)})
    if 1 - len(bands) / len(BANDS) > MAX_FILL:
        raise FileFormatError(
            f"{rasters[0].path} and {len(rasters) - 1} other rasters contain only the bands {bands} of "
            f"{list(BANDS)}, but days with more than half of the reflectances missing are excluded; add "
            "files of the other bands"
        )


def _check_towers(sites: xr.Dataset | xr.Coordinates) -> tuple[list[float], list[float]]:
    """Return the latitudes and longitudes of towers after checking that all are valid."""
    if any(name not in sites or sites[name].dims != ("site",) for name in ("site", "lat", "lon")):
        raise MetadataError(
            "towers need the coordinates site, lat and lon along site; select one tower by "
            "ds.sel(site=['DE-Tha'])"
        )
    lat, lon = sites["lat"].values, sites["lon"].values
    wrong = ~((np.abs(lat) <= 90) & (np.abs(lon) <= 180))
    if wrong.any():
        site = sites["site"].values[wrong][0]
        raise MetadataError(
            f"{site}: latitude {lat[wrong][0]} and longitude {lon[wrong][0]} are missing or out of range"
        )
    return lat.tolist(), lon.tolist()


def _bounds(rasters: list[Raster]) -> str:
    """Describe the range of latitudes and longitudes of the corners of rasters."""
    areas = {raster.area for raster in rasters}
    per_degree = GRID_SHAPE[0] / 180
    rows = np.array([[[area.row], [area.row + area.height]] for area in areas])
    columns = np.array([[[area.column, area.column + area.width]] for area in areas])
    lat = 90 - rows / per_degree
    lon = np.clip((columns / per_degree - 180) / np.maximum(np.cos(np.radians(lat)), 1e-9), -180, 180)
    return f"lat {lat.min():.2f} to {lat.max():.2f}, lon {lon.min():.2f} to {lon.max():.2f}"


def _read_lazily(
    rasters: list[list[Raster]], lat: list[float], lon: list[float], max_quality: int
) -> da.Array:
    """Build the lazy array (site,) of :class:`Patches`, with one task per tower."""
    towers = np.fromiter(zip(rasters, lat, lon, strict=True), dtype=object)
    lazy = da.from_array(towers, chunks=1, name=False)  # hashing thousands of rasters would be slow
    return da.map_blocks(_read_block, lazy, max_quality=max_quality, dtype=object, meta=towers[:0])


def _read_block(block: NDArray[np.object_], max_quality: int) -> NDArray[np.object_]:
    """Read the patches of one tower."""
    return np.fromiter([read_patches(*block[0], max_quality=max_quality)], dtype=object)


def _align(patches: da.Array, array: xr.DataArray, day: NDArray[np.datetime64]) -> da.Array:
    """Build one variable of all towers on the common days, with the shape and chunks of ``array``."""
    return da.map_blocks(
        _align_block,
        patches,
        variable=str(array.name),
        day=day,
        token=f"{array.name}-{patches.name}",
        new_axis=list(range(1, array.ndim)),
        chunks=array.data.chunks,
        meta=array.data._meta,
    )


def _align_block(block: NDArray[np.object_], variable: str, day: NDArray[np.datetime64]) -> NDArray[Any]:
    """Copy one variable of one tower to the common days."""
    values = getattr(block[0], variable)
    aligned = np.full((1, day.size, *values.shape[1:]), _MISSING[variable])
    aligned[0, np.searchsorted(day, block[0].day)] = values
    return aligned
