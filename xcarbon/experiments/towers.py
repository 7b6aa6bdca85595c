"""The towers of an experiment: which are trained on and which are scored, and in which hours."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from xcarbon.core.errors import MetadataError, OptionError
from xcarbon.core.options import progress_bar
from xcarbon.core.validation import check_variables
from xcarbon.core.variables import VARIABLES
from xcarbon.experiments import paper
from xcarbon.prep.quality import mask_quality
from xcarbon.prep.split import split as random_split

#: Coordinate on ``site`` with a split of the store's own.
PAPER_SPLIT = "paper_split"
#: Coordinates without which towers can be neither grouped nor drawn.
PLACE = ("lat", "lon", "igbp")
#: Before the hours to score a model sees the weather of this time, more than any window.
LEAD = np.timedelta64(14, "D")


class Sets(NamedTuple):
    """Towers by what they are for.

    Attributes
    ----------
    train, val, scored : tuple of str
        To learn from, to choose a model by, to compare models at.
    development : bool
        Whether the scored towers are those that models are chosen by, for want of others.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    scored: tuple[str, ...]
    development: bool


def sets(ds: xr.Dataset, split: str, seed: int) -> Sets:
    """Tell what each tower is for.

    Parameters
    ----------
    ds : xarray.Dataset
        All towers of the store.
    split : {"paper", "random"}
        As in :class:`~xcarbon.experiments.config.Experiment`.
    seed : int
        Of a random split.

    Returns
    -------
    Sets
        Where there is no test tower, the validation towers are scored.

    Raises
    ------
    OptionError
        If there is no tower to train on, or none to score.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> sets(synthetic_towers(12, patches=False), "random", seed=0).development
    False
    """
    if split == "random":
        named = random_split(ds, seed)
        train, val, test = (tuple(map(str, part["site"].values)) for part in named)
    else:
        train, val, test = (_of_paper(ds, name) for name in paper.SETS)
    if not train or not (test or val):
        raise OptionError(
            f"split {split!r} gives {len(train)} of {ds.sizes['site']} towers to train on, {len(val)} to "
            f"choose a model by and {len(test)} to test: a store of other towers than the paper's takes "
            f"split = 'random', or a coordinate {PAPER_SPLIT} that says train, val or test"
        )
    return Sets(train, val, test or val, development=not test)


def draw(sites: Sequence[str], share: float, seed: int) -> tuple[str, ...]:
    """Draw a share of some towers, at least one: a larger share holds the towers of a smaller one.

    Parameters
    ----------
    sites : sequence of str
        The towers.
    share : float
        In (0, 1].
    seed : int
        Of the order.

    Returns
    -------
    tuple of str
        In the order of ``sites``.

    Examples
    --------
    >>> draw(["a", "b", "c", "d"], 0.5, seed=0), draw(["a", "b", "c", "d"], 0.75, seed=0)
    (('a', 'c'), ('a', 'b', 'c'))
    """
    order = np.random.default_rng(seed).permutation(len(sites))
    return tuple(sites[number] for number in sorted(order[: math.ceil(share * len(sites))]))


def _of_paper(ds: xr.Dataset, name: str) -> tuple[str, ...]:
    """Towers of one of the paper's sets: as the store says, or as the paper lists them."""
    known = ds[PAPER_SPLIT] == name if PAPER_SPLIT in ds.coords else ds["site"].isin(list(paper.sites(name)))
    return tuple(map(str, ds["site"].values[known.values]))


def survey(ds: xr.Dataset, target: str, max_qc: int) -> xr.Dataset:
    """Count what there is to learn and to score, reading the target of all towers once.

    Parameters
    ----------
    ds : xarray.Dataset
        All towers of the store.
    target : str
        Code of the variable to predict.
    max_qc : int
        Highest quality code that counts.

    Returns
    -------
    xarray.Dataset
        ``hours`` and ``total (site, year)``: number and sum of the observations, in memory.

    Raises
    ------
    VariableError
        If the store has no target.
    MetadataError
        If it does not tell where towers are, or their class.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> survey(synthetic_towers(2, patches=False, gaps=False), "NEE", 1)["hours"].values
    array([[8760],
           [8760]])
    """
    check_variables(ds, (target,), "an experiment")
    missing = [name for name in PLACE if name not in ds.coords]
    if missing:
        raise MetadataError(f"an experiment needs lat, lon and igbp of all towers: the store lacks {missing}")
    years, slot = np.unique(ds["time"].dt.year.values, return_inverse=True)
    observed = mask_quality(ds, [target], max_qc)[target].chunk(time=-1)
    sums = xr.apply_ufunc(
        _sum_by_year,
        observed,
        kwargs={"slot": slot},
        input_core_dims=[["time"]],
        output_core_dims=[["moment", "year"]],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"moment": 2, "year": len(years)}},
    )
    with progress_bar("counting hours"):
        sums = sums.reset_coords(drop=True).assign_coords(year=years).compute()
    hours, total = sums.isel(moment=0), sums.isel(moment=1)
    return xr.Dataset({"hours": hours.astype("int64"), "total": total})


