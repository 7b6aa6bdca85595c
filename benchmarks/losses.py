"""Compare the two losses on real towers at equal time.

python -m benchmarks.losses fluxnet2015_hourly.zarr out --minutes 20

Trains the paper's network on the paper's training towers (coordinate ``paper_split``), once with the loss
on every hour of the window and once with the paper's loss on the last hour, for the same minutes of training
each. Prints the mean squared error of the last hours of windows of the paper's validation towers over these
minutes. The number of steps follows from the rate of the machine, so that warm-up and cosine fit into the
time.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

import xcarbon
from xcarbon.core.variables import VARIABLES
from xcarbon.models.bundle import Scaler
from xcarbon.models.ecoperceiver import EcoPerceiverConfig
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.quality import MAX_QC
from xcarbon.training.checkpoints import RunFolder
from xcarbon.training.distributed import Shard, join_processes
from xcarbon.training.ecoperceiver import EcoPerceiverRun
from xcarbon.training.schedule import TrainingConfig

INPUTS = ("DOY", "TOD", "TA", "SW_IN", "VPD")
LOSSES = ("window", "last")
#: Windows in a batch, validations in a run; steps of which the rate is taken, and how often.
BATCH, CHECKS, TRIAL, TRIALS = 64, 10, 20, 3


class Comparison:
    """Towers in memory, and runs on them."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        ds = xcarbon.open_store(arguments.store)
        self.config = EcoPerceiverConfig(variables=INPUTS, bands=())
        self.fabric = join_processes("32-true")
        self.train, self.val = (
            Shard(self.fabric, model_inputs(ds.isel(site=sites), INPUTS, target="NEE"), self.config.context)
            for sites in (
                np.flatnonzero(ds["paper_split"] == name)[: arguments.towers] for name in ("train", "val")
            )
        )
        bounds = {code: (VARIABLES[code].bounds.lower, VARIABLES[code].bounds.upper) for code in INPUTS}
        self.scaler = Scaler({"NEE": self.train.moments()}, MAX_QC, bounds)
        self.settings: dict[str, Any] = {
            "batch_size": BATCH,
            "learning_rate": arguments.learning_rate,
            "seed": arguments.seed,
            "val_windows": arguments.val_windows,
            "patience": None,
        }

    def run(self, folder: Path, **settings: Any) -> EcoPerceiverRun:
        """Make a run of the paper's network, ready to train."""
        training = TrainingConfig(**self.settings, **settings)
        provenance: dict[str, Any] = {"sites": [], "val_sites": []}
        run = EcoPerceiverRun(self.fabric, RunFolder(folder), self.config, training, self.scaler, provenance)
        run.start(resume=False)
        return run

    def steps_per_minute(self) -> dict[str, float]:
        """Take the rates from some steps: the best of trials that take turns."""
        rates = dict.fromkeys(LOSSES, 0.0)
        for _ in range(TRIALS):
            for loss in LOSSES:
                with TemporaryDirectory() as folder:
                    run = self.run(Path(folder), loss=loss, max_steps=TRIAL)
                    start = time.monotonic()
                    run.train(self.train, None)
                    rates[loss] = max(rates[loss], 60 * TRIAL / (time.monotonic() - start))
        return rates

    def curve(self, folder: Path, loss: str, minutes: float, rate: float) -> pd.Series:
        """Errors of the validation windows over the minutes of training, at a rate [steps min-1]."""
        steps = max(CHECKS, round(minutes * rate))
        print(f"{loss}: {rate * BATCH / 60:.0f} windows/s, {steps} steps", flush=True)
        run = self.run(folder / loss, loss=loss, max_steps=steps, eval_every=max(1, steps // CHECKS))
        run.train(self.train, self.val)
        errors = {round(point["step"] / rate, 2): point["val_mse"] for point in run.curve}
        return pd.Series(errors, name=loss).rename_axis("minutes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--val-windows", type=int, default=2000)
    parser.add_argument("--towers", type=int, help="of each set; by default all")
    arguments = parser.parse_args()

    xcarbon.set_options(progress=False)
    comparison = Comparison(arguments)
    print(f"{len(comparison.train)} windows to train on, {len(comparison.val)} to validate", flush=True)
    rates = comparison.steps_per_minute()
    for loss in LOSSES:
        curve = comparison.curve(arguments.out, loss, arguments.minutes, rates[loss])
        print(curve.to_frame(), flush=True)


if __name__ == "__main__":
    main()
