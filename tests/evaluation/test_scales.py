"""Tests of scores at each time scale against pandas, for any gaps, and against known values."""

from __future__ import annotations

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from tests.evaluation.samples import chunked, frame, make, means
from xcarbon.core.errors import MetadataError, OptionError, TimestampError, VariableError
from xcarbon.evaluation import score_time_scales
from xcarbon.evaluation.baselines import diurnal_cycle
from xcarbon.evaluation.scales import SCALES
from xcarbon.evaluation.scores import score
from xcarbon.prep import periods
from xcarbon.testing import raise_on_compute, synthetic_towers


def naive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the series of one tower at each scale computed with pandas."""

    def half(keys: pd.PeriodIndex) -> np.ndarray:
        return (keys.end_time.ceil("h") - keys.start_time) / pd.Timedelta(2, "h")

    by = {unit: means(table, table.index.to_period(unit), half) for unit in ("D", "W-SUN", "M", "Y")}
    months, years = by["M"], by["Y"]
    calendar = months.groupby(months.index.month)
    odd = (months - calendar.transform("mean"))[calendar.transform("size") >= 2]
    apart = years - years.mean() if len(years) >= 2 else years[:0]
    series = (table, by["D"], by["W-SUN"], months, calendar.mean(), odd, apart)
    return dict(zip(SCALES, series, strict=True))


@settings(max_examples=8)
@given(seed=st.integers(0, 99), gaps=st.sampled_from([0, 0.3, 0.8]), hours=st.integers(3000, 30_000))
def test_scores_equal_those_of_pandas(seed, gaps, hours):
    ds, prediction = make(2, seed=seed, gaps=gaps, hours=hours)
    pooled, each = score_time_scales(ds, prediction), score_time_scales(ds, prediction, by="site")
    towers = [naive(frame(ds, prediction, site)) for site in range(2)]
    for scale in SCALES:
        series = [tower[scale] for tower in towers]
        for table, scores in [
            (pd.concat(series), pooled),
            *((table, each.isel(site=site)) for site, table in enumerate(series)),
        ]:
            found = scores.sel(scale=scale)
            assert found["n"] == len(table)
            if len(table) > 1:
                np.testing.assert_allclose(found["nse"], r2_score(table["y"], table["x"]), rtol=1e-9)
                np.testing.assert_allclose(found["bias"], (table["x"] - table["y"]).mean(), atol=1e-12)
                np.testing.assert_allclose(found["rmse"], ((table["x"] - table["y"]) ** 2).mean() ** 0.5)


@pytest.mark.parametrize("by", [None, "site", "igbp"])
def test_hours_are_scored_as_ever(by):
    ds, prediction = make(3)
    found = score_time_scales(ds, prediction, by, max_qc=0)
    xr.testing.assert_allclose(
        found.sel(scale="hourly", drop=True), score(ds, prediction, by, max_qc=0), rtol=1e-12
    )
    assert list(found["scale"].values) == list(SCALES)
    assert found["nse"].dims == (("scale",) if by is None else ("scale", by))
    assert found["n"].attrs["long_name"] == "number of periods"
    assert found["rmse"].attrs["units"] == "umol m-2 s-1"


def test_season_and_years_are_told_apart():
    time = pd.date_range("2009-01-01", "2012-01-01", freq="h", unit="ns", inclusive="left")
    season, years = 5.0 * time.month.to_numpy(), 1.0 * (time.year.to_numpy() - 2010)
    coords = {"site": ["XX-000"], "time": time}
    ds = xr.Dataset({"NEE": (("site", "time"), [season + years])}, coords)

    def scores(values: np.ndarray) -> pd.DataFrame:
        prediction = xr.DataArray([values], coords, ("site", "time"), name="NEE")
        return score_time_scales(ds, prediction).to_dataframe()

    knows_season = scores(season + 2)
    assert knows_season.loc["seasonal", "rmse"] == pytest.approx(2)
    assert knows_season.loc[["anomalies", "interannual"], "nse"].tolist() == pytest.approx([0, 0])
    assert knows_season.loc["interannual", "rmse"] == pytest.approx((2 / 3) ** 0.5)
    knows_years = scores(years + 32.5)
    assert knows_years.loc[["anomalies", "interannual"], "nse"].tolist() == pytest.approx([1, 1])
    assert knows_years.loc["seasonal", "nse"] == pytest.approx(0)
    assert knows_years["n"].tolist() == [time.size, 1095, 157, 36, 12, 36, 3]


def test_perfect_prediction_scores_one_at_every_scale():
    ds, _ = make(2)
    scores = score_time_scales(ds, ds["NEE"])
    assert (scores["nse"] == 1).all()
    assert (scores["rmse"] == 0).all()


@given(factor=st.sampled_from([-3, 0.25, 1e5]), shift=st.sampled_from([0, -7, 1e4]))
@settings(max_examples=6)
def test_scaling_both_changes_no_efficiency(factor, shift):
    ds, prediction = make(2, hours=9000)
    ds, prediction = ds.rename({name: name.replace("NEE", "X") for name in ds}), prediction.rename("X")
    before = score_time_scales(ds, prediction)
    after = score_time_scales(ds.assign(X=ds["X"] * factor + shift), prediction * factor + shift)
    np.testing.assert_allclose(after["nse"], before["nse"], rtol=1e-6)
    np.testing.assert_allclose(after["rmse"], abs(factor) * before["rmse"], rtol=1e-6)


def test_a_single_year_has_no_anomalies():
    ds, prediction = make(2, start="2010-01-01", hours=8760, gaps=0)
    scores = score_time_scales(ds, prediction)
    assert scores["n"].sel(scale=["anomalies", "interannual"]).values.tolist() == [0, 0]
    assert np.isnan(scores["rmse"].sel(scale="interannual"))
    assert scores["n"].sel(scale="seasonal") == 24


def test_observations_that_do_not_vary_have_no_efficiency():
    ds, prediction = make(2, gaps=0.1)
    scores = score_time_scales(ds.assign(NEE=ds["NEE"] * 0 + 0.1), prediction)
    assert scores["nse"].isnull().all()
    assert scores["rmse"].notnull().all()


def test_infinite_prediction_is_seen_at_every_scale():
    ds, prediction = make(1, gaps=0)
    prediction[0, 5000] = np.inf
    ds["NEE_QC"][:] = 0
    with np.errstate(invalid="ignore"):
        assert (score_time_scales(ds, prediction)["rmse"] == np.inf).all()


def test_nothing_in_common_scores_nothing():
    ds, prediction = make(2, hours=300)
    elsewhere = prediction.assign_coords(site=["YY-000", "YY-001"])
    later = prediction.assign_coords(time=prediction["time"] + np.timedelta64(9000, "h"))
    scores = score_time_scales(ds, prediction * np.nan)
    assert (scores["n"] == 0).all()
    assert scores["nse"].isnull().all()
    for other, error in ((elsewhere, MetadataError), (later, TimestampError)):
        with pytest.raises(error, match="in common"):
            score_time_scales(ds, other)


@pytest.mark.parametrize("by", [None, "site", "igbp"])
def test_tower_without_site_dimension_is_scored(by):
    ds, prediction = make(2)
    alone = score_time_scales(ds.isel(site=1), prediction.isel(site=1), by)
    xr.testing.assert_allclose(
        alone.squeeze(drop=True), score_time_scales(ds, prediction, "site").isel(site=1, drop=True)
    )


def test_other_dims_stay():
    ds, prediction = make(2, hours=3000)
    both = xr.concat([prediction, prediction + 1], pd.Index(["a", "b"], name="model"))
    scores = score_time_scales(ds, both, "site")
    xr.testing.assert_allclose(
        scores.sel(model="b", drop=True), score_time_scales(ds, prediction + 1, "site"), rtol=1e-9
    )


def test_scoring_is_lazy_and_holds_one_tower_at_a_time(monkeypatch):
    shapes = []
    kernel = periods._each_tower

    def watched(*arrays, **settings):
        shapes.append(arrays[0].shape)
        return kernel(*arrays, **settings)

    monkeypatch.setattr(periods, "_each_tower", watched)
    ds, prediction = make(3)
    with raise_on_compute():
        lazy = score_time_scales(chunked(ds, site=1, time=5000), prediction.chunk(site=2), "igbp")
    shapes.clear()  # removes the shapes that Dask uses to infer the type
    with dask.config.set(scheduler="single-threaded"):
        found = lazy.compute()
    assert [shape for shape in shapes if shape[-1]] == [(1, 22_000)] * 3
    xr.testing.assert_allclose(found, score_time_scales(ds, prediction, "igbp"), rtol=1e-12)


def test_wrong_names_are_errors():
    ds, prediction = make(1, hours=200)
    with pytest.raises(OptionError, match="found 'climate'"):
        score_time_scales(ds, prediction, "climate")
    with pytest.raises(VariableError, match="FCH4"):
        score_time_scales(ds, prediction.rename("FCH4"))


def test_mean_cycle_of_a_class_knows_no_odd_years():
    towers = synthetic_towers(2, years=2, patches=False, variables=["TA", "NEE"])
    scores = score_time_scales(towers, diurnal_cycle(towers, towers)).compute()["nse"]
    assert scores.sel(scale="seasonal") > 0.5
    assert abs(scores.sel(scale="anomalies")) < 0.1


def test_real_towers(real_towers):
    towers = real_towers.sel(site=["DE-Tha", "AU-How", "US-Ha1"])
    scores = score_time_scales(towers, diurnal_cycle(towers, towers, by="site"), by="site").compute()
    assert (scores["nse"].sel(scale=["hourly", "seasonal"]) > 0.4).all()
    # A mean cycle differs between years only because of the different gaps.
    assert (scores["nse"].sel(scale="interannual") < scores["nse"].sel(scale="hourly") - 0.2).all()
    assert 17 <= scores["n"].sel(scale="interannual", site="DE-Tha") <= 19
