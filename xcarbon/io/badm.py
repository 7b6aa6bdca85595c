"""Reader for site metadata: plain tables and BADM files in the BIF format."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from xcarbon.core.errors import FileFormatError, MetadataError, reading
from xcarbon.core.notices import warn
from xcarbon.core.validation import check_igbp
from xcarbon.io.columns import MISSING_CELLS, Source, is_archive
from xcarbon.io.networks import COPY, sources_in
from xcarbon.prep.sun import hours_between

#: Fields of :class:`SiteMetadata` by their names in BADM files and plain tables.
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
_MISSING = {*MISSING_CELLS, "nan"}  # fields can be floats, and str(float("nan")) is "nan"


@dataclass(frozen=True, slots=True)
class SiteMetadata:
    """Location, land cover, time zone and citation of a tower.

    Attributes
    ----------
    site : str
        Identifier of the tower, for example ``"DE-Tha"``.
    lat : float
        Latitude [degrees_north].
    lon : float
        Longitude from -180 to 180 [degrees_east].
    igbp : str
        IGBP land cover class.
    elevation : float
        Elevation above sea level [m]; NaN if unknown.
    utc_offset : float
        Local standard time minus UTC [hours], which may be a fraction; NaN if unknown.
    site_name, citation, doi : str
        Name of the site, citation and DOI of its data; empty if unknown.

    Raises
    ------
    MetadataError
        If the coordinates are out of range or look swapped, the UTC offset exceeds 14 hours, or the IGBP
        class is unknown.

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
        """Check the plausibility of the fields."""
        place = f"{self.site}: latitude {self.lat} and longitude {self.lon}"
        if abs(self.lat) > 90 >= abs(self.lon):
            raise MetadataError(f"{place} look swapped: a latitude must be between -90 and 90")
        if not (abs(self.lat) <= 90 and abs(self.lon) <= 180):
            raise MetadataError(f"{place} are out of range: they must be within -90..90 and -180..180")
        off, swapped = (abs(hours_between(self.utc_offset, degrees / 15)) for degrees in (self.lon, self.lat))
        if off > 2 and swapped < 1.5:
            # Correct offsets differ from solar time by up to 1.9 h (CN-Dan). An offset with the wrong sign
            # (US-Me6) fits neither the longitude nor the latitude.
            raise MetadataError(
                f"{place} look swapped: the UTC offset of {self.utc_offset:g} h fits a longitude "
                f"of {self.lat}; swap them or correct the offset"
            )
        if abs(self.utc_offset) > 14:
            raise MetadataError(
                f"{self.site}: a UTC offset of {self.utc_offset:g} h does not exist; it must be in -14..14"
            )
        object.__setattr__(self, "igbp", check_igbp(self.igbp, self.site))  # in capitals


#: Site metadata that users pass: a table, the fields of one tower, or a mapping from site to fields.
Metadata = str | os.PathLike[str] | SiteMetadata | Mapping[str, Any]
Fields = Mapping[str, Mapping[str, Any]]


def read_metadata(path: str | os.PathLike[str]) -> dict[str, SiteMetadata]:
    r"""Read site metadata from a table.

    Parameters
    ----------
    path : path-like
        CSV file with commas or semicolons, or Excel file (``.xlsx``), in one of two formats, which are
        distinguished by the header:

        - A plain table with one row per tower and the columns ``SITE_ID``, ``LOCATION_LAT``
          [degrees_north], ``LOCATION_LON`` or ``LOCATION_LONG`` [degrees_east], ``IGBP`` and, optionally,
          ``LOCATION_ELEV`` [m], ``UTC_OFFSET`` [hours], ``SITE_NAME``, ``DOI`` and ``DOI_CITATION``.
        - BADM rows with ``SITE_ID``, ``GROUP_ID``, ``VARIABLE_GROUP``, ``VARIABLE`` and ``DATAVALUE``.

    Returns
    -------
    dict of str to SiteMetadata
        Metadata by site. If several BADM groups contain a variable, groups of a FLUXNET data product come
        first, then the group with the latest ``..._DATE_START``, then undated groups. Ties go to the
        first group in the file.

    Raises
    ------
    FileFormatError
        If the file has neither format.
    MetadataError
        If a tower lacks coordinates or an IGBP class, or its metadata is impossible.

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
    r"""Read the fields of each tower in a table as text; they need not be complete.

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
        f"{path}: the file is neither a table of towers (SITE_ID, LOCATION_LAT, LOCATION_LON, IGBP, ...) nor "
        "a list of BADM rows (SITE_ID, GROUP_ID, VARIABLE_GROUP, VARIABLE, DATAVALUE); its columns are "
        f"{sorted(header)}"
    )


