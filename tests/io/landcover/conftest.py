"""A map of land cover."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 17, (18, 36)).astype("uint8")
