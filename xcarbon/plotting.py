"""Figures of towers, predictions and scores. They load what they show and nothing else."""

from __future__ import annotations

import importlib.resources
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from xcarbon.conventions import check_variables
from xcarbon.errors import OptionError
from xcarbon.prep.quality import mask_quality
from xcarbon.variables import IGBP_CLASSES, variable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colour and marker of each IGBP class, the same in all figures. Colours are from the schemes of
#: Paul Tol and of Okabe and Ito, for all kinds of colour vision; neighbours differ in marker, too.
IGBP_STYLES: dict[str, tuple[str, str]] = {
    "ENF": ("#117733", "^"),
    "EBF": ("#44aa99", "s"),
    "DNF": ("#225555", ">"),
    "DBF": ("#999933", "o"),
    "MF": ("#332288", "v"),
    "CSH": ("#882255", "<"),
    "OSH": ("#cc6677", "d"),
    "WSA": ("#aa4499", "p"),
    "SAV": ("#e69f00", "h"),
    "GRA": ("#ddcc77", "s"),
    "WET": ("#0072b2", "o"),
    "CRO": ("#d55e00", "D"),
    "URB": ("#555555", "X"),
    "CVM": ("#bb7744", "<"),
    "SNO": ("#88ccee", "*"),
    "BSV": ("#bbbbbb", ">"),
    "WAT": ("#000088", "8"),
}
#: Styles of other labels, in turn.
_STYLES = tuple(IGBP_STYLES[code] for code in ("WET", "CRO", "ENF", "WSA", "SAV", "OSH", "SNO"))

_OBSERVED, _PREDICTED, _LAND, _QUIET = "#222222", "#d55e00", "#e4e4e0", "#999999"
_LEGEND_COLUMNS = 3
_WEEK = 7
#: How far from midsummer a week may lie to stand for the growing season [days].
_SEASON = 42
#: Measures of importance, the first that is there by default.
_IMPORTANCE = ("nse_loss", "mse_rise", "rmse_rise", "change")
#: More classes than these have no room for numbers.
_NUMBERED = 14


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
        prediction: xr.DataArray,
        site: str | None = None,
        time: str | slice | None = None,
        ax: Axes | None = None,
    ) -> Axes:
        """Draw observations and predictions of a tower over some days.

        Parameters
        ----------
        prediction : xarray.DataArray
            On ``(site, time)`` or ``(time,)``, named by the code of what it predicts.
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
            prediction.

        Raises
        ------
        VariableError
            If ``prediction`` is not named by a variable, or the Dataset does not have it.
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
        target = variable(str(prediction.name)).code
        check_variables(self._ds, (target,), "the figure")
        observed = mask_quality(self._ds, [target])[target]
        observed, prediction = _one_tower(observed, prediction, site)
        if time is None:
            predicted = observed.indexes["time"].isin(prediction.indexes["time"])
            observed = observed.isel(time=np.flatnonzero(predicted)).compute()
            if not observed.size:
                raise OptionError("observations and prediction have no hour in common")
            time = _summer_week(observed)
        # A string selects all of its month or day, also where it names a single hour.
        period = slice(time, time) if isinstance(time, str) else time
        observed, prediction = (array.sel(time=period).compute() for array in (observed, prediction))
        if not observed.size:
            raise OptionError(f"there are no hours in {time}")
        ax = _axes(ax, (7.2, 2.8))
        ax.axhline(0, color=_QUIET, linewidth=0.6, zorder=0)
        ax.plot(observed["time"], observed, "o-", color=_OBSERVED, lw=0.5, ms=2.2, label="observed")
        ax.plot(prediction["time"], prediction, color=_PREDICTED, lw=1.4, label="predicted")
        _date_axis(ax, observed["time"])
        ax.set_ylabel(f"{target} [{pretty(variable(target).units)}]")
        ax.set_title(_tower_title(observed), loc="left")
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, borderpad=0)
        _strip(ax)
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
        ax = _axes(ax, (7.2, 2.8 + 0.2 * legend_rows))
        _draw_land(ax)
        if is_number:
            points = ax.scatter(lon, lat, s=20, c=labels, edgecolors="white", linewidths=0.4, zorder=2)
            ax.figure.colorbar(points, ax=ax, label=_coord_label(self._ds[color_by]), shrink=0.7)
        else:
            _scatter_classes(ax, lon, lat, labels.astype(str))
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
        ax = _axes(ax, (4.5, 0.6 + 0.25 * len(labels)))
        colors = [_style(label, 0)[0] for label in labels]
        ax.barh(labels, nse, color=colors, height=0.7)
        left = max(-1.0, 1.05 * min(nse.min(initial=0), 0))
        for row, (value, hours) in enumerate(zip(nse, score["n"].values, strict=True)):
            text = f" {value:.2f}  ({int(hours):,} h)"
            ax.text(max(value, 0), row, text, va="center", fontsize="small")
        ax.axvline(0, color=_OBSERVED, linewidth=0.6)
        ax.set_xlim(left, 1.35)
        ax.set_xticks([tick for tick in (-1, -0.5, 0, 0.25, 0.5, 0.75, 1) if tick >= left])
        ax.set_xlabel("Nash-Sutcliffe efficiency [1]")
        _strip(ax)
        return ax

    def importance(self, explained: xr.Dataset, measure: str | None = None) -> Figure:
        """Draw what a model reads.

        Parameters
        ----------
        explained : xarray.Dataset
            From :func:`xcarbon.explaining.explain`.
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
        measures = [name for name in _IMPORTANCE if name in explained]
        measure = measure or next(iter(measures), None)
        if measure not in measures:
            raise OptionError(f"there is no measure {measure!r} of importance, there are {measures}")
        shown = (measure, f"{measure}_interval", f"lag_{measure}", "lag_bnds")
        return _draw_importance(explained[[name for name in shown if name in explained]].compute(), measure)

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


