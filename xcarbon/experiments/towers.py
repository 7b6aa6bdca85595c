"""Training, validation and scored towers of an experiment, and the scored hours."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import xarray as xr

from xcarbon.core.errors import MetadataError, OptionError
from xcarbon.core.options import progress_bar
from xcarbon.core.validation import check_variables
from xcarbon.core.variables import VARIABLES
from xcarbon.experiments import paper
from xcarbon.prep.periods import map_towers, period_sums
from xcarbon.prep.quality import mask_quality
from xcarbon.prep.split import split as random_split

#: Optional coordinate on ``site`` with the split of a store.
PAPER_SPLIT = "paper_split"
#: Coordinates that the report needs.
PLACE = ("lat", "lon", "igbp")
#: Length of the drivers before the first scored hour, longer than the context of any window.
LEAD = np.timedelta64(14, "D")


class Sets(NamedTuple):
    """Training, validation and scored towers; ``development`` if the validation towers are scored."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    scored: tuple[str, ...]
    development: bool


def sets(ds: xr.Dataset, split: str, seed: int) -> Sets:
    """Split towers as the paper or at random; without test towers the validation towers are scored."""
    if split == "random":
        named = random_split(ds, seed)
        train, val, test = (tuple(map(str, part["site"].values)) for part in named)
    else:
        train, val, test = (_of_paper(ds, name) for name in paper.SETS)
    if not train or not (test or val):
        raise OptionError(
            f"split {split!r} of {ds.sizes['site']} towers results in {len(train)} training, {len(val)} "
            f"validation and {len(test)} test towers: for other towers than those of the paper use split = "
            f"'random' or add a coordinate {PAPER_SPLIT} with the values train, val or test to the store"
        )
    return Sets(train, val, test or val, development=not test)


def draw(sites: Sequence[str], share: float, seed: int) -> tuple[str, ...]:
    """Draw a share of towers, at least one, in their order. A larger share contains a smaller one."""
    order = np.random.default_rng(seed).permutation(len(sites))
    return tuple(sites[number] for number in sorted(order[: math.ceil(share * len(sites))]))


def _of_paper(ds: xr.Dataset, name: str) -> tuple[str, ...]:
    """Return the towers of one of the paper's sets, as in the store or as listed by the paper."""
    known = ds[PAPER_SPLIT] == name if PAPER_SPLIT in ds.coords else ds["site"].isin(list(paper.sites(name)))
    return tuple(map(str, ds["site"].values[known.values]))


def survey(ds: xr.Dataset, target: str, max_qc: int) -> xr.Dataset:
    """Read the target once, and compute ``hours``, the number, and ``total``, the sum, ``(site, year)``."""
    check_variables(ds, (target,), "an experiment")
    missing = [name for name in PLACE if name not in ds.coords]
    if missing:
        raise MetadataError(f"an experiment needs lat, lon and igbp of all towers: the store lacks {missing}")
    years, slot = np.unique(ds["time"].dt.year.values, return_inverse=True)
    observed = mask_quality(ds, [target], max_qc)[target]
    kernel = partial(period_sums, size=len(years))
    sums = map_towers(
        kernel, observed, xr.DataArray(slot, dims="time"), sizes={"moment": 2, "year": len(years)}
    )
    with progress_bar("counting hours"):
        sums = sums.reset_coords(drop=True).assign_coords(year=years).compute()
    hours, total = sums.isel(moment=0), sums.isel(moment=1)
    return xr.Dataset({"hours": hours.astype("int64"), "total": total})


def fingerprint(ds: xr.Dataset, counts: xr.Dataset, sites: Sequence[str]) -> str:
    """Return a hash of observations, variables and history, which is independent of the path."""
    of_sites = counts.sel(site=list(sites))
    content = {
        "variables": sorted(map(str, ds.data_vars)),
        "history": str(ds.attrs.get("history", "")),
        "hours": of_sites["hours"].values.tolist(),
        "total": of_sites["total"].round(3).values.tolist(),
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def period(counts: xr.Dataset, sites: Sequence[str], hours: str) -> xr.Dataset | None:
    """Return ``start`` and ``end (site)`` of the year with the most observations; None for all hours."""
    if hours == "all":
        return None
    best = counts["hours"].sel(site=list(sites)).idxmax("year").astype("int64")
    year = (best.values - 1970).astype("M8[Y]")
    edges = {"start": year, "end": year + 1}
    return xr.Dataset({name: best.copy(data=edge.astype("M8[ns]")) for name, edge in edges.items()})


def drivers(ds: xr.Dataset, when: xr.Dataset | None) -> xr.Dataset:
    """Mask the predictors outside the period and the lead before it, lazily: models skip such hours."""
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
    """Return the observations ``(site, time)`` that are scored, lazily; NaN in other hours."""
    observed = mask_quality(ds, [target], max_qc)[target]
    return observed if when is None else observed.where(_inside(observed, when["start"], when["end"]))


def _inside(array: xr.DataArray, start: xr.DataArray, end: xr.DataArray) -> xr.DataArray:
    """Return which hours or days of each tower are from start to end, ``(site, time or day)``."""
    stamps = array["time" if "time" in array.dims else "day"].reset_coords(drop=True)
    return ((stamps >= start) & (stamps < end)).transpose("site", ...)
