"""Composites of several lengths are merged."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xcarbon.io.composites import compose, merge


@given(data=st.data())
def test_merged_composites_are_those_of_the_parts_and_none_contains_a_shorter_one(data):
    parts = []
    for number in range(data.draw(st.integers(1, 3))):
        length = data.draw(st.sampled_from([4.0, 8.0, 16.0, 31.0]))
        count = data.draw(st.integers(1, 12))
        day = np.datetime64("2010-01-05") + np.arange(count) * int(length)
        values = np.where(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), np.nan, number)
        flag = np.array(data.draw(st.lists(st.sampled_from([0, 1, 2]), min_size=count, max_size=count)))
        parts.append(compose("LAI", "A", day, values, flag, length, str(number)))
    merged = merge(parts)
    assert np.isfinite(merged.values).all()
    assert (np.diff(merged.day) > np.timedelta64(0)).all()
    have = {(day, value) for part in parts for day, value in zip(part.day, part.values, strict=True)}
    assert all((day, value) in have for day, value in zip(merged.day, merged.values, strict=True))
    distance = np.abs((merged.day[:, None] - merged.day).astype(float))
    observed = merged.flags < 2
    contains = (merged.length[:, None] > merged.length) & (distance < merged.length[:, None] / 2)
    assert not contains[observed][:, observed].any()
    if observed.any():
        first, last = merged.day[observed][[0, -1]]
        assert ((merged.day[~observed] < first) | (merged.day[~observed] > last)).all()