def _sum_by_year(values: np.ndarray, slot: np.ndarray) -> np.ndarray:
    """Number and sum in each year, ``(sites, time) -> (sites, 2, years)``."""
    known = np.isfinite(values)
    size = slot.max() + 1
    return np.stack(
        [
            [np.bincount(slot[k], minlength=size), np.bincount(slot[k], row[k], size)]
            for row, k in zip(values, known, strict=True)
        ]
    )


def fingerprint(ds: xr.Dataset, counts: xr.Dataset, sites: Sequence[str]) -> str:
    """Tell the data of some towers from other data, wherever the store lies.

    Parameters
    ----------
    ds : xarray.Dataset
        The store.
    counts : xarray.Dataset
        From :func:`survey`.
    sites : sequence of str
        The towers.

    Returns
    -------
    str
        Of the observations to learn from and to score, the variables, and what the store says of its history.
    """
    of_sites = counts.sel(site=list(sites))
    content = {
        "variables": sorted(map(str, ds.data_vars)),
        "history": str(ds.attrs.get("history", "")),
        "hours": of_sites["hours"].values.tolist(),
        "total": of_sites["total"].round(3).values.tolist(),
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def period(counts: xr.Dataset, sites: Sequence[str], hours: str) -> xr.Dataset | None:
    """Tell from when to when each tower is scored.

    Parameters
    ----------
    counts : xarray.Dataset
        From :func:`survey`.
    sites : sequence of str
        The towers.
    hours : {"all", "best-year"}
        As in :class:`~xcarbon.experiments.config.Experiment`.

    Returns
    -------
    xarray.Dataset or None
        ``start`` and ``end (site)``: the calendar year with most observations, the first of several. None
        stands for all hours.
    """
    if hours == "all":
        return None
    best = counts["hours"].sel(site=list(sites)).idxmax("year").astype("int64")
    year = (best.values - 1970).astype("M8[Y]")
    edges = {"start": year, "end": year + 1}
    return xr.Dataset({name: best.copy(data=edge.astype("M8[ns]")) for name, edge in edges.items()})


def drivers(ds: xr.Dataset, when: xr.Dataset | None) -> xr.Dataset:
    """Hide the predictors of hours that are not scored, lazily: models skip hours without any.

    Parameters
    ----------
    ds : xarray.Dataset
        The towers of ``when``.
    when : xarray.Dataset or None
        From :func:`period`.

    Returns
    -------
    xarray.Dataset
        From shortly before the first hour to score to the last.
    """
    if when is None:
        return ds
    start, end = when["start"] - LEAD, when["end"]
    within = slice(start.min().values, end.max().values - np.timedelta64(1, "h"))
    ds = ds.sel({dim: within for dim in ("time", "day") if dim in ds.dims})
    shown = {
        name: array.where(_inside(array, start, end))
        for name, array in ds.data_vars.items()
        if name in VARIABLES or name == "reflectance"
    }
    return ds.assign(shown)


def observations(ds: xr.Dataset, target: str, max_qc: int, when: xr.Dataset | None) -> xr.DataArray:
    """Give what predictions are scored by, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        The towers of ``when``.
    target : str
        Code of the variable.
    max_qc : int
        Highest quality code that counts.
    when : xarray.Dataset or None
        From :func:`period`.

    Returns
    -------
    xarray.DataArray
        ``(site, time)``, missing where it does not count.
    """
    observed = mask_quality(ds, [target], max_qc)[target]
    return observed if when is None else observed.where(_inside(observed, when["start"], when["end"]))


def _inside(array: xr.DataArray, start: xr.DataArray, end: xr.DataArray) -> xr.DataArray:
    """Tell which hours or days of each tower are from start to end, ``(site, time or day)``."""
    stamps = array["time" if "time" in array.dims else "day"].reset_coords(drop=True)
    return ((stamps >= start) & (stamps < end)).transpose("site", ...)
