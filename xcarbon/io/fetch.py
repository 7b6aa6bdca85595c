"""Download the files that a snapshot of the FLUXNET shuttle lists, and record their citations.

A snapshot is a CSV table with one row per product of a site, written by ``fluxnet-shuttle listall``
(https://github.com/fluxnet/shuttle).

The module contains, in this order, the reading of snapshots, the download of one file with its checks, and
the table of citations.
"""

from __future__ import annotations

import csv
import datetime as dt
import os
import re
import threading
import zipfile
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tqdm import tqdm

from xcarbon.core.atomic import replacing
from xcarbon.core.errors import DownloadError, FileFormatError, OptionError, reading
from xcarbon.core.extras import require
from xcarbon.core.options import OPTIONS
from xcarbon.core.workers import resumable
from xcarbon.io.columns import Source, is_archive
from xcarbon.io.networks import recognise

if TYPE_CHECKING:
    import requests

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
#: Name of the table of citations.
CITATIONS = "CITATIONS.csv"
_CITATION_COLUMNS = (
    "site", "product", "data_hub", "first_year", "last_year", "citation", "licence", "link", "downloaded",
)  # fmt: skip
#: Seconds to wait for a connection, and for the next bytes of a response.
_TIMEOUT = (30, 60)
#: Number of failed connections after which the other files of the same server are not tried.
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class FailedDownload:
    """A file that was not downloaded.

    Attributes
    ----------
    site : str
        Identifier of the site.
    link : str
        Link in the snapshot.
    reason : str
        Why the file was not downloaded.
    """

    site: str
    link: str
    reason: str

    def __str__(self) -> str:
        return f"{self.site}: {self.reason} ({self.link or 'no link'})"


@dataclass(frozen=True, slots=True)
class FetchReport:
    """Result of :func:`xcarbon.fetch`; all files are in the order of the snapshot.

    Attributes
    ----------
    raw : pathlib.Path
        Folder that contains the files and ``CITATIONS.csv``.
    fetched : tuple of pathlib.Path
        Files that were downloaded.
    kept : tuple of pathlib.Path
        Files that were complete before.
    failed : tuple of FailedDownload
        Files that were not downloaded, with the reason.
    """

    raw: Path
    fetched: tuple[Path, ...]
    kept: tuple[Path, ...]
    failed: tuple[FailedDownload, ...]

    def __str__(self) -> str:
        counts = f"downloaded: {len(self.fetched)}, complete before: {len(self.kept)}"
        lines = [f"{self.raw}: {counts}, failed: {len(self.failed)}", *(f"  {one}" for one in self.failed)]
        return "\n".join(lines)


def fetch(
    snapshot: PathLike, raw: PathLike, sites: Iterable[str] | None = None, *, jobs: int = 2
) -> FetchReport:
    r"""Download the files that a snapshot of the FLUXNET shuttle lists.

    The files are written to one folder, which :func:`xcarbon.build` reads. A file gets its final name when it
    is complete and checked, so the same call continues after an interruption. Files that are complete are not
    downloaded again.

    Parameters
    ----------
    snapshot : path-like
        CSV table with one row per file, as ``fluxnet-shuttle listall`` writes it. It needs columns for the
        site (``site_id``) and the link (``download_link``). File name (``fluxnet_product_name``), data hub
        (``data_hub``), citation (``product_citation``), years (``first_year``, ``last_year``), licence
        (``license``) and hash (``sha256`` or ``md5``) are used if they are present.
    raw : path-like
        Folder to write. ``CITATIONS.csv`` in this folder lists site, file, citation, licence, link and date
        of download of each file.
    sites : iterable of str, optional
        Identifiers of the sites to download. Default: all sites of the snapshot.
    jobs : int
        Number of files to download at the same time.

    Returns
    -------
    FetchReport
        The files that were downloaded, that were complete before, and that failed. The failure of one file
        does not stop the others.

    Raises
    ------
    XCarbonError
        If the package pooch is not installed.
    FileNotFoundError
        If there is no such snapshot.
    FileFormatError
        If the snapshot has no column of sites or links, or lists different links under one file name.
    OptionError
        If the snapshot does not list one of the sites, or ``jobs`` is less than 1.
    DownloadError
        If there is no connection to any server.

    Notes
    -----
    A download is compared with the size that the server states, and with the hash if the snapshot has one. A
    web page instead of a file is an error, and all members of a zip archive are read.

    The shuttle's links to the ICOS Carbon Portal state that its data licence is accepted. ``fetch`` sends no
    name and no e-mail address, and does not report downloads to AmeriFlux, as ``fluxnet-shuttle download``
    does.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     raw = Path(folder)
    ...     with zipfile.ZipFile(raw / "a.zip", "w") as archive:
    ...         archive.writestr("AMF_SY-001_FLUXNET_FLUXMET_HH_2010-2012_v1.3_r1.csv", "")
    ...     table = "site_id,download_link,fluxnet_product_name\nSY-001,https://example.org/a.zip,a.zip\n"
    ...     length = (raw / "snapshot.csv").write_text(table)
    ...     report = fetch(raw / "snapshot.csv", raw)  # the file is complete
    >>> len(report.kept), report.fetched, report.failed
    (1, (), ())
    """
    require("downloads", "fetch", "pooch", "requests")
    if jobs < 1:
        raise OptionError(f"jobs={jobs} is not allowed; it must be at least 1")
    entries = _select(_read_snapshot(Path(snapshot)), sites, snapshot)
    raw = Path(raw)
    if raw.exists() and not raw.is_dir():
        raise OptionError(f"{raw} is a file; pass the folder in which the downloads are written")
    raw.mkdir(parents=True, exist_ok=True)
    citations = _Citations(raw / CITATIONS)
    kept = [entry for entry in entries if entry.is_complete(raw)]
    for entry in kept:
        citations.add(entry, raw / entry.name, is_new=False)
    citations.write()
    done, failed = set(), {}
    downloads = _Downloads(raw)
    with closing(downloads.run([entry for entry in entries if entry not in kept], jobs)) as results:
        for entry, error in results:
            if error is None:
                done.add(entry)
                citations.add(entry, raw / entry.name, is_new=True)
                citations.write()
            else:
                failed[entry] = FailedDownload(entry.site, entry.link, str(error))
    if downloads.silent and not downloads.has_answer:
        hosts = ", ".join(sorted(downloads.silent))
        raise DownloadError(
            f"there is no connection to {hosts}, so none of {len(failed)} files was downloaded. Check the "
            "network connection and, behind a proxy, the environment variable HTTPS_PROXY; then run the same "
            "command again. If this machine has no connection, download elsewhere and copy the files to "
            f"{raw}"
        )
    return FetchReport(
        raw,
        tuple(raw / entry.name for entry in entries if entry in done),
        tuple(raw / entry.name for entry in kept),
        tuple(failed[entry] for entry in entries if entry in failed),
    )


