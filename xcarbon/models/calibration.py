"""Calibration of a predicted standard deviation by the class and the state of the ecosystem."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xcarbon.core.variables import IGBP_CLASSES
from xcarbon.models.inputs import ModelInputs

#: Largest distance of a state feature from its mean that is used [standard deviations].
LIMIT = 3


@dataclass(frozen=True)
class SpreadCalibration:
    r"""Calibration of the standard deviation of the error of one target.

    Attributes
    ----------
    factor : float
        Factor c.
    exponent : float
        Exponent p. With a value below 1, the calibrated deviation differs less between the hours of a place.
    igbp : dict of str to float
        Term :math:`w_k` of each class; 0 for absent and unknown classes.
    state : dict of str to (float, float, float)
        For each state feature j its mean and standard deviation over the training hours, in its units, and
        the weight :math:`w_j`.

    Notes
    -----
    A network's standard deviation s, in the units of the target, becomes

    .. math:: \sigma = c\, s^p \exp\Big(w_k + \sum_j w_j z_j\Big)

    where :math:`z_j` is the standardised state feature, clipped to [-3, 3]; it is 0 where the feature is
    missing.

    Examples
    --------
    >>> SpreadCalibration(factor=2.0, exponent=0.5).apply(np.array([4.0]), None, None)
    array([4.])
    """

    factor: float = 1.0
    exponent: float = 1.0
    igbp: dict[str, float] = field(default_factory=dict)
    state: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> SpreadCalibration:
        """Create the calibration from the dictionary of ``dataclasses.asdict``, also after JSON."""
        state = {name: (mean, std, weight) for name, (mean, std, weight) in settings["state"].items()}
        return cls(**(settings | {"state": state}))

    def apply(self, spread: NDArray[Any], config: Any, inputs: Any) -> NDArray[Any]:
        """Calibrate the standard deviations ``(hours,)`` of the last hours of the inputs of a model."""
        calibrated = np.float32(self.factor) * spread ** np.float32(self.exponent)
        if self.igbp or self.state:
            calibrated = calibrated * np.exp(self.log_factor(config, inputs, len(spread)))
        return np.asarray(calibrated, spread.dtype)

    def log_factor(self, config: Any, inputs: ModelInputs[NDArray[Any]], hours: int) -> NDArray[np.float32]:
        """Return the part of the exponent from the class and the state in the last hours: ``(hours,)``."""
        total = np.zeros(hours, np.float32)
        if "igbp" in config.statics and inputs.statics is not None:
            position = inputs.statics[config.statics.index("igbp")]
            if np.isfinite(position):
                total += np.float32(self.igbp.get(list(IGBP_CLASSES)[int(position)], 0))
        if inputs.state is not None:
            for name in [name for name in config.state if name in self.state]:
                mean, std, weight = self.state[name]
                values = inputs.state[-hours:, config.state.index(name)]
                distance = np.clip((values - np.float32(mean)) / np.float32(std), -LIMIT, LIMIT)
                total += np.float32(weight) * np.nan_to_num(distance)
        return total