def build(site: str, known: Mapping[str, Any], where: str) -> SiteMetadata:
    """Build the metadata of a tower from its known fields; error messages begin with ``where``.

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
        raise MetadataError(f"{where}: the fields {unknown} of {site} do not exist; the fields are {names}")
    given = {name: value for name, value in known.items() if not is_missing(value)} | {"site": site}
    absent = [name for name in ("lat", "lon", "igbp") if name not in given]
    if absent:
        raise MetadataError(
            f"{where}: {site} lacks {' and '.join(absent)}; pass metadata with lat=, lon= and igbp=, "
            "or a table with LOCATION_LAT, LOCATION_LON and IGBP"
        )
    try:
        numbers = {name: _number(name, given[name], site) for name in _NUMBERS if name in given}
        return SiteMetadata(**(given | numbers))
    except MetadataError as error:
        raise MetadataError(f"{where}: {error}") from None


def given_fields(metadata: Metadata | None) -> Fields:
    """Convert metadata from a user to fields by site; fields without a site are under ``""``.

    Examples
    --------
    >>> given_fields({"lat": 50.96})
    {'': {'lat': 50.96}}
    """
    if metadata is None:
        return {}
    if isinstance(metadata, str | os.PathLike):
        return read_fields(metadata)
    if not isinstance(metadata, Mapping | SiteMetadata):
        raise MetadataError(
            f"metadata is a {type(metadata).__name__}, but must be the path of a table, the fields of a tower"
            " as in dict(site=..., lat=...), or a mapping from site to fields, such as table.T.to_dict() of "
            "a DataFrame with one row for each site"
        )
    if isinstance(metadata, SiteMetadata):
        return {metadata.site: asdict(metadata)}
    if any(isinstance(known, Mapping | SiteMetadata) for known in metadata.values()):
        return {
            site: asdict(known) if isinstance(known, SiteMetadata) else known
            for site, known in metadata.items()
        }
    return {metadata.get("site", ""): metadata}


def fields_of(known: Fields, sites: list[str]) -> Fields:
    """Assign fields without a site to the only tower, and check that fields belong to any of ``sites``.

    Examples
    --------
    >>> fields_of({"": {"lat": 50.96}}, ["DE-Tha"])
    {'DE-Tha': {'lat': 50.96}}
    """
    if "" in known and len(sites) == 1:
        known = {sites[0]: known[""]}
    if known and known.keys().isdisjoint(sites):
        found = list(known)[:5] if "" not in known else "one tower without its site"
        raise MetadataError(f"metadata is for {found}, but the files are from {sites[:5]}; check the sites")
    return known


def merge_fields(tables: Iterable[Fields], site: str) -> dict[str, Any]:
    """Merge the fields of a tower from several tables; the first table with a field has priority."""
    merged: dict[str, Any] = {}
    for table in tables:
        known = table.get(site, {})
        merged = {key: value for key, value in known.items() if not is_missing(value)} | merged
    return merged


def site_coordinates(sites: list[SiteMetadata]) -> dict[str, Any]:
    """Build the coordinates along ``site``, without text fields that are empty for all towers.

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
    """Check whether a file is named like a table of towers: ``site_data.csv``, BIF or SITEINFO.

    Examples
    --------
    >>> [is_table(Source(name)) for name in ("FLX_AA-Flx_BIF_LATEST.csv", "AMF_US-Ha1_BIFVARINFO.csv")]
    [True, False]
    """
    pattern = rf"site_data{COPY}\.(?i:csv)|[^.].*_(BIF|SITEINFO)(_.*)?{COPY}\.(?i:csv|xlsx)"
    return re.fullmatch(pattern, source.name) is not None


