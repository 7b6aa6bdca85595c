"""Accumulation period of sums: over the hour or since 00 UTC, as their values show.

ERA5 contains sums over the hour that ends at a stamp. ERA5-Land contains sums since 00 UTC, where the stamp
00 UTC contains the sum of the previous day. Such sums never fall within a day, and fall after 00 UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core.errors import FileFormatError
from xcarbon.core.variables import VARIABLES
from xcarbon.io.era5.drivers import Accumulated, Driver
from xcarbon.io.era5.files import DIMS, PathLike, merge_versions, open_sources

#: Shares of falls in all changes within days. Above the first, sums are over the hour, of which about half of
#: the changes are falls; below the second, they may be since 00 UTC, and falls result from rounding.
_MANY, _FEW = 0.25, 0.05
#: Changes that are smaller than this share of the largest value are rounding.
_ROUNDING = 1e-4
#: Share of unchanged positive values that sums since 00 UTC have at night or between showers.
_UNCHANGED = 0.2
#: Stamps with positive sums before them that must be in a sample; over a few hours, rain can rise by chance.
_LEAST_STAMPS = 5
#: Number of stamps that are sampled at a time, number after which one variable decides for all, and number of
#: cells along latitude and longitude.
_BLOCK, _ENOUGH, _CELLS = 48, 480, 8


def find_periods(
    files: list[tuple[PathLike, xr.Dataset]], drivers: list[Driver], where: str
) -> dict[str, Accumulated]:
    """Find the accumulation periods of sums from samples of files, which are in the order of time.

    Where the values of a variable do not decide, the period of the others is used, or that of ERA5-Land if
    the attributes of a file name it. Sums that are the same for both periods are taken to be over the hour.
    """
    found: dict[str, Accumulated | Literal["either"] | None] = {}
    samples: dict[str, list[xr.DataArray]] = {driver.code: [] for driver in drivers}
    paths = [path for path, _ in files]
    for stamps, sample in _samples(paths, [driver.sources[0] for driver in drivers]):
        for driver in drivers:
            if driver.sources[0] in sample and found.get(driver.code) not in ("hour", "day"):
                samples[driver.code].append(sample[driver.sources[0]])
                found[driver.code] = _find_period(driver, samples[driver.code])
        decided = [period in ("hour", "day") for period in found.values()]
        if sum(decided) == len(drivers) or (any(decided) and stamps >= _ENOUGH):
            break
    sure: list[Accumulated] = [period for period in found.values() if period == "hour" or period == "day"]
    attrs = " ".join(str(value) for _, opened in files for value in opened.attrs.values()).lower()
    if "era5-land" in attrs.replace("_", "-").replace(" ", "-"):
        sure.append("day")
    periods: dict[str, Accumulated] = {}
    for code in samples:
        period = found.get(code, "either")
        if period == "hour" or period == "day":
            periods[code] = period
        elif not (sure or period == "either"):
            raise FileFormatError(
                f"{where}: the values of {code} do not show whether they are sums over the hour (ERA5) or "
                "since 00 UTC (ERA5-Land); pass accumulated='hour' or accumulated='day'"
            )
        else:
            periods[code] = sure[0] if sure else "hour"
    return periods


def _find_period(driver: Driver, parts: list[xr.DataArray]) -> Accumulated | Literal["either"] | None:
    bounds = VARIABLES[driver.code].bounds
    assert bounds is not None  # every predictor has bounds
    stamps = np.concatenate([part["time"].values for part in parts]).astype("M8[h]")
    sums = np.concatenate([part.values.reshape(part.shape[0], -1) for part in parts])
    rounding = max(abs(part.encoding.get("scale_factor", 0.0)) for part in parts)
    return find_period(stamps, sums, bounds.upper / driver.factor, rounding)


def _samples(paths: list[PathLike], sources: list[str]) -> Iterator[tuple[int, xr.Dataset]]:
    """Iterate over blocks of stamps of some cells, each with the number of stamps until its end."""
    count = 0
    for path in paths:
        fields = open_sources(path, chunks=None)
        sums = fields[[name for name in sources if name in fields]]
        if not sums:
            continue
        steps = {dim: slice(None, None, -(-sums.sizes[dim] // _CELLS)) for dim in ("lat", "lon")}
        for start in range(0, sums.sizes["time"], _BLOCK):
            sample = sums.isel(steps | {"time": slice(start, start + _BLOCK)}).load()
            count += sample.sizes["time"]
            yield count, merge_versions(sample).transpose(*DIMS)


def find_period(
    stamps: NDArray[np.datetime64], sums: NDArray[np.floating[Any]], upper: float, rounding: float = 0.0
) -> Accumulated | Literal["either"] | None:
    """Find the accumulation period of sums ``(time, cell)`` at hourly stamps.

    ``upper`` is the largest plausible sum over an hour, and ``rounding`` the precision of packed values. The
    result is "either" if both periods give the same amounts, and None if the values do not decide.

    Examples
    --------
    >>> stamps = np.arange("2022-07-01T01", "2022-07-02T03", dtype="datetime64[h]")
    >>> rain = np.tile([1.0, 2.0], 13)[:, None]
    >>> find_period(stamps, rain, 300)
    'hour'
    >>> find_period(stamps, np.concatenate([rain[:24].cumsum(axis=0), rain[24:].cumsum(axis=0)]), 300)
    'day'
    >>> find_period(stamps, 0 * rain, 300), find_period(stamps[:3], rain[:3].cumsum(axis=0), 300)
    ('either', None)
    """
    follows = np.diff(stamps) == np.timedelta64(1, "h")
    is_midnight = stamps[:-1] == stamps[:-1].astype("M8[D]")
    sums = sums.astype("float64")
    before, change = sums[:-1], np.diff(sums, axis=0)
    within, after_midnight = follows & ~is_midnight, follows & is_midnight
    if not (before[within] > 0).any():
        return "either"  # the sum before, which would be subtracted, is zero or missing
    largest = float(np.nanmax(sums))
    noise = max(2 * rounding, _ROUNDING * largest)
    inside, positive = change[within], before[within] > 5 * noise
    rises, falls = inside[inside > noise].sum(), -inside[inside < -noise].sum()
    if falls > _MANY * (rises + falls):
        return "hour"
    if falls > _FEW * (rises + falls):
        return None
    of_day, fall = before[after_midnight], -change[after_midnight]
    of_day = np.where(np.isfinite(fall), of_day, 0)
    falls_at_midnight = of_day.sum() > 10 * noise and np.nansum(fall) > 0.5 * of_day.sum()
    is_unchanged = (abs(inside) <= noise) & positive
    many_unchanged = rises > 0 and is_unchanged.sum() > _UNCHANGED * positive.sum()
    too_large = largest > upper
    enough = positive.any(axis=1).sum() >= _LEAST_STAMPS  # neighbouring cells have the same weather
    if too_large or (enough and (falls_at_midnight or many_unchanged)):
        return "day"
    return None
