"""MODIS products of 500 m, as they are downloaded, to satellite patches of towers.

From rasters upwards: those of a tower and their days, its patches in memory, and the lazy Dataset of many
towers. A patch is cut, not resampled: 8 by 8 pixels of the sinusoidal grid around the
corner of pixels that is nearest to the tower.
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
from xcarbon.io.modis.files import Source, find_rasters
from xcarbon.io.modis.grid import GRID_SHAPE, PATCH_PIXELS, PIXEL_SIZE, patch_centre, patch_grid
from xcarbon.io.modis.names import PRODUCTS
from xcarbon.io.modis.rasters import Area, Raster, read_window

BANDS = tuple(REFLECTANCE_BANDS)
#: Products with reflectances, best first.
REFLECTANCES = tuple(product for product in PRODUCTS if product != "MCD43A2")
#: Classes of ``BRDF_Albedo_LandWaterType`` that are water; 1 is land, 2 are shores.
WATER = (0, 3, 4, 5, 6, 7)
#: A day with a larger share of fill is left out.
MAX_FILL = 0.5
#: Value of what is missing in each variable, which also tells its type.
_MISSING: dict[str, np.generic] = {
    "reflectance": np.float32(np.nan),
    "snow": MISSING_FLAG,
    "water": MISSING_FLAG,
}


# The rasters and days of a tower


def by_area(rasters: Iterable[Raster]) -> dict[Area, list[Raster]]:
    """Group rasters, of which thousands may lie in one place.

    Parameters
    ----------
    rasters : iterable of Raster
        From :func:`find_rasters`.

    Returns
    -------
    dict of Area to list of Raster
    """
    areas = defaultdict(list)
    for raster in rasters:
        areas[raster.area].append(raster)
    return dict(areas)


def covering(areas: Mapping[Area, list[Raster]], lat: float, lon: float) -> list[Raster]:
    """Choose the rasters that overlap the patch of a tower; nothing is read.

    Parameters
    ----------
    areas : mapping of Area to list of Raster
        From :func:`by_area`.
    lat : float
        Latitude of the tower [degrees_north].
    lon : float
        Longitude of the tower [degrees_east].

    Returns
    -------
    list of Raster
    """
    window = _window(lat, lon)
    return [raster for area, rasters in areas.items() if area.overlap(window) for raster in rasters]


def patch_days(rasters: Iterable[Raster], lat: float, lon: float) -> NDArray[np.datetime64]:
    """List the days on which a tower may have a patch; nothing is read.

    Parameters
    ----------
    rasters : iterable of Raster
        From :func:`find_rasters`.
    lat : float
        Latitude of the tower [degrees_north].
    lon : float
        Longitude of the tower [degrees_east].

    Returns
    -------
    numpy.ndarray
        Sorted days [datetime64[D]] on which any raster with a band overlaps the patch.
    """
    return _days(covering(by_area(rasters), lat, lon))


def _days(rasters: list[Raster]) -> NDArray[np.datetime64]:
    """Days of rasters that have a band."""
    days = [raster.days for raster in rasters if not raster.layers.keys().isdisjoint(BANDS)]
    return np.unique(np.concatenate([np.empty(0, "M8[D]"), *days]))


def _window(lat: float, lon: float) -> Area:
    """Pixels of a tower's patch."""
    x, y = patch_centre(lat, lon)
    row = round(GRID_SHAPE[0] / 2 - float(y) / PIXEL_SIZE)
    column = round(GRID_SHAPE[1] / 2 + float(x) / PIXEL_SIZE)
    return Area(row - PATCH_PIXELS // 2, column - PATCH_PIXELS // 2, PATCH_PIXELS, PATCH_PIXELS)


# The patches of one tower


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """The patches of one tower.

    Attributes
    ----------
    day : numpy.ndarray
        Sorted days [datetime64[D]], shape ``(day,)``.
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
        From :func:`find_rasters`, of any place.
    lat : float
        Latitude of the tower [degrees_north].
    lon : float
        Longitude of the tower [degrees_east].
    max_quality : int
        Worst mandatory quality of MCD43A4 to keep: 0 are full BRDF inversions, 1 magnitude inversions.
    on_error : callable, optional
        Is told of a broken file, which is then left out.

    Returns
    -------
    Patches
        On the days of :func:`patch_days`.

    Raises
    ------
    FileFormatError
        If a file is broken, or is not what its header or its neighbours said, and there is no ``on_error``.

    Notes
    -----
    - A window that reaches over the edge of a tile is filled from all tiles that it touches.
    - Of several files of one product, day, layer and area the newest collection wins, then the latest
      production stamp; the others are not read. Files of different areas fill each other's gaps.
    - A day that has MCD43A4 is taken from MCD43A4, else from MOD09A1, else from MOD09GA.
    - Fill and values out of the valid range are missing. So are, where the layer is there, pixels of
      MCD43A4 whose mandatory quality is worse than ``max_quality``, and pixels of MOD09A1 and MOD09GA whose
      500 m state says cloudy, mixed or cloud shadow.
    - Snow and water are those of MCD43A2 on the day. Water is what is neither land nor shore; fill is land.
    - A day of whose reflectance more than half is missing is left out: all is missing, flags too.
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
    left_out = np.isnan(bands).mean(axis=(1, 2, 3)) > MAX_FILL
    bands[left_out] = flags[left_out] = np.nan
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
        assert overlap is not None  # the rasters cover the window
        rows, columns = overlap.within(window)
        values = read(granule, overlap)
        for name in layers & values.keys():
            here = (position[new[name]], names.index(name), rows, columns)
            target[here] = np.where(np.isnan(target[here]), values[name][known][new[name]], target[here])
            filled[area, name][position] = True


def _granules(rasters: list[Raster]) -> list[tuple[Area, NDArray[np.datetime64], Granule]]:
    """Join files of one production, area and day to the raster of each layer, best rank first."""
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
    """Read all layers of a granule, each ``(day, y, x)``, opening each file once; none of a broken one."""
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
    """Reflectances, without pixels of low quality or under clouds."""
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
    """Flags 0 and 1; snow is NaN where it is fill."""
    classes: dict[str, NDArray[Any]] = {}
    if "snow" in layers:
        classes["snow"] = np.where(np.isin(layers["snow"], (0, 1)), layers["snow"], np.float32(np.nan))
    if "water" in layers:
        classes["water"] = np.isin(layers["water"], WATER)
    return classes


# The Dataset of many towers


def open_modis(
    path_or_paths: Source | Iterable[Source],
    sites: xr.Dataset | xr.Coordinates,
    *,
    max_quality: int = 1,
) -> xr.Dataset:
    """Cut satellite patches around towers out of MODIS files, lazily.

    The headers of files are read at once, as few as possible; pixels are read when they are computed, all
    of a tower in one task.

    Parameters
    ----------
    path_or_paths : path-like, pystac.Item, pystac.ItemCollection, or iterable of these
        Files, folders or STAC items, see :func:`find_rasters`.
    sites : xarray.Dataset or xarray.Coordinates
        The towers, with ``lat`` [degrees_north] and ``lon`` [degrees_east] along ``site``.
    max_quality : int
        Worst mandatory quality of MCD43A4 to keep: 0 are full BRDF inversions, 1 magnitude inversions.

    Returns
    -------
    xarray.Dataset
        ``reflectance (site, day, band, y, x)`` float32 [1], ``snow`` and ``water (site, day, y, x)`` int8,
        -1 where missing, by the rules of :func:`read_patches`. Days are those on which any tower may have
        a patch; what a tower lacks is missing. ``x`` and ``y`` [m] count from the patch's centre at
        ``patch_x`` and ``patch_y`` (see :func:`xcarbon.io.modis.grid.georeference`). It is merged with the
        towers by ``towers.merge(patches)``.

    Raises
    ------
    FileNotFoundError
        If a path does not exist, or nothing is found.
    FileFormatError
        If a file is broken or not on the sinusoidal grid of 500 m (found when it is opened or computed),
        or if so few bands are there that more than half of every patch would be missing.
    MetadataError
        If a tower has no coordinates, or no tower lies on any raster.

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
            f"no raster covers any of the towers: rasters span {_bounds(rasters)}, towers "
            f"lat {min(lat):.2f} to {max(lat):.2f}, lon {min(lon):.2f} to {max(lon):.2f}"
        )
    ds = template(sites, day)
    patches = _read_lazily(here, lat, lon, max_quality)
    ds = ds.assign({name: array.copy(data=_align(patches, array, day)) for name, array in ds.items()})
    products = sorted({raster.product for of_site in here for raster in of_site})
    return conventions.apply(ds, history="xcarbon.open_modis", source=f"MODIS {', '.join(products)}")


