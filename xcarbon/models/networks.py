"""Networks as predictors: numpy arrays in, numpy arrays out."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xcarbon.core.errors import ModelError
from xcarbon.core.options import OPTIONS
from xcarbon.models import fast, streaming
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.models.hourly import HourlyConfig, HourlyNetwork
from xcarbon.models.inputs import ModelInputs
from xcarbon.models.streaming import StreamingConfig, StreamingEcoPerceiver


class TorchPredictor:
    """Base class of all networks: weights are stored as safetensors, settings are a dataclass."""

    file: ClassVar[str] = "model.safetensors"

    def __init__(self, network: Any) -> None:
        self.network = network

    @property
    def config(self) -> Any:
        """Settings of the network."""
        return self.network.config

    def to_bytes(self) -> bytes:
        """Write the weights as safetensors."""
        weights = {name: tensor.contiguous().cpu() for name, tensor in self.network.state_dict().items()}
        return safetensors.torch.save(weights)

    @classmethod
    def from_bytes(cls, config: dict[str, Any], weights: bytes) -> Self:
        """Create a predictor from settings and safetensors."""
        try:
            tensors = safetensors.torch.load(weights)
            with torch.random.fork_rng():
                network = cls.make(config)
            network.load_state_dict(tensors)
        except (RuntimeError, safetensors.SafetensorError) as error:
            raise ModelError(str(error)) from error
        return cls(network.eval())

    @classmethod
    def make(cls, config: dict[str, Any]) -> nn.Module:
        """Create the network for these settings; the weights are not loaded yet."""
        raise NotImplementedError

    def _prepare(self) -> torch.device:
        """Move the network to the device of the option, in evaluation mode, and return the device."""
        name = OPTIONS["device"]
        if name == "auto":  # resolved on the machine of the computation
            name = "cuda" if torch.cuda.is_available() else "cpu"
        self.network.eval().to(name)
        return torch.device(name)


class EcoPerceiverPredictor(TorchPredictor):
    """An EcoPerceiver with the interface of :class:`~xcarbon.models.bundle.Predictor`.

    Parameters
    ----------
    network : EcoPerceiver
        The network. A prediction moves it to the device of the option ``device``.
    """

    kind: ClassVar[str] = "ecoperceiver"
    name: ClassVar[str] = "EcoPerceiver"
    has_spread: ClassVar[bool] = False  # the paper's model does not predict the deviation of its error

    def predict_series(
        self, inputs: ModelInputs[NDArray[Any]], wanted: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Predict in standardised units; see :meth:`xcarbon.models.bundle.CarbonModel.predict_series`."""
        windows = inputs.without_statics().padded(len(wanted) + self.config.context - 1)
        series = _tensors(windows, self._prepare())
        output = fast.predict_series(self.network, series, wanted)
        return output.float().cpu().numpy()[np.newaxis]

    @classmethod
    def make(cls, config: dict[str, Any]) -> EcoPerceiver:
        """Create the network for these settings."""
        return EcoPerceiver(EcoPerceiverConfig(**config))


class SpreadPredictor(TorchPredictor):
    """Base class of the networks that predict a mean and, if they were trained to, a standard deviation."""

    @property
    def has_spread(self) -> bool:
        """Whether it was trained to predict its uncertainty."""
        return bool(self.config.spread)

    def _output(self, wanted: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Missing outputs ``(outputs, hours)``."""
        return np.full((len(self.config.targets) * (1 + self.has_spread), len(wanted)), np.nan, np.float32)


class StreamingPredictor(SpreadPredictor):
    """A streaming EcoPerceiver with the interface of :class:`~xcarbon.models.bundle.Predictor`.

    Parameters
    ----------
    network : StreamingEcoPerceiver
        The network. A prediction moves it to the device of the option ``device``.
    """

    kind: ClassVar[str] = "streaming"
    name: ClassVar[str] = "streaming EcoPerceiver"

    def predict_series(
        self, inputs: ModelInputs[NDArray[Any]], wanted: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Predict in standardised units; see :meth:`xcarbon.models.bundle.CarbonModel.predict_series`.

        One pass computes all hours from the first wanted one to the last.
        """
        output = self._output(wanted)
        if not wanted.any():
            return output
        hours = np.flatnonzero(wanted) + len(inputs.hourly) - len(wanted)  # their positions in hourly
        start = max(0, hours[0] - self.config.context + 1)
        series = _tensors(inputs.between(start, hours[-1] + 1), self._prepare())
        mean, log_scale = streaming.predict_series(self.network, series.batched())
        predicted = mean if log_scale is None else torch.cat([mean, log_scale.exp()], dim=-1)
        output[:, wanted] = predicted[0, torch.from_numpy(hours - start)].T.float().cpu().numpy()
        return output

    @classmethod
    def make(cls, config: dict[str, Any]) -> nn.Module:
        """Create the network for these settings."""
        return StreamingEcoPerceiver(StreamingConfig(**config))


class HourlyPredictor(SpreadPredictor):
    """An hourly network with the interface of :class:`~xcarbon.models.bundle.Predictor`.

    Parameters
    ----------
    network : HourlyNetwork
        The network. A prediction moves it to the device of the option ``device``.
    """

    kind: ClassVar[str] = "hourly"
    name: ClassVar[str] = "hourly network"

    def predict_series(
        self, inputs: ModelInputs[NDArray[Any]], wanted: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Predict in standardised units; see :meth:`xcarbon.models.bundle.CarbonModel.predict_series`."""
        output = self._output(wanted)
        hours = np.flatnonzero(wanted) + len(inputs.hourly) - len(wanted)
        state = None if inputs.state is None else inputs.state[hours]
        chosen = ModelInputs(inputs.hourly[hours], statics=inputs.statics, state=state)
        series = _tensors(chosen, self._prepare()).batched()
        parts = []
        with torch.inference_mode():
            for start in range(0, len(hours), streaming.CHUNK_HOURS):
                mean, log_scale = self.network(series.between(start, start + streaming.CHUNK_HOURS))
                parts.append(mean if log_scale is None else torch.cat([mean, log_scale.exp()], dim=-1))
        if parts:
            output[:, wanted] = torch.cat(parts, dim=1)[0].T.float().cpu().numpy()
        return output

    @classmethod
    def make(cls, config: dict[str, Any]) -> nn.Module:
        """Create the network for these settings."""
        return HourlyNetwork(HourlyConfig(**config))


def _tensors(inputs: ModelInputs[NDArray[Any]], device: torch.device) -> ModelInputs[Tensor]:
    """Move arrays to a device."""
    return inputs.map(lambda array: torch.from_numpy(array).to(device))
