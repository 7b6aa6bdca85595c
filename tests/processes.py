"""Processes of their own for tests, which start within milliseconds."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

#: Processes are copies of one that has imported everything, see ``quick_workers`` in ``conftest.py``.
COPIES = multiprocessing.get_context("forkserver")


def exit_code(function: Callable[..., None], *arguments: object) -> int | None:
    """Run a function in another process; the code is 0 unless it is killed or raises an error."""
    process = COPIES.Process(target=function, args=arguments)
    process.start()
    process.join(timeout=300)
    return process.exitcode
