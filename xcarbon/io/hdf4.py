"""Opening of HDF4 files, the format of the MODIS products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xcarbon.core.errors import FileFormatError
from xcarbon.core.extras import require


@contextmanager
def open_hdf4(path: str) -> Iterator[Any]:
    """Open an HDF4 file with pyhdf; its errors become an OSError."""
    require(f"{path}: HDF4 files", "modis", "pyhdf.SD", error=FileFormatError)
    from pyhdf.error import HDF4Error
    from pyhdf.SD import SD

    try:
        file = SD(path)
        try:
            yield file
        finally:
            file.end()
    except HDF4Error as error:
        raise OSError(str(error)) from error
