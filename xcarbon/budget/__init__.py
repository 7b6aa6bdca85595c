"""Gap filling and partitioning, annual sums with their uncertainty, and artificial gaps to test filling."""

from xcarbon.budget.fill import gapfill
from xcarbon.budget.gaps import artificial_gaps
from xcarbon.budget.partitioning import partition
from xcarbon.budget.sums import annual_sums

__all__ = ["annual_sums", "artificial_gaps", "gapfill", "partition"]
