"""What a trained model reads: how much worse it predicts without a variable, or without some hours before.

Models are made for missing inputs, so a variable is hidden from them by masking it, as it is at a tower that
does not measure it. Nothing is shuffled, and nothing is trained again.
"""

from __future__ import annotations

import functools
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray

from xcarbon.core.conventions import CONVENTIONS, log
from xcarbon.core.errors import ModelError, OptionError, VariableError
from xcarbon.core.variables import TIME_FEATURES, variable
from xcarbon.evaluation import bootstrap
from xcarbon.evaluation.scores import moments, pooled
from xcarbon.models import pretrained
from xcarbon.models.bundle import CarbonModel, ModelConfig
from xcarbon.prediction.predict import provenance_attrs
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.patches import patch_index
from xcarbon.prep.statics import stack_statics

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

#: What all bands of a patch are called together.
PATCHES = "patches"
#: What all towers are called together, beside their classes.
ALL = "all"
#: Hours before the predicted one at which bins of lags begin.
LAGS = (0, 1, 3, 6, 12, 24, 32, 64, 128, 256)


class _Mask(NamedTuple):
    """What is hidden from a model: inputs, and of the hourly ones the lags from one to before another."""

    inputs: tuple[str, ...]
    first: int
    end: int


@dataclass(frozen=True)
class _Sample:
    """Windows of one tower: N predicted hours, each the last of T."""

    hourly: Floats  # (N, T, V)
    index: NDArray[np.int64]  # (N, T)
    patches: Floats | None  # (P, C, 8, 8)
    statics: Floats | None  # (S,)

    def without(self, mask: _Mask, config: ModelConfig) -> _Sample:
        """Hide something."""
        hours = slice(config.context - mask.end, config.context - mask.first)
        hourly, index, statics = self.hourly.copy(), self.index.copy(), self.statics
        hourly[:, hours, np.isin(config.variables, mask.inputs)] = np.nan
        if PATCHES in mask.inputs:
            index[:, hours] = -1
        if statics is not None:
            statics = np.where(np.isin(config.statics, mask.inputs), np.float32(np.nan), statics)
        return _Sample(hourly, index, self.patches, statics)


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
    r"""Tell what a model reads, by masking its inputs.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers on ``(site, time)``, or one on ``(time,)``, as for :func:`xcarbon.prediction.predict.predict`.
        With the measured target it is told how much worse the model predicts, without it how much otherwise.
    model : CarbonModel or path-like
        A trained model of any kind, or the name of one that comes with the package, or its folder.
    by : str or None
        ``"igbp"`` or any other coordinate on ``site`` for results per class, ``"site"`` per tower, None for
        all towers alone.
    target : str, optional
        Which of the model's targets; by default the first one.
    groups : mapping of str to sequence of str, optional
        Inputs to mask together, by a name for them, beside each alone. Where two inputs tell the same, as
        ``SW_IN`` and ``PPFD_IN`` do, a model without one of them reads the other.
    lagged : sequence of str, optional
        Hourly inputs, or ``"patches"``, to mask by lag; by default all hourly ones that are measured.
    lags : sequence of int
        Hours before the predicted one at which bins of lags begin; the last one ends with the window.
    hours : int
        How many to draw from each tower at random, of those with a measured target and a full window in which
        something is measured. Each is predicted once for each input, group and bin of lags.
    seed : int
        Of the draw. Which hours are drawn from a tower does not depend on the other towers.

    Returns
    -------
    xarray.Dataset
        Lazily, one task for each tower. Along ``by``, with ``"all"`` towers first, and ``variable``: the
        model's hourly inputs, ``DOY`` and ``TOD`` too, all bands as ``"patches"``, what it is told of a
        place, and ``groups``, each masked in the whole window:

        - ``nse_loss`` [1]: Nash-Sutcliffe efficiency less that without the variable, and its
          ``nse_loss_interval``, which holds 95 % of what towers drawn with replacement give
          (:func:`xcarbon.evaluation.bootstrap.pooled_nse`): NaN for a class of one tower, and too narrow
          for one of a few,
        - ``mse_rise``, ``rmse_rise``: mean squared error without the variable, and its root, less those with
          it, in units of the target squared and of the target,
        - ``change``: mean absolute difference of the two predictions, in units of the target,
        - ``n``: number of hours.

        The same by ``lag``, as ``lag_nse_loss`` and so on: there ``lagged`` is masked in the hours of a bin
        alone, of which ``lag_bnds`` has the first one and the one after the last. Not for a model that sees a
        single hour. And along ``by`` the model's ``nse`` and ``rmse`` in the drawn hours, nothing masked.

        Without a measured target there are ``change`` and ``n`` alone.

    Raises
    ------
    ModelError
        If the model does not predict ``target``, or cannot be loaded.
    OptionError
        If ``by`` is not a coordinate on ``site``, ``groups`` or ``lagged`` name what the model does not read,
        or ``lags`` or ``hours`` are not possible.
    VariableError
        If ``ds`` has none of the model's predictors, or is no Dataset of towers.

    Notes
    -----
    With the measured :math:`y`, the prediction :math:`x`, and :math:`x'` without a variable,

    .. math::
        \frac{\sum (y - x')^2 - \sum (y - x)^2}{\sum (y - \bar y)^2}, \qquad
        \frac{1}{n} \sum (y - x')^2 - \frac{1}{n} \sum (y - x)^2, \qquad
        \frac{1}{n} \sum |x' - x|

    are ``nse_loss``, ``mse_rise`` and ``change``, pooled over the hours of a class. They tell what the model
    makes of a variable, not what the flux does: what towers hardly ever measure is not missed, and where two
    variables tell the same, neither is. A loss below zero is that of a variable which misleads the model. An
    hour for which nothing measured is left in the window has no prediction, and does not count. Towers count
    alike, however long their records are.

    A worker holds, for each of its threads, the record of a tower, and its windows some three times: each
    4 bytes for every drawn hour, hour of the model's context and variable.

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
        raise ModelError(f"the model predicts {list(model.targets)}, not {target}")
    if hours < 1:
        raise OptionError(f"hours must be at least 1, found {hours}")
    config = model.config
    whole, binned = _whole_masks(config, groups or {}), _lag_masks(config, lagged, lags)
    inputs = model_inputs(
        ds,
        config.variables,
        config.bands,
        target=target if target in ds else None,
        max_qc=model.scaler.max_qc,
    )
    place = list(inputs["hourly"].dims[:-2])
    if place != ["site"]:
        raise VariableError(f"explaining needs towers on (site, time), found {place}")
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
    """Masks of the whole window, for each input and group."""
    inputs = (*config.variables, *([PATCHES] if config.bands else []), *config.statics)
    for name, members in groups.items():
        unknown = [member for member in members if member not in inputs]
        if unknown or name in inputs:
            found = f"{unknown} in {name!r}" if unknown else f"the name {name!r}"
            raise OptionError(f"a group has a name of its own and is of inputs {list(inputs)}, found {found}")
    alone = {name: (name,) for name in inputs}
    together = {name: tuple(members) for name, members in groups.items()}
    return {name: _Mask(members, 0, config.context) for name, members in (alone | together).items()}


def _lag_masks(config: ModelConfig, lagged: Sequence[str] | None, lags: Sequence[int]) -> dict[int, _Mask]:
    """Masks of some hours before the predicted one, by the first lag; none for a model of a single hour."""
    measured = [code for code in config.variables if code not in TIME_FEATURES]
    known = (*config.variables, *([PATCHES] if config.bands else []))
    chosen = tuple(measured if lagged is None else lagged)
    if not chosen or set(chosen) - set(known):
        raise OptionError(f"lagged must be some of the hourly inputs {list(known)}, found {list(chosen)}")
    first = [lag for lag in lags if lag < config.context]
    if not first or first[0] < 0 or list(lags) != sorted(set(lags)):
        window = f"0 to {config.context - 1}"
        raise OptionError(f"lags must rise from one within the window, {window} hours, found {list(lags)}")
    if config.context == 1:
        return {}
    ends = [*first[1:], config.context]
    return {lag: _Mask(chosen, lag, end) for lag, end in zip(first, ends, strict=False)}


# --- Hours of towers, predicted with and without ------------------------------


def _predict_without(
    inputs: xr.Dataset, model: CarbonModel, target: str, masks: list[_Mask], hours: int, seed: int
) -> xr.Dataset:
    """Draw hours and predict them with masks, lazily.

    Returns
    -------
    xarray.Dataset
        ``whole (site, time)``, ``masked (site, mask, time)`` and, if it is measured,
        ``observed (site, time)``, in units of the target. ``time`` counts the drawn hours; NaN where a
        tower has fewer.
    """
    stamps = da.from_array(inputs["time"].values, chunks=-1)
    towers = np.array([zlib.crc32(str(site).encode()) for site in inputs["site"].values])
    arrays = [_by_tower(inputs["hourly"]), "stv", stamps, "t", da.from_array(towers, chunks=1), "s"]
    arrays += [_by_tower(inputs["target"]), "st"] if "target" in inputs else [None, None]
    statics = model.config.statics
    arrays += [stack_statics(inputs, statics), "sk"] if statics else [None, None]
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
        # A Delayed is sent once to each worker; a plain argument would be a part of every task.
        model=delayed(model, pure=True),
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
    """Put all of a tower into one chunk."""
    return array.data.rechunk(dict.fromkeys(range(1, array.ndim), -1))


def _explain_tower(
    hourly: Floats,
    stamps: NDArray[np.datetime64],
    tower: NDArray[np.int64],
    observed: Floats | None,
    statics: Floats | None,
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
    series, config = hourly[0], model.config
    images, index = None, np.full(len(series), -1)
    if patches is not None and days is not None:
        images = patches[0]
        index = patch_index(stamps, days, np.isfinite(images).all(axis=(1, 2, 3)))
    # How many of the last T hours are observed.
    count = np.convolve(_observed(series, index, config), np.ones(config.context))[: len(series)]
    candidates = count.round() > 0
    candidates[: config.context - 1] = False
    if observed is not None:
        candidates &= np.isfinite(observed[0])
    generator = np.random.default_rng([seed, int(tower[0])])
    drawn = np.sort(generator.permutation(np.flatnonzero(candidates))[:hours])  # (N,)
    window = drawn[:, np.newaxis] + np.arange(1 - config.context, 1)  # (N, T)
    sample = _Sample(series[window], index[window], images, None if statics is None else statics[0])
    result = np.full((1, 2 + len(masks), hours), np.nan, np.float32)
    if observed is not None:
        result[0, 0, : len(drawn)] = observed[0, drawn]
    result[0, 1, : len(drawn)] = _predict(sample, model)[row]
    for number, mask in enumerate(masks, start=2):
        result[0, number, : len(drawn)] = _predict(sample.without(mask, config), model)[row]
    return result


def _predict(sample: _Sample, model: CarbonModel) -> Floats:
    """Predict the last hour of each window, ``(outputs, N)``; NaN where nothing is observed in it."""
    config, patches, statics = model.config, sample.patches, sample.statics
    seen = _observed(sample.hourly, sample.index, config).any(axis=1)
    if not seen.any():
        return np.full((len(model.outputs), seen.size), np.nan, np.float32)
    # One window after another is a series, too, of which every T-th hour is wanted.
    series = sample.hourly.reshape(-1, len(config.variables))
    wanted = np.zeros(len(series) - config.context + 1, bool)
    wanted[:: config.context] = seen
    if patches is None:
        output = model.predict_series(series, wanted, statics=statics)
    else:
        used, index = np.unique(sample.index.ravel(), return_inverse=True)
        nothing = int(used[0] < 0)
        output = model.predict_series(series, wanted, patches[used[nothing:]], index - nothing, statics)
    return output[:, :: config.context]


def _observed(hourly: Floats, index: NDArray[np.int64], config: ModelConfig) -> NDArray[np.bool_]:
    """Tell in which hours something is observed, ``(..., V), (...) -> (...)``."""
    measured = [number for number, code in enumerate(config.variables) if code not in TIME_FEATURES]
    observed: NDArray[np.bool_] = np.isfinite(hourly[..., measured]).any(axis=-1) | (index >= 0)
    return observed


# --- From predictions to importance -------------------------------------------


def _compare(drawn: xr.Dataset, target: str, by: str | None) -> xr.Dataset:
    """Compare the prediction with those with masks, in hours that both predict."""
    masked = drawn["masked"]
    whole = drawn["whole"].where(masked.notnull())
    # Of an absolute change and zero, the bias is the mean.
    changes = _pooled(_moments(xr.zeros_like(drawn["whole"]), abs(masked - whole), target), by)
    compared = {"change": changes["bias"], "n": changes["n"]}
    if "observed" in drawn:
        towers = _moments(drawn["observed"], xr.concat([whole, masked], "sight"), target)
        scores = _pooled(towers, by)
        seeing, blind = scores.isel(sight=0), scores.isel(sight=1)
        compared = {
            "nse_loss": seeing["nse"] - blind["nse"],
            "nse_loss_interval": _intervals(towers, by),
            "mse_rise": blind["rmse"] ** 2 - seeing["rmse"] ** 2,
            "rmse_rise": blind["rmse"] - seeing["rmse"],
            **compared,
        }
    return xr.Dataset(compared)


def _moments(observed: xr.DataArray, predicted: xr.DataArray, target: str) -> xr.Dataset:
    return moments(observed.to_dataset(name=target), predicted.rename(target))


def _pooled(towers: xr.Dataset, by: str | None) -> xr.Dataset:
    """Scores as of :func:`xcarbon.evaluation.scores.score`, of all towers and, if asked for, by class."""
    everywhere = pooled(towers)
    if by is None:
        return everywhere
    joined = xr.concat([everywhere.expand_dims({by: [ALL]}), pooled(towers, by)], by, join="exact")
    return joined.assign_coords({by: joined[by].values.astype(str)}).transpose(by, ...)


def _intervals(towers: xr.Dataset, by: str | None) -> xr.DataArray:
    """Interval of the loss of efficiency, in the order of :func:`_pooled`."""
    members = {ALL: np.arange(towers.sizes["site"])}
    if by is not None:
        labels = towers[by].values.astype(str)
        members |= {name: np.flatnonzero(labels == name) for name in np.unique(labels)}
    intervals: xr.DataArray = xr.apply_ufunc(
        _draw_losses,
        *(towers[name] for name in ("n", "mean", "sst", "sse")),
        kwargs={"groups": list(members.values())},
        input_core_dims=[["sight", "site"]] * 4,
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
    """Kernel of :func:`_intervals`: ``(..., sight, site) -> (..., group, bound)``; NaN for a single tower."""
    intervals = np.full((*n.shape[:-2], len(groups), 2), np.nan)
    for number, group in enumerate(groups):
        if len(group) > 1:
            count, centre, varied, errors = (each[..., group] for each in (n, mean, sst, sse))
            nse = bootstrap.pooled_nse(count, centre, varied, errors, bootstrap.draw(len(group)))
            intervals[..., number, :] = bootstrap.interval(nse[..., 0, :] - nse[..., 1, :])
    return intervals


def _describe(explained: xr.Dataset, model: CarbonModel, target: str) -> xr.Dataset:
    """Add attributes, and where the model comes from."""
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
    explained["variable"].attrs = {"long_name": "what is masked"}
    if "lag" in explained.coords:
        explained["lag"].attrs = {
            "long_name": "time before the predicted hour",
            "units": "h",
            "bounds": "lag_bnds",
        }
    title = f"what a model of {target} reads"
    explained.attrs = {"Conventions": CONVENTIONS, "title": title, **provenance_attrs(model)}
    return log(explained, f"{title}, by masking its inputs")


def _squared(units: str) -> str:
    """Square CF units, ``"m s-1"`` to ``"m2 s-2"``."""
    powers = re.findall(r"([A-Za-z]+)(-?\d*)", units)
    return " ".join(f"{base}{2 * int(power or 1)}" for base, power in powers)
