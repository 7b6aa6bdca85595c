"""The networks' files of towers, half-hourly and hourly, to a Dataset of clock hours."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from pathlib import Path

import xarray as xr

from xcarbon.core import conventions
from xcarbon.core.errors import FileFormatError, MetadataError
from xcarbon.io import badm
from xcarbon.io.badm import Metadata, SiteMetadata
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
from xcarbon.io.records import survey
from xcarbon.io.towers import Tower, group_towers, label, terms

PathLike = str | os.PathLike[str]


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
        column that stands first in :data:`xcarbon.core.variables.VARIABLES`, and the newer release; if any
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
