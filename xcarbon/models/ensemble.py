"""Several streaming EcoPerceivers that predict together: their mean, and how far they are apart."""

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
from xcarbon.models.networks import StreamingPredictor
from xcarbon.models.streaming import Prediction, Sequences, StreamingConfig, StreamingEcoPerceiver


class Ensemble(nn.Module):
    """Networks with the same settings and other weights; some of them may be told nothing of a place.

    Parameters
    ----------
    members : sequence of StreamingEcoPerceiver
        At least one.

    Attributes
    ----------
    config : StreamingConfig
        Settings of the member that is told most.
    """

    def __init__(self, members: Sequence[StreamingEcoPerceiver]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.config = max((member.config for member in members), key=lambda config: len(config.statics))


class EnsemblePredictor(StreamingPredictor[Ensemble]):
    r"""An ensemble behind the interface of :class:`~xcarbon.models.bundle.Predictor`.

    Parameters
    ----------
    network : Ensemble
        It computes on the device of the option, and stays there.

    Notes
    -----
    The members' predictions :math:`\mu_m \pm \sigma_m` are those of a mixture with equal weights:

    .. math:: \mu = \overline{\mu_m}, \quad
              \sigma^2 = \overline{\sigma_m^2} + \overline{(\mu_m - \mu)^2}

    Where nothing at all is known of a place, only those members predict that have never been told.
    """

    kind: ClassVar[str] = "ensemble"
    name: ClassVar[str] = "ensemble of streaming EcoPerceivers"

    def predict(self, sequences: Sequences) -> Prediction:
        """Predict every hour of sequences of any length."""
        weights = self._weights(sequences)  # (members, B)
        heard = weights.any(1)  # the others would be computed in vain
        without_statics, found = sequences._replace(statics=None), []
        for member in itertools.compress(self._members, heard):
            told = sequences if member.config.statics else without_statics
            found.append(streaming.predict_series(member, told))
        means = torch.stack([each.mean for each in found])  # (heard members, B, L, targets)
        weights = weights[heard].to(means)[..., None, None]  # (heard members, B, 1, 1)
        mean = (weights * means).sum(0)
        if not self.has_spread:
            return Prediction(mean, None)
        scales = torch.stack([each.log_scale for each in found if each.log_scale is not None]).exp()
        variance = (weights * (scales**2 + (means - mean) ** 2)).sum(0)
        return Prediction(mean, variance.log() / 2)

    @property
    def _members(self) -> list[StreamingEcoPerceiver]:
        members: Any = self.network.members
        return list(members)

    def _weights(self, sequences: Sequences) -> Tensor:
        """Share of each member in the prediction of each sequence, ``(members, B)``."""
        batch, statics = len(sequences.hourly), sequences.statics
        known = torch.zeros(batch, dtype=torch.bool) if statics is None else statics.isfinite().any(1).cpu()
        told = torch.tensor([bool(member.config.statics) for member in self._members])
        speaks = known | ~told[:, None] | told.all()  # (members, B)
        return speaks / speaks.sum(0)

    @classmethod
    def make(cls, config: dict[str, Any], weights: dict[str, Tensor]) -> Ensemble:
        """Make the networks that these weights are for: one without weights for statics is not told them."""
        count = 1 + max((int(name.split(".")[1]) for name in weights), default=0)
        told = {int(name.split(".")[1]) for name in weights if name.split(".")[2] == "statics"}
        members = []
        for number in range(count):
            own = config if number in told else config | {"statics": ()}
            members.append(StreamingEcoPerceiver(StreamingConfig(**own)))
        return Ensemble(members)


def ensemble(models: Sequence[CarbonModel]) -> CarbonModel:
    """Let several streaming EcoPerceivers predict together.

    Parameters
    ----------
    models : sequence of CarbonModel
        Streaming EcoPerceivers, or ensembles of them, trained on the same towers with the same settings, but
        for the seed. Some may be told nothing of a place (``statics=()``).

    Returns
    -------
    CarbonModel
        Their mean, and with ``spread`` a standard deviation in which their differences are included. Its
        provenance is that of the first, with the training of ``members``.

    Raises
    ------
    ModelError
        If there is none, or they are of another kind or differ in settings, scaling or training towers.

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
        raise ModelError("an ensemble is made of streaming EcoPerceivers, found no model")
    alone = [member for model in models for member in members(model)]
    first, told = alone[0], max((member.config.statics for member in alone), key=len)
    for member in alone:
        for name in ("config", "scaler", "sites"):
            found, expected = getattr(member, name), getattr(first, name)
            if name == "config":
                found, expected = (dataclasses.replace(each, statics=told) for each in (found, expected))
            if found != expected:
                raise ModelError(
                    f"models of an ensemble must have the same {name}: train them on the same towers, with "
                    f"other seeds; found {expected} and {found}"
                )
        if member.config.statics not in ((), told):
            raise ModelError(f"members are told {told} or nothing of a place, found {member.config.statics}")
    own = ("curve", "training", "members")
    provenance = {name: known for name, known in first.provenance.items() if name not in own}
    provenance["members"] = [member.provenance.get("training", {}) for member in alone]
    networks = [member.network for member in alone]
    return CarbonModel(EnsemblePredictor(Ensemble(networks)), first.scaler, provenance)


def members(model: CarbonModel) -> list[CarbonModel]:
    """Take an ensemble apart.

    Parameters
    ----------
    model : CarbonModel
        An ensemble, or a streaming EcoPerceiver, which is one of itself alone.

    Returns
    -------
    list of CarbonModel
        Each with its own ``training`` in its provenance.

    Raises
    ------
    ModelError
        If it is a model of another kind.

    Examples
    --------
    >>> import xcarbon
    >>> [len(member.config.statics) for member in members(xcarbon.load("nee-fluxnet2015"))]
    [4, 4, 0, 0]
    """
    if model.predictor.kind == StreamingPredictor.kind:
        return [model]
    if not isinstance(model.predictor, EnsemblePredictor):
        raise ModelError(f"an ensemble is made of streaming EcoPerceivers, found a {model.predictor.name}")
    networks: Any = model.network.members
    shared = {name: known for name, known in model.provenance.items() if name != "members"}
    trainings = model.provenance.get("members", [{}] * len(networks))
    return [
        dataclasses.replace(
            model, predictor=StreamingPredictor(network), provenance=shared | {"training": training}
        )
        for network, training in zip(networks, trainings, strict=True)
    ]
