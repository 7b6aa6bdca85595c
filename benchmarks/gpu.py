"""How exact and how fast both kinds of EcoPerceiver are on a graphics card, at each precision.

python -m benchmarks.gpu [--out gpu.txt] [--minutes 8]

The first table is of ``fit`` and ``predict_nee`` at simulated towers: for each kind of model, the deviation
of losses and predictions from those of the processor of the same machine, and the rates of both. The other
tables are of the network of EcoPerceiver, with single precision, TF32 products, bfloat16, and compiled: the
deviation of predictions and gradients from those of a processor in double precision, and the windows per
second in prediction and in training, at several batch sizes. Each of these rates is also given as a share of
the card's rate of matrix products, measured in the same run. Compiled networks come last.

No line begins after three quarters of the time limit; lines that are left out for this reason are named. With
``--out``, everything that is printed is also written to a file, line by line. The exit status is 1 if a
deviation is larger than allowed. ``--device cpu --batches 16`` runs the same on a processor. The script needs
the repository, but neither real data nor a network.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import xcarbon
from benchmarks.common import SMALL, size
from benchmarks.inference import multiply_adds
from benchmarks.training import random_batch
from xcarbon.models.bundle import CarbonModel
from xcarbon.models.ecoperceiver import EcoPerceiver
from xcarbon.models.fast import predict_series
from xcarbon.models.inputs import ModelInputs
from xcarbon.testing import synthetic_towers
from xcarbon.training import fit
from xcarbon.training.windows import Batch

SEED = 0


@dataclass(frozen=True)
class Way:
    """How products are computed."""

    name: str
    #: Argument of :func:`torch.set_float32_matmul_precision`.
    matmul: str = "highest"
    #: Whether autocast to bfloat16 is on.
    bfloat16: bool = False
    #: Whether the model is compiled by :func:`torch.compile`.
    compiled: bool = False
    #: Largest allowed deviation from double precision, as a share of the predictions' standard deviation.
    tolerance: float = 1e-3

    @contextmanager
    def on(self, device: torch.device) -> Iterator[None]:
        """Set the precision for the code inside."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(self.matmul)
        try:
            with torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16):
                yield
        finally:
            torch.set_float32_matmul_precision(before)

    def prepare(self, network: EcoPerceiver) -> Callable[..., Tensor]:
        """Return the network, compiled if this way compiles."""
        return torch.compile(network) if self.compiled else network  # type: ignore[return-value]


WAYS = (
    Way("float32"),
    Way("tf32", matmul="high", tolerance=3e-2),
    Way("bfloat16", matmul="high", bfloat16=True, tolerance=0.2),
    Way("float32, compiled", compiled=True),
    Way("bfloat16, compiled", matmul="high", bfloat16=True, compiled=True, tolerance=0.2),
)
if SMALL:  # compiling takes minutes
    WAYS = WAYS[:3]
#: Settings of :func:`xcarbon.training.fit` for each kind of model. Random numbers differ between devices, so
#: that nothing is dropped.
TRAININGS: dict[str, dict[str, Any]] = {
    "ecoperceiver": {
        "batch_size": size(1024, 8),
        "network": {"dropout": 0.0, "group_dropout": 0.0} | size({}, {"width": 16, "self_layers": 1}),
    },
    "streaming": {
        "batch_size": size(96, 4),
        "network": dict.fromkeys(("dropout", "variable_dropout", "static_dropout", "group_dropout"), 0.0)
        | size({}, {"width": 16, "layers": 2}),
    },
}
#: Optimiser steps that are compared with those of the processor, and steps that are timed on the device.
STEPS, TIMED_STEPS = size(6, 1), size(150, 2)
#: Simulated towers to train on.
TOWERS = size(12, 1)


class Clock:
    """The time that is left for further lines."""

    def __init__(self, minutes: float) -> None:
        self.end = time.monotonic() + 60 * minutes

    def allows(self, line: str) -> bool:
        """Return whether a line may begin; print its name if not."""
        if time.monotonic() < self.end:
            return True
        print(f"{line:38}left out: the time is used up", flush=True)
        return False


class Tee:
    """A stream that writes to two others."""

    def __init__(self, *streams: TextIO) -> None:
        self.streams = streams

    def write(self, text: str) -> int:
        """Write to both."""
        return max(stream.write(text) for stream in self.streams)

    def flush(self) -> None:
        """Flush both."""
        for stream in self.streams:
            stream.flush()


