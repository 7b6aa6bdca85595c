"""Partitioning of NEE into gross primary production and ecosystem respiration."""

from xcarbon.budget.partitioning.partition import partition

__all__ = ["partition"]
