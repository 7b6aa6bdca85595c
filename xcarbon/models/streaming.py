"""Streaming EcoPerceiver: one token for each hour, a prediction at every hour.

EcoPerceiver (:mod:`xcarbon.models.ecoperceiver`) computes 32 hours for each hour that it predicts. Here an
hour is computed once, whoever looks at it: its token reads the observations of the hour and of the tower,
then, layer by layer, what the last W hours have come to. Encodings are EcoPerceiver's. What differs:

- All hours begin with the same latent, since an hour has no place in a window. How far back another hour
  lies is told by rotating queries and keys (RoFormer, arXiv 2104.09864).
- Layers have weights of their own, and there are fewer of them: weights cost no time. Each sees W hours, and
  all of them together 1 + layers (W - 1).
- Cross attention has neither keys nor values. Heads ask in terms of the inputs, and what they read goes
  straight to the token: two linear maps in the place of four.
- Towers have inputs, too: class and place, which all their hours can read.

Letters as in :mod:`xcarbon.models.ecoperceiver`, and:

====  ===========================================================================
B, L  sequences in a batch, and their consecutive hours
S     statics
N     inputs of an hour, V + S, or V + C + S where there are patches
W     hours that a layer sees, the own one included
Q     hours in a block of the self-attention, which together see W - 1 + Q hours
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
from xcarbon.core.variables import IGBP_CLASSES, PAPER_INPUTS, PATCH_BANDS, PATCH_PIXELS, STATICS
from xcarbon.models.ecoperceiver import EPS, MLP, EcoPerceiverConfig, InputEmbedding

#: Octaves of a place. With more of them each tower would have numbers of its own to be learnt by heart.
STATIC_OCTAVES = 4
#: Ratio of the fastest rotation, a radian an hour, to the slowest one, which takes weeks for a turn.
ROTARY_BASE = 100.0
#: A predicted standard deviation is more than exp(-5), since some fluxes are zero for hours.
LEAST_LOG_SCALE = -5.0
#: Hours of a series that are computed at once: their arrays stay in a processor's caches.
CHUNK_HOURS = 512


@dataclass(frozen=True)
class StreamingConfig:
    """Settings of a streaming EcoPerceiver.

    Attributes
    ----------
    variables, bands, statics : tuple of str
        Hourly inputs, patch bands and static site features (:data:`~xcarbon.core.variables.STATICS`), in the
        order of the arrays.
    targets : tuple of str
        Variables to predict; none of them an input.
    spread : bool
        Predict the standard deviation of each target, too.
    window : int
        Hours W that a layer sees, the own one included.
    octaves, embedding, width, heads, mlp_ratio : int
        As in :class:`~xcarbon.models.ecoperceiver.EcoPerceiverConfig`.
    layers, cross_blocks : int
        Self-attentions, and how many of them, the first ones, follow on a cross attention.
    dropout : float
        Share of the observations that :func:`~xcarbon.training.objective.drop` masks in training, never of
        time features.
    variable_dropout, static_dropout : float
        Largest share of whole variables and patches, and of statics, that it masks in a sequence.

    Raises
    ------
    ModelError
        If a setting is not possible.
    """

    variables: tuple[str, ...] = PAPER_INPUTS
    bands: tuple[str, ...] = PATCH_BANDS
    statics: tuple[str, ...] = tuple(STATICS)
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

    def __post_init__(self) -> None:
        if not self.variables or not self.targets or set(self.variables) & set(self.targets):
            found = f"{self.variables} and {self.targets}"
            raise ModelError(f"a model needs variables, and targets that are not among them, found {found}")
        if set(self.statics) - set(STATICS):
            raise ModelError(f"statics must be out of {list(STATICS)}, found {self.statics}")
        check_range(self, "window", ge=1)
        check_range(self, "cross_blocks", ge=1, le=self.layers)
        if self.width % (2 * self.heads):
            raise ModelError(f"width {self.width} is not a multiple of 2 x {self.heads} heads")
        check_range(self, "dropout", "variable_dropout", "static_dropout", ge=0, le=1)

    @property
    def parts(self) -> EcoPerceiverConfig:
        """Settings of the parts that are an EcoPerceiver's; nothing in them is random."""
        names = ("variables", "bands", "octaves", "embedding", "width", "heads", "mlp_ratio")
        return EcoPerceiverConfig(**{name: getattr(self, name) for name in names}, dropout=0.0)

    @property
    def context(self) -> int:
        """Hours that have an influence on a prediction, its own included."""
        return 1 + self.layers * (self.window - 1)

    @property
    def min_context(self) -> int:
        """Hours that a record must have for a prediction: those that the first layer sees."""
        return self.window


