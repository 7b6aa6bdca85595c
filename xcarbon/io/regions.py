"""Write a lazy Dataset to a Zarr store: first a template, then one region after the other.

The template is the whole store without values: metadata and coordinates. A region is one block of the
Dataset, for example one tower, and is written by one task, on threads or on the connected Dask cluster.
Regions must consist of whole files (Zarr chunks or shards), so that no two tasks write to the same file.
"""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.array.core import slices_from_chunks
from dask.callbacks import Callback
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray
from tqdm.auto import tqdm
from zarr.abc.store import Store
from zarr.codecs import ZstdCodec
from zarr.storage import StoreLike

from xcarbon.core.options import OPTIONS, progress_bar
from xcarbon.core.workers import connected_client, finished_threads, naming_task
from xcarbon.io import counts
from xcarbon.io.drafts import BranchTarget, Draft, FolderTarget, Part, drafting
from xcarbon.io.location import Location

Arrays = Mapping[Hashable, tuple[tuple[Hashable, ...], NDArray[Any]]]


def in_regions(ds: xr.Dataset, chunks: Mapping[Any, int], along: set[str]) -> xr.Dataset:
    """Chunk variables with all dimensions ``along`` into regions; load the others and the coordinates."""
    shared = [name for name, array in ds.data_vars.items() if not along <= set(array.dims)]
    coords = ds.coords.to_dataset().compute().coords  # a coordinate stays one chunk, one file
    return ds.chunk(chunks).assign(ds[shared].compute().data_vars).assign_coords(coords)


def write_template(ds: xr.Dataset, store: StoreLike) -> None:
    """Write metadata, coordinates and variables in memory; variables on Dask are not computed."""
    # One task instead of one per region: encoding a graph of thousands that never run takes minutes.
    zeros = cache(partial(da.zeros, chunks=-1))
    empty = {}
    for name, array in ds.data_vars.items():
        if array.chunks:
            # The encoding sets chunks and shards; by default a file holds one Dask chunk.
            encoding = {"chunks": tuple(sizes[0] for sizes in array.chunks)} | array.encoding
            values = zeros(array.shape, dtype=array.dtype)
            empty[name] = xr.Variable(array.dims, values, array.attrs, encoding)
    template = ds.assign(empty).copy()
    for variable in template.variables.values():
        # By default only the index of a shard has a checksum, and a damaged chunk may read as other values.
        variable.encoding = {"compressors": (ZstdCodec(checksum=True),)} | variable.encoding
    with warnings.catch_warnings():
        # Zarr has not standardised strings yet, nor the index that opens a store in one read.
        warnings.filterwarnings("ignore", message=".*does not have a Zarr V3 specification.*")
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part.*")
        # Icechunk keeps all metadata in one object anyway.
        indexed = not isinstance(store, Store)
        # Unlike to_zarr, this builds no graph to store the values on Dask.
        target = xr.backends.ZarrStore.open_group(
            store, mode="w", zarr_format=3, consolidate_on_close=indexed, safe_chunks=False
        )
        template.dump_to_store(target)
    counts.create(ds, store)


def write_region(arrays: Arrays, store: StoreLike, region: Mapping[Hashable, slice]) -> None:
    """Write dims and values of variables into the part of a store that ``region`` selects by dimension."""
    # Attributes and coordinates are in the template; writing them here would be a race.
    values = xr.Dataset(arrays)
    whole = {str(dim): region.get(dim, slice(0, size)) for dim, size in values.sizes.items()}
    values.to_zarr(store, mode="r+", region=whole)
    if "site" in region:
        counts.record(arrays, store, region["site"])


def write_regions(ds: xr.Dataset, draft: Draft, what: str) -> None:
    """Compute and write all regions, except those that the draft has already."""
    tasks = list(_tasks(ds, draft))
    client = connected_client()
    if client is None:
        with progress_bar(what), finished_threads() as settings, _Adding(draft):
            dask.compute(*(task for _, task in tasks), **settings)
    else:
        _compute_on(client, tasks, draft, what)


