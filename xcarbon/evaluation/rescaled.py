"""What a prediction would score if its amplitude and mean were right: what is left are errors of timing."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xcarbon.evaluation.scores import check_group, pair
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
    r"""Score a prediction, and the straight lines through it that would have suited best.

    Parameters
    ----------
    ds, prediction, by, max_qc
        As for :func:`xcarbon.evaluation.scores.score`.

    Returns
    -------
    xarray.Dataset
        Along ``by``, lazily:

        - ``slope`` [1] and ``intercept``, in units of the target, of :math:`y = intercept + slope\, x`, least
          squares over the hours of the group. A slope above 1 says that predicted fluxes vary too little,
        - ``nse`` [1]: efficiency of the prediction as it is,
        - ``nse_group`` [1]: with the line of the group, which is the squared correlation,
        - ``nse_tower`` [1]: with a line for each tower.

        NaN where observations or predictions do not vary.

    Raises
    ------
    VariableError
        If the prediction has no name, or ``ds`` does not have the observations.
    OptionError
        If ``by`` is not a coordinate on ``site``.

    Notes
    -----
    The lines are fitted to the observations that they are scored by. What they gain is what a model lacks of
    its towers, no score that it could reach.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(3, patches=False)
    >>> flat = score_rescaled(towers, towers["NEE"] / 2, by=None)
    >>> float(flat["slope"].round(3)), float(flat["nse_group"].round(3))
    (2.0, 1.0)
    """
    observed, predicted = pair(ds, prediction, max_qc=max_qc)
    check_group(observed, by)
    towers = _moments(observed.astype(np.float64), predicted.astype(np.float64))
    scores = _scores(towers) if by is None else towers.groupby(by).map(_scores)
    for name, long_name in _NAMES.items():
        units = observed.attrs["units"] if name == "intercept" else "1"
        scores[name].attrs = {"long_name": long_name, "units": units}
    return scores


def _moments(observed: xr.DataArray, predicted: xr.DataArray) -> xr.Dataset:
    """Number, means and sums of products about them, of the hours of each tower ``(site,)``."""
    both = observed.notnull() & predicted.notnull()
    y, x = observed.where(both), predicted.where(both)
    means = {"y": y.mean("time"), "x": x.mean("time")}
    y, x = y - means["y"], x - means["x"]
    products = {"yy": y * y, "xx": x * x, "xy": x * y}
    sums = {name: product.sum("time") for name, product in products.items()}
    return xr.Dataset({"n": both.sum("time"), **means, **sums}).drop_attrs()


def _scores(towers: xr.Dataset) -> xr.Dataset:
    """Pool the towers of a group."""
    towers = towers.fillna(0)  # means of towers without hours
    total = towers["n"].sum("site")
    mean = {name: (towers["n"] * towers[name]).sum("site") / total.where(total > 0) for name in ("y", "x")}
    apart = {name: towers[name] - mean[name] for name in mean}
    yy, xx, xy = (
        (towers[a + b] + towers["n"] * apart[a] * apart[b]).sum("site") for a, b in ("yy", "xx", "xy")
    )
    varies = (yy > 0) & (xx > 0)
    slope = (xy / xx).where(varies)
    squared = yy - 2 * xy + xx + total * (mean["y"] - mean["x"]) ** 2
    explained = (towers["xy"] ** 2 / towers["xx"].where(towers["xx"] > 0)).fillna(0).sum("site")
    return xr.Dataset(
        {
            "slope": slope,
            "intercept": mean["y"] - slope * mean["x"],
            "nse": 1 - squared / yy.where(varies),
            "nse_group": slope * xy / yy,
            "nse_tower": 1 - (towers["yy"].sum("site") - explained) / yy.where(varies),
        }
    )
