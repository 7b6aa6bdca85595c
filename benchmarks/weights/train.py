"""Train and test the weights that come with the package.

Run ``python -m benchmarks.weights.train STORE SATELLITE OUT``. STORE is a Zarr store of FLUXNET2015 towers
with the coordinate ``paper_split``, SATELLITE a folder of satellite series (``*.nc``). The command trains
networks and trees for each of five folds over the towers, for the towers of the split ``train``, and for all
towers, and predicts the towers that were left out. Repeated after an interruption, it continues. Several
processes share the work with ``--shard 0/2`` and ``--shard 1/2``. ``score.py`` then calibrates the model of
all towers, scores it and writes it with its card.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xarray as xr

import xcarbon
from xcarbon.io.netcdf import write_netcdf
from xcarbon.models.bundle import CarbonModel
from xcarbon.models.ensemble import members
from xcarbon.prep.split import folds

FOLDS, SEEDS = 5, 3
TARGETS = ["NEE", "GPP_NT"]
VARIABLES = ["DOY", "TOD", "TA", "SW_IN", "VPD"]
#: Settings of each kind of member, chosen by the folds.
MEMBERS: dict[str, dict[str, Any]] = {
    "hourly": {"max_steps": 700},
    "xgboost": {"features": "state", "share": 0.0625, "min_child_weight": 50},
}


def open_towers(store: Path, satellite: Path) -> xr.Dataset:
    """Open the towers with their satellite series, and assign the folds."""
    series = xcarbon.open_satellite(sorted(satellite.glob("*.nc")))
    ds = xcarbon.open_store(store).carbon.join_satellite(series)
    return ds.assign_coords(fold=folds(ds, FOLDS))


def parts(ds: xr.Dataset) -> dict[str, tuple[xr.Dataset, xr.Dataset | None]]:
    """Return the training towers and the towers that are left out, for each fold, ``val`` and ``all``."""
    found: dict[str, tuple[xr.Dataset, xr.Dataset | None]] = {}
    for number in range(FOLDS):
        inside = (ds["fold"] == number).values
        found[f"fold-{number}"] = ds.isel(site=~inside), ds.isel(site=inside)
    split = ds["paper_split"].values
    found["val"] = ds.isel(site=split == "train"), ds.isel(site=split == "val")
    found["all"] = ds, None
    return found


def train(towers: xr.Dataset, kind: str, folder: Path, **settings: Any) -> list[CarbonModel]:
    """Train all members of a kind, or continue their training, or load them."""
    seeds: Sequence[int] = range(SEEDS)
    if kind == "hourly":  # one training, which reads the towers once
        return members(fit(towers, kind, folder / kind, members=SEEDS, **settings))
    return [fit(towers, kind, folder / f"{kind}-{seed}", seed=seed, **settings) for seed in seeds]


def fit(towers: xr.Dataset, kind: str, folder: Path, **settings: Any) -> CarbonModel:
    """Train one model, or continue its training, or load it."""
    if (folder / "model").exists():
        return xcarbon.load(folder / "model")
    return towers.carbon.fit(
        kind,
        run_dir=folder,
        resume=(folder / "run.json").exists(),
        **({"target": TARGETS, "variables": VARIABLES} | MEMBERS[kind] | settings),
    )


def predict(model: CarbonModel, towers: xr.Dataset, path: Path) -> None:
    """Predict all targets at towers that were left out, and write them to a file."""
    if path.exists():
        return
    found = [towers.carbon.predict(code, model, spread=model.has_spread) for code in TARGETS]
    together = xr.merge(
        [each.to_dataset() if isinstance(each, xr.DataArray) else each for each in found],
        compat="no_conflicts",
    )
    write_netcdf(together, path)


def main(argv: Sequence[str] | None = None) -> None:
    """Train all members, and predict the towers that were left out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("satellite", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shard", default="0/1", help="share of the work of this process, such as 0/2")
    parser.add_argument("--trial", action="store_true", help="train for some seconds")
    arguments = parser.parse_args(argv)
    first, count = (int(number) for number in arguments.shard.split("/"))
    ds = open_towers(arguments.store, arguments.satellite)
    trial = {"hourly": {"max_steps": 2}, "xgboost": {"n_estimators": 2}} if arguments.trial else {}
    work = [(part, kind) for part in parts(ds) for kind in MEMBERS]
    for part, kind in work[first::count]:
        towers, left_out = parts(ds)[part]
        folder = arguments.out / part
        for seed, model in enumerate(train(towers, kind, folder, **trial.get(kind, {}))):
            if left_out is not None:
                predict(model, left_out, folder / f"{kind}-{seed}.nc")


if __name__ == "__main__":
    main()
