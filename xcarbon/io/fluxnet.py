"""The networks' files of towers, half-hourly and hourly, to a Dataset of clock hours."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon import conventions
from xcarbon.conventions import HOUR, MISSING_FLAG, QC
from xcarbon.errors import FileFormatError, MetadataError
from xcarbon.io import badm
from xcarbon.io.badm import Metadata, SiteMetadata
from xcarbon.io.columns import Source
from xcarbon.io.networks import (
    EXAMPLE,
    READABLE,
    UNNAMED,
    Release,
    newest_first,
    recognise,
    sources_in,
    walk,
)
from xcarbon.io.records import Hours, Record, read_hours, survey
from xcarbon.prep.fuse import Option, fuse, place
from xcarbon.variables import VARIABLES, common_scheme

PathLike = str | os.PathLike[str]

#: The towers of FLUXNET2015 that are not under CC-BY-4.0 but under its Tier Two policy.
_TIER_TWO = {"RU-Sam", "RU-SkP", "RU-Tks", "RU-Vrk", "SE-St1", "ZA-Kru"}
#: Flag of each hour's release, for each variable.
RELEASE = "release"


def open_fluxnet(
    path_or_paths: PathLike | Iterable[PathLike],
    *,
    metadata: Metadata | None = None,
    uncertainty: bool = False,
) -> xr.Dataset:
    r"""Open the networks' files of towers as one lazy, hourly, CF-compliant Dataset.

    The header and the time stamps of each file are read and checked at once; the values are read
    when they are computed, all variables of a file in one task. Every computation therefore reads
    the file anew: ``.load()`` keeps a tower in memory.

    Parameters
    ----------
    path_or_paths : path-like or iterable of path-like
        Half-hourly (HH) or hourly (HR) files of FLUXNET2015, AmeriFlux FLUXNET, AmeriFlux BASE, ICOS
        L2, ICOS Warm Winter 2020, FLUXNET-CH4 or today's FLUXNET, recognised by their names (see
        :mod:`xcarbon.io.networks`), as ``.csv``, ``.csv.gz``, or the ``.zip`` they are distributed
        in; folders of such files; any other file with such columns.
    metadata : path-like, SiteMetadata or mapping, optional
        What is known of the towers: a table or BADM file (see
        :func:`xcarbon.io.badm.read_metadata`), the fields of one tower such as
        ``dict(site="DE-Tha", lat=50.96, lon=13.57, igbp="ENF")``, or such fields by site. Fields
        that are not given are taken from ``site_data.csv``, and then from ``*BIF*.csv``, beside
        each file or in its archive. ``site`` is required for a file whose name does not tell the
        tower.
    uncertainty : bool
        Also read the random uncertainty of NEE and its percentiles over thresholds of friction
        velocity, where they are there.

    Returns
    -------
    xarray.Dataset
        Float32 variables by code on ``(site, time)``, in the units that their attributes state,
        with the columns they come from in ``source_column``, and int8 ``<code>_QC`` where a column
        can be gap-filled. Missing values are NaN, their codes -1. Where several columns, or several
        releases of a tower, have a variable, the lower quality code wins hour by hour; of equals the
        column that stands first in :data:`xcarbon.variables.VARIABLES`, and the newer release; if any
        tower has several releases, ``release (site, code, time)`` tells which. Half-hours are averaged
        (precipitation is added, wind directions are averaged on the circle) on clock hours where
        both exist, with the worse of their codes. Time labels are the start of the hour in local
        standard time, from the first hour of any tower to the last of any; sites are sorted.
        Coordinates of a site are ``lat`` [degrees_north], ``lon`` [degrees_east], ``elevation``
        [m], ``utc_offset`` [hours], ``igbp`` and, where known, ``site_name``, ``citation``,
        ``doi``. One chunk is one variable of one site.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    FileFormatError
        If a file is empty, truncated, daily or coarser, or not a FLUXNET file; when values are
        computed, if a cell is not a number or the file has been replaced by another one.
    TimestampError
        If time stamps are absent, repeated, unsorted or irregular.
    MetadataError
        If the tower is unknown, lacks coordinates, or its metadata cannot be true.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> folder = TemporaryDirectory()
    >>> path = Path(folder.name, "FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-1996_1-4.csv")
    >>> _ = path.write_text(
    ...     "TIMESTAMP_START,TIMESTAMP_END,TA_F,TA_F_QC\n"
    ...     "199601010000,199601010030,2.5,0\n"
    ...     "199601010030,199601010100,3.5,1\n"
    ... )
    >>> tower = open_fluxnet(path, metadata=dict(lat=50.96, lon=13.57, igbp="ENF", utc_offset=1))
    >>> tower["TA"].dims, tower["TA"].attrs["source_column"]
    (('site', 'time'), 'TA_F')
    >>> tower["TA"].values, tower["TA_QC"].values
    (array([[3.]], dtype=float32), array([[1]], dtype=int8))
    >>> folder.cleanup()
    """
    paths = list(walk(path_or_paths))
    if not paths:
        raise FileNotFoundError(f"there is no file to open: {path_or_paths!r} is empty")
    given = badm.given_fields(metadata)
    only = next(iter(given)) if len(given) == len(paths) == 1 else ""
    releases = newest_first(release for path in paths for release in _releases_in(path, only))
    records = [survey(release, uncertainty=uncertainty) for release in releases]
    towers = group_towers(records)
    ds = label(towers, _complete(towers, given))
    names = ", ".join(source.name for tower in towers for source in tower.sources)
    return conventions.apply(ds, history="xcarbon.open_fluxnet", source=f"files {names}", **terms(towers))


def _releases_in(path: Path, site: str) -> list[Release]:
    """Tell the release of a file, of the ``site`` if its name does not tell; or those in an archive."""
    sources = sources_in(path)
    if path.suffix == ".zip":
        found = [release for release in map(recognise, sources) if release]
        readable = [release for release in found if release.resolution in READABLE]
        if not readable:
            raise FileFormatError(
                f"{path}: holds no half-hourly (HH) or hourly (HR) file of a tower, but "
                f"{[source.member for source in sources]}"
            )
        return readable
    release = recognise(sources[0])
    if release is None and not site:
        raise MetadataError(
            f"{path}: the tower is not in the name, which is not like {EXAMPLE}; pass "
            "metadata=dict(site=..., ...)"
        )
    return [release or Release(sources[0], site, UNNAMED, READABLE[0])]


def _complete(towers: list[Tower], given: badm.Fields) -> list[SiteMetadata]:
    """Complete what the caller knows of towers from the tables beside their files."""
    given = badm.fields_of(given, [tower.site for tower in towers])
    tables = functools.cache(badm.read_fields)  # many towers, few tables
    sites = []
    for tower in towers:
        beside = [table for source in tower.sources for table in badm.tables_beside(Path(source.path))]
        fields = badm.merge_fields([given, *map(tables, beside)], tower.site)
        sites.append(badm.build(tower.site, fields, str(tower.sources[0])))
    return sites


# Towers


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
