"""Downloads of files on threads, and the checks of each file."""

from __future__ import annotations

import re
import threading
import zipfile
from collections import Counter
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tqdm import tqdm

from xcarbon.core.atomic import replacing
from xcarbon.core.errors import DownloadError, reading
from xcarbon.core.options import OPTIONS
from xcarbon.core.workers import resumable
from xcarbon.io.columns import is_archive
from xcarbon.io.fetch.snapshots import Entry

if TYPE_CHECKING:
    import requests

#: Seconds to wait for a connection, and for the next bytes of a response.
_TIMEOUT = (30, 60)
#: Number of failed connections after which the other files of the same server are not tried.
_ATTEMPTS = 3


class _Stopped(Exception):
    """A download was stopped because the command was interrupted."""


class Downloads:
    """Downloads to one folder on threads, with a progress bar of bytes."""

    def __init__(self, raw: Path) -> None:
        self.raw = raw
        self.has_answer = False  # from any server
        self.silent: Counter[str] = Counter()  # number of failed connections to each server
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._bar: Any = None

    def run(self, entries: list[Entry], jobs: int) -> Generator[tuple[Entry, BaseException | None]]:
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

    def _fetch(self, entry: Entry) -> None:
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

    def _download(self, entry: Entry, host: str, path: Path) -> requests.Response:
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


def _check(path: Path, entry: Entry, headers: Mapping[str, str]) -> None:
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
