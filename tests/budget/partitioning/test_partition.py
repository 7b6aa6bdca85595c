"""Parameters of simulated towers are found again, and GPP of real towers is close to that of FLUXNET."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tests.budget.samples import towers
from xcarbon.budget import gapfill, partition
from xcarbon.budget.partitioning.daytime import light_response
from xcarbon.budget.partitioning.respiration import inverse_temperature
from xcarbon.core.errors import MetadataError, OptionError, TimestampError, VariableError
from xcarbon.testing import raise_on_compute

E0, RREF, ALPHA, BETA, K = 180.0, 3.0, 0.06, 25.0, 0.04


def simulated(per_day: int = 24, noise: float = 0.0, years: int = 1) -> xr.Dataset:
    """Return a tower at 50 N whose NEE follows the model of both methods, plus noise."""
    time = pd.date_range("2010", periods=365 * per_day * years, freq=pd.Timedelta(24 / per_day, "h"))
    rng = np.random.default_rng(0)
    day = np.arange(time.size) / per_day
    season = -np.cos(2 * np.pi * day / 365)
    weather = np.repeat(rng.normal(0, 3, day.size // per_day), per_day)
    sun = -np.cos(2 * np.pi * day) + 0.6 * season
    sw_in = np.maximum(sun, 0) * 500 * np.repeat(rng.uniform(0.3, 1, day.size // per_day), per_day)
    sw_in[sw_in < 10] = 0  # so that no hour of the night has uptake
    ta = 10 + 9 * season + weather + 4 * np.sin(2 * np.pi * (day - 0.4)) + rng.normal(0, 1, day.size)
    vpd = np.clip(0.6 * ta + sw_in / 50 + rng.normal(0, 2, day.size), 0, None)
    reco = RREF * np.exp(E0 * inverse_temperature(ta))
    gpp = light_response(np.array(ALPHA), np.array(BETA), np.array(K), sw_in, vpd)[0]
    series = {"TA": ta, "SW_IN": sw_in, "VPD": vpd, "NEE": reco - gpp + noise * rng.normal(size=day.size)}
    truth = {"RECO": reco, "GPP": gpp}
    return xr.Dataset({name: ("time", values) for name, values in (series | truth).items()}, {"time": time})


@pytest.mark.parametrize("per_day", [24, 48])
def test_parameters_of_nights_are_found_again(per_day):
    ds = simulated(per_day)
    found = partition(ds)
    np.testing.assert_allclose(found["E0_NT"], E0, rtol=1e-4)
    np.testing.assert_allclose(found["RREF_NT"], RREF, rtol=1e-4)
    np.testing.assert_allclose(found["RECO_NT"], ds["RECO"], rtol=1e-3)
    np.testing.assert_allclose(found["GPP_NT"], ds["GPP"], atol=0.01)


@pytest.mark.parametrize("per_day", [24, 48])
def test_parameters_of_days_are_found_again(per_day):
    ds = simulated(per_day)
    found = partition(ds, "daytime")
    fitted = found["K_DT"] > 0  # windows without dry hours do not determine k
    assert fitted.mean() > 0.5 and found["RREF_DT"].notnull().mean() > 0.9
    for name, value in {"E0": E0, "RREF": RREF, "ALPHA": ALPHA, "BETA": BETA, "K": K}.items():
        assert float(found[f"{name}_DT"].where(fitted).median()) == pytest.approx(value, rel=0.01), name
    # Months without dry hours, in which the model has an undetermined k, have the right fluxes, too.
    np.testing.assert_allclose(found["GPP_DT"].mean(), ds["GPP"].mean(), rtol=0.01)
    np.testing.assert_allclose(found["RECO_DT"].mean(), ds["RECO"].mean(), rtol=0.01)


def test_standard_errors_are_those_of_repeated_noise():
    """Errors of Rref, in units of their standard errors, are about normal."""
    ds = simulated(noise=1.0)
    found = partition(ds)
    # The error of E0 is common to all windows: compare with the Rref that fits the noiseless flux best.
    inverse = inverse_temperature(ds["TA"].values)
    e0 = float(found["E0_NT"][0])
    best = float(np.median((ds["RECO"].values / np.exp(e0 * inverse))[ds["SW_IN"].values == 0]))
    ratio = (found["RREF_NT"] - best) / found["RREF_NT_SE"]
    assert 0.7 < float(ratio.std()) < 1.8
    daytime = partition(ds, "daytime")
    inside = np.abs(daytime["GPP_DT"] - ds["GPP"]) < 1.645 * daytime["GPP_DT_SE"]
    assert float(inside.where(ds["SW_IN"] > 50).mean()) > 0.75


def test_nee_is_the_difference_in_measured_hours():
    ds = towers(2).load()
    found = partition(ds)
    net = found["RECO_NT"] - found["GPP_NT"]
    np.testing.assert_allclose(net.where(ds["NEE"].notnull()), ds["NEE"], atol=1e-5)
    missing = ds["NEE"].isnull() & ds["TA"].notnull()
    assert found["RECO_NT"].where(missing).count() == missing.sum() > 0
    assert found["GPP_NT"].where(missing).count() == 0
    assert (found["GPP_NT_QC"].where(missing, -1) == -1).all()
    assert (found["RECO_NT_QC"].where(missing, 4) == 4).all()
    kept = found["GPP_NT"].notnull() & (found["GPP_NT_QC"] < 5)
    xr.testing.assert_equal(
        found["GPP_NT_QC"].where(kept).drop_attrs(), ds["NEE_QC"].where(kept).astype("float64").drop_attrs()
    )


@pytest.mark.parametrize("method", ["nighttime", "daytime"])
def test_towers_are_partitioned_lazily_each_by_itself(method):
    ds = towers(2).isel(time=slice(0, 2400))
    with raise_on_compute():
        both = partition(ds, method)
    alone = partition(ds.isel(site=1).load(), method)
    xr.testing.assert_allclose(both.isel(site=1).compute(), alone)
    chopped = partition(ds.chunk(time=500).assign_coords(ds.coords), method)
    xr.testing.assert_equal(chopped.compute(), both.compute())


def test_both_methods_fit_into_one_cf_dataset(findings):
    ds = towers(1).isel(time=slice(0, 1200))
    both = xr.merge([partition(ds), partition(ds, "daytime"), ds], compat="override", join="exact")
    assert {"GPP_NT", "GPP_DT", "E0_NT", "ALPHA_DT"} <= set(both.data_vars)
    assert not findings(both)


@pytest.mark.parametrize("method", ["nighttime", "daytime"])
def test_filled_hours_determine_no_parameters(method):
    ds = towers(1).load()
    filled = gapfill(ds, model="mds")
    plain = partition(ds, method)
    with_filled = partition(ds.assign(filled.data_vars), method)
    ending = {"nighttime": "NT", "daytime": "DT"}[method]
    for name in (f"E0_{ending}", f"RREF_{ending}"):
        np.testing.assert_allclose(with_filled[name], plain[name], rtol=1e-6)
    if method == "nighttime":
        measured = with_filled.assign(NEE=ds["NEE"])["NEE"].notnull()
        gpp = with_filled["GPP_NT"]
        assert gpp.where(~measured).count() > 0
        flags = with_filled["GPP_NT_QC"].where(~measured & gpp.notnull(), 3)
        assert (flags >= 1).all()
        se = with_filled["GPP_NT_SE"].where(~measured & gpp.notnull())
        assert (se.fillna(np.inf) >= with_filled["RECO_NT_SE"].where(se.notnull(), 0)).all()
        assert plain["GPP_NT_SE"].isnull().all()  # the error of NEE is unknown


def test_a_tower_without_nights_is_missing_and_the_others_are_not():
    ds = towers(3).load()
    ds["SW_IN"][0], ds["SW_IN_QC"][0] = 300.0, 0
    ds["NEE"][2] = np.nan
    for method in ("nighttime", "daytime"):
        found = partition(ds, method)
        ending = {"nighttime": "NT", "daytime": "DT"}[method]
        for site in (0, 2):
            assert found[f"RECO_{ending}"][site].isnull().all()
            assert (found[f"GPP_{ending}_QC"][site] == -1).all()
        assert found[f"RECO_{ending}"][1].notnull().mean() > 0.9


def test_distant_windows_are_flagged():
    ds = simulated()
    gap = (ds["time"].dt.month >= 4) & (ds["time"].dt.month <= 6)
    found = partition(ds.assign(NEE=ds["NEE"].where(~gap)))
    middle = found.sel(time="2010-05-15")
    assert (middle["RECO_NT_QC"] == 5).all() and middle["RECO_NT"].notnull().all()
    np.testing.assert_allclose(middle["RECO_NT"], ds["RECO"].sel(time="2010-05-15"), rtol=1e-3)
    assert (found["RECO_NT_QC"].sel(time="2010-03-15") == 0).all()


def test_a_year_without_windows_has_the_usual_e0():
    ds = simulated(years=2)
    late = ds["time"].dt.year == 2011
    few = late & (ds["time"].dt.dayofyear > 2)
    found = partition(ds.assign(NEE=ds["NEE"].where(~few)))
    last = found.sel(nt_window="2011").dropna("nt_window", subset=["RREF_NT"])
    assert last.sizes["nt_window"] > 0
    assert (last["E0_NT"] == 200).all() and (last["E0_WINDOWS_NT"] == 0).all()
    assert last["E0_NT_SE"].isnull().all()
    np.testing.assert_allclose(found["E0_NT"].sel(nt_window="2010"), E0, rtol=1e-3)


def test_respiration_from_very_cold_nights_is_rejected():
    ds = simulated()
    ds["TA"] = ds["TA"].where(ds["time"].dt.dayofyear > 20, -42.0)
    found = partition(ds)
    assert found["RREF_NT"].isel(nt_window=0).isnull() and found["COUNT_NT"][0] > 50
    assert float(found["RREF_NT"].max()) <= 50 and float(found["RECO_NT"].max()) < 20


def test_hours_of_the_sun_above_the_horizon_are_no_nights():
    ds = simulated()
    dark = ds.assign(SW_IN=ds["SW_IN"].where(ds["time"].dt.dayofyear != 150, 0))
    spoilt, kept = partition(dark), partition(dark.assign_coords(lat=50.0))
    window = {"nt_window": np.datetime64("2010-05-25")}
    assert spoilt["RREF_NT"].sel(window) < 0.9 * RREF
    # The hour in which the sun sets is a night, although it has some uptake.
    assert float(kept["RREF_NT"].sel(window)) == pytest.approx(RREF, rel=0.03)


def test_hours_without_measured_radiation_are_nights_by_the_latitude():
    ds = simulated(48)
    later = (ds["time"].dt.dayofyear > 100).astype("int8")
    ds = ds.assign(SW_IN_QC=later.assign_attrs(flag_values=[0, 1]))
    window = {"nt_window": slice("2010-05-20", "2010-07-15")}
    assert (partition(ds)["COUNT_NT"].sel(window) == 0).all()
    found = partition(ds.assign_coords(lat=58.0)).sel(
        window
    )  # where nights are shorter than the simulated ones
    assert (found["COUNT_NT"] > 50).all()
    np.testing.assert_allclose(found["RREF_NT"], RREF, rtol=0.03)


def test_what_cannot_be_partitioned_is_refused():
    ds = simulated()
    with pytest.raises(OptionError, match="no method 'both'"):
        partition(ds, "both")
    with pytest.raises(VariableError, match=r"daytime partitioning needs \['VPD'\]"):
        partition(ds.drop_vars("VPD"), "daytime")
    with pytest.raises(TimestampError, match="must be hourly"):
        partition(ds.isel(time=slice(None, None, 2)))
    with pytest.raises(TimestampError, match="empty"):
        partition(ds.isel(time=slice(0)))
    ds["TA"].attrs["units"] = "K"
    with pytest.raises(MetadataError, match="TA has units 'K'"):
        partition(ds)


@pytest.mark.parametrize(
    ("method", "code", "lowest"), [("nighttime", "GPP_NT", 0.99), ("daytime", "GPP_DT", 0.98)]
)
def test_a_real_tower_is_close_to_fluxnet(real_towers, method, code, lowest):
    tower = real_towers.sel(site="DE-Hai", time=slice("2003", "2004")).load()
    found = partition(tower, method)[code]
    own, theirs = (flux.resample(time="MS").mean() for flux in (found, tower[code]))
    assert float(xr.corr(own, theirs)) ** 2 > lowest
    assert float(abs(found.mean() / tower[code].mean() - 1)) < 0.05
