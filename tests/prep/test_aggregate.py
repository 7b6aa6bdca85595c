"""Aggregation of hours to days, weeks, months and years."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from xcarbon.core.conventions import QC
from xcarbon.core.errors import MetadataError, OptionError, StoreError, TimestampError, VariableError
from xcarbon.prep.aggregate import RESOLUTIONS, aggregate, period_edges
from xcarbon.testing import raise_on_compute

#: Grams of carbon per day in a flux of 1 umol m-2 s-1, as in ONEFlux but with 12.011 g mol-1.
CARBON = 86400e-6 * 12.011


def hourly(start="2011-01-01", end="2013-01-01", **variables):
    """Build an hourly tower from functions of the number of the hour, or constants."""
    time = pd.date_range(start, end, freq="h", inclusive="left")
    values = {
        name: ("time", np.broadcast_to(np.asarray(value, "int8" if name.endswith(QC) else "f4"), time.size))
        for name, value in variables.items()
    }
    return xr.Dataset(values, {"time": time})


def test_fluxes_are_in_mass_of_carbon_per_day_and_year():
    ds = hourly(NEE=-2, GPP_NT=3, P=0.5, TA=10)
    for resolution in ("DD", "WW", "MM"):
        found = aggregate(ds, resolution)
        np.testing.assert_allclose(found["NEE"], -2 * CARBON, rtol=1e-6)
        np.testing.assert_allclose(found["P"], 12)
        np.testing.assert_allclose(found["TA"], 10)
        assert (found["NEE"].attrs["units"], found["P"].attrs["units"]) == ("g m-2 d-1", "mm d-1")
    yearly = aggregate(ds, "YY")
    np.testing.assert_allclose(yearly["GPP_NT"], np.array([365, 366]) * 3 * CARBON, rtol=1e-6)
    np.testing.assert_allclose(yearly["P"], np.array([365, 366]) * 12)
    np.testing.assert_allclose(yearly["TA"], 10)
    assert (yearly["GPP_NT"].attrs["units"], yearly["P"].attrs["units"]) == ("g m-2 year-1", "mm year-1")
    assert yearly["GPP_NT"].attrs["network_units"] == "gC m-2 y-1"
    assert (yearly["NEE"].attrs["cell_methods"], yearly["TA"].attrs["cell_methods"]) == (
        "time: sum",
        "time: mean",
    )


def test_small_table_by_hand():
    """Two days of which the second lacks an hour: 24 values 0..23, then 24..47 without 30."""
    ds = hourly(end="2011-01-03", P=np.arange(48), P_QC=np.arange(48) % 4, RH=50)
    ds["P"] = (ds["P"] / 8).where(ds["time"] != ds["time"][30])
    ds["RH"] = ds["RH"].where((np.arange(48) < 12) | (np.arange(48) >= 35))
    daily = aggregate(ds, "DD")
    np.testing.assert_allclose(daily["P"], [sum(range(24)) / 8, np.nan])
    np.testing.assert_allclose(daily["P_QC"], [0.5, np.nan])
    np.testing.assert_allclose(daily["RH"], [np.nan, 50])  # 12 of 24 hours are not more than half
    np.testing.assert_allclose(daily["RH_QC"], [np.nan, 13 / 24])


def test_missing_hour_makes_day_week_month_and_year_missing():
    ds = hourly(TA=1, RH=1)
    ds = ds.where(ds["time"] != np.datetime64("2012-02-29T13"))
    for resolution in RESOLUTIONS:
        found = aggregate(ds, resolution)
        lost = found["time_bnds"][found["TA"].isnull().values].values
        assert lost.shape == (1, 2)
        assert lost[0, 0] <= np.datetime64("2012-02-29") < lost[0, 1]
        assert found["RH"].notnull().all()


def test_incomplete_first_and_last_periods_are_missing():
    ds = hourly("2010-12-31T05", "2012-01-05T23", TA=1)
    daily, yearly = aggregate(ds, "DD"), aggregate(ds, "YY")
    assert np.flatnonzero(daily["TA"].isnull()).tolist() == [0, daily.sizes["time"] - 1]
    assert yearly["time"].dt.year.values.tolist() == [2010, 2011, 2012]
    assert yearly["TA"].isnull().values.tolist() == [True, False, True]


@given(st.dates(pd.Timestamp("1990-01-01").date(), pd.Timestamp("2024-12-31").date()), st.integers(0, 900))
def test_weeks_begin_in_january_and_there_are_52(first, days):
    first = np.datetime64(first)
    for resolution in RESOLUTIONS:
        edges = period_edges(first, first + days, resolution)
        assert edges[0] <= first < edges[1] and edges[-2] <= first + days < edges[-1]
    weeks = period_edges(first, first + days, "WW")
    starts, lengths = pd.DatetimeIndex(weeks[:-1]), np.diff(weeks).astype(int)
    assert ((starts.day_of_year - 1) % 7 == 0).all() and (starts.day_of_year <= 358).all()
    leap = starts.is_leap_year
    assert (lengths == np.where(starts.day_of_year < 358, 7, 8 + leap)).all()


def test_flags_become_shares_and_flagless_values_are_measured():
    ds = hourly(end="2011-01-02", TA=1, TA_QC=np.repeat([0, 1, 2, -1], 6), NEE=1)
    found = aggregate(ds, "DD")
    np.testing.assert_allclose(found["TA_QC"], 0.75)
    assert found["TA_QC"].dtype == "float32" and "flag_values" not in found["TA_QC"].attrs
    assert "share" in found["TA_QC"].attrs["long_name"] and "NEE_QC" not in found
    assert found["TA"].attrs["ancillary_variables"] == "TA_QC"


def test_implausible_hours_are_missing():
    ds = hourly(end="2011-01-03", TA=1).load()
    ds["TA"] = ds["TA"].where(ds["time"] != ds["time"][3], 500)
    np.testing.assert_array_equal(aggregate(ds, "DD")["TA"], [np.nan, 1])


def test_towers_are_lazy_and_the_result_does_not_depend_on_chunks(towers):
    towers = towers.isel(site=slice(3))
    with raise_on_compute():
        found = towers.chunk(site=1, time=1000).carbon.aggregate("MM")
    assert found["NEE"].chunks is not None
    assert found["NEE"].dims == ("site", "time") and found.sizes["time"] == 12
    xr.testing.assert_identical(found.load().drop_attrs(), aggregate(towers.compute(), "MM").drop_attrs())
    assert not {"WD", "reflectance", "day", "patch_x"} & set(found.variables)
    assert {"lat", "igbp", "site"} <= set(found.coords)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_cf(towers, findings, resolution):
    found = aggregate(towers.isel(site=slice(2)), resolution)
    assert not findings(found)


def test_time_is_written_with_its_bounds(tmp_path):
    aggregate(hourly(TA=1), "WW").to_netcdf(tmp_path / "weeks.nc")
    with xr.open_dataset(tmp_path / "weeks.nc") as found:
        assert found.sizes["time"] == 104
        assert found["time_bnds"].values[51].astype("M8[D]").astype(str).tolist() == [
            "2011-12-24",
            "2012-01-01",
        ]


def test_what_cannot_be_aggregated_is_refused():
    with pytest.raises(OptionError, match="one of HR, DD, WW, MM, YY, found 'D'"):
        aggregate(hourly(TA=1), "D")
    with pytest.raises(TimestampError, match="hourly"):
        aggregate(aggregate(hourly(TA=1), "DD"), "MM")
    with pytest.raises(TimestampError, match="no hours"):
        aggregate(hourly(TA=1).isel(time=slice(0)), "MM")
    with pytest.raises(VariableError, match=r"no hourly variable .*\['WD'\]"):
        aggregate(hourly(WD=1), "MM")


@pytest.mark.parametrize(("resolution", "frequency"), [("DD", "D"), ("MM", "MS"), ("YY", "YS")])
def test_real_tower_agrees_with_pandas(real_towers, resolution, frequency):
    tower = (
        real_towers[["TA", "TA_QC", "NEE", "NEE_QC"]].sel(site="DE-Tha", time=slice("1996", "2014")).load()
    )
    found = tower.carbon.aggregate(resolution)
    table = tower[["TA", "NEE"]].to_dataframe()[["TA", "NEE"]].astype("float64")
    groups = table.groupby(pd.Grouper(freq=frequency))
    complete = table.isnull().groupby(pd.Grouper(freq=frequency)).sum() == 0
    expected = groups.mean().where(complete)
    expected["NEE"] *= CARBON * (groups.size() / 24 if resolution == "YY" else 1)
    good = ((tower["NEE_QC"] <= 1) & tower["NEE"].notnull()).to_series()
    shares = good.groupby(pd.Grouper(freq=frequency)).mean().where(complete["NEE"])
    assert expected["NEE"].notnull().mean() > 0.8
    np.testing.assert_array_equal(found["time"], expected.index)
    np.testing.assert_allclose(found["TA"], expected["TA"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["NEE"], expected["NEE"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["NEE_QC"], shares, rtol=1e-5)


def test_periods_are_not_written_as_hours(towers, tmp_path):
    daily = aggregate(towers[["TA"]], "DD")
    for write in (daily.carbon.to_store, daily.carbon.to_netcdf, daily.carbon.to_sites):
        with pytest.raises(StoreError, match="only hourly towers are written"):
            write(tmp_path / "towers")


@pytest.mark.parametrize(("code", "units"), [("TA", "K"), ("NEE", "gC m-2 d-1")])
def test_other_units_are_an_error(code, units):
    wrong = hourly(**{code: 1})
    wrong[code].attrs["units"] = units
    with pytest.raises(MetadataError, match=f"{code} has units '{units}'"):
        aggregate(wrong, "DD")
