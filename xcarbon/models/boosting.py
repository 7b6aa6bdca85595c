"""Boosted trees: the baseline of arXiv 2406.04940, appendix B.3, and trees that read the state.

The paper's trees predict an hour from its V scaled predictors and from one mean for each of the C bands of a
patch. With ``statics`` and ``state`` they also read the class of the site, the season and the M state
features. Letters in shapes are those of :mod:`xcarbon.models.ecoperceiver`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xgboost
from numpy.typing import NDArray

from xcarbon.core.errors import ModelError
from xcarbon.core.validation import check_range
from xcarbon.core.variables import IGBP_CLASSES, memory_code
from xcarbon.models.inputs import ModelInputs

#: Value of fill pixels.
FILL = -1.0


@dataclass(frozen=True)
class BoostedTreesConfig:
    """Inputs and targets of boosted trees.

    Attributes
    ----------
    variables : tuple of str
        Hourly inputs, in the order of the last axis of ``hourly``.
    bands : tuple of str
        Bands of a patch; empty for a model without patches.
    statics : tuple of str
        Static site features: ``igbp``, the class, and ``lat``, which is used only for the season. The
        paper's trees use none.
    state : tuple of str
        State features: causal means of the past (:func:`~xcarbon.core.variables.memory_features`) and
        satellite series. The paper's trees use none.
    targets : tuple of str
        Variables to predict.
    context : int
        Length [h] of the window, which ends with the predicted hour, in which the latest patch is used.

    Raises
    ------
    VariableError
        If a state feature is unknown.
    ModelError
        If the window has no hours, or a static site feature is unknown.
    """

    variables: tuple[str, ...]
    bands: tuple[str, ...] = ()
    statics: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    targets: tuple[str, ...] = ("NEE",)
    context: int = 32

    def __post_init__(self) -> None:
        check_range(self, "context", ge=1)
        if set(self.statics) - {"igbp", "lat"}:
            raise ModelError(f"the statics of trees are igbp and lat, found {self.statics}")
        for feature in self.state:
            memory_code(feature)

    @property
    def min_context(self) -> int:
        """A full window, so that the paper's trees and EcoPerceiver predict the same hours, or one hour."""
        return 1 if self.state else self.context

    @property
    def site_features(self) -> tuple[str, ...]:
        """Names of the features that depend on the statics: a 0 or 1 for each class, and the season."""
        classes = tuple(f"igbp_{name}" for name in IGBP_CLASSES) if "igbp" in self.statics else ()
        return classes + (("season",) if "lat" in self.statics and "DOY" in self.variables else ())

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the F features, V + C for the paper's trees."""
        return (*self.variables, *self.bands, *self.site_features, *self.state)


