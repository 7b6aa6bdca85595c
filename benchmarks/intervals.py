"""How two constants that set the uncertainty of filled NEE are estimated, and how often the intervals hold.

python -m benchmarks.intervals out [--store STORE] [options of benchmarks.gaps]

``SHORT_GAPS`` of ``xcarbon.budget.adapt`` contains the ratios of errors in short gaps to those in long ones,
and ``SHARES`` of ``xcarbon.budget.correlation`` the shares of the parts of an error with different decay
times. Both are estimated from the errors of adapted models in planted gaps, in all predictions that
``benchmarks.gaps`` wrote to ``out``. With options of ``benchmarks.gaps``, or without predictions, that
benchmark runs first. The models must not have been trained on the towers; here, ``val`` and ``fold-*`` are
folders of ensembles of the members that ``benchmarks.weights.train`` writes:

python -m benchmarks.gaps out --towers 35 --seeds 0 1 2 3 --methods adapted --model val ...
python -m benchmarks.gaps out --towers 36 --split train --seeds 10 --methods adapted --model fold-* ...
python -m benchmarks.intervals out

The command prints the constants with 95 % intervals over towers, and the shares of hours and of sums in their
90 % interval, with constants that were estimated without the tested tower (five folds over towers).

``SHARES`` of the package are those of these 71 towers, which give ratios of 0.70 and 0.80 for ``SHORT_GAPS``.
The 36 towers of ``train`` alone give ratios of 0.71 and 0.79 and shares of 0.45, 0.16, 0.21 and 0.18; the 35
of ``val`` alone 0.69 and 0.80, and 0.32, 0.05, 0.31 and 0.32. At the towers of ``val``, the intervals contain
the same shares of hours and sums, within 0.01, if the towers of ``train`` are left out.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.optimize
import xarray as xr
from numpy.typing import NDArray

from benchmarks import gaps
from benchmarks.common import STORE, size
from xcarbon import open_store
from xcarbon.budget.adapt import LEVEL, LIMIT, SHORT_GAPS, gap_length
from xcarbon.budget.correlation import SHARES, error_correlation, lagged_products, parts, variance_of_sum

Array = NDArray[np.floating[Any]]

#: Names of the folders of predictions: tower, first and last year, kinds of gaps and random seed.
FOLDER = re.compile(r"(.+)-(\d{4})-(\d{4})-([a-z-]+)-(\d+)")
#: Kinds of gaps and longest lag [h] for the shares, and fewest hours that are used.
LONG, LONGEST, FEWEST = ("week", "month"), 720, 24
#: Number of groups of towers, and draws of the bootstrap over towers.
FOLDS, DRAWS = 5, size(500, 20)
#: Names of the constants, and the values in the package.
NAMES = [
    *(f"ratio, gaps of up to {limit} h" for limit in SHORT_GAPS),
    *(f"share {n}" for n in range(len(SHARES))),
]
PRESENT = np.array([*SHORT_GAPS.values(), *SHARES])


@dataclass
class Record:
    """A record of a tower with planted gaps: hours of each kind of gap, and errors and spreads of all hours.

    ``group`` is the number of the ratio in ``SHORT_GAPS`` of each hour, or their number if the gap is longer.
    """

    tower: str
    split: str
    hidden: dict[str, NDArray[np.bool_]]
    error: Array
    spread: Array
    group: NDArray[np.int_]

    @property
    def in_gaps(self) -> NDArray[np.bool_]:
        """Whether the error is one of a planted gap."""
        return np.logical_or.reduce(list(self.hidden.values())) & np.isfinite(self.error)


def read(path: Path, ds: xr.Dataset) -> Record:
    """Read a prediction of the adapted model, and plant the gaps again."""
    match = FOLDER.fullmatch(path.parent.name)
    if match is None:
        raise SystemExit(f"{path}: the folder is not named as benchmarks.gaps names it")
    site, first, last, kinds, seed = match.groups()
    tower = ds.sel(site=site, time=slice(first, last)).load()
    hidden, left = gaps.hide(tower, kinds.split("-"), int(seed))
    found = xr.load_dataset(path).astype(float)
    length = gap_length(gaps.measured(left).notnull().values & found["NEE"].notnull().values)
    return Record(
        site,
        tower["paper_split"].item(),
        {kind: hidden[kind].values for kind in kinds.split("-")},
        (gaps.measured(tower) - found["NEE"]).values,
        found["NEE_SE"].values,
        np.searchsorted(list(SHORT_GAPS), length),
    )


def with_ratios(record: Record, ratios: Array) -> Array:
    """Return the spread with other ratios in planted gaps.

    Its level remains: the package sets it by the errors of measured hours in artificial gaps, which are long.
    """
    factors = np.append(ratios / list(SHORT_GAPS.values()), 1)[record.group]
    return record.spread * np.where(record.in_gaps, factors, 1)


def quantiles(record: Record) -> Array:
    """Compute the 90 % quantile of the errors in each group of gaps, relative to a spread without ratios."""
    error = np.abs(record.error) / with_ratios(record, np.ones(len(SHORT_GAPS)))
    groups = [error[record.in_gaps & (record.group == group)] for group in range(len(SHORT_GAPS) + 1)]
    return np.array([np.quantile(each, LEVEL) if each.size >= FEWEST else np.nan for each in groups])


def products(record: Record) -> Array:
    """Compute the products of errors and of spreads in long gaps, by lag: ``(2, lags)``."""
    known = record.in_gaps & np.logical_or.reduce(
        [record.hidden[kind] for kind in LONG if kind in record.hidden]
    )
    if known.sum() < FEWEST:
        return np.full((2, LONGEST + 1), np.nan)
    series = [np.where(known, each, 0) for each in (record.error, record.spread)]
    found = np.stack([lagged_products(each, LONGEST) for each in series])
    return found / found[1, 0]


def estimate(quantiles: Array, products: Array) -> Array:
    """Estimate the constants from means over towers: ``(towers, groups), (towers, 2, lags)`` to ``(6,)``."""
    means = np.nanmean(quantiles, axis=0)
    errors, spreads = np.nansum(products, axis=0)
    weight = np.where(spreads > 1e-3 * spreads[0], spreads, 0)  # less: hardly any pairs of hours
    correlation = np.divide(errors, weight, out=np.zeros_like(errors), where=weight > 0)
    root = np.sqrt(weight)
    shares, _ = scipy.optimize.nnls((parts(np.arange(len(root))) * root).T, correlation * root)
    return np.array([*(means[:-1] / means[-1]), *(shares / shares.sum())])


def covered(record: Record, constants: Array) -> list[dict[str, Any]]:
    """Test the 90 % intervals of hours and of the sum, in the gaps of each kind."""
    ratios, shares = np.split(constants, [len(SHORT_GAPS)])
    spread = with_ratios(record, ratios)
    fitted = np.where(record.in_gaps, np.nan, record.error)
    usual = shares @ parts(np.arange(len(spread)))
    correlation = error_correlation(fitted, np.nan_to_num(spread))[0] * usual
    rows = []
    for kind, hours in record.hidden.items():
        known = hours & np.isfinite(record.error)
        if known.sum() < FEWEST:
            continue
        error = record.error[known]
        se = np.sqrt(variance_of_sum(np.where(known, spread, 0), correlation))
        row = {"hours": np.mean(np.abs(error) < LIMIT * spread[known]), "sums": abs(error.sum()) < LIMIT * se}
        rows.append({"kind": kind, "split": record.split, "tower": record.tower} | row)
    return rows


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Average over towers, with 95 % intervals, for each kind of gap, and each split and all of them."""
    rows = []
    if table["split"].nunique() > 1:
        table = pd.concat([table, table.assign(split="all")])
    for (split, kind), part in table.groupby(["split", "kind"], sort=False):
        towers = part.groupby("tower")[["hours", "sums"]].mean()
        row: dict[str, Any] = {"split": split, "kind": kind, "towers": len(towers), "records": len(part)}
        for name, values in towers.items():
            low, high = gaps.interval(values)
            row |= {str(name): values.mean(), f"{name}, 2.5 %": low, f"{name}, 97.5 %": high}
        rows.append(row)
    return pd.DataFrame(rows)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--store", type=Path, default=STORE)
    arguments, options = parser.parse_known_args(argv)
    pattern = "*/adapted.nc"
    if options or not any(arguments.out.glob(pattern)):
        gaps.main([str(arguments.out), "--store", str(arguments.store), "--methods", "adapted", *options])
    ds = open_store(arguments.store)
    records = [read(path, ds) for path in sorted(arguments.out.glob(pattern))]
    towers = sorted({record.tower for record in records})
    if len(towers) < 2:
        raise SystemExit(f"{arguments.out} has predictions of {len(towers)} tower: pass --towers 2 or more")
    of = [[record for record in records if record.tower == tower] for tower in towers]
    tower_quantiles = np.array([np.nanmean([quantiles(each) for each in group], axis=0) for group in of])
    tower_products = np.array([np.nanmean([products(each) for each in group], axis=0) for group in of])

    def of_towers(chosen: NDArray[np.int_]) -> Array:
        return estimate(tower_quantiles[chosen], tower_products[chosen])

    rng = np.random.default_rng(0)
    number = np.empty(len(towers), int)
    number[rng.permutation(len(towers))] = np.arange(len(towers)) % FOLDS
    drawn = [of_towers(rng.integers(len(towers), size=len(towers))) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    everyone = of_towers(np.arange(len(towers)))
    columns = {"package": PRESENT, "estimate": everyone, "2.5 %": low, "97.5 %": high}
    print(f"\nConstants, from gaps at {len(towers)} towers:\n")
    print(gaps.markdown(pd.DataFrame({"constant": NAMES} | columns)))
    rows = []
    for fold in range(FOLDS):
        tested = np.flatnonzero(number == fold)
        constants = of_towers(np.flatnonzero(number != fold)) if tested.size else PRESENT
        rows += [row for tower in tested for record in of[tower] for row in covered(record, constants)]
    print("\nShares in the 90 % interval, with constants that were estimated without the tower:\n")
    print(gaps.markdown(summary(pd.DataFrame(rows))))


if __name__ == "__main__":
    main()
