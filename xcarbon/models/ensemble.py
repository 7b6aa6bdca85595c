"""Several streaming EcoPerceivers that predict together: their mean, and how far they are apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from xcarbon.errors import ModelError
from xcarbon.models import streaming
from xcarbon.models.bundle import CarbonModel
from xcarbon.models.networks import StreamingPredictor
from xcarbon.models.streaming import Prediction, Sequences, StreamingConfig, StreamingEcoPerceiver


class Ensemble(nn.Module):
    """Networks with the same settings and other weights.

    Parameters
    ----------
    members : sequence of StreamingEcoPerceiver
        At least one.
    """

    def __init__(self, members: Sequence[StreamingEcoPerceiver]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.config = members[0].config


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
    """

    kind: ClassVar[str] = "ensemble"
    name: ClassVar[str] = "ensemble of streaming EcoPerceivers"

    def predict(self, sequences: Sequences) -> Prediction:
        """Predict every hour of sequences of any length."""
        found = [streaming.predict_series(member, sequences) for member in self.network.members]  # type: ignore[arg-type]
        means = torch.stack([each.mean for each in found])  # (members, B, L, targets)
        if not self.has_spread:
            return Prediction(means.mean(0), None)
        logs = [each.log_scale for each in found if each.log_scale is not None]
        variance = (2 * torch.stack(logs)).exp().mean(0) + means.var(0, unbiased=False)
        return Prediction(means.mean(0), variance.log() / 2)

    @classmethod
    def make(cls, config: dict[str, Any], weights: dict[str, Tensor]) -> Ensemble:
        """Make the networks that these weights are for."""
        members = 1 + max((int(name.split(".")[1]) for name in weights), default=0)
        return Ensemble([StreamingEcoPerceiver(StreamingConfig(**config)) for _ in range(members)])


def ensemble(models: Sequence[CarbonModel]) -> CarbonModel:
    """Let several streaming EcoPerceivers predict together.

    Parameters
    ----------
    models : sequence of CarbonModel
        Of kind "streaming", trained on the same towers with the same settings, but for the seed.

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
    kinds = sorted({model.predictor.kind for model in models})
    if kinds != [StreamingPredictor.kind]:
        raise ModelError(f"an ensemble is made of streaming EcoPerceivers, found {kinds or 'no model'}")
    first = models[0]
    for model in models[1:]:
        for name in ("config", "scaler", "sites"):
            if getattr(model, name) != getattr(first, name):
                raise ModelError(
                    f"models of an ensemble must have the same {name}: train them on the same towers, with "
                    f"other seeds; found {getattr(first, name)} and {getattr(model, name)}"
                )
    own = ("curve", "training")
    provenance = {name: known for name, known in first.provenance.items() if name not in own}
    provenance["members"] = [model.provenance.get("training", {}) for model in models]
    return CarbonModel(
        EnsemblePredictor(Ensemble([model.network for model in models])), first.scaler, provenance
    )
