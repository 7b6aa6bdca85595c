"""Tests of the noise ceiling against the scores of a perfect model."""

from __future__ import annotations

import numpy as np
import pytest

from tests.evaluation.samples import chunked, make
from xcarbon.core.errors import VariableError
from xcarbon.evaluation import noise_ceiling
from xcarbon.evaluation.scores import score
from xcarbon.testing import raise_on_compute


def with_noise(seed: int = 0):
    """Return true fluxes, and noisy observations with the standard deviation of the noise."""
    ds, _ = make(4, hours=20_000, gaps=0.1, seed=seed)
    truth = ds["NEE"].copy()
    sigma = 0.5 + 0.2 * np.abs(truth)
    noise = np.random.default_rng(seed + 1).laplace(0, 1, truth.shape) / 2**0.5
    return ds.assign(NEE=truth + sigma * noise, NEE_RANDUNC=sigma), truth


def test_perfect_model_reaches_the_ceiling():
    ds, truth = with_noise()
    for by in (None, "igbp", "site"):
        ceiling, reached = noise_ceiling(ds, by), score(ds, truth, by)
        np.testing.assert_allclose(ceiling["nse"], reached["nse"], atol=0.005)
        np.testing.assert_allclose(ceiling["rmse"], reached["rmse"], rtol=0.03)
        assert (ceiling["nse"] < 0.95).all()
        assert (ceiling["n"] == reached["n"]).all()
    assert set(ceiling) == {"nse", "rmse", "n"}


def test_ceiling_is_one_less_noise_over_variance():
    ds, _ = with_noise()
    good = (ds["NEE_QC"] <= 1) & ds["NEE"].notnull()
    y, sigma = ds["NEE"].values[good], ds["NEE_RANDUNC"].values[good]
    np.testing.assert_allclose(noise_ceiling(ds, None)["nse"], 1 - (sigma**2).mean() / y.var())
    np.testing.assert_allclose(noise_ceiling(ds, None)["rmse"], (sigma**2).mean() ** 0.5)


def test_single_precision_is_enough():
    ds, _ = with_noise()
    np.testing.assert_allclose(
        noise_ceiling(ds.astype("float32"))["nse"], noise_ceiling(ds)["nse"], rtol=1e-5
    )


def test_towers_without_uncertainty_have_no_ceiling():
    ds, _ = with_noise()
    ds["NEE_RANDUNC"] = ds["NEE_RANDUNC"].where(ds["igbp"] == "ENF")
    ceiling = noise_ceiling(ds)
    assert ceiling["nse"].isnull().values.tolist() == [False, True]
    assert ceiling["n"].values.tolist()[1] == 0
    assert noise_ceiling(ds, None)["n"] == ceiling["n"].sum()


def test_dataset_without_uncertainty_is_an_error():
    ds, _ = with_noise()
    with pytest.raises(VariableError, match=r"the noise ceiling needs \['NEE_RANDUNC'\]"):
        noise_ceiling(ds.drop_vars("NEE_RANDUNC"))


def test_ceiling_is_lazy():
    ds, _ = with_noise()
    with raise_on_compute():
        lazy = noise_ceiling(chunked(ds, site=1))
    np.testing.assert_allclose(lazy["nse"].compute(), noise_ceiling(ds)["nse"])
