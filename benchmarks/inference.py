"""How fast a tower's year is predicted, beside the plain model window by window; and what bounds it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xcarbon import CarbonModel, open_store, set_options
from xcarbon.models.bundle import Scaler
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig, WindowedCrossAttention
from xcarbon.models.inputs import ModelInputs
from xcarbon.models.networks import EcoPerceiverPredictor
from xcarbon.prediction.predict import predict_hours
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.patches import patch_index
from xcarbon.testing import synthetic_towers

DATA = Path(os.environ.get("XCARBON_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")).absolute()
STORE = DATA / "fluxnet2015_hourly.zarr"
#: Batch sizes that the plain model is given to choose from, and windows that are timed.
BATCHES, PLAIN_WINDOWS, FAST_WINDOWS = (8, 16, 32, 64), 64, 260
#: Keep glibc from handing memory back to the system.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**28),
}

set_options(progress=False, device="cpu")
torch.set_num_threads(2)


def seconds(functions: dict[str, Callable[[], object]], repeat: int = 6) -> dict[str, float]:
    """Time the fastest of some calls of each function, taking turns, since other processes come and go."""
    fastest = dict.fromkeys(functions, np.inf)
    for _ in range(repeat + 1):  # the first ones warm up, and hardly ever win
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            fastest[name] = min(fastest[name], time.perf_counter() - start)
    return fastest


def plain(network: EcoPerceiver, windows: ModelInputs[Tensor]) -> Tensor:
    """Predict windows as the paper is written: each encodes its hours, each block makes keys and values.

    Self-attention is fused (SDPA). Cross attention is sums of products, which for one query an hour are a
    little faster than SDPA.
    """
    inputs, present = network.embed(windows)  # (B, T, N, Hi), (B, T, N)
    x = network.latents.expand(len(inputs), -1, -1)  # (B, T, Hl)
    for _ in range(network.config.cross_blocks):
        x = network.mix(plain_cross(network.cross, x, inputs, ~present[..., None]))
    for layer in network.layers:
        x = layer(x)
    return network.head(x)[:, -1, 0]


def plain_cross(layer: WindowedCrossAttention, x: Tensor, inputs: Tensor, absent: Tensor) -> Tensor:
    """Cross attention with keys and values of its own, ``(B, T, Hl) -> (B, T, Hl)``."""
    heads = layer.heads, -1
    query = layer.query(layer.norm(x)).unflatten(-1, heads)[:, :, None]  # (B, T, 1, heads, Hl / heads)
    keys, values = (linear(inputs).unflatten(-1, heads) for linear in (layer.key, layer.value))
    score = (query * keys).sum(-1) * keys.shape[-1] ** -0.5  # (B, T, N, heads)
    weight = score.masked_fill(absent, torch.finfo(score.dtype).min).softmax(2).masked_fill(absent, 0)
    read = (weight[..., None] * values).sum(2)  # (B, T, heads, Hl / heads)
    return layer.mlp(x + layer.out(read.flatten(2)))


def multiply_adds(config: EcoPerceiverConfig, reuse: bool) -> int:
    """Count the multiply-adds of a window in linear layers and attention, in hours without a patch.

    With ``reuse``, keys and values are made once an hour, and the last layer is for the last token alone;
    without, every block makes them of V + C inputs, since some hour of a batch has a patch.
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


def matrix_products(repeat: int = 20) -> float:
    """Measure the rate of float32 matrix products [multiply-adds s-1], of this model's sizes and square."""
    rates = []
    for rows, inner, columns in [(4096, 128, 384), (4096, 384, 128), (1024, 1024, 1024)]:
        a, b, out = torch.randn(rows, inner), torch.randn(inner, columns), torch.empty(rows, columns)
        time_of = seconds({"mm": lambda a=a, b=b, out=out: torch.mm(a, b, out=out)}, repeat)["mm"]  # type: ignore[misc]
        rates.append(rows * inner * columns / time_of)
    return max(rates)


