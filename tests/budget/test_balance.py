"""Tests of carbon budgets: sums of NEE, GPP and respiration, and the causes of their uncertainty."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from tests.budget.samples import towers
from xcarbon.budget import budget, carbon_sums, fill_and_partition
from xcarbon.budget.balance import CAUSES, FLUXES
from xcarbon.core.errors import MetadataError, OptionError
from xcarbon.prep.aggregate import period_attrs
from xcarbon.testing import raise_on_compute

GRAMS = 3600e-6 * 12.011


@pytest.fixture(scope="module")
def fluxes() -> xr.Dataset:
    """Hourly fluxes of a synthetic year."""
    return fill_and_partition(towers(1), "mds").compute()


@pytest.fixture(scope="module")
def annual(fluxes: xr.Dataset) -> xr.Dataset:
    return budget(fluxes)


def percentiles(sums: xr.Dataset, resolution: str, half: float) -> xr.Dataset:
    """Percentiles of the networks' files, in their units, of which half the difference is known."""
    values = {}
    for code in ("NEE", "GPP_NT", "RECO_NT"):
        for sign, percentile in ((-1, "16"), (1, "84")):
            name = f"{code}_VUT_{percentile}"
            values[name] = xr.full_like(sums[code], sign * half).assign_attrs(period_attrs(name, resolution))
    return xr.Dataset(values)


def test_nee_is_respiration_minus_gpp_in_all_periods(fluxes, annual):
    monthly = budget(fluxes, resolution="MM")
    for sums in (annual, monthly):
        np.testing.assert_allclose(sums["NEE"], sums["RECO_NT"] - sums["GPP_NT"], atol=0.05)
    np.testing.assert_allclose(monthly["RECO_DT"].sum("time"), annual["RECO_DT"].squeeze("time"), rtol=1e-5)
    expected = GRAMS * fluxes["GPP_DT"].sum("time", dtype=float)
    np.testing.assert_allclose(annual["GPP_DT"].squeeze("time"), expected, rtol=1e-5)


def test_causes_add_up_to_the_interval(annual):
    for code in FLUXES:
        terms = annual[f"{code}_SE_TERMS"].squeeze(drop=True)
        assert list(terms["term"].values) == list(CAUSES)
        error = float(np.sqrt((terms**2).sum()))
        assert annual[f"{code}_SE"].item() == pytest.approx(error)
        half = (annual[f"{code}_UPPER"] - annual[f"{code}_LOWER"]) / 2
        assert half.item() == pytest.approx(1.6449 * error, rel=1e-4)


def test_gpp_has_the_errors_of_nee_and_of_respiration(annual):
    terms = {code: annual[f"{code}_SE_TERMS"].squeeze(drop=True).to_series() for code in FLUXES}
    assert (
        terms["NEE"][["random", "filling"]].gt(0).all()
        and terms["NEE"][["parameters", "method"]].isna().all()
    )
    assert (terms["GPP_NT"][["random", "filling"]] == terms["NEE"][["random", "filling"]]).all()
    assert terms["GPP_NT"]["parameters"] == terms["RECO_NT"]["parameters"] > 0
    assert terms["RECO_NT"][["random", "filling"]].isna().all()
    difference = abs((annual["GPP_NT"] - annual["GPP_DT"]).item())
    assert terms["GPP_NT"]["method"] == terms["GPP_DT"]["method"] == pytest.approx(difference / 2**0.5)


@pytest.mark.parametrize("resolution", ["YY", "MM"])
def test_percentiles_of_thresholds_have_the_units_of_the_networks(fluxes, resolution):
    sums = budget(fluxes, resolution=resolution)
    found = budget(fluxes, resolution=resolution, thresholds=percentiles(sums, resolution, 0.5))
    days = 1 if resolution == "YY" else sums["time"].dt.days_in_month
    for code in ("NEE", "GPP_NT", "RECO_NT"):
        error = found[f"{code}_SE_TERMS"].sel(term="threshold", drop=True)
        np.testing.assert_allclose(error, (0.5 * days * xr.ones_like(error)).transpose(*error.dims))
        assert (found[f"{code}_SE"] > sums[f"{code}_SE"]).all()
    assert found["GPP_DT_SE_TERMS"].sel(term="threshold").isnull().all()
    alone = budget(fluxes.isel(site=0), resolution=resolution, thresholds=percentiles(sums, resolution, 0.5))
    np.testing.assert_allclose(alone["NEE_SE"], found["NEE_SE"].isel(site=0))


def test_percentiles_of_another_resolution_or_tower_are_refused(fluxes, annual):
    yearly = percentiles(annual, "YY", 1)
    with pytest.raises(MetadataError, match=r"NEE_VUT_16 .* 'g m-2 year-1', but .* 'MM' need 'g m-2 d-1'"):
        budget(fluxes, resolution="MM", thresholds=yearly)
    with pytest.raises(OptionError, match=r"of \['DE-Tha'\], .* of \['SY-001'\]"):
        budget(fluxes, thresholds=yearly.assign_coords(site=["DE-Tha"]))


def test_it_is_lazy_and_reads_given_uncertainties():
    ds = towers(1).assign(NEE_RANDUNC=xr.full_like(towers(1)["NEE"], 0.5))
    with raise_on_compute():
        sums = budget(ds, "mds")
    assert all(array.chunks for array in sums.data_vars.values())
    comments = [fill_and_partition(each, "mds")["NEE_SE"].attrs["comment"] for each in (ds, towers(1))]
    assert "NEE_RANDUNC" in comments[0] and "similar hours" in comments[1]


def test_months_with_few_missing_hours_are_scaled(fluxes):
    gap = fluxes["time"].isin(fluxes["time"][24 * 40 : 24 * 42])  # 48 hours of February
    ending = {"NEE": fluxes["NEE"].where(~gap), "NEE_FILLED": fluxes["NEE_FILLED"].where(~gap, -1)}
    gappy = fluxes.assign(ending)
    refused = carbon_sums(gappy, resolution="MM").isel(site=0)
    scaled = carbon_sums(gappy, resolution="MM", max_missing=0.1).isel(site=0)
    assert refused["NEE"].isnull().values.tolist() == [False, True] + [False] * 10
    february = fluxes["NEE"].isel(site=0).sel(time="2010-02").where(~gap)
    assert float(scaled["NEE"][1]) == pytest.approx(GRAMS * 28 * 24 * float(february.mean()), rel=1e-5)
    np.testing.assert_allclose(scaled["share_missing"][:3], [0, 2 / 28, 0], atol=1e-12)
    with pytest.raises(OptionError, match="max_missing must be at least 0 and less than 1"):
        carbon_sums(gappy, max_missing=1)


def test_cumulative_sums_end_with_the_annual_sum(fluxes, annual):
    days = carbon_sums(fluxes, resolution="DD", cumulative=True).isel(site=0)
    assert days.sizes["time"] == 365 and "cell_methods" not in days["NEE"].attrs
    for name in ("NEE", "NEE_SE", "NEE_UPPER"):
        assert float(days[name][-1]) == pytest.approx(annual[name].item(), rel=1e-5)
    daily = carbon_sums(fluxes, resolution="DD")["NEE"].isel(site=0)
    np.testing.assert_allclose(days["NEE"], daily.cumsum("time"), atol=1e-3)


def test_budgets_are_cf(annual, findings):
    assert findings(annual) == []
