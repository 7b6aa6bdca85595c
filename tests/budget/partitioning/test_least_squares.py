"""The fit of many windows at once is that of scipy, window by window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from xcarbon.budget.partitioning.least_squares import Prior, least_squares
from xcarbon.budget.partitioning.respiration import inverse_temperature, lloyd_taylor_model

START = np.tile([2.0, 200.0], (5, 1))
WEAK = Prior(START, np.array([1e6, 1e6]))
#: Tolerances of scipy: with its own, covariances close to 0 differ by some per cent from the converged ones.
CONVERGED = {"ftol": 1e-13, "xtol": 1e-13, "gtol": 1e-13}


def nights(seed: int, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return inverse temperatures, NEE, and which of them are samples, of five windows."""
    rng = np.random.default_rng(seed)
    inverse = inverse_temperature(rng.uniform(0, 20, (5, 60)))
    rref, e0 = rng.uniform(1, 6, (5, 1)), rng.uniform(80, 300, (5, 1))
    flux = rref * np.exp(e0 * inverse) + rng.normal(0, noise, (5, 60))
    return inverse, flux, np.arange(60) < rng.integers(20, 60, (5, 1))


@settings(max_examples=20)
@given(st.integers(0, 999))
def test_it_is_the_fit_of_scipy(seed):
    inverse, flux, there = nights(seed)
    fit = least_squares(lloyd_taylor_model(inverse), START, flux, there.astype(float), WEAK)
    for window in range(5):
        own = there[window]
        expected, covariance = curve_fit(
            lambda x, rref, e0: rref * np.exp(e0 * x),
            inverse[window, own],
            flux[window, own],
            START[0],
            **CONVERGED,
        )
        np.testing.assert_allclose(fit.parameters[window], expected, rtol=1e-3)
        error = np.sqrt(np.diag(covariance))  # the covariance itself may be almost 0
        scale = np.outer(error, error)
        np.testing.assert_allclose(fit.covariance[window] / scale, covariance / scale, atol=0.005)
        residual = flux[window, own] - expected[0] * np.exp(expected[1] * inverse[window, own])
        assert fit.rmse[window] == pytest.approx(np.sqrt((residual**2).mean()), rel=1e-6)


def test_fixed_parameters_stay_and_have_no_error():
    inverse, flux, there = nights(1)
    free = np.array([[True, False]] * 5)
    fit = least_squares(lloyd_taylor_model(inverse), START, flux, there.astype(float), WEAK, free)
    assert (fit.parameters[:, 1] == 200).all()
    response = np.exp(200 * inverse) * there
    np.testing.assert_allclose(
        fit.parameters[:, 0], (response * flux).sum(1) / (response**2).sum(1), rtol=1e-6
    )
    assert (fit.covariance[:, 1] == 0).all() and (fit.covariance[:, 0, 0] > 0).all()


def test_a_trimmed_fit_ignores_outliers():
    inverse, flux, there = nights(2, noise=0.01)
    clean = least_squares(lloyd_taylor_model(inverse), START, flux, there.astype(float), WEAK)
    spoilt = flux.copy()
    spoilt[:, 3] += 30
    plain = least_squares(lloyd_taylor_model(inverse), START, spoilt, there.astype(float), WEAK)
    trimmed = least_squares(lloyd_taylor_model(inverse), START, spoilt, there.astype(float), WEAK, trim=0.1)
    np.testing.assert_allclose(trimmed.parameters, clean.parameters, rtol=0.03)
    assert (np.abs(plain.parameters / clean.parameters - 1) > 0.03).any(axis=1).all()
