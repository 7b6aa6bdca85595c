"""Records of a tower fused to one series, and the series of all towers as one lazy Dataset."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core import conventions
from xcarbon.core.conventions import HOUR, MISSING_FLAG, QC
from xcarbon.core.variables import VARIABLES, common_scheme
from xcarbon.io import badm
from xcarbon.io.badm import SiteMetadata
from xcarbon.io.columns import Source
from xcarbon.io.records import Hours, Record, read_hours
from xcarbon.prep.fuse import Option, fuse, place

#: The towers of FLUXNET2015 that are not under CC-BY-4.0 but under its Tier Two policy.
_TIER_TWO = {"RU-Sam", "RU-SkP", "RU-Tks", "RU-Vrk", "SE-St1", "ZA-Kru"}
#: Flag of each hour's release, for each variable.
RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Tower:
    """A tower with its records, the newest release first."""

    site: str
    records: tuple[Record, ...]

    @property
    def sources(self) -> list[Source]:
        """Its files."""
        return [record.release.source for record in self.records]

    def columns(self, code: str) -> list[str]:
        """Columns that hold a variable in any of its records."""
        return [column for record in self.records for column in record.columns.get(code, ())]

    @property
    def names(self) -> set[str]:
        """Names of its variables and their codes in the Dataset."""
        values = {code for record in self.records for code in record.columns}
        return values | {f"{code}{QC}" for record in self.records for code in record.coded}


def group_towers(records: Iterable[Record]) -> list[Tower]:
    """Group records, which are sorted by site and the newest first, to towers.

    Of releases that their names put on a par the one that ends last is the newest, and a file with the
    name, the hours and the variables of another one is a copy of it.
    """
    groups = itertools.groupby(records, lambda record: record.release.site)
    return [Tower(site, tuple(_newest_first(of))) for site, of in groups]


def _newest_first(records: Iterable[Record]) -> list[Record]:
    """Sort records of a tower by what is in them, without copies."""
    distinct: dict[Any, Record] = {}
    for record in records:
        key = (record.release.stem, record.first, record.rows, *record.columns)
        distinct.setdefault(key, record)
    return sorted(distinct.values(), key=lambda of: (of.release.rank, of.end), reverse=True)


def labels(towers: Iterable[Tower]) -> list[str]:
    """Name all releases of some towers, from old to new; a flag is a position in them."""
    releases = [record.release for tower in towers for record in tower.records]
    return list(dict.fromkeys(release.label for release in sorted(releases, key=lambda of: of.rank)))


@dataclass(frozen=True, slots=True)
class Series:
    """A tower's values on the time axis of all towers.

    Attributes
    ----------
    arrays : dict
        Of each variable, of its codes as ``<code>_QC``, and of the position of its release as
        ``<code>_release``; ``(time,)`` each.
    audit : list of dict
        Of each release: its name, its file, how many hours each of its columns gave to each variable
        before fusion, how many hours the tower has from it, and the share of hours with equal halves.
    """

    arrays: dict[str, NDArray[Any]]
    audit: list[dict[str, Any]]


def read_tower(tower: Tower, start: np.datetime64, total: int, releases: Sequence[str]) -> Series:
    """Read all records of a tower and fuse them.

    Parameters
    ----------
    tower : Tower
        The tower.
    start : numpy.datetime64
        First hour of the time axis.
    total : int
        Its number of hours.
    releases : sequence of str
        What the flags of the release count.

    Returns
    -------
    Series
        The lower quality code wins, of equals the newer release.
    """
    return fuse_records(tower.records, map(read_hours, tower.records), start, total, releases)


def fuse_records(
    records: Sequence[Record],
    hours: Iterable[Hours],
    start: np.datetime64,
    total: int,
    releases: Sequence[str],
) -> Series:
    """Fuse what was read of a tower, see :func:`read_tower`; the newest release comes first."""
    hours = list(hours)
    befores = [int((record.start - start) / HOUR) for record in records]
    flags = np.array([releases.index(record.release.label) for record in records], np.int8)
    arrays: dict[str, NDArray[Any]] = {}
    kept: list[dict[str, int]] = [{} for _ in hours]
    for code in VARIABLES:
        having = [index for index, of in enumerate(hours) if code in of.options]
        if not having:
            continue
        fused = fuse([_place(hours[i].options[code], befores[i], total) for i in having])
        arrays[code] = fused.values
        arrays[f"{code}{QC}"] = fused.codes
        arrays[f"{code}_{RELEASE}"] = np.where(fused.origin < 0, MISSING_FLAG, flags[having][fused.origin])
        for position, index in enumerate(having):
            kept[index][code] = int((fused.origin == position).sum())
    return Series(arrays, [_audit(*of) for of in zip(records, hours, kept, strict=True)])


def _place(option: Option, before: int, total: int) -> Option:
    values = place(option.values, before, total, np.float32(np.nan))
    return Option(values, place(option.codes, before, total, MISSING_FLAG))


def _audit(record: Record, hours: Hours, kept: dict[str, int]) -> dict[str, Any]:
    return {
        "release": record.release.label,
        "file": str(record.release.source),
        "first_hour": str(record.start),
        "hours": record.hours,
        "columns": hours.taken,
        "kept": kept,
        "beyond_limits": hours.beyond_limits,
        "equal_halves": None if np.isnan(hours.equal_halves) else round(hours.equal_halves, 4),
    }


# Labels

_DIMS = ("site", "time")


def missing_value(name: str) -> np.float32 | np.int8:
    """Give the missing value of a variable or of its codes, which also tells its type."""
    return np.float32(np.nan) if name in VARIABLES else MISSING_FLAG


def time_axis(towers: Iterable[Tower]) -> NDArray[np.datetime64]:
    """Give the hours from the first to the last of any tower."""
    records = [record for tower in towers for record in tower.records]
    start, end = min(record.start for record in records), max(record.end for record in records)
    return np.arange(start, end).astype("M8[ns]")


def label(towers: list[Tower], sites: list[SiteMetadata]) -> xr.Dataset:
    """Put the towers' arrays, one task for each tower, under ``(site, time)``."""
    time, releases = time_axis(towers), labels(towers)
    start = time[0].astype("M8[h]")
    series = [dask.delayed(read_tower)(tower, start, time.size, releases) for tower in towers]
    variables: dict[str, Any] = {}
    for code in VARIABLES:
        columns = list(dict.fromkeys(column for tower in towers for column in tower.columns(code)))
        if not columns:
            continue
        attrs: dict[str, Any] = {"source_column": ", ".join(columns)}
        variables[code] = (_DIMS, _stack(series, towers, code, time.size), attrs)
        name = f"{code}{QC}"
        if any(name in tower.names for tower in towers):
            attrs = conventions.quality_attrs(code, common_scheme(columns))
            variables[name] = (_DIMS, _stack(series, towers, name, time.size), attrs)
    coords = badm.site_coordinates(sites) | {"time": time}
    if any(len(tower.records) > 1 for tower in towers):
        codes = [code for code in VARIABLES if code in variables]
        stacked = da.concatenate(
            [_lazily(_pick_releases, of, codes, (1, len(codes), time.size)) for of in series]
        )
        variables[RELEASE] = (("site", "code", "time"), stacked, conventions.release_attrs(releases))
        coords["code"] = codes
    return xr.Dataset(variables, coords)


