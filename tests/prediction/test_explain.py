"""Importance is found for the inputs that matter, and equals the scores of predictions without them."""

from __future__ import annotations

import dask.array
import numpy as np
import pytest
import torch
import xarray as xr

from tests.models.samples import Inputs, shaken
from tests.prediction.test_predict import CONTEXT, make
from xcarbon.core.errors import ModelError, OptionError, VariableError
from xcarbon.core.variables import memory_features
from xcarbon.evaluation.scores import score
from xcarbon.models.bundle import CarbonModel, Scaler
from xcarbon.prediction.explain import ALL, explain
from xcarbon.prediction.predict import predict
from xcarbon.testing import raise_on_compute, synthetic_towers
from xcarbon.training import fit

LAG = 3
EVERY_HOUR = 10_000


class Reader:
    """Predicts NEE as TA was three hours ago, and FCH4 as the latitude is; 0 where these are missing."""

    kind, name, file, has_spread = "reader", "reader", "nothing", True

    def __init__(self, context: int = CONTEXT) -> None:
        self.config = Inputs(("DOY", "TOD", "TA", "SW_IN"), (), context, context, statics=("lat",))

    def predict_series(self, inputs, wanted):
        before, hourly = self.config.context - 1, inputs.hourly
        ta = hourly[before - LAG : len(hourly) - LAG, 2]
        lat = np.full(len(wanted), inputs.statics[0])
        rows = np.stack([ta, lat, hourly[before:, 3], hourly[before:, 0]])  # spreads read something else
        return np.where(wanted, np.nan_to_num(rows), np.nan).astype("float32")

    def to_bytes(self):
        return b""


@pytest.fixture(scope="module")
def reader() -> CarbonModel:
    scaler = Scaler({"NEE": (0.0, 1.0), "FCH4": (0.0, 1.0)}, 1, {})
    return CarbonModel(Reader(), scaler, {"sites": ["XX-One"]})


@pytest.fixture(scope="module")
def readable() -> xr.Dataset:
    """Three towers of two classes whose NEE equals the prediction of the reader; twice that at SY-003."""
    rng = np.random.default_rng(0)
    time = np.datetime64("2010-03-01", "ns") + np.arange(300) * np.timedelta64(1, "h")
    coords = {"site": ["SY-001", "SY-002", "SY-003"], "lat": ("site", [50.0, 40.0, 30.0]), "time": time}
    coords["igbp"] = ("site", ["ENF", "GRA", "ENF"])
    ta = rng.uniform(-40, 40, (3, 300)).astype("float32")
    flux = np.roll(ta, LAG, axis=1) / 160 * np.array([[1], [1], [2]], "float32")
    arrays = {"TA": ta, "SW_IN": rng.uniform(0, 900, (3, 300)), "NEE": flux, "FCH4": flux}
    return xr.Dataset({name: (("site", "time"), values) for name, values in arrays.items()}, coords)


@pytest.fixture(scope="module")
def explained(readable, reader) -> xr.Dataset:
    """Of every hour, with each lag in a bin of its own."""
    return explain(readable, reader, lags=range(CONTEXT), hours=EVERY_HOUR).compute()


def test_finds_the_variable_and_the_lag_that_are_read(explained):
    assert explained["variable"].values.tolist() == ["DOY", "TOD", "TA", "SW_IN", "lat"]
    for name in ("nse_loss", "mse_rise", "rmse_rise", "change"):
        importance, by_lag = explained[name], explained[f"lag_{name}"]
        assert (importance.drop_sel(variable="TA") == 0).all()
        assert (by_lag.drop_sel(lag=LAG) == 0).all()
        assert (importance.sel(variable="TA") > 0).all()
        np.testing.assert_array_equal(by_lag.sel(lag=LAG), importance.sel(variable="TA"))


def test_is_what_the_formulas_say(readable, explained):
    hours = readable.isel(time=slice(CONTEXT - 1, None))
    flux = hours["NEE"].astype("float64")
    for name, towers in {"all": [0, 1, 2], "ENF": [0, 2], "GRA": [1]}.items():
        y, found = flux.isel(site=towers), explained.sel(igbp=name)
        x = y / xr.DataArray([1, 1, 2], dims="site").isel(site=towers)
        of_ta = found.sel(variable="TA")
        spread = ((y - y.mean()) ** 2).sum()
        worse = (y**2).sum() - ((y - x) ** 2).sum()
        assert of_ta["nse_loss"] == pytest.approx(float(worse / spread), rel=1e-5)
        assert of_ta["mse_rise"] == pytest.approx(float(worse / y.size), rel=1e-5)
        assert of_ta["change"] == pytest.approx(float(abs(x).mean()), rel=1e-5)
        assert found["nse"] == pytest.approx(float(1 - ((y - x) ** 2).sum() / spread), rel=1e-5)
        assert (found["n"] == y.size).all() and (found["lag_n"] == y.size).all()
    assert explained["igbp"].values.tolist() == [ALL, "ENF", "GRA"]
    n = explained["n"]
    assert (n.drop_sel(igbp=ALL).sum("igbp") == n.sel(igbp=ALL)).all()


