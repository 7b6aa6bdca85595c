"""Annual sums of a filled flux with their uncertainty."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.budget.fill import FILLED, MODEL
from xcarbon.core.conventions import MISSING_FLAG
from xcarbon.core.errors import OptionError, VariableError
from xcarbon.core.variables import SPREAD, variable
from xcarbon.prep.limits import plausible
from xcarbon.prep.periods import Array, Stamps, map_towers, periods

#: Amount of carbon in the unit of a flux [mol].
MOLES = {"umol m-2 s-1": 1e-6, "nmol m-2 s-1": 1e-9}

Flags = NDArray[np.int8]


def annual_sums(filled: xr.Dataset, target: str = "NEE", *, trial: xr.Dataset | None = None) -> xr.Dataset:
    r"""Sum a filled flux over calendar years, with the uncertainty of the sums, lazily.

    Parameters
    ----------
    filled : xarray.Dataset
        Filled flux from :func:`~xcarbon.budget.gapfill`.
    target : str
        Code of the flux.
    trial : xarray.Dataset, optional
        The same towers, filled in the same way after hiding some measured hours with
        :func:`~xcarbon.budget.artificial_gaps`. The correlation of the model's errors is estimated in the
        hidden hours. By default it is estimated in all measured hours, which is correct for a model that was
        not trained on them and underestimates the errors of a model that was.

    Returns
    -------
    xarray.Dataset
        Variables along ``year`` and the dimensions of ``filled`` besides ``time``, lazy with one task for
        each tower. For the target ``NEE`` they are:

        - ``NEE``: sum of carbon [g m-2 year-1], NaN for years with missing hours,
        - ``NEE_SE``: standard error of the sum [g m-2 year-1]; NaN if the model predicts no spread, or if the
          uncertainty of all hours is unknown,
        - ``share_filled``, ``share_missing``: shares of the hours of the calendar year [1].

    Raises
    ------
    VariableError
        If ``filled`` or ``trial`` is not a result of ``gapfill``.
    OptionError
        If ``trial`` has other towers or hours.

    Notes
    -----
    With :math:`s_i` the standard error of an hour, the variance of the sum is

    .. math:: V = \sum_{i,j\,filled} s_i s_j\, \gamma(|i - j|) + \sum_{i\,measured} s_i^2,

    because errors of measurements are regarded as independent, whereas those of a model are correlated
    between neighbouring hours. :math:`\gamma` is estimated for each tower, over all years, from the errors
    :math:`e` in measured hours:

    .. math:: \gamma(k) = \left(1 - \frac{k}{K + 1}\right) \frac{\sum_i e_i e_{i+k}}{\sum_i s_i s_{i+k}},

    This is the least-squares form of the autocorrelation of :math:`e / s`, which is less sensitive to hours
    with a small :math:`s`. :math:`\gamma(0)` is 1 if the spread of the model is as large as its errors, and
    corrects the spread otherwise. All sums are over existing pairs and are computed by fast Fourier
    transforms.

    The longest lag :math:`K` is 15 days: slower errors cannot be estimated from the gaps of one or two years,
    and their noise would make variances negative. The taper reduces the weight of long lags, which are less
    well known. The variance is at least that of independent hours, so that negative correlations do not
    reduce it. Systematic errors of measurement, including those of the friction velocity threshold, are not
    included.

    Examples
    --------
    >>> from xcarbon.budget import artificial_gaps, gapfill
    >>> from xcarbon.testing import synthetic_towers
    >>> tower = synthetic_towers(1, patches=False)
    >>> filled = gapfill(tower, model="mds")
    >>> hidden = artificial_gaps(tower, "week")
    >>> trial = gapfill(tower.assign(NEE=tower["NEE"].where(~hidden)), model="mds")
    >>> sums = annual_sums(filled, trial=trial)
    >>> sums["NEE"].dims, sums["NEE"].attrs["units"]
    (('site', 'year'), 'g m-2 year-1')
    """
    source = filled if trial is None else trial
    names = [target + ending for ending in ("", FILLED, MODEL)]
    absent = [name for name in names if name not in filled or name not in source]
    if absent:
        raise VariableError(
            f"annual sums need the result of gapfill(ds, {target!r}): the variables {absent} are missing"
        )
    try:
        filled, source = xr.align(filled, source, join="exact")
    except ValueError as found:
        raise OptionError(f"trial must have the same towers and hours as filled: {found}") from found
    tested = filled[target + FILLED] == 0
    if trial is not None:
        tested &= source[target + FILLED] == 1
    unknown = xr.full_like(filled[target], np.nan)
    flux = plausible(filled[target], target)
    series = [
        flux,
        filled[target + FILLED].where(flux.notnull() | filled[target].isnull(), MISSING_FLAG),
        filled.get(target + SPREAD, unknown),
        (filled[target] - source[target + MODEL]).where(tested),
        source.get(target + MODEL + SPREAD, unknown),
    ]
    series = [array.reset_coords(drop=True) for array in series]
    stamps = filled["time"].values
    calendar = periods(stamps, "Y").start.astype("datetime64[Y]").astype(int) + 1970
    parts = map_towers(
        _tower_sums,
        *series,
        xr.DataArray(stamps, dims="time"),
        sizes={"part": 4, "year": calendar.size},
    )
    mass = 3600 * MOLES[variable(target).units] * 12.011  # 3600 s per hour, 12.011 g of carbon per mol
    total, error, share_filled, share_missing = (parts.isel(part=part) for part in range(4))
    sums = xr.Dataset(
        {
            target: total * mass,
            target + SPREAD: error * mass,
            "share_filled": share_filled,
            "share_missing": share_missing,
        }
    )
    _describe(sums, target, has_trial=trial is not None)
    known = {name: c for name, c in filled.coords.items() if set(c.dims) <= {"site"}}
    years = xr.DataArray(calendar, dims="year", attrs={"long_name": "calendar year", "units": "1"})
    attrs = {name: value for name, value in filled.attrs.items() if name != "featureType"}
    return sums.assign_coords(known | {"year": years}).assign_attrs(attrs)


def lagged_products(series: Array, longest: int) -> Array:
    """Compute ``sum_i x_i x_(i + k)`` of a finite series for lags k from 0: ``(longest + 1,)``."""
    size = series.size + longest  # padding with zeros, because the transform is periodic
    spectrum = np.abs(np.fft.rfft(series, size)) ** 2
    return np.fft.irfft(spectrum, size)[: longest + 1]


def error_correlation(error: Array, spread: Array, longest: int = 15 * 24) -> Array:
    """Estimate gamma of :func:`annual_sums`, ``(hours,)`` to ``(longest + 1,)``: 0 at lags without a pair."""
    known = np.isfinite(error) & (spread > 0)
    if not known.any():
        return np.full(longest + 1, np.nan)
    products = lagged_products(np.where(known, error, 0), longest)
    expected = lagged_products(np.where(known, spread, 0), longest)
    there = expected > 1e-9 * expected[0]  # less is rounding error
    correlation = np.divide(products, expected, out=np.zeros_like(products), where=there)
    return correlation * (1 - np.arange(longest + 1) / (longest + 1))


def variance_of_sum(spread: Array, correlation: Array) -> float:
    """Compute the variance of a sum of hours with a spread ``(hours,)``, 0 outside the sum."""
    if not spread.any():
        return 0.0
    terms = correlation * lagged_products(spread, correlation.size - 1)
    return float(max(terms[0] + 2 * terms[1:].sum(), terms[0]))  # at least that of independent errors


def _tower_sums(flux: Array, flag: Flags, se: Array, error: Array, error_se: Array, stamps: Stamps) -> Array:
    """Compute sum, standard error, share filled and share missing of each year of a tower: ``(4, years)``."""
    correlation = error_correlation(error.astype(float), error_se.astype(float))
    calendar = periods(stamps, "Y")
    edges = np.searchsorted(calendar.number, np.arange(calendar.hours.size + 1))
    parts = np.full((4, calendar.hours.size), np.nan)
    for year, hours in enumerate(calendar.hours):
        of = slice(edges[year], edges[year + 1])
        is_filled, is_measured = flag[of] == 1, flag[of] == 0
        filled, measured = is_filled.sum(), is_measured.sum()
        parts[2:, year] = filled / hours, 1 - (filled + measured) / hours
        if filled + measured == hours:
            errors = se[of].astype(float)
            random = np.nansum(errors[is_measured] ** 2)
            variance = variance_of_sum(np.where(is_filled, errors, 0), correlation) + random
            parts[0, year] = flux[of].sum(dtype=float)
            parts[1, year] = np.sqrt(variance) if np.isfinite(errors).any() else np.nan
    return parts


def _describe(sums: xr.Dataset, target: str, *, has_trial: bool) -> None:
    """Set the CF attributes of annual sums in place."""
    trained = "measured hours, on which the model may have been trained"
    seen = "hours hidden from the model" if has_trial else trained
    name = f"{variable(target).long_name}, carbon in a calendar year"
    sums[target].attrs = {
        "long_name": name,
        "units": "g m-2 year-1",
        "ancillary_variables": f"{target}{SPREAD} share_filled share_missing",
    }
    sums[target + SPREAD].attrs = {
        "long_name": f"standard error of {name}",
        "units": "g m-2 year-1",
        "comment": f"correlation of errors in filled hours estimated from {seen}",
    }
    sums["share_filled"].attrs = {"long_name": "share of hours that are filled", "units": "1"}
    sums["share_missing"].attrs = {"long_name": "share of hours that are missing", "units": "1"}
