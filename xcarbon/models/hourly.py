"""Hourly network: a multilayer perceptron of one hour and of the state of the ecosystem.

The network computes each hour on its own. What happened before is contained in the state: memory and
satellite series (:mod:`xcarbon.prep.state`). It reads the same inputs as trees with ``features="state"``.

Letters in the comments on shapes are those of :mod:`xcarbon.models.streaming`; F is the number of features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xcarbon.core.errors import ModelError
from xcarbon.core.validation import check_range
from xcarbon.core.variables import IGBP_CLASSES, PAPER_INPUTS, VARIABLES
from xcarbon.models.inputs import ModelInputs, check_codes
from xcarbon.models.state import LIMIT
from xcarbon.models.streaming import MIN_LOG_SCALE, Prediction

#: Harmonics of cyclic variables, such as the time of day.
HARMONICS = 2


@dataclass(frozen=True)
class HourlyConfig:
    """Settings of an hourly network.

    Attributes
    ----------
    variables : tuple of str
        Hourly inputs, in the order of the last axis of ``hourly``.
    statics : tuple of str
        Static site features: ``igbp``, the class, or none. Coordinates are not read, because networks use
        them to identify single towers.
    state : tuple of str
        State features: causal means of the past (:func:`~xcarbon.core.variables.memory_features`) and
        satellite series.
    targets : tuple of str
        Variables to predict; none of them is an input.
    spread : bool
        Whether to predict the standard deviation of each target as well.
    width, layers : int
        Width of the residual stream, and number of residual blocks, each with a hidden layer of twice the
        width.
    dropout, variable_dropout, static_dropout, group_dropout : float
        Shares of inputs that are masked in training, as in
        :class:`~xcarbon.models.streaming.StreamingConfig`.

    Raises
    ------
    ModelError
        If there are no variables or targets, a target is also an input, or a number is out of its range.
    VariableError
        If a state feature is unknown.
    """

    variables: tuple[str, ...] = PAPER_INPUTS
    statics: tuple[str, ...] = ("igbp",)
    state: tuple[str, ...] = ()
    targets: tuple[str, ...] = ("NEE",)
    spread: bool = True
    width: int = 128
    layers: int = 3
    dropout: float = 0.05
    variable_dropout: float = 0.1
    static_dropout: float = 0.0
    group_dropout: float = 0.1

    #: The network does not read satellite patches, and a prediction depends on its own hour alone.
    bands: ClassVar[tuple[str, ...]] = ()
    context: ClassVar[int] = 1
    min_context: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_codes(self)
        if self.statics not in ((), ("igbp",)):
            raise ModelError(f"an hourly network reads the static igbp or none, found {self.statics}")
        check_range(self, "width", "layers", ge=1)
        check_range(self, "dropout", "variable_dropout", "static_dropout", "group_dropout", ge=0, lt=1)


class HourlyNetwork(nn.Module):
    """Predict fluxes of an hour from its inputs and the state of the ecosystem.

    Parameters
    ----------
    config : HourlyConfig, optional
        The settings.

    Examples
    --------
    >>> network = HourlyNetwork(HourlyConfig(state=("TA_30D", "LAI"), targets=("NEE", "GPP_NT")))
    >>> hours = ModelInputs(torch.rand(4, 100, 21) - 0.5, state=torch.rand(4, 100, 2))
    >>> network(hours).mean.shape
    torch.Size([4, 100, 2])
    """

    mean: Tensor  # (V + M,)
    std: Tensor  # (V + M,)

    def __init__(self, config: HourlyConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or HourlyConfig()
        cyclic = [VARIABLES[code].cyclic for code in config.variables]
        self.cyclic = [number for number, turns in enumerate(cyclic) if turns]
        self.linear = [number for number, turns in enumerate(cyclic) if not turns]
        numbers = len(config.variables) + len(config.state)
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("std", torch.ones(numbers))
        features = (2 * HARMONICS + 1) * len(self.cyclic) + 2 * (len(self.linear) + len(config.state))
        self.read = nn.Linear(features + len(IGBP_CLASSES) * len(config.statics), config.width)
        self.blocks = nn.ModuleList(ResidualBlock(config) for _ in range(config.layers))
        self.head = nn.Linear(config.width, len(config.targets) * (1 + config.spread))

    def standardise(self, mean: Tensor, std: Tensor) -> None:
        """Set mean and standard deviation of the variables and state features, both ``(V + M,)``.

        Parameters
        ----------
        mean, std : Tensor
            In scaled units for variables, and in the units of the state features; NaN or 0 where there is
            none.
        """
        self.mean.copy_(mean.nan_to_num(0.0))
        self.std.copy_(torch.where(std > 0, std, torch.ones_like(std)))

    def forward(self, inputs: ModelInputs[Tensor]) -> Prediction:
        """Predict every hour of a batch.

        Parameters
        ----------
        inputs : ModelInputs
            Hours in any arrangement, with ``hourly`` of the shape ``(B, L, V)``.

        Returns
        -------
        Prediction

        Raises
        ------
        ModelError
            If a shape does not fit the configuration.
        """
        inputs.check(self.config)
        x = self.read(self.features(inputs))  # (B, L, width)
        for block in self.blocks:
            x = block(x)  # (B, L, width)
        mean, *raw = self.head(F.gelu(x)).split(len(self.config.targets), dim=-1)  # each (B, L, targets)
        log_scale = F.softplus(raw[0] - MIN_LOG_SCALE) + MIN_LOG_SCALE if raw else None
        return Prediction(mean, log_scale)

    def features(self, inputs: ModelInputs[Tensor]) -> Tensor:
        """Encode the inputs, ``(B, L, F)``: numbers that are missing are 0, and marked by another number."""
        hourly, state = inputs.hourly, inputs.state
        if state is None:
            state = hourly.new_full((*hourly.shape[:2], len(self.config.state)), torch.nan)  # (B, L, M)
        numbers = (torch.cat([hourly, state], dim=-1) - self.mean) / self.std  # (B, L, V + M)
        known = numbers.isfinite()  # (B, L, V + M)
        variables = len(self.config.variables)
        numbers = numbers.clamp(-LIMIT, LIMIT).masked_fill(~known, 0.0)
        chosen = [*self.linear, *range(variables, variables + len(self.config.state))]
        angle = hourly[..., self.cyclic] * math.pi  # (B, L, cyclic variables)
        turns = [wave(angle * k) for k in range(1, HARMONICS + 1) for wave in (torch.sin, torch.cos)]
        parts = [numbers[..., chosen], known.to(numbers.dtype), *(turn.nan_to_num(0.0) for turn in turns)]
        if self.config.statics:
            parts.append(self._classes(inputs.statics, hourly))
        return torch.cat(parts, dim=-1)

    def _classes(self, statics: Tensor | None, hourly: Tensor) -> Tensor:
        """Indicators of the class of each hour, ``(B, L, classes)``; all 0 if it is unknown."""
        shape = (*hourly.shape[:2], len(IGBP_CLASSES))
        if statics is None:
            return hourly.new_zeros(shape)
        numbers = torch.arange(len(IGBP_CLASSES), device=statics.device)  # (classes,)
        return (statics[:, :1] == numbers).to(hourly.dtype)[:, None].expand(shape)


class ResidualBlock(nn.Module):
    """A residual block with one hidden layer, ``(B, L, width) -> (B, L, width)``."""

    def __init__(self, config: HourlyConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.expand = nn.Linear(config.width, 2 * config.width)
        self.contract = nn.Linear(2 * config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """Add the output of the hidden layer."""
        return x + self.contract(F.gelu(self.expand(self.norm(x))))
