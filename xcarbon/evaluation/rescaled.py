"""Scores of a prediction with its amplitude and mean corrected, which leaves the errors of timing."""

from __future__ import annotations

import xarray as xr

from xcarbon.evaluation.scores import moments, pool, pooled, varies
from xcarbon.prep.quality import MAX_QC

_NAMES = {
    "slope": "slope of observations on predictions",
    "intercept": "intercept of observations on predictions",
    "nse": "Nash-Sutcliffe efficiency",
    "nse_group": "Nash-Sutcliffe efficiency with one line for the group",
    "nse_tower": "Nash-Sutcliffe efficiency with a line for each tower",
}


def score_rescaled(
    ds: xr.Dataset, prediction: xr.DataArray, by: str | None = "igbp", *, max_qc: int = MAX_QC
) -> xr.Dataset:
    r"""Score a prediction before and after rescaling it with a fitted straight line.

    Parameters
    ----------
    ds, prediction, by, max_qc
        As for :func:`xcarbon.evaluation.scores.score`.

    Returns
    -------
    xarray.Dataset
        Scores along ``by``, lazy:

        - ``slope`` [1] and ``intercept``, in units of the target, of :math:`y = intercept + slope\, x`,
          fitted by least squares over the hours of the group. A slope above 1 means that the predicted fluxes
          vary too little,
        - ``nse`` [1]: efficiency of the prediction itself,
        - ``nse_group`` [1]: efficiency after rescaling with the line of the group, which is the squared
          correlation,
        - ``nse_tower`` [1]: efficiency after rescaling each tower with a line of its own.

        NaN where observations or predictions do not vary.

    Raises
    ------
    VariableError
        If the prediction has no name, or ``ds`` does not contain the observations.
    OptionError
        If ``by`` is not a coordinate on ``site``.

    Notes
    -----
    The lines are fitted to the same observations that they are scored with. The gain in efficiency therefore
    shows how large the errors of amplitude and mean are; it is not a score that the model could reach.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(3, patches=False)
    >>> flat = score_rescaled(towers, towers["NEE"] / 2, by=None)
    >>> float(flat["slope"].round(3)), float(flat["nse_group"].round(3))
    (2.0, 1.0)
    """
    towers = moments(ds, prediction, max_qc=max_qc)
    explained = (towers["sxy"] ** 2 / towers["ssp"].where(towers["ssp"] > 0)).fillna(0)
    group = pool(towers.assign(residual=towers["sst"] - explained), by)
    predicted_mean = group["mean"] + group["error"] / group["n"]
    is_line = varies(group["sst"], group["n"], group["mean"])
    is_line &= varies(group["ssp"], group["n"], predicted_mean)
    sst, slope = group["sst"].where(is_line), (group["sxy"] / group["ssp"]).where(is_line)
    scores = xr.Dataset(
        {
            "slope": slope,
            "intercept": group["mean"] - slope * predicted_mean,
            "nse": pooled(towers, by)["nse"].where(is_line),
            "nse_group": slope * group["sxy"] / sst,
            "nse_tower": 1 - group["residual"] / sst,
        }
    )
    for name, long_name in _NAMES.items():
        units = towers["mean"].attrs["units"] if name == "intercept" else "1"
        scores[name].attrs = {"long_name": long_name, "units": units}
    return scores