def make_network(device: torch.device) -> EcoPerceiver:
    """Make the paper's network with weights that give outputs of about unit variance."""
    torch.manual_seed(SEED)
    network = EcoPerceiver()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return network.eval().to(device)


def step(network: Callable[..., Tensor], batch: Batch) -> Tensor:
    """Compute the loss on every hour of the windows and its gradients."""
    output = network(batch.inputs).float()
    loss = F.mse_loss(output, batch.target)
    loss.backward()
    return loss


def series(hours: int, device: torch.device) -> ModelInputs[Tensor]:
    """Make a series of the paper's 21 inputs, a seventh of them missing, with nine bands at each noon."""
    generator = torch.Generator().manual_seed(SEED)
    hourly = torch.rand(hours + 31, 21, generator=generator) - 0.5
    hourly[:, 2:] = hourly[:, 2:].masked_fill(
        torch.rand(hours + 31, 19, generator=generator) < 1 / 7, torch.nan
    )
    day, hour = torch.arange(hours + 31) // 24, torch.arange(hours + 31) % 24
    patches = torch.rand(int(day[-1]) + 1, 9, 8, 8, generator=generator)
    return ModelInputs(hourly, patches, torch.where(hour == 12, day, -1)).to(device)


def rate(function: Callable[[], object], count: int, device: torch.device) -> float:
    """Return how many items are done per second, of which each call does ``count``."""
    for _ in range(size(3, 1)):  # compiles, chooses kernels, fills caches
        function()
    calls, used = 0, 0.0
    start = time.perf_counter()
    while used < size(2.0, 0.01):
        function()
        calls += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        used = time.perf_counter() - start
    return calls * count / used


def matrix_rate(way: Way, device: torch.device) -> float:
    """Measure the rate of matrix products [FLOP s-1]: the best of the model's sizes and large squares."""
    sizes = [(65536, 128, 384), (65536, 384, 128), (8192, 8192, 8192)]
    if device.type == "cpu":
        sizes = [(4096, 128, 384), (4096, 384, 128), (1024, 1024, 1024)]
    dtype = torch.bfloat16 if way.bfloat16 else torch.float32
    rates = []
    with way.on(device):
        for rows, inner, columns in sizes:
            a, b = (
                torch.randn(size, device=device, dtype=dtype) for size in ((rows, inner), (inner, columns))
            )
            rates.append(rate(lambda a=a, b=b: a @ b, 2 * rows * inner * columns, device))  # type: ignore[misc]
    return max(rates)


def in_double(tensor: Tensor) -> Tensor:
    """Convert floating-point numbers to double precision."""
    return tensor.double() if tensor.is_floating_point() else tensor


def check(way: Way, device: torch.device) -> tuple[float, float]:
    """Return the deviations of predictions and gradients from those of a processor in double precision.

    The first is the largest one as a share of the predictions' standard deviation; the second is the norm of
    the difference as a share of the norm.
    """
    torch.manual_seed(SEED)
    batch, exact = random_batch(size(64, 4)), make_network(torch.device("cpu")).double()
    network = make_network(device)
    wide = Batch(batch.inputs.map(in_double), batch.target.double())
    step(exact, wide)
    with torch.no_grad():
        expected = exact(wide.inputs)
    with way.on(device):
        moved, ours = batch.to(device), way.prepare(network)
        step(ours, moved)
        with torch.no_grad():
            found = ours(moved.inputs).double().cpu()
    error = ((found - expected).abs().max() / expected.std()).item()
    gradients, true = (
        # The bias of the keys has no gradient, since it does not influence the result.
        torch.cat([p.grad.double().cpu().flatten() for p in of.parameters() if p.grad is not None])
        for of in (network, exact)
    )
    return error, ((gradients - true).norm() / true.norm()).item()


def check_series(way: Way, device: torch.device) -> float:
    """Return the largest deviation of the fast prediction of a series, as :func:`check` does."""
    wanted = np.ones(size(500, 32), bool)
    exact = make_network(torch.device("cpu")).double()
    inputs = series(len(wanted), torch.device("cpu"))
    expected = predict_series(exact, inputs.map(in_double), wanted)
    with way.on(device):
        found = predict_series(make_network(device), inputs.to(device), wanted).double().cpu()
    return ((found - expected).abs().max() / expected.std()).item()


