"""Tests of the content and the labels of figures, and of the data that they load."""

from __future__ import annotations

import sys

import matplotlib
import numpy as np
import pytest
import xarray as xr

from xcarbon.core.errors import OptionError, VariableError, XCarbonError
from xcarbon.core.variables import IGBP_CLASSES
from xcarbon.plotting import CarbonPlot
from xcarbon.plotting.style import IGBP_STYLES
from xcarbon.prep.quality import MAX_QC
from xcarbon.testing import raise_on_compute


def test_series_shows_observations_of_good_quality(ds: xr.Dataset, nee: xr.DataArray) -> None:
    ax = CarbonPlot(ds).series(nee, site="SY-002", time="2010-07")
    zero, observed, predicted = ax.get_lines()
    assert (observed.get_label(), predicted.get_label()) == ("observed", "predicted")
    assert zero.get_ydata() == [0, 0]
    july = ds.sel(site="SY-002", time="2010-07")
    good = july["NEE_QC"] <= MAX_QC
    assert not good.all()
    np.testing.assert_array_equal(observed.get_ydata(), july["NEE"].where(good))
    np.testing.assert_array_equal(predicted.get_ydata(), nee.sel(site="SY-002", time="2010-07"))


def test_series_shows_how_uncertain_a_prediction_is(ds: xr.Dataset, nee: xr.DataArray) -> None:
    spread = xr.full_like(nee, 2.0)
    prediction = xr.Dataset({"NEE": nee, "NEE_SE": spread})
    ax = CarbonPlot(ds).series(prediction, site="SY-002", time="2010-07-01")
    week = nee.sel(site="SY-002", time="2010-07-01").values
    np.testing.assert_array_equal(ax.get_lines()[2].get_ydata(), week)
    (band,) = ax.collections
    bounds = np.concatenate([path.vertices[:, 1] for path in band.get_paths()])
    assert bounds.max() == pytest.approx(week.max() + 2 * 1.6449, abs=1e-3)
    assert bounds.min() == pytest.approx(week.min() - 2 * 1.6449, abs=1e-3)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["observed", "predicted", "90 % interval"]
    with pytest.raises(VariableError, match=r"one flux.*NEE.*GPP_DT"):
        CarbonPlot(ds).series(prediction.assign(GPP_DT=nee))


def test_series_is_labelled(ds: xr.Dataset, nee: xr.DataArray) -> None:
    ax = CarbonPlot(ds).series(nee)
    assert ax.get_title(loc="left") == "SY-001, evergreen needleleaf forest"
    assert ax.get_ylabel() == "NEE [µmol m$^{-2}$ s$^{-1}$]"
    assert ax.get_xlabel() == "local standard time"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["observed", "predicted"]
    ax.figure.canvas.draw()


@pytest.mark.parametrize(("site", "months"), [("SY-002", {6, 7, 8}), ("SY-007", {12, 1, 2})])
def test_series_chooses_a_week_in_summer(
    ds: xr.Dataset, nee: xr.DataArray, site: str, months: set[int]
) -> None:
    assert (ds["lat"].sel(site=site) < 0) == (1 in months)
    observed = CarbonPlot(ds).series(nee, site=site).get_lines()[1]
    days = np.asarray(observed.get_xdata(), "datetime64[D]")
    assert len(days) == 7 * 24
    assert set((days.astype("datetime64[M]").astype(int) % 12 + 1).tolist()) <= months
    assert np.isfinite(observed.get_ydata()).sum() > 150


def test_series_chooses_a_week_that_is_predicted(ds: xr.Dataset, nee: xr.DataArray) -> None:
    ax = CarbonPlot(ds).series(nee.sel(time=slice("2010-03-02", "2010-03-20")), site="SY-002")
    _, observed, predicted = ax.get_lines()
    assert len(predicted.get_xdata()) == len(observed.get_xdata()) == 7 * 24
    with pytest.raises(OptionError, match="no hour in common"):
        CarbonPlot(ds).series(nee.assign_coords(time=nee["time"] + np.timedelta64(9999, "D")), site="SY-002")


