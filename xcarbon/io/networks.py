"""Products of the flux networks: the tower, release and resolution of a file, read from its name.

The supported products are, from old to new, AmeriFlux BASE, FLUXNET2015, FLUXNET-CH4, ICOS Warm Winter 2020,
AmeriFlux FLUXNET, ICOS L2 and FLUXNET.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xcarbon.core.errors import FileFormatError, reading
from xcarbon.io.columns import Source, is_archive
from xcarbon.io.workbooks import is_workbook

_FLUXNET2015 = "Pastorello et al. 2020, Scientific Data 7, 225, doi:10.1038/s41597-020-0534-3"


@dataclass(frozen=True, slots=True)
class Product:
    """A family of releases whose file names follow one pattern.

    Attributes
    ----------
    name : str
        Name of the product, as in the release flags of a fused record.
    pattern : str
        Regular expression for the file name without its extension. Its groups are ``site`` and
        ``resolution``, and also ``version`` and ``subset`` where file names contain them.
    license, references : str
        Licence and reference of all towers; empty where they differ between towers.
    """

    name: str
    pattern: str
    license: str = ""
    references: str = ""


_SITE = r"(?P<site>[A-Z]{2}-\w{3})"
_STEP = r"(?P<resolution>HH|HR|DD|WW|MM|YY)"
_YEARS = r"\d{4}-\d{4}"

#: Supported products, oldest first. AmeriFlux BASE contains the data as submitted by the site teams, without
#: the common processing of the other products, so every other release is preferred to it.
PRODUCTS = (
    Product("AmeriFlux-BASE", rf"AMF_{_SITE}_BASE_{_STEP}_(?P<version>\d+-\d+)"),
    Product(
        "FLUXNET2015",
        rf"FLX_{_SITE}_FLUXNET2015_(?P<subset>SUBSET|FULLSET)_{_STEP}(_{_YEARS}(_(?P<version>\d+-\d+))?)?",
        "CC-BY-4.0",
        _FLUXNET2015,
    ),
    Product("FLUXNET-CH4", rf"FLX_{_SITE}_FLUXNET-CH4_{_STEP}_{_YEARS}(_(?P<version>\d+-\d+))?"),
    Product(
        "ICOS-Warm-Winter-2020",
        rf"FLX_{_SITE}_FLUXNET2015_(?P<subset>SUBSET|FULLSET)_{_STEP}_{_YEARS}_(?P<version>beta-\d+)",
        "CC-BY-4.0",
        "Warm Winter 2020 Team and ICOS Ecosystem Thematic Centre, doi:10.18160/2G60-ZHAK",
    ),
    Product(
        "AmeriFlux-FLUXNET",
        rf"AMF_{_SITE}_FLUXNET_(?P<subset>SUBSET|FULLSET)_{_STEP}_{_YEARS}_(?P<version>\d+-\d+)",
    ),
    Product("ICOS-L2", rf"ICOSETC_{_SITE}_FLUXNET_{_STEP}(_(?P<version>INTERIM))?_L2", "CC-BY-4.0"),
    Product(
        "FLUXNET", rf"[A-Z]+_{_SITE}_FLUXNET_FLUXMET_{_STEP}_{_YEARS}_(?P<version>v\d[\w.]*)", "CC-BY-4.0"
    ),
)
#: Product of a file whose name matches no pattern; every other release is preferred to it.
UNNAMED = Product("unnamed", r"(?!)")
#: Ending that browsers and file managers add to the name of a second copy.
COPY = r"( ?\(\d+\)| - Copy( \(\d+\))?| copy( \d+)?)?"
_ENDING = r"(?i:\.(csv(\.gz)?|xls[xm]))"
_EXTENSION = rf"{COPY}{_ENDING}"
_PATTERNS = tuple(re.compile(f"{product.pattern}{_EXTENSION}") for product in PRODUCTS)

#: Resolutions that xcarbon reads: half-hourly and hourly.
READABLE = ("HH", "HR")
#: Resolution whose half-hours can be kept.
HALF_HOURLY = "HH"
EXAMPLE = "FLX_DE-Tha_FLUXNET2015_FULLSET_HH_1996-2014_1-4.csv"


@dataclass(frozen=True, slots=True)
class Release:
    """A file of a tower, described by its name.

    Attributes
    ----------
    source : Source
        Location of the file.
    site : str
        Identifier of the tower.
    product : Product
        Product that the file belongs to.
    resolution : {"HH", "HR", "DD", "WW", "MM", "YY"}
        Time step: half-hourly, hourly, daily, weekly, monthly or yearly.
    version : str
        Version of the product; empty where the name contains none.
    subset : {"SUBSET", "FULLSET", ""}
        Whether the file contains a selection of the columns or all of them; empty where the name does
        not state it.
    """

    source: Source
    site: str
    product: Product
    resolution: str
    version: str = ""
    subset: str = ""

    @property
    def label(self) -> str:
        """Product and version in one word, as in the release flags of a fused record."""
        return "_".join(filter(None, [self.product.name, self.version]))

    @property
    def stem(self) -> str:
        """File name without its extensions and without SUBSET or FULLSET."""
        return re.sub(f"{_EXTENSION}$", "", self.source.name).replace(f"_{self.subset}_", "_")

    @property
    def identity(self) -> tuple[str, str]:
        """File name, and the path too if the name contains neither years nor version; equal for copies.

        A second copy such as "name (1)" is not equal to the first one, which may be incomplete.
        """
        stem = re.sub(f"{_ENDING}$", "", self.source.name).replace(f"_{self.subset}_", "_")
        is_unique = self.product in PRODUCTS and re.search(r"\d-\d", stem)
        return stem, "" if is_unique else str(self.source)

    @property
    def rank(self) -> tuple[int, bool, list[int]]:
        """Sort key from old to new releases of a tower; an interim release precedes the final one."""
        age = PRODUCTS.index(self.product) if self.product in PRODUCTS else -1
        numbers = [int(number) for number in re.findall(r"\d+", self.version)]
        return age, self.version != "INTERIM", numbers


def recognise(source: Source) -> Release | None:
    """Identify the release from the name of a file; None if it is not a tower file (metadata, reanalysis).

    Examples
    --------
    >>> release = recognise(Source("raw/AMF_US-Ha1_FLUXNET_SUBSET_HR_1991-2020_3-5.csv"))
    >>> release.site, release.label, release.resolution
    ('US-Ha1', 'AmeriFlux-FLUXNET_3-5', 'HR')
    """
    for product, pattern in zip(PRODUCTS, _PATTERNS, strict=True):
        if match := pattern.fullmatch(source.name):
            parts = {key: value or "" for key, value in match.groupdict().items()}
            return Release(source, product=product, **parts)
    return None


def newest_first(releases: Iterable[Release]) -> list[Release]:
    """Sort releases by site and from new to old, and drop those that another release contains.

    A text file replaces a workbook with its name, an unpacked file its packed copy, and FULLSET replaces
    SUBSET, whose columns it contains. Files of ICOS L2 have the same name every year, so all of them are
    kept.

    Examples
    --------
    >>> names = ["FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-2014_1-4.csv", "ICOSETC_DE-Tha_FLUXNET_HH_L2.csv"]
    >>> [release.label for release in newest_first(recognise(Source(name)) for name in names)]
    ['ICOS-L2', 'FLUXNET2015_1-4']
    """
    # Among copies the best comes first: FULLSET before SUBSET, text before workbooks, which may have been
    # edited, and unpacked (no member) before packed.
    found = sorted(
        releases,
        key=lambda of: (
            of.subset != "FULLSET",
            is_workbook(of.source.name),
            of.source.member != "",
            str(of.source),
        ),
    )
    best = list({release.identity: release for release in reversed(found)}.values())[::-1]
    return sorted(sorted(best, key=lambda of: (of.rank, of.stem), reverse=True), key=lambda of: of.site)


def walk(path_or_paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """Iterate over the files at paths and, sorted, in folders at any depth; a missing path is an error."""
    single = isinstance(path_or_paths, str | os.PathLike)
    for path in map(Path, [path_or_paths] if single else path_or_paths):  # type: ignore[arg-type]
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
        yield from (sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else (path,))


def resolutions_in(paths: Iterable[str | os.PathLike[str]]) -> set[str]:
    """Return the resolutions that the names of tower files at paths, in folders and in archives state.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "FLX_DE-Tha_FLUXNET2015_SUBSET_YY_2014-2014.csv").write_text("")
    ...     resolutions_in([folder])
    {'YY'}
    """
    found: set[str] = set()
    for path in walk(paths):
        with suppress(FileFormatError, OSError):  # a damaged archive is an error where it is read
            found |= {release.resolution for release in map(recognise, sources_in(path)) if release}
    return found


def sources_in(path: Path) -> list[Source]:
    """Return the file itself or, for a zip archive, its members and those of archives inside it.

    An inner archive that is damaged is returned as a member.
    """
    absolute = str(path.absolute())  # a worker may run in another folder
    if not is_archive(path.name):
        return [Source(absolute)]
    with (
        reading(f"{path}: the file is truncated or not a zip archive"),
        zipfile.ZipFile(path) as archive,
    ):
        return [Source(absolute, member) for member in _members(archive)]


def _members(archive: zipfile.ZipFile, depth: int = 0) -> Iterator[str]:
    """Iterate over the files in an archive and in the archives inside it, at most three levels down."""
    for name in archive.namelist():
        if name.endswith("/"):
            continue
        if not is_archive(name) or depth == 3:
            yield name
            continue
        try:
            with (
                reading(f"{name}: the file is truncated or not a zip archive"),
                zipfile.ZipFile(io.BytesIO(archive.read(name))) as inner,
            ):
                found = [f"{name}/{member}" for member in _members(inner, depth + 1)]
        except FileFormatError:
            found = [name]
        yield from found


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is not read, and why.

    Attributes
    ----------
    where : str
        Path of the file.
    reason : str
        Why it is not read.
    is_expected : bool
        Whether such files belong to the downloads of the networks, so that nothing is lost with them.
    """

    where: str
    reason: str
    is_expected: bool = True

    def __str__(self) -> str:
        return self.reason if self.where in self.reason else f"{self.where}: {self.reason}"


