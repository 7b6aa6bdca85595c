"""Splits are by tower, stratified and repeatable, and their sets keep a distance."""

import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from xcarbon.core.errors import LeakageError, MetadataError, OptionError
from xcarbon.prep.split import check_leakage, distances, near_groups, split
from xcarbon.testing import raise_on_compute

LATITUDES = st.floats(-90, 90)
LONGITUDES = st.floats(-180, 360)
#: Towers of three classes, alone, in pairs or in larger groups.
TOWERS = st.lists(
    st.tuples(st.sampled_from("ABC"), st.integers(0, 8), st.integers(0, 300)), min_size=1, max_size=25
)


def far_apart(classes: str) -> xr.Dataset:
    """Return one tower per letter, at distances of a degree."""
    count = len(classes)
    return xr.Dataset(
        coords={
            "site": [f"XX-{number:03d}" for number in range(count)],
            "lat": ("site", np.arange(count) % 80.0),
            "lon": ("site", np.arange(count, dtype=float)),
            "igbp": ("site", list(classes)),
        }
    )


def crowded(towers: list[tuple[str, int, int]]) -> xr.Dataset:
    """Return towers from their class, their place, and their distance to its north [m]."""
    classes, places, metres = zip(*towers, strict=True)
    ds = far_apart("".join(classes))
    lat = np.array(places) + np.array(metres) / 111_195
    return ds.assign_coords(lat=("site", lat), lon=("site", np.zeros(len(towers))))


def sites(*parts: xr.Dataset) -> list[str]:
    return [str(site) for part in parts for site in part["site"].values]


@given(towers=TOWERS, seed=st.integers(0, 2**32), min_distance=st.sampled_from([0.0, 0.05, 0.2, 500.0]))
def test_every_tower_is_in_one_set_and_near_ones_in_the_same(towers, seed, min_distance):
    ds = crowded(towers)
    parts = split(ds, seed, min_distance=min_distance)
    assert sorted(sites(*parts)) == sites(ds)
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        check_leakage(parts[one], parts[other], min_distance)
    assert set(parts.train["igbp"].values) == set(ds["igbp"].values)


@given(classes=st.text("ABCD", min_size=1, max_size=60), seed=st.integers(0, 99))
def test_test_set_has_the_papers_number_of_each_class(classes, seed):
    parts = split(far_apart(classes), seed)
    for name in set(classes):
        count = classes.count(name)
        expected = min(5, math.ceil(0.2 * count)) if count > 1 else 0
        assert (parts.test["igbp"] == name).sum() == expected


def test_isolated_real_towers_follow_the_papers_rule(real_towers):
    groups = near_groups(real_towers["lat"].values, real_towers["lon"].values, 1.0)
    alone = np.bincount(groups)[groups] == 1
    ds = real_towers.isel(site=np.flatnonzero(alone))
    for seed in range(5):
        parts = split(ds, seed)
        for name, count in zip(*np.unique(ds["igbp"], return_counts=True), strict=True):
            assert (parts.test["igbp"] == name).sum() == min(5, math.ceil(0.2 * count))


@pytest.mark.parametrize("seed", range(3))
def test_real_towers_are_split_lazily_into_sensible_parts(real_towers, seed):
    with raise_on_compute():
        parts = split(real_towers, seed)
    assert set(parts.train["igbp"].values) == set(real_towers["igbp"].values)
    assert 30 <= parts.test.sizes["site"] <= 40
    assert 25 <= parts.val.sizes["site"] <= 33
    assert parts.train["NEE"].chunks is not None
    for part in parts[1:]:
        check_leakage(parts.train, part)


def test_near_towers_of_another_class_do_not_take_its_last_training_tower():
    ds = crowded([("A", 0, 0), ("B", 0, 50), ("B", 1, 0), ("B", 2, 0)])
    for seed in range(20):
        assert "XX-000" in split(ds, seed).train["site"].values


def test_same_seed_same_split_other_seed_other_split():
    ds = far_apart("A" * 20)
    assert sites(*split(ds, 3)) == sites(*split(ds, 3))
    assert len({tuple(sites(split(ds, seed).test)) for seed in range(10)}) > 5


