"""Tests of annual sums and of their uncertainty with correlated errors."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from tests.budget.samples import towers
from xcarbon.budget import artificial_gaps, carbon_sums, gapfill
from xcarbon.budget.adapt import ADAPTED
from xcarbon.budget.correlation import (
    DECAYS,
    DIURNAL_DECAY,
    MONTH,
    POWER,
    SHARES,
    ErrorPart,
    error_parts,
    lagged_products,
    relative_variance,
    variance_of_sum,
    variance_ratio,
)
from xcarbon.core.errors import OptionError, VariableError
from xcarbon.testing import raise_on_compute

TIME = xr.date_range("2011-12-01", "2014-03-01", freq="h", inclusive="left")
#: Factor from umol m-2 s-1 to g of carbon per hour.
GRAMS = 3600e-6 * 12.011


def series(seed: int = 0, sites: int = 2, share: float = 0.3, random: float = 0.0) -> xr.Dataset:
    """Return filled hours with errors of the stated standard deviation that are constant within a day."""
    rng = np.random.default_rng(seed)
    shape, dims = (sites, TIME.size), ("site", "time")
    spread = rng.uniform(0.5, 2, shape)
    error = spread * np.repeat(rng.normal(size=(sites, TIME.size // 24)), 24, axis=1)
    flux = rng.normal(size=shape)
    measured = rng.random(shape) > share
    coords = {"site": [f"XX-{site}" for site in range(sites)], "time": TIME, "lat": ("site", np.zeros(sites))}
    values = {
        "NEE": np.where(measured, flux + error, flux),
        "NEE_FILLED": np.where(measured, 0, 1).astype("int8"),
        "NEE_SE": np.where(measured, random if random else np.nan, spread),
        "NEE_MODEL": flux,
        "NEE_MODEL_SE": spread,
    }
    return xr.Dataset({name: (dims, array) for name, array in values.items()}, coords)


@given(st.integers(1, 60), st.integers(0, 80), st.integers(0, 99))
def test_lagged_products_are_those_of_a_loop(size, longest, seed):
    values = np.random.default_rng(seed).normal(size=size)
    expected = [sum(values[: max(0, size - lag)] * values[lag:]) for lag in range(longest + 1)]
    np.testing.assert_allclose(lagged_products(values, longest), expected, atol=1e-9)


@given(st.integers(1, 50), st.integers(0, 60), st.integers(0, 99))
def test_the_variance_is_that_of_all_pairs(size, longest, seed):
    rng = np.random.default_rng(seed)
    spread = rng.uniform(0, 2, size) * (rng.random(size) < 0.7)
    correlation = rng.uniform(0, 1, longest + 1)
    matrix = [
        [correlation[abs(i - j)] if abs(i - j) <= longest else 0 for j in range(size)] for i in range(size)
    ]
    expected = spread @ np.array(matrix) @ spread
    part, other = ErrorPart(spread, correlation), ErrorPart(np.eye(size)[0], np.ones(1))
    assert variance_of_sum([part]) == pytest.approx(expected, abs=1e-9)
    assert variance_of_sum([part, other]) == pytest.approx(expected + 1, abs=1e-9)


@given(st.integers(0, 99), st.integers(2, 400), st.sampled_from([1, 2]))
def test_no_variance_is_negative(seed, size, per_hour):
    rng = np.random.default_rng(seed)
    spread, length = rng.uniform(0, 2, size), rng.uniform(1, 1000, size)
    signs = rng.choice([-1, 0, 1], size)
    lags = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    for part in error_parts(spread, length, rng.uniform(0.1, 2), per_hour):
        signed = signs * part.spread
        assert signed @ part.correlation[lags] @ signed > -1e-6


def test_the_variance_of_the_tower_is_that_of_its_errors():
    error, spread = np.random.default_rng(0).normal(size=(2, 100))
    error[:10], spread = np.nan, np.abs(spread)
    expected = (error[10:] ** 2).sum() / (spread[10:] ** 2).sum()
    assert variance_ratio(error, spread) == pytest.approx(expected)
    assert np.isnan(variance_ratio(error * np.nan, spread))


def test_the_correlation_in_long_gaps_is_the_sum_of_its_parts():
    spread, long = np.full(100, 2.0), np.full(100, np.inf)
    short, lasting = error_parts(spread, long, 0.5)
    variance = short.spread**2 * short.correlation[24] + lasting.spread**2 * lasting.correlation[24]
    expected = SHARES[1] * np.exp(-4) + SHARES[2] * np.exp(-0.1) + SHARES[3] * np.exp(-1 / 3)
    np.testing.assert_allclose(variance, 0.5 * 2**2 * expected / sum(SHARES))
    for hours, halves in zip((short, lasting), error_parts(spread, long, 0.5, per_hour=2), strict=True):
        np.testing.assert_allclose(halves.correlation[::2], hours.correlation[:50])


@given(st.floats(1, 10_000), st.floats(1, 10_000))
def test_errors_are_larger_and_last_longer_in_longer_gaps(first, second):
    lengths = np.sort([first, second])
    short, lasting = error_parts(np.ones(2), lengths, 1.0)
    np.testing.assert_allclose(short.spread**2 + lasting.spread**2, 1)  # the size of each hour is given
    assert (np.diff(relative_variance(lengths)) >= 0).all() and (np.diff(lasting.spread) >= 0).all()
    days, month, year = relative_variance(np.array([MONTH / 10, MONTH, 12 * MONTH]))
    assert month == year == pytest.approx(1)
    assert days == pytest.approx(sum(SHARES[:2]) + sum(SHARES[2:]) / 10**POWER)


def test_a_constant_flux_sums_up_to_its_carbon():
    filled = series().assign(NEE=xr.full_like(series()["NEE"], -2.0))
    sums = carbon_sums(filled)
    assert sums["time"].dt.year.values.tolist() == [2011, 2012, 2013, 2014]
    expected = -2 * GRAMS * np.array([np.nan, 366 * 24, 365 * 24, np.nan])
    np.testing.assert_allclose(sums["NEE"], [expected, expected])
    np.testing.assert_allclose(sums["share_missing"][0], [334 / 365, 0, 0, 306 / 365])
    methane = filled.rename({name: name.replace("NEE", "FCH4") for name in filled.data_vars})
    np.testing.assert_allclose(carbon_sums(methane, "FCH4")["FCH4"][0], expected / 1000)


def test_a_missing_hour_is_told_and_spoils_its_year():
    filled = series()
    missing = filled["time"] == np.datetime64("2012-07-01T05")
    filled = filled.assign(
        NEE=filled["NEE"].where(~missing), NEE_FILLED=filled["NEE_FILLED"].where(~missing, -1)
    )
    sums = carbon_sums(filled).isel(time=[1, 2])
    assert sums["NEE"].isnull().values.tolist() == [[True, False]] * 2
    assert sums["NEE_SE"].isnull().values.tolist() == [[True, False]] * 2
    np.testing.assert_allclose(sums["share_missing"][0], [1 / 8784, 0])
    of = (filled["NEE_FILLED"] == 1).groupby("time.year").sum("time").sel(year=[2012, 2013])
    np.testing.assert_allclose(sums["share_filled"], of / [8784, 8760])


def usual_errors(seed: int, sites: int) -> np.ndarray:
    """Draw standardised errors with the usual correlation, ``(sites, hours)``."""
    rng = np.random.default_rng(seed)

    def lasting(decay: float) -> np.ndarray:
        memory = np.exp(-1 / decay)
        noise = rng.normal(size=(sites, TIME.size)) * np.sqrt(1 - memory**2)
        return lfilter([1.0], [1.0, -memory], noise)

    angle = 2 * np.pi * np.arange(TIME.size) / 24
    diurnal = lasting(DIURNAL_DECAY) * np.cos(angle) + lasting(DIURNAL_DECAY) * np.sin(angle)
    parts = [rng.normal(size=(sites, TIME.size)), *map(lasting, DECAYS), diurnal]
    return sum(np.sqrt(share / sum(SHARES)) * part for share, part in zip(SHARES, parts, strict=True))


def test_the_error_is_that_of_many_years():
    errors, said = [], []
    for seed in range(12):
        filled = series(seed, sites=4)
        sums = carbon_sums(filled).isel(time=[1, 2])
        error = (filled["NEE_MODEL_SE"] * usual_errors(1000 + seed, 4)).where(filled["NEE_FILLED"] == 1)
        errors.append(GRAMS * error.groupby("time.year").sum("time").sel(year=[2012, 2013]).values)
        said.append(sums["NEE_SE"].values)
    assert np.mean(said) == pytest.approx(np.std(errors), rel=0.15)


def test_random_errors_of_measured_hours_are_independent_of_them():
    none, some = (carbon_sums(series(random=random)).isel(time=2) for random in (0.0, 3.0))
    hours = 8760 * (1 - some["share_filled"])
    np.testing.assert_allclose(some["NEE_SE"] ** 2, none["NEE_SE"] ** 2 + 9 * hours * GRAMS**2)


def test_a_spread_that_is_too_small_is_corrected():
    filled = series()
    small = filled.assign({name: filled[name] / 3 for name in ("NEE_SE", "NEE_MODEL_SE")})
    xr.testing.assert_allclose(carbon_sums(small)["NEE_SE"], carbon_sums(filled)["NEE_SE"])


def test_the_length_of_gaps_matters_for_adapted_models_alone():
    filled = series()  # gaps of single hours
    adapted = filled.assign(NEE_MODEL=filled["NEE_MODEL"].assign_attrs(source=f"a model{ADAPTED}"))
    other = filled.assign(NEE_MODEL=filled["NEE_MODEL"].assign_attrs(source="marginal distribution sampling"))
    year = carbon_sums(filled).isel(time=2)["NEE_SE"]
    xr.testing.assert_identical(carbon_sums(other).isel(time=2)["NEE_SE"], year)
    assert (carbon_sums(adapted).isel(time=2)["NEE_SE"] < 0.5 * year).all()


def test_the_model_of_a_tower_with_few_measured_hours_is_not_adapted():
    filled = series(share=0.98)  # about 400 measured hours
    adapted = filled.assign(NEE_MODEL=filled["NEE_MODEL"].assign_attrs(source=f"a model{ADAPTED}"))
    xr.testing.assert_equal(carbon_sums(adapted), carbon_sums(filled))


def test_errors_that_nothing_is_known_of_are_not_given():
    filled = series()
    without = carbon_sums(filled.drop_vars(["NEE_SE", "NEE_MODEL_SE"])).isel(time=2)
    assert without["NEE"].notnull().all() and without["NEE_SE"].isnull().all()
    complete = series(share=0.0)
    assert carbon_sums(complete)["NEE_SE"].isnull().all()
    known = carbon_sums(series(share=0.0, random=1.0))["NEE_SE"].isel(time=2)
    np.testing.assert_allclose(known, GRAMS * np.sqrt(8760))


def test_a_year_without_filled_hours_has_no_error_of_filling_if_that_of_others_is_unknown():
    filled = series(random=1.0).drop_vars("NEE_MODEL_SE")
    complete = filled["time"].dt.year == 2012
    filled = filled.assign(NEE_FILLED=filled["NEE_FILLED"].where(~complete, 0))
    terms = carbon_sums(filled).isel(time=[1, 2])["NEE_SE_TERMS"].sel(term="filling")
    assert (terms[:, 0] == 0).all() and terms[:, 1].isnull().all()


def test_hidden_hours_tell_the_errors_of_a_model_that_was_fitted():
    """The model has no errors in training hours, and errors as large as its spread in hidden hours."""
    truth = series(share=0.0)
    gap = xr.DataArray(np.random.default_rng(5).random(TIME.size) < 0.3, dims="time")
    hidden = xr.DataArray(np.repeat(np.arange(TIME.size // 24) % 4 == 0, 24), dims="time") & ~gap
    filled = truth.assign(
        NEE_MODEL=truth["NEE"],
        NEE_FILLED=truth["NEE_FILLED"].where(~gap, 1),
        NEE_SE=truth["NEE_MODEL_SE"].where(gap),
    )
    trial = filled.assign(NEE_MODEL=truth["NEE_MODEL"], NEE_FILLED=filled["NEE_FILLED"].where(~hidden, 1))
    fitted, honest = (carbon_sums(filled, trial=given).isel(time=2)["NEE_SE"] for given in (None, trial))
    assert (fitted == 0).all()
    # The estimate from every fourth day agrees with that from all days within its uncertainty.
    expected = carbon_sums(truth.assign(NEE_FILLED=filled["NEE_FILLED"], NEE_SE=filled["NEE_SE"]))["NEE_SE"]
    np.testing.assert_allclose(honest, expected.isel(time=2), rtol=0.5)


def test_it_is_lazy_and_towers_do_not_depend_on_each_other():
    ds = towers()
    with raise_on_compute():
        filled = gapfill(ds, model="mds")
        hidden = artificial_gaps(ds, "week")
        trial = gapfill(ds.assign(NEE=ds["NEE"].where(~hidden)), model="mds")
        sums = carbon_sums(filled, trial=trial)
    assert all(array.chunks for array in sums.data_vars.values())
    assert sums["NEE"].dims == ("site", "time") and set(sums.coords) >= {"lat", "igbp"}
    alone = carbon_sums(filled.isel(site=1).compute(), trial=trial.isel(site=1).compute())
    xr.testing.assert_allclose(sums.isel(site=1).compute(), alone)


def test_sums_are_cf(findings):
    assert findings(carbon_sums(gapfill(towers(), model="mds"))) == []


def test_what_cannot_be_summed_up_is_said():
    filled = series()
    with pytest.raises(VariableError, match=r"gapfill\(ds, 'NEE'\): .*\['NEE_FILLED'\] are missing"):
        carbon_sums(filled.drop_vars("NEE_FILLED"))
    with pytest.raises(VariableError, match="GPP_NT"):
        carbon_sums(filled, "GPP_NT")
    with pytest.raises(OptionError, match="the same towers and hours"):
        carbon_sums(filled, trial=filled.isel(site=[0]))


@pytest.mark.parametrize("kind", ["day", "week"])
def test_real_sums_over_gaps_are_as_uncertain_as_hidden_hours_tell(real_towers, kind):
    """Errors of sums over other gaps are within twice the standard error and exceed the naive one."""
    tower = real_towers.sel(site="DE-Tha", time=slice("2003", "2005")).load()
    first, second = (artificial_gaps(tower, kind, share=0.2, seed=seed) for seed in range(2))
    both = {
        seed: gapfill(tower.assign(NEE=tower["NEE"].where(~hidden)), model="mds")
        for seed, hidden in enumerate((first, second))
    }
    error = (tower["NEE"] - both[0]["NEE_MODEL"]).where(first).values
    spread = both[0]["NEE_MODEL_SE"].where(first).values
    ratio = variance_ratio(error.astype(float), spread.astype(float))
    other = (tower["NEE"] - both[1]["NEE_MODEL"]).where(second)
    of_sum = both[1]["NEE_MODEL_SE"].where(second, 0).values
    variance = variance_of_sum(error_parts(of_sum, np.full(of_sum.shape, np.inf), ratio))
    independent = float((both[1]["NEE_MODEL_SE"].where(second) ** 2).sum())
    assert abs(float(other.sum())) < 2 * np.sqrt(variance)
    assert variance > 2 * independent


@pytest.mark.parametrize("value", [9999, np.inf, 350])
def test_implausible_hours_are_missing_hours(value):
    filled = series()
    hour = filled["time"] == np.datetime64("2012-07-01T05")
    sums = carbon_sums(filled.assign(NEE=filled["NEE"].where(~hour, value))).isel(time=[1, 2])
    assert sums["NEE"].isnull().values.tolist() == [[True, False]] * 2
    np.testing.assert_allclose(sums["share_missing"][0], [1 / 8784, 0])
