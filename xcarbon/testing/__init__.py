"""Simulate towers and grids with the structure of real ones, and provide helpers for tests and examples."""

from xcarbon.testing.grids import synthetic_grid
from xcarbon.testing.towers import raise_on_compute, synthetic_towers, write_fluxnet_csv, write_release

__all__ = ["raise_on_compute", "synthetic_grid", "synthetic_towers", "write_fluxnet_csv", "write_release"]