_IMAGE = "image or grid"
#: Files that xcarbon does not read, by their names: the pattern, the reason, and whether they are expected.
_UNREAD = (
    (r"(.*/)?(\.|__MACOSX/|Thumbs\.db|desktop\.ini).*", "hidden file of the operating system", True),
    (r".*\.(part|crdownload|download|tmp|filepart)", "unfinished download", False),
    (r".*\.zip", "damaged or encrypted archive", False),
    (r".*\.(7z|rar|tar|tgz|tar\.\w+|bz2|xz)", "archive of another kind than zip; unpack it", False),
    (r".*_(ERAI|ERA5)_(HH|HR|DD|WW|MM|YY)_.*\.csv(\.gz)?", "reanalysis beside a tower", True),
    (r"CITATIONS\.csv|fluxnet_shuttle_snapshot_.*\.csv", "table of downloads", True),
    (
        r".*_(AUX[A-Z]+|BIFVARINFO|VARINFO|ANCILLARY|METEO|METEOSENS|FLUXES)(_.*)?\.csv(\.gz)?",
        "auxiliary file of a network",
        True,
    ),
    (
        r".*\.(txt|md|pdf|html?|docx?|rtf|json|ya?ml|xml|log|sha\d*|md5)|.*/?(LICEN[CS]E|README)",
        "document",
        True,
    ),
    (r".*\.(nc|nc4|hdf|h5|he5|tiff?|png|jpe?g)|.*\.zarr/.*", _IMAGE, True),
    (r".*\.(xls|xlsb|ods)", "spreadsheet in a format that is not read; save it as .xlsx or .csv", False),
    (r".*\.((csv|dat|tsv)(\.gz)?|xls[xm])", "table whose name contains no tower", False),
)


