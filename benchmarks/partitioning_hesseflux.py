"""How closely GPP follows that of hesseflux, an independent implementation of both methods.

python -m benchmarks.partitioning_hesseflux FILE ...

Files are half-hourly or hourly in the FLUXNET layout. The command needs hesseflux 5.0 (``pip install
hesseflux``), which is no dependency of xcarbon, and prints Markdown. It compares hours with a measured NEE,
in which hesseflux computes GPP as RECO - NEE with both methods; that of xcarbon's daytime method is
computed in the same way here.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from benchmarks.common import STORE
from benchmarks.gaps import markdown
from benchmarks.partitioning import METHODS, monthly_r2, towers, yearly
from xcarbon.budget import partition

#: Names of the methods in hesseflux.
OTHER = {"nighttime": "reichstein", "daytime": "lasslop"}


def hesseflux_gpp(tower: xr.Dataset, method: str) -> xr.DataArray:
    """Compute GPP with hesseflux, NaN in hours without a measured NEE."""
    vars(np).update(int=int, float=float)  # hesseflux uses the names of NumPy before 1.24
    from hesseflux import nee2gpp

    frame = pd.DataFrame(
        {
            "NEE": tower["NEE"].where(tower["NEE_QC"] == 0),
            "TA": tower["TA"] + 273.15,
            "SW_IN": tower["SW_IN"],
            "VPD": tower["VPD"] * 100,
        },
        tower["time"].values,
    ).fillna(-9999)
    frame.index.name = "time"
    is_day = (tower["SW_IN"] > 10).to_numpy()
    found = nee2gpp(frame, (frame == -9999).astype(int), isday=is_day, method=OTHER[method])
    gpp = found["GPP"].to_numpy()
    return tower["NEE"].copy(data=np.where(gpp == -9999, np.nan, gpp))


def compare(tower: xr.Dataset, method: str) -> dict[str, object]:
    """Compare GPP of xcarbon, hesseflux and FLUXNET, in hours with all three."""
    found = partition(tower, method)  # type: ignore[arg-type]
    own = found[f"RECO_{METHODS[method][-2:]}"] - tower["NEE"]
    other = hesseflux_gpp(tower, method)
    fluxnet = tower[METHODS[method]]
    there = own.notnull() & other.notnull() & fluxnet.notnull()
    own, other, fluxnet = (flux.where(there) for flux in (own, other, fluxnet))
    return {
        "tower": str(tower["site"].item()),
        "method": method,
        "GPP of hesseflux": yearly(other),
        "xcarbon - hesseflux": yearly(own - other),
        "r2": monthly_r2(own, other, 0.1),
        "FLUXNET - hesseflux": yearly(fluxnet - other),
        "r2 of FLUXNET and hesseflux": monthly_r2(fluxnet, other, 0.1),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    arguments = parser.parse_args(argv)
    rows = []
    for tower in towers(STORE, arguments.files, None):
        for method in METHODS:
            rows.append(compare(tower, method))
            print("{tower} {method}".format(**rows[-1]), flush=True)
    print("\n" + markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    main()
