"""Fusion of the records of each tower into one series, and all towers as one lazy Dataset."""

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
from xcarbon.core.conventions import MISSING_FLAG, QC
from xcarbon.core.variables import VARIABLES, common_scheme
from xcarbon.io import badm
from xcarbon.io.badm import SiteMetadata
from xcarbon.io.columns import Source
from xcarbon.io.networks import Skipped, replaced
from xcarbon.io.records import Hours, Record, read_hours
from xcarbon.prep.fuse import Option, fuse, place, replace_flags

#: Towers of FLUXNET2015 that are distributed under its Tier Two policy instead of CC-BY-4.0.
_TIER_TWO = {"RU-Sam", "RU-SkP", "RU-Tks", "RU-Vrk", "SE-St1", "ZA-Kru"}
#: Variable that states, by variable and hour, the release that a value comes from.
RELEASE = "release"
_DIMS = ("site", "time")


@dataclass(frozen=True, slots=True)
class Tower:
    """A tower and its records, newest release first."""

    site: str
    records: tuple[Record, ...]

    @property
    def sources(self) -> list[Source]:
        """Files of the tower."""
        return [record.release.source for record in self.records]

    def columns(self, code: str) -> list[str]:
        """Columns of a variable in any record."""
        return [column for record in self.records for column in record.columns.get(code, ())]

    @property
    def names(self) -> set[str]:
        """Names of the variables and quality flags in the Dataset."""
        values = {code for record in self.records for code in record.columns}
        return values | {f"{code}{QC}" for record in self.records for code in record.flagged}


def group_towers(records: Iterable[Record]) -> list[Tower]:
    """Group records, which must be sorted by site and from new to old, by tower.

    Among releases with the same rank the one that ends last is the newest. A file with the same name, hours
    and variables as another one is a copy and is dropped.
    """
    groups = itertools.groupby(records, lambda record: record.release.site)
    return [Tower(site, tuple(_newest_first(group))) for site, group in groups]


def _newest_first(records: Iterable[Record]) -> list[Record]:
    """Sort the records of a tower from new to old and drop copies."""
    distinct: dict[Any, Record] = {}
    for record in records:
        key = (record.release.stem, record.first, record.rows, *record.columns)
        distinct.setdefault(key, record)
    return sorted(distinct.values(), key=lambda record: (record.release.rank, record.end), reverse=True)


def replaced_records(records: Iterable[Record], towers: Iterable[Tower]) -> list[Skipped]:
    """List the records that :func:`group_towers` dropped because they are copies."""
    return replaced(
        [record.release for record in records],
        [record.release for tower in towers for record in tower.records],
    )


def labels(towers: Iterable[Tower]) -> list[str]:
    """List the labels of all releases from old to new; a release flag is a position in this list."""
    releases = [record.release for tower in towers for record in tower.records]
    releases.sort(key=lambda release: release.rank)
    return list(dict.fromkeys(release.label for release in releases))


@dataclass(frozen=True, slots=True)
class Series:
    """Fused values of a tower on the time axis of all towers.

    Attributes
    ----------
    arrays : dict
        Values of each variable, quality flags as ``<code>_QC`` and release flags as ``<code>_release``,
        ``(time,)`` each.
    audit : list of dict
        For each release: its label and file, the number of hours from each column of each variable before
        fusion and from the release after fusion, and the share of hours with equal halves.
    """

    arrays: dict[str, NDArray[Any]]
    audit: list[dict[str, Any]]


def read_tower(tower: Tower, start: np.datetime64, total: int, releases: Sequence[str]) -> Series:
    """Read and fuse all records of a tower; see :func:`fuse_records`."""
    return fuse_records(tower.records, map(read_hours, tower.records), start, total, releases)


