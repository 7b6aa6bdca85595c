"""Synthetic towers and grids with the structure of real ones, and helpers for tests and examples.

This folder may import ``io`` and the folders below it.
"""

from xcarbon.testing.grids import synthetic_grid
from xcarbon.testing.towers import raise_on_compute, synthetic_towers, write_fluxnet_csv, write_release

__all__ = ["raise_on_compute", "synthetic_grid", "synthetic_towers", "write_fluxnet_csv", "write_release"]
