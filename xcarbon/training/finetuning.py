"""Fine-tune a trained streaming EcoPerceiver on other towers, such as a user's own tower."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any, cast

from xcarbon.core.errors import ModelError
from xcarbon.core.variables import SPREAD
from xcarbon.models import pretrained
from xcarbon.models.bundle import CarbonModel
from xcarbon.models.ensemble import EnsemblePredictor, members
from xcarbon.models.networks import StreamingPredictor
from xcarbon.models.streaming import StreamingConfig, StreamingEcoPerceiver
from xcarbon.training.checkpoints import RunFolder
from xcarbon.training.streaming import StreamingTraining, train
from xcarbon.training.task import Task, configure


@dataclass(frozen=True)
class FineTuning(StreamingTraining):
    """Settings of fine-tuning: :class:`~xcarbon.training.streaming.StreamingTraining` with other defaults.

    Attributes
    ----------
    max_steps, batch_size, length, learning_rate, averaging, max_epochs, warmup_epochs
        Fewer and smaller steps than in the first training: a tower takes some minutes on two cores.
    dropout, variable_dropout, static_dropout, group_dropout : float
        As in :class:`~xcarbon.models.streaming.StreamingConfig`. Less is masked than in the first training,
        because the variables and the site features of the user's towers do not change.
    """

    max_epochs: int = 100
    max_steps: int | None = 300
    batch_size: int = 8
    length: int = 512
    learning_rate: float = 1e-3
    warmup_epochs: float = 5.0
    averaging: float = 0.95
    dropout: float = 0.05
    variable_dropout: float = 0.0
    static_dropout: float = 0.0
    group_dropout: float = 0.0


def fit(
    task: Task, *, start: CarbonModel | str | os.PathLike[str] | None = None, **settings: Any
) -> CarbonModel:
    """Continue the training of a model on other towers; see :func:`xcarbon.training.fit`.

    Each network of an ensemble is fine-tuned separately; its trees are left out, since they cannot be
    fine-tuned. The provenance lists the towers of both trainings.
    """
    model = pretrained.default(task.targets[0]) if start is None else pretrained.load(start)
    networks = [member for member in members(model) if member.predictor.kind == StreamingPredictor.kind]
    if not networks:
        raise ModelError(
            f"only a streaming EcoPerceiver can be fine-tuned, but the model is a {model.predictor.name}"
        )
    if not set(task.targets) <= set(model.targets):
        raise ModelError(
            f"the model predicts {list(model.targets)} and cannot be fine-tuned for {list(task.targets)}"
        )
    networks = [_select_targets(network, task.targets) for network in networks]
    if any(network.config != networks[0].config for network in networks):
        raise ModelError(
            "the networks of the ensemble have different settings: fine-tune each of "
            "xcarbon.models.ensemble.members(model) and combine them"
        )
    fixed = {"seed": task.seed, "members": len(networks)}
    training = configure(FineTuning, settings, also=["start"], **fixed)
    names = ("dropout", "variable_dropout", "static_dropout", "group_dropout")
    masked = {name: getattr(training, name) for name in names}
    config = dataclasses.replace(cast(StreamingConfig, networks[0].config), **masked)
    task = dataclasses.replace(task, variables=config.variables, bands=config.bands)
    tuned = train(task, config, training, networks)
    if model.predictor.kind == EnsemblePredictor.kind:  # its calibration includes that of its members
        tuned.scaler = dataclasses.replace(tuned.scaler, spread=tuned.scaler.spread * model.scaler.spread)
    tuned.provenance["name"] = f"{model.provenance.get('name', 'a model')}, fine-tuned"
    tuned.save(RunFolder(task.run_dir).model)
    return tuned


def _select_targets(model: CarbonModel, targets: tuple[str, ...]) -> CarbonModel:
    """Return a streaming EcoPerceiver that predicts some of the targets of ``model``, in this order."""
    if model.targets == targets:
        return model
    config = dataclasses.replace(cast(StreamingConfig, model.config), targets=targets)
    names = [code + ending for ending in ("", SPREAD) for code in targets]
    rows = [model.outputs.index(name) for name in names if name in model.outputs]
    weights = model.network.state_dict()
    weights |= {name: weights[name][rows] for name in ("head.weight", "head.bias")}
    network = StreamingEcoPerceiver(config)
    network.load_state_dict(weights)
    scaler = dataclasses.replace(model.scaler, targets={code: model.scaler.targets[code] for code in targets})
    return dataclasses.replace(model, predictor=StreamingPredictor(network), scaler=scaler)
