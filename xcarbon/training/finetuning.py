"""Fine-tune a trained streaming EcoPerceiver on other towers, such as a user's own tower."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any, cast

from xcarbon.core.errors import ModelError
from xcarbon.models import pretrained
from xcarbon.models.bundle import CarbonModel
from xcarbon.models.ensemble import members
from xcarbon.models.streaming import StreamingConfig
from xcarbon.training.checkpoints import RunFolder
from xcarbon.training.streaming import StreamingTraining, train
from xcarbon.training.task import Task, configure


@dataclass(frozen=True)
class FineTuning(StreamingTraining):
    """Settings of fine-tuning: :class:`~xcarbon.training.streaming.StreamingTraining` with other defaults.

    Attributes
    ----------
    max_steps, batch_size, learning_rate, averaging, max_epochs, warmup_epochs
        Fewer and smaller steps than in the first training: a tower takes some minutes on two cores.
    dropout, variable_dropout, static_dropout : float
        As in :class:`~xcarbon.models.streaming.StreamingConfig`. Less is masked than in the first training,
        because the variables and the site features of the user's towers do not change.
    """

    max_epochs: int = 100
    max_steps: int | None = 300
    batch_size: int = 8
    learning_rate: float = 1e-3
    warmup_epochs: float = 5.0
    averaging: float = 0.95
    dropout: float = 0.05
    variable_dropout: float = 0.0
    static_dropout: float = 0.0


def fit(
    task: Task, *, start: CarbonModel | str | os.PathLike[str] | None = None, **settings: Any
) -> CarbonModel:
    """Continue the training of a model on other towers; see :func:`xcarbon.training.fit`.

    Each member of an ensemble is fine-tuned separately. The provenance lists the towers of both trainings.
    """
    model = pretrained.default(task.targets[0]) if start is None else pretrained.load(start)
    try:
        networks = members(model)
    except ModelError as error:
        raise ModelError(f"only a streaming EcoPerceiver can be fine-tuned: {error}") from error
    if model.targets != task.targets:
        raise ModelError(
            f"the model predicts {list(model.targets)} and cannot be fine-tuned for {list(task.targets)}"
        )
    without_statics = sum(not network.config.statics for network in networks)
    fixed = {"seed": task.seed, "members": len(networks), "without_statics": without_statics}
    training = configure(FineTuning, settings, also=["start"], **fixed)
    masked = {name: getattr(training, name) for name in ("dropout", "variable_dropout", "static_dropout")}
    configs = [dataclasses.replace(cast(StreamingConfig, each.config), **masked) for each in networks]
    task = dataclasses.replace(task, variables=configs[0].variables, bands=configs[0].bands)
    tuned = train(task, configs, training, networks)
    tuned.provenance["name"] = f"{model.provenance.get('name', 'a model')}, fine-tuned"
    tuned.save(RunFolder(task.run_dir).model)
    return tuned
