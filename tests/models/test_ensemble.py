"""An ensemble predicts the moments of the mixture of its members, and is used like one model."""

from __future__ import annotations

import dataclasses
import io
import zipfile

import numpy as np
import pytest
import torch

from tests.models.samples import shaken
from tests.models.test_boosting import grow
from tests.models.test_bundle import SCALER, VARIABLES, edit, series
from xcarbon.core.errors import ModelError
from xcarbon.models.boosting import BoostedTrees, BoostedTreesConfig
from xcarbon.models.bundle import CarbonModel, Scaler, scaling_bounds
from xcarbon.models.calibration import SpreadCalibration
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.models.ensemble import ensemble
from xcarbon.models.ensemble import members as take_apart
from xcarbon.models.inputs import ModelInputs
from xcarbon.models.networks import EcoPerceiverPredictor, StreamingPredictor
from xcarbon.models.streaming import StreamingConfig, StreamingEcoPerceiver


def member(seed: int, **settings) -> CarbonModel:
    torch.manual_seed(seed)
    tiny = {"bands": (), "width": 16, "heads": 2, "cross_blocks": 1, "layers": 1, "window": 4}
    network = shaken(StreamingEcoPerceiver(StreamingConfig(VARIABLES, **tiny | settings)))
    provenance = {"sites": ["DE-Tha"], "data": {}, "training": {"seed": seed}, "curve": []}
    return CarbonModel(StreamingPredictor(network), SCALER, provenance)


@pytest.fixture(scope="module")
def members() -> list[CarbonModel]:
    return [member(seed) for seed in range(3)]


def test_mean_and_spread_are_those_of_the_mixture(members):
    found = ensemble(members).predict_series(*series())
    means, spreads = np.stack([model.predict_series(*series()) for model in members], axis=1)
    np.testing.assert_allclose(found[0], means.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found[1], np.sqrt((spreads**2).mean(0) + means.var(0)), rtol=1e-4)


def test_the_scaling_of_the_spread_is_that_of_the_whole(members):
    """The differences of the members included."""
    whole = ensemble(members)
    doubled = dataclasses.replace(
        whole, scaler=dataclasses.replace(whole.scaler, spread={"NEE": SpreadCalibration(2.0)})
    )
    mean, spread = whole.predict_series(*series())
    np.testing.assert_allclose(doubled.predict_series(*series()), [mean, 2 * spread], rtol=1e-6)


def test_one_member_is_itself(members):
    alone = ensemble(members[:1])
    np.testing.assert_allclose(
        alone.predict_series(*series()), members[0].predict_series(*series()), rtol=1e-5
    )


def test_without_spread_it_has_none():
    models = [member(seed, spread=False) for seed in range(2)]
    assert ensemble(models).outputs == ("NEE",)
    assert ensemble(models).predict_series(*series()).shape == (1, 5)


