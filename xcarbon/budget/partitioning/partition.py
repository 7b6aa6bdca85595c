"""Partitioning of NEE into gross primary production and ecosystem respiration: labels and lazy graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr

from xcarbon._version import __version__
from xcarbon.budget.fill import ANY_QC, FILLED, FILLED_QUALITY, RANDOM
from xcarbon.budget.partitioning import daytime, nighttime
from xcarbon.budget.partitioning.windows import window_starts
from xcarbon.core import conventions
from xcarbon.core.conventions import MISSING_FLAG, QC
from xcarbon.core.errors import OptionError, TimestampError
from xcarbon.core.validation import check_units, check_variables, steps_per_day
from xcarbon.core.variables import SPREAD, QualityScheme
from xcarbon.prep.labels import read_labels
from xcarbon.prep.limits import plausible
from xcarbon.prep.periods import map_towers
from xcarbon.prep.quality import mask_quality

#: Flags of partitioned fluxes: those of NEE, and a higher one where the parameters are from distant windows.
PARTITIONED = QualityScheme("partitioned", (*FILLED_QUALITY.flag_meanings, "parameters_of_distant_windows"))
#: Distance from the nearest fitted window above which its parameters are flagged [days].
DISTANT = 14.0

#: Long names and units of fitted parameters.
_PARAMETERS = {
    "E0": ("temperature sensitivity of ecosystem respiration", "K"),
    "RREF": ("ecosystem respiration at 15 degC", "umol m-2 s-1"),
    "ALPHA": ("initial slope of the light response", "umol J-1"),
    "BETA": ("largest gross primary production of the light response, without effect of VPD", "umol m-2 s-1"),
    "K": ("relative decrease of BETA by vapour pressure deficit", "hPa-1"),
    "COUNT": ("number of time steps in the window", "1"),
    "E0_WINDOWS": ("number of windows whose mean is E0, 0 if E0 is not determined by nights", "1"),
}


class _Method(NamedTuple):
    """A method: ending of its names, variables, rows of fitted parameters, windows [days], and source."""

    ending: str
    codes: tuple[str, ...]
    rows: tuple[str, ...]
    step: int
    length: int
    source: str
    doi: str


_METHODS = {
    "nighttime": _Method(
        "NT", ("NEE", "TA", "SW_IN"), nighttime.ROWS, nighttime.STEP, nighttime.DAYS,
        "nighttime partitioning", "10.1111/j.1365-2486.2005.001002.x",
    ),
    "daytime": _Method(
        "DT", ("NEE", "TA", "SW_IN", "VPD"), daytime.ROWS, daytime.STEP, daytime.DAYS,
        "daytime partitioning", "10.1111/j.1365-2486.2009.02041.x",
    ),
}  # fmt: skip


def partition(
    ds: xr.Dataset, method: Literal["nighttime", "daytime"] = "nighttime", *, max_qc: int = 0
) -> xr.Dataset:
    r"""Partition NEE into gross primary production (GPP) and ecosystem respiration (RECO), lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers on ``(site, time)``, or a single one on ``(time,)``, hourly or half-hourly, with ``NEE``
        [umol m-2 s-1], ``TA`` [degC], ``SW_IN`` [W m-2] and, for the daytime method, ``VPD`` [hPa]. NEE must
        already be filtered by friction velocity, as it is in FLUXNET products. It may have gaps, or be filled
        (:func:`~xcarbon.budget.gapfill`).
    method : {"nighttime", "daytime"}
        Extrapolation of the respiration of nights [1]_, or light response curves of days [2]_.
    max_qc : int
        Highest quality flag of NEE in the hours to which parameters are fitted. Hours with ``NEE_FILLED`` of
        1 are never used. Values without a flag (-1, NaN, or no variable ``NEE_QC``) are regarded as measured.

    Returns
    -------
    xarray.Dataset
        For the nighttime method, on the dimensions of NEE, float32 with CF attributes:

        - ``GPP_NT``, ``RECO_NT``: fluxes [umol m-2 s-1], both positive for usual conditions, so that
          ``NEE = RECO_NT - GPP_NT``. RECO is computed wherever TA exists, GPP where NEE exists, too.
        - ``GPP_NT_SE``, ``RECO_NT_SE``: standard errors from those of the parameters. That of GPP includes
          the error of NEE (``NEE_SE``, or ``NEE_RANDUNC``) and is NaN where this error is unknown.
        - ``GPP_NT_QC``, ``RECO_NT_QC``: flag of NEE, which is 4 (filled by a model) in hours without NEE; 5
          where the nearest fitted window is more than 14 days away; -1 missing.

        And for each window of days, on ``nt_window``, the first day of the window, float64:

        - ``E0_NT`` [K] and ``RREF_NT`` [umol m-2 s-1], NaN for windows without a fit,
        - their standard errors ``E0_NT_SE`` and ``RREF_NT_SE``, the number of hours ``COUNT_NT``, and
          ``E0_WINDOWS_NT``, the number of windows whose mean is E0 (0: not determined by nights).

        The daytime method returns the same variables with the ending ``DT`` except ``E0_WINDOWS``, and
        ``ALPHA_DT`` [umol J-1], ``BETA_DT`` [umol m-2 s-1] and ``K_DT`` [hPa-1] on ``dt_window``. There, GPP
        is the light response, which needs SW_IN and VPD but not NEE, and ``RECO_DT - GPP_DT`` differs from
        NEE by the residual.

    Raises
    ------
    OptionError
        If the method does not exist, or ``max_qc`` is negative.
    VariableError
        If a variable is absent.
    MetadataError
        If the units of a variable differ from those of the vocabulary.
    TimestampError
        If the time axis is neither hourly nor half-hourly, or has gaps.

    Notes
    -----
    Respiration depends on the air temperature T [degC] as in Lloyd and Taylor (1994):

    .. math:: R(T) = R_{ref} \exp\left(E_0 \left(\frac{1}{61.02} - \frac{1}{T + 46.02}\right)\right).

    **Nighttime.** The rules and numbers are those with which FLUXNET products are made [3]_; the windows for
    :math:`E_0` have 15 days in [1]_. Hours of the night have a measured SW_IN below 10 W m-2 and, if
    ``lat`` is known, end before sunrise or after sunset. These are computed from the day of the year and the
    latitude, as if the clock showed solar time; days on which the sun does not rise or set have no such
    condition. Hours without measured SW_IN need this condition only.
    :math:`E_0` is fitted in windows of 14 days, every 5 days from the first of January to the end of the
    year, with at least 7 hours and a range of TA of 5 K. The 10 % of the hours with the largest residuals
    are left out and selected anew in each step of the fit. The mean of the three windows of a calendar year
    with the smallest standard errors, among those between 30 and 350 K, is used for the whole year. Years
    with fewer than two such windows have 200 K, without a standard error. With this :math:`E_0`,
    :math:`R_{ref}` is fitted in windows of 8 days from noon to noon, every 4 days, with at least 3 hours;
    values above 50 umol m-2 s-1, which very cold nights can yield, are rejected.

    **Daytime.** :math:`E_0` is fitted to nights (measured SW_IN up to 4 W m-2) of 12 days, and the other
    parameters to the days in the 4 days in their middle, every 2 days, with at least 11 hours:

    .. math:: NEE = -\frac{\alpha \beta I}{\alpha I + \beta} + R(T), \quad
        \beta = \beta_0 \exp(-k \max(VPD - 10, 0)).

    Hours are weighted by the standard error of NEE if it is known, with at least half of its median. The fit
    with the smallest residuals from three starting values of :math:`\beta_0` is used. If :math:`k < 0`, or
    VPD is never above 10 hPa, the other parameters are fitted with :math:`k = 0`; if :math:`\alpha > 0.22`,
    with that of the window just before; if :math:`\alpha` or :math:`\beta_0` is negative, only respiration is
    fitted. :math:`E_0` beyond 50 to 400 K is replaced by that of the previous window. A window is rejected if
    :math:`\alpha \geq 0.22`, :math:`\beta_0 \geq 250`, :math:`R_{ref} \leq 0`, or :math:`\beta_0 > 100` with
    a larger standard error.

    **Between windows**, fluxes are computed with the parameters of the windows before and after, and weighted
    linearly with the distance from their middle (nighttime: from the mean time of their nights). Each
    calendar year is processed by itself: windows end with it, and before the first and after the last window
    of a year, the parameters of that window are used. Only years without any window use those of others.
    Standard errors of the two windows are added with the same weights, because the windows share data.
    Errors of neighbouring hours are regarded as independent in the fits, so that the standard errors are
    lower limits.

    A tower without any fitted window, such as one with polar day only, is NaN. Other towers are not affected.

    References
    ----------
    .. [1] Reichstein, M., et al. (2005), On the separation of net ecosystem exchange into assimilation and
       ecosystem respiration: review and improved algorithm, Global Change Biology 11, 1424-1439,
       doi:10.1111/j.1365-2486.2005.001002.x
    .. [2] Lasslop, G., et al. (2010), Separation of net ecosystem exchange into assimilation and respiration
       using a light response curve approach: critical issues and global evaluation, Global Change Biology
       16, 187-208, doi:10.1111/j.1365-2486.2009.02041.x
    .. [3] Pastorello, G., et al. (2020), The FLUXNET2015 dataset and the ONEFlux processing pipeline for eddy
       covariance data, Scientific Data 7, 225, doi:10.1038/s41597-020-0534-3

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> tower = synthetic_towers(1, patches=False, variables=["TA", "SW_IN", "VPD", "NEE"])
    >>> fluxes = partition(tower)
    >>> float(np.abs(tower["NEE"] - (fluxes["RECO_NT"] - fluxes["GPP_NT"])).max()) < 1e-5
    True
    >>> fluxes["E0_NT"].dims
    ('site', 'nt_window')
    """
    if method not in _METHODS:
        raise OptionError(f"there is no method {method!r}; use one of {sorted(_METHODS)}")
    chosen = _METHODS[method]
    check_variables(ds, chosen.codes, f"{method} partitioning")
    ds = read_labels(ds)
    check_units(ds, chosen.codes)
    _check_time(ds)
    measured = mask_quality(ds, ["NEE"], max_qc)["NEE"]
    if f"NEE{FILLED}" in ds:
        measured = measured.where(ds[f"NEE{FILLED}"] != 1)
    drivers = mask_quality(ds, chosen.codes, ANY_QC)
    error = plausible(ds.get(f"NEE{SPREAD}", ds.get(f"NEE{RANDOM}", xr.full_like(measured, np.nan))), "NEE")
    series = {str(name): array.reset_coords(drop=True) for name, array in drivers.items()}
    series |= {"measured": measured.reset_coords(drop=True), "error": error.reset_coords(drop=True)}
    time = xr.DataArray(ds["time"].values, dims="time")
    starts = window_starts(time.values, chosen.step)
    sizes = {"row": len(chosen.rows), "window": starts.size}
    fit, inputs = _fit(method, ds, series, time)
    rows = map_towers(fit, *inputs, sizes=sizes)
    kernel = nighttime.nighttime_fluxes if method == "nighttime" else daytime.daytime_fluxes
    names = ["NEE", "error", "TA"] if method == "nighttime" else ["NEE", "error", "TA", "SW_IN", "VPD"]
    parts = _fluxes(kernel, rows, [series[name] for name in names], time)
    result = _assemble(ds, chosen, parts, rows, starts)
    return conventions.log(result, f"NEE partitioned by {chosen.source}, xcarbon {__version__}")


def _check_time(ds: xr.Dataset) -> None:
    """Raise a TimestampError if the time axis is neither hourly nor half-hourly, or empty."""
    where = str(ds.encoding.get("source", "the Dataset"))
    steps_per_day(ds["time"], where)
    if not ds.sizes["time"]:
        raise TimestampError(f"{where}: the time axis is empty, so that there is nothing to partition")


def _fit(
    method: str, ds: xr.Dataset, series: dict[str, xr.DataArray], time: xr.DataArray
) -> tuple[Callable[..., Any], list[xr.DataArray]]:
    """Return the kernel that fits a tower, and the series that it needs."""
    # Parameters are fitted to measured radiation only; that of reanalysis may be hours early or late.
    measured = mask_quality(ds, ["TA", "SW_IN"], 0).reset_coords(drop=True)
    nee, sw_in = series["measured"], measured["SW_IN"]
    if method == "daytime":
        return daytime.fit_daytime, [nee, series["error"], series["TA"], sw_in, series["VPD"], time]
    lat = ds.get("lat", xr.full_like(nee, np.nan)).reset_coords(drop=True)
    if "time" not in lat.dims:
        # On Dask, it has one value for each tower in the graph, and not one for each hour.
        lat = (lat.chunk(dict.fromkeys(lat.dims, 1)) if nee.chunks else lat).expand_dims(time=time.size)
    return nighttime.fit_nighttime, [nee, measured["TA"], sw_in, lat, time]


def _fluxes(
    kernel: Callable[..., Any], rows: xr.DataArray, series: list[xr.DataArray], time: xr.DataArray
) -> xr.DataArray:
    """Compute RECO, GPP, their errors and the distance of windows, ``(..., part, time)``, lazily."""
    series = [array.chunk(time=-1) if array.chunks else array for array in series]
    return xr.apply_ufunc(
        kernel,
        rows,
        *series,
        time,
        input_core_dims=[["row", "window"], *[["time"]] * (len(series) + 1)],
        output_core_dims=[["part", "time"]],
        vectorize=True,
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"part": 5}},
    )


def _assemble(
    ds: xr.Dataset, method: _Method, parts: xr.DataArray, rows: xr.DataArray, starts: Any
) -> xr.Dataset:
    """Label the fluxes, flags and parameters."""
    dims, ending, dim = ds["NEE"].dims, method.ending, f"{method.ending.lower()}_window"
    reco, reco_se, gpp, gpp_se, distance = (parts.isel(part=part).transpose(*dims) for part in range(5))
    known = ds["NEE"].reset_coords(drop=True).notnull()
    flags = ds.get(f"NEE{QC}", xr.zeros_like(ds["NEE"])).reset_coords(drop=True)
    filled = ds.get(f"NEE{FILLED}", xr.zeros_like(ds["NEE"])).reset_coords(drop=True) == 1
    by_model = FILLED_QUALITY.flag_values[-1]
    quality = flags.where(flags > 0, xr.where(filled, by_model, 0)).where(known, by_model)
    quality = quality.where(distance <= DISTANT, PARTITIONED.flag_values[-1])
    origin = {
        "source": f"{method.source} of NEE, xcarbon {__version__}",
        "references": f"doi:{method.doi}",
    }
    result = {}
    for name, flux, error in ((f"GPP_{ending}", gpp, gpp_se), (f"RECO_{ending}", reco, reco_se)):
        attrs = conventions.variable_attrs(name)
        ancillary = {"ancillary_variables": f"{name}{QC} {name}{SPREAD}"}
        result[name] = flux.astype("float32").assign_attrs(attrs | origin | ancillary)
        result[name + QC] = quality.where(flux.notnull(), MISSING_FLAG).astype("int8").transpose(*dims)
        result[name + QC].attrs = conventions.quality_attrs(name, PARTITIONED)
        result[name + SPREAD] = error.astype("float32").assign_attrs(
            attrs | {"long_name": f"standard error of {attrs['long_name']}"}
        )
    fitted = rows.rename(window=dim)
    for number, row in enumerate(method.rows):
        code = row.removesuffix(SPREAD)
        if code in _PARAMETERS:
            name, units = _PARAMETERS[code]
            prefix = "standard error of " if row != code else ""
            array = fitted.isel(row=number)
            array.attrs = {"long_name": f"{prefix}{name}, {method.source}", "units": units}
            result[f"{code}_{ending}{SPREAD if prefix else ''}"] = array
    day = xr.DataArray(starts.astype("datetime64[ns]"), dims=dim)
    day.attrs = {
        "long_name": f"first day of a window of {method.length} days",
        "units_metadata": "leap_seconds: none",
    }
    coords = {name: c for name, c in ds.coords.items() if set(c.dims) <= {*dims, "bnds"}}
    return xr.Dataset(result, coords | {dim: day}, ds.attrs)
