"""Gaps of a tower's flux: fill them, sum the years up with their uncertainty, and test how well it works."""

from xcarbon.gapfilling.fill import gapfill
from xcarbon.gapfilling.gaps import artificial_gaps
from xcarbon.gapfilling.sums import annual_sums

__all__ = ["annual_sums", "artificial_gaps", "gapfill"]