def test_intervals_hold_what_towers_drawn_twice_give(readable, reader, explained):
    """Of two towers there are three draws, none of them rarer than a quarter."""
    by_tower = explain(readable, reader, "site", hours=EVERY_HOUR)[
        ["nse_loss", "nse_loss_interval"]
    ].compute()
    ta = explained.sel(variable="TA")
    losses = [
        *by_tower["nse_loss"].sel(variable="TA", site=["SY-001", "SY-003"]),
        ta["nse_loss"].sel(igbp="ENF"),
    ]
    found = ta["nse_loss_interval"].sel(igbp="ENF")
    np.testing.assert_allclose(found, [min(losses), max(losses)], rtol=1e-6)
    assert found.sel(bound="upper") - found.sel(bound="lower") > 0.01
    assert ta["nse_loss_interval"].sel(igbp="GRA").isnull().all()
    assert by_tower["nse_loss_interval"].drop_sel(site=ALL).isnull().all()
    np.testing.assert_array_equal(
        by_tower["nse_loss_interval"].sel(site=ALL), explained["nse_loss_interval"].sel(igbp=ALL)
    )


def test_bins_of_lags_end_with_the_window(readable, reader):
    explained = explain(readable, reader).compute()
    assert explained["lag_bnds"].values.tolist() == [[0, 1], [1, 3], [3, 6], [6, 8]]
    assert (explained["lag_change"].sel(igbp="all") > 0).values.tolist() == [False, False, True, False]
    only = explain(readable, reader, lags=[2, 4], lagged=["SW_IN"]).compute()
    assert only["lag_bnds"].values.tolist() == [[2, 4], [4, 8]]
    assert (only["lag_change"] == 0).all()
    alone = CarbonModel(Reader(context=1), reader.scaler)
    assert "lag" not in explain(readable, alone).dims


def test_another_target_and_what_is_known_of_a_place(readable, reader):
    explained = explain(readable, reader, target="FCH4", by="site").compute()
    assert explained["change"].sel(site="SY-002", variable="lat").item() == 40
    assert (explained["change"].drop_sel(variable="lat") == 0).all()
    assert (explained["lag_change"] == 0).all()


def test_groups_are_masked_together(readable, reader):
    groups = {"light": ["SW_IN", "lat"], "heat": ["TA", "lat"], "everything": ["TA", "SW_IN"]}
    explained = explain(readable, reader, groups=groups).compute()["nse_loss"]
    assert (explained.sel(variable="light") == 0).all()
    np.testing.assert_array_equal(explained.sel(variable="heat"), explained.sel(variable="TA"))
    assert explained.sel(variable="everything").isnull().all(), "nothing is left to predict from"


def test_hours_are_drawn_for_each_tower_alone(readable, reader):
    some = explain(readable, reader, by="site", hours=50).compute()
    assert (some["n"].drop_sel(site="all") == 50).all() and (some["n"].sel(site="all") == 150).all()
    alone = explain(readable.isel(site=[1]), reader, by="site", hours=50).compute()
    xr.testing.assert_equal(alone.sel(site="SY-002"), some.sel(site="SY-002"))
    other = explain(readable, reader, by="site", hours=50, seed=1)["change"].sel(variable="TA").compute()
    assert (other != some["change"].sel(variable="TA")).all()


def test_hours_are_those_that_can_be_predicted_and_scored(readable, reader):
    hour = xr.DataArray(np.arange(300), dims="time")
    ds = readable.assign(NEE=readable["NEE"].where(hour % 2 == 0))
    gap = (hour >= 100) & (hour < 140)
    ds = ds.assign({code: ds[code].where(~gap) for code in ("TA", "SW_IN")})
    full = np.arange(CONTEXT - 1, 300)
    counts = (full % 2 == 0) & ((full < 100 + CONTEXT - 1) | (full >= 140))
    explained = explain(ds, reader, by="site", hours=EVERY_HOUR).compute()
    assert (explained["n"].sel(site="SY-001", variable="SW_IN") == counts.sum()).all()
    short = explain(ds.isel(time=slice(CONTEXT - 1)), reader).compute()
    assert (short["n"] == 0).all() and short["nse_loss"].isnull().all() and short["change"].isnull().all()


