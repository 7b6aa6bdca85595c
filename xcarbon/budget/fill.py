"""Gap filling: measured hours are kept, other hours are predicted by a model."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import xarray as xr

from xcarbon.budget.adapt import adapted, predict_steps
from xcarbon.budget.mds import TOLERANCES, mds
from xcarbon.core import conventions
from xcarbon.core.conventions import MISSING_FLAG, QC
from xcarbon.core.errors import ModelError, VariableError
from xcarbon.core.spelling import did_you_mean
from xcarbon.core.validation import check_units, check_variables, steps_per_day
from xcarbon.core.variables import FILLED, MDS, MODEL, SPREAD, TIME_FEATURES, QualityScheme, variable
from xcarbon.models import pretrained
from xcarbon.models.bundle import CarbonModel
from xcarbon.prep.hours import in_record
from xcarbon.prep.labels import read_labels
from xcarbon.prep.limits import plausible
from xcarbon.prep.quality import mask_quality

#: Quality flags of a filled series: those of marginal distribution sampling, and a higher one for models. It
#: is above all tolerances in use, so that no model is trained or scored on values from another model.
FILLED_QUALITY = QualityScheme("filled", (*MDS.flag_meanings, "filled_by_model"))
#: Suffix of the random uncertainty of measured hours.
RANDOM = "_RANDUNC"

#: Above all quality flags: predictors that were filled from similar hours or from reanalysis are used, too.
ANY_QC = 9


def gapfill(
    ds: xr.Dataset,
    target: str = "NEE",
    model: CarbonModel | str | os.PathLike[str] | None = None,
    *,
    max_qc: int = 0,
    driver_max_qc: int | None = ANY_QC,
    adapt: bool = True,
) -> xr.Dataset:
    """Fill the gaps of a flux.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers on ``(site, time)``, or a single one on ``(time,)``, with the target and the predictors.
    target : str
        Code of the flux.
    model : CarbonModel, path-like or str, optional
        A trained model, its folder, or the name of a model in the package; by default the pretrained model of
        the package. ``"mds"`` for marginal distribution sampling, see :func:`xcarbon.budget.mds.sample`.
    max_qc : int
        Highest quality flag of measured target values; values with a higher flag are replaced. Values without
        a flag (-1, NaN, or no variable ``<target>_QC``) are regarded as measured.
    driver_max_qc : int, optional
        Highest quality flag of the predictors that the model and the trees that adapt it use; None for the
        tolerance of the model. By default all predictors are used, because a gap of the flux is often one of
        the weather, too. Sampling (``"mds"``) is not affected.
    adapt : bool
        Whether to adapt the model to the measured hours of each tower. Boosted trees then predict the flux
        from the predictions of the model, the satellite series, and the drivers up to 15 days before and
        after the hour. They are trained when the result is computed, within seconds for each year of a tower.
        A tower with less than 500 measured hours keeps the predictions of the model, and a warning names it
        when the result is computed (processes of a cluster do not forward it). Half-hours are filled
        from their own drivers and from predictions of their clock hours; without ``adapt``, these
        predictions are divided into two halves with the same mean.

    Returns
    -------
    xarray.Dataset
        Variables on the dimensions of the target, with CF attributes, lazy if ``ds`` is. For the target
        ``NEE`` the variables are:

        - ``NEE``: measured values in measured hours, predictions in the others; NaN without a prediction, and
          before the first and after the last hour in which the tower has a measured flux or a predictor,
        - ``NEE_QC``: original quality flags of measured hours, 1 to 3 for marginal distribution sampling, 4
          for hours filled by a model,
        - ``NEE_FILLED``: 0 measured, 1 filled, -1 missing,
        - ``NEE_SE``: standard error of each hour; in measured hours ``NEE_RANDUNC`` if it is in ``ds``,
        - ``NEE_MODEL``, ``NEE_MODEL_SE``: predictions for all hours, including measured ones, and the
          standard deviation of their error. In measured hours, the prediction of an adapted model is from
          trees that were trained with an artificial gap there.

        ``NEE_SE`` and ``NEE_MODEL_SE`` are absent if the model predicts no standard deviation.

    Raises
    ------
    VariableError
        If the target is absent or is no flux, or predictors of the model are absent.
    MetadataError
        If the units of the target differ from those of the vocabulary.
    TimestampError
        If the time axis is neither hourly nor half-hourly.
    ModelError
        If the model does not predict the target.

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
    steps_per_day(ds["time"], str(ds.encoding.get("source", "the Dataset")))
    measured = mask_quality(ds, [target], max_qc)[target]
    if isinstance(model, str) and model.lower() == "mds":
        prediction, predictors = mds(ds, target, max_qc=max_qc), tuple(TOLERANCES)
    else:
        trained = pretrained.default(target) if model is None else _load(model)
        if adapt:
            prediction = adapted(ds, measured, trained, driver_max_qc)
        else:
            prediction = predict_steps(ds, target, trained, driver_max_qc)
        predictors = trained.config.variables
    record = _record(ds, measured, predictors)
    return _fill(ds, measured, prediction.where(record.transpose(*measured.dims)))


def _record(ds: xr.Dataset, measured: xr.DataArray, predictors: tuple[str, ...]) -> xr.DataArray:
    """Return lazily the hours from the first to the last with a measured flux or a predictor."""
    there = measured.reset_coords(drop=True).notnull()
    for code in predictors:
        if code in ds and "time" in ds[code].dims and code not in TIME_FEATURES:
            there = there | plausible(ds[code].reset_coords(drop=True), code).notnull()
    return in_record(there)


def _load(model: CarbonModel | str | os.PathLike[str]) -> CarbonModel:
    """Load a model; the error also suggests marginal distribution sampling, which is no model."""
    try:
        return pretrained.load(model)
    except ModelError as error:
        if hint := did_you_mean(str(model), ["mds"]):
            raise ModelError(f"{error}{hint}") from None
        raise


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
    return conventions.apply(filled, history=f"gaps of {target} filled by {provenance['source']}")


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
    model = {**flux, **provenance, "long_name": f"predicted {name}"}
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
