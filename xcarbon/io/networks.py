"""The networks' products: which file is which release of which tower, by its name alone."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from xcarbon.core.errors import FileFormatError
from xcarbon.io.columns import Source

_FLUXNET2015 = "Pastorello et al. 2020, Scientific Data 7, 225, doi:10.1038/s41597-020-0534-3"


@dataclass(frozen=True, slots=True)
class Product:
    """A family of releases that share the form of their names.

    Attributes
    ----------
    name : str
        As in the flags of a fused record.
    pattern : str
        Regular expression of the file name without its ending, with the groups ``site`` and
        ``resolution``, and ``version`` and ``subset`` where names tell them.
    license, references : str
        Terms that hold for every tower, empty where each tower has its own.
    """

    name: str
    pattern: str
    license: str = ""
    references: str = ""


_SITE = r"(?P<site>[A-Z]{2}-\w{3})"
_STEP = r"(?P<resolution>HH|HR|DD|WW|MM|YY)"
_YEARS = r"\d{4}-\d{4}"

#: All products that are understood, older ones first. AmeriFlux BASE is what the teams hand in, without
#: the common processing of the others: any other release of the same hour is to be preferred.
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
#: Of a file whose name tells nothing; any other release is to be preferred.
UNNAMED = Product("unnamed", r"(?!)")
_PATTERNS = tuple(re.compile(rf"{product.pattern}\.csv(\.gz)?") for product in PRODUCTS)

#: Resolutions that are read: half-hours and hours.
READABLE = ("HH", "HR")
EXAMPLE = "FLX_DE-Tha_FLUXNET2015_FULLSET_HH_1996-2014_1-4.csv"


@dataclass(frozen=True, slots=True)
class Release:
    """A file of a tower, as far as its name tells.

    Attributes
    ----------
    source : Source
        Where it is.
    site : str
        Identifier of the tower.
    product : Product
    resolution : {"HH", "HR", "DD", "WW", "MM", "YY"}
    version : str
        Empty where the name has none.
    subset : {"SUBSET", "FULLSET", ""}
    """

    source: Source
    site: str
    product: Product
    resolution: str
    version: str = ""
    subset: str = ""

    @property
    def label(self) -> str:
        """Product and version in one word, as in the flags of a fused record."""
        return "_".join(filter(None, [self.product.name, self.version]))

    @property
    def stem(self) -> str:
        """Name without its endings and without SUBSET or FULLSET."""
        return re.sub(r"\.csv(\.gz)?$", "", self.source.name).replace(f"_{self.subset}_", "_")

    @property
    def identity(self) -> tuple[str, str]:
        """Name, which is equal for equal releases, and the place if years or version are not in the name."""
        return self.stem, "" if re.search(r"\d-\d", self.stem) else str(self.source)

    @property
    def rank(self) -> tuple[int, bool, list[int]]:
        """Sorts releases of a tower from old to new, an interim one before the final one."""
        age = PRODUCTS.index(self.product) if self.product in PRODUCTS else -1
        numbers = [int(number) for number in re.findall(r"\d+", self.version)]
        return age, self.version != "INTERIM", numbers


def recognise(source: Source) -> Release | None:
    """Tell which release a file is, by its name.

    Parameters
    ----------
    source : Source
        Any file.

    Returns
    -------
    Release or None
        None for what is no file of a tower, such as metadata or reanalysis alone.

    Examples
    --------
    >>> release = recognise(Source("raw/AMF_US-Ha1_FLUXNET_SUBSET_HR_1991-2020_3-5.csv"))
    >>> release.site, release.label, release.resolution
    ('US-Ha1', 'AmeriFlux-FLUXNET_3-5', 'HR')
    """
    for product, pattern in zip(PRODUCTS, _PATTERNS, strict=True):
        if match := pattern.fullmatch(source.name):
            told = {key: value or "" for key, value in match.groupdict().items()}
            return Release(source, product=product, **told)
    return None


def newest_first(releases: Iterable[Release]) -> list[Release]:
    """Sort releases by site, those of a site from new to old, without those that another one contains.

    Parameters
    ----------
    releases : iterable of Release
        In any order.

    Returns
    -------
    list of Release
        Of the same release unpacked and packed the unpacked one counts, of SUBSET and FULLSET the
        latter, which has all columns of the former. Names of ICOS L2 are the same year after year:
        such files are all kept.

    Examples
    --------
    >>> names = ["FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-2014_1-4.csv", "ICOSETC_DE-Tha_FLUXNET_HH_L2.csv"]
    >>> [release.label for release in newest_first(recognise(Source(name)) for name in names)]
    ['ICOS-L2', 'FLUXNET2015_1-4']
    """
    # Best of equals first: unpacked before packed (no member), FULLSET before SUBSET.
    found = sorted(releases, key=lambda of: (of.subset != "FULLSET", of.source.member != "", str(of.source)))
    best = list({release.identity: release for release in reversed(found)}.values())[::-1]
    return sorted(sorted(best, key=lambda of: (of.rank, of.stem), reverse=True), key=lambda of: of.site)


def walk(path_or_paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """Give the files at paths, and those in folders to any depth, in order of their names.

    Raises
    ------
    FileNotFoundError
        If a path does not exist.
    """
    single = isinstance(path_or_paths, str | os.PathLike)
    for path in map(Path, [path_or_paths] if single else path_or_paths):  # type: ignore[arg-type]
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
        yield from (sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else (path,))


def sources_in(path: Path) -> list[Source]:
    """Give a file, or the files in it if it is a zip archive.

    Raises
    ------
    FileFormatError
        If it is a damaged archive.
    """
    absolute = str(path.absolute())  # a worker may run in another folder
    if path.suffix != ".zip":
        return [Source(absolute)]
    try:
        with zipfile.ZipFile(path) as archive:
            return [Source(absolute, member) for member in archive.namelist()]
    except zipfile.BadZipFile as error:
        raise FileFormatError(f"{path}: truncated, or not a zip ({error})") from error
