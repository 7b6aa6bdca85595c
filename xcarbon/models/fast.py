"""EcoPerceiver over consecutive hours: the plain model's predictions, with the least arithmetic.

:mod:`xcarbon.models.ecoperceiver` is the model; what is here gives the same numbers to rounding. It reads
the weights where they are: nothing is prepared, and nothing can be out of date. What makes it fast:

**Hours have inputs, not windows.** Encodings, keys and values of an hour depend neither on the window that
sees it nor on the block, so they are computed once for up to T windows and all blocks.

**Cross attention is a matrix product.** Hour h is at position t of window w if ``h = w + t``, so its keys
meet T queries, one at each position: an anti-diagonal of the tokens. Token ``(w, t)`` is row ``w T + t``, so
a diagonal is a strided view, if it is read from its last position: with ``r = T - 1 - t``, it consists of the
rows ``h T + r (T - 1) - (T - 1)^2``. Padding before and after stands for windows that the outer hours lack.

**Few hours have a patch.** All hours attend to their V observations; those with a patch attend again, to all
V + C inputs.

**One token is the prediction.** The last self-attention needs keys and values of all tokens, but everything
else of the last one alone.

**What is missing** has the lowest number added to its score, so its weight is zero. Where all is missing the
weights are equal, so its value is zero, too.

**Memory is reused.** Large arrays that come and go are often handed back to the system and fetched again,
page by page. So all products go to arrays that live as long as a series, and a step takes as many windows as
keep them within the caches. LayerNorm alone makes its own: torch has none that writes to a given array
without a copy.

Letters as in :mod:`xcarbon.models.ecoperceiver`, and:

====  ====================================================================
W     consecutive windows in a step
S     hours that they see, W + T - 1; of them, Sp have a patch
N     inputs of an hour, V or V + C
Q     tokens of a window that ask: T, or 1 in the last self-attention
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

from xcarbon.core.errors import ModelError
from xcarbon.models.ecoperceiver import MLP, EcoPerceiver, SelfAttention


def predict_series(
    network: EcoPerceiver,
    hourly: Tensor,
    wanted: np.ndarray,
    patches: Tensor | None = None,
    patch_index: Tensor | None = None,
) -> Tensor:
    """Predict the last hour of each window in a series of consecutive hours.

    Parameters
    ----------
    network : EcoPerceiver
        In evaluation mode, on the device of the tensors.
    hourly : Tensor
        Scaled variables [1], shape ``(hours + T - 1, V)``; NaN where missing.
    wanted : numpy.ndarray
        Which windows to predict, bool, shape ``(hours,)``; the others cost nothing.
    patches : Tensor, optional
        Shape ``(P, C, 8, 8)``.
    patch_index : Tensor, optional
        Which patch enters at each hour, shape ``(hours + T - 1,)``; -1 for none.

    Returns
    -------
    Tensor
        ``network(windows)[:, -1]``, in standardised units of the target, shape ``(hours,)``; NaN where
        not wanted.

    Raises
    ------
    ModelError
        If the shapes do not fit together.

    Examples
    --------
    >>> from xcarbon.models.ecoperceiver import EcoPerceiverConfig
    >>> network = EcoPerceiver(EcoPerceiverConfig(self_layers=1)).eval()
    >>> hourly = torch.rand(33, 21) - 0.5
    >>> windows = hourly.unfold(0, 32, 1).transpose(1, 2)  # (2, 32, 21)
    >>> predicted = predict_series(network, hourly, np.array([True, True]))
    >>> torch.allclose(predicted, network(windows)[:, -1], atol=1e-5)
    True
    """
    context = network.config.context
    expected = len(wanted) + context - 1, len(network.config.variables)
    if hourly.shape != expected or (patch_index is not None and len(patch_index) != expected[0]):
        found = " and ".join(str(tuple(part.shape)) for part in (hourly, patch_index) if part is not None)
        raise ModelError(f"hourly must be {expected} and patch_index as long, found {found}")
    most = windows_per_step(network)
    output = network.latents.new_full((len(wanted),), torch.nan)
    step = None
    with torch.inference_mode():
        for windows in _steps(wanted, most):
            count = windows.stop - windows.start
            if step is None or step.windows != count:
                step = None  # frees the arrays before there are new ones
                step = _Step(network, count)
            hours = slice(windows.start, windows.stop + context - 1)
            index = None if patch_index is None else patch_index[hours]
            output[windows] = step.predict(hourly[hours], patches, index)
    return output


def windows_per_step(network: EcoPerceiver) -> int:
    """Choose how many windows are computed at once: as many as have arrays within the budget."""
    config, weights = network.config, network.latents
    tokens = (8 + config.mlp_ratio) * config.context * config.width  # each array of a row for each token
    scores = config.heads * config.context * (config.context + len(config.variables))
    keys_values = 2 * len(config.variables) * config.width
    return max(1, _budget(weights.device) // ((tokens + scores + keys_values) * weights.element_size()))


def _budget(device: torch.device) -> int:
    """Bytes for a step's arrays: a processor's last cache, or an eighth of what a graphics card has free.

    Between 8 MiB, since few windows share too few hours, and 32 MiB, since more are not faster.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 8
    name = "SC_LEVEL3_CACHE_SIZE"  # known to Linux
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


