"""Stores that are being written, which readers do not see until they are complete.

In a local folder, a draft is a hidden folder beside the store, which is renamed in the end. In a repository
of Icechunk, a draft is a branch of its own, and the main branch is set to its last commit in the end, unless
another process has changed the main branch in the meantime. A draft can be continued after an interruption:
it has a key, which identifies its template, and marks of the parts that are complete.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zarr.storage import StoreLike

from xcarbon.core.atomic import move_into_place, naming_full_disk, replacing
from xcarbon.core.errors import StoreError
from xcarbon.io.location import MAIN, Location, Opened, tag

if TYPE_CHECKING:
    from icechunk import ForkSession, Repository

#: Seconds between commits to a branch; an interruption loses at most the parts of this time.
COMMIT_EVERY = 10.0

Write = Callable[[StoreLike], None]


@dataclass(frozen=True, slots=True)
class Part:
    """A part that a task has written to a fork of a session, and that is not committed."""

    mark: str
    fork: ForkSession


@dataclass(frozen=True, slots=True)
class FolderTarget:
    """Where tasks write parts of a draft in a folder."""

    store: Path
    done: Path  # has an empty file for each complete part

    def write(self, mark: str, write: Write) -> None:
        """Write a part, and mark it as complete."""
        write(self.store)
        (self.done / mark).touch()


@dataclass(frozen=True, slots=True)
class BranchTarget:
    """Where tasks write parts of a draft on a branch: each to a fork of the session, which it returns."""

    session: ForkSession

    def write(self, mark: str, write: Write) -> Part:
        """Write a part to a fork."""
        fork = self.session.fork()
        write(fork.store)
        return Part(mark, fork)


class FolderDraft:
    """A draft in a hidden folder, with a subfolder for each key: ``.<name>.<kind>/<key>/store``."""

    def __init__(self, path: Path, kind: str, key: str) -> None:
        self._path, self.work = path, path.with_name(f".{path.name}.{kind}")
        self.here = self.work / key
        self.target = FolderTarget(self.here / "store", self.here / "done")

    @property
    def opened(self) -> Opened:
        """The draft, to be read."""
        return Opened(str(self.target.store), str(self.target.store))

    @property
    def marks(self) -> set[str]:
        """Marks of the complete parts."""
        return {mark.name for mark in self.target.done.glob("*")}

    @property
    def earlier(self) -> list[Opened]:
        """Other drafts of the same store, which were interrupted."""
        others = (folder / "store" for folder in sorted(self.work.glob("*")) if folder != self.here)
        return [Opened(str(store), str(store)) for store in others if store.exists()]

    def add(self, part: Part | None) -> None:
        """Do nothing, because tasks have written the part to the folder."""

    def edit(self, write: Write) -> None:
        """Change the store from this process."""
        write(self.target.store)

    def forget_earlier(self) -> None:
        """Remove other drafts of the same store."""
        # Each key has a subfolder of its own, because tasks of a stopped call may still be writing.
        for other in self.work.glob("*"):
            if other != self.here:
                shutil.rmtree(other, ignore_errors=True)

    def publish(self) -> None:
        """Move the store into place."""
        remove_partial_files(self.target.store)
        move_into_place(self.target.store, self._path)

    def remove(self, *, others: bool = False) -> None:
        """Remove the draft, or also those with other keys."""
        shutil.rmtree(self.work if others else self.here, ignore_errors=True)
        with suppress(OSError):  # there are other drafts
            self.work.rmdir()


class BranchDraft:
    """A draft on a branch of a repository."""

    def __init__(self, location: Location, kind: str, key: str, template: Write) -> None:
        self._location, self._branch = location, kind
        repository = location.repository(create=True)
        assert repository is not None
        self._repository: Repository = repository
        self.marks: set[str] = set()
        self.earlier: list[Opened] = []
        self._pending: set[str] = set()
        self._last = time.monotonic()
        with location.naming_errors():
            self._base = repository.lookup_branch(MAIN)
            if not self._continues(key):
                self._begin(key, template)
            self._session = repository.writable_session(kind)
            self.target = BranchTarget(self._session.fork())

    def _continues(self, key: str) -> bool:
        """Read the marks of an earlier draft, if it has the same key and began from the present version."""
        if self._branch not in self._repository.list_branches():
            return False
        marks: set[str] = set()
        for info in self._repository.ancestry(branch=self._branch):
            marks.update(info.metadata.get("marks", []))
            if "key" in info.metadata:
                if info.metadata["key"] != key or info.metadata["base"] != self._base:
                    return False
                self.marks = marks
                if previous := info.metadata["previous"]:
                    self.earlier = [self._at(previous)]
                return True
        return False

    def _begin(self, key: str, template: Write) -> None:
        """Write the template to the branch, which starts from the present version."""
        previous = ""
        if self._branch in self._repository.list_branches():
            previous = self._repository.lookup_branch(self._branch)
            self.earlier = [self._at(previous)]
            self._repository.reset_branch(self._branch, self._base, from_snapshot_id=previous)
        else:
            self._repository.create_branch(self._branch, self._base)
        session = self._repository.writable_session(self._branch)
        template(session.store)
        session.commit(f"begin {self._branch}", {"key": key, "base": self._base, "previous": previous})

    def _at(self, snapshot: str) -> Opened:
        store = self._repository.readonly_session(snapshot_id=snapshot).store
        return Opened(str(self._location), store, snapshot)

    @property
    def opened(self) -> Opened:
        """The last commit of the draft, to be read."""
        return self._at(self._session.snapshot_id)

    def add(self, part: Part | None) -> None:
        """Merge what a task has written; commit if the last commit is not recent."""
        if part is None or part.mark in self.marks:
            return
        self._session.merge(part.fork)
        self.marks.add(part.mark)
        self._pending.add(part.mark)
        if time.monotonic() - self._last >= COMMIT_EVERY:
            self.save()

    def save(self) -> None:
        """Commit what was merged."""
        if not self._session.has_uncommitted_changes:
            return
        with self._location.naming_errors():
            message = f"{self._branch}: {len(self.marks)} parts are complete"
            self._session.commit(message, {"marks": sorted(self._pending)})
            self._session = self._repository.writable_session(self._branch)
        self._pending.clear()
        self._last = time.monotonic()

    def edit(self, write: Write) -> None:
        """Change the store from this process."""
        self.save()
        write(self._session.store)

    def forget_earlier(self) -> None:
        """Do nothing, because an earlier draft takes no time to keep, and is removed with the branch."""

    def publish(self) -> None:
        """Set the main branch to the draft and tag it, unless the main branch has changed."""
        self.save()
        with self._location.naming_errors():
            tip = self._session.snapshot_id
            self._repository.reset_branch(MAIN, tip, from_snapshot_id=self._base)
            tag(self._repository, tip)

    def remove(self, *, others: bool = False) -> None:
        """Remove the branch."""
        with self._location.naming_errors():
            self._repository.delete_branch(self._branch)


Draft = FolderDraft | BranchDraft


def drafting(
    location: Location, kind: str, key: str, template: Write, size: int | None = None, *, keep: bool = True
) -> AbstractContextManager[Draft]:
    """Continue the draft of a kind and key, or begin it by writing its template.

    After an error, complete parts are kept for the next call, or removed if ``keep`` is false. Errors of a
    full disk name the ``size`` in bytes, before compression.
    """
    if location.plain_folder is None:
        return _drafting_on_branch(location, kind, key, template, keep)
    return _drafting_in_folder(location.plain_folder, kind, key, template, size, keep)


@contextmanager
def _drafting_in_folder(
    path: Path, kind: str, key: str, template: Write, size: int | None, keep: bool
) -> Iterator[Draft]:
    draft = FolderDraft(path, kind, key)
    with naming_full_disk(path, size, kept=draft.work if keep else None):
        try:
            if not draft.target.store.exists():
                with replacing(draft.here, size, path) as folder:
                    template(folder / draft.target.store.name)
                    (folder / draft.target.done.name).mkdir()
            yield draft
        except BaseException as error:
            if not keep or (isinstance(error, Exception) and not draft.marks):
                draft.remove()
            raise


@contextmanager
def _drafting_on_branch(
    location: Location, kind: str, key: str, template: Write, keep: bool
) -> Iterator[Draft]:
    # The branch of a draft that is not continued has a name of its own, as the folder has.
    draft = BranchDraft(location, kind if keep else f"{kind}-{key}", key, template)
    try:
        yield draft
        draft.save()
    except BaseException:
        # Errors of saving must not hide the first one.
        with suppress(StoreError):
            if keep:
                draft.save()
            else:
                draft.remove()
        raise


def discard(location: Location, kind: str) -> None:
    """Remove all drafts of a kind that were interrupted; a branch stays until the next draft."""
    if location.plain_folder is not None:
        FolderDraft(location.plain_folder, kind, "").remove(others=True)


def remove_partial_files(store: Path) -> None:
    """Remove the files that workers were writing when they were killed."""
    for partial in store.rglob("*.partial"):
        partial.unlink(missing_ok=True)
