"""Tests of the split against the benchmark's code, and of the scores against scikit-learn."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import train_test_split

from tests.evaluation.samples import frame, make, means
from xcarbon.core.errors import MetadataError, MissingPackageError, OptionError, TimestampError
from xcarbon.evaluation.carbonfluxbench import GRAMS_PER_DAY, score, site_scores, split
from xcarbon.testing import raise_on_compute, synthetic_towers

CLASSES = ["ENF"] * 23 + ["GRA"] * 17 + ["CRO"] * 11 + ["WET"] * 10 + ["SAV"] * 5 + ["CSH"]
KOPPEN = (["Dfb", "Cfb", "Csa", "BSk", "Dfc", "Aw"] * 12)[: len(CLASSES)]


def towers(seed: int = 0) -> xr.Dataset:
    """Return towers with names and classes in random order."""
    order = np.random.default_rng(seed).permutation(len(CLASSES))
    coords = {"igbp": ("site", CLASSES), "koppen": ("site", KOPPEN), "site": [f"S{n:02d}" for n in range(67)]}
    return xr.Dataset({"NEE": ("site", np.zeros(67))}, coords).isel(site=order)


def test_towers_are_drawn_by_vegetation_as_published():
    table = pd.DataFrame({"site": [f"S{n:02d}" for n in range(67)], "igbp": CLASSES})
    count = table["igbp"].value_counts()
    test = []
    for name in count[count <= 10].index:
        test += list(table[table["igbp"] == name].sample(count[name] // 2, random_state=56)["site"])
    common = table[table["igbp"].map(count) > 10]
    test += list(train_test_split(common["site"], test_size=0.2, stratify=common["igbp"], random_state=56)[1])
    assert len(test) == 5 + 2 + 0 + 11
    for seed in range(3):
        parts = split(towers(seed))
        assert set(parts.test["site"].values) == set(test)
        assert set(parts.train["site"].values) == set(table["site"]) - set(test)


def test_towers_are_drawn_by_climate_as_published():
    names, letters = [f"S{n:02d}" for n in range(67)], [name[0] for name in KOPPEN]
    expected = train_test_split(names, test_size=0.2, stratify=letters, random_state=56)[1]
    parts = split(towers(1), "koppen")
    assert set(parts.test["site"].values) == set(expected)
    short = towers(1).assign_coords(koppen=("site", [name[0] for name in towers(1)["koppen"].values]))
    assert set(split(short, "koppen").test["site"].values) == set(expected)


def test_split_needs_the_classes(monkeypatch):
    ds = towers()
    with pytest.raises(MetadataError, match="no coordinate 'koppen' on site to split by: assign it"):
        split(ds.drop_vars("koppen"), "koppen")
    with pytest.raises(MetadataError, match=r"igbp is empty for \['S03'\]"):
        split(ds.assign_coords(igbp=ds["igbp"].where(ds["site"] != "S03", "")))
    with pytest.raises(MetadataError, match=r"'E': 1.*cannot be split"):
        split(ds.assign_coords(koppen=ds["koppen"].where(ds["site"] != "S03", "ET")), "koppen")
    with pytest.raises(OptionError, match="found 'climate'"):
        split(ds, "climate")
    monkeypatch.setitem(sys.modules, "sklearn.model_selection", None)
    with pytest.raises(MissingPackageError, match=r"sklearn: pip install 'xcarbon\[benchmarks\]'"):
        split(ds)


def naive(table: pd.DataFrame) -> dict[str, float]:
    """Return the scores of one tower computed with scikit-learn."""
    days = means(table, table.index.floor("D"), 24) * GRAMS_PER_DAY
    y, x = days["y"].to_numpy(), days["x"].to_numpy()
    error = mean_absolute_error(y, x)
    return {
        "r2": r2_score(y, x),
        "rmse": root_mean_squared_error(y, x),
        "rae": error / mean_absolute_error(y, np.full(y.shape, y.mean())),
        "nmae": error / (abs(y.mean()) + 1e-9),
        "n": len(y),
    }


@settings(max_examples=5)
@given(seed=st.integers(0, 99))
def test_scores_equal_those_of_scikit_learn(seed):
    ds, prediction = make(3, hours=9000, gaps=0.002, seed=seed)
    ds["NEE_QC"] = xr.where(ds["NEE_QC"] > 1, ds["NEE_QC"] * (ds["NEE"] > 11), ds["NEE_QC"]).astype("int8")
    found = site_scores(ds, prediction)
    expected = pd.DataFrame([naive(frame(ds, prediction, site)) for site in range(3)])
    assert 20 < expected["n"].min() < expected["n"].max() < 375
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, err_msg=name)
    quartiles = score(ds, prediction)
    np.testing.assert_allclose(quartiles["r2"], expected["r2"].quantile([0.25, 0.5, 0.75]), rtol=1e-9)
    np.testing.assert_allclose(quartiles["nmae"].sel(quantile=0.5), expected["nmae"].median(), rtol=1e-9)
    assert quartiles["towers"] == 3


def test_known_scores():
    days = np.array([2.0, 4.0, 6.0, 8.0])
    coords = {"site": ["XX-000"], "time": pd.date_range("2010-01-01", periods=96, freq="h", unit="ns")}
    hourly = np.repeat(days, 24) + np.tile(np.arange(24) - 11.5, 4)
    ds = xr.Dataset({"NEE": (("site", "time"), [hourly])}, coords)
    prediction = xr.DataArray([np.repeat(days + 1, 24)], coords, ("site", "time"), name="NEE")
    found = site_scores(ds, prediction).isel(site=0)
    assert float(found["r2"]) == pytest.approx(1 - 4 / 20)
    assert float(found["rae"]) == pytest.approx(1 / 2)
    assert float(found["nmae"]) == pytest.approx(1 / 5)
    assert float(found["rmse"]) == pytest.approx(12.011 * 86400e-6)
    ds["NEE"][0, 30] = np.nan  # a day with 23 hours is not used
    assert site_scores(ds, prediction)["n"] == 3


def test_perfect_prediction_and_none():
    ds, prediction = make(2, hours=2000, gaps=0)
    ds["NEE_QC"][:] = 0
    perfect = site_scores(ds, ds["NEE"])
    assert (perfect["r2"] == 1).all()
    assert (perfect["rae"] == 0).all()
    later = prediction.assign_coords(time=prediction["time"] + np.timedelta64(9000, "h"))
    nothing = site_scores(ds, prediction * np.nan)
    assert (nothing["n"] == 0).all()
    assert nothing.drop_vars("n").to_array().isnull().all()
    with pytest.raises(TimestampError, match="no time in common"):
        site_scores(ds, later)
    flat = site_scores(ds.assign(NEE=ds["NEE"] * 0 + 0.1), prediction)
    assert flat["r2"].isnull().all()
    assert (flat["rae"] == np.inf).all()


def test_targets_have_the_units_of_carbon():
    ds, prediction = make(1, hours=100)
    with pytest.raises(OptionError, match="FCH4 is in nmol"):
        site_scores(ds.rename(NEE="FCH4"), prediction.rename("FCH4"))


def test_nothing_is_computed():
    ds = synthetic_towers(3, patches=False, variables=["NEE"])
    with raise_on_compute():
        split(ds)
        lazy = score(ds, ds["NEE"] + 1)
    np.testing.assert_allclose(lazy["rmse"].compute(), GRAMS_PER_DAY, rtol=1e-5)


def test_real_towers(real_towers):
    train, test = split(real_towers)
    assert train.sizes["site"] + test.sizes["site"] == 180
    assert 0.2 <= test.sizes["site"] / 180 < 0.3
    few = real_towers.sel(site=["DE-Tha", "US-Ha1"])
    found = site_scores(few, (0.5 * few["NEE"]).rename("NEE")).compute()
    assert ((found["r2"] > 0.5) & (found["r2"] < 0.8)).all()
    assert (found["n"] > 1000).all()
