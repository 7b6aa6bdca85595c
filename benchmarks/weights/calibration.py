"""Calibration of the spread by class and state, fitted at towers that were left out of the training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xcarbon.models.calibration import LIMIT, SpreadCalibration
from xcarbon.prediction.calibration import LIMITS

#: Exponent of the spread, and weight of the spread that is typical of the class and the state. They were
#: chosen by the folds: a larger weight raises the share of towers with a coverage between 80 and 97 %, at
#: the cost of wider intervals.
EXPONENT, TYPICAL = 0.6, 0.4
#: Share of the hours for the regression, as a step, and the ridge penalty [share of the hours].
STEP, PENALTY = 20, 1e-3
Array = NDArray[np.float64]


def fit(
    spreads: Sequence[Array], classes: Sequence[str], states: Sequence[Array], features: Sequence[str]
) -> SpreadCalibration:
    """Fit a calibration, with the factor 1, to the spreads of towers.

    The typical spread of a place is the exponential of a linear regression of the logarithm of the spread
    ``(n,)`` on the class and the standardised state ``(n, M)``. All towers have the same weight.
    """
    names = sorted(set(classes))
    state = np.concatenate([each[::STEP] for each in states]).astype(float)
    mean, std = np.nanmean(state, 0), np.nanstd(state, 0)
    z = np.nan_to_num(np.clip((state - mean) / std, -LIMIT, LIMIT))
    counts = [len(each[::STEP]) for each in states]
    igbp = np.repeat(np.array(classes)[:, np.newaxis] == names, counts, axis=0)
    design = np.concatenate([z, igbp], axis=1)
    logarithm = np.log(np.concatenate([each[::STEP] for each in spreads]))
    known = np.isfinite(logarithm)
    weight = np.repeat([1 / count for count in counts], counts)
    design, logarithm, weight = design[known], logarithm[known], weight[known] / weight[known].mean()
    gram = (design * weight[:, np.newaxis]).T @ design
    gram += PENALTY * len(design) * np.eye(design.shape[1])
    found = TYPICAL * np.linalg.solve(gram, (design * weight[:, np.newaxis]).T @ logarithm)
    of_class = found[len(features) :] - found[len(features) :].mean()  # 0 for an unknown class
    return SpreadCalibration(
        exponent=EXPONENT,
        igbp=dict(zip(names, of_class.tolist(), strict=True)),
        state={
            name: (float(m), float(s), float(w))
            for name, m, s, w in zip(features, mean, std, found, strict=False)
        },
    )


def factor(errors: Sequence[Array]) -> float:
    """Factor with which the 90 % interval contains 90 % of all hours: from errors divided by the spread."""
    return float(np.quantile(np.concatenate(errors), 0.9) / LIMITS[1])
