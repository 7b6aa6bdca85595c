"""Tests of the baselines against direct computations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.linear_model import Ridge

from xcarbon.evaluation.baselines import _features, diurnal_cycle, ridge
from xcarbon.prep.inputs import model_inputs
from xcarbon.testing import raise_on_compute


def test_diurnal_cycle_is_the_mean_by_class_month_and_hour(towers):
    train, other = towers.isel(site=slice(0, 8)), towers.isel(site=slice(8, 12))
    prediction = diurnal_cycle(train, other).compute()
    observed = train["NEE"].where(train["NEE_QC"] <= 1).to_series().rename("NEE").dropna().reset_index()
    observed["igbp"] = observed["site"].map(train["igbp"].to_series())
    stamps = pd.DatetimeIndex(observed["time"])
    means = observed.groupby(["igbp", stamps.month, stamps.hour])["NEE"].mean()
    for site in other["site"].values:
        tower = prediction.sel(site=site)
        for stamp in ("2010-01-15T03:00", "2010-07-01T12:00", "2010-12-31T23:00"):
            when = pd.Timestamp(stamp)
            expected = means[str(tower["igbp"].values), when.month, when.hour]
            assert tower.sel(time=stamp).item() == pytest.approx(expected, rel=1e-4)


def test_a_class_without_training_towers_gets_the_mean_of_all(towers):
    train = towers.isel(site=slice(0, 2))
    other = towers.isel(site=[2]).assign_coords(igbp=("site", ["WET"]))
    prediction = diurnal_cycle(train, other).sel(time="2010-07-01T12:00").values.item()
    values = train["NEE"].where(train["NEE_QC"] <= 1).sel(time="2010-07")
    noon = values.where(values["time"].dt.hour == 12)
    assert prediction == pytest.approx(noon.mean().values.item(), rel=1e-4)


def test_ridge_is_scikit_learn_s(towers):
    train, other = towers.isel(site=slice(0, 2)), towers.isel(site=[2])
    codes = ("DOY", "TOD", "TA", "SW_IN", "WD")
    inputs = model_inputs(train, codes, target="NEE").load()
    x = _features(inputs["hourly"].values.reshape(-1, len(codes)), codes)[:, 1:]
    y = inputs["target"].values.ravel()
    known = np.isfinite(y)
    model = Ridge(alpha=1.0).fit(x[known], y[known])
    hourly = model_inputs(other, codes)["hourly"].values
    prediction = ridge(train, other, variables=codes)
    np.testing.assert_allclose(
        prediction.values[0], model.predict(_features(hourly[0], codes)[:, 1:]), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("baseline", [diurnal_cycle, ridge])
def test_baselines_are_labelled_lazy_and_scorable(towers, baseline):
    train, other = towers.isel(site=slice(0, 8)), towers.isel(site=slice(8, 12))
    prediction = baseline(train, other)
    assert (prediction.name, prediction.dims) == ("NEE", ("site", "time"))
    assert prediction.chunks is not None
    xr.testing.assert_equal(prediction["igbp"], other["igbp"])
    with raise_on_compute():
        score = other.carbon.score(prediction, by=None)
    assert 0.1 < score["nse"].compute() < 1
