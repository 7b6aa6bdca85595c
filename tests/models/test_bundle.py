"""A saved model predicts what it predicted, and a broken folder says why."""

from __future__ import annotations

import json

import pytest
import torch

from xcarbon.errors import ModelError
from xcarbon.models.bundle import SETTINGS, WEIGHTS, CarbonModel, Scaler
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig

CONFIG = EcoPerceiverConfig(("DOY", "TOD", "TA"), (), width=16, heads=2, cross_blocks=1, context=4)


@pytest.fixture
def model() -> CarbonModel:
    torch.manual_seed(0)
    scaler = Scaler(-1.5, 6.0, 1, {"DOY": (1, 367), "TOD": (0, 24), "TA": (-80, 80)})
    return CarbonModel(EcoPerceiver(CONFIG), "NEE", scaler, {"sites": ["DE-Tha"], "data": {}})


def test_save_and_load_round_trip(model, tmp_path):
    loaded = CarbonModel.load(model.save(tmp_path / "model"))
    hourly = torch.rand(5, 4, 3) - 0.5
    torch.testing.assert_close(
        loaded.predict(hourly, None, None), model.predict(hourly, None, None), rtol=0, atol=0
    )
    assert (loaded.config, loaded.scaler, loaded.target) == (CONFIG, model.scaler, "NEE")
    assert loaded.sites == ("DE-Tha",)
    assert loaded.fingerprint() == model.fingerprint()
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [SETTINGS, WEIGHTS]


def test_predictions_are_in_units_of_the_target(model):
    hourly = torch.rand(5, 4, 3) - 0.5
    expected = model.network.eval()(hourly)[:, -1].detach() * 6.0 - 1.5
    torch.testing.assert_close(model.predict(hourly, None, None), expected)


def test_saving_replaces_a_model_but_nothing_else(model, tmp_path):
    model.save(tmp_path / "model")
    with torch.no_grad():
        model.network.head.bias += 1
    model.save(tmp_path / "model")
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

    with torch.no_grad():
        model.network.head.bias += 1
    monkeypatch.setattr("safetensors.torch.save_file", crash)
    with pytest.raises(OSError, match="disk full"):
        model.save(tmp_path / "model")
    assert CarbonModel.load(tmp_path / "model").fingerprint() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_fingerprint_follows_the_weights(model):
    before = model.fingerprint()
    with torch.no_grad():
        model.network.head.bias += 1e-3
    assert model.fingerprint() != before


@pytest.mark.parametrize("broken", ["absent", "no weights", "not json", "other kind", "other shape"])
def test_broken_folders_are_refused(model, tmp_path, broken):
    path = tmp_path / "model"
    if broken != "absent":
        model.save(path)
    settings = path / SETTINGS
    if broken == "no weights":
        (path / WEIGHTS).unlink()
    elif broken == "not json":
        settings.write_text("{")
    elif broken == "other kind":
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"kind": "oracle"}))
    elif broken == "other shape":
        content = json.loads(settings.read_text())
        content["config"]["width"] = 32
        settings.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="model"):
        CarbonModel.load(path)


def test_bounds_that_are_not_the_vocabulary_s_are_refused(model, tmp_path):
    path = model.save(tmp_path / "model")
    content = json.loads((path / SETTINGS).read_text())
    content["scaler"]["bounds"]["TA"] = [-100, 100]
    (path / SETTINGS).write_text(json.dumps(content))
    with pytest.raises(ModelError, match="TA"):
        CarbonModel.load(path)


def test_a_target_that_does_not_vary_is_refused():
    with pytest.raises(ModelError, match="standard deviation"):
        Scaler(0.0, 0.0, 1, {})
