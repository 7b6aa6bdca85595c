"""EcoPerceiver: a carbon flux from a window of weather and satellite patches, in the paper's order.

The model of arXiv 2406.04940 (section 4 and appendix B.2). Letters in the shape comments:

====  =======================================  =====
B     windows in a batch
T     hours in a window                           32
V     hourly variables                            21
C     patch bands                                  9
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
from xcarbon.core.variables import PAPER_INPUTS, PATCH_BANDS, PATCH_PIXELS, TIME_FEATURES


@dataclass(frozen=True)
class EcoPerceiverConfig:
    """Settings of an EcoPerceiver; the defaults are the paper's and give 988,633 parameters.

    Attributes
    ----------
    variables : tuple of str
        Hourly inputs, in the order of the last axis of ``hourly``.
    bands : tuple of str
        Bands of a patch; empty for a model without patches.
    context : int
        Hours in a window, the predicted one included.
    octaves : int
        Number K of octaves of the Fourier features; with 0 an observation enters as it is.
    embedding : int
        Width of the learned embedding of a variable or band.
    width, heads, mlp_ratio : int
        Width of the latents, heads of every attention, hidden width of an MLP over ``width``.
    cross_blocks, self_layers : int
        How often the shared block is applied, and the self-attention layers after it.
    causal : bool
        Whether an hour's latent attends to its own and earlier hours alone, not to later ones.
    dropout : float
        Share of the observations masked in training; time features and patches never are.
    normalize_keys_values : bool
        Take the self-attention's keys and values from the normalised latents. By default they come from
        the latents as they are, as in the authors' code: from a well-conditioned start the two
        learn equally well.

    Raises
    ------
    ModelError
        If the width does not divide into the heads or nothing is left to predict from.
    """

    variables: tuple[str, ...] = PAPER_INPUTS
    bands: tuple[str, ...] = PATCH_BANDS
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
    normalize_keys_values: bool = False
    #: It reads nothing of a place.
    statics: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ModelError(f"width {self.width} is not a multiple of {self.heads} heads")
        if not self.variables:
            raise ModelError("a model needs at least one hourly variable")
        check_range(self, "dropout", ge=0, lt=1)

    @property
    def min_context(self) -> int:
        """Hours that a record must have for a prediction: a window."""
        return self.context

    @property
    def value_width(self) -> int:
        """Width of what an observation's value becomes: sines and cosines, or itself."""
        return 2 * self.octaves or 1

    @property
    def input_width(self) -> int:
        """Width Hi of an input: the value and the embedding."""
        return self.value_width + self.embedding


