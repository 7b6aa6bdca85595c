"""Tests of gap filling: measured hours are kept, others are predicted, and flags distinguish them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budget.samples import DARK, LIGHT, light_model, towers
from xcarbon import open_netcdf
from xcarbon.budget import fill, gapfill
from xcarbon.core.errors import MetadataError, ModelError, OptionError, TimestampError, VariableError
from xcarbon.models.bundle import CarbonModel
from xcarbon.testing import raise_on_compute
from xcarbon.training import fit

NAMES = ["NEE", "NEE_QC", "NEE_FILLED", "NEE_MODEL", "NEE_SE", "NEE_MODEL_SE"]


@pytest.fixture(scope="module")
def days() -> xr.Dataset:
    return towers().isel(time=slice(0, 100)).load()


@pytest.fixture(scope="module")
def trees(tmp_path_factory) -> CarbonModel:
    """Return a model without spread."""
    return fit(towers(), "xgboost", n_estimators=3, run_dir=tmp_path_factory.mktemp("trees"))


@settings(max_examples=20)
@given(
    seed=st.integers(0, 99),
    max_qc=st.integers(0, 3),
    codes=st.sampled_from(["int8", "float32", None]),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_measured_hours_are_untouched_and_filled_are_exactly_the_others(days, seed, max_qc, codes, dtype):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(2, 100)).astype(dtype)
    values[rng.random(values.shape) < 0.3] = np.nan
    quality = rng.integers(-1, 4, values.shape)
    ds = days.assign(NEE=(("site", "time"), values)).drop_vars("NEE_QC")
    ds["SW_IN"] = ds["SW_IN"].where(rng.random(values.shape) < 0.7)
    if codes:
        ds["NEE_QC"] = ("site", "time"), quality.astype(codes)
    filled = gapfill(ds, model=light_model(), adapt=False, max_qc=max_qc).compute()

    measured = np.isfinite(values) & ((quality <= max_qc) | (codes is None))
    predicted = np.isfinite(filled["NEE_MODEL"].values)
    assert filled["NEE"].dtype == dtype
    np.testing.assert_array_equal(filled["NEE"].values[measured], values[measured])
    np.testing.assert_array_equal(
        filled["NEE"].values[~measured], filled["NEE_MODEL"].values.astype(dtype)[~measured]
    )
    origin = np.where(measured, 0, np.where(predicted, 1, -1))
    np.testing.assert_array_equal(filled["NEE_FILLED"], origin)
    own = np.maximum(quality, 0) if codes else 0
    np.testing.assert_array_equal(filled["NEE_QC"], np.where(measured, own, np.where(predicted, 4, -1)))
    assert filled["NEE_QC"].dtype == filled["NEE_FILLED"].dtype == np.int8
    assert (filled["NEE"].isnull() == (filled["NEE_FILLED"] == -1)).all()


def test_the_spread_is_the_model_s_in_filled_hours_and_random_in_measured_ones():
    ds = towers(1).assign(NEE_RANDUNC=0.1 * abs(towers(1)["NEE"]))
    filled = gapfill(ds, model=light_model(), adapt=False).compute()
    measured = filled["NEE_FILLED"] == 0
    spread = xr.where(ds["SW_IN"] > 0, LIGHT, DARK).compute()
    filled_hours = filled["NEE_FILLED"] == 1
    assert (filled["NEE_SE"] == spread).where(filled_hours, True).all()
    assert (filled["NEE_SE"] == ds["NEE_RANDUNC"]).where(measured, True).all()
    assert filled["NEE_MODEL_SE"].where(measured).notnull().sum() > 1000
    unknown = gapfill(ds.drop_vars("NEE_RANDUNC"), model=light_model(), adapt=False)["NEE_SE"]
    assert unknown.where(measured).isnull().all()


def test_it_is_lazy_and_chunks_do_not_matter(trees):
    ds = towers()
    for model in (light_model(), trees, "mds"):
        with raise_on_compute():
            filled = gapfill(ds, model=model, adapt=False)
        assert all(array.chunks for array in filled.data_vars.values())
    chopped = gapfill(ds.chunk(time=1000).assign_coords(ds.coords), model="mds").compute()
    xr.testing.assert_equal(chopped, filled.compute())


def test_a_tower_alone_is_filled_as_among_others():
    ds = towers()
    alone = gapfill(ds.isel(site=1), model=light_model(), adapt=False)
    assert alone["NEE"].dims == ("time",)
    xr.testing.assert_equal(
        alone.compute(), gapfill(ds, model=light_model(), adapt=False).isel(site=1).compute()
    )


def test_sampled_hours_have_the_quality_of_the_sample():
    ds = towers(1)
    ds["NEE"] = ds["NEE"].where((ds["time"].dt.month != 5) & (ds["time"].dt.month != 6))
    filled = gapfill(ds, model="mds").compute()
    assert set(np.unique(filled["NEE_QC"])) == {0, 1, 2, 3}
    june = filled.sel(time="2010-06-01")
    assert (june["NEE_QC"] == 3).all() and (june["NEE_FILLED"] == 1).all()


@pytest.mark.parametrize("model", ["mds", "nee-fluxnet2015"])
def test_hours_outside_the_record_of_a_tower_stay_missing(model):
    """Towers in one Dataset share a time axis that is longer than their records."""
    ds = towers().isel(time=slice(0, 1000)).load()
    hours = xr.DataArray(np.arange(1000), dims="time")
    begin, end = xr.DataArray([0, 400], dims="site"), xr.DataArray([1000, 900], dims="site")
    weather = (hours >= begin) & (hours < end)
    flux = (hours >= begin + 50) & (hours < end - 50)
    ds = ds.assign({c: ds[c].where(weather) for c in ("TA", "VPD", "SW_IN")} | {"NEE": ds["NEE"].where(flux)})
    for one in (ds.chunk(time=500), ds.isel(site=1)):
        filled = gapfill(one, model=model, adapt=False).compute()
        has_weather = weather.isel(site=1) if "site" not in one.dims else weather
        for name in ("NEE", "NEE_MODEL"):
            assert filled[name].where(~has_weather).isnull().all()
        assert (filled["NEE_FILLED"].where(~has_weather, -1) == -1).all()
        assert filled["NEE"].where(has_weather).count() > 0.9 * has_weather.sum()


def test_what_a_model_filled_counts_nowhere_as_measured():
    ds = towers()
    filled = gapfill(ds, model=light_model(), adapt=False)
    assert fill.FILLED_QUALITY.flag_meanings[4] == "filled_by_model"
    again = filled.carbon.score(filled["NEE"], by="site", max_qc=3)["n"]
    assert (again == (filled["NEE_FILLED"] == 0).sum("time")).all()


def test_without_spread_nothing_is_said_of_errors(trees, tmp_path):
    filled = gapfill(towers(), model=trees.save(tmp_path / "trees"), adapt=False)
    assert list(filled.data_vars) == NAMES[:4]
    first = filled["NEE_FILLED"].isel(time=slice(31)).values  # trees need a window of 32 hours
    assert set(np.unique(first)) == {-1, 0}


def test_it_is_cf_and_survives_a_file(findings, tmp_path):
    ds = towers()
    for model in (light_model(), "mds"):
        filled = gapfill(ds, model=model, adapt=False)
        assert list(filled.data_vars) == NAMES
        assert findings(filled) == []
    assert filled.attrs["history"].endswith("filled by marginal distribution sampling, xcarbon 0.1.0")
    assert filled["NEE"].attrs["ancillary_variables"] == "NEE_QC NEE_FILLED NEE_SE"
    assert filled["NEE_MODEL"].attrs["references"] == "doi:10.1111/j.1365-2486.2005.001002.x"
    path = filled.carbon.to_netcdf(tmp_path / "filled.nc")
    xr.testing.assert_equal(open_netcdf(path)[NAMES].compute(), filled[NAMES].compute())


def test_what_cannot_be_filled_is_said(trees):
    ds = towers(1)
    with pytest.raises(VariableError, match=r"filling gaps needs \['NEE'\]"):
        gapfill(ds.drop_vars("NEE"))
    with pytest.raises(VariableError, match="gaps of TA cannot be filled"):
        gapfill(ds, "TA")
    with pytest.raises(ModelError, match="the model predicts NEE, not FCH4"):
        gapfill(ds.assign(FCH4=ds["NEE"].assign_attrs(units="nmol m-2 s-1")), "FCH4", trees)
    with pytest.raises(OptionError, match="max_qc must be 0 or more"):
        gapfill(ds, model="mds", max_qc=-1)
    with pytest.raises(TimestampError, match="must be hourly"):
        gapfill(ds.isel(time=slice(None, None, 2)))
    with pytest.raises(ModelError, match="not a model folder, nor one of the models"):
        gapfill(ds, model="nowhere")
    with pytest.raises(ModelError, match="did you mean 'mds' instead of 'msd'"):
        gapfill(ds, model="msd")
    ds["NEE"].attrs["units"] = "g m-2 s-1"
    with pytest.raises(MetadataError, match="NEE has units"):
        gapfill(ds)


def test_filled_predictors_are_used_by_default():
    ds = towers(1, gaps=False).load()
    ds["SW_IN_QC"][:, 100:200] = 2
    ds["NEE"][:, 100:200] = np.nan
    filled = gapfill(ds, model=light_model(), adapt=False)
    assert filled["NEE"].isel(time=slice(100, 200)).notnull().all()
    strict = gapfill(ds, model=light_model(), adapt=False, driver_max_qc=None)
    assert strict["NEE"].isel(time=slice(100, 200)).isnull().all()
