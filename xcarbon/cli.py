"""The command line: every command calls the public functions of the package."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr

import xcarbon
from xcarbon._version import __version__
from xcarbon.core import conventions
from xcarbon.core.atomic import replacing
from xcarbon.core.errors import OptionError, VariableError, XCarbonError
from xcarbon.core.extras import require
from xcarbon.core.options import progress_bar
from xcarbon.core.variables import IN_TRAINING, TARGETS
from xcarbon.io.formats import open_data
from xcarbon.io.handles import write_file
from xcarbon.models import registry

#: Settings for minutes of training: a smaller batch and a higher learning rate than in the paper.
DEMO_TRAINING = {
    "batch_size": 64,
    "micro_batch": 64,
    "learning_rate": 1e-3,
    "loss": "window",
    "val_windows": 512,
}
#: Number of days to predict at each tower.
DEMO_DAYS = 28


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 1 after an error or if ``check`` found one, or 130 after Ctrl-C."""
    arguments = _parser().parse_args(argv)
    try:
        with xcarbon.set_options(progress=not arguments.quiet), _connected(arguments):
            status: int = arguments.run(arguments)
    except (XCarbonError, FileNotFoundError) as error:
        print(f"xcarbon: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"xcarbon: {stop or 'interrupted'}", file=sys.stderr)
        return 130
    return status


def _connected(arguments: argparse.Namespace) -> Any:
    """Connect to the Dask cluster of ``--scheduler`` for the duration of the command."""
    from dask.distributed import Client

    address = getattr(arguments, "scheduler", None)
    return nullcontext() if address is None else Client(address)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xcarbon", description="Model the carbon fluxes of land ecosystems with xarray."
    )
    parser.add_argument("--version", action="version", version=f"xcarbon {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--quiet", action="store_true", help="show no progress bars")
    remote = argparse.ArgumentParser(add_help=False)
    remote.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="address of a Dask cluster to compute on, for example tcp://host:8786; its workers need access "
        "to the same files [threads of this machine]",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        run: Callable[[argparse.Namespace], int], *, help: str, description: str
    ) -> argparse.ArgumentParser:
        """Add the command that a function runs; those that compute on a cluster have ``--scheduler``."""
        shared = [common, remote] if run in (_build, _predict, _experiment) else [common]
        name = run.__name__.strip("_")
        added = commands.add_parser(name, parents=shared, help=help, description=description)
        added.set_defaults(run=run)
        return added

    demo = command(
        _demo,
        help="train, predict and score on synthetic towers, in about two minutes",
        description="Train EcoPerceiver on some towers and predict NEE at others. Write the prediction as CF "
        "NetCDF, score it by IGBP class, and plot one week of it.",
    )
    demo.add_argument("--data", type=Path, help="store of real towers to use instead of synthetic ones")
    demo.add_argument("--out", type=Path, default=Path("xcarbon-demo"), help="folder to write [%(default)s]")
    demo.add_argument("--steps", type=_positive, default=75, help="number of training steps [%(default)s]")
    demo.add_argument(
        "--seed", type=int, default=0, help="random seed for towers, split and training [%(default)s]"
    )

    fetch = command(
        _fetch,
        help="download the files that a snapshot of the FLUXNET shuttle lists",
        description="Download the files of a snapshot, which `fluxnet-shuttle listall` writes, to a folder "
        "that `xcarbon build` reads, and write their citations to RAW/CITATIONS.csv. Complete files are not "
        "downloaded again, so the same command continues an interrupted one. The exit status is 1 if a file "
        "was not downloaded.",
    )
    fetch.add_argument("snapshot", type=Path, help="CSV table of sites and download links")
    fetch.add_argument("raw", type=Path, help="folder to write")
    fetch.add_argument(
        "--sites",
        metavar="SITES",
        help="identifiers of the sites to download, for example DE-Tha,DE-Hai [all sites]",
    )
    fetch.add_argument(
        "--jobs", type=_positive, default=2, help="number of files to download at the same time [%(default)s]"
    )

    build = command(
        _build,
        help="build a store from raw files of towers and satellites",
        description="Read, harmonise and fuse the files that the networks distribute, cut satellite patches "
        "around the towers, and write one Zarr store. If the command was interrupted, the same command "
        "continues. If input files have changed, it builds only the towers concerned.",
    )
    build.add_argument(
        "raw", type=Path, help="folder with releases, tables of towers, MODIS files and satellite series"
    )
    build.add_argument("store", type=Path, help="Zarr store to write or to update")
    build.add_argument(
        "--metadata", type=Path, help="table with coordinates of the towers, in addition to the tables in RAW"
    )
    build.add_argument(
        "--uncertainty", action="store_true", help="also write the random uncertainty and percentiles of NEE"
    )
    build.add_argument("--strict", action="store_true", help="stop at the first file that cannot be read")

    check = command(
        _check,
        help="check the quality of a store",
        description="Report violations of the CF conventions, the coverage of each variable, and the results "
        "of the quality checks, for example clocks that disagree with the sun, and find files of the store "
        "that are damaged or lost. The exit status is 1 if a finding is an error.",
    )
    check.add_argument("store", type=Path, help="Zarr store of towers")

    train = command(
        _train,
        help="train a model on the towers of a store",
        description="Split the towers by IGBP class into training, validation and test towers, and train a "
        "model; networks keep the weights with the best validation score. The model is written to RUN/model. "
        "If the command was interrupted, the same command continues.",
    )
    train.add_argument("store", help="Zarr store or NetCDF file of towers")
    train.add_argument("run_folder", metavar="run", type=Path, help="folder of the run")
    train.add_argument(
        "--model",
        choices=registry.trainable(),
        default="ecoperceiver",
        help="kind of model to train [%(default)s]",
    )
    train.add_argument("--target", default="NEE", help="variable to predict [%(default)s]")
    train.add_argument("--seed", type=int, default=0, help="random seed for split and training [%(default)s]")
    train.add_argument(
        "--steps", type=_positive, help="number of training steps of a network [as in the paper]"
    )

    predict = command(
        _predict,
        help="predict a flux at towers or on a grid",
        description="Predict a flux for every hour and write it region by region. If the command was "
        "interrupted, the same command continues.",
    )
    predict.add_argument("model", help="folder of a trained model, or a name that `xcarbon models` lists")
    predict.add_argument("data", nargs="+", help="towers or a grid: a Zarr store, NetCDF files or ERA5 files")
    predict.add_argument("out", type=Path, help="file to write, ending in .zarr or .nc")
    predict.add_argument(
        "--spread", action="store_true", help="also write the standard deviation of the error of each hour"
    )

    models = command(
        _models,
        help="list the trained models of the package",
        description="List the trained models that are part of the package, or describe one of them, with its "
        "training data, scores and limits.",
    )
    models.add_argument("name", nargs="?", help="name of the model to describe")

    score = command(
        _score,
        help="compare a prediction with the observations of towers",
        description="Compute Nash-Sutcliffe efficiency, RMSE and bias at the towers that the model was not "
        "trained on.",
    )
    score.add_argument("prediction", help="store or file written by `xcarbon predict`")
    score.add_argument("store", help="Zarr store or NetCDF file with the observed towers")
    score.add_argument("--by", default="igbp", help="coordinate to group towers by [%(default)s]")

    experiment = command(
        _experiment,
        help="compare models on the same towers and hours",
        description="Train, predict and score all models of an experiment, and write results and a report. "
        "Complete steps are not repeated, so the same command continues an interrupted experiment. A "
        "protocol, named with --store and --out, is first written to OUT/experiment.toml.",
    )
    experiment.add_argument(
        "experiment", nargs="?", metavar="CONFIG", help="TOML file, or the name of a protocol"
    )
    experiment.add_argument("--list", action="store_true", help="list the protocols and their questions")
    experiment.add_argument("--store", help="store of towers, for a protocol")
    experiment.add_argument("--out", type=Path, help="folder to write, for a protocol")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, found {value}")
    return value