class EcoPerceiver(nn.Module):
    """Predict the flux of a window's last hour; being causal, the hours before it come for free.

    Parameters
    ----------
    config : EcoPerceiverConfig
        The settings; the paper's by default.

    Notes
    -----
    The blocks share one set of weights and read the same inputs. Rather than giving each input a key and
    a value, which are six times as wide, a query is taken to where the inputs are:
    ``q (W x + b) = (q W) x + q b``, and softmax does not see ``q b``, which is the same for all inputs of an
    hour. So the bias of the keys has no influence, here as in every attention.

    Examples
    --------
    >>> model = EcoPerceiver(EcoPerceiverConfig())
    >>> sum(p.numel() for p in model.parameters())
    988633
    >>> hourly = torch.rand(4, 32, 21) - 0.5
    >>> model(hourly).shape
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
        self._initialize()

    def _initialize(self) -> None:
        """Small weights, smaller ones where a layer adds to the residual stream, as in GPT-2."""
        depth = 2 * (2 * self.config.cross_blocks + self.config.self_layers)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                is_residual = name.endswith(("out", "contract"))
                nn.init.normal_(module.weight, std=0.02 / (depth**0.5 if is_residual else 1))
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.latents, std=0.02)

    def forward(
        self, hourly: Tensor, patches: Tensor | None = None, patch_index: Tensor | None = None
    ) -> Tensor:
        """Predict every hour of each window from itself and the hours before it in the window.

        Parameters
        ----------
        hourly : Tensor
            Scaled variables [1], shape ``(B, T, V)``; NaN where missing.
        patches : Tensor, optional
            Patches that the windows see, shape ``(P, C, 8, 8)``: reflectance [1], snow and water
            flags, -1 where fill.
        patch_index : Tensor, optional
            Which patch enters at each hour, integer, shape ``(B, T)``; -1 for none.

        Returns
        -------
        Tensor
            Shape ``(B, T)``, in standardised units of the target. The last hour, the only one with the
            full context, is the prediction proper.

        Raises
        ------
        ModelError
            If the shapes are not those of the configuration.
        """
        _check_shapes(self.config, hourly, patches, patch_index)
        inputs, present = self.embed(hourly, patches, patch_index)  # (B, T, V + C, Hi), (B, T, V + C)
        x = self.latents.expand(len(hourly), -1, -1)  # (B, T, Hl)
        for _ in range(self.config.cross_blocks):
            x = self.mix(self.cross(x, inputs, present))  # (B, T, Hl)
        for layer in self.layers:
            x = layer(x)  # (B, T, Hl)
        return self.head(x).squeeze(-1)  # (B, T)


class InputEmbedding(nn.Module):
    """Every observation and every patch band becomes one input of width Hi."""

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
        for embedding in (self.variable, self.band):
            nn.init.normal_(embedding)
        nn.init.normal_(self.band_weight, std=pixels**-0.5)
        self.never_dropped = [n for n, code in enumerate(config.variables) if code in TIME_FEATURES]

    def forward(
        self, hourly: Tensor, patches: Tensor | None, patch_index: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return inputs ``(B, T, V + C, Hi)`` and which are present ``(B, T, V + C)``."""
        if self.training and self.config.dropout:
            hourly = self.drop(hourly, torch.rand_like(hourly))
        present = ~torch.isnan(hourly)  # (B, T, V)
        observations = self.observations(hourly.masked_fill(~present, 0.0))  # (B, T, V, Hi)
        inputs = self.without_patch(observations)  # (B, T, V, Hi)
        if patches is None or patch_index is None:
            return inputs, present
        images = self.images(patches)  # (P, C, Hi)
        has_patch = patch_index >= 0  # (B, T)
        # Few hours have a patch: the others get C inputs that nobody sees.
        inputs = F.pad(inputs, (0, 0, 0, images.shape[1]))  # (B, T, V + C, Hi)
        hours = torch.nonzero(has_patch, as_tuple=True)
        both = torch.cat([observations[hours], images[patch_index[hours]]], dim=1)  # (hours, V + C, Hi)
        inputs = inputs.index_put(hours, self.with_patch(both).to(inputs.dtype))
        seen = has_patch[:, :, None].expand(-1, -1, images.shape[1])  # (B, T, C)
        return inputs, torch.cat([present, seen], dim=2)

    def drop(self, hourly: Tensor, chance: Tensor) -> Tensor:
        """Make observations missing whose ``chance`` [0, 1) is below the dropout, never time features."""
        dropped = chance < self.config.dropout  # (B, T, V)
        dropped[..., self.never_dropped] = False
        return hourly.masked_fill(dropped, torch.nan)

    def observations(self, hourly: Tensor) -> Tensor:
        """Fourier features and embedding of each observation, ``(..., V) -> (..., V, Hi)``.

        The angles are in the precision of the data, not of the weights: bfloat16 cannot tell hours apart
        at 2^11 pi x.
        """
        octaves = 2.0 ** torch.arange(self.config.octaves, device=hourly.device, dtype=hourly.dtype)
        angle = hourly[..., None] * (octaves * math.pi)  # (..., V, K)
        values = torch.cat([angle.sin(), angle.cos()], dim=-1) if len(octaves) else hourly[..., None]
        values = values.to(self.variable.dtype)  # (..., V, 2K)
        return torch.cat([values, self.variable.expand(*hourly.shape, -1)], dim=-1)

    def images(self, patches: Tensor) -> Tensor:
        """A linear map of each band's pixels, and its embedding, ``(P, C, 8, 8) -> (P, C, Hi)``."""
        pixels = patches.flatten(2).to(self.band_weight.dtype)  # (P, C, 64)
        features = torch.einsum("pci,cio->pco", pixels, self.band_weight) + self.band_bias
        return torch.cat([features, self.band.expand(len(patches), -1, -1)], dim=-1)


