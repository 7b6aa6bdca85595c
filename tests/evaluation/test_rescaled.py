"""Tests of fitted lines and of the scores after rescaling against numpy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tests.evaluation.samples import chunked, frame, make
from xcarbon.core.errors import OptionError
from xcarbon.evaluation import score_rescaled
from xcarbon.evaluation.scores import score
from xcarbon.testing import raise_on_compute


def line(table: pd.DataFrame) -> np.ndarray:
    """Return predictions that are rescaled with the fitted line."""
    return np.polyval(np.polyfit(table["x"], table["y"], 1), table["x"])


def efficiency(y: np.ndarray, x: np.ndarray) -> float:
    return 1 - ((y - x) ** 2).sum() / ((y - y.mean()) ** 2).sum()


@pytest.mark.parametrize("by", [None, "igbp", "site"])
def test_lines_are_those_of_numpy(by):
    ds, prediction = make(4, hours=800)
    prediction = 0.5 * prediction + 0.3 * ds["NEE"].fillna(0) + [[1.0], [-2], [0], [3]]
    prediction.name = "NEE"
    found = score_rescaled(ds, prediction, by)
    xr.testing.assert_allclose(found["nse"], score(ds, prediction, by)["nse"])
    groups = {None: [range(4)], "igbp": [(0, 2), (1, 3)], "site": [[0], [1], [2], [3]]}[by]
    for position, sites in enumerate(groups):
        one = found if by is None else found.isel({by: position})
        tables = [frame(ds, prediction, site) for site in sites]
        table = pd.concat(tables)
        np.testing.assert_allclose([one["slope"], one["intercept"]], np.polyfit(table["x"], table["y"], 1))
        assert one["nse_group"] == pytest.approx(efficiency(table["y"].values, line(table)))
        lines = np.concatenate([line(table) for table in tables])
        assert one["nse_tower"] == pytest.approx(efficiency(table["y"].values, lines))
        assert one["nse"] <= one["nse_group"] <= one["nse_tower"] + 1e-12


def test_towers_without_hours_change_nothing_and_have_no_score():
    ds, prediction = make(4, hours=300)
    prediction[2] = np.nan
    found = score_rescaled(ds, prediction, "site")
    assert found.isel(site=2).to_array().isnull().all() and found.isel(site=[0, 1, 3]).notnull().all()
    expected = score_rescaled(ds.isel(site=[0, 1, 3]), prediction.isel(site=[0, 1, 3]))
    xr.testing.assert_allclose(score_rescaled(ds, prediction), expected)


def test_nothing_is_computed_before_it_is_asked_for():
    ds, prediction = make(3, hours=300)
    with raise_on_compute():
        lazy = score_rescaled(chunked(ds, site=1), prediction.chunk(site=1))
    xr.testing.assert_allclose(lazy.compute(), score_rescaled(ds, prediction))
    assert lazy["intercept"].attrs["units"] == "umol m-2 s-1" and lazy["slope"].attrs["units"] == "1"


def test_a_prediction_that_does_not_vary_has_no_line():
    ds, prediction = make(2, hours=100)
    assert score_rescaled(ds, xr.full_like(prediction, 1.5), None).to_array().isnull().all()


def test_groups_are_coordinates_of_towers():
    ds, prediction = make(2, hours=50)
    with pytest.raises(OptionError, match=r"'koppen'.*'igbp'"):
        score_rescaled(ds, prediction, "koppen")
