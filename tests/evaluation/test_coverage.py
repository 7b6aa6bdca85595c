"""Tests of the coverage of intervals by class and tower, before and after calibration."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from tests.models.test_networks import make
from xcarbon.core.errors import ModelError, VariableError
from xcarbon.evaluation import coverage
from xcarbon.prediction.calibration import calibrate
from xcarbon.testing import raise_on_compute


@pytest.fixture(scope="module")
def months(towers) -> xr.Dataset:
    return towers.isel(site=slice(4), time=slice(24 * 60)).load()


@pytest.fixture
def prediction(months) -> xr.Dataset:
    """Return a prediction with normal errors of known standard deviation; it is doubled at the last tower."""
    rng = np.random.default_rng(0)
    spread = xr.zeros_like(months["NEE"]) + 1 + months["TA"].notnull()
    error = spread * rng.standard_normal(spread.shape) * xr.DataArray([1.0, 1, 1, 2], dims="site")
    return xr.Dataset({"NEE": months["NEE"] + error, "NEE_SE": spread})


def test_normal_errors_are_covered(months, prediction):
    with raise_on_compute():
        found = coverage(months.chunk(), prediction.chunk(), by="site")
    share = found["coverage"].transpose("site", "level")
    np.testing.assert_allclose(share[:3], [[0.5, 0.9]] * 3, atol=0.05)
    np.testing.assert_allclose(share[3], [0.264, 0.589], atol=0.06)


def test_classes_add_up(months, prediction):
    by_class, every = coverage(months, prediction, by="igbp"), coverage(months, prediction)
    assert by_class["n"].sum() == every["n"] == coverage(months, prediction, by="site")["n"].sum()
    hits = (by_class["coverage"] * by_class["n"]).sum("igbp")
    np.testing.assert_allclose(hits / every["n"], every["coverage"])
    measured = months["NEE"].where(months["NEE_QC"] <= 1).notnull()
    assert every["n"] == measured.sum()


def test_hours_without_spread_or_observation_do_not_count(months, prediction):
    fewer = prediction.assign(NEE_SE=prediction["NEE_SE"].where(prediction["time"].dt.hour < 12))
    assert coverage(months, fewer)["n"] < 0.6 * coverage(months, prediction)["n"]


def test_a_prediction_without_spread_is_refused(months, prediction):
    with pytest.raises(VariableError, match="spread=True"):
        coverage(months, prediction[["NEE"]])


def test_calibration_makes_intervals_hold(months):
    """The network has random weights, so that its spread is unrelated to its errors."""
    model = make(bands=(), spread=True)
    calibrated = calibrate(model, months)
    assert "calibration" not in model.provenance and not model.scaler.spread
    before, after = (coverage(months, months.carbon.predict_nee(m, spread=True)) for m in (model, calibrated))
    off = [float(abs(found["coverage"] - [0.5, 0.9]).max()) for found in (before, after)]
    assert off[1] < 0.2 < off[0]
    told = calibrated.provenance["calibration"]
    assert told["sites"] == list(months["site"].values)
    assert told["factor"] == pytest.approx(calibrated.scaler.spread["NEE"].factor)
    assert abs(told["coverage"]["0.9"] - 0.9) < 0.15
    with xr.set_options(keep_attrs=False):
        xr.testing.assert_equal(months.carbon.predict_nee(model), months.carbon.predict_nee(calibrated))


def test_what_cannot_be_calibrated_is_said(months):
    with pytest.raises(ModelError, match="no spread"):
        calibrate(make(), months)
    with pytest.raises(ModelError, match="none of 4 towers"):
        calibrate(make(bands=(), spread=True), months.assign(NEE=months["NEE"] * np.nan))