def _fetch(arguments: argparse.Namespace) -> int:
    sites = None
    if arguments.sites is not None:
        sites = [site.strip() for site in arguments.sites.split(",") if site.strip()]
    report = xcarbon.fetch(arguments.snapshot, arguments.raw, sites, jobs=arguments.jobs)
    print(report)
    return int(bool(report.failed))


def _build(arguments: argparse.Namespace) -> int:
    report = xcarbon.build(
        arguments.raw,
        arguments.store,
        metadata=arguments.metadata,
        uncertainty=arguments.uncertainty,
        strict=arguments.strict,
    )
    print(report)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    report = xcarbon.check(xcarbon.open_store(arguments.store))
    print(report)
    return int(report.has_errors)


def _train(arguments: argparse.Namespace) -> int:
    run: Path = arguments.run_folder
    train, val, _ = open_data(arguments.store).carbon.split(seed=arguments.seed)
    train.carbon.fit(
        arguments.model,
        val=val,
        target=arguments.target,
        seed=arguments.seed,
        run_dir=run,
        resume=(run / "run.json").exists(),
        **({} if arguments.steps is None else {"max_steps": arguments.steps}),
    )
    print(f"wrote {run}/model, trained on {_count(train)}, scored on {_count(val)}")
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    from xcarbon.prediction.predictable import describe

    model = xcarbon.load(arguments.model)
    ds = open_data(arguments.data)
    ds.carbon.predict_to(model.targets[0], model, arguments.out, spread=arguments.spread)
    if "site" in ds.dims and (missing := describe(ds.carbon.predictable(model))):
        print(missing, file=sys.stderr)
    print(f"wrote {arguments.out}")
    return 0