class _Inputs(NamedTuple):
    """What the tokens of some hours read, by hour and head."""

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
        self.tokens = padded[before : before + windows * context]  # (W T, Hl): what a token asks, or reads
        #: The same, ``(S, heads, T, Hl / heads)``, from the last position to the first.
        self.diagonals = padded.as_strided(
            (hours, heads, context, size), (context * width, size, (context - 1) * width, 1)
        )
        self.by_hour = new(hours, heads, context, size)  # their copy, contiguous
        self.hour_scores = new(hours * heads, len(self.config.variables), context)
        self.by_window = new(3, windows * context * width)  # queries, keys and values
        self.scores = new(windows * heads * context * context)
        self.hidden_hours = new(context, context)  # (T, T): what is added to the scores
        if self.config.causal:
            self.hidden_hours.fill_(-torch.inf).triu_(1)
        self.update = new(windows * context, width)  # (W T, Hl): what is added to the tokens
        self.hidden = new(windows * context, self.config.mlp_ratio * width)

    def predict(self, hourly: Tensor, patches: Tensor | None, patch_index: Tensor | None) -> Tensor:
        """``(S, V), (P, C, 8, 8), (S,) -> (W,)``."""
        network, context, blocks = self.network, self.config.context, self.config.cross_blocks
        inputs, patched = self.encode(hourly), None
        if patches is not None and patch_index is not None:
            hours = torch.nonzero(patch_index >= 0).squeeze(1)  # (Sp,)
            patched = hours, self.encode(hourly[hours], patches[patch_index[hours]])
        self.x.view(self.windows, context, -1).copy_(network.latents)
        every, last = slice(None), slice(context - 1, None, context)
        layers = [*repeat(network.mix, blocks), *network.layers]
        for number, layer in enumerate(layers, start=1):
            if number <= blocks:
                self.read_inputs(inputs, patched)
            self.self_attend(layer, last if number == len(layers) else every)
        return network.head(self.x[last]).squeeze(1)

    def encode(self, hourly: Tensor, patches: Tensor | None = None) -> _Inputs:
        """Keys and values of hours that all have a patch, or none of them: ``(hours, V) -> _Inputs``."""
        index = None if patches is None else torch.arange(len(hourly), device=hourly.device)[None]
        inputs, present = self.network.embed(hourly[None], patches, index)  # (1, hours, N, Hi), (1, hours, N)
        cross, heads = self.network.cross, (self.config.heads, -1)
        keys, values = (layer(inputs[0]).unflatten(-1, heads) for layer in (cross.key, cross.value))
        # keys and values are (hours, N, heads, Hl / heads)
        absent = ~present[0, :, :, None, None]  # (hours, N, 1, 1)
        floor = torch.zeros_like(values[..., :1]).masked_fill(absent, torch.finfo(values.dtype).min)
        values = values.masked_fill(absent, 0)
        return _Inputs(*(part.transpose(1, 2).flatten(0, 1).contiguous() for part in (keys, values, floor)))

    def read_inputs(self, inputs: _Inputs, patched: tuple[Tensor, _Inputs] | None) -> None:
        """Windowed cross attention: each token reads the inputs of its hour."""
        layer = self.network.cross
        _linear(layer.norm(self.x), layer.query, self.tokens)  # (W T, Hl)
        self.by_hour.copy_(self.diagonals)  # (S, heads, T, Hl / heads)
        if patched is not None:
            hours, more = patched
            asking = self.by_hour[hours]  # (Sp, heads, T, Hl / heads), a copy
            _attend(asking.flatten(0, 1), more, self.scores.new_empty(*more.keys.shape[:2], asking.shape[2]))
        _attend(self.by_hour.flatten(0, 1), inputs, self.hour_scores)
        if patched is not None:
            self.by_hour[hours] = asking
        self.diagonals.copy_(self.by_hour)
        self.finish(self.x, self.tokens, layer.out, layer.mlp)

    def self_attend(self, layer: SelfAttention, asking: slice) -> None:
        """Causal self-attention, of the tokens ``asking`` of all windows."""
        x = self.x[asking]  # (W Q, Hl)
        normed = layer.norm(self.x)  # (W T, Hl)
        source = normed if layer.normalize_keys_values else self.x
        queries = self.project(layer.query, normed[asking], 0)  # (W heads, Q, Hl / heads)
        keys = self.project(layer.key, source, 1)  # (W heads, T, Hl / heads)
        values = self.project(layer.value, source, 2)  # (W heads, T, Hl / heads)
        (pairs, asked, size), context = queries.shape, keys.shape[1]
        scores = _shaped(self.scores, pairs, asked, context)
        hidden = self.hidden_hours[context - asked :].expand_as(scores)  # (W heads, Q, T)
        torch.baddbmm(hidden, queries, keys.mT, alpha=size**-0.5, out=scores)
        torch.softmax(scores, 2, out=scores)
        torch.bmm(scores, values, out=queries)
        read = self.tokens[: len(x)]  # (W Q, Hl)
        by_head = queries.view(self.windows, -1, asked, size).transpose(1, 2)  # (W, Q, heads, Hl / heads)
        read.view_as(by_head).copy_(by_head)
        self.finish(x, read, layer.out, layer.mlp)

    def project(self, linear: nn.Linear, source: Tensor, number: int) -> Tensor:
        """Project tokens and group them by window and head: ``(W Q, Hl) -> (W heads, Q, Hl / heads)``."""
        tokens = _linear(source, linear, self.tokens[: len(source)])  # (W Q, Hl)
        tokens = tokens.view(self.windows, -1, self.config.heads, self.config.width // self.config.heads)
        split = _shaped(self.by_window[number], *tokens.transpose(1, 2).shape)  # (W, heads, Q, Hl / heads)
        return split.copy_(tokens.transpose(1, 2)).flatten(0, 1)

    def finish(self, x: Tensor, read: Tensor, out: nn.Linear, mlp: MLP) -> None:
        """Add to tokens what they read, and the MLP of it: ``(W Q, Hl)``, in place."""
        update = self.update[: len(x)]
        x += _linear(read, out, update)
        hidden = _linear(mlp.norm(x), mlp.expand, self.hidden[: len(x)])  # (W Q, mlp_ratio Hl)
        x += _linear(torch.ops.aten.gelu_(hidden), mlp.contract, update)


def _attend(tokens: Tensor, inputs: _Inputs, scores: Tensor) -> None:
    """Replace queries ``(hours heads, T, Hl / heads)`` by what they read; scores ``(hours heads, N, T)``.

    The softmax is not over the last axis, since over 5 or 21 contiguous numbers it is slow.
    """
    floor = inputs.floor.expand_as(scores)
    torch.baddbmm(floor, inputs.keys, tokens.mT, alpha=tokens.shape[2] ** -0.5, out=scores)
    torch.softmax(scores, 1, out=scores)
    torch.bmm(scores.mT, inputs.values, out=tokens)


def _linear(x: Tensor, layer: nn.Linear, out: Tensor) -> Tensor:
    """``layer(x)``, written to ``out``."""
    return torch.addmm(layer.bias, x, layer.weight.mT, out=out)


def _shaped(memory: Tensor, *shape: int) -> Tensor:
    """The first numbers of ``memory``, in a shape."""
    return memory[: math.prod(shape)].view(shape)
