"""Reader for the half-hourly and hourly tower files of the flux networks."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import xarray as xr

from xcarbon.core import conventions
from xcarbon.core.conventions import HOUR
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
from xcarbon.io.towers import Tower, group_towers, label, labels, read_tower, terms

PathLike = str | os.PathLike[str]


def open_fluxnet(
    path_or_paths: PathLike | Iterable[PathLike],
    *,
    metadata: Metadata | None = None,
    uncertainty: bool = False,
) -> xr.Dataset:
    r"""Open tower files of the flux networks as one lazy, hourly, CF-compliant Dataset.

    The header and the time stamps of each file are read and checked immediately. The values are read
    when they are computed, all variables of a file in one task. Each computation therefore reads the
    file again; ``.load()`` keeps the values in memory.

    Parameters
    ----------
    path_or_paths : path-like or iterable of path-like
        Half-hourly (HH) or hourly (HR) files, or folders that contain them. Files of FLUXNET2015,
        AmeriFlux FLUXNET, AmeriFlux BASE, ICOS L2, ICOS Warm Winter 2020, FLUXNET-CH4 and the current
        FLUXNET product are recognised by their names (see :mod:`xcarbon.io.networks`); other files must
        have the same columns. Formats are ``.csv``, ``.csv.gz`` and the original ``.zip`` archives.
    metadata : path-like, SiteMetadata or mapping, optional
        Site metadata: a table or BADM file (see :func:`xcarbon.io.badm.read_metadata`), the fields of
        one tower such as ``dict(site="DE-Tha", lat=50.96, lon=13.57, igbp="ENF")``, or a mapping from
        site to such fields. The units are ``lat`` [degrees_north], ``lon`` [degrees_east], ``elevation``
        [m] and ``utc_offset`` [hours]. Absent fields are read from ``site_data.csv`` and then from
        ``*BIF*.csv`` in the folder or the archive of each file. ``site`` is required if the name of a
        file does not contain the tower.
    uncertainty : bool
        Also read the random uncertainty of NEE [umol m-2 s-1] and the percentiles of NEE
        [umol m-2 s-1] over friction velocity thresholds, if the files contain them.

    Returns
    -------
    xarray.Dataset
        - Float32 variables on ``(site, time)``, named by code, NaN where missing. Attributes state the
          units and, in ``source_column``, the columns of the file.
        - Int8 quality flags ``<code>_QC`` of variables that can be gap-filled, -1 where missing.
        - If any tower has several releases, int8 ``release (site, code, time)``, the release of each
          value.
        - ``time`` is the start of the hour in local standard time and covers the records of all towers.
        - Coordinates along ``site``, which is sorted: ``lat`` [degrees_north], ``lon`` [degrees_east],
          ``elevation`` [m], ``utc_offset`` [hours], ``igbp`` and, if any tower has them, ``site_name``,
          ``citation`` and ``doi``.

        Each chunk contains one variable of one site.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    FileFormatError
        If a file is empty, truncated, daily or coarser, or not a FLUXNET file. When values are
        computed: if a cell is not a number or the file has been replaced.
    TimestampError
        If time stamps are absent, repeated, unsorted or irregular.
    MetadataError
        If the tower of a file is unknown, or its metadata is incomplete or impossible.

    Notes
    -----
    Where a variable has several columns or a tower has several releases, the value with the lowest
    quality flag is used in each hour. Ties go to the newer release and, within a file, to the column that
    :data:`xcarbon.core.variables.VARIABLES` lists first.

    Values beyond the plausibility limits (:data:`xcarbon.core.variables.LIMITS`) are missing before
    half-hours are averaged, and so are numbers that mark missing values, such as 9999 and -6999. Values
    slightly beyond a limit are clipped to it. :func:`xcarbon.io.fluxnet.audit_fluxnet` counts these values.

    Half-hours are averaged to clock hours if both exist; precipitation is summed, and wind directions are
    averaged on the circle. The flag of an hour is the worse flag of its two half-hours.

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
    given = badm.given_fields(metadata)
    towers = _find_towers(path_or_paths, given, uncertainty)
    ds = label(towers, _complete(towers, given))
    names = ", ".join(source.name for tower in towers for source in tower.sources)
    return conventions.apply(ds, history="xcarbon.open_fluxnet", source=f"files {names}", **terms(towers))


