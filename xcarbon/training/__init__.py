"""Train a model on the towers of a Dataset, interrupted and resumed at will."""

from __future__ import annotations

import datetime as dt
import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from xcarbon.core.errors import ModelError
from xcarbon.core.variables import PAPER_INPUTS, PATCH_BANDS, present
from xcarbon.prep.quality import MAX_QC
from xcarbon.prep.split import check_leakage
from xcarbon.training.schedule import TrainingConfig
from xcarbon.training.task import Task

if TYPE_CHECKING:
    from xcarbon.models.bundle import CarbonModel

__all__ = ["TrainingConfig", "fit"]

#: How each kind of model is trained; imported when it is, since torch and xgboost take long to import.
MODELS = {
    "ecoperceiver": "xcarbon.training.ecoperceiver",
    "pretrained": "xcarbon.training.finetuning",
    "streaming": "xcarbon.training.streaming",
    "xgboost": "xcarbon.training.boosting",
}


def fit(
    ds: xr.Dataset,
    model: str = "ecoperceiver",
    *,
    val: xr.Dataset | None = None,
    target: str | Sequence[str] = "NEE",
    variables: Sequence[str] | None = None,
    bands: Sequence[str] | None = None,
    max_qc: int = MAX_QC,
    seed: int = 0,
    run_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    allow_leakage: bool = False,
    min_distance: float = 1.0,
    **settings: Any,
) -> CarbonModel:
    """Train a model on the towers of a Dataset.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers to train on, ``(site, time)``; what is to be learnt of them is loaded into memory, that of each
        process or worker its share.
    model : {"ecoperceiver", "streaming", "xgboost", "pretrained"}
        Which model. ``"pretrained"`` goes on, on these towers, with a streaming EcoPerceiver that has been
        trained on others. EcoPerceiver is trained on one process or on all that ``torchrun`` started, the
        streaming EcoPerceiver on one process, XGBoost on one process or on a Dask cluster.
    val : xarray.Dataset, optional
        Towers to score by. A network's weights are those with the best score; without ``val`` they are the
        last ones. XGBoost's trees are scored, and not chosen unless ``early_stopping_rounds`` is set.
    target : str or sequence of str
        Code of the variable to predict; the streaming EcoPerceiver learns several at once.
    variables : sequence of str, optional
        Hourly predictors; by default those of the paper's 21 that ``ds`` has.
    bands : sequence of str, optional
        Patch bands; by default all nine if ``ds`` has patches.
    max_qc : int
        Highest quality code that counts.
    seed : int
        Of all that is random.
    run_dir : path-like, optional
        Folder for the model, and for what it takes to resume; by default a new one under ``xcarbon-runs``.
    resume : bool
        Continue the run in ``run_dir`` where it was stopped. On one CPU process the model is that of a run
        that was never interrupted.
    allow_leakage : bool
        Train although ``ds`` and ``val`` share towers or stand nearer than ``min_distance`` [km].
    min_distance : float
        Least distance [km] between training and validation towers.
    **settings
        Of EcoPerceiver: those of :class:`TrainingConfig`, as ``max_epochs``, ``max_steps``, ``batch_size``,
        and ``network``, a dict of settings of :class:`~xcarbon.models.ecoperceiver.EcoPerceiverConfig`.
        Of the streaming EcoPerceiver: those of :class:`~xcarbon.training.streaming.StreamingTraining`, and
        ``network``, of :class:`~xcarbon.models.streaming.StreamingConfig`.
        Of a pretrained model: those of :class:`~xcarbon.training.finetuning.FineTuning`, and ``start``, the
        model, if it is not the one that comes with the package. ``variables`` and ``bands`` are the model's.
        Of XGBoost: those of :class:`~xcarbon.training.boosting_config.BoostingConfig`, as ``max_depth`` or
        ``tune=True``, and ``scheduler``, the address of a Dask cluster whose workers see the same files;
        by default the cluster that is connected, if any.

    Returns
    -------
    CarbonModel
        With its scaler and provenance.

    Raises
    ------
    LeakageError
        If a validation tower is also a training tower, or too near to one.
    ModelError
        If a setting is unknown or not allowed, there is nothing to learn from, or ``run_dir`` holds
        another run.
    KeyboardInterrupt
        On Ctrl-C, after the step in progress is done; what is needed to resume is in ``run_dir``.

    Examples
    --------
    >>> import tempfile, xcarbon
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(2, patches=False)
    >>> with tempfile.TemporaryDirectory() as folder, xcarbon.set_options(progress=False):
    ...     trees = fit(towers, "xgboost", n_estimators=3, run_dir=f"{folder}/trees")
    ...     network = fit(
    ...         towers,
    ...         variables=["DOY", "TOD", "TA"],
    ...         run_dir=f"{folder}/network",
    ...         max_steps=1,
    ...         batch_size=8,
    ...         network={"width": 16, "cross_blocks": 1},
    ...     )
    >>> trees.sites == network.sites == tuple(towers["site"].values)
    True
    """
    if model not in MODELS:
        raise ModelError(f"there is no model {model!r}; the models are {list(MODELS)}")
    if val is not None and not allow_leakage:
        check_leakage(ds, val, min_distance)
    if bands is None:
        bands = PATCH_BANDS if "reflectance" in ds else ()
    targets = (target,) if isinstance(target, str) else tuple(target)
    task = Task(
        train=ds,
        val=val,
        targets=targets,
        variables=tuple(variables) if variables is not None else present(PAPER_INPUTS, ds),
        bands=tuple(bands),
        max_qc=max_qc,
        min_distance=min_distance,
        seed=seed,
        run_dir=_run_dir(run_dir, model, targets[0]),
        resume=resume,
    )
    trained: CarbonModel = importlib.import_module(MODELS[model]).fit(task, **settings)
    return trained


def _run_dir(run_dir: str | os.PathLike[str] | None, model: str, target: str) -> Path:
    if run_dir is not None:
        return Path(run_dir)
    return Path("xcarbon-runs") / f"{model}-{target}-{dt.datetime.now():%Y%m%d-%H%M%S}"
