"""A tower of CarbonSense: what both versions state before values are read, and how they are read.

Both versions yield records and patches, together with their place in the files for error messages.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xcarbon.core.variables import VARIABLES, Bounds

Array = NDArray[Any]
#: Name of the file of v2.
DATABASE = "carbonsense_v2.sql"
#: Variables that the files may contain; day of year and time of day are computed from the time stamp.
PREDICTORS = [code for code, of in VARIABLES.items() if of.bounds and not of.is_time_feature]
TARGETS = [code for code, of in VARIABLES.items() if of.is_target]
#: Place, time stamps ``(rows,)`` and scaled values ``(columns, rows)``.
Record = tuple[str, Array, Array]
#: Place, day and bands ``(band, y, x)``.
Patch = tuple[str, np.datetime64, Array]


@dataclass(frozen=True, slots=True)
class Site(ABC):
    """A tower of CarbonSense, described before its values are read.

    Attributes
    ----------
    columns : dict
        Column of each variable.
    fields : dict
        Metadata by the field names of :class:`xcarbon.io.badm.SiteMetadata`.
    first, last : numpy.datetime64
        First and last hour.
    bounds : dict
        Scaling bounds that differ from those of the vocabulary.
    """

    site: str
    columns: dict[str, str]
    fields: dict[str, Any]
    first: np.datetime64
    last: np.datetime64
    bounds: ClassVar[dict[str, Bounds]] = {}

    @abstractmethod
    def records(self) -> Iterator[Record]:
        """Read the values in batches of rows."""

    @abstractmethod
    def patches(self) -> Iterator[Patch]:
        """Read the patches."""
