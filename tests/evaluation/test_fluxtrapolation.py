"""Tests of lists and periods against the publication, and of errors against pandas and known values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tests.evaluation.samples import chunked, frame, make, means
from xcarbon.core.errors import MetadataError, OptionError, VariableError
from xcarbon.evaluation.fluxtrapolation import SCALES, TEST_TOWERS, VALIDATION_TOWERS, score, split
from xcarbon.testing import raise_on_compute


def published(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the series of one tower as in the benchmark's code, over hours with both values."""
    days = means(table, table.index.floor("D"), 12)
    years = means(days, days.index.year, 183)
    seasonal = means(days, days.index.day_of_year, 2)
    every = days.index.day_of_year
    series = {
        "hourly": table,
        "weekly": means(days, days.index.to_period("W"), 4),
        "seasonal": seasonal,
        "anom": (days - seasonal.reindex(every).set_axis(days.index)).dropna(),
        "iav": years - years.mean(),
        "site-mean": days.groupby(days.index.year).mean().mean().to_frame().T,
    }
    return {scale: series[scale] for scale in SCALES}


def rmse(table: pd.DataFrame) -> float:
    return float(((table["x"] - table["y"]) ** 2).mean() ** 0.5) if len(table) else np.nan


@pytest.mark.parametrize("gaps", [0, 0.4])
def test_errors_of_towers_are_those_of_the_published_series(gaps):
    ds, prediction = make(4, gaps=gaps, seed=5)
    found = score(ds, prediction, "spatial", max_qc=1)
    towers = [published(frame(ds, prediction, site)) for site in range(4)]
    for scale in SCALES:
        errors = [rmse(tower[scale]) for tower in towers]
        expected = [np.nanmedian(errors), np.nanquantile(errors, 0.9)]
        np.testing.assert_allclose(found["rmse"].sel(scale=scale), expected, rtol=1e-9)
        assert found["n"].sel(scale=scale) == np.isfinite(errors).sum()
    assert found["rmse"].dims == ("scale", "quantile")
    assert found["rmse"].attrs["units"] == "umol m-2 s-1"
    xr.testing.assert_allclose(found, score(ds, prediction, "temperature", max_qc=1))


def test_each_year_of_a_tower_counts_in_the_temporal_scenario():
    ds, prediction = make(3, seed=6)
    found = score(ds, prediction, "temporal", max_qc=1)
    tables = [frame(ds, prediction, site) for site in range(3)]
    for scale in SCALES:
        if scale in ("seasonal", "anom", "iav"):
            parts = tables
        else:
            parts = [table[table.index.year == year] for table in tables for year in range(2011, 2015)]
        errors = [rmse(published(table)[scale]) for table in parts if len(table)]
        np.testing.assert_allclose(
            found["rmse"].sel(scale=scale), [np.nanmedian(errors), np.nanquantile(errors, 0.9)], rtol=1e-9
        )
    assert found["scale"].values.tolist() == list(SCALES)
    assert found["n"].sel(scale=["hourly", "iav"]).values.tolist() == [12, 3]


def test_season_years_and_mean_are_told_apart():
    time = pd.date_range("2009-01-01", "2012-01-01", freq="h", unit="ns", inclusive="left")
    season, years = time.day_of_year.to_numpy() / 8, 30.0 * (time.year.to_numpy() - 2010)
    coords = {"site": ["XX-000"], "time": time}
    ds = xr.Dataset({"NEE": (("site", "time"), [season + years])}, coords)
    prediction = xr.DataArray([season + 2], coords, ("site", "time"), name="NEE")
    errors = score(ds, prediction, "spatial")["rmse"].sel(quantile=0.5).to_series()
    assert errors["seasonal"] == pytest.approx(2)
    assert errors["site-mean"] == pytest.approx(2)
    assert errors["anom"] == errors["iav"] == pytest.approx(30 * (2 / 3) ** 0.5)


