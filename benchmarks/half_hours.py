"""Errors of filled half-hours: from their own drivers, from filled clock hours, and from similar hours.

Run ``python -m benchmarks.half_hours FILE``. FILE is a half-hourly file of FLUXNET, such as the year of
DE-Tha in ``docs/data``. Measured half-hours are hidden in gaps of 1.5 and 12 days, and the root mean squared
error [umol m-2 s-1] there is printed in Markdown. The first two methods use the model of the package, which
was trained on most towers of FLUXNET2015, DE-Tha among them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

import xcarbon
from benchmarks.common import size
from xcarbon.budget import artificial_gaps, gapfill
from xcarbon.prep.hours import half_hours

#: Kinds of artificial gaps, with their length [days].
KINDS = size({"day": 1.5, "week": 12}, {"day": 1.5})


def fill(gaps: xr.Dataset) -> dict[str, xr.DataArray]:
    """Predict all half-hours by each method."""
    hours = gapfill(gaps.carbon.aggregate("HR"))["NEE_MODEL"]
    return {
        "model, half-hours": gapfill(gaps)["NEE_MODEL"],
        "model, clock hours divided": half_hours(hours, gaps["time"]),
        "MDS, half-hours": gapfill(gaps, model="mds")["NEE_MODEL"],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args(argv)
    ds = xcarbon.open_fluxnet(arguments.file, resolution="HH").isel(time=slice(size(None, 48 * 60))).load()
    errors: dict[str, dict[str, float]] = {}
    for kind, days in KINDS.items():
        hidden = artificial_gaps(ds, kind, share=0.2, seed=1)
        truth = ds["NEE"].where(hidden & (ds["NEE_QC"] == 0))
        for name, found in fill(ds.assign(NEE=ds["NEE"].where(~hidden))).items():
            squared = float(((found - truth) ** 2).mean())
            errors.setdefault(name, {})[f"{days:g} days"] = np.sqrt(squared)
    kinds = [f"{days:g} days" for days in KINDS.values()]
    print(f"| method | {' | '.join(kinds)} |\n|---|{'---:|' * len(kinds)}")
    for name, row in errors.items():
        print(f"| {name} | {' | '.join(f'{row[kind]:.2f}' for kind in kinds)} |")


if __name__ == "__main__":
    main()
