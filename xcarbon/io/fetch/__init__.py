"""Download the files that a snapshot of the FLUXNET shuttle lists, and record their citations."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from xcarbon.core.errors import DownloadError, OptionError
from xcarbon.core.extras import require
from xcarbon.io.fetch.citations import CITATIONS, Citations
from xcarbon.io.fetch.downloads import Downloads
from xcarbon.io.fetch.snapshots import PathLike, read_snapshot, select_entries

__all__ = ["FailedDownload", "FetchReport", "fetch"]


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
    >>> import zipfile
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
    entries = select_entries(read_snapshot(Path(snapshot)), sites, snapshot)
    raw = Path(raw)
    if raw.exists() and not raw.is_dir():
        raise OptionError(f"{raw} is a file; pass the folder in which the downloads are written")
    raw.mkdir(parents=True, exist_ok=True)
    citations = Citations(raw / CITATIONS)
    kept = [entry for entry in entries if entry.is_complete(raw)]
    for entry in kept:
        citations.add(entry, raw / entry.name, is_new=False)
    citations.write()
    done, failed = set(), {}
    downloads = Downloads(raw)
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
