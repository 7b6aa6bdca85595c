"""Handle Ctrl-C between two steps of a long computation instead of within one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether Ctrl-C was pressed; a second Ctrl-C interrupts immediately."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # Python handles signals in the main thread only
        return
    previous = signal.getsignal(signal.SIGINT)
    seen = threading.Event()

    def handler(_signal: int, _frame: FrameType | None) -> None:
        seen.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, handler)
    try:
        yield seen.is_set
    finally:
        signal.signal(signal.SIGINT, previous)
