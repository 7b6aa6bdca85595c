"""How well gaps are filled: measured hours of real towers are hidden, and filled by four methods.

python -m benchmarks.gaps out [--towers 10] [--sites DE-Tha ...] [--methods MDS XGBoost ...] [--seeds 0 1]

The year of each tower with most measured hours is used, and with ``--years`` those around it. Gaps of all
kinds are inserted into them, and the methods read the remaining hours. By default, towers are the paper's
validation towers, one class after the other. The package's model was trained on them: pass ``--model`` one
that was not, such as an ensemble of the members of ``val`` that ``benchmarks.weights.train`` writes. Of
several models, each tower has the first one that was not trained on it. The command writes the predictions
to ``out`` and prints Markdown. Repeated after an interruption, it continues. The four methods take seconds
for a year of a tower.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
import xgboost
from numpy.typing import NDArray

from benchmarks.common import STORE
from xcarbon import CarbonModel, open_satellite, open_store
from xcarbon.budget import artificial_gaps, gapfill
from xcarbon.budget.adapt import PARAMETERS, TREES, around
from xcarbon.budget.correlation import error_parts, variance_of_sum, variance_ratio
from xcarbon.budget.gaps import KINDS, gap_length
from xcarbon.core.atomic import replacing
from xcarbon.core.variables import TIME_FEATURES
from xcarbon.evaluation import coverage
from xcarbon.evaluation.scores import score
from xcarbon.models import pretrained
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.quality import mask_quality

#: Share of the measured hours that gaps of each kind hide, and draws of the bootstrap over towers.
SHARE, DRAWS = 0.05, 2000
#: Kinds of gaps that fit into a year together.
SHORTER = [kind for kind in KINDS if kind != "season"]
#: Limits of the 95 % interval over towers, as headers of tables.
LIMITS = ["2.5 %", "97.5 %"]
#: Drivers of the trees of one tower.
DRIVERS = ("TA", "SW_IN", "VPD")


def measured(ds: xr.Dataset) -> xr.DataArray:
    """NEE in the hours in which it was measured."""
    return mask_quality(ds, ["NEE"], max_qc=0)["NEE"]


def best_years(ds: xr.Dataset) -> pd.DataFrame:
    """Return the year with most measured hours of each tower, their number and the class."""
    hours = measured(ds).notnull().groupby("time.year").sum().compute()
    return pd.DataFrame(
        {"year": hours.idxmax("year"), "hours": hours.max("year"), "igbp": ds["igbp"]}, ds["site"].values
    )


def around_best(ds: xr.Dataset, years: int) -> tuple[str, str]:
    """Return the first and the last of some years of a tower, with the best one in their middle."""
    best = best_years(ds)["year"].item()
    stamps = ds["time"].dt.year.values
    first = max(stamps[0], min(best - years // 2, stamps[-1] - years + 1))
    return str(first), str(min(first + years - 1, stamps[-1]))


def choose(ds: xr.Dataset, split: str, north: float | None, count: int) -> list[str]:
    """Select towers, one class after the other, those with most measured hours first.

    They are those of a split of the paper, or those that are not south of the latitude ``north``.
    """
    of = ds["paper_split"] == split if north is None else ds["lat"] >= north
    table = best_years(ds.isel(site=np.flatnonzero(of))).sort_values("hours", ascending=False)
    turns = itertools.zip_longest(*(list(group.index) for _, group in table.groupby("igbp")))
    return [site for turn in turns for site in turn if site is not None][:count]


def hide(year: xr.Dataset, kinds: Sequence[str], seed: int) -> tuple[dict[str, xr.DataArray], xr.Dataset]:
    """Hide measured hours: return those that gaps of each kind hide, and the data without them."""
    hidden = plant(year, kinds, seed)
    return hidden, year.assign(NEE=year["NEE"].where(~np.logical_or.reduce(list(hidden.values()))))


def plant(year: xr.Dataset, kinds: Sequence[str], seed: int) -> dict[str, xr.DataArray]:
    """Select the hours that gaps of each kind hide; gaps do not overlap, and the longest are placed first."""
    hidden: dict[str, xr.DataArray] = {}
    for kind in sorted(kinds, key=list(KINDS).index, reverse=True):
        already = sum(hidden.values(), xr.zeros_like(year["NEE"], dtype=bool))
        left = year.assign(NEE=year["NEE"].where(~already))
        hidden[kind] = artificial_gaps(left, kind, share=SHARE, seed=seed)
    return hidden


def sampled(year: xr.Dataset, model: CarbonModel) -> xr.Dataset:
    """Fill by marginal distribution sampling."""
    return gapfill(year, model="mds")


def trees(year: xr.Dataset, model: CarbonModel) -> xr.Dataset:
    """Fill by trees of the tower that read the drivers before and after each hour, without a model."""
    drivers = [code for code in ("DOY", "TOD", *DRIVERS) if code in (*year, *TIME_FEATURES)]
    hourly = model_inputs(year, drivers, max_qc=9)["hourly"].values[0]
    features = np.concatenate(
        [hourly, around(hourly, per_hour=1), np.arange(len(hourly))[:, np.newaxis] / 24], axis=1
    )
    flux = measured(year).values
    known = np.isfinite(flux)
    booster = xgboost.train(PARAMETERS, xgboost.DMatrix(features[known], flux[known]), TREES)
    prediction = year["NEE"].copy(data=booster.predict(xgboost.DMatrix(features)))
    return prediction.to_dataset(name="NEE_MODEL")


def untouched(year: xr.Dataset, model: CarbonModel) -> xr.Dataset:
    """Fill by the pretrained model as it is."""
    return gapfill(year, model=model, adapt=False)


def adapted(year: xr.Dataset, model: CarbonModel) -> xr.Dataset:
    """Fill by the pretrained model, adapted to the tower."""
    return gapfill(year, model=model)


METHODS: dict[str, Callable[[xr.Dataset, CarbonModel], xr.Dataset]] = {
    "MDS": sampled,
    "XGBoost": trees,
    "pretrained": untouched,
    "adapted": adapted,
}


def predict(year: xr.Dataset, method: str, folder: Path, model: CarbonModel) -> xr.Dataset:
    """Predict NEE of all hours, and its spread, by a method; read them from the file if it exists."""
    path = folder / f"{method}.nc"
    if not path.exists():
        start = time.monotonic()
        filled = METHODS[method](year, model)
        names = {str(name): str(name).replace("_MODEL", "") for name in filled if "_MODEL" in str(name)}
        found = filled[list(names)].rename(names).reset_coords(drop=True).compute().drop_attrs()
        with replacing(path) as temporary:
            found.to_netcdf(temporary)
        print(f"{folder.name} {method}: {time.monotonic() - start:.0f} s", flush=True)
    return xr.load_dataset(path)


def scores(
    year: xr.Dataset, left: xr.Dataset, hidden: dict[str, xr.DataArray], predictions: dict[str, xr.Dataset]
) -> list[dict[str, Any]]:
    """Score each method in the gaps of each kind, in the hours that all methods predict."""
    rows = []
    lengths = gap_length(measured(left).notnull().values)
    both = np.logical_and.reduce([found["NEE"].notnull() for found in predictions.values()])
    for (kind, gaps), (method, found) in itertools.product(hidden.items(), predictions.items()):
        truth = year.assign(NEE=measured(year).where(gaps & both))
        row = {name: float(value) for name, value in score(truth, found["NEE"], None, max_qc=0).items()}
        fitted = score(left, found["NEE"].where(both), None, max_qc=0)["rmse"]
        row |= {"kind": kind, "method": method, "fitted": float(fitted)}
        others = [hours for name, hours in hidden.items() if name != kind]
        known = {"fitted": measured(left)}
        if others:
            known["hidden"] = measured(year).where(np.logical_or.reduce(others))
        row |= dict.fromkeys(["in 50 %", "in 90 %", "sum, fitted", "sum, hidden"], np.nan)
        if "NEE_SE" in found:
            row["in 50 %"], row["in 90 %"] = coverage(truth, found, max_qc=0)["coverage"].values
            # As ``depends_on_length`` of ``xcarbon.budget.sums``.
            length = lengths if method == "adapted" else np.full_like(lengths, np.inf)
            row |= {f"sum, {name}": sum_error(truth, hours, found, length) for name, hours in known.items()}
        rows.append(row)
    return rows


def sum_error(
    truth: xr.Dataset, known: xr.DataArray, found: xr.Dataset, length: NDArray[np.float64]
) -> float:
    """Return the error of the sum over gaps in units of its standard error, estimated from known hours."""
    spread = found["NEE_SE"].values.astype(float)
    ratio = variance_ratio((known - found["NEE"]).values.astype(float), spread)
    error = (measured(truth) - found["NEE"]).values.astype(float)
    variance = variance_of_sum(error_parts(np.where(np.isfinite(error), spread, 0), length, ratio))
    return float(np.nansum(error) / np.sqrt(variance))


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Average over towers and seeds, for each kind of gap and method.

    In addition to the scores: the error in gaps divided by that in the hours a method was fitted to, and the
    share of sums over the gaps of a tower that lie in their 90 % interval. The correlation of errors is
    estimated from the fitted hours, or from gaps of the other kinds.
    """
    table = table.assign(**{"RMSE / fitted": table["rmse"] / table["fitted"]})
    for name in ("fitted", "hidden"):
        error = table[f"sum, {name}"]
        inside = (error.abs() < NormalDist().inv_cdf(0.95)).where(error.notna())
        table[f"sums in 90 %, {name}"] = inside.astype(float)
    groups = table.groupby(["kind", "method"], sort=False)
    scores = ["rmse", "nse", "bias", "in 50 %", "in 90 %", "RMSE / fitted"]
    means = groups[[*scores, "sums in 90 %, fitted", "sums in 90 %, hidden"]].mean()
    limits = pd.DataFrame(
        [interval(part.groupby("tower")["bias"].mean()) for _, part in groups], means.index, LIMITS
    )
    means = means.join(limits.add_prefix("bias, "))
    return means.assign(hours=groups["n"].sum().astype(int))


