"""Carbon budgets of towers: sums of NEE, GPP and respiration with the causes of their uncertainty."""

from __future__ import annotations

import os

import numpy as np
import xarray as xr

from xcarbon._version import __version__
from xcarbon.budget.correlation import Array, ErrorPart
from xcarbon.budget.fill import FILLED, RANDOM, gapfill
from xcarbon.budget.mds import mds
from xcarbon.budget.partitioning import partition
from xcarbon.budget.sums import TERMS, Calendar, carbon_sums, sum_periods, with_interval
from xcarbon.core import conventions
from xcarbon.core.errors import MetadataError, OptionError
from xcarbon.core.validation import check_dataset
from xcarbon.core.variables import SPREAD
from xcarbon.models.bundle import CarbonModel
from xcarbon.prep.aggregate import period_attrs
from xcarbon.prep.limits import plausible

#: Fluxes of a budget.
FLUXES = ("NEE", "GPP_NT", "RECO_NT", "GPP_DT", "RECO_DT")
#: Causes of the uncertainty of a sum.
CAUSES = ("random", "filling", "threshold", "parameters", "method")
#: Days after which the errors of partitioning parameters are independent: the windows share no hours.
WINDOW = 8


def fill_and_partition(
    ds: xr.Dataset, model: CarbonModel | str | os.PathLike[str] | None = None, *, max_qc: int = 0
) -> xr.Dataset:
    """Fill the gaps of NEE and partition it by both methods, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers on ``(site, time)``, or a single one on ``(time,)``, with ``NEE`` [umol m-2 s-1], ``TA``
        [degC], ``SW_IN`` [W m-2] and ``VPD`` [hPa]. NEE must already be filtered by friction velocity. If
        ``NEE_RANDUNC`` is absent, the random uncertainty of a measured hour is the standard deviation of NEE
        in similar hours (:func:`xcarbon.budget.mds.sample`), as in FLUXNET2015.
    model : CarbonModel, path-like or str, optional
        Model that fills the gaps, as for :func:`~xcarbon.budget.gapfill`.
    max_qc : int
        Highest quality flag of measured NEE.

    Returns
    -------
    xarray.Dataset
        The variables of :func:`~xcarbon.budget.gapfill` and those of :func:`~xcarbon.budget.partition` with
        both methods, lazy if ``ds`` is.

    Raises
    ------
    VariableError, MetadataError, TimestampError, ModelError
        As ``gapfill`` and ``partition`` raise them.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> tower = synthetic_towers(1, patches=False, variables=["TA", "SW_IN", "VPD", "NEE"])
    >>> fluxes = fill_and_partition(tower, "mds")
    >>> {"NEE", "NEE_SE", "GPP_NT", "RECO_DT"} <= set(fluxes.data_vars)
    True
    """
    is_random_known = f"NEE{RANDOM}" in ds
    if not is_random_known:
        ds = ds.assign({f"NEE{RANDOM}": mds(ds, "NEE", max_qc=max_qc)[f"NEE{SPREAD}"]})
    filled = gapfill(ds, "NEE", model, max_qc=max_qc)
    complete = ds.assign(filled.data_vars)
    for method in ("nighttime", "daytime"):
        filled = filled.assign(partition(complete, method, max_qc=max_qc).data_vars)
    if f"NEE{SPREAD}" in filled:
        origin = f"NEE{RANDOM}" if is_random_known else "standard deviation of NEE in similar hours"
        filled[f"NEE{SPREAD}"].attrs["comment"] = (
            f"measured hours: {origin}; filled hours: spread of the model"
        )
    return conventions.log(
        filled, f"NEE partitioned by the nighttime and daytime methods, xcarbon {__version__}"
    )


def is_complete(ds: xr.Dataset) -> bool:
    """Return whether a Dataset is the result of :func:`fill_and_partition`."""
    return all(name in ds for name in (f"NEE{FILLED}", *(code + SPREAD for code in FLUXES[1:])))


