"""Boosted trees: the baseline of arXiv 2406.04940, appendix B.3.

Trees predict an hour from its V scaled predictors and from one mean for each of the C bands of a patch.
Letters in shapes are those of :mod:`xcarbon.models.ecoperceiver`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xgboost
from numpy.typing import NDArray

from xcarbon.core.errors import ModelError
from xcarbon.core.validation import check_range
from xcarbon.models.inputs import ModelInputs

#: Value of fill pixels.
FILL = -1.0


@dataclass(frozen=True)
class BoostedTreesConfig:
    """Inputs of boosted trees.

    Attributes
    ----------
    variables : tuple of str
        Hourly inputs, in the order of the last axis of ``hourly``.
    bands : tuple of str
        Bands of a patch; empty for a model without patches.
    context : int
        Length [h] of the window, which ends with the predicted hour, in which the latest patch is used.

    Raises
    ------
    ModelError
        If the window has no hours.
    """

    variables: tuple[str, ...]
    bands: tuple[str, ...] = ()
    context: int = 32

    #: Trees use no static site features.
    statics: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_range(self, "context", ge=1)

    @property
    def min_context(self) -> int:
        """A full window, so that trees and EcoPerceiver predict the same hours."""
        return self.context

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the V + C features."""
        return (*self.variables, *self.bands)


class BoostedTrees:
    """Boosted trees with the interface of :class:`~xcarbon.models.bundle.Predictor`.

    Parameters
    ----------
    config : BoostedTreesConfig
        Inputs of the trees.
    booster : xgboost.Booster
        The trees, which predict the target in its units.

    Raises
    ------
    ModelError
        If the number of features differs between ``config`` and ``booster``.
    """

    kind: ClassVar[str] = "xgboost"
    name: ClassVar[str] = "XGBoost"
    file: ClassVar[str] = "model.ubj"

    def __init__(self, config: BoostedTreesConfig, booster: xgboost.Booster) -> None:
        if booster.num_features() != len(config.features):
            found = booster.num_features()
            raise ModelError(f"the trees read {found} features, but the settings list {config.features}")
        self.config, self.booster = config, booster

    @property
    def has_spread(self) -> bool:
        """False: trees do not predict the standard deviation of their error."""
        return False

    def predict_series(
        self, inputs: ModelInputs[NDArray[Any]], wanted: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Predict hour by hour; see :meth:`xcarbon.models.bundle.CarbonModel.predict_series`."""
        output = np.full((1, len(wanted)), np.nan, np.float32)
        features = hour_features(self.config, inputs.hourly, inputs.patches, inputs.patch_index)
        output[0, wanted] = self.booster.inplace_predict(features[wanted])
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


def hour_features(
    config: BoostedTreesConfig,
    hourly: NDArray[np.float32],
    patches: NDArray[np.float32] | None = None,
    patch_index: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """Build the features of each hour from its variables and the latest patch of its window.

    Parameters
    ----------
    config : BoostedTreesConfig
        Inputs of the trees.
    hourly : numpy.ndarray
        Scaled variables [1], shape ``(hours + T - 1, V)``; NaN where missing.
    patches : numpy.ndarray, optional
        Satellite patches, shape ``(P, C, y, x)``; -1 where fill.
    patch_index : numpy.ndarray, optional
        Number of the patch of each hour, shape ``(hours + T - 1,)``; -1 for none.

    Returns
    -------
    numpy.ndarray
        Shape ``(hours, V + C)``, float32; NaN where missing. The variables of the hour come first, then the
        :func:`patch_means` of the latest patch within the last T hours.

    Examples
    --------
    >>> config = BoostedTreesConfig(("TA",), ("B1",), context=2)
    >>> hourly = np.arange(4, dtype=np.float32)[:, np.newaxis]
    >>> patches = np.full((1, 1, 8, 8), 0.3, np.float32)
    >>> hour_features(config, hourly, patches, np.array([-1, 0, -1, -1])).tolist()
    [[1.0, 0.3], [2.0, 0.3], [3.0, nan]]
    """
    before = config.context - 1
    features = np.full((len(hourly) - before, len(config.features)), np.nan, np.float32)
    features[:, : len(config.variables)] = hourly[before:]
    if config.bands and patches is not None and patch_index is not None:
        hours = np.arange(len(hourly))
        last = np.maximum.accumulate(np.where(patch_index >= 0, hours, -config.context))
        seen = (hours - last)[before:] < config.context
        features[seen, len(config.variables) :] = patch_means(patches)[patch_index[last[before:][seen]]]
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
