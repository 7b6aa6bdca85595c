"""Training of models on the towers of a Dataset, with checkpoints and resuming.

``fit`` in this module prepares the training of every kind of model. ``run`` is the training loop of
networks, and ``boosting`` trains trees. This folder may import ``evaluation`` and the folders below it.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from xcarbon.core.errors import ModelError
from xcarbon.core.spelling import did_you_mean
from xcarbon.core.validation import OPENERS, check_dataset
from xcarbon.core.variables import PAPER_INPUTS, PATCH_BANDS, present
from xcarbon.models.registry import KINDS, resolve, trainable
from xcarbon.prep.quality import MAX_QC
from xcarbon.prep.split import check_leakage
from xcarbon.training.schedule import TrainingConfig
from xcarbon.training.task import Task

if TYPE_CHECKING:
    from xcarbon.models.bundle import CarbonModel

__all__ = ["TrainingConfig", "fit"]


def fit(
    ds: xr.Dataset,
    model: str = "ecoperceiver",
    *,
    val: xr.Dataset | None = None,
    target: str | Sequence[str] = "NEE",
    variables: Sequence[str] | None = None,
    bands: Sequence[str] | None = None,
    state: Sequence[str] | None = None,
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
        Training towers, ``(site, time)``. The training data is held in memory or, if it does not fit there,
        in ``run_dir``; with several processes or workers, each holds its share.
    model : {"ecoperceiver", "streaming", "hourly", "xgboost", "pretrained"} or str
        Kind of model: one of these, or one that was added with :func:`xcarbon.models.registry.register`.
        ``"pretrained"`` fine-tunes trained networks on these towers. Networks are trained in one process or
        in all processes that ``torchrun`` started, and XGBoost in one process or on the Dask cluster whose
        client is connected.
    val : xarray.Dataset, optional
        Validation towers. A network keeps the weights with the best validation score; without ``val`` it
        keeps the last ones. For XGBoost the score is only reported, unless ``early_stopping_rounds`` is set.
    target : str or sequence of str
        Code of the variable to predict. All kinds but EcoPerceiver can predict several variables.
    variables : sequence of str, optional
        Hourly predictors; by default those of the paper's 21 that ``ds`` has.
    bands : sequence of str, optional
        Patch bands; by default all nine if ``ds`` has patches.
    state : sequence of str, optional
        State features: causal means of the past of hourly variables, named as in ``TA_30D``
        (:func:`xcarbon.core.variables.memory_features`), and satellite series, such as ``LAI``. By default
        the streaming EcoPerceiver, the hourly network and trees with ``features="state"`` use all that ``ds``
        has, and EcoPerceiver none, as in the paper.
    max_qc : int
        Highest quality flag of the hours that are used.
    seed : int
        Random seed for initialisation, sampling and dropout.
    run_dir : path-like, optional
        Folder for the model and the checkpoints; by default a new folder under ``xcarbon-runs``.
    resume : bool
        Continue the run in ``run_dir`` from its last checkpoint. On one CPU process, the result is identical
        to that of an uninterrupted run.
    allow_leakage : bool
        Train even if ``ds`` and ``val`` share towers or have towers less than ``min_distance`` [km] apart.
    min_distance : float
        Smallest allowed distance [km] between training and validation towers.
    **settings
        Settings of the kind of model. Those of the networks, with their defaults, are described in
        :class:`TrainingConfig`, :class:`~xcarbon.training.streaming.StreamingTraining` and
        :class:`~xcarbon.training.finetuning.FineTuning`:

        ====================  ============  =========  ======  ==========
        setting               ecoperceiver  streaming  hourly  pretrained
        ====================  ============  =========  ======  ==========
        ``max_epochs``        20            20         1       100
        ``max_steps``         None          None       None    300
        ``batch_size``        4096          96         4096    8
        ``micro_batch``       None          None       None    None
        ``learning_rate``     8e-05         0.002      0.002   0.001
        ``weight_decay``      0.05          0.05       0.05    0.05
        ``warmup_epochs``     1.0           1.0        0.05    5.0
        ``eval_every``        None          None       None    None
        ``val_windows``       20000         5000       200000  5000
        ``patience``          5             5          5       5
        ``loss``              'window'      -          -       -
        ``precision``         '32-true'     -          -       -
        ``clip``              None          1.0        1.0     1.0
        ``averaging``         0.0           0.99       0.99    0.95
        ``length``            -             48         1       512
        ``members``           -             1          1       1
        ``dropout``           -             -          -       0.05
        ``variable_dropout``  -             -          -       0.0
        ``static_dropout``    -             -          -       0.0
        ``group_dropout``     -             -          -       0.0
        ====================  ============  =========  ======  ==========

        All networks but ``"pretrained"`` also have ``network``, a dictionary of fields of
        :class:`~xcarbon.models.ecoperceiver.EcoPerceiverConfig`,
        :class:`~xcarbon.models.streaming.StreamingConfig` or
        :class:`~xcarbon.models.hourly.HourlyConfig`. ``"pretrained"`` has ``start``, the model to fine-tune,
        by default one that comes with the package; ``variables`` and ``bands`` are those of that model.

        Those of ``"xgboost"`` are described in :class:`~xcarbon.training.boosting_config.BoostingConfig`:
        ``features='paper'``, ``n_estimators=150``, ``max_depth=9``, ``learning_rate=0.1``,
        ``min_child_weight=9``, ``subsample=0.7``, ``colsample_bytree=0.7``, ``colsample_bylevel=0.8``,
        ``gamma=0.4``, ``reg_alpha=0.1``, ``reg_lambda=0``, ``early_stopping_rounds=None``, ``context=32``,
        ``tune=False``, ``points=50``, ``folds=5``, ``share=1.0``, ``dropout=0.0``.

    Returns
    -------
    CarbonModel
        The trained model with its scaler and provenance.

    Raises
    ------
    LeakageError
        If a validation tower is also a training tower, or is too near to one.
    ModelError
        If the kind of model or a setting is unknown, the value of a setting is not allowed, there are no
        hours to train on, or ``run_dir`` contains another run.
    KeyboardInterrupt
        On Ctrl-C, after the current step has been completed; ``run_dir`` then contains a checkpoint to
        resume from.
    XCarbonError
        If trees are trained on a cluster whose workers were killed repeatedly, or whose scheduler stopped.

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
    if model not in trainable():
        hint = did_you_mean(model, trainable())
        raise ModelError(f"there is no model {model!r}; the models are {trainable()}{hint}")
    for name, part in ({"ds": ds} | ({} if val is None else {"val": val})).items():
        check_dataset(part, name, OPENERS)
    if val is not None and not allow_leakage:
        check_leakage(ds, val, min_distance)
    if bands is None:
        bands = PATCH_BANDS if "reflectance" in ds else ()
    targets = (target,) if isinstance(target, str) else tuple(target)
    if run_dir is None:
        run_dir = f"xcarbon-runs/{model}-{targets[0]}-{dt.datetime.now():%Y%m%d-%H%M%S}"
    task = Task(
        train=ds,
        val=val,
        targets=targets,
        variables=tuple(variables) if variables is not None else present(PAPER_INPUTS, ds),
        bands=tuple(bands),
        state=None if state is None else tuple(state),
        max_qc=max_qc,
        min_distance=min_distance,
        seed=seed,
        run_dir=Path(run_dir),
        resume=resume,
    )
    trained: CarbonModel = resolve(KINDS[model].trainer)(task, **settings)
    return trained