def train(ds: xr.Dataset, kind: str, precision: str, steps: int) -> tuple[CarbonModel, float]:
    """Train on the device of the option; return the model and the time [s]."""
    settings = TRAININGS[kind] | ({} if kind == "streaming" else {"precision": precision})
    start = time.perf_counter()
    with TemporaryDirectory() as folder:
        model = fit(ds, kind, run_dir=folder, max_steps=steps, eval_every=1000, **settings)
    return model, time.perf_counter() - start


def predict(ds: xr.Dataset, model: CarbonModel) -> tuple[xr.DataArray, float]:
    """Predict on the device of the option; return the prediction and the hours per second."""
    start = time.perf_counter()
    nee = ds.carbon.predict_nee(model).compute()
    return nee, int(nee.count()) / (time.perf_counter() - start)


def steps_rate(kind: str, steps: int, seconds: float) -> float:
    """Return samples per second; NaN if the time is too short to be measured."""
    return steps * TRAININGS[kind]["batch_size"] / seconds if seconds > 0 else np.nan


def report_package(device: torch.device, clock: Clock) -> bool:
    """Print deviations and rates of ``fit`` and ``predict_nee``; return whether they agree with a processor.

    Deviations are those of the loss, and the largest one of NEE as a share of the standard deviation of NEE
    at the towers. The rate of training is that of the steps by which a long training is longer than a short
    one.
    """
    title = "fit and predict_nee"
    print(
        f"\n{title:28}{'loss':>9}{'NEE':>9}{'allowed':>9}{'samples/s':>11}{'hours/s':>10}"
        f"{'processor:':>12}{'samples/s':>11}{'hours/s':>10}"
    )
    towers = synthetic_towers(TOWERS).load()
    year, is_exact = towers.isel(site=[0], time=slice(size(None, 200))), True
    for kind in TRAININGS:
        if not clock.allows(kind):
            continue
        with xcarbon.set_options(device="cpu"):
            _, start = train(towers, kind, "32-true", 1)
            reference, seconds = train(towers, kind, "32-true", 1 + STEPS)
            expected, usual = predict(year, reference)
        usual_rate = steps_rate(kind, STEPS, seconds - start)
        for precision, allowed in (("32-true", 1e-2), ("bf16-mixed", 0.2)):
            line = f"{kind}, {precision}"
            if (kind == "streaming" and precision != "32-true") or not clock.allows(line):
                continue
            with xcarbon.set_options(device=device.type):
                model, _ = train(towers, kind, precision, 1 + STEPS)
                found, _ = predict(year, model)
                _, speed = predict(year, model)
                _, short = train(towers, kind, precision, 1)
                _, long = train(towers, kind, precision, 1 + TIMED_STEPS)
            wanted, losses = (of.provenance["curve"][-1]["train_loss"] for of in (reference, model))
            loss = abs(losses / wanted - 1)
            error = float(abs(found - expected).max()) / reference.scaler.targets["NEE"][1]
            is_exact &= max(loss, error) < allowed
            rate = steps_rate(kind, TIMED_STEPS, long - short)
            print(
                f"{line:28}{loss:9.1e}{error:9.1e}{allowed:9.0e}{rate:11,.0f}{speed:10,.0f}{'':12}"
                f"{usual_rate:11,.0f}{usual:10,.0f}",
                flush=True,
            )
    return is_exact


def report_exactness(device: torch.device, ways: Sequence[Way], clock: Clock) -> bool:
    """Print deviations; return whether all are within their tolerances."""
    title = "deviation from float64 on a processor"
    print(f"\n{title:38}{'windows':>10}{'gradients':>11}{'series':>10}{'allowed':>9}")
    is_exact = True
    for way in ways:
        if not clock.allows(way.name):
            continue
        error, gradients = check(way, device)
        is_exact &= max(error, gradients) < way.tolerance
        fast = ""
        if not (way.bfloat16 or way.compiled):  # a series is computed in the precision of its data
            fast_error = check_series(way, device)
            is_exact &= fast_error < way.tolerance
            fast = f"{fast_error:.1e}"
        print(f"{way.name:38}{error:10.1e}{gradients:11.1e}{fast:>10}{way.tolerance:9.0e}", flush=True)
    return is_exact


