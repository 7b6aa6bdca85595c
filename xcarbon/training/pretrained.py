"""Fine-tune a trained streaming EcoPerceiver on more towers, as a user's own one."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

from xcarbon.errors import ModelError
from xcarbon.models import pretrained
from xcarbon.models.bundle import CarbonModel
from xcarbon.models.ensemble import EnsemblePredictor, ensemble
from xcarbon.models.networks import StreamingPredictor
from xcarbon.training.checkpoints import RunFolder
from xcarbon.training.streaming import FIXED, StreamingTraining, train
from xcarbon.training.task import Task, configure


@dataclass(frozen=True)
class FineTuning(StreamingTraining):
    """How to fine-tune: as :class:`~xcarbon.training.streaming.StreamingTraining`, but for these.

    Attributes
    ----------
    max_steps, batch_size, learning_rate, averaging, warmup_epochs
        Fewer and smaller steps: some minutes for a tower on two cores.
    """

    max_epochs: int = 100
    max_steps: int | None = 150
    batch_size: int = 8
    learning_rate: float = 5e-4
    warmup_epochs: float = 5.0
    averaging: float = 0.95


def fit(
    task: Task, *, start: CarbonModel | str | os.PathLike[str] | None = None, **settings: Any
) -> CarbonModel:
    """Go on with the training of a model; see :func:`xcarbon.training.fit`.

    Parameters
    ----------
    task : Task
        What to learn. Variables and bands are those of the model, and its quality tolerance is replaced.
    start : CarbonModel, path-like or str, optional
        A streaming EcoPerceiver or an ensemble, the folder of one, or a name that ``xcarbon models`` lists;
        by default the one for this target.
    **settings
        Those of :class:`FineTuning`.

    Returns
    -------
    CarbonModel
        Of the kind of ``start``; each member of an ensemble is fine-tuned by itself. Its provenance names
        the towers of both trainings.

    Raises
    ------
    ModelError
        If the model is of another kind or predicts other targets, or as for a streaming EcoPerceiver.
    """
    training = configure(FineTuning, settings, also=["start"], seed=task.seed, **FIXED)
    model = pretrained.default(task.targets[0]) if start is None else pretrained.load(start)
    members = _members(model)
    if model.targets != task.targets:
        raise ModelError(f"the model predicts {list(model.targets)}, and is not one of {list(task.targets)}")
    task = dataclasses.replace(task, variables=model.config.variables, bands=model.config.bands)
    scaler = dataclasses.replace(model.scaler, max_qc=task.max_qc)
    tuned = []
    for number, member in enumerate(members):
        seed = training.seed + number
        folder = RunFolder(task.run_dir / f"member-{number}")
        share = dataclasses.replace(task, run_dir=folder.path, resume=task.resume and folder.exists)
        tuned.append(
            train(
                share,
                member.config,  # type: ignore[arg-type]
                dataclasses.replace(training, seed=seed),
                dataclasses.replace(member, scaler=scaler),
            )
        )
    result = ensemble(tuned) if len(tuned) > 1 else tuned[0]
    result.provenance["name"] = f"{model.provenance.get('name', 'a model')}, fine-tuned"
    result.save(RunFolder(task.run_dir).model)
    return result


def _members(model: CarbonModel) -> list[CarbonModel]:
    """The networks of an ensemble, each as a model."""
    if isinstance(model.predictor, EnsemblePredictor):
        networks: Any = model.predictor.network.members
    elif isinstance(model.predictor, StreamingPredictor):
        networks = [model.predictor.network]
    else:
        raise ModelError(f"only a streaming EcoPerceiver can be fine-tuned, found a {model.predictor.name}")
    return [dataclasses.replace(model, predictor=StreamingPredictor(network)) for network in networks]
