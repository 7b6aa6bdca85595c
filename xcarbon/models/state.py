"""The state of the ecosystem as an input of networks: months of memory, and satellite series.

M, in comments on shapes, is the number of state features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Largest distance of a state feature from its mean over the training hours [standard deviations]. Values
#: beyond it are clipped, so that an input unlike any in training has a bounded effect.
LIMIT = 4.0


class StateEmbedding(nn.Module):
    """Map the state of each hour to a vector with a network of one hidden layer.

    Parameters
    ----------
    features : int
        Number M of state features.
    hidden, width : int
        Width of the hidden layer and of the result.
    """

    mean: Tensor  # (M,)
    std: Tensor  # (M,)

    def __init__(self, features: int, hidden: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.hidden = nn.Linear(2 * features, hidden)
        self.out = nn.Linear(hidden, width)

    def initialise(self) -> None:
        """Draw weights of the hidden layer that keep the variance of standardised features."""
        nn.init.normal_(self.hidden.weight, std=self.hidden.in_features**-0.5)

    def standardise(self, mean: Tensor, std: Tensor) -> None:
        """Set mean and standard deviation of each feature ``(M,)``; a feature without any is ignored."""
        self.mean.copy_(mean.nan_to_num(0.0))
        self.std.copy_(torch.where(std > 0, std, torch.ones_like(std)))

    def forward(self, state: Tensor | None, like: Tensor) -> Tensor:
        """``(B, L, M) -> (B, L, width)``; without a state, the result for one whose features are missing.

        ``like`` has the shape ``(B, L, ...)``.
        """
        if state is None:
            state = like.new_full((*like.shape[:2], len(self.mean)), torch.nan)  # (B, L, M)
        known = state.isfinite()  # (B, L, M)
        value = ((state - self.mean) / self.std).clamp(-LIMIT, LIMIT).masked_fill(~known, 0.0)  # (B, L, M)
        value = torch.cat([value, known.to(value.dtype)], dim=-1).to(self.hidden.weight.dtype)  # (B, L, 2M)
        return self.out(F.gelu(self.hidden(value)))  # (B, L, width)
