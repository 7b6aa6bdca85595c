"""Score of a perfect model, limited by the random uncertainty of the observations."""

from __future__ import annotations

import xarray as xr

from xcarbon.core.validation import check_variables
from xcarbon.evaluation.scores import score
from xcarbon.prep.quality import MAX_QC


def noise_ceiling(ds: xr.Dataset, by: str | None = "igbp", *, max_qc: int = MAX_QC) -> xr.Dataset:
    r"""Estimate the score of a perfect model of NEE from the random uncertainty of the observations.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers on ``(site, time)`` or ``(time,)`` with ``NEE`` and ``NEE_RANDUNC``, its random uncertainty as
        one standard deviation [umol m-2 s-1]. The readers of towers include it with ``uncertainty=True``.
    by, max_qc
        As for :func:`xcarbon.evaluation.scores.score`; use the values that the model is scored with. The
        uncertainty of gap-filled hours is that of similar measured hours; ``max_qc=0`` excludes them.

    Returns
    -------
    xarray.Dataset
        Along ``by``, lazy: the expected ``nse`` [1] and ``rmse`` [umol m-2 s-1] of a perfect model, and
        ``n``, the number of hours with both variables. NaN for a class without ``NEE_RANDUNC``.

    Raises
    ------
    VariableError
        If ``ds`` does not contain both variables.
    OptionError
        If ``by`` is not a coordinate on ``site``.

    Notes
    -----
    An observation is the sum of the true flux and a random error, :math:`y_i = t_i + \varepsilon_i`, with
    :math:`E\,\varepsilon_i = 0` and :math:`E\,\varepsilon_i^2 = \sigma_i^2`. The perfect model
    :math:`x_i = t_i` has these errors only,

    .. math:: E \sum_i (y_i - x_i)^2 = E \sum_i \varepsilon_i^2 = \sum_i \sigma_i^2,

    for any distribution of the errors, which is closer to a double exponential than to a Gaussian [1]_ [2]_,
    and whether or not they are correlated. The sum of squares of the observations, the denominator of the
    efficiency, includes the noise. Over many hours both sums are close to their expectations, hence

    .. math::

        NSE_{max} = 1 - \frac{\sum_i \sigma_i^2}{\sum_i (y_i - \bar y)^2}
                  = 1 - \frac{\overline{\sigma^2}}{\mathrm{var}(y)}.

    Systematic errors (friction velocity filter, advection) are not included; a model that reproduces them
    does not exceed the ceiling for that reason. Errors of the predictors lower the ceiling of real models.

    References
    ----------
    .. [1] Hollinger, D. Y., and A. D. Richardson (2005), Uncertainty in eddy covariance measurements and its
       application to physiological models, Tree Physiology 25, 873-885, doi:10.1093/treephys/25.7.873
    .. [2] Richardson, A. D., et al. (2006), A multi-site analysis of random error in tower-based measurements
       of carbon and energy fluxes, Agricultural and Forest Meteorology 136, 1-18,
       doi:10.1016/j.agrformet.2006.01.007

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(2, patches=False)
    >>> towers["NEE_RANDUNC"] = 0.5 + 0.1 * abs(towers["NEE"])
    >>> noise_ceiling(towers)["nse"].round(2).values
    array([0.97, 0.96])
    """
    check_variables(ds, ("NEE", "NEE_RANDUNC"), "the noise ceiling")
    # A prediction with an error of one standard deviation in every hour has the expected sum of squared
    # errors.
    off = ds["NEE"].astype("float64") + ds["NEE_RANDUNC"]
    ceiling = score(ds, off.rename("NEE"), by, max_qc=max_qc).drop_vars("bias")
    ceiling["nse"].attrs["long_name"] = "Nash-Sutcliffe efficiency of a perfect model"
    ceiling["rmse"].attrs["long_name"] = "root mean square error of a perfect model"
    return ceiling
