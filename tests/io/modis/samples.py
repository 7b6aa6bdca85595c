"""Small MODIS files in the formats of the data portals, around the common corner of four tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import xarray as xr
from rasterio import Affine

from xcarbon.io.modis.grid import GRID_SHAPE, MODIS_RADIUS, PIXEL_SIZE
from xcarbon.io.modis.rasters import Area

#: Common corner of the tiles h10v07, h11v07, h10v08 and h11v08.
CORNER = (8 * 2400, 11 * 2400)
LAT = 90 - CORNER[0] / 240
LON = (CORNER[1] / 240 - 180) / np.cos(np.radians(LAT))
#: 24 by 24 pixels around this corner, and the patch of a tower there.
AROUND = Area(CORNER[0] - 12, CORNER[1] - 12, 24, 24)
PATCH = Area(CORNER[0] - 4, CORNER[1] - 4, 8, 8)

CRS = f"+proj=sinu +lon_0=0 +R={MODIS_RADIUS} +units=m"
FILL = 32767


def corner(area: Area) -> tuple[float, float]:
    """Easting and northing of the upper left corner [m]."""
    return (area.column - GRID_SHAPE[1] / 2) * PIXEL_SIZE, (GRID_SHAPE[0] / 2 - area.row) * PIXEL_SIZE


def counts(area: Area, band: int = 1) -> np.ndarray:
    """Packed reflectances that differ from pixel to pixel and from band to band."""
    rows = np.arange(area.row, area.row + area.height)[:, np.newaxis] % 100
    columns = np.arange(area.column, area.column + area.width) % 100
    return (1000 * band + 10 * rows % 490 + columns % 9).astype("int16")


def patch_counts() -> np.ndarray:
    """Packed reflectances of all bands in the patch, (band, y, x)."""
    return np.stack([counts(PATCH, band) for band in range(1, 8)])


def write_geotiff(path: Path, area: Area, values: Any, crs: str = CRS, **grid: float) -> Path:
    """Write one layer; ``grid`` changes the transform."""
    west, north = corner(area)
    step = grid.get("step", PIXEL_SIZE)
    transform = Affine(step, 0, west + grid.get("shift", 0.0), 0, -step, north)
    data = np.broadcast_to(values, (area.height, area.width))
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"width": area.width, "height": area.height, "count": 1, "dtype": data.dtype}
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, **profile) as file:
        file.write(data, 1)
    return path


def name(
    layer: str = "B01",
    product: str = "MCD43A4",
    day: str = "2018185",
    tile: str = "h10v07",
    collection: str = "061",
    stamp: str = "2018194033728",
) -> str:
    """File name of a GeoTIFF from NASA."""
    return f"{product}.A{day}.{tile}.{collection}.{stamp}_{layer}.tif"


def write_bands(folder: Path, area: Area = AROUND, values: Any = None, **names: str) -> Path:
    """Write seven bands; the default values are those of :func:`counts`."""
    for band in range(1, 8):
        path = folder / name(f"Nadir_Reflectance_Band{band}", **names)
        write_geotiff(path, area, counts(area, band) if values is None else values)
    return folder


def write_netcdf(
    path: Path,
    layers: dict[str, np.ndarray],
    *,
    area: Area = AROUND,
    days: Any = None,
    dims: Any = ("y", "x"),
) -> Path:
    """Write layers with a grid mapping; with days, a series in the Julian calendar of AppEEARS."""
    west, north = corner(area)
    series = () if days is None else ("time",)
    variables: dict[str, Any] = {
        key: ((*series, *dims), values, {"grid_mapping": "crs"}) for key, values in layers.items()
    }
    sphere = {"grid_mapping_name": "sinusoidal", "longitude_of_projection_origin": 0.0}
    variables["crs"] = (
        (),
        np.int8(0),
        sphere | {"semi_major_axis": MODIS_RADIUS, "semi_minor_axis": MODIS_RADIUS},
    )
    ds = xr.Dataset(
        variables,
        coords={
            dims[0]: north - (np.arange(area.height) + 0.5) * PIXEL_SIZE,
            dims[1]: west + (np.arange(area.width) + 0.5) * PIXEL_SIZE,
        },
    )
    if days is not None:
        since = {"units": "days since 2000-01-01 00:00:00", "calendar": "julian"}
        counted = (np.array(days, "M8[D]") - np.datetime64("2000-01-01")).astype(int)
        ds = ds.assign_coords(time=("time", counted, since))
    ds.to_netcdf(path)
    return path


def write_hdf4(path: Path, layers: dict[str, np.ndarray], area: Area = AROUND, **attributes: Any) -> Path:
    """Write an HDF4-EOS file with one grid."""
    from pyhdf.SD import SD, SDC

    types = {"int16": SDC.INT16, "uint8": SDC.UINT8, "uint16": SDC.UINT16}
    file = SD(str(path), SDC.WRITE | SDC.CREATE)
    for key, values in layers.items():
        layer = file.create(key, types[str(values.dtype)], values.shape)
        layer[:] = values
        for attribute, value in attributes.items():
            setattr(layer, attribute, value)
        layer.endaccess()
    (west, north), (east, south) = (
        corner(area),
        corner(Area(area.row + area.height, area.column + area.width, 0, 0)),
    )
    fields = "\n".join(f'\t\t\tDataFieldName="{key}"' for key in layers)
    setattr(
        file,
        "StructMetadata.0",
        'GROUP=GridStructure\n\tGROUP=GRID_1\n\t\tGridName="MOD_Grid_BRDF"\n'
        f"\t\tXDim={area.width}\n\t\tYDim={area.height}\n"
        f"\t\tUpperLeftPointMtrs=({west:.6f},{north:.6f})\n\t\tLowerRightMtrs=({east:.6f},{south:.6f})\n"
        "\t\tProjection=GCTP_SNSOID\n\t\tProjParams=(6371007.181000,0,0,0,0,0,0,0,0,0,0,0,0)\n"
        f"{fields}\n\tEND_GROUP=GRID_1\nEND_GROUP=GridStructure\nEND\n",
    )
    file.end()
    return path
