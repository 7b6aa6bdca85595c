"""Gaps of a tower's flux: fill them, sum the years up with their uncertainty, and test how well it works."""

from xcarbon.budget.fill import gapfill
from xcarbon.budget.gaps import artificial_gaps
from xcarbon.budget.sums import annual_sums

__all__ = ["annual_sums", "artificial_gaps", "gapfill"]