def _models(arguments: argparse.Namespace) -> int:
    from xcarbon.models import pretrained

    if arguments.name is not None:
        print(pretrained.card(arguments.name))
        return 0
    for name in pretrained.names():
        model = pretrained.load(name)
        print(f"{name:18} {', '.join(model.targets)} from {', '.join(model.config.variables)}")
        print(f"{'':18} {model.predictor.name}, trained on {len(model.sites)} towers")
    return 0


def _score(arguments: argparse.Namespace) -> int:
    prediction, towers = open_data(arguments.prediction), open_data(arguments.store)
    targets = [str(name) for name in prediction.data_vars if name in TARGETS]
    if len(targets) != 1 or "site" not in prediction.dims:
        found = f"{targets} on {tuple(prediction.dims)}"
        raise VariableError(f"{arguments.prediction} must contain one flux at towers, found {found}")
    flux = prediction[targets[0]]
    known = flux.coords.get(IN_TRAINING, xr.zeros_like(flux["site"], bool))
    with progress_bar("scoring"):
        scores, overall = dask.compute(
            *(towers.carbon.score(flux, by, training_towers="drop") for by in (arguments.by, None))
        )
    flux = flux.isel(site=np.flatnonzero(~known))
    print(f"{targets[0]} at {_count(flux)} that the model was not trained on, {int(known.sum())} left out")
    print(_table(scores, overall))
    return 0