def tables_beside(path: Path) -> list[Source]:
    """Find the tables of towers in the archive and the folder of a file, best first."""
    packed = sources_in(path) if is_archive(path.name) else []
    unpacked = (Source(str(file)) for file in path.parent.iterdir() if file.is_file())
    return sorted(filter(is_table, [*packed, *unpacked]), key=priority)


def priority(source: Source) -> tuple[bool, bool, str]:
    """Sort key of tables: ``site_data.csv`` first, then tables in archives, then by path."""
    return not source.name.startswith("site_data"), not source.member, str(source)


def is_missing(value: Any) -> bool:
    """Check whether the value of a field marks it as unknown.

    Examples
    --------
    >>> [is_missing(value) for value in (None, "", "-9999", float("nan"), 0.0)]
    [True, True, True, True, False]
    """
    return value is None or str(value).strip() in _MISSING


def _number(name: str, value: Any, site: str) -> float:
    try:
        return float(value.replace(",", ".") if isinstance(value, str) else value)
    except (TypeError, ValueError):
        raise MetadataError(f"{site}: {name} must be a number, found {value!r}") from None


def _read_rows(path: str | os.PathLike[str] | Source) -> tuple[set[str], list[dict[str, str]]]:
    """Read the header and the rows of a CSV table with any separator, or of an Excel file."""
    source = path if isinstance(path, Source) else Source(os.fspath(path))
    with source.open() as stream:
        content = stream.read()
    text = _decode(content, source)
    separator = max(",;\t", key=text.partition("\n")[0].count)
    with reading(f"{source}: cannot be read as a table"):
        header, *cells = list(csv.reader(io.StringIO(text), delimiter=separator)) or [[]]
    names = [name.strip() for name in header]
    texts = ([cell.strip() for cell in row] for row in cells if row)
    rows = [dict(zip(names, [*row, *[""] * len(names)], strict=False)) for row in texts]
    return set(names), rows


def _decode(content: bytes, source: Source) -> str:
    """Decode a table in UTF-8, in UTF-16 with a byte-order mark, or in the encoding of Windows or Mac OS."""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        # The right encoding is the one that gives more accented letters, of which most are small.
        texts = {name: content.decode(name, "replace") for name in ("cp1252", "mac_roman")}
        letters = {name: re.findall("[\xc0-\xff]", text) for name, text in texts.items()}
        found = max(texts, key=lambda name: sum(1 + letter.islower() for letter in letters[name]))
        warn(f"{source}: the table is not UTF-8 text and was read as {found}; check the accented letters")
        return texts[found]


def _fields_of_table(rows: list[dict[str, str]], path: object) -> dict[str, dict[str, Any]]:
    towers: dict[str, dict[str, Any]] = {}
    for row in rows:
        site = row["SITE_ID"]
        if site in towers:
            raise MetadataError(f"{path}: {site} has two rows; keep one of them")
        towers[site] = {
            field: row[name] for name, field in _FIELDS.items() if name in row and not is_missing(row[name])
        }
    return towers


def _fields_of_groups(rows: list[dict[str, str]]) -> dict[str, dict[str, Any]]:
    """Collect BADM rows into groups and read each field from the best group that contains it."""
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
    """Sort key of groups, worst first: FLUXNET data products are last, later dates after earlier ones."""
    start = max((value for name, value in group.items() if name.endswith("DATE_START")), default="")
    return group.get("DOI_DATAPRODUCT", "").startswith("FLUXNET"), start
