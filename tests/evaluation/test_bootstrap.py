"""Tests of bootstrap intervals against scores of drawn towers, and of their coverage."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xcarbon.evaluation.bootstrap import draw, interval, pooled_nse
from xcarbon.evaluation.scores import pooled
from xcarbon.experiments.results import _bootstrapped

NAMES = ("n", "mean", "sst", "sse")


def make(seed: int, towers: int, models: int = 1, seeds: int = 1, offset: float = 0.0) -> xr.Dataset:
    """Return moments of towers as ``xcarbon.evaluation.scores.moments`` does."""
    rng = np.random.default_rng(seed)
    dims, shape = ("model", "seed", "site"), (models, seeds, towers)
    n = rng.integers(0, 500, towers) * np.ones(shape, int)
    values = {
        "n": n,
        "mean": rng.normal(offset, 1, towers) * (n > 0),
        "sst": n * rng.uniform(1, 4, towers),
        "sse": n * rng.uniform(0.1, 3, shape),
        "error": 0.0 * n,
    }
    sums = xr.Dataset({name: (dims, value) for name, value in values.items()})
    sums["mean"].attrs["units"] = "1"
    labels = [f"model {number}" for number in range(models)]
    return sums.assign_coords(model=labels, seed=np.arange(seeds), site=[f"T-{k}" for k in range(towers)])


def arrays(sums: xr.Dataset) -> dict[str, np.ndarray]:
    return {name: sums[name].values.astype(float) for name in NAMES}


@settings(max_examples=15)
@given(seed=st.integers(0, 999), towers=st.integers(1, 8), offset=st.sampled_from([0.0, 30.0]))
def test_a_draw_scores_as_the_towers_that_it_holds(seed, towers, offset):
    sums = make(seed, towers, models=2, offset=offset)
    weights = draw(towers, draws=4, seed=seed)
    nse = pooled_nse(**arrays(sums), weights=weights)
    for number, counts in enumerate(weights):
        again = sums.isel(site=np.repeat(np.arange(towers), counts))
        np.testing.assert_allclose(nse[..., number], pooled(again)["nse"], rtol=1e-6)


def test_hours_without_variation_have_no_efficiency():
    sums = make(0, 3)
    sums["sst"][:] = 0
    sums["mean"][:] = 0.1
    assert np.isnan(pooled_nse(**arrays(sums), weights=draw(3, draws=5))).all()


def test_intervals_hold_the_truth_as_often_as_they_say():
    """All towers have the same mean, and random errors: NSE is 1 - mean(sse) / mean(sst), here 0.5."""
    rng = np.random.default_rng(1)
    towers, inside, trials = 40, 0, 300
    ones, none = np.ones(towers), np.zeros(towers)
    for trial in range(trials):
        draws = pooled_nse(
            n=100 * ones,
            mean=none,
            sst=rng.gamma(4, 0.25, towers),
            sse=rng.gamma(4, 0.125, towers),
            weights=draw(towers, draws=400, seed=trial),
        )
        lower, upper = interval(draws)
        inside += lower < 0.5 < upper
    assert 0.90 < inside / trials < 0.98


def test_a_model_does_not_differ_from_itself():
    sums = make(3, 12, seeds=3)
    twice = xr.concat([sums, sums.assign_coords(model=["again"])], "model")
    scores = _bootstrapped(twice)
    assert scores["nse_difference"].values.tolist() == [0]
    assert scores["nse_difference_interval"].values.tolist() == [[0, 0]]
    assert scores["pair"].values.tolist() == ["again − model 0"]


def test_a_pair_is_surer_than_its_models():
    """One model is always slightly better, although the intervals of both models overlap."""
    sums = make(4, 20, models=2)
    sums["sse"][1] = 0.95 * sums["sse"][0]
    scores = _bootstrapped(sums)
    lower, upper = scores["nse_interval"].transpose("bound", "model").values
    assert lower[1] < upper[0]
    assert (scores["nse_difference_interval"] > 0).all()


def test_one_tower_has_no_interval():
    scores = _bootstrapped(make(5, 1, models=2))
    assert scores["nse_interval"].isnull().all() and scores["nse_difference_interval"].isnull().all()
    assert scores["nse_difference"].notnull().all()


def test_seeds_may_score_other_towers():
    sums = make(6, 4, models=2, seeds=2)
    absent = xr.DataArray([[False, False, True, True], [True, True, False, False]], dims=("seed", "site"))
    sums = sums.where(~absent, 0).assign(mean=sums["mean"].where(~absent, 0).assign_attrs(units="1"))
    scores = _bootstrapped(sums)
    nse = pooled(sums)["nse"].mean("seed").values
    assert scores["nse_difference"].item() == pytest.approx(nse[1] - nse[0])
    lower, upper = scores["nse_interval"].transpose("bound", "model").values
    assert (lower < nse).all() and (nse < upper).all()


def test_models_are_compared_by_the_seeds_that_both_have():
    """One model lacks a seed with other towers, at which the other model is far better or worse."""
    sums = make(7, 6, models=2, seeds=2)
    sums["sse"][:, 1] *= 10
    fewer = sums.copy(deep=True)
    for name in NAMES:
        fewer[name][1, 1] = 0
    scores, expected = _bootstrapped(fewer), _bootstrapped(sums.isel(seed=[0]))
    for name in ("nse_difference", "nse_difference_interval"):
        xr.testing.assert_allclose(scores[name], expected[name])
