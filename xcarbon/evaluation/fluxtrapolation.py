"""FLUXtrapolation: hourly fluxes in later years, at other towers, and at warmer towers.

This module follows the benchmark of Fries et al. (2026, arXiv:2605.19812), its abstract and its code
(https://github.com/anyafries/FLUXtrapolation and its leaderboard), in the lists of towers, periods, scales,
thresholds and summary. The functions below document what neither of them defines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import xarray as xr

from xcarbon.core.errors import MetadataError, OptionError
from xcarbon.core.validation import check_variables
from xcarbon.evaluation.scales import moments_by_scale
from xcarbon.evaluation.scores import pair, pooled
from xcarbon.prep.periods import Array, Stamps, day_of_year, departures, period_means, periods
from xcarbon.prep.split import Split

Scenario = Literal["temporal", "spatial", "temperature"]

#: Time scales, see :func:`score`.
SCALES = ("hourly", "weekly", "seasonal", "anom", "iav", "site-mean")
#: Quantiles over towers (or tower-years) in the summary.
QUANTILES = (0.5, 0.9)

#: Scales that are scored for each year of a tower in the temporal scenario.
_WITHIN_A_YEAR = ["hourly", "weekly", "site-mean"]
#: Minimum number of hours of a day, days of a week, days of a year, and years for a day of the mean year.
_HOURS, _WEEK, _YEAR, _YEARS = 12, 4, 183, 2

#: Test towers: 40 towers from all climates, and 40 towers in warmer climates.
TEST_TOWERS: dict[str, tuple[str, ...]] = {
    "spatial": (
        "AR-CCg", "AU-Dry", "AU-GWW", "AU-Whr", "BE-Dor", "BE-Maa", "BE-Vie", "CA-TP3", "CH-Cha", "CL-SDF",
        "CZ-BK1", "DE-Gri", "DE-Hai", "DE-Hzd", "DE-Rns", "DE-RuR", "DK-Skj", "ES-Abr", "FI-Var", "FR-Bil",
        "FR-Tou", "IT-BCi", "RU-Fy2", "RU-Fyo", "SE-Nor", "UK-AMo", "US-CGG", "US-CS2", "US-RGo", "US-Rpf",
        "US-Seg", "US-Sne", "US-Snf", "US-StJ", "US-Syv", "US-Tw1", "US-Tw3", "US-Tw4", "US-xDL", "US-xWD",
    ),
    "temperature": (
        "AU-ASM", "AU-Cpr", "AU-Cum", "AU-DaS", "AU-Dry", "AU-GWW", "AU-Lit", "AU-Lon", "BR-Npw", "ES-Abr",
        "ES-Agu", "ES-LM1", "ES-LM2", "ES-Pdu", "IL-Yat", "IT-BCi", "IT-Cp2", "IT-Noe", "US-Akn", "US-Cst",
        "US-HB1", "US-HB2", "US-HB3", "US-Jo2", "US-NC4", "US-ONA", "US-RGA", "US-RGo", "US-SP1", "US-SRG",
        "US-SRM", "US-SRS", "US-Ton", "US-Whs", "US-Wkg", "US-xDL", "US-xDS", "US-xJE", "US-xJR", "US-xTA",
    ),
}  # fmt: skip
#: Validation towers.
VALIDATION_TOWERS: dict[str, tuple[str, ...]] = {
    "spatial": (
        "AU-Cum", "AU-Rgf", "CA-ARF", "CA-SCC", "CA-TP1", "CA-TPD", "CZ-Lnz", "DE-Tha", "DK-Vng", "ES-Agu",
        "FR-Aur", "FR-Mej", "SE-Htm", "US-BZB", "US-ICh", "US-NR1", "US-RGA", "US-UC1", "US-xCP", "US-xTR",
    ),
    "temperature": (
        "AU-War", "CA-ER1", "CH-Cha", "CZ-Lnz", "DE-Obe", "FI-Hyy", "FI-Let", "FR-Gri", "IE-Cra", "UK-AMo",
        "US-ALQ", "US-CF2", "US-GLE", "US-RGB", "US-Rls", "US-Snf", "US-Syv", "US-UMB", "US-xBR", "US-xTR",
    ),
}  # fmt: skip


def split(ds: xr.Dataset, scenario: Scenario, *, target: str = "NEE", year: int = 2018) -> Split:
    """Split towers or years as the benchmark does.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers on ``(site, time)`` with FLUXNET site identifiers.
    scenario : {"temporal", "spatial", "temperature"}
        ``"temporal"``: train on the years before ``year``, validate on ``year`` and test on the years after
        it, all at the same towers. ``"spatial"`` and ``"temperature"``: test on :data:`TEST_TOWERS`, validate
        on :data:`VALIDATION_TOWERS` and train on all other towers.
    target : str
        Code of the predicted variable. For ``"temporal"`` its values in ``year`` are read.
    year : int
        Validation year; by default that of the benchmark.

    Returns
    -------
    Split
        ``train``, ``val`` and ``test``, lazy selections of ``ds``. The benchmark's list of towers for the
        temporal scenario, those "with 2018", is not public; here it consists of the towers with the target in
        ``year``. ``ds`` may contain a part of the listed towers only, since no single release contains all
        207 towers of the benchmark. The list of the temperature scenario has 40 towers, although the
        accompanying text states 25.

    Raises
    ------
    OptionError
        If the scenario does not exist.
    MetadataError
        If one of the three sets is empty.
    VariableError
        If ``ds`` lacks the target in the scenario ``"temporal"``.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> ds = synthetic_towers(3, patches=False).assign_coords(site=["FI-Hyy", "US-Ton", "DE-Tha"])
    >>> [part["site"].values.tolist() for part in split(ds, "temperature")]
    [['DE-Tha'], ['FI-Hyy'], ['US-Ton']]
    """
    _check_scenario(scenario)
    parts = _by_year(ds, target, year) if scenario == "temporal" else _by_tower(ds, scenario)
    needs = (
        f"years before, in and after {year}"
        if scenario == "temporal"
        else "towers in TEST_TOWERS, in VALIDATION_TOWERS and in neither of them"
    )
    for name, part in parts._asdict().items():
        if not part.sizes["site"] or not part.sizes["time"]:
            raise MetadataError(
                f"nothing is left for {name}: the {scenario} scenario needs {needs}, but the Dataset "
                f"contains {ds.sizes['site']} towers in the years {_years(ds)}"
            )
    return parts


def score(ds: xr.Dataset, prediction: xr.DataArray, scenario: Scenario, *, max_qc: int = 3) -> xr.Dataset:
    """Score a prediction as the benchmark does.

    Parameters
    ----------
    ds : xarray.Dataset
        Test data from :func:`split`.
    prediction : xarray.DataArray
        Prediction on the same dimensions, named by the code of the predicted variable.
    scenario : {"temporal", "spatial", "temperature"}
        As for :func:`split`.
    max_qc : int
        Highest quality flag of the observations that are scored; by default all, as in the benchmark.

    Returns
    -------
    xarray.Dataset
        Lazy, with the variables:

        - ``rmse (scale, quantile)`` in units of the target: median and 90 % quantile over towers of each
          tower's root mean square error,
        - ``n (scale)``: number of towers.

        In the temporal scenario, each year of a tower counts as a tower for ``hourly``, ``weekly`` and
        ``site-mean``. The scales of a tower are:

        - ``hourly``: hourly values,
        - ``weekly``: means over Monday to Sunday of at least 4 daily means, which have at least 12 hours
          each,
        - ``seasonal``: the mean of daily means by day of year, over at least 2 years,
        - ``anom``: daily means minus the seasonal means,
        - ``iav``: yearly means of at least 183 daily means, minus their mean over years; a tower with a
          single year has an error of 0, as in the benchmark,
        - ``site-mean``: the mean of yearly means, here of years with at least one daily mean.

        The benchmark averages predictions over all hours of a period; here they are averaged over the hours
        that also have an observation. The two are equal for the test data of the benchmark, which has no
        gaps.

    Raises
    ------
    OptionError
        If the scenario does not exist, or ``ds`` has no coordinate ``site``.
    VariableError
        If the prediction has no name, or ``ds`` does not contain the observations.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(3, patches=False)
    >>> scores = score(towers, towers["NEE"] + 1, "spatial")
    >>> scores["rmse"].sel(quantile=0.9, scale=["weekly", "site-mean"]).values.round(3)
    array([1., 1.])
    """
    _check_scenario(scenario)
    errors = _errors(ds, prediction, max_qc)
    if scenario != "temporal":
        return _summary(errors)
    years = [_errors(ds.sel(time=str(year)), prediction, max_qc) for year in _years(ds)]
    by_year = xr.concat(years, "year", coords="minimal", compat="override", join="exact")
    longer = [scale for scale in SCALES if scale not in _WITHIN_A_YEAR]
    parts = [_summary(by_year.sel(scale=_WITHIN_A_YEAR)), _summary(errors.sel(scale=longer))]
    scores = xr.concat(parts, "scale", coords="minimal", compat="override", join="exact")
    return scores.sel(scale=list(SCALES))


def _check_scenario(scenario: str) -> None:
    """Raise an OptionError if the scenario does not exist."""
    if scenario not in get_args(Scenario):
        raise OptionError(f"there is no scenario {scenario!r}; the scenarios are {list(get_args(Scenario))}")


def _years(ds: xr.Dataset) -> list[int]:
    """Return the calendar years of the time axis."""
    return [int(year) for year in np.unique(ds["time"].dt.year.values)]


def _by_tower(ds: xr.Dataset, scenario: str) -> Split:
    """Split towers by the lists of a scenario."""
    names = ds["site"].values
    test, val = np.isin(names, TEST_TOWERS[scenario]), np.isin(names, VALIDATION_TOWERS[scenario])
    return Split(*(ds.isel(site=np.flatnonzero(side)) for side in (~test & ~val, val, test)))


def _by_year(ds: xr.Dataset, target: str, year: int) -> Split:
    """Split the years of the towers that have the target in the validation year."""
    check_variables(ds, (target,), "the temporal scenario")
    there = ds[target].sel(time=slice(str(year), str(year))).notnull().any("time").values
    towers = ds.isel(site=np.flatnonzero(there))
    train = towers.sel(time=slice(None, str(year - 1)))
    val = towers.sel(time=slice(str(year), str(year)))
    return Split(train, val, towers.sel(time=slice(str(year + 1), None)))


def _errors(ds: xr.Dataset, prediction: xr.DataArray, max_qc: int) -> xr.DataArray:
    """Compute the root mean square error of each tower, ``(site, scale)``; NaN without common hours."""
    towers = moments_by_scale(*pair(ds, prediction, max_qc=max_qc), _scales, SCALES)
    return pooled(towers, by="site")["rmse"]


def _summary(errors: xr.DataArray) -> xr.Dataset:
    """Compute quantiles over all dimensions except ``scale``."""
    over = [dim for dim in errors.dims if dim != "scale"]
    errors = errors.chunk(-1) if errors.chunks else errors
    rmse = errors.quantile(QUANTILES, dim=over, keep_attrs=True)
    n = errors.notnull().sum(over).assign_attrs(long_name="number of towers", units="1")
    return xr.Dataset({"rmse": rmse.transpose("scale", "quantile"), "n": n})


def _scales(pairs: Array, stamps: Stamps) -> Sequence[Array]:
    """Compute the series of :data:`SCALES` from complete pairs ``(2, hours)``."""
    day = periods(stamps, "D")
    daily = period_means(pairs, day.number, _HOURS)
    week, year = periods(day.start, "W").number, periods(day.start, "Y").number
    of_year = day_of_year(day.start)
    weekly, yearly = period_means(daily, week, _WEEK), period_means(daily, year, _YEAR)
    all_years = np.zeros(yearly.shape[1], int)
    return (
        pairs,
        weekly,
        period_means(daily, of_year, _YEARS),
        departures(daily, of_year, _YEARS),
        departures(yearly, all_years, min_count=1),
        period_means(period_means(daily, year, min_count=1), all_years, min_count=1),
    )
