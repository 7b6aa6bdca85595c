"""The first stage of a build: find the files, their towers, and the coordinates of these."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xcarbon.core.errors import XCarbonError
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
from xcarbon.io.towers import Tower, group_towers, replaced_records

PathLike = str | os.PathLike[str]

#: Version of the build; it is increased when the same input gives other values.
FORMAT = 2
#: Errors that are caused by a file and not by the program.
BAD = (XCarbonError, OSError)


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
        if not (read or is_archive(path.name)):
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

    def without(self, failed: set[str]) -> Plan:
        """Return the plan without some towers."""
        keep = [tower.site not in failed for tower in self.towers]
        towers = list(itertools.compress(self.towers, keep))
        sites = list(itertools.compress(self.sites, keep))
        rasters = list(itertools.compress(self.rasters, keep))
        return Plan(towers, sites, rasters, self.uncertainty)

    @property
    def days(self) -> NDArray[np.datetime64]:
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
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


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
    return plan, problems


def _survey(release: Release, *, uncertainty: bool) -> Record | Problem:
    """Survey one file, on a worker."""
    try:
        return survey(release, whole=False, uncertainty=uncertainty)
    except BAD as error:
        return Problem(str(release.source), str(error))
