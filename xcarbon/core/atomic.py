"""Replace files and folders so that a crash leaves either the old one or the new one, both complete."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xcarbon.core.errors import StoreError


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise StoreError if ``path`` exists and may not be replaced."""
    if path.exists() and not overwrite:
        raise StoreError(f"{path} exists: choose another path, or pass overwrite=True to replace it")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield an unused path beside ``path``, and move the file or folder there to ``path`` after the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        yield temporary
        move_into_place(temporary, path)
    finally:
        _remove(temporary)


def move_into_place(temporary: Path, path: Path) -> None:
    """Rename a complete file or folder to ``path`` and remove the old one, which stays if this fails."""
    old = path.with_name(f".{path.name}-{secrets.token_hex(4)}-old")
    if path.is_dir():
        # A folder cannot replace another one in a single step, so the old one is renamed first.
        path.rename(old)
    try:
        temporary.replace(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    finally:
        _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
