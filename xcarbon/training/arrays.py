"""Arrays that grow tower by tower: in memory as long as they fit, on disk otherwise."""

from __future__ import annotations

import math
import mmap
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import psutil
from numpy.typing import NDArray

from xcarbon.core.atomic import naming_full_disk
from xcarbon.core.errors import StoreError
from xcarbon.core.options import OPTIONS

if TYPE_CHECKING:
    from torch import Tensor


def memory_limit() -> int:
    """Half of the memory that is available to this process, within the limit of its cgroup [bytes]."""
    from distributed.system import MEMORY_LIMIT

    used = psutil.Process().memory_info()
    own = used.rss - getattr(used, "shared", 0)
    available = min(psutil.virtual_memory().available, MEMORY_LIMIT - own)
    return max(0, available) // 2 // int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def report(content: str, size: int, folder: Path | None, limit: float) -> None:
    """Print whether data of this size [bytes] is in memory, or why it is in a folder."""
    if not OPTIONS["progress"]:
        return
    where = "is held in memory"
    if folder is not None:
        where = (
            f"is stored on disk in {folder}, because it is larger than half of the available memory "
            f"({limit / 1e9:.2f} GB)"
        )
    print(f"The {content} ({size / 1e9:.2f} GB) {where}.", file=sys.stderr)


@contextmanager
def scratch_folder(folder: Path, content: str, size: int) -> Iterator[Path | None]:
    """Yield an empty folder if data of this size [bytes] does not fit in memory, otherwise None.

    The folder is removed after the block, and before it if a killed process left it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    limit = memory_limit()
    if size <= limit:
        report(content, size, None, limit)
        yield None
        return
    folder.mkdir(parents=True)
    try:
        free = shutil.disk_usage(folder).free
        if free < size:
            raise StoreError(
                f"the {content} does not fit in memory and needs up to {size / 1e9:.2f} GB in {folder}, but "
                f"the disk has {free / 1e9:.2f} GB: free some space, or choose a run_dir on another disk"
            )
        report(content, size, folder, limit)
        yield folder
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)  # whose objects may use files in the folder
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def empty(shape: tuple[int, int], folder: Path | None) -> NDArray[np.float32]:
    """Allocate a float32 array in memory, or in a file without a name whose space on the disk is reserved."""
    if folder is None or not math.prod(shape):
        return np.empty(shape, np.float32)
    size = 4 * math.prod(shape)
    with naming_full_disk(folder, size), tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        return _mapped(file, np.dtype(np.float32)).reshape(shape)


def _mapped(file: IO[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.frombuffer(mmap.mmap(file.fileno(), 0), dtype)


class Arrays:
    """Named arrays that grow along the first axis, and move to disk when they exceed the limit of memory.

    Parameters
    ----------
    folder : pathlib.Path, optional
        Folder on the disk to use; by default, the arrays always stay in memory.
    content : str
        What the arrays contain, for the line that reports where they are.
    """

    # The files have no names (tempfile.TemporaryFile): the operating system frees their space when the arrays
    # are no longer used or the process ends, however it ends. They are mapped into memory, so that the
    # operating system keeps as much of them there as it has room for.

    def __init__(self, folder: Path | None = None, content: str = "") -> None:
        self.folder, self.content = folder, content
        self.limit = math.inf if folder is None else memory_limit()
        self.nbytes = 0
        self._parts: dict[str, _InMemory | _OnDisk] = {}

    @property
    def on_disk(self) -> bool:
        """Whether the arrays are in files."""
        return self.nbytes > self.limit

    def append(self, **arrays: np.ndarray | None) -> None:
        """Append rows to arrays, which exist from their first rows on; None is left out."""
        rows = {name: values for name, values in arrays.items() if values is not None}
        self.nbytes += sum(values.nbytes for values in rows.values())
        if self.on_disk:
            self._move()
        for name, values in rows.items():
            if name not in self._parts:
                self._parts[name] = self._new(values)
            self._parts[name].append(values)

    def _new(self, like: np.ndarray) -> _InMemory | _OnDisk:
        if self.folder is None or not self.on_disk:
            return _InMemory(like)
        self.folder.mkdir(parents=True, exist_ok=True)
        return _OnDisk(like, self.folder)

    def _move(self) -> None:
        """Move the arrays that are in memory to disk, one after the other."""
        for name, part in self._parts.items():
            if isinstance(part, _InMemory):
                self._parts[name] = self._new(part.rows)
                self._parts[name].append(part.rows[: part.count])

    def tensors(self) -> dict[str, Tensor]:
        """Return the complete arrays, and report where they are."""
        if self.folder is not None:
            report(self.content, self.nbytes, self.folder if self.on_disk else None, self.limit)
        return {name: part.tensor() for name, part in self._parts.items()}


class _InMemory:
    """An array in memory, which is enlarged in place."""

    def __init__(self, like: np.ndarray) -> None:
        self.rows, self.count = np.empty((0, *like.shape[1:]), like.dtype), 0

    def append(self, rows: np.ndarray) -> None:
        count = self.count + len(rows)
        if count > len(self.rows):
            self._resize(count + count // 8)
        self.rows[self.count : count] = rows
        self.count = count

    def _resize(self, count: int) -> None:
        # For large arrays, the operating system moves pages instead of values.
        self.rows.resize((count, *self.rows.shape[1:]), refcheck=False)

    def tensor(self) -> Tensor:
        import torch

        self._resize(self.count)
        return torch.from_numpy(self.rows)


class _OnDisk:
    """An array in a file without a name."""

    def __init__(self, like: np.ndarray, folder: Path) -> None:
        self.shape, self.dtype, self.count = like.shape[1:], like.dtype, 0
        self.folder = folder
        self.file: IO[Any] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed in tensor)

    def append(self, rows: np.ndarray) -> None:
        with naming_full_disk(self.folder):
            self.file.write(np.ascontiguousarray(rows).data)
            self.file.flush()
        self.count += len(rows)

    def tensor(self) -> Tensor:
        import torch

        if not self.count or not math.prod(self.shape):
            return torch.from_numpy(np.empty((self.count, *self.shape), self.dtype))
        with self.file:
            return torch.from_numpy(_mapped(self.file, self.dtype).reshape(-1, *self.shape))
