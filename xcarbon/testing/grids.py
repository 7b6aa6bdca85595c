"""Simulate drivers, land cover and satellite fields on a grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from xcarbon.core.conventions import apply
from xcarbon.core.errors import OptionError
from xcarbon.io.landcover import land_fraction_attrs
from xcarbon.testing.simulation import Period, Site, absorbed_light, tower_rows
from xcarbon.testing.towers import per_site, select

#: Spacing of the cells [degrees], and the north-western corner of the grid [degrees_north, degrees_east].
STEP, CORNER = 0.25, (50.0, 8.0)
#: Classes of land from the most frequent to the least.
_CLASSES = ("CRO", "DBF", "GRA", "ENF")
_HOURS = 744


def synthetic_grid(
    n_lat: int = 4,
    n_lon: int = 6,
    years: int = 1,
    seed: int = 0,
    *,
    variables: Sequence[str] = ("TA", "SW_IN", "VPD"),
    start: str = "2010-01-01",
) -> xr.Dataset:
    """Simulate hourly drivers, land cover and monthly satellite fields on a grid, lazily.

    Parameters
    ----------
    n_lat, n_lon : int
        Number of cells of 0.25 degrees southwards and eastwards from 50 degrees north, 8 degrees east.
    years : int
        Length of the record [years].
    seed : int
        Random seed for the simulation. All cells have the same weather systems; temperature and sunlight
        differ by their coordinates and elevations, and fluxes by their classes.
    variables : sequence of str
        Codes of the variables, as in :func:`synthetic_towers`; targets such as ``NEE`` are simulated without
        gaps.
    start : str
        First day, as ``"YYYY-MM-DD"``.

    Returns
    -------
    xarray.Dataset
        Float32 variables ``(time, lat, lon)`` in the units of the vocabulary, with ``time`` in UTC and one
        chunk per month; ``FAPAR`` and ``LAI (day, lat, lon)`` [1], one value per month; ``land_fraction (lat,
        lon)`` [1], and the coordinates ``igbp (lat, lon)`` and ``elevation (lat, lon)`` [m]. The cell in the
        south-east is a lake, with drivers but without a class or satellite fields.

    Raises
    ------
    VariableError
        If a variable is unknown or cannot be simulated.
    OptionError
        If a number of cells or years is less than 1.

    Examples
    --------
    >>> ds = synthetic_grid(2, 3)
    >>> ds["TA"].dims, ds["igbp"].values.tolist()
    (('time', 'lat', 'lon'), [['DBF', 'CRO', 'CRO'], ['CRO', 'GRA', '']])
    >>> dict(ds.sizes)
    {'time': 8760, 'lat': 2, 'lon': 3, 'day': 12, 'bnds': 2}
    """
    if min(n_lat, n_lon, years) < 1:
        raise OptionError(f"n_lat, n_lon and years must be at least 1, found {n_lat=}, {n_lon=} and {years=}")
    codes = select(variables)
    period = Period(start, years)
    lat, lon = CORNER[0] - STEP * np.arange(n_lat), CORNER[1] + STEP * np.arange(n_lon)
    rng = np.random.default_rng(seed)
    igbp = rng.choice(_CLASSES, (n_lat, n_lon), p=(0.4, 0.25, 0.2, 0.15))
    elevation = rng.uniform(100, 900, (n_lat, n_lon)).round()
    igbp[-1, -1] = ""
    # The vegetation of the lake is that of any class, because fluxes over water are not simulated.
    sites = []
    for y, x in np.ndindex(n_lat, n_lon):
        place = {"lat": float(lat[y]), "lon": float(lon[x]), "elevation": float(elevation[y, x])}
        kind = str(igbp[y, x]) or _CLASSES[0]
        sites.append(Site(seed, 0, kind, utc_offset=0.0, vigour=1.0, delay=0.0, **place))
    rows = per_site(tower_rows, sites, (len(codes), period.hours.size), period=period, rows=codes, gaps=False)
    fields = rows.reshape(n_lat, n_lon, *rows.shape[1:]).transpose(2, 3, 0, 1)
    fields = fields.rechunk({0: 1, 1: _HOURS, 2: -1, 3: -1}, method="tasks")
    months = pd.date_range(start, periods=12 * years + 1, freq="MS")
    fapar = np.stack([absorbed_light(site, period) for site in sites], axis=-1)
    fapar = np.stack([part.mean(axis=0) for part in np.split(fapar, _starts(period, months))])
    fapar = fapar.reshape(-1, n_lat, n_lon).astype(np.float32)
    is_land = igbp != ""
    fapar[:, ~is_land] = np.nan
    attrs = {"composite_days": 30.4}
    ds = xr.Dataset(
        {code: (("time", "lat", "lon"), fields[number]) for number, code in enumerate(codes)}
        | {
            "FAPAR": (("day", "lat", "lon"), fapar, attrs),
            "LAI": (("day", "lat", "lon"), -2 * np.log1p(-fapar), attrs),
            "land_fraction": (("lat", "lon"), is_land.astype(np.float32), land_fraction_attrs()),
        },
        {
            "time": period.hours,
            "lat": lat,
            "lon": lon,
            "day": (months[:-1] + (months[1:] - months[:-1]) / 2).floor("D").as_unit("ns"),
            "igbp": (("lat", "lon"), igbp),
            "elevation": (("lat", "lon"), elevation.astype(np.float32)),
        },
        {
            "title": "Synthetic grid: simulated, not measured",
            "source": f"xcarbon.testing.synthetic_grid, seed {seed}",
            "license": "CC0-1.0",
        },
    )
    return apply(ds, history="simulated by xcarbon.testing.synthetic_grid")


def _starts(period: Period, months: pd.DatetimeIndex) -> np.ndarray:
    """Return the position of the first hour of each month but the first."""
    return np.searchsorted(period.hours, months[1:-1].values)