def budget(
    ds: xr.Dataset,
    model: CarbonModel | str | os.PathLike[str] | None = None,
    *,
    resolution: str = "YY",
    thresholds: xr.Dataset | None = None,
    max_qc: int = 0,
    max_missing: float = 0.0,
) -> xr.Dataset:
    r"""Compute carbon sums of NEE, GPP and ecosystem respiration with 90 % intervals, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers as for :func:`fill_and_partition`; or its result, which is then not filled again.
    model
        As for :func:`fill_and_partition`, without effect on its result.
    resolution : {"YY", "MM", "WW", "DD"}
        Year, month, week or day.
    thresholds : xarray.Dataset, optional
        Percentiles 16 and 84 of the same sums over friction velocity thresholds, ``NEE_VUT_16`` to
        ``RECO_NT_VUT_84``: the files of FLUXNET with this resolution, from
        :func:`xcarbon.open_fluxnet` with ``resolution`` and ``uncertainty=True``. Hourly percentiles cannot
        replace them: those of each hour are from other thresholds, so that their sums are no percentiles.
    max_qc : int
        As for :func:`fill_and_partition`, without effect on its result.
    max_missing : float
        Highest share of missing hours of a period [1], as for :func:`~xcarbon.budget.carbon_sums`.

    Returns
    -------
    xarray.Dataset
        For each of ``NEE``, ``GPP_NT``, ``RECO_NT``, ``GPP_DT`` and ``RECO_DT``, along ``time`` and ``site``,
        lazy if ``ds`` is:

        - ``NEE``: sum of carbon over the period [g m-2],
        - ``NEE_SE``: standard error of the sum [g m-2], from all causes that are known,
        - ``NEE_LOWER``, ``NEE_UPPER``: 90 % interval of the sum [g m-2],
        - ``NEE_SE_TERMS``: standard errors by their cause, along ``term``; NaN if unknown or not applicable.

        And ``share_filled`` and ``share_missing``, shares of the hours of NEE [1].

    Raises
    ------
    OptionError
        If the resolution is unknown, ``max_missing`` is not in [0, 1), or ``thresholds`` has other towers.
    VariableError, MetadataError, TimestampError, ModelError
        As :func:`fill_and_partition` raises them; a MetadataError also if ``thresholds`` has another
        resolution.

    Notes
    -----
    The causes of uncertainty are:

    - ``random``: errors of measurement of NEE, which are independent in each hour,
    - ``filling``: errors of the model in filled hours, see :func:`~xcarbon.budget.carbon_sums`,
    - ``threshold``: half the difference between the percentiles 84 and 16 over friction velocity thresholds,
    - ``parameters``: errors of fitted parameters of the partitioning. Their correlation decreases linearly
      to 0 at 8 days, from where windows share no hours,
    - ``method``: the standard deviation of the two estimates of the partitioning methods, which is their
      difference divided by :math:`\sqrt 2`.

    As GPP_NT is RECO_NT - NEE, it has the first three causes, too. The causes are regarded as independent, so
    that the variances are added, as the networks do for the first and third one in ``NEE_VUT_REF_JOINTUNC``
    [1]_. Systematic errors of all hours, such as advection or the lack of energy balance closure, are not
    included.

    References
    ----------
    .. [1] Pastorello, G., et al. (2020), The FLUXNET2015 dataset and the ONEFlux processing pipeline for eddy
       covariance data, Scientific Data 7, 225, doi:10.1038/s41597-020-0534-3

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> tower = synthetic_towers(1, patches=False, variables=["TA", "SW_IN", "VPD", "NEE"])
    >>> sums = budget(tower, "mds")
    >>> sums["NEE_SE_TERMS"].sel(term="filling").shape, sums["GPP_NT"].attrs["units"]
    ((1, 1), 'g m-2')
    """
    fluxes = ds if is_complete(ds) else fill_and_partition(ds, model, max_qc=max_qc)
    calendar = Calendar(fluxes["time"], resolution, max_missing=max_missing)
    found = carbon_sums(fluxes, "NEE", resolution, max_missing=max_missing)
    nee = {str(name): array.reset_coords(drop=True).drop_attrs() for name, array in found.data_vars.items()}
    of_nee = {cause: nee[f"NEE{TERMS}"].sel(term=cause, drop=True) for cause in ("random", "filling")}
    totals, parameters = {"NEE": nee["NEE"]}, {}
    for code in FLUXES[1:]:
        flux, error = plausible(fluxes[code], code), fluxes[code + SPREAD]
        parts = calendar.sum(_sum_modelled, [flux, error], code)
        totals[code], parameters[code] = parts.isel(part=0), parts.isel(part=2)
    parameters["GPP_NT"] = parameters["RECO_NT"]
    sums: dict[str, xr.DataArray] = {}
    for code in FLUXES:
        known = dict(of_nee) if code in ("NEE", "GPP_NT") else {}
        known["threshold"] = _threshold_error(code, thresholds, totals[code], calendar, fluxes)
        if code != "NEE":
            other = totals[code[:-2] + {"NT": "DT", "DT": "NT"}[code[-2:]]]
            known |= {"parameters": parameters[code], "method": abs(totals[code] - other) / np.sqrt(2)}
        terms = {cause: known.get(cause, xr.full_like(totals[code], np.nan)) for cause in CAUSES}
        sums |= with_interval(code, totals[code], terms)
    sums |= {name: nee[name] for name in ("share_filled", "share_missing")}
    return calendar.label(sums, fluxes, f"carbon budget, xcarbon {__version__}")


