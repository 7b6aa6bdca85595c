"""Ensembles of streaming EcoPerceivers: their mean, and a spread that includes their differences."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from xcarbon.core.errors import ModelError
from xcarbon.models import streaming
from xcarbon.models.bundle import CarbonModel
from xcarbon.models.inputs import ModelInputs
from xcarbon.models.networks import StreamingPredictor
from xcarbon.models.streaming import Prediction, StreamingConfig, StreamingEcoPerceiver


class Ensemble(nn.Module):
    """Networks with the same settings and different weights; some of them may use no static site features.

    Parameters
    ----------
    members : sequence of StreamingEcoPerceiver
        At least one network.

    Attributes
    ----------
    config : StreamingConfig
        Settings of the member with the most static site features.
    """

    def __init__(self, members: Sequence[StreamingEcoPerceiver]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.config = max((member.config for member in members), key=lambda config: len(config.statics))


class EnsemblePredictor(StreamingPredictor[Ensemble]):
    r"""An ensemble with the interface of :class:`~xcarbon.models.bundle.Predictor`.

    Parameters
    ----------
    network : Ensemble
        The networks. A prediction moves them to the device of the option ``device``.

    Notes
    -----
    The members' predictions :math:`\mu_m \pm \sigma_m` are combined as a mixture with equal weights:

    .. math:: \mu = \overline{\mu_m}, \quad
              \sigma^2 = \overline{\sigma_m^2} + \overline{(\mu_m - \mu)^2}

    Where all static site features are unknown, only the members that use none contribute.
    """

    kind: ClassVar[str] = "ensemble"
    name: ClassVar[str] = "ensemble of streaming EcoPerceivers"

    def predict(self, inputs: ModelInputs[Tensor]) -> Prediction:
        """Predict every hour of sequences of any length."""
        weights = self._weights(inputs.statics, len(inputs.hourly))  # (members, B)
        used = weights.any(1)  # members with a weight of zero everywhere are not computed
        found = []
        for member in itertools.compress(self._members, used):
            own = inputs if member.config.statics else inputs.without_statics()
            found.append(streaming.predict_series(member, own))
        means = torch.stack([each.mean for each in found])  # (used members, B, L, targets)
        weights = weights[used].to(means)[..., None, None]  # (used members, B, 1, 1)
        mean = (weights * means).sum(0)  # (B, L, targets)
        if not self.has_spread:
            return Prediction(mean, None)
        scales = torch.stack([each.log_scale for each in found if each.log_scale is not None]).exp()
        variance = (weights * (scales**2 + (means - mean) ** 2)).sum(0)  # (B, L, targets)
        return Prediction(mean, variance.log() / 2)

    @property
    def _members(self) -> list[StreamingEcoPerceiver]:
        members: Any = self.network.members
        return list(members)

    def _weights(self, statics: Tensor | None, batch: int) -> Tensor:
        """Share of each member in the prediction of each sequence, ``(members, B)``."""
        known = torch.zeros(batch, dtype=torch.bool) if statics is None else statics.isfinite().any(1).cpu()
        with_statics = torch.tensor([bool(member.config.statics) for member in self._members])
        contributes = known | ~with_statics[:, None] | with_statics.all()  # (members, B)
        return contributes / contributes.sum(0)

    @classmethod
    def make(cls, config: dict[str, Any], weights: dict[str, Tensor]) -> Ensemble:
        """Create the networks; a member without weights for statics uses no static site features."""
        count = 1 + max((int(name.split(".")[1]) for name in weights), default=0)
        with_statics = {int(name.split(".")[1]) for name in weights if name.split(".")[2] == "statics"}
        members = []
        for number in range(count):
            own = config if number in with_statics else config | {"statics": ()}
            members.append(StreamingEcoPerceiver(StreamingConfig(**own)))
        return Ensemble(members)


def ensemble(models: Sequence[CarbonModel]) -> CarbonModel:
    """Combine several streaming EcoPerceivers into one model that predicts their mean.

    Parameters
    ----------
    models : sequence of CarbonModel
        Streaming EcoPerceivers, or ensembles of them, that were trained on the same towers with the same
        settings and different seeds. Some may use no static site features (``statics=()``).

    Returns
    -------
    CarbonModel
        A model that predicts the mean of the members; its ``spread`` includes the differences between them.
        Its provenance is that of the first member, with the training of each member in ``members``.

    Raises
    ------
    ModelError
        If there is no model, or the models are of another kind or differ in settings, scaling or training
        towers.

    Examples
    --------
    >>> import tempfile, xcarbon
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(2, patches=False)
    >>> quick = dict(model="streaming", max_steps=1, batch_size=2, network={"width": 16, "layers": 2})
    >>> with tempfile.TemporaryDirectory() as run, xcarbon.set_options(progress=False):
    ...     seeds = [towers.carbon.fit(seed=seed, run_dir=f"{run}/{seed}", **quick) for seed in range(2)]
    >>> len(ensemble(seeds).network.members)
    2
    """
    if not models:
        raise ModelError("an ensemble needs at least one streaming EcoPerceiver, found no model")
    alone = [member for model in models for member in members(model)]
    first, statics = alone[0], max((member.config.statics for member in alone), key=len)
    for member in alone:
        for name in ("config", "scaler", "sites"):
            found, expected = getattr(member, name), getattr(first, name)
            if name == "config":
                found, expected = (dataclasses.replace(each, statics=statics) for each in (found, expected))
            if found != expected:
                raise ModelError(
                    f"models of an ensemble must have the same {name}: train them on the same towers with "
                    f"different seeds; found {expected} and {found}"
                )
        if member.config.statics not in ((), statics):
            found = member.config.statics
            raise ModelError(f"members must use the static site features {statics} or none, found {found}")
    own = ("curve", "training", "members")
    provenance = {name: known for name, known in first.provenance.items() if name not in own}
    provenance["members"] = [member.provenance.get("training", {}) for member in alone]
    networks = [member.network for member in alone]
    return CarbonModel(EnsemblePredictor(Ensemble(networks)), first.scaler, provenance)


def members(model: CarbonModel) -> list[CarbonModel]:
    """Split an ensemble into its members.

    Parameters
    ----------
    model : CarbonModel
        An ensemble, or a single streaming EcoPerceiver.

    Returns
    -------
    list of CarbonModel
        The members, each with its own ``training`` in its provenance; for a streaming EcoPerceiver the model
        itself.

    Raises
    ------
    ModelError
        If the model is of another kind.

    Examples
    --------
    >>> import xcarbon
    >>> [len(member.config.statics) for member in members(xcarbon.load("nee-fluxnet2015"))]
    [4, 4, 0, 0]
    """
    if model.predictor.kind == StreamingPredictor.kind:
        return [model]
    if not isinstance(model.predictor, EnsemblePredictor):
        raise ModelError(f"an ensemble consists of streaming EcoPerceivers, found a {model.predictor.name}")
    networks: Any = model.network.members
    shared = {name: known for name, known in model.provenance.items() if name != "members"}
    trainings = model.provenance.get("members", [{}] * len(networks))
    return [
        dataclasses.replace(
            model, predictor=StreamingPredictor(network), provenance=shared | {"training": training}
        )
        for network, training in zip(networks, trainings, strict=True)
    ]
