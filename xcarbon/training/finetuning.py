"""Fine-tune a trained network on other towers, such as a user's own tower."""

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
from xcarbon.training.checkpoints import RunFolder
from xcarbon.training.distributed import join_processes
from xcarbon.training.hourly import HourlyRun
from xcarbon.training.streaming import StreamingRun, StreamingTraining, train
from xcarbon.training.task import Task, configure

#: Training runs of the kinds of networks that can be fine-tuned.
RUNS: dict[str, type[StreamingRun]] = {"streaming": StreamingRun, "hourly": HourlyRun}


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
    alone = [member for member in members(model) if member.predictor.kind in RUNS]
    if not alone:
        raise ModelError(
            f"only networks can be fine-tuned ({', '.join(RUNS)}), but the model is a {model.predictor.name}"
        )
    kind = alone[0].predictor.kind
    networks = [member for member in alone if member.predictor.kind == kind]
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
    config = dataclasses.replace(cast(Any, networks[0].config), **masked)
    task = dataclasses.replace(task, variables=config.variables, bands=config.bands)
    fabric = join_processes(training.precision)
    task = dataclasses.replace(task, run_dir=fabric.broadcast(task.run_dir))
    tuned = train(fabric, task, RUNS[kind], config, training, networks)
    if model.predictor.kind == EnsemblePredictor.kind:  # its calibration includes that of its members
        spread = {code: model.scaler.spread[code] for code in task.targets if code in model.scaler.spread}
        tuned.scaler = dataclasses.replace(tuned.scaler, spread=spread)
    tuned.provenance["name"] = f"{model.provenance.get('name', 'a model')}, fine-tuned"
    if fabric.is_global_zero:
        tuned.save(RunFolder(task.run_dir).model)
    return tuned


def _select_targets(model: CarbonModel, targets: tuple[str, ...]) -> CarbonModel:
    """Return a network that predicts some of the targets of ``model``, in this order."""
    if model.targets == targets:
        return model
    config = dataclasses.replace(cast(Any, model.config), targets=targets)
    names = [code + ending for ending in ("", SPREAD) for code in targets]
    rows = [model.outputs.index(name) for name in names if name in model.outputs]
    weights = model.network.state_dict()
    weights |= {name: weights[name][rows] for name in ("head.weight", "head.bias")}
    network = type(model.network)(config)
    network.load_state_dict(weights)
    scaler = dataclasses.replace(model.scaler, targets={code: model.scaler.targets[code] for code in targets})
    return dataclasses.replace(model, predictor=cast(Any, type(model.predictor))(network), scaler=scaler)
