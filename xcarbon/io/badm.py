"""Metadata of towers, from a plain table or from BADM rows in the interchange format (BIF)."""

from __future__ import annotations

import csv
import io
import math
import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xcarbon.core.errors import FileFormatError, MetadataError
from xcarbon.core.validation import check_igbp
from xcarbon.io.columns import Source
from xcarbon.io.networks import sources_in
from xcarbon.prep.sun import hours_between

#: Names in BADM, and in the plain table, of the fields of :class:`SiteMetadata`.
_FIELDS = {
    "LOCATION_LAT": "lat",
    "LOCATION_LON": "lon",
    "LOCATION_LONG": "lon",
    "LOCATION_ELEV": "elevation",
    "IGBP": "igbp",
    "UTC_OFFSET": "utc_offset",
    "SITE_NAME": "site_name",
    "DOI": "doi",
    "DOI_CITATION": "citation",
}
_NUMBERS = ("lat", "lon", "elevation", "utc_offset")
_MISSING = {"", "-9999", "-9999.0", "NA", "nan", "NaN"}


@dataclass(frozen=True, slots=True)
class SiteMetadata:
    """What must be known of a tower to place its record on Earth.

    Attributes
    ----------
    site : str
        Identifier, for example ``"DE-Tha"``.
    lat, lon : float
        Latitude [degrees_north] and longitude [degrees_east, -180 to 180].
    igbp : str
        IGBP land cover class.
    elevation : float
        Above sea level [m]; NaN where unknown.
    utc_offset : float
        Local standard time minus UTC [hours], not always whole; NaN where unknown.
    site_name, citation, doi : str
        Empty where unknown.

    Raises
    ------
    MetadataError
        If the coordinates are not on Earth or look swapped, or the class is unknown.

    Examples
    --------
    >>> SiteMetadata("DE-Tha", lat=50.96, lon=13.57, igbp="ENF").elevation
    nan
    >>> SiteMetadata("US-Ha1", lat=-72.17, lon=42.54, igbp="DBF", utc_offset=-5)
    Traceback (most recent call last):
    ...
    xcarbon.core.errors.MetadataError: US-Ha1: latitude -72.17 and longitude 42.54 look swapped: ...
    """

    site: str
    lat: float
    lon: float
    igbp: str
    elevation: float = math.nan
    utc_offset: float = math.nan
    site_name: str = ""
    citation: str = ""
    doi: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be true."""
        place = f"{self.site}: latitude {self.lat} and longitude {self.lon}"
        if abs(self.lat) > 90 >= abs(self.lon):
            raise MetadataError(f"{place} look swapped, for a latitude lies between -90 and 90")
        if not (abs(self.lat) <= 90 and abs(self.lon) <= 180):
            raise MetadataError(f"{place} are not on Earth: they lie in -90..90 and -180..180")
        off, swapped = (abs(hours_between(self.utc_offset, degrees / 15)) for degrees in (self.lon, self.lat))
        if off > 2 and swapped < 1.5:
            # True clocks are up to 1.9 h off the sun (CN-Dan); a wrong sign (US-Me6) fits neither.
            raise MetadataError(
                f"{place} look swapped: the UTC offset of {self.utc_offset:g} h fits a longitude "
                f"of {self.lat}; swap them, or correct the offset"
            )
        if abs(self.utc_offset) > 14:
            raise MetadataError(f"{self.site}: a UTC offset of {self.utc_offset:g} h does not exist")
        check_igbp(self.igbp, self.site)


#: What a caller may know of towers: a table, the fields of one tower, or fields by site.
Metadata = str | os.PathLike[str] | SiteMetadata | Mapping[str, Any]
Fields = Mapping[str, Mapping[str, Any]]


def read_metadata(path: str | os.PathLike[str]) -> dict[str, SiteMetadata]:
    r"""Read the metadata of towers from a table.

    Parameters
    ----------
    path : path-like
        A CSV file separated by commas or semicolons, recognised by its header. Either a plain
        table with one row per tower and the columns ``SITE_ID``, ``LOCATION_LAT`` [degrees_north],
        ``LOCATION_LON`` or ``LOCATION_LONG`` [degrees_east], ``IGBP`` and, where known,
        ``LOCATION_ELEV`` [m], ``UTC_OFFSET`` [hours], ``SITE_NAME``, ``DOI``, ``DOI_CITATION``; or
        BADM rows with ``SITE_ID``, ``GROUP_ID``, ``VARIABLE_GROUP``, ``VARIABLE``, ``DATAVALUE``.

    Returns
    -------
    dict of str to SiteMetadata
        By tower. Where BADM has a variable in several groups, the group with the latest
        ``..._DATE_START`` counts, undated groups being older than dated ones, and the first of
        equals; of several DOIs that of a FLUXNET product comes first.

    Raises
    ------
    FileFormatError
        If the file is neither kind of table.
    MetadataError
        If a tower lacks coordinates or a class, or its metadata cannot be true.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     table = Path(folder, "site_data.csv")
    ...     _ = table.write_text("SITE_ID,LOCATION_LAT,LOCATION_LON,IGBP\nDE-Tha,50.96,13.57,ENF")
    ...     read_metadata(table)["DE-Tha"].lat
    50.96
    """
    return {site: build(site, found, str(path)) for site, found in read_fields(path).items()}


def read_fields(path: str | os.PathLike[str] | Source) -> dict[str, dict[str, Any]]:
    r"""Read what a table says of each tower, complete or not.

    Parameters
    ----------
    path : path-like
        As for :func:`read_metadata`.

    Returns
    -------
    dict of str to dict
        By tower, the text of the fields of :class:`SiteMetadata` that are known.

    Raises
    ------
    FileFormatError
        If the file is neither kind of table.
    MetadataError
        If a plain table has two rows for a tower.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     table = Path(folder, "BIF.csv")
    ...     _ = table.write_text(
    ...         "SITE_ID;GROUP_ID;VARIABLE_GROUP;VARIABLE;DATAVALUE\nDE-Tha;1;GRP_IGBP;IGBP;ENF"
    ...     )
    ...     read_fields(table)
    {'DE-Tha': {'igbp': 'ENF'}}
    """
    header, rows = _read_rows(path)
    if {"SITE_ID", "GROUP_ID", "VARIABLE", "DATAVALUE"} <= header:
        return _fields_of_groups(rows)
    if {"SITE_ID", "LOCATION_LAT"} <= header:
        return _fields_of_table(rows, path)
    raise FileFormatError(
        f"{path}: neither a table of towers (SITE_ID, LOCATION_LAT, LOCATION_LON, IGBP, ...) nor "
        "BADM rows (SITE_ID, GROUP_ID, VARIABLE_GROUP, VARIABLE, DATAVALUE), for its columns are "
        f"{sorted(header)}"
    )


def build(site: str, known: Mapping[str, Any], where: str) -> SiteMetadata:
    """Make the metadata of a tower from the fields that are known.

    Parameters
    ----------
    site : str
        Identifier of the tower.
    known : mapping
        Fields of :class:`SiteMetadata` by name, numbers as numbers or as text.
    where : str
        What to call the source in an error.

    Returns
    -------
    SiteMetadata

    Raises
    ------
    MetadataError
        If coordinates or class are absent, a field does not exist, or a value cannot be true.

    Examples
    --------
    >>> build("DE-Tha", {"lat": "50.96", "lon": "13.57", "igbp": "ENF"}, "my table").lat
    50.96
    >>> build("DE-Tha", {"lat": 50.96, "igbp": "ENF"}, "my table")
    Traceback (most recent call last):
    ...
    xcarbon.core.errors.MetadataError: my table: DE-Tha lacks lon; ...
    """
    names = [field.name for field in fields(SiteMetadata)]
    unknown = sorted(known.keys() - set(names))
    if unknown:
        raise MetadataError(f"{where}: {site} has no fields {unknown}; the fields are {names}")
    given = {name: value for name, value in known.items() if not is_missing(value)} | {"site": site}
    absent = [name for name in ("lat", "lon", "igbp") if name not in given]
    if absent:
        raise MetadataError(
            f"{where}: {site} lacks {' and '.join(absent)}; give metadata with lat=, lon=, igbp=, "
            "or a table with LOCATION_LAT, LOCATION_LON and IGBP"
        )
    try:
        numbers = {name: _number(name, given[name], site) for name in _NUMBERS if name in given}
        return SiteMetadata(**(given | numbers))
    except MetadataError as error:
        raise MetadataError(f"{where}: {error}") from None


def given_fields(metadata: Metadata | None) -> Fields:
    """Bring what a caller knows to fields by site.

    Parameters
    ----------
    metadata : path-like, SiteMetadata, mapping or None
        A table, see :func:`read_metadata`; the fields of one tower; or fields by site.

    Returns
    -------
    mapping of str to mapping
        The site is "" if it is not told.

    Examples
    --------
    >>> given_fields({"lat": 50.96})
    {'': {'lat': 50.96}}
    """
    if metadata is None:
        return {}
    if isinstance(metadata, str | os.PathLike):
        return read_fields(metadata)
    if isinstance(metadata, SiteMetadata):
        return {metadata.site: asdict(metadata)}
    if any(isinstance(known, Mapping | SiteMetadata) for known in metadata.values()):
        return {
            site: asdict(known) if isinstance(known, SiteMetadata) else known
            for site, known in metadata.items()
        }
    return {metadata.get("site", ""): metadata}


def fields_of(known: Fields, sites: list[str]) -> Fields:
    """Make sure that what a caller knows is of some of the towers at hand.

    Parameters
    ----------
    known : mapping of str to mapping
        From :func:`given_fields`.
    sites : list of str
        The towers at hand.

    Returns
    -------
    mapping of str to mapping
        Fields that did not tell their site are those of the only tower.

    Raises
    ------
    MetadataError
        If they are of other towers, or it is not clear of which.

    Examples
    --------
    >>> fields_of({"": {"lat": 50.96}}, ["DE-Tha"])
    {'DE-Tha': {'lat': 50.96}}
    """
    if "" in known and len(sites) == 1:
        known = {sites[0]: known[""]}
    if known and known.keys().isdisjoint(sites):
        told = list(known)[:5] if "" not in known else "one tower, but not of which"
        raise MetadataError(f"metadata tells of {told}, but the files are of {sites[:5]}")
    return known


def merge_fields(tables: Iterable[Fields], site: str) -> dict[str, Any]:
    """Merge what several tables say of a tower; the first that knows a field counts."""
    merged: dict[str, Any] = {}
    for table in tables:
        known = table.get(site, {})
        merged = {key: value for key, value in known.items() if not is_missing(value)} | merged
    return merged


def site_coordinates(sites: list[SiteMetadata]) -> dict[str, Any]:
    """Give the coordinates along ``site``, without texts that no tower has.

    Parameters
    ----------
    sites : list of SiteMetadata
        The towers in order.

    Returns
    -------
    dict
        Coordinates of a Dataset by name.

    Examples
    --------
    >>> site_coordinates([SiteMetadata("DE-Tha", lat=50.96, lon=13.57, igbp="ENF")])["lat"]
    ('site', array([50.96]))
    """
    columns: dict[str, Any] = {
        "site": np.array([site.site for site in sites]),
        "lat": np.array([site.lat for site in sites], "float64"),
        "lon": np.array([site.lon for site in sites], "float64"),
        "elevation": np.array([site.elevation for site in sites], "float32"),
        "igbp": np.array([site.igbp for site in sites]),
        "utc_offset": np.array([site.utc_offset for site in sites], "float32"),
    }
    for name in ("site_name", "citation", "doi"):
        texts = [getattr(site, name) for site in sites]
        if any(texts):
            columns[name] = np.array(texts)
    return {name: ("site", values) for name, values in columns.items()}


def is_table(source: Source) -> bool:
    """Tell whether a file's name is that of a table of towers: ``site_data.csv``, BIF or SITEINFO.

    Examples
    --------
    >>> [is_table(Source(name)) for name in ("FLX_AA-Flx_BIF_LATEST.csv", "AMF_US-Ha1_BIFVARINFO.csv")]
    [True, False]
    """
    pattern = r"site_data\.csv|.*_(BIF|SITEINFO)(_.*)?\.(csv|xlsx)"
    return re.fullmatch(pattern, source.name) is not None


def tables_beside(path: Path) -> list[Source]:
    """Find the tables of towers in a file's archive and folder, best first."""
    packed = sources_in(path) if path.suffix == ".zip" else []
    unpacked = (Source(str(file)) for file in path.parent.iterdir() if file.is_file())
    return sorted(filter(is_table, [*packed, *unpacked]), key=priority)


