"""Train the weights that come with the package: ``python benchmarks/weights/train.py STORE OUT``.

Training takes an hour and a half on two cores. STORE is a Zarr store of FLUXNET2015 towers with the
coordinate ``paper_split``. Repeated after an interruption, the command resumes the run. ``OUT/model`` is the
folder that the package contains, with its card.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import dask
import xarray as xr

import xcarbon
from xcarbon.models.bundle import CarbonModel
from xcarbon.prediction.calibration import calibrate

NAME = "nee-fluxnet2015"
SETTINGS = {
    "variables": ["DOY", "TOD", "TA", "SW_IN", "VPD"],
    "members": 4,
    "without_statics": 2,
    "network": {"width": 64, "layers": 4, "octaves": 6},
    "batch_size": 8,
    "learning_rate": 2e-3,
    "max_steps": 2500,
    "eval_every": 250,
    "val_windows": 400,
    "patience": None,
}
HERE = Path(__file__).parent


def main(argv: Sequence[str] | None = None) -> None:
    """Train, calibrate and score the model, and write it with its card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--max-steps", type=int, default=SETTINGS["max_steps"], help="for a trial")
    arguments = parser.parse_args(argv)
    steps = {"max_steps": arguments.max_steps}
    ds = xcarbon.open_store(arguments.store)
    train, val = (ds.isel(site=(ds["paper_split"] == part).values) for part in ("train", "val"))
    run: Path = arguments.out / "run"
    model = train.carbon.fit(
        "streaming",
        val=val,
        run_dir=run,
        resume=(run / "run.json").exists(),
        allow_leakage=True,  # the paper's split has towers near each other on both sides
        **(SETTINGS | steps),
    )
    model = calibrate(model, val)
    model.provenance["name"] = NAME
    folder = model.save(arguments.out / "model")
    (folder / "card.md").write_text(card(model, train, val))


def card(model: CarbonModel, train: xr.Dataset, val: xr.Dataset) -> str:
    """Return the text of the card: the data, the settings, and the scores at ``val``."""
    prediction = val.carbon.predict_nee(model)
    with xcarbon.core.options.progress_bar("scoring"):
        by_class, overall = dask.compute(val.carbon.score(prediction), val.carbon.score(prediction, by=None))
    labels = val["igbp"].values.tolist()
    rows = [_row(name, labels.count(name), by_class.sel(igbp=name)) for name in by_class["igbp"].values]
    rows.append(_row("all", len(labels), overall))
    members = model.provenance["members"]
    within = model.provenance["calibration"]["coverage"]
    return (
        (HERE / "card.template.md")
        .read_text()
        .format(
            name=NAME,
            fingerprint=model.fingerprint(),
            created=model.provenance["created"][:10],
            members=len(members),
            without_statics=members[0]["without_statics"],
            parameters=sum(weight.numel() for weight in model.network.parameters()),
            variables=", ".join(model.config.variables),
            config=model.config,
            training=", ".join(f"{key} {value}" for key, value in members[0].items()),
            towers=train.sizes["site"],
            classes=", ".join(sorted(set(train["igbp"].values.tolist()))),
            half=within["0.5"],
            most=within["0.9"],
            scores="\n".join(rows),
        )
    )


def _row(name: str, towers: int, scores: xr.Dataset) -> str:
    hours, nse, rmse, bias = (float(scores[score]) for score in ("n", "nse", "rmse", "bias"))
    return f"| {name} | {towers} | {hours:,.0f} | {nse:.2f} | {rmse:.2f} | {bias:+.2f} |"


if __name__ == "__main__":
    main()
