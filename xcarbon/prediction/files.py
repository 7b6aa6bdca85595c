"""Write a prediction region by region, so that it may take days and be stopped at any time.

A region is a chunk of the prediction: a tower or a block of cells in some period. Each is written to a file
of its own in a hidden folder beside the result, and when all are there they become the result in one step.
"""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed, delayed
from numpy.typing import NDArray
from tqdm.auto import tqdm

from xcarbon.core import conventions
from xcarbon.core.atomic import check_free, replacing
from xcarbon.core.errors import MetadataError, OptionError
from xcarbon.core.options import OPTIONS, progress_bar
from xcarbon.core.workers import cluster
from xcarbon.io.grid import write_grid
from xcarbon.io.netcdf import write_netcdf
from xcarbon.io.store import to_store
from xcarbon.models.bundle import CarbonModel
from xcarbon.prediction.predict import predict

PathLike = str | os.PathLike[str]

#: Root attributes that a prediction takes over from its data.
_INHERITED = ("license", "references", "acknowledgement", "history")


def predict_to(
    ds: xr.Dataset,
    target: str,
    model: CarbonModel | PathLike,
    path: PathLike,
    *,
    spread: bool = False,
    scheduler: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Predict a flux for every hour and write it, going on where an earlier call was stopped.

    Parameters
    ----------
    ds, target, model, spread
        As for :func:`xcarbon.prediction.predict.predict`.
    path : path-like
        Zarr store (``.zarr``) or NetCDF file (``.nc``) to write. It appears when everything is written,
        never before.
    scheduler : str, optional
        Address of a Dask cluster whose workers see the same files. Default: the cluster that is
        connected, if any, or else threads.
    overwrite : bool
        Replace what is there, which is kept until the new one is complete.

    Returns
    -------
    pathlib.Path
        The store or file: towers as :func:`xcarbon.io.store.to_store` and
        :func:`xcarbon.io.netcdf.write_netcdf` write them, grids as :func:`xcarbon.io.grid.write_grid` does.

    Raises
    ------
    OptionError
        If ``path`` ends in neither.
    StoreError
        If ``path`` exists.
    KeyboardInterrupt
        On Ctrl-C; the same call goes on with the regions that are missing.
    XCarbonError
        If the model cannot predict from ``ds``, as :func:`xcarbon.prediction.predict.predict`.

    Notes
    -----
    A worker holds the regions that it works on, one for each of its threads, and what they are computed
    from. Regions are written uncompressed into ``.<name>.predicting`` beside ``path``, and removed in the
    end. They are taken over by a later call if data, model and chunks are the same, which is told by the
    name of the Dask graph; regions of another prediction are removed.

    Examples
    --------
    >>> import tempfile, xcarbon
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(2, patches=False)
    >>> with tempfile.TemporaryDirectory() as run, xcarbon.set_options(progress=False):
    ...     model = towers.carbon.fit(run_dir=run, max_steps=1, batch_size=8, network={"cross_blocks": 1})
    ...     week = towers.isel(time=slice(24 * 7))
    ...     path = predict_to(week, "NEE", model, f"{run}/nee.nc")
    ...     xcarbon.open_netcdf(path)["NEE"].shape
    (2, 168)
    """
    path = Path(path).absolute()  # workers may stand elsewhere
    if path.suffix not in (".zarr", ".nc"):
        raise OptionError(f"{path} must end in .zarr for a store or in .nc for a NetCDF file")
    check_free(path, overwrite=overwrite)
    predicted = predict(ds, target, model, spread=spread)
    prediction = _as_written(predicted if isinstance(predicted, xr.Dataset) else predicted.to_dataset())
    work = path.with_name(f".{path.name}.predicting")
    # A region holds the flux and its spread: they are computed together.
    regions = _Regions(work, da.stack([flux.data for flux in prediction.values()], -1).rechunk({-1: -1}))
    with cluster(scheduler) as client:
        _compute(regions.missing(), client)
        attrs = {name: ds.attrs[name] for name in _INHERITED if name in ds.attrs}
        values = da.moveaxis(regions.read(), -1, 0)
        read = {
            name: flux.copy(data=data) for (name, flux), data in zip(prediction.items(), values, strict=True)
        }
        result = prediction.assign(read).assign_attrs(attrs)
        result.attrs["title"] = f"{target} predicted from: {ds.attrs.get('title', 'unnamed data')}"
        result = conventions.log(result, f"xcarbon.predict_to, {prediction[target].attrs['source']}")
        _write(result, path, overwrite=overwrite)
    shutil.rmtree(work)
    return path


def _as_written(prediction: xr.Dataset) -> xr.Dataset:
    """Give a single tower or cell the dims that files have."""
    if not conventions.is_utc(prediction):
        if "site" in prediction.dims:
            return prediction
        return prediction.expand_dims("site" if "site" in prediction.coords else {"site": ["tower"]})
    absent = [name for name in ("lat", "lon") if name not in prediction.dims]
    wrong = [name for name in absent if name not in prediction.coords or prediction[name].ndim]
    if wrong:
        raise MetadataError(f"a grid is written with dims lat and lon, found {tuple(prediction.dims)}")
    return prediction.expand_dims(absent).transpose("time", "lat", "lon")


class _Regions:
    """The chunks of a prediction, and the folder with those that are done."""

    def __init__(self, work: Path, prediction: da.Array) -> None:
        # A folder of its own: what a stopped prediction still writes must not get into that of another.
        self.folder, self.prediction = work / prediction.name, prediction
        for other in work.glob("*"):
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)

    def missing(self) -> list[Delayed]:
        """One task for each region that is not done."""
        blocks = self.prediction.to_delayed()
        write = delayed(_write_region, pure=False)
        places = (place for place in np.ndindex(blocks.shape) if not _file(self.folder, place).exists())
        return [write(_file(self.folder, place), blocks[place]) for place in places]

    def read(self) -> da.Array:
        """All regions, lazily."""
        return da.map_blocks(
            functools.partial(_read_region, self.folder),
            chunks=self.prediction.chunks,
            meta=np.empty((0,) * self.prediction.ndim, np.float32),
        )


def _file(folder: Path, place: tuple[int, ...]) -> Path:
    return folder / ("-".join(map(str, place)) + ".npy")


def _write_region(path: Path, values: NDArray[np.float32]) -> None:
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, values)


def _read_region(folder: Path, block_info: dict[Any, Any]) -> NDArray[np.float32]:
    path = _file(folder, block_info[None]["chunk-location"])
    values: NDArray[np.float32] = np.load(path, allow_pickle=False)
    return values


def _compute(tasks: list[Delayed], client: Any) -> None:
    """Do all tasks on a cluster or on threads, with progress."""
    try:
        if client is None:
            with progress_bar("predicting"):
                dask.compute(*tasks)
            return
        from dask.distributed import as_completed

        futures = client.compute(tasks)
        bar = tqdm(desc="predicting", total=len(tasks), unit="region", disable=not OPTIONS["progress"])
        try:
            for future in as_completed(futures):
                future.result()
                bar.update()
        finally:
            bar.close()
            client.cancel(futures)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped while predicting; the same command goes on from here") from None


def _write(result: xr.Dataset, path: Path, *, overwrite: bool) -> None:
    """Write towers or a grid by the name of the file."""
    if conventions.is_grid(result):
        write_grid(result, path, overwrite=overwrite)
    elif path.suffix == ".zarr":
        to_store(result, path, overwrite=overwrite)
    else:
        write_netcdf(result, path, overwrite=overwrite)