def test_without_observations_there_is_the_change(readable, reader, explained):
    change = explain(readable.drop_vars("NEE"), reader, lags=range(CONTEXT), hours=EVERY_HOUR).compute()
    assert set(change.data_vars) == {"change", "n", "lag_change", "lag_n"}
    xr.testing.assert_equal(change.drop_vars("lag_bnds"), explained[list(change)])


def test_a_single_tower_and_all_towers_alone(readable, reader):
    whole = explain(readable, reader, by="site").compute().sel(site="SY-002")
    tower = explain(readable.isel(site=1), reader).compute()
    assert tower["igbp"].values.tolist() == ["all", "GRA"]
    together = explain(readable.isel(site=1), reader, None).compute()
    assert together["nse_loss"].dims == ("variable",) and together["lag_nse_loss"].dims == ("lag",)
    for found in (tower.sel(igbp="GRA"), tower.sel(igbp="all"), together):
        for name in ("nse_loss", "lag_change", "n", "rmse"):
            np.testing.assert_array_equal(found[name], whole[name])


def test_is_described_and_goes_to_cf(readable, reader, findings):
    explained = explain(readable, reader)
    assert explained["mse_rise"].attrs["units"] == "umol2 m-4 s-2"
    assert explained["lag_change"].attrs == {
        "long_name": "mean absolute change of the prediction",
        "units": "umol m-2 s-1",
    }
    assert reader.fingerprint() in explained.attrs["source"] and explained.attrs["training_sites"] == "XX-One"
    assert all("units" in array.attrs for array in explained.data_vars.values())
    assert findings(explained) == []


def test_real_towers(real_towers, reader):
    """The reader uses only TA, of one hour."""
    with raise_on_compute():
        explained = explain(real_towers.isel(site=[3, 90]), reader, "site", hours=20)
    explained = explained.compute()
    assert (explained["n"].sel(variable="SW_IN").drop_sel(site="all") == 20).all()
    assert (explained["change"] > 0).sel(variable="TA").all()
    assert (explained["lag_change"].sel(lag=3) > 0).all() and (explained["lag_change"].sel(lag=0) == 0).all()


# Models of all kinds, beside their predictions


@pytest.fixture(scope="module")
def days() -> xr.Dataset:
    """Three towers in three days of July; one has no wind, one no patches."""
    ds = synthetic_towers(3, seed=1, variables=["TA", "SW_IN", "WS", "NEE"], gaps=False)
    ds = ds.sel(time=slice("2010-07-01", "2010-07-03"), day=slice("2010-07-01", "2010-07-03")).load()
    ds["WS"][1], ds["reflectance"][2] = np.nan, np.nan
    ds["LAI"] = ("site", "day"), np.arange(9.0, dtype="float32").reshape(3, 3), {"composite_days": 8.0}
    return ds


@pytest.fixture(scope="module", params=["xgboost", "ecoperceiver", "streaming"])
def model(request, days, tmp_path_factory) -> CarbonModel:
    inputs = {"variables": ("DOY", "TOD", "TA", "SW_IN", "WS"), "bands": ("B1", "B2")}
    if request.param == "ecoperceiver":
        return make(**inputs)
    inputs["run_dir"] = tmp_path_factory.mktemp("run")
    if request.param == "xgboost":
        return fit(days, "xgboost", n_estimators=10, min_child_weight=1, context=CONTEXT, **inputs)
    network = {"width": 16, "heads": 2, "octaves": 4, "cross_blocks": 1, "window": 6, "layers": 2}
    model = fit(days, "streaming", length=64, batch_size=4, max_steps=2, network=network, **inputs)
    torch.manual_seed(1)
    shaken(model.network)
    return model


def test_equals_scores_of_predictions_without_a_variable(days, model):
    """Of all hours with a full window, which the streaming model does not need."""
    full = days["time"] >= days["time"][model.config.context - 1]
    observed = days.assign(NEE=days["NEE"].where(full))
    unknown = xr.full_like(days["time"], np.nan, dtype="float32")
    without = {
        "TA": days.drop_vars("TA"),
        "WS": days.drop_vars("WS"),
        "TOD": days.assign(TOD=unknown),
        "patches": days.drop_vars("reflectance"),
        **{name: days.drop_vars(name) for name in model.config.statics},
    }
    groups = {}
    if model.config.state:  # without a variable there is no memory of it
        for code in ("TA", "WS"):
            groups[f"all of {code}"] = [code, *memory_features([code])]
            without[f"all of {code}"] = without.pop(code)
        without["LAI"] = days.drop_vars("LAI")

    def scored(ds: xr.Dataset) -> xr.Dataset:
        return score(observed, predict(ds, "NEE", model), by=None, training_towers="keep").compute()

    explained = explain(observed, model, None, groups=groups, lags=[0], hours=EVERY_HOUR).compute()
    whole = scored(days)
    assert float(explained["nse"]) == pytest.approx(float(whole["nse"]), rel=1e-3)
    for name, ds in without.items():
        expected, found = scored(ds), explained.sel(variable=name)
        assert int(found["n"]) == int(expected["n"]) > 150
        assert float(found["rmse_rise"]) == pytest.approx(float(expected["rmse"] - whole["rmse"]), abs=1e-3)
        assert float(found["nse_loss"]) == pytest.approx(float(whole["nse"] - expected["nse"]), abs=1e-3)
        assert found["change"] > 1e-3


