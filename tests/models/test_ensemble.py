"""An ensemble predicts the moments of the mixture of its members, and is used like one model."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.models.test_bundle import SCALER, VARIABLES, series
from xcarbon.core.errors import ModelError
from xcarbon.core.variables import STATICS
from xcarbon.models.bundle import CarbonModel
from xcarbon.models.ensemble import ensemble
from xcarbon.models.ensemble import members as take_apart
from xcarbon.models.networks import StreamingPredictor
from xcarbon.models.streaming import StreamingConfig, StreamingEcoPerceiver


def member(seed: int, **settings) -> CarbonModel:
    torch.manual_seed(seed)
    tiny = {"bands": (), "width": 16, "heads": 2, "cross_blocks": 1, "layers": 1, "window": 4}
    network = StreamingEcoPerceiver(StreamingConfig(VARIABLES, **tiny | settings))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    provenance = {"sites": ["DE-Tha"], "data": {}, "training": {"seed": seed}, "curve": []}
    return CarbonModel(StreamingPredictor(network.eval()), SCALER, provenance)


@pytest.fixture(scope="module")
def members() -> list[CarbonModel]:
    return [member(seed) for seed in range(3)]


def test_mean_and_spread_are_those_of_the_mixture(members):
    found = ensemble(members).predict_series(*series())
    means, spreads = np.stack([model.predict_series(*series()) for model in members], axis=1)
    np.testing.assert_allclose(found[0], means.mean(0), rtol=1e-5)
    factor = SCALER.spread  # it multiplies the whole, the members' differences included
    np.testing.assert_allclose(
        found[1] / factor, np.sqrt(((spreads / factor) ** 2).mean(0) + means.var(0)), rtol=1e-4
    )


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


@pytest.mark.parametrize("spread", [True, False])
def test_members_without_statics_predict_unknown_places(tmp_path, spread):
    with_statics, without_statics = (
        [member(seed, statics=statics, spread=spread) for seed in range(2)]
        for statics in (tuple(STATICS), ())
    )
    mixed = CarbonModel.load(ensemble([*with_statics, *without_statics]).save(tmp_path / "model"))
    assert mixed.config.statics == tuple(STATICS)
    assert mixed.fingerprint() == ensemble([*with_statics, *without_statics]).fingerprint()
    unknown = np.full(len(STATICS), np.nan, np.float32)
    place = np.where(np.arange(len(STATICS)) == 1, np.float32(50), unknown)  # a latitude is enough
    wanted = ensemble(without_statics).predict_series(*series())
    np.testing.assert_allclose(mixed.predict_series(*series(unknown)), wanted, rtol=1e-5)
    np.testing.assert_allclose(mixed.predict_series(*series()), wanted, rtol=1e-5)
    found = mixed.predict_series(*series(place))
    means = [model.predict_series(*series(place))[0] for model in with_statics]
    means += [model.predict_series(*series())[0] for model in without_statics]
    np.testing.assert_allclose(found[0], np.mean(means, axis=0), rtol=1e-5)
    assert not np.allclose(found[0], wanted[0])
    with torch.no_grad():  # members without a share are not computed either
        for network in mixed.network.members[:2]:
            network.head.bias.fill_(torch.nan)
    np.testing.assert_allclose(mixed.predict_series(*series()), wanted, rtol=1e-5)


def test_models_that_do_not_go_together_are_refused(members):
    with pytest.raises(ModelError, match="found no model"):
        ensemble([])
    with pytest.raises(ModelError, match=r"static site features .* or none"):
        ensemble([members[0], member(1, statics=("igbp",))])
    with pytest.raises(ModelError, match="same config"):
        ensemble([members[0], member(1, width=32)])
    scaled = dataclasses.replace(members[1], scaler=dataclasses.replace(SCALER, spread=2.0))
    with pytest.raises(ModelError, match="same scaler"):
        ensemble([members[0], scaled])
