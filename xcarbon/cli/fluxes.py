"""Commands that fill, predict and score fluxes."""

from __future__ import annotations

import glob
import sys
from pathlib import Path

import click
import dask
import numpy as np
import pandas as pd
import xarray as xr

import xcarbon
from xcarbon.cli.options import PATH, PLACE, Selection, command, overwrite, selects
from xcarbon.cli.tables import count, score_table
from xcarbon.core.atomic import check_free
from xcarbon.core.conventions import is_grid
from xcarbon.core.errors import VariableError, XCarbonError
from xcarbon.core.extras import require
from xcarbon.core.options import progress_bar
from xcarbon.core.validation import is_half_hourly
from xcarbon.core.variables import FILLED, IN_TRAINING, TARGETS
from xcarbon.io.formats import open_data
from xcarbon.io.location import Location
from xcarbon.io.networks import resolutions_in


@command("xcarbon gapfill FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-2014_1-4.csv DE-Tha_filled.nc --model mds")
@click.argument("data", nargs=-1, required=True)
@click.argument("out", type=PLACE)
@click.option("--target", default="NEE", show_default=True, help="Flux to fill.")
@click.option(
    "--model",
    help="mds for marginal distribution sampling, the folder of a trained model, or a name that `xcarbon "
    "models` lists; models are adapted to each tower.  [default: the model of the package]",
)
@overwrite
@selects("to write; all hours of the towers are used to fill them")
def gapfill(
    data: tuple[str, ...],
    out: Path | str,
    target: str,
    model: str | None,
    overwrite: bool,
    selection: Selection,
) -> int:
    """Fill the gaps of a flux.

    Measured hours are kept, and the others are filled and flagged. DATA are towers in any form that `xcarbon
    info` reads; OUT is a NetCDF file (.nc), a Zarr store (.zarr) or the URL of a store.
    """
    check_output(out, overwrite)
    towers = selection.towers(data)
    selection.hours(towers)  # an empty period is an error before hours of work
    _report_errors(towers)
    filled = selection.hours(towers.carbon.gapfill(target, model))
    write = filled.carbon.to_netcdf if Location.of(out).suffix == ".nc" else filled.carbon.to_store
    write(out, overwrite=overwrite)
    written = open_data(out)
    origin = written[f"{target}{FILLED}"]
    with progress_bar("counting"):
        shares = dask.compute(*((origin == flag).mean("time") for flag in (0, 1, -1)))
    print(f"wrote {out}; {target} of {count(written)}, share of hours:")
    for site, measured, was_filled, missing in zip(written["site"].values, *shares, strict=True):
        print(f"{site}  measured {measured:.1%}, filled {was_filled:.1%}, missing {missing:.1%}")
    return 0


@command("xcarbon budget FLX_DE-Tha_FLUXNET2015_FULLSET_1996-2014_1-4.zip --out DE-Tha_budget")
@click.argument("data", nargs=-1, required=True)
@click.option("--out", type=PATH, default="budget", show_default=True, help="Folder to write.")
@click.option("--model", help="Model that fills the gaps, as for `xcarbon gapfill`.")
@click.option(
    "--max-missing",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Highest share of missing hours of a period that has a sum.",
)
@overwrite
@selects("to sum; all hours of the towers are used to fill them")
def budget(
    data: tuple[str, ...], out: Path, model: str | None, max_missing: float, overwrite: bool,
    selection: Selection,
) -> int:  # fmt: skip
    """Compute the carbon budget of towers.

    Fill the gaps of NEE, partition it by two methods, and sum NEE, GPP and respiration over years and months
    with 90 % intervals. The folder OUT contains the fluxes, the tables, the figures, and the page
    report.html, which is complete without the other files. DATA are towers in any form that `xcarbon info`
    reads; if yearly and monthly files of FLUXNET are among them, their percentiles over friction velocity
    thresholds are used.
    """
    check_free(out, overwrite=overwrite)
    require("figures of the budget", "plot", "matplotlib")
    import matplotlib

    from xcarbon.budget import fill_and_partition

    matplotlib.use("agg")  # figures are written to files, without a screen
    towers = selection.towers(data, uncertainty=True)
    selection.hours(towers)  # an empty period is an error before hours of work
    _report_errors(towers)
    fluxes = selection.hours(fill_and_partition(towers, model))
    fluxes.carbon.write_budget(
        out, thresholds=_thresholds(data, selection), max_missing=max_missing, overwrite=overwrite
    )
    annual = pd.read_csv(out / "annual.csv")
    shown = [
        name
        for name in ("site", "time", "NEE", "NEE_LOWER", "NEE_UPPER", "GPP_NT", "RECO_NT")
        if name in annual
    ]
    print(f"wrote {out}; annual sums [g of carbon m-2], with the 90 % interval of NEE:")
    print(annual[shown].to_string(index=False, float_format="{:.0f}".format))
    if lacking := int(annual["NEE"].isna().sum()):
        print(
            f"{lacking} of {len(annual)} years have no sum, because more than {max_missing:.0%} of their "
            "hours are missing; --max-missing sets this share"
        )
    return 0


