"""The command line: ``xcarbon demo`` carries the whole line from towers to a scored NetCDF file."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr

import xcarbon
from xcarbon._version import __version__
from xcarbon.core import conventions
from xcarbon.core.atomic import replacing
from xcarbon.core.errors import LeakageError, OptionError, VariableError, XCarbonError
from xcarbon.core.options import progress_bar
from xcarbon.core.variables import TARGETS
from xcarbon.io.formats import open_data
from xcarbon.models import registry

#: A small batch and a higher rate than the paper's: minutes instead of days.
DEMO_TRAINING = {
    "batch_size": 64,
    "micro_batch": 64,
    "learning_rate": 1e-3,
    "loss": "window",
    "val_windows": 512,
}
DEMO_STEPS = 75
#: Days to predict at each tower.
DEMO_DAYS = 28


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        Exit status: 0, 1 after an error that was reported or found, 130 after Ctrl-C.
    """
    arguments = _parser().parse_args(argv)
    try:
        with xcarbon.set_options(progress=not arguments.quiet):
            status: int = arguments.run(arguments)
    except (XCarbonError, FileNotFoundError) as error:
        print(f"xcarbon: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"xcarbon: {stop or 'interrupted'}", file=sys.stderr)
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xcarbon", description="Carbon fluxes of land ecosystems with xarray."
    )
    parser.add_argument("--version", action="version", version=f"xcarbon {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--quiet", action="store_true", help="no progress bars")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        parents=[common],
        help="train, predict and score on built-in synthetic towers, in about two minutes",
        description="Read towers, train EcoPerceiver on some of them, predict NEE at others, write it as CF "
        "NetCDF, score it by IGBP class, and draw it.",
    )
    demo.add_argument("--data", type=Path, help="a store of real towers, instead of the synthetic ones")
    demo.add_argument("--out", type=Path, default=Path("xcarbon-demo"), help="folder to write [%(default)s]")
    demo.add_argument("--steps", type=_positive, default=DEMO_STEPS, help="of training [%(default)s]")
    demo.add_argument("--seed", type=int, default=0, help="of split and training [%(default)s]")
    demo.set_defaults(run=_demo)

    build = commands.add_parser(
        "build",
        parents=[common],
        help="raw files of towers and satellites to a store, on one core or on a cluster",
        description="Read, harmonise and fuse what the networks distribute, cut satellite patches around the "
        "towers, and write one Zarr store. The same command goes on where it was stopped, and builds anew "
        "what has changed.",
    )
    build.add_argument("raw", type=Path, help="folder of releases, tables of towers and MODIS files")
    build.add_argument("store", type=Path, help="Zarr store to write or to bring up to date")
    build.add_argument("--metadata", type=Path, help="table of the towers' coordinates, beside those in RAW")
    build.add_argument("--uncertainty", action="store_true", help="keep the uncertainties of NEE, too")
    build.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster, as tcp://host:8786")
    build.add_argument("--strict", action="store_true", help="stop at the first bad file")
    build.set_defaults(run=_build)

    check = commands.add_parser(
        "check",
        parents=[common],
        help="what is wrong with a store, or worth knowing",
        description="Report CF findings, the coverage of each variable, and known traps such as clocks that "
        "disagree with the sun. The exit status is 1 if there is an error among the findings.",
    )
    check.add_argument("store", type=Path, help="Zarr store of towers")
    check.set_defaults(run=_check)

    train = commands.add_parser(
        "train",
        parents=[common],
        help="train a model on the towers of a store",
        description="Split towers by class, train on some, and score on others, by which EcoPerceiver's "
        "weights are chosen. The same command goes on where it was stopped. The model is written to "
        "RUN/model.",
    )
    train.add_argument("store", help="Zarr store or NetCDF file of towers")
    train.add_argument("run_folder", metavar="run", type=Path, help="folder of the run")
    train.add_argument("--model", choices=registry.trainable(), default="ecoperceiver", help="[%(default)s]")
    train.add_argument("--target", default="NEE", help="what to predict [%(default)s]")
    train.add_argument("--seed", type=int, default=0, help="of split and training [%(default)s]")
    train.add_argument("--steps", type=_positive, help="of a network, if the paper's are too many")
    train.set_defaults(run=_train)

    predict = commands.add_parser(
        "predict",
        parents=[common],
        help="predict a flux at towers or on a grid, on one core or on a cluster",
        description="Apply a model to every hour, region by region. The same command goes on where it was "
        "stopped.",
    )
    predict.add_argument("model", help="folder of a trained model, or a name that `xcarbon models` lists")
    predict.add_argument("data", nargs="+", help="towers or a grid: Zarr, NetCDF, ERA5 files")
    predict.add_argument("out", type=Path, help="what to write, ending in .zarr or .nc")
    predict.add_argument("--spread", action="store_true", help="write how uncertain each hour is, too")
    predict.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster, as tcp://host:8786")
    predict.set_defaults(run=_predict)

    models = commands.add_parser(
        "models",
        parents=[common],
        help="the models that come with the package",
        description="List the trained models that come with the package, or tell what is to be known of one: "
        "its data, scores and limits.",
    )
    models.add_argument("name", nargs="?", help="of a model")
    models.set_defaults(run=_models)

    score = commands.add_parser(
        "score",
        parents=[common],
        help="compare a prediction with what towers measured",
        description="Nash-Sutcliffe efficiency, RMSE and bias at towers that the model was not trained on.",
    )
    score.add_argument("prediction", help="what xcarbon predict wrote")
    score.add_argument("store", help="Zarr store or NetCDF file of towers")
    score.add_argument("--by", default="igbp", help="coordinate to group by [%(default)s]")
    score.set_defaults(run=_score)

    experiment = commands.add_parser(
        "experiment",
        parents=[common],
        help="compare models on the same towers and hours, and report",
        description="Train, predict and score what is missing of an experiment; write results and a report. "
        "The same command goes on where it was stopped. A protocol, named with --store and "
        "--out, is written to OUT/experiment.toml and run from there.",
    )
    experiment.add_argument(
        "experiment", nargs="?", metavar="CONFIG", help="TOML file, or the name of a protocol"
    )
    experiment.add_argument("--list", action="store_true", help="name the protocols, and what each asks")
    experiment.add_argument("--store", help="store of towers, for a protocol")
    experiment.add_argument("--out", type=Path, help="folder to write, for a protocol")
    experiment.set_defaults(run=_experiment)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, found {value}")
    return value


