"""A trained model with all that is needed to apply it and to say where it comes from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from xcarbon.atomic import replacing
from xcarbon.errors import ModelError
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.models.fast import predict_series
from xcarbon.variables import variable

WEIGHTS, SETTINGS = "model.safetensors", "model.json"
#: Raised when the layout of the folder changes.
FORMAT = 1


@dataclass(frozen=True)
class Scaler:
    """What turns a Dataset's values into a network's numbers and back.

    The bounds of the predictors are those of the vocabulary; they are stored so that a model is
    refused by a vocabulary with others, instead of silently predicting something else.

    Attributes
    ----------
    mean, std : float
        Of the target over the training hours, in its units: the network predicts
        ``(target - mean) / std``.
    max_qc : int
        Quality tolerance of predictors and target.
    bounds : dict of str to (float, float)
        Scaling bounds of each predictor, in its units.
    """

    mean: float
    std: float
    max_qc: int
    bounds: dict[str, tuple[float, float]]

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ModelError(f"the target's standard deviation must be positive, found {self.std}")


@dataclass
class CarbonModel:
    """A trained network, its scaler, and its provenance.

    Attributes
    ----------
    network : EcoPerceiver
        The network, in evaluation mode.
    target : str
        Code of the variable that it predicts.
    scaler : Scaler
        Scaling of predictors and target.
    provenance : dict
        JSON-like: the towers it saw (``sites``), their citations, settings, scores and versions.
    """

    network: EcoPerceiver
    target: str
    scaler: Scaler
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> EcoPerceiverConfig:
        """Settings of the network."""
        return self.network.config

    @property
    def sites(self) -> tuple[str, ...]:
        """Towers that the model was trained on."""
        return tuple(self.provenance.get("sites", ()))

    def predict(self, hourly: Tensor, patches: Tensor | None, patch_index: Tensor | None) -> Tensor:
        """Predict the last hour of each window.

        Parameters
        ----------
        hourly : Tensor
            Scaled variables [1], shape ``(B, T, V)``; NaN where missing.
        patches : Tensor or None
            Shape ``(P, C, 8, 8)``.
        patch_index : Tensor or None
            Shape ``(B, T)``; -1 for none.

        Returns
        -------
        Tensor
            The target in its units, shape ``(B,)``, float32.
        """
        self.network.eval()
        with torch.inference_mode():
            output = self.network(hourly, patches, patch_index)[:, -1]
        return self._in_units(output)

    def predict_series(
        self, hourly: Tensor, wanted: np.ndarray, patches: Tensor | None, patch_index: Tensor | None
    ) -> Tensor:
        """Predict the last hour of each window in a series of consecutive hours: the same, faster.

        Parameters
        ----------
        hourly : Tensor
            Scaled variables [1], shape ``(hours + T - 1, V)``; NaN where missing.
        wanted : numpy.ndarray
            Which windows to predict, bool, shape ``(hours,)``.
        patches : Tensor or None
            Shape ``(P, C, 8, 8)``.
        patch_index : Tensor or None
            Shape ``(hours + T - 1,)``; -1 for none.

        Returns
        -------
        Tensor
            The target in its units, shape ``(hours,)``, float32; NaN where not wanted.
        """
        return self._in_units(predict_series(self.network.eval(), hourly, wanted, patches, patch_index))

    def _in_units(self, output: Tensor) -> Tensor:
        """Turn what the network gives into the target."""
        return output.float() * self.scaler.std + self.scaler.mean

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the model as a folder of safetensors and JSON, atomically.

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
            "kind": "ecoperceiver",
            "target": self.target,
            "config": dataclasses.asdict(self.config),
            "scaler": dataclasses.asdict(self.scaler),
            "provenance": self.provenance,
        }
        weights = {name: tensor.contiguous().cpu() for name, tensor in self.network.state_dict().items()}
        with replacing(path) as folder:
            folder.mkdir()
            safetensors.torch.save_file(weights, folder / WEIGHTS)
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
            weights = safetensors.torch.load_file(path / WEIGHTS)
        except (OSError, json.JSONDecodeError, safetensors.SafetensorError) as error:
            expected = f"a model folder with {WEIGHTS} and {SETTINGS}"
            raise ModelError(f"{path} is not {expected}: {error}") from error
        if settings.get("format") != FORMAT or settings.get("kind") != "ecoperceiver":
            found = settings.get("kind"), settings.get("format")
            raise ModelError(f"{path}: kind and format {found} are not known to this version of xcarbon")
        try:
            config: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in settings["config"].items()
            }
            with torch.random.fork_rng():
                network = EcoPerceiver(EcoPerceiverConfig(**config))
            network.load_state_dict(weights)
            bounds = {code: (low, high) for code, (low, high) in settings["scaler"].pop("bounds").items()}
            scaler = Scaler(**settings["scaler"], bounds=bounds)
        except (KeyError, TypeError, RuntimeError) as error:
            raise ModelError(f"{path}: settings and weights do not fit together: {error}") from error
        _check_bounds(path, bounds)
        return cls(network.eval(), settings["target"], scaler, settings["provenance"])

    def fingerprint(self) -> str:
        """Hash of weights and scaler: equal for models that predict the same."""
        digest = hashlib.sha256(repr((self.config, self.scaler, self.target)).encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().float().numpy().tobytes())
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