def fuse_records(
    records: Sequence[Record],
    hours: Iterable[Hours],
    start: np.datetime64,
    total: int,
    releases: Sequence[str],
) -> Series:
    """Fuse the hourly values of records, newest first, on the ``total`` hours from ``start``.

    The lowest quality flag wins in each hour, and ties go to the newer release. Release flags are positions
    in ``releases``.
    """
    hours = list(hours)
    befores = [int((record.start - start) / record.output_step) for record in records]
    release_flags = np.array([releases.index(record.release.label) for record in records], np.int8)
    arrays: dict[str, NDArray[Any]] = {}
    kept: list[dict[str, int]] = [{} for _ in hours]
    for code in VARIABLES:
        having = [index for index, record in enumerate(hours) if code in record.options]
        if not having:
            continue
        fused = fuse([_place(hours[i].options[code], befores[i], total) for i in having])
        origin, missing = release_flags[having][fused.origin], fused.origin < 0
        arrays[code] = fused.values
        arrays[f"{code}{QC}"] = fused.flags
        arrays[f"{code}_{RELEASE}"] = replace_flags(origin, missing)
        for position, index in enumerate(having):
            kept[index][code] = int(np.count_nonzero(fused.origin == position))
    return Series(arrays, [_audit(*parts) for parts in zip(records, hours, kept, strict=True)])


def _place(option: Option, before: int, total: int) -> Option:
    values = place(option.values, before, total, np.float32(np.nan))
    return Option(values, place(option.flags, before, total, MISSING_FLAG))


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


def time_axis(towers: Iterable[Tower]) -> NDArray[np.datetime64]:
    """Return the hours (or half-hours) from the first to the last one of any tower, datetime64[ns]."""
    records = [record for tower in towers for record in tower.records]
    start, end = min(record.start for record in records), max(record.end for record in records)
    return np.arange(start, end, records[0].output_step).astype("M8[ns]")


def label(towers: list[Tower], sites: list[SiteMetadata]) -> xr.Dataset:
    """Build the lazy Dataset ``(site, time)`` of all towers, with one task per tower."""
    time, releases = time_axis(towers), labels(towers)
    start = time[0].astype("M8[m]")
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
        shape = (1, len(codes), time.size)
        flags = da.concatenate([_lazily(stack_releases, one, codes, shape, MISSING_FLAG) for one in series])
        variables[RELEASE] = (("site", "code", "time"), flags, conventions.release_attrs(releases))
        coords["code"] = codes
    return xr.Dataset(variables, coords)


def _stack(series: list[Any], towers: list[Tower], name: str, total: int) -> da.Array:
    """Stack one variable of all towers, ``(site, time)``, missing for towers that lack it."""
    missing, shape = np.float32(np.nan) if name in VARIABLES else MISSING_FLAG, (1, total)
    return da.concatenate(
        [
            _lazily(_pick, one, name, shape, missing)
            if name in tower.names
            else da.full(shape, missing, chunks=shape)
            for one, tower in zip(series, towers, strict=True)
        ]
    )


def _lazily(
    function: Any, series: Any, key: Any, shape: tuple[int, ...], missing: np.float32 | np.int8
) -> da.Array:
    """Build the lazy array ``function(series, key)``, whose type is that of ``missing``."""
    return da.from_delayed(dask.delayed(function)(series, key), shape, missing.dtype)


def _pick(series: Series, name: str) -> NDArray[Any]:
    return series.arrays[name][np.newaxis]


def stack_releases(series: Series, codes: Sequence[str]) -> NDArray[np.int8]:
    """Stack the release flags of a tower, ``(1, code, time)``, missing for codes that it lacks."""
    total = next(iter(series.arrays.values())).size
    missing = np.full(total, MISSING_FLAG)
    return np.stack([series.arrays.get(f"{code}_{RELEASE}", missing) for code in codes])[np.newaxis]


def terms(towers: Iterable[Tower]) -> dict[str, str]:
    """Return the title, and the licence and references if all files state one."""
    releases = [record.release for tower in towers for record in tower.records]
    licences = dict.fromkeys(release.product.license for release in releases)
    references = dict.fromkeys(release.product.references for release in releases)
    products = dict.fromkeys(release.product.name for release in releases)
    found = {"title": f"flux towers of {', '.join(products)}"}
    if all(licences):
        sites = {release.site for release in releases if release.product.name == "FLUXNET2015"}
        tier_two = sorted(sites & _TIER_TWO)
        policy = f", but FLUXNET2015 Tier Two policy for {', '.join(tier_two)}" if tier_two else ""
        found["license"] = ", ".join(licences) + policy
    if any(references):
        found["references"] = "; ".join(filter(None, references))
    return found
