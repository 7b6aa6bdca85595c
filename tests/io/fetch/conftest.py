"""Fixtures of the tests of downloads."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.io.fetch.samples import Server


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """Reach the loopback address directly also where a proxy is configured."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()
    thread = threading.Thread(target=served.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.http.shutdown()
    served.http.server_close()
    thread.join()
