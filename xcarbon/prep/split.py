"""Split towers into training, validation and test sets: by site, never by hour."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import xarray as xr

from xcarbon.core.errors import LeakageError, MetadataError, OptionError

EARTH_RADIUS = 6371.0088  # [km], mean


class Split(NamedTuple):
    """Towers to train on, to choose a model by, and to report."""

    train: xr.Dataset
    val: xr.Dataset
    test: xr.Dataset


def split(
    ds: xr.Dataset,
    seed: int = 0,
    *,
    test: float | None = None,
    val: float = 0.2,
    by: str = "igbp",
    min_distance: float = 1.0,
) -> Split:
    """Split towers at random, stratified by class.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers along ``site``, with coordinates ``lat``, ``lon`` and ``by``.
    seed : int
        Of the random order.
    test : float, optional
        Share of each class's towers in the test set; by default the paper's rule,
        ``min(5, ceil(0.2 n))`` towers of a class of n.
    val : float
        Share of the towers left in each class that goes to the validation set.
    by : str
        Coordinate on ``site`` that holds the class.
    min_distance : float
        Towers nearer than this [km] are kept on one side.

    Returns
    -------
    Split
        ``train``, ``val`` and ``test``: lazy selections of ``ds``. No class is left without a
        training tower: a class of one tower, or of one cluster of near ones, is trained on.

    Raises
    ------
    OptionError
        If a share is not in [0, 1).
    MetadataError
        If a tower has no coordinates or class.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> train, val, test = split(synthetic_towers(12), seed=0)
    >>> train.sizes["site"] + val.sizes["site"] + test.sizes["site"]
    12
    """
    for name, share in {"test": test, "val": val}.items():
        if share is not None and not 0 <= share < 1:
            raise OptionError(f"{name} is a share of the towers and must be in [0, 1), found {share}")
    classes = _classes(ds, by)
    groups = near_groups(_coordinate(ds, "lat"), _coordinate(ds, "lon"), min_distance)
    order = np.random.default_rng(seed).permutation(groups.max() + 1)
    side = np.full(ds.sizes["site"], "train", dtype="U5")
    share = 0.0
    for name in sorted(set(classes)):
        of_class = classes == name
        count = of_class.sum()
        wanted = min(5, math.ceil(0.2 * count)) if test is None else round(test * count)
        _draw(side, "test", wanted, of_class, classes, groups, order)
        # Shares add up over the classes: of many small ones, each rounded by itself, nothing would be left.
        share += val * (side[of_class] == "train").sum()
        wanted = round(share - (side == "val").sum()) + (side[of_class] == "val").sum()
        _draw(side, "val", wanted, of_class, classes, groups, order)
    return Split(*(ds.isel(site=np.flatnonzero(side == name)) for name in Split._fields))


def _draw(
    side: np.ndarray,
    name: str,
    wanted: int,
    of_class: np.ndarray,
    classes: np.ndarray,
    groups: np.ndarray,
    order: np.ndarray,
) -> None:
    """Move whole groups of near towers to one side until enough of a class are there, in place."""
    for group in order:
        members = groups == group
        have = ((side == name) & of_class).sum()
        if have >= wanted:
            return
        free = side == "train"
        enters = (members & free & of_class).any()
        # Each class keeps a training tower: without any, nothing could be learnt about it.
        keeps_one = set(classes[members]) <= set(classes[free & ~members])
        if enters and keeps_one:
            side[members] = name


def near_groups(lat: np.ndarray, lon: np.ndarray, min_distance: float) -> np.ndarray:
    """Group towers that are connected by distances below a limit.

    Parameters
    ----------
    lat, lon : numpy.ndarray
        Coordinates [degrees], shape ``(sites,)``.
    min_distance : float
        Limit [km].

    Returns
    -------
    numpy.ndarray
        Number of each tower's group, from 0, shape ``(sites,)``.

    Examples
    --------
    >>> near_groups(np.array([50.0, 50.001, 60.0]), np.zeros(3), 1.0)
    array([0, 0, 1])
    """
    near = (distances(lat, lon, lat, lon) < min_distance) | np.eye(len(lat), dtype=bool)
    groups = np.arange(len(lat))
    while True:
        lowest = np.where(near, groups, len(lat)).min(axis=1)
        if (lowest == groups).all():
            return np.unique(groups, return_inverse=True)[1]
        groups = lowest


def distances(lat_a: np.ndarray, lon_a: np.ndarray, lat_b: np.ndarray, lon_b: np.ndarray) -> np.ndarray:
    """Great-circle distances between two sets of towers.

    Parameters
    ----------
    lat_a, lon_a, lat_b, lon_b : numpy.ndarray
        Coordinates [degrees], shapes ``(a,)`` and ``(b,)``.

    Returns
    -------
    numpy.ndarray
        Distances [km], shape ``(a, b)``, by the haversine formula, which is exact for small ones.
    """
    lat_a, lon_a, lat_b, lon_b = (np.radians(x, dtype=float) for x in (lat_a, lon_a, lat_b, lon_b))
    across = np.sin((lat_a[:, None] - lat_b) / 2) ** 2
    along = np.cos(lat_a[:, None]) * np.cos(lat_b) * np.sin((lon_a[:, None] - lon_b) / 2) ** 2
    return 2 * EARTH_RADIUS * np.arcsin(np.sqrt(np.clip(across + along, 0, 1)))


def check_leakage(train: xr.Dataset, other: xr.Dataset, min_distance: float = 1.0) -> None:
    """Make sure that two sets share no tower and keep their distance.

    Parameters
    ----------
    train, other : xarray.Dataset
        Towers along ``site`` with ``lat`` and ``lon``.
    min_distance : float
        Least distance [km] between a tower of one set and a tower of the other.

    Raises
    ------
    LeakageError
        Naming the towers in question.
    """
    ours, theirs = np.atleast_1d(train["site"].values), np.atleast_1d(other["site"].values)
    shared = sorted(set(ours) & set(theirs))
    if shared:
        raise LeakageError(
            f"{len(shared)} towers are in the training and in the other set: {', '.join(shared[:5])}; "
            "split with ds.carbon.split(), or pass allow_leakage=True if this is what you want"
        )
    apart = distances(*(_coordinate(ds, name) for ds in (train, other) for name in ("lat", "lon")))
    if apart.size and apart.min() < min_distance:
        i, j = np.unravel_index(apart.argmin(), apart.shape)
        raise LeakageError(
            f"{ours[i]} and {theirs[j]} are {apart.min():.2f} km apart, less than {min_distance} km: their "
            "weather and vegetation are the same; split with ds.carbon.split(min_distance=...), or pass "
            "allow_leakage=True if this is what you want"
        )


def _coordinate(ds: xr.Dataset, name: str) -> np.ndarray:
    """Coordinates of all towers, none of them missing."""
    values = np.atleast_1d(ds[name].values) if name in ds.coords else np.array([np.nan])
    if not np.isfinite(values).all():
        sites = np.atleast_1d(ds["site"].values)[~np.isfinite(values)] if name in ds.coords else "all towers"
        raise MetadataError(f"no {name} for {sites}: towers without coordinates cannot be kept apart")
    return values


def _classes(ds: xr.Dataset, by: str) -> np.ndarray:
    """Classes of all towers, none of them missing."""
    on_site = [str(name) for name, coordinate in ds.coords.items() if coordinate.dims == ("site",)]
    if by not in on_site:
        raise MetadataError(f"the Dataset has no {by!r} on site to split by; there are {on_site}")
    classes = ds[by]
    missing = classes.isnull() | (classes == "")
    if missing.any():
        raise MetadataError(
            f"no {by} for {ds['site'].values[missing]}: a split needs the class of all towers"
        )
    return classes.values