# Snapshots


@dataclass(frozen=True, slots=True)
class _Entry:
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


def _read_snapshot(path: Path) -> list[_Entry]:
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


def _entry(cells: Mapping[str, str]) -> _Entry:
    fields = {key: cells.get(key, "").strip() for key in _COLUMNS}
    product = fields.pop("product")
    algorithm, _, digits = fields["hash"].rpartition(":")
    if digits:
        algorithm = algorithm.lower() or _ALGORITHMS.get(len(digits), "unknown")
        fields["hash"] = f"{algorithm}:{digits.lower()}"
    return _Entry(name=_file_name(fields["site"], fields["link"], product), **fields)


def _file_name(site: str, link: str, product: str) -> str:
    """Name of the product or of the link if it is a file name, without folders; else one with the site."""
    for candidate in (product, unquote(urlsplit(link).path)):
        name = PurePosixPath(candidate.replace("\\", "/")).name
        if re.fullmatch(r"[^.].*\.(zip|csv|csv\.gz)", name, re.IGNORECASE):
            return re.sub(r'[\x00-\x1f<>:"|?*]', "_", name)
    return re.sub(r"[^\w-]+", "_", "_".join(filter(None, [site, product]))) + ".zip"


def _select(entries: list[_Entry], sites: Iterable[str] | None, snapshot: PathLike) -> list[_Entry]:
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


# Downloads


class _Stopped(Exception):
    """A download was stopped because the command was interrupted."""


