"""Comparisons with a name: which models, and the question that they answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xcarbon.experiments.config import KINDS, Model


@dataclass(frozen=True)
class Protocol:
    """A comparison with a name; like the paper it is run with ten seeds on the paper's split.

    Attributes
    ----------
    question : str
        What it asks.
    models : callable
        Gives its models; the first is the one that the others are compared with.
    evaluate : tuple of str
        Further scores, as in :class:`~xcarbon.experiments.config.Experiment`.
    """

    question: str
    models: Callable[[], tuple[Model, ...]]
    evaluate: tuple[str, ...] = ()


def _both() -> tuple[Model, ...]:
    return Model("xgboost"), Model("ecoperceiver")


def _networks(**labelled: dict[str, Any]) -> Callable[[], tuple[Model, ...]]:
    """Give EcoPerceivers with other networks, by their label."""
    return _variants(**{label: {"network": network} for label, network in labelled.items()})


def _variants(**labelled: dict[str, Any]) -> Callable[[], tuple[Model, ...]]:
    """Give EcoPerceivers with other settings, by their label."""
    return lambda: tuple(
        Model("ecoperceiver", label, settings=settings) for label, settings in labelled.items()
    )


def _single_class() -> tuple[Model, ...]:
    return Model("ecoperceiver", "all classes"), Model("ecoperceiver", "own class", by_class=True)


def _learning_curve() -> tuple[Model, ...]:
    shares = {"all towers": 1.0, "1/2": 0.5, "1/4": 0.25, "1/8": 0.125}
    return tuple(
        Model(kind, f"{KINDS[kind].name}, {label}", share=share)
        for label, share in shares.items()
        for kind in ("xgboost", "ecoperceiver")
    )


#: All protocols by name. In those that vary a setting the paper's value comes first.
PROTOCOLS: dict[str, Protocol] = {
    "table2": Protocol("Is EcoPerceiver better than XGBoost at towers that neither has seen?", _both),
    "context-length": Protocol(
        "How many hours does a prediction need to see?",
        _networks(**{f"{hours} hours": {"context": hours} for hours in (32, 8, 16, 64)}),
    ),
    "fourier": Protocol(
        "How many octaves K of Fourier features do the observations need?",
        _networks(**{f"K = {octaves}": {"octaves": octaves} for octaves in (12, 0, 4, 8, 24)}),
    ),
    "causal": Protocol(
        "Does it matter that an hour sees no later one?",
        # Hours before the last one would be learnt with their future in view, and are never predicted so.
        _variants(
            **{
                label: {"loss": "last", "network": {"causal": causal}}
                for label, causal in {"causal": True, "not causal": False}.items()
            }
        ),
    ),
    "dropout": Protocol(
        "Does it help to hide observations in training?",
        _networks(**{"dropout 0.3": {"dropout": 0.3}, "no dropout": {"dropout": 0.0}}),
    ),
    "learning-curve": Protocol("What do more towers to learn from add?", _learning_curve),
    "single-class": Protocol("Does a class of ecosystems gain from the towers of the others?", _single_class),
    "max-qc": Protocol(
        "How well filled must a value be to be learnt from?",
        _variants(**{f"quality up to {max_qc}": {"max_qc": max_qc} for max_qc in (1, 0, 2)}),
    ),
    "modalities": Protocol(
        "What do satellite patches add to the weather?",
        _variants(**{"with patches": {}, "without patches": {"bands": ()}}),
    ),
    "extremes": Protocol("Which model is better in extreme conditions?", _both, ("extremes",)),
    "time-scales": Protocol("Which model is better from hours to years?", _both, ("time-scales",)),
}
