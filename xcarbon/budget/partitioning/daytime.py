"""Daytime partitioning: light response curves with an effect of the vapour pressure deficit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xcarbon.budget.partitioning.least_squares import (
    Array,
    Fit,
    Index,
    Mask,
    Model,
    Prior,
    least_squares,
)
from xcarbon.budget.partitioning.respiration import inverse_temperature, lloyd_taylor_model
from xcarbon.budget.partitioning.windows import (
    DAY,
    Samples,
    neighbours,
    samples,
    window_starts,
    within_year,
)
from xcarbon.prep.periods import Stamps

#: Global radiation up to which an hour belongs to the night [W m-2].
DARK = 4.0
#: Length of the windows of days and of nights, with the same centres, and their step [days].
DAYS, NIGHTS, STEP = 4, 12, 2
#: Smallest standard error of NEE as a share of the median, because those from few similar hours may be 0 [1].
MIN_ERROR = 0.5
#: Smallest number of hours in a window, by day and by night.
MIN_SAMPLES = 11
#: Vapour pressure deficit below which it has no effect [hPa].
VPD0 = 10.0
#: Accepted E0 [K]; upper limits of alpha [umol J-1] and beta [umol m-2 s-1]; beta above which its standard
#: error must be smaller than beta.
E0_RANGE, MAX_ALPHA, MAX_BETA, UNCERTAIN_BETA = (50.0, 400.0), 0.22, 250.0, 100.0
#: Starting values of beta as multiples of the range of NEE between the 3rd and the 97th percentile.
BETA_FACTORS, BETA_QUANTILES = (0.5, 1.0, 2.0), (0.03, 0.97)
#: Starting values of alpha, k and E0, and standard deviations of the weak prior of the parameters.
START_ALPHA, START_K, START_E0 = 0.01, 0.0, 100.0
_PRIOR, _NIGHT_PRIOR = np.array([10.0, 600.0, 50.0, 80.0]), np.array([800.0, 1000.0])

#: Rows of the fitted parameters: position is the centre of the window [days since the first time stamp]; the
#: last three are the covariances of ALPHA and BETA, ALPHA and K, BETA and K.
ROWS = (
    "position", "ALPHA", "BETA", "K", "RREF", "E0", "ALPHA_SE", "BETA_SE", "K_SE", "RREF_SE", "E0_SE",
    "COUNT", "ALPHA_BETA", "ALPHA_K", "BETA_K",
)  # fmt: skip
#: Columns of the parameters of a light response.
_ALPHA, _BETA, _K, _RREF = range(4)


def light_response(alpha: Array, beta: Array, k: Array, sw_in: Array, vpd: Array) -> tuple[Array, Array]:
    """Compute GPP and its derivatives by alpha, beta and k, which are stacked along a new last-but-one axis.

    Examples
    --------
    >>> light, dry = np.array([0.0, 500.0, 500.0]), np.array([5.0, 5.0, 20.0])
    >>> light_response(np.array(0.05), np.array(25.0), np.array(0.05), light, dry)[0].round(2)
    array([ 0.  , 12.5 ,  9.44])
    """
    excess = np.maximum(vpd - VPD0, 0)
    limited = np.exp(-k * excess)
    largest, light = beta * limited, alpha * sw_in
    total = light + largest
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(total > 0, light / total, 0)
    gpp = share * largest
    by_largest = share**2
    by_alpha = (1 - share) ** 2 * sw_in
    return gpp, np.stack([by_alpha, by_largest * limited, -by_largest * largest * excess], axis=-2)


def _light_response_model(sw_in: Array, vpd: Array, response: Array) -> Model:
    """Return the model of daytime NEE with the parameters (alpha, beta, k, Rref), ``(windows, samples)``."""

    def model(parameters: Array, rows: Index) -> tuple[Array, Array]:
        alpha, beta, k, rref = parameters.T[..., np.newaxis]
        gpp, slope = light_response(alpha, beta, k, sw_in[rows], vpd[rows])
        own = response[rows]
        return rref * own - gpp, np.concatenate([-slope, own[:, np.newaxis]], axis=1)

    return model


def fit_daytime(nee: Array, nee_se: Array, ta: Array, sw_in: Array, vpd: Array, time: Stamps) -> Array:
    """Fit the light responses of one tower: ``(time,)`` each to ``(rows, windows)``, see :data:`ROWS`.

    NEE is NaN where it is not measured. Hours are weighted by its standard error, which is the median where
    it is unknown, and 1 if it is unknown in all hours.
    """
    inverse = inverse_temperature(ta)
    usable = np.isfinite(nee) & np.isfinite(inverse) & np.isfinite(sw_in)
    is_known = usable & (nee_se > 0)
    typical = np.median(nee_se[is_known]) if is_known.any() else 1.0
    weight = 1 / np.maximum(np.where(is_known, nee_se, typical), MIN_ERROR * typical) ** 2
    series = [np.where(usable, values, 0).astype(float) for values in (nee, inverse, sw_in, weight)]
    start = window_starts(time, STEP)
    before = start + DAYS // 2 * DAY - NIGHTS // 2 * DAY
    around = within_year(start, before, before + NIGHTS * DAY)
    nights = samples(usable & (sw_in <= DARK), time, *around)
    own = within_year(start, start, start + DAYS * DAY)
    days = samples(usable & (sw_in > DARK) & np.isfinite(vpd), time, *own)
    flux, inverse, _, weight = (values[nights.position] for values in series)
    e0, e0_se, night_mean = _e0(nights, flux, inverse, weight)
    rows = np.full((len(ROWS), start.size), np.nan)
    rows[0], rows[11] = (start + DAYS // 2 * DAY - time[0]) / DAY, days.number
    fitted = np.flatnonzero((days.number >= MIN_SAMPLES) & np.isfinite(e0))
    if fitted.size:
        index, there = days.position[fitted], days.there[fitted]
        flux, inverse, light, weight = (values[index] for values in series)
        drivers = light, np.where(there, vpd[index], 0), np.exp(e0[fitted, np.newaxis] * inverse)
        rows[1:, fitted] = _light_responses(drivers, flux, weight * there, night_mean[fitted])
        rows[11, fitted] = days.number[fitted]
    rows[5], rows[10] = e0, e0_se
    rows[:11, ~np.isfinite(rows[1])] = np.nan
    return rows


def _e0(nights: Samples, flux: Array, inverse: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Return E0, its standard error and the mean NEE of nights, ``(windows,)`` each.

    Windows with too few nights, or with an E0 beyond the limits, have the E0 of the previous window.
    """
    enough = np.flatnonzero(nights.number >= MIN_SAMPLES)
    e0, e0_se, mean = np.full((3, nights.number.size), np.nan)
    if not enough.size:
        return e0, e0_se, mean
    there = nights.there[enough]
    mean[enough] = (flux[enough] * there).sum(1) / nights.number[enough]
    guess = np.stack([mean[enough], np.full(enough.size, START_E0)], axis=1)
    model = lloyd_taylor_model(inverse[enough])
    fit = least_squares(model, guess, flux[enough], weight[enough] * there, Prior(guess, _NIGHT_PRIOR))
    own, error = fit.parameters[:, 1], np.sqrt(fit.covariance[:, 1, 1])
    good = (own >= E0_RANGE[0]) & (own <= E0_RANGE[1]) & np.isfinite(error)
    e0[enough], e0_se[enough] = np.where(good, own, np.nan), np.where(good, error, np.nan)
    last = _last(np.isfinite(e0))
    clipped = np.full(e0.size, np.nan)
    clipped[enough] = np.clip(own, *E0_RANGE)
    return (
        np.where(last >= 0, e0[last], clipped),
        np.where(last >= 0, e0_se[last], np.nan),
        np.where(np.isfinite(mean), mean, mean[_last(np.isfinite(mean))]),
    )


