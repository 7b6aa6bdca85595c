"""CarbonFluxBench: daily fluxes at held-out towers, stratified by vegetation or by climate.

This module follows the benchmark of Rozanov et al. (2026, arXiv:2603.09868, there named CarbonBench) and its
code (https://github.com/alexxxroz/CarbonFluxBench) in split, quality, scores and summary. The functions below
document what the benchmark does not define.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from xcarbon.core.errors import MetadataError, OptionError
from xcarbon.core.extras import require
from xcarbon.evaluation.quantiles import site_quantiles
from xcarbon.evaluation.scores import pair
from xcarbon.prep.periods import Array, Stamps, map_towers, period_means, periods
from xcarbon.prep.quality import MAX_QC

#: Seed of the benchmark's split; scores with other seeds are not comparable.
SEED = 56
#: Share of the towers of a class in the test set, and size up to which half of a vegetation class is tested.
TEST_SHARE, RARE = 0.2, 10
#: Quantiles over towers in the summary.
QUANTILES = (0.25, 0.5, 0.75)
#: Factor from umol m-2 s-1 to gC m-2 day-1.
GRAMS_PER_DAY = 12.011e-6 * 86400
_SCORES = {
    "r2": ("coefficient of determination", "1"),
    "rmse": ("root mean square error of the carbon flux", "g m-2 day-1"),
    "rae": ("mean absolute error divided by that of the tower's mean", "1"),
    "nmae": ("mean absolute error divided by the absolute value of the tower's mean", "1"),
    "n": ("number of days", "1"),
}


class Holdout(NamedTuple):
    """Training towers and test towers.

    Attributes
    ----------
    train, test : xarray.Dataset
        Selections of the Dataset along ``site``.
    """

    train: xr.Dataset
    test: xr.Dataset


def split(ds: xr.Dataset, by: Literal["igbp", "koppen"] = "igbp") -> Holdout:
    """Split towers into training and test towers as the benchmark does.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers along ``site``, with the coordinate ``by``.
    by : {"igbp", "koppen"}
        ``"igbp"``: test on one fifth of the towers, stratified by vegetation class, but on half (rounded
        down) of each class of 10 towers or fewer. ``"koppen"``: test on one fifth, stratified by the first
        letter of the climate class, ``"A"`` to ``"E"``.

    Returns
    -------
    Holdout
        ``train`` and ``test``, lazy selections of ``ds``. For the towers and classes of the benchmark the
        split is identical to the benchmark's. The benchmark validates models on the last fifth of each
        training tower's days; here the validation data is chosen in training. Neighbouring towers may be in
        different sets, unlike with :func:`xcarbon.prep.split.split`.

    Raises
    ------
    MetadataError
        If a tower has no class, or a class has too few towers for both sets.
    OptionError
        If ``by`` is another value, or scikit-learn is not installed.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> train, test = split(synthetic_towers(12))
    >>> test["igbp"].values.tolist()
    ['ENF', 'DBF', 'GRA', 'CRO']
    """
    if by not in ("igbp", "koppen"):
        raise OptionError(f"the benchmark splits by 'igbp' or 'koppen', found {by!r}")
    classes = _classes(ds, by)
    test, common = [], classes
    for _, towers in classes.groupby(classes):
        if by == "igbp" and len(towers) <= RARE:
            test += list(towers.sample(len(towers) // 2, random_state=SEED).index)
            common = common.drop(towers.index)
    test += _stratified(common)
    held_out = np.isin(ds["site"].values, test)
    return Holdout(ds.isel(site=np.flatnonzero(~held_out)), ds.isel(site=np.flatnonzero(held_out)))


def site_scores(ds: xr.Dataset, prediction: xr.DataArray, *, max_qc: int = MAX_QC) -> xr.Dataset:
    r"""Score daily means of each tower as the benchmark does.

    Parameters
    ----------
    ds, prediction, max_qc
        As for :func:`xcarbon.evaluation.scores.score`, for GPP, respiration or NEE [umol m-2 s-1].

    Returns
    -------
    xarray.Dataset
        Scores along ``site``, lazy with one task for each tower. They are computed from observed daily means
        :math:`y` and predicted daily means :math:`x` of the days in which all 24 hours have sufficient
        quality, which corresponds to the daily quality of 1 that the benchmark requires:

        - ``r2`` [1]: :math:`1 - \sum (y - x)^2 / \sum (y - \bar y)^2`; NaN where the observations do not
          vary, where the benchmark has 0 or 1,
        - ``rmse`` [gC m-2 day-1],
        - ``rae`` [1]: :math:`\sum |y - x| / \sum |y - \bar y|`,
        - ``nmae`` [1]: :math:`\overline{|y - x|} / (|\bar y| + 10^{-9})`,
        - ``n``: number of days.

    Raises
    ------
    VariableError
        If the prediction has no name, or ``ds`` does not contain the observations.
    OptionError
        If the units of the target are not umol m-2 s-1.
    """
    observed, predicted = pair(ds, prediction, max_qc=max_qc)
    units = observed.attrs["units"]
    if units != "umol m-2 s-1":
        raise OptionError(
            f"the benchmark needs a target in umol m-2 s-1, but {prediction.name} is in {units}"
        )
    stamps = xr.DataArray(observed["time"].values, dims="time")
    stacked = map_towers(_tower_scores, observed, predicted, stamps, sizes={"score": len(_SCORES)})
    scores = xr.Dataset({name: stacked.isel(score=number) for number, name in enumerate(_SCORES)})
    scores = scores.where(scores["n"] > 0).assign(n=scores["n"])
    for name, (long_name, units) in _SCORES.items():
        scores[name].attrs = {"long_name": long_name, "units": units}
    return scores


def score(ds: xr.Dataset, prediction: xr.DataArray, *, max_qc: int = MAX_QC) -> xr.Dataset:
    """Score a prediction as the benchmark does.

    Parameters
    ----------
    ds : xarray.Dataset
        Test towers from :func:`split`.
    prediction, max_qc
        As for :func:`site_scores`.

    Returns
    -------
    xarray.Dataset
        Quartiles over towers of the scores of :func:`site_scores`, along ``quantile``, lazy. The median
        ``r2`` is the main score of the benchmark.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(3, patches=False)
    >>> scores = score(towers, towers["NEE"] + 1)
    >>> float(scores["rmse"].sel(quantile=0.5).round(4))  # 1 umol m-2 s-1
    1.0378
    """
    return site_quantiles(site_scores(ds, prediction, max_qc=max_qc), QUANTILES)


def _classes(ds: xr.Dataset, by: str) -> pd.Series[str]:
    """Return the class of each tower, sorted by the names of the towers, as in the benchmark."""
    if by not in ds.coords:
        more = ", for example from the map of Beck et al. 2018, doi:10.1038/sdata.2018.214" * (by == "koppen")
        raise MetadataError(f"the Dataset has no coordinate {by!r} on site to split by: assign it{more}")
    classes = pd.Series(ds[by].values.astype(str), index=ds["site"].values.astype(str)).sort_index()
    missing = classes.index[classes.isin(["", "nan", "None"])]
    if len(missing):
        raise MetadataError(
            f"the coordinate {by} is empty for {list(missing)}: the benchmark needs the class of all towers"
        )
    return classes.str[0] if by == "koppen" else classes


def _stratified(classes: pd.Series[str]) -> list[str]:
    """Draw a share of each class with the random numbers of the benchmark."""
    if classes.empty:
        return []
    require("splits of CarbonFluxBench", "benchmarks", "sklearn.model_selection")
    from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]

    towers = classes.index.to_numpy()
    try:
        _, test = train_test_split(
            towers, test_size=TEST_SHARE, stratify=classes.to_numpy(), random_state=SEED
        )
    except ValueError as error:
        counts = classes.value_counts().to_dict()
        raise MetadataError(f"the classes {counts} cannot be split: {error}") from error
    return [str(tower) for tower in test]


def _tower_scores(observed: Array, predicted: Array, stamps: Stamps) -> Array:
    """Score one tower: ``(time,)`` each to ``(score,)``; 0 without a complete day."""
    hours = np.stack([observed, predicted]).astype("float64") * GRAMS_PER_DAY
    days = period_means(hours, periods(stamps, "D").number, min_count=24)  # complete days only
    y, x = days[:, ~np.isnan(days[0])]
    if not y.size:
        return np.zeros(())
    mean = y.mean()
    error, naive = np.abs(x - y), np.abs(y - mean)
    sst, total = (naive**2).sum(), naive.sum()
    varies = sst > y.size * (1e-12 * mean) ** 2
    r2 = 1 - (error**2).sum() / sst if varies else np.nan
    rae = error.sum() / total if varies else np.inf
    return np.array([r2, np.sqrt((error**2).mean()), rae, error.mean() / (abs(mean) + 1e-9), y.size])