class TowerYear:
    """A year of a synthetic tower with the paper's 21 variables, and 9 bands once a day."""

    timeout = 600
    config = EcoPerceiverConfig()

    def setup(self) -> None:
        """Load the inputs, and make sure that both ways give the same."""
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
        """Take all the inputs into memory."""
        inputs = model_inputs(self.tower(), self.config.variables, self.config.bands).isel(site=0).load()
        self.inputs, self.stamps = ModelInputs(inputs["hourly"].values), inputs["time"].values
        if self.config.bands:
            patches, day = inputs["patch"].values, inputs["day"].values
            usable = np.isfinite(patches).all(axis=(1, 2, 3))
            self.inputs.patches, self.inputs.patch_index = patches, patch_index(self.stamps, day, usable)

    def tower(self):
        """One tower."""
        return synthetic_towers(1)

    def fast_windows(self, count: int | None = None) -> np.ndarray:
        """Predict the first windows, or all, as a Dask task does."""
        stop = None if count is None else count + self.config.context - 1
        return predict_hours(self.inputs.between(0, stop), self.stamps[:stop], self.model)[0]

    def plain_windows(self, batch: int) -> np.ndarray:
        """Predict the first windows by the plain model."""
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

    def rates(self) -> dict[str, float]:
        """Windows in a second: the plain model at each batch size, and xcarbon, taking turns."""
        ways: dict[str, Callable[[], object]] = {
            f"plain, batch {batch}": lambda batch=batch: self.plain_windows(batch)  # type: ignore[misc]
            for batch in BATCHES
        }
        times = seconds(ways | {"xcarbon": lambda: self.fast_windows(FAST_WINDOWS)})
        return {
            way: (FAST_WINDOWS if way == "xcarbon" else PLAIN_WINDOWS) / used for way, used in times.items()
        }

    def track_plain(self) -> float:
        """Time the plain model at its best batch size, which computes all anew, against xcarbon."""
        rates = self.rates()
        ours = rates.pop("xcarbon")
        return ours / max(rates.values())

    def track_matrix_products(self) -> float:
        """Tell which share of the rate of bare matrix products, the bound of any way, is reached."""
        bound = matrix_products()
        rate = FAST_WINDOWS / seconds({"xcarbon": lambda: self.fast_windows(FAST_WINDOWS)})["xcarbon"]
        return rate * multiply_adds(self.config, reuse=True) / max(bound, matrix_products())

    def track_allocator(self) -> float:
        """Tell what is gained by forbidding glibc to hand memory back: nothing, since arrays are reused."""
        return self.with_memory_kept()["xcarbon"] / self.with_memory_kept(keep=False)["xcarbon"]

    def with_memory_kept(self, keep: bool = True) -> dict[str, float]:
        """Measure the rates in a process of their own."""
        command = [sys.executable, __file__, type(self).__name__]
        environment = os.environ | (KEEP_MEMORY if keep else {})
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return json.loads(done.stdout)

    track_plain.unit = "x faster than the plain model"  # type: ignore[attr-defined]
    track_matrix_products.unit = "of the rate of matrix products"  # type: ignore[attr-defined]
    track_allocator.unit = "x faster with memory kept"  # type: ignore[attr-defined]


class RealTowerYear(TowerYear):
    """A year of the real DE-Tha, with the five variables that the store has; synthetic where it is absent."""

    config = EcoPerceiverConfig(variables=("DOY", "TOD", "TA", "SW_IN", "VPD"), bands=())

    def tower(self):
        """One tower."""
        if STORE.exists():
            return open_store(STORE).sel(site=["DE-Tha"], time="2010")
        return synthetic_towers(1, patches=False)


def report(benchmark: TowerYear) -> None:
    """Print all figures of a benchmark."""
    benchmark.setup()
    config = benchmark.config
    needed, done = multiply_adds(config, reuse=False) / 1e6, multiply_adds(config, reuse=True) / 1e6
    bound = matrix_products()
    rates = benchmark.rates()
    bound = max(bound, matrix_products())
    print(f"{benchmark.__doc__}")
    for way, rate in rates.items():
        print(f"  {way}: {rate:.0f} windows/s")
    ours, theirs = rates["xcarbon"], max(rate for way, rate in rates.items() if way != "xcarbon")
    print(f"  xcarbon / plain at its best batch size: {ours / theirs:.2f}")
    print(f"  multiply-adds a window: plain {needed:.1f} million, xcarbon {done:.1f} million")
    print(f"  xcarbon {2e-3 * done * ours:.0f} GFLOP/s of {2e-9 * bound:.0f} in matrix products: "
          f"{1e6 * done * ours / bound:.2f}")  # fmt: skip
    start = time.perf_counter()
    count = np.isfinite(benchmark.fast_windows()).sum()
    print(f"  the whole year, once: {count / (time.perf_counter() - start):.0f} windows/s")
    for keep in (False, True):
        rates = benchmark.with_memory_kept(keep)
        named = ", ".join(f"{way} {rate:.0f}" for way, rate in rates.items())
        print(f"  memory {'kept by settings of glibc' if keep else 'as glibc handles it'}: {named}")


def main() -> None:
    """Print all figures; or, for a class, its rates as JSON."""
    benchmarks = {benchmark.__name__: benchmark for benchmark in (TowerYear, RealTowerYear)}
    if len(sys.argv) > 1:
        benchmark = benchmarks[sys.argv[1]]()
        benchmark.setup()
        print(json.dumps(benchmark.rates()))
        return
    for benchmark in benchmarks.values():
        report(benchmark())


if __name__ == "__main__":
    main()
