"""The search for MODIS files in folders and STAC items."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from xcarbon.core.errors import FileFormatError
from xcarbon.io.modis.names import PRODUCTS, Name, find_product, layer_of, parse_name
from xcarbon.io.modis.rasters import Area, Raster, open_rasters

if TYPE_CHECKING:
    from pystac import Item

Source = Any  # a path, or a pystac.Item: pystac is imported where it is needed

#: Pixels along a tile ``hXXvYY``.
TILE = 2400


def find_rasters(path_or_paths: Source | Iterable[Source]) -> list[Raster]:
    """Find the files that patches can be cut from, opening as few headers as possible.

    Parameters
    ----------
    path_or_paths : path-like, pystac.Item, pystac.ItemCollection, or iterable of these
        Files, folders (searched recursively, files that are not recognised are passed over), STAC items
        or ``.json`` files of STAC items. Recognised are MCD43A4, MCD43A2, MOD09A1 and MOD09GA as

        - GeoTIFF of one layer named by NASA (``MCD43A4.A2018185.h10v07.061.2018194033728_B01.TIF``, or with
          the name of the layer in place of ``B01``) or by AppEEARS
          (``MCD43A4.061_Nadir_Reflectance_Band1_doy2018185_aid0001.tif``),
        - NetCDF on the sinusoidal grid with such a name, a day's or the whole series of AppEEARS,
        - NetCDF of subsets around sites on ``(site, time, band, row, col)`` as ORNL's service cuts them,
        - HDF4-EOS (``.hdf``), with the extra ``modis``.

    Returns
    -------
    list of Raster
        Without the pixels; picklable, to be read in another process.

    Raises
    ------
    FileNotFoundError
        If a path does not exist, or nothing is found.
    FileFormatError
        If a file that is recognised is broken or not on the sinusoidal grid of 500 m, or one that is
        named is not recognised.

    Notes
    -----
    The first file of a tile and layer in a folder is opened. If it is the whole tile, so are taken to be
    the others, which are checked when they are read.
    """
    single = isinstance(path_or_paths, str | os.PathLike) or hasattr(path_or_paths, "assets")
    sources = [path_or_paths] if single else list(path_or_paths)
    models: dict[Any, Raster] = {}
    found = [raster for source in sources for raster in _search(source, models)]
    if not found:
        raise FileNotFoundError(f"there are no files of {list(PRODUCTS)} in {list(map(str, sources))}")
    return list({(raster.path, raster.subset): raster for raster in found}.values())


def _search(source: Source, models: dict[Any, Raster]) -> Iterator[Raster]:
    """Find the rasters of a file, folder or STAC item; ``models`` are those that others are like."""
    if hasattr(source, "assets"):
        found = _open_item(source, models)
    elif Path(source).is_dir():
        files = sorted(path for path in Path(source).rglob("*") if path.is_file())
        yield from (raster for path in files for raster in _open(str(path), parse_name(path.name), models))
        return
    elif not Path(source).exists():
        raise FileNotFoundError(f"{source}: no such file or folder")
    elif Path(source).suffix == ".json":
        found = [raster for item in _read_items(str(source)) for raster in _open_item(item, models)]
    else:
        found = _open(os.fspath(source), parse_name(Path(source).name), models)
    if not found:
        raise FileFormatError(
            f"{source}: not recognised as a layer of {list(PRODUCTS)}; files must have the names they were "
            "downloaded with, such as MCD43A4.A2018185.h10v07.061.2018194033728.hdf"
        )
    yield from found


def scan_file(path: str, models: dict[Any, Raster]) -> list[Raster]:
    """Find the rasters in one of many files.

    Parameters
    ----------
    path : str
        Any file.
    models : dict
        What was learned of the files before; it is filled as files are scanned.

    Returns
    -------
    list of Raster
        Empty for what is no file of MODIS.

    Raises
    ------
    FileFormatError
        If a file that is recognised is broken or not on the sinusoidal grid of 500 m.
    """
    return _open(path, parse_name(Path(path).name), models)


def _open(path: str, name: Name | None, models: dict[Any, Raster]) -> list[Raster]:
    """Open a file, unless one like it in the same folder was a whole tile."""
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
    """Read a STAC item or a collection of items."""
    import pystac

    try:
        if not pystac.ItemCollection.is_item_collection(pystac.StacIO.default().read_json(path)):
            return [pystac.Item.from_file(path)]
        items = list(pystac.ItemCollection.from_file(path))
    except (pystac.STACError, pystac.STACTypeError, ValueError, KeyError) as error:
        raise FileFormatError(f"{path}: neither a STAC item nor an item collection ({error})") from error
    for item in items:
        if item.get_self_href() is None:
            item.set_self_href(path)  # assets without a folder lie beside the collection
    return items


def _open_item(item: Item, models: dict[Any, Raster]) -> list[Raster]:
    """Open the assets of a STAC item that are recognised by their file name or their key."""
    rasters = []
    for key, asset in item.assets.items():
        href = asset.get_absolute_href() or asset.href
        name = parse_name(Path(urlsplit(href).path).name) or _item_name(item)
        if name is not None:
            name = replace(name, layer=name.layer or layer_of(key))
            rasters += _open(href, name, models)
    return rasters


def _item_name(item: Item) -> Name | None:
    """What an item says in place of a file name: its id, or its product and time."""
    time = item.datetime or item.common_metadata.start_datetime
    product = find_product(f"{item.id} {item.collection_id}")
    told = Name(product, np.datetime64(time.date(), "D")) if product and time else None
    return parse_name(item.id) or told
