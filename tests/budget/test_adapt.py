"""Adaptation of a model to the measured hours of a tower."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from tests.budget.samples import light_model, towers
from xcarbon.budget import adapt, artificial_gaps, carbon_sums, gapfill
from xcarbon.budget.correlation import relative_variance
from xcarbon.core.options import set_options
from xcarbon.evaluation import coverage
from xcarbon.io.fluxnet import open_fluxnet
from xcarbon.prep.clock import to_hours
from xcarbon.testing import raise_on_compute


@pytest.fixture(autouse=True, scope="module")
def fewer_trees():
    """Train for a tenth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapt, "TREES", 60)
        patch.setitem(adapt.PARAMETERS, "eta", 0.2)
        yield


@pytest.fixture(scope="module")
def tower() -> xr.Dataset:
    return towers(1).load()


@pytest.fixture(scope="module")
def hidden(tower) -> xr.DataArray:
    return artificial_gaps(tower, "week")


@pytest.fixture(scope="module")
def filled(tower, hidden) -> xr.Dataset:
    return gapfill(tower.assign(NEE=tower["NEE"].where(~hidden)), model=light_model())


def rmse(tower, hours, found):
    error = (found - tower["NEE"]).where(hours & (tower["NEE_QC"] == 0))
    return float(np.sqrt((error**2).mean()))


def test_it_fills_gaps_better_than_the_model_and_than_sampling(tower, hidden, filled):
    gaps = tower.assign(NEE=tower["NEE"].where(~hidden))
    ours = rmse(tower, hidden, filled["NEE"])
    assert ours < 0.8 * rmse(tower, hidden, gapfill(gaps, model=light_model(), adapt=False)["NEE"])
    assert ours < rmse(tower, hidden, gapfill(gaps, model="mds")["NEE"])


def test_the_spread_is_that_of_the_errors_in_gaps(tower, hidden, filled):
    truth = tower.assign(NEE=tower["NEE"].where(hidden))
    found = filled[["NEE_MODEL", "NEE_MODEL_SE"]].rename(NEE_MODEL="NEE", NEE_MODEL_SE="NEE_SE")
    assert 0.8 < float(coverage(truth, found, max_qc=0)["coverage"].sel(level=0.9).mean()) < 0.98


def test_errors_in_measured_hours_are_those_of_gaps(tower, hidden, filled):
    measured = filled["NEE_FILLED"] == 0
    assert rmse(tower, measured, filled["NEE_MODEL"]) > 0.7 * rmse(tower, hidden, filled["NEE"])


def test_it_is_lazy_and_the_same_for_chunks_and_for_a_tower_alone(monkeypatch):
    monkeypatch.setattr(adapt, "TREES", 20)
    two = towers(2).isel(time=slice(0, 1500)).persist()
    with raise_on_compute():
        lazy = gapfill(two, model=light_model())
    alone = gapfill(two.isel(site=1).load(), model=light_model())
    assert alone["NEE"].dims == ("time",)
    xr.testing.assert_allclose(lazy.isel(site=1).compute(), alone, rtol=1e-5)


def test_sums_of_a_model_that_is_not_adapted_have_a_warning(tower, filled, recwarn):
    carbon_sums(filled)
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"not adapted.*57 to 74 %"):
        carbon_sums(gapfill(tower, model=light_model(), adapt=False))


def test_what_holds_for_all_fluxes_is_printed_once(tower, capsys):
    with set_options(progress=True):
        gapfill(tower.chunk(site=1), model="nee-fluxnet2015")
    assert "".join(capsys.readouterr()).count("the model uses a year of weather") == 1


def test_a_tower_with_few_hours_keeps_the_model(tower):
    few = tower.assign(NEE=tower["NEE"].where(tower["time"] < np.datetime64("2010-01-10")))
    plain = gapfill(few, model=light_model(), adapt=False).compute()
    for ds in (few, few.isel(site=0), few.chunk()):
        found = gapfill(ds, model=light_model())
        with pytest.warns(UserWarning, match=r"SY-001: the model is not adapted .* only 197 measured hours"):
            found = found.compute()
        assert (found["NEE"] == plain["NEE"].squeeze()).all()


