"""Scores of predictions by condition, time scale and tower, and published benchmarks."""

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