def report_inference(
    device: torch.device, batches: list[int], ways: Sequence[Way], bounds: dict[str, float], clock: Clock
) -> None:
    """Print rates of prediction, for a series and for separate windows."""
    print(f"\n{'inference':20}{'windows a step':>16}{'windows/s':>12}{'TFLOP/s':>10}{'of products':>13}")
    network = make_network(device)
    hours = 8760 if device.type == "cuda" else size(256, 32)
    reused = 2 * multiply_adds(network.config, reuse=True)
    wanted, inputs = np.ones(hours, bool), series(hours, device)
    for way in ways:
        bound = bounds[way.name]
        if not (way.bfloat16 or way.compiled):
            with way.on(device):
                speed = rate(lambda: predict_series(network, inputs, wanted), hours, device)
            print_rate(way, "a series", speed, reused, bound)
        model = way.prepare(network)
        for count in batches:
            if not clock.allows(f"{way.name}, {count}"):
                continue
            batch = random_batch(count).to(device)
            each = operations(network, batch, train=False)
            with way.on(device), torch.inference_mode():
                speed = rate(partial(model, batch.inputs), count, device)
            print_rate(way, str(count), speed, each, bound)


def report_training(
    device: torch.device, batches: list[int], ways: Sequence[Way], bounds: dict[str, float], clock: Clock
) -> None:
    """Print rates of training steps, without the optimiser."""
    print(f"\n{'training':20}{'windows a step':>16}{'windows/s':>12}{'TFLOP/s':>10}{'of products':>13}")
    for way in ways:
        network = make_network(device)
        model = way.prepare(network)
        for count in batches:
            if not clock.allows(f"{way.name}, {count}"):
                continue
            batch = random_batch(count).to(device)
            each = operations(network, batch, train=True)
            with way.on(device):
                speed = rate(partial(step, model, batch), count, device)
            print_rate(way, str(count), speed, each, bounds[way.name])


def operations(network: EcoPerceiver, batch: Batch, *, train: bool) -> float:
    """Return the floating-point operations per window as torch counts them."""
    few = size(64, 4)
    small = random_batch(few).to(batch.target.device)
    with FlopCounterMode(display=False) as counter:
        if train:
            step(copy.deepcopy(network), small)
        else:
            network(small.inputs)
    return counter.get_total_flops() / few


def print_rate(way: Way, size: str, speed: float, each: float, bound: float) -> None:
    """Print a line of a table."""
    done = speed * each
    print(f"{way.name:20}{size:>16}{speed:12,.0f}{done / 1e12:10.2f}{done / bound:13.2f}", flush=True)


def report_all(device: torch.device, batches: list[int], minutes: float) -> bool:
    """Print all tables; return whether all deviations are within their tolerances."""
    clock = Clock(0.75 * minutes)
    is_card = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if is_card else f"{torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}; matrix products [TFLOP/s]:")
    bounds = {way.name: matrix_rate(way, device) for way in WAYS}
    print(", ".join(f"{way} {bound / 1e12:.2f}" for way, bound in bounds.items() if "compiled" not in way))
    is_exact = report_package(device, clock)
    for is_compiled in sorted({way.compiled for way in WAYS}):
        ways = [way for way in WAYS if way.compiled == is_compiled]
        is_exact &= report_exactness(device, ways, clock)
        report_inference(device, batches, ways, bounds, clock)
        report_training(device, batches, ways, bounds, clock)
    return is_exact


def main(argv: Sequence[str] | None = None) -> int:
    """Print all tables; return 1 if a deviation is larger than allowed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256, 1024, 4096])
    parser.add_argument("--minutes", type=float, default=8.0, help="limit of time")
    parser.add_argument("--out", type=Path, help="file for the tables")
    arguments = parser.parse_args(argv)
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no CUDA device found: run this on a machine with one, or with --device cpu", file=sys.stderr)
        return 1
    with ExitStack() as stack:
        if arguments.out:
            file = stack.enter_context(arguments.out.open("w"))
            stack.enter_context(redirect_stdout(Tee(sys.stdout, file)))  # type: ignore[type-var]
        is_exact = report_all(device, arguments.batches, arguments.minutes)
    if not is_exact:
        print("the deviation of predictions or gradients is larger than allowed", file=sys.stderr)
    return int(not is_exact)


if __name__ == "__main__":
    sys.exit(main())
