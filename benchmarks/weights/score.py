"""Calibrate, score and write the model whose members ``train.py`` has trained.

Run ``python -m benchmarks.weights.score STORE SATELLITE OUT`` when ``train.py`` is complete. It writes
``OUT/model``, the folder that the package contains, with its card, and ``OUT/report.md``, the tables of the
documentation. All scores are for hours with a quality flag of at most 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

import xcarbon
from benchmarks.weights import calibration
from benchmarks.weights.train import FOLDS, MEMBERS, SEEDS, TARGETS, VARIABLES, open_towers, parts, train
from xcarbon.core.variables import IGBP_CLASSES, SATELLITE, memory_features
from xcarbon.evaluation import carbonfluxbench
from xcarbon.models.bundle import CarbonModel
from xcarbon.models.calibration import SpreadCalibration
from xcarbon.models.ensemble import members
from xcarbon.models.inputs import ModelInputs
from xcarbon.prediction.applicability import with_applicability
from xcarbon.prediction.calibration import LIMITS
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.quality import mask_quality

NAME = "nee-fluxnet2015"
HERE = Path(__file__).parent
FEATURES = memory_features(VARIABLES) + tuple(SATELLITE)
Array = NDArray[np.float64]


class StateOnly:
    """Inputs of the calibration."""

    statics, state = ("igbp",), FEATURES


class Tower(NamedTuple):
    """Observations and predictions of the n hours of a tower that was left out."""

    site: str
    igbp: str
    observed: Array  # (n, targets)
    means: dict[str, Array]  # for each kind of member (seeds, n, targets)
    spreads: Array = np.empty(0)  # of the networks, (seeds, n, targets)
    state: Array = np.empty(0)  # (n, features)
    fold: str = ""

    def mean(self, kinds: Sequence[str], seeds: Sequence[int]) -> Array:
        """Mean of the members of these kinds and seeds, ``(n, targets)``."""
        return np.mean([self.means[kind][seed] for kind in kinds for seed in seeds], axis=0)

    def spread(self) -> Array:
        """Spread of the mixture of all members, ``(n, targets)``."""
        means = np.concatenate(list(self.means.values()))
        return np.sqrt((self.spreads**2).mean(0) + means.var(0))


def read(ds: xr.Dataset, out: Path, names: Sequence[str]) -> list[Tower]:
    """Read the predictions of the towers that were left out in some parts."""
    found = []
    for name in names:
        towers = parts(ds)[name][1]
        assert towers is not None
        files = {
            kind: [xr.open_dataset(out / name / f"{kind}-{seed}.nc") for seed in range(SEEDS)]
            for kind in MEMBERS
        }
        for site in towers["site"].values:
            tower = towers.sel(site=site)
            observed = _stack(mask_quality(tower, TARGETS), TARGETS)
            known = np.isfinite(observed[:, 0])
            if not known.any():
                continue
            means = {
                kind: np.stack([_stack(file.sel(site=site), TARGETS)[known] for file in each])
                for kind, each in files.items()
            }
            networks = [file.sel(site=site) for file in files["hourly"]]
            spreads = np.stack([_stack(each, [f"{code}_SE" for code in TARGETS])[known] for each in networks])
            igbp = str(tower["igbp"].values)
            inputs = model_inputs(tower.chunk(time=-1), VARIABLES, state=FEATURES)
            state = inputs["state"].values[0, known]
            found.append(Tower(str(site), igbp, observed[known].astype(float), means, spreads, state, name))
    return found


def _stack(ds: xr.Dataset, names: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([ds[name].values for name in names], axis=-1)


class Scores(NamedTuple):
    """Nash-Sutcliffe efficiency of NEE."""

    hours: float  # over all hours
    classes: float  # mean of the classes
    median: float  # median tower
    by_class: dict[str, float]
    by_tower: dict[str, float]


def score(towers: Sequence[Tower], predict: Callable[[Tower], Array]) -> Scores:
    """Score the predictions of NEE ``(n,)`` at towers."""
    moments = np.array([_moments(each.observed[:, 0], predict(each)) for each in towers])
    classes = np.array([each.igbp for each in towers])
    by_class = {str(name): _nse(moments[classes == name].sum(0)) for name in np.unique(classes)}
    by_tower = {each.site: _nse(row) for each, row in zip(towers, moments, strict=True)}
    values = list(by_tower.values())
    return Scores(
        _nse(moments.sum(0)),
        float(np.mean(list(by_class.values()))),
        float(np.median(values)),
        by_class,
        by_tower,
    )


def _moments(observed: Array, predicted: Array) -> Array:
    """Number, sum and sum of squares of the observations, and squared error, of the hours with both."""
    known = np.isfinite(observed) & np.isfinite(predicted)
    y, p = observed[known], predicted[known].astype(float)
    return np.array([y.size, y.sum(), (y**2).sum(), ((y - p) ** 2).sum()])


def _nse(moments: Array) -> float:
    count, total, squares, error = moments
    return float(1 - error / max(squares - total**2 / max(count, 1), 1e-12))


def interval(
    towers: Sequence[Tower], first: Callable[[Tower], Array], second: Callable[[Tower], Array]
) -> dict[str, tuple[float, float]]:
    """95 % intervals over towers of the difference of two predictions: all hours, and the median tower."""
    ours, theirs = (np.array([_moments(t.observed[:, 0], f(t)) for t in towers]) for f in (first, second))
    nse = [np.array([_nse(row) for row in rows]) for rows in (ours, theirs)]
    drawn = np.random.default_rng(0).integers(len(towers), size=(2000, len(towers)))
    hours = [_nse(ours[d].sum(0)) - _nse(theirs[d].sum(0)) for d in drawn]
    median = [np.median(nse[0][d]) - np.median(nse[1][d]) for d in drawn]
    return {
        name: (float(np.quantile(each, 0.025)), float(np.quantile(each, 0.975)))
        for name, each in (("hours", hours), ("median", median))
    }


def compare(towers: Sequence[Tower]) -> list[str]:
    """Table of the members and of their means: mean over the seeds, and intervals of the differences."""
    trees, network = ["xgboost"], ["hourly"]
    both = [*trees, *network]
    rows = [
        "| model | all hours | mean of classes | median tower | classes ahead of trees |",
        "|---|---:|---:|---:|---:|",
    ]
    single = [score(towers, lambda t, s=seed: t.mean(trees, [s])[:, 0]) for seed in range(SEEDS)]
    base = {name: np.mean([each.by_class[name] for each in single]) for name in single[0].by_class}
    for label, kinds in (("trees", trees), ("network", network), ("trees and network", both)):
        each = [score(towers, lambda t, k=kinds, s=seed: t.mean(k, [s])[:, 0]) for seed in range(SEEDS)]
        rows.append(_row(f"{label}, mean of {SEEDS} seeds", each, base))
    everything = list(range(SEEDS))
    for label, kinds in (("all trees", trees), ("all networks", network), ("all trees and networks", both)):
        rows.append(_row(label, [score(towers, lambda t, k=kinds: t.mean(k, everything)[:, 0])], base))
    ahead = interval(towers, lambda t: t.mean(both, [0])[:, 0], lambda t: t.mean(trees, [0])[:, 0])
    for name, (low, high) in ahead.items():
        rows.append(
            f"\nTrees and network less trees, first seed, {name}: 95 % interval [{low:+.3f}, {high:+.3f}]."
        )
    return rows


def _row(label: str, scores: Sequence[Scores], base: dict[str, float]) -> str:
    hours, classes, median = (
        np.mean([getattr(s, name) for s in scores]) for name in ("hours", "classes", "median")
    )
    mean = {name: np.mean([each.by_class[name] for each in scores]) for name in base}
    ahead = sum(mean[name] > base[name] for name in base)
    return f"| {label} | {hours:.3f} | {classes:.3f} | {median:.3f} | {ahead} of {len(base)} |"


def by_class(towers: Sequence[Tower]) -> list[str]:
    """Table of the scores of the whole ensemble by class: towers, hours, NSE, RMSE and bias."""
    rows = []
    names = sorted({each.igbp for each in towers})
    for name in [*names, "all"]:
        chosen = [each for each in towers if name in (each.igbp, "all")]
        error = np.concatenate([_error(each) for each in chosen])
        observed = np.concatenate([each.observed[:, 0] for each in chosen])
        known = np.isfinite(error)  # hours without a usable predictor are not predicted
        error, observed = error[known], observed[known]
        nse = 1 - np.mean(error**2) / observed.var()
        rows.append(
            f"| {name} | {len(chosen)} | {error.size:,} | {nse:.2f} | {np.sqrt(np.mean(error**2)):.2f} | "
            f"{error.mean():+.2f} |"
        )
    return rows


def _error(tower: Tower) -> Array:
    """Error of the NEE of the whole ensemble ``(n,)``."""
    return np.asarray(tower.mean(list(MEMBERS), range(SEEDS))[:, 0] - tower.observed[:, 0])


def calibrations(towers: Sequence[Tower], target: int) -> tuple[SpreadCalibration, dict[str, float]]:
    """Fit the calibration to all towers, and compute its coverage when each fold uses that of the others."""
    errors = [
        abs(each.mean(list(MEMBERS), range(SEEDS))[:, target] - each.observed[:, target]) for each in towers
    ]
    spreads = [each.spread()[:, target] for each in towers]
    shares, inside, hours = [], 0, 0
    for fold in sorted({each.fold for each in towers}):
        left_out = [number for number, each in enumerate(towers) if each.fold == fold]
        others = [number for number, each in enumerate(towers) if each.fold != fold]
        fitted = _calibration(towers, errors, spreads, others)
        for number in left_out:
            found = _standardised(fitted, towers[number], errors[number], spreads[number])
            within = int((found <= LIMITS[1]).sum())
            inside, hours = inside + within, hours + found.size
            shares.append(within / found.size)
    found = np.array(shares)
    covered = {"hours": inside / hours, "towers": float(((found >= 0.8) & (found <= 0.97)).mean())}
    return _calibration(towers, errors, spreads, range(len(towers))), covered


def _calibration(
    towers: Sequence[Tower], errors: Sequence[Array], spreads: Sequence[Array], chosen: Sequence[int]
) -> SpreadCalibration:
    """Fit the calibration to the errors and spreads of some towers."""
    fitted = calibration.fit(
        [spreads[number] for number in chosen],
        [towers[number].igbp for number in chosen],
        [towers[number].state for number in chosen],
        FEATURES,
    )
    scaled = [_standardised(fitted, towers[n], errors[n], spreads[n]) for n in chosen]
    return dataclasses.replace(fitted, factor=calibration.factor(scaled))


def _standardised(fitted: SpreadCalibration, tower: Tower, error: Array, spread: Array) -> Array:
    """Absolute errors divided by the calibrated spread, in the hours with both."""
    statics = np.array([list(IGBP_CLASSES).index(tower.igbp)], float)
    inputs = ModelInputs(np.empty((len(spread), 0)), statics=statics, state=tower.state)
    found = error / fitted.apply(spread, StateOnly(), inputs)
    return np.asarray(found[np.isfinite(found)])


def daily(ds: xr.Dataset, out: Path) -> float:
    """Median over towers of R2 of daily NEE out of fold, the main score of CarbonFluxBench."""
    found = []
    for number in range(FOLDS):
        files = [out / f"fold-{number}" / f"{kind}-{seed}.nc" for kind in MEMBERS for seed in range(SEEDS)]
        found.append(sum(xr.open_dataset(file)["NEE"] for file in files) / len(files))
    scores = carbonfluxbench.score(ds, xr.concat(found, "site"))
    return float(scores["r2"].sel(quantile=0.5))


def speed(model: CarbonModel, ds: xr.Dataset) -> float:
    """Hours predicted per second on two threads, the state included, for records in memory."""
    towers = ds.isel(site=slice(4)).sel(time=slice("2003", "2012")).load().chunk(site=1)
    hours = int(towers["TA"].notnull().sum())
    with dask.config.set(scheduler="threads", num_workers=2):
        start = time.perf_counter()
        towers.carbon.predict_nee(model).compute()
    return hours / (time.perf_counter() - start)


def calibrated(model: CarbonModel, towers: Sequence[Tower]) -> CarbonModel:
    """Calibrate the spread at the towers of all folds; the provenance contains the coverage."""
    fitted = {code: calibrations(towers, number) for number, code in enumerate(TARGETS)}
    scaler = dataclasses.replace(model.scaler, spread={code: each for code, (each, _) in fitted.items()})
    covered = {code: shares for code, (_, shares) in fitted.items()}
    nee = score(towers, lambda tower: tower.mean(list(MEMBERS), range(SEEDS))[:, 0])
    provenance = model.provenance | {
        "name": NAME,
        "calibration": {"towers": len(towers), "coverage": covered},
        "scores": {"of": "NEE at towers left out in five folds", "NSE": nee.hours, "median NSE": nee.median},
    }
    return dataclasses.replace(model, scaler=scaler, provenance=provenance)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the model with its card, and the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("satellite", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args(argv)
    out: Path = arguments.out
    ds = open_towers(arguments.store, arguments.satellite)
    left_out = read(ds, out, [f"fold-{number}" for number in range(FOLDS)])
    val = read(ds, out, ["val"])
    found = [model for kind in MEMBERS for model in train(ds, kind, out / "all")]
    model = with_applicability(calibrated(xcarbon.ensemble(found), left_out), ds)
    folder = model.save(out / "model")
    (folder / "card.md").write_text(card(model, left_out, val))
    lines = ["## Out of fold", *compare(left_out), "", *by_class(left_out), "", "## val", *compare(val)]
    lines += ["", *by_class(val), "", "## Coverage of the 90 % interval, out of fold", ""]
    lines += [f"{code}: {shares}" for code, shares in model.provenance["calibration"]["coverage"].items()]
    lines += ["", f"Daily NEE out of fold: median R2 {daily(ds, out):.3f}"]
    lines += [f"{speed(model, ds):,.0f} hours per second on two threads"]
    (out / "report.md").write_text("\n".join(lines) + "\n")


def card(model: CarbonModel, left_out: Sequence[Tower], val: Sequence[Tower]) -> str:
    """Return the text of the card: the data, the settings and the scores."""
    networks = [each for each in members(model) if each.predictor.kind == "hourly"]
    covered = model.provenance["calibration"]["coverage"]["NEE"]
    overall = score(left_out, lambda tower: tower.mean(list(MEMBERS), range(SEEDS))[:, 0])
    return (
        (HERE / "card.template.md")
        .read_text()
        .format(
            name=NAME,
            fingerprint=model.fingerprint(),
            created=model.provenance["created"][:10],
            networks=len(networks),
            trees=len(members(model)) - len(networks),
            parameters=sum(weight.numel() for each in networks for weight in each.network.parameters()),
            variables=", ".join(model.config.variables),
            state=", ".join(model.config.state),
            settings=MEMBERS,
            towers=len(model.sites),
            with_nee=len(left_out),
            classes=", ".join(sorted({tower.igbp for tower in left_out})),
            hours=covered["hours"],
            shares=covered["towers"],
            median=overall.median,
            scores="\n".join(by_class(left_out)),
            val="\n".join(by_class(val)),
        )
    )


if __name__ == "__main__":
    main()