def priority(source: Source) -> tuple[bool, bool, str]:
    """Sort tables: one made by hand before others, then those in the archive of a release."""
    return source.name != "site_data.csv", not source.member, str(source)


def is_missing(value: Any) -> bool:
    """Tell whether a field's value says that it is not known.

    Examples
    --------
    >>> [is_missing(value) for value in (None, "", "-9999", float("nan"), 0.0)]
    [True, True, True, True, False]
    """
    return value is None or str(value).strip() in _MISSING


def _number(name: str, value: Any, site: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise MetadataError(f"{site}: {name} must be a number, found {value!r}") from None


def _read_rows(path: str | os.PathLike[str] | Source) -> tuple[set[str], list[dict[str, str]]]:
    """Read the header and the rows of a table, whichever its separator, or of an Excel sheet."""
    source = path if isinstance(path, Source) else Source(os.fspath(path))
    with source.open() as stream:
        content = stream.read()
    if source.name.endswith(".xlsx"):
        return _read_sheet(content, source)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{source}: not a table in UTF-8 text ({error}); save it as CSV") from error
    header = text.partition("\n")[0]
    separator = ";" if header.count(";") > header.count(",") else ","
    reader = csv.DictReader(io.StringIO(text), delimiter=separator, restval="")
    return set(reader.fieldnames or ()), list(reader)


def _read_sheet(content: bytes, source: Source) -> tuple[set[str], list[dict[str, str]]]:
    """Read the header and the rows of the first sheet of an Excel file."""
    try:
        sheet = pd.read_excel(io.BytesIO(content), dtype=str, keep_default_na=False, engine="openpyxl")
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise FileFormatError(f"{source}: truncated, or not an Excel file ({error})") from error
    return set(sheet.columns), [dict(zip(sheet.columns, row, strict=True)) for row in sheet.values]


def _fields_of_table(rows: list[dict[str, str]], path: object) -> dict[str, dict[str, Any]]:
    towers: dict[str, dict[str, Any]] = {}
    for row in rows:
        site = row["SITE_ID"]
        if site in towers:
            raise MetadataError(f"{path}: {site} has two rows")
        towers[site] = {
            field: row[name] for name, field in _FIELDS.items() if name in row and not is_missing(row[name])
        }
    return towers


def _fields_of_groups(rows: list[dict[str, str]]) -> dict[str, dict[str, Any]]:
    """Gather BADM rows to groups, and let the best group speak for each field."""
    groups: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for row in rows:
        groups[row["SITE_ID"], row["GROUP_ID"]][row["VARIABLE"]] = row["DATAVALUE"]
    towers: dict[str, dict[str, Any]] = defaultdict(dict)
    for (site, _), group in sorted(groups.items(), key=lambda item: _rank(item[1]), reverse=True):
        for name, field in _FIELDS.items():
            if not is_missing(group.get(name)):
                towers[site].setdefault(field, group[name])
    return dict(towers)


def _rank(group: dict[str, str]) -> tuple[bool, str]:
    """Order groups: a FLUXNET product before others, then later before earlier, then undated."""
    start = max((value for name, value in group.items() if name.endswith("DATE_START")), default="")
    return group.get("DOI_DATAPRODUCT", "").startswith("FLUXNET"), start
