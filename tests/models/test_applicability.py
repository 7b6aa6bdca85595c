"""The area of applicability, compared with loops over pairs of points and with an example by hand."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from xcarbon.core.errors import ModelError
from xcarbon.core.variables import IGBP_CLASSES
from xcarbon.models.applicability import Applicability, _sample, upper_whisker

CLASSES = len(IGBP_CLASSES)
NAMES = ("TA_30D", "VPD_365D", "igbp", "LAI")


def training(seed: int, count: int = 60, towers: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Features of some towers with classes 0, 3 and 9, and the tower of each point."""
    rng = np.random.default_rng(seed)
    groups = np.arange(count) % towers
    features = rng.normal(size=(count, 4)) * (10, 5, 0, 2) + (8, 6, 0, 3)
    features[:, 2] = np.array([0, 3, 9])[groups % 3]
    return features, groups


def distance(area: Applicability, first: np.ndarray, second: np.ndarray) -> float:
    """Distance between two standardised points, feature by feature."""
    total = common = 0.0
    for number, (one, two) in enumerate(zip(first, second, strict=True)):
        if np.isnan(one) or np.isnan(two) or not area.weights[number]:
            continue
        if area.names[number] == "igbp":
            square = 0.0 if one == two else (area.class_scale[[int(one), int(two)]] ** 2).sum()
        else:
            square = (float(one) - float(two)) ** 2
        total += area.weights[number] ** 2 * square
        common += area.weights[number] ** 2
    return np.sqrt(total / common * (area.weights**2).sum()) if common else np.inf


def naive(area: Applicability, features: np.ndarray) -> np.ndarray:
    """Dissimilarity index by a loop over points and reference points."""
    points = (features - area.mean) / area.std
    nearest = [min(distance(area, point, other) for other in area.reference) for point in points]
    return np.where(np.isinf(nearest), np.nan, np.array(nearest) / area.mean_distance)


@given(
    seed=st.integers(0, 1000),
    missing=st.sampled_from([0.0, 0.2, 0.7]),
    missing_in_training=st.sampled_from([0.0, 0.1]),
    weights=st.lists(st.sampled_from([0.0, 0.3, 1.0, 5.0]), min_size=4, max_size=4).filter(any),
)
def test_index_is_that_of_a_loop(seed, missing, missing_in_training, weights):
    rng = np.random.default_rng(seed)
    features, groups = training(seed)
    features[rng.random(features.shape) < missing_in_training] = np.nan
    area = Applicability.from_training(features, NAMES, groups, weights, size=20)
    points = training(seed + 1, 24)[0]
    points[:, 2] = rng.integers(0, CLASSES, 24)
    points[rng.random(points.shape) < missing] = np.nan
    found = area.dissimilarity(points.reshape(4, 6, 4))
    assert found.shape == (4, 6)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.ravel(), naive(area, points), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(area.is_applicable(points), found.ravel() <= area.threshold)


def test_threshold_and_mean_distance_by_hand():
    """Four towers on a line, with one feature of mean 5 and standard deviation 5."""
    features = np.array([[0.0], [0.0], [10.0], [10.0]])
    area = Applicability.from_training(features, ["TA"], ["a", "b", "c", "c"], [2.0])
    # Standardised and weighted: -2, -2, 2, 2. Six pairs: two of distance 0, four of distance 4.
    assert area.mean_distance == pytest.approx(16 / 6)
    np.testing.assert_allclose(area.reference.ravel(), [-1, 1])  # equal points are left out
    # The reference point at -2 belongs to a or b, which has the distance 4 to other towers; the other of the
    # two has 0, and both points of c have 4. The quartiles of 0, 4, 4, 4 are 3 and 4: 4 is no outlier.
    assert area.threshold == pytest.approx(4 / (16 / 6))
    np.testing.assert_allclose(area.dissimilarity([[0.0], [2.5], [10.0]]), [0, 1 / (16 / 6), 0], atol=1e-6)


def test_threshold_leaves_out_outliers():
    assert upper_whisker(np.array([1.0, 2.0, 3.0, 4.0, 5.0, np.nan])) == 5
    assert upper_whisker(np.array([1.0, 2.0, 3.0, 4.0, 7.0])) == 7  # Q75 + 1.5 IQR is exactly 7
    assert upper_whisker(np.array([1.0, 2.0, 3.0, 4.0, 7.1])) == 4


