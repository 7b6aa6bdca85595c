"""Files are complete and checked, and interruptions leave nothing incomplete."""

from __future__ import annotations

import hashlib
import re
import socket
import zipfile

import pytest

import xcarbon
from tests.io.fetch.samples import citations, names, packed, write_snapshot
from xcarbon.cli import main
from xcarbon.core.errors import DownloadError
from xcarbon.io.fetch import downloads, fetch


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
    monkeypatch.setattr(downloads, "_stated_size", lambda headers: 7)
    (failure,) = fetch(write_snapshot(tmp_path, server.row("AA-Aaa", "a.zip")), tmp_path / "raw").failed
    assert f"{len(packed())} bytes instead of the 7 bytes" in failure.reason


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


def test_ctrl_c_stops_running_downloads_and_keeps_complete_files(server, tmp_path, monkeypatch):
    server.files = {"/a.zip": packed(), "/b.zip": packed()}
    rows = [server.row("AA-Aaa", "a.zip"), server.row("BB-Bbb", "b.zip")]
    raw = tmp_path / "raw"

    def interrupted(futures):
        next(completed := original(futures)).result()
        yield from ()
        del completed
        raise KeyboardInterrupt

    original = downloads.as_completed
    monkeypatch.setattr(downloads, "as_completed", interrupted)
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