def _last(good: Mask) -> NDArray[np.intp]:
    """Return the position of the last good window up to each window, -1 before the first, ``(windows,)``."""
    return np.maximum.accumulate(np.where(good, np.arange(good.size), -1))


class _Windows:
    """Radiation, VPD, temperature response of respiration, flux, weight and mean nights of the windows."""

    def __init__(self, drivers: tuple[Array, Array, Array], flux: Array, weight: Array, rb: Array) -> None:
        self.drivers, self.flux, self.weight = drivers, flux, weight
        there = weight > 0
        low, high = np.nanquantile(np.where(there, flux, np.nan), BETA_QUANTILES, axis=1)
        self.range, self.rb = high - low, rb

    def fit(self, windows: Index, factor: float, free: Mask, fixed: Array) -> Fit:
        """Fit windows from a starting value; parameters that are not free have the ``fixed`` values."""
        guess = np.stack(
            [
                np.full(windows.size, START_ALPHA),
                factor * self.range[windows],
                np.full(windows.size, START_K),
                self.rb[windows],
            ],
            axis=1,
        )
        model = _light_response_model(*(values[windows] for values in self.drivers))
        start = np.where(free, guess, fixed)
        return least_squares(
            model, start, self.flux[windows], self.weight[windows], Prior(guess, _PRIOR), free
        )


