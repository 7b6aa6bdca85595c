"""Which columns of a tower file are read for each variable, and in which order."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pyarrow as pa

from xcarbon.core.variables import VARIABLES, Variable
from xcarbon.io.columns import MISSING_CELLS, PLUS, Source, read_columns
from xcarbon.io.records.missing import is_missing_cell, without_missing
from xcarbon.prep.limits import is_code

#: Parts of the names of columns: fluxes filtered with a threshold of friction velocity that varies from year
#: to year, and with a constant one.
_VUT, _CUT = "_VUT_", "_CUT_"
#: Position that AmeriFlux BASE appends to a code: horizontal, vertical and replicate, or the layer.
_POSITION = r"_(?P<horizontal>\d+)_(?P<vertical>\d+)_(?P<replicate>\d+|A)|_(?P<layer>\d+)"


def choose_columns(header: list[str], *, uncertainty: bool = False) -> dict[str, tuple[str, ...]]:
    """Find the columns of each variable, best first; ``uncertainty`` includes the uncertainties of fluxes.

    The order is: columns listed in the vocabulary, the column submitted by the site team (``_PI``), and
    sensors by their position, the highest (in the soil: the shallowest) first. In the soil the vertical
    position is the depth. Means over a layer (``_1``) follow the sensors.

    Some columns replace others that a file lacks, or that are empty (see :func:`without_empty`):

    - Fluxes filtered with a constant threshold of friction velocity (``_CUT_REF``), and their percentiles,
      replace those with a threshold that varies from year to year (``_VUT_REF``).
    - The flux at the sensor plus the storage below it (``FC + SC``) replaces the NEE of the site team. Where
      storage is missing, ``FC`` alone is used.
    - NEE that the site team has filled (``NEE_PI_F``) is the last choice.

    Examples
    --------
    >>> choose_columns(["TA_F", "TA", "NEE_PI", "TS_1_1_1", "TS_2_1_1", "TS_1_2_1"])
    {'TA': ('TA_F', 'TA'), 'TS_1': ('TS_1_1_1', 'TS_2_1_1'), 'TS_2': ('TS_1_2_1',), 'NEE': ('NEE_PI',)}
    >>> choose_columns(["FC", "SC"]), choose_columns(["NEE_CUT_REF", "FC"])
    ({'NEE': ('FC + SC', 'FC')}, {'NEE': ('NEE_CUT_REF',)})
    """
    found = {
        code: tuple(dict.fromkeys(_columns_of(variable, header)))
        for code, variable in VARIABLES.items()
        if uncertainty or not variable.is_uncertainty
    }
    return {code: columns for code, columns in found.items() if columns}


def without_empty(header: list[str], source: Source) -> list[str]:
    """Leave out columns with a variable threshold (``_VUT_``) that are empty and can be replaced.

    A file can have these columns without a value where only a constant threshold (``_CUT_``) was found.
    """
    known = {column for variable in VARIABLES.values() for column in variable.columns if _VUT in column}
    places = {
        column: place
        for place, column in enumerate(header)
        if column in known and column.replace(_VUT, _CUT) in header
    }
    with source.lines() as lines:  # few files are read to the end, because most have values from the start
        rows = [cells for _, cells in itertools.islice(lines, 1, 49) if len(cells) == len(header)]
    doubtful = [
        column for column, place in places.items() if all(is_missing_cell(row[place]) for row in rows)
    ]
    empty = _empty(doubtful, source)
    also_empty = _empty([column.replace(_VUT, _CUT) for column in empty], source)
    replaced = {column for column in empty if column.replace(_VUT, _CUT) not in also_empty}
    return [column for column in header if column not in replaced]


def _empty(columns: list[str], source: Source) -> list[str]:
    """Select the columns in which every value is missing."""
    if not columns:
        return []
    table = read_columns(source, dict.fromkeys(columns, pa.float32()), MISSING_CELLS)
    values = {column: without_missing(table[column]) for column in columns}
    return [column for column in columns if np.all(np.isnan(values[column]) | is_code(values[column]))]


def _columns_of(variable: Variable, header: list[str]) -> list[str]:
    """Columns of a variable in a header, best first; see :func:`choose_columns`."""
    code, depth = _split_depth(variable.code)
    own = [*variable.columns, f"{variable.code}_PI", *([code] if depth == 1 else [])]
    columns = [column for column in own if column in header]
    columns += _positioned(f"{code}(_PI)?", depth, header)
    if not columns:
        constant = [column.replace(_VUT, _CUT) for column in variable.columns if _VUT in column]
        columns = [column for column in constant if column in header]
    if variable.code == "NEE" and not columns:
        columns = _fluxes_at_sensor(header)
    if variable.is_target:
        filled = f"{code}_PI_F"
        columns += [*([filled] if filled in header else []), *_positioned(filled, depth, header)]
    return columns


def _positioned(code: str, depth: int, header: list[str]) -> list[str]:
    """Columns whose names are ``code``, a pattern, and a position; in the soil those at one depth."""
    sensors = []
    for match in filter(None, (re.fullmatch(f"{code}(?:{_POSITION})", column) for column in header)):
        if match["layer"]:
            key = (True, int(match["layer"]), 0, "")
        else:
            key = (False, int(match["vertical"]), int(match["horizontal"]), match["replicate"])
        if depth in (0, key[1]):
            sensors.append((key, match.string))
    return [column for _, column in sorted(sensors)]


def _fluxes_at_sensor(header: list[str]) -> list[str]:
    """Columns FC, each preceded by its sum with the storage SC at the same position or without one."""
    columns = []
    storages = [column for column in ("SC", *_positioned("SC", 0, header)) if column in header]
    for flux in [column for column in ("FC", *_positioned("FC", 0, header)) if column in header]:
        same = [storage for storage in storages if storage[2:] == flux[2:]]
        near = same or [storage for storage in storages if storage == "SC" or flux == "FC"]
        columns += [f"{flux}{PLUS}{storage}" for storage in near[:1]]
        columns.append(flux)
    return columns


def _split_depth(code: str) -> tuple[str, int]:
    """Split the code of a soil variable such as TS_1 into base and depth; other codes have depth 0."""
    match = re.fullmatch(r"(SWC|TS)_(\d)", code)
    return (match[1], int(match[2])) if match else (code, 0)
