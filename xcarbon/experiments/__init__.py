"""Comparisons of models that end in a report.

:func:`run` does what is missing of an experiment: it trains, predicts, scores and reports. What to compare is
written in a TOML file (:func:`read_experiment`) or in Python (:class:`Experiment`, :class:`Model`).
"""

from xcarbon.experiments.comparison import run
from xcarbon.experiments.config import Experiment, Model
from xcarbon.experiments.files import read_experiment, write_protocol
from xcarbon.experiments.protocols import PROTOCOLS

__all__ = ["PROTOCOLS", "Experiment", "Model", "read_experiment", "run", "write_protocol"]
