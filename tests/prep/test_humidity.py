"""Vapour pressure agrees with published tables."""

import numpy as np
import pytest

from xcarbon.prep.humidity import saturation_vapour_pressure


@pytest.mark.parametrize(
    ("celsius", "hpa"), [(-10, 2.863), (0, 6.108), (10, 12.27), (20, 23.37), (30, 42.43), (40, 73.78)]
)
def test_saturation_vapour_pressure_is_that_of_the_tables(celsius, hpa):
    assert saturation_vapour_pressure(np.array(celsius)) == pytest.approx(hpa, rel=3e-3)
