"""What the weights of the package are worth where some of their inputs are not known.

python -m benchmarks.inputs [--store fluxnet2015_hourly.zarr]

Leaves inputs out of the paper's validation towers, and scores what is predicted in the year of each that has
most observations: the hours of ``xcarbon experiment`` with ``hours = "best-year"``. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import xarray as xr

from xcarbon import load, open_store
from xcarbon.core.variables import STATICS
from xcarbon.evaluation.scores import moments, pooled
from xcarbon.experiments.towers import drivers, observations, period, survey
from xcarbon.models import pretrained
from xcarbon.prep.quality import MAX_QC

DATA = Path(os.environ.get("XCARBON_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")).absolute()
PLACE = tuple(STATICS)
#: What is left out.
CASES: dict[str, tuple[str, ...]] = {
    "all of the weather, and the place": (),
    "without elevation": ("elevation",),
    "without class": ("igbp",),
    "of the place, coordinates alone": ("igbp", "elevation"),
    "of the place, class alone": ("lat", "lon", "elevation"),
    "nothing of the place": PLACE,
    "without VPD": ("VPD",),
    "without SW_IN": ("SW_IN",),
    "without TA": ("TA",),
    "SW_IN alone, and the place": ("TA", "VPD"),
    "TA alone, and the place": ("SW_IN", "VPD"),
    "VPD alone, and the place": ("TA", "SW_IN"),
    "TA and VPD, nothing of the place": ("SW_IN", *PLACE),
    "TA and SW_IN, nothing of the place": ("VPD", *PLACE),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--store", type=Path, default=DATA / "fluxnet2015_hourly.zarr")
    ds = open_store(parser.parse_args().store)
    val = ds.isel(site=np.flatnonzero(ds["paper_split"] == "val"))
    when = period(survey(val, "NEE", MAX_QC), val["site"].values.tolist(), "best-year")
    weather, observed = drivers(val, when), observations(val, "NEE", MAX_QC, when)
    truth = xr.Dataset({"NEE": observed}).assign_coords(igbp=val["igbp"])
    model = load(pretrained.default("NEE"))

    print("| known | NSE | mean over classes |\n|---|---:|---:|")
    for name, unknown in CASES.items():
        nee = weather.drop_vars(unknown).carbon.predict_nee(model)
        towers = moments(truth, nee).compute()
        nse, classes = (float(pooled(towers, by)["nse"].mean()) for by in (None, "igbp"))
        print(f"| {name} | {nse:.3f} | {classes:.2f} |", flush=True)


if __name__ == "__main__":
    main()
