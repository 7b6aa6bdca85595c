"""Gap filling and partitioning, carbon sums of towers and regions, and artificial gaps to test filling."""

from xcarbon.budget.balance import budget, fill_and_partition
from xcarbon.budget.fill import gapfill
from xcarbon.budget.gaps import artificial_gaps
from xcarbon.budget.partitioning import partition
from xcarbon.budget.regions import regional_sums
from xcarbon.budget.sums import carbon_sums

__all__ = [
    "artificial_gaps",
    "budget",
    "carbon_sums",
    "fill_and_partition",
    "gapfill",
    "partition",
    "regional_sums",
]
