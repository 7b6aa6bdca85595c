"""A saved model of any kind predicts the same after loading, and a broken folder raises an error."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given
from hypothesis import strategies as st

from tests.models.test_boosting import grow
from xcarbon.core.errors import ModelError
from xcarbon.models.boosting import BoostedTrees, BoostedTreesConfig
from xcarbon.models.bundle import SETTINGS, CarbonModel, Scaler, _checksum
from xcarbon.models.calibration import SpreadCalibration
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.models.inputs import ModelInputs
from xcarbon.models.networks import EcoPerceiverPredictor, StreamingPredictor
from xcarbon.models.registry import KINDS, resolve
from xcarbon.models.streaming import StreamingConfig, StreamingEcoPerceiver

VARIABLES = ("DOY", "TOD", "TA")
SCALER = Scaler(
    {"NEE": (-1.5, 6.0)},
    1,
    {"DOY": (1, 367), "TOD": (0, 24), "TA": (-80, 80)},
    spread={"NEE": SpreadCalibration(0.9)},
)


@pytest.fixture
def network() -> CarbonModel:
    torch.manual_seed(0)
    config = EcoPerceiverConfig(VARIABLES, (), width=16, heads=2, cross_blocks=1, context=4)
    predictor = EcoPerceiverPredictor(EcoPerceiver(config))
    return CarbonModel(predictor, SCALER, {"sites": ["DE-Tha"], "data": {}})


@pytest.fixture
def trees() -> CarbonModel:
    predictor = BoostedTrees(BoostedTreesConfig(VARIABLES, context=4), grow(3))
    return CarbonModel(predictor, SCALER, {"sites": ["DE-Tha"], "data": {}})


@pytest.fixture
def streaming() -> CarbonModel:
    torch.manual_seed(0)
    config = StreamingConfig(VARIABLES, (), width=16, heads=2, cross_blocks=1, layers=1, window=4)
    predictor = StreamingPredictor(StreamingEcoPerceiver(config))
    return CarbonModel(predictor, SCALER, {"sites": ["DE-Tha"], "data": {}})


@pytest.fixture(params=["network", "streaming", "trees"])
def model(request) -> CarbonModel:
    return request.getfixturevalue(request.param)


def series(statics: np.ndarray | None = None) -> tuple[ModelInputs, np.ndarray]:
    """Three hours before five to predict."""
    hourly = np.random.default_rng(1).random((8, 3), np.float32) - np.float32(0.5)
    return ModelInputs(hourly, statics=statics), np.ones(5, bool)


def another(model: CarbonModel) -> CarbonModel:
    """A model that predicts something else."""
    if isinstance(model.predictor, BoostedTrees):
        booster = model.predictor.booster
        model.predictor = BoostedTrees(model.predictor.config, booster[: booster.num_boosted_rounds() - 1])
    else:
        with torch.no_grad():
            model.network.head.bias += 1e-3
    return model


def test_save_and_load_round_trip(model, tmp_path):
    loaded = CarbonModel.load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.predict_series(*series()), model.predict_series(*series()))
    assert (loaded.config, loaded.scaler, loaded.targets) == (model.config, SCALER, ("NEE",))
    assert loaded.sites == ("DE-Tha",)
    assert loaded.fingerprint() == model.fingerprint()
    files = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    assert sorted(files) == [SETTINGS, model.predictor.file]
    assert json.loads(files[SETTINGS])["kind"] == model.predictor.kind
    loaded.save(tmp_path / "again")
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}


def test_the_registry_lists_the_predictors(model):
    entry = KINDS[model.predictor.kind]
    assert resolve(entry.predictor) is type(model.predictor)
    assert entry.name == model.predictor.name


def test_predictions_are_in_units_of_the_target(model):
    raw = model.predictor.predict_series(*series())
    found = model.predict_series(*series())
    assert len(found) == len(model.outputs) == 1 + model.has_spread
    np.testing.assert_allclose(found[0], raw[0] * 6.0 - 1.5, rtol=1e-5)
    np.testing.assert_allclose(found[1:], raw[1:] * 6.0 * 0.9, rtol=1e-5)


def test_networks_have_the_attribute_network_and_trees_do_not(network, trees):
    inputs, wanted = series()
    windows = ModelInputs(torch.from_numpy(inputs.hourly).unfold(0, 4, 1).transpose(1, 2))
    expected = network.network.eval()(windows)[:, -1].detach() * 6.0 - 1.5
    np.testing.assert_allclose(network.predict_series(inputs, wanted)[0], expected, rtol=1e-4)
    with pytest.raises(AttributeError):
        trees.network  # noqa: B018


def test_saving_replaces_a_model_but_nothing_else(model, tmp_path):
    model.save(tmp_path / "model")
    another(model).save(tmp_path / "model")
    assert CarbonModel.load(tmp_path / "model").fingerprint() == model.fingerprint()
    (tmp_path / "thesis").mkdir()
    with pytest.raises(ModelError, match="is not a model"):
        model.save(tmp_path / "thesis")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["model", "thesis"]


def test_a_crash_while_saving_leaves_the_old_model(model, tmp_path, monkeypatch):
    model.save(tmp_path / "model")
    before = model.fingerprint()

    def crash(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(Path, "write_bytes", crash)
        another(model).save(tmp_path / "model")
    assert CarbonModel.load(tmp_path / "model").fingerprint() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_fingerprint_follows_the_weights(model):
    before = model.fingerprint()
    assert another(model).fingerprint() != before


def edit(path, change) -> None:
    """Change the settings of a saved model, with the checksum that belongs to them."""
    content = json.loads((path / SETTINGS).read_text())
    del content["checksum"]
    change(content)
    (weights,) = (file for file in path.iterdir() if file.name != SETTINGS)
    content["checksum"] = _checksum(content, weights.read_bytes())
    (path / SETTINGS).write_text(json.dumps(content))


@pytest.mark.parametrize(
    "broken", ["absent", "no weights", "cut weights", "not json", "other kind", "other format", "other shape"]
)
def test_broken_folders_are_refused(model, tmp_path, broken):
    path = tmp_path / "model"
    if broken != "absent":
        model.save(path)
    settings, weights = path / SETTINGS, path / model.predictor.file
    if broken == "no weights":
        weights.unlink()
    elif broken == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif broken == "not json":
        settings.write_text("{")
    elif broken == "other shape":
        edit(path, lambda content: content["config"]["variables"].append("P"))
    elif broken != "absent":
        other = {"kind": "oracle"} if broken == "other kind" else {"format": 0}
        edit(path, lambda content: content.update(other))
    with pytest.raises(ModelError, match="model"):
        CarbonModel.load(path)


@hypothesis.settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damaged_byte_is_found(model, tmp_path, data):
    path = model.save(tmp_path / "model")
    name = data.draw(st.sampled_from([SETTINGS, model.predictor.file]))
    content = bytearray((path / name).read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    if name == SETTINGS:
        with contextlib.suppress(ValueError):  # damaged white space between values has no effect
            assume(json.loads(content) != json.loads((path / name).read_bytes()))
    (path / name).write_bytes(content)
    with pytest.raises(ModelError, match="model"):
        CarbonModel.load(path)


def test_other_bounds_than_those_of_the_vocabulary_are_refused(model, tmp_path):
    path = model.save(tmp_path / "model")
    edit(path, lambda content: content["scaler"]["bounds"].update(TA=[-100, 100]))
    with pytest.raises(ModelError, match="TA was scaled"):
        CarbonModel.load(path)


def test_a_target_that_does_not_vary_is_refused():
    with pytest.raises(ModelError, match="standard deviation"):
        Scaler({"NEE": (0.0, 0.0)}, 1, {})
