"""Commands that fill, predict and score fluxes."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import dask
import numpy as np
import xarray as xr

import xcarbon
from xcarbon.cli.options import PLACE, Selection, command, overwrite, selects
from xcarbon.cli.tables import count, score_table
from xcarbon.core.errors import VariableError
from xcarbon.core.options import progress_bar
from xcarbon.core.variables import FILLED, IN_TRAINING, TARGETS
from xcarbon.io.formats import open_data
from xcarbon.io.location import Location


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
