"""Conversion of columns to the units of xcarbon, where a row under the header states other units."""

from __future__ import annotations

from xcarbon.core.errors import FileFormatError, MetadataError
from xcarbon.core.variables import VARIABLES
from xcarbon.io.columns import MISSING_CELLS, PLUS, Source, read_layout
from xcarbon.prep.units import conversion

#: Cells of a row of units that state no units.
_NO_UNITS = ("-", *MISSING_CELLS)


def read_conversions(
    source: Source, columns: dict[str, tuple[str, ...]], step: int
) -> dict[str, tuple[float, float]]:
    """Read the row of units under the header, if there is one; see :class:`Record`."""
    layout = read_layout(source)
    if not layout.units:
        return {}
    stated = dict(zip(layout.header, layout.units, strict=True))
    found = {}
    for code, names in columns.items():
        for name in names:
            parts = {_conversion(source, part, stated[part], code, step) for part in name.split(PLUS)}
            if len(parts) > 1:
                units = " and ".join(repr(stated[part]) for part in name.split(PLUS))
                raise FileFormatError(
                    f"{source}, line {layout.line}: the units {units} of {name} differ; convert one of the "
                    "columns"
                )
            found[name] = parts.pop()
    return {name: numbers for name, numbers in found.items() if numbers != (1.0, 0.0)}


def _conversion(source: Source, column: str, units: str, code: str, step: int) -> tuple[float, float]:
    """Return the factor and the offset of a column whose units the row of units states."""
    if units.strip("[]") in _NO_UNITS or units == VARIABLES[code].units:
        return 1.0, 0.0
    try:
        return conversion(units, code, hours=step / 60)
    except MetadataError as error:
        raise FileFormatError(
            f"{source}, line {read_layout(source).line}, column {column}: {error}; correct the row of units, "
            "or leave a cell empty if the values are in the units of xcarbon"
        ) from None
