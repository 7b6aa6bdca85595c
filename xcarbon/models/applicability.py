"""The area of applicability of a model: how far inputs are from those of its training towers.

The dissimilarity index follows H. Meyer and E. Pebesma (2021), Methods in Ecology and Evolution 12,
1620-1633, doi:10.1111/2041-210X.13650. Points are compared in the space of standardised features that are
multiplied by their weights. The index of a point is its distance to the nearest training point, divided by
the mean distance between training points. The threshold is the largest index of training points with respect
to other towers, without outliers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xcarbon.core.errors import ModelError
from xcarbon.core.variables import IGBP_CLASSES

#: Name of the feature whose values are positions in ``IGBP_CLASSES``.
CLASS = "igbp"
#: Largest number of training points from which the reference points and the threshold are computed.
CANDIDATES = 30_000
#: Largest number of training points between which the mean distance is computed.
PAIRED = 4_000
#: Bound of standardised values, so that squares of absurd values are finite in single precision.
EXTREME = 1e4
#: Number of points whose distances to all reference points are computed at once.
BLOCK = 512


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Applicability:
    """The area of applicability of a model.

    The letter F stands for the number of features and R for the number of reference points.

    Attributes
    ----------
    names : tuple of str
        Names of the features. The values of a feature named ``igbp`` are positions in
        :data:`~xcarbon.core.variables.IGBP_CLASSES`; all others are numbers in physical units.
    mean, std : numpy.ndarray
        Mean and standard deviation of each feature, shape ``(F,)``; 0 and 1 for ``igbp``.
    weights : numpy.ndarray
        Weights by which the standardised features are multiplied, shape ``(F,)``.
    class_scale : numpy.ndarray
        Factor of the indicator of each IGBP class, shape ``(17,)``.
    reference : numpy.ndarray
        Standardised reference points, float16, shape ``(R, F)``; NaN where missing, positions of classes.
    mean_distance : float
        Mean distance between training points.
    threshold : float
        Dissimilarity index above which a point is outside the area of applicability.

    Notes
    -----
    The squared distance between two points is the sum over the features that both have, divided by the share
    of these features in the sum of all squared weights. A point with few features therefore has an index, but
    it is based on little: fewer features tend to give a smaller index.

    The class of a point is described by one indicator per class. Indicators are standardised with the share
    of training towers in the class, so that rare classes are far from others, and their squared differences
    are divided by the number of classes in training. A class without training towers counts as that of half
    a tower, which puts it far from everything if the weight of ``igbp`` is not too small.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> towers = np.repeat(np.arange(20), 50)
    >>> warmth = rng.normal(10, 5, 20)[towers] + rng.normal(0, 1, 1000)
    >>> area = Applicability.from_training(warmth[:, np.newaxis], ["TA_30D"], towers, [1.0], size=100)
    >>> area.is_applicable([[10.0], [60.0], [np.nan]]).tolist()
    [True, False, False]
    """

    names: tuple[str, ...]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    weights: NDArray[np.float64]
    class_scale: NDArray[np.float64]
    reference: NDArray[np.float16]
    mean_distance: float
    threshold: float

    @classmethod
    def from_training(
        cls,
        features: ArrayLike,
        names: Sequence[str],
        groups: ArrayLike,
        weights: ArrayLike,
        *,
        size: int = 3000,
        seed: int = 0,
    ) -> Applicability:
        """Compute the area of applicability from the training data of a model.

        Parameters
        ----------
        features : array_like
            Training points, shape ``(n, F)``; NaN where missing. For slow features, one hour of each day is
            enough.
        names : sequence of str
            Names of the features.
        groups : array_like
            Tower of each training point, shape ``(n,)``: numbers or text.
        weights : array_like
            Weights of the features, shape ``(F,)``, for example the square root of their gain in boosted
            trees. With the gain itself, few features decide, since squared differences are multiplied by
            squared weights. A feature of weight 0 is not used.
        size : int
            Largest number of reference points.
        seed : int
            Random seed for sampling training points.

        Returns
        -------
        Applicability

        Raises
        ------
        ModelError
            If shapes do not match, weights are negative or all 0, there are fewer than two towers with
            features, a class is unknown, or all training points are equal.

        Notes
        -----
        At most 30 000 training points, about the same number from each tower, are candidates. Training points
        that lack more than a tenth of the weights are not, because points compared on few features would seem
        close. The reference points are selected one by one as the candidate that is farthest from those
        selected before (missing values count as the mean). For 26 features of 139 real towers, 3000 reference
        points put 0.4 % of the days of other towers on another side of the threshold than all candidates do;
        for 3000 random points it was 0.6 %.

        The threshold is the upper whisker of the indices of training points with respect to reference points
        of other towers: the largest index that is not above Q75 + 1.5 (Q75 - Q25). The fewer reference points
        there are, the larger are all indices, and the threshold with them.
        """
        values, factors = np.asarray(features, np.float64), np.asarray(weights, np.float64)
        labels, towers = np.unique(np.asarray(groups), return_inverse=True)
        shapes = values.shape, factors.shape, towers.shape
        expected = (len(values), len(names)), (len(names),), (len(values),)
        if shapes != expected or not values.size:
            raise ModelError(f"features, weights and groups have the shapes {shapes}, expected {expected}")
        if not (np.isfinite(factors).all() and (factors >= 0).all() and factors.any()):
            raise ModelError(f"weights must be finite, not negative and not all 0, found {factors.tolist()}")
        if size < 1:
            raise ModelError(f"size must be at least 1, found {size}")

        values = np.where(np.isfinite(values), values, np.nan)
        mean, std = _moments(values)
        scale = np.ones(len(IGBP_CLASSES))
        if CLASS in names:
            column = list(names).index(CLASS)
            mean[column], std[column] = 0, 1
            scale = _class_scale(values[:, column], towers)
        empty = np.zeros((0, len(names)), np.float16)
        area = cls(tuple(names), mean, std, factors, scale, empty, mean_distance=1.0, threshold=np.inf)

        rng = np.random.default_rng(seed)
        share = np.isfinite(values) @ (factors**2 / np.sum(factors**2))
        candidates = _sample(towers, share >= 0.9 * share.max(), CANDIDATES, rng)
        points = area._standardise(values[candidates]).astype(np.float16)
        chosen = _farthest(np.nan_to_num(area._encode(points)), size)
        origin = towers[candidates[chosen]]
        area = replace(area, reference=points[chosen])

        sample = _sample(towers, share > 0, CANDIDATES, rng)
        encoded = area._encode(area._standardise(values[sample]))
        area = replace(area, mean_distance=area._mean_distance(rng.permutation(encoded)[:PAIRED]))
        others = area._nearest(encoded, towers[sample], origin) / area.mean_distance
        if np.isnan(others).all():
            raise ModelError(
                f"features of at least two towers are needed, found the towers {labels.tolist()}"
            )
        return replace(area, threshold=upper_whisker(others))

    def dissimilarity(self, features: ArrayLike) -> NDArray[np.float32]:
        """Compute the dissimilarity index of points.

        Parameters
        ----------
        features : array_like
            Points, shape ``(..., F)``, in the order of ``names``; NaN where missing.

        Returns
        -------
        numpy.ndarray
            Index [1], float32, shape ``(...)``: 0 for a reference point, 1 for a point whose distance to the
            nearest reference point is the mean distance between training points; NaN without any feature.

        Raises
        ------
        ModelError
            If the number of features differs or a class is unknown.

        Notes
        -----
        For 3000 reference points and 30 features, one core computes about 180 000 indices per second. Points
        with missing features take three times as long. The memory in use does not grow with the number of
        points, except for the result.
        """
        values = np.asarray(features)
        if values.shape[-1:] != (len(self.names),):
            raise ModelError(f"features must have the shape (..., {len(self.names)}), found {values.shape}")
        flat = values.reshape(-1, len(self.names))
        output = np.empty(len(flat), np.float32)
        for start in range(0, len(flat), BLOCK):
            part = slice(start, start + BLOCK)
            output[part] = self._nearest(self._encode(self._standardise(flat[part]))) / self.mean_distance
        return output.reshape(values.shape[:-1])

    def is_applicable(self, features: ArrayLike) -> NDArray[np.bool_]:
        """Find the points inside the area of applicability.

        Parameters
        ----------
        features : array_like
            Points as in :meth:`dissimilarity`, shape ``(..., F)``.

        Returns
        -------
        numpy.ndarray
            Bool, shape ``(...)``: whether the index is at most the threshold; False without any feature.
        """
        return self.dissimilarity(features) <= self.threshold

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return all attributes as arrays that safetensors and ``numpy.savez`` can store.

        Returns
        -------
        dict
            Arrays by name; the names of features are UTF-8 text with one name per line.
        """
        arrays = {name: np.asarray(value) for name, value in vars(self).items() if name in _FIELDS}
        return arrays | {"names": np.frombuffer("\n".join(self.names).encode(), np.uint8)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Applicability:
        """Build the area of applicability from the arrays of :meth:`to_arrays`.

        Parameters
        ----------
        arrays : mapping
            Arrays by name; others are ignored.

        Returns
        -------
        Applicability

        Raises
        ------
        ModelError
            If an array is absent or has another shape.
        """
        absent = [name for name in _FIELDS if name not in arrays]
        if absent:
            raise ModelError(f"the area of applicability lacks the arrays {absent}")
        names = tuple(np.asarray(arrays["names"]).tobytes().decode().split("\n"))
        shapes = dict.fromkeys(("mean", "std", "weights"), (len(names),)) | {
            "class_scale": (len(IGBP_CLASSES),),
            "reference": (len(arrays["reference"]), len(names)),
            "mean_distance": (),
            "threshold": (),
        }
        for name, shape in shapes.items():
            if np.shape(arrays[name]) != shape:
                raise ModelError(f"{name} must have the shape {shape}, found {np.shape(arrays[name])}")
        fields: dict[str, Any] = {name: np.asarray(arrays[name]) for name in shapes}
        fields |= {name: float(arrays[name]) for name in ("mean_distance", "threshold")}
        return cls(names, **fields)

    def _standardise(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Standardise points, shape (n, F); NaN where missing."""
        values = np.where(np.isfinite(values), values, np.nan)
        if CLASS in self.names:
            _check_classes(values[:, self.names.index(CLASS)])
        return np.clip((values - self.mean) / self.std, -EXTREME, EXTREME)

    def _encode(self, points: NDArray[Any]) -> NDArray[np.float32]:
        """Weighted columns of standardised points: features other than the class, then classes."""
        used = self.weights > 0  # missing values of unused features do not matter
        columns = np.where(used, points * self.weights, 0).astype(np.float32)
        if CLASS not in self.names:
            return columns
        number = self.names.index(CLASS)
        if not used[number]:
            return columns
        classes = points[:, [number]]
        indicators = np.where(np.isnan(classes), np.nan, classes == np.arange(len(IGBP_CLASSES)))
        indicators = (indicators * self.class_scale * self.weights[number]).astype(np.float32)
        return np.concatenate([np.delete(columns, number, axis=1), indicators], axis=1)

    @cached_property
    def _shares(self) -> NDArray[np.float32]:
        """Share of each encoded column in the sum of squared weights."""
        squares = self.weights**2
        if CLASS in self.names and squares[self.names.index(CLASS)] > 0:
            number, classes = self.names.index(CLASS), len(IGBP_CLASSES)
            squares = np.append(np.delete(squares, number), np.full(classes, squares[number] / classes))
        return (squares / squares.sum()).astype(np.float32)

    @cached_property
    def _parts(self) -> list[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """Positions and encoded columns of complete and of incomplete reference points."""
        return _by_completeness(self._encode(self.reference))

    def _mean_distance(self, encoded: NDArray[np.float32]) -> float:
        """Compute the mean distance between two different points."""
        total, count = 0.0, 0
        for start in range(0, len(encoded), BLOCK):
            squares = _squared_distances(encoded[start : start + BLOCK], encoded, self._shares)
            np.fill_diagonal(squares[:, start:], np.inf)
            finite = squares[np.isfinite(squares)]
            total, count = total + float(np.sqrt(finite).sum(dtype=float)), count + finite.size
        if total == 0:
            raise ModelError("all training points are equal or without features, so they have no distances")
        return total / count

    def _nearest(
        self,
        encoded: NDArray[np.float32],
        towers: NDArray[np.integer] | None = None,
        origin: NDArray[np.integer] | None = None,
    ) -> NDArray[np.float64]:
        """Distance to the nearest reference point, of another tower where towers of both are given."""
        output = np.full(len(encoded), np.nan)
        for rows, points in _by_completeness(encoded):
            for start in range(0, len(rows), BLOCK):
                part = slice(start, start + BLOCK)
                smallest = np.full(len(rows[part]), np.inf, np.float32)
                for numbers, reference in self._parts:
                    squares = _squared_distances(points[part], reference, self._shares)
                    if towers is not None and origin is not None:
                        squares[towers[rows[part], np.newaxis] == origin[numbers]] = np.inf
                    position = squares.argmin(axis=1)
                    found = np.take_along_axis(squares, position[:, np.newaxis], axis=1)[:, 0]
                    closer = found < smallest
                    smallest[closer] = found[closer]
                    differences = points[part][closer] - reference[position[closer]]
                    # The matrix products round; the distance to the nearest point is computed once more.
                    output[rows[part][closer]] = _lengths(differences, self._shares)
        return output


_FIELDS = tuple(Applicability.__dataclass_fields__)


def upper_whisker(values: NDArray[np.floating]) -> float:
    """Largest value that is not above Q75 + 1.5 (Q75 - Q25), without NaN."""
    values = values[np.isfinite(values)]
    lower, upper = np.quantile(values, [0.25, 0.75])
    return float(values[values <= upper + 1.5 * (upper - lower)].max())


def _moments(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of columns; 0 and 1 without values, 1 for a constant."""
    present = np.isfinite(values)
    count = np.maximum(present.sum(axis=0), 1)
    mean = np.where(present, values, 0).sum(axis=0) / count
    std = np.sqrt((np.where(present, values - mean, 0) ** 2).sum(axis=0) / count)
    return mean, np.where(std > 1e-9 * np.abs(mean), std, 1.0)


def _check_classes(classes: NDArray[np.floating]) -> None:
    """Raise a ModelError unless all values are NaN or positions in IGBP_CLASSES."""
    valid = np.isnan(classes) | np.isin(classes, np.arange(len(IGBP_CLASSES)))
    if not valid.all():
        raise ModelError(f"{CLASS} must be a position in IGBP_CLASSES or NaN, found {classes[~valid][0]}")


def _class_scale(classes: NDArray[np.float64], towers: NDArray[np.integer]) -> NDArray[np.float64]:
    """Factor of each class indicator: inverse standard deviation over towers, shared among classes."""
    _check_classes(classes)
    known = np.isfinite(classes)
    _, numbers, sizes = np.unique(towers[known], return_inverse=True, return_counts=True)
    if not len(sizes):
        return np.ones(len(IGBP_CLASSES))
    counts = np.bincount(classes[known].astype(int), 1 / sizes[numbers], minlength=len(IGBP_CLASSES))
    half = 0.5 / len(sizes)
    share = np.clip(counts / len(sizes), half, 1 - half)
    return 1 / np.sqrt(share * (1 - share) * np.count_nonzero(counts))


def _sample(
    towers: NDArray[np.integer], allowed: NDArray[np.bool_], count: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Positions of at most ``count`` allowed points, about the same number from each tower."""
    order = rng.permutation(np.flatnonzero(allowed))
    order = order[np.argsort(towers[order], kind="stable")]
    own = towers[order]
    rank = np.arange(len(order)) - np.searchsorted(own, own)
    return np.sort(order[np.argsort(rank, kind="stable")[:count]])


def _farthest(points: NDArray[np.float32], size: int) -> NDArray[np.intp]:
    """Positions of points, each of which is the farthest from those before; equal points are left out."""
    norms = (points**2).sum(axis=1)
    distance, chosen = np.full(len(points), np.inf, np.float32), [int(norms.argmax())]
    while len(chosen) < size:
        last = chosen[-1]
        np.minimum(distance, norms - 2 * (points @ points[last]) + norms[last], out=distance)
        distance[last] = -np.inf
        farthest = int(distance.argmax())
        if distance[farthest] <= 1e-6 * norms[farthest]:
            break
        chosen.append(farthest)
    return np.array(chosen)


def _by_completeness(encoded: NDArray[np.float32]) -> list[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Positions and rows of complete and of incomplete points; parts without points are left out."""
    complete = np.isfinite(encoded).all(axis=1)
    parts = [np.flatnonzero(rows) for rows in (complete, ~complete)]
    return [(rows, encoded[rows]) for rows in parts if len(rows)]


def _squared_distances(
    first: NDArray[np.float32], second: NDArray[np.float32], shares: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Squared distances over common columns, divided by their shares, (n, m); infinite without any."""
    have_first, have_second = np.isfinite(first), np.isfinite(second)
    if have_first.all() and have_second.all():
        squares = first @ (-2 * second.T)
        squares += (first**2).sum(axis=1, keepdims=True)
        squares += (second**2).sum(axis=1)
        return np.maximum(squares, 0, out=squares)
    mask_first, mask_second = have_first.astype(np.float32), have_second.astype(np.float32)
    zero_first, zero_second = np.where(have_first, first, 0), np.where(have_second, second, 0)
    left = np.concatenate([zero_first**2, mask_first, -2 * zero_first], axis=1)
    right = np.concatenate([mask_second, zero_second**2, zero_second], axis=1)
    squares, common = left @ right.T, (mask_first * shares) @ mask_second.T
    np.maximum(squares, 0, out=squares)
    squares[common == 0] = np.inf
    return np.divide(squares, common, out=squares, where=common > 0)


def _lengths(differences: NDArray[np.float32], shares: NDArray[np.float32]) -> NDArray[np.float64]:
    """Length of each row over its finite columns, divided by the root of their shares."""
    present = np.isfinite(differences)
    squares = np.where(present, differences.astype(np.float64), 0) ** 2
    return np.sqrt(squares.sum(axis=1) / (present @ shares.astype(np.float64)))