def test_threshold_is_that_of_other_towers():
    """Points of a tower are close to each other, and far from other towers."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 30)
    features = 100.0 * groups[:, np.newaxis] + rng.normal(size=(300, 1))
    area = Applicability.from_training(features, ["TA"], groups, [1.0])
    assert np.ptp(features) / 10 * 0.9 < area.threshold * area.mean_distance * area.std[0] < 110
    assert area.is_applicable([[950.0], [450.0]]).all()
    assert not area.is_applicable([[1200.0]]).any()


def test_missing_features():
    features, groups = training(0)
    area = Applicability.from_training(features, NAMES, groups, np.ones(4))
    point = features[:1].copy()
    np.testing.assert_allclose(area.dissimilarity(point), 0, atol=2e-3)  # half precision
    point[0, :2] = np.nan, np.inf
    np.testing.assert_allclose(area.dissimilarity(point), 0, atol=2e-3)
    point[:] = np.nan
    assert np.isnan(area.dissimilarity(point)).all()
    assert not area.is_applicable(point).any()
    assert area.dissimilarity(np.empty((0, 4))).shape == (0,)


def test_distance_over_some_features_is_scaled_up():
    """Half of the squared weights are present, so that the squared distance is doubled."""
    area = Applicability(
        ("TA", "LAI"),
        np.zeros(2),
        np.ones(2),
        np.full(2, 3.0),
        np.ones(CLASSES),
        np.zeros((1, 2), np.float16),
        3.0,
        1.0,
    )
    np.testing.assert_allclose(
        area.dissimilarity([[1, 1], [1, np.nan], [1, 0]]), np.sqrt([2, 2, 1]), rtol=1e-6
    )


def test_points_with_few_features_are_no_reference():
    features, groups = training(0)
    features[groups == 0, 3] = np.nan
    area = Applicability.from_training(features, NAMES, groups, np.ones(4))
    assert len(area.reference) == 50
    assert np.isfinite(area.reference).all()
    features[:, 3] = np.nan  # absent everywhere
    area = Applicability.from_training(features, NAMES, groups, np.ones(4))
    assert len(area.reference) == 60


def test_features_of_weight_zero_are_not_used():
    features, groups = training(0)
    area = Applicability.from_training(features, NAMES, groups, [1, 1, 0, 0])
    points = np.repeat(training(1)[0][:10], 2, axis=0)
    points[1::2, 2:] = 7, np.nan
    index = area.dissimilarity(points)
    np.testing.assert_array_equal(index[::2], index[1::2])


def test_a_class_without_towers_is_far_from_everything():
    features, groups = training(0, 600, 30)
    area = Applicability.from_training(features, NAMES, groups, np.ones(4))
    points = features.copy()
    assert area.is_applicable(points).mean() > 0.95
    for unseen in (1, 16):
        points[:, 2] = unseen
        assert not area.is_applicable(points).any()
    points[:, 2] = np.nan
    assert area.is_applicable(points).mean() > 0.9


@pytest.mark.parametrize("value", [1e3, -1e6, 1e30])
def test_absurd_values_are_far(value):
    features, groups = training(0)
    area = Applicability.from_training(features, NAMES, groups, np.ones(4))
    points = features.copy()
    points[:, 0] = value
    assert np.isfinite(area.dissimilarity(points)).all()
    assert not area.is_applicable(points).any()


def test_values_that_are_constant_in_training():
    features, groups = training(0)
    features[:, 3] = 4
    area = Applicability.from_training(features, NAMES, groups, np.ones(4))
    assert area.std[3] == 1
    assert np.isfinite(area.dissimilarity(features)).all()


def test_the_seed_decides(monkeypatch):
    monkeypatch.setattr("xcarbon.models.applicability.CANDIDATES", 100)
    features, groups = training(0, 500)
    areas = [
        Applicability.from_training(features, NAMES, groups, np.ones(4), size=30, seed=seed)
        for seed in (0, 0, 1)
    ]
    arrays = [area.to_arrays() for area in areas]
    for name, array in arrays[0].items():
        np.testing.assert_array_equal(array, arrays[1][name])
    assert not np.array_equal(areas[0].reference, areas[2].reference)


def test_samples_have_as_many_points_of_each_tower():
    towers = np.repeat([0, 1, 2], [1000, 100, 20])
    allowed = np.arange(1120) < 1108
    sample = _sample(towers, allowed, 40, np.random.default_rng(0))
    np.testing.assert_array_equal(np.bincount(towers[sample]), [16, 16, 8])
    assert len(np.unique(sample)) == 40
    assert len(_sample(towers, allowed, 5000, np.random.default_rng(0))) == 1108


@pytest.mark.parametrize("block", [1, 7])
def test_blocks_change_nothing(monkeypatch, block):
    features, groups = training(0)
    features[::5, 1] = np.nan
    area = Applicability.from_training(features, NAMES, groups, np.ones(4), size=10)
    expected = area.dissimilarity(features)
    monkeypatch.setattr("xcarbon.models.applicability.BLOCK", block)
    again = Applicability.from_training(features, NAMES, groups, np.ones(4), size=10)
    assert again.mean_distance == pytest.approx(area.mean_distance)
    assert again.threshold == pytest.approx(area.threshold)
    np.testing.assert_allclose(area.dissimilarity(features), expected, rtol=1e-6)


@pytest.mark.parametrize("names", [NAMES, ("TA", "VPD", "SW_IN_1D", "LAI")])
def test_save_and_load(names):
    features, groups = training(0)
    area = Applicability.from_training(features, names, groups, np.ones(4))
    file = io.BytesIO()
    np.savez(file, **area.to_arrays())
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        copies = [Applicability.from_arrays(arrays), Applicability.from_arrays(load(save(area.to_arrays())))]
    points = training(1)[0]
    for copy in copies:
        assert (copy.names, copy.threshold) == (area.names, area.threshold)
        assert copy.reference.dtype == np.float16
        np.testing.assert_array_equal(copy.dissimilarity(points), area.dissimilarity(points))


def test_size_of_the_default():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5000, 30))
    names = [f"F{number}" for number in range(30)]
    area = Applicability.from_training(features, names, np.arange(5000) % 50, np.ones(30))
    assert len(area.reference) == 3000
    assert sum(array.nbytes for array in area.to_arrays().values()) < 500_000


def test_damaged_arrays_are_refused():
    features, groups = training(0)
    arrays = Applicability.from_training(features, NAMES, groups, np.ones(4)).to_arrays()
    with pytest.raises(ModelError, match=r"lacks the arrays \['threshold'\]"):
        Applicability.from_arrays({name: array for name, array in arrays.items() if name != "threshold"})
    with pytest.raises(ModelError, match=r"mean must have the shape \(4,\), found \(3,\)"):
        Applicability.from_arrays(arrays | {"mean": arrays["mean"][:3]})


def test_points_that_do_not_fit_are_refused():
    features, groups = training(0)
    area = Applicability.from_training(features, NAMES, groups, np.ones(4))
    with pytest.raises(ModelError, match=r"shape \(..., 4\), found \(60, 3\)"):
        area.dissimilarity(features[:, :3])
    for value in (17, -1, 2.5):
        features[0, 2] = value
        with pytest.raises(ModelError, match=f"position in IGBP_CLASSES or NaN, found {value}"):
            area.dissimilarity(features)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": [1, 1]}, "shapes"),
        ({"groups": np.zeros(3)}, "shapes"),
        ({"weights": [1, -1, 1, 1]}, "not negative"),
        ({"weights": np.zeros(4)}, "not all 0"),
        ({"weights": [1, np.nan, 1, 1]}, "finite"),
        ({"groups": np.zeros(60)}, "two towers"),
        ({"features": np.ones((60, 4))}, "equal"),
        ({"features": np.full((60, 4), np.nan)}, "without features"),
        ({"features": np.full((60, 4), 2.5)}, "IGBP_CLASSES"),
        ({"size": 0}, "size must be at least 1"),
    ],
)
def test_training_data_that_does_not_suffice(changes, message):
    features, groups = training(0)
    arguments = {"features": features, "names": NAMES, "groups": groups, "weights": np.ones(4)} | changes
    with pytest.raises(ModelError, match=message):
        Applicability.from_training(**arguments)
