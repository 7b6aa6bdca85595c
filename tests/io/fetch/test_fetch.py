"""Files are downloaded once with their citations, and the report names those that failed."""

from __future__ import annotations

import sys
import warnings
import zipfile

import pytest

import xcarbon
from tests.io.fetch.samples import citations, names, packed, write_snapshot
from xcarbon.cli import main
from xcarbon.core.errors import OptionError, XCarbonError
from xcarbon.io.fetch import fetch
from xcarbon.pipeline.survey import find
from xcarbon.testing import synthetic_towers, write_release


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
