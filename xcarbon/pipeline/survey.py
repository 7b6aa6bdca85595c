"""The first stage of a build: find the files, their towers, and the coordinates of these."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import warnings
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core.errors import XCarbonError
from xcarbon.core.variables import SATELLITE
from xcarbon.core.workers import map_unordered
from xcarbon.io import badm
from xcarbon.io.badm import Metadata, SiteMetadata
from xcarbon.io.columns import Source, is_archive
from xcarbon.io.modis import patches as modis
from xcarbon.io.modis.files import scan_file
from xcarbon.io.modis.rasters import Raster
from xcarbon.io.networks import (
    READABLE,
    Release,
    Skipped,
    newest_first,
    recognise,
    replaced,
    sources_in,
    walk,
    why_skipped,
)
from xcarbon.io.records import Record, survey
from xcarbon.io.satellite import is_satellite, open_satellite
from xcarbon.io.towers import Tower, group_towers, replaced_records, time_axis

PathLike = str | os.PathLike[str]

#: Version of the build; it is increased when the same input gives other values.
FORMAT = 3
#: Errors that are caused by a file and not by the program.
BAD = (XCarbonError, OSError)
#: Days before the first and after the last hour of the towers from which composites are kept: four months.
MARGIN = np.timedelta64(124, "D")


@dataclass(frozen=True, slots=True)
class Problem:
    """A file or tower that is not in the store, and the reason.

    Attributes
    ----------
    where : str
        Path of the file, or name of the tower.
    reason : str
        Message of the error.
    """

    where: str
    reason: str

    def __str__(self) -> str:
        return self.reason if self.where in self.reason else f"{self.where}: {self.reason}"


@dataclass(slots=True)
class Found:
    """Files, sorted by kind."""

    releases: list[Release] = field(default_factory=list)
    tables: list[Source] = field(default_factory=list)
    rasters: list[Raster] = field(default_factory=list)
    series: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    skipped: list[Problem] = field(default_factory=list)


def find(raw: PathLike | Iterable[PathLike]) -> Found:
    """Find all files and sort them by kind."""
    found = Found()
    models: dict[Any, Raster] = {}
    skipped: list[Skipped] = []
    for path in walk(raw):
        try:
            sources = sources_in(path)
        except BAD as error:
            found.problems.append(Problem(str(path), str(error)))
            continue
        releases = [of for of in map(recognise, sources) if of and of.resolution in READABLE]
        tables = [source for source in sources if badm.is_table(source)]
        found.releases += releases
        found.tables += tables
        read = {*tables, *(release.source for release in releases)}
        if not (read or is_archive(path.name)) and is_satellite(path):
            found.series.append(str(path))
            read = set(sources)
        elif not (read or is_archive(path.name)):
            try:
                rasters = scan_file(str(path), models)
            except BAD as error:
                found.problems.append(Problem(str(path), str(error)))
                continue
            found.rasters += rasters
            read = set(sources) if rasters else read
        skipped += [why_skipped(source) for source in sources if source not in read]
    releases, found.releases = found.releases, newest_first(found.releases)
    skipped += replaced(releases, found.releases)
    found.skipped = [Problem(skip.where, skip.reason) for skip in skipped]
    found.tables.sort(key=badm.priority)
    return found


@dataclass(frozen=True, slots=True)
class Plan:
    """Contents of a store: towers, sorted by site, each with its metadata and the rasters that cover it."""

    towers: list[Tower]
    sites: list[SiteMetadata]
    rasters: list[list[Raster]]
    uncertainty: bool
    series: xr.Dataset | None = None  # satellite series of all towers, in memory

    def without(self, failed: set[str]) -> Plan:
        """Return the plan without some towers."""
        keep = [tower.site not in failed for tower in self.towers]
        towers = list(itertools.compress(self.towers, keep))
        sites = list(itertools.compress(self.sites, keep))
        rasters = list(itertools.compress(self.rasters, keep))
        sites_kept = {tower.site for tower in towers}
        return Plan(towers, sites, rasters, self.uncertainty, _of_towers(self.series, sites_kept))

    @property
    def satellite(self) -> list[xr.Dataset | None]:
        """Satellite series of each tower."""
        return [_of_towers(self.series, {tower.site}) for tower in self.towers]

    @property
    def days(self) -> NDArray[np.datetime64]:
        """Days of patches and of composites."""
        composites = [] if self.series is None else [self.series["day"].values.astype("M8[D]")]
        return np.unique(np.concatenate([self.patch_days, *composites]))

    @property
    def patch_days(self) -> NDArray[np.datetime64]:
        """Days with a raster at any tower."""
        none = np.array([], "M8[D]")
        pairs = zip(self.rasters, self.sites, strict=True)
        days = (modis.patch_days(rasters, site.lat, site.lon) for rasters, site in pairs)
        return np.unique(np.concatenate([none, *days]))

    def fingerprint(self, index: int) -> str:
        """Hash of the input files of a tower, by name, size and time of modification."""
        paths = [source.path for source in self.towers[index].sources]
        paths += [raster.path for raster in self.rasters[index]]
        stats = [(path, os.stat(path)) for path in paths]
        inputs = [(Path(path).name, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
        site = self.sites[index]
        parts = [FORMAT, self.uncertainty, site.lat, site.lon, *inputs]
        if (series := _of_towers(self.series, {site.site})) is not None:
            parts.append(_identity(series))
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _of_towers(series: xr.Dataset | None, sites: set[str]) -> xr.Dataset | None:
    """Select the series of some towers, on the days of any; None if no tower has a series."""
    if series is None:
        return None
    series = series.sel(site=[site for site in series["site"].values if str(site) in sites])
    codes = [code for code in SATELLITE if code in series]
    series = series.dropna("day", how="all", subset=codes)
    return series if series.sizes["day"] and series.sizes["site"] else None


def _identity(series: xr.Dataset) -> str:
    """Return a hash of the values of a tower's series."""
    values = {str(name): array.values.tobytes() for name, array in series.variables.items()}
    parts = [name.encode() + data for name, data in sorted(values.items())]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def survey_towers(
    found: Found, metadata: Metadata | None, pool: Executor, *, uncertainty: bool
) -> tuple[Plan, list[Problem]]:
    """Survey the files of all towers, and look up the coordinates of the towers."""
    problems: list[Problem] = []
    records = {}
    survey_one = functools.partial(_survey, uncertainty=uncertainty)
    for release, record in map_unordered(pool, survey_one, found.releases, "surveying"):
        if isinstance(record, Problem):
            problems.append(record)
        else:
            records[release] = record
    sites = sorted({release.site for release in records})
    tables = [badm.fields_of(badm.given_fields(metadata), sites)] if sites else []
    for table in found.tables:
        try:
            tables.append(badm.read_fields(table))
        except BAD as error:
            problems.append(Problem(str(table), str(error)))
    plan, areas = Plan([], [], [], uncertainty), modis.by_area(found.rasters)
    surveyed = [records[release] for release in found.releases if release in records]
    towers = group_towers(surveyed)
    found.skipped += [Problem(skip.where, skip.reason) for skip in replaced_records(surveyed, towers)]
    for tower in towers:
        try:
            fields = badm.merge_fields(tables, tower.site)
            site = badm.build(tower.site, fields, str(tower.sources[0]))
        except XCarbonError as error:
            problems.append(Problem(tower.site, str(error)))
            continue
        plan.towers.append(tower)
        plan.sites.append(site)
        plan.rasters.append(modis.covering(areas, site.lat, site.lon))
    if found.series and plan.towers:
        plan = replace(plan, series=_read_series(found.series, plan.towers, problems))
    return plan, problems


