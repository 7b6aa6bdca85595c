"""Snapshots of the FLUXNET shuttle: the files that they list, and the selection of files to download.

A snapshot is a CSV table with one row per product of a site, written by ``fluxnet-shuttle listall``
(https://github.com/fluxnet/shuttle).
"""

from __future__ import annotations

import csv
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from xcarbon.core.errors import FileFormatError, OptionError
from xcarbon.io.columns import is_archive

PathLike = str | os.PathLike[str]
#: Names of the columns of a snapshot; the first name is the one of the current version of the shuttle.
_COLUMNS = {
    "site": ("site_id", "site", "siteid", "station_id"),
    "link": ("download_link", "download_url", "link", "url"),
    "product": ("fluxnet_product_name", "product_name", "file_name", "filename", "product"),
    "hub": ("data_hub", "hub", "network"),
    "citation": ("product_citation", "citation"),
    "licence": ("license", "licence", "data_license", "product_license"),
    "first_year": ("first_year",),
    "last_year": ("last_year",),
    "hash": ("sha256", "md5", "hash", "checksum"),
}
#: Algorithm of a hash, by its number of hexadecimal digits.
_ALGORITHMS = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that a snapshot lists; ``name`` is its name in the folder of raw files."""

    site: str
    link: str
    name: str
    hub: str = ""
    citation: str = ""
    licence: str = ""
    first_year: str = ""
    last_year: str = ""
    hash: str = ""

    def is_complete(self, raw: Path) -> bool:
        """Check whether an earlier run has downloaded the file: only complete files have their final name."""
        from pooch.hashes import hash_matches

        path = raw / self.name
        readable = path.is_file() and (zipfile.is_zipfile(path) or not is_archive(self.name))
        if not readable or not self.hash:
            return readable
        return self.has_known_hash and bool(hash_matches(path, self.hash))

    @property
    def has_known_hash(self) -> bool:
        """Whether the algorithm of the hash is supported."""
        return self.hash.partition(":")[0] in _ALGORITHMS.values()


def read_snapshot(path: Path) -> list[Entry]:
    """Read all rows of a snapshot; identical files are listed once."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no snapshot {path}; `fluxnet-shuttle listall` writes one")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = _find_columns(list(reader.fieldnames or ()), path)
            entries = [_entry({key: row.get(name) or "" for key, name in columns.items()}) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(f"{path}: the snapshot is not a CSV table in UTF-8 ({error})") from error
    entries = list(dict.fromkeys(entry for entry in entries if entry.site))
    if not entries:
        raise FileFormatError(f"{path}: the snapshot lists no site")
    return entries


def _find_columns(names: list[str], path: Path) -> dict[str, str]:
    """Find the column of each kind by its name; capitals, blanks and hyphens make no difference."""
    known = {re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_"): name for name in reversed(names)}
    found = {}
    for key, aliases in _COLUMNS.items():
        alias = next((alias for alias in aliases if alias in known), None)
        if alias is not None:
            found[key] = known[alias]
    for key, what in (("site", "sites"), ("link", "download links")):
        if key not in found:
            raise FileFormatError(
                f"{path}: the snapshot has no column of {what}: expected {' or '.join(_COLUMNS[key])}, found "
                f"{', '.join(names) or 'no columns'}"
            )
    return found


def _entry(cells: Mapping[str, str]) -> Entry:
    fields = {key: cells.get(key, "").strip() for key in _COLUMNS}
    product = fields.pop("product")
    algorithm, _, digits = fields["hash"].rpartition(":")
    if digits:
        algorithm = algorithm.lower() or _ALGORITHMS.get(len(digits), "unknown")
        fields["hash"] = f"{algorithm}:{digits.lower()}"
    return Entry(name=_file_name(fields["site"], fields["link"], product), **fields)


def _file_name(site: str, link: str, product: str) -> str:
    """Name of the product or of the link if it is a file name, without folders; else one with the site."""
    for candidate in (product, unquote(urlsplit(link).path)):
        name = PurePosixPath(candidate.replace("\\", "/")).name
        if re.fullmatch(r"[^.].*\.(zip|csv|csv\.gz)", name, re.IGNORECASE):
            return re.sub(r'[\x00-\x1f<>:"|?*]', "_", name)
    return re.sub(r"[^\w-]+", "_", "_".join(filter(None, [site, product]))) + ".zip"


def select_entries(entries: list[Entry], sites: Iterable[str] | None, snapshot: PathLike) -> list[Entry]:
    """Select the files of some sites, and check that their names differ."""
    if sites is not None:
        wanted = [sites] if isinstance(sites, str) else list(sites)
        listed = sorted({entry.site for entry in entries})
        unknown = [site for site in wanted if site not in listed]
        if unknown:
            raise OptionError(
                f"{snapshot} does not list {', '.join(unknown)}; it lists {len(listed)} sites: "
                f"{', '.join(listed[:5])}{', ...' if len(listed) > 5 else ''}"
            )
        entries = [entry for entry in entries if entry.site in wanted]
    count = Counter(entry.name.lower() for entry in entries)
    for entry in entries:
        if count[entry.name.lower()] > 1:
            raise FileFormatError(
                f"{snapshot} lists {entry.name} more than once with different contents; keep one of the rows"
            )
    return entries
