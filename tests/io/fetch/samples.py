"""A server of files on this machine, and snapshots that list them."""

from __future__ import annotations

import csv
import http.server
import io
import zipfile
from collections import Counter
from pathlib import Path

HEADER = (
    "data_hub,site_id,site_name,first_year,last_year,download_link,fluxnet_product_name,product_citation\n"
)


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