def test_perfect_prediction_has_no_errors_and_scaling_scales_them():
    ds, prediction = make(2)
    assert (score(ds, ds["NEE"], "temporal")["rmse"] == 0).all()
    before, after = (
        score(ds, prediction, "spatial"),
        score(ds.assign(NEE=-2 * ds["NEE"]), -2 * prediction, "spatial"),
    )
    np.testing.assert_allclose(after["rmse"], 2 * before["rmse"], rtol=1e-9)


def test_every_hour_counts_whatever_its_quality():
    ds, prediction = make(2)
    xr.testing.assert_equal(
        score(ds, prediction, "spatial"), score(ds.drop_vars("NEE_QC"), prediction, "spatial")
    )


def test_lists_are_well_formed():
    for scenario in ("spatial", "temperature"):
        test, val = TEST_TOWERS[scenario], VALIDATION_TOWERS[scenario]
        assert (len(set(test)), len(set(val))) == (40, 20)
        assert not set(test) & set(val)


def test_towers_are_split_by_the_lists():
    names = ["DE-Tha", "DE-Hai", "XX-001", "AU-Cum", "US-Ton"]
    ds = xr.Dataset(
        {"NEE": (("site", "time"), np.zeros((5, 3)))}, {"site": names, "time": make()[0].time[:3]}
    )
    parts = [part["site"].values.tolist() for part in split(ds, "spatial")]
    assert parts == [["XX-001", "US-Ton"], ["DE-Tha", "AU-Cum"], ["DE-Hai"]]
    with pytest.raises(MetadataError, match="nothing is left for val: the temperature scenario needs towers"):
        split(ds, "temperature")


def test_years_are_split_for_the_towers_that_have_the_middle_one():
    ds, _ = make(3)  # November 2011 to May 2014
    ds["NEE"][1, ds["time"].dt.year.values == 2012] = np.nan
    parts = split(ds, "temporal", year=2012)
    assert [part["site"].values.tolist() for part in parts] == [["XX-000", "XX-002"]] * 3
    assert [np.unique(part["time"].dt.year).tolist() for part in parts] == [[2011], [2012], [2013, 2014]]
    with pytest.raises(
        MetadataError, match=r"needs years before, in and after 2018.*\[2011, 2012, 2013, 2014\]"
    ):
        split(ds, "temporal")
    with pytest.raises(VariableError, match="the temporal scenario needs"):
        split(ds, "temporal", target="FCH4", year=2012)


def test_unknown_scenarios_are_errors():
    ds, prediction = make(1, hours=100)
    for call in (lambda: split(ds, "cold"), lambda: score(ds, prediction, "cold")):
        with pytest.raises(OptionError, match="no scenario 'cold'; the scenarios are"):
            call()


def test_nothing_is_computed():
    ds, prediction = make(2, hours=9000)
    parts = chunked(ds, site=1, time=4000)
    with raise_on_compute():
        lazy = [score(parts, prediction.chunk(site=1), scenario) for scenario in ("spatial", "temporal")]
        named = xr.concat([parts, parts.isel(site=[0])], "site").assign_coords(
            site=["DE-Hai", "DE-Tha", "XX"]
        )
        split(named, "spatial")
    xr.testing.assert_allclose(lazy[0].compute(), score(ds, prediction, "spatial"))
    xr.testing.assert_allclose(lazy[1].compute(), score(ds, prediction, "temporal"))


def test_real_towers(real_towers):
    sizes = {
        name: [part.sizes["site"] for part in split(real_towers, name)] for name in ("spatial", "temperature")
    }
    assert all(sum(parts) == 180 and min(parts) > 3 for parts in sizes.values())
    few = real_towers.sel(site=["DE-Tha", "US-Ha1", "AU-Dry"])
    train, val, test = split(few, "temporal", year=2009)
    assert [part.sizes["site"] for part in (train, val, test)] == [3, 3, 3]
    errors = score(test, test["NEE"] + 1, "temporal").compute()
    np.testing.assert_allclose(errors["rmse"].sel(scale=["hourly", "site-mean"]), 1, rtol=1e-5)
    np.testing.assert_allclose(errors["rmse"].sel(scale=["anom", "iav"]), 0, atol=1e-6)
