"""Tests of mean diurnal cycles."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xcarbon.core.errors import OptionError
from xcarbon.plotting import CarbonPlot


def test_cycles_are_means_of_common_hours(ds: xr.Dataset, nee: xr.DataArray) -> None:
    prediction = nee.where(nee["time"].dt.day > 10)
    ax = CarbonPlot(ds).diurnal(prediction, site="SY-003")
    tower = ds.sel(site="SY-003")
    observed = tower["NEE"].where(tower["NEE_QC"] <= 1).to_series()
    predicted = prediction.sel(site="SY-003").to_series()
    both = observed.notna() & predicted.notna()
    july = both & (both.index.month == 7) & (both.index.hour == 12)
    _, of_observed, of_predicted = ax.get_lines()[:3]
    assert of_observed.get_ydata()[25 * 6 + 12] == pytest.approx(observed[july].mean(), rel=1e-5)
    assert of_predicted.get_ydata()[25 * 6 + 12] == pytest.approx(predicted[july].mean(), rel=1e-5)
    assert np.isnan(of_observed.get_ydata()[24::25]).all()
    vertices = np.concatenate([path.vertices for path in ax.collections[0].get_paths()])
    noon = vertices[vertices[:, 0] == 25 * 6 + 12 - 0.5, 1]
    np.testing.assert_allclose(
        sorted(set(noon.round(4))), observed[july].quantile([0.25, 0.75]).round(4), atol=2e-4
    )
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["central half", "observed", "predicted"]


def test_seasons_begin_in_december(ds: xr.Dataset) -> None:
    ax = CarbonPlot(ds).diurnal(by="season")
    tower = ds.isel(site=0)
    observed = tower["NEE"].where(tower["NEE_QC"] <= 1)
    winter = observed.where(tower["time"].dt.month.isin([12, 1, 2])).groupby("time.hour").mean()
    np.testing.assert_allclose(ax.get_lines()[1].get_ydata()[:24], winter, rtol=1e-4)
    assert ax.get_title(loc="left") == "SY-001, evergreen needleleaf forest"


def test_months_without_hours_are_empty_and_other_options_refused(ds: xr.Dataset) -> None:
    ax = CarbonPlot(ds).diurnal(time="2010-03")
    known = np.isfinite(ax.get_lines()[1].get_ydata()).reshape(12, 25)
    assert known.any(axis=1).tolist() == [month == 3 for month in range(1, 13)]
    with pytest.raises(OptionError, match=r"month.*season.*'week'"):
        CarbonPlot(ds).diurnal(by="week")
    with pytest.raises(OptionError, match=r"dims.*lat.*select one cell"):
        CarbonPlot(ds.isel(site=0, drop=True).expand_dims(lat=[50.0])).diurnal()
    with pytest.raises(OptionError, match="no hour"):
        CarbonPlot(ds.assign(NEE=ds["NEE"] * np.nan)).diurnal()
