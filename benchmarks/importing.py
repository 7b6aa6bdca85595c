"""How long the package takes to import, beside what it is built on."""

from __future__ import annotations

import subprocess
import sys
import time


def _seconds(code: str, repeats: int = 5) -> float:
    """Shortest time of a fresh interpreter that runs ``code``."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - start)
    return min(times)


def track_import_beside_xarray_and_dask() -> float:
    """``import xarray, dask.array``, which users have anyway, over ``import xcarbon``: at least 1 / 1.5."""
    _seconds("import xcarbon", repeats=1)  # warms the caches of both
    return _seconds("import xarray, dask.array") / _seconds("import xcarbon")


track_import_beside_xarray_and_dask.unit = "x faster than importing xarray and dask.array"  # type: ignore[attr-defined]


if __name__ == "__main__":
    print(f"import xarray, dask.array / import xcarbon: {track_import_beside_xarray_and_dask():.2f}")
