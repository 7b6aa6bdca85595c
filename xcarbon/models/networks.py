"""Networks behind the interface that all kinds of models have: numpy in, numpy out."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, Self, TypeVar, cast

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xcarbon.core.errors import ModelError
from xcarbon.core.options import OPTIONS
from xcarbon.models import fast, streaming
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.models.streaming import Prediction, Sequences, StreamingConfig, StreamingEcoPerceiver

Network = TypeVar("Network", bound=nn.Module)


class TorchPredictor(Generic[Network]):
    """What all networks have in common: weights are safetensors, settings a dataclass.

    Parameters
    ----------
    network : torch.nn.Module
        It computes on the device of the option, and stays there.
    """

    file: ClassVar[str] = "model.safetensors"

    def __init__(self, network: Network) -> None:
        self.network = network

    def to_bytes(self) -> bytes:
        """Write the weights as safetensors."""
        weights = {name: tensor.contiguous().cpu() for name, tensor in self.network.state_dict().items()}
        return safetensors.torch.save(weights)

    @classmethod
    def from_bytes(cls, config: dict[str, Any], weights: bytes) -> Self:
        """Make it from settings and safetensors."""
        try:
            tensors = safetensors.torch.load(weights)
            with torch.random.fork_rng():
                network = cls.make(config, tensors)
            network.load_state_dict(tensors)
        except (RuntimeError, safetensors.SafetensorError) as error:
            raise ModelError(str(error)) from error
        return cls(network.eval())

    @classmethod
    def make(cls, config: dict[str, Any], weights: dict[str, Tensor]) -> Network:
        """Make the network that these weights are for."""
        raise NotImplementedError


class EcoPerceiverPredictor(TorchPredictor[EcoPerceiver]):
    """An EcoPerceiver behind the interface of :class:`~xcarbon.models.bundle.Predictor`.

    Parameters
    ----------
    network : EcoPerceiver
        It computes on the device of the option, and stays there.
    """

    kind: ClassVar[str] = "ecoperceiver"
    name: ClassVar[str] = "EcoPerceiver"

    @property
    def config(self) -> EcoPerceiverConfig:
        """Settings of the network."""
        return self.network.config

    @property
    def has_spread(self) -> bool:
        """The paper's model predicts no uncertainty."""
        return False

    def predict_series(
        self,
        hourly: NDArray[np.float32],
        wanted: NDArray[np.bool_],
        patches: NDArray[np.float32] | None,
        patch_index: NDArray[np.int64] | None,
        statics: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Predict in standardised units; see :meth:`xcarbon.models.bundle.CarbonModel.predict_series`."""
        device = _device()
        network = self.network.eval().to(device)
        series = torch.from_numpy(hourly).to(device)
        images, index = (_tensor(part, device) for part in (patches, patch_index))
        output = fast.predict_series(network, series, wanted, images, index)
        return output.float().cpu().numpy()[np.newaxis]

    @classmethod
    def make(cls, config: dict[str, Any], weights: dict[str, Tensor]) -> EcoPerceiver:
        """Make the network that these weights are for."""
        return EcoPerceiver(EcoPerceiverConfig(**config))


class StreamingPredictor(TorchPredictor[Network]):
    """A streaming EcoPerceiver behind the interface of :class:`~xcarbon.models.bundle.Predictor`.

    Parameters
    ----------
    network : StreamingEcoPerceiver
        It computes on the device of the option, and stays there.
    """

    kind: ClassVar[str] = "streaming"
    name: ClassVar[str] = "streaming EcoPerceiver"

    @property
    def config(self) -> StreamingConfig:
        """Settings of the network."""
        return cast(StreamingConfig, self.network.config)

    @property
    def has_spread(self) -> bool:
        """Whether it was trained to predict its uncertainty."""
        return self.config.spread

    def predict_series(
        self,
        hourly: NDArray[np.float32],
        wanted: NDArray[np.bool_],
        patches: NDArray[np.float32] | None,
        patch_index: NDArray[np.int64] | None,
        statics: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Predict in standardised units; see :meth:`xcarbon.models.bundle.CarbonModel.predict_series`.

        The hours that are wanted are computed in one pass, and with them what lies between.
        """
        outputs = len(self.config.targets) * (1 + self.has_spread)
        output = np.full((outputs, len(wanted)), np.nan, np.float32)
        if not wanted.any():
            return output
        device = _device()
        self.network.eval().to(device)
        hours = np.flatnonzero(wanted) + len(hourly) - len(wanted)  # their positions in hourly
        seen = slice(max(0, hours[0] - self.config.context + 1), hours[-1] + 1)
        index = None if patch_index is None else patch_index[seen][None]
        parts = (hourly[seen][None], patches, index, None if statics is None else statics[None])
        mean, log_scale = self.predict(Sequences._make(_tensor(part, device) for part in parts))
        predicted = mean if log_scale is None else torch.cat([mean, log_scale.exp()], dim=-1)
        output[:, wanted] = predicted[0, torch.from_numpy(hours - seen.start)].T.float().cpu().numpy()
        return output

    def predict(self, sequences: Sequences) -> Prediction:
        """Predict every hour of sequences of any length."""
        network: Any = self.network
        return streaming.predict_series(network, sequences)

    @classmethod
    def make(cls, config: dict[str, Any], weights: dict[str, Tensor]) -> Any:
        """Make the network that these weights are for."""
        return StreamingEcoPerceiver(StreamingConfig(**config))


def _tensor(array: NDArray[Any] | None, device: torch.device) -> Tensor | None:
    return None if array is None else torch.from_numpy(array).to(device)


def _device() -> torch.device:
    """The device of the option, resolved where the computation runs."""
    if OPTIONS["device"] != "auto":
        return torch.device(OPTIONS["device"])
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
