"""Replace files and folders so that a crash leaves either the old one or the new one, both complete."""

from __future__ import annotations

import errno
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xcarbon.core.errors import StoreError, XCarbonError

#: Bytes that must be free in a folder; otherwise errors of writing there are due to a full disk.
_SPARE = 2**20


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise StoreError if ``path`` exists and may not be replaced."""
    if path.exists() and not overwrite:
        raise occupied(str(path))


def occupied(path: str) -> StoreError:
    """Return the error of a path or URL that exists and may not be replaced."""
    return StoreError(f"{path} exists: choose another path, or pass overwrite=True to replace it")


@contextmanager
def replacing(path: Path, size: int | None = None, named: Path | None = None) -> Iterator[Path]:
    """Yield an unused path beside ``path``, and move the file or folder there to ``path`` after the block.

    The error of a full disk names ``named`` (by default ``path``) and the ``size`` in bytes, before
    compression.
    """
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        with naming_full_disk(named or path, size):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            move_into_place(temporary, path)
    finally:
        _remove(temporary)


@contextmanager
def naming_full_disk(path: Path, size: int | None = None, kept: Path | None = None) -> Iterator[None]:
    """Raise a StoreError that names ``path`` if the block fails because the disk is full.

    ``kept`` is a folder from which the same call continues, if it exists.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, XCarbonError) or not is_full(error, path.parent):
            raise
        needed = "" if size is None else f"; it needs up to {size / 1e6:.1f} MB before compression"
        advice = "free some space, or write to another disk"
        if kept is not None and kept.exists():
            advice = f"free some space and run the same command again, which continues from {kept}"
        raise StoreError(f"{path} cannot be written because the disk is full{needed}: {advice}") from error


def is_full(error: BaseException | None, folder: Path) -> bool:
    """Return whether an error of writing is due to a full disk or quota."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    # NetCDF and torch do not report the cause, so this function tries to write there.
    probe = folder / f".{secrets.token_hex(4)}-probe"
    try:
        probe.write_bytes(bytes(_SPARE))
    except OSError as failed:
        return failed.errno in (errno.ENOSPC, errno.EDQUOT)
    finally:
        probe.unlink(missing_ok=True)
    return False


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
