"""Notes that are printed before a prediction: absent inputs, hours without a prediction, a short memory."""

from __future__ import annotations

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from xcarbon.core import conventions
from xcarbon.core.options import OPTIONS
from xcarbon.core.variables import TIME_FEATURES, memory_code
from xcarbon.models.bundle import CarbonModel
from xcarbon.prediction.predictable import describe, predictable


def report_absent(ds: xr.Dataset, model: CarbonModel) -> None:
    """Print which predictors and site features of the model are not in the Dataset."""
    codes = [code for code in model.config.variables if code not in TIME_FEATURES and code not in ds]
    absent = codes + [name for name in model.config.statics if name not in ds.coords]
    if not OPTIONS["progress"] or not absent:
        return
    derived = {"RH": "VPD", "VPD": "RH"}
    advice = next(
        (
            f"; ds.carbon.standardize(derive=True) computes {code} from TA and {derived[code]}"
            for code in codes
            if code in derived and {"TA", derived[code]} <= set(ds.data_vars)
        ),
        "",
    )
    tqdm.write(f"the model is less accurate without {' and '.join(absent)}, which the Dataset lacks{advice}")


def report_missing(ds: xr.Dataset, model: CarbonModel, max_qc: int) -> None:
    """Print how many hours of towers in memory are not predicted, and why. Lazy Datasets are not computed."""
    in_memory = not any(ds[code].chunks for code in ds.data_vars)
    if not OPTIONS["progress"] or not in_memory or conventions.is_grid(ds):
        return
    if text := describe(predictable(ds, model, max_qc=max_qc)):
        tqdm.write(text)


def report_memory(ds: xr.Dataset, model: CarbonModel, history: xr.Dataset | None) -> None:
    """Print that the memory of the first hours is short, if less than a year precedes them."""
    if not OPTIONS["progress"] or not any(memory_code(feature) for feature in model.config.state):
        return
    earliest = ds if history is None else history
    if not ds.sizes["time"] or not earliest.sizes["time"]:
        return
    before = ds["time"].values[0] - earliest["time"].values[0]
    if before < np.timedelta64(365, "D"):
        days = int(before / np.timedelta64(1, "D"))
        tqdm.write(
            f"the model uses a year of weather before each hour, and {days} days precede the Dataset: if the "
            "record begins earlier, pass the part before it as history"
        )
