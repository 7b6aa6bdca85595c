"""Tests of scores against scikit-learn and numpy for every class and any gaps, labels and chunks."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score, root_mean_squared_error

from xcarbon.core.errors import MetadataError, OptionError, VariableError
from xcarbon.evaluation.scores import MOMENTS, moments, pooled, score
from xcarbon.testing import raise_on_compute, synthetic_towers

TIME = np.datetime64("2010-01-01", "ns") + np.arange(40) * np.timedelta64(1, "h")


def make(
    classes: str, seed: int = 0, gaps: float = 0.3, offset: float = 0.0
) -> tuple[xr.Dataset, xr.DataArray]:
    """Return observations of one tower per letter with quality flags, and a prediction with other gaps."""
    rng = np.random.default_rng(seed)
    shape = (len(classes), TIME.size)
    observed, predicted = rng.normal(offset, 5, shape), rng.normal(offset, 5, shape)
    observed[rng.random(shape) < gaps] = np.nan
    predicted[rng.random(shape) < gaps] = np.nan
    codes = rng.integers(-1, 4, shape)
    coords = {
        "site": [f"XX-{number:03d}" for number in range(len(classes))],
        "time": TIME,
        "igbp": ("site", list(classes)),
        "climate": ("site", np.arange(len(classes)) % 2),
    }
    dims = ("site", "time")
    ds = xr.Dataset({"NEE": (dims, observed), "NEE_QC": (dims, codes.astype("int8"))}, coords)
    return ds, xr.DataArray(predicted, coords, dims, name="NEE")


def naive(ds: xr.Dataset, prediction: xr.DataArray, member: np.ndarray, max_qc: int = 1) -> dict:
    """Return the scores of towers computed with scikit-learn and numpy."""
    good = (ds["NEE_QC"].values <= max_qc) & np.isfinite(ds["NEE"].values) & np.isfinite(prediction.values)
    y, x = ds["NEE"].values[member][good[member]], prediction.values[member][good[member]]
    return {
        "nse": r2_score(y, x) if len(set(y)) > 1 else np.nan,
        "rmse": root_mean_squared_error(y, x) if len(y) else np.nan,
        "bias": np.mean(x - y) if len(y) else np.nan,
        "n": len(y),
    }


def assert_scores(scores: xr.Dataset, expected: dict, rtol: float = 1e-9) -> None:
    for name, value in expected.items():
        np.testing.assert_allclose(scores[name], value, rtol=rtol, atol=1e-12, err_msg=name)


@settings(max_examples=30)
@given(
    classes=st.text("ABC", min_size=1, max_size=5),
    seed=st.integers(0, 99),
    gaps=st.sampled_from([0, 0.5, 0.97, 1]),
    max_qc=st.integers(0, 3),
)
def test_scores_equal_those_of_scikit_learn(classes, seed, gaps, max_qc):
    ds, prediction = make(classes, seed, gaps)
    for by in ("igbp", "climate", "site"):
        scores = score(ds, prediction, by, max_qc=max_qc)
        assert set(scores[by].values) == set(ds[by].values)
        for name in scores[by].values:
            member = ds[by].values == name
            assert_scores(scores.sel({by: name}), naive(ds, prediction, member, max_qc))
    everywhere = np.ones(len(classes), bool)
    assert_scores(score(ds, prediction, None, max_qc=max_qc), naive(ds, prediction, everywhere, max_qc))


def test_sites_keep_their_order_and_classes_are_sorted():
    ds, prediction = make("CAB")
    ds = ds.isel(site=[2, 0, 1])
    assert score(ds, prediction, "site")["site"].values.tolist() == ["XX-002", "XX-000", "XX-001"]
    assert score(ds, prediction)["igbp"].values.tolist() == ["A", "B", "C"]


def test_prediction_is_aligned_by_label():
    ds, prediction = make("ABAB")
    part = prediction.isel(site=[3, 0, 1], time=slice(5, 30)).transpose("time", "site")
    scores = score(ds, part)
    same = ds.isel(site=[0, 1, 3], time=slice(5, 30))
    for name in "AB":
        expected = naive(
            same, prediction.sel(site=same["site"], time=same["time"]), same["igbp"].values == name
        )
        assert_scores(scores.sel(igbp=name), expected)


def test_nothing_in_common_is_an_error():
    ds, prediction = make("AB")
    elsewhere = prediction.assign_coords(site=["YY-000", "YY-001"])
    with pytest.raises(MetadataError, match="no site in common"):
        score(ds, elsewhere, None)


def test_class_without_common_hours_is_there_and_missing():
    ds, prediction = make("AB")
    prediction[0] = np.nan
    scores = score(ds, prediction)
    assert scores["n"].values.tolist()[0] == 0
    assert np.isnan(scores["nse"].sel(igbp="A"))
    assert np.isfinite(scores["nse"].sel(igbp="B"))


def test_infinite_prediction_spoils_its_own_class_only():
    ds, prediction = make("AB")
    prediction[0] = np.inf
    scores = score(ds, prediction)
    assert scores["rmse"].sel(igbp="A") == np.inf
    assert np.isfinite(scores["rmse"].sel(igbp="B"))


@pytest.mark.parametrize("by", [None, "site", "igbp"])
@pytest.mark.parametrize("named", [True, False])
def test_tower_without_site_dimension_is_scored(by, named):
    ds, prediction = make("ABC")
    tower, alone = ds.isel(site=1), prediction.isel(site=1)
    if not named:
        tower, alone = tower.drop_vars("site"), alone.drop_vars("site")
        by = None if by == "site" else by
    scores = score(tower, alone, by)
    assert scores["nse"].dims == (() if by is None else (by,))
    assert_scores(scores.squeeze(), naive(ds, prediction, np.array([False, True, False])))


@pytest.mark.parametrize("by", [None, "site", "igbp"])
def test_scoring_is_lazy(towers, by):
    with raise_on_compute():
        scores = score(towers, towers["NEE"] + 1, by)
    assert all(array.chunks is not None for array in scores.data_vars.values())
    np.testing.assert_allclose(scores["bias"], 1, rtol=1e-5)


def test_chunks_do_not_matter():
    ds, prediction = make("ABAB")
    whole = score(ds, prediction)
    parts = score(ds.chunk(site=1, time=7), prediction.chunk(site=3, time=11))
    xr.testing.assert_allclose(whole, parts.compute(), rtol=1e-12)


def without_limits(ds: xr.Dataset, prediction: xr.DataArray) -> tuple[xr.Dataset, xr.DataArray]:
    """Rename the flux to a name that has no plausibility limits."""
    return ds.rename(NEE="X", NEE_QC="X_QC"), prediction.rename("X")


@pytest.mark.parametrize("offset", [1e3, 1e6, 1e9])
def test_offset_costs_no_digits(offset):
    ds, prediction = make("AABB", offset=offset)
    for by in (None, "igbp"):
        scores = score(*without_limits(ds, prediction), by)
        member = np.ones(4, bool) if by is None else ds["igbp"].values == "A"
        assert_scores(
            scores if by is None else scores.sel(igbp="A"), naive(ds, prediction, member), rtol=1e-6
        )


def test_single_precision_is_summed_in_double():
    ds, prediction = make("A", offset=4000)
    double = score(*without_limits(ds, prediction))
    ds["NEE"] = ds["NEE"].astype("float32")
    single = score(*without_limits(ds, prediction.astype("float32")))
    assert single["rmse"].dtype == np.float64
    np.testing.assert_allclose(single["nse"], double["nse"], rtol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 / 3])
def test_observations_that_do_not_vary_have_no_nse(value):
    ds, prediction = make("AAB", gaps=0)
    ds["NEE"][:] = value
    scores = score(*without_limits(ds, prediction))
    assert scores["nse"].isnull().all()
    assert scores["rmse"].notnull().all()


def test_perfect_prediction_scores_one(towers):
    scores = score(towers, towers["NEE"], None)
    assert scores["nse"] == 1
    assert scores["rmse"] == scores["bias"] == 0
    assert scores["n"] > 50_000


def test_towers_drawn_more_than_once_count_as_often():
    ds, prediction = make("ABAB")
    drawn = [0, 0, 3, 1, 0]
    sums = moments(ds, prediction)
    assert tuple(sums) == MOMENTS
    for by in (None, "igbp"):
        scores = pooled(sums.isel(site=drawn), by)
        for name in [None] if by is None else ["A", "B"]:
            member = [site for site in drawn if by is None or "ABAB"[site] == name]
            expected = naive(ds.isel(site=member), prediction.isel(site=member), np.ones(len(member), bool))
            assert_scores(scores if by is None else scores.sel(igbp=name), expected)


def test_moments_keep_what_is_known_of_towers_and_other_dims():
    ds, prediction = make("ABA")
    both = xr.concat([prediction, prediction + 1], dim="model")
    sums = moments(ds.chunk(site=1).assign_coords(ds.coords), both.chunk(time=9))
    assert set(sums["n"].dims) == {"site", "model"}
    assert all(sums[name].chunks for name in MOMENTS)
    xr.testing.assert_identical(sums["climate"], ds["climate"])
    scores = pooled(sums, "climate").compute()
    for model in range(2):
        xr.testing.assert_allclose(scores.isel(model=model), score(ds, both.isel(model=model), "climate"))
    alone = moments(ds.isel(site=1), prediction.isel(site=1))
    xr.testing.assert_allclose(alone, moments(ds, prediction).isel(site=[1]))


def test_units_are_those_of_the_target(towers):
    scores = score(towers, towers["FCH4"])
    assert scores["rmse"].attrs["units"] == scores["bias"].attrs["units"] == "nmol m-2 s-1"
    assert scores["nse"].attrs == {"long_name": "Nash-Sutcliffe efficiency", "units": "1"}


def test_unknown_class_lists_the_known_ones():
    ds, prediction = make("AB")
    for wrong in ("climat", "time"):
        with pytest.raises(OptionError, match=f"found '{wrong}'.*'igbp', 'climate'"):
            score(ds, prediction, wrong)


def test_prediction_of_something_not_observed_is_an_error():
    ds, prediction = make("AB")
    with pytest.raises(VariableError, match=r"scoring needs \['FCH4'\]"):
        score(ds, prediction.rename("FCH4"))
    with pytest.raises(VariableError, match="has no name"):
        score(ds, prediction.rename(None))


def test_implausible_observations_do_not_count():
    ds, prediction = make("AB", gaps=0.0)
    wrong = ds.copy(deep=True)
    wrong["NEE"][:, 3:6] = [9999, np.inf, -6999]
    missing = ds.copy(deep=True)
    missing["NEE"][:, 3:6] = np.nan
    xr.testing.assert_identical(score(wrong, prediction).compute(), score(missing, prediction).compute())


def test_prediction_in_other_units_is_an_error():
    ds = synthetic_towers(1, patches=False, variables=["NEE"]).isel(time=slice(240)).load()
    prediction = ds["NEE"] + 1
    mass = prediction.assign_attrs(units="gC m-2 d-1")
    with pytest.raises(MetadataError, match="in 'umol m-2 s-1', but the prediction is in 'gC m-2 d-1'"):
        score(ds, mass)
    both = ds.assign(NEE=ds["NEE"].assign_attrs(units="gC m-2 d-1"))
    assert score(both, mass)["nse"].values == score(ds, prediction)["nse"].values
