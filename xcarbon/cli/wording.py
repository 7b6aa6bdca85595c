"""Error messages in the words of the command line instead of those of Python."""

from __future__ import annotations

import re

#: Advice of the package and its form on the command line.
_ADVICE = (
    (r"pass overwrite=True to replace it", "use --overwrite to replace it"),
    (r"pass metadata with lat=, lon= and igbp=, or a table with", "use --metadata with a table of"),
    (r"or pass metadata=dict\(site=\.\.\., \.\.\.\)", "for example with the site as in DE-Tha"),
    (r"ds\.carbon\.gapfill\(\) fills gaps", "`xcarbon gapfill` fills gaps"),
    (r"train one with ds\.carbon\.fit\(target='?(\w+)'?\)", r"`xcarbon train --target \1` trains one"),
    (r"resume=True continues (the run in )?\S+", "the same command continues"),
    (r"continue it with resume=True, or choose another run_dir", "choose another folder, or use --overwrite"),
    (r"predict with spread=True", "predict with --spread"),
    (r"\bmax_steps\b(=\S+)?", "--steps"),
    (r"\bby must be None or a coordinate on site", "--by must be a coordinate of the towers"),
    (r"\bby must be", "--by must be"),
    (r"\brun_dir\b", "the folder of the run"),
)
#: Python: a call, an argument with its value, a name of the package, or the Dataset.
PYTHON = re.compile(r"[\w\]]\.\w+\(|\b\w+\((?=\)|\w+=)|(?<![\w/-])[a-z_]+=\S|\bxcarbon\.[a-z]|\bds\b")
_CLAUSES = re.compile(r"(; |: |\. (?=[A-Z])|, (?=or |and )|\n)")


def in_words(message: str) -> str:
    """Return a message with advice for the command line; other advice that consists of Python is left out.

    Examples
    --------
    >>> in_words("nee.nc exists: choose another path, or pass overwrite=True to replace it")
    'nee.nc exists: choose another path, or use --overwrite to replace it'
    >>> in_words("a.nc: the axis must be hourly; ds.resample(time='1h').asfreq() fills gaps")
    'a.nc: the axis must be hourly'
    """
    for python, words in _ADVICE:
        message = re.sub(python, words, message)
    first, *others = _CLAUSES.split(message)
    pairs = zip(others[::2], others[1::2], strict=True)
    return first + "".join(mark + clause for mark, clause in pairs if not PYTHON.search(clause))
