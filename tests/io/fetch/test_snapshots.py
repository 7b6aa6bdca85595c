"""Snapshots are read, and what is wrong in them is named."""

from __future__ import annotations

import pytest

from tests.io.fetch.samples import citations, names, packed, write_snapshot
from xcarbon.cli import main
from xcarbon.core.errors import FileFormatError, OptionError
from xcarbon.io.fetch import fetch


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