def test_parts_keep_the_order_of_the_towers(towers):
    for part in split(towers):
        assert sites(part) == sorted(sites(part))


def test_class_of_one_stays_in_training():
    parts = split(far_apart("AAAAAB"))
    assert "B" in parts.train["igbp"]
    assert "B" not in parts.test["igbp"]


def test_shares_add_up_over_small_classes():
    parts = split(far_apart("AAABBBCCCDDDEEE"), test=0.0, val=0.2)
    assert parts.test.sizes["site"] == 0
    assert parts.val.sizes["site"] == 3


def test_any_coordinate_on_site_can_be_the_class():
    ds = far_apart("AAAAAA").assign_coords(network=("site", [1, 1, 1, 2, 2, 2]))
    assert sorted(split(ds, by="network").test["network"].values) == [1, 2]


@pytest.mark.parametrize("share", [{"test": 1.0}, {"val": -0.1}, {"val": 20}])
def test_share_out_of_range_is_an_error(share):
    with pytest.raises(OptionError, match=r"must be in \[0, 1\)"):
        split(far_apart("AA"), **share)


def test_unknown_class_coordinate_lists_those_on_site(towers):
    with pytest.raises(MetadataError, match=r"no 'climate' on site.*'igbp'"):
        split(towers, by="climate")
    with pytest.raises(MetadataError, match="no 'time' on site"):
        split(towers, by="time")


@pytest.mark.parametrize("missing", ["", None])
def test_tower_without_class_is_an_error(missing):
    classes = np.array(["A", "B", missing], object)
    with pytest.raises(MetadataError, match=r"no igbp for.*XX-002"):
        split(far_apart("AAA").assign_coords(igbp=("site", classes)))


@pytest.mark.parametrize("name", ["lat", "lon"])
def test_tower_without_coordinates_is_an_error(name):
    ds = far_apart("AAA")
    ds[name][1] = np.nan
    with pytest.raises(MetadataError, match=f"no {name} for .*XX-001"):
        split(ds)
    with pytest.raises(MetadataError, match=f"no {name} for all towers"):
        split(ds.drop_vars(name))


def test_groups_are_connected_by_near_towers():
    lat = np.array([0, 0.008, 0.016, 1, 0.024])
    np.testing.assert_array_equal(near_groups(lat, np.zeros(5), 1.0), [0, 0, 0, 1, 0])
    np.testing.assert_array_equal(near_groups(lat, np.zeros(5), 0.0), [0, 1, 2, 3, 4])


@given(here=st.tuples(LATITUDES, LONGITUDES), there=st.tuples(LATITUDES, LONGITUDES))
def test_distances_are_those_on_the_ellipsoid_within_half_a_percent(here, there):
    _, _, metres = Geod(ellps="WGS84").inv(here[1], here[0], there[1], there[0])
    points = [np.array([degrees]) for degrees in (*here, *there)]
    np.testing.assert_allclose(distances(*points), [[metres / 1000]], rtol=0.006, atol=1e-6)


def test_shared_tower_leaks():
    ds = far_apart("AAAA")
    with pytest.raises(LeakageError, match=r"2 towers are in .*: XX-001, XX-002;.*allow_leakage=True"):
        check_leakage(ds.isel(site=[0, 1, 2]), ds.isel(site=[1, 2, 3]))


def test_near_tower_leaks():
    ds = crowded([("A", 0, 0), ("A", 5, 0), ("A", 5, 300)])
    with pytest.raises(LeakageError, match=r"XX-001 and XX-002 are 0\.30 km apart, less than 1\.0 km"):
        check_leakage(ds.isel(site=[0, 1]), ds.isel(site=[2]))
    check_leakage(ds.isel(site=[0, 1]), ds.isel(site=[2]), min_distance=0.2)
    check_leakage(ds.isel(site=[0, 1]), ds.isel(site=[]))


def test_single_towers_can_be_compared():
    ds = far_apart("AB")
    check_leakage(ds.isel(site=0), ds.isel(site=1))
    with pytest.raises(LeakageError, match="1 towers"):
        check_leakage(ds.isel(site=0), ds.isel(site=0))
