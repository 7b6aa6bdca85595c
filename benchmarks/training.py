"""How fast EcoPerceiver trains, compared with the model as the paper writes it."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.common import fastest, report, size
from xcarbon.models.ecoperceiver import EcoPerceiver
from xcarbon.models.inputs import ModelInputs
from xcarbon.training.windows import Batch

#: Windows that the plain model computes at once, of which the fastest number counts; and those of xcarbon.
PLAIN_SIZES, SIZE = size((16, 32, 64, 128), (8,)), size(64, 8)


class PlainEcoPerceiver(EcoPerceiver):
    """Keys and values in each of the blocks, fused attention, one linear map for each of q, k and v."""

    def forward(self, windows: ModelInputs[Tensor]) -> Tensor:
        inputs, present = self.embed(windows)  # (B, T, N, Hi), (B, T, N)
        inputs, mask = inputs.flatten(0, 1), present.flatten(0, 1)[:, None, None]  # (B T, N, Hi)
        x = self.latents.expand(len(windows.hourly), -1, -1)  # (B, T, Hl)
        layer = self.cross
        for _ in range(self.config.cross_blocks):
            query, keys, values = (
                linear(tokens).unflatten(-1, (layer.heads, -1)).transpose(1, 2)  # (B T, heads, ., size)
                for linear, tokens in (
                    (layer.query, layer.norm(x).flatten(0, 1)[:, None]),
                    (layer.key, inputs),
                    (layer.value, inputs),
                )
            )
            read = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
            x = self.mix(layer.mlp(x + layer.out(read.flatten(1).view_as(x))))
        for layer_ in self.layers:
            x = layer_(x)
        return self.head(x).squeeze(-1)


def random_batch(windows: int) -> Batch:
    """Return the paper's 21 inputs, a seventh of them missing, and nine bands at one hour of each day."""
    hourly = torch.rand(windows, 32, 21) - 0.5
    hourly[..., 2:] = hourly[..., 2:].masked_fill(torch.rand(windows, 32, 19) < 1 / 7, torch.nan)
    noon = (torch.arange(32) + torch.randint(24, (windows, 1))) % 24 == 12  # (B, T)
    index = torch.where(noon, noon.flatten().cumsum(0).view_as(noon) - 1, -1)
    patches = torch.rand(int(noon.sum()), 9, 8, 8)
    return Batch(ModelInputs(hourly, patches, index), torch.randn(windows, 32))


def step(network: EcoPerceiver, batch: Batch) -> Tensor:
    """Compute the loss on every hour of the windows and its gradients."""
    network.zero_grad()
    loss = F.mse_loss(network(batch.inputs), batch.target)
    loss.backward()
    return loss


def assert_same(ours: EcoPerceiver, plain: EcoPerceiver) -> None:
    """Check that loss and gradients are equal."""
    batch = random_batch(4)
    losses = [step(network.eval(), batch) for network in (ours, plain)]
    torch.testing.assert_close(*losses)
    for (name, one), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        if name != "cross.key.bias":  # its gradient is zero but for rounding errors
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-6)
    ours.train()
    plain.train()


class Step:
    """A training step of the paper's network on random windows, without the optimiser."""

    timeout = 900

    def setup(self) -> None:
        """Make both models with the same weights, and check that they are the same function."""
        torch.manual_seed(0)
        self.ours, self.plain = EcoPerceiver(), PlainEcoPerceiver()
        self.plain.load_state_dict(self.ours.state_dict())
        assert_same(self.ours, self.plain)

    def track_step(self) -> float:
        """Time the model as the paper writes it, with the batch size that suits it best."""
        plain = {count: partial(step, self.plain, random_batch(count)) for count in PLAIN_SIZES}
        seconds = fastest(
            {str(count): job for count, job in plain.items()}
            | {"xcarbon": partial(step, self.ours, random_batch(SIZE))},
            5,
        )
        return SIZE / seconds["xcarbon"] / max(count / seconds[str(count)] for count in PLAIN_SIZES)

    def track_rate(self) -> float:
        """Measure the rate of xcarbon alone."""
        return SIZE / fastest({"xcarbon": partial(step, self.ours, random_batch(SIZE))}, 5)["xcarbon"]

    track_step.unit = "x faster than the plain model"
    track_rate.unit = "windows/s"


if __name__ == "__main__":
    report(globals())
