"""Fast prediction of consecutive hours by an EcoPerceiver.

:mod:`xcarbon.models.ecoperceiver` defines the model; the functions of this module compute the same
predictions up to rounding. They read the weights from the network itself, so there is no prepared copy that
could be out of date. These points make them fast:

**Inputs are encoded once per hour.** Embeddings, keys and values of an hour depend neither on the window
nor on the block. They are computed once and used by up to T windows and by all blocks.

**Cross attention is a matrix product.** Hour h is at position t of window w if ``h = w + t``. The keys of
an hour therefore meet T queries, one at each position: an anti-diagonal of the tokens. Token ``(w, t)`` is
row ``w T + t``. Read from its last position, a diagonal is a strided view: with ``r = T - 1 - t`` it
consists of the rows ``h T + r (T - 1) - (T - 1)^2``. Padding before and after stands for the windows that
the outer hours lack.

**Few hours have a patch.** All hours attend to their V observations; hours with a patch attend again, to all
V + C inputs.

**Only the last token is needed.** The last self-attention computes keys and values of all tokens, and
everything else only for the last token of each window.

**Missing inputs** have the lowest number added to their score, so their weight is zero. If all inputs of an
hour are missing the weights are equal, so the values of missing inputs are zero as well.

**Memory is reused.** Allocators often return large arrays to the system and fetch them again, page by page.
All products are therefore written to arrays that live as long as the series, and the number of windows in a
step is chosen so that these arrays stay within the caches. Only LayerNorm allocates its result: torch has
none that writes to a given array without a copy.

Letters in the comments on shapes, in addition to those of :mod:`xcarbon.models.ecoperceiver`:

====  ====================================================================
W     consecutive windows in a step
S     hours of these windows, W + T - 1; Sp of them have a patch
N     inputs of an hour, V or V + C, and one more with a state
Q     tokens of a window that have a query: T, or 1 in the last self-attention
====  ====================================================================
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from itertools import repeat
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from xcarbon.models.ecoperceiver import MLP, EcoPerceiver, EcoPerceiverConfig, SelfAttention
from xcarbon.models.inputs import ModelInputs


def predict_series(network: EcoPerceiver, inputs: ModelInputs[Tensor], wanted: np.ndarray) -> Tensor:
    """Predict the last hour of each window in a series of consecutive hours.

    Parameters
    ----------
    network : EcoPerceiver
        The network in evaluation mode, on the device of the tensors.
    inputs : ModelInputs
        One series, with ``hourly`` of the shape ``(hours + T - 1, V)``.
    wanted : numpy.ndarray
        Which windows to predict, bool, shape ``(hours,)``; the others cost nothing.

    Returns
    -------
    Tensor
        ``network(windows)[:, -1]``, in standardised units of the target, shape ``(hours,)``; NaN where
        not wanted.

    Raises
    ------
    ModelError
        If a shape does not fit ``wanted`` or the configuration.

    Examples
    --------
    >>> from xcarbon.models.ecoperceiver import EcoPerceiverConfig
    >>> network = EcoPerceiver(EcoPerceiverConfig(self_layers=1)).eval()
    >>> hourly = torch.rand(33, 21) - 0.5
    >>> windows = hourly.unfold(0, 32, 1).transpose(1, 2)  # (2, 32, 21)
    >>> predicted = predict_series(network, ModelInputs(hourly), np.array([True, True]))
    >>> torch.allclose(predicted, network(ModelInputs(windows))[:, -1], atol=1e-5)
    True
    """
    context = network.config.context
    inputs.check(network.config, len(wanted) + context - 1, ndim=2)
    most = windows_per_step(network)
    output = network.latents.new_full((len(wanted),), torch.nan)
    step = None
    with torch.inference_mode():
        for windows in _steps(wanted, most):
            count = windows.stop - windows.start
            if step is None or step.windows != count:
                step = None  # frees the arrays before the new ones are allocated
                step = _Step(network, count)
            output[windows] = step.predict(inputs.between(windows.start, windows.stop + context - 1))
    return output


def windows_per_step(network: EcoPerceiver) -> int:
    """Number of windows that are computed at once, so that the arrays fit into :func:`_budget`."""
    config, weights = network.config, network.latents
    tokens = (8 + config.mlp_ratio) * config.context * config.width  # arrays with one row per token
    scores = config.heads * config.context * (config.context + _observations(config))
    keys_values = 2 * _observations(config) * config.width
    return max(1, _budget(weights.device) // ((tokens + scores + keys_values) * weights.element_size()))


def _observations(config: EcoPerceiverConfig) -> int:
    """Number of inputs of an hour without a patch: its variables, and its state."""
    return len(config.variables) + bool(config.state)


def _budget(device: torch.device) -> int:
    """Bytes for the arrays of a step: the last cache of a processor, or an eighth of the free GPU memory.

    On a processor at least 8 MiB, since few windows share too few hours, and at most 32 MiB, since more
    windows are not faster.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 8
    name = "SC_LEVEL3_CACHE_SIZE"  # exists on Linux
    cache = os.sysconf(name) if name in getattr(os, "sysconf_names", ()) else 0
    return min(max(cache, 2**23), 2**25) if cache > 0 else 2**25


