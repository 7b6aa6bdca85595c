"""The loss is over the targets that are not missing, and masks follow from random numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tests.models.test_streaming import sequences
from xcarbon.models.ecoperceiver import EcoPerceiverConfig
from xcarbon.models.inputs import ModelInputs
from xcarbon.models.streaming import Prediction, StreamingConfig
from xcarbon.training.objective import drop, drop_state, loss


def test_loss_is_the_sum_over_what_is_known():
    targets = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(0))
    targets[0, 5] = targets[1, :, 2] = torch.nan
    mean, log_scale = torch.randn(2, 2, 9, 3, generator=torch.Generator().manual_seed(1))
    known = torch.isfinite(targets)
    expected = (targets - mean)[known].square().sum()
    torch.testing.assert_close(loss(Prediction(mean, None), targets), expected)
    gaussian = torch.distributions.Normal(mean[known], log_scale[known].exp())
    likelihood = -gaussian.log_prob(targets[known]) - math.log(2 * math.pi) / 2
    expected = (likelihood * log_scale[known].exp()).sum()
    torch.testing.assert_close(loss(Prediction(mean, log_scale), targets), expected)


def test_nothing_to_learn_from_is_a_loss_of_zero_without_a_gradient():
    mean = torch.zeros(1, 3, 1, requires_grad=True)
    nothing = loss(Prediction(mean, mean - 1), torch.full((1, 3, 1), torch.nan))
    nothing.backward()
    assert nothing == 0
    assert (mean.grad == 0).all()


def test_dropping_follows_from_the_chances_and_spares_time_features():
    config = StreamingConfig()
    data = sequences(config, 40, 20, missing=0)
    data.patch_index[:] = 0
    chance = torch.rand(40, 21, 21 + 4 + 4, generator=torch.Generator().manual_seed(0))
    dropped = drop(config, data, chance)
    assert torch.isfinite(dropped.hourly[..., :2]).all()
    rows = torch.tensor([7, 3])
    some = ModelInputs(data.hourly[rows], data.patches, data.patch_index[rows], data.statics[rows])
    for name, found in vars(drop(config, some, chance[rows])).items():
        expected = getattr(dropped, name)
        same = expected if expected is data.patches or expected is None else expected[rows]
        torch.testing.assert_close(found, same, equal_nan=True, rtol=0, atol=0)
    alone = drop(config, ModelInputs(data.hourly), chance)
    torch.testing.assert_close(alone.hourly, dropped.hourly, equal_nan=True, rtol=0, atol=0)
    assert (alone.patches, alone.patch_index, alone.statics) == (None, None, None)


def test_dropped_shares_are_those_of_the_settings():
    config = StreamingConfig(dropout=0.3, variable_dropout=0.8, static_dropout=1.0, group_dropout=0)
    batch, hours = 2000, 20
    data = ModelInputs(
        torch.zeros(batch, hours, 21),
        torch.zeros(1, 9, 8, 8),
        torch.zeros(batch, hours, dtype=torch.int64),
        torch.zeros(batch, 4),
    )
    chance = torch.rand(batch, hours + 1, 21 + 4 + 4, generator=torch.Generator().manual_seed(0))
    dropped = drop(config, data, chance)
    hourly, index, statics = dropped.hourly, dropped.patch_index, dropped.statics
    gone = torch.isnan(hourly[..., 2:])
    whole = gone.all(1)  # (batch, 19)
    assert whole.float().mean().item() == pytest.approx(0.4, abs=0.01)
    assert gone[~whole[:, None].expand_as(gone)].float().mean().item() == pytest.approx(0.3, abs=0.01)
    # Each sequence loses a share of its own: none of the variables, or nearly all that may be lost.
    assert whole.float().mean(1).std() > 0.2
    assert (index < 0).float().mean().item() == pytest.approx(0.4, abs=0.02)
    assert ((index < 0).all(1) == (index < 0).any(1)).all()
    # From none to all of the statics, whatever else is left: each number is as likely as any other.
    lost = torch.isnan(statics).sum(1)
    for some in (lost, lost[whole.float().mean(1) < 0.2]):
        shares = torch.bincount(some, minlength=5) / len(some)
        torch.testing.assert_close(shares, torch.full((5,), 0.2), atol=0.05, rtol=0)


STATE = ("TA_1D", "LAI", "TA_30D", "VPD_1D", "FAPAR")
GROUPS = {
    0: STATE, 1: ("TA_1D", "TA_30D", "VPD_1D"), 2: ("LAI", "FAPAR"), 3: ("TA_1D", "TA_30D"), 4: ("LAI",),
    5: ("VPD_1D",), 6: ("FAPAR",),
}  # fmt: skip


@pytest.mark.parametrize("kind", [StreamingConfig, EcoPerceiverConfig])
@pytest.mark.parametrize("group", GROUPS)
def test_a_group_of_the_state_is_masked_in_all_hours(kind, group):
    config, state = kind(state=STATE, group_dropout=0.3), torch.ones(2, 7, 5)
    chance = torch.ones(2, 7)
    chance[1, group] = 0.29
    dropped = drop_state(config, state, chance)
    assert (dropped[0] == 1).all()
    for number, name in enumerate(STATE):
        masked = torch.isnan(dropped[1, :, number])
        assert masked.all() if name in GROUPS[group] else not masked.any()
    chance[1, group] = 0.31
    assert (drop_state(config, state, chance) == 1).all()


def test_shares_of_masked_features_are_those_of_the_groups():
    config = StreamingConfig(state=STATE, group_dropout=0.2)
    chance = torch.rand(20_000, 7, generator=torch.Generator().manual_seed(0))
    gone = torch.isnan(drop_state(config, torch.ones(20_000, 1, 5), chance))[:, 0]
    # Each feature is in three groups: all features, all of its kind, and its own.
    torch.testing.assert_close(gone.float().mean(0), torch.full((5,), 1 - 0.8**3), atol=0.02, rtol=0)
    assert (gone[:, 0] == gone[:, 2]).all() and (gone[:, 0] != gone[:, 3]).any()


def test_dropping_the_state_leaves_the_other_masks_as_they_are():
    without, config = StreamingConfig(group_dropout=0.5), StreamingConfig(state=STATE, group_dropout=0.5)
    data = sequences(config, 40, 20, missing=0)
    chance = torch.rand(40, 21, 21 + 4 + 4 + 7, generator=torch.Generator().manual_seed(0))
    found = drop(config, data, chance)
    bare = drop(without, replace(data, state=None), chance[..., :29])
    for name in ("hourly", "patch_index", "statics"):
        torch.testing.assert_close(getattr(found, name), getattr(bare, name), equal_nan=True)
    assert bare.state is None
    expected = drop_state(config, data.state, chance[:, -1, 29:])
    torch.testing.assert_close(found.state, expected, equal_nan=True, rtol=0, atol=0)
    assert torch.isnan(found.state).any() and not torch.isnan(found.state).all()
