"""How fast FLUXNET files are read, compared with ``pandas.read_csv`` and its defaults.

The files have the size of real ones, so that the result is not governed by fixed costs.
"""

import contextlib
import gzip
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import xarray as xr

from benchmarks.common import DATA, SMALL, fastest, report, size
from xcarbon import open_fluxnet
from xcarbon.core.conventions import QC
from xcarbon.core.variables import VARIABLES, quality_column
from xcarbon.testing import synthetic_towers, write_release

HEADER = DATA / "headers" / "fluxnet_fullset_hh.txt"
THARANDT = DATA / "raw" / "FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-2014.csv.gz"
METADATA = dict(lat=50.96, lon=13.57, igbp="ENF")
YEARS = size(19, 1)


def fullset_columns() -> list[str]:
    """Return the 267 column names of a FULLSET file; where the list is absent, most of them are invented."""
    if HEADER.exists():
        return HEADER.read_text().split()
    values = [variable.columns[0] for variable in VARIABLES.values() if variable.columns]
    values += [column for variable in VARIABLES.values() for column in variable.columns if "_F_" in column]
    names = ["TIMESTAMP_START", "TIMESTAMP_END", *values, *map(quality_column, values)]
    names += [f"UNUSED_{number}" for number in range(267)]
    return list(dict.fromkeys(names))[:267]


def stamps(minutes: np.ndarray) -> np.ndarray:
    """Format times, datetime64[m], as YYYYMMDDHHMM."""
    return pd.DatetimeIndex(minutes).strftime("%Y%m%d%H%M").to_numpy().astype("int64")


def write_fullset(path: Path, years: int) -> None:
    """Write half-hours of random values in the columns of a FULLSET file; a third of them is missing."""
    rng = np.random.default_rng(0)
    begin = np.arange("1996", str(1996 + years), np.timedelta64(30, "m"), dtype="M8[m]")
    cells: dict[str, np.ndarray] = {
        "TIMESTAMP_START": stamps(begin),
        "TIMESTAMP_END": stamps(begin + np.timedelta64(30, "m")),
    }
    for column in fullset_columns()[2:]:
        is_whole = column.endswith((QC, "_METHOD", "_N", "NIGHT"))
        values = rng.integers(0, 4, begin.size) if is_whole else rng.normal(5, 10, begin.size).round(3)
        cells[column] = np.where(rng.random(begin.size) < 0.33, -9999, values)
    pyarrow.csv.write_csv(pa.table(cells), path, pyarrow.csv.WriteOptions(quoting_header="none"))


def write_subset(path: Path) -> None:
    """Write a synthetic tower as a compressed SUBSET file."""
    towers = synthetic_towers(1, patches=False)
    with tempfile.TemporaryDirectory() as folder:
        path.write_bytes(
            gzip.compress(write_release(towers, "SY-001", folder, "FLUXNET2015_SUBSET").read_bytes())
        )


def check(ds: xr.Dataset, table: pd.DataFrame) -> None:
    """Check that both ways read the same NEE.

    Files have one column of NEE. Of variables with several columns, such as air temperature (``TA_F``,
    ``TA_F_MDS``), ``open_fluxnet`` selects the best one hour by hour, which ``read_csv`` does not.
    """
    halves = table["NEE_VUT_REF"].where(table["NEE_VUT_REF"] != -9999).to_numpy().reshape(-1, 2)
    np.testing.assert_allclose(ds["NEE"].values[0], halves.mean(axis=1), rtol=1e-5, atol=1e-5)


def ratio(path: Path, load: bool, repeat: int) -> float:
    """Return the time of ``pandas.read_csv`` divided by that of ``open_fluxnet``."""

    def ours() -> xr.Dataset:
        ds = open_fluxnet(path, metadata=METADATA)
        return ds.load() if load else ds

    check(ours(), pd.read_csv(path))
    seconds = fastest({"xcarbon": ours, "pandas": lambda: pd.read_csv(path)}, repeat)
    return seconds["pandas"] / seconds["xcarbon"]


class Fullset:
    """A FULLSET file of 267 columns and 19 years of half-hours."""

    timeout = 900

    def setup_cache(self) -> Path:
        """Write the file to the current folder, which asv removes afterwards."""
        path = Path("FLX_XX-Xyz_FLUXNET2015_FULLSET_HH_1996-2014_1-4.csv").absolute()
        write_fullset(path, YEARS)
        return path

    def track_open(self, path: Path) -> float:
        """Time ``pandas.read_csv``, the usual first step, against ``open_fluxnet``."""
        return ratio(path, load=False, repeat=2)

    def track_open_and_load(self, path: Path) -> float:
        """Time ``pandas.read_csv`` against ``open_fluxnet`` and ``load`` of all variables."""
        return ratio(path, load=True, repeat=2)

    track_open.unit = "x faster than pandas.read_csv"
    track_open_and_load.unit = "x faster than pandas.read_csv"


class Tharandt:
    """A compressed SUBSET file of 19 years: the real tower DE-Tha, or a synthetic year where it is absent."""

    timeout = 300

    def setup_cache(self) -> Path:
        """Write the synthetic file where the real one is absent."""
        if THARANDT.exists() and not SMALL:
            return THARANDT
        path = Path("FLX_SY-001_FLUXNET2015_SUBSET_HH_2010-2010_1-4.csv.gz").absolute()
        write_subset(path)
        return path

    def track_open(self, path: Path) -> float:
        """Time ``pandas.read_csv``, the usual first step, against ``open_fluxnet``."""
        return ratio(path, load=False, repeat=7)

    def track_open_and_load(self, path: Path) -> float:
        """Time ``pandas.read_csv``, which decompresses once; ``open_fluxnet`` does so twice."""
        return ratio(path, load=True, repeat=7)

    track_open.unit = "x faster than pandas.read_csv"
    track_open_and_load.unit = "x faster than pandas.read_csv"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        report(globals())
