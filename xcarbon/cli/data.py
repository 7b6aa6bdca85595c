"""Commands on files of towers: what they contain, what is wrong with them, and how a store is built."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import xarray as xr
from tqdm.auto import tqdm

import xcarbon
from xcarbon.cli.options import PATH, PLACE, POSITIVE, Selection, Sites, command, selects
from xcarbon.cli.tables import count
from xcarbon.core.conventions import QC, is_grid
from xcarbon.core.errors import OptionError, VariableError
from xcarbon.core.options import OPTIONS, progress_bar
from xcarbon.core.variables import SATELLITE, TARGETS, VARIABLES


@command("xcarbon info FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-2014_1-4.csv")
@click.argument("data", nargs=-1, required=True)
@selects("to describe")
def info(data: tuple[str, ...], selection: Selection) -> int:
    """Describe files: towers, years, variables, coverage and resolution.

    DATA are towers or a grid: a Zarr store, NetCDF files, tower files of the networks (CSV or archives), or a
    folder of them. All values are read to count them.
    """
    ds = selection.open(data)
    if not ds.sizes["time"]:
        raise OptionError(f"{data[0]} has no hours")
    names = [str(name) for name in ds.data_vars if name in VARIABLES and "time" in ds[name].dims]
    if not names:
        raise VariableError(f"{data[0]} has no hourly variable of towers, only {list(map(str, ds))}")
    others = [str(name) for name in ds.data_vars if name in SATELLITE or "day" in ds[name].dims]
    stamps = ds["time"].values
    step = np.diff(stamps).min() / np.timedelta64(1, "h") if stamps.size > 1 else np.nan
    what = f"grid of {ds.sizes['lat']} x {ds.sizes['lon']} cells" if is_grid(ds) else count(ds)
    print(ds.attrs.get("title", "no title"))
    print(f"{what}, {_day(stamps[0])} to {_day(stamps[-1])}, time step {step:g} h")
    if is_grid(ds):
        with progress_bar("counting"):
            shares = ds[names].notnull().mean().compute().to_array().to_series()
        print("\nvariables, and the share of hours with a value [%]")
    else:
        towers = pd.DataFrame([_tower(ds, names, site) for site in _each_tower(ds)])
        shares = towers[names].mean()
        shown = ["site", "igbp", "first", "last", *(name for name in TARGETS if name in names)]
        table = towers[[name for name in shown if name in towers]]
        print(f"\n{table.to_string(index=False, float_format=lambda share: f'{100 * share:.0f} %')}")
        print("\nvariables, and the mean over towers of the share of hours with a value in their records [%]")
    for name in names:
        flags = ", with quality flags" if f"{name}{QC}" in ds else ""
        units = f"[{VARIABLES[name].units}]"
        print(f"{name:9} {100 * float(shares[name]):6.1f}  {VARIABLES[name].long_name} {units}{flags}")
    if others:
        print(f"satellite data: {', '.join(others)}")
    return 0


def _each_tower(ds: xr.Dataset) -> Iterable[int]:
    """Return the positions of towers; many of them have a progress bar."""
    sites = range(ds.sizes["site"])
    return tqdm(sites, "counting", disable=not OPTIONS["progress"] or len(sites) < 20)


def _tower(ds: xr.Dataset, names: list[str], site: int) -> dict[str, Any]:
    """Describe a tower: name, class, first and last day with a value, and the share of hours between."""
    tower = ds.isel(site=site)
    there = tower[names].notnull().to_array("variable").compute()
    hours = np.flatnonzero(there.any("variable"))
    row: dict[str, Any] = {"site": str(tower["site"].values)}
    if "igbp" in tower.coords:
        row["igbp"] = str(tower["igbp"].values)
    if not hours.size:
        return row | {"first": "no hours", "last": ""} | dict.fromkeys(names, np.nan)
    first, last = (_day(tower["time"].values[hour]) for hour in hours[[0, -1]])
    share = there.isel(time=slice(hours[0], hours[-1] + 1)).mean("time")
    return row | {"first": first, "last": last} | dict(zip(names, share.values.tolist(), strict=True))


def _day(stamp: np.datetime64) -> str:
    return str(stamp.astype("M8[D]"))


@command("xcarbon check carbonsense.zarr --site DE-Tha")
@click.argument("data", nargs=-1, required=True)
@selects("to check")
def check(data: tuple[str, ...], selection: Selection) -> int:
    """Check the quality of towers.

    Report violations of the CF conventions, the coverage of each variable, and the results of the quality
    checks, for example clocks that disagree with the sun, and files of a store that are damaged or lost. DATA
    are towers in any form that `xcarbon info` reads. The exit status is 1 if a finding is an error.
    """
    report = xcarbon.check(selection.open(data))
    print(report)
    return int(report.has_errors)


@command("xcarbon fetch fluxnet_shuttle_snapshot.csv raw --site DE-Tha,DE-Hai")
@click.argument("snapshot", type=PATH)
@click.argument("raw", type=PATH)
@click.option(
    "--site", "--sites", "sites", type=Sites(), help="Sites to download, for example DE-Tha,DE-Hai."
)
@click.option("--jobs", type=POSITIVE, default=2, show_default=True, help="Number of downloads at a time.")
def fetch(snapshot: Path, raw: Path, sites: list[str] | None, jobs: int) -> int:
    """Download the files that a snapshot of the FLUXNET shuttle lists.

    `fluxnet-shuttle listall` writes SNAPSHOT, a CSV table of sites and download links. The files are written
    to the folder RAW, which `xcarbon build` reads, and their citations to RAW/CITATIONS.csv. Complete files
    are not downloaded again, so the same command continues an interrupted one. The exit status is 1 if a file
    was not downloaded.
    """
    report = xcarbon.fetch(snapshot, raw, sites, jobs=jobs)
    print(report)
    return int(bool(report.failed))


@command("xcarbon build raw carbonsense.zarr", on_cluster=True)
@click.argument("raw", type=PATH)
@click.argument("store", type=PLACE)
@click.option("--metadata", type=PATH, help="Table of coordinates, in addition to the tables in RAW.")
@click.option("--uncertainty", is_flag=True, help="Also write the random uncertainty and percentiles of NEE.")
@click.option("--strict", is_flag=True, help="Stop at the first file that cannot be read.")
def build(raw: Path, store: Path | str, metadata: Path | None, uncertainty: bool, strict: bool) -> int:
    """Build a store from raw files of towers and satellites.

    Read, harmonise and fuse the files that the networks distribute, cut satellite patches around the towers,
    and write one Zarr store. RAW is a folder with releases, tables of towers, MODIS files and satellite
    series; STORE is a folder, or a URL such as s3://bucket/towers. If the command was interrupted, the same
    command continues. If input files have changed, it builds only the towers concerned.
    """
    print(xcarbon.build(raw, store, metadata=metadata, uncertainty=uncertainty, strict=strict))
    return 0
