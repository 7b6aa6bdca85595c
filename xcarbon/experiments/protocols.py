"""Named comparisons: the models of each, and the question that it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xcarbon.experiments.config import Model
from xcarbon.models.registry import KINDS


@dataclass(frozen=True)
class Protocol:
    """A named comparison; as in the paper, it is run with ten seeds on the paper's split.

    Attributes
    ----------
    question : str
        Question that the comparison answers.
    models : callable
        Function that returns the models; the others are compared with the first.
    evaluate : tuple of str
        Further scores, as in :class:`~xcarbon.experiments.config.Experiment`.
    """

    question: str
    models: Callable[[], tuple[Model, ...]]
    evaluate: tuple[str, ...] = ()


def _both() -> tuple[Model, ...]:
    """XGBoost and EcoPerceiver."""
    return Model("xgboost"), Model("ecoperceiver")


def _networks(**labelled: dict[str, Any]) -> Callable[[], tuple[Model, ...]]:
    """EcoPerceivers with other networks, by label."""
    return _variants(**{label: {"network": network} for label, network in labelled.items()})


def _variants(**labelled: dict[str, Any]) -> Callable[[], tuple[Model, ...]]:
    """EcoPerceivers with other settings, by label."""
    return lambda: tuple(
        Model("ecoperceiver", label, settings=settings) for label, settings in labelled.items()
    )


def _learning_curve() -> tuple[Model, ...]:
    """XGBoost and EcoPerceiver with decreasing numbers of training towers."""
    shares = {"all towers": 1.0, "1/2": 0.5, "1/4": 0.25, "1/8": 0.125}
    return tuple(
        Model(kind, f"{KINDS[kind].name}, {label}", share=share)
        for label, share in shares.items()
        for kind in ("xgboost", "ecoperceiver")
    )


#: All protocols by name. Where a protocol varies a setting, the paper's value comes first.
PROTOCOLS: dict[str, Protocol] = {
    "table2": Protocol("Is EcoPerceiver better than XGBoost at towers without training data?", _both),
    "context-length": Protocol(
        "How many hours of context does a prediction need?",
        _networks(**{f"{hours} hours": {"context": hours} for hours in (32, 8, 16, 64)}),
    ),
    "fourier": Protocol(
        "How many octaves K of Fourier features do the observations need?",
        _networks(**{f"K = {octaves}": {"octaves": octaves} for octaves in (12, 0, 4, 8, 24)}),
    ),
    "causal": Protocol(
        "Does causal attention, which excludes later hours, change the scores?",
        # Without causal attention, a loss over all hours would train the earlier ones with later hours as
        # inputs, which they do not have in a prediction.
        _variants(
            **{
                label: {"loss": "last", "network": {"causal": causal}}
                for label, causal in {"causal": True, "not causal": False}.items()
            }
        ),
    ),
    "dropout": Protocol(
        "Does masking observations in training improve the scores?",
        _networks(**{"dropout 0.3": {"dropout": 0.3}, "no dropout": {"dropout": 0.0}}),
    ),
    "learning-curve": Protocol("How much do the scores improve with more training towers?", _learning_curve),
    "single-class": Protocol(
        "Does training on all classes improve the scores of each class?",
        lambda: (Model("ecoperceiver", "all classes"), Model("ecoperceiver", "own class", by_class=True)),
    ),
    "max-qc": Protocol(
        "Which quality flags should be used in training?",
        _variants(**{f"quality up to {max_qc}": {"max_qc": max_qc} for max_qc in (1, 0, 2)}),
    ),
    "modalities": Protocol(
        "How much do satellite patches improve the scores?",
        _variants(**{"with patches": {}, "without patches": {"bands": ()}}),
    ),
    "extremes": Protocol("Which model is better in extreme conditions?", _both, ("extremes",)),
    "time-scales": Protocol("Which model is better from hours to years?", _both, ("time-scales",)),
}
