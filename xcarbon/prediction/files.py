"""Write a prediction region by region, so that an interrupted run can be continued."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import xarray as xr
from dask.base import tokenize

from xcarbon.core import conventions
from xcarbon.core.atomic import check_free, move_into_place
from xcarbon.core.errors import MetadataError, OptionError
from xcarbon.core.workers import resumable
from xcarbon.io.grid import by_chunk, open_grid, write_file
from xcarbon.io.netcdf import write_netcdf
from xcarbon.io.regions import resume
from xcarbon.io.store import by_site, open_store
from xcarbon.models.bundle import CarbonModel
from xcarbon.prediction.predict import INHERITED, predict

PathLike = str | os.PathLike[str]


def predict_to(
    ds: xr.Dataset,
    target: str,
    model: CarbonModel | PathLike,
    path: PathLike,
    *,
    spread: bool = False,
    history: xr.Dataset | None = None,
    causal: bool = False,
    applicability: bool = False,
    overwrite: bool = False,
) -> Path:
    """Predict a flux for every hour and write it to a file, continuing an earlier call that was interrupted.

    Parameters
    ----------
    ds, target, model
        As for :func:`xcarbon.prediction.predict.predict`.
    path : path-like
        Zarr store (``.zarr``) or NetCDF file (``.nc``) to write. It appears when it is complete.
    spread, history, causal, applicability
        As for :func:`xcarbon.prediction.predict.predict`.
    overwrite : bool
        Whether to replace an existing file or store. It is kept until the new one is complete.

    Returns
    -------
    pathlib.Path
        The store or file. Towers have the layout of :func:`xcarbon.io.store.to_store` and
        :func:`xcarbon.io.netcdf.write_netcdf`, grids that of :func:`xcarbon.io.grid.write_grid`.

    Raises
    ------
    OptionError
        If ``path`` ends in neither ``.zarr`` nor ``.nc``.
    StoreError
        If ``path`` exists and ``overwrite`` is false.
    MetadataError
        If a grid has other dimensions than ``time``, ``lat`` and ``lon``.
    KeyboardInterrupt
        On Ctrl-C. The same call computes only the regions that are missing.
    XCarbonError
        If the model cannot predict from ``ds``, as :func:`xcarbon.prediction.predict.predict` states, or if
        workers of the cluster were killed repeatedly, or its scheduler stopped.

    Notes
    -----
    The prediction is computed by the connected Dask cluster, if there is one, and otherwise by threads.
    Workers must have access to ``path``. A region is one tower, or one chunk of a grid with at most four
    million values unless the chunks of ``ds`` are larger. A worker holds the regions that it is computing and
    their inputs.

    Regions are written to a Zarr store in the hidden folder ``.<name>.predicting`` beside ``path``. A later
    call uses them if data, model and chunks are the same, and removes them otherwise. The complete store is
    moved to ``path``, or a NetCDF file is written from it.

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
    path = Path(path).absolute()  # workers may have another working directory
    if path.suffix not in (".zarr", ".nc"):
        raise OptionError(f"{path} must end in .zarr for a store or in .nc for a NetCDF file")
    check_free(path, overwrite=overwrite)
    prediction = predict(
        ds, target, model, spread=spread, history=history, causal=causal, applicability=applicability
    )
    prediction = _describe(prediction, target, ds)
    is_grid = conventions.is_grid(prediction)
    prediction = by_chunk(prediction) if is_grid else by_site(prediction)
    # The token depends on the Dask graph, coordinates and attributes; the history contains times of day.
    name = tokenize(prediction.assign_attrs(history=""))
    prediction = conventions.log(prediction, f"xcarbon.predict_to, {prediction[target].attrs['source']}")
    work = path.with_name(f".{path.name}.predicting")
    with resumable("predicting"):
        store = resume(prediction, path, work, name, "predicting")
        if path.suffix == ".zarr":
            move_into_place(store, path)
        elif is_grid:
            write_file(conventions.apply(open_grid(store).drop_encoding()), path)
        else:
            write_netcdf(open_store(store), path, overwrite=overwrite)
        shutil.rmtree(work)
    return path


def _describe(prediction: xr.DataArray | xr.Dataset, target: str, ds: xr.Dataset) -> xr.Dataset:
    """Add the dimensions and root attributes of files."""
    prediction = prediction if isinstance(prediction, xr.Dataset) else prediction.to_dataset()
    attrs = {"history": ""} | {name: ds.attrs[name] for name in INHERITED if name in ds.attrs}
    title = f"{target} predicted from: {ds.attrs.get('title', 'unnamed data')}"
    prediction = _with_file_dims(prediction).assign_attrs(attrs, title=title)
    return conventions.apply(prediction.drop_encoding())


def _with_file_dims(prediction: xr.Dataset) -> xr.Dataset:
    """Add the dimensions that a single tower or cell lacks."""
    if not conventions.is_utc(prediction):
        if "site" in prediction.dims:
            return prediction
        return prediction.expand_dims("site" if "site" in prediction.coords else {"site": ["tower"]})
    absent = [name for name in ("lat", "lon") if name not in prediction.dims]
    wrong = [name for name in absent if name not in prediction.coords or prediction[name].ndim]
    if wrong:
        raise MetadataError(
            f"a grid is written with dims time, lat and lon, found {tuple(prediction.dims)} and no scalar "
            f"coordinate {' or '.join(wrong)}: rename the dims"
        )
    return prediction.expand_dims(absent).transpose("time", "lat", "lon", ...)
