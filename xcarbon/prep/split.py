"""Split towers into sets or folds. All hours of a tower go to the same one."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.sparse.csgraph import connected_components

from xcarbon.core.display import as_html, as_text, count_classes
from xcarbon.core.errors import LeakageError, MetadataError, OptionError
from xcarbon.prep.labels import read_labels

EARTH_RADIUS = 6371.0088  #: Mean radius of the Earth [km].


class Split(NamedTuple):
    """Towers for training, for the choice of a model, and for the final scores.

    Attributes
    ----------
    train, val, test : xarray.Dataset
        Selections of the Dataset along ``site``.
    """

    train: xr.Dataset
    val: xr.Dataset
    test: xr.Dataset

    def __repr__(self) -> str:
        return as_text("Split of towers", self._summary())

    def _repr_html_(self) -> str:
        return as_html("Split of towers", self._summary())

    def _summary(self) -> dict[str, str]:
        """Return the number of towers of each set and class."""
        rows = {}
        for name, ds in zip(self._fields, self, strict=True):
            classes = count_classes(ds["igbp"].values) if "igbp" in ds.coords else ""
            count = ds.sizes.get("site", 1)
            rows[name] = f"{count} tower{'s' * (count != 1)}" + f": {classes}" * bool(classes)
        return rows


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
        Random seed for the order in which towers are drawn.
    test : float, optional
        Share of each class's towers in the test set. The default is the rule of arXiv 2406.04940:
        ``min(5, ceil(0.2 n))`` towers of a class of n.
    val : float
        Share of the remaining towers of each class that goes to the validation set.
    by : str
        Coordinate on ``site`` that contains the class.
    min_distance : float
        Towers that are closer to each other than this distance [km] go to the same set.

    Returns
    -------
    Split
        ``train``, ``val`` and ``test``: lazy selections of ``ds``. Each class has at least one training
        tower. Classes with a single tower, or with a single group of near towers, go to the training set.

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
    ds = read_labels(ds)
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
        # Shares are accumulated over the classes, because rounding per class gives 0 for all small classes.
        share += val * (side[of_class] == "train").sum()
        wanted = round(share - (side == "val").sum()) + (side[of_class] == "val").sum()
        _draw(side, "val", wanted, of_class, classes, groups, order)
    return Split(*(ds.isel(site=np.flatnonzero(side == name)) for name in Split._fields))


def folds(
    ds: xr.Dataset, count: int = 5, seed: int = 0, *, by: str = "igbp", min_distance: float = 1.0
) -> xr.DataArray:
    """Assign towers to folds for cross-validation, stratified by class.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers along ``site``, with coordinates ``lat``, ``lon`` and ``by``.
    count : int
        Number of folds.
    seed : int
        Random seed for the order in which towers are assigned.
    by : str
        Coordinate on ``site`` that contains the class.
    min_distance : float
        Towers that are closer to each other than this distance [km] go to the same fold.

    Returns
    -------
    xarray.DataArray
        Number of the fold of each tower, from 0, int64, shape ``(site,)``. The groups of near towers of each
        class are distributed evenly; a group counts as its first tower.

    Raises
    ------
    OptionError
        If there are fewer than two folds.
    MetadataError
        If a tower has no coordinates or class.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> sorted(folds(synthetic_towers(4, patches=False), 2).values.tolist())
    [0, 0, 1, 1]
    """
    if count < 2:
        raise OptionError(f"count must be at least 2 folds, found {count}")
    ds = read_labels(ds)
    classes = _classes(ds, by)
    groups = near_groups(_coordinate(ds, "lat"), _coordinate(ds, "lon"), min_distance)
    first = np.unique(groups, return_index=True)[1]
    order = np.random.default_rng(seed).permutation(len(first))
    # Sorted by class and then at random, the groups go to the folds in turn.
    order = order[np.argsort(classes[first][order], kind="stable")]
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(first)) % count
    return xr.DataArray(fold[groups], {"site": ds["site"]}, ("site",), name="fold")


def _draw(
    side: np.ndarray,
    name: str,
    wanted: int,
    of_class: np.ndarray,
    classes: np.ndarray,
    groups: np.ndarray,
    order: np.ndarray,
) -> None:
    """Move whole groups of near towers to one set until it has enough of a class, in place."""
    for group in order:
        members = groups == group
        have = ((side == name) & of_class).sum()
        if have >= wanted:
            return
        free = side == "train"
        enters = (members & free & of_class).any()
        # Each class keeps a training tower, because a model cannot learn a class without training data.
        keeps_one = set(classes[members]) <= set(classes[free & ~members])
        if enters and keeps_one:
            side[members] = name


def near_groups(lat: np.ndarray, lon: np.ndarray, min_distance: float) -> np.ndarray:
    """Group towers that are connected by distances below ``min_distance`` [km].

    ``lat`` and ``lon`` [degrees] and the result have the shape ``(sites,)``. Groups are integers from 0
    in the order of their first towers.

    Examples
    --------
    >>> near_groups(np.array([50.0, 50.001, 60.0]), np.zeros(3), 1.0)
    array([0, 0, 1])
    """
    near = distances(lat, lon, lat, lon) < min_distance
    return connected_components(near, directed=False)[1].astype(np.int64)


def distances(lat_a: np.ndarray, lon_a: np.ndarray, lat_b: np.ndarray, lon_b: np.ndarray) -> np.ndarray:
    """Compute great-circle distances [km], ``(a, b)``, between points ``(a,)`` and ``(b,)`` [degrees].

    The haversine formula is accurate for small distances.

    Examples
    --------
    >>> distances(np.array([50.0]), np.array([0.0]), np.array([51.0, 50.0]), np.array([0.0, 1.0])).round(1)
    array([[111.2,  71.5]])
    """
    lat_a, lon_a, lat_b, lon_b = (np.radians(x, dtype=float) for x in (lat_a, lon_a, lat_b, lon_b))
    across = np.sin((lat_a[:, None] - lat_b) / 2) ** 2
    along = np.cos(lat_a[:, None]) * np.cos(lat_b) * np.sin((lon_a[:, None] - lon_b) / 2) ** 2
    return 2 * EARTH_RADIUS * np.arcsin(np.sqrt(np.clip(across + along, 0, 1)))


def check_leakage(train: xr.Dataset, other: xr.Dataset, min_distance: float = 1.0) -> None:
    """Check that two sets share no tower and have a minimum distance from each other.

    Parameters
    ----------
    train, other : xarray.Dataset
        Towers along ``site`` with ``lat`` and ``lon``.
    min_distance : float
        Smallest distance [km] that is allowed between a tower of one set and a tower of the other.

    Raises
    ------
    LeakageError
        If a tower is in both sets, or two towers are too close; the message names them.
    MetadataError
        If a tower has no latitude or longitude.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> ds = synthetic_towers(2, patches=False)
    >>> check_leakage(ds.isel(site=[0]), ds.isel(site=[1]))
    """
    ours, theirs = np.atleast_1d(train["site"].values), np.atleast_1d(other["site"].values)
    shared = sorted(set(ours) & set(theirs))
    if shared:
        raise LeakageError(
            f"{len(shared)} towers are in the training set and in the other set: {', '.join(shared[:5])}; "
            "split with ds.carbon.split(), or pass allow_leakage=True if you want to share them"
        )
    apart = distances(*(_coordinate(ds, name) for ds in (train, other) for name in ("lat", "lon")))
    if apart.size and apart.min() < min_distance:
        i, j = np.unravel_index(apart.argmin(), apart.shape)
        raise LeakageError(
            f"{ours[i]} and {theirs[j]} are {apart.min():.2f} km apart, less than {min_distance} km, so they "
            "have nearly the same weather and vegetation; split with ds.carbon.split(min_distance=...), or "
            "pass allow_leakage=True if you want to use both"
        )


def _coordinate(ds: xr.Dataset, name: str) -> np.ndarray:
    """Coordinate of all towers, ``(sites,)``; raises if one is missing."""
    values = np.atleast_1d(ds[name].values) if name in ds.coords else np.array([np.nan])
    if not np.isfinite(values).all():
        sites = np.atleast_1d(ds["site"].values)[~np.isfinite(values)] if name in ds.coords else "all towers"
        raise MetadataError(
            f"there is no {name} for {sites}: set it, because the distances between towers are needed"
        )
    return values


def _classes(ds: xr.Dataset, by: str) -> np.ndarray:
    """Class of each tower, ``(sites,)``; raises if one is missing."""
    on_site = [str(name) for name, coordinate in ds.coords.items() if coordinate.dims == ("site",)]
    if by not in on_site:
        raise MetadataError(
            f"the Dataset has no {by!r} on site, which the split needs; its coordinates on site are {on_site}"
        )
    classes = ds[by]
    missing = classes.isnull() | (classes == "")
    if missing.any():
        raise MetadataError(
            f"there is no {by} for {ds['site'].values[missing]}: set it, because classes are split one by one"
        )
    return classes.values