class WindowedCrossAttention(nn.Module):
    """Each hour's latent attends to the inputs of its own hour."""

    def __init__(self, config: EcoPerceiverConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.LayerNorm(config.width, eps=EPS)
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.input_width, config.width)
        self.value = nn.Linear(config.input_width, config.width)
        self.out = nn.Linear(config.width, config.width)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, inputs: Tensor, present: Tensor) -> Tensor:
        """``(B, T, Hl), (B, T, N, Hi), (B, T, N) -> (B, T, Hl)``."""
        query = self.query(self.norm(x)).unflatten(-1, (self.heads, -1))  # (B, T, heads, Hl / heads)
        key, value = (layer.weight.unflatten(0, (self.heads, -1)) for layer in (self.key, self.value))
        asked = torch.einsum("bthd,hdi->bthi", query, key * query.shape[-1] ** -0.5)  # (B, T, heads, Hi)
        score = torch.einsum("bthi,btni->bthn", asked, inputs)  # (B, T, heads, N)
        # The lowest number instead of -inf: an hour without any input must not divide zero by zero.
        score = score.masked_fill(~present[:, :, None], torch.finfo(score.dtype).min)
        read = torch.einsum("bthn,btni->bthi", score.softmax(-1), inputs)  # (B, T, heads, Hi)
        read = torch.einsum("bthi,hdi->bthd", read, value).flatten(2) + self.value.bias  # (B, T, Hl)
        return self.mlp(x + self.out(read * present.any(-1, keepdim=True)))


class SelfAttention(nn.Module):
    """Each hour's latent attends to those of its own and earlier hours, or of the whole window."""

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
        normed = self.norm(x)
        source = normed if self.normalize_keys_values else x
        query, keys, values = (
            _split(linear(tokens), self.heads)  # (B, heads, T, Hl / heads)
            for linear, tokens in ((self.query, normed), (self.key, source), (self.value, source))
        )
        read = F.scaled_dot_product_attention(query, keys, values, is_causal=self.causal)
        return self.mlp(x + self.out(read.transpose(1, 2).flatten(2)))


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


#: Of every LayerNorm, as in the paper's code.
EPS = 1e-12


def _split(x: Tensor, heads: int) -> Tensor:
    """Split the last axis into heads, ``(..., N, H) -> (..., heads, N, H / heads)``."""
    return x.unflatten(-1, (heads, -1)).transpose(-3, -2)


def _check_shapes(
    config: EcoPerceiverConfig, hourly: Tensor, patches: Tensor | None, patch_index: Tensor | None
) -> None:
    hours, variables = config.context, len(config.variables)
    if hourly.ndim != 3 or tuple(hourly.shape[1:]) != (hours, variables):
        raise ModelError(f"hourly must be (B, {hours}, {variables}), found {tuple(hourly.shape)}")
    if patches is None or patch_index is None:
        return
    expected = (len(config.bands), PATCH_PIXELS, PATCH_PIXELS)
    if tuple(patches.shape[1:]) != expected:
        raise ModelError(f"patches must be (P, *{expected}), found {tuple(patches.shape)}")
    if patch_index.shape != hourly.shape[:2]:
        raise ModelError(f"patch_index must be {tuple(hourly.shape[:2])}, found {tuple(patch_index.shape)}")
