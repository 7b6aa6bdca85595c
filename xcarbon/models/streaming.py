"""Streaming EcoPerceiver: one token for each hour, and a prediction at every hour.

EcoPerceiver (:mod:`xcarbon.models.ecoperceiver`) computes all 32 hours of a window for each predicted hour.
This model computes each hour once: its token attends to the observations of the hour and to the static site
features of the tower, and then, in each layer, to the tokens of the last W hours. The encodings of the inputs
are those of EcoPerceiver. It differs from EcoPerceiver in these points:

- All hours start from the same latent, because an hour has no fixed position in a window. Rotary position
  embeddings of queries and keys (RoFormer, arXiv 2104.09864) represent how far two hours are apart.
- Each layer has its own weights, and there are fewer layers. A layer attends to W hours, and a prediction
  depends on ``1 + layers (W - 1)`` hours.
- Cross attention has no projections for keys and values: the queries have the width of the inputs, and the
  attention's output goes to the token through one linear map.
- Static site features (class and position) are additional inputs of every hour.
- The state of the ecosystem, memory and satellite series, is added to the latent that an hour starts from.
- The loss is over all hours of a sequence; the paper predicts the last hour of a window.

Letters in the comments on shapes, in addition to those of :mod:`xcarbon.models.ecoperceiver`:

====  ===========================================================================
B, L  sequences in a batch, and consecutive hours in a sequence
S     static site features
N     inputs of an hour, V + S, or V + C + S with patches
W     hours that a layer attends to, including the hour itself
Q     hours in a block of the self-attention, which attends to W - 1 + Q hours
====  ===========================================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xcarbon.core.errors import ModelError
from xcarbon.core.validation import check_range
from xcarbon.core.variables import IGBP_CLASSES, PAPER_INPUTS, PATCH_BANDS, STATICS
from xcarbon.models.ecoperceiver import EPS, MLP, EcoPerceiverConfig, InputEmbedding, initialize
from xcarbon.models.inputs import ModelInputs, check_codes
from xcarbon.models.state import StateEmbedding

#: Octaves of the position of a tower. More octaves would let the network memorise single towers.
STATIC_OCTAVES = 4
#: Ratio of the fastest rotation, one radian per hour, to the slowest one, one turn in several weeks.
ROTARY_BASE = 100.0
#: Lower limit of the logarithm of the predicted standard deviation, since some fluxes are zero for hours.
MIN_LOG_SCALE = -5.0
#: Hours of a series that are computed at once: their arrays fit into the caches of a processor.
CHUNK_HOURS = 512


@dataclass(frozen=True)
class StreamingConfig:
    """Settings of a streaming EcoPerceiver.

    Attributes
    ----------
    variables, bands, statics : tuple of str
        Hourly inputs, patch bands and static site features (:data:`~xcarbon.core.variables.STATICS`), in the
        order of the arrays.
    state : tuple of str
        State features: causal means of the past (:func:`~xcarbon.core.variables.memory_features`) and
        satellite series.
    targets : tuple of str
        Variables to predict; none of them is an input.
    spread : bool
        Whether to predict the standard deviation of each target as well.
    window : int
        Number W of hours that a layer attends to, including the hour itself.
    octaves, embedding, width, heads, mlp_ratio : int
        As in :class:`~xcarbon.models.ecoperceiver.EcoPerceiverConfig`.
    layers, cross_blocks : int
        Number of self-attention layers, and number of them, from the first one, that follow a cross
        attention.
    dropout : float
        Share of the observations that :func:`~xcarbon.training.objective.drop` masks in training; time
        features are never masked.
    variable_dropout, static_dropout : float
        Largest share of whole variables and patches, and of static site features, that is masked in a
        training sequence.
    group_dropout : float
        Probability with which all static site features, and each group of state features
        (:func:`~xcarbon.core.variables.state_groups`), are masked in a training sequence.

    Raises
    ------
    VariableError
        If a state feature is unknown.
    ModelError
        If there are no variables or targets, a target is also an input, a static site feature is unknown, or
        a number is out of its range.
    """

    variables: tuple[str, ...] = PAPER_INPUTS
    bands: tuple[str, ...] = PATCH_BANDS
    statics: tuple[str, ...] = tuple(STATICS)
    state: tuple[str, ...] = ()
    targets: tuple[str, ...] = ("NEE",)
    spread: bool = True
    window: int = 32
    octaves: int = 12
    embedding: int = 16
    width: int = 128
    heads: int = 8
    mlp_ratio: int = 3
    layers: int = 6
    cross_blocks: int = 2
    dropout: float = 0.1
    variable_dropout: float = 0.2
    static_dropout: float = 0.6
    group_dropout: float = 0.1

    def __post_init__(self) -> None:
        check_codes(self)
        if set(self.statics) - set(STATICS):
            raise ModelError(f"statics must be among {list(STATICS)}, found {self.statics}")
        check_range(self, "window", ge=1)
        check_range(self, "cross_blocks", ge=1, le=self.layers)
        if self.width % (2 * self.heads):
            raise ModelError(f"width must be a multiple of 2 x {self.heads} heads, found {self.width}")
        check_range(self, "dropout", "variable_dropout", "static_dropout", "group_dropout", ge=0, le=1)

    @property
    def parts(self) -> EcoPerceiverConfig:
        """Settings of the modules that are shared with EcoPerceiver, without dropout."""
        names = ("variables", "bands", "octaves", "embedding", "width", "heads", "mlp_ratio")
        return EcoPerceiverConfig(**{name: getattr(self, name) for name in names}, dropout=0.0)

    @property
    def context(self) -> int:
        """Number of hours that a prediction depends on, including its own."""
        return 1 + self.layers * (self.window - 1)

    @property
    def min_context(self) -> int:
        """Number of hours that a record needs for a prediction: the hour itself."""
        return 1


class Prediction(NamedTuple):
    """Predictions in standardised units of the targets."""

    mean: Tensor  # (B, L, targets)
    log_scale: Tensor | None  # (B, L, targets): logarithm of the standard deviation; None without spread


class KVCache(NamedTuple):
    """Keys and values of the last W - 1 hours; if fewer hours were computed, the first rows are unused.

    Attributes
    ----------
    keys_values : tuple of Tensor
        Keys and values of each self-attention, shape ``(B, W - 1, 2 Hl)``.
    hours : int
        Number of hours that were computed so far.
    """

    keys_values: tuple[Tensor, ...]
    hours: int


class StreamingEcoPerceiver(nn.Module):
    """Predict fluxes at every hour of a sequence from this hour and the earlier ones.

    The network itself is deterministic; in training :func:`~xcarbon.training.objective.drop` masks inputs.

    Parameters
    ----------
    config : StreamingConfig, optional
        The settings.

    Notes
    -----
    Multiply-adds for one hour in linear layers and attention, with the default settings and all inputs:

    ===========================================  ===================  =====  =========
    queries of cross attention, from the 2nd on  Hl heads Hi              1     40,960
    cross attention and its output               (2 N + Hl) heads Hi      2    125,440
    self-attention: queries, keys, values, out   4 Hl^2                   6    393,216
    attention to hours                           2 (2 W - 1) Hl           6     96,768
    MLP                                          2 mlp_ratio Hl^2         8    786,432
    head                                         2 targets Hl             1        256
    sum                                                                      1,443,072
    ===========================================  ===================  =====  =========

    The linear map of the bands adds 14 thousand per day.

    Examples
    --------
    >>> network = StreamingEcoPerceiver(StreamingConfig(targets=("NEE", "GPP_NT"), spread=True))
    >>> towers = ModelInputs(torch.rand(4, 100, 21) - 0.5)
    >>> network(towers).log_scale.shape
    torch.Size([4, 100, 2])
    >>> first, cache = network.advance(None, towers.between(0, 99))
    >>> last, cache = network.advance(cache, towers.between(99, 100))
    >>> torch.allclose(last.mean, network(towers).mean[:, 99:], atol=1e-5)
    True
    """

    def __init__(self, config: StreamingConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or StreamingConfig()
        self.embed = InputEmbedding(config.parts)
        self.statics = StaticEmbedding(config) if config.statics else None
        self.state = (
            StateEmbedding(len(config.state), 2 * config.width, config.width) if config.state else None
        )
        self.latent = nn.Parameter(0.02 * torch.randn(config.width))  # (Hl,)
        self.cross = nn.ModuleList(CrossAttention(config) for _ in range(config.cross_blocks))
        self.layers = nn.ModuleList(SlidingAttention(config) for _ in range(config.layers))
        self.head = nn.Linear(config.width, len(config.targets) * (1 + config.spread))
        initialize(self, residual_layers=2 * (config.cross_blocks + config.layers))
        if self.state is not None:
            self.state.initialise()

    def forward(self, inputs: ModelInputs[Tensor]) -> Prediction:
        """Predict every hour of sequences; the first hours have less context. See :meth:`advance`."""
        return self.advance(None, inputs)[0]

    def advance(self, cache: KVCache | None, inputs: ModelInputs[Tensor]) -> tuple[Prediction, KVCache]:
        """Predict the next hours, with the same result as one pass over all hours.

        Parameters
        ----------
        cache : KVCache or None
            Keys and values of the hours before; None for the first hours of the sequences.
        inputs : ModelInputs
            The next hours, at least one, with ``hourly`` of the shape ``(B, L, V)``.

        Returns
        -------
        Prediction, KVCache
            The predictions of these hours, and the cache for the hours after them.

        Raises
        ------
        ModelError
            If a shape does not fit the configuration.
        """
        inputs.check(self.config)
        config, (batch, hours, _) = self.config, inputs.hourly.shape
        embedded, present = self.embed_inputs(inputs)  # (B, L, N, Hi), (B, L, N)
        if cache is None:
            empty = embedded.new_zeros(batch, config.window - 1, 2 * config.width)
            cache = KVCache((empty,) * config.layers, 0)
        span = _Span.of(config, cache, hours)
        x = self.latent.expand(1, 1, -1)  # (1, 1, Hl): without a state, the first queries are all the same
        if self.state is not None:
            x = x + self.state(inputs.state, inputs.hourly)  # (B, L, Hl)
        kept = []
        for number, layer in enumerate(self.layers):
            if number < config.cross_blocks:
                x = self.cross[number](x, embedded, present)  # (B, L, Hl)
            x, keys_values = layer(x, cache.keys_values[number], span)  # (B, L, Hl), (B, W - 1, 2 Hl)
            kept.append(keys_values)
        mean, *raw = self.head(x).split(len(config.targets), dim=-1)  # each (B, L, targets)
        log_scale = F.softplus(raw[0] - MIN_LOG_SCALE) + MIN_LOG_SCALE if raw else None
        return Prediction(mean, log_scale), KVCache(tuple(kept), cache.hours + hours)

    def embed_inputs(self, inputs: ModelInputs[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the embedded inputs ``(B, L, N, Hi)`` and whether they are present ``(B, L, N)``."""
        embedded, present = self.embed(inputs)  # (B, L, V + C, Hi), (B, L, V + C)
        if self.statics is None or inputs.statics is None:
            return embedded, present
        site, known = self.statics(inputs.statics)  # (B, S, Hi), (B, S)
        hours = inputs.hourly.shape[1]
        site = site[:, None].expand(-1, hours, -1, -1)  # (B, L, S, Hi)
        known = known[:, None].expand(-1, hours, -1)  # (B, L, S)
        return torch.cat([embedded, site], dim=2), torch.cat([present, known], dim=2)