def audit_fluxnet(
    path_or_paths: PathLike | Iterable[PathLike],
    *,
    metadata: Metadata | None = None,
    uncertainty: bool = False,
) -> dict[str, list[dict[str, Any]]]:
    r"""Read files as :func:`open_fluxnet` does, and report what was read from each file.

    Parameters
    ----------
    path_or_paths, metadata, uncertainty
        As for :func:`open_fluxnet`. Of the metadata, only ``site`` is used.

    Returns
    -------
    dict of str to list of dict
        Audit of each file, newest release first, by tower: the ``releases`` of
        :func:`xcarbon.pipeline.read_audit`. ``beyond_limits`` states for each variable and column how many
        values are codes for missing values other than -9999, are ``beyond`` the plausibility limits, or
        were ``clipped`` to a limit. Columns with more than half of their values beyond the limits are
        probably in another unit (``other_unit``); their values are read without change, and models do not
        use them.

    Raises
    ------
    FileNotFoundError, FileFormatError, TimestampError, MetadataError
        As :func:`open_fluxnet` raises them.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "FLX_DE-Tha_FLUXNET2015_SUBSET_HR_1996-1996_1-4.csv")
    ...     _ = path.write_text("TIMESTAMP_START,SW_IN_F\n199601010000,-3\n199601010100,9999\n")
    ...     audit = audit_fluxnet(path)
    >>> audit["DE-Tha"][0]["beyond_limits"]
    {'SW_IN': {'SW_IN_F': {'codes': 1, 'clipped': 1}}}
    """
    towers = _find_towers(path_or_paths, badm.given_fields(metadata), uncertainty)
    audits = {}
    for tower in towers:
        start = min(record.start for record in tower.records)
        end = max(record.end for record in tower.records)
        audits[tower.site] = read_tower(tower, start, int((end - start) / HOUR), labels([tower])).audit
    return audits


def _find_towers(
    path_or_paths: PathLike | Iterable[PathLike], given: badm.Fields, uncertainty: bool
) -> list[Tower]:
    """Survey files, and group them by tower."""
    paths = list(walk(path_or_paths))
    if not paths:
        raise FileNotFoundError(f"{path_or_paths!r} is empty: it contains no file to open")
    only = next(iter(given)) if len(given) == len(paths) == 1 else ""
    releases = newest_first(release for path in paths for release in _releases_in(path, only))
    records = [survey(release, uncertainty=uncertainty) for release in releases]
    return group_towers(records)


def _releases_in(path: Path, site: str) -> list[Release]:
    """Return the releases in an archive, or the release of a file, of ``site`` if its name has no tower."""
    sources = sources_in(path)
    if path.suffix == ".zip":
        found = [release for release in map(recognise, sources) if release]
        readable = [release for release in found if release.resolution in READABLE]
        if not readable:
            raise FileFormatError(
                f"{path}: the archive contains no half-hourly (HH) or hourly (HR) tower file, only "
                f"{[source.member for source in sources]}"
            )
        return readable
    release = recognise(sources[0])
    if release is None and not site:
        raise MetadataError(
            f"{path}: the file name does not contain the tower, as {EXAMPLE} does; rename the file or pass "
            "metadata=dict(site=..., ...)"
        )
    return [release or Release(sources[0], site, UNNAMED, READABLE[0])]


def _complete(towers: list[Tower], given: badm.Fields) -> list[SiteMetadata]:
    """Complete the given fields of each tower from the tables beside its files."""
    given = badm.fields_of(given, [tower.site for tower in towers])
    tables = functools.cache(badm.read_fields)  # many towers share few tables
    sites = []
    for tower in towers:
        beside = [table for source in tower.sources for table in badm.tables_beside(Path(source.path))]
        fields = badm.merge_fields([given, *map(tables, beside)], tower.site)
        sites.append(badm.build(tower.site, fields, str(tower.sources[0])))
    return sites
