"""Scores of predictions by class, condition, time scale and tower, baselines, and published benchmarks.

This folder may import ``pipeline``, ``quality``, ``testing`` and the folders below them.
"""

from xcarbon.evaluation.coverage import coverage
from xcarbon.evaluation.hours import conditions, score_conditions
from xcarbon.evaluation.noise import noise_ceiling
from xcarbon.evaluation.quantiles import site_quantiles
from xcarbon.evaluation.rescaled import score_rescaled
from xcarbon.evaluation.scales import score_time_scales

__all__ = [
    "conditions",
    "coverage",
    "noise_ceiling",
    "score_conditions",
    "score_rescaled",
    "score_time_scales",
    "site_quantiles",
]