def _sum_modelled(flux: Array, error: Array, *, calendar: Calendar, slices: list[slice]) -> Array:
    """Sum a partitioned flux of one tower, whose errors are those of parameters."""
    steps = WINDOW * 24 * calendar.per_hour
    flag = np.where(np.isfinite(flux), 1, -1).astype("int8")
    of_parameters = ErrorPart(np.where(flag == 1, np.nan_to_num(error), 0), 1 - np.arange(steps) / steps)
    return sum_periods(flux, flag, error, [of_parameters], calendar, slices)


def _threshold_error(
    code: str, thresholds: xr.Dataset | None, total: xr.DataArray, calendar: Calendar, fluxes: xr.Dataset
) -> xr.DataArray:
    """Half the difference between the percentiles 84 and 16 of a sum [g m-2], NaN where unknown."""
    names = [f"{code}_VUT_{percentile}" for percentile in ("16", "84")]
    if thresholds is not None:
        check_dataset(thresholds, "thresholds", "xcarbon.open_fluxnet for the files of this resolution")
    if thresholds is None or not set(names) <= set(map(str, thresholds.data_vars)):
        return xr.full_like(total, np.nan)
    expected = period_attrs(code, calendar.resolution)["units"]
    for name in names:
        units = thresholds[name].attrs.get("units")
        if units != expected:
            raise MetadataError(
                f"{name} of the thresholds has the units {units!r}, but sums with the resolution "
                f"{calendar.resolution!r} need {expected!r}: open the files of this resolution"
            )
    low, high = (thresholds[name].reset_coords(drop=True).drop_attrs() for name in names)
    half = (high - low) / 2
    if "site" in half.dims and "site" in fluxes.coords:
        sites = fluxes["site"].reset_coords(drop=True)
        if not np.isin(sites, half["site"]).any():
            raise OptionError(
                f"the thresholds are those of {half['site'].values.tolist()}, but the sums are those of "
                f"{np.atleast_1d(sites.values).tolist()}"
            )
        half = half.reindex(site=np.atleast_1d(sites.values))
    if "site" in half.dims and "site" not in total.dims:
        half = half.squeeze("site", drop=True)
    half = half.reindex(time=total["time"])
    if calendar.resolution == "YY":
        return half
    return half * xr.DataArray(np.diff(calendar.edges).astype(int), dims="time")  # from g m-2 d-1