class Sequences(NamedTuple):
    """Consecutive hours of towers.

    Attributes
    ----------
    hourly : Tensor
        Scaled variables [1], shape ``(B, L, V)``; NaN where missing.
    patches : Tensor, optional
        Shape ``(P, C, 8, 8)``: reflectance [1], snow and water flags, -1 where fill.
    patch_index : Tensor, optional
        Which patch enters at each hour, integer, shape ``(B, L)``; -1 for none.
    statics : Tensor, optional
        Static site features in the units of :data:`~xcarbon.core.variables.STATICS`, shape ``(B, S)``; NaN
        where unknown.
    """

    hourly: Tensor
    patches: Tensor | None = None
    patch_index: Tensor | None = None
    statics: Tensor | None = None

    def between(self, start: int, stop: int) -> Sequences:
        """Take some of the hours, and the patches that they see."""
        hourly, patches, index, statics = self
        if patches is not None and index is not None:
            used, index = torch.unique(index[:, start:stop], return_inverse=True)
            nothing = int((used < 0).any())
            patches, index = patches[used[nothing:]], index - nothing
        return Sequences(hourly[:, start:stop], patches, index, statics)

    def check(self, config: StreamingConfig) -> None:
        """Raise a ModelError if the shapes are not those of a configuration."""
        batch, hours = self.hourly.shape[:2]
        images = 0 if self.patches is None else len(self.patches)
        expected = (
            (batch, max(hours, 1), len(config.variables)),
            (images, len(config.bands), PATCH_PIXELS, PATCH_PIXELS),
            (batch, hours),
            (batch, len(config.statics)),
        )
        for name, found, shape in zip(self._fields, self, expected, strict=True):
            if found is not None and tuple(found.shape) != shape:
                raise ModelError(f"{name} must be {shape}, found {tuple(found.shape)}")


class Prediction(NamedTuple):
    """Mean and logarithm of the standard deviation (None without ``spread``) of targets, standardised."""

    mean: Tensor  # (B, L, targets)
    log_scale: Tensor | None  # (B, L, targets)


class Memory(NamedTuple):
    """What a network keeps of the hours it has seen; if they are less than W - 1, the first rows are void."""

    keys_values: tuple[Tensor, ...]  # of each self-attention, (B, W - 1, 2 Hl)
    hours: int


