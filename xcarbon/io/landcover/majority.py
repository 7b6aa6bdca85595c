"""The class that covers the largest part of the land of each cell of a grid: kernels and Dask graph."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core.errors import MetadataError
from xcarbon.io.landcover.legends import CODES, MISSING, NAMES, WATER
from xcarbon.prep.cells import cell_edges, unwrap

Edges = tuple[NDArray[np.float64], NDArray[np.float64]]
#: Number of pixels in a block of the aggregation, and its largest number of cells.
_PIXELS, _CELLS = 2**21, 2**16


def aggregate(
    codes: da.Array, lat: NDArray[Any], lon: NDArray[Any], like: xr.Dataset | xr.DataArray, where: str
) -> tuple[da.Array, da.Array]:
    """Return the class and the fraction of land of each cell; a task computes a block of cells.

    A MetadataError is raised if no cell lies on the map, named ``where``.
    """
    lat, lon = lat.astype(float), unwrap(lon)
    down, left = (-1 if axis.size > 1 and axis[1] < axis[0] else 1 for axis in (lat, lon))
    codes = codes[::down, ::left]
    pixels = _edges(lat[::down], lon[::left])
    cells = _edges(like["lat"].values.astype(float), unwrap(like["lon"].values))
    rows, columns = (_match(cells[axis], pixels[axis], axis == 0) for axis in (0, 1))
    if not (rows.on_map.any() and columns.on_map.any()):
        (south, north), (west, east) = ((lower.min(), upper.max()) for lower, upper in pixels)
        raise MetadataError(
            f"{where} covers {south:g} to {north:g} degrees north and {west:g} to {east:g} degrees east, but "
            f"like begins at {float(like['lat'][0]):g} degrees north and {float(like['lon'][0]):g} degrees "
            "east: they have no cell in common"
        )
    per_cell = rows.pixels_per_cell * columns.pixels_per_cell
    side = max(1, math.isqrt(int(min(_CELLS, _PIXELS / per_cell))))
    blocks = []
    for cells_y in _slices(rows.lower.size, side):
        wanted, overlap = rows.overlap(cells_y)
        stripe = codes[wanted]
        blocks.append([_block(stripe, overlap, columns, x) for x in _slices(columns.lower.size, side)])
    both = da.block(blocks)
    return look_up(both[0], NAMES), both[1]


def _slices(size: int, side: int) -> list[slice]:
    return [slice(start, min(start + side, size)) for start in range(0, size, side)]


def _edges(lat: NDArray[Any], lon: NDArray[Any]) -> tuple[Edges, Edges]:
    """Lower and upper edges of cells, halfway between centres in any order."""
    rows, columns = (
        (np.minimum(ends[1:], ends[:-1]), np.maximum(ends[1:], ends[:-1])) for ends in cell_edges(lat, lon)
    )
    return rows, columns


def _match(cells: Edges, pixels: Edges, is_latitude: bool) -> _Matched:
    """Find the pixels of each cell; ``pixels`` ascend, and repeat every 360 degrees along longitude."""
    (lower, upper), (pixel_lower, pixel_upper) = cells, pixels
    if is_latitude:
        lower, upper, pixel_lower, pixel_upper = (
            edge.clip(-90, 90) for edge in (lower, upper, pixel_lower, pixel_upper)
        )
    else:
        turns = range(
            math.floor((lower.min() - pixel_upper.max()) / 360),
            math.ceil((upper.max() - pixel_lower.min()) / 360) + 1,
        )
        pixel_lower, pixel_upper = (
            np.concatenate([edge + 360 * turn for turn in turns]) for edge in (pixel_lower, pixel_upper)
        )
    # Slivers of a thousandth result from the rounding of coordinates.
    slack = 1e-3 * min((upper - lower).min(), (pixel_upper - pixel_lower).min())
    first = np.searchsorted(pixel_upper, lower + slack, "right")
    last = np.maximum(np.searchsorted(pixel_lower, upper - slack, "left"), first)
    return _Matched(lower, upper, pixel_lower, pixel_upper, first, last, is_latitude)


@dataclass(frozen=True)
class _Matched:
    """Cells and pixels of one axis [degrees], and the first and last pixel (exclusive) of each cell."""

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    pixel_lower: NDArray[np.float64]
    pixel_upper: NDArray[np.float64]
    first: NDArray[np.intp]
    last: NDArray[np.intp]
    is_latitude: bool

    @property
    def on_map(self) -> NDArray[np.bool_]:
        """Return whether each cell overlaps a pixel."""
        return self.last > self.first

    @property
    def pixels_per_cell(self) -> float:
        return max(1.0, float((self.last - self.first).mean()))

    def overlap(self, cells: slice) -> tuple[slice, _Overlap]:
        """Return the range of pixels that some cells need, and the overlaps in this range."""
        first, last = self.first[cells], self.last[cells]
        counts = last - first
        cell = np.repeat(np.arange(counts.size), counts)
        # Positions from first to last of one cell after the other.
        pixel = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[cell]
        lower = np.maximum(self.lower[cells][cell], self.pixel_lower[pixel])
        upper = np.minimum(self.upper[cells][cell], self.pixel_upper[pixel])
        if self.is_latitude:
            weight = np.sin(np.radians(upper)) - np.sin(np.radians(lower))
        else:
            weight = upper - lower
        start, stop = (int(pixel.min()), int(pixel.max()) + 1) if pixel.size else (0, 0)
        return slice(start, stop), _Overlap(pixel - start, cell, np.maximum(weight, 0), counts.size)


@dataclass(frozen=True)
class _Overlap:
    """Pixels that overlap the cells along one axis: position, cell, and length or area of the overlap."""

    pixel: NDArray[np.intp]
    cell: NDArray[np.intp]
    weight: NDArray[np.float64]
    cells: int


def _block(stripe: da.Array, rows: _Overlap, columns: _Matched, x: slice) -> da.Array:
    """Return the class and the fraction of land of a block of cells, ``(2, cells, cells)``."""
    wanted, overlap = columns.overlap(x)
    shape = (2, rows.cells, overlap.cells)
    if not rows.pixel.size or not overlap.pixel.size:  # beyond the map
        nothing = np.broadcast_to(np.array([MISSING, np.nan], np.float32)[:, None, None], shape)
        return da.from_array(nothing, chunks=shape)
    pixels = _columns(stripe, wanted).rechunk(-1)
    return da.map_blocks(
        functools.partial(_largest, rows=rows, columns=overlap),
        pixels,
        new_axis=0,
        chunks=tuple((size,) for size in shape),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )


def _columns(codes: da.Array, wanted: slice) -> da.Array:
    """Select columns of a map that repeats every 360 degrees."""
    size, parts, start = codes.shape[1], [], wanted.start
    while start < wanted.stop:
        stop = min(wanted.stop, start - start % size + size)
        parts.append(codes[:, start % size : start % size + stop - start])
        start = stop
    return da.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]


def _largest(codes: NDArray[np.uint8], rows: _Overlap, columns: _Overlap) -> NDArray[np.float32]:
    """Largest class of land and share of land, ``(pixels, pixels) -> (2, cells, cells)``."""
    shape = (rows.cells, columns.cells, CODES)
    area = np.zeros(math.prod(shape))
    step = max(1, _PIXELS // max(1, columns.pixel.size))
    for start in range(0, rows.pixel.size, step):
        part = slice(start, start + step)
        cell = rows.cell[part, np.newaxis] * columns.cells + columns.cell
        flat = cell * CODES + codes[np.ix_(rows.pixel[part], columns.pixel)]
        weight = rows.weight[part, np.newaxis] * columns.weight
        area += np.bincount(flat.ravel(), weight.ravel(), area.size)
    by_code = area.reshape(shape)
    classes = by_code[..., 1:MISSING]
    land = classes.sum(axis=-1)
    known = land + by_code[..., WATER]
    with np.errstate(invalid="ignore"):
        # Rounded, so that classes with equal areas are equal in spite of rounding errors.
        largest = 1 + np.round(classes / land[..., np.newaxis], 9).argmax(axis=-1)
        fraction = land / known
    largest = np.where(land > 0, largest, np.where(known > 0, WATER, MISSING))
    return np.stack([largest, fraction]).astype(np.float32)


def look_up(codes: da.Array, table: NDArray[Any]) -> da.Array:
    """Look up each code in a table, lazily."""
    return da.map_blocks(_look_up, codes, table, dtype=table.dtype)


def _look_up(codes: NDArray[Any], table: NDArray[Any]) -> NDArray[Any]:
    return table[codes.astype(np.intp)]
