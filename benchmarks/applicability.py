"""How fast the dissimilarity index is computed, compared with a k-d tree."""

import numpy as np
from scipy.spatial import cKDTree

from benchmarks.common import fastest, report, size
from xcarbon.models.applicability import Applicability

POINTS, REFERENCES, FEATURES, TOWERS = size(100_000, 5_000), size(3_000, 300), 30, 100


def synthetic_points(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of towers and their tower: ten independent factors behind all features, as in slow features."""
    rng = np.random.default_rng(0)
    towers = rng.integers(TOWERS, size=count)
    factors = rng.normal(size=(TOWERS, 10))[towers] + rng.normal(size=(count, 10))
    return factors @ rng.normal(size=(10, FEATURES)) + 0.3 * rng.normal(size=(count, FEATURES)), towers


class Index:
    """Indices of points of thirty features, on one core."""

    timeout = 300

    def setup(self) -> None:
        """Select the reference points, and check that both ways give the same index."""
        points, towers = synthetic_points(2 * POINTS)
        names = [f"F{number}" for number in range(FEATURES)]
        weights = np.linspace(1, 2, FEATURES)
        train, self.points = points[:POINTS], points[POINTS:]
        self.area = Applicability.from_training(train, names, towers[:POINTS], weights, size=REFERENCES)
        self.tree = cKDTree(self.area.reference * weights)
        np.testing.assert_allclose(self.area.dissimilarity(self.points), self.by_tree(), rtol=1e-4)
        self.incomplete = self.points.copy()
        self.incomplete[np.random.default_rng(0).random(self.points.shape) < 0.01] = np.nan

    def by_tree(self) -> np.ndarray:
        """Compute the index with the k-d tree of scipy, which does not allow missing values."""
        area = self.area
        distance, _ = self.tree.query((self.points - area.mean) / area.std * area.weights)
        return distance / area.mean_distance

    def track_index(self) -> float:
        """Time the k-d tree of scipy against matrix products."""
        jobs = {"products": lambda: self.area.dissimilarity(self.points), "tree": self.by_tree}
        seconds = fastest(jobs, 3)
        return seconds["tree"] / seconds["products"]

    def track_rate(self) -> float:
        """Absolute rate for points without missing values."""
        return POINTS / fastest({"index": lambda: self.area.dissimilarity(self.points)}, 3)["index"]

    def track_incomplete(self) -> float:
        """Absolute rate if one value in a hundred is missing, that is, in a quarter of the points."""
        return POINTS / fastest({"index": lambda: self.area.dissimilarity(self.incomplete)}, 3)["index"]

    track_index.unit = "x faster than a k-d tree"  # type: ignore[attr-defined]
    track_rate.unit = "points per second"  # type: ignore[attr-defined]
    track_incomplete.unit = "points per second, one value in a hundred missing"  # type: ignore[attr-defined]


if __name__ == "__main__":
    report(globals())
