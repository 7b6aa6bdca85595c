"""How well the weights of the package predict where some of their inputs are missing.

python -m benchmarks.inputs [--store fluxnet2015_hourly.zarr]

Removes inputs from the paper's validation towers, and scores the predictions in the year of each tower with
most observations: the hours of ``xcarbon experiment`` with ``hours = "best-year"``. Prints Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from benchmarks.common import STORE
from xcarbon import open_store
from xcarbon.core.variables import STATICS
from xcarbon.evaluation.scores import moments, pooled
from xcarbon.experiments.towers import drivers, observations, period, survey
from xcarbon.models import pretrained
from xcarbon.prep.quality import MAX_QC

SITE = tuple(STATICS)
#: Inputs that are removed, by the name of the row in the table.
CASES: dict[str, tuple[str, ...]] = {
    "all weather and site features": (),
    "without elevation": ("elevation",),
    "without class": ("igbp",),
    "only coordinates of the site features": ("igbp", "elevation"),
    "only the class of the site features": ("lat", "lon", "elevation"),
    "no site features": SITE,
    "without VPD": ("VPD",),
    "without SW_IN": ("SW_IN",),
    "without TA": ("TA",),
    "SW_IN and site features": ("TA", "VPD"),
    "TA and site features": ("SW_IN", "VPD"),
    "VPD and site features": ("TA", "SW_IN"),
    "TA and VPD, no site features": ("SW_IN", *SITE),
    "TA and SW_IN, no site features": ("VPD", *SITE),
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--store", type=Path, default=STORE, help="with the coordinate paper_split")
    ds = open_store(parser.parse_args(argv).store)
    val = ds.isel(site=np.flatnonzero(ds["paper_split"] == "val"))
    when = period(survey(val, "NEE", MAX_QC), val["site"].values.tolist(), "best-year")
    weather, observed = drivers(val, when), observations(val, "NEE", MAX_QC, when)
    truth = xr.Dataset({"NEE": observed}).assign_coords(igbp=val["igbp"])
    model = pretrained.default("NEE")

    print("| inputs | NSE | mean over classes |\n|---|---:|---:|")
    for name, removed in CASES.items():
        nee = weather.drop_vars(removed).carbon.predict_nee(model)
        towers = moments(truth, nee).compute()
        nse, classes = (float(pooled(towers, by)["nse"].mean()) for by in (None, "igbp"))
        print(f"| {name} | {nse:.3f} | {classes:.2f} |", flush=True)


if __name__ == "__main__":
    main()