def _read_series(paths: list[str], towers: list[Tower], problems: list[Problem]) -> xr.Dataset | None:
    """Read the satellite series of towers; files that cannot be read and implausible values are problems."""
    time = time_axis(towers)
    first, last = (int(stamp.astype("M8[Y]").astype(int)) + 1970 for stamp in time[[0, -1]])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        readable = []
        for path in paths:
            try:
                open_satellite(path, years=(first, last))
                readable.append(path)
            except BAD as error:
                problems.append(Problem(path, str(error)))
        problems += [Problem("satellite series", str(warning.message)) for warning in caught]
        series = open_satellite(readable, years=(first, last)) if readable else None
    if series is None:
        return None
    series = series.sel(day=slice(time[0] - MARGIN, time[-1] + MARGIN))
    ours = _of_towers(series, {tower.site for tower in towers})
    if ours is None:
        sites = [str(site) for site in series["site"].values[:3]]
        reason = f"the satellite series of {sites} and others are of no tower and year of this build"
        problems.append(Problem(", ".join(readable), reason))
    return ours


def _survey(release: Release, *, uncertainty: bool) -> Record | Problem:
    """Survey one file, on a worker."""
    try:
        return survey(release, whole=False, uncertainty=uncertainty)
    except BAD as error:
        return Problem(str(release.source), str(error))