class _Downloads:
    """Downloads to one folder on threads, with a progress bar of bytes."""

    def __init__(self, raw: Path) -> None:
        self.raw = raw
        self.has_answer = False  # from any server
        self.silent: Counter[str] = Counter()  # number of failed connections to each server
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._bar: Any = None

    def run(self, entries: list[_Entry], jobs: int) -> Generator[tuple[_Entry, BaseException | None]]:
        """Yield each file with its error, or None, in the order of completion."""
        with ExitStack() as stack:
            self._bar = stack.enter_context(
                tqdm(total=0, unit="B", unit_scale=True, disable=not OPTIONS["progress"] or not entries)
            )
            pool = ThreadPoolExecutor(jobs)
            stack.callback(pool.shutdown, cancel_futures=True)
            stack.callback(self._stop.set)  # called first: running downloads end with the next bytes
            stack.enter_context(resumable("downloading"))
            futures = {pool.submit(self._fetch, entry): entry for entry in entries}
            for number, future in enumerate(as_completed(futures)):
                error = future.exception()
                if error is not None and not isinstance(error, (DownloadError, OSError)):
                    raise error
                self._bar.set_description(f"file {number + 1} of {len(entries)}")
                yield futures[future], error

    def _fetch(self, entry: _Entry) -> None:
        """Download a file to its final name; errors are raised as DownloadError or OSError."""
        parts = urlsplit(entry.link)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise DownloadError("the snapshot has no http or https link of the file")
        if entry.hash and not entry.has_known_hash:
            raise DownloadError(
                f"the hash {entry.hash} in the snapshot is not MD5, SHA-1, SHA-256 or SHA-512"
            )
        if self.silent[parts.netloc] >= _ATTEMPTS:
            raise DownloadError(f"there is no connection to {parts.netloc}")
        with replacing(self.raw / entry.name) as temporary:
            response = self._download(entry, parts.netloc, temporary)
            _check(temporary, entry, response.headers)

    def _download(self, entry: _Entry, host: str, path: Path) -> requests.Response:
        """Write the bytes that the server sends to ``path``, and return the response."""
        import pooch
        import requests

        responses: list[requests.Response] = []

        def note(response: requests.Response, **_: Any) -> None:
            responses.append(response)
            with self._lock:
                self.has_answer = True
                self._bar.total += _stated_size(response.headers) or 0 if response.ok else 0

        downloader = pooch.HTTPDownloader(
            chunk_size=1 << 16,
            timeout=_TIMEOUT,
            headers={"Accept-Encoding": "identity"},
            hooks={"response": note},
        )
        with open(path, "wb") as file:
            try:
                downloader(entry.link, _Output(file, self._advance), None)
            except requests.HTTPError as error:
                raise DownloadError(_refusal(responses[-1])) from error
            except (
                requests.ConnectionError,
                requests.Timeout,
                requests.exceptions.ChunkedEncodingError,
            ) as error:
                if responses:
                    size = _stated_size(responses[-1].headers) or "an unknown number of"
                    raise DownloadError(
                        f"the connection was interrupted after {file.tell()} of {size} bytes"
                    ) from error
                if isinstance(error, requests.exceptions.SSLError):
                    raise DownloadError(f"the certificate of {host} is not accepted: {error}") from error
                with self._lock:
                    self.silent[host] += 1
                raise DownloadError(f"there is no connection to {host}") from error
            except requests.RequestException as error:
                raise DownloadError(f"the link cannot be downloaded: {error}") from error
            finally:
                for response in responses:
                    response.close()
        return responses[-1]

    def _advance(self, size: int) -> None:
        if self._stop.is_set():
            raise _Stopped
        with self._lock:
            self._bar.update(size)


class _Output:
    """Binary file that calls a function with the number of bytes before they are written."""

    def __init__(self, file: IO[bytes], advance: Any) -> None:
        self._file, self._advance = file, advance

    def write(self, chunk: bytes) -> int:
        self._advance(len(chunk))
        return self._file.write(chunk)

    def flush(self) -> None:
        """Do nothing: pooch calls this after each chunk, and the file is flushed when it is closed."""


def _stated_size(headers: Mapping[str, str]) -> int | None:
    """Size of the file [bytes] that the server states; None if it states none or compresses the response."""
    text = headers.get("Content-Length", "")
    is_plain = headers.get("Content-Encoding", "identity") == "identity"
    return int(text) if is_plain and text.isdigit() else None


def _refusal(response: requests.Response) -> str:
    """Error message for a response with an HTTP error status."""
    advice = {
        401: "; the link may have expired: write a new snapshot",
        403: "; the link may have expired: write a new snapshot",
        404: "; the file may have been moved: write a new snapshot",
        410: "; the file was removed: write a new snapshot",
    }
    answer = f"the server answered {response.status_code} {response.reason}".rstrip()
    return answer + advice.get(response.status_code, "; try again later")


def _check(path: Path, entry: _Entry, headers: Mapping[str, str]) -> None:
    """Check size, kind, hash and readability of a download."""
    from pooch.hashes import file_hash

    size, stated = path.stat().st_size, _stated_size(headers)
    if stated is not None and size != stated:
        raise DownloadError(f"the file has {size} bytes instead of the {stated} bytes that the server stated")
    with open(path, "rb") as file:
        start = file.read(4096)
    if re.match(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?<(!doctype\s+html|html|head)\b", start, re.IGNORECASE):
        title = re.search(rb"<title[^>]*>\s*(.{,100}?)\s*</title>", start, re.IGNORECASE | re.DOTALL)
        named = f" {title[1].decode(errors='replace')!r}" if title else ""
        raise DownloadError(
            f"the server sent a web page (HTML){named} instead of {entry.name}; open the link in a browser: "
            "the server may need a login, or the link may have expired"
        )
    if entry.hash:
        algorithm, _, expected = entry.hash.partition(":")
        found = file_hash(str(path), alg=algorithm)
        if found != expected:
            raise DownloadError(f"the file has the {algorithm} hash {found} instead of {expected}")
    if is_archive(entry.name):
        _check_archive(path, entry.name)


def _check_archive(path: Path, name: str) -> None:
    with (
        reading(f"{name} is truncated or not a readable zip archive", DownloadError),
        zipfile.ZipFile(path) as archive,
    ):
        damaged, is_empty = archive.testzip(), not archive.namelist()
    if damaged:
        raise DownloadError(f"{name} is damaged: the member {damaged} has a wrong checksum")
    if is_empty:
        raise DownloadError(f"{name} is a zip archive without files")


# Citations


class _Citations:
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

    def add(self, entry: _Entry, path: Path, *, is_new: bool) -> None:
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
