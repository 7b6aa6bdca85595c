"""What the streaming EcoPerceiver costs, compared with EcoPerceiver with the same inputs.

The two models predict differently; only the work for a predicted hour is compared. Both read a year of the
paper's 21 variables, of which a seventh is missing, or of the five variables that real towers share.
"""

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.common import SHARED_INPUTS, fastest, report, size
from benchmarks.inference import multiply_adds
from benchmarks.training import random_batch
from benchmarks.training import step as exact_step
from xcarbon.core.variables import PAPER_INPUTS
from xcarbon.models import fast, streaming
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.models.inputs import ModelInputs
from xcarbon.models.streaming import StreamingConfig, StreamingEcoPerceiver
from xcarbon.training import objective

#: Hours that are predicted, windows of a training step, and sequences of a step with their hours.
EXACT_HOURS, STREAMING_HOURS = size(256, 16), size(8192, 1024)
WINDOWS, SEQUENCES, LENGTH = size(64, 8), 4, size(512, 256)

torch.set_num_threads(size(2, 1))


def streaming_multiply_adds(config: StreamingConfig) -> int:
    """Count the multiply-adds of an hour in linear layers and attention, without patches."""
    width, square = config.width, config.width**2
    inputs = len(config.variables) + len(config.statics)
    queries = config.heads * config.parts.input_width
    mlp = 2 * config.mlp_ratio * square
    cross = config.cross_blocks * (2 * inputs * queries + width * queries + mlp) + (
        (config.cross_blocks - 1) * width * queries
    )
    attention = config.layers * (4 * square + 2 * (2 * config.window - 1) * width + mlp)
    return cross + attention + len(config.targets) * (1 + config.spread) * width


class Streaming:
    """Inference and training of both models on random hours."""

    timeout = 900
    params = (PAPER_INPUTS, SHARED_INPUTS)
    param_names = ("variables",)

    def setup(self, variables: tuple[str, ...]) -> None:
        """Make both models and a year of inputs."""
        torch.manual_seed(0)
        self.exact = EcoPerceiver(EcoPerceiverConfig(variables, ())).eval()
        self.streaming = StreamingEcoPerceiver(StreamingConfig(variables, ())).eval()
        hourly = torch.rand(STREAMING_HOURS, len(variables)) - 0.5
        hourly[:, 2:] = hourly[:, 2:].masked_fill(torch.rand_like(hourly[:, 2:]) < 1 / 7, torch.nan)
        self.hourly, self.statics = hourly, torch.tensor([[1.0, 50, 10, 300]])

    def predict_exact(self) -> None:
        """Predict a series by EcoPerceiver in its fastest way."""
        hours = EXACT_HOURS + self.exact.config.context - 1
        fast.predict_series(self.exact, ModelInputs(self.hourly[:hours]), np.ones(EXACT_HOURS, bool))

    def predict_streaming(self) -> None:
        """Predict a series by the streaming model."""
        streaming.predict_series(self.streaming, ModelInputs(self.hourly[None], statics=self.statics))

    def training_steps(self, variables: tuple[str, ...]) -> tuple[Callable[[], object], Callable[[], object]]:
        """Return a training step of each model; EcoPerceiver has one target per window, as published."""
        batch = random_batch(WINDOWS)
        batch = batch._replace(inputs=ModelInputs(batch.inputs.hourly[..., : len(variables)]))
        sequences = ModelInputs(
            self.hourly[: SEQUENCES * LENGTH].unflatten(0, (SEQUENCES, -1)),
            statics=self.statics.repeat(SEQUENCES, 1),
        )
        targets = torch.randn(*sequences.hourly.shape[:2], 1)
        targets[:, : self.streaming.config.window - 1] = torch.nan

        def streaming_step() -> None:
            self.streaming.zero_grad()
            objective.loss(self.streaming(sequences), targets).backward()

        return lambda: exact_step(self.exact, batch), streaming_step

    def track_multiply_adds(self, variables: tuple[str, ...]) -> float:
        """Count what EcoPerceiver needs for an hour when nothing is computed twice."""
        return multiply_adds(self.exact.config, reuse=True) / streaming_multiply_adds(self.streaming.config)

    def track_inference(self, variables: tuple[str, ...]) -> float:
        """Time EcoPerceiver over a series, in its fastest way."""
        seconds = fastest({"exact": self.predict_exact, "streaming": self.predict_streaming}, 6)
        return STREAMING_HOURS / seconds["streaming"] / (EXACT_HOURS / seconds["exact"])

    def track_inference_rate(self, variables: tuple[str, ...]) -> float:
        """Measure the rate of the streaming model alone."""
        return STREAMING_HOURS / fastest({"streaming": self.predict_streaming}, 6)["streaming"]

    def track_training(self, variables: tuple[str, ...]) -> float:
        """Time training steps of EcoPerceiver."""
        exact, ours = self.training_steps(variables)
        seconds = fastest({"exact": exact, "streaming": ours}, 6)
        return self.learnt_hours() / seconds["streaming"] / (WINDOWS / seconds["exact"])

    def track_training_rate(self, variables: tuple[str, ...]) -> float:
        """Measure the rate of the streaming model alone."""
        return self.learnt_hours() / fastest({"streaming": self.training_steps(variables)[1]}, 6)["streaming"]

    def learnt_hours(self) -> int:
        """Count the hours with a target in a training step of the streaming model."""
        return SEQUENCES * (LENGTH - self.streaming.config.window + 1)

    track_multiply_adds.unit = "x fewer multiply-adds per hour"
    track_inference.unit = "x more hours predicted per second"
    track_inference_rate.unit = "hours predicted per second"
    track_training.unit = "x more hours learnt per second"
    track_training_rate.unit = "hours learnt per second"


if __name__ == "__main__":
    report(globals())
