"""Networks behind the interface that all kinds of models have: numpy in, numpy out."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xcarbon.errors import ModelError
from xcarbon.models import fast, streaming
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.models.streaming import Sequences, StreamingConfig, StreamingEcoPerceiver
from xcarbon.options import OPTIONS

Network = TypeVar("Network", bound=nn.Module)


class NetworkPredictor:
    """An EcoPerceiver behind the interface of :class:`~xcarbon.models.bundle.Predictor`.

    Parameters
    ----------
    network : EcoPerceiver
        It computes on the device of the option, and stays there.
    """

    kind: ClassVar[str] = "ecoperceiver"
    name: ClassVar[str] = "EcoPerceiver"
    file: ClassVar[str] = "model.safetensors"

    def __init__(self, network: EcoPerceiver) -> None:
        self.network = network

    @property
    def config(self) -> EcoPerceiverConfig:
        """Settings of the network."""
        return self.network.config

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
        return output.float().cpu().numpy()

    def to_bytes(self) -> bytes:
        """Write the weights as safetensors."""
        return _to_bytes(self.network)

    @classmethod
    def from_bytes(cls, config: dict[str, Any], weights: bytes) -> NetworkPredictor:
        """Make it from settings and safetensors."""
        with torch.random.fork_rng():
            network = EcoPerceiver(EcoPerceiverConfig(**config))
        return cls(_load(network, weights))


class StreamingPredictor:
    """A streaming EcoPerceiver behind the interface of :class:`~xcarbon.models.bundle.Predictor`.

    Parameters
    ----------
    network : StreamingEcoPerceiver
        It computes on the device of the option, and stays there. Of its targets the first is predicted.
    """

    kind: ClassVar[str] = "streaming"
    name: ClassVar[str] = "streaming EcoPerceiver"
    file: ClassVar[str] = "model.safetensors"

    def __init__(self, network: StreamingEcoPerceiver) -> None:
        self.network = network

    @property
    def config(self) -> StreamingConfig:
        """Settings of the network."""
        return self.network.config

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
        output = np.full(len(wanted), np.nan, np.float32)
        if not wanted.any():
            return output
        device = _device()
        network = self.network.eval().to(device)
        hours = np.flatnonzero(wanted) + len(hourly) - len(wanted)  # their positions in hourly
        seen = slice(max(0, hours[0] - self.config.context + 1), hours[-1] + 1)
        index = None if patch_index is None else patch_index[seen][None]
        parts = (hourly[seen][None], patches, index, None if statics is None else statics[None])
        sequences = Sequences._make(_tensor(part, device) for part in parts)
        predicted = streaming.predict_series(network, sequences).mean[0, :, 0]
        output[wanted] = predicted[torch.from_numpy(hours - seen.start)].float().cpu().numpy()
        return output

    def to_bytes(self) -> bytes:
        """Write the weights as safetensors."""
        return _to_bytes(self.network)

    @classmethod
    def from_bytes(cls, config: dict[str, Any], weights: bytes) -> StreamingPredictor:
        """Make it from settings and safetensors."""
        with torch.random.fork_rng():
            network = StreamingEcoPerceiver(StreamingConfig(**config))
        return cls(_load(network, weights))


def _to_bytes(network: nn.Module) -> bytes:
    """Write weights as safetensors."""
    weights = {name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}
    return safetensors.torch.save(weights)


def _load(network: Network, weights: bytes) -> Network:
    """Give a network weights that were written as safetensors."""
    try:
        network.load_state_dict(safetensors.torch.load(weights))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise ModelError(str(error)) from error
    return network.eval()


def _tensor(array: NDArray[Any] | None, device: torch.device) -> Tensor | None:
    return None if array is None else torch.from_numpy(array).to(device)


def _device() -> torch.device:
    """The device of the option, resolved where the computation runs."""
    if OPTIONS["device"] != "auto":
        return torch.device(OPTIONS["device"])
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
