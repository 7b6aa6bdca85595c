"""A trained model with all that is needed to apply it and to say where it comes from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from xcarbon.core.atomic import replacing
from xcarbon.core.errors import ModelError
from xcarbon.core.variables import SPREAD, variable
from xcarbon.models.inputs import ModelInputs

SETTINGS = "model.json"
#: Raised when the layout of the folder changes.
FORMAT = 2
#: Where the kinds of models are, imported when one is loaded: torch and xgboost take long to import.
KINDS = {
    "ecoperceiver": ("xcarbon.models.networks", "EcoPerceiverPredictor"),
    "ensemble": ("xcarbon.models.ensemble", "EnsemblePredictor"),
    "streaming": ("xcarbon.models.networks", "StreamingPredictor"),
    "xgboost": ("xcarbon.models.boosting", "BoostedTrees"),
}


class ModelConfig(Protocol):
    """Settings of a model: a dataclass that says at least what the model reads.

    Attributes
    ----------
    variables : tuple of str
        Hourly inputs, in the order of the last axis of ``hourly``.
    bands : tuple of str
        Bands of a patch; empty for a model without patches.
    context : int
        Hours T in a window, the predicted one included.
    min_context : int
        How many of them a record must have for a prediction: all, or fewer at its beginning.
    statics : tuple of str
        What it reads of a place, in the order of the last axis of ``statics``.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def variables(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def bands(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def context(self) -> int: ...  # noqa: D102
    @property
    def min_context(self) -> int: ...  # noqa: D102
    @property
    def statics(self) -> tuple[str, ...]: ...  # noqa: D102


class Predictor(Protocol):
    """What a model of any kind can do, in numpy.

    Attributes
    ----------
    kind : str
        Its key in :data:`KINDS`.
    name : str
        What people call it.
    file : str
        Name of the file that its weights are saved to.
    """

    kind: ClassVar[str]
    name: ClassVar[str]
    file: ClassVar[str]

    @property
    def config(self) -> ModelConfig:
        """Its settings."""
        ...

    @property
    def has_spread(self) -> bool:
        """Whether it predicts the standard deviation of each target, too."""
        ...

    def predict_series(
        self, inputs: ModelInputs[NDArray[Any]], wanted: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Predict as :meth:`CarbonModel.predict_series`, but in standardised units of the targets."""
        ...

    def to_bytes(self) -> bytes:
        """Write its weights in a form that executes nothing when it is read."""
        ...

    @classmethod
    def from_bytes(cls, config: dict[str, Any], weights: bytes) -> Predictor:
        """Make it from settings and weights; ModelError, TypeError or ValueError if these do not fit."""
        ...


@dataclass(frozen=True)
class Scaler:
    """What turns a Dataset's values into a model's numbers and back.

    The bounds of the predictors are those of the vocabulary; they are stored so that a model is
    refused by a vocabulary with others, instead of silently predicting something else.

    Attributes
    ----------
    targets : dict of str to (float, float)
        Mean and standard deviation of each target over the training hours, in its units: a network predicts
        ``(target - mean) / std``. 0 and 1 for trees, which predict the target as it is.
    max_qc : int
        Quality tolerance of predictors and targets.
    bounds : dict of str to (float, float)
        Scaling bounds of each predictor, in its units.
    spread : float
        What a predicted standard deviation is multiplied by, so that as many observations lie within it as
        should (:func:`xcarbon.prediction.calibration.calibrate`).
    """

    targets: dict[str, tuple[float, float]]
    max_qc: int
    bounds: dict[str, tuple[float, float]]
    spread: float = 1.0

    def __post_init__(self) -> None:
        for code, (_, std) in self.targets.items():
            if not std > 0:
                raise ModelError(f"the standard deviation of {code} must be positive, found {std}")


@dataclass
class CarbonModel:
    """A trained predictor, its scaler, and its provenance.

    Attributes
    ----------
    predictor : Predictor
        A :class:`~xcarbon.models.networks.EcoPerceiverPredictor`,
        :class:`~xcarbon.models.networks.StreamingPredictor`,
        :class:`~xcarbon.models.ensemble.EnsemblePredictor` or
        :class:`~xcarbon.models.boosting.BoostedTrees`.
    scaler : Scaler
        Scaling of predictors and targets.
    provenance : dict
        JSON-like: the towers it saw (``sites``), their citations, settings, scores and versions.
    """

    predictor: Predictor
    scaler: Scaler
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> ModelConfig:
        """Settings of the predictor."""
        return self.predictor.config

    @property
    def targets(self) -> tuple[str, ...]:
        """Codes of the variables that it predicts."""
        return tuple(self.scaler.targets)

    @property
    def has_spread(self) -> bool:
        """Whether it predicts how uncertain it is."""
        return self.predictor.has_spread

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the rows of its predictions are: targets, then their standard deviations if it has them."""
        spreads = tuple(code + SPREAD for code in self.targets) if self.has_spread else ()
        return self.targets + spreads

    @property
    def network(self) -> Any:
        """The network, of a model that is one; others have no such attribute."""
        return cast(Any, self.predictor).network

    @property
    def sites(self) -> tuple[str, ...]:
        """Towers that the model was trained on."""
        return tuple(self.provenance.get("sites", ()))

    def predict_series(
        self, inputs: ModelInputs[NDArray[Any]], wanted: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Predict the last hour of each window in a series of consecutive hours.

        Parameters
        ----------
        inputs : ModelInputs
            The hours as numpy arrays, with ``hourly`` of the shape ``(hours + T - 1, V)``, float32. For a
            model with a ``min_context`` of less than T they may be fewer, if the record begins with the
            first one. Models without ``config.statics`` ignore ``statics``.
        wanted : numpy.ndarray
            Which windows to predict, bool, shape ``(hours,)``.

        Returns
        -------
        numpy.ndarray
            ``outputs`` in their units, shape ``(len(outputs), hours)``, float32; NaN where not wanted.
        """
        series = self.predictor.predict_series(inputs, wanted)
        mean, std = np.array(list(self.scaler.targets.values()), "float32").T[..., None]  # each (targets, 1)
        series[: len(std)] = series[: len(std)] * std + mean
        if self.has_spread:
            series[len(std) :] *= std * np.float32(self.scaler.spread)
        return series

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the model as a folder of weights and JSON, atomically.

        Parameters
        ----------
        path : path-like
            The folder; a model that is there already is replaced.

        Returns
        -------
        pathlib.Path
            The folder.

        Raises
        ------
        ModelError
            If there is something else at ``path``.
        """
        path = Path(path)
        if path.exists() and not (path / SETTINGS).is_file():
            raise ModelError(f"{path} exists and is not a model: choose another folder")
        settings = {
            "format": FORMAT,
            "kind": self.predictor.kind,
            "config": dataclasses.asdict(self.config),
            "scaler": dataclasses.asdict(self.scaler),
            "provenance": self.provenance,
        }
        with replacing(path) as folder:
            folder.mkdir()
            (folder / self.predictor.file).write_bytes(self.predictor.to_bytes())
            (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CarbonModel:
        """Read a model that :meth:`save` wrote; nothing in it is executed.

        Parameters
        ----------
        path : path-like
            The folder.

        Returns
        -------
        CarbonModel

        Raises
        ------
        ModelError
            If it is not a folder with a model of a kind and format known here, or if the weights do
            not fit the settings.
        """
        path = Path(path)
        try:
            settings = json.loads((path / SETTINGS).read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise ModelError(f"{path} is not a model folder with a file {SETTINGS}: {error}") from error
        kind = settings.get("kind")
        if settings.get("format") != FORMAT or kind not in KINDS:
            found = kind, settings.get("format")
            raise ModelError(f"{path}: kind and format {found} are not known to this version of xcarbon")
        module, name = KINDS[kind]
        predictor_class: type[Predictor] = getattr(import_module(module), name)
        try:
            config = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in settings["config"].items()
            }
            weights = (path / predictor_class.file).read_bytes()
            predictor = predictor_class.from_bytes(config, weights)
            targets, bounds = (
                {code: (first, second) for code, (first, second) in settings["scaler"].pop(name).items()}
                for name in ("targets", "bounds")
            )
            scaler = Scaler(**settings["scaler"], targets=targets, bounds=bounds)
        except OSError as error:
            raise ModelError(f"{path} is not a model folder with {predictor_class.file}: {error}") from error
        except (LookupError, TypeError, ValueError) as error:
            raise ModelError(f"{path}: settings and weights do not fit together: {error}") from error
        _check_bounds(path, bounds)
        return cls(predictor, scaler, settings["provenance"])

    def fingerprint(self) -> str:
        """Hash of weights and scaler: equal for models that predict the same."""
        digest = hashlib.sha256(repr((self.config, self.scaler)).encode())
        digest.update(self.predictor.to_bytes())
        return digest.hexdigest()[:16]

    def __dask_tokenize__(self) -> str:
        """Name Dask tasks by what the model predicts, not by where it lies in memory."""
        return f"CarbonModel-{self.fingerprint()}"


def _check_bounds(path: Path, bounds: dict[str, tuple[float, float]]) -> None:
    """Refuse a model whose predictors were scaled in another way."""
    for code, found in bounds.items():
        known = variable(code).bounds
        if known is None or (known.lower, known.upper) != tuple(found):
            raise ModelError(f"{path}: {code} was scaled by {found} in training, here it is by {known}")
