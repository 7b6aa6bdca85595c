"""What the streaming EcoPerceiver costs, beside EcoPerceiver with the same inputs.

They are two models, and predict two things: only the work for a predicted hour is compared. Both are given
a year with the paper's 21 variables, of which a seventh is missing, or with the five that real towers share.
"""

import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.inference import multiply_adds
from benchmarks.training import random_batch
from benchmarks.training import step as exact_step
from xcarbon.core.variables import PAPER_INPUTS
from xcarbon.models import fast, streaming
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.models.inputs import ModelInputs
from xcarbon.models.streaming import StreamingConfig, StreamingEcoPerceiver
from xcarbon.training import objective

SHARED_INPUTS = ("DOY", "TOD", "TA", "SW_IN", "VPD")
#: Hours that are predicted, windows of a step, and sequences of a step with their hours.
EXACT_HOURS, STREAMING_HOURS = 256, 8192
WINDOWS, SEQUENCES, LENGTH = 64, 4, 512
ROUNDS = 6

torch.set_num_threads(2)


def streaming_multiply_adds(config: StreamingConfig) -> int:
    """Count the multiply-adds of an hour in linear layers and attention, with all inputs but patches."""
    width, square = config.width, config.width**2
    inputs = len(config.variables) + len(config.statics)
    asked = config.heads * config.parts.input_width
    mlp = 2 * config.mlp_ratio * square
    cross = config.cross_blocks * (2 * inputs * asked + width * asked + mlp) + (
        (config.cross_blocks - 1) * width * asked
    )
    attention = config.layers * (4 * square + 2 * (2 * config.window - 1) * width + mlp)
    return cross + attention + len(config.targets) * (1 + config.spread) * width


def rates(jobs: dict[str, tuple[int, Callable[[], object]]]) -> dict[str, float]:
    """Hours in a second of each job, the best of some rounds in which they take turns."""
    best = dict.fromkeys(jobs, 0.0)
    for _ in range(ROUNDS):
        for name, (hours, job) in jobs.items():
            start = time.perf_counter()
            job()
            best[name] = max(best[name], hours / (time.perf_counter() - start))
    return best


class Streaming:
    """Inference and training of both models on random hours."""

    timeout = 900
    params = (PAPER_INPUTS, SHARED_INPUTS)
    param_names = ("variables",)

    def setup(self, variables: tuple[str, ...]) -> None:
        """Make both models and a year."""
        torch.manual_seed(0)
        self.exact = EcoPerceiver(EcoPerceiverConfig(variables, ())).eval()
        self.streaming = StreamingEcoPerceiver(StreamingConfig(variables, ())).eval()
        hourly = torch.rand(STREAMING_HOURS, len(variables)) - 0.5
        hourly[:, 2:] = hourly[:, 2:].masked_fill(torch.rand_like(hourly[:, 2:]) < 1 / 7, torch.nan)
        self.hourly, self.statics = hourly, torch.tensor([[1.0, 50, 10, 300]])

    def track_multiply_adds(self, variables: tuple[str, ...]) -> float:
        """Count what EcoPerceiver needs for an hour when nothing is computed twice."""
        return multiply_adds(self.exact.config, reuse=True) / streaming_multiply_adds(self.streaming.config)

    def inference(self, variables: tuple[str, ...]) -> dict[str, float]:
        """Hours predicted in a second."""
        hours = EXACT_HOURS + self.exact.config.context - 1
        wanted = np.ones(EXACT_HOURS, bool)
        series = ModelInputs(self.hourly[None], statics=self.statics)
        return rates(
            {
                "exact": (
                    EXACT_HOURS,
                    lambda: fast.predict_series(self.exact, ModelInputs(self.hourly[:hours]), wanted),
                ),
                "streaming": (STREAMING_HOURS, lambda: streaming.predict_series(self.streaming, series)),
            }
        )

    def training(self, variables: tuple[str, ...]) -> dict[str, float]:
        """Hours learnt from in a second: EcoPerceiver's is the last one of each window, as in the paper."""
        batch = random_batch(WINDOWS)
        batch = batch._replace(inputs=ModelInputs(batch.inputs.hourly[..., : len(variables)]))
        sequences = ModelInputs(
            self.hourly[: SEQUENCES * LENGTH].unflatten(0, (SEQUENCES, LENGTH)),
            statics=self.statics.repeat(4, 1),
        )
        targets = torch.randn(SEQUENCES, LENGTH, 1)
        warmup = self.streaming.config.window - 1
        targets[:, :warmup] = torch.nan

        def streaming_step() -> None:
            self.streaming.zero_grad()
            objective.loss(self.streaming(sequences), targets).backward()

        return rates(
            {
                "exact": (WINDOWS, lambda: exact_step(self.exact, batch)),
                "streaming": (SEQUENCES * (LENGTH - warmup), streaming_step),
            }
        )

    def track_inference(self, variables: tuple[str, ...]) -> float:
        """Time EcoPerceiver over a series, its fastest way."""
        found = self.inference(variables)
        return found["streaming"] / found["exact"]

    def track_training(self, variables: tuple[str, ...]) -> float:
        """Time steps of EcoPerceiver."""
        found = self.training(variables)
        return found["streaming"] / found["exact"]

    track_multiply_adds.unit = "x fewer multiply-adds an hour"
    track_inference.unit = "x more hours predicted in a second"
    track_training.unit = "x more hours learnt from in a second"


def main() -> None:
    """Print all figures."""
    benchmark = Streaming()
    for variables in benchmark.params:
        benchmark.setup(variables)
        fewer = benchmark.track_multiply_adds(variables)
        print(f"{len(variables)} variables: {fewer:.0f} times fewer multiply-adds")
        for name in ("inference", "training"):
            found = getattr(benchmark, name)(variables)
            ratio = found["streaming"] / found["exact"]
            print(
                f"{name}: {found['streaming']:,.0f} against {found['exact']:,.0f} hours/s, {ratio:.0f} times"
            )


if __name__ == "__main__":
    main()