def _steps(wanted: np.ndarray, most: int) -> Iterator[slice]:
    """Cut each run of wanted windows into steps of about equal length."""
    edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False)).tolist()
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        count = math.ceil((stop - start) / most)
        size = math.ceil((stop - start) / count)
        for first in range(start, stop, size):
            yield slice(first, min(first + size, stop))


class _KeysValues(NamedTuple):
    """Keys and values of the inputs of some hours, by hour and head."""

    keys: Tensor  # (hours heads, N, Hl / heads)
    values: Tensor  # (hours heads, N, Hl / heads), zero where missing
    floor: Tensor  # (hours heads, N, 1): zero, or the lowest number where missing


class _Step:
    """The arrays of W consecutive windows, and the layers that work on them."""

    def __init__(self, network: EcoPerceiver, windows: int) -> None:
        self.network, self.windows, self.config = network, windows, network.config
        context, width, heads = self.config.context, self.config.width, self.config.heads
        hours, size, before = windows + context - 1, width // heads, (context - 1) ** 2
        new = network.latents.new_zeros
        self.x = new(windows * context, width)  # (W T, Hl): the tokens
        padded = new(before + hours * context, width)
        self.tokens = padded[before : before + windows * context]  # (W T, Hl): queries, or attention outputs
        #: The same, ``(S, heads, T, Hl / heads)``, from the last position to the first.
        self.diagonals = padded.as_strided(
            (hours, heads, context, size), (context * width, size, (context - 1) * width, 1)
        )
        self.by_hour = new(hours, heads, context, size)  # a contiguous copy of the diagonals
        self.hour_scores = new(hours * heads, _observations(self.config), context)
        self.by_window = new(3, windows * context * width)  # queries, keys and values
        self.scores = new(windows * heads * context * context)
        self.hidden_hours = new(context, context)  # (T, T): added to the scores
        if self.config.causal:
            self.hidden_hours.fill_(-torch.inf).triu_(1)
        self.update = new(windows * context, width)  # (W T, Hl): added to the tokens
        self.hidden = new(windows * context, self.config.mlp_ratio * width)

    def predict(self, inputs: ModelInputs[Tensor]) -> Tensor:
        """Predict the windows of S hours, ``(S, V) -> (W,)``."""
        network, context, blocks = self.network, self.config.context, self.config.cross_blocks
        patches, patch_index = inputs.patches, inputs.patch_index
        every_hour = ModelInputs(inputs.hourly, state=inputs.state)
        observations, patched = self.encode(every_hour), None
        if patches is not None and patch_index is not None:
            hours = torch.nonzero(patch_index >= 0).squeeze(1)  # (Sp,)
            more = every_hour.map(lambda field: field[hours])
            more.patches, more.patch_index = patches[patch_index[hours]], torch.arange(len(hours)).to(hours)
            patched = hours, self.encode(more)
        self.x.view(self.windows, context, -1).copy_(network.latents)
        every, last = slice(None), slice(context - 1, None, context)
        layers = [*repeat(network.mix, blocks), *network.layers]
        for number, layer in enumerate(layers, start=1):
            if number <= blocks:
                self.cross_attend(observations, patched)
            self.self_attend(layer, last if number == len(layers) else every)
        return network.head(self.x[last]).squeeze(1)

    def encode(self, inputs: ModelInputs[Tensor]) -> _KeysValues:
        """Keys and values of hours ``(hours, V)`` that all have a patch, or none of them has one."""
        embedded, present = self.network.embed(inputs.batched())
        # embedded is (1, hours, N, Hi), present (1, hours, N)
        cross, heads = self.network.cross, (self.config.heads, -1)
        keys, values = (layer(embedded[0]).unflatten(-1, heads) for layer in (cross.key, cross.value))
        # keys and values are (hours, N, heads, Hl / heads)
        absent = ~present[0, :, :, None, None]  # (hours, N, 1, 1)
        floor = torch.zeros_like(values[..., :1]).masked_fill(absent, torch.finfo(values.dtype).min)
        values = values.masked_fill(absent, 0)
        parts = (part.transpose(1, 2).flatten(0, 1).contiguous() for part in (keys, values, floor))
        return _KeysValues(*parts)

    def cross_attend(self, observations: _KeysValues, patched: tuple[Tensor, _KeysValues] | None) -> None:
        """Windowed cross attention: each token attends to the inputs of its hour."""
        layer = self.network.cross
        _linear(layer.norm(self.x), layer.query, self.tokens)  # (W T, Hl)
        self.by_hour.copy_(self.diagonals)  # (S, heads, T, Hl / heads)
        if patched is not None:
            hours, more = patched
            queries = self.by_hour[hours]  # (Sp, heads, T, Hl / heads), a copy
            scores = self.scores.new_empty(*more.keys.shape[:2], queries.shape[2])
            _attend(queries.flatten(0, 1), more, scores)
        _attend(self.by_hour.flatten(0, 1), observations, self.hour_scores)
        if patched is not None:
            self.by_hour[hours] = queries
        self.diagonals.copy_(self.by_hour)
        self.finish(self.x, self.tokens, layer.out, layer.mlp)

    def self_attend(self, layer: SelfAttention, chosen: slice) -> None:
        """Causal self-attention of the ``chosen`` tokens of all windows."""
        x = self.x[chosen]  # (W Q, Hl)
        normed = layer.norm(self.x)  # (W T, Hl)
        source = normed if layer.normalize_keys_values else self.x  # (W T, Hl)
        queries = self.project(layer.query, normed[chosen], 0)  # (W heads, Q, Hl / heads)
        keys = self.project(layer.key, source, 1)  # (W heads, T, Hl / heads)
        values = self.project(layer.value, source, 2)  # (W heads, T, Hl / heads)
        (pairs, count, size), context = queries.shape, keys.shape[1]
        scores = _view(self.scores, pairs, count, context)  # (W heads, Q, T)
        hidden = self.hidden_hours[context - count :].expand_as(scores)  # (W heads, Q, T)
        torch.baddbmm(hidden, queries, keys.mT, alpha=size**-0.5, out=scores)
        torch.softmax(scores, 2, out=scores)
        torch.bmm(scores, values, out=queries)
        read = self.tokens[: len(x)]  # (W Q, Hl)
        by_head = queries.view(self.windows, -1, count, size).transpose(1, 2)  # (W, Q, heads, Hl / heads)
        read.view_as(by_head).copy_(by_head)
        self.finish(x, read, layer.out, layer.mlp)

    def project(self, linear: nn.Linear, source: Tensor, number: int) -> Tensor:
        """Project tokens and group them by window and head: ``(W Q, Hl) -> (W heads, Q, Hl / heads)``."""
        tokens = _linear(source, linear, self.tokens[: len(source)])  # (W Q, Hl)
        tokens = tokens.view(self.windows, -1, self.config.heads, self.config.width // self.config.heads)
        split = _view(self.by_window[number], *tokens.transpose(1, 2).shape)  # (W, heads, Q, Hl / heads)
        return split.copy_(tokens.transpose(1, 2)).flatten(0, 1)

    def finish(self, x: Tensor, read: Tensor, out: nn.Linear, mlp: MLP) -> None:
        """Add the attention output and then the MLP to tokens ``(W Q, Hl)``, in place."""
        update = self.update[: len(x)]
        x += _linear(read, out, update)
        hidden = _linear(mlp.norm(x), mlp.expand, self.hidden[: len(x)])  # (W Q, mlp_ratio Hl)
        x += _linear(torch.ops.aten.gelu_(hidden), mlp.contract, update)


def _attend(tokens: Tensor, inputs: _KeysValues, scores: Tensor) -> None:
    """Replace queries ``(hours heads, T, Hl / heads)`` by the output; scores are ``(hours heads, N, T)``.

    The softmax is not over the last axis, because it is slow over 5 or 21 contiguous numbers.
    """
    floor = inputs.floor.expand_as(scores)
    torch.baddbmm(floor, inputs.keys, tokens.mT, alpha=tokens.shape[2] ** -0.5, out=scores)
    torch.softmax(scores, 1, out=scores)
    torch.bmm(scores.mT, inputs.values, out=tokens)


def _linear(x: Tensor, layer: nn.Linear, out: Tensor) -> Tensor:
    """Write ``layer(x)`` to ``out``."""
    return torch.addmm(layer.bias, x, layer.weight.mT, out=out)


def _view(memory: Tensor, *shape: int) -> Tensor:
    """View the first elements of ``memory`` in a shape."""
    return memory[: math.prod(shape)].view(shape)
