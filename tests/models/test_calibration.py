"""Calibration of the spread by the class and the state."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from xcarbon.core.variables import IGBP_CLASSES
from xcarbon.models.calibration import SpreadCalibration
from xcarbon.models.inputs import ModelInputs

CONFIG = SimpleNamespace(statics=("lat", "igbp"), state=("TA_30D", "FAPAR", "LAI"))
CALIBRATION = SpreadCalibration(1.5, 0.5, {"ENF": 0.2, "GRA": -0.1}, {"FAPAR": (0.5, 0.1, 0.3)})


def inputs(igbp, fapar):
    state = np.full((len(fapar), 3), np.nan, np.float32)
    state[:, 1] = fapar
    position = np.nan if igbp is None else list(IGBP_CLASSES).index(igbp)
    return ModelInputs(np.zeros((len(fapar), 1)), statics=np.array([50.0, position]), state=state)


def test_the_class_and_the_state_change_the_spread():
    spread = np.array([1, 4], "float32")
    found = CALIBRATION.apply(spread, CONFIG, inputs("ENF", [0.5, 0.6]))
    np.testing.assert_allclose(found, [1.5 * np.exp(0.2), 3 * np.exp(0.5)], rtol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize("igbp", [None, "URB"])
def test_unknown_classes_and_missing_features_have_no_effect(igbp):
    found = CALIBRATION.apply(np.array([4.0]), CONFIG, inputs(igbp, [np.nan]))
    np.testing.assert_allclose(found, [3.0], rtol=1e-6)


def test_extreme_states_are_limited():
    far, limit = inputs("GRA", [1e6, -1e6]), inputs("GRA", [0.8, 0.2])
    spread = np.ones(2)
    np.testing.assert_allclose(
        CALIBRATION.apply(spread, CONFIG, far), CALIBRATION.apply(spread, CONFIG, limit), rtol=1e-5
    )


def test_only_the_last_hours_are_used():
    longer = inputs("GRA", [0.9, 0.9, 0.6])
    found = CALIBRATION.log_factor(CONFIG, longer, 1)
    np.testing.assert_allclose(found, [0.2], rtol=1e-5)


def test_a_model_that_reads_neither_class_nor_state_keeps_factor_and_exponent():
    none = SimpleNamespace(statics=(), state=())
    found = CALIBRATION.apply(np.array([4.0]), none, ModelInputs(np.zeros((1, 1))))
    np.testing.assert_allclose(found, [3.0])


def test_it_is_the_same_after_json():
    settings = json.loads(json.dumps(dataclasses.asdict(CALIBRATION)))
    assert SpreadCalibration.from_dict(settings) == CALIBRATION
