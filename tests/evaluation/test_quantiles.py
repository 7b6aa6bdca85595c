"""Tests of quantiles over towers against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from tests.evaluation.samples import chunked, make
from xcarbon.core.errors import OptionError
from xcarbon.evaluation import score_time_scales, site_quantiles
from xcarbon.evaluation.scores import score
from xcarbon.testing import raise_on_compute


def test_quantiles_are_those_of_numpy():
    ds, prediction = make(7, hours=500)
    prediction[3] = np.nan
    scores = score(ds, prediction, "site")
    found = site_quantiles(scores)
    assert found["quantile"].values.tolist() == [0.05, 0.1, 0.25, 0.5, 0.75, 0.9]
    assert set(found) == {"nse", "rmse", "bias", "towers"}
    for name in ("nse", "rmse", "bias"):
        np.testing.assert_allclose(found[name], np.nanquantile(scores[name], found["quantile"]))
        assert found[name].attrs == scores[name].attrs
    assert found["towers"] == 6


def test_other_dims_stay_and_nothing_is_computed():
    ds, prediction = make(5, hours=3000)
    lazy = score_time_scales(chunked(ds, site=1), prediction.chunk(site=1), "site")
    with raise_on_compute():
        found = site_quantiles(lazy, q=[0.5])
    assert found["rmse"].dims == ("quantile", "scale")
    expected = score_time_scales(ds, prediction, "site")["rmse"].median("site")
    xr.testing.assert_allclose(found["rmse"].sel(quantile=0.5, drop=True).compute(), expected)
    assert found["towers"].dims == ("scale",)


@pytest.mark.filterwarnings("error")
def test_nothing_has_no_quantiles_and_no_warning():
    scores = xr.Dataset({"nse": (("seed", "site"), [[0.1, 0.3, np.nan], [np.nan] * 3], {"units": "1"})})
    quantiles = site_quantiles(scores, (0.5,))
    np.testing.assert_allclose(quantiles["nse"], [[0.2, np.nan]])
    assert quantiles["towers"].values.tolist() == [2, 0] and quantiles["nse"].attrs["units"] == "1"


def test_scores_must_be_by_tower():
    ds, prediction = make(2, hours=100)
    with pytest.raises(OptionError, match=r"the dimension 'site', found \('igbp',\)"):
        site_quantiles(score(ds, prediction, "igbp"))
