"""How the constants that set the uncertainty of filled NEE are estimated, and how often the intervals hold.

python -m benchmarks.intervals out [--store STORE] [options of benchmarks.gaps]

``SHARES`` of ``xcarbon.budget.correlation`` contains the shares of the parts of an error with different decay
times, and ``POWER`` sets the growth of the lasting parts with the length of the gap. They are estimated from
the errors of adapted models in planted gaps, in all predictions that ``benchmarks.gaps`` wrote to ``out``.
With options of ``benchmarks.gaps``, or without predictions, that benchmark runs first. The models must not
have been trained on the towers; here, ``val`` is the folder of an ensemble of the members that
``benchmarks.weights.train`` writes:

python -m benchmarks.gaps out --towers 35 --seeds 0 1 2 3 --methods adapted --model val ...
python -m benchmarks.intervals out

The shares are fitted to the products of errors in gaps of 12 and 30 days, by their lag. The power is the one
with which the intervals of hours and sums contain most nearly 90 % of them in gaps of all kinds. The command
prints the constants with 95 % intervals over towers, and the shares of hours and of sums in their
90 % interval, with constants that were estimated without the tested tower (five folds over towers).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from xcarbon.budget import correlation
from xcarbon.budget.adapt import LEVEL, LIMIT, in_artificial_gaps
from xcarbon.budget.correlation import (
    MONTH,
    POWER,
    SHARES,
    error_parts,
    lagged_products,
    part_correlations,
    relative_variance,
    variance_of_sum,
    variance_ratio,
)

Array = NDArray[np.floating[Any]]

#: Names of the folders of predictions: tower, first and last year, kinds of gaps and random seed.
FOLDER = re.compile(r"(.+)-(\d{4})-(\d{4})-([a-z-]+)-(\d+)")
#: Kinds of gaps and longest lag [h] for the shares, and fewest hours that are used.
LONG, LONGEST, FEWEST = ("week", "month"), 720, 24
#: Powers that are tried.
POWERS = np.arange(3, 12) / 10
#: Number of groups of towers, and draws of the bootstrap over towers.
FOLDS, DRAWS = 5, size(500, 20)
#: Names of the constants, and the values in the package.
NAMES = ["power", *(f"share {n}" for n in range(len(SHARES)))]
PRESENT = np.array([POWER, *SHARES])


@dataclass
class Record:
    """A record of a tower with planted gaps, and the errors of all hours in gaps, planted or artificial.

    ``hidden`` are the hours of each kind of planted gap, ``spread`` is the spread that the hours would have
    in gaps of a month, in units that depend on the tower, and ``length`` the length of the gap [h].
    ``is_tested`` is true for measured hours in artificial gaps of the package.
    """

    tower: str
    split: str
    hidden: dict[str, NDArray[np.bool_]]
    error: Array
    spread: Array
    length: Array
    is_tested: NDArray[np.bool_]

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
    group, length = in_artificial_gaps(gaps.measured(left).notnull().values & found["NEE"].notnull().values)
    return Record(
        site,
        tower["paper_split"].item(),
        {kind: hidden[kind].values for kind in kinds.split("-")},
        (gaps.measured(tower) - found["NEE"]).values,
        found["NEE_SE"].values / np.sqrt(relative_variance(length)),
        length,
        group >= 0,
    )


@contextmanager
def using(constants: Array) -> Iterator[None]:
    """Let the package use other constants."""
    correlation.POWER, correlation.SHARES = constants[0], tuple(constants[1:])  # type: ignore[misc]
    try:
        yield
    finally:
        correlation.POWER, correlation.SHARES = POWER, SHARES


def growth(record: Record) -> Array:
    """Compute the mean growth of the lasting errors in long gaps, for each power: ``(powers,)``."""
    length = np.clip(record.length[long_gaps(record)], 1, MONTH) / MONTH
    return (length[:, np.newaxis] ** POWERS).mean(axis=0) if length.size else np.full(POWERS.size, np.nan)


def long_gaps(record: Record) -> NDArray[np.bool_]:
    """Select the hours in planted gaps of the kinds ``LONG``."""
    kinds = [record.hidden[kind] for kind in LONG if kind in record.hidden]
    return record.in_gaps & np.logical_or.reduce(kinds)


def products(record: Record) -> Array:
    """Compute the products of errors and of spreads in long gaps, by lag: ``(2, lags)``."""
    known = long_gaps(record)
    if known.sum() < FEWEST:
        return np.full((2, LONGEST + 1), np.nan)
    series = [np.where(known, each, 0) for each in (record.error, record.spread)]
    found = np.stack([lagged_products(each, LONGEST) for each in series])
    return found / found[1, 0]


def estimate_shares(products: Array, growth: Array) -> Array:
    """Estimate the shares for each power: ``(2, lags), (powers,)`` to ``(powers, 4)``."""
    errors, spreads = products
    weight = np.where(spreads > 1e-3 * spreads[0], spreads, 0)  # less: hardly any pairs of hours
    observed = np.divide(errors, weight, out=np.zeros_like(errors), where=weight > 0)
    root = np.sqrt(weight)
    usual = part_correlations(np.arange(len(root)))
    found, _ = scipy.optimize.nnls((usual * root).T, observed * root)
    # These are the shares in long gaps; divided by the growth, they are those in gaps of a month.
    lasting = found[2:] / growth[:, np.newaxis]
    shares = np.concatenate([np.broadcast_to(found[:2], lasting.shape), lasting], axis=1)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def tested(record: Record, constants: Array) -> list[dict[str, Any]]:
    """Compare errors with their 90 % intervals, in the gaps of each kind.

    The results are the share of hours in the interval, and the 90 % quantile of the errors of hours and the
    error of the sum, both divided by half the width of the interval.
    """
    with using(constants):
        spread = record.spread * np.sqrt(relative_variance(record.length))
        in_artificial = np.abs(record.error[record.is_tested]) / spread[record.is_tested]
        spread *= np.nanquantile(in_artificial, LEVEL) / LIMIT
        fitted = np.where(record.in_gaps, np.nan, record.error)
        ratio = variance_ratio(fitted, np.nan_to_num(spread))
        rows = []
        for kind, hours in record.hidden.items():
            known = hours & np.isfinite(record.error)
            if known.sum() < FEWEST:
                continue
            parts = error_parts(np.where(known, spread, 0), record.length, ratio)
            error = np.abs(record.error[known]) / (LIMIT * spread[known])
            total = abs(record.error[known].sum()) / (LIMIT * np.sqrt(variance_of_sum(parts)))
            row = {"hours": np.mean(error < 1), "sums": total < 1, "of hours": np.quantile(error, LEVEL)}
            place = {"kind": kind, "split": record.split, "tower": record.tower}
            rows.append(place | row | {"of sum": total})
    return rows


def estimate(records: Sequence[Record], shares: Array) -> Array:
    """Choose the power with which 90 % of the hours and sums of each kind are nearest to their intervals."""

    def miss(power: int) -> float:
        constants = np.array([POWERS[power], *shares[power]])
        found = pd.DataFrame([row for record in records for row in tested(record, constants)]).groupby("kind")
        both = [*found["of hours"].mean(), *found["of sum"].quantile(LEVEL)]
        return float((np.log(both) ** 2).sum())

    best = min(range(POWERS.size), key=miss)
    return np.array([POWERS[best], *shares[best]])


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
    tower_products = np.array([np.nanmean([products(each) for each in group], axis=0) for group in of])
    tower_growth = np.array([np.nanmean([growth(each) for each in group], axis=0) for group in of])

    def shares_of(chosen: NDArray[np.int_]) -> Array:
        return estimate_shares(
            np.nansum(tower_products[chosen], axis=0), np.nanmean(tower_growth[chosen], axis=0)
        )

    def estimate_from(chosen: NDArray[np.int_]) -> Array:
        return estimate([record for tower in chosen for record in of[tower]], shares_of(chosen))

    everyone = estimate_from(np.arange(len(towers)))
    rng = np.random.default_rng(0)
    number = np.empty(len(towers), int)
    number[rng.permutation(len(towers))] = np.arange(len(towers)) % FOLDS
    power = int(np.argmin(np.abs(POWERS - everyone[0])))
    drawn = [shares_of(rng.integers(len(towers), size=len(towers)))[power] for _ in range(DRAWS)]
    limits = np.quantile(drawn, [0.025, 0.975], axis=0)
    low, high = (np.array([np.nan, *limit]) for limit in limits)
    columns = {"package": PRESENT, "estimate": everyone, "2.5 %": low, "97.5 %": high}
    print(f"\nConstants, from gaps at {len(towers)} towers:\n")
    print(gaps.markdown(pd.DataFrame({"constant": NAMES} | columns)))
    rows = []
    for fold in range(FOLDS):
        left_out = np.flatnonzero(number == fold)
        if left_out.size:
            constants = estimate_from(np.flatnonzero(number != fold))
            rows += [row for tower in left_out for record in of[tower] for row in tested(record, constants)]
    print("\nShares in the 90 % interval, with constants that were estimated without the tower:\n")
    print(gaps.markdown(summary(pd.DataFrame(rows))))


if __name__ == "__main__":
    main()
