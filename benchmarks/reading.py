"""How fast FLUXNET files are read, beside ``pandas.read_csv`` with its defaults.

The file is as large as real ones on purpose: what is measured is not what is left over in a small one.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import xarray as xr

from xcarbon import open_fluxnet
from xcarbon.core.conventions import QC

DATA = Path(os.environ.get("XCARBON_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")).absolute()
METADATA = dict(lat=50.96, lon=13.57, igbp="ENF")


def seconds(function: Callable[[], Any], repeat: int) -> tuple[float, Any]:
    """Time the fastest of some calls, and give what the last returned."""
    fastest = np.inf
    for _ in range(repeat):
        start = time.perf_counter()
        result = function()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest, result


def stamps(minutes: np.ndarray) -> np.ndarray:
    """Write times, datetime64[m], as YYYYMMDDHHMM."""
    return pd.DatetimeIndex(minutes).strftime("%Y%m%d%H%M").to_numpy().astype("int64")


def write_fullset(path: Path, columns: list[str], years: int) -> None:
    """Write half-hours with the columns of a FULLSET file, a third of the cells missing."""
    rng = np.random.default_rng(0)
    begin = np.arange("1996", str(1996 + years), np.timedelta64(30, "m"), dtype="M8[m]")
    cells: dict[str, np.ndarray] = {
        "TIMESTAMP_START": stamps(begin),
        "TIMESTAMP_END": stamps(begin + np.timedelta64(30, "m")),
    }
    for column in columns[2:]:
        is_whole = column.endswith((QC, "_METHOD", "_N", "NIGHT"))
        values = rng.integers(0, 4, begin.size) if is_whole else rng.normal(5, 10, begin.size).round(3)
        cells[column] = np.where(rng.random(begin.size) < 0.33, -9999, values)
    pyarrow.csv.write_csv(pa.table(cells), path, pyarrow.csv.WriteOptions(quoting_header="none"))


def check(ds: xr.Dataset, table: pd.DataFrame) -> None:
    """Make sure that both read the same air temperature."""
    halves = table["TA_F"].where(table["TA_F"] != -9999).to_numpy().reshape(-1, 2)
    np.testing.assert_allclose(ds["TA"].values[0], halves.mean(axis=1), rtol=1e-5, atol=1e-5)


class Fullset:
    """A FULLSET file of 267 columns and 19 years of half-hours."""

    timeout = 900
    years = 19

    def setup_cache(self) -> Path | None:
        """Write the file into the folder that asv throws away afterwards."""
        header = DATA / "headers" / "fluxnet_fullset_hh.txt"
        if not header.exists():
            return None
        path = Path("FLX_XX-Xyz_FLUXNET2015_FULLSET_HH_1996-2014_1-4.csv").absolute()
        write_fullset(path, header.read_text().split(), self.years)
        return path

    def setup(self, path: Path | None) -> None:
        """Skip where the names of the columns are absent."""
        if path is None:
            raise NotImplementedError(f"no header of a FULLSET file in {DATA}")

    def track_open(self, path: Path) -> float:
        """Time ``pandas.read_csv``, with which many start, against ``open_fluxnet``."""
        ours, ds = seconds(lambda: open_fluxnet(path, metadata=METADATA), 3)
        theirs, table = seconds(lambda: pd.read_csv(path), 1)
        check(ds, table)
        return theirs / ours

    def track_open_and_load(self, path: Path) -> float:
        """Time ``pandas.read_csv`` against ``open_fluxnet`` and ``load`` of all it keeps."""
        ours, ds = seconds(lambda: open_fluxnet(path, metadata=METADATA).load(), 3)
        theirs, table = seconds(lambda: pd.read_csv(path), 1)
        check(ds, table)
        return theirs / ours

    track_open.unit = "x faster than pandas.read_csv"
    track_open_and_load.unit = "x faster than pandas.read_csv"


class Tharandt:
    """The real tower DE-Tha: a gzip of 12 columns and 19 years of half-hours."""

    path = DATA / "raw" / "FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-2014.csv.gz"

    def setup(self) -> None:
        """Skip where the file is absent."""
        if not self.path.exists():
            raise NotImplementedError(f"no file {self.path}")

    def track_open(self) -> float:
        """Time ``pandas.read_csv``, with which many start, against ``open_fluxnet``."""
        ours, ds = seconds(lambda: open_fluxnet(self.path), 7)
        theirs, table = seconds(lambda: pd.read_csv(self.path), 7)
        check(ds, table)
        return theirs / ours

    def track_open_and_load(self) -> float:
        """Time ``pandas.read_csv``, which unpacks once, against unpacking to check and to read."""
        ours, ds = seconds(lambda: open_fluxnet(self.path).load(), 7)
        theirs, table = seconds(lambda: pd.read_csv(self.path), 7)
        check(ds, table)
        return theirs / ours

    track_open.unit = "x faster than pandas.read_csv"
    track_open_and_load.unit = "x faster than pandas.read_csv"


def main() -> None:
    """Print all figures."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        fullset = Fullset()
        path = fullset.setup_cache()
        fullset.setup(path)
        print(f"FULLSET, open: {fullset.track_open(path):.2f} {Fullset.track_open.unit}")
        print(f"FULLSET, open and load: {fullset.track_open_and_load(path):.2f}")
    tharandt = Tharandt()
    tharandt.setup()
    print(f"DE-Tha, open: {tharandt.track_open():.2f}")
    print(f"DE-Tha, open and load: {tharandt.track_open_and_load():.2f}")


if __name__ == "__main__":
    main()