def test_series_of_one_tower_without_metadata() -> None:
    time = np.arange("2010-03-01", "2010-03-20", dtype="datetime64[h]").astype("datetime64[ns]")
    tower = xr.Dataset({"NEE": ("time", np.ones(time.size))}, coords={"time": time})
    ax = CarbonPlot(tower).series(tower["NEE"])
    assert ax.get_title(loc="left") == ""
    assert ax.get_lines()[1].get_ydata().size == 7 * 24


def test_series_draws_into_given_axes_and_takes_a_slice(ds: xr.Dataset, nee: xr.DataArray) -> None:
    import matplotlib.pyplot as plt

    ax = plt.figure().subplots()
    period = slice("2010-05-01", "2010-05-02")
    assert CarbonPlot(ds).series(nee.sel(site="SY-003"), time=period, ax=ax) is ax
    assert ax.get_lines()[2].get_xdata().size == 48
    assert ax.get_title(loc="left") == "SY-003, grassland"


def test_series_loads_only_what_it_shows(ds: xr.Dataset, nee: xr.DataArray) -> None:
    computed = []

    def predict(block: np.ndarray) -> np.ndarray:
        computed.append(block.shape)
        return block

    weekly = nee.chunk(time=7 * 24)
    lazy = weekly.copy(data=weekly.data.map_blocks(predict, meta=np.empty((0, 0), np.float32)))
    CarbonPlot(ds).series(lazy, site="SY-005")
    assert 1 <= len(computed) <= 2


def test_series_rejects_what_is_not_there(ds: xr.Dataset, nee: xr.DataArray) -> None:
    plot = CarbonPlot(ds)
    with pytest.raises(VariableError, match="FCH4"):
        plot.series(nee.rename("FCH4"))
    with pytest.raises(OptionError, match=r"DE-Tha.*SY-001"):
        plot.series(nee, site="DE-Tha")
    with pytest.raises(OptionError, match="1999"):
        plot.series(nee, time="1999-07")


def test_sites_counts_towers_of_each_class(ds: xr.Dataset) -> None:
    with raise_on_compute():
        ax = CarbonPlot(ds).sites()
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == [f"{code} {IGBP_CLASSES[code]} (3)" for code in ("CRO", "DBF", "ENF", "GRA")]
    land, *classes = ax.collections
    assert len(land.get_paths()) > 200
    places = np.concatenate([np.asarray(points.get_offsets()) for points in classes])
    expected = np.stack([ds["lon"], ds["lat"]], axis=1)
    np.testing.assert_allclose(np.sort(places, axis=0), np.sort(expected, axis=0))
    ax.figure.canvas.draw()


def test_sites_by_number_and_by_other_labels(ds: xr.Dataset) -> None:
    numbers = CarbonPlot(ds).sites(color_by="elevation")
    assert "elevation" in numbers.figure.axes[1].get_ylabel()
    split = ds.assign_coords(split=("site", ["train", "test"] * 6))
    labels = CarbonPlot(split).sites(color_by="split").get_legend().get_texts()
    assert [text.get_text() for text in labels] == ["test (6)", "train (6)"]
    with pytest.raises(OptionError, match="igbp"):
        CarbonPlot(ds).sites(color_by="IGBP")


def test_sites_of_a_single_tower(ds: xr.Dataset) -> None:
    ax = CarbonPlot(ds.isel(site=0)).sites()
    assert ax.get_legend().get_texts()[0].get_text() == "ENF evergreen needleleaf forest (1)"


