"""Ensembles of models of any kind: their mean, and a spread that includes their differences."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xcarbon.core.errors import ModelError
from xcarbon.models.bundle import CarbonModel, Scaler, as_tuples, predictor_class
from xcarbon.models.inputs import ModelInputs

#: Date in the archive of the weights, so that equal weights are equal bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class EnsembleConfig:
    """Inputs of an ensemble, which are those of any of its members.

    Attributes
    ----------
    members : tuple of dict
        ``kind``, ``config`` and ``scaler`` of each member.
    variables, bands, statics, state : tuple of str
        Inputs that at least one member reads.
    targets : tuple of str
        Variables that all members predict.
    context, min_context : int
        Largest ``context`` and ``min_context`` of a member [h].
    """

    members: tuple[dict[str, Any], ...]
    variables: tuple[str, ...]
    bands: tuple[str, ...]
    statics: tuple[str, ...]
    state: tuple[str, ...]
    targets: tuple[str, ...]
    context: int
    min_context: int


class EnsemblePredictor:
    r"""An ensemble with the interface of :class:`~xcarbon.models.bundle.Predictor`.

    Parameters
    ----------
    members : sequence of CarbonModel
        Models with the same targets.

    Notes
    -----
    The members' predictions :math:`\mu_m \pm \sigma_m` are combined as a mixture with equal weights:

    .. math:: \mu = \overline{\mu_m}, \quad
              \sigma^2 = \overline{\sigma_m^2} + \overline{(\mu_m - \mu)^2}

    Members without a spread, such as trees, are left out of the first mean.
    """

    kind: ClassVar[str] = "ensemble"
    name: ClassVar[str] = "ensemble"
    file: ClassVar[str] = "members.zip"

    def __init__(self, members: Sequence[CarbonModel]) -> None:
        self.members = tuple(members)
        configs = [member.config for member in members]
        inputs: dict[str, Any] = {
            name: tuple(dict.fromkeys(code for config in configs for code in getattr(config, name)))
            for name in ("variables", "bands", "statics", "state")
        }
        described = tuple(
            {
                "kind": member.predictor.kind,
                "config": dataclasses.asdict(member.config),
                "scaler": dataclasses.asdict(member.scaler),
            }
            for member in members
        )
        self.config = EnsembleConfig(
            described,
            **inputs,
            targets=members[0].targets,
            context=max(config.context for config in configs),
            min_context=max(config.min_context for config in configs),
        )

    @property
    def has_spread(self) -> bool:
        """Whether at least one member predicts its uncertainty."""
        return any(member.has_spread for member in self.members)

    def predict_series(
        self, inputs: ModelInputs[NDArray[Any]], wanted: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Predict in the units of the targets; see :meth:`CarbonModel.predict_series`."""
        targets = len(self.config.targets)
        found = [
            member.predict_series(self._own(member, inputs, len(wanted)), wanted) for member in self.members
        ]
        means = np.stack([each[:targets] for each in found])  # (members, targets, hours)
        mean = means.mean(0)
        if not self.has_spread:
            return mean
        variance = np.mean([each[targets:] ** 2 for each in found if len(each) > targets], axis=0)
        spread = np.sqrt(variance + means.var(0))
        return np.concatenate([mean, spread])

    def _own(
        self, member: CarbonModel, inputs: ModelInputs[NDArray[Any]], hours: int
    ) -> ModelInputs[NDArray[Any]]:
        """Select the inputs of a member: its variables in its order, and the hours of its context."""
        chosen: dict[str, Any] = {}
        for field, name in (("hourly", "variables"), ("statics", "statics"), ("state", "state")):
            values, own, have = (
                getattr(inputs, field), getattr(member.config, name), getattr(self.config, name)
            )  # fmt: skip
            if values is not None and own != have:
                values = values[..., [have.index(code) for code in own]] if own else None
            chosen[field] = values
        if inputs.patches is not None and member.config.bands != self.config.bands:
            bands = [self.config.bands.index(band) for band in member.config.bands]
            chosen["patches"] = inputs.patches[:, bands] if bands else None
            chosen["patch_index"] = inputs.patch_index if bands else None
        first = max(0, len(inputs.hourly) - hours - member.config.context + 1)
        return dataclasses.replace(inputs, **chosen).between(first, None)

    def to_bytes(self) -> bytes:
        """Write the weights of all members to an archive."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            for number, member in enumerate(self.members):
                name = zipfile.ZipInfo(f"{number}/{member.predictor.file}", _DATE)
                file.writestr(name, member.predictor.to_bytes(), zipfile.ZIP_DEFLATED)
        return archive.getvalue()

    @classmethod
    def from_bytes(cls, config: dict[str, Any], weights: bytes) -> EnsemblePredictor:
        """Create the members from their settings and the archive of their weights."""
        members = []
        with zipfile.ZipFile(io.BytesIO(weights)) as file:
            for number, each in enumerate(config["members"]):
                found = predictor_class(each["kind"])
                content = file.read(f"{number}/{found.file}")
                predictor = found.from_bytes(as_tuples(each["config"]), content)
                members.append(CarbonModel(predictor, Scaler.from_dict(each["scaler"])))
        return cls(members)


def ensemble(models: Sequence[CarbonModel]) -> CarbonModel:
    """Combine several models into one model that predicts their mean.

    Parameters
    ----------
    models : sequence of CarbonModel
        Models of any kind, or ensembles, that were trained on the same towers for the same targets: for
        example with different seeds, or networks and trees.

    Returns
    -------
    CarbonModel
        A model that predicts the mean of the members; its ``spread`` includes the differences between them.
        Its provenance is that of the first member, with the training of each member in ``members``.

    Raises
    ------
    ModelError
        If there is no model, or the models differ in their targets, quality tolerance or training towers.

    Examples
    --------
    >>> import tempfile, xcarbon
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(2, patches=False)
    >>> quick = dict(max_steps=1, batch_size=2, network={"width": 16, "layers": 2})
    >>> with tempfile.TemporaryDirectory() as run, xcarbon.set_options(progress=False):
    ...     network = towers.carbon.fit("streaming", run_dir=f"{run}/network", **quick)
    ...     trees = towers.carbon.fit("xgboost", run_dir=f"{run}/trees", n_estimators=2)
    >>> ensemble([network, trees]).outputs
    ('NEE', 'NEE_SE')
    """
    if not models:
        raise ModelError("an ensemble needs at least one model, found none")
    alone = [member for model in models for member in members(model)]
    first = alone[0]
    for member in alone:
        for name in ("targets", "sites"):
            _check_equal(name, getattr(member, name), getattr(first, name))
        _check_equal("max_qc", member.scaler.max_qc, first.scaler.max_qc)
    own = ("curve", "training", "members", "search")
    provenance = {name: known for name, known in first.provenance.items() if name not in own}
    provenance["members"] = [member.provenance.get("training", {}) for member in alone]
    bounds = {code: limits for member in alone for code, limits in member.scaler.bounds.items()}
    # The members predict in the units of the targets.
    scaler = Scaler(dict.fromkeys(first.targets, (0.0, 1.0)), first.scaler.max_qc, bounds)
    return CarbonModel(EnsemblePredictor(alone), scaler, provenance)


def _check_equal(name: str, found: object, expected: object) -> None:
    if found != expected:
        raise ModelError(
            f"models of an ensemble must have the same {name}: train them on the same towers for the same "
            f"targets; found {expected} and {found}"
        )


def members(model: CarbonModel) -> list[CarbonModel]:
    """Split an ensemble into its members.

    Parameters
    ----------
    model : CarbonModel
        An ensemble, or a single model.

    Returns
    -------
    list of CarbonModel
        The members, each with its own ``training`` in its provenance; for a single model the model itself.

    Examples
    --------
    >>> import xcarbon
    >>> sorted({member.predictor.kind for member in members(xcarbon.load("nee-fluxnet2015"))})
    ['hourly', 'xgboost']
    """
    if not isinstance(model.predictor, EnsemblePredictor):
        return [model]
    shared = {name: known for name, known in model.provenance.items() if name != "members"}
    trainings = model.provenance.get("members", [{}] * len(model.predictor.members))
    return [
        dataclasses.replace(member, provenance=shared | {"training": training})
        for member, training in zip(model.predictor.members, trainings, strict=True)
    ]
