"""Suggestions for names that are almost right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return the known names that are most like a name, whatever their letter case.

    Examples
    --------
    >>> near("tair", ["TA", "RH", "NEE"]), near("nee_f", ["TA", "RH", "NEE"])
    (['TA'], ['NEE'])
    """
    by_capitals = {each.upper(): each for each in known}
    return [by_capitals[found] for found in difflib.get_close_matches(name.upper(), by_capitals, n=count)]


def did_you_mean(names: str | Iterable[str], known: Iterable[str]) -> str:
    """Return the end of an error message with the known name most like each name; empty if there is none.

    Examples
    --------
    >>> did_you_mean(["nee", "xyz"], ["NEE", "TA"])
    "; did you mean 'NEE' instead of 'nee'?"
    """
    known = list(known)
    names = [names] if isinstance(names, str) else names
    pairs = [(name, found[0]) for name in names if (found := near(name, known, 1))]
    meant = " and ".join(f"{found!r} instead of {name!r}" for name, found in pairs)
    return f"; did you mean {meant}?" if meant else ""