def test_scores_sorts_classes_and_leaves_out_those_without_a_score() -> None:
    nse = ("igbp", [0.4, np.nan, -7.0, 0.8])
    score = xr.Dataset(
        {"nse": nse, "n": ("igbp", [10, 0, 20, 30_000])}, {"igbp": ["ENF", "MF", "GRA", "CRO"]}
    )
    ax = CarbonPlot(xr.Dataset()).scores(score)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["GRA", "ENF", "CRO"]
    assert [text.get_text().split() for text in ax.texts][-1] == ["0.80", "(30,000", "h)"]
    assert ax.get_xlim()[0] == -1
    colors = [matplotlib.colors.to_hex(bar.get_facecolor()) for bar in ax.patches]
    assert colors == [IGBP_STYLES[code][0] for code in ("GRA", "ENF", "CRO")]
    with pytest.raises(OptionError, match="one dimension"):
        CarbonPlot(xr.Dataset()).scores(score.isel(igbp=0))


def test_every_class_has_a_style_of_its_own() -> None:
    assert list(IGBP_STYLES) == list(IGBP_CLASSES)
    assert len({color for color, _ in IGBP_STYLES.values()}) == len(IGBP_CLASSES)


@pytest.fixture
def explained() -> xr.Dataset:
    """Return losses of five variables in two classes and three bins of lags."""
    everywhere, enf, gra = [0.1, 0.4, np.nan, -0.003, 0.0], [0.2, 0.4, np.nan, 0, 0], [0, 0.3, np.nan, 0.1, 0]
    attrs = {"long_name": "loss of Nash-Sutcliffe efficiency", "units": "1"}
    arrays = {
        "change": (("igbp", "variable"), np.ones((3, 5)), {"long_name": "change", "units": "umol m-2 s-1"}),
        "nse_loss": (("igbp", "variable"), [everywhere, enf, gra], attrs),
        "lag_nse_loss": (("igbp", "lag"), [[0.5, 0.1, 0.0], [0.6, 0.2, 0.1], [0.4, 0.0, 0.0]], attrs),
    }
    interval = np.array([everywhere, enf, gra])[..., np.newaxis] + np.array([-0.1, 0.2])
    arrays["nse_loss_interval"] = ("igbp", "variable", "bound"), interval
    coords = {"igbp": ["all", "ENF", "GRA"], "variable": ["TA", "SW_IN", "P", "WS", "lat"], "lag": [0, 1, 3]}
    return xr.Dataset(arrays, coords | {"lag_bnds": (("lag", "bnds"), [[0, 1], [1, 3], [3, 32]])})


def test_importance_sorts_variables_and_shows_classes_beside_them(explained: xr.Dataset) -> None:
    figure = CarbonPlot(xr.Dataset()).importance(explained.chunk().reset_coords("lag_bnds"))
    bars, classes, lags = figure.axes
    names = ["P", "WS", "lat", "TA", "SW_IN"]
    assert [tick.get_text() for tick in bars.get_yticklabels()] == names
    np.testing.assert_array_equal(
        [bar.get_width() for bar in bars.patches], explained["nse_loss"].sel(igbp="all", variable=names)
    )
    assert bars.get_xlabel() == "loss of Nash-Sutcliffe efficiency [1]"
    whiskers = np.array([line.vertices for line in bars.collections[0].get_paths()])
    expected = explained["nse_loss_interval"].sel(igbp="all", variable=names)
    np.testing.assert_array_equal(whiskers[..., 0], expected)
    assert whiskers[1:, :, 1].tolist() == [[row, row] for row in range(1, 5)]
    assert [tick.get_text() for tick in classes.get_xticklabels()] == ["ENF", "GRA"]
    rows = classes.images[0].get_array().filled(np.nan)
    np.testing.assert_array_equal(rows, explained["nse_loss"][1:].sel(variable=names).T)
    assert bars.get_ylim() == classes.get_ylim()
    numbers = {text.get_position(): text.get_text() for text in classes.texts}
    assert (numbers[0, 3], numbers[1, 4], len(numbers)) == ("0.20", "0.30", 8)
    assert [tick.get_text() for tick in lags.get_xticklabels()] == ["0", "1–2", "3–31"]
    for step, expected in zip(lags.patches, explained["lag_nse_loss"].values, strict=True):
        np.testing.assert_array_equal(step.get_data().values, expected)
    colors = [matplotlib.colors.to_hex(step.get_edgecolor()) for step in lags.patches]
    assert colors[1:] == [IGBP_STYLES[code][0] for code in ("ENF", "GRA")]
    figure.canvas.draw()


