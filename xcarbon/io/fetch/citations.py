"""The table of citations of all files in the folder of downloads."""

from __future__ import annotations

import csv
import datetime as dt
import zipfile
from pathlib import Path

from xcarbon.core.atomic import replacing
from xcarbon.io.columns import Source, is_archive
from xcarbon.io.fetch.snapshots import Entry
from xcarbon.io.networks import recognise

#: Name of the table of citations.
CITATIONS = "CITATIONS.csv"
_CITATION_COLUMNS = (
    "site", "product", "data_hub", "first_year", "last_year", "citation", "licence", "link", "downloaded",
)  # fmt: skip


class Citations:
    """Table of citations of all files in the folder, those of earlier runs included."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, dict[str, str]] = {}
        if path.exists():
            with open(path, newline="", encoding="utf-8", errors="replace") as file:
                for row in csv.DictReader(file):
                    self._rows[row.get("product") or ""] = {
                        name: row.get(name) or "" for name in _CITATION_COLUMNS
                    }

    def add(self, entry: Entry, path: Path, *, is_new: bool) -> None:
        """Add a file; the row of a file that was complete before stays, and otherwise has the file's date."""
        if not is_new and entry.name in self._rows:
            return
        when = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)
        values = (
            entry.site, entry.name, entry.hub, entry.first_year, entry.last_year, entry.citation,
            entry.licence or _licence(path), entry.link, f"{when:%Y-%m-%d}",
        )  # fmt: skip
        self._rows[entry.name] = dict(zip(_CITATION_COLUMNS, values, strict=True))

    def write(self) -> None:
        """Write the table, sorted by site and file."""
        if not self._rows:
            return
        with replacing(self.path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _CITATION_COLUMNS)
            writer.writeheader()
            writer.writerows(sorted(self._rows.values(), key=lambda row: (row["site"], row["product"])))


def _licence(path: Path) -> str:
    """Licence of the products in a file by their names; empty if it depends on the tower."""
    names = [path.name]
    if is_archive(path.name):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    products = {release.product for release in map(recognise, map(Source, names)) if release}
    # FLUXNET2015 contains towers under another policy, Tier Two.
    return ", ".join(sorted({of.license for of in products if of.license and of.name != "FLUXNET2015"}))
