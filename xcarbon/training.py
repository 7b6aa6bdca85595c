"""Train a model on the towers of a Dataset: the paper's schedule, interrupted and resumed at will."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from lightning_fabric import Fabric

import xcarbon
from xcarbon.checkpoints import RunFolder
from xcarbon.distributed import Shard, join_processes
from xcarbon.errors import ModelError
from xcarbon.models.bundle import CarbonModel, Scaler
from xcarbon.models.ecoperceiver import EcoPerceiverConfig
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.quality import MAX_QC
from xcarbon.prep.split import check_leakage
from xcarbon.run import Run
from xcarbon.schedule import TrainingConfig
from xcarbon.variables import PAPER_INPUTS, PATCH_BANDS, VARIABLES, present


def fit(
    ds: xr.Dataset,
    model: str = "ecoperceiver",
    *,
    val: xr.Dataset | None = None,
    target: str = "NEE",
    variables: Sequence[str] | None = None,
    bands: Sequence[str] | None = None,
    max_qc: int = MAX_QC,
    run_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    allow_leakage: bool = False,
    min_distance: float = 1.0,
    network: dict[str, Any] | None = None,
    **settings: Any,
) -> CarbonModel:
    """Train a model on the towers of a Dataset, on one process or on all that ``torchrun`` started.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers to train on, ``(site, time)``; their windows are loaded into memory, those of each process its
        share.
    model : {"ecoperceiver"}
        Which model.
    val : xarray.Dataset, optional
        Towers to choose the best weights by; without them the last weights are returned.
    target : str
        Code of the variable to predict.
    variables : sequence of str, optional
        Hourly predictors; by default those of the paper's 21 that ``ds`` has.
    bands : sequence of str, optional
        Patch bands; by default all nine if ``ds`` has patches.
    max_qc : int
        Highest quality code that counts.
    run_dir : path-like, optional
        Folder for the best model, the last checkpoint and the learning curve; by default a new
        one under ``xcarbon-runs``.
    resume : bool
        Continue the run in ``run_dir`` where its last checkpoint left it, on any number of processes. On
        one CPU process the weights at the end are those of a run that was never interrupted.
    allow_leakage : bool
        Train although ``ds`` and ``val`` share towers or stand nearer than ``min_distance`` [km].
    min_distance : float
        Least distance [km] between training and validation towers.
    network : dict, optional
        Settings of :class:`~xcarbon.models.ecoperceiver.EcoPerceiverConfig` that differ from its defaults.
    **settings
        Settings of :class:`TrainingConfig`: ``max_epochs``, ``max_steps``, ``batch_size``, ``seed`` ...

    Returns
    -------
    CarbonModel
        The weights with the best validation score, with their scaler and provenance.

    Raises
    ------
    LeakageError
        If a validation tower is also a training tower, or too near to one.
    ModelError
        If a setting is unknown or not allowed, there is nothing to learn from, or ``run_dir`` holds
        another run.
    KeyboardInterrupt
        On Ctrl-C, after the step in progress is done and a checkpoint is written to ``run_dir``.

    Examples
    --------
    >>> import tempfile
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(2)
    >>> with tempfile.TemporaryDirectory() as run, xcarbon.set_options(progress=False):
    ...     model = fit(
    ...         towers,
    ...         variables=["DOY", "TOD", "TA"],
    ...         bands=(),
    ...         run_dir=run,
    ...         max_steps=1,
    ...         batch_size=8,
    ...         network={"width": 16, "cross_blocks": 1},
    ...     )
    >>> model.sites == tuple(towers["site"].values)
    True
    """
    if model != "ecoperceiver":
        raise ModelError(f"there is no model {model!r}; the models are ['ecoperceiver']")
    if val is not None and not allow_leakage:
        check_leakage(ds, val, min_distance)
    if bands is None:
        bands = PATCH_BANDS if "reflectance" in ds else ()
    inputs = tuple(variables) if variables is not None else present(PAPER_INPUTS, ds)
    config = _configure(EcoPerceiverConfig, variables=inputs, bands=tuple(bands), **(network or {}))
    training = _configure(TrainingConfig, **settings)
    fabric = join_processes(training.precision)
    towers = _load(fabric, ds, config, target, max_qc)
    val_towers = None if val is None else _load(fabric, val, config, target, max_qc)
    scaler = Scaler(*towers.moments(), max_qc, {code: _bounds(code) for code in inputs})
    folder = RunFolder(fabric.broadcast(_run_dir(run_dir, model, target)))
    run = Run(fabric, folder, config, training, target, scaler, _provenance(ds, val, training))
    run.start(resume)
    return run.train(towers, val_towers)


def _configure(cls: Callable[..., Any], **settings: Any) -> Any:
    """Build a settings class, with an error that lists what there is."""
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ModelError(f"unknown settings {unknown}; {getattr(cls, '__name__', cls)} takes {known}")
    return cls(**settings)


def _load(fabric: Fabric, ds: xr.Dataset, config: EcoPerceiverConfig, target: str, max_qc: int) -> Shard:
    """Windows of all towers, with a clear error where there are none."""
    if ds.sizes.get("site") == 0:
        raise ModelError("there are no towers in the training or in the validation set")
    inputs = model_inputs(ds, config.variables, config.bands, target=target, max_qc=max_qc)
    if config.bands and "patch" not in inputs:
        raise ModelError(f"the model has bands {list(config.bands)}, but the Dataset has no reflectance")
    towers = Shard(fabric, inputs, config.context)
    if not len(towers):
        raise ModelError(
            f"none of {inputs.sizes['site']} towers has an hour with {target} at quality <= {max_qc} and "
            f"{config.context} hours before it"
        )
    return towers


def _bounds(code: str) -> tuple[float, float]:
    bounds = VARIABLES[code].bounds
    if bounds is None:
        raise ModelError(f"{code} is a target and cannot be a predictor")
    return bounds.lower, bounds.upper


def _run_dir(run_dir: str | os.PathLike[str] | None, model: str, target: str) -> Path:
    if run_dir is not None:
        return Path(run_dir)
    return Path("xcarbon-runs") / f"{model}-{target}-{dt.datetime.now():%Y%m%d-%H%M%S}"


def _provenance(ds: xr.Dataset, val: xr.Dataset | None, training: TrainingConfig) -> dict[str, Any]:
    """What a reader of the model's predictions should be able to find out."""
    return {
        "created": dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "sites": _sites(ds),
        "val_sites": [] if val is None else _sites(val),
        "data": {
            name: ds.attrs[name] for name in ("title", "source", "license", "references") if name in ds.attrs
        },
        "citations": sorted({str(text) for text in np.atleast_1d(ds["citation"].values) if text})
        if "citation" in ds.coords
        else [],
        "training": dataclasses.asdict(training),
        "versions": {
            "xcarbon": xcarbon.__version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "xarray": xr.__version__,
            "python": platform.python_version(),
        },
    }


def _sites(ds: xr.Dataset) -> list[str]:
    return [str(site) for site in np.atleast_1d(ds["site"].values)] if "site" in ds.coords else []
