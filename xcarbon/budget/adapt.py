"""Adaptation of a model to the measured hours of a tower, in seconds, by boosted trees.

A gap has measured hours before and after it, and its weather is known on both sides of each hour. The trees
read the predictions of a trained model, which is not changed, and the drivers around the hour.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
import xgboost
from dask.system import CPU_COUNT
from numpy.typing import NDArray

from xcarbon.budget.correlation import relative_variance
from xcarbon.budget.gaps import gap_length
from xcarbon.core.notices import warn
from xcarbon.core.options import set_options
from xcarbon.core.validation import steps_per_day
from xcarbon.core.variables import SPREAD, TIME_FEATURES, VARIABLES
from xcarbon.evaluation.coverage import LEVELS
from xcarbon.models.bundle import CarbonModel
from xcarbon.prediction.calibration import LIMITS
from xcarbon.prediction.predict import predict
from xcarbon.prep.aggregate import HOURLY, aggregate
from xcarbon.prep.hours import half_hours
from xcarbon.prep.inputs import model_inputs, scaled_drivers

Array = NDArray[np.floating[Any]]

#: Fluxes of the same instruments, which are missing when the target is missing.
TURBULENT = ("H", "LE", "USTAR")
#: Lags [h] before and after the hour, and lengths [h] of the centred means, of each driver.
LAGS, LENGTHS = (1, 2, 3, 6), (3, 24, 168, 720)
#: Lengths [h] of the artificial gaps that test the trees, and number of groups of them.
GAPS, FOLDS = (3, 36, 288, 720), 4
#: Fewest measured hours that a tower needs.
MIN_HOURS = 500
#: End of the source of adapted predictions. Whether a tower has enough hours is found when it is computed.
ADAPTED = f", adapted to the measured hours of each tower that has at least {MIN_HOURS} of them"
#: Level of the interval that the factor of the spread calibrates, and its half width [standard deviations].
LEVEL, LIMIT = LEVELS[-1], LIMITS[-1]
#: Number of trees for the flux, and of those for the error of the model.
TREES = 600
PARAMETERS = {
    "max_depth": 5, "eta": 0.03, "min_child_weight": 5, "subsample": 0.5, "colsample_bytree": 0.3,
    "reg_lambda": 5, "tree_method": "hist", "objective": "reg:squarederror", "nthread": 1,
}  # fmt: skip


def adapted(ds: xr.Dataset, measured: xr.DataArray, model: CarbonModel, max_qc: int | None) -> xr.Dataset:
    """Predict a flux by a model that is adapted to each tower, lazily, with one task for each tower.

    The result has the target and, if the model has one, the spread. In measured hours the prediction is from
    trees that were trained without the hour and its neighbours, so that its error is one of gaps. The time
    steps of ``ds`` may be half-hours; the model itself predicts their clock hours.
    """
    target = str(measured.name)
    max_qc = model.scaler.max_qc if max_qc is None else max_qc
    predicted = predict_steps(ds, target, model, max_qc)
    with set_options(progress=False):  # what was printed holds for all fluxes
        others = {c: predict_steps(ds, c, model, max_qc)[c] for c in model.targets if c != target}
    predicted = predicted.assign(others)
    names = [target, *([target + SPREAD] if model.has_spread else []), *others]
    drivers = [
        code
        for code, each in VARIABLES.items()
        if each.bounds is not None and not each.is_target and code not in TURBULENT
        and (code in TIME_FEATURES or (code in ds and "time" in ds[code].dims))
    ]  # fmt: skip
    arrays = [scaled_drivers(ds, drivers, max_qc).rename(variable="feature")]
    hours = aggregate(ds, HOURLY)
    if model.config.state:
        state = model_inputs(hours, drivers, state=model.config.state, max_qc=max_qc)["state"]
        arrays.append(state if hours is ds else half_hours(state, ds["time"], sloping=False))
    if "site" not in ds.dims:
        arrays = [array.squeeze("site") for array in arrays]
    arrays.insert(0, predicted[names].to_dataarray("feature").transpose(..., "time", "feature"))
    sites = xr.DataArray(ds["site"].variable if "site" in ds.coords else "the tower").astype(str)
    plain = [_one_task(array.reset_coords(drop=True).drop_vars("feature")) for array in arrays]
    plain = [array.rename(feature=f"feature_{number}") for number, array in enumerate(plain)]
    outputs = xr.apply_ufunc(
        functools.partial(
            _each_tower, has_spread=model.has_spread, per_hour=steps_per_day(ds["time"], "the Dataset") // 24
        ),
        sites,
        _one_task(measured.reset_coords(drop=True)),
        *plain,
        input_core_dims=[[], ["time"], *(["time", array.dims[-1]] for array in plain)],
        output_core_dims=[["output", "time"]],
        dask="parallelized",
        output_dtypes=[np.float32],
        dask_gufunc_kwargs={"output_sizes": {"output": 2}},
        join="exact",
    )
    outputs = outputs.assign_coords(measured.coords)
    attrs = predicted[target].attrs
    source = f"{attrs.get('source', 'a model')}{ADAPTED}"
    result = xr.Dataset({target: outputs.isel(output=0).assign_attrs(attrs | {"source": source})})
    if model.has_spread:
        result[target + SPREAD] = outputs.isel(output=1).assign_attrs(predicted[target + SPREAD].attrs)
    return result


def predict_steps(ds: xr.Dataset, target: str, model: CarbonModel, max_qc: int | None) -> xr.Dataset:
    """Predict a flux, with its spread if the model has one, at each hour or half-hour, lazily."""
    hours = aggregate(ds, HOURLY)
    found = predict(hours, target, model, spread=model.has_spread, max_qc=max_qc)
    hourly = found.to_dataset() if isinstance(found, xr.DataArray) else found
    if hours is ds:
        return hourly
    halves = {name: half_hours(hourly[name], ds["time"], sloping=name == target) for name in hourly}
    return xr.Dataset(halves, hourly.drop_dims("time").coords, hourly.attrs)


def _one_task(array: xr.DataArray) -> xr.DataArray:
    """Make one chunk of each tower of a lazy array."""
    if not array.chunks:
        return array
    return array.chunk({dim: 1 if dim == "site" else -1 for dim in array.dims})


def _each_tower(
    sites: NDArray[np.str_], measured: Array, *features: Array, has_spread: bool, per_hour: int
) -> NDArray[np.float32]:
    """Adapt to each tower: ``(...), (..., time), (..., time, F)`` to ``(..., 2, time)``."""
    result = np.full((*measured.shape[:-1], 2, measured.shape[-1]), np.nan, np.float32)
    sites = np.broadcast_to(sites, measured.shape[:-1])
    for tower in np.ndindex(measured.shape[:-1]):
        own = [array[tower] for array in features]
        spread = own[0][:, 1] if has_spread else None
        table = np.concatenate([*own, around(np.column_stack([own[0][:, 0], own[1]]), per_hour)], axis=1)
        usable = np.isfinite(own[0][:, 0])
        hours = np.count_nonzero(usable & np.isfinite(measured[tower])) // per_hour
        if hours < MIN_HOURS and usable.any():
            warn(
                f"{sites[tower]}: the model is not adapted to the tower, because only {hours} measured hours "
                f"can be used, but {MIN_HOURS} are needed; errors and the intervals of sums are those of the "
                "model as it is"
            )
        result[tower] = adapt(measured[tower], own[0][:, 0], spread, table, per_hour)
    return result


def around(series: Array, per_hour: int) -> Array:
    """Values before and after each step, and centred means: ``(steps, V)`` to ``(steps, V x 12)``."""
    table = pd.DataFrame(series)
    shifted = [table.shift(sign * lag * per_hour) for lag in LAGS for sign in (1, -1)]
    means = [table.rolling(length * per_hour, center=True, min_periods=1).mean() for length in LENGTHS]
    return np.concatenate([part.to_numpy(np.float32) for part in (*shifted, *means)], axis=1)


def adapt(
    measured: Array, base: Array, spread: Array | None, features: Array, per_hour: int = 1
) -> NDArray[np.float32]:
    """Adapt a model to a tower.

    Parameters
    ----------
    measured, base, spread : numpy.ndarray
        Measured flux, NaN in gaps, and prediction and spread of the model, ``(steps,)``.
    features : numpy.ndarray
        What the trees read in addition to the position of the step in the record, ``(steps, F)``.
    per_hour : int
        Number of time steps per hour.

    Returns
    -------
    numpy.ndarray
        Prediction and spread, ``(2, steps)``. They are those of the model if the tower has less than
        :data:`MIN_HOURS` measured hours.
    """
    known = np.isfinite(measured) & np.isfinite(base)
    unchanged = np.full_like(base, np.nan) if spread is None else spread
    if known.sum() < MIN_HOURS * per_hour:
        return np.stack([base, unchanged]).astype(np.float32)
    features = np.column_stack([features, np.arange(len(base)) / (24 * per_hour)]).astype(np.float32)
    group, length = in_artificial_gaps(known, per_hour)
    is_tested = group >= 0
    left_out = [(known & (group != number), group == number) for number in np.unique(group[is_tested])]
    work: list[Callable[[], Array]] = [
        functools.partial(_trees, measured, base, features, train, rows, part)
        for train, rows in [(known, np.isfinite(base)), *left_out]
        for part in (False, True)
    ]
    with ThreadPoolExecutor(CPU_COUNT) as pool:
        found = list(pool.map(lambda job: job(), work))
    pairs = [(first + second) / 2 for first, second in zip(found[::2], found[1::2], strict=True)]
    prediction = pairs[0]
    for in_gaps in pairs[1:]:
        prediction = np.where(np.isfinite(in_gaps), in_gaps, prediction)
    if spread is None or not is_tested.any():
        return np.stack([prediction, unchanged]).astype(np.float32)
    usual = spread * np.sqrt(relative_variance(length / per_hour))
    error = np.abs(measured - prediction)[is_tested] / usual[is_tested]
    factor = np.nanquantile(error, LEVEL) / LIMIT
    return np.stack([prediction, usual * factor]).astype(np.float32)


def _trees(
    measured: Array,
    base: Array,
    features: Array,
    train: NDArray[np.bool_],
    rows: NDArray[np.bool_],
    residual: bool,
) -> Array:
    """Train trees on some hours, for the flux or the error of the model, and predict other hours."""
    offset = base if residual else np.zeros_like(base)
    booster = xgboost.train(
        PARAMETERS | {"seed": int(residual)},
        xgboost.DMatrix(features[train], (measured - offset)[train], nthread=1),
        TREES,
    )
    found = np.full(len(base), np.nan)
    if rows.any():
        found[rows] = booster.predict(xgboost.DMatrix(features[rows], nthread=1)) + offset[rows]
    return found


def in_artificial_gaps(known: NDArray[np.bool_], per_hour: int = 1) -> tuple[NDArray[np.int_], Array]:
    """Assign the measured steps to groups of artificial gaps: ``(steps,)`` to twice ``(steps,)``.

    The first result is the group that hides a measured step; it is -1 if too few measured steps would be
    left, and in gaps. The second one is the length of the gap of each step [steps], which is the artificial
    gap for measured steps with a group.
    """
    drawn = np.repeat(artificial_folds(-(-known.size // per_hour)), per_hour)[: known.size]
    group, length = np.full(known.size, -1), gap_length(known)
    for number in range(FOLDS):
        hidden = known & (drawn == number)
        left = known & ~hidden
        if left.sum() >= MIN_HOURS * per_hour / 2:
            group[hidden], length[hidden] = number, gap_length(left)[hidden]
    return group, length


def artificial_folds(hours: int) -> NDArray[np.int_]:
    """Assign stretches of hours, as long as gaps of several kinds, to groups: ``(hours,)``."""
    rng = np.random.default_rng(0)
    lengths = rng.choice(GAPS, hours // GAPS[0] + 1)
    return np.repeat(rng.integers(FOLDS, size=len(lengths)), lengths)[:hours]
