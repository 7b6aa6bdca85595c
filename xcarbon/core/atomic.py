"""Write files and folders so that a crash leaves the old one or the new one, never half of one."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xcarbon.core.errors import StoreError


def check_free(path: Path, *, overwrite: bool) -> None:
    """Refuse to write over what is there, before anything is computed.

    Parameters
    ----------
    path : pathlib.Path
        File or folder to write.
    overwrite : bool
        Whether it may be replaced.

    Raises
    ------
    StoreError
        If ``path`` exists and may not be.
    """
    if path.exists() and not overwrite:
        raise StoreError(f"{path} exists: choose another path, or pass overwrite=True to replace it")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a ``with`` block another name to write to, and move the result into place after it.

    Parameters
    ----------
    path : pathlib.Path
        File or folder to write or to replace; the folders above it are made.

    Yields
    ------
    pathlib.Path
        A name beside ``path`` where nothing is yet; the block writes a file or makes a folder there. If
        the block fails it is removed, and ``path`` stays as it was.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "table.csv"
    ...     with replacing(path) as temporary:
    ...         _ = temporary.write_text("n")
    ...     path.read_text()
    'n'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        yield temporary
        move_into_place(temporary, path)
    finally:
        _remove(temporary)


def move_into_place(temporary: Path, path: Path) -> None:
    """Give a complete file or folder its name, in the place of what bears it.

    Parameters
    ----------
    temporary : pathlib.Path
        What was written, beside ``path``.
    path : pathlib.Path
        Its name; if the step fails, what was there stays.
    """
    old = path.with_name(f".{path.name}-{secrets.token_hex(4)}-old")
    if path.is_dir():
        # A folder cannot replace a full one in a single step: the old one steps aside first.
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
