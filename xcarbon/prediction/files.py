"""Write a prediction region by region, so that an interrupted run can be continued."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import xarray as xr
from dask.base import tokenize

from xcarbon.core import conventions
from xcarbon.core.errors import MetadataError
from xcarbon.core.workers import resumable
from xcarbon.io.drafts import drafting
from xcarbon.io.grid import by_chunk, open_grid, write_file
from xcarbon.io.location import Location, Options, PathLike
from xcarbon.io.netcdf import write_netcdf
from xcarbon.io.regions import write_regions, write_template
from xcarbon.io.store import by_site, read_store
from xcarbon.models.bundle import CarbonModel
from xcarbon.prediction.attributes import INHERITED
from xcarbon.prediction.predict import predict
from xcarbon.prep.cells import with_cell_area


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
    storage_options: Options | None = None,
) -> Path | str:
    """Predict a flux for every hour and write it to a file, continuing an earlier call that was interrupted.

    Parameters
    ----------
    ds, target, model
        As for :func:`xcarbon.prediction.predict.predict`.
    path : path-like or URL
        Zarr store (``.zarr``) or NetCDF file (``.nc``) to write, or a store as a URL, as for
        :func:`xcarbon.io.store.to_store`. It appears when it is complete.
    spread, history, causal, applicability
        As for :func:`xcarbon.prediction.predict.predict`.
    overwrite : bool
        Whether to replace an existing file or store. It is kept until the new one is complete.
    storage_options : mapping, optional
        How the URL is accessed, as for :func:`xcarbon.open_store`.

    Returns
    -------
    pathlib.Path or str
        The store or file, or the URL. Towers have the layout of :func:`xcarbon.io.store.to_store` and
        :func:`xcarbon.io.netcdf.write_netcdf`, grids that of :func:`xcarbon.io.grid.write_grid`.

    Raises
    ------
    OptionError
        If ``path`` ends in neither ``.zarr`` nor ``.nc``, or if ``storage_options`` are not those of the
        storage.
    StoreError
        If ``path`` exists and ``overwrite`` is false, or if another process has written to the same store in
        a bucket in the meantime.
    MissingPackageError
        If the store is in a bucket, and the extra ``cloud`` is not installed.
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
    moved to ``path``, or a NetCDF file is written from it. In a bucket, they are written to a branch of the
    store of Icechunk, and its regions are committed about every ten seconds.

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
    location = Location.of(path, storage_options)
    if location.folder is not None:
        location = Location.of(location.folder.absolute())  # workers may have another working directory
    location.check_output()
    is_file = location.suffix == ".nc"
    location.check_free(overwrite=overwrite)
    prediction = predict(
        ds, target, model, spread=spread, history=history, causal=causal, applicability=applicability
    )
    prediction = _describe(prediction, target, ds)
    is_grid = conventions.is_grid(prediction)
    prediction = by_chunk(prediction) if is_grid else by_site(prediction)
    # The token depends on the Dask graph, coordinates and attributes; the history contains times of day.
    name = tokenize(prediction.assign_attrs(history=""))
    prediction = conventions.log(prediction, f"xcarbon.predict_to, {prediction[target].attrs['source']}")
    drafts = drafting(location, "predicting", name, partial(write_template, prediction), prediction.nbytes)
    with resumable("predicting"), drafts as draft:
        draft.forget_earlier()
        write_regions(prediction, draft, "predicting")
        if not is_file:
            draft.publish()
        elif is_grid:
            write_file(conventions.apply(open_grid(draft.opened.path).drop_encoding()), Path(location.path))
        else:
            write_netcdf(read_store(draft.opened), location.path, overwrite=overwrite)
        draft.remove(others=True)
    return location.returned


def _describe(prediction: xr.DataArray | xr.Dataset, target: str, ds: xr.Dataset) -> xr.Dataset:
    """Add the dimensions and root attributes of files."""
    prediction = prediction if isinstance(prediction, xr.Dataset) else prediction.to_dataset()
    attrs = {"history": ""} | {name: ds.attrs[name] for name in INHERITED if name in ds.attrs}
    title = f"{target} predicted from: {ds.attrs.get('title', 'unnamed data')}"
    prediction = conventions.apply(
        _with_file_dims(prediction).assign_attrs(attrs, title=title).drop_encoding()
    )
    return with_cell_area(prediction) if conventions.is_grid(prediction) else prediction


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
