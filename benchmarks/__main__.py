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

#: Benchmarks in the order in which they run, and the arguments of those that are scripts.
#: STORE is a store of synthetic towers.
BENCHMARKS: dict[str, list[str]] = {
    "importing": [],
    "reading": [],
    "building": ["build", "--towers", "2", "--years", "1"],
    "windows": [],
    "boosting": [],
    "training": [],
    "inference": [],
    "applicability": [],
    "streaming": [],
    "scaling": [],
    "inputs": ["--store", "STORE"],
    "gaps": ["gaps", "--store", "STORE", "--towers", "1", "--max-steps", "1"],
    "gpu": ["--device", "cpu", "--batches", "4"],
    "weights.train": ["STORE", "weights", "--max-steps", "1"],
}


def write_store(path: Path) -> None:
    """Write five months of synthetic towers, some of which belong to the paper's validation set."""
    import numpy as np

    from xcarbon.testing import synthetic_towers

    ds = synthetic_towers(4, patches=False, variables=["TA", "SW_IN", "VPD", "NEE"])
    ds = ds.assign_coords(paper_split=("site", np.array(["train", "train", "val", "val"])))
    ds.sel(time=slice("2010-05", "2010-09")).carbon.to_store(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run; by default all")
    names = parser.parse_args().names or list(BENCHMARKS)
    # Before the modules are imported, for this process and its workers. Threads slow such small work down.
    os.environ |= {"XCARBON_SMALL_BENCHMARKS": "1", "OMP_NUM_THREADS": "1"}
    from benchmarks.common import report

    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        store = Path(folder, "towers.zarr")
        write_store(store)
        for name in names:
            print(f"\n--- {name}", flush=True)
            start = time.monotonic()
            module = import_module(f"benchmarks.{name}")
            report(vars(module))
            arguments = [str(store) if text == "STORE" else text for text in BENCHMARKS[name]]
            if arguments and module.main(arguments):
                raise SystemExit(f"{name} failed")
            print(f"({time.monotonic() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