def template(sites: xr.Dataset | xr.Coordinates, day: NDArray[np.datetime64]) -> xr.Dataset:
    """Give the Dataset of patches that are all missing, lazily.

    Parameters
    ----------
    sites : xarray.Dataset or xarray.Coordinates
        The towers, with ``lat`` [degrees_north] and ``lon`` [degrees_east] along ``site``.
    day : numpy.ndarray
        Days [datetime64[D]], shape ``(day,)``.

    Returns
    -------
    xarray.Dataset
        As from :func:`open_modis`; one chunk is one tower.

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
        of = [dim for dim in dims if name == "reflectance" or dim != "band"]
        shape = [ds.sizes[dim] for dim in of]
        ds[name] = of, da.full(shape, missing, chunks=(1, *shape[1:]), dtype=missing.dtype)
    return conventions.apply(ds)


def _check_bands(rasters: list[Raster]) -> None:
    """Make sure that days can be more than half there."""
    bands = sorted({layer for raster in rasters for layer in raster.layers.keys() & set(BANDS)})
    if 1 - len(bands) / len(BANDS) > MAX_FILL:
        raise FileFormatError(
            f"{rasters[0].path} and {len(rasters) - 1} others hold only bands {bands} of {list(BANDS)}; days "
            "of which more than half is missing are left out, which would be all: more bands are needed"
        )


def _check_towers(sites: xr.Dataset | xr.Coordinates) -> tuple[list[float], list[float]]:
    """Give latitudes and longitudes of towers, and make sure that all are there."""
    if any(name not in sites or sites[name].dims != ("site",) for name in ("site", "lat", "lon")):
        raise MetadataError("towers need coordinates site, lat and lon along site: ds.sel(site=['DE-Tha'])")
    lat, lon = sites["lat"].values, sites["lon"].values
    wrong = ~((np.abs(lat) <= 90) & (np.abs(lon) <= 180))
    if wrong.any():
        site = sites["site"].values[wrong][0]
        raise MetadataError(f"{site} has no place on the globe (lat {lat[wrong][0]}, lon {lon[wrong][0]})")
    return lat.tolist(), lon.tolist()


def _bounds(rasters: list[Raster]) -> str:
    """Say which latitudes and longitudes the corners of rasters span."""
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
    """Map one task over the rasters of each tower; an array (site,) of :class:`Patches`."""
    towers = np.fromiter(zip(rasters, lat, lon, strict=True), dtype=object)
    lazy = da.from_array(towers, chunks=1, name=False)  # thousands of rasters take long to hash
    return da.map_blocks(_read_block, lazy, max_quality=max_quality, dtype=object, meta=towers[:0])


def _read_block(block: NDArray[np.object_], max_quality: int) -> NDArray[np.object_]:
    """Read one tower."""
    return np.fromiter([read_patches(*block[0], max_quality=max_quality)], dtype=object)


def _align(patches: da.Array, array: xr.DataArray, day: NDArray[np.datetime64]) -> da.Array:
    """Lay one array of each tower on the days of all, lazily, in the form of ``array``."""
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
    """Lay one array of one tower on the days of all."""
    values = getattr(block[0], variable)
    aligned = np.full((1, day.size, *values.shape[1:]), _MISSING[variable])
    aligned[0, np.searchsorted(day, block[0].day)] = values
    return aligned