def why_skipped(source: Source, readable: Sequence[str] = READABLE) -> Skipped:
    """Find the reason why a file that is not a tower file of the resolutions to read is not read.

    Examples
    --------
    >>> why_skipped(Source("FLX_DE-Tha_FLUXNET2015_FULLSET_DD_1996-2014_1-4.csv")).reason
    'daily or coarser'
    """
    release = recognise(source)
    if release and tuple(readable) == (HALF_HOURLY,) and release.resolution == "HR":
        return Skipped(str(source), "hourly, without half-hours", False)
    if release:
        other = f"of another resolution than {', '.join(readable)}"
        return Skipped(str(source), "daily or coarser" if tuple(readable) == READABLE else other)
    name = source.member if "__MACOSX/" in source.member else source.name
    for pattern, reason, is_expected in _UNREAD:
        if re.fullmatch(pattern, name, re.IGNORECASE):
            packed = " in an archive" if source.member and reason == _IMAGE else ""
            return Skipped(str(source), reason + packed, is_expected)
    return Skipped(str(source), "file of another kind")


def replaced(releases: Iterable[Release], kept: Iterable[Release]) -> list[Skipped]:
    """List the releases that :func:`newest_first` dropped."""
    read = {release.source for release in kept}
    reason = "copy, or SUBSET of a FULLSET, of a file that is read"
    return [Skipped(str(of.source), reason) for of in releases if of.source not in read]
