"""Gap filling, partitioning, and carbon sums of towers and regions with their uncertainty.

``fill`` fills gaps by a model that ``adapt`` adapts to the tower, or by ``mds``; ``gaps`` hides measured
hours to test this. ``sums`` sums one flux, and ``balance`` all fluxes of a budget. This folder may import
``prediction`` and the folders below it.
"""

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
