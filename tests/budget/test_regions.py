"""Sums over regions: all carbon, weighted by area, and none where hours are missing."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from xcarbon.budget import regional_sums
from xcarbon.core.errors import MetadataError, OptionError, TimestampError, VariableError
from xcarbon.prep.cells import cell_area

GRAMS = 3600e-6 * 12.011


@pytest.fixture
def flux() -> xr.Dataset:
    """Fourteen months of 2 x 3 cells; the last cell is sea."""
    time = np.arange("2011-01-01", "2012-03-01", dtype="M8[h]").astype("M8[ns]")
    axes = {"time": time, "lat": [60.0, 59.0], "lon": [10.0, 11.0, 12.0]}
    values = np.random.default_rng(0).normal(-1, 3, (time.size, 2, 3)).astype("float32")
    values[:, 1, 2] = np.nan
    attrs = {"units": "umol m-2 s-1"}
    return xr.Dataset({"NEE": (tuple(axes), values, attrs)}, axes, {"title": "a grid"}).chunk(
        time=1000, lon=2
    )


def test_months_are_the_sums_of_hours_times_areas(flux, findings):
    found = regional_sums(flux, resolution="MM").load()
    assert found.sizes["time"] == 14 and found["NEE"].attrs["units"] == "Pg"
    hours = flux["NEE"].sel(time="2011-02").load().astype(float)
    expected = float((hours * cell_area(flux)).sum()) * GRAMS / 1e15
    assert float(found["NEE"].sel(time="2011-02-01")) == pytest.approx(expected, rel=1e-6)
    assert (found["share_missing"] == 0).all()
    area = cell_area(flux)
    assert float(found["summed_area"]) == pytest.approx(float(area.sum() - area[1, 2]))
    assert found["time_bnds"].values[1].astype("M8[D]").astype(str).tolist() == ["2011-02-01", "2011-03-01"]
    assert findings(found) == []
    winter = flux.sel(time=slice("2011-01", "2011-02"))
    days = regional_sums(winter, resolution="DD")["NEE"].resample(time="MS").sum()
    np.testing.assert_allclose(days, found["NEE"][:2], rtol=1e-9)


def test_a_flux_of_one_gram_is_one_gram(flux):
    """1 umol m-2 s-1 is 1.0377504 g m-2 d-1; the area of the region is 2.6e10 m2 or so."""
    one = flux.assign(NEE=xr.ones_like(flux["NEE"]))
    found = regional_sums(one).isel(time=0)
    assert float(found["NEE"]) == pytest.approx(float(cell_area(flux).sum()) * 365 * 1.0377504 / 1e15)


def test_a_sum_with_missing_hours_is_refused_or_flagged(flux):
    year = regional_sums(flux).load()
    assert np.isfinite(year["NEE"].values).tolist() == [True, False]  # 2012 ends in February
    assert float(year["share_missing"][1]) == pytest.approx(1 - 60 / 366)
    gap = flux.load().copy(deep=True)
    gap["NEE"][24:48, 0, 0] = np.nan
    found = regional_sums(gap, resolution="MM")
    assert np.isfinite(found["NEE"].values).tolist() == [False] + 13 * [True]
    area = cell_area(flux)
    share = float(area[0, 0] / (area.sum() - area[1, 2])) * 24 / 744
    assert float(found["share_missing"][0]) == pytest.approx(share)
    scaled = regional_sums(gap, resolution="MM", max_missing=0.01)["NEE"][0]
    total = float((gap["NEE"].sel(time="2011-01").astype(float) * area).sum()) * GRAMS / 1e15
    assert float(scaled) == pytest.approx(total / (1 - share), rel=1e-6)


def test_a_cell_that_is_missing_for_a_month_is_not_forgotten(flux):
    gone = flux.where((flux["time"] < np.datetime64("2011-03-01")) | (flux["lon"] > 10) | (flux["lat"] < 60))
    found = regional_sums(gone, resolution="MM")
    assert np.isfinite(found["NEE"].values).tolist() == 2 * [True] + 12 * [False]


def test_regions_are_a_dimension_of_the_area(flux):
    area = cell_area(flux)
    parts = xr.concat([area.where(area["lat"] > 59.5), area.where(area["lat"] < 59.5, 0)], "region")
    found = regional_sums(flux, resolution="MM", area=parts)
    assert found["NEE"].dims == ("time", "region")
    np.testing.assert_allclose(found["NEE"].sum("region"), regional_sums(flux, resolution="MM")["NEE"])
    half = regional_sums(flux, resolution="MM", area=0.5 * area)["NEE"]
    np.testing.assert_allclose(half, regional_sums(flux, resolution="MM")["NEE"] / 2)


def test_nothing_is_computed(flux):
    def fail(block):
        raise AssertionError("computed")

    lazy = flux["NEE"].copy(data=da.map_blocks(fail, flux["NEE"].data, meta=np.empty((0, 0, 0), "f4")))
    found = flux.assign(NEE=lazy).carbon.regional_sums("NEE", "MM")
    assert all(array.chunks is not None for array in found.data_vars.values())


def test_what_cannot_be_summed_is_said(flux):
    area = cell_area(flux)
    for wrong, error in (
        (flux.carbon.aggregate("DD"), TimestampError),
        (flux.isel(lat=0), MetadataError),
        (flux.drop_vars("NEE"), VariableError),
        (flux.assign(NEE=flux["NEE"].assign_attrs(units="g m-2 d-1")), MetadataError),
    ):
        with pytest.raises(error):
            regional_sums(wrong)
    with pytest.raises(OptionError, match="cells"):
        regional_sums(flux, area=area.isel(lon=slice(2)))
    with pytest.raises(OptionError, match="max_missing"):
        regional_sums(flux, max_missing=1.0)
    with pytest.raises(OptionError, match="resolution"):
        regional_sums(flux, resolution="MS")
