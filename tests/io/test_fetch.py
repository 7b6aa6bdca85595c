"""Tests of downloads, against a server on the loopback address."""

from __future__ import annotations

import csv
import hashlib
import http.server
import io
import re
import socket
import sys
import threading
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import xcarbon
from xcarbon.cli import main
from xcarbon.core.errors import DownloadError, FileFormatError, OptionError, XCarbonError
from xcarbon.io import fetch as module
from xcarbon.io.fetch import fetch
from xcarbon.pipeline.survey import find
from xcarbon.testing import synthetic_towers, write_release

HEADER = (
    "data_hub,site_id,site_name,first_year,last_year,download_link,fluxnet_product_name,product_citation\n"
)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """Reach the loopback address directly also where a proxy is configured."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class Server:
    """Web server that sends the same bytes for a path, and counts the requests."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.lengths: dict[str, int] = {}  # wrong sizes to state
        self.cuts: dict[str, int] = {}  # number of bytes after which the connection is closed, once
        self.redirects: dict[str, str] = {}
        self.requests: Counter[str] = Counter()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                outer.requests[path] += 1
                if path in outer.redirects:
                    self.send_response(302)
                    self.send_header("Location", outer.redirects[path])
                    self.end_headers()
                    return
                if path not in outer.files:
                    self.send_error(404)
                    return
                content = outer.files[path]
                self.send_response(200)
                self.send_header("Content-Length", str(outer.lengths.get(path, len(content))))
                self.end_headers()
                self.wfile.write(content[: outer.cuts.pop(path, None)])

            def log_message(self, *_: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def row(self, site: str, name: str, *, hub: str = "AmeriFlux", product: str | None = None) -> str:
        product = name if product is None else product
        link = f"{self.url}/{name}"
        return f'{hub},{site},"Field, west",2010,2012,{link},{product},"Author (2025), {site}, doi:10.1/x"\n'


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()
    thread = threading.Thread(target=served.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.http.shutdown()
    served.http.server_close()
    thread.join()


def packed(text: str = "TIMESTAMP_START,TA_F\n" + "201001010000,1.0\n" * 20_000, name: str = "") -> bytes:
    """Return a zip archive with one uncompressed file of the FLUXNET product."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name or "AMF_XX-Abc_FLUXNET_FLUXMET_HH_2010-2012_v1.3_r1.csv", text)
    return content.getvalue()


def write_snapshot(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "fluxnet_shuttle_snapshot_20260101T000000.csv"
    path.write_text(header + "".join(rows), encoding="utf-8")
    return path


def citations(raw: Path) -> list[dict[str, str]]:
    with open(raw / "CITATIONS.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def names(raw: Path) -> set[str]:
    return {path.name for path in raw.iterdir()}


def test_files_are_downloaded_with_their_citations_and_only_once(server, tmp_path):
    server.files = {"/a.zip": packed(), "/b.zip": packed()}
    snapshot, raw = (
        write_snapshot(tmp_path, server.row("AA-Aaa", "a.zip"), server.row("BB-Bbb", "b.zip")),
        tmp_path / "raw",
    )
    report = xcarbon.fetch(snapshot, raw)
    assert report.fetched == (raw / "a.zip", raw / "b.zip")
    assert report.kept == report.failed == ()
    assert (raw / "a.zip").read_bytes() == server.files["/a.zip"]
    first, second = citations(raw)
    assert first.pop("downloaded")[:2] == "20"
    assert first == {
        "site": "AA-Aaa",
        "product": "a.zip",
        "data_hub": "AmeriFlux",
        "first_year": "2010",
        "last_year": "2012",
        "citation": "Author (2025), AA-Aaa, doi:10.1/x",
        "licence": "CC-BY-4.0",
        "link": f"{server.url}/a.zip",
    }
    assert second["site"] == "BB-Bbb"

    again = fetch(snapshot, raw)
    assert again.kept == report.fetched
    assert again.fetched == ()
    assert set(server.requests.values()) == {1}
    assert names(raw) == {"a.zip", "b.zip", "CITATIONS.csv"}


def test_an_interrupted_download_leaves_no_file_and_the_next_call_completes_it(server, tmp_path):
    server.files = {"/a.zip": packed(), "/b.zip": packed()}
    server.cuts = {"/a.zip": 100_000}
    snapshot, raw = (
        write_snapshot(tmp_path, server.row("AA-Aaa", "a.zip"), server.row("BB-Bbb", "b.zip")),
        tmp_path / "raw",
    )
    report = fetch(snapshot, raw)
    (failure,) = report.failed
    assert failure.site == "AA-Aaa"
    assert re.search(rf"interrupted after \d+ of {len(packed())} bytes", failure.reason)
    assert names(raw) == {"b.zip", "CITATIONS.csv"}

    report = fetch(snapshot, raw)
    assert report.fetched == (raw / "a.zip",)
    assert report.kept == (raw / "b.zip",)
    assert server.requests == {"/a.zip": 2, "/b.zip": 1}
    assert [row["site"] for row in citations(raw)] == ["AA-Aaa", "BB-Bbb"]


def test_a_truncated_file_of_another_program_is_downloaded_again(server, tmp_path):
    server.files = {"/a.zip": packed()}
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "a.zip").write_bytes(packed()[:1000])
    report = fetch(write_snapshot(tmp_path, server.row("AA-Aaa", "a.zip")), raw)
    assert report.fetched == (raw / "a.zip",)
    assert zipfile.is_zipfile(raw / "a.zip")


def damaged() -> bytes:
    return packed().replace(b"201001010000,1.0", b"201001010000,9.0", 1)


@pytest.mark.parametrize(
    ("content", "stated", "message"),
    [
        (packed(), 400_000, "of 400000 bytes"),
        (packed(), 1000, "truncated or not a readable zip archive"),
        (b"", 0, "truncated or not a readable zip archive"),
        (damaged(), None, "has a wrong checksum"),
        (b"<!DOCTYPE html>\n<html><title>Sign in</title></html>", None, "a web page (HTML) 'Sign in'"),
        (b'\n<html lang="en"><body>Error</body></html>', None, "a web page (HTML) instead of a.zip"),
    ],
)
def test_a_wrong_file_is_an_error_and_is_removed(server, tmp_path, content, stated, message):
    server.files = {"/a.zip": content}
    if stated is not None:
        server.lengths = {"/a.zip": stated}
    raw = tmp_path / "raw"
    (failure,) = fetch(write_snapshot(tmp_path, server.row("AA-Aaa", "a.zip")), raw).failed
    assert message in failure.reason
    assert names(raw) == set()


def test_a_size_that_differs_is_an_error(server, tmp_path, monkeypatch):
    """As with versions of requests that accept a short response."""
    server.files = {"/a.zip": packed()}
    monkeypatch.setattr(module, "_stated_size", lambda headers: 7)
    (failure,) = fetch(write_snapshot(tmp_path, server.row("AA-Aaa", "a.zip")), tmp_path / "raw").failed
    assert f"{len(packed())} bytes instead of the 7 bytes" in failure.reason


def test_one_missing_file_does_not_stop_the_others(server, tmp_path, capsys):
    server.files = {"/b.zip": packed()}
    rows = [
        server.row("AA-Aaa", "a.zip"),
        server.row("BB-Bbb", "b.zip"),
        "ICOS,CC-Ccc,,,,ftp://127.0.0.1/c.zip,c.zip,\n",
        "ICOS,DD-Ddd,,,,,d.zip,\n",
        "ICOS,EE-Eee,,,,file:///etc/e.zip,e.zip,\n",
    ]
    raw = tmp_path / "raw"
    assert main(["fetch", str(write_snapshot(tmp_path, *rows)), str(raw), "--quiet"]) == 1
    said = capsys.readouterr().out
    assert "downloaded: 1, complete before: 0, failed: 4" in said
    assert "AA-Aaa: the server answered 404 Not Found; the file may have been moved" in said
    assert said.count("no http or https link") == 3
    assert names(raw) == {"b.zip", "CITATIONS.csv"}


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def test_without_a_connection_one_message_says_what_to_do(tmp_path, capsys):
    host = f"127.0.0.1:{closed_port()}"
    rows = [f"ICOS,AA-Aa{number},,,,http://{host}/{number}.zip,{number}.zip,\n" for number in range(6)]
    snapshot, raw = write_snapshot(tmp_path, *rows), tmp_path / "raw"
    with pytest.raises(DownloadError, match=r"no connection to 127.*6 files.*HTTPS_PROXY"):
        fetch(snapshot, raw)
    assert main(["fetch", str(snapshot), str(raw), "--quiet"]) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "run the same command again" in said.err
    assert names(raw) == set()


def test_one_server_without_a_connection_does_not_stop_the_others(server, tmp_path):
    server.files = {"/b.zip": packed()}
    row = f"ICOS,AA-Aaa,,,,http://127.0.0.1:{closed_port()}/a.zip,a.zip,\n"
    report = fetch(write_snapshot(tmp_path, row, server.row("BB-Bbb", "b.zip")), tmp_path / "raw")
    assert [failure.site for failure in report.failed] == ["AA-Aaa"]
    assert "no connection to 127.0.0.1" in report.failed[0].reason
    assert len(report.fetched) == 1


def test_sites_are_selected(server, tmp_path, capsys):
    server.files = {f"/{name}.zip": packed() for name in "abc"}
    rows = [server.row(f"{name.upper() * 2}-Abc", f"{name}.zip") for name in "abc"]
    snapshot, raw = write_snapshot(tmp_path, *rows), tmp_path / "raw"
    sites = ["--sites", "CC-Abc, AA-Abc"]
    assert main(["fetch", str(snapshot), str(raw), *sites, "--jobs", "1", "--quiet"]) == 0
    assert "downloaded: 2" in capsys.readouterr().out
    assert names(raw) == {"a.zip", "c.zip", "CITATIONS.csv"}
    with pytest.raises(
        OptionError, match=r"does not list XX-Abc, aa-abc; it lists 3 sites: AA-Abc, BB-Abc, CC"
    ):
        fetch(snapshot, raw, ["XX-Abc", "aa-abc", "BB-Abc"])
    assert server.requests["/b.zip"] == 0
    assert fetch(snapshot, raw, "BB-Abc").fetched == (raw / "b.zip",)
    assert len(citations(raw)) == 3


def test_hashes_of_the_snapshot_are_checked(server, tmp_path):
    server.files = {"/a.zip": packed(), "/b.zip": packed(), "/c.zip": packed()}
    good = hashlib.sha256(packed()).hexdigest()
    rows = [
        f"{name.upper() * 2}-Abc,{server.url}/{name}.zip,{value}\n"
        for name, value in zip("abc", [good.upper(), "0" * 64, "etag-1"], strict=True)
    ]
    snapshot, raw = write_snapshot(tmp_path, *rows, header="site_id,download_link,SHA256\n"), tmp_path / "raw"
    report = fetch(snapshot, raw)
    assert report.fetched == (raw / "a.zip",)
    assert [failure.site for failure in report.failed] == ["BB-Abc", "CC-Abc"]
    assert f"sha256 hash {good} instead of 0000" in report.failed[0].reason
    assert "not MD5" in report.failed[1].reason
    (raw / "a.zip").write_bytes(packed("other"))
    assert fetch(snapshot, raw, ["AA-Abc"]).fetched == (raw / "a.zip",)
    assert fetch(snapshot, raw, ["AA-Abc"]).kept == (raw / "a.zip",)


def test_links_without_a_file_name_are_followed(server, tmp_path):
    """As at the ICOS Carbon Portal, whose links lead to the file through the page of the licence."""
    server.files = {"/objects/xyz": packed()}
    server.redirects = {"/licence_accept": f"{server.url}/objects/xyz"}
    link = f"{server.url}/licence_accept?ids=%5B%22xyz%22%5D"
    header = "Network,Site ID,First Year,Last Year,Download Link\n"
    raw = tmp_path / "raw"
    report = fetch(write_snapshot(tmp_path, f"ICOS,DE-Tha,1996,2020,{link}\n", header=header), raw)
    assert report.fetched == (raw / "DE-Tha.zip",)
    assert citations(raw)[0]["data_hub"] == "ICOS"


def test_file_names_stay_in_the_folder(server, tmp_path):
    server.files = {"/a.zip": packed()}
    rows = [
        server.row("AA-Aaa", "a.zip", product="../../evil.zip"),
        server.row("BB-Bbb", "a.zip", product=r"C:\x\b.zip"),
    ]
    raw = tmp_path / "raw"
    report = fetch(write_snapshot(tmp_path, *rows), raw)
    assert report.fetched == (raw / "evil.zip", raw / "b.zip")


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (
            "tower,link\n",
            "AA-Aaa,http://a/b.zip\n",
            r"no column of sites: expected site_id .*found tower, link",
        ),
        ("site_id,page\n", "AA-Aaa,http://a/b.zip\n", r"no column of download links.*found site_id, page"),
        ("", "", "found no columns"),
        ("site_id,download_link\n", "", "lists no site"),
        ("site_id,link\n", "AA-Aaa,http://a/x/b.zip\nBB-Bbb,http://a/y/b.zip\n", r"lists b.zip more than"),
    ],
)
def test_snapshots_that_cannot_be_used(tmp_path, header, rows, message):
    with pytest.raises(FileFormatError, match=message):
        fetch(write_snapshot(tmp_path, rows, header=header), tmp_path / "raw")


def test_wrong_arguments(tmp_path):
    snapshot = write_snapshot(tmp_path, "ICOS,AA-Aaa,,,,http://127.0.0.1/a.zip,a.zip,\n")
    with pytest.raises(FileNotFoundError, match=r"no snapshot nowhere\.csv"):
        fetch("nowhere.csv", tmp_path)
    with pytest.raises(OptionError, match="jobs=0"):
        fetch(snapshot, tmp_path / "raw", jobs=0)
    with pytest.raises(OptionError, match="is a file"):
        fetch(snapshot, snapshot)


def test_the_extra_is_named_without_pooch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(XCarbonError, match=r"pip install 'xcarbon\[fetch\]'"):
        fetch("snapshot.csv", tmp_path)


def test_ctrl_c_stops_running_downloads_and_keeps_complete_files(server, tmp_path, monkeypatch):
    server.files = {"/a.zip": packed(), "/b.zip": packed()}
    rows = [server.row("AA-Aaa", "a.zip"), server.row("BB-Bbb", "b.zip")]
    raw = tmp_path / "raw"

    def interrupted(futures):
        next(completed := original(futures)).result()
        yield from ()
        del completed
        raise KeyboardInterrupt

    original = module.as_completed
    monkeypatch.setattr(module, "as_completed", interrupted)
    with pytest.raises(KeyboardInterrupt, match="interrupted while downloading; run the same command again"):
        fetch(write_snapshot(tmp_path, *rows), raw, jobs=1)
    monkeypatch.undo()
    assert "a.zip" in names(raw) <= {"a.zip", "b.zip"}  # none under a temporary name
    report = fetch(write_snapshot(tmp_path, *rows), raw)
    assert report.failed == ()
    assert len(citations(raw)) == 2


def test_progress_is_shown_unless_it_is_switched_off(server, tmp_path, capsys):
    server.files = {"/a.zip": packed(), "/b.zip": packed()}
    fetch(write_snapshot(tmp_path, server.row("AA-Aaa", "a.zip")), tmp_path / "raw")
    assert capsys.readouterr().err == ""
    with xcarbon.set_options(progress=True):
        fetch(write_snapshot(tmp_path, server.row("BB-Bbb", "b.zip")), tmp_path / "raw")
    assert "file 1 of 1: 100%" in capsys.readouterr().err


BIF = """SITE_ID,GROUP_ID,VARIABLE_GROUP,VARIABLE,DATAVALUE
SY-001,1,GRP_LOCATION,LOCATION_LAT,50.0
SY-001,1,GRP_LOCATION,LOCATION_LONG,10.0
SY-001,2,GRP_IGBP,IGBP,ENF
SY-001,3,GRP_UTC_OFFSET,UTC_OFFSET,1
"""


def test_downloads_are_read_by_open_fluxnet_and_by_the_build(server, tmp_path):
    towers = synthetic_towers(1, variables=["TA", "NEE"], patches=False, seed=3).load()
    table = write_release(towers, "SY-001", tmp_path, "FLUXNET")
    with zipfile.ZipFile(tmp_path / "tower.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(table, table.name)
        archive.writestr("AMF_SY-001_FLUXNET_BIF_2010-2010_v1.3_r1.csv", BIF)
    name = "AMF_SY-001_FLUXNET_2010-2010_v1.3_r1.zip"
    server.files = {f"/{name}": (tmp_path / "tower.zip").read_bytes()}
    raw = tmp_path / "raw"
    raw.mkdir()
    fetch(write_snapshot(raw, server.row("SY-001", name)), raw)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(CITATIONS|snapshot)")
        ds = xcarbon.open_fluxnet(raw)
    assert ds["site"].values.tolist() == ["SY-001"]
    assert ds["TA"].notnull().sum() == towers["TA"].notnull().sum()
    assert (raw / name).read_bytes() == server.files[f"/{name}"]
    found = find(raw)
    assert [release.site for release in found.releases] == ["SY-001"]
    assert found.problems == []
    assert {skip.reason for skip in found.skipped} == {"table of downloads"}
    assert citations(raw)[0]["licence"] == "CC-BY-4.0"
