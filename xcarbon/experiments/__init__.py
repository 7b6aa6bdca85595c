"""Comparisons of models with a report.

:func:`run` trains, predicts, scores and reports; it skips what has been done before. An experiment is
described in a TOML file (:func:`read_experiment`) or in Python (:class:`Experiment`, :class:`Model`). This
folder may import ``plotting``, ``reports``, ``prediction`` and the folders below it.
"""

from xcarbon.experiments.comparison import run
from xcarbon.experiments.config import Experiment, Model
from xcarbon.experiments.files import read_experiment, write_protocol
from xcarbon.experiments.protocols import PROTOCOLS

__all__ = ["PROTOCOLS", "Experiment", "Model", "read_experiment", "run", "write_protocol"]
