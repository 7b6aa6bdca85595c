"""How fast a year of a tower is predicted, compared with the plain model and with matrix products alone."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import SHARED_INPUTS, fastest, open_tower_year, report, size
from xcarbon import CarbonModel, set_options
from xcarbon.models.bundle import Scaler
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig, WindowedCrossAttention
from xcarbon.models.inputs import ModelInputs
from xcarbon.models.networks import EcoPerceiverPredictor
from xcarbon.prediction.predict import predict_hours
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.patches import patch_index
from xcarbon.testing import synthetic_towers

#: Batch sizes of the plain model, of which the fastest counts, and windows that are timed.
BATCHES, PLAIN_WINDOWS, FAST_WINDOWS = size((8, 16, 32, 64), (16,)), size(64, 16), size(260, 16)

set_options(device="cpu")
torch.set_num_threads(size(2, 1))


def plain(network: EcoPerceiver, windows: ModelInputs[Tensor]) -> Tensor:
    """Predict windows as published: each one encodes its hours, each block computes keys and values.

    Self-attention is fused (SDPA). Cross attention is computed as sums of products, which are a little faster
    than SDPA for one query per hour.
    """
    inputs, present = network.embed(windows)  # (B, T, N, Hi), (B, T, N)
    x = network.latents.expand(len(inputs), -1, -1)  # (B, T, Hl)
    for _ in range(network.config.cross_blocks):
        x = network.mix(plain_cross(network.cross, x, inputs, ~present[..., None]))
    for layer in network.layers:
        x = layer(x)
    return network.head(x)[:, -1, 0]


def plain_cross(layer: WindowedCrossAttention, x: Tensor, inputs: Tensor, absent: Tensor) -> Tensor:
    """Cross attention that computes its keys and values, ``(B, T, Hl) -> (B, T, Hl)``."""
    heads = layer.heads, -1
    query = layer.query(layer.norm(x)).unflatten(-1, heads)[:, :, None]  # (B, T, 1, heads, Hl / heads)
    keys, values = (linear(inputs).unflatten(-1, heads) for linear in (layer.key, layer.value))
    score = (query * keys).sum(-1) * keys.shape[-1] ** -0.5  # (B, T, N, heads)
    weight = score.masked_fill(absent, torch.finfo(score.dtype).min).softmax(2).masked_fill(absent, 0)
    read = (weight[..., None] * values).sum(2)  # (B, T, heads, Hl / heads)
    return layer.mlp(x + layer.out(read.flatten(2)))


def multiply_adds(config: EcoPerceiverConfig, reuse: bool) -> int:
    """Count the multiply-adds of a window in linear layers and attention, for hours without a patch.

    With ``reuse``, keys and values are computed once per hour, and the last layer only for the last token.
    Without it, every block computes them for V + C inputs, since some hour of each batch has a patch.
    """
    context, width, square = config.context, config.width, config.width**2
    inputs = len(config.variables) + (0 if reuse else len(config.bands))
    mlp = 2 * config.mlp_ratio * square
    keys_values = 2 * inputs * config.input_width * width  # of an hour
    cross = 2 * square + 2 * inputs * width + mlp  # of a token
    mix = 4 * square + 2 * context * width + mlp  # of a token
    total = context * (config.cross_blocks * (cross + mix) + config.self_layers * mix)
    if not reuse:
        return total + context * config.cross_blocks * keys_values
    return total + keys_values - (context - 1) * (mix - 2 * square)


def matrix_products() -> float:
    """Measure the best rate of float32 matrix products [multiply-adds s-1], for three sizes."""
    rates = []
    for rows, inner, columns in [(4096, 128, 384), (4096, 384, 128), (1024, 1024, 1024)]:
        a, b, out = torch.randn(rows, inner), torch.randn(inner, columns), torch.empty(rows, columns)
        time_of = fastest({"mm": lambda a=a, b=b, out=out: torch.mm(a, b, out=out)}, 20)["mm"]  # type: ignore[misc]
        rates.append(rows * inner * columns / time_of)
    return max(rates)


class TowerYear:
    """A year of a synthetic tower with the paper's 21 variables, and 9 bands once a day."""

    timeout = 600
    config = EcoPerceiverConfig()

    def setup(self) -> None:
        """Load the inputs, and check that both ways give the same predictions."""
        torch.manual_seed(0)
        network = EcoPerceiver(self.config).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
        self.model = CarbonModel(EcoPerceiverPredictor(network), Scaler({"NEE": (0.0, 1.0)}, 1, {}))
        self.load()
        expected = self.plain_windows(16)
        np.testing.assert_allclose(self.fast_windows(PLAIN_WINDOWS), expected, rtol=1e-3, atol=1e-4)

    def load(self) -> None:
        """Load all inputs into memory."""
        inputs = model_inputs(self.tower(), self.config.variables, self.config.bands).isel(site=0).load()
        self.inputs, self.stamps = ModelInputs(inputs["hourly"].values), inputs["time"].values
        if self.config.bands:
            patches, day = inputs["patch"].values, inputs["day"].values
            usable = np.isfinite(patches).all(axis=(1, 2, 3))
            self.inputs.patches, self.inputs.patch_index = patches, patch_index(self.stamps, day, usable)

    def tower(self):
        """Return one tower."""
        return synthetic_towers(1)

    def fast_windows(self, count: int) -> np.ndarray:
        """Predict the first windows as a Dask task does."""
        stop = count + self.config.context - 1
        return predict_hours(self.inputs.between(0, stop), self.stamps[:stop], self.model)[0]

    def plain_windows(self, batch: int) -> np.ndarray:
        """Predict the first windows with the plain model."""
        context, network = self.config.context, self.model.network
        hours = PLAIN_WINDOWS + context - 1
        series = self.inputs.between(0, hours).map(torch.from_numpy)
        windows = series.hourly.unfold(0, context, 1).transpose(1, 2)
        index = None if series.patch_index is None else series.patch_index.unfold(0, context, 1)
        parts = []
        with torch.inference_mode():
            for start in range(0, PLAIN_WINDOWS, batch):
                part = slice(start, start + batch)
                own = None if index is None else index[part]
                parts.append(plain(network, ModelInputs(windows[part], series.patches, own).compact()))
        return torch.cat(parts).numpy()

    def track_rate(self) -> float:
        """Measure the rate of xcarbon alone."""
        return FAST_WINDOWS / fastest({"xcarbon": lambda: self.fast_windows(FAST_WINDOWS)}, 7)["xcarbon"]

    def track_plain(self) -> float:
        """Time the plain model, which computes every window anew, with the batch size that suits it best."""
        ways: dict[str, Callable[[], object]] = {
            str(batch): lambda batch=batch: self.plain_windows(batch)  # type: ignore[misc]
            for batch in BATCHES
        }
        seconds = fastest(ways | {"xcarbon": lambda: self.fast_windows(FAST_WINDOWS)}, 7)
        ours = FAST_WINDOWS / seconds.pop("xcarbon")
        return ours * min(seconds.values()) / PLAIN_WINDOWS

    def track_matrix_products(self) -> float:
        """Compare with the rate of matrix products alone, which no implementation exceeds."""
        before = matrix_products()
        rate = self.track_rate()
        return rate * multiply_adds(self.config, reuse=True) / max(before, matrix_products())

    track_rate.unit = "hours/s"  # type: ignore[attr-defined]
    track_plain.unit = "x faster than the plain model"  # type: ignore[attr-defined]
    track_matrix_products.unit = "of the rate of matrix products"  # type: ignore[attr-defined]


class RealTowerYear(TowerYear):
    """A year of the real DE-Tha with the five variables of the store; synthetic where it is absent."""

    config = EcoPerceiverConfig(variables=SHARED_INPUTS, bands=())

    def tower(self):
        """Return one tower."""
        return open_tower_year()


if __name__ == "__main__":
    report(globals())