def _one_tower(
    observed: xr.DataArray, prediction: xr.DataArray, site: str | None
) -> tuple[xr.DataArray, xr.DataArray]:
    """Select a tower from both, each ``(time,)``."""
    if site is None:
        named = next((array for array in (prediction, observed) if "site" in array.coords), None)
        site = None if named is None else str(np.atleast_1d(named["site"].values)[0])
    selected = []
    for array in (observed, prediction):
        if "site" in array.dims:
            if site not in array.indexes["site"]:
                known = list(array.indexes["site"][:10])
                raise OptionError(f"there is no tower {site!r}; the first ones are {known}")
            array = array.sel(site=site)
        selected.append(array)
    return selected[0], selected[1]


def _summer_week(observed: xr.DataArray) -> slice:
    """Find the week near midsummer with the most observations, ``observed (time,)``."""
    daily = pd.Series(observed.notnull().values, observed.indexes["time"]).resample("D").sum()
    weekly = daily.rolling(_WEEK, center=True, min_periods=1).sum()
    south = "lat" in observed.coords and float(observed["lat"]) < 0
    distance = (pd.DatetimeIndex(daily.index).day_of_year.to_numpy() - (15 if south else 196)) % 365
    distance = np.minimum(distance, 365 - distance)
    # A whole week of hours outweighs any distance within the season; outside it, any is better.
    merit = weekly.to_numpy() - distance / 366 - 10_000 * ((distance > _SEASON) | (weekly == 0))
    middle = daily.index[int(np.argmax(merit))]
    half = pd.Timedelta(_WEEK // 2, "D")
    return slice(middle - half, middle + half + pd.Timedelta(23, "h"))


def _tower_title(tower: xr.DataArray) -> str:
    """Name a tower and its class, as far as they are known."""
    parts = [str(tower["site"].values)] if "site" in tower.coords else []
    if "igbp" in tower.coords:
        code = str(tower["igbp"].values)
        parts.append(IGBP_CLASSES.get(code, code))
    return ", ".join(parts)


def pretty(units: str) -> str:
    """Write CF units for people.

    Examples
    --------
    >>> pretty("umol m-2 s-1")
    'µmol m$^{-2}$ s$^{-1}$'
    """
    parts = []
    for part in units.split(" "):
        base = part.rstrip("-0123456789")
        parts.append(f"{base}$^{{{part[len(base) :]}}}$" if base and base != part else part)
    return " ".join(parts).replace("umol", "µmol")


def _coord_label(coord: xr.DataArray) -> str:
    name = coord.attrs.get("long_name", str(coord.name))
    return f"{name} [{pretty(coord.attrs['units'])}]" if "units" in coord.attrs else name


def _style(label: str, position: int) -> tuple[str, str]:
    """Colour and marker of a label: fixed for an IGBP class, in turn for anything else."""
    return IGBP_STYLES.get(label) or _STYLES[position % len(_STYLES)]


def _scatter_classes(ax: Axes, lon: np.ndarray, lat: np.ndarray, labels: np.ndarray) -> None:
    """Draw the towers class by class, large classes first so that they hide no small one."""
    names, counts = np.unique(labels, return_counts=True)
    for position in np.argsort(-counts, kind="stable"):
        name = str(names[position])
        color, marker = _style(name, int(position))
        here = labels == name
        ax.scatter(
            lon[here],
            lat[here],
            s=24,
            color=color,
            marker=marker,
            edgecolors="white",
            linewidths=0.4,
            zorder=2,
            label=f"{name} {IGBP_CLASSES.get(name, '')}".rstrip() + f" ({counts[position]})",
        )


def _draw_importance(explained: xr.Dataset, measure: str) -> Figure:
    """Draw a measure ``(class, variable)``, all towers first, and if it is there ``(class, lag)``."""
    import matplotlib.pyplot as plt

    if explained[measure].ndim == 1:
        explained = explained.expand_dims(igbp=["all"])
    by = explained[measure].dims[0]
    explained = explained.isel(variable=np.argsort(explained[measure][0].fillna(-np.inf).values))
    explained = explained.dropna(by, how="all", subset=[measure])
    if not explained.sizes[by]:
        raise OptionError(f"{measure} is missing throughout: no hour could be predicted and scored")
    everywhere, by_lag = explained.isel({by: 0}), explained.get(f"lag_{measure}")
    heights = [0.5 + 0.22 * everywhere.sizes["variable"]] + ([] if by_lag is None else [2.2])
    classes = explained.sizes[by] - 1
    figure = plt.figure(figsize=(7.2 if classes else 5.0, sum(heights) + 0.5), layout="constrained")
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    widths = [1, min(0.2 + 0.18 * classes, 2.5)]
    upper = grid[0].subgridspec(1, 2, width_ratios=widths) if classes else grid
    _draw_bars(figure.add_subplot(upper[0]), everywhere[measure], everywhere.get(f"{measure}_interval"))
    if classes:
        _draw_classes(figure.add_subplot(upper[1]), explained[measure])
    if by_lag is not None:
        _draw_lags(figure.add_subplot(grid[1]), by_lag, everywhere["lag_bnds"].values)
    return figure


def _draw_bars(ax: Axes, values: xr.DataArray, interval: xr.DataArray | None) -> None:
    ax.barh(values["variable"].values.astype(str), values, color=_PREDICTED, height=0.7)
    if interval is not None:
        ax.hlines(np.arange(values.size), *interval.transpose("bound", ...), color=_OBSERVED, linewidth=1)
    ax.axvline(0, color=_OBSERVED, linewidth=0.6)
    ax.set_ylim(-0.5, values.size - 0.5)
    ax.set_xlabel(_coord_label(values))
    ax.set_title("all towers", loc="left", fontsize="medium")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    _strip(ax)


def _draw_classes(ax: Axes, values: xr.DataArray) -> None:
    """Draw a map of heat, ``(class, variable)`` less the first class, whose rows are those of the bars."""
    from matplotlib.colors import PowerNorm

    names, table = values[values.dims[0]].values[1:].astype(str), values.values[1:].T
    # A class whose flux hardly varies would leave no colour to the others.
    norm = PowerNorm(0.5, vmin=0, vmax=_most(values), clip=True)
    ax.imshow(table, cmap="Oranges", norm=norm, aspect="auto", origin="lower")
    for (row, column), value in np.ndenumerate(table if len(names) <= _NUMBERED else table[:0]):
        if np.isfinite(value):
            color = "white" if norm(value) > 0.7 else _OBSERVED
            ax.text(column, row, f"{value:z.2f}", ha="center", va="center", fontsize="x-small", color=color)
    ax.set_xticks(range(len(names)), names, rotation=90 if len(names) > _NUMBERED else 0, fontsize="small")
    ax.set_yticks([])
    ax.set_title("by class", loc="left", fontsize="medium")
    for spine in ax.spines.values():
        spine.set_visible(False)


def _most(values: xr.DataArray) -> float:
    """Tell how much importance to show: three times the largest one of all towers."""
    return 3 * max(float(np.nanmax(values[0], initial=0)), 1e-3)


def _draw_lags(ax: Axes, values: xr.DataArray, bounds: np.ndarray) -> None:
    """Draw steps ``(class, lag)``, of equal width however many hours are in a bin."""
    edges = np.arange(len(bounds) + 1) - 0.5
    for number, name in enumerate(values[values.dims[0]].values.astype(str)):
        color, width = (_style(name, number)[0], 1.0) if number else (_OBSERVED, 2.0)
        ax.stairs(values[number], edges, baseline=None, label=name, color=color, lw=width, zorder=9 - number)
    names = [f"{first}" if end - first == 1 else f"{first}–{end - 1}" for first, end in bounds]
    ax.axhline(0, color=_QUIET, linewidth=0.6, zorder=0)
    ax.set_xticks(range(len(names)), names)
    ax.set_xlim(edges[0], edges[-1])
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, -_most(values)), min(high, _most(values)))
    ax.set_xlabel("hours before the predicted one")
    ax.set_ylabel(_coord_label(values), fontsize="small")
    if 1 < len(values) <= _NUMBERED + 1:
        ax.legend(frameon=False, fontsize="small", ncols=2)
    _strip(ax)