def interval(values: pd.Series) -> tuple[float, float]:
    """Return the 95 % interval over towers of the mean, by the bootstrap."""
    known = values.dropna().to_numpy()
    if not known.size:
        return np.nan, np.nan
    drawn = np.random.default_rng(0).choice(known, (DRAWS, known.size)).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def paired(table: pd.DataFrame, first: str) -> pd.DataFrame:
    """Compare the RMSE with the first method tower by tower: mean difference, 95 % interval, wins."""
    means = table.groupby(["kind", "tower", "method"])["rmse"].mean().reset_index()  # over seeds
    rmse = means.pivot(index=["kind", "tower"], columns="method", values="rmse")
    rows = []
    for kind, method in itertools.product(table["kind"].unique(), table["method"].unique()):
        difference = (rmse[method] - rmse[first]).loc[kind].dropna()
        if method == first or not difference.size:
            continue
        wins = f"{(difference < 0).sum()} of {difference.size}"
        rows.append((kind, method, difference.mean(), *interval(difference), wins))
    return pd.DataFrame(rows, columns=["kind", "method", f"RMSE - {first}", *LIMITS, "better"])


def markdown(table: pd.DataFrame) -> str:
    """Format a table as Markdown, numbers with two digits."""

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return "" if np.isnan(value) else f"{value:.2f}"
        return str(value)

    rows = [list(table.columns), ["---"] * table.shape[1], *table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(map(cell, row)) + " |" for row in rows)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--store", type=Path, default=STORE)
    parser.add_argument("--towers", type=int, default=10)
    parser.add_argument("--sites", nargs="+", help="names of towers; by default those of --split")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument(
        "--split", default="val", choices=["train", "val"], help="of the paper (default: val)"
    )
    parser.add_argument("--north", type=float, help="towers that are not south of this latitude")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=SHORTER, help="kinds of gaps")
    parser.add_argument("--years", type=int, default=1, help="number of years of each tower (default: 1)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="for the positions of the gaps")
    parser.add_argument("--model", type=Path, nargs="+", help="folders of models; by default the package's")
    parser.add_argument("--satellite", type=Path, help="folder of satellite series to join, *.nc")
    arguments = parser.parse_args(argv)
    models = [pretrained.load(folder) for folder in arguments.model or ()]
    default = None if models else pretrained.default("NEE")
    ds = open_store(arguments.store)
    if arguments.satellite is not None:
        ds = ds.carbon.join_satellite(open_satellite(sorted(arguments.satellite.glob("*.nc"))))
    rows = []
    sites = arguments.sites or choose(ds, arguments.split, arguments.north, arguments.towers)
    for site, seed in itertools.product(sites, arguments.seeds):
        model = next((each for each in models if site not in each.sites), default)
        if model is None:
            raise SystemExit(f"all models were trained on {site}: pass one that was not")
        first, last = around_best(ds.sel(site=[site]), arguments.years)
        tower = ds.sel(site=site, time=slice(first, last)).load()
        hidden, left = hide(tower, arguments.kinds, seed)
        folder = arguments.out / f"{site}-{first}-{last}-{'-'.join(arguments.kinds)}-{seed}"
        predictions = {method: predict(left, method, folder, model) for method in arguments.methods}
        rows += [{"tower": site, "seed": seed} | row for row in scores(tower, left, hidden, predictions)]
    table = pd.DataFrame(rows)
    table.to_csv(arguments.out / "scores.csv", index=False)
    print(f"\nMeans over {table['tower'].nunique()} towers, for hours in gaps that all methods fill:\n")
    print(markdown(summary(table).reset_index()))
    if len(arguments.methods) > 1:
        print(f"\nDifferences in RMSE [umol m-2 s-1] from {arguments.methods[0]}, tower by tower:\n")
        print(markdown(paired(table, arguments.methods[0])))


if __name__ == "__main__":
    main()
