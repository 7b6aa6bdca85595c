"""Fine-tune a trained streaming EcoPerceiver on other towers."""

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
    """Settings of fine-tuning.

    The other settings are those of :class:`~xcarbon.training.streaming.StreamingTraining`.

    Attributes
    ----------
    max_steps, batch_size, averaging, max_epochs, warmup_epochs
        As for :class:`~xcarbon.training.streaming.StreamingTraining`. The defaults are a short training,
        some minutes per tower on two cores.
    learning_rate : float
        Highest learning rate of AdamW.
    dropout, variable_dropout, static_dropout : float
        Dropout as for :class:`~xcarbon.models.streaming.StreamingConfig`. By default less is masked
        than in the first training, because the variables and the statics of a tower do not change.
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
    """Continue the training of a model; see :func:`xcarbon.training.fit`.

    Parameters
    ----------
    task : Task
        Towers and target. Variables and bands are replaced by those of the model.
    start : CarbonModel, path-like or str, optional
        A streaming EcoPerceiver or an ensemble of them, the folder of one, or a name that ``xcarbon models``
        lists. By default the model of the package for this target.
    **settings
        Settings of :class:`FineTuning`.

    Returns
    -------
    CarbonModel
        A model of the same kind as ``start``. Each member of an ensemble is fine-tuned separately. The
        provenance lists the towers of both trainings.

    Raises
    ------
    ModelError
        If the model is of another kind or has other targets, or for the reasons given for a streaming
        EcoPerceiver.
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
