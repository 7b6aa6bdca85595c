"""Figures of towers, predictions and scores, which load only the data that they show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xcarbon.core.errors import OptionError, TimestampError
from xcarbon.core.extras import require
from xcarbon.core.validation import check_variables, is_half_hourly
from xcarbon.plotting.importance import MEASURES, draw_importance
from xcarbon.plotting.style import OBSERVED, axes, coord_label, strip, style
from xcarbon.plotting.towers import draw_land, scatter_classes
from xcarbon.plotting.week import as_dataset, draw_series, first_site, load_days, one_tower
from xcarbon.prep.quality import mask_quality

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEGEND_COLUMNS = 3


class CarbonPlot:
    """Figures of the towers in a Dataset of the data model.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers on ``(site, time)``, or a single tower on ``(time,)``.
    """

    def __init__(self, ds: xr.Dataset) -> None:
        require("figures", "plot", "matplotlib")
        self._ds = ds

    def series(
        self,
        prediction: xr.DataArray | xr.Dataset,
        site: str | None = None,
        time: str | slice | None = None,
        ax: Axes | None = None,
    ) -> Axes:
        """Plot observations and predictions of a tower over a period.

        Parameters
        ----------
        prediction : xarray.DataArray or xarray.Dataset
            Prediction on ``(site, time)`` or ``(time,)``, named by the code of the predicted variable; or a
            Dataset with the prediction and its standard deviation, from ``predict_nee(spread=True)``.
        site : str, optional
            Tower to plot. Default: the first tower of ``prediction``.
        time : str or slice, optional
            Period to plot, as for ``sel``: ``"2010-07"`` or ``slice("2010-07-05", "2010-07-11")``.
            Default: the week near midsummer with the most observations in predicted hours.
        ax : matplotlib.axes.Axes, optional
            Axes to plot into. Default: axes of a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            Axes with observations of sufficient quality as points and the prediction as a thick line, in
            units of the variable. The band, if there is a standard deviation, is the interval that contains
            90 % of the observations if the prediction is calibrated.

        Raises
        ------
        VariableError
            If ``prediction`` is not named by a known variable, or the Dataset does not contain it.
        OptionError
            If the tower or the period is not in the data.
        TimestampError
            If only one of the Dataset and ``prediction`` is half-hourly.

        Examples
        --------
        >>> from xcarbon.testing import synthetic_towers
        >>> ds = synthetic_towers(2, patches=False)
        >>> ax = CarbonPlot(ds).series((ds.RECO_DT - ds.GPP_DT).rename("NEE"), site="SY-002")
        >>> ax.get_title(loc="left")
        'SY-002, deciduous broadleaf forest'
        """
        target, predicted = as_dataset(prediction)
        check_variables(self._ds, (target,), "the figure")
        site = site or first_site(predicted, self._ds)
        observed = one_tower(mask_quality(self._ds, [target])[target], site)
        if is_half_hourly(observed["time"]) != is_half_hourly(predicted["time"]):
            raise TimestampError(
                "of observations and prediction one is half-hourly and the other one is hourly; open the "
                "files without resolution='HH', which combines half-hours to clock hours"
            )
        observed, predicted = load_days(observed, one_tower(predicted, site), time)
        ax = axes(ax, (7.2, 2.8))
        draw_series(ax, target, observed, predicted)
        return ax

    def sites(self, ax: Axes | None = None, color_by: str = "igbp") -> Axes:
        """Plot a map of the towers.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Axes to plot into. Default: axes of a new figure.
        color_by : str
            Coordinate on ``site`` for the colours: classes such as ``"igbp"``, or numbers such as
            ``"elevation"``.

        Returns
        -------
        matplotlib.axes.Axes
            Axes in degrees of longitude and latitude; the legend contains the number of towers of each class.

        Raises
        ------
        OptionError
            If the coordinate does not exist.

        Examples
        --------
        >>> from xcarbon.testing import synthetic_towers
        >>> ax = CarbonPlot(synthetic_towers(12)).sites()
        >>> ax.get_legend().get_texts()[0].get_text()
        'CRO cropland (3)'
        """
        place = {name: np.atleast_1d(self._site_coord(name)) for name in ("lon", "lat", color_by)}
        lon, lat, labels = place["lon"], place["lat"], place[color_by]
        is_number = np.issubdtype(labels.dtype, np.number)
        legend_rows = 0 if is_number else -(-len(np.unique(labels)) // _LEGEND_COLUMNS)
        ax = axes(ax, (7.2, 2.8 + 0.2 * legend_rows))
        draw_land(ax)
        if is_number:
            points = ax.scatter(lon, lat, s=20, c=labels, edgecolors="white", linewidths=0.4, zorder=2)
            ax.figure.colorbar(points, ax=ax, label=coord_label(self._ds[color_by]), shrink=0.7)
        else:
            scatter_classes(ax, lon, lat, labels.astype(str))
            ax.legend(
                loc="upper center",
                bbox_to_anchor=(0.5, -0.06),
                ncols=_LEGEND_COLUMNS,
                frameon=False,
                fontsize="small",
                handletextpad=0.2,
                columnspacing=1.2,
            )
        return ax

    def scores(self, score: xr.Dataset, ax: Axes | None = None) -> Axes:
        """Plot the Nash-Sutcliffe efficiency of each class.

        Parameters
        ----------
        score : xarray.Dataset
            ``nse`` and ``n`` along one dimension, from ``Dataset.carbon.score``.
        ax : matplotlib.axes.Axes, optional
            Axes to plot into. Default: axes of a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            Axes with a bar for each class, the best class on top, labelled with the number of hours.

        Raises
        ------
        OptionError
            If the scores do not have exactly one dimension.

        Examples
        --------
        >>> nse = xr.DataArray([0.7, 0.4], dims="igbp", coords={"igbp": ["ENF", "GRA"]})
        >>> score = xr.Dataset({"nse": nse, "n": ("igbp", [8000, 7000])})
        >>> ax = CarbonPlot(xr.Dataset()).scores(score)
        >>> [tick.get_text() for tick in ax.get_yticklabels()]
        ['GRA', 'ENF']
        """
        if len(score["nse"].dims) != 1:
            raise OptionError(
                f"the figure needs scores along one dimension, found {score['nse'].dims}; "
                'score with ds.carbon.score(prediction, by="igbp")'
            )
        by = str(score["nse"].dims[0])
        score = score[["nse", "n"]].compute().dropna(by, subset=["nse"]).sortby("nse")
        labels, nse = score[by].values.astype(str), score["nse"].values
        ax = axes(ax, (4.5, 0.6 + 0.25 * len(labels)))
        colors = [style(label, 0)[0] for label in labels]
        ax.barh(labels, nse, color=colors, height=0.7)
        left = max(-1.0, 1.05 * min(nse.min(initial=0), 0))
        for row, (value, hours) in enumerate(zip(nse, score["n"].values, strict=True)):
            text = f" {value:.2f}  ({int(hours):,} h)"
            ax.text(max(value, 0), row, text, va="center", fontsize="small")
        ax.axvline(0, color=OBSERVED, linewidth=0.6)
        ax.set_xlim(left, 1.35)
        ax.set_xticks([tick for tick in (-1, -0.5, 0, 0.25, 0.5, 0.75, 1) if tick >= left])
        ax.set_xlabel("Nash-Sutcliffe efficiency [1]")
        strip(ax)
        return ax

    def importance(self, explained: xr.Dataset, measure: str | None = None) -> Figure:
        """Plot the importance of the inputs of a model.

        Parameters
        ----------
        explained : xarray.Dataset
            Importance from :func:`xcarbon.prediction.explain.explain`.
        measure : {"nse_loss", "mse_rise", "rmse_rise", "change"}, optional
            Measure of importance. Default: the first of these in ``explained``.

        Returns
        -------
        matplotlib.figure.Figure
            Figure with a bar and its interval for each variable, the most important on top, and the classes
            beside it. The lower panel shows the importance of the hours before the predicted one.

        Raises
        ------
        OptionError
            If the measure is absent or has no values.

        Examples
        --------
        >>> loss = xr.DataArray([0.1, 0.4], dims="variable", coords={"variable": ["TA", "SW_IN"]})
        >>> figure = CarbonPlot(xr.Dataset()).importance(xr.Dataset({"nse_loss": loss}))
        >>> [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
        ['TA', 'SW_IN']
        """
        measures = [name for name in MEASURES if name in explained]
        measure = measure or next(iter(measures), None)
        if measure not in measures:
            raise OptionError(f"there is no measure {measure!r} of importance, the measures are {measures}")
        shown = (measure, f"{measure}_interval", f"lag_{measure}", "lag_bnds")
        return draw_importance(explained[[name for name in shown if name in explained]].compute(), measure)

    def _site_coord(self, name: str) -> np.ndarray:
        """Return the values of a coordinate of the towers."""
        found = [
            str(key)
            for key, coord in self._ds.coords.items()
            if coord.dims == ("site",) or ("site" not in self._ds.dims and not coord.dims)
        ]
        if name not in found:
            raise OptionError(
                f"the towers have no coordinate {name!r}; their coordinates are {sorted(found)}"
            )
        return self._ds[name].values