def test_importance_without_classes_or_lags_and_of_another_measure(explained: xr.Dataset) -> None:
    plot = CarbonPlot(xr.Dataset())
    assert len(plot.importance(explained.sel(igbp="all")).axes) == 2
    (bars,) = plot.importance(explained.sel(igbp="all", drop=True), "change").axes
    assert bars.get_xlabel() == "change [µmol m$^{-2}$ s$^{-1}$]"
    labels = ["all", *(f"SY-{number:03d}" for number in range(30))]
    many = explained.isel(igbp=[0, *[1] * 30]).assign_coords(igbp=labels)
    _, heat, lags = plot.importance(many).axes
    assert not heat.texts and lags.get_legend() is None
    unknown = explained["nse_loss"].where(explained["igbp"] != "ENF")
    named = plot.importance(explained.assign(nse_loss=unknown))
    assert [tick.get_text() for tick in named.axes[1].get_xticklabels()] == ["GRA"]
    with pytest.raises(OptionError, match=r"'nse'.*nse_loss.*change"):
        plot.importance(explained, "nse")
    with pytest.raises(OptionError, match="are missing: no hour"):
        plot.importance(explained * np.nan)


def test_importance_draws_into_given_axes(explained: xr.Dataset) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3)
    assert CarbonPlot(xr.Dataset()).importance(explained, ax=axes) is figure
    assert axes[0].get_xlabel() == "loss of Nash-Sutcliffe efficiency [1]"
    with pytest.raises(OptionError, match="3 panels, but ax contains 2"):
        CarbonPlot(xr.Dataset()).importance(explained, ax=axes[:2])


def test_a_long_series_is_drawn_as_daily_means(ds: xr.Dataset, nee: xr.DataArray) -> None:
    prediction = xr.Dataset({"NEE": nee, "NEE_SE": xr.full_like(nee, 2.0)})
    ax = CarbonPlot(ds).series(prediction, site="SY-002", time=slice("2010-03", "2010-07"))
    _, observed, predicted = ax.get_lines()
    days = nee.sel(site="SY-002", time=slice("2010-03", "2010-07")).values.astype(float).reshape(-1, 24)
    np.testing.assert_allclose(predicted.get_ydata(), days.mean(axis=1), rtol=1e-6)
    tower = ds.sel(site="SY-002", time=slice("2010-03", "2010-07"))
    good = tower["NEE"].where(tower["NEE_QC"] <= MAX_QC).values.astype(float).reshape(-1, 24)
    np.testing.assert_allclose(observed.get_ydata(), good.mean(axis=1), rtol=1e-6)
    assert 0 < np.isfinite(observed.get_ydata()).sum() < len(days)
    assert ax.get_ylabel() == "daily mean NEE [µmol m$^{-2}$ s$^{-1}$]"
    (band,) = ax.collections
    bounds = np.concatenate([path.vertices[:, 1] for path in band.get_paths()])
    assert bounds.max() < days.mean(axis=1).max() + 2 * 1.6449  # errors of hours are partly averaged out


def test_a_filled_series_is_named_so(filled: xr.Dataset) -> None:
    ax = CarbonPlot(filled).series(filled, time="2010-07")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "observed",
        "filled",
        "90 % interval",
    ]


def test_figures_without_matplotlib_name_the_extra(ds: xr.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    plot = CarbonPlot(ds)
    for draw in (plot.gaps, plot.fingerprint, plot.diurnal, plot.sites):
        with pytest.raises(XCarbonError, match=r"xcarbon\[plot\]"):
            draw()
