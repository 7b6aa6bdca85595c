"""Missing values in the cells and columns of a tower file."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xcarbon.io.columns import MISSING_CELLS
from xcarbon.prep.limits import CODES, is_repeated_code

#: Number that marks a missing value.
MISSING = -9999


def is_missing_cell(cell: str) -> bool:
    """Check whether a cell stands for a missing value."""
    try:
        return cell.strip() in MISSING_CELLS or float(cell.replace(",", ".")) in CODES
    except ValueError:
        return False


def without_missing(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """Replace missing values by NaN: -9999 in spellings that :data:`MISSING_CELLS` lacks, and -99."""
    values = column.to_numpy()
    missing = (values == MISSING) | is_repeated_code(values)
    return np.where(missing, np.float32(np.nan), values) if missing.any() else values
