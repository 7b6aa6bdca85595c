"""Write a lazy Dataset to a Zarr store: first a template, then one region after the other.

The template is the whole store without values: metadata and coordinates. A region is one block of the
Dataset, for example one tower, and is written by one task, on threads or on the connected Dask cluster.
Regions must consist of whole files (Zarr chunks or shards), so that no two tasks write to the same file.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.array.core import slices_from_chunks
from dask.delayed import Delayed, delayed
from numpy.typing import NDArray
from tqdm.auto import tqdm
from zarr.codecs import ZstdCodec

from xcarbon.core.atomic import naming_full_disk, replacing
from xcarbon.core.options import OPTIONS, progress_bar
from xcarbon.core.workers import connected_client, finished_threads
from xcarbon.io import counts

Arrays = Mapping[Hashable, tuple[tuple[Hashable, ...], NDArray[Any]]]


def in_regions(ds: xr.Dataset, chunks: Mapping[Any, int], along: set[str]) -> xr.Dataset:
    """Chunk variables with all dimensions ``along`` into regions; load the others and the coordinates."""
    shared = [name for name, array in ds.data_vars.items() if not along <= set(array.dims)]
    coords = ds.coords.to_dataset().compute().coords  # a coordinate stays one chunk, one file
    return ds.chunk(chunks).assign(ds[shared].compute().data_vars).assign_coords(coords)


def write_template(ds: xr.Dataset, store: Path) -> None:
    """Write metadata, coordinates and variables in memory; variables on Dask are not computed."""
    empty = {}
    for name, array in ds.data_vars.items():
        if array.chunks:
            # One task instead of one per region: the graph of thousands that never run takes minutes.
            # The encoding sets chunks and shards; by default a file holds one Dask chunk.
            empty[name] = array.copy(data=da.zeros_like(array.data, chunks=-1))
            chunks = tuple(sizes[0] for sizes in array.chunks)
            empty[name].encoding = {"chunks": chunks} | array.encoding
    template = ds.assign(empty).copy()
    for variable in template.variables.values():
        # By default only the index of a shard has a checksum, and a damaged chunk may read as other values.
        variable.encoding = {"compressors": (ZstdCodec(checksum=True),)} | variable.encoding
    with warnings.catch_warnings():
        # Zarr has not standardised strings yet, nor the index that opens a store in one read.
        warnings.filterwarnings("ignore", message=".*does not have a Zarr V3 specification.*")
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part.*")
        template.to_zarr(store, mode="w", zarr_format=3, consolidated=True, compute=False)
    counts.create(ds, store)


def write_region(arrays: Arrays, store: Path, region: Mapping[Hashable, slice]) -> None:
    """Write dims and values of variables into the part of a store that ``region`` selects by dimension."""
    # Attributes and coordinates are in the template; writing them here would be a race.
    values = xr.Dataset(arrays)
    whole = {str(dim): region.get(dim, slice(0, size)) for dim, size in values.sizes.items()}
    values.to_zarr(store, mode="r+", region=whole)
    if counts.are_recorded(store):
        counts.record(arrays, store, region["site"])


def write_regions(ds: xr.Dataset, store: Path, what: str, done: Path | None = None) -> None:
    """Compute and write all regions, except those that the folder ``done`` marks as complete."""
    tasks = list(_tasks(ds, store, done))
    client = connected_client()
    if client is None:
        with progress_bar(what), finished_threads() as settings:
            dask.compute(*tasks, **settings)
    else:
        _compute_on(client, tasks, what)
    remove_partial_files(store)


def _tasks(ds: xr.Dataset, store: Path, done: Path | None) -> Iterator[Delayed]:
    """One task for each region that is not complete; all share one optimised graph."""
    (ds,) = dask.optimize(ds[[name for name, array in ds.data_vars.items() if array.chunks]])
    blocks = {name: (array.dims, array.data.to_delayed(optimize_graph=False)) for name, array in ds.items()}
    sizes = ds.chunksizes
    places = np.ndindex(*map(len, sizes.values()))
    write = delayed(_write_and_mark, pure=False)
    for place, region in zip(places, slices_from_chunks(tuple(sizes.values())), strict=True):
        position = dict(zip(sizes, place, strict=True))
        mark = done and done / "-".join(map(str, place))
        if mark and mark.exists():
            continue
        arrays = {
            n: (dims, array[tuple(position[dim] for dim in dims)]) for n, (dims, array) in blocks.items()
        }
        yield write(arrays, store, dict(zip(sizes, region, strict=True)), mark)


def _write_and_mark(arrays: Arrays, store: Path, region: dict[Hashable, slice], mark: Path | None) -> None:
    write_region(arrays, store, region)
    if mark:
        mark.touch()


def _compute_on(client: Any, tasks: list[Delayed], what: str) -> None:
    """Compute all tasks on a cluster, and show progress."""
    from dask.distributed import as_completed

    futures = client.compute(tasks)
    done = as_completed(futures)
    try:
        for future in tqdm(done, what, len(tasks), unit="region", disable=not OPTIONS["progress"]):
            future.result()
    finally:
        if client.status == "running":  # otherwise the scheduler has stopped, and nothing is left to cancel
            client.cancel(futures)


def remove_partial_files(store: Path) -> None:
    """Remove the files that workers were writing when they were killed."""
    for partial in store.rglob("*.partial"):
        partial.unlink(missing_ok=True)


def write_store(ds: xr.Dataset, path: Path) -> None:
    """Write template and regions to a hidden folder, and move it to ``path`` when it is complete."""
    with replacing(path, ds.nbytes) as folder:
        write_template(ds, folder)
        write_regions(ds, folder, "writing")


def resume(ds: xr.Dataset, path: Path, work: Path, name: str, what: str) -> Path:
    """Write the regions that an earlier call with the same ``name`` has not written; return the store.

    The store lies in the folder ``work``. Errors of a full disk name ``path``, to which it will be moved.
    """
    # Each name has a subfolder of its own, because tasks of a stopped call may still be writing.
    here = work / name
    for other in work.glob("*"):
        if other != here:
            shutil.rmtree(other, ignore_errors=True)
    store, done = here / "store", here / "done"  # ``done`` has an empty file for each complete region
    with naming_full_disk(path, ds.nbytes, kept=work):
        try:
            if not store.exists():
                with replacing(here, ds.nbytes, path) as folder:
                    write_template(ds, folder / store.name)
                    (folder / done.name).mkdir()
            write_regions(ds, store, what, done)
        except Exception:
            if not any(done.glob("*")):
                shutil.rmtree(work, ignore_errors=True)
            raise
    return store
