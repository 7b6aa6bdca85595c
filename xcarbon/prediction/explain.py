"""Importance of inputs: how much worse a trained model predicts without a variable, or without earlier hours.

Models accept missing inputs. A variable is therefore masked, as it is at a tower that does not measure it; no
values are shuffled, and no model is trained again.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray

from xcarbon.core.conventions import CONVENTIONS, log
from xcarbon.core.errors import ModelError, OptionError, VariableError
from xcarbon.core.variables import SATELLITE, TIME_FEATURES, variable
from xcarbon.evaluation import bootstrap
from xcarbon.evaluation.scores import moments, pooled
from xcarbon.models import pretrained
from xcarbon.models.bundle import CarbonModel, ModelConfig
from xcarbon.models.inputs import ModelInputs
from xcarbon.prediction.attributes import provenance_attrs
from xcarbon.prediction.compressed import CompressedModel
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.patches import patch_index
from xcarbon.prep.statics import stack_statics

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

#: Name of all bands of a patch together.
PATCHES = "patches"
#: Name of the memory of all variables together.
MEMORY = "memory"
#: Name of all towers together, in addition to their classes.
ALL = "all"
#: Lags [h] before the predicted hour at which bins begin.
LAGS = (0, 1, 3, 6, 12, 24, 32, 64, 128, 256)


class _Mask(NamedTuple):
    """Inputs to mask; hourly inputs are masked at the lags from ``first`` to before ``end``."""

    inputs: tuple[str, ...]
    first: int
    end: int


def explain(
    ds: xr.Dataset,
    model: CarbonModel | str | os.PathLike[str],
    by: str | None = "igbp",
    *,
    target: str | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    lagged: Sequence[str] | None = None,
    lags: Sequence[int] = LAGS,
    hours: int = 200,
    seed: int = 0,
) -> xr.Dataset:
    r"""Estimate the importance of a model's inputs by masking them.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers on ``(site, time)``, or one tower on ``(time,)``, as for
        :func:`xcarbon.prediction.predict.predict`. With the measured target the result contains the loss of
        skill, without it only the change of the prediction.
    model : CarbonModel or path-like
        A trained model of any kind, the name of a model of the package, or the folder of a saved model.
    by : str or None
        ``"igbp"`` or any other coordinate on ``site`` for results per class, ``"site"`` for results per
        tower, None for all towers together.
    target : str, optional
        One of the model's targets; by default the first one.
    groups : mapping of str to sequence of str, optional
        Names of groups, and the inputs to mask together, in addition to each input alone. If two inputs carry
        the same information, as ``SW_IN`` and ``PPFD_IN`` do, a model without one of them uses the other.
        Single features of the memory, such as ``TA_30D``, can be members of a group.
    lagged : sequence of str, optional
        Hourly inputs, or ``"patches"``, to mask by lag; by default all measured hourly inputs.
    lags : sequence of int
        Lags [h] before the predicted hour at which bins begin; the last bin ends with the window.
    hours : int
        Number of hours to draw at random from each tower, out of those with a measured target and a full
        window with at least one observation. Each is predicted once for each input, group and bin of lags.
    seed : int
        Random seed for the draw. The hours of a tower do not depend on the other towers.

    Returns
    -------
    xarray.Dataset
        Lazy, with one task for each tower. The dims are ``by``, with ``"all"`` towers first, and
        ``variable``: the hourly inputs including ``DOY`` and ``TOD``, all bands as ``"patches"``, the
        static site features, the memory of all variables as ``"memory"``, each satellite series, and
        ``groups``, each masked in the whole window:

        - ``nse_loss`` [1]: Nash-Sutcliffe efficiency minus that without the variable, and its
          ``nse_loss_interval``, the central 95 % over towers drawn with replacement
          (:func:`xcarbon.evaluation.bootstrap.pooled_nse`): NaN for a class of one tower, and too narrow
          for a class of a few towers,
        - ``mse_rise``, ``rmse_rise``: mean squared error without the variable, and its root, minus those with
          it, in units of the target squared and of the target,
        - ``change``: mean absolute difference of the two predictions, in units of the target,
        - ``n``: number of hours.

        The same variables by ``lag``, named ``lag_nse_loss`` and so on: here ``lagged`` is masked only in the
        hours of one bin; ``lag_bnds`` contains its first lag and the lag after its last one. They are absent
        for a model with a context of one hour. In addition, ``nse`` and ``rmse`` along ``by`` are the scores
        of the model in the drawn hours without any mask.

        Without a measured target, only ``change`` and ``n`` are returned.

    Raises
    ------
    ModelError
        If the model does not predict ``target``, or cannot be loaded.
    OptionError
        If ``by`` is not a coordinate on ``site``, ``groups`` or ``lagged`` contain a name that is no input of
        the model, or ``lags`` or ``hours`` are out of range.
    VariableError
        If ``ds`` has none of the model's predictors, or is no Dataset of towers.

    Notes
    -----
    With the measured :math:`y`, the prediction :math:`x`, and :math:`x'` without a variable,

    .. math::
        \frac{\sum (y - x')^2 - \sum (y - x)^2}{\sum (y - \bar y)^2}, \qquad
        \frac{1}{n} \sum (y - x')^2 - \frac{1}{n} \sum (y - x)^2, \qquad
        \frac{1}{n} \sum |x' - x|

    are ``nse_loss``, ``mse_rise`` and ``change``, pooled over the hours of a class. They describe how the
    model uses a variable, not how the flux depends on it: a variable that towers rarely measure has a small
    loss, and so has each of two variables that carry the same information. A variable with a loss below
    zero misleads the model. An hour whose window contains no observation after masking has no prediction
    and does not count. All towers have the same weight, independent of the length of their records.

    For each of its threads, a worker holds the record of a tower, and its windows about three times: 4 bytes
    for every drawn hour, hour of the model's context and variable.

    Examples
    --------
    >>> import tempfile, xcarbon
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(4, patches=False)
    >>> with tempfile.TemporaryDirectory() as run, xcarbon.set_options(progress=False):
    ...     model = towers.carbon.fit("xgboost", n_estimators=20, max_depth=4, run_dir=run)
    >>> explained = explain(towers, model, groups={"light": ["SW_IN", "PPFD_IN", "NETRAD"]}).compute()
    >>> explained["nse_loss"].dims
    ('igbp', 'variable')
    >>> explained["nse_loss"].sel(igbp="all").idxmax().item()
    'light'
    """
    model = pretrained.load(model)
    target = target or model.targets[0]
    if target not in model.targets:
        raise ModelError(f"the model predicts {list(model.targets)}, not {target}: choose one of its targets")
    if hours < 1:
        raise OptionError(f"hours must be at least 1, found {hours}")
    config = model.config
    whole, binned = _whole_masks(config, groups or {}), _lag_masks(config, lagged, lags)
    inputs = model_inputs(
        ds,
        config.variables,
        config.bands,
        state=config.state,
        target=target if target in ds else None,
        max_qc=model.scaler.max_qc,
    )
    place = list(inputs["hourly"].dims[:-2])
    if place != ["site"]:
        raise VariableError(f"explain needs towers on (site, time), found predictors on {place}")
    drawn = _predict_without(inputs, model, target, [*whole.values(), *binned.values()], hours, seed)
    if "site" not in ds.dims:
        drawn = drawn.isel(site=0)

    compared = _compare(drawn, target, by)
    explained = compared.isel(mask=slice(0, len(whole))).rename(mask="variable")
    explained = explained.assign_coords(variable=list(whole))
    if binned:
        by_lag = compared.isel(mask=slice(len(whole), None)).rename(mask="lag")
        by_lag = by_lag.assign_coords(lag=list(binned))
        explained = explained.merge(by_lag.rename({name: f"lag_{name}" for name in by_lag.data_vars}))
        bounds = [(mask.first, mask.end) for mask in binned.values()]
        explained = explained.assign_coords(lag_bnds=(("lag", "bnds"), bounds))
    if "observed" in drawn:
        unmasked = _pooled(_moments(drawn["observed"], drawn["whole"], target), by)
        explained = explained.merge(unmasked[["nse", "rmse"]])
    return _describe(explained, model, target)


def _whole_masks(config: ModelConfig, groups: Mapping[str, Sequence[str]]) -> dict[str, _Mask]:
    """Masks of the whole window for each input and group."""
    series = [feature for feature in config.state if feature in SATELLITE]
    memory = [MEMORY] if len(series) < len(config.state) else []
    inputs = (*config.variables, *([PATCHES] if config.bands else []), *config.statics, *memory, *series)
    for name, members in groups.items():
        unknown = [member for member in members if member not in (*inputs, *config.state)]
        if unknown or name in inputs:
            found = f"{unknown} in {name!r}" if unknown else f"the name {name!r}"
            raise OptionError(f"a group needs a new name and members among {list(inputs)}, found {found}")
    alone = {name: (name,) for name in inputs}
    together = {name: tuple(members) for name, members in groups.items()}
    return {name: _Mask(members, 0, config.context) for name, members in (alone | together).items()}


def _lag_masks(config: ModelConfig, lagged: Sequence[str] | None, lags: Sequence[int]) -> dict[int, _Mask]:
    """Masks of bins of lags, by the first lag; none for a model with a context of one hour."""
    measured = [code for code in config.variables if code not in TIME_FEATURES]
    known = (*config.variables, *([PATCHES] if config.bands else []))
    chosen = tuple(measured if lagged is None else lagged)
    if not chosen or set(chosen) - set(known):
        raise OptionError(f"lagged must be among the hourly inputs {list(known)}, found {list(chosen)}")
    first = [lag for lag in lags if lag < config.context]
    if not first or first[0] < 0 or list(lags) != sorted(set(lags)):
        window = f"0 to {config.context - 1}"
        raise OptionError(f"lags must increase and begin within the window, {window}, found {list(lags)}")
    if config.context == 1:
        return {}
    ends = [*first[1:], config.context]
    return {lag: _Mask(chosen, lag, end) for lag, end in zip(first, ends, strict=False)}


# --- Predictions with and without inputs --------------------------------------


def _predict_without(
    inputs: xr.Dataset, model: CarbonModel, target: str, masks: list[_Mask], hours: int, seed: int
) -> xr.Dataset:
    """Draw and predict hours, lazily: ``whole``, ``observed (site, time)``, ``masked (site, mask, time)``."""
    stamps = da.from_array(inputs["time"].values, chunks=-1)
    towers = np.array([zlib.crc32(str(site).encode()) for site in inputs["site"].values])
    arrays = [_by_tower(inputs["hourly"]), "stv", stamps, "t", da.from_array(towers, chunks=1), "s"]
    arrays += [_by_tower(inputs["target"]), "st"] if "target" in inputs else [None, None]
    statics = model.config.statics
    arrays += [stack_statics(inputs, statics), "sk"] if statics else [None, None]
    arrays += [_by_tower(inputs["state"]), "stm"] if "state" in inputs else [None, None]
    arrays += [_by_tower(inputs["patch"]), "sdbyx"] if "patch" in inputs else [None, None]
    kernel = functools.partial(
        _explain_tower,
        days=inputs["day"].values if "patch" in inputs else None,
        row=model.outputs.index(target),
        masks=masks,
        hours=hours,
        seed=seed,
    )
    rows = da.blockwise(
        kernel,
        "srn",
        *arrays,
        new_axes={"r": 2 + len(masks), "n": hours},
        # A Delayed is sent once to each worker; a plain argument would be part of every task.
        model=delayed(CompressedModel.open, pure=True)(CompressedModel(model)),
        align_arrays=False,
        concatenate=True,
        meta=np.empty((0, 0, 0), np.float32),
    )
    coords = {name: coord for name, coord in inputs["hourly"].coords.items() if coord.dims in ((), ("site",))}
    coords.pop("spatial_ref", None)
    drawn = xr.Dataset(
        {"whole": (("site", "time"), rows[:, 1]), "masked": (("site", "mask", "time"), rows[:, 2:])},
        coords,
    )
    return drawn.assign(observed=(("site", "time"), rows[:, 0])) if "target" in inputs else drawn


def _by_tower(array: xr.DataArray) -> da.Array:
    """Rechunk so that a tower is one chunk."""
    return array.data.rechunk(dict.fromkeys(range(1, array.ndim), -1))


def _explain_tower(
    hourly: Floats,
    stamps: NDArray[np.datetime64],
    tower: NDArray[np.int64],
    observed: Floats | None,
    statics: Floats | None,
    state: Floats | None,
    patches: Floats | None,
    *,
    days: NDArray[np.datetime64] | None,
    model: CarbonModel,
    row: int,
    masks: list[_Mask],
    hours: int,
    seed: int,
) -> Floats:
    """Kernel of :func:`_predict_without`, one tower to ``(1, 2 + masks, hours)``: observed, whole, masked."""
    config = model.config
    place, state = (None if array is None else array[0] for array in (statics, state))
    inputs = ModelInputs(hourly[0], statics=place, state=state)
    if patches is not None and days is not None:
        inputs.patches = patches[0]
        inputs.patch_index = patch_index(stamps, days, np.isfinite(patches[0]).all(axis=(1, 2, 3)))
    # Number of observed hours in each window.
    count = np.convolve(inputs.observed(config.variables), np.ones(config.context))[: len(stamps)]
    candidates = count.round() > 0
    candidates[: config.context - 1] = False
    if observed is not None:
        candidates &= np.isfinite(observed[0])
    generator = np.random.default_rng([seed, int(tower[0])])
    drawn = np.sort(generator.permutation(np.flatnonzero(candidates))[:hours])  # (N,)
    window = drawn[:, np.newaxis] + np.arange(1 - config.context, 1)  # (N, T)
    index = None if inputs.patch_index is None else inputs.patch_index[window]  # (N, T)
    state = None if state is None else state[window]  # (N, T, M)
    windows = dataclasses.replace(inputs, hourly=inputs.hourly[window], patch_index=index, state=state)
    result = np.full((1, 2 + len(masks), hours), np.nan, np.float32)
    if observed is not None:
        result[0, 0, : len(drawn)] = observed[0, drawn]
    result[0, 1, : len(drawn)] = _predict(windows, model)[row]
    for number, mask in enumerate(masks, start=2):
        result[0, number, : len(drawn)] = _predict(_masked(windows, mask, config), model)[row]
    return result


def _masked(windows: ModelInputs[Floats], mask: _Mask, config: ModelConfig) -> ModelInputs[Floats]:
    """Mask inputs of windows, ``hourly (N, T, V)``."""
    hours = slice(config.context - mask.end, config.context - mask.first)
    hourly, index, statics = windows.hourly.copy(), windows.patch_index, windows.statics
    hourly[:, hours, np.isin(config.variables, mask.inputs)] = np.nan
    if index is not None and PATCHES in mask.inputs:
        index = index.copy()
        index[:, hours] = -1
    state = windows.state
    if state is not None:
        names = [name if name in SATELLITE or name in mask.inputs else MEMORY for name in config.state]
        state = state.copy()
        state[:, hours, np.isin(names, mask.inputs)] = np.nan
    if statics is not None:
        statics = np.where(np.isin(config.statics, mask.inputs), np.float32(np.nan), statics)
    return dataclasses.replace(windows, hourly=hourly, patch_index=index, statics=statics, state=state)


def _predict(windows: ModelInputs[Floats], model: CarbonModel) -> Floats:
    """Predict the last hour of each window, ``(outputs, N)``; NaN where no hour of it has an observation."""
    config, index = model.config, windows.patch_index
    observed = windows.observed(config.variables).any(axis=1)
    if not observed.any():
        return np.full((len(model.outputs), observed.size), np.nan, np.float32)
    # The concatenated windows are a series of which every T-th hour is predicted.
    series = dataclasses.replace(
        windows,
        hourly=windows.hourly.reshape(-1, len(config.variables)),
        patch_index=None if index is None else index.ravel(),
        state=None if windows.state is None else windows.state.reshape(-1, len(config.state)),
    ).compact()
    wanted = np.zeros(len(series.hourly) - config.context + 1, bool)
    wanted[:: config.context] = observed
    return model.predict_series(series, wanted)[:, :: config.context]


# --- From predictions to importance -------------------------------------------


def _compare(drawn: xr.Dataset, target: str, by: str | None) -> xr.Dataset:
    """Compare the predictions without and with masks, in hours where both exist."""
    masked = drawn["masked"]
    whole = drawn["whole"].where(masked.notnull())
    # The bias of the absolute change against zero is its mean.
    changes = _pooled(_moments(xr.zeros_like(drawn["whole"]), abs(masked - whole), target), by)
    compared = {"change": changes["bias"], "n": changes["n"]}
    if "observed" in drawn:
        towers = _moments(drawn["observed"], xr.concat([whole, masked], "inputs"), target)
        scores = _pooled(towers, by)
        with_all, without = scores.isel(inputs=0), scores.isel(inputs=1)
        compared = {
            "nse_loss": with_all["nse"] - without["nse"],
            "nse_loss_interval": _intervals(towers, by),
            "mse_rise": without["rmse"] ** 2 - with_all["rmse"] ** 2,
            "rmse_rise": without["rmse"] - with_all["rmse"],
            **compared,
        }
    return xr.Dataset(compared)


def _moments(observed: xr.DataArray, predicted: xr.DataArray, target: str) -> xr.Dataset:
    return moments(observed.to_dataset(name=target), predicted.rename(target))


def _pooled(towers: xr.Dataset, by: str | None) -> xr.Dataset:
    """Scores as in :func:`xcarbon.evaluation.scores.score`, for all towers and, with ``by``, for classes."""
    everywhere = pooled(towers)
    if by is None:
        return everywhere
    joined = xr.concat([everywhere.expand_dims({by: [ALL]}), pooled(towers, by)], by, join="exact")
    return joined.assign_coords({by: joined[by].values.astype(str)}).transpose(by, ...)


def _intervals(towers: xr.Dataset, by: str | None) -> xr.DataArray:
    """Intervals of the loss of efficiency, in the order of :func:`_pooled`."""
    members = {ALL: np.arange(towers.sizes["site"])}
    if by is not None:
        labels = towers[by].values.astype(str)
        members |= {name: np.flatnonzero(labels == name) for name in np.unique(labels)}
    intervals: xr.DataArray = xr.apply_ufunc(
        _draw_losses,
        *(towers[name] for name in ("n", "mean", "sst", "sse")),
        kwargs={"groups": list(members.values())},
        input_core_dims=[["inputs", "site"]] * 4,
        output_core_dims=[["group", "bound"]],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"group": len(members), "bound": 2}, "allow_rechunk": True},
    )
    intervals = intervals.assign_coords(bound=["lower", "upper"])
    if by is None:
        return intervals.isel(group=0)
    return intervals.rename(group=by).assign_coords({by: list(members)}).transpose(by, ...)


def _draw_losses(
    n: Doubles, mean: Doubles, sst: Doubles, sse: Doubles, *, groups: list[NDArray[np.int64]]
) -> Doubles:
    """Kernel of :func:`_intervals`: ``(..., 2, site) -> (..., group, bound)``; NaN for a single tower."""
    intervals = np.full((*n.shape[:-2], len(groups), 2), np.nan)
    for number, group in enumerate(groups):
        if len(group) > 1:
            count, centre, varied, errors = (each[..., group] for each in (n, mean, sst, sse))
            nse = bootstrap.pooled_nse(count, centre, varied, errors, bootstrap.draw(len(group)))
            intervals[..., number, :] = bootstrap.interval(nse[..., 0, :] - nse[..., 1, :])
    return intervals


def _describe(explained: xr.Dataset, model: CarbonModel, target: str) -> xr.Dataset:
    """Add attributes and the provenance of the model."""
    units = variable(target).units
    described = {
        "nse_loss": ("loss of Nash-Sutcliffe efficiency", "1"),
        "nse_loss_interval": (f"interval of {bootstrap.LEVEL:.0%} of it over towers drawn", "1"),
        "mse_rise": ("rise of the mean square error", _squared(units)),
        "rmse_rise": ("rise of the root mean square error", units),
        "change": ("mean absolute change of the prediction", units),
        "n": ("number of hours", "1"),
    }
    for name, array in explained.data_vars.items():
        if str(name).removeprefix("lag_") in described:
            long_name, unit = described[str(name).removeprefix("lag_")]
            array.attrs = {"long_name": long_name, "units": unit}
    explained["variable"].attrs = {"long_name": "masked inputs"}
    if "lag" in explained.coords:
        explained["lag"].attrs = {
            "long_name": "time before the predicted hour",
            "units": "h",
            "bounds": "lag_bnds",
        }
    title = f"importance of the inputs of a model of {target}"
    explained.attrs = {"Conventions": CONVENTIONS, "title": title, **provenance_attrs(model)}
    return log(explained, f"{title}, by masking them")


def _squared(units: str) -> str:
    """Square CF units, ``"m s-1"`` to ``"m2 s-2"``."""
    powers = re.findall(r"([A-Za-z]+)(-?\d*)", units)
    return " ".join(f"{base}{2 * int(power or 1)}" for base, power in powers)