def test_is_saved_and_loaded_as_one_model(members, tmp_path):
    together = ensemble(members)
    loaded = CarbonModel.load(together.save(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.predict_series(*series()), together.predict_series(*series()))
    assert loaded.fingerprint() == together.fingerprint()
    assert [each["seed"] for each in loaded.provenance["members"]] == [0, 1, 2]
    assert "curve" not in loaded.provenance and "training" not in loaded.provenance


def test_ensembles_are_taken_apart_and_put_together(members):
    whole = ensemble(members)
    again = ensemble([ensemble(members[:2]), members[2]])
    assert again.fingerprint() == whole.fingerprint() and again.provenance == whole.provenance
    for part, model in zip(take_apart(whole), members, strict=True):
        assert part.fingerprint() == model.fingerprint()
        assert part.provenance["training"] == model.provenance["training"]


VARIABLES_OF_ALL = ("DOY", "TOD", "TA", "SW_IN", "VPD")
CONTEXT = 6


def mixed() -> list[CarbonModel]:
    """Networks and trees with other variables, statics, bands and states, in other orders."""
    torch.manual_seed(0)
    sizes = {"width": 16, "heads": 2, "cross_blocks": 1, "octaves": 4}
    first = StreamingConfig(
        ("DOY", "TOD", "TA"), ("B1", "snow"), ("igbp", "lat"), ("TA_30D", "LAI"), window=3, layers=2, **sizes
    )
    paper = EcoPerceiverConfig(
        ("VPD", "TA", "SW_IN"), ("snow",), ("LAI", "VPD_7D"), context=CONTEXT, self_layers=1, **sizes
    )
    with_state = BoostedTreesConfig(
        ("TA", "VPD", "DOY"), statics=("lat", "igbp"), state=("VPD_7D", "TA_30D"), context=4
    )
    trees = BoostedTreesConfig(("SW_IN", "TA"), ("snow", "B1"), context=3)
    predictors = [
        StreamingPredictor(shaken(StreamingEcoPerceiver(first))),
        EcoPerceiverPredictor(shaken(EcoPerceiver(paper))),
        BoostedTrees(with_state, grow(len(with_state.features))),
        BoostedTrees(trees, grow(len(trees.features))),
    ]
    provenance = {"sites": ["DE-Tha"], "data": {}}
    models = []
    for number, predictor in enumerate(predictors):
        std = 1.0 if predictor.kind == "xgboost" else 5.0 + number
        bounds = {code: scaling_bounds(code) for code in predictor.config.variables}
        models.append(
            CarbonModel(
                predictor,
                Scaler({"NEE": (-number, std)}, 1, bounds, {"NEE": SpreadCalibration(0.9)}),
                provenance,
            )
        )
    return models


def one_tower(hours: int) -> dict[str, np.ndarray]:
    """Inputs by name, with gaps."""
    rng = np.random.default_rng(4)
    known = {name: rng.random(hours).astype("f4") - 0.5 for name in VARIABLES_OF_ALL}
    known |= {name: 3 * rng.standard_normal(hours).astype("f4") for name in ("TA_30D", "LAI", "VPD_7D")}
    for values in known.values():
        values[rng.random(hours) < 0.2] = np.nan
    known["DOY"][:] = np.linspace(-0.1, 0.1, hours)
    known |= {name: rng.random((2, 8, 8)).astype("f4") for name in ("B1", "snow")}
    return known | {"igbp": np.float32(3), "lat": np.float32(-30)}


def inputs_of(config, known: dict[str, np.ndarray], hours: slice) -> ModelInputs:
    """Select inputs by name, for a model with some settings."""
    count = len(known["TA"])
    index = np.where(np.arange(count) % 10 == 4, np.arange(count) // 10 % 2, -1)[hours]
    state = np.stack([known[name][hours] for name in config.state], 1) if config.state else None
    return ModelInputs(
        np.stack([known[name][hours] for name in config.variables], 1),
        np.stack([known[name] for name in config.bands], 1) if config.bands else None,
        index if config.bands else None,
        np.array([known[name] for name in config.statics]) if config.statics else None,
        state,
    )


@pytest.mark.parametrize("first", [0, 12])
def test_models_of_any_kind_predict_as_each_alone(first, tmp_path):
    """Each reads its own inputs in its own order and context, at the start of a record and later."""
    models = mixed()
    together = ensemble(models)
    config = together.config
    assert config.variables == ("DOY", "TOD", "TA", "VPD", "SW_IN")
    assert config.bands == ("B1", "snow") and config.statics == ("igbp", "lat")
    assert config.state == ("TA_30D", "LAI", "VPD_7D")
    assert (config.context, config.min_context) == (CONTEXT, CONTEXT)
    known, stop = one_tower(40), 36
    wanted = np.random.default_rng(5).random(stop - first) < 0.7
    wanted[: CONTEXT - 1 if first == 0 else 0] = False
    begin = max(0, first - CONTEXT + 1)
    found = together.predict_series(inputs_of(config, known, slice(begin, stop)), wanted)

    means, spreads = [], []
    for model in models:
        own = model.config
        before = min(first, own.context - 1)
        inputs = inputs_of(own, known, slice(first - before, stop))
        skipped = 0
        if first == 0 and own.min_context > 1:  # a full window precedes the first hour that is predicted
            skipped = own.context - 1
        rows = model.predict_series(inputs, wanted[skipped:])
        rows = np.concatenate([np.full((len(rows), skipped), np.nan), rows], axis=1)
        means.append(rows[0])
        spreads += list(rows[1:])
    mean = np.mean(means, axis=0)
    assert len(spreads) == 1  # only the streaming EcoPerceiver predicts its error
    np.testing.assert_allclose(found[0], mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[1], np.sqrt(spreads[0] ** 2 + np.var(means, axis=0)), rtol=1e-4)
    assert np.isfinite(found[:, wanted]).all() and np.isnan(found[:, ~wanted]).all()

    loaded = CarbonModel.load(together.save(tmp_path / "model"))
    again = loaded.predict_series(inputs_of(config, known, slice(begin, stop)), wanted)
    np.testing.assert_array_equal(again, found)
    assert loaded.config == config and loaded.scaler == together.scaler
    assert loaded.fingerprint() == together.fingerprint()
    assert [member.fingerprint() for member in take_apart(loaded)] == [
        model.fingerprint() for model in models
    ]


def test_inputs_that_nobody_has_are_missing():
    """A Dataset without satellite data, and a place that is not known."""
    together = ensemble(mixed())
    known = one_tower(30)
    inputs = inputs_of(together.config, known, slice(None))
    wanted = np.ones(30 - CONTEXT + 1, bool)
    bare = together.predict_series(ModelInputs(inputs.hourly), wanted)
    index, statics = np.full(30, -1), np.full(2, np.nan, np.float32)
    missing = ModelInputs(inputs.hourly, inputs.patches, index, statics, np.full_like(inputs.state, np.nan))
    np.testing.assert_allclose(bare, together.predict_series(missing, wanted), rtol=1e-5)
    assert np.isfinite(bare).all()


def test_models_that_do_not_go_together_are_refused(members):
    with pytest.raises(ModelError, match="found none"):
        ensemble([])
    other = dataclasses.replace(members[1], scaler=dataclasses.replace(SCALER, targets={"LE": (0.0, 1.0)}))
    with pytest.raises(ModelError, match="same targets"):
        ensemble([members[0], other])
    tolerant = dataclasses.replace(members[1], scaler=dataclasses.replace(SCALER, max_qc=2))
    with pytest.raises(ModelError, match="same max_qc"):
        ensemble([members[0], tolerant])
    elsewhere = dataclasses.replace(members[1], provenance={"sites": ["FR-Pue"]})
    with pytest.raises(ModelError, match="same sites"):
        ensemble([members[0], elsewhere])


def test_a_member_of_an_unknown_kind_is_refused(members, tmp_path):
    path = ensemble(members).save(tmp_path / "model")
    edit(path, lambda content: content["config"]["members"][1].update(kind="oracle"))
    with pytest.raises(ModelError, match="unknown kind 'oracle'"):
        CarbonModel.load(path)


@pytest.mark.parametrize("damage", ["cut", "not an archive", "a member is absent", "a member is cut"])
def test_damaged_weights_are_refused(members, tmp_path, damage):
    """Also if the checksum is that of the damaged files."""
    path = ensemble(members).save(tmp_path / "model")
    weights = path / "members.zip"
    content = weights.read_bytes()
    if damage == "cut":
        weights.write_bytes(content[:-200])
    elif damage == "not an archive":
        weights.write_bytes(b"nothing")
    else:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        name = list(parts)[1]
        if damage == "a member is absent":
            del parts[name]
        else:
            parts[name] = parts[name][:-50]
        with zipfile.ZipFile(weights, "w") as archive:
            for name, part in parts.items():
                archive.writestr(name, part)
    with pytest.raises(ModelError, match="damaged"):
        CarbonModel.load(path)
    edit(path, lambda content: None)
    with pytest.raises(ModelError, match="model"):
        CarbonModel.load(path)
