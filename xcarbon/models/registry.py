"""The kinds of models: how each kind is called, configured, trained and loaded."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xcarbon.core.errors import ModelError


@dataclass(frozen=True)
class ModelKind:
    """One kind of model.

    Functions and classes may be given as ``"module:name"``; they are imported when they are first used,
    because torch and xgboost take long to import.

    Attributes
    ----------
    name : str
        Name for people, as in reports.
    trainer : callable or str, optional
        Function ``trainer(task, **settings)`` that trains a :class:`~xcarbon.models.bundle.CarbonModel` for a
        :class:`~xcarbon.training.task.Task`. None if the kind cannot be trained with ``Dataset.carbon.fit``.
    predictor : type or str, optional
        Class with the methods of :class:`~xcarbon.models.bundle.Predictor`, which reads and writes the
        weights. None for a way of training whose models are of other kinds.
    training : type or str, optional
        Dataclass of the settings of the trainer. None if there are no settings.
    network : type or str, optional
        Dataclass of the settings that the trainer accepts as a dictionary named ``network``. None if the
        trainer has no such argument.
    """

    name: str
    trainer: Callable[..., Any] | str | None = None
    predictor: type[Any] | str | None = None
    training: type[Any] | str | None = None
    network: type[Any] | str | None = None


#: All kinds of models by the name that ``Dataset.carbon.fit`` and saved models use.
KINDS: dict[str, ModelKind] = {
    "ecoperceiver": ModelKind(
        "EcoPerceiver",
        trainer="xcarbon.training.ecoperceiver:fit",
        predictor="xcarbon.models.networks:EcoPerceiverPredictor",
        training="xcarbon.training.schedule:TrainingConfig",
        network="xcarbon.models.ecoperceiver:EcoPerceiverConfig",
    ),
    "streaming": ModelKind(
        "streaming EcoPerceiver",
        trainer="xcarbon.training.streaming:fit",
        predictor="xcarbon.models.networks:StreamingPredictor",
        training="xcarbon.training.streaming:StreamingTraining",
        network="xcarbon.models.streaming:StreamingConfig",
    ),
    "hourly": ModelKind(
        "hourly network",
        trainer="xcarbon.training.hourly:fit",
        predictor="xcarbon.models.networks:HourlyPredictor",
        training="xcarbon.training.hourly:HourlyTraining",
        network="xcarbon.models.hourly:HourlyConfig",
    ),
    "ensemble": ModelKind("ensemble", predictor="xcarbon.models.ensemble:EnsemblePredictor"),
    "xgboost": ModelKind(
        "XGBoost",
        trainer="xcarbon.training.boosting:fit",
        predictor="xcarbon.models.boosting:BoostedTrees",
        training="xcarbon.training.boosting_config:BoostingConfig",
    ),
    "pretrained": ModelKind(
        "fine-tuned model",
        trainer="xcarbon.training.finetuning:fit",
        training="xcarbon.training.finetuning:FineTuning",
    ),
}
_BUILT_IN = frozenset(KINDS)


def register(kind: str, entry: ModelKind) -> None:
    """Add a kind of model, which ``fit``, ``load``, experiments and the command line then accept.

    Parameters
    ----------
    kind : str
        Name of the kind for programs. A kind that was registered under this name before is replaced.
    entry : ModelKind
        Its name for people, trainer, predictor and settings.

    Raises
    ------
    ModelError
        If the package itself has a kind of this name.

    Notes
    -----
    The registry belongs to the process: a program that loads models of the kind has to register it, too.

    Examples
    --------
    >>> register("forest", ModelKind("random forest", trainer="my_package.forest:fit"))
    >>> "forest" in trainable()
    True
    >>> del KINDS["forest"]
    """
    if kind in _BUILT_IN:
        raise ModelError(f"xcarbon has a kind of model {kind!r} already: register yours under another name")
    KINDS[kind] = entry


def trainable() -> list[str]:
    """Return the kinds that ``Dataset.carbon.fit`` accepts.

    Returns
    -------
    list of str
        Keys of :data:`KINDS`, with the registered ones.

    Examples
    --------
    >>> trainable()
    ['ecoperceiver', 'streaming', 'hourly', 'xgboost', 'pretrained']
    """
    return [kind for kind, entry in KINDS.items() if entry.trainer is not None]


def resolve(reference: Any) -> Any:
    """Import what a ``"module:name"`` refers to; return anything else unchanged."""
    return pkgutil.resolve_name(reference) if isinstance(reference, str) else reference
