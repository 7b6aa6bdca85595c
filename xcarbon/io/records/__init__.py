"""Reader for one half-hourly or hourly tower file of a flux network.

A file is read in two steps. First :func:`survey` reads the header and the time stamps, and describes the
file as a :class:`Record`. Then :func:`read_hours` reads the values and quality flags as clock hours. The
modules are ``record`` and ``values`` with these two functions, and ``header``, ``column_choice``,
``unread``, ``units``, ``timestamps`` and ``missing`` that they use. :mod:`xcarbon.io.towers` joins the
records of a tower.
"""

from xcarbon.io.records.column_choice import choose_columns
from xcarbon.io.records.record import Record, survey
from xcarbon.io.records.values import Hours, read_hours

__all__ = ["Hours", "Record", "choose_columns", "read_hours", "survey"]
