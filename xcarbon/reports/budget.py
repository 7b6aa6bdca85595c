"""The carbon budget of towers as a folder: fluxes, tables, figures and a page for a supplement."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xcarbon.budget import budget, fill_and_partition
from xcarbon.budget.balance import CAUSES, FLUXES, is_complete
from xcarbon.budget.sums import LOWER, TERMS, UPPER
from xcarbon.core.atomic import check_free, replacing
from xcarbon.core.errors import OptionError
from xcarbon.core.extras import require
from xcarbon.core.options import progress_bar
from xcarbon.core.variables import FILLED, IGBP_CLASSES, MODEL, SPREAD
from xcarbon.io.netcdf import write_netcdf
from xcarbon.models.bundle import CarbonModel
from xcarbon.plotting import CarbonPlot
from xcarbon.reports.pages import Page

#: Resolutions of the tables, and the names of their files.
TABLES = {"YY": "annual.csv", "MM": "monthly.csv"}
_NAMES = {
    "NEE": "NEE", "GPP_NT": "GPP (night-time)", "RECO_NT": "RECO (night-time)", "GPP_DT": "GPP (daytime)",
    "RECO_DT": "RECO (daytime)",
}  # fmt: skip
_CAUSES = {
    "random": "random errors of measurement",
    "filling": "filling of gaps",
    "threshold": "threshold of friction velocity",
    "parameters": "parameters of the partitioning",
    "method": "method of partitioning",
}
_ADAPTED = (
    "Boosted trees adapt the model to the tower: they combine its predictions with the weather before and "
    "after each hour, and are trained on the measured hours of the tower."
)
_METHODS = (
    "NEE is partitioned into gross primary production (GPP) and ecosystem respiration (RECO) by the "
    "night-time method (Reichstein et al. 2005) and by the daytime method (Lasslop et al. 2010). With the "
    "night-time method, GPP is RECO minus NEE; with the daytime method, both are modelled.",
    "Random errors of measurement are independent in each hour. Errors of filled hours are correlated: their "
    "variance is that of the errors of the model in measured hours, and the correlation is the usual one in "
    "gaps that were hidden at other towers. With an adapted model, both depend on the length of the gap. The "
    "error due to the threshold of friction velocity is half the difference between the percentiles 84 and "
    "16 of the sum. The error due to the method is the difference between both methods divided by the square "
    "root of 2. All causes are regarded as independent, and their variances are added (Pastorello et al. "
    "2020). Intervals are those of a normal distribution. Systematic errors of all hours, "
    "such as advection, are not included.",
)
_REFERENCES = (
    "Reichstein, M., et al. (2005), On the separation of net ecosystem exchange into assimilation and "
    "ecosystem respiration: review and improved algorithm, Global Change Biology 11, 1424-1439, "
    "doi:10.1111/j.1365-2486.2005.001002.x",
    "Lasslop, G., et al. (2010), Separation of net ecosystem exchange into assimilation and respiration "
    "using a light response curve approach: critical issues and global evaluation, Global Change Biology 16, "
    "187-208, doi:10.1111/j.1365-2486.2009.02041.x",
    "Pastorello, G., et al. (2020), The FLUXNET2015 dataset and the ONEFlux processing pipeline for eddy "
    "covariance data, Scientific Data 7, 225, doi:10.1038/s41597-020-0534-3",
)
_ANNUAL = (
    "Annual sums [g of carbon m-2], with 90 % intervals in brackets, and shares of the hours that are filled "
    "or missing. NEE is positive into the air; GPP and RECO are positive for usual conditions. A dash marks "
    "a year with too many missing hours."
)
_ERRORS = (
    "Standard errors of annual sums by their cause [g of carbon m-2], as root mean squares over the years. "
    "The squares of the causes are added. A dash marks a cause that is unknown or does not apply."
)
_MONTHLY = (
    "Monthly sums of NEE [g of carbon m-2], with 90 % intervals in brackets. The sums of all fluxes are in "
    "monthly.csv."
)


def write_budget(
    ds: xr.Dataset,
    folder: str | os.PathLike[str],
    model: CarbonModel | str | os.PathLike[str] | None = None,
    *,
    thresholds: Mapping[str, xr.Dataset] | None = None,
    max_qc: int = 0,
    max_missing: float = 0.0,
    overwrite: bool = False,
) -> Path:
    """Write the carbon budget of towers: filled and partitioned fluxes, tables of sums, figures and a page.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers as for :func:`~xcarbon.budget.fill_and_partition`; or its result.
    folder : path-like
        Folder to write. It contains ``fluxes.nc``, the hourly fluxes; ``annual.csv`` and ``monthly.csv``, the
        sums with their 90 % intervals and the causes of their errors [g m-2 of carbon]; ``report.html``, a
        page with methods, settings, citations, tables and figures that needs no other file; and the same page
        as ``report.md`` with ``figures``.
    model
        As for :func:`~xcarbon.budget.budget`.
    thresholds : mapping of str to xarray.Dataset, optional
        Percentiles over friction velocity thresholds as for :func:`~xcarbon.budget.budget`, by resolution:
        ``{"YY": yearly, "MM": monthly}``.
    max_qc, max_missing
        As for :func:`~xcarbon.budget.budget`.
    overwrite : bool
        Whether to replace an existing folder.

    Returns
    -------
    pathlib.Path
        The folder, which is complete: after an error or an interruption it is as it was before.

    Raises
    ------
    StoreError
        If the folder exists and ``overwrite`` is False, or the disk is full.
    XCarbonError
        If matplotlib is not installed.
    OptionError, VariableError, MetadataError, TimestampError, ModelError
        As :func:`~xcarbon.budget.budget` raises them.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from xcarbon.testing import synthetic_towers
    >>> tower = synthetic_towers(1, patches=False, variables=["TA", "SW_IN", "VPD", "NEE"])
    >>> with TemporaryDirectory() as place:
    ...     folder = write_budget(tower, Path(place, "budget"), "mds")
    ...     sorted(path.name for path in folder.iterdir())
    ['annual.csv', 'figures', 'fluxes.nc', 'monthly.csv', 'report.html', 'report.md']
    """
    folder = Path(folder)
    check_free(folder, overwrite=overwrite)
    require("figures of the budget", "plot", "matplotlib")
    given = {} if thresholds is None else thresholds
    if not isinstance(given, Mapping) or not set(given) <= set(TABLES):
        raise OptionError(
            f"thresholds must be a dict of Datasets by the resolutions {list(TABLES)}, such as "
            f"{{'YY': yearly}}, but it is {type(given).__name__}"
        )
    fluxes = ds if is_complete(ds) else fill_and_partition(ds, model, max_qc=max_qc)

    def summed() -> dict[str, xr.Dataset]:
        return {
            name: budget(fluxes, resolution=name, thresholds=given.get(name), max_missing=max_missing)
            for name in TABLES
        }

    summed()  # raises errors before hours of work
    with progress_bar("filling and partitioning"):
        fluxes = fluxes.compute()
    sums = summed()
    settings = {} if is_complete(ds) else {"quality flag of measured NEE": f"at most {max_qc}"}
    settings |= {
        "errors of hours": str(fluxes.get(f"NEE{SPREAD}", fluxes["NEE"]).attrs.get("comment", "unknown")),
        "friction velocity thresholds": "percentiles of the network"
        if given
        else "not included: no percentiles",
        "highest share of missing hours": f"{max_missing:.1%} of a period",
    }
    with replacing(folder) as temporary:
        temporary.mkdir()
        write_netcdf(fluxes, temporary / "fluxes.nc")
        for resolution, name in TABLES.items():
            table(sums[resolution]).to_csv(temporary / name, index=False, float_format="%.6g")
        _page(fluxes, sums, settings).write(temporary)
    return folder


def table(sums: xr.Dataset) -> pd.DataFrame:
    """Convert the sums of a budget to a table with a row for each tower and period."""
    plain = sums.drop_dims("term").drop_vars(["time_bnds"], errors="ignore")
    for code in FLUXES:
        for cause in CAUSES:
            plain[f"{code}{SPREAD}_{cause}"] = sums[f"{code}{TERMS}"].sel(term=cause, drop=True)
    keys = [dim for dim in ("site", "time") if dim in plain.coords]
    first = [name for code in FLUXES for name in plain.data_vars if str(name).startswith(code)]
    frame = plain[[*first, "share_filled", "share_missing"]].to_dataframe().reset_index()
    return frame[[*keys, *first, "share_filled", "share_missing"]].sort_values(keys)


def _page(fluxes: xr.Dataset, sums: Mapping[str, xr.Dataset], settings: Mapping[str, str]) -> Page:
    """Compose the page."""
    sites = list(fluxes["site"].values.astype(str)) if "site" in fluxes.dims else [None]
    named = [site or str(fluxes.coords.get("site", xr.DataArray("a tower")).item()) for site in sites]
    page = Page(f"Carbon budget of {named[0] if len(named) == 1 else f'{len(named)} towers'}")
    for site, name in zip(sites, named, strict=True):
        chosen = {} if site is None else {"site": [site]}
        of_tower = {resolution: each.sel(chosen) for resolution, each in sums.items()}
        _tower(page, fluxes.sel(chosen), of_tower, name, len(named) > 1)
    _methods(page, fluxes, settings)
    return page


def _tower(
    page: Page, fluxes: xr.Dataset, sums: Mapping[str, xr.Dataset], name: str, with_heading: bool
) -> None:
    """Add the section of a tower."""
    if with_heading:
        page.heading(name)
    annual, monthly = (each.squeeze("site") if "site" in each.dims else each for each in sums.values())
    years = int(annual["NEE"].notnull().sum())
    _lead(page, annual, years)
    page.table(["", ""], list(_facts(fluxes)), is_text=True)
    _years(page, annual)
    if years:
        _causes(page, annual)
    figures, ident = CarbonPlot(fluxes), name.lower()
    if years:
        page.figure(f"annual-{ident}", _drawn(figures.sums(sums["YY"])), "Annual sums with 90 % intervals.")
    page.figure(f"monthly-{ident}", _drawn(figures.sums(sums["MM"])), "Monthly sums with 90 % intervals.")
    complete = annual["time"].dt.year.values[annual["share_missing"].values == 0].tolist()
    if complete:
        page.figure(
            f"cumulative-{ident}",
            _drawn(figures.year(year=complete[-8:])),
            "Daily means and cumulative sums of NEE"
            + (", in the last 8 complete years." if len(complete) > 8 else "."),
        )
    _months(page, monthly)
    _hours(page, fluxes, ident)


def _lead(page: Page, annual: xr.Dataset, years: int) -> None:
    """Add a sentence on the mean annual sums of a tower."""
    if years:
        known = annual["NEE"].notnull()
        means = ", ".join(
            f"{_NAMES[code]} {_number(float(annual[code].where(known).mean()))}"
            for code in ("NEE", "GPP_NT", "RECO_NT")
        )
        what = f"Mean annual sums of {years} years" if years > 1 else "Sums of one year"
        page.text(f"{what} [g of carbon m-2]: {means}.", "lead")
    else:
        page.text("No calendar year has a value in each hour, so that there are no annual sums.", "lead")


def _years(page: Page, annual: xr.Dataset) -> None:
    """Add the table of annual sums of a tower."""
    page.table(
        ["year", *_NAMES.values(), "filled", "missing"],
        [
            [
                str(of_year["time"].dt.year.item()),
                *(_with_interval(of_year, code) for code in FLUXES),
                *(f"{float(of_year[f'share_{what}']):.0%}" for what in ("filled", "missing")),
            ]
            for of_year in (annual.isel(time=n) for n in range(annual.sizes["time"]))
        ],
        _ANNUAL,
    )


def _hours(page: Page, fluxes: xr.Dataset, ident: str) -> None:
    """Add the figures of the hours of NEE of a tower."""
    figures = CarbonPlot(fluxes)
    page.figure(f"hours-{ident}", _drawn(figures.gaps("NEE")), "Measured, filled and missing hours of NEE.")
    if (fluxes[f"NEE{FILLED}"] == 0).any():
        page.figure(
            f"fingerprint-{ident}",
            _drawn(figures.fingerprint()),
            "Hours of NEE in the year with the most measured hours.",
        )
        page.figure(
            f"diurnal-{ident}",
            _drawn(figures.diurnal(_modelled(fluxes))),
            "Mean diurnal cycle of NEE in the measured hours of each month: observations, and predictions of "
            "the model that fills the gaps.",
        )


def _modelled(fluxes: xr.Dataset) -> xr.DataArray:
    return fluxes[f"NEE{MODEL}"].rename("NEE")


def _drawn(drawn: Any) -> Any:
    """Return the figure of axes, closed for pyplot, which would keep it in memory."""
    from matplotlib import pyplot as plt

    figure = drawn if hasattr(drawn, "savefig") else drawn.figure
    plt.close(figure)
    return figure


def _facts(fluxes: xr.Dataset) -> Iterator[list[str]]:
    """Yield name, place and hours of a tower."""
    tower = fluxes.squeeze("site") if "site" in fluxes.dims else fluxes
    for coord, name in {"site": "tower", "site_name": "name"}.items():
        if coord in tower.coords and str(tower[coord].item()):
            yield [name, str(tower[coord].item())]
    if {"lat", "lon"} <= set(tower.coords):
        lat, lon = float(tower["lat"]), float(tower["lon"])
        place = f"{abs(lat):.4f}° {'N' if lat >= 0 else 'S'}, {abs(lon):.4f}° {'E' if lon >= 0 else 'W'}"
        height = float(tower.coords.get("elevation", np.nan))
        yield ["place", place + (f", {height:.0f} m above sea level" if np.isfinite(height) else "")]
    if "igbp" in tower.coords:
        yield ["vegetation", IGBP_CLASSES.get(str(tower["igbp"].item()), str(tower["igbp"].item()))]
    first, last = tower["time"].values[[0, -1]].astype("M8[D]")
    offset = float(tower.coords.get("utc_offset", np.nan))
    clock = f", local standard time (UTC{offset:+g} h)" if np.isfinite(offset) else ", local standard time"
    yield ["record", f"{first} to {last}{clock}"]
    flag, total = tower[f"NEE{FILLED}"], tower.sizes["time"]
    shares = {
        what: int((flag == value).sum()) for value, what in ((0, "measured"), (1, "filled"), (-1, "missing"))
    }
    yield ["hours of NEE", ", ".join(f"{what} {n:,} ({n / total:.0%})" for what, n in shares.items())]
    if "citation" in tower.coords and str(tower["citation"].item()):
        yield ["citation", str(tower["citation"].item())]


def _causes(page: Page, annual: xr.Dataset) -> None:
    """Add the table of the causes of uncertainty."""
    rows = []
    for cause in [*CAUSES, "all"]:
        errors = [
            annual[f"{code}{SPREAD}"] if cause == "all" else annual[f"{code}{TERMS}"].sel(term=cause)
            for code in FLUXES
        ]
        cells = [_number(float(np.sqrt((each**2).mean()))) for each in errors]
        rows.append([_CAUSES.get(cause, "all"), *cells])
    page.table(
        ["cause", *_NAMES.values()],
        rows,
        _ERRORS,
    )


def _months(page: Page, monthly: xr.Dataset) -> None:
    """Add the table of monthly sums of NEE, with a row for each year."""
    cells = {
        (int(month["time"].dt.year), int(month["time"].dt.month)): _with_interval(month, "NEE")
        for month in (monthly.isel(time=n) for n in range(monthly.sizes["time"]))
    }
    years = sorted({year for year, _ in cells})
    names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    page.table(
        ["year", *names],
        [[str(year), *(cells.get((year, month), "–") for month in range(1, 13))] for year in years],
        _MONTHLY,
    )


def _methods(page: Page, fluxes: xr.Dataset, settings: Mapping[str, str]) -> None:
    """Add methods, settings, versions and citations."""
    page.heading("Methods")
    source = fluxes[f"NEE{MODEL}"].attrs.get("source", "a model")
    page.text(f"Measured hours of NEE are kept. The other hours are filled by {source}.")
    if "adapted" in source:
        page.text(_ADAPTED)
    for text in _METHODS:
        page.text(text)
    page.heading("Settings, data and software")
    stated = {name: str(fluxes.attrs.get(name, "")) for name in ("title", "source", "license", "references")}
    rows = [[name, text] for name, text in settings.items()]
    rows += [[f"{name} of the data", text] for name, text in stated.items() if text]
    libraries = ("xcarbon", "numpy", "scipy", "xarray", "dask", "xgboost")
    rows.append(["software", ", ".join(f"{name} {version(name)}" for name in libraries)])
    rows.append(["date", f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"])
    page.table(["", ""], rows, is_text=True)
    page.heading("References")
    for text in _REFERENCES:
        page.text(text)


def _with_interval(sums: xr.Dataset, code: str) -> str:
    """Return a sum and its interval in brackets."""
    total, low, high = (float(sums[code + ending]) for ending in ("", LOWER, UPPER))
    interval = f" [{_number(low)}, {_number(high)}]" if np.isfinite(low) else ""
    return f"{_number(total)}{interval}"


def _number(value: float) -> str:
    """Return a number without decimals, with one below 10, or a dash for a missing one."""
    if not np.isfinite(value):
        return "–"
    text = f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.1f}"
    return text.replace("-", "−")
