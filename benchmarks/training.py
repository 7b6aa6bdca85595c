"""How fast EcoPerceiver trains, beside the model as it is written down."""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch import Tensor

from xcarbon.models.ecoperceiver import EcoPerceiver
from xcarbon.models.inputs import ModelInputs
from xcarbon.training.windows import Batch

#: Windows computed at once that are tried for the plain model, the best of which counts; and ours.
PLAIN_SIZES, SIZE = (16, 32, 64, 128), 64
#: Rounds in which the two take turns.
ROUNDS = 5


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
    """The paper's 21 inputs, a seventh of them missing, and nine bands at one hour of a day."""
    hourly = torch.rand(windows, 32, 21) - 0.5
    hourly[..., 2:] = hourly[..., 2:].masked_fill(torch.rand(windows, 32, 19) < 1 / 7, torch.nan)
    noon = (torch.arange(32) + torch.randint(24, (windows, 1))) % 24 == 12  # (B, T)
    index = torch.where(noon, noon.flatten().cumsum(0).view_as(noon) - 1, -1)
    patches = torch.rand(int(noon.sum()), 9, 8, 8)
    return Batch(ModelInputs(hourly, patches, index), torch.randn(windows, 32))


def step(network: EcoPerceiver, batch: Batch) -> Tensor:
    """Forward and backward of the loss on every hour of the windows."""
    network.zero_grad()
    loss = F.mse_loss(network(batch.inputs), batch.target)
    loss.backward()
    return loss


def seconds(network: EcoPerceiver, batch: Batch) -> float:
    """Time one step."""
    start = time.perf_counter()
    step(network, batch)
    return time.perf_counter() - start


def assert_same(ours: EcoPerceiver, plain: EcoPerceiver) -> None:
    """Loss and gradients are equal."""
    batch = random_batch(4)
    losses = [step(network.eval(), batch) for network in (ours, plain)]
    torch.testing.assert_close(*losses)
    for (name, one), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        if name != "cross.key.bias":  # does not influence anything: rounding errors
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-6)
    ours.train()
    plain.train()


class Step:
    """Forward and backward of the paper's network on random windows."""

    timeout = 900

    def setup(self) -> None:
        """Make both models, of the same weights, and make sure that they are the same function."""
        torch.manual_seed(0)
        self.ours, self.plain = EcoPerceiver(), PlainEcoPerceiver()
        self.plain.load_state_dict(self.ours.state_dict())
        assert_same(self.ours, self.plain)

    def rates(self) -> tuple[float, float]:
        """Windows in a second of ours and of the plain model, which take turns."""
        batches = {size: random_batch(size) for size in {SIZE, *PLAIN_SIZES}}
        ours, plain = [], []
        for _ in range(ROUNDS):
            for size in PLAIN_SIZES:
                plain.append(size / seconds(self.plain, batches[size]))
                ours.append(SIZE / seconds(self.ours, batches[SIZE]))
        return max(ours), max(plain)

    def track_step(self) -> float:
        """Time the model as it is written down: what a user would write, at the size that suits it best."""
        ours, plain = self.rates()
        return ours / plain

    def track_rate(self) -> float:
        """Tell the rate by itself."""
        return self.rates()[0]

    track_step.unit = "x faster than the plain model"
    track_rate.unit = "windows/s"


def main() -> None:
    """Print all figures."""
    benchmark = Step()
    benchmark.setup()
    ours, plain = benchmark.rates()
    print(f"plain model: {plain:.0f} windows/s, ours: {ours:.0f} windows/s, {ours / plain:.2f} times")


if __name__ == "__main__":
    main()