def _experiment(arguments: argparse.Namespace) -> int:
    from xcarbon.experiments import PROTOCOLS, read_experiment, run, write_protocol

    if arguments.list:
        for name, protocol in PROTOCOLS.items():
            print(f"{name:15} {protocol.question}")
        return 0
    path = arguments.experiment
    if path is None:
        raise OptionError("name a TOML file or a protocol; --list lists the protocols")
    if path in PROTOCOLS:
        if arguments.store is None or arguments.out is None:
            raise OptionError(f"the protocol {path} needs --store and --out")
        path = write_protocol(path, arguments.store, arguments.out)
    elif arguments.store is not None or arguments.out is not None:
        raise OptionError(f"--store and --out are for protocols; {path} sets its own store and folder")
    experiment = read_experiment(path)
    results = run(experiment)
    scores = results[["nse", "rmse", "bias", "n"]].where(results["n"] > 0).mean("seed")
    table = scores.to_dataframe().astype({"n": int})
    print(table.to_string(float_format="{:.3f}".format))
    print(f"wrote {experiment.out}/results.nc, report.md and report.html")
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    """Train, predict, score and plot."""
    start = time.monotonic()
    out: Path = arguments.out
    require("figures of the demo", "plot", "matplotlib")
    from matplotlib.figure import Figure

    if (out / "run" / "run.json").exists():  # from an earlier demo
        shutil.rmtree(out / "run")
    if arguments.data is None:
        from xcarbon.testing import synthetic_towers

        towers = synthetic_towers(12, seed=arguments.seed).persist()
        _announce(
            1, f"{towers.sizes['site']} SYNTHETIC towers with satellite patches: simulated, not measured"
        )
    else:
        towers = xcarbon.open_store(arguments.data)
        _announce(1, f"{towers.sizes['site']} towers of {arguments.data}, opened lazily")

    train, val, test = towers.carbon.split(seed=arguments.seed)
    _announce(2, f"training EcoPerceiver on {_count(train)}, with {_count(val)} for validation")
    model = train.carbon.fit(
        val=val,
        max_steps=arguments.steps,
        eval_every=max(1, arguments.steps // 3),
        seed=arguments.seed,
        run_dir=out / "run",
        **DEMO_TRAINING,
    )

    test = _busiest_weeks(test)
    first, last = (str(stamp)[:10] for stamp in test["time"].values[[0, -1]])
    _announce(3, f"predicting NEE at {_count(test)} that the model was not trained on, {first} to {last}")
    nee = test.carbon.predict_nee(model)
    with progress_bar("predicting"):
        nee = nee.compute()
    title = f"NEE predicted from: {towers.attrs.get('title', 'unnamed towers')}"
    with replacing(out / "nee.nc") as path:
        write_file(conventions.apply(nee.to_dataset(), title=title), path, {})

    _announce(4, f"scoring against the {'observations' if arguments.data else 'simulated fluxes'}")
    scores = test.carbon.score(nee).compute()
    overall = test.carbon.score(nee, by=None).compute()
    print(_table(scores, overall))

    _announce(5, "plotting the week with most observations")
    hours = test.carbon.score(nee, by="site")["n"].compute()
    figure = Figure(figsize=(7.2, 2.8), layout="constrained")
    test.carbon.plot.series(nee, site=str(hours.idxmax("site").values), ax=figure.subplots())
    figure.savefig(out / "nee.png", dpi=150, bbox_inches="tight")
    print(f"\nwrote {out}/nee.nc, {out}/nee.png and {out}/run/model in {time.monotonic() - start:.0f} s")
    if arguments.data is None:
        print("The towers are synthetic: the scores show that the steps work, not how good the model is.")
    return 0


def _busiest_weeks(towers: xr.Dataset) -> xr.Dataset:
    """Select four weeks of the month with the largest absolute flux, and the towers with data in them."""
    exchange = abs(towers["NEE"]).sum("site").resample(time="MS").sum().compute()
    month = exchange["time"].values[exchange.argmax("time")]
    weeks = towers.sel(time=slice(month, month + np.timedelta64(24 * DEMO_DAYS - 1, "h")))
    measured = weeks["NEE"].notnull().any("time").compute()
    return weeks.isel(site=np.flatnonzero(measured))


def _table(scores: xr.Dataset, overall: xr.Dataset) -> str:
    """Format the scores by class and over all hours."""
    frame = scores.to_dataframe()[["nse", "rmse", "bias", "n"]]
    frame.loc["all"] = [float(overall[name]) for name in frame.columns]
    return frame.astype({"n": int}).to_string(float_format="{:.3f}".format)


def _count(towers: xr.Dataset | xr.DataArray) -> str:
    number = towers.sizes["site"]
    return f"{number} tower{'s' if number != 1 else ''}"


def _announce(step: int, what: str) -> None:
    print(f"\n[{step}/5] {what}", flush=True)
