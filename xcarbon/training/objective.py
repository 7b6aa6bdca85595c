"""The loss of a streaming EcoPerceiver, and the masking of inputs in training."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from xcarbon.core.variables import TIME_FEATURES, state_groups
from xcarbon.models.ecoperceiver import EcoPerceiverConfig
from xcarbon.models.inputs import ModelInputs
from xcarbon.models.streaming import Prediction, StreamingConfig

#: Exponent from 0 to 1 that reduces the weight of hours with a small predicted spread in the likelihood.
BETA = 0.5


def loss(prediction: Prediction, targets: Tensor) -> Tensor:
    """Sum the loss over all hours and targets that are not missing.

    Parameters
    ----------
    prediction : Prediction
        Output of the network.
    targets : Tensor
        Targets in standardised units, shape ``(B, L, targets)``; NaN where missing.

    Returns
    -------
    Tensor
        Sum of ``(y - mean)^2``. With ``spread``, the sum of ``((y - mean)^2 / (2 s^2) + log s) s^(2
        BETA)``, in which the last factor has no gradient. Zero if all targets are missing.

    Notes
    -----
    The sum is over all hours of a sequence; the paper (arXiv 2406.04940) predicts the last hour of a window.

    With ``BETA = 0`` the loss is the negative log-likelihood of a Gaussian, up to a constant. Small fluxes
    then have the largest weights, and the network early stops to improve hours that are hard to predict.
    With ``BETA = 1`` the mean has the gradients of squared errors (Seitzer et al. 2022, arXiv:2203.09168).

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


def drop(config: StreamingConfig, inputs: ModelInputs[Tensor], chance: Tensor) -> ModelInputs[Tensor]:
    """Mask inputs at random, so that the network learns to predict without any of them.

    Parameters
    ----------
    config : StreamingConfig
        Settings of the network, with the shares to mask.
    inputs : ModelInputs
        A batch of sequences, with ``hourly`` of the shape ``(B, L, V)``.
    chance : Tensor
        Uniform random numbers in [0, 1), shape ``(B, L + 1, V + S + 4 + G)`` for G groups of state features
        (:func:`~xcarbon.core.variables.state_groups`). The first L rows are for the observations of each
        hour. The last row is for whole variables, static site features, patches, two shares, all static site
        features together, and groups of state features. The shares, multiplied by ``variable_dropout`` and
        ``static_dropout``, are those of the variables and statics to mask, so that some sequences keep all
        of them.

    Returns
    -------
    ModelInputs
        The inputs with NaN, or -1 for the patch, where something is masked.
    """
    variables, groups = len(config.variables), len(config.variables) + len(config.statics) + 4
    whole, place, state = chance[:, -1].tensor_split([groups - 1, groups], dim=1)
    share = config.variable_dropout * whole[:, -2:-1]  # (B, 1)
    static_share = config.static_dropout * whole[:, -1:]  # (B, 1)
    no_variable = whole[:, :variables] < share  # (B, V)
    no_static = (whole[:, variables:-3] < static_share) | (place < config.group_dropout)  # (B, S)
    no_patch = whole[:, -3:-2] < share  # (B, 1)
    dropped = (chance[:, :-1, :variables] < config.dropout) | no_variable[:, None]  # (B, L, V)
    dropped[..., [n for n, code in enumerate(config.variables) if code in TIME_FEATURES]] = False
    index, statics = inputs.patch_index, inputs.statics
    return dataclasses.replace(
        inputs,
        hourly=inputs.hourly.masked_fill(dropped, torch.nan),
        patch_index=None if index is None else index.masked_fill(no_patch, -1),
        statics=None if statics is None else statics.masked_fill(no_static, torch.nan),
        state=None if inputs.state is None else drop_state(config, inputs.state, state),
    )


def drop_state(config: StreamingConfig | EcoPerceiverConfig, state: Tensor, chance: Tensor) -> Tensor:
    """Mask groups of state features at random, in all hours of a window or sequence.

    Parameters
    ----------
    config : StreamingConfig or EcoPerceiverConfig
        Settings of the network, with the probability ``group_dropout`` of each group.
    state : Tensor
        State of each hour, shape ``(B, L, M)``.
    chance : Tensor
        Uniform random numbers in [0, 1), shape ``(B, G)``, for the G groups of
        :func:`~xcarbon.core.variables.state_groups`.

    Returns
    -------
    Tensor
        The state with NaN where a group is masked, shape ``(B, L, M)``.
    """
    masked = torch.zeros(len(state), len(config.state), dtype=torch.bool, device=state.device)  # (B, M)
    for number, group in enumerate(state_groups(config.state)):
        masked[:, group] |= chance[:, number, None] < config.group_dropout
    return state.masked_fill(masked[:, None], torch.nan)
