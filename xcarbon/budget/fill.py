"""Measured hours as they are, and the others from a model."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from xcarbon.budget.mds import mds
from xcarbon.core import conventions
from xcarbon.core.conventions import MISSING_FLAG, QC
from xcarbon.core.errors import ModelError, OptionError, VariableError
from xcarbon.core.options import OPTIONS
from xcarbon.core.validation import check_hourly, check_units, check_variables
from xcarbon.core.variables import MDS, SPREAD, QualityScheme, variable
from xcarbon.models import pretrained
from xcarbon.models.bundle import CarbonModel
from xcarbon.prediction.predict import predict
from xcarbon.prep.limits import plausible
from xcarbon.prep.quality import mask_quality
from xcarbon.training import fit
from xcarbon.training.checkpoints import RunFolder

#: Quality codes of a filled series: those of marginal distribution sampling, and beyond every tolerance in
#: use that of a model, so that no model is trained or scored on what another one has filled in.
FILLED_QUALITY = QualityScheme("filled", (*MDS.flag_meanings, "filled_by_model"))
BY_MODEL = len(FILLED_QUALITY.flag_meanings) - 1
#: What the names of the other variables of a filled series end in.
FILLED, MODEL, RANDOM = "_FILLED", "_MODEL", "_RANDUNC"
#: Where predictions come from that are of more than one model.
MODELS = "models fine-tuned on the measured hours of each tower"


def gapfill(
    ds: xr.Dataset,
    target: str = "NEE",
    model: CarbonModel | str | os.PathLike[str] | None = None,
    *,
    max_qc: int = 0,
    run_dir: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> xr.Dataset:
    """Fill the gaps of a flux.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers on ``(site, time)``, or one on ``(time,)``, with the target and predictors.
    target : str
        Code of the flux.
    model : CarbonModel, path-like or str, optional
        A trained model, its folder, or the name of one that comes with the package, for all towers; or
        ``"mds"`` for marginal distribution sampling, see :func:`xcarbon.budget.mds.sample`. By default
        the model of the package is fine-tuned on the measured hours of each tower.
    max_qc : int
        Highest quality code of the target that counts as measured; what is worse is filled anew. A value
        without a code (-1, NaN, or no ``<target>_QC`` at all) is a measured one. The tolerance of predictors
        is that of the model.
    run_dir : path-like, optional
        Folder for the fine-tuned models, one in it for each tower; by default a new one under
        ``xcarbon-runs``. Given the same folder again, a run that was stopped goes on, and one that was
        finished is not repeated.
    **settings
        Of the fine-tuning, as ``seed``, ``max_steps`` or ``start``: see :func:`xcarbon.training.fit`.

    Returns
    -------
    xarray.Dataset
        On the dims of the target, with CF attributes; nothing but the fine-tuning is computed before it is
        asked for, if ``ds`` is lazy:

        - ``NEE``: measured hours unchanged, the others predicted; NaN where there is no prediction either,
        - ``NEE_QC``: codes of measured hours, 1 to 3 of sampled ones, 4 of those that a model filled,
        - ``NEE_FILLED``: 0 measured, 1 filled, -1 missing,
        - ``NEE_SE``: standard error of an hour, ``NEE_RANDUNC`` of measured ones where ``ds`` has it,
        - ``NEE_MODEL``, ``NEE_MODEL_SE``: the prediction of all hours, measured ones included, and its
          standard deviation.

        A model that does not tell how uncertain it is leaves out ``NEE_SE`` and ``NEE_MODEL_SE``.

    Raises
    ------
    VariableError
        If the target is absent or no flux, or the model's predictors are absent.
    MetadataError
        If the target says that it has other units than the vocabulary.
    TimestampError
        If the time axis is not hourly.
    ModelError
        If a model cannot be trained, which names the tower, or does not predict the target.
    OptionError
        If there are settings for a model that is not trained here.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> tower = synthetic_towers(1, patches=False)
    >>> filled = gapfill(tower, model="mds")
    >>> filled["NEE_FILLED"].attrs["flag_meanings"]
    'missing measured filled'
    >>> int(filled["NEE"].isnull().sum())
    0
    """
    if not variable(target).is_target:
        raise VariableError(f"{target} is not a flux that models predict, and is not filled here")
    check_variables(ds, (target,), "filling gaps")
    check_units(ds, (target,))
    check_hourly(ds["time"], str(ds.encoding.get("source", "the Dataset")))
    if model is not None and (settings or run_dir is not None):
        given = sorted([*settings, *(["run_dir"] if run_dir is not None else [])])
        raise OptionError(f"{given} are for fine-tuning, but the model is given: leave out either of them")
    measured = mask_quality(ds, [target], max_qc)[target]
    if model is None:
        prediction = _fine_tuned(ds, measured, _run_dir(run_dir, target), settings)
    elif isinstance(model, str) and model == "mds":
        prediction = mds(ds, target, max_qc=max_qc)
    else:
        prediction = _predicted(ds, target, model)
    return _fill(ds, measured, prediction)


def _run_dir(run_dir: str | os.PathLike[str] | None, target: str) -> Path:
    if run_dir is not None:
        return Path(run_dir)
    return Path("xcarbon-runs") / f"gapfill-{target}-{dt.datetime.now():%Y%m%d-%H%M%S}"


def _fine_tuned(
    ds: xr.Dataset, measured: xr.DataArray, run_dir: Path, settings: dict[str, Any]
) -> xr.Dataset:
    """Predict each tower with a model of its own."""
    target = str(measured.name)
    # Without its codes: the tolerance of the target is applied already, that of fit is left to predictors.
    known = ds.assign({target: measured}).drop_vars(f"{target}{QC}", errors="ignore")
    if "site" not in ds.dims:
        return _predicted(known, target, _tower_model(known, target, run_dir, settings))
    predictions = []
    for site in tqdm(range(ds.sizes["site"]), desc="towers", unit="tower", disable=not OPTIONS["progress"]):
        tower = known.isel(site=[site])
        model = _tower_model(tower, target, run_dir, settings)
        predictions.append(_predicted(tower, target, model).reset_coords(drop=True))
    return xr.concat(predictions, dim="site", join="exact", combine_attrs="drop_conflicts")


def _tower_model(tower: xr.Dataset, target: str, run_dir: Path, settings: dict[str, Any]) -> CarbonModel:
    """Fine-tune a model on one tower, or go on with that, or load what has been trained."""
    site = str(tower["site"].values.item()) if "site" in tower.coords else "tower"
    folder, training = RunFolder(run_dir / site), RunFolder(run_dir / site / "training")
    # A model that has learnt from other hours, such as those of an artificial gap, is not to be used.
    measured = hashlib.sha256(tower[target].values.tobytes()).hexdigest()
    asked = {"target": target, "measured": measured}
    try:
        folder.check(asked, resume=folder.exists)
        if not folder.exists:
            folder.begin(asked)
        if not folder.model.exists():
            model = fit(
                tower, "pretrained", target=target, run_dir=training.path, resume=training.exists, **settings
            )
            model.save(folder.model)
        return CarbonModel.load(folder.model)
    except ModelError as error:
        raise ModelError(f"{site}: {error}") from error


def _predicted(ds: xr.Dataset, target: str, model: CarbonModel | str | os.PathLike[str]) -> xr.Dataset:
    """Predict all hours, and how uncertain that is where the model knows."""
    model = pretrained.load(model)
    if model.has_spread:
        return predict(ds, target, model, spread=True)
    return predict(ds, target, model).to_dataset()


def _fill(ds: xr.Dataset, measured: xr.DataArray, prediction: xr.Dataset) -> xr.Dataset:
    """Take measured hours where there are any, and predicted ones elsewhere."""
    target = str(measured.name)
    bare = {str(name): array.reset_coords(drop=True) for name, array in prediction.data_vars.items()}
    observed, predicted = measured.reset_coords(drop=True), bare[target]
    known = observed.notnull()
    codes = bare.get(f"{target}{QC}", xr.full_like(predicted, BY_MODEL, dtype=np.int8))
    if f"{target}{QC}" in ds:
        original = ds[f"{target}{QC}"].reset_coords(drop=True)
        own = original.where(original > 0, 0)
    else:
        own = xr.zeros_like(observed)
    nothing = ~known & predicted.isnull()
    series = {
        target: observed.where(known, predicted),
        f"{target}{QC}": own.where(known, codes).where(~nothing, MISSING_FLAG).astype("int8"),
        f"{target}{FILLED}": (~known).astype("int8").where(~nothing, MISSING_FLAG),
        f"{target}{MODEL}": predicted,
    }
    if f"{target}{SPREAD}" in bare:
        random = ds.get(f"{target}{RANDOM}", xr.full_like(observed, np.nan)).reset_coords(drop=True)
        random = plausible(random, f"{target}{RANDOM}")
        spread = bare[f"{target}{SPREAD}"]
        series[f"{target}{SPREAD}"] = random.where(known, spread)
        series[f"{target}{MODEL}{SPREAD}"] = spread
    filled = xr.Dataset({name: array.transpose(*measured.dims) for name, array in series.items()})
    filled = filled.assign_coords(measured.coords).assign_attrs(ds.attrs)
    provenance = prediction[target].attrs
    _describe(filled, target, provenance)
    return conventions.apply(filled, history=f"gaps of {target} filled by {provenance.get('source', MODELS)}")


def _describe(filled: xr.Dataset, target: str, provenance: dict[str, Any]) -> None:
    """Set the CF attributes of a filled series in place."""
    flux = conventions.variable_attrs(target)
    name, error = flux["long_name"], dict(flux)
    if "standard_name" in flux:
        error["standard_name"] += " standard_error"
    origin = {
        "long_name": f"whether {name} is filled",
        "standard_name": "status_flag",
        "flag_values": np.array([MISSING_FLAG, 0, 1], "int8"),
        "flag_meanings": "missing measured filled",
    }
    of_hours = {
        "long_name": f"standard error of {name}",
        "comment": "measured hours: random uncertainty where it is known; filled ones: spread of the model",
    }
    of_model = {"long_name": f"standard deviation of the error of predicted {name}"}
    model = {"source": MODELS, **flux, **provenance, "long_name": f"predicted {name}"}
    attrs: dict[str, dict[str, Any]] = {
        "": flux | {"ancillary_variables": " ".join(target + ending for ending in (QC, FILLED, SPREAD))},
        QC: conventions.quality_attrs(target, FILLED_QUALITY),
        FILLED: origin,
        SPREAD: error | of_hours,
        MODEL: model | {"ancillary_variables": target + MODEL + SPREAD},
        MODEL + SPREAD: error | of_model,
    }
    for ending, found in attrs.items():
        if target + ending in filled:
            filled[target + ending].attrs = found
    if target + SPREAD not in filled:
        del filled[target + MODEL].attrs["ancillary_variables"]
