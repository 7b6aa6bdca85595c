"""Tests of the hours of each condition, and of the scores in these hours."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tests.evaluation.samples import chunked
from xcarbon.core.errors import OptionError, VariableError
from xcarbon.evaluation import conditions, score_conditions
from xcarbon.evaluation.hours import CONDITIONS
from xcarbon.evaluation.scores import score
from xcarbon.prep.quality import mask_quality
from xcarbon.testing import raise_on_compute, synthetic_towers

TIME = pd.date_range("2009-01-01", "2012-01-01", freq="h", unit="ns", inclusive="left")
OF_YEAR = (TIME.day_of_year.to_numpy() - 1 + TIME.hour.to_numpy() / 24) / 365.25


@pytest.fixture(scope="module")
def simulated() -> xr.Dataset:
    variables = ["TA", "VPD", "SW_IN", "SW_IN_POT", "NEE", "GPP_NT"]
    return synthetic_towers(4, patches=False, variables=variables).compute()


def tower(**series: np.ndarray) -> xr.Dataset:
    """Return one tower on the Greenwich meridian."""
    coords = {"time": TIME, "lat": 50.0, "lon": 0.0, "utc_offset": 0.0}
    return xr.Dataset({name: ("time", np.asarray(values, float)) for name, values in series.items()}, coords)


def wave(middle: float, times: int = 1) -> np.ndarray:
    """Return a seasonal cycle that crosses its middle at a share of the year."""
    return np.sin(2 * np.pi * times * (OF_YEAR - middle))


def test_extremes_are_the_towers_own(simulated):
    found = conditions(simulated)
    good = mask_quality(simulated, ["TA", "VPD", "SW_IN"])
    for name, code in {"hottest": "TA", "driest": "VPD"}.items():
        for site in range(4):
            values = good[code].values[site]
            expected = values >= np.nanquantile(values, 0.95)
            assert (found.sel(condition=name).values[site] == expected).all()
    for site in range(4):
        light = np.where(simulated["SW_IN_POT"].values[site] > 0, good["SW_IN"].values[site], np.nan)
        expected = light <= np.nanquantile(light, 0.05)
        assert (found.sel(condition="darkest").values[site] == expected).all()
        assert 0.04 < expected.sum() / np.isfinite(light).sum() < 0.06


def test_sun_is_where_potential_radiation_is(simulated):
    given = conditions(simulated).sel(condition="darkest")
    by_place = conditions(simulated.drop_vars("SW_IN_POT")).sel(condition="darkest")
    assert (given & by_place).sum() > 0.85 * given.sum()
    assert (simulated["SW_IN_POT"].where(by_place) == 0).sum() < 0.15 * by_place.sum()  # sun on the horizon
    nowhere = simulated.drop_vars(["SW_IN_POT", "lon"])
    assert not conditions(nowhere).sel(condition="darkest").any()
    unknown = simulated["utc_offset"].where(simulated["site"] != "SY-002")
    days = conditions(simulated.drop_vars("SW_IN_POT").assign_coords(utc_offset=unknown))
    assert days.sel(condition="darkest").any("time").values.tolist() == [True, False, True, True]


@pytest.mark.parametrize("middle", [0.25, 0.7])
@pytest.mark.parametrize("code", ["GPP_NT", "GPP_DT"])
def test_seasons_are_around_the_middle_of_the_rise_and_of_the_fall(middle, code):
    found = conditions(tower(TA=wave(0.5), **{code: 5 + wave(middle)}))
    for name, when in {"spring": middle, "autumn": (middle + 0.5) % 1}.items():
        within = found.sel(condition=name).values
        apart = np.abs((OF_YEAR - when + 0.5) % 1 - 0.5) * 365.25
        assert within[apart < 20].all()
        assert not within[apart > 24].any()


def test_seasons_are_those_of_temperature_where_gpp_covers_too_little():
    gpp = np.where(OF_YEAR < 0.4, wave(0.25), np.nan)
    ta = wave(0.3)
    by_temperature = conditions(tower(TA=ta))
    xr.testing.assert_equal(conditions(tower(TA=ta, GPP_NT=gpp)), by_temperature)
    assert by_temperature.sel(condition="spring").any()
    few = tower(TA=np.where(OF_YEAR < 0.4, ta, np.nan))
    assert not conditions(few).sel(condition=["spring", "autumn"]).any()


def test_a_tower_may_have_two_springs_or_none():
    twice = conditions(tower(TA=wave(0), GPP_NT=wave(0.1, times=2))).sel(condition="spring")
    once = conditions(tower(TA=wave(0), GPP_NT=wave(0.1))).sel(condition="spring")
    assert twice.sum() == pytest.approx(2 * int(once.sum()), rel=0.05)
    assert not conditions(tower(TA=np.ones(TIME.size))).sel(condition=["spring", "autumn"]).any()


def test_hours_after_a_gap_of_all_predictors():
    ta, vpd = np.ones(TIME.size), np.ones(TIME.size)
    ta[:100] = vpd[:100] = np.nan  # the time before the record is not a gap
    ta[200:223] = vpd[200:223] = np.nan  # one hour too short for a gap
    ta[300:324] = vpd[300:324] = np.nan
    ta[500:900] = np.nan  # a gap in one predictor only
    ta[1000:2000] = vpd[1000:2000] = np.nan
    ta[2010:2050] = vpd[2010:2050] = np.nan  # a second gap shortly after the first
    ta[-50:] = vpd[-50:] = np.nan
    expected = [*range(324, 348), *range(2000, 2024), *range(2050, 2074)]
    found = conditions(tower(TA=ta, VPD=vpd)).sel(condition="after_gap")
    assert np.flatnonzero(found).tolist() == expected


def test_what_is_of_too_low_quality_is_missing():
    ds = tower(TA=np.arange(TIME.size) / TIME.size)
    ds["TA_QC"] = ("time", np.where((np.arange(TIME.size) // 48) % 2, 2, 0).astype("int8"))
    found, lenient = conditions(ds), conditions(ds, max_qc=2)
    assert not found.sel(condition="hottest").values[ds["TA_QC"].values == 2].any()
    assert lenient.sel(condition="hottest").sum() == pytest.approx(0.05 * TIME.size, abs=1)
    assert found.sel(condition="after_gap").sum() == 24 * (TIME.size // 96)
    assert not lenient.sel(condition="after_gap").any()


def test_what_cannot_be_told_holds_nowhere(simulated):
    found = conditions(simulated[["VPD"]]).any("time").any("site")
    assert found["condition"].values[found].tolist() == ["driest", "after_gap"]
    with pytest.raises(VariableError, match=r"at least one predictor.*'NEE'"):
        conditions(simulated[["NEE"]])


def test_single_tower_has_the_conditions_that_it_has_among_others(simulated):
    every, one = conditions(simulated), conditions(simulated.isel(site=2))
    assert every.dims == ("condition", "site", "time")
    assert one.dims == ("condition", "time")
    assert every.dtype == one.dtype == bool
    assert tuple(every["condition"].values) == CONDITIONS
    assert (every.isel(site=2).values == one.values).all()


@pytest.mark.parametrize("by", [None, "site", "igbp"])
def test_scores_are_those_of_the_hours(simulated, by):
    prediction = (0.7 * simulated["NEE"] + 1).rename("NEE")
    found = score_conditions(simulated, prediction, by)
    assert found["condition"].values.tolist() == ["all", *CONDITIONS]
    xr.testing.assert_allclose(found.sel(condition="all", drop=True), score(simulated, prediction, by))
    for name in ("driest", "autumn"):
        hours = conditions(simulated).sel(condition=name, drop=True)
        expected = score(simulated.assign(NEE=simulated["NEE"].where(hours)), prediction, by)
        xr.testing.assert_allclose(found.sel(condition=name, drop=True), expected, rtol=1e-9)
        assert 0 < expected["n"].sum() < found["n"].sel(condition="all").sum()


def test_perfect_prediction_scores_one_under_every_condition(simulated):
    scores = score_conditions(simulated, simulated["NEE"])
    assert (scores["nse"].where(scores["n"] > 0, 1) == 1).all()
    assert (scores["n"] > 0).sum() >= 6


def test_single_tower_is_scored(simulated):
    one = simulated.isel(site=1)
    found = score_conditions(one, one["NEE"] + 1, "igbp")
    expected = score_conditions(simulated, simulated["NEE"] + 1, "site").sel(site=["SY-002"])
    np.testing.assert_allclose(found["rmse"], expected["rmse"])
    assert found["igbp"].values.tolist() == [str(one["igbp"].values)]


def test_other_dims_stay(simulated):
    prediction = (0.7 * simulated["NEE"] + 1).rename("NEE")
    both = xr.concat([prediction, prediction - 2], pd.Index(["a", "b"], name="model"))
    found = score_conditions(simulated, both, "igbp").sel(model="b", drop=True)
    xr.testing.assert_allclose(found, score_conditions(simulated, prediction - 2, "igbp"))


def test_scoring_is_lazy(simulated):
    lazy = chunked(simulated, site=1, time=3000)
    with raise_on_compute():
        hours = conditions(lazy.drop_vars("SW_IN_POT"))
        scores = score_conditions(lazy, (lazy["NEE"] + 1).rename("NEE"), "igbp")
    assert hours.chunks is not None
    assert scores["nse"].chunks is not None
    xr.testing.assert_equal(hours.compute(), conditions(simulated.drop_vars("SW_IN_POT")))
    xr.testing.assert_allclose(scores.compute(), score_conditions(simulated, simulated["NEE"] + 1, "igbp"))


def test_wrong_names_are_errors(simulated):
    with pytest.raises(OptionError, match="found 'climate'"):
        score_conditions(simulated, simulated["NEE"], "climate")
    with pytest.raises(VariableError, match="has no name"):
        score_conditions(simulated, simulated["NEE"].rename(None))


def test_real_towers(real_towers):
    towers = real_towers.sel(site=["FI-Hyy", "AU-How", "US-ARc"])
    with raise_on_compute():
        lazy = conditions(towers)
    found = lazy.compute()
    months = towers["time"].dt.month
    spring = {
        site: set(np.unique(months.values[found.sel(condition="spring", site=site).values]).tolist())
        for site in ("FI-Hyy", "AU-How")
    }
    assert spring["FI-Hyy"] <= {4, 5, 6}
    assert spring["AU-How"] <= {10, 11, 12}  # start of the wet season
    light = towers["SW_IN"].where(found.sel(condition="darkest")).mean("time").compute()
    assert (light[:2] < 20).all()
    assert np.isnan(light[2])  # US-ARc has no utc_offset
    assert (found.sel(condition="hottest").any("time")).all()