def _land() -> list[np.ndarray]:
    """Rings of land, each ``(points, 2)``: longitude and latitude [degrees]."""
    file = importlib.resources.files("xcarbon") / "data" / "land_110m.npz"
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as outline:
        points = np.stack([outline["lon"], outline["lat"]], axis=1)
    breaks = np.flatnonzero(np.isnan(points[:, 0]))
    return [ring[~np.isnan(ring[:, 0])] for ring in np.split(points, breaks)]


def _draw_land(ax: Axes) -> None:
    from matplotlib.collections import PolyCollection

    land = PolyCollection(_land(), facecolors=_LAND, edgecolors=_LAND, linewidths=0.3, zorder=0)
    ax.add_collection(land)
    ax.set(xlim=(-180, 180), ylim=(-60, 85), aspect="equal")
    ax.set_xticks(range(-120, 121, 60), ["120° W", "60° W", "0°", "60° E", "120° E"])
    ax.set_yticks(range(-60, 61, 30), ["60° S", "30° S", "0°", "30° N", "60° N"])
    ax.tick_params(length=0, labelsize="small", labelcolor=_QUIET)
    ax.grid(color="white", linewidth=0.6, zorder=1)
    ax.set_axisbelow(True)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return the axes, or new ones in a figure of some size [inches]."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def _date_axis(ax: Axes, time: xr.DataArray) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=4, maxticks=9)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    ax.set_xlim(time.values[0], time.values[-1])
    ax.set_xlabel("local standard time")


def _strip(ax: Axes) -> None:
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
