"""Networks behind the interface that all kinds of models have: numpy in, numpy out."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from xcarbon.errors import ModelError
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.models.fast import predict_series
from xcarbon.options import OPTIONS


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
    ) -> NDArray[np.float32]:
        """Predict in standardised units; see :meth:`xcarbon.models.bundle.CarbonModel.predict_series`."""
        device = _device()
        network = self.network.eval().to(device)
        series = torch.from_numpy(hourly).to(device)
        images, index = (
            None if part is None else torch.from_numpy(part).to(device) for part in (patches, patch_index)
        )
        output = predict_series(network, series, wanted, images, index)
        return output.float().cpu().numpy()

    def to_bytes(self) -> bytes:
        """Write the weights as safetensors."""
        weights = {name: tensor.contiguous().cpu() for name, tensor in self.network.state_dict().items()}
        return safetensors.torch.save(weights)

    @classmethod
    def from_bytes(cls, config: dict[str, Any], weights: bytes) -> NetworkPredictor:
        """Make it from settings and safetensors."""
        with torch.random.fork_rng():
            network = EcoPerceiver(EcoPerceiverConfig(**config))
        try:
            network.load_state_dict(safetensors.torch.load(weights))
        except (RuntimeError, safetensors.SafetensorError) as error:
            raise ModelError(str(error)) from error
        return cls(network.eval())


def _device() -> torch.device:
    """The device of the option, resolved where the computation runs."""
    if OPTIONS["device"] != "auto":
        return torch.device(OPTIONS["device"])
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
