"""How closely GPP follows that of FLUXNET: both methods of partitioning, at real towers.

python -m benchmarks.partitioning out [--half-hours FILE ...] [--sites DE-Tha ...]
python -m benchmarks.partitioning out --sites US-Ne1 US-MMS ...  # towers that measure hours, not half-hours

Towers are those of the hourly store, or of half-hourly and hourly files in the FLUXNET layout, whose
coordinates are read from the store. The command prints Markdown and writes ``out/towers.csv``. It takes up to
a second per tower for the night-time method and some seconds for the daytime method. With ``--weights``, the
error of NEE is the standard deviation in similar hours, which takes a second per year of half-hours.

FLUXNET selects the reference of GPP and that of NEE from 40 friction velocity thresholds each. With the same
threshold, NEE + GPP_NT is a function of the temperature with one E0 in a year, also in hours that are filled.
``same reference`` is the share of hours for which this holds, within 2 % from one time step to the next.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from benchmarks.common import STORE
from benchmarks.gaps import markdown
from xcarbon import open_store
from xcarbon.budget import partition
from xcarbon.budget.mds import mds
from xcarbon.budget.partitioning.respiration import inverse_temperature

METHODS = {"nighttime": "GPP_NT", "daytime": "GPP_DT"}
COLUMNS = {"TA": "TA_F", "SW_IN": "SW_IN_F", "VPD": "VPD_F", "NEE": "NEE_VUT_REF"}
#: From umol m-2 s-1 to g of carbon m-2 year-1.
GRAMS = 1e-6 * 12.011 * 86400 * 365.25
#: Bars of the comparison with FLUXNET: r2 of monthly means; relative and absolute annual difference.
R2, SHARE, DIFFERENCE = 0.98, 0.05, 25.0
#: Share of hours that follow the temperature, from which the reference is regarded as the same.
SAME = 0.95


def read_half_hours(path: Path, place: xr.Dataset) -> xr.Dataset:
    """Read a file of half-hours or hours in the FLUXNET layout, without averaging."""
    table = pd.read_csv(path, na_values=-9999, dtype={"TIMESTAMP_START": str})
    stamps = pd.to_datetime(table.pop("TIMESTAMP_START"), format="%Y%m%d%H%M").to_numpy()
    names = {column: name for name, column in COLUMNS.items()}
    names |= {f"{column}_QC": f"{name}_QC" for column, name in names.items()}
    names |= {f"{name}_VUT_REF": name for name in METHODS.values()}
    series = {name: ("time", table[column].to_numpy()) for column, name in names.items()}
    coords = {name: place[name] for name in ("site", "lat", "lon", "utc_offset")}
    return xr.Dataset(series, {"time": stamps} | coords)


def towers(store: Path, files: Sequence[Path], sites: Sequence[str] | None) -> Iterator[xr.Dataset]:
    """Load towers one by one, from their first to their last hour with a flux."""
    ds = open_store(store)
    if files:
        sources = [(path.name.split("_")[1], path) for path in files]
    else:
        sources = [(str(site), store) for site in ds["site"].values]
    for site, path in sources:
        if sites and site not in sites:
            continue
        tower = ds.sel(site=site).load() if path == store else read_half_hours(path, ds.sel(site=site).load())
        known = np.flatnonzero(tower["NEE"].notnull())
        yield tower.isel(time=slice(known[0], known[-1] + 1))


def same_reference(tower: xr.Dataset) -> float:
    """Return the share of time steps [1] in which NEE + GPP_NT of FLUXNET follows the temperature."""
    reco = (tower["NEE"] + tower["GPP_NT"]).values.astype(float)
    inverse = inverse_temperature(tower["TA"].values.astype(float))
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.diff(np.log(np.where(reco > 0.05, reco, np.nan)))
        step = np.diff(inverse)
        e0 = np.where(np.abs(step) > 5e-5, change / step, np.nan)
    follows, steps = 0, 0
    for year in np.unique(tower["time"].dt.year):
        own = (tower["time"].dt.year.values[1:] == year) & np.isfinite(change) & np.isfinite(step)
        count, edges = np.histogram(e0[own & np.isfinite(e0)], np.arange(0, 501, 2))
        follows += int((np.abs(change[own] - (edges[count.argmax()] + 1) * step[own]) < 0.02).sum())
        steps += int(own.sum())
    return follows / steps if steps else np.nan


def yearly(flux: xr.DataArray) -> float:
    """Return the mean flux as an annual sum [g of carbon m-2 year-1]."""
    return float(flux.mean()) * GRAMS


def monthly_r2(own: xr.DataArray, theirs: xr.DataArray, least: float) -> float:
    """Return the r2 [1] of the means of months in which at least this share of the hours is there."""
    complete = own.notnull().resample(time="MS").mean() >= least
    months = [flux.resample(time="MS").mean().where(complete, drop=True).values for flux in (own, theirs)]
    return float(np.corrcoef(*months)[0, 1] ** 2) if months[0].size > 2 else np.nan


def compare(tower: xr.Dataset, method: str, weights: bool = False) -> dict[str, Any]:
    """Partition a tower and compare GPP with that of FLUXNET, in hours with both."""
    code = METHODS[method]
    if weights:
        tower = tower.assign(NEE_SE=mds(tower)["NEE_SE"])
    start = time.process_time()
    found = partition(tower, method)  # type: ignore[arg-type]
    seconds = time.process_time() - start
    both = found[code].notnull() & tower[code].notnull()
    own, theirs = found[code].where(both), tower[code].where(both)
    r2, gpp, difference = monthly_r2(own, theirs, 0.5), yearly(theirs), yearly(own - theirs)
    close = bool(abs(difference) <= max(SHARE * abs(gpp), DIFFERENCE))
    return {
        "method": method,
        "tower": str(tower["site"].item()),
        "hours": int(both.sum() * (tower["time"][1] - tower["time"][0]) / np.timedelta64(1, "h")),
        "GPP": gpp,
        "difference": difference,
        "r2": r2,
        "within bars": close and r2 >= R2,
        "same reference": same_reference(tower) if "GPP_NT" in tower else np.nan,
        "seconds": seconds,
    }


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Count towers within the bars and compute medians, for each method and by the reference."""
    rows = []
    for method, group in table.groupby("method", sort=False):
        same = group["same reference"] >= SAME
        for name, part in (("all", group), ("same reference", group[same]), ("other", group[~same])):
            if part.empty:
                continue
            close = part["difference"].abs() <= np.maximum(SHARE * part["GPP"].abs(), DIFFERENCE)
            rows.append(
                {
                    "method": method,
                    "towers": name,
                    "number": len(part),
                    "r2 in bar": int((part["r2"] >= R2).sum()),
                    "annual in bar": int(close.sum()),
                    "both": int(part["within bars"].sum()),
                    "median r2": part["r2"].median(),
                    "median difference": part["difference"].median(),
                    "median size of difference": part["difference"].abs().median(),
                }
            )
    return pd.DataFrame(rows)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--store", type=Path, default=STORE)
    parser.add_argument("--half-hours", type=Path, nargs="+", default=[], help="files in the FLUXNET layout")
    parser.add_argument("--sites", nargs="+", help="names of towers; by default all")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--weights", action="store_true", help="weight hours as FLUXNET does (daytime)")
    arguments = parser.parse_args(argv)
    rows = []
    for tower in towers(arguments.store, arguments.half_hours, arguments.sites):
        for method in arguments.methods:
            if METHODS[method] in tower:
                rows.append(compare(tower, method, arguments.weights))
                print("{method} {tower}: {seconds:.1f} s".format(**rows[-1]), flush=True)
    table = pd.DataFrame(rows).sort_values(["method", "tower"], ascending=[False, True])
    arguments.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(arguments.out / "towers.csv", index=False)
    print("\nGPP and differences are in g of carbon m-2 year-1.\n")
    print(markdown(summary(table)))
    if len(table) < 40:
        print("\n" + markdown(table))


if __name__ == "__main__":
    main()
