"""What a streaming EcoPerceiver is trained to do: predict all hours, from a part of its inputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xcarbon.core.variables import TIME_FEATURES
from xcarbon.models.streaming import Prediction, Sequences, StreamingConfig

#: From 0 to 1: a likelihood counts hours with little spread more than others, by the power 1 - BETA less.
BETA = 0.5


def loss(prediction: Prediction, targets: Tensor) -> Tensor:
    """Sum the loss over all hours and targets that are there.

    Parameters
    ----------
    prediction : Prediction
        Of a network.
    targets : Tensor
        In standardised units, shape ``(B, L, targets)``; NaN where missing.

    Returns
    -------
    Tensor
        Sum of ``(y - mean)^2``, or with ``spread`` of ``((y - mean)^2 / (2 s^2) + log s) s^(2 BETA)``, in
        which the last factor has no gradient; zero where there is no target at all.

    Notes
    -----
    With ``BETA = 0`` it is the negative logarithm of a Gaussian likelihood but for a constant: small fluxes
    count most, and what is hard to predict is given up early. With ``BETA = 1`` the mean learns as from
    squared errors (Seitzer et al. 2022, arXiv:2203.09168).

    Examples
    --------
    >>> targets = torch.tensor([[[5.0], [3.0], [torch.nan]]])
    >>> loss(Prediction(torch.zeros(1, 3, 1), None), targets)
    tensor(34.)
    """
    known = torch.isfinite(targets)
    wanted, mean = targets[known], prediction.mean[known]
    if prediction.log_scale is None:
        return F.mse_loss(mean, wanted, reduction="sum")
    variance = (2 * prediction.log_scale[known]).exp()
    likelihood = F.gaussian_nll_loss(mean, wanted, variance, reduction="none")
    return (likelihood * variance.detach() ** BETA).sum()


def drop(config: StreamingConfig, sequences: Sequences, chance: Tensor) -> Sequences:
    """Mask some inputs, so that a network learns to do with any of them.

    Parameters
    ----------
    config : StreamingConfig
        Of the network.
    sequences : Sequences
        A batch to learn from.
    chance : Tensor
        Uniform random numbers in [0, 1), shape ``(B, L + 1, V + S + 3)``: a row for the observations of each
        hour, and one for what is masked as a whole: variables, statics, patches. Its last two numbers, times
        ``variable_dropout`` and ``static_dropout``, are the shares of these, so that some sequences keep all.

    Returns
    -------
    Sequences
        With NaN, or no patch, where something is masked.
    """
    hourly, patches, index, statics = sequences
    variables, whole = len(config.variables), chance[:, -1]
    share = config.variable_dropout * whole[:, -2:-1]  # (B, 1)
    static_share = config.static_dropout * whole[:, -1:]  # (B, 1)
    no_variable = whole[:, :variables] < share  # (B, V)
    no_static = whole[:, variables:-3] < static_share  # (B, S)
    no_patch = whole[:, -3:-2] < share  # (B, 1)
    dropped = (chance[:, :-1, :variables] < config.dropout) | no_variable[:, None]  # (B, L, V)
    dropped[..., [n for n, code in enumerate(config.variables) if code in TIME_FEATURES]] = False
    return Sequences(
        hourly.masked_fill(dropped, torch.nan),
        patches,
        None if index is None else index.masked_fill(no_patch, -1),
        None if statics is None else statics.masked_fill(no_static, torch.nan),
    )
