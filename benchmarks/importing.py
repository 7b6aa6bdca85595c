"""How long the package takes to import, compared with the libraries that it is built on."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.common import fastest, report


def run_python(code: str) -> None:
    """Run code in a fresh interpreter."""
    subprocess.run([sys.executable, "-c", code], check=True)


def track_import_beside_xarray_and_dask() -> float:
    """Time ``import xarray, dask.array``, which users need anyway, against ``import xcarbon``.

    The ratio should be at least 1 / 1.5.
    """
    run_python("import xcarbon")  # fills the file cache of the system
    ways = ("import xarray, dask.array", "import xcarbon")
    libraries, ours = fastest({code: lambda code=code: run_python(code) for code in ways}, 5).values()  # type: ignore[misc]
    return libraries / ours


track_import_beside_xarray_and_dask.unit = "x faster than importing xarray and dask.array"  # type: ignore[attr-defined]


if __name__ == "__main__":
    report(globals())
