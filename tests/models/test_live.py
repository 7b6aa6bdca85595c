"""Hour by hour, a model predicts what it predicts for the whole record."""

from __future__ import annotations

import numpy as np
import pytest

import xcarbon
from xcarbon.core.errors import MetadataError, ModelError, TimestampError
from xcarbon.core.variables import memory_features
from xcarbon.models.live import LiveState
from xcarbon.prep.satellite import hourly
from xcarbon.testing import synthetic_towers

VARIABLES = ["DOY", "TOD", "TA", "SW_IN"]


@pytest.fixture(scope="module")
def tower():
    ds = synthetic_towers(1, patches=False, satellite=True, variables=["TA", "SW_IN", "NEE"])
    return ds.sel(time=slice("2010-05-01", "2010-05-20")).load()


@pytest.fixture(scope="module", params=["streaming", "hourly", "xgboost", "ecoperceiver", "ensemble"])
def model(request, tower, tmp_path_factory):
    quick = {"max_steps": 2, "batch_size": 4, "variables": VARIABLES}
    settings = {
        "streaming": quick | {"network": {"width": 16, "layers": 2}},
        "hourly": quick | {"network": {"width": 16}},
        "xgboost": {"features": "state", "n_estimators": 3, "share": 1.0, "variables": VARIABLES},
        "ecoperceiver": quick
        | {"network": {"width": 16, "cross_blocks": 1}, "state": [*memory_features(["TA"]), "LAI"]},
    }
    kinds = [request.param] if request.param in settings else ["streaming", "xgboost"]
    with xcarbon.set_options(progress=False):
        models = [
            tower.carbon.fit(kind, run_dir=tmp_path_factory.mktemp(kind), **settings[kind]) for kind in kinds
        ]
    return models[0] if len(models) == 1 else xcarbon.ensemble(models)


def record(tower) -> dict[str, np.ndarray]:
    """The hours of a tower as a station would pass them."""
    series = hourly(tower, tower["time"], causal=True).load()
    values = {name: series[name].values[0] for name in series.data_vars}
    values |= {name: tower[name].values[0] for name in ("TA", "TA_QC", "SW_IN", "SW_IN_QC")}
    return values | {"time": tower["time"].values}


def place(tower) -> dict[str, object]:
    return {name: tower[name].values[0] for name in ("igbp", "lat", "lon", "elevation")}


def test_steps_equal_the_prediction_of_the_whole_record(model, tower, tmp_path):
    whole = tower.carbon.predict_nee(model, causal=True).values[0]
    hours = record(tower)
    past, later = 400, 430
    fluxes, state = model.step(model.begin(**place(tower)), {k: v[:past] for k, v in hours.items()})
    np.testing.assert_allclose(fluxes["NEE"], whole[:past], rtol=1e-4, atol=1e-5)
    for hour in range(past, later):
        if hour == past + 5:
            state = LiveState.load(state.save(tmp_path / "state.npz"))
        fluxes, state = model.step(state, {k: v[hour] for k, v in hours.items()})
        np.testing.assert_allclose(fluxes["NEE"], whole[hour : hour + 1], rtol=1e-4, atol=1e-5)
    assert state.time == hours["time"][later - 1]


def test_hours_between_two_steps_are_missing_hours(model, tower):
    hours = record(tower)
    gap = tower.copy()
    for name in ("TA", "SW_IN"):
        gap[name][0, 100:110] = np.nan
    whole = gap.carbon.predict_nee(model, causal=True).values[0]
    _, state = model.step(model.begin(**place(tower)), {k: v[:100] for k, v in hours.items()})
    found, _ = model.step(state, {k: v[110] for k, v in hours.items()})
    if model.config.context == 1:  # the satellite series of the missing hours are not known
        np.testing.assert_allclose(found["NEE"], whole[110:111], rtol=1e-4, atol=1e-5)
    assert np.isfinite(found["NEE"]).all()


def test_what_does_not_follow_is_refused(model, tower):
    state = model.begin()
    hour = {"time": "2010-05-01T00", "TA": 10.0}
    _, state = model.step(state, hour)
    with pytest.raises(TimestampError, match="must be whole hours later"):
        model.step(state, hour)
    with pytest.raises(TimestampError, match="start under the name 'time'"):
        model.step(state, {"TA": 10.0})
    with pytest.raises(TimestampError, match="without gaps"):
        model.step(state, {"time": np.array(["2010-05-01T01", "2010-05-01T03"], "M8[h]")})
    with pytest.raises(ModelError, match="unknown static site features"):
        model.begin(slope=3)
    with pytest.raises(MetadataError, match="XYZ"):
        model.begin(igbp="XYZ")


def test_a_state_of_another_model_and_a_damaged_file_are_refused(tower, tmp_path):
    shipped = xcarbon.load("nee-fluxnet2015")
    with pytest.raises(ModelError, match="other inputs"):
        shipped.step(
            LiveState(
                "0", np.datetime64("NaT"), *[np.zeros((0, 6))] * 2, *[np.zeros((0, 5))] * 2, np.zeros(1)
            ),
            {"time": "2010-05-01T00"},
        )
    path = shipped.begin().save(tmp_path / "state.npz")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelError, match="is not a state"):
        LiveState.load(path)


def test_a_state_with_changed_values_is_refused(tmp_path):
    """Each byte of the arrays is part of a checksum, also where numpy would not read it."""
    path = xcarbon.load("nee-fluxnet2015").begin().save(tmp_path / "state.npz")
    content = path.read_bytes()
    method = content.index(b"PK\x01\x02") + 10
    shape = content.index(b"'shape': (") + 10
    for place, new in ((method, b"\x63"), (shape, b"0"), (content.index(b"NUMPY") + 130, b"\xff")):
        path.write_bytes(content[:place] + new + content[place + 1 :])
        with pytest.raises(ModelError, match=r"state\.npz is not a state"):
            LiveState.load(path)