def test_few_weeks_of_hours_are_enough(tower):
    """They may all lie in the artificial gaps of one group."""
    month = tower.isel(time=slice(0, 1200)).drop_vars("NEE_QC")
    for hours in (550, 800):
        few = month.assign(NEE=month["NEE"].fillna(1.0).where(np.arange(1200) < hours))
        found = gapfill(few, model=light_model())
        assert found["NEE"].notnull().all() and (found["NEE_MODEL_SE"] > 0).all()


def test_hours_of_a_single_group_of_gaps_cannot_test_the_trees():
    base = np.random.default_rng(0).normal(size=6000)
    measured = np.where(adapt.artificial_folds(6000) == 1, 2 * base, np.nan)
    spread = np.ones(6000)
    prediction, calibrated = adapt.adapt(measured, base, spread, base[:, np.newaxis])
    assert np.abs(prediction - 2 * base).mean() < 0.3
    assert np.isfinite(calibrated).all()


def test_the_spread_is_smaller_in_short_gaps():
    """The hours of a record are measured but for gaps of 5, 40 and 500 hours, and the errors are noise."""
    rng = np.random.default_rng(0)
    base, measured = np.zeros(6000), rng.normal(size=6000)
    gaps = {5: slice(1000, 1005), 40: slice(2000, 2040), 500: slice(3000, 3500)}
    for gap in gaps.values():
        measured[gap] = np.nan
    _, spread = adapt.adapt(measured, base, np.ones(6000), rng.normal(size=(6000, 1)))
    short, day, long = (spread[gap].mean() for gap in gaps.values())
    expected = np.sqrt(relative_variance(np.array(list(gaps))))
    np.testing.assert_allclose([short / long, day / long], expected[:2] / expected[2], rtol=1e-5)
    assert short < day < long
    assert 0.9 < long < 1.7


def test_the_source_is_stated(filled):
    source = filled["NEE_MODEL"].attrs["source"]
    assert source.endswith("adapted to the measured hours of each tower that has at least 500 of them")


def test_no_feature_before_the_record_or_after_it_is_invented():
    found = adapt.around(np.arange(5.0)[:, np.newaxis], per_hour=1)
    assert found.shape == (5, 12)
    np.testing.assert_array_equal(found[0, :2], [np.nan, 1])  # the hour before, and after
    halves = adapt.around(np.arange(5.0)[:, np.newaxis], per_hour=2)
    np.testing.assert_array_equal(halves[2, :2], [0, 4])


def test_each_hour_is_tested_once():
    fold = adapt.artificial_folds(20_000)
    assert len(fold) == 20_000 and set(fold) == set(range(adapt.FOLDS))
    assert np.bincount(fold).min() > 2_000


def test_half_hours_are_filled_from_their_own_drivers(real_data):
    """Predictions of the clock hours are divided; adapted ones follow the drivers of the half-hours."""
    path = next(real_data.glob("raw/FLX_IT-CA3_*_HH_*.csv.gz"))
    with raise_on_compute():
        lazy = open_fluxnet(path, resolution="HH")[["TA", "VPD", "SW_IN", "NEE", "NEE_QC"]]
        lazy = lazy.sel(time=slice("2013-05-01T00:30", "2013-07-20T12:00"))
        assert gapfill(lazy, model=light_model())["NEE"].chunks is not None
    ds = lazy.load()
    hidden = artificial_gaps(ds, "day", seed=1)
    gaps = ds.assign(NEE=ds["NEE"].where(~hidden))
    plain = gapfill(gaps, model=light_model(), adapt=False)
    hourly = gapfill(gaps.carbon.aggregate("HR"), model=light_model(), adapt=False)["NEE_MODEL"]
    means = to_hours(plain["NEE_MODEL"].values, "mean", half_past=True)
    np.testing.assert_allclose(means[:, 1:-1], hourly.values[:, 1:-1], rtol=1e-5, atol=1e-5)
    filled = gapfill(gaps, model=light_model())
    measured = filled["NEE_FILLED"] == 0
    xr.testing.assert_equal(filled["NEE"].where(measured), gaps["NEE"].where(measured))
    assert filled["time"].equals(ds["time"])
    assert rmse(ds, hidden, filled["NEE"]) < 0.8 * rmse(ds, hidden, plain["NEE"])