class BoostedTrees:
    """Boosted trees with the interface of :class:`~xcarbon.models.bundle.Predictor`.

    Parameters
    ----------
    config : BoostedTreesConfig
        Inputs and targets of the trees.
    booster : xgboost.Booster
        The trees, which predict the targets in their units.

    Raises
    ------
    ModelError
        If the number of features differs between ``config`` and ``booster``.
    """

    kind: ClassVar[str] = "xgboost"
    name: ClassVar[str] = "XGBoost"
    file: ClassVar[str] = "model.ubj"
    has_spread: ClassVar[bool] = False  # trees do not predict the standard deviation of their error

    def __init__(self, config: BoostedTreesConfig, booster: xgboost.Booster) -> None:
        if booster.num_features() != len(config.features):
            found = booster.num_features()
            raise ModelError(f"the trees read {found} features, but the settings list {config.features}")
        self.config, self.booster = config, booster

    def predict_series(
        self, inputs: ModelInputs[NDArray[Any]], wanted: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Predict hour by hour; see :meth:`xcarbon.models.bundle.CarbonModel.predict_series`."""
        output = np.full((len(self.config.targets), len(wanted)), np.nan, np.float32)
        features = hour_features(self.config, inputs)[-len(wanted) :]
        predicted = self.booster.inplace_predict(features[wanted])
        output[:, wanted] = predicted.reshape(-1, len(output)).T
        return output

    def to_bytes(self) -> bytes:
        """Return the trees as binary JSON (UBJSON)."""
        return bytes(self.booster.save_raw("ubj"))

    @classmethod
    def from_bytes(cls, config: dict[str, Any], weights: bytes) -> BoostedTrees:
        """Build the predictor from settings and binary JSON."""
        booster = xgboost.Booster()
        booster.load_model(bytearray(weights))
        return cls(BoostedTreesConfig(**config), booster)


def hour_features(config: BoostedTreesConfig, inputs: ModelInputs[NDArray[Any]]) -> NDArray[np.float32]:
    """Build the features of each hour from its inputs and the latest patch of its window.

    Parameters
    ----------
    config : BoostedTreesConfig
        Inputs of the trees.
    inputs : ModelInputs
        Consecutive hours of one tower, with ``hourly`` of the shape ``(hours, V)``.

    Returns
    -------
    numpy.ndarray
        Shape ``(hours, F)``, float32; NaN where missing. The variables of the hour come first, then the
        :func:`patch_means` of the latest patch within the last T hours, the class and the season, and the
        state.

    Notes
    -----
    The season is the day of the year, scaled to [-1, 1), shifted by half a year in the southern hemisphere.

    Examples
    --------
    >>> config = BoostedTreesConfig(("TA",), ("B1",), context=2)
    >>> hourly = np.arange(4, dtype=np.float32)[:, np.newaxis]
    >>> patches = np.full((1, 1, 8, 8), 0.3, np.float32)
    >>> hour_features(config, ModelInputs(hourly, patches, np.array([-1, 0, -1, -1]))).tolist()
    [[0.0, nan], [1.0, 0.3], [2.0, 0.3], [3.0, nan]]
    """
    count, patches, index = len(inputs.hourly), inputs.patches, inputs.patch_index
    features = np.full((count, len(config.features)), np.nan, np.float32)
    ends = np.cumsum([len(config.variables), len(config.bands), len(config.site_features), len(config.state)])
    hourly, bands, site, state = np.split(features, ends[:-1], axis=1)  # views
    hourly[:] = inputs.hourly
    if config.bands and patches is not None and index is not None:
        hours = np.arange(count)
        last = np.maximum.accumulate(np.where(index >= 0, hours, -config.context))
        seen = hours - last < config.context
        bands[seen] = patch_means(patches)[index[last[seen]]]
    if inputs.statics is not None:
        known = dict(zip(config.statics, inputs.statics.tolist(), strict=True))
        if not np.isnan(known.get("igbp", np.nan)):
            site[:, : len(IGBP_CLASSES)] = np.arange(len(IGBP_CLASSES)) == known["igbp"]
        if "season" in config.site_features and not np.isnan(known["lat"]):
            doy = inputs.hourly[:, config.variables.index("DOY")]
            site[:, -1] = doy if known["lat"] >= 0 else (doy + 2) % 2 - 1
    if inputs.state is not None:
        state[:] = inputs.state
    return features


def patch_means(patches: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average the valid pixels of each band with the inverse distance from the patch centre as weight.

    Parameters
    ----------
    patches : numpy.ndarray
        Satellite patches, shape ``(P, C, y, x)``; -1 where fill.

    Returns
    -------
    numpy.ndarray
        Means, shape ``(P, C)``, float32; NaN where no pixel of a band is valid.

    Examples
    --------
    >>> patches = np.full((1, 2, 8, 8), -1.0, np.float32)
    >>> patches[0, 0, 3, 2:4] = [0.1, 0.2]  # distances 1.58 and 0.71 pixels
    >>> patch_means(patches).round(3).tolist()
    [[0.169, nan]]
    """
    y, x = (np.arange(size) - (size - 1) / 2 for size in patches.shape[2:])
    # Patches with an odd number of pixels have one in the very centre: it counts as far as its corners are.
    distance = np.maximum(np.hypot(y[:, np.newaxis], x), 0.5**0.5)
    weight = np.where(patches != FILL, np.float32(1 / distance), np.float32(0))  # (P, C, y, x)
    total = weight.sum((2, 3))
    means = np.full(total.shape, np.nan, np.float32)
    return np.divide((weight * patches).sum((2, 3)), total, out=means, where=total > 0)
