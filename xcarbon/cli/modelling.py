"""Commands that train, explain, list and compare models."""

from __future__ import annotations

import shutil
from pathlib import Path

import click
import pandas as pd

import xcarbon
from xcarbon.cli.figures import check_figure, save
from xcarbon.cli.options import PATH, POSITIVE, Selection, command, overwrite, selects
from xcarbon.cli.tables import count
from xcarbon.core.atomic import check_free, replacing
from xcarbon.core.errors import OptionError
from xcarbon.core.options import progress_bar
from xcarbon.io.handles import write_file
from xcarbon.models import registry

KINDS = f"Kind of model to train: {', '.join(registry.trainable())}."


def _kind(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Check the kind of model when a command is run, because other programs register kinds of their own."""
    return str(click.Choice(registry.trainable()).convert(value, param, ctx))


@command("xcarbon train carbonsense.zarr run --model xgboost")
@click.argument("data", nargs=-1, required=True)
@click.argument("run", type=PATH)
@click.option("--model", default="ecoperceiver", show_default=True, callback=_kind, help=KINDS)
@click.option("--target", default="NEE", show_default=True, help="Variable to predict.")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed for split and training.")
@click.option(
    "--steps", type=POSITIVE, help="Number of training steps of a network.  [default: as in the paper]"
)
@click.option("--overwrite", is_flag=True, help="Remove an earlier run in RUN and start again.")
@selects("to train on")
def train(
    data: tuple[str, ...], run: Path, model: str, target: str, seed: int, steps: int | None,
    overwrite: bool, selection: Selection,
) -> int:  # fmt: skip
    """Train a model on towers.

    Split the towers by IGBP class into training, validation and test towers, and train a model; networks keep
    the weights with the best validation score. DATA are towers in any form that `xcarbon info` reads. The
    model is written to RUN/model. If the command was interrupted, the same command continues.
    """
    parts = selection.open(data).carbon.split(seed=seed)
    if overwrite and (run / "run.json").exists():
        shutil.rmtree(run)
    parts.train.carbon.fit(
        model,
        val=parts.val,
        target=target,
        seed=seed,
        run_dir=run,
        resume=(run / "run.json").exists(),
        **({} if steps is None else {"max_steps": steps}),
    )
    print(f"wrote {run}/model, trained on {count(parts.train)}, scored on {count(parts.val)}")
    return 0


@command("xcarbon explain nee-fluxnet2015 carbonsense.zarr importance.nc --figure importance.png")
@click.argument("model")
@click.argument("data", nargs=-1, required=True)
@click.argument("out", type=PATH)
@click.option("--by", default="igbp", show_default=True, help="Coordinate to group towers by.")
@click.option("--hours", type=POSITIVE, default=200, show_default=True, help="Hours to draw from each tower.")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed for the draw of hours.")
@click.option("--figure", type=PATH, help="Also draw the importance to this file, such as importance.png.")
@overwrite
@selects("to draw from")
def explain(
    model: str, data: tuple[str, ...], out: Path, by: str, hours: int, seed: int, figure: Path | None,
    overwrite: bool, selection: Selection,
) -> int:  # fmt: skip
    """Estimate how important each input of a model is.

    Each input is masked in turn, and the scores with and without it are compared. MODEL is the folder of a
    trained model, or a name that `xcarbon models` lists. DATA are towers in any form that `xcarbon info`
    reads. OUT is a NetCDF file.
    """
    if out.suffix != ".nc":
        raise OptionError(f"{out} must end in .nc for a NetCDF file")
    check_free(out, overwrite=overwrite)
    if figure is not None:
        check_figure(figure, overwrite)
    loaded, towers = xcarbon.load(model), selection.towers(data)
    if selection.time is not None:
        target = loaded.targets[0]
        if target not in towers:
            raise OptionError(f"--from and --to choose among hours with {target}, which {data[0]} lacks")
        # Hours before the period stay, because models read them.
        chosen = towers["time"].isin(selection.hours(towers)["time"])
        towers = towers.assign({target: towers[target].where(chosen)})
    with progress_bar("explaining"):
        explained = towers.carbon.explain(loaded, by, hours=hours, seed=seed).compute()
    with replacing(out) as path:
        write_file(explained, path, {})
    measure = next(name for name in ("nse_loss", "change") if name in explained)
    everywhere = explained[[measure]].sel({by: "all"}, drop=True).to_dataframe()[measure]
    print(f"{explained[measure].attrs.get('long_name', measure)} at {count(towers)}, most important first")
    with pd.option_context("display.max_rows", None):
        print(everywhere.sort_values(ascending=False).to_string(float_format="{:.3f}".format))
    if figure is not None:
        save(towers.carbon.plot.importance(explained), figure)
    print(f"wrote {out}" + (f" and {figure}" if figure is not None else ""))
    return 0


@command("xcarbon models nee-fluxnet2015")
@click.argument("name", required=False)
def models(name: str | None) -> int:
    """List the trained models of the package.

    With NAME, describe one of them, with its training data, scores and limits.
    """
    from xcarbon.models import pretrained

    if name is not None:
        print(pretrained.card(name))
        return 0
    for each in pretrained.names():
        model = pretrained.load(each)
        print(f"{each:18} {', '.join(model.targets)} from {', '.join(model.config.variables)}")
        print(f"{'':18} {model.predictor.name}, trained on {len(model.sites)} towers")
    return 0


@command("xcarbon experiment table2 --store carbonsense.zarr --out table2", on_cluster=True)
@click.argument("config", required=False)
@click.option("--list", "is_list", is_flag=True, help="List the protocols and their questions.")
@click.option("--store", help="Store of towers, for a protocol.")
@click.option("--out", type=PATH, help="Folder to write, for a protocol.")
def experiment(config: str | None, is_list: bool, store: str | None, out: Path | None) -> int:
    """Compare models on the same towers and hours.

    Train, predict and score all models of an experiment, and write results and a report. CONFIG is a TOML
    file, or the name of a protocol, which is first written to OUT/experiment.toml. Complete steps are not
    repeated, so the same command continues an interrupted experiment.
    """
    from xcarbon.experiments import PROTOCOLS, read_experiment, run, write_protocol

    if is_list:
        for name, protocol in PROTOCOLS.items():
            print(f"{name:15} {protocol.question}")
        return 0
    if config is None:
        raise OptionError("name a TOML file or a protocol; --list lists the protocols")
    path: str | Path = config
    if config in PROTOCOLS:
        if store is None or out is None:
            raise OptionError(f"the protocol {config} needs --store and --out")
        path = write_protocol(config, store, out)
    elif store is not None or out is not None:
        raise OptionError(f"--store and --out are for protocols; {config} sets its own store and folder")
    loaded = read_experiment(path)
    results = run(loaded)
    scores = results[["nse", "rmse", "bias", "n"]].where(results["n"] > 0).mean("seed")
    print(scores.to_dataframe().astype({"n": int}).to_string(float_format="{:.3f}".format))
    print(f"wrote {loaded.out}/results.nc, report.md and report.html")
    return 0
