"""Run every benchmark once, on synthetic towers and at a size of seconds, to find out whether it works.

python -m benchmarks [NAME ...]

The command stops with an error at the first benchmark that fails. At this size, the results mean little.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

#: A year of half-hours of a real tower.
TOWER_YEAR = Path(__file__).parents[1] / "docs/data/FLX_DE-Tha_FLUXNET2015_SUBSET_HH_2009-2009.csv.gz"
#: Benchmarks in the order in which they run, and the arguments of those that are scripts.
#: STORE is a store of synthetic towers, and SATELLITE a folder with their satellite series.
BENCHMARKS: dict[str, list[str]] = {
    "importing": [],
    "reading": [],
    "building": ["build", "--towers", "2", "--years", "1", "--processes", "1"],
    "buckets": [],
    "windows": [],
    "boosting": [],
    "training": [],
    "larger_than_memory": [],
    "inference": [],
    "applicability": [],
    "streaming": [],
    "scaling": [],
    "graphs": ["towers", "grid", "--names", "predict_to"],
    "continent": ["--workers", "1"],
    "killing": ["--rounds", "1", "--workers", "2"],
    "restarting": ["--rounds", "1"],
    "gaps": ["gaps", "--store", "STORE", "--towers", "1"],
    "intervals": ["gaps", "--store", "STORE", "--towers", "2"],
    "partitioning": ["partitioning", "--store", "STORE", "--sites", "SY-001", "--methods", "nighttime"],
    "half_hours": [str(TOWER_YEAR)],
    "long_record": [],
    "gpu": ["--device", "cpu", "--batches", "4"],
    "fuzz.__main__": ["--count", "60"],
    "weights.train": ["STORE", "SATELLITE", "weights", "--trial"],
    "weights.missing": ["STORE", "SATELLITE", "weights", "--trial"],
    "weights.score": ["STORE", "SATELLITE", "weights"],
}


def write_store(path: Path, satellite: Path) -> None:
    """Write five months of synthetic towers, some of which belong to the paper's validation set."""
    import numpy as np

    from xcarbon.prep.satellite import indices
    from xcarbon.testing import synthetic_towers

    ds = synthetic_towers(10, variables=["TA", "SW_IN", "VPD", "NEE", "GPP_NT"])
    ds = ds.assign_coords(paper_split=("site", np.array(["train", "val"] * 5)))
    ds = ds.sel(time=slice("2010-05", "2010-09"), day=slice("2010-05", "2010-09"))
    satellite.mkdir()
    indices(ds).to_netcdf(satellite / "indices.nc")
    ds.drop_dims(["day"]).carbon.to_store(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run; by default all")
    names = parser.parse_args().names or list(BENCHMARKS)
    # Before the modules are imported, for this process and its workers. Threads slow such small work down.
    os.environ |= {"XCARBON_SMALL_BENCHMARKS": "1", "OMP_NUM_THREADS": "1"}
    from benchmarks.common import report
    from xcarbon.budget import adapt

    adapt.TREES = 20  # for each tower whose gaps are filled

    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        paths = {"STORE": str(Path(folder, "towers.zarr")), "SATELLITE": str(Path(folder, "satellite"))}
        write_store(*map(Path, paths.values()))
        for name in names:
            print(f"\n--- {name}", flush=True)
            start = time.monotonic()
            module = import_module(f"benchmarks.{name}")
            report(vars(module))
            arguments = [paths.get(text, text) for text in BENCHMARKS[name]]
            if arguments and module.main(arguments):
                raise SystemExit(f"{name} failed")
            print(f"({time.monotonic() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
