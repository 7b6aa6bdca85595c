"""Satellite series of towers: indices of vegetation, the join with towers, and values of each hour.

A series has one value per composite. Its label on ``day`` is the day at the centre of the composite, and
the attribute ``composite_days`` is the length of the composite [days]. Where one series is made of
composites of several lengths, ``<VAR>_DAYS (site, day)`` has the length of each.
"""

from __future__ import annotations

from xcarbon.prep.satellite.hours import hourly, to_hours
from xcarbon.prep.satellite.join import join_satellite
from xcarbon.prep.satellite.vegetation import evi, indices, ndwi, nirv

__all__ = ["evi", "hourly", "indices", "join_satellite", "ndwi", "nirv", "to_hours"]
