"""Tower files on disk, and their values."""

from __future__ import annotations

import gzip
import zipfile

import pytest

from tests.io.records.samples import NAME, table
from xcarbon.io.columns import Source
from xcarbon.io.networks import recognise
from xcarbon.io.records import read_hours, survey


@pytest.fixture
def write(tmp_path):
    """Write text as a release, plain or compressed by the extension of its name."""

    def _write(text, name=NAME):
        path = tmp_path / name
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(NAME, text)
            return recognise(Source(str(path), NAME))
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
        return recognise(Source(str(path)))

    return _write


@pytest.fixture
def read(write):
    """Write columns as an hourly file, and read the values and quality flags of one variable."""

    def _read(code, **columns):
        columns = {"PPFD_OUT": [1] * len(next(iter(columns.values())))} | columns
        hours = read_hours(survey(write(table(columns)), uncertainty=True))
        return hours.options[code]

    return _read
