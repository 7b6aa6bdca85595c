"""Numbers and names in reports."""

import numpy as np

from xcarbon.experiments.wording import group_name, number


def test_numbers_have_a_true_minus_sign_and_zero_has_none():
    assert [number(value) for value in (0.613, -0.25, -0.001, np.nan)] == ["0.61", "−0.25", "0.00", "–"]
    assert number(0.05, sign=True) == "+0.05"


def test_classes_are_named():
    assert group_name("ENF") == "ENF evergreen needleleaf forest" and group_name("all") == "all"
