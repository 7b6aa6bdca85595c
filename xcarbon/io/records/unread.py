"""Warnings of columns of a tower file that are not read, and that may contain a variable."""

from __future__ import annotations

import re

from xcarbon.core.notices import warn
from xcarbon.io.columns import PLUS
from xcarbon.io.networks import UNNAMED, Release
from xcarbon.io.records.column_choice import choose_columns

#: Variables without which towers are of little use.
_MAIN = ("TA", "SW_IN", "VPD", "NEE")


def warn_of_unread(release: Release, header: list[str], columns: dict[str, tuple[str, ...]]) -> None:
    """Warn of columns that are not read although their names are nearly those of the networks.

    In files of others, all columns that are not read are named if one of the main variables is absent.
    """
    read = {part for names in columns.values() for name in names for part in name.split(PLUS)}
    unread = [name for name in header if name not in read and not re.match("TIMESTAMP|SC|.*_QC", name)]
    spelled = {name: re.sub(r"\W+", "_", re.sub(r"[\[(].*", "", name).strip()).upper() for name in unread}
    nearly = {
        name: known
        for name, known in spelled.items()
        if known not in (name, *header) and choose_columns([known])
    }
    absent = [code for code in _MAIN if code not in columns]
    if nearly:
        new = ", ".join(f"{name!r} to {known}" for name, known in nearly.items())
        warn(f"{release.source}: some columns are not read; rename {new} to read them")
    elif release.product is UNNAMED and absent and (others := [n for n in unread if not choose_columns([n])]):
        warn(
            f"{release.source}: there is no column of {', '.join(absent)}, and the columns {others[:8]} are "
            f"not read; if they contain these variables, rename them as the networks do, for example to "
            f"{absent[0]}"
        )
