"""Networks, scalers and settings that tests of several folders use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch

from xcarbon.models.bundle import Scaler, scaling_bounds

Network = TypeVar("Network", bound=torch.nn.Module)


@dataclass(frozen=True)
class Inputs:
    """Settings of a model that has no network."""

    variables: tuple[str, ...]
    bands: tuple[str, ...] = ()
    context: int = 1
    min_context: int = 1
    statics: tuple[str, ...] = ()
    state: tuple[str, ...] = ()


def shaken(network: Network, scale: float = 0.2) -> Network:
    """Add noise to the weights of a fresh network, so that every path matters."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * scale)
    return network.eval()


def nee_scaler(variables: tuple[str, ...]) -> Scaler:
    """Scaler of NEE for hourly variables of the vocabulary."""
    return Scaler({"NEE": (-1.0, 5.0)}, 1, {code: scaling_bounds(code) for code in variables})