def _stack(series: list[Any], towers: list[Tower], name: str, total: int) -> da.Array:
    """Stack an array of each tower to (site, time), missing where a tower lacks it."""
    missing, shape = missing_value(name), (1, total)
    return da.concatenate(
        [
            _lazily(_pick, of, name, shape) if name in tower.names else da.full(shape, missing, chunks=shape)
            for of, tower in zip(series, towers, strict=True)
        ]
    )


def _lazily(function: Any, series: Any, key: Any, shape: tuple[int, ...]) -> da.Array:
    """Map a function of a tower's series and a key to an array."""
    dtype = missing_value(key).dtype if isinstance(key, str) else np.int8
    return da.from_delayed(dask.delayed(function)(series, key), shape, dtype)


def _pick(series: Series, name: str) -> NDArray[Any]:
    return series.arrays[name][np.newaxis]


def _pick_releases(series: Series, codes: Sequence[str]) -> NDArray[np.int8]:
    return stack_releases(series, codes)[np.newaxis]


def stack_releases(series: Series, codes: Sequence[str]) -> NDArray[np.int8]:
    """Stack the flags of a tower's releases to (code, time), missing for codes that it lacks."""
    total = next(iter(series.arrays.values())).size
    missing = np.full(total, MISSING_FLAG)
    return np.stack([series.arrays.get(f"{code}_{RELEASE}", missing) for code in codes])


def terms(towers: Iterable[Tower]) -> dict[str, str]:
    """Give the title, and licence and references as far as they are known of all files."""
    releases = [record.release for tower in towers for record in tower.records]
    licences = dict.fromkeys(release.product.license for release in releases)
    references = dict.fromkeys(release.product.references for release in releases)
    products = dict.fromkeys(release.product.name for release in releases)
    found = {"title": f"flux towers of {', '.join(products)}"}
    if all(licences):
        tier_two = sorted({of.site for of in releases if of.product.name == "FLUXNET2015"} & _TIER_TWO)
        policy = f", but FLUXNET2015 Tier Two policy for {', '.join(tier_two)}" if tier_two else ""
        found["license"] = ", ".join(licences) + policy
    if any(references):
        found["references"] = "; ".join(filter(None, references))
    return found