def _report_errors(towers: xr.Dataset) -> None:
    """Print the errors that the quality checks find in towers, which would go into the results."""
    if is_grid(towers) or is_half_hourly(towers["time"]):
        return
    for finding in towers.carbon.check().findings:
        if finding.severity == "error" and finding.topic != "CF":
            where = f"{finding.site}: " if finding.site else ""
            print(f"xcarbon: {where}{finding.message}", file=sys.stderr)


def _thresholds(data: tuple[str, ...], selection: Selection) -> dict[str, xr.Dataset]:
    """Open the yearly and monthly files among tower files, and report those that cannot be read."""
    paths = [path for pattern in data for path in sorted(glob.glob(pattern))]  # without URLs
    there = resolutions_in(paths)
    found: dict[str, xr.Dataset] = {}
    for resolution in ("YY", "MM"):
        if resolution not in there:
            continue
        try:
            found[resolution] = xcarbon.open_fluxnet(
                paths, resolution=resolution, metadata=selection.metadata, uncertainty=True
            )
        except (XCarbonError, OSError) as error:
            print(
                f"without percentiles over friction velocity thresholds ({resolution}): {error}",
                file=sys.stderr,
            )
    return found


@command("xcarbon predict nee-fluxnet2015 carbonsense.zarr nee.nc --spread --site DE-Tha", on_cluster=True)
@click.argument("model")
@click.argument("data", nargs=-1, required=True)
@click.argument("out", type=PLACE)
@click.option("--spread", is_flag=True, help="Also write the standard deviation of the error of each hour.")
@overwrite
@selects("to predict; earlier hours are read, too")
def predict(
    model: str, data: tuple[str, ...], out: Path | str, spread: bool, overwrite: bool, selection: Selection
) -> int:
    """Predict a flux at towers or on a grid.

    MODEL is the folder of a trained model, or a name that `xcarbon models` lists. DATA are towers in any form
    that `xcarbon info` reads, or a grid: a Zarr store, NetCDF files or ERA5 files. The flux is written for
    every hour, region by region, to OUT, which ends in .zarr or .nc or is the URL of a store. If the command
    was interrupted, the same command continues.
    """
    from xcarbon.prediction.predictable import describe

    loaded = xcarbon.load(model)
    everything = selection.towers(data)
    ds = selection.hours(everything)
    before = everything.isel(time=slice(0, int((everything["time"] < ds["time"][0]).sum())))
    ds.carbon.predict_to(
        loaded.targets[0],
        loaded,
        out,
        spread=spread,
        history=before if before.sizes["time"] else None,
        overwrite=overwrite,
    )
    if "site" in ds.dims and (missing := describe(ds.carbon.predictable(loaded))):
        print(missing, file=sys.stderr)
    print(f"wrote {out}")
    return 0


@command("xcarbon score nee.nc carbonsense.zarr --by igbp")
@click.argument("prediction")
@click.argument("data", nargs=-1, required=True)
@click.option("--by", default="igbp", show_default=True, help="Coordinate to group towers by.")
@selects("to score")
def score(prediction: str, data: tuple[str, ...], by: str, selection: Selection) -> int:
    """Compare a prediction with the observations of towers.

    Compute Nash-Sutcliffe efficiency, RMSE and bias at the towers that the model was not trained on.
    PREDICTION is a store or file that `xcarbon predict` has written; DATA are the observed towers, in any
    form that `xcarbon info` reads.
    """
    predicted, towers = open_data(prediction), selection.open(data)
    targets = [str(name) for name in predicted.data_vars if name in TARGETS]
    if len(targets) != 1 or "site" not in predicted.dims:
        found = f"{targets} on {tuple(predicted.dims)}"
        raise VariableError(f"{prediction} must contain one flux at towers, found {found}")
    flux = predicted[targets[0]]
    known = flux.coords.get(IN_TRAINING, xr.zeros_like(flux["site"], bool))
    with progress_bar("scoring"):
        scores, overall = dask.compute(
            *(towers.carbon.score(flux, name, training_towers="drop") for name in (by, None))
        )
    flux = flux.isel(site=np.flatnonzero(~known))
    print(f"{targets[0]} at {count(flux)} that the model was not trained on, {int(known.sum())} left out")
    print(score_table(scores, overall))
    return 0


def check_output(out: Path | str, overwrite: bool) -> None:
    """Raise an error before a long computation if its result cannot be written."""
    location = Location.of(out)
    location.check_output()
    location.check_free(overwrite=overwrite)
