"""Figures of towers, predictions and scores, which load only the data that they show.

Each figure has a module of its own, named like the method of :class:`CarbonPlot` that draws it. ``select``
selects variable, tower and period, ``errors`` computes standard errors of means and sums, and ``style`` has
the colours, labels and axes that all figures share. This folder may import ``budget``, ``prediction`` and
the folders below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import xarray as xr

from xcarbon.core.errors import OptionError
from xcarbon.core.variables import TIME_FEATURES, VARIABLES
from xcarbon.plotting.diurnal import check_by, draw_diurnal
from xcarbon.plotting.fingerprint import draw_fingerprint, fullest_year
from xcarbon.plotting.gaps import draw_gaps
from xcarbon.plotting.importance import MEASURES, draw_importance
from xcarbon.plotting.map import draw_map
from xcarbon.plotting.scatter import draw_scatter
from xcarbon.plotting.scores import draw_scores
from xcarbon.plotting.select import first_site, observed_hours, one_tower, select
from xcarbon.plotting.series import draw_series, midsummer_week
from xcarbon.plotting.sites import draw_sites
from xcarbon.plotting.style import axes
from xcarbon.plotting.sums import draw_sums
from xcarbon.plotting.year import draw_year

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class CarbonPlot:
    """Figures of the towers in a Dataset of the data model.

    Figures with one panel return its Axes, those with several panels their Figure. All of them draw into
    given axes ``ax``; otherwise they make a new figure with pyplot. Lazy data is computed once, and only the
    part that is shown. All methods raise an :class:`~xcarbon.core.errors.XCarbonError` if matplotlib is not
    installed, and a :class:`~xcarbon.core.errors.TimestampError` if the time steps are neither hours nor
    half-hours.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers on ``(site, time)``, or a single tower on ``(time,)``.
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
        """Plot observations and predictions of a tower over a period.

        Parameters
        ----------
        prediction : xarray.DataArray or xarray.Dataset
            Prediction on ``(site, time)`` or ``(time,)``, named by the code of the predicted variable; or a
            Dataset with the prediction and its standard deviation, from ``predict_nee(spread=True)``; or a
            filled flux from ``gapfill``.
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

            Periods of more than 62 days are shown as daily means, of days with a value in each hour. Their
            band is that of the daily mean; as in :func:`xcarbon.budget.carbon_sums`, it accounts for the
            correlation of errors, which is estimated in the measured hours of the period.

        Raises
        ------
        VariableError
            If ``prediction`` is not named by a known variable or contains several fluxes, or the Dataset does
            not contain the variable.
        OptionError
            If the tower or the period is not in the data.

        Examples
        --------
        >>> from xcarbon.testing import synthetic_towers
        >>> ds = synthetic_towers(2, patches=False)
        >>> nee = (ds.RECO_DT - ds.GPP_DT).rename("NEE")
        >>> ax = CarbonPlot(ds).series(nee, site="SY-002")
        >>> ax.get_title(loc="left")
        'SY-002, deciduous broadleaf forest'
        >>> CarbonPlot(ds).series(nee, time="2010").get_ylabel()
        'daily mean NEE [µmol m$^{-2}$ s$^{-1}$]'
        """
        hours = select(self._ds, prediction, site)
        if time is None:
            hours = hours._replace(tower=hours.tower.compute())
            time = midsummer_week(hours)
        hours = hours.during(time).load()
        ax = axes(ax, (7.2, 2.8))
        draw_series(ax, hours)
        return ax

    def fingerprint(
        self,
        prediction: xr.DataArray | xr.Dataset | None = None,
        site: str | None = None,
        time: str | slice | None = None,
        variable: str | None = None,
        ax: Axes | Sequence[Axes] | None = None,
    ) -> Figure:
        """Plot every hour of a year as a cell: day by hour of the day, measured above filled or predicted.

        Parameters
        ----------
        prediction : xarray.DataArray or xarray.Dataset, optional
            Prediction or filled flux, as for :meth:`series`. Default: the filled hours of the Dataset itself.
        site : str, optional
            Tower to plot. Default: the first tower.
        time : str or slice, optional
            Period to plot, as for :meth:`series`; several years follow one another. Default: the calendar
            year with the most measured hours.
        variable : str, optional
            Code of the variable, a flux or any other. Default: that of ``prediction``, or ``"NEE"``.
        ax : matplotlib.axes.Axes or sequence of them, optional
            Axes to plot into, one for each panel. Default: axes of a new figure.

        Returns
        -------
        matplotlib.figure.Figure
            Figure with a panel of the measured hours (quality flag 0) and, below it, one of the prediction or
            of all filled hours; a variable without quality flags and without prediction has one panel. Days
            are in local standard time, missing hours are grey, and all panels have the same colours, which
            are symmetric about 0 if a flux has both signs. 0.5 % of the hours are beyond each end of the
            colour scale.

        Raises
        ------
        VariableError
            If the variable is unknown or absent, or ``prediction`` contains several fluxes.
        OptionError
            If the tower or the period is not in the data, all hours are missing, ``variable`` is not that of
            ``prediction``, or the number of axes is not that of the panels.

        Examples
        --------
        >>> from xcarbon.testing import synthetic_towers
        >>> ds = synthetic_towers(1, patches=False)
        >>> figure = CarbonPlot(ds).fingerprint()
        >>> [panel.get_title(loc="left") for panel in figure.axes[:2]]
        ['measured', 'measured and filled']
        """
        hours = select(self._ds, prediction, site, variable)
        if time is None:
            hours = hours._replace(tower=hours.tower.compute())
            time = fullest_year(observed_hours(hours.tower, hours.code, 0))
        return draw_fingerprint(ax, hours.during(time).load())

    def year(
        self,
        prediction: xr.DataArray | xr.Dataset | None = None,
        site: str | None = None,
        year: int | Sequence[int] | None = None,
        variable: str | None = None,
        trial: xr.Dataset | None = None,
        ax: Axes | Sequence[Axes] | None = None,
    ) -> Figure:
        """Plot daily means and the cumulative sum of a carbon flux over calendar years.

        Parameters
        ----------
        prediction : xarray.DataArray or xarray.Dataset, optional
            Prediction or filled flux, as for :meth:`series`. Default: the flux of the Dataset itself, which
            may be the result of ``gapfill``.
        site : str, optional
            Tower to plot. Default: the first tower.
        year : int or sequence of int, optional
            Years to plot, of which all hours must have a value. Default: the last complete year.
        variable : str, optional
            Code of the flux. Default: that of ``prediction``, or ``"NEE"``.
        trial : xarray.Dataset, optional
            The same tower, filled after hiding measured hours, as for :func:`xcarbon.budget.carbon_sums`.
        ax : sequence of matplotlib.axes.Axes, optional
            Two axes to plot into. Default: axes of a new figure.

        Returns
        -------
        matplotlib.figure.Figure
            Figure with daily means in units of the flux above the cumulative sum of carbon [g m-2]. If there
            is a standard error of each hour, bands are the 90 % intervals of a single year, and the legend
            states the interval of the sum of each year. Standard errors of sums are those of
            :func:`xcarbon.budget.carbon_sums`: they account for the correlation of errors, which is estimated
            in measured hours over the whole record, or in the hidden hours of ``trial``.

        Raises
        ------
        VariableError
            If the variable is unknown or absent, or ``prediction`` contains several fluxes.
        OptionError
            If the variable is no carbon flux, hours are missing in a year, the tower is not in the data,
            ``variable`` is not that of ``prediction``, or the number of axes is not two.

        Examples
        --------
        >>> from xcarbon.testing import synthetic_towers
        >>> ds = synthetic_towers(1, patches=False)
        >>> upper, lower = CarbonPlot(ds.carbon.gapfill(model="mds")).year().axes
        >>> lower.get_ylabel().split()[:2]
        ['cumulative', 'NEE']
        """
        hours = select(self._ds, prediction, site, variable)
        test = None if trial is None else one_tower(trial, first_site(hours.tower))
        return draw_year(ax, hours.load(), year, test)

    def sums(
        self,
        sums: xr.Dataset,
        site: str | None = None,
        variable: str | Sequence[str] = ("NEE", "GPP_NT", "RECO_NT"),
        ax: Axes | None = None,
    ) -> Axes:
        """Plot sums of carbon over years, months, weeks or days with their 90 % intervals.

        Parameters
        ----------
        sums : xarray.Dataset
            Sums [g m-2] from :func:`xcarbon.budget.budget` or :func:`xcarbon.budget.carbon_sums`.
        site : str, optional
            Tower to plot. Default: the first tower of ``sums``.
        variable : str or sequence of str
            Codes of the fluxes.
        ax : matplotlib.axes.Axes, optional
            Axes to plot into. Default: axes of a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            Axes with points and error bars, or lines and bands for more than 40 periods.

        Raises
        ------
        VariableError
            If ``sums`` does not contain a flux with its interval.
        OptionError
            If the tower is not in ``sums``.

        Examples
        --------
        >>> from xcarbon.testing import synthetic_towers
        >>> ds = synthetic_towers(1, patches=False)
        >>> ax = CarbonPlot(ds).sums(ds.carbon.budget("mds", resolution="MM"))
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['NEE', 'GPP_NT', 'RECO_NT']
        """
        return draw_sums(ax, sums, [variable] if isinstance(variable, str) else list(variable), site)

    def diurnal(
        self,
        prediction: xr.DataArray | xr.Dataset | None = None,
        site: str | None = None,
        time: str | slice | None = None,
        variable: str | None = None,
        by: str = "month",
        ax: Axes | None = None,
    ) -> Axes:
        """Plot the mean diurnal cycle of each month or season.

        Parameters
        ----------
        prediction : xarray.DataArray or xarray.Dataset, optional
            Prediction, as for :meth:`series`.
        site : str, optional
            Tower to plot. Default: the first tower.
        time : str or slice, optional
            Period to average, as for :meth:`series`. Default: all hours.
        variable : str, optional
            Code of the variable, a flux or any other. Default: that of ``prediction``, or ``"NEE"``.
        by : {"month", "season"}
            Whether to average calendar months or seasons of three months.
        ax : matplotlib.axes.Axes, optional
            Axes to plot into. Default: axes of a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            Axes with the mean cycles side by side, over all years. Observations are those of sufficient
            quality; if there is a prediction, both means are over the hours with an observation and a
            prediction. The band contains the central half of the observations of each hour of the day.

        Raises
        ------
        VariableError
            If the variable is unknown or absent, or ``prediction`` contains several fluxes.
        OptionError
            If ``by`` does not exist, the tower or the period is not in the data, no hour can be averaged, or
            ``variable`` is not that of ``prediction``.

        Examples
        --------
        >>> from xcarbon.testing import synthetic_towers
        >>> ax = CarbonPlot(synthetic_towers(1, patches=False)).diurnal(variable="TA", by="season")
        >>> [tick.get_text() for tick in ax.get_xticklabels()]
        ['Dec–Feb', 'Mar–May', 'Jun–Aug', 'Sep–Nov']
        """
        check_by(by)
        hours = select(self._ds, prediction, site, variable).during(time).load()
        ax = axes(ax, (7.2, 2.8))
        draw_diurnal(ax, hours, by)
        return ax

    def scatter(
        self,
        prediction: xr.DataArray | xr.Dataset,
        by: str | None = "igbp",
        time: str | slice | None = None,
        ax: Axes | Sequence[Axes] | None = None,
    ) -> Figure:
        """Plot observed against predicted hours of all towers, as density.

        Parameters
        ----------
        prediction : xarray.DataArray or xarray.Dataset
            Prediction, as for :meth:`series`.
        by : str or None
            ``"igbp"``, ``"site"`` or any other coordinate on ``site`` for a panel per class, at most 24; None
            for one panel of all hours.
        time : str or slice, optional
            Period to plot, as for :meth:`series`. Default: all hours.
        ax : matplotlib.axes.Axes or sequence of them, optional
            Axes to plot into, one for each panel. Default: axes of a new figure.

        Returns
        -------
        matplotlib.figure.Figure
            Figure with the number of hours in each cell, on the same axes and with the same colours in all
            panels, the line of equality, and the Nash-Sutcliffe efficiency and number of hours of each class,
            as in :func:`xcarbon.evaluation.scores.score`. Hours are those with an observation of sufficient
            quality and a prediction. Up to 0.05 % of the values are beyond each end of the axes.

        Raises
        ------
        VariableError
            If the variable is unknown or absent, or ``prediction`` contains several fluxes.
        OptionError
            If ``by`` is no coordinate on ``site``, no class or more than 24 have hours to show, the period is
            not in the data, or the number of axes is not that of the panels.

        Notes
        -----
        All hours of the observed and the predicted variable are loaded: 8 bytes for each hour of a tower.

        Examples
        --------
        >>> from xcarbon.testing import synthetic_towers
        >>> ds = synthetic_towers(2, patches=False)
        >>> nee = (ds.RECO_DT - ds.GPP_DT).rename("NEE")
        >>> figure = CarbonPlot(ds).scatter(nee)
        >>> [panel.get_title(loc="left") for panel in figure.axes[:2]]
        ['deciduous broadleaf forest', 'evergreen needleleaf forest']
        """
        return draw_scatter(ax, self._ds, prediction, by, time)

    def gaps(
        self,
        variable: str | Sequence[str] | None = None,
        site: str | None = None,
        ax: Axes | None = None,
    ) -> Axes:
        """Plot the shares of measured, filled and missing hours through time.

        Parameters
        ----------
        variable : str or sequence of str, optional
            Codes of the variables. Default: ``"NEE"`` for several towers, all variables for a single one.
        site : str, optional
            Tower to plot. Default: all towers.
        ax : matplotlib.axes.Axes, optional
            Axes to plot into. Default: axes of a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            Axes with a row for each tower, or for each variable of a single tower. The height of the colours
            is the share of hours of each day, week or month, depending on the length of the record. Measured
            hours have the quality flag 0 or no flag, filled hours a higher flag, and values beyond the
            plausibility limits are missing.

        Raises
        ------
        VariableError
            If a variable is absent.
        OptionError
            If the tower is not in the data, there are several towers and several variables, or the Dataset
            has no hours.

        Examples
        --------
        >>> from xcarbon.testing import synthetic_towers
        >>> ds = synthetic_towers(3, patches=False)
        >>> ax = CarbonPlot(ds).gaps()
        >>> [tick.get_text() for tick in ax.get_yticklabels()]
        ['SY-001', 'SY-002', 'SY-003']
        """
        ds = self._ds if site is None else one_tower(self._ds, site)
        if variable is None and ds.sizes.get("site", 1) > 1:
            variable = "NEE"
        if variable is None:
            variable = [code for code in VARIABLES if code in ds and code not in TIME_FEATURES]
        return draw_gaps(ax, ds, [variable] if isinstance(variable, str) else list(variable))

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
            Axes in degrees of longitude and latitude, zoomed to the towers; the legend contains the number of
            towers of each class. Up to twelve towers are named. Land is coarse, at 1:110 million.

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
        return draw_sites(ax, self._ds, color_by)

    def map(self, variable: str = "NEE", time: str | slice | None = None, ax: Axes | None = None) -> Axes:
        """Plot a map of the mean of a variable on a grid.

        Parameters
        ----------
        variable : str
            Variable on ``(time, lat, lon)`` or ``(lat, lon)``, hourly or aggregated.
        time : str or slice, optional
            Period to average, as for :meth:`series`. Default: all time steps.
        ax : matplotlib.axes.Axes, optional
            Axes to plot into. Default: axes of a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            Axes in degrees of longitude and latitude, with the coasts at 1:110 million. Cells without any
            value are grey. The title states the period, and the share of missing values in the other cells
            if there are any; means are over the available ones. Colours are symmetric about 0 for NEE and
            for variables of both signs; 0.5 % of the cells are beyond each end of the colour scale.

        Raises
        ------
        VariableError
            If the Dataset does not contain the variable.
        MetadataError
            If the variable is not on ``lat`` and ``lon``.
        OptionError
            If the period is not in the data, or all cells are missing.

        Examples
        --------
        >>> from xcarbon.testing import synthetic_grid
        >>> ax = CarbonPlot(synthetic_grid(3, 4, variables=["NEE"])).map(time="2010-07")
        >>> ax.get_title(loc="left")
        'mean of 2010-07-01 to 2010-07-31'
        """
        return draw_map(ax, self._ds, variable, time)

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
        return draw_scores(ax, score)

    def importance(
        self,
        explained: xr.Dataset,
        measure: str | None = None,
        ax: Axes | Sequence[Axes] | None = None,
    ) -> Figure:
        """Plot the importance of the inputs of a model.

        Parameters
        ----------
        explained : xarray.Dataset
            Importance from :func:`xcarbon.prediction.explain.explain`.
        measure : {"nse_loss", "mse_rise", "rmse_rise", "change"}, optional
            Measure of importance. Default: the first of these in ``explained``.
        ax : matplotlib.axes.Axes or sequence of them, optional
            Axes to plot into, one for each panel: bars, classes, hours. Default: axes of a new figure.

        Returns
        -------
        matplotlib.figure.Figure
            Figure with a bar and its interval for each variable, the most important on top, and the classes
            beside it. The lower panel shows the importance of the hours before the predicted one.

        Raises
        ------
        OptionError
            If the measure is absent or has no values, or the number of axes is not that of the panels.

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
        return draw_importance(
            explained[[name for name in shown if name in explained]].compute(), measure, ax
        )
