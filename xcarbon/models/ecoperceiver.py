"""EcoPerceiver: predict a carbon flux from a window of weather and satellite patches.

This is the model of arXiv 2406.04940 (section 4 and appendix B.2), in the order of the paper. The paper
trains the prediction of the last hour of a window. The default loss of this package, ``loss="window"``, is
over all hours of the window; ``loss="last"`` is the paper's.

Letters in the comments on shapes:

====  =======================================  =====
B     windows in a batch
T     hours in a window                           32
V     hourly variables                            21
C     bands of a patch                             9
N     inputs of an hour, V or V + C, and one more with a state
M     state features
P     patches in a batch
K     octaves of the Fourier features             12
Hi    width of an input, 2K + embedding           40
Hl    width of a latent                          128
====  =======================================  =====
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
from xcarbon.core.variables import PAPER_INPUTS, PATCH_BANDS, PATCH_PIXELS, TIME_FEATURES, memory_code
from xcarbon.models.inputs import ModelInputs
from xcarbon.models.state import StateEmbedding

#: Epsilon of every LayerNorm, as in the authors' code.
EPS = 1e-12


@dataclass(frozen=True)
class EcoPerceiverConfig:
    """Settings of an EcoPerceiver; the defaults are the paper's and give 988,633 parameters.

    Attributes
    ----------
    variables : tuple of str
        Hourly inputs, in the order of the last axis of ``hourly``.
    bands : tuple of str
        Bands of a patch; empty for a model without patches.
    state : tuple of str
        State features: causal means of the past (:func:`~xcarbon.core.variables.memory_features`) and
        satellite series. Together they are one additional input of each hour. The paper has none.
    context : int
        Number of hours in a window, including the predicted hour.
    octaves : int
        Number K of octaves of the Fourier features; with 0 the value itself is the feature.
    embedding : int
        Width of the learned embedding of a variable or band.
    width, heads, mlp_ratio : int
        Width of the latents, number of heads of each attention, and hidden width of an MLP divided by
        ``width``.
    cross_blocks, self_layers : int
        Number of times that the shared block is applied, and number of self-attention layers after it.
    causal : bool
        Whether an hour attends only to itself and earlier hours of the window.
    dropout : float
        Share of the observations that are masked in training; time features and patches are never masked.
    group_dropout : float
        Probability with which :func:`~xcarbon.training.objective.drop_state` masks each group of state
        features in a training window.
    normalize_keys_values : bool
        Whether self-attention computes keys and values from the normalised latents. By default it uses the
        latents without LayerNorm, as the authors' code does; training converges equally well in both cases.

    Raises
    ------
    ModelError
        If the width is not a multiple of the number of heads, there are no variables, or the dropout is not
        in [0, 1).
    VariableError
        If a state feature is unknown.
    """

    variables: tuple[str, ...] = PAPER_INPUTS
    bands: tuple[str, ...] = PATCH_BANDS
    state: tuple[str, ...] = ()
    context: int = 32
    octaves: int = 12
    embedding: int = 16
    width: int = 128
    heads: int = 8
    mlp_ratio: int = 3
    cross_blocks: int = 8
    self_layers: int = 4
    causal: bool = True
    dropout: float = 0.3
    group_dropout: float = 0.1
    normalize_keys_values: bool = False
    #: The model uses no static site features.
    statics: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ModelError(f"width must be a multiple of heads ({self.heads}), found {self.width}")
        if not self.variables:
            raise ModelError("variables must contain at least one hourly variable, found none")
        check_range(self, "dropout", "group_dropout", ge=0, lt=1)
        for feature in self.state:
            memory_code(feature)

    @property
    def min_context(self) -> int:
        """Number of hours that a record needs for a prediction: a full window."""
        return self.context

    @property
    def value_width(self) -> int:
        """Width of the features of a value: K sines and K cosines, or the value itself."""
        return 2 * self.octaves or 1

    @property
    def input_width(self) -> int:
        """Width Hi of an input: the features of its value and its embedding."""
        return self.value_width + self.embedding


class EcoPerceiver(nn.Module):
    """Predict the flux of the last hour of a window; causal attention yields the earlier hours as well.

    Parameters
    ----------
    config : EcoPerceiverConfig, optional
        The settings; by default the paper's.

    Notes
    -----
    All cross-attention blocks share their weights and read the same inputs. Keys and values of width Hl for
    each input of width Hi would be the largest arrays of the model. Instead each query is multiplied by the
    weights of the keys, since ``q (W x + b) = (q W) x + q b``. The term ``q b`` is the same for all inputs of
    an hour, so it cancels in the softmax: the bias of the keys has no effect, as in every attention.

    Examples
    --------
    >>> model = EcoPerceiver(EcoPerceiverConfig())
    >>> sum(p.numel() for p in model.parameters())
    988633
    >>> model(ModelInputs(torch.rand(4, 32, 21) - 0.5)).shape
    torch.Size([4, 32])
    """

    def __init__(self, config: EcoPerceiverConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or EcoPerceiverConfig()
        self.embed = InputEmbedding(config)
        self.latents = nn.Parameter(torch.empty(config.context, config.width))  # (T, Hl)
        self.cross = WindowedCrossAttention(config)
        self.mix = SelfAttention(config)
        self.layers = nn.ModuleList(SelfAttention(config) for _ in range(config.self_layers))
        self.head = nn.Linear(config.width, 1)
        residual_layers = 2 * (2 * config.cross_blocks + config.self_layers)
        initialize(self, residual_layers)
        nn.init.normal_(self.latents, std=0.02)
        if self.embed.state is not None:
            self.embed.state.initialise()

    def forward(self, inputs: ModelInputs[Tensor]) -> Tensor:
        """Predict each hour of each window from this hour and the earlier hours of the window.

        Parameters
        ----------
        inputs : ModelInputs
            A batch of windows, with ``hourly`` of the shape ``(B, T, V)``.

        Returns
        -------
        Tensor
            Shape ``(B, T)``, in standardised units of the target. Only the last hour has the full context: it
            is the prediction.

        Raises
        ------
        ModelError
            If a shape does not fit the configuration.
        """
        inputs.check(self.config, self.config.context)
        embedded, present = self.embed(inputs)  # (B, T, N, Hi), (B, T, N)
        x = self.latents.expand(len(embedded), -1, -1)  # (B, T, Hl)
        for _ in range(self.config.cross_blocks):
            x = self.cross(x, embedded, present)  # (B, T, Hl)
            x = self.mix(x)  # (B, T, Hl)
        for layer in self.layers:
            x = layer(x)  # (B, T, Hl)
        return self.head(x).squeeze(-1)  # (B, T)


class InputEmbedding(nn.Module):
    """Turn each observation, each band of a patch, and the state into one input of width Hi."""

    def __init__(self, config: EcoPerceiverConfig) -> None:
        super().__init__()
        self.config = config
        value, pixels, bands = config.value_width, PATCH_PIXELS**2, len(config.bands)
        self.variable = nn.Parameter(torch.empty(len(config.variables), config.embedding))
        self.without_patch = nn.LayerNorm(config.input_width, eps=EPS)
        self.with_patch = nn.LayerNorm(config.input_width, eps=EPS)
        self.band = nn.Parameter(torch.empty(bands, config.embedding))
        self.band_weight = nn.Parameter(torch.empty(bands, pixels, value))
        self.band_bias = nn.Parameter(torch.zeros(bands, value))
        self.state = self.norm_state = None
        if config.state:
            self.state = StateEmbedding(len(config.state), config.width, config.input_width)
            self.norm_state = nn.LayerNorm(config.input_width, eps=EPS)
        for embedding in (self.variable, self.band):
            nn.init.normal_(embedding)
        nn.init.normal_(self.band_weight, std=pixels**-0.5)
        self.never_dropped = [n for n, code in enumerate(config.variables) if code in TIME_FEATURES]

    def forward(self, inputs: ModelInputs[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the embedded inputs ``(B, T, N, Hi)`` and whether they are present ``(B, T, N)``."""
        hourly, patches, patch_index = inputs.hourly, inputs.patches, inputs.patch_index
        if self.training and self.config.dropout:
            hourly = self.drop(hourly, torch.rand_like(hourly))
        present = ~torch.isnan(hourly)  # (B, T, V)
        observations = self.observations(hourly.masked_fill(~present, 0.0))  # (B, T, V, Hi)
        embedded = self.without_patch(observations)  # (B, T, V, Hi)
        if patches is None or patch_index is None:
            return self._append_state(embedded, present, inputs)
        images = self.images(patches)  # (P, C, Hi)
        has_patch = patch_index >= 0  # (B, T)
        # Most hours have no patch: their C band inputs stay zero and are marked as not present.
        embedded = F.pad(embedded, (0, 0, 0, images.shape[1]))  # (B, T, V + C, Hi)
        hours = torch.nonzero(has_patch, as_tuple=True)
        both = torch.cat([observations[hours], images[patch_index[hours]]], dim=1)  # (hours, V + C, Hi)
        embedded = embedded.index_put(hours, self.with_patch(both).to(embedded.dtype))  # (B, T, V + C, Hi)
        bands_present = has_patch[:, :, None].expand(-1, -1, images.shape[1])  # (B, T, C)
        return self._append_state(embedded, torch.cat([present, bands_present], dim=2), inputs)

    def _append_state(
        self, embedded: Tensor, present: Tensor, inputs: ModelInputs[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Append the state as one more input, ``(B, T, N, Hi), (B, T, N)``, if the model reads it."""
        if self.state is None or self.norm_state is None:
            return embedded, present
        state = self.norm_state(self.state(inputs.state, inputs.hourly))[:, :, None]  # (B, T, 1, Hi)
        known = torch.zeros_like(present[:, :, :1])  # (B, T, 1)
        if inputs.state is not None:
            known = inputs.state.isfinite().any(-1, keepdim=True)  # (B, T, 1)
        return torch.cat([embedded, state], dim=2), torch.cat([present, known], dim=2)

    def drop(self, hourly: Tensor, chance: Tensor) -> Tensor:
        """Mask the observations whose ``chance`` in [0, 1) is below the dropout, except time features."""
        dropped = chance < self.config.dropout  # (B, T, V)
        dropped[..., self.never_dropped] = False
        return hourly.masked_fill(dropped, torch.nan)

    def observations(self, hourly: Tensor) -> Tensor:
        """Concatenate the Fourier features and the embedding: ``(..., V) -> (..., V, Hi)``."""
        # The angles keep the precision of the data: in bfloat16 two hours have the same 2^11 pi x.
        octaves = 2.0 ** torch.arange(self.config.octaves, device=hourly.device, dtype=hourly.dtype)  # (K,)
        angle = hourly[..., None] * (octaves * math.pi)  # (..., V, K)
        values = torch.cat([angle.sin(), angle.cos()], dim=-1) if len(octaves) else hourly[..., None]
        values = values.to(self.variable.dtype)  # (..., V, 2K)
        return torch.cat([values, self.variable.expand(*hourly.shape, -1)], dim=-1)  # (..., V, Hi)

    def images(self, patches: Tensor) -> Tensor:
        """Map the pixels of each band linearly and append its embedding: ``(P, C, 8, 8) -> (P, C, Hi)``."""
        pixels = patches.flatten(2).to(self.band_weight.dtype)  # (P, C, 64)
        features = torch.einsum("pci,cio->pco", pixels, self.band_weight) + self.band_bias  # (P, C, 2K)
        return torch.cat([features, self.band.expand(len(patches), -1, -1)], dim=-1)  # (P, C, Hi)


class WindowedCrossAttention(nn.Module):
    """The latent of each hour attends to the inputs of the same hour."""

    def __init__(self, config: EcoPerceiverConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.LayerNorm(config.width, eps=EPS)
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.input_width, config.width)
        self.value = nn.Linear(config.input_width, config.width)
        self.out = nn.Linear(config.width, config.width)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, embedded: Tensor, present: Tensor) -> Tensor:
        """``(B, T, Hl), (B, T, N, Hi), (B, T, N) -> (B, T, Hl)``."""
        query = self.query(self.norm(x)).unflatten(-1, (self.heads, -1))  # (B, T, heads, Hl / heads)
        key, value = (layer.weight.unflatten(0, (self.heads, -1)) for layer in (self.key, self.value))
        # key and value are (heads, Hl / heads, Hi)
        query = torch.einsum("bthd,hdi->bthi", query, key * query.shape[-1] ** -0.5)  # (B, T, heads, Hi)
        score = torch.einsum("bthi,btni->bthn", query, embedded)  # (B, T, heads, N)
        # The lowest number instead of -inf: softmax of an hour without any input must not be NaN.
        score = score.masked_fill(~present[:, :, None], torch.finfo(score.dtype).min)
        read = torch.einsum("bthn,btni->bthi", score.softmax(-1), embedded)  # (B, T, heads, Hi)
        read = torch.einsum("bthi,hdi->bthd", read, value).flatten(2) + self.value.bias  # (B, T, Hl)
        return self.mlp(x + self.out(read * present.any(-1, keepdim=True)))  # (B, T, Hl)


class SelfAttention(nn.Module):
    """The latent of each hour attends to those of the same and earlier hours, or of the whole window."""

    def __init__(self, config: EcoPerceiverConfig) -> None:
        super().__init__()
        self.heads, self.causal = config.heads, config.causal
        self.normalize_keys_values = config.normalize_keys_values
        self.norm = nn.LayerNorm(config.width, eps=EPS)
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.out = nn.Linear(config.width, config.width)
        self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, Hl) -> (B, T, Hl)``."""
        normed = self.norm(x)  # (B, T, Hl)
        source = normed if self.normalize_keys_values else x  # (B, T, Hl)
        query, key, value = (
            projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, Hl / heads)
            for projected in (self.query(normed), self.key(source), self.value(source))
        )
        read = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        read = read.transpose(1, 2).flatten(2)  # (B, T, Hl)
        return self.mlp(x + self.out(read))  # (B, T, Hl)


class MLP(nn.Module):
    """The residual feed-forward half of every attention layer."""

    def __init__(self, config: EcoPerceiverConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width, eps=EPS)
        self.expand = nn.Linear(config.width, config.mlp_ratio * config.width)
        self.contract = nn.Linear(config.mlp_ratio * config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., Hl) -> (..., Hl)``."""
        return x + self.contract(F.gelu(self.expand(self.norm(x))))


def initialize(network: nn.Module, residual_layers: int) -> None:
    """Draw small weights, and smaller ones where a layer adds to the residual stream, as in GPT-2."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            is_residual = name.endswith(("out", "contract"))
            nn.init.normal_(module.weight, std=0.02 / (residual_layers**0.5 if is_residual else 1))
            nn.init.zeros_(module.bias)
