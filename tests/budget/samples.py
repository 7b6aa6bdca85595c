"""A fast model with a spread, and fluxes with gaps."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xcarbon.models.boosting import BoostedTreesConfig
from xcarbon.models.bundle import CarbonModel, Scaler
from xcarbon.models.inputs import ModelInputs
from xcarbon.testing import synthetic_towers

#: Spread of the model in the dark and in the light.
DARK, LIGHT = 0.5, 2.0


class Light:
    """Predict uptake proportional to radiation; NaN without radiation."""

    kind, name, file = "light", "light response", "light"
    has_spread = True

    def __init__(self) -> None:
        self.config = BoostedTreesConfig(("SW_IN",), context=1)

    def predict_series(self, inputs: ModelInputs, wanted: np.ndarray) -> np.ndarray:
        light = inputs.hourly[:, 0] * 2000 + 1000  # W m-2
        series = np.stack([3 - 0.02 * light, np.where(light > 0, LIGHT, DARK)])
        return np.where(wanted & np.isfinite(light), series, np.nan).astype("float32")

    def to_bytes(self) -> bytes:
        return b""


def light_model() -> CarbonModel:
    return CarbonModel(Light(), Scaler({"NEE": (0.0, 1.0)}, 1, {"SW_IN": (0.0, 2000.0)}))


def towers(n_sites: int = 2, **settings: Any) -> xr.Dataset:
    """Return synthetic towers with the predictors of gap filling."""
    return synthetic_towers(n_sites, patches=False, variables=["TA", "VPD", "SW_IN", "NEE"], **settings)
