"""Search for MODIS files in folders and STAC items."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from xcarbon.core.errors import FileFormatError
from xcarbon.core.extras import require
from xcarbon.io.modis.grid import TILE
from xcarbon.io.modis.names import PRODUCTS, Name, find_product, layer_of, parse_name
from xcarbon.io.modis.rasters import Area, Raster, open_rasters
from xcarbon.io.networks import walk

if TYPE_CHECKING:
    from pystac import Item

PathOrItem = Any  # a path or a pystac.Item; pystac is only imported for STAC items


def find_rasters(path_or_paths: PathOrItem | Iterable[PathOrItem]) -> list[Raster]:
    """Find the MODIS files that contain patches, opening as few headers as possible.

    Parameters
    ----------
    path_or_paths : path-like, pystac.Item, pystac.ItemCollection, or iterable of these
        Files, folders, STAC items or ``.json`` files of STAC items. Folders are searched recursively, and
        other files in them are skipped. The following files of MCD43A4, MCD43A2, MOD09A1 and MOD09GA are
        recognised:

        - GeoTIFF files with one layer, named by NASA
          (``MCD43A4.A2018185.h10v07.061.2018194033728_B01.TIF``, or with the name of the layer instead of
          ``B01``) or by AppEEARS (``MCD43A4.061_Nadir_Reflectance_Band1_doy2018185_aid0001.tif``),
        - NetCDF files with such names on the sinusoidal grid, with one day or a series of AppEEARS,
        - NetCDF files on ``(site, time, band, row, col)`` with subsets around sites from the service of
          ORNL,
        - HDF4-EOS files (``.hdf``), which need the extra ``modis``.

    Returns
    -------
    list of Raster
        Descriptions of the files without their pixels, which can be pickled and read in another process.

    Raises
    ------
    FileNotFoundError
        If a path does not exist or no MODIS file is found.
    FileFormatError
        If a recognised file is damaged or not on the sinusoidal grid of 500 m, or if a file that is passed
        by its own path is not recognised.

    Notes
    -----
    Only the first file of each tile and layer in a folder is opened. If it contains the whole tile, the
    other files are assumed to contain it too, which is checked when they are read.
    """
    single = isinstance(path_or_paths, str | os.PathLike) or hasattr(path_or_paths, "assets")
    sources = [path_or_paths] if single else list(path_or_paths)
    models: dict[Any, Raster] = {}
    found = [raster for source in sources for raster in _search(source, models)]
    if not found:
        raise FileNotFoundError(
            f"{list(map(str, sources))} contain no files of {list(PRODUCTS)}; check the paths and file names"
        )
    return list({(raster.path, raster.subset): raster for raster in found}.values())


def _search(source: PathOrItem, models: dict[Any, Raster]) -> Iterator[Raster]:
    """Find the rasters in a file, folder or STAC item; for ``models`` see :func:`scan_file`."""
    if hasattr(source, "assets"):
        found = _open_item(source, models)
    elif Path(source).is_dir():
        yield from (raster for path in walk(source) for raster in scan_file(str(path), models))
        return
    elif not Path(source).exists():
        raise FileNotFoundError(f"{source}: no such file or folder")
    elif Path(source).suffix == ".json":
        found = [raster for item in _read_items(str(source)) for raster in _open_item(item, models)]
    else:
        found = scan_file(os.fspath(source), models)
    if not found:
        raise FileFormatError(
            f"{source}: the file is not recognised as a layer of {list(PRODUCTS)}; files must keep the names "
            "they were downloaded with, such as MCD43A4.A2018185.h10v07.061.2018194033728.hdf"
        )
    yield from found


def scan_file(path: str, models: dict[Any, Raster]) -> list[Raster]:
    """Find the rasters in a file, none if it is not a MODIS file; ``models`` collects opened rasters."""
    return _open(path, parse_name(Path(path).name), models)


def _open(path: str, name: Name | None, models: dict[Any, Raster]) -> list[Raster]:
    """Open a file, unless a similar file in the same folder contains a whole tile."""
    if "://" not in path:
        path = os.path.abspath(path)  # a worker may run in another folder
    if name is None or name.tile is None or name.day is None or path.endswith(".nc"):
        return open_rasters(path, name)
    key = (os.path.dirname(path), name.product, name.tile, name.layer, name.rank[0], path[-4:])
    tile = Area(name.tile[1] * TILE, name.tile[0] * TILE, TILE, TILE)
    if key in models and models[key].area == tile:
        return [replace(models[key], path=path, days=np.array([name.day]), rank=name.rank)]
    found = open_rasters(path, name)
    models.update((key, raster) for raster in found)
    return found


def _read_items(path: str) -> list[Item]:
    """Read the items in a file with a STAC item or an item collection."""
    require("STAC catalogues", "modis", "pystac")
    import pystac

    try:
        if not pystac.ItemCollection.is_item_collection(pystac.StacIO.default().read_json(path)):
            return [pystac.Item.from_file(path)]
        items = list(pystac.ItemCollection.from_file(path))
    except (pystac.STACError, pystac.STACTypeError, ValueError, KeyError) as error:
        raise FileFormatError(
            f"{path}: the file is neither a STAC item nor an item collection ({error})"
        ) from error
    for item in items:
        if item.get_self_href() is None:
            item.set_self_href(path)  # relative asset paths start at the folder of the collection
    return items


def _open_item(item: Item, models: dict[Any, Raster]) -> list[Raster]:
    """Open the assets of a STAC item that are recognised by file name or key."""
    rasters = []
    for key, asset in item.assets.items():
        href = asset.get_absolute_href() or asset.href
        name = parse_name(Path(urlsplit(href).path).name) or _item_name(item)
        if name is not None:
            name = replace(name, layer=name.layer or layer_of(key))
            rasters += _open(href, name, models)
    return rasters


def _item_name(item: Item) -> Name | None:
    """Derive a file name from the id of an item, or else from its product and time."""
    time = item.datetime or item.common_metadata.start_datetime
    product = find_product(f"{item.id} {item.collection_id}")
    name = Name(product, np.datetime64(time.date(), "D")) if product and time else None
    return parse_name(item.id) or name
