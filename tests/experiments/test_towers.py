"""Tests of the sets of towers, of the scored hours and of the counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from xcarbon.core.errors import MetadataError, OptionError, VariableError
from xcarbon.experiments import paper, towers
from xcarbon.prep.quality import mask_quality
from xcarbon.testing import raise_on_compute, synthetic_towers


@pytest.fixture(scope="module")
def two_years() -> xr.Dataset:
    """Return three towers; the second has observations only in the first year."""
    ds = synthetic_towers(3, years=2, patches=True, variables=["TA", "NEE"]).isel(y=[0], x=[0]).compute()
    ds["NEE"][1, 8760:] = np.nan
    return ds.chunk(site=1)


def with_sites(names: list[str], **coords: list[str]) -> xr.Dataset:
    on_site = {name: ("site", values) for name, values in coords.items()}
    return xr.Dataset(coords={"site": names, **on_site})


def test_paper_lists_are_kept_to_what_the_store_has():
    sites = [paper.sites(name)[0] for name in paper.SETS]
    sets = towers.sets(with_sites([*sites, "XX-XXX"]), "paper", 0)
    assert (sets.train, sets.val, sets.scored) == ((sites[0],), (sites[1],), (sites[2],))
    assert not sets.development


def test_without_test_towers_the_validation_towers_are_scored():
    sites = [paper.sites(name)[0] for name in ("train", "val")]
    sets = towers.sets(with_sites(sites), "paper", 0)
    assert sets.scored == sets.val == (sites[1],)
    assert sets.development


def test_a_store_may_say_its_own_split():
    ds = with_sites(["A", "B", "C", "D"], paper_split=["test", "train", "none", "val"])
    assert towers.sets(ds, "paper", 0) == (("B",), ("D",), ("A",), False)


@pytest.mark.parametrize("roles", [["none", "none"], ["train", "train"], ["test", "val"]])
def test_nothing_to_train_on_or_to_score_is_an_error(roles):
    with pytest.raises(OptionError, match=r"split 'paper' of 2 towers"):
        towers.sets(with_sites(["A", "B"], paper_split=roles), "paper", 0)


def test_random_splits_are_those_of_the_accessor(towers_in_memory):
    ds = towers_in_memory
    sets = towers.sets(ds, "random", 3)
    assert [tuple(part["site"].values) for part in ds.carbon.split(3)] == [sets.train, sets.val, sets.scored]


@given(st.integers(1, 20), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 5))
def test_a_larger_share_adds_towers(number, one, other, seed):
    sites = [f"S{position:02d}" for position in range(number)]
    small, large = (towers.draw(sites, share, seed) for share in sorted((one, other)))
    assert set(small) <= set(large) <= set(towers.draw(sites, 1, seed)) == set(sites)
    assert list(small) == sorted(small)
    assert len(small) == math.ceil(min(one, other) * number)


def test_each_seed_draws_other_towers():
    drawn = {towers.draw([f"S{position}" for position in range(20)], 0.25, seed) for seed in range(10)}
    assert len(drawn) > 5


@pytest.fixture(scope="module")
def towers_in_memory() -> xr.Dataset:
    return synthetic_towers(12, patches=False, variables=["TA"])


def test_a_survey_counts_and_sums_by_year(two_years):
    counts = towers.survey(two_years, "NEE", max_qc=1)
    known = mask_quality(two_years, ["NEE"], 1)["NEE"].compute()
    by_year = known.groupby("time.year")
    np.testing.assert_array_equal(counts["hours"], by_year.count().transpose("site", "year"))
    np.testing.assert_allclose(counts["total"], by_year.sum().transpose("site", "year"), rtol=1e-4)
    assert counts["hours"].sel(site="SY-002").values[1] == 0


def test_towers_need_a_target_a_place_and_a_class(two_years):
    with pytest.raises(VariableError, match="FCH4"):
        towers.survey(two_years, "FCH4", 1)
    with pytest.raises(MetadataError, match=r"lacks \['igbp'\]"):
        towers.survey(two_years.drop_vars("igbp"), "NEE", 1)


def test_the_best_year_is_the_one_with_most_observations(two_years):
    counts = towers.survey(two_years, "NEE", max_qc=1)
    sites = ["SY-003", "SY-002"]
    when = towers.period(counts, sites, "best-year")
    best = counts["hours"].sel(site=sites).idxmax("year")
    assert when["start"].dt.year.values.tolist() == best.values.tolist()
    assert when["site"].values.tolist() == sites and best.values[1] == 2010
    assert (when["end"] - when["start"] == np.timedelta64(365, "D")).all()
    assert towers.period(counts, sites, "all") is None


def test_only_the_hours_to_score_and_those_before_them_are_shown(two_years):
    when = xr.Dataset(
        {
            "start": ("site", np.array(["2010-03-01", "2010-08-01", "2011-01-01"], "M8[ns]")),
            "end": ("site", np.array(["2010-03-03", "2010-09-01", "2011-02-01"], "M8[ns]")),
        },
        coords={"site": two_years["site"].values},
    )
    with raise_on_compute():
        shown = towers.drivers(two_years, when)
        observed = towers.observations(two_years, "NEE", 1, when)
    assert (
        str(shown["time"].values[[0, -1]])
        == "['2010-02-15T00:00:00.000000000' '2011-01-31T23:00:00.000000000']"
    )
    for number, site in enumerate(shown["site"].values):
        start, end = when["start"].values[number] - towers.LEAD, when["end"].values[number]
        tower, before = shown.isel(site=number), two_years.sel(site=site, time=shown["time"])
        inside = (tower["time"] >= start) & (tower["time"] < end)
        xr.testing.assert_equal(tower["TA"].load(), before["TA"].where(inside).load())
        days = tower["day"].values[tower["reflectance"].notnull().any(["band", "y", "x"]).values]
        assert days.min() >= start and days.max() < end and len(days) > 1
        known = observed.isel(site=number).dropna("time")["time"].values
        assert known.min() >= when["start"].values[number] and known.max() < end
    assert towers.drivers(two_years, None) is two_years


def test_a_fingerprint_tells_data_apart_and_not_places(two_years):
    def fingerprint(ds: xr.Dataset, *sites: str) -> str:
        return towers.fingerprint(ds, towers.survey(ds, "NEE", 1), sites)

    same = fingerprint(two_years, "SY-001", "SY-002")
    assert fingerprint(two_years.chunk(site=3, time=500), "SY-001", "SY-002") == same
    warmer = two_years.assign(NEE=two_years["NEE"].where(two_years["site"] != "SY-002", two_years["NEE"] + 1))
    assert fingerprint(warmer, "SY-001", "SY-002") != same
    assert fingerprint(warmer, "SY-001", "SY-003") == fingerprint(two_years, "SY-001", "SY-003")
    assert fingerprint(two_years.drop_vars("TA"), "SY-001", "SY-002") != same
    assert fingerprint(two_years.assign_attrs(history="again"), "SY-001", "SY-002") != same
