"""Figures of towers, predictions and scores. They load what they show and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xcarbon.core.errors import OptionError
from xcarbon.core.validation import check_variables
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
        Towers on ``(site, time)``, or a single one on ``(time,)``.
    """

    def __init__(self, ds: xr.Dataset) -> None:
        self._ds = ds

    def series(
        self,
        prediction: xr.DataArray | xr.Dataset,
        site: str | None = None,
        time: str | slice | None = None,
        ax: Axes | None = None,
    ) -> Axes:
        """Draw observations and predictions of a tower over some days.

        Parameters
        ----------
        prediction : xarray.DataArray or xarray.Dataset
            On ``(site, time)`` or ``(time,)``, named by the code of what it predicts; or this and its
            standard deviation, as ``predict_nee(spread=True)`` gives them.
        site : str, optional
            The tower. Default: the first one in ``prediction``.
        time : str or slice, optional
            Days to show, as for ``sel``: ``"2010-07"`` or ``slice("2010-07-05", "2010-07-11")``.
            Default: the week around midsummer with the most observations, of those predicted.
        ax : matplotlib.axes.Axes, optional
            Where to draw. Default: a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            Points are observations, measured or filled with good quality; the thick line is the
            prediction, and the band about it is to hold 90 % of the observations.

        Raises
        ------
        VariableError
            If ``prediction`` is not named by one variable, or the Dataset does not have it.
        OptionError
            If the tower or the time is not there.

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
        observed, predicted = load_days(observed, one_tower(predicted, site), time)
        ax = axes(ax, (7.2, 2.8))
        draw_series(ax, target, observed, predicted)
        return ax

    def sites(self, ax: Axes | None = None, color_by: str = "igbp") -> Axes:
        """Draw a map of the towers.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw. Default: a new figure.
        color_by : str
            A coordinate on ``site``: a class such as ``"igbp"``, or a number such as
            ``"elevation"``.

        Returns
        -------
        matplotlib.axes.Axes
            In degrees of longitude and latitude; the legend counts the towers of each class.

        Raises
        ------
        OptionError
            If there is no such coordinate.

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
        """Draw the Nash-Sutcliffe efficiency of each class.

        Parameters
        ----------
        score : xarray.Dataset
            ``nse`` and ``n`` along one dimension, as ``Dataset.carbon.score`` gives them.
        ax : matplotlib.axes.Axes, optional
            Where to draw. Default: a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            A bar for each class, the best on top, with its number of hours.

        Raises
        ------
        OptionError
            If the scores have no dimension, or several.

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
                'ds.carbon.score(prediction, by="igbp") gives them'
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
        """Draw what a model reads.

        Parameters
        ----------
        explained : xarray.Dataset
            From :func:`xcarbon.prediction.explain.explain`.
        measure : {"nse_loss", "mse_rise", "rmse_rise", "change"}, optional
            How importance is measured. Default: the first of these that is there.

        Returns
        -------
        matplotlib.figure.Figure
            A bar for each variable with its interval, the most important on top, and a row of classes beside
            it; below, the importance of the hours before the predicted one.

        Raises
        ------
        OptionError
            If there is no such measure, or no hour of it.

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
            raise OptionError(f"there is no measure {measure!r} of importance, there are {measures}")
        shown = (measure, f"{measure}_interval", f"lag_{measure}", "lag_bnds")
        return draw_importance(explained[[name for name in shown if name in explained]].compute(), measure)

    def _site_coord(self, name: str) -> np.ndarray:
        """Values of a coordinate of the towers."""
        found = [
            str(key)
            for key, coord in self._ds.coords.items()
            if coord.dims == ("site",) or ("site" not in self._ds.dims and not coord.dims)
        ]
        if name not in found:
            raise OptionError(f"the towers have no coordinate {name!r}, they have {sorted(found)}")
        return self._ds[name].values
