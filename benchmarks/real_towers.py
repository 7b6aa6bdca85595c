"""Train EcoPerceiver on real towers for some minutes, and score it beside two references on the same hours.

python -m benchmarks.real_towers fluxnet2015_hourly.zarr out --steps 2000

Trains on the towers that the paper trains on (coordinate ``paper_split``) and scores the paper's validation
towers, the year of each with most observations. Writes the model, ``scores.csv``, ``scores.md`` and figures.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import xcarbon
from xcarbon.models.ecoperceiver import EcoPerceiverConfig
from xcarbon.prep.quality import mask_quality
from xcarbon.references import diurnal_cycle, ridge

DEFAULT = "normalized" if EcoPerceiverConfig().normalize_keys_values else "raw"


def best_year(tower: xr.Dataset) -> xr.Dataset:
    """The calendar year of a tower with most hours to score."""
    known = mask_quality(tower, ["NEE"])["NEE"].notnull().any("site").load()
    years = known.groupby("time.year").sum()
    return tower.sel(time=str(int(years.idxmax("year"))))


def predict(towers: xr.Dataset, model: xcarbon.CarbonModel) -> xr.DataArray:
    """NEE of each tower in its best year, NaN elsewhere."""
    parts = []
    for number in range(towers.sizes["site"]):
        start = time.monotonic()
        year = best_year(towers.isel(site=[number]))
        parts.append(year.carbon.predict_nee(model).compute())
        rate = parts[-1].size / (time.monotonic() - start)
        print(f"{year['site'].item()} {year['time.year'][0].item()}: {rate:.0f} windows/s", flush=True)
    years = xr.concat(parts, dim="site", join="outer", coords="different", compat="equals")
    return years.reindex(time=towers["time"])


def table(towers: xr.Dataset, predictions: dict[str, xr.DataArray], by: str | None) -> pd.DataFrame:
    """NSE of each model by class, with the number of hours."""
    scores = {name: towers.carbon.score(nee, by=by).compute() for name, nee in predictions.items()}
    frame = pd.DataFrame({name: np.atleast_1d(score["nse"].values) for name, score in scores.items()})
    first = next(iter(scores.values()))
    frame["hours"] = np.atleast_1d(first["n"].values)
    frame.index = pd.Index(first[by].values if by else ["all"], name="class")
    return frame


def report(ds: xr.Dataset, train: xr.Dataset, val: xr.Dataset, nee: xr.DataArray, out: Path) -> None:
    """Score a prediction beside the references, on the same hours; tables and figures."""
    predictions = {"EcoPerceiver": nee}
    for name, reference in {"ridge, current hour": ridge, "mean diurnal cycle": diurnal_cycle}.items():
        predictions[name] = reference(train, val).where(nee.notnull()).compute()
    scores = pd.concat([table(val, predictions, "igbp"), table(val, predictions, None)])
    towers = val["igbp"].to_series().value_counts()
    scores.insert(0, "towers", [towers.get(name, towers.sum()) for name in scores.index])
    scores.to_csv(out / "scores.csv")
    lines = ["| class | " + " | ".join(scores.columns) + " |", "|" + "---|" * (scores.shape[1] + 1)]
    for name, row in scores.iterrows():
        nse = [f"{row[model]:.2f}" for model in predictions]
        lines.append("| " + " | ".join([name, f"{row['towers']:.0f}", *nse, f"{row['hours']:.0f}"]) + " |")
    (out / "scores.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))

    site = str(val.carbon.score(nee, by="site")["n"].compute().idxmax("site").values)
    year = best_year(val.sel(site=[site]))
    axes = year.carbon.plot.series(nee.sel(time=year["time"]), site=site)
    axes.figure.savefig(out / "week.png", dpi=130, bbox_inches="tight")
    axes = ds.carbon.plot.sites()
    axes.figure.savefig(out / "sites.png", dpi=130, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--keys-values", choices=["raw", "normalized"], default=DEFAULT)
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()

    ds = xcarbon.open_store(arguments.store)
    train, val = (ds.isel(site=np.flatnonzero(ds["paper_split"] == name)) for name in ("train", "val"))
    start = time.monotonic()
    model = train.carbon.fit(
        val=val,
        run_dir=arguments.out / "run",
        network={"normalize_keys_values": arguments.keys_values == "normalized"},
        resume=arguments.resume,
        allow_leakage=True,  # the paper's own split, whatever its distances
        max_steps=arguments.steps,
        batch_size=64,
        micro_batch=64,
        learning_rate=arguments.learning_rate,
        loss="window",
        eval_every=300,
        val_windows=4000,
        patience=None,
    )
    minutes = (time.monotonic() - start) / 60
    print(f"trained on {train.sizes['site']} towers for {minutes:.1f} minutes, {arguments.steps} steps")
    print(pd.DataFrame(model.provenance["curve"]).set_index("step"))
    if arguments.train_only:
        return

    nee = predict(val, model)
    nee.to_netcdf(arguments.out / "nee.nc")
    report(ds, train, val, nee, arguments.out)


if __name__ == "__main__":
    main()