def _build(arguments: argparse.Namespace) -> int:
    report = xcarbon.build(
        arguments.raw,
        arguments.store,
        metadata=arguments.metadata,
        uncertainty=arguments.uncertainty,
        scheduler=arguments.scheduler,
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
    model = xcarbon.load(arguments.model)
    ds = open_data(arguments.data)
    ds.carbon.predict_to(
        model.targets[0], model, arguments.out, spread=arguments.spread, scheduler=arguments.scheduler
    )
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
        raise VariableError(f"{arguments.prediction} must hold one flux at towers, found {found}")
    flux = prediction[targets[0]]
    known = flux["site"].isin(str(flux.attrs.get("training_sites", "")).split())
    if known.all():
        raise LeakageError(f"the model of {arguments.prediction} was trained on all of its towers")
    flux = flux.isel(site=np.flatnonzero(~known))
    with progress_bar("scoring"):
        scores, overall = dask.compute(
            towers.carbon.score(flux, arguments.by), towers.carbon.score(flux, by=None)
        )
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
        raise OptionError("name a TOML file or a protocol; --list names the protocols")
    if path in PROTOCOLS:
        if arguments.store is None or arguments.out is None:
            raise OptionError(f"the protocol {path} needs --store and --out")
        path = write_protocol(path, arguments.store, arguments.out)
    elif arguments.store is not None or arguments.out is not None:
        raise OptionError(f"--store and --out are for protocols: {path} names its own")
    experiment = read_experiment(path)
    results = run(experiment)
    scores = results[["nse", "rmse", "bias", "n"]].where(results["n"] > 0).mean("seed")
    table = scores.to_dataframe().astype({"n": int})
    print(table.to_string(float_format="{:.3f}".format))
    print(f"wrote {experiment.out}/results.nc, report.md and report.html")
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    """The main job, end to end."""
    start = time.monotonic()
    out: Path = arguments.out
    pyplot = _pyplot()
    if arguments.data is None:
        from xcarbon.testing import synthetic_towers

        towers = synthetic_towers(12, seed=arguments.seed).persist()
        _say(1, f"{towers.sizes['site']} SYNTHETIC towers with satellite patches: simulated, not measured")
    else:
        towers = xcarbon.open_store(arguments.data)
        _say(1, f"{towers.sizes['site']} towers of {arguments.data}, nothing loaded yet")

    train, val, test = towers.carbon.split(seed=arguments.seed)
    _say(2, f"training EcoPerceiver on {_count(train)}, choosing the best weights on {_count(val)}")
    model = train.carbon.fit(
        val=val,
        max_steps=arguments.steps,
        eval_every=max(1, arguments.steps // 3),
        seed=arguments.seed,
        run_dir=_fresh(out / "run"),
        **DEMO_TRAINING,
    )

    test = _busiest_weeks(test)
    first, last = (str(stamp)[:10] for stamp in test["time"].values[[0, -1]])
    _say(3, f"predicting NEE at {_count(test)} that the model has never seen, {first} to {last}")
    nee = test.carbon.predict_nee(model)
    with progress_bar("predicting"):
        nee = nee.compute()
    title = f"NEE predicted from: {towers.attrs.get('title', 'unnamed towers')}"
    with replacing(out / "nee.nc") as path:
        conventions.apply(nee.to_dataset(), title=title).to_netcdf(path)

    _say(
        4, "scoring against what the towers measured" if arguments.data else "scoring against the simulation"
    )
    scores = test.carbon.score(nee).compute()
    overall = test.carbon.score(nee, by=None).compute()
    print(_table(scores, overall))

    _say(5, "drawing the week that was observed best")
    hours = test.carbon.score(nee, by="site")["n"].compute()
    axes = test.carbon.plot.series(nee, site=str(hours.idxmax("site").values))
    axes.figure.savefig(out / "nee.png", dpi=150, bbox_inches="tight")
    pyplot.close(axes.figure)
    print(f"\nwrote {out}/nee.nc, {out}/nee.png and {out}/run/model in {time.monotonic() - start:.0f} s")
    if arguments.data is None:
        print("The towers were synthetic: these scores say that the line works, not how good the model is.")
    return 0


def _busiest_weeks(towers: xr.Dataset) -> xr.Dataset:
    """The first weeks of the month with the most measured exchange, and the towers that measured in them."""
    exchange = abs(towers["NEE"]).sum("site").resample(time="MS").sum().compute()
    month = exchange["time"].values[exchange.argmax("time")]
    weeks = towers.sel(time=slice(month, month + np.timedelta64(24 * DEMO_DAYS - 1, "h")))
    measured = weeks["NEE"].notnull().any("time").compute()
    return weeks.isel(site=np.flatnonzero(measured))


def _table(scores: xr.Dataset, overall: xr.Dataset) -> str:
    """Scores per class and over all, as text."""
    frame = scores.to_dataframe()[["nse", "rmse", "bias", "n"]]
    frame.loc["all"] = [float(overall[name]) for name in frame.columns]
    return frame.astype({"n": int}).to_string(float_format="{:.3f}".format)


def _fresh(folder: Path) -> Path:
    """Remove what an earlier demo left in its own run folder."""
    if (folder / "run.json").exists():
        shutil.rmtree(folder)
    return folder


def _pyplot() -> Any:
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot
    except ImportError:
        raise XCarbonError("the demo ends with a figure: pip install 'xcarbon[plot]'") from None
    return matplotlib.pyplot


def _count(towers: xr.Dataset | xr.DataArray) -> str:
    number = towers.sizes["site"]
    return f"{number} tower{'s' if number != 1 else ''}"


def _say(step: int, what: str) -> None:
    print(f"\n[{step}/5] {what}", flush=True)
