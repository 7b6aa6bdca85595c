"""The demo: train, predict, score and plot, on synthetic towers or on a store of real ones."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import click
import numpy as np
import xarray as xr

from xcarbon.cli.options import PATH, PLACE, POSITIVE, Selection, command, selects
from xcarbon.cli.tables import count, score_table
from xcarbon.core import conventions
from xcarbon.core.atomic import replacing
from xcarbon.core.errors import OptionError
from xcarbon.core.extras import require
from xcarbon.core.options import progress_bar
from xcarbon.io.handles import write_file

#: Settings for minutes of training: a smaller batch and a higher learning rate than in the paper.
DEMO_TRAINING = {
    "batch_size": 64,
    "micro_batch": 64,
    "learning_rate": 1e-3,
    "loss": "window",
    "val_windows": 512,
}
#: Number of days to predict at each tower.
DEMO_DAYS = 28


@command("xcarbon demo --data carbonsense.zarr --steps 300")
@click.option("--data", type=PLACE, help="Store of real towers to use instead of synthetic ones.")
@click.option("--out", type=PATH, default="xcarbon-demo", show_default=True, help="Folder to write.")
@click.option("--steps", type=POSITIVE, default=75, show_default=True, help="Number of training steps.")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Random seed for towers, split and training."
)
@selects("to use")
def demo(data: Path | str | None, out: Path, steps: int, seed: int, selection: Selection) -> int:
    """Train, predict and score on synthetic towers, in about two minutes.

    Train EcoPerceiver on some towers and predict NEE at others. Write the prediction as CF NetCDF, score it
    by IGBP class, and plot one week of it.
    """
    start = time.monotonic()
    require("figures of the demo", "plot", "matplotlib")
    from matplotlib.figure import Figure

    if data is None and selection != Selection():
        raise OptionError("--site, --from, --to and --metadata select among real towers: use --data, too")
    if (out / "run" / "run.json").exists():  # from an earlier demo
        shutil.rmtree(out / "run")
    if data is None:
        from xcarbon.testing import synthetic_towers

        towers = synthetic_towers(12, seed=seed).persist()
        _announce(
            1, f"{towers.sizes['site']} SYNTHETIC towers with satellite patches: simulated, not measured"
        )
    else:
        towers = selection.open(data)
        _announce(1, f"{towers.sizes['site']} towers of {data}, opened lazily")

    train, val, test = towers.carbon.split(seed=seed)
    _announce(2, f"training EcoPerceiver on {count(train)}, with {count(val)} for validation")
    model = train.carbon.fit(
        val=val,
        max_steps=steps,
        eval_every=max(1, steps // 3),
        seed=seed,
        run_dir=out / "run",
        **DEMO_TRAINING,
    )

    test = _busiest_weeks(test)
    first, last = (str(stamp)[:10] for stamp in test["time"].values[[0, -1]])
    _announce(3, f"predicting NEE at {count(test)} that the model was not trained on, {first} to {last}")
    nee = test.carbon.predict_nee(model)
    with progress_bar("predicting"):
        nee = nee.compute()
    title = f"NEE predicted from: {towers.attrs.get('title', 'unnamed towers')}"
    with replacing(out / "nee.nc") as path:
        write_file(conventions.apply(nee.to_dataset(), title=title), path, {})

    _announce(4, f"scoring against the {'observations' if data else 'simulated fluxes'}")
    scores = test.carbon.score(nee).compute()
    overall = test.carbon.score(nee, by=None).compute()
    print(score_table(scores, overall))

    _announce(5, "plotting the week with most observations")
    hours = test.carbon.score(nee, by="site")["n"].compute()
    figure = Figure(figsize=(7.2, 2.8), layout="constrained")
    test.carbon.plot.series(nee, site=str(hours.idxmax("site").values), ax=figure.subplots())
    figure.savefig(out / "nee.png", dpi=150, bbox_inches="tight")
    print(f"\nwrote {out}/nee.nc, {out}/nee.png and {out}/run/model in {time.monotonic() - start:.0f} s")
    if data is None:
        print("The towers are synthetic: the scores show that the steps work, not how good the model is.")
    return 0


def _busiest_weeks(towers: xr.Dataset) -> xr.Dataset:
    """Select four weeks of the month with the largest absolute flux, and the towers with data in them."""
    exchange = abs(towers["NEE"]).sum("site").resample(time="MS").sum().compute()
    month = exchange["time"].values[exchange.argmax("time")]
    weeks = towers.sel(time=slice(month, month + np.timedelta64(24 * DEMO_DAYS - 1, "h")))
    measured = weeks["NEE"].notnull().any("time").compute()
    return weeks.isel(site=np.flatnonzero(measured))


def _announce(step: int, what: str) -> None:
    print(f"\n[{step}/5] {what}", flush=True)
