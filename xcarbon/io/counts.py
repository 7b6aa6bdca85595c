"""The numbers of values in a store, which are recorded when it is written.

A file of a Zarr array that was lost reads as missing values, without an error. The array ``counts/valid
(site, variable)`` of a store therefore contains the number of values that differ from the fill value: NaN, -1
for flags, 0 for other numbers. It lies in a group of its own, so that Datasets do not contain it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.storage import StoreLike

from xcarbon.core.conventions import MISSING_FLAG

#: Zarr array of the numbers; its attribute ``variables`` names the columns.
COUNTS = "counts/valid"
_UNKNOWN = -1


def create(ds: xr.Dataset, store: StoreLike) -> None:
    """Add the array to the template of a store of towers; no number is known yet."""
    names = [str(name) for name, array in ds.data_vars.items() if "site" in array.dims]
    if names:
        zarr.create_array(
            store,
            name=COUNTS,
            shape=(ds.sizes["site"], len(names)),
            chunks=(1, len(names)),
            dtype="int64",
            fill_value=_UNKNOWN,
            attributes={"variables": names},
        )


def record(
    arrays: Mapping[Hashable, tuple[tuple[Hashable, ...], NDArray[Any]]], store: StoreLike, sites: slice
) -> None:
    """Write the numbers of values of whole sites; variables that are not in ``arrays`` have none.

    Nothing is written if the store does not have the array.
    """
    try:
        counts = zarr.open_array(store, path=COUNTS, mode="r+")
    except FileNotFoundError:
        return
    names = _variables(counts)
    rows = np.zeros((sites.stop - sites.start, len(names)), "int64")
    for name, (dims, values) in arrays.items():
        if "site" in dims:
            others = tuple(axis for axis, dim in enumerate(dims) if dim != "site")
            rows[:, names.index(str(name))] = np.count_nonzero(_is_value(values), axis=others)
    counts[sites] = rows


def recorded(store: StoreLike) -> dict[str, dict[str, int]] | None:
    """Read the number of values of each variable at each site; None if the store has no such array.

    The dict of a site is empty if its numbers are unknown.
    """
    try:
        counts = zarr.open_array(store, path=COUNTS, mode="r")
    except FileNotFoundError:
        return None
    names, rows = _variables(counts), np.asarray(counts[:]).tolist()
    return {
        site: {} if _UNKNOWN in row else dict(zip(names, row, strict=True))
        for site, row in zip(sites(store), rows, strict=True)
    }


def sites(store: StoreLike) -> list[str]:
    """Read the names of the sites of a store; none if it has no array ``site``."""
    try:
        names: Any = zarr.open_array(store, path="site", mode="r")[:]
    except FileNotFoundError:
        return []
    return list(map(str, names))


def copy(source: StoreLike, index: int, target: StoreLike, target_index: int) -> None:
    """Copy the numbers of one site to another store with the same variables."""
    try:
        row = zarr.open_array(source, path=COUNTS, mode="r")[index]
        zarr.open_array(target, path=COUNTS, mode="r+")[target_index] = row
    except FileNotFoundError:
        return


def count(array: zarr.Array[Any], site: int) -> int:
    """Count the values of one site in an array of a store."""
    metadata: Any = array.metadata
    axis = metadata.dimension_names.index("site")
    values = np.asarray(array[(slice(None),) * axis + (site,)])
    if values.dtype.kind == "f" and np.isnan(array.fill_value):
        return int(np.count_nonzero(~np.isnan(values)))
    return int(np.count_nonzero(values != array.fill_value))


def _variables(counts: zarr.Array[Any]) -> list[str]:
    """Return the names of the columns."""
    names: Any = counts.attrs["variables"]
    return list(names)


def _is_value(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where values differ from the fill value with which a store is written."""
    if values.dtype.kind in "fmM":
        return ~np.isnan(values)
    return values != MISSING_FLAG if values.dtype.kind == "i" else values.astype(bool)