class StreamingEcoPerceiver(nn.Module):
    """Predict fluxes at every hour of a sequence from this hour and those before it.

    Nothing in it is random: in training :func:`~xcarbon.training.objective.drop` masks what it is given.

    Parameters
    ----------
    config : StreamingConfig
        The settings.

    Notes
    -----
    Multiply-adds of an hour in linear layers and attention, by default and with all inputs:

    =====================================  ===================  =====  =========
    asking the inputs, from the 2nd block  Hl heads Hi              1     40,960
    reading them                           (2 N + Hl) heads Hi      2    125,440
    queries, keys, values, and going back  4 Hl^2                   6    393,216
    attending to hours                     2 (2 W - 1) Hl           6     96,768
    MLP                                    2 mlp_ratio Hl^2         8    786,432
    head                                   2 targets Hl             1        256
    together                                                           1,443,072
    =====================================  ===================  =====  =========

    The map of a day's bands adds 14 thousand a day.

    Examples
    --------
    >>> network = StreamingEcoPerceiver(StreamingConfig(targets=("NEE", "GPP_NT"), spread=True))
    >>> towers = Sequences(torch.rand(4, 100, 21) - 0.5)
    >>> network(towers).log_scale.shape
    torch.Size([4, 100, 2])
    >>> first, memory = network.advance(None, towers.between(0, 99))
    >>> last, memory = network.advance(memory, towers.between(99, 100))
    >>> torch.allclose(last.mean, network(towers).mean[:, 99:], atol=1e-5)
    True
    """

    def __init__(self, config: StreamingConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or StreamingConfig()
        self.embed = InputEmbedding(config.parts)
        self.statics = StaticEmbedding(config) if config.statics else None
        self.latent = nn.Parameter(0.02 * torch.randn(config.width))
        self.cross = nn.ModuleList(CrossAttention(config) for _ in range(config.cross_blocks))
        self.layers = nn.ModuleList(SlidingAttention(config) for _ in range(config.layers))
        self.head = nn.Linear(config.width, len(config.targets) * (1 + config.spread))
        self._initialize()

    def _initialize(self) -> None:
        """Small weights, smaller ones where a layer adds to the residual stream, as in EcoPerceiver."""
        depth = 2 * (self.config.cross_blocks + self.config.layers)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                smaller = depth**0.5 if name.endswith(("out", "contract")) else 1
                nn.init.normal_(module.weight, std=0.02 / smaller)
                nn.init.zeros_(module.bias)

    def forward(self, sequences: Sequences) -> Prediction:
        """Predict every hour of sequences, the first ones with less context; see :meth:`advance`."""
        return self.advance(None, sequences)[0]

    def advance(self, memory: Memory | None, sequences: Sequences) -> tuple[Prediction, Memory]:
        """Predict the next hours, one or more, as one pass over all hours does.

        Parameters
        ----------
        memory : Memory or None
            Of the hours before; None at the beginning.
        sequences : Sequences
            The next hours; a ModelError tells what in them does not fit the configuration.

        Returns
        -------
        Prediction, Memory
            Of these hours, and for the hours after them.
        """
        sequences.check(self.config)
        config, (batch, hours, _) = self.config, sequences.hourly.shape
        inputs, present = self.inputs(sequences)
        if memory is None:
            nothing = inputs.new_zeros(batch, config.window - 1, 2 * config.width)
            memory = Memory((nothing,) * config.layers, 0)
        span = _Span.of(config, memory, hours)
        x, kept = self.latent.expand(1, 1, -1), []  # (1, 1, Hl): the first cross attention asks once for all
        for number, layer in enumerate(self.layers):
            if number < config.cross_blocks:
                x = self.cross[number](x, inputs, present)  # (B, L, Hl)
            x, keys_values = layer(x, memory.keys_values[number], span)  # (B, L, Hl)
            kept.append(keys_values)
        mean, *raw = self.head(x).split(len(config.targets), dim=-1)  # each (B, L, targets)
        log_scale = F.softplus(raw[0] - LEAST_LOG_SCALE) + LEAST_LOG_SCALE if raw else None
        return Prediction(mean, log_scale), Memory(tuple(kept), memory.hours + hours)

    def inputs(self, sequences: Sequences) -> tuple[Tensor, Tensor]:
        """Return inputs ``(B, L, N, Hi)`` and which are present ``(B, L, N)``."""
        hourly, patches, patch_index, statics = sequences
        inputs, present = self.embed(hourly, patches, patch_index)
        if self.statics is None or statics is None:
            return inputs, present
        tower, known = self.statics(statics)  # (B, S, Hi), (B, S)
        tower, known = (part[:, None].expand(-1, hourly.shape[1], *part.shape[1:]) for part in (tower, known))
        return torch.cat([inputs, tower], dim=2), torch.cat([present, known], dim=2)


class StaticEmbedding(nn.Module):
    """What is known of a tower becomes inputs of width Hi, as observations do."""

    def __init__(self, config: StreamingConfig) -> None:
        super().__init__()
        self.codes, self.octaves = config.statics, config.octaves
        classes = len(IGBP_CLASSES) if "igbp" in self.codes else 0
        self.static = nn.Parameter(torch.randn(len(self.codes), config.embedding))
        self.igbp = nn.Parameter(torch.randn(classes, 2 * config.octaves))
        self.norm = nn.LayerNorm(config.parts.input_width, eps=EPS)

    def forward(self, statics: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs ``(B, S, Hi)`` and which are known ``(B, S)``: what is out of bounds is not."""
        lower, upper, half_period = torch.tensor([STATICS[code] for code in self.codes]).to(statics).T
        known = (statics >= lower) & (statics <= upper)
        statics = statics.masked_fill(~known, 0.0)
        octave = torch.arange(self.octaves, device=statics.device)
        angle = (statics * math.pi / half_period)[..., None] * 2.0**octave  # (B, S, K)
        features = torch.cat([angle.sin(), angle.cos()], dim=-1) * (octave < STATIC_OCTAVES).repeat(2)
        features = features.to(self.static.dtype)  # (B, S, 2K)
        if "igbp" in self.codes:
            number = self.codes.index("igbp")
            features[:, number] = self.igbp[statics[:, number].long()]
        embedded = self.static.expand(len(statics), -1, -1)  # (B, S, embedding)
        return self.norm(torch.cat([features, embedded], dim=-1)), known


class CrossAttention(nn.Module):
    """Each hour's token attends to the inputs of its own hour."""

    def __init__(self, config: StreamingConfig) -> None:
        super().__init__()
        self.heads = config.heads
        asked = config.heads * config.parts.input_width
        self.norm = nn.LayerNorm(config.width, eps=EPS)
        self.ask = nn.Linear(config.width, asked)
        self.out = nn.Linear(asked, config.width)
        self.mlp = MLP(config.parts)

    def forward(self, x: Tensor, inputs: Tensor, present: Tensor) -> Tensor:
        """``(B, L, Hl) or (1, 1, Hl), (B, L, N, Hi), (B, L, N) -> (B, L, Hl)``."""
        asked = self.ask(self.norm(x)).unflatten(-1, (self.heads, -1))  # (B, L, heads, Hi)
        asked = asked.expand(*inputs.shape[:2], -1, -1)
        observed = present.any(-1, keepdim=True)  # (B, L, 1)
        # An hour without any input must not divide zero by zero: it reads all of them, and forgets it.
        seen = (present | ~observed)[:, :, None]  # (B, L, 1, N)
        # Hours take the place of heads, and heads that of queries, since all heads read the same inputs.
        read = F.scaled_dot_product_attention(asked, inputs, inputs, attn_mask=seen)  # (B, L, heads, Hi)
        return self.mlp(x + self.out(read.flatten(2) * observed))


class SlidingAttention(nn.Module):
    """Each hour's token attends to those of the last W hours, its own included."""

    def __init__(self, config: StreamingConfig) -> None:
        super().__init__()
        self.width, self.heads = config.width, config.heads
        self.norm = nn.LayerNorm(config.width, eps=EPS)
        self.project = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.mlp = MLP(config.parts)

    def forward(self, x: Tensor, memory: Tensor, span: _Span) -> tuple[Tensor, Tensor]:
        """``(B, L, Hl), (B, W - 1, 2 Hl) -> (B, L, Hl), (B, W - 1, 2 Hl)``."""
        hours, before = x.shape[1], memory.shape[1]
        query, keys_values = self.project(self.norm(x)).split([self.width, 2 * self.width], dim=-1)
        seen = torch.cat([memory, keys_values], dim=1)  # (B, W - 1 + L, 2 Hl)
        keys, values = seen.chunk(2, dim=-1)  # 2 x (B, W - 1 + L, Hl)
        query, keys = _rotate(query, span.rotation[before:]), _rotate(keys, span.rotation)
        read = F.scaled_dot_product_attention(
            self.blocks(query, span.block, span.block),  # (B blocks, heads, Q, Hl / heads)
            self.blocks(keys, before + span.block, span.block),  # (B blocks, heads, W - 1 + Q, Hl / heads)
            self.blocks(values, before + span.block, span.block),
            attn_mask=span.visible,
        )
        read = read.transpose(1, 2).reshape(len(x), -1, self.width)[:, :hours]  # (B, L, Hl)
        return self.mlp(x + self.out(read)), seen[:, hours:]

    def blocks(self, x: Tensor, length: int, step: int) -> Tensor:
        """Cut hours into blocks, ``(B, hours, Hl) -> (B blocks, heads, length, Hl / heads)``."""
        missing = (length - x.shape[1]) % step
        x = F.pad(x, (0, 0, 0, missing)) if missing else x
        cut = x.unflatten(-1, (self.heads, -1)).unfold(1, length, step)  # (B, blocks, heads, size, length)
        return cut.mT.flatten(0, 1)


class _Span(NamedTuple):
    """How the hours of one call see each other, and those before them; all layers share it."""

    block: int  # Q
    visible: Tensor  # (B blocks or 1, 1, Q, W - 1 + Q), bool
    rotation: Tensor  # (W - 1 + L, Hl / 2), unit complex numbers that turn with the hours, alike in all heads

    @classmethod
    def of(cls, config: StreamingConfig, memory: Memory, hours: int) -> _Span:
        """Prepare for ``hours`` more hours."""
        like, before = memory.keys_values[0], config.window - 1
        block = min(config.window, hours)
        query = torch.arange(block, device=like.device)[:, None]  # (Q, 1)
        key = torch.arange(before + block, device=like.device)  # (W - 1 + Q,)
        visible = ((key >= query) & (key <= query + before))[None]  # (1, Q, W - 1 + Q)
        if memory.hours < before:
            starts = torch.arange(0, hours, block, device=like.device)[:, None, None]  # (blocks, 1, 1)
            visible = (visible & (starts + key >= before - memory.hours)).repeat(len(like), 1, 1)
        pairs = config.width // config.heads // 2
        rate = ROTARY_BASE ** -(torch.arange(pairs, dtype=torch.float64) / pairs)
        angle = torch.arange(before + hours, dtype=torch.float64)[:, None] * rate  # (W - 1 + L, pairs)
        rotation = torch.polar(torch.ones_like(angle), angle).to(like.device, like.dtype.to_complex())
        return cls(block, visible[:, None], rotation.repeat(1, config.heads))


def _rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn each pair of numbers by the angle of its hour, ``(B, hours, Hl)``."""
    return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * rotation).flatten(-2)


def predict_series(network: StreamingEcoPerceiver, sequences: Sequences) -> Prediction:
    """Predict every hour of long sequences, as a year of a tower, chunk by chunk.

    Parameters
    ----------
    network : StreamingEcoPerceiver
        On the device of the tensors.
    sequences : Sequences
        Of any length; their first ``config.context - 1`` hours have less context.

    Returns
    -------
    Prediction
        Of each hour.

    Examples
    --------
    >>> predict_series(StreamingEcoPerceiver(), Sequences(torch.rand(1, 1000, 21) - 0.5)).mean.shape
    torch.Size([1, 1000, 1])
    """
    memory, parts = None, []
    with torch.inference_mode():
        for start in range(0, max(sequences.hourly.shape[1], 1), CHUNK_HOURS):
            prediction, memory = network.advance(memory, sequences.between(start, start + CHUNK_HOURS))
            parts.append(prediction)
    means, scales = zip(*parts, strict=True)
    return Prediction(torch.cat(means, dim=1), None if scales[0] is None else torch.cat(scales, dim=1))