@pytest.mark.parametrize("model", ["streaming"], indirect=True)
def test_memory_and_series_are_inputs(days, model):
    """The memory as one of them; its features can be members of groups."""
    features = list(memory_features(["TA", "SW_IN", "WS"]))
    assert model.config.state == (*features, "LAI")
    groups = {"each": features, "some": ["TA_1D", "LAI"], "same": ["memory", "LAI"], "one": ["LAI"]}
    change = explain(days, model, None, groups=groups, hours=20)["change"].compute()
    names = change["variable"].values.tolist()
    assert names[-6 - len(model.config.statics) :] == [*model.config.statics, "memory", "LAI", *groups]
    assert change.sel(variable="memory") == change.sel(variable="each") > 0
    assert change.sel(variable="LAI") == change.sel(variable="one") > 0
    assert change.sel(variable="same") != change.sel(variable="memory")
    assert 0 < change.sel(variable="some") != change.sel(variable="LAI")
    with pytest.raises(OptionError, match=r"\['TA_365D', 'FAPAR'\]|\['FAPAR'\] in 'unknown'"):
        explain(days, model, groups={"unknown": ["TA_365D", "FAPAR"]})


@pytest.mark.parametrize("model", ["xgboost", "streaming"], indirect=True)
def test_what_is_not_there_is_not_missed(days, model):
    explained = explain(days, model, by="site", hours=10).compute()["change"]
    assert explained.sel(site="SY-002", variable="WS") == 0 < explained.sel(site="SY-001", variable="WS")
    assert explained.sel(site="SY-003", variable="patches") == 0
    assert explained.sel(site="SY-001", variable="patches") > 0
    bare = days.drop_vars(["reflectance", "snow", "water"])
    assert (explain(bare, model, hours=10)["change"].sel(variable="patches") == 0).all()


def test_trees_read_no_hour_but_the_predicted_one(days, model):
    lags = explain(days, model, hours=10)["lag_change"].sel(igbp="all").compute()
    assert lags.sel(lag=0) > 0.01
    before = lags.sel(lag=slice(1, None))
    assert (before == 0).all() if model.predictor.kind == "xgboost" else (before > 0).all()


@pytest.mark.parametrize("model", ["streaming"], indirect=True)
def test_nothing_is_computed_before_it_is_asked_for(days, model, tmp_path):
    folder, settings = model.save(tmp_path / "model"), {"groups": {"sun": ["SW_IN", "TOD"]}, "hours": 10}
    chunked = days.chunk(time=50).assign_coords(days.coords)
    with raise_on_compute():
        explained = explain(chunked, folder, **settings)
    assert all(isinstance(array.data, dask.array.Array) for array in explained.data_vars.values())
    xr.testing.assert_allclose(explained.compute(), explain(days, model, **settings).compute())


# Errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"groups": {"light": ["SW_IN", "PPFD_IN"]}}, r"\['PPFD_IN'\] in 'light'"),
        ({"groups": {"TA": ["SW_IN"]}}, "the name 'TA'"),
        ({"lagged": ["lat"]}, "hourly inputs.*found.*lat"),
        ({"lagged": []}, "hourly inputs"),
        ({"lags": [0, 2, 2]}, "increase"),
        ({"lags": [-1, 2]}, "window, 0 to 7"),
        ({"lags": [CONTEXT]}, "window, 0 to 7"),
        ({"hours": 0}, "at least 1"),
        ({"by": "climate"}, "climate"),
    ],
)
def test_what_cannot_be_explained_is_said(readable, reader, settings, message):
    with pytest.raises(OptionError, match=message):
        explain(readable, reader, **settings)


def test_wrong_targets_and_data_are_said(readable, reader):
    with pytest.raises(ModelError, match=r"NEE.*not LE"):
        explain(readable, reader, target="LE")
    with pytest.raises(VariableError, match="at least one of"):
        explain(readable[["NEE"]], reader)
    grid = readable.isel(site=0, drop=True).expand_dims(y=2, x=2)
    with pytest.raises(VariableError, match=r"towers on \(site, time\)"):
        explain(grid.drop_vars("NEE"), reader)