def _light_responses(drivers: tuple[Array, Array, Array], flux: Array, weight: Array, rb: Array) -> Array:
    """Fit windows from three starting values; return the rows from ALPHA on, of the accepted best fits."""
    windows = _Windows(drivers, flux, weight, rb)
    rows, lowest = np.full((len(ROWS) - 1, rb.size), np.nan), np.full(rb.size, np.inf)
    for factor in BETA_FACTORS:
        fit = _cascade(windows, factor)
        better = np.flatnonzero(_accepted(fit) & (fit.rmse < lowest))
        lowest[better] = fit.rmse[better]
        covariance = fit.covariance[better]
        rows[:4, better] = fit.parameters[better].T
        rows[5:9, better] = np.sqrt(np.einsum("npp->pn", covariance))
        rows[11:, better] = covariance[:, [0, 0, 1], [1, 2, 2]].T
    return rows


def _cascade(windows: _Windows, factor: float) -> Fit:
    """Fit all windows, and fit those with parameters out of range again with fixed parameters."""
    every = np.arange(windows.rb.size)
    free, fixed = np.ones((every.size, 4), bool), np.zeros((every.size, 4))
    free[:, _K] = (windows.drivers[1] > VPD0).any(1)  # no hour of humid windows depends on k
    fit = windows.fit(every, factor, free, fixed)

    def again(chosen: Mask) -> None:
        rows = np.flatnonzero(chosen)
        if rows.size:
            new = windows.fit(rows, factor, free[rows], fixed[rows])
            for own, found in zip(fit, new, strict=True):
                own[rows] = found

    def without_vpd() -> None:
        negative = (fit.parameters[:, _K] < 0) & free[:, _K]
        free[negative, _K] = False
        again(negative)

    without_vpd()
    alpha = fit.parameters[:, _ALPHA]
    is_dark: Mask = (alpha < 0) | (fit.parameters[:, _BETA] < 0)
    previous = _last(_accepted(fit) | is_dark)
    steep = (alpha > MAX_ALPHA) & (previous >= 0) & ~is_dark[previous]
    free[steep, _ALPHA], fixed[steep, _ALPHA] = False, alpha[previous[steep]]
    again(steep)
    without_vpd()
    dark: Mask = (fit.parameters[:, _ALPHA] < 0) | (fit.parameters[:, _BETA] < 0)
    free[dark, :_RREF], fixed[dark, :_RREF] = False, 0
    again(dark)
    return fit


def _accepted(fit: Fit) -> Mask:
    """Return which windows have parameters within the limits."""
    alpha, beta, k, rref = fit.parameters.T
    beta_se = np.sqrt(fit.covariance[:, _BETA, _BETA])
    inside = (alpha >= 0) & (alpha < MAX_ALPHA) & (beta >= 0) & (beta < MAX_BETA) & (k >= 0) & (rref > 0)
    return inside & ~((beta > UNCERTAIN_BETA) & (beta_se > beta)) & np.isfinite(beta_se)


def daytime_fluxes(
    rows: Array, nee: Array, nee_se: Array, ta: Array, sw_in: Array, vpd: Array, time: Stamps
) -> Array:
    """Compute RECO, GPP, their standard errors and the distance to the nearest window: ``(5, time)``.

    ``rows`` are from :func:`fit_daytime`; the others are ``(time,)``.
    """
    near = neighbours(rows[0], window_starts(time, STEP), time)
    if near is None:
        return np.full((5, time.size), np.nan)
    inverse = inverse_temperature(ta)
    fluxes = np.zeros((4, time.size))
    for window, weight in ((near.before, 1 - near.weight), (near.after, near.weight)):
        alpha, beta, k, rref, e0, alpha_se, beta_se, k_se, rref_se, e0_se = rows[1:11, window]
        alpha_beta, alpha_k, beta_k = rows[12:, window]
        response = np.exp(e0 * inverse)
        gpp, slope = light_response(alpha, beta, k, sw_in, vpd)
        variance = (slope**2 * np.stack([alpha_se, beta_se, k_se]) ** 2).sum(0)
        mixed = slope[0] * (slope[1] * alpha_beta + slope[2] * alpha_k) + slope[1] * slope[2] * beta_k
        gpp_se = np.sqrt(np.maximum(variance + 2 * mixed, 0))
        reco_se = response * np.hypot(rref_se, rref * inverse * e0_se)
        fluxes += weight * np.stack([rref * response, reco_se, gpp, gpp_se])
    return np.concatenate([fluxes, near.distance[np.newaxis]])
