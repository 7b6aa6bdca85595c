"""Count the hours that a model cannot predict, and why, without predicting."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core.conventions import QC
from xcarbon.core.variables import TIME_FEATURES
from xcarbon.models.bundle import CarbonModel
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.labels import read_labels
from xcarbon.prep.limits import plausible
from xcarbon.prep.patches import patch_index

#: Reasons for which a predictor is not used in an hour.
REASONS = ("missing", "low_quality", "implausible")


def predictable(ds: xr.Dataset, model: CarbonModel, *, max_qc: int | None = None) -> xr.Dataset:
    """Count the hours that a model does not predict, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers or cells of a grid, as for :func:`xcarbon.prediction.predict.predict`.
    model : CarbonModel
        A trained model.
    max_qc : int, optional
        Highest quality flag of the predictors to use; by default that of the model.

    Returns
    -------
    xarray.Dataset
        On the dims of towers or cells: ``hours`` and ``not_predicted``, numbers of hours. Along ``variable``,
        too, the number of hours that are not predicted in which a predictor is ``missing``, has a flag above
        ``max_qc`` (``low_quality``), or is beyond its plausibility limits (``implausible``). An hour is not
        predicted if no predictor can be used in any hour of its window, or if the record before it is too
        short for the model. Hours that are predicted from a part of the predictors are not counted.

    Raises
    ------
    VariableError, MetadataError, TimestampError
        As :func:`xcarbon.prep.inputs.model_inputs` raises them.

    Examples
    --------
    >>> import xcarbon
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(1, patches=False, variables=["TA", "SW_IN"]).isel(time=slice(480)).load()
    >>> filled = towers.assign(TA_QC=towers["TA_QC"] * 0 + 2, SW_IN_QC=towers["SW_IN_QC"] * 0 + 2)
    >>> counts = predictable(filled, xcarbon.load("nee-fluxnet2015"))
    >>> int(counts["hours"].sum()), int(counts["not_predicted"].sum())
    (480, 480)
    """
    max_qc = model.scaler.max_qc if max_qc is None else max_qc
    ds, config = read_labels(ds), model.config
    inputs = model_inputs(ds, config.variables, config.bands, max_qc=max_qc)
    codes = [code for code in config.variables if code in ds and code not in TIME_FEATURES]
    hourly = inputs["hourly"].sel(variable=[code for code in config.variables if code not in TIME_FEATURES])
    observed = hourly.notnull().any("variable")
    if "patch" in inputs:
        observed = observed | _noons(inputs)
    predicted = xr.apply_ufunc(
        _is_predicted,
        observed.chunk(time=-1),
        kwargs={"context": config.context, "min_context": config.min_context},
        input_core_dims=[["time"]],
        output_core_dims=[["time"]],
        dask="parallelized",
        output_dtypes=[np.bool_],
    )
    lost = ~predicted
    counts: dict[str, list[xr.DataArray]] = {reason: [] for reason in REASONS}
    for code in codes:
        values, flags = ds[code], ds.get(f"{code}{QC}")
        low = values.notnull() & (flags > max_qc) if flags is not None else xr.zeros_like(values, bool)
        odd = values.notnull() & plausible(values, code).isnull() & ~low
        for reason, where in zip(REASONS, (values.isnull(), low, odd), strict=True):
            counts[reason].append((where.reset_coords(drop=True) & lost).sum("time"))
    variable = xr.Variable("variable", codes)
    result = xr.Dataset({name: xr.concat(of, variable) for name, of in counts.items()})
    hours = xr.full_like(lost.isel(time=0, drop=True), ds.sizes["time"], dtype=np.int64)
    return result.assign(hours=hours, not_predicted=lost.sum("time")).assign_attrs(max_qc=max_qc)


def _is_predicted(observed: NDArray[np.bool_], context: int, min_context: int) -> NDArray[np.bool_]:
    """Return the hours with an observation in their window and enough hours before, ``(..., hours)``."""
    before = np.cumsum(observed, axis=-1)
    earlier = np.zeros_like(before)
    earlier[..., context:] = before[..., :-context]
    predicted = before > earlier
    predicted[..., : min_context - 1] = False
    return predicted


def _noons(inputs: xr.Dataset) -> xr.DataArray:
    """Return the hours at which a patch enters, in the chunks of the patches."""
    usable = inputs["patch"].notnull().all(("band", "y", "x")).chunk(day=-1)
    local = inputs.get("local_time", inputs["time"]).variable
    stamps = xr.DataArray(local, dims=local.dims).chunk(time=-1)
    return xr.apply_ufunc(
        _enters,
        stamps,
        usable.reset_coords(drop=True),
        kwargs={"day": inputs["day"].values},
        input_core_dims=[["time"], ["day"]],
        output_core_dims=[["time"]],
        dask="parallelized",
        output_dtypes=[np.bool_],
        vectorize=True,
    )


def _enters(stamps: np.ndarray, usable: np.ndarray, day: np.ndarray) -> NDArray[np.bool_]:
    return patch_index(stamps, day, usable) >= 0


def describe(counts: xr.Dataset) -> str:
    """Return a sentence about the hours that are not predicted; empty if there are none.

    Parameters
    ----------
    counts : xarray.Dataset
        From :func:`predictable`, of one tower or of several.

    Returns
    -------
    str
        Numbers of hours, and the most frequent reasons.

    Examples
    --------
    >>> counts = xr.Dataset(
    ...     {"hours": 8760, "not_predicted": 7587}
    ...     | {reason: ("variable", [n]) for reason, n in zip(REASONS, (0, 7587, 0))},
    ...     {"variable": ["TA"]},
    ...     {"max_qc": 1},
    ... )
    >>> describe(counts)
    '7,587 of 8,760 hours are not predicted: TA_QC > 1 in 7,587'
    """
    counts = counts.sum([dim for dim in counts.dims if dim != "variable"], keep_attrs=True).compute()
    lost, hours = int(counts["not_predicted"]), int(counts["hours"])
    if not lost:
        return ""
    texts = {"missing": "{} missing in", "low_quality": "{}_QC > {} in", "implausible": "{} implausible in"}
    found = [
        (int(counts[reason].sel(variable=code)), texts[reason].format(code, counts.attrs["max_qc"]))
        for code in counts["variable"].values
        for reason in REASONS
    ]
    reasons = [f"{text} {number:,}" for number, text in sorted(found, key=lambda pair: -pair[0]) if number]
    why = ", ".join(reasons) or "the record before them is too short"
    return f"{lost:,} of {hours:,} hours are not predicted: {why}"