class _Adding(Callback):
    """Add the parts to a draft that tasks on the scheduler of this process return."""

    def __init__(self, draft: Draft) -> None:
        super().__init__()
        self._draft = draft

    def _posttask(self, key: Any, result: Any, *state: Any) -> None:
        if isinstance(result, Part):
            self._draft.add(result)


def _tasks(ds: xr.Dataset, draft: Draft) -> Iterator[tuple[str, Delayed]]:
    """Name and task of each region that is not complete; all tasks share one optimised graph."""
    (ds,) = dask.optimize(ds[[name for name, array in ds.data_vars.items() if array.chunks]])
    dims = {name: array.dims for name, array in ds.data_vars.items()}
    sizes, marks, layer_name = ds.chunksizes, draft.marks, f"write-{secrets.token_hex(8)}"
    layer: dict[Any, Any] = {}
    places: dict[Any, dict[Hashable, slice]] = {}
    regions = slices_from_chunks(tuple(sizes.values()))
    for place, region in zip(np.ndindex(*map(len, sizes.values())), regions, strict=True):
        mark = "-".join(map(str, place))
        if mark in marks:
            continue
        position = dict(zip(sizes, place, strict=True))
        blocks = [(array.data.name, *(position[dim] for dim in array.dims)) for array in ds.values()]
        part = dict(zip(sizes, region, strict=True))
        layer[(layer_name, *place)] = (_write, dims, blocks, draft.target, part, mark)
        places[(layer_name, *place)] = part
    # One layer for all regions: a layer for each would be merged with the whole graph once for each region.
    arrays: Any = [array.data for array in ds.values()]
    graph = HighLevelGraph.from_collections(layer_name, layer, dependencies=arrays)
    for key, part in places.items():
        yield _name(ds, part), Delayed(key, graph, layer=layer_name)


def _name(ds: xr.Dataset, region: Mapping[Hashable, slice]) -> str:
    """Labels of a region along the dims that are divided, for example ``site DE-Tha``."""
    names = []
    for dim, part in region.items():
        labels = ds[dim].values[part]
        if dim == "site" or len(labels) < ds.sizes[dim]:
            last = f" to {labels[-1]}" if len(labels) > 1 else ""
            names.append(f"{dim} {labels[0]}{last}")
    return ", ".join(names) or "the whole Dataset"


def _write(
    dims: Mapping[Hashable, tuple[Hashable, ...]],
    blocks: Sequence[NDArray[Any]],
    target: FolderTarget | BranchTarget,
    region: dict[Hashable, slice],
    mark: str,
) -> Part | None:
    arrays = dict(zip(dims, zip(dims.values(), blocks, strict=True), strict=True))
    return target.write(mark, lambda store: write_region(arrays, store, region))


def _compute_on(client: Any, tasks: list[tuple[str, Delayed]], draft: Draft, what: str) -> None:
    """Compute all named tasks on a cluster, and show progress."""
    from dask.distributed import as_completed

    futures = client.compute([task for _, task in tasks])
    names = {future.key: name for future, (name, _) in zip(futures, tasks, strict=True)}
    done = as_completed(futures)
    try:
        for future in tqdm(done, what, len(tasks), unit="region", disable=not OPTIONS["progress"]):
            with naming_task(names[future.key]):
                part = future.result()
            draft.add(part)
    finally:
        if client.status == "running":  # otherwise the scheduler has stopped, and nothing is left to cancel
            client.cancel(futures)


def write_store(ds: xr.Dataset, location: Location) -> None:
    """Write template and regions to a draft, and replace the store when it is complete."""
    template, key = partial(write_template, ds), secrets.token_hex(4)
    with drafting(location, "writing", key, template, ds.nbytes, keep=False) as draft:
        write_regions(ds, draft, "writing")
        draft.publish()
        draft.remove()
