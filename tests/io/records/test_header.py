"""Files whose header is not that of a tower file."""

from __future__ import annotations

import pytest

from tests.io.records.samples import NAME
from xcarbon.core.errors import FileFormatError
from xcarbon.io.columns import Source
from xcarbon.io.networks import recognise
from xcarbon.io.records import survey


def test_text_in_utf_16_is_named(tmp_path):
    path = tmp_path / NAME
    path.write_bytes("TIMESTAMP_START,TA\n199603310030,1\n".encode("utf-16"))
    with pytest.raises(FileFormatError, match="not UTF-8 text; save it as CSV in UTF-8"):
        survey(recognise(Source(str(path))))
