"""Baselines that a model should outperform: the mean diurnal cycle and a ridge regression."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import xarray as xr

from xcarbon.core import conventions
from xcarbon.core.variables import PAPER_INPUTS, VARIABLES, present
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.periods import map_towers, period_sums
from xcarbon.prep.quality import MAX_QC


def diurnal_cycle(
    train: xr.Dataset, ds: xr.Dataset, target: str = "NEE", *, by: str = "igbp", max_qc: int = MAX_QC
) -> xr.DataArray:
    """Predict the mean diurnal cycle of each month over the training towers of the same class.

    Parameters
    ----------
    train : xarray.Dataset
        Training towers; their targets are read once, tower by tower.
    ds : xarray.Dataset
        Towers to predict, with the coordinate ``by``.
    target : str
        Code of the variable to predict.
    by : str
        Coordinate on ``site`` with the class of each tower. The mean over all classes is used for classes
        that are absent from ``train``.
    max_qc : int
        Highest quality flag of the observations that are used.

    Returns
    -------
    xarray.DataArray
        Prediction ``(site, time)`` named ``target``, in units of the target, lazy.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(3, patches=False)
    >>> diurnal_cycle(towers, towers).dims
    ('site', 'time')
    """
    observed = model_inputs(train, present(PAPER_INPUTS, train), target=target, max_qc=max_qc)["target"]
    slots = xr.DataArray(_slot(train["time"]), dims="time")
    size = 12 * 24
    kernel = partial(period_sums, size=size)
    sums = map_towers(kernel, observed, slots, sizes={"moment": 2, "slot": size}).values  # (site, 2, slot)
    overall = _mean(sums.sum(0), np.zeros(size))
    classes = np.atleast_1d(train[by].values)
    table = {name: _mean(sums[classes == name].sum(0), overall) for name in set(classes)}
    rows = np.stack([table.get(name, overall) for name in np.atleast_1d(ds[by].values)])
    prediction = xr.apply_ufunc(
        lambda cycle, slots: cycle[..., slots],
        xr.DataArray(rows.astype("float32"), dims=("site", "slot")).chunk(site=1),
        xr.DataArray(_slot(ds["time"]), dims="time"),
        input_core_dims=[["slot"], ["time"]],
        output_core_dims=[["time"]],
        dask="parallelized",
        output_dtypes=[np.float32],
        dask_gufunc_kwargs={"output_sizes": {"time": ds.sizes["time"]}},
    )
    return _label(prediction, ds, target, f"mean diurnal cycle per month and {by}")


def ridge(
    train: xr.Dataset,
    ds: xr.Dataset,
    target: str = "NEE",
    *,
    variables: Sequence[str] | None = None,
    max_qc: int = MAX_QC,
    penalty: float = 1.0,
) -> xr.DataArray:
    """Predict a flux by ridge regression on the predictors of the same hour.

    Parameters
    ----------
    train, ds : xarray.Dataset
        Training towers, which are read once, and towers to predict.
    target : str
        Code of the variable to predict.
    variables : sequence of str, optional
        Predictors; by default those of the paper's 21 that ``train`` contains. Cyclic predictors enter as
        sine and cosine. The others enter scaled, with a second feature that marks missing values.
    max_qc : int
        Highest quality flag of the values that are used.
    penalty : float
        Weight of the squared coefficients of the features in the loss.

    Returns
    -------
    xarray.DataArray
        Prediction ``(site, time)`` named ``target``, in units of the target, lazy.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(3, patches=False)
    >>> ridge(towers, towers).dims
    ('site', 'time')
    """
    codes = tuple(variables) if variables is not None else present(PAPER_INPUTS, train)
    inputs = model_inputs(train, codes, target=target, max_qc=max_qc)
    towers = [inputs.isel(site=site) for site in range(inputs.sizes["site"])]
    size = len(_features(np.zeros((1, len(codes)), np.float32), codes)[0])
    gram, moment = np.zeros((size, size)), np.zeros(size)
    for tower in towers:
        y = tower["target"].values
        known = np.isfinite(y)
        x = _features(tower["hourly"].values[known], codes)
        gram += x.T @ x
        moment += x.T @ y[known]
    weight = np.linalg.solve(gram + penalty * np.diag([0.0, *np.ones(size - 1)]), moment)
    hourly = model_inputs(ds, codes, max_qc=max_qc)["hourly"]
    prediction = xr.apply_ufunc(
        lambda block: (_features(block, codes) @ weight).astype(np.float32),
        hourly,
        input_core_dims=[["variable"]],
        dask="parallelized",
        output_dtypes=[np.float32],
    )
    return _label(prediction, ds, target, "ridge regression on the predictors of the hour")


def _slot(time: xr.DataArray) -> np.ndarray:
    """Return the number of the month and hour of each time stamp, 0 to 287, ``(time,)``."""
    return ((time.dt.month - 1) * 24 + time.dt.hour).values


def _mean(moments: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Return means from number and sum ``(2, slots)``; ``otherwise`` where there are no values."""
    count, total = moments
    return np.where(count > 0, total / np.maximum(count, 1), otherwise)


def _features(hourly: np.ndarray, codes: Sequence[str]) -> np.ndarray:
    """Compute regression features of scaled predictors, ``(..., V) -> (..., features)``; the first is 1."""
    columns = [np.ones(hourly.shape[:-1])]
    for number, code in enumerate(codes):
        values = np.asarray(hourly[..., number], float)
        if VARIABLES[code].cyclic:
            columns += [np.nan_to_num(np.sin(np.pi * values)), np.nan_to_num(np.cos(np.pi * values))]
        else:
            known = np.isfinite(values)
            # The second feature separates missing values from values of 0.
            columns += [np.where(known, values, 0.0), (~known).astype(float)]
    return np.stack(columns, axis=-1)


def _label(prediction: xr.DataArray, ds: xr.Dataset, target: str, source: str) -> xr.DataArray:
    """Assign name, attributes and the coordinates of ``ds`` to the prediction of a baseline."""
    coords = {name: c for name, c in ds.coords.items() if set(c.dims) <= {"site", "time"}}
    prediction = prediction.drop_vars(list(prediction.coords)).assign_coords(coords).rename(target)
    return prediction.assign_attrs(conventions.variable_attrs(target) | {"source": source})
