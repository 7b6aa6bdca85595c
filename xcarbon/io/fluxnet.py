"""Reader for the tower files of the flux networks."""

from __future__ import annotations

import functools
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import xarray as xr

from xcarbon.core import conventions
from xcarbon.core.errors import FileFormatError, MetadataError, OptionError, XCarbonError
from xcarbon.core.notices import warn
from xcarbon.io import badm
from xcarbon.io.aggregated import label_periods, survey_periods
from xcarbon.io.badm import Metadata, SiteMetadata
from xcarbon.io.columns import Source, is_archive
from xcarbon.io.networks import (
    EXAMPLE,
    HALF_HOURLY,
    READABLE,
    UNNAMED,
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
from xcarbon.io.records.header import read_header
from xcarbon.io.towers import Tower, group_towers, label, labels, read_tower, replaced_records, terms
from xcarbon.io.workbooks import is_workbook
from xcarbon.prep.aggregate import check_resolution, describe

PathLike = str | os.PathLike[str]
_LOG = logging.getLogger(__name__)


def open_fluxnet(
    path_or_paths: PathLike | Iterable[PathLike],
    *,
    resolution: str | None = None,
    metadata: Metadata | None = None,
    uncertainty: bool = False,
) -> xr.Dataset:
    r"""Open tower files of the flux networks as one lazy, CF-compliant Dataset, which is hourly by default.

    The header and the time stamps of each file are read and checked immediately. The values are read
    when they are computed, all variables of a file in one task. Each computation therefore reads the
    file again; ``.load()`` keeps the values in memory.

    Parameters
    ----------
    path_or_paths : path-like or iterable of path-like
        Half-hourly (HH) or hourly (HR) files, or folders that contain them. Files of FLUXNET2015, AmeriFlux
        FLUXNET, AmeriFlux BASE, ICOS L2, ICOS Warm Winter 2020, FLUXNET-CH4 and the current FLUXNET product
        are recognised by their names (see :mod:`xcarbon.io.networks`); other files must have the same
        columns. Formats are ``.csv``, ``.csv.gz``, Excel workbooks (``.xlsx``) and ``.zip`` archives, also
        inside other archives. The worksheet of a workbook that contains a tower's table is read; its time
        stamps may be numbers, text or dates. Cells of text files are separated by commas, semicolons or tabs
        and may be quoted. A row of units may follow the header; values in other units than those of the
        vocabulary are then converted. Other files in folders and archives are
        passed over: if they are usual there, their numbers are logged to ``xcarbon.io.fluxnet`` (level INFO),
        otherwise a warning lists them.
    resolution : {"HH", "DD", "WW", "MM", "YY"}, optional
        ``"HH"`` keeps the half-hours of half-hourly files. Models and stores need hours, whereas
        ``aggregate``, ``despike``, ``gapfill(model="mds")``, ``artificial_gaps``, ``carbon_sums`` and
        ``to_netcdf`` accept half-hours, too. The others read the daily, weekly, monthly or yearly files
        instead; see the notes for their values.
    metadata : path-like, SiteMetadata or mapping, optional
        Site metadata: a table or BADM file (see :func:`xcarbon.io.badm.read_metadata`), the fields of
        one tower such as ``dict(site="DE-Tha", lat=50.96, lon=13.57, igbp="ENF")``, or a mapping from
        site to such fields. The units are ``lat`` [degrees_north], ``lon`` [degrees_east], ``elevation``
        [m] and ``utc_offset`` [hours]. Absent fields are read from ``site_data.csv`` and then from
        ``*BIF*.csv`` in the folder or the archive of each file, and then in the folders that are passed.
        ``site`` is required if the names of the files do not contain the tower.
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
        - ``time`` is the start of the hour (or half-hour) in local standard time and covers the records of
          all towers. ``time_bnds`` is its start and its end.
        - Coordinates along ``site``, which is sorted: ``lat`` [degrees_north], ``lon`` [degrees_east],
          ``elevation`` [m], ``utc_offset`` [hours], ``igbp`` and, if any tower has them, ``site_name``,
          ``citation`` and ``doi``.

        Each chunk contains one variable of one site.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    FileFormatError
        If a file is empty, truncated, protected by a password, of another resolution, or not a FLUXNET
        file, or if several worksheets of a workbook contain a table. When values are
        computed: if a cell is not a number or the file has been replaced.
    OptionError
        If ``resolution`` is unknown.
    TimestampError
        If time stamps are absent, repeated, unsorted or irregular.
    MetadataError
        If the tower of a file is unknown, or its metadata is incomplete or impossible.

    Warns
    -----
    UserWarning
        If files are passed over that are not usual beside towers, or columns are not read that probably
        contain a variable. When values are computed: if they show that a variable is in another unit
        (processes of a cluster do not forward this).

    Notes
    -----
    Where a variable has several columns or a tower has several releases, the value with the lowest
    quality flag is used in each hour. Ties go to the newer release and, within a file, to the column that
    :data:`xcarbon.core.variables.VARIABLES` lists first.

    Values beyond the plausibility limits (:data:`xcarbon.core.variables.LIMITS`) are missing before
    half-hours are averaged, and so are numbers that mark missing values, such as 9999 and -6999 (and -99, if
    a column repeats it). Values slightly beyond a limit are clipped to it.
    :func:`xcarbon.io.fluxnet.audit_fluxnet` counts these values.

    Half-hours are averaged to clock hours if both exist; precipitation is summed, and wind directions are
    averaged on the circle. The flag of an hour is the worse flag of its two half-hours. With
    ``resolution="HH"``, values and flags are those of the files.

    With a daily or coarser ``resolution``, values have the units of the networks' files in their CF spelling:
    carbon fluxes [g m-2 d-1] as mass of carbon, and precipitation [mm d-1]; in yearly files [g m-2 year-1]
    and [mm year-1]. The attribute ``network_units`` has the spelling of the networks, such as gC m-2 d-1.
    ``<code>_QC`` is float32: the share of hours [1] that are measured or gap-filled with good quality.
    ``time`` is the first day of each period, and ``time_bnds`` its start and its end. Of several columns of a
    variable the first one is read. Newer releases replace the values of older ones, and there is no
    ``release``. Files of AmeriFlux BASE and FLUXNET-CH4 are read at hourly resolution only.
    :func:`xcarbon.prep.aggregate.aggregate` computes such values from hours.

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
    if resolution is not None:
        check_resolution(resolution, HALF_HOURLY)
    given = badm.given_fields(metadata)
    towers, found = _find_towers(path_or_paths, given, uncertainty, resolution)
    sites = _complete(towers, given, found)
    found.report()
    names = ", ".join(source.name for tower in towers for source in tower.sources)
    history, root = "xcarbon.open_fluxnet", {"source": f"files {names}", **terms(towers)}
    if resolution in (None, HALF_HOURLY):
        return conventions.apply(label(towers, sites), history=history, **root)
    ds, edges = label_periods(towers, sites, resolution)
    return describe(ds, edges, resolution, history, **root)


def audit_fluxnet(
    path_or_paths: PathLike | Iterable[PathLike],
    *,
    resolution: str | None = None,
    metadata: Metadata | None = None,
    uncertainty: bool = False,
) -> dict[str, list[dict[str, Any]]]:
    r"""Read files as :func:`open_fluxnet` does, and report what was read from each file.

    Parameters
    ----------
    path_or_paths
        As for :func:`open_fluxnet`.
    resolution : {"HH"}, optional
        Count half-hours instead of hours.
    metadata, uncertainty
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
    FileNotFoundError, FileFormatError, OptionError, TimestampError, MetadataError
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
    if resolution not in (None, HALF_HOURLY):
        raise OptionError(f"resolution must be {HALF_HOURLY} or None, found {resolution!r}")
    towers, _ = _find_towers(path_or_paths, badm.given_fields(metadata), uncertainty, resolution)
    audits = {}
    for tower in towers:
        start = min(record.start for record in tower.records)
        end = max(record.end for record in tower.records)
        total = int((end - start) / tower.records[0].output_step)
        audits[tower.site] = read_tower(tower, start, total, labels([tower])).audit
    return audits


def _find_towers(
    path_or_paths: PathLike | Iterable[PathLike],
    given: badm.Fields,
    uncertainty: bool,
    resolution: str | None = None,
) -> tuple[list[Tower], _Found]:
    """Survey files, and group them by tower."""
    if isinstance(path_or_paths, xr.Dataset | xr.DataArray) or hasattr(path_or_paths, "to_xarray"):
        raise OptionError(
            f"open_fluxnet reads files, but found a {type(path_or_paths).__name__}; a table of variables on "
            "time becomes a tower by table.to_xarray() and ds.carbon.standardize()"
        )
    single = isinstance(path_or_paths, str | os.PathLike)
    paths = list(map(Path, [path_or_paths] if single else path_or_paths))  # type: ignore[arg-type]
    found = _Found(next(iter(given)) if len(given) == 1 else "", resolution)
    for path in paths:
        found.add_folder(path) if path.is_dir() else found.add_file(path)
    if not found.releases:
        where = ", ".join(map(str, paths)) or "the list of paths"
        if not found.skipped:
            raise FileNotFoundError(f"{where} is empty: it contains no file to open")
        reasons = "; ".join(map(str, found.skipped[:5]))
        raise FileNotFoundError(f"{where}: no {found.kind} tower file; found {reasons}")
    releases = newest_first(found.releases)
    found.skipped += replaced(found.releases, releases)
    records = found.survey(releases, uncertainty=uncertainty)
    towers = group_towers(records)
    found.skipped += replaced_records(records, towers)
    return towers, found


class _Found:
    """Tower files and tables at the paths that a user passes, and the files that are passed over.

    Files that a user names must be readable; in folders, other files are passed over. ``site`` is the tower
    of the files whose names do not contain one. ``resolution`` is that of the files to read; None stands for
    half-hours and hours.
    """

    def __init__(self, site: str, resolution: str | None = None) -> None:
        self.site = site
        self.resolution = resolution
        self.readable = READABLE if resolution is None else (resolution,)
        self.releases: list[Release] = []
        self.tables: list[Source] = []
        self.skipped: list[Skipped] = []
        self.named: set[str] = set()

    @property
    def kind(self) -> str:
        """Resolution of the files to read, in words."""
        return self.resolution or "half-hourly (HH) or hourly (HR)"

    def add_file(self, path: Path) -> None:
        """Add a file or archive that a user names."""
        if not path.exists():
            pattern = "; pass the files that the pattern matches" if "*" in path.name else ""
            raise FileNotFoundError(f"{path}: no such file or folder{pattern}")
        sources = sources_in(path)
        self.named.add(str(path.absolute()))
        if not is_archive(path.name):
            release = recognise(sources[0])
            if path.suffix.lower() in (".xls", ".xlsb", ".ods", ".7z", ".rar", ".tar"):
                raise FileFormatError(str(why_skipped(sources[0])))
            if release is None and not self.site:
                raise MetadataError(
                    f"{path}: the file name does not contain the tower, as {EXAMPLE} does; rename the file "
                    "or pass metadata=dict(site=..., ...)"
                )
            self.releases.append(release or self._unnamed(sources[0]))
        elif not self._add(sources):
            raise FileFormatError(
                f"{path}: the archive contains no {self.kind} tower file, only "
                f"{[source.member for source in sources]}"
            )

    def add_folder(self, folder: Path) -> None:
        """Add the tower files and tables in a folder, at any depth."""
        sources: list[Source] = []
        for path in walk(folder):
            try:
                sources += sources_in(path)
            except (FileFormatError, OSError) as error:
                self.skipped.append(Skipped(str(path), str(error), False))
        self._add(sources)

    def _unnamed(self, source: Source) -> Release:
        return Release(source, self.site, UNNAMED, self.readable[0])

    def _add(self, sources: list[Source]) -> list[Release]:
        """Add files of a folder or archive; if no name contains a tower, those that have its columns."""
        named = [
            release for release in map(recognise, sources) if release and release.resolution in self.readable
        ]
        read = {release.source for release in named}
        others = [source for source in sources if source not in read]
        tables = [source for source in others if badm.is_table(source)]
        others = [source for source in others if source not in tables]
        reasons = {source: why_skipped(source, self.readable) for source in others}
        if not named and self.site:
            for source in filter(_may_be_tower, others):
                try:
                    read_header(source)
                except (FileFormatError, OSError) as error:
                    if is_workbook(source.name):  # the error names its worksheets
                        reasons[source] = Skipped(str(source), str(error), False)
                else:
                    named.append(self._unnamed(source))
                    del reasons[source]
        self.releases += named
        self.tables += tables
        self.skipped += reasons.values()
        return named

    def survey(self, releases: list[Release], *, uncertainty: bool) -> list[Record]:
        """Survey the files; damaged ones in folders are passed over unless nothing else is there."""
        records: list[Record] = []
        errors = []
        for release in releases:
            try:
                if self.resolution in (None, HALF_HOURLY):
                    halves = self.resolution == HALF_HOURLY
                    records.append(survey(release, uncertainty=uncertainty, halves=halves))
                else:
                    records.append(survey_periods(release, self.resolution, uncertainty=uncertainty))
            except (FileFormatError, OSError) as error:
                if release.source.path in self.named:
                    raise
                self.skipped.append(Skipped(str(release.source), str(error), False))
                errors.append(error)
        if not records:
            raise errors[0]
        return records

    def report(self) -> None:
        """Log the numbers of files that are passed over by reason, or warn if any of them is not expected."""
        if not self.skipped:
            return
        unexpected = [skipped for skipped in self.skipped if not skipped.is_expected]
        counts = Counter(
            "damaged, or not as their names state" if skipped.where in skipped.reason else skipped.reason
            for skipped in self.skipped
        )
        message = f"open_fluxnet passed over {len(self.skipped)} files: " + ", ".join(
            f"{reason} ({count})" for reason, count in counts.most_common()
        )
        if unexpected:
            more = f"\n  and {len(unexpected) - 5} more" if len(unexpected) > 5 else ""
            warn(message + "".join(f"\n  {skipped}" for skipped in unexpected[:5]) + more)
        else:
            _LOG.info(message)


def _may_be_tower(source: Source) -> bool:
    """Check whether the ending of a file without the name of a network is that of a table."""
    if not re.fullmatch(r".+\.((csv|txt|dat|tsv)(\.gz)?|xls[xm])", source.name, re.IGNORECASE):
        return False
    skip = why_skipped(source)
    return not skip.is_expected or skip.reason == "document"


def _complete(towers: list[Tower], given: badm.Fields, found: _Found) -> list[SiteMetadata]:
    """Complete the given fields of each tower from the tables beside its files and in the folders.

    A table that cannot be read is an error only if the metadata of a tower is not complete without it.
    """
    given = badm.fields_of(given, [tower.site for tower in towers])
    wrong: dict[Source, str] = {}

    @functools.cache  # many towers share few tables
    def read(table: Source) -> badm.Fields:
        try:
            return badm.read_fields(table)
        except (XCarbonError, OSError) as error:
            wrong[table] = str(error)
            found.skipped.append(Skipped(str(table), str(error), False))
            return {}

    beside = functools.cache(badm.tables_beside)
    sites = []
    for tower in towers:
        tables = [table for source in tower.sources for table in beside(Path(source.path))]
        tables += sorted(found.tables, key=badm.priority)
        fields = badm.merge_fields([given, *map(read, dict.fromkeys(tables))], tower.site)
        try:
            sites.append(badm.build(tower.site, fields, str(tower.sources[0])))
        except MetadataError as error:
            raise MetadataError("; ".join([str(error), *wrong.values()])) from None
    return sites