class StaticEmbedding(nn.Module):
    """Turn each static site feature into one input of width Hi."""

    def __init__(self, config: StreamingConfig) -> None:
        super().__init__()
        self.names, self.octaves = config.statics, config.octaves
        classes = len(IGBP_CLASSES) if "igbp" in self.names else 0
        self.static = nn.Parameter(torch.randn(len(self.names), config.embedding))
        self.igbp = nn.Parameter(torch.randn(classes, 2 * config.octaves))
        self.norm = nn.LayerNorm(config.parts.input_width, eps=EPS)

    def forward(self, statics: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs ``(B, S, Hi)`` and which are known ``(B, S)``; values out of bounds are unknown."""
        lower, upper, half_period = torch.tensor([STATICS[name] for name in self.names]).to(statics).T
        known = (statics >= lower) & (statics <= upper)  # (B, S)
        statics = statics.masked_fill(~known, 0.0)  # (B, S)
        octave = torch.arange(self.octaves, device=statics.device)  # (K,)
        angle = (statics * math.pi / half_period)[..., None] * 2.0**octave  # (B, S, K)
        features = torch.cat([angle.sin(), angle.cos()], dim=-1)  # (B, S, 2K)
        features = features * (octave < STATIC_OCTAVES).repeat(2)  # (B, S, 2K)
        features = features.to(self.static.dtype)  # (B, S, 2K)
        if "igbp" in self.names:
            number = self.names.index("igbp")
            features[:, number] = self.igbp[statics[:, number].long()]
        embedding = self.static.expand(len(statics), -1, -1)  # (B, S, embedding)
        return self.norm(torch.cat([features, embedding], dim=-1)), known


class CrossAttention(nn.Module):
    """The token of each hour attends to the inputs of the same hour."""

    def __init__(self, config: StreamingConfig) -> None:
        super().__init__()
        self.heads = config.heads
        queries = config.heads * config.parts.input_width
        self.norm = nn.LayerNorm(config.width, eps=EPS)
        self.ask = nn.Linear(config.width, queries)
        self.out = nn.Linear(queries, config.width)
        self.mlp = MLP(config.parts)

    def forward(self, x: Tensor, embedded: Tensor, present: Tensor) -> Tensor:
        """``(B, L, Hl) or (1, 1, Hl), (B, L, N, Hi), (B, L, N) -> (B, L, Hl)``."""
        query = self.ask(self.norm(x)).unflatten(-1, (self.heads, -1))  # (B, L, heads, Hi)
        query = query.expand(*embedded.shape[:2], -1, -1)  # (B, L, heads, Hi)
        observed = present.any(-1, keepdim=True)  # (B, L, 1)
        # Softmax over no input would be NaN: an hour without any attends to all, and the result is set to 0.
        mask = (present | ~observed)[:, :, None]  # (B, L, 1, N)
        # SDPA takes hours as heads and heads as queries, since all heads attend to the same inputs.
        read = F.scaled_dot_product_attention(query, embedded, embedded, attn_mask=mask)  # (B, L, heads, Hi)
        return self.mlp(x + self.out(read.flatten(2) * observed))  # (B, L, Hl)


class SlidingAttention(nn.Module):
    """The token of each hour attends to those of the last W hours, including its own."""

    def __init__(self, config: StreamingConfig) -> None:
        super().__init__()
        self.width, self.heads = config.width, config.heads
        self.norm = nn.LayerNorm(config.width, eps=EPS)
        self.project = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.mlp = MLP(config.parts)

    def forward(self, x: Tensor, cache: Tensor, span: _Span) -> tuple[Tensor, Tensor]:
        """``(B, L, Hl), (B, W - 1, 2 Hl) -> (B, L, Hl), (B, W - 1, 2 Hl)``."""
        hours, before = x.shape[1], cache.shape[1]
        query, keys_values = self.project(self.norm(x)).split([self.width, 2 * self.width], dim=-1)
        keys_values = torch.cat([cache, keys_values], dim=1)  # (B, W - 1 + L, 2 Hl)
        key, value = keys_values.chunk(2, dim=-1)  # each (B, W - 1 + L, Hl)
        query, key = _rotate(query, span.rotation[before:]), _rotate(key, span.rotation)
        read = F.scaled_dot_product_attention(
            self.blocks(query, span.block, span.block),  # (B blocks, heads, Q, Hl / heads)
            self.blocks(key, before + span.block, span.block),  # (B blocks, heads, W - 1 + Q, Hl / heads)
            self.blocks(value, before + span.block, span.block),
            attn_mask=span.mask,
        )
        read = read.transpose(1, 2).reshape(len(x), -1, self.width)[:, :hours]  # (B, L, Hl)
        return self.mlp(x + self.out(read)), keys_values[:, hours:]

    def blocks(self, x: Tensor, length: int, step: int) -> Tensor:
        """Cut hours into blocks, ``(B, hours, Hl) -> (B blocks, heads, length, Hl / heads)``."""
        missing = (length - x.shape[1]) % step
        x = F.pad(x, (0, 0, 0, missing)) if missing else x
        cut = x.unflatten(-1, (self.heads, -1)).unfold(1, length, step)  # (B, blocks, heads, size, length)
        return cut.mT.flatten(0, 1)


class _Span(NamedTuple):
    """Attention mask and rotations of the hours of one call, shared by all layers."""

    block: int  # Q
    mask: Tensor  # (B blocks or 1, 1, Q, W - 1 + Q), bool: which hours are attended to
    rotation: Tensor  # (W - 1 + L, Hl / 2), unit complex numbers, the same for all heads

    @classmethod
    def of(cls, config: StreamingConfig, cache: KVCache, hours: int) -> _Span:
        """Prepare for the next ``hours`` hours."""
        like, before = cache.keys_values[0], config.window - 1
        block = min(config.window, hours)
        query = torch.arange(block, device=like.device)[:, None]  # (Q, 1)
        key = torch.arange(before + block, device=like.device)  # (W - 1 + Q,)
        mask = ((key >= query) & (key <= query + before))[None]  # (1, Q, W - 1 + Q)
        if cache.hours < before:  # some rows of the cache are unused
            starts = torch.arange(0, hours, block, device=like.device)[:, None, None]  # (blocks, 1, 1)
            mask = (mask & (starts + key >= before - cache.hours)).repeat(len(like), 1, 1)
        pairs = config.width // config.heads // 2
        rate = ROTARY_BASE ** -(torch.arange(pairs, dtype=torch.float64) / pairs)  # (pairs,)
        angle = torch.arange(before + hours, dtype=torch.float64)[:, None] * rate  # (W - 1 + L, pairs)
        rotation = torch.polar(torch.ones_like(angle), angle).to(like.device, like.dtype.to_complex())
        return cls(block, mask[:, None], rotation.repeat(1, config.heads))


def _rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate each pair of numbers by the angle of its hour, ``(B, hours, Hl)``."""
    return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * rotation).flatten(-2)


