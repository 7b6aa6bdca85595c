"""Gap filling: measured hours are kept, other hours are predicted by a model."""

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
from xcarbon.core.variables import FILLED, MDS, MODEL, SPREAD, QualityScheme, variable
from xcarbon.models import pretrained
from xcarbon.models.bundle import CarbonModel
from xcarbon.prediction.predict import predict
from xcarbon.prep.labels import read_labels
from xcarbon.prep.limits import plausible
from xcarbon.prep.quality import mask_quality
from xcarbon.training import fit
from xcarbon.training.checkpoints import RunFolder

#: Quality flags of a filled series: those of marginal distribution sampling, and a higher one for models. It
#: is above all tolerances in use, so that no model is trained or scored on values from another model.
FILLED_QUALITY = QualityScheme("filled", (*MDS.flag_meanings, "filled_by_model"))
#: Suffix of the random uncertainty of measured hours.
RANDOM = "_RANDUNC"
#: Source of predictions that are from more than one model.
MODELS = "models fine-tuned on the measured hours of each tower"


#: Above all quality flags: predictors that were filled from similar hours or from reanalysis are used, too.
ANY_QC = 9


def gapfill(
    ds: xr.Dataset,
    target: str = "NEE",
    model: CarbonModel | str | os.PathLike[str] | None = None,
    *,
    max_qc: int = 0,
    driver_max_qc: int | None = ANY_QC,
    run_dir: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> xr.Dataset:
    """Fill the gaps of a flux.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers on ``(site, time)``, or a single one on ``(time,)``, with the target and the predictors.
    target : str
        Code of the flux.
    model : CarbonModel, path-like or str, optional
        A trained model, its folder, or the name of a model in the package, which is used for all towers; or
        ``"mds"`` for marginal distribution sampling, see :func:`xcarbon.budget.mds.sample`. By default the
        pretrained model of the package is fine-tuned on the measured hours of each tower.
    max_qc : int
        Highest quality flag of measured target values; values with a higher flag are replaced. Values without
        a flag (-1, NaN, or no variable ``<target>_QC``) are regarded as measured. The tolerance for the
        predictors is that of the model.
    driver_max_qc : int, optional
        Highest quality flag of the predictors to use when gaps are predicted; None for the tolerance of the
        model. By default all predictors are used, because a gap of the flux is often one of the weather, too.
        Training and sampling (``"mds"``) are not affected.
    run_dir : path-like, optional
        Folder for the fine-tuned models, with one subfolder per tower; by default a new folder in
        ``xcarbon-runs``. With the same folder, an interrupted run is resumed and a finished one is not
        repeated.
    **settings
        Settings of the fine-tuning such as ``seed``, ``max_steps`` or ``start``, see
        :func:`xcarbon.training.fit`.

    Returns
    -------
    xarray.Dataset
        Variables on the dimensions of the target, with CF attributes. If ``ds`` is lazy, only the fine-tuning
        is computed immediately. For the target ``NEE`` the variables are:

        - ``NEE``: measured values in measured hours, predictions in the others; NaN without a prediction,
        - ``NEE_QC``: original quality flags of measured hours, 1 to 3 for marginal distribution sampling, 4
          for hours filled by a model,
        - ``NEE_FILLED``: 0 measured, 1 filled, -1 missing,
        - ``NEE_SE``: standard error of each hour; in measured hours ``NEE_RANDUNC`` if it is in ``ds``,
        - ``NEE_MODEL``, ``NEE_MODEL_SE``: predictions for all hours, including measured ones, and their
          standard deviation.

        ``NEE_SE`` and ``NEE_MODEL_SE`` are absent if the model predicts no standard deviation.

    Raises
    ------
    VariableError
        If the target is absent or is no flux, or predictors of the model are absent.
    MetadataError
        If the units of the target differ from those of the vocabulary.
    TimestampError
        If the time axis is not hourly.
    ModelError
        If a model cannot be trained (the message contains the tower), or does not predict the target.
    OptionError
        If settings of the fine-tuning are passed together with a model.

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
        raise VariableError(
            f"gaps of {target} cannot be filled: it is not one of the fluxes that models predict"
        )
    check_variables(ds, (target,), "filling gaps")
    ds = read_labels(ds)
    check_units(ds, (target,))
    check_hourly(ds["time"], str(ds.encoding.get("source", "the Dataset")))
    if model is not None and (settings or run_dir is not None):
        given = sorted([*settings, *(["run_dir"] if run_dir is not None else [])])
        raise OptionError(
            f"{given} are settings of the fine-tuning, which is not done for a given model: remove them or it"
        )
    measured = mask_quality(ds, [target], max_qc)[target]
    if model is None:
        new = f"xcarbon-runs/gapfill-{target}-{dt.datetime.now():%Y%m%d-%H%M%S}"
        prediction = _fine_tuned(ds, measured, Path(run_dir or new), settings, driver_max_qc)
    elif isinstance(model, str) and model == "mds":
        prediction = mds(ds, target, max_qc=max_qc)
    else:
        prediction = _predicted(ds, target, pretrained.load(model), driver_max_qc)
    return _fill(ds, measured, prediction)


def _fine_tuned(
    ds: xr.Dataset, measured: xr.DataArray, run_dir: Path, settings: dict[str, Any], max_qc: int | None
) -> xr.Dataset:
    """Predict each tower with a model that is fine-tuned on its measured hours."""
    target = str(measured.name)
    # The flags are dropped because the tolerance of the target is applied already; fit has one for
    # predictors.
    known = ds.assign({target: measured}).drop_vars(f"{target}{QC}", errors="ignore")
    if "site" not in ds.dims:
        return _predicted(known, target, _tower_model(known, target, run_dir, settings), max_qc)
    predictions = []
    for site in tqdm(range(ds.sizes["site"]), desc="towers", unit="tower", disable=not OPTIONS["progress"]):
        tower = known.isel(site=[site])
        model = _tower_model(tower, target, run_dir, settings)
        predictions.append(_predicted(tower, target, model, max_qc).reset_coords(drop=True))
    return xr.concat(predictions, dim="site", join="exact", combine_attrs="drop_conflicts")


def _tower_model(tower: xr.Dataset, target: str, run_dir: Path, settings: dict[str, Any]) -> CarbonModel:
    """Fine-tune a model on one tower, resume its training, or load it if it is complete."""
    site = str(tower["site"].values.item()) if "site" in tower.coords else "tower"
    folder, training = RunFolder(run_dir / site), RunFolder(run_dir / site / "training")
    # A model that was trained on other hours, for example without artificial gaps, must not be reused.
    measured = hashlib.sha256(tower[target].values.tobytes()).hexdigest()
    inputs = {"target": target, "measured": measured}
    try:
        folder.check(inputs, resume=folder.exists)
        if not folder.exists:
            folder.begin(inputs)
        if not folder.model.exists():
            model = fit(
                tower, "pretrained", target=target, run_dir=training.path, resume=training.exists, **settings
            )
            model.save(folder.model)
        return CarbonModel.load(folder.model)
    except ModelError as error:
        raise ModelError(f"{site}: {error}") from error


def _predicted(ds: xr.Dataset, target: str, model: CarbonModel, max_qc: int | None) -> xr.Dataset:
    """Predict all hours, with the spread if the model predicts it."""
    if model.has_spread:
        return predict(ds, target, model, spread=True, max_qc=max_qc)
    return predict(ds, target, model, max_qc=max_qc).to_dataset()


def _fill(ds: xr.Dataset, measured: xr.DataArray, prediction: xr.Dataset) -> xr.Dataset:
    """Combine measured values with predictions for the other hours."""
    target = str(measured.name)
    bare = {str(name): array.reset_coords(drop=True) for name, array in prediction.data_vars.items()}
    observed, predicted = measured.reset_coords(drop=True), bare[target]
    known = observed.notnull()
    flags = bare.get(f"{target}{QC}", xr.full_like(predicted, FILLED_QUALITY.flag_values[-1], dtype=np.int8))
    original = ds.get(f"{target}{QC}", xr.zeros_like(observed)).reset_coords(drop=True)
    own = original.where(original > 0, 0)
    nothing = ~known & predicted.isnull()
    series = {
        target: observed.where(known, predicted),
        f"{target}{QC}": own.where(known, flags).where(~nothing, MISSING_FLAG).astype("int8"),
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
        "comment": "measured hours: random uncertainty if available; filled hours: spread of the model",
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