def predict_series(network: StreamingEcoPerceiver, inputs: ModelInputs[Tensor]) -> Prediction:
    """Predict every hour of long sequences, such as a year of a tower, chunk by chunk.

    Parameters
    ----------
    network : StreamingEcoPerceiver
        The network, on the device of the tensors.
    inputs : ModelInputs
        Sequences of any length, with ``hourly`` of the shape ``(B, L, V)``. The first ``config.context - 1``
        hours have less context than the others.

    Returns
    -------
    Prediction
        The predictions of all hours.

    Raises
    ------
    ModelError
        If a shape does not fit the configuration.

    Examples
    --------
    >>> inputs = ModelInputs(torch.rand(1, 1000, 21) - 0.5)
    >>> predict_series(StreamingEcoPerceiver(), inputs).mean.shape
    torch.Size([1, 1000, 1])
    """
    cache, parts = None, []
    with torch.inference_mode():
        for start in range(0, max(inputs.hourly.shape[1], 1), CHUNK_HOURS):
            prediction, cache = network.advance(cache, inputs.between(start, start + CHUNK_HOURS))
            parts.append(prediction)
    means, scales = zip(*parts, strict=True)
    return Prediction(torch.cat(means, dim=1), None if scales[0] is None else torch.cat(scales, dim=1))
